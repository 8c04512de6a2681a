/* Tests of crypto/evstr*.c: the grammar at every cut, there and back, what must not decrypt, metadata,
 * the cache. Vectors of others are in test_evstr_vectors.c. */
#include "codec/crc32.h"
#include "evstr_kit.h"

/* ---- grammar ---- */

#define IV16 "YGJVktHhdj3ds3wC"
#define PT44 "A6rkaTU8lez7NSBT8nTqbhBIu3tX4/lyH3aJVBUcGmLh"
#define DATA "8hI5qEp32kWcVK367yaC09bDRbk"

static void test_grammar(void)
{
    static const char *const good[] = {
        "ev:" IV16 ":" PT44 ":" DATA ":$", "ev:RFVC:" IV16 ":" PT44 ":" DATA ":$",
        "ev:debug:" IV16 ":" PT44 ":" DATA ":$",
        "ev:debug:Tk9D:number:" IV16 ":" PT44 ":" DATA ":$", "ev:boolean:" IV16 ":" PT44 ":" DATA ":$",
        "ev:QkTC:string:" IV16 ":" PT44 "::$", "ev:S0lS:" IV16 ":" PT44 ":====:$", "ev:TENZ:" IV16 ":" PT44 ":=:$ tail",
    };
    static const char *const bad[] = {
        "x", "e:", "ev;", "ev::", "ev:RFVC::", "ev:rfvc:" IV16 ":" PT44 ":" DATA ":$",
        "ev:RFVC:RFVC:" IV16 ":" PT44 ":x:$",
        "ev:number:RFVC:" IV16 ":" PT44 ":" DATA ":$", "ev:RFVC:debug:" IV16 ":" PT44 ":" DATA ":$",
        "ev:debug:debug:" IV16 ":" PT44 ":" DATA ":$", "ev:number:number:" IV16 ":" PT44 ":" DATA ":$",
        "ev:" IV16 "A:" PT44 ":" DATA ":$", "ev:" IV16 ":" PT44 "A:" DATA ":$", "ev:" IV16 ":" DATA ":" DATA ":$",
        "ev:" IV16 ":" PT44 ":" DATA "$", "ev:" IV16 ":" PT44 ":" DATA ":x", "ev:" IV16 ":" PT44 ":8hI5 qEp:$",
        "ev:" IV16 ":" PT44 ":8hI5-_:$", "ev:YGJVktHhdj3ds3w:" PT44 ":" DATA ":$",
        "ev:Tk9D::" IV16 ":" PT44 ":" DATA ":$",
        "ev:key:1:0db0c70d7c1b8894a290a287baac6596711754219bfa240f36aa0fa853ed:H+8AG4:vect0r", "EV:RFVC:",
        "ev:RFVC:ev:" IV16 ":" PT44 ":" DATA ":$", "ev:" IV16 ":" PT44 ":8h\"I5",
        "ev:AAAAAAAAAAAAAAAAA", "ev:" IV16 ":" PT44 "A",
    };
    struct ev_evstr s;

    for (size_t i = 0; i < EV_COUNT(good); i++) {
        size_t n = (size_t)(strchr(good[i], '$') + 1 - good[i]), wrong = 0;

        OK(ev_evstr_parse(ev_slice_str(good[i]), &s) == EV_EVSTR_MATCH && s.whole.n == n, "one: %s", good[i]);
        for (size_t cut = 0; cut < n; cut++) {
            char *copy = malloc(cut ? cut : 1);

            memcpy(copy, good[i], cut);
            wrong += ev_evstr_parse(ev_slice_of(copy, cut), &s) != EV_EVSTR_MORE;
            free(copy);
        }
        EQ_INT(wrong, 0, "cuts that do not say that more may come");
    }
    for (size_t i = 0; i < EV_COUNT(bad); i++)
        OK(ev_evstr_parse(ev_slice_str(bad[i]), &s) == EV_EVSTR_NO, "none: %s", bad[i]);
    OK(ev_evstr_parse(ev_slice_str(good[3]), &s) == EV_EVSTR_MATCH && s.debug && s.version == EV_EVSTR_TK9D &&
       s.type == EV_EVSTR_NUMBER && ev_slice_eq(s.iv, EV_LIT(IV16)) && ev_slice_eq(s.ephemeral, EV_LIT(PT44)) &&
       ev_slice_eq(s.data, EV_LIT(DATA)), "its parts");
}

/* ---- there and back ---- */

static const enum ev_evstr_version written[] = { EV_EVSTR_RFVC, EV_EVSTR_T1JL, EV_EVSTR_TK9D, EV_EVSTR_TENZ,
                                                 EV_EVSTR_QLJV, EV_EVSTR_QKTC, EV_EVSTR_S0LS };

static void test_round(void)
{
    static const struct { enum ev_evstr_type type; const char *text; } values[] = {
        { EV_EVSTR_STRING, "" }, { EV_EVSTR_STRING, "  not trimmed \n" }, { EV_EVSTR_STRING, "caf\xC3\xA9 \"\\" },
        { EV_EVSTR_NUMBER, "-12.75e+3" }, { EV_EVSTR_NUMBER, "null" }, { EV_EVSTR_BOOLEAN, "false" },
    };
    static const struct ev_evstr_meta meta = { "my-role-1", 9, 1700000000 };
    struct ev_evapp *app = app_of(keys[0], keys[1], true, 0), *closed = app_of(keys[0], keys[1], false, 0);
    struct ev_buf text = EV_BUF_INIT(10000), out = EV_BUF_INIT(10000);
    size_t bad = 0, n = 0;

    for (size_t v = 0; v < EV_COUNT(written); v++) {
        for (size_t i = 0; i < 4 * EV_COUNT(values); i++) {
            struct ev_evstr_how how = { written[v], values[i / 4].type, i & 1, i & 2 ? &meta : NULL };
            struct ev_evstr_meta back = {0};
            bool has_meta = written[v] >= EV_EVSTR_TENZ;

            ev_buf_clear(&text);
            if (ev_evstr_encrypt(app, &how, ev_slice_str(values[i / 4].text), &text, NULL) < 0 ||
                decrypt(app, ev_buf_slice(&text), &out, &back, NULL) < 0 ||
                strcmp(ev_buf_str(&out), values[i / 4].text) != 0 ||
                strcmp(back.role, has_meta && (i & 2) ? meta.role : "") != 0 ||
                back.time != (has_meta && (i & 2) ? meta.time : 0))
                bad++;
            bad += (decrypt(closed, ev_buf_slice(&text), &out, NULL, NULL) < 0) != how.debug;
            n++;
        }
    }
    OK(bad == 0, "%zu values there and back, every version, type, debug or not (%zu wrong)", n, bad);
    ev_evapp_free(app);
    ev_evapp_free(closed);
    ev_buf_fini(&text);
    ev_buf_fini(&out);
}

static void test_encrypt_refused(void)
{
    static const char *const numbers[] = { "", "01", "1.", ".5", "+1", "1e", "0x1", "NaN", "1 ", "-", "--1", "1e+" };
    struct ev_evapp *app = app_of(keys[0], NULL, false, 0);
    struct ev_evstr_how how = { EV_EVSTR_TK9D, EV_EVSTR_NUMBER, false, NULL };
    struct ev_evstr_meta bad = { "Bad Role", 5, 5 };
    struct ev_buf out = EV_BUF_INIT(90);

    for (size_t i = 0; i < EV_COUNT(numbers); i++)
        OK(ev_evstr_encrypt(app, &how, ev_slice_str(numbers[i]), &out, NULL) == EV_EPARSE && out.n == 0,
           "no number: \"%s\"", numbers[i]);
    how.type = EV_EVSTR_STRING;
    OK(ev_evstr_encrypt(app, &how, EV_LIT("\xFF"), &out, NULL) == EV_EPARSE, "no UTF-8");
    OK(ev_evstr_encrypt(app, &how, EV_LIT("too long for the room"), &out, NULL) == -ENOBUFS && out.n == 0, "no room");
    how.version = EV_EVSTR_RFVC;
    OK(ev_evstr_encrypt(app, &how, EV_LIT("x"), &out, NULL) == EV_EUSAGE, "no key on that curve");
    how.version = EV_EVSTR_BARE;
    OK(ev_evstr_encrypt(app, &how, EV_LIT("x"), &out, NULL) == EV_EUSAGE, "the oldest form is not written");
    how.version = EV_EVSTR_QKTC;
    how.meta = &bad;
    OK(ev_evstr_encrypt(app, &how, EV_LIT("x"), &out, NULL) == -EINVAL && out.n == 0, "a role that is none");
    ev_evapp_free(app);
    ev_buf_fini(&out);
}

static void test_file_round(void)
{
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0), *dev = app_of(keys[0], keys[1], true, 0);
    static const enum ev_curve curves[] = { EV_P256, EV_SECP256K1 };
    static const size_t sizes[] = { 0, 1, 16, 100000 };
    uint8_t *content = ev_alloc(100000);

    for (size_t i = 0; i < 100000; i++)
        content[i] = (uint8_t)(i * 31);
    for (size_t i = 0; i < EV_COUNT(curves) * EV_COUNT(sizes); i++) {
        struct ev_buf file = EV_BUF_INIT(200000), out = EV_BUF_INIT(200000), small = EV_BUF_INIT(50);
        ev_slice in = ev_slice_of(content, sizes[i / 2]);

        OK(ev_evfile_encrypt(app, curves[i % 2], i & 1, in, &file, NULL) == 0 &&
           ev_evfile_decrypt(dev, ev_buf_slice(&file), &out, NULL, NULL) == 0 && ev_slice_eq(ev_buf_slice(&out), in),
           "a file of %zu bytes there and back", in.n);
        OK((ev_evfile_decrypt(app, ev_buf_slice(&file), &out, NULL, NULL) < 0) == (i & 1), "debug files are refused");
        OK(ev_evfile_encrypt(app, curves[i % 2], false, in, &small, NULL) == -ENOBUFS && small.n == 0, "no room");
        ev_buf_fini(&file);
        ev_buf_fini(&out);
        ev_buf_fini(&small);
    }
    ev_free(content);
    ev_evapp_free(app);
    ev_evapp_free(dev);
}

/* Formats 4 and 5 with metadata, put together here: no published vector has them. */
static void test_file_meta(void)
{
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0);
    struct ev_buf meta = EV_BUF_INIT(100), sealed = EV_BUF_INIT(100), file = EV_BUF_INIT(500), out = EV_BUF_INIT(100);
    static const struct ev_evstr_meta about = { "files", 5, 77 };
    uint8_t iv[EV_EVSTR_IV] = { 1 };

    for (int k1 = 0; k1 < 2; k1++) {
        struct evstr_seal seal = { .k1 = k1, .kdf = true, .iv = iv, .ephemeral = app->own[k1].pub, .n_aad = 33 };
        struct ev_evstr_meta back = {0};
        struct ev_err err = EV_ERR_INIT;
        uint32_t crc;

        ev_buf_clear(&meta);
        ev_buf_clear(&sealed);
        ev_buf_clear(&file);
        ev_buf_clear(&out);
        memcpy(seal.aad, app->side[k1].pub, 33);
        OK(evstr_own_refresh(&app->own[k1], &app->side[k1]) == 0 && evstr_meta_put(&meta, &about) == 0 &&
           evstr_close(app, &seal, &app->own[k1].keys, ev_buf_slice(&meta), &sealed, NULL) == 0 &&
           ev_buf_puts(&file, "%EVENC") == 0 && ev_buf_putc(&file, k1 ? 4 : 5) == 0 &&
           ev_buf_putc(&file, (uint8_t)(57 + sealed.n)) == 0 && ev_buf_putc(&file, 0) == 0 &&
           ev_buf_put(&file, app->own[k1].pub, 33) == 0 && ev_buf_put(&file, iv, 12) == 0 &&
           ev_buf_putc(&file, 0) == 0 && ev_buf_putc(&file, (uint8_t)sealed.n) == 0 && ev_buf_putc(&file, 0) == 0 &&
           ev_buf_put_slice(&file, ev_buf_slice(&sealed)) == 0 &&
           evstr_close(app, &seal, &app->own[k1].keys, EV_LIT("content"), &file, NULL) == 0, "a file with metadata");
        crc = ev_crc32(0, file.p, file.n);
        for (int i = 0; i < 4; i++)
            OK(ev_buf_putc(&file, (uint8_t)(crc >> 8 * i)) == 0, "its checksum");
        OK(ev_evfile_decrypt(app, ev_buf_slice(&file), &out, &back, &err) == 0 &&
           strcmp(ev_buf_str(&out), "content") == 0
           && strcmp(back.role, "files") == 0 && back.time == 77, "is read %s", err.msg);
    }
    ev_evapp_free(app);
    ev_buf_fini(&meta);
    ev_buf_fini(&sealed);
    ev_buf_fini(&file);
    ev_buf_fini(&out);
}

/* ---- metadata ---- */

static void test_meta(void)
{
    static const struct { const char *hex; bool ok; } maps[] = {
        { "83a26472a9616c6c6f772d616c6ca2656f05a26574ce64d4c2a8", true }, { "80", true },
        { "81a26574cf0000000000000001", true }, { "81a26574ccff", true }, { "de0001a2656f05", true },
        { "df00000001a2656f05", true }, { "81a178c0", true }, { "81a178920102", true }, { "81a17881a17991c3", true },
        { "81d90178c40100", true }, { "81a178cb0000000000000000", true }, { "81a178d301020304050607", false },
        { "81a178d30102030405060708", true }, { "81a178d6010000000a", true }, { "81a178c7010a00", true },
        { "81a178ff", true },
        { "", false }, { "00", false }, { "90", false }, { "81", false }, { "81a2656f", false },
        { "81a2656fc0", false },
        { "81a2647205", false }, { "81a26472a0", false }, { "81a26472a141", false },
        { "81a26472b5616161616161616161616161616161616161616161", false },
        { "82a26472a161a26472a162", false }, { "8005", false }, { "8105a0", false },
        { "dfffffffff", false }, { "81a178dfffffffff", false }, { "81a1789191919191919191", false },
        { "81a178c1", false },
        { "81a178dbffffffff00", false }, { "81a178c9ffffffff00", false }, { "81a26574cfffffffffffffffff", false },
    };

    for (size_t i = 0; i < EV_COUNT(maps); i++) {
        size_t n = strlen(maps[i].hex) / 2, bad = 0;
        uint8_t *raw = malloc(n ? n : 1);
        struct ev_evstr_meta m;

        if (ev_hex_decode(ev_slice_str(maps[i].hex), raw, n) < 0)
            exit(2);
        OK((evstr_meta_read(ev_slice_of(raw, n), &m) == 0) == maps[i].ok, "metadata %s: %s", maps[i].hex,
           maps[i].ok ? "read" : "refused");
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *copy = malloc(cut ? cut : 1);

            memcpy(copy, raw, cut);
            bad += maps[i].ok && evstr_meta_read(ev_slice_of(copy, cut), &m) == 0;
            free(copy);
        }
        EQ_INT(bad, 0, "cut maps that were read");
        free(raw);
    }
}

/* ---- cache ---- */

static void seal_with(const struct ev_key *app_key, struct ev_buf *text, const char *value)
{
    struct ev_evapp *fresh = app_of(app_key, NULL, false, 0);      /* a new ephemeral key */
    struct ev_evstr_how how = { EV_EVSTR_TK9D, EV_EVSTR_STRING, false, NULL };

    ev_buf_clear(text);
    if (ev_evstr_encrypt(fresh, &how, ev_slice_str(value), text, NULL) < 0)
        exit(2);
    ev_evapp_free(fresh);
}

static void test_cache(void)
{
    enum { CLIENTS = 6, ROOM = 4 };
    struct ev_evapp *app = app_of(keys[0], NULL, false, ROOM);
    struct ev_buf text[CLIENTS], out = EV_BUF_INIT(100), forged = EV_BUF_INIT(1000);
    size_t bad = 0;

    for (int i = 0; i < CLIENTS; i++) {
        ev_buf_init(&text[i], 1000);
        seal_with(keys[0], &text[i], "value");
    }
#define TRY(i) (bad += decrypt(app, ev_buf_slice(&text[i]), &out, NULL, NULL) < 0 || strcmp(ev_buf_str(&out), "value"))
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < ROOM; i++)
            TRY(i);
    }
    EQ_INT(ev_evapp_derived(app), ROOM, "one derivation a client");
    TRY(0);
    TRY(4);                                     /* takes the place of 1, the oldest */
    EQ_INT(ev_evapp_derived(app), ROOM + 1, "a new client");
    TRY(0);
    TRY(2);
    TRY(3);
    TRY(4);
    EQ_INT(ev_evapp_derived(app), ROOM + 1, "the others are still there");
    TRY(1);
    EQ_INT(ev_evapp_derived(app), ROOM + 2, "the oldest had to go");

    /* Bent strings of new clients, any number: nothing enters. */
    for (int i = 0; i < 20; i++) {
        struct ev_evstr s;

        seal_with(keys[0], &forged, "value");
        forged.p[forged.n - 6] = forged.p[forged.n - 6] == 'A' ? 'B' : 'A';
        bad += ev_evstr_parse(ev_buf_slice(&forged), &s) != EV_EVSTR_MATCH ||
               ev_evstr_decrypt(app, &s, &out, NULL, NULL) >= 0;
    }
    EQ_INT(ev_evapp_derived(app), ROOM + 22, "each forged string costs a derivation");
    TRY(1);
    TRY(4);
    TRY(3);
    EQ_INT(ev_evapp_derived(app), ROOM + 22, "and puts nobody out");
    EQ_INT(bad, 0, "values that were wrong");
    for (int i = 0; i < CLIENTS; i++)
        ev_buf_fini(&text[i]);
    ev_buf_fini(&out);
    ev_buf_fini(&forged);
    ev_evapp_free(app);
}

/* A bent string of a known client must not leave its key wrong for the next one; and versions that
 * use different keys of one agreement do not mix. */
static void test_cache_keyed(void)
{
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0), *client = app_of(keys[0], keys[1], false, 0);
    static const enum ev_evstr_version mix[] = { EV_EVSTR_TK9D, EV_EVSTR_T1JL, EV_EVSTR_RFVC, EV_EVSTR_QKTC,
                                                 EV_EVSTR_S0LS, EV_EVSTR_T1JL };
    struct ev_buf text = EV_BUF_INIT(1000), out = EV_BUF_INIT(100);
    size_t bad = 0;

    for (size_t i = 0; i < 60; i++) {
        struct ev_evstr_how how = { mix[i % EV_COUNT(mix)], EV_EVSTR_STRING, false, NULL };

        ev_buf_clear(&text);
        bad += ev_evstr_encrypt(client, &how, EV_LIT("value"), &text, NULL) < 0 ||
               decrypt(app, ev_buf_slice(&text), &out, NULL, NULL) < 0 || strcmp(ev_buf_str(&out), "value") != 0;
        text.p[text.n - 8] = text.p[text.n - 8] == 'A' ? 'B' : 'A';
        bad += decrypt(app, ev_buf_slice(&text), &out, NULL, NULL) >= 0;
    }
    EQ_INT(bad, 0, "good and bent strings in turn, over versions");
    EQ_INT(ev_evapp_derived(app), 2, "with one agreement a curve");
    ev_evapp_free(app);
    ev_evapp_free(client);
    ev_buf_fini(&text);
    ev_buf_fini(&out);
}

/* Two known clients in turn with bent strings between: the context's key must follow. */
static void test_cache_two_clients(void)
{
    struct ev_evapp *app = app_of(keys[0], NULL, false, 0);
    struct ev_buf a = EV_BUF_INIT(1000), b = EV_BUF_INIT(1000), bent = EV_BUF_INIT(1000), out = EV_BUF_INIT(100);
    size_t bad = 0;

    seal_with(keys[0], &a, "a");
    seal_with(keys[0], &b, "b");
    OK(ev_buf_put_slice(&bent, ev_buf_slice(&b)) == 0, "a copy");
    bent.p[bent.n - 8] = bent.p[bent.n - 8] == 'A' ? 'B' : 'A';
    bad += decrypt(app, ev_buf_slice(&b), &out, NULL, NULL) < 0;
    for (int i = 0; i < 3; i++) {
        bad += decrypt(app, ev_buf_slice(&a), &out, NULL, NULL) < 0 || strcmp(ev_buf_str(&out), "a") != 0;
        bad += decrypt(app, ev_buf_slice(&bent), &out, NULL, NULL) >= 0;
        bad += decrypt(app, ev_buf_slice(&a), &out, NULL, NULL) < 0 || strcmp(ev_buf_str(&out), "a") != 0;
    }
    EQ_INT(bad, 0, "values that were wrong after a bent string of another client");
    ev_evapp_free(app);
    ev_buf_fini(&a);
    ev_buf_fini(&b);
    ev_buf_fini(&bent);
    ev_buf_fini(&out);
}

/* The cache alone against a list that is kept in order by hand. */
static void test_cache_model(void)
{
    enum { ROOM = 8, NAMES = 24 };
    struct evstr_cache *c = evstr_cache_new(ROOM);
    int order[ROOM], n = 0;
    uint32_t seed = 1, slot;
    size_t bad = 0;

    for (int step = 0; step < 20000; step++) {
        uint8_t eph[EV_EVSTR_POINT] = { 2 };
        struct evstr_keys keys_of = {0};
        const struct evstr_keys *got;
        int name, at = 0;

        seed = seed * 1664525 + 1013904223;
        name = (int)(seed >> 16) % NAMES;
        eph[32] = (uint8_t)(name / 2);          /* the same point on either curve are two names */
        keys_of.raw[0] = (uint8_t)name;
        got = evstr_cache_get(c, name & 1, eph, &slot);
        while (at < n && order[at] != name)
            at++;
        bad += (got != NULL) != (at < n) || (got && got->raw[0] != name);
        if (!got) {
            evstr_cache_put(c, name & 1, eph, &keys_of);
            if (n < ROOM)
                n++;
            at = n - 1;
        }
        memmove(order + 1, order, (size_t)at * sizeof *order);
        order[0] = name;
    }
    EQ_INT(bad, 0, "20,000 steps that differ from the list");
    evstr_cache_free(c);
}

/* Content put together here, as a client with the public key could: it authenticates. */
static void test_hostile_content(void)
{
    static const struct { enum ev_evstr_version version; enum ev_evstr_type type; ev_slice content; const char *why; }
    contents[] = {
        { EV_EVSTR_TK9D, EV_EVSTR_STRING, EV_LIT("\xC3"), "value" },
        { EV_EVSTR_TK9D, EV_EVSTR_NUMBER, EV_LIT("12x"), "value" },
        { EV_EVSTR_TK9D, EV_EVSTR_NUMBER, EV_LIT("\"12\""), "value" },
        { EV_EVSTR_TK9D, EV_EVSTR_BOOLEAN, EV_LIT("True"), "value" },
        { EV_EVSTR_TENZ, EV_EVSTR_STRING, EV_LIT(""), "metadata" },
        { EV_EVSTR_TENZ, EV_EVSTR_STRING, EV_LIT("\x01"), "metadata" },
        { EV_EVSTR_TENZ, EV_EVSTR_STRING, EV_LIT("\x02\x00\x80"), "metadata" },
        { EV_EVSTR_TENZ, EV_EVSTR_STRING, EV_LIT("\xFF\xFF\x80"), "metadata" },
        { EV_EVSTR_TENZ, EV_EVSTR_STRING, EV_LIT("\x00\x00x"), "metadata" },
        { EV_EVSTR_TENZ, EV_EVSTR_STRING, EV_LIT("\x01\x00\x80"), NULL },
        { EV_EVSTR_QLJV, EV_EVSTR_STRING, EV_LIT("\x02\x00\x80\x80x"), "metadata" },
        { EV_EVSTR_QLJV, EV_EVSTR_NUMBER, EV_LIT("\x01\x00\x80" "1e5"), NULL },
    };
    static const char *const tags[] = { [EV_EVSTR_TK9D] = "Tk9D", [EV_EVSTR_TENZ] = "TENZ", [EV_EVSTR_QLJV] = "QlJV" };
    static const char *const types[] = { "", "number:", "boolean:" };
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0);
    struct ev_buf sealed = EV_BUF_INIT(1000), text = EV_BUF_INIT(1000), out = EV_BUF_INIT(100);
    uint8_t iv[EV_EVSTR_IV] = { 7 };

    for (size_t i = 0; i < EV_COUNT(contents); i++) {
        bool k1 = contents[i].version == EV_EVSTR_QLJV;
        struct evstr_seal seal = { .k1 = k1, .kdf = true, .iv = iv, .ephemeral = app->own[k1].pub, .n_aad = 33 };
        struct ev_err err = EV_ERR_INIT;
        int rc;

        ev_buf_clear(&sealed);
        ev_buf_clear(&text);
        memcpy(seal.aad, app->side[k1].pub, 33);
        if (evstr_own_refresh(&app->own[k1], &app->side[k1]) < 0 ||
            evstr_close(app, &seal, &app->own[k1].keys, contents[i].content, &sealed, NULL) < 0 ||
            ev_buf_printf(&text, "ev:%s:%sBwAAAAAAAAAAAAAA:", tags[contents[i].version], types[contents[i].type]) < 0 ||
            ev_base64_put(&text, ev_slice_of(app->own[k1].pub, 33)) < 0 || ev_buf_putc(&text, ':') < 0 ||
            ev_base64_put(&text, ev_buf_slice(&sealed)) < 0 || ev_buf_puts(&text, ":$") < 0)
            exit(2);
        rc = decrypt(app, ev_buf_slice(&text), &out, NULL, &err);
        OK(contents[i].why ? rc == EV_EPARSE && out.n == 0 && strcmp(err.reason, contents[i].why) == 0 : rc == 0,
           "authentic content %zu: %s", i, rc < 0 ? err.msg : "taken");
    }
    ev_evapp_free(app);
    ev_buf_fini(&sealed);
    ev_buf_fini(&text);
    ev_buf_fini(&out);
}

/* Heads of files that do not fit, with a checksum that does. */
static void test_file_heads(void)
{
    static const struct { size_t n; uint8_t format, offset, meta; const char *reason; } heads[] = {
        { 71, 0, 55, 0, "public-key-point" }, { 71, 0, 56, 0, "not-ev-file" }, { 71, 0, 54, 0, "not-ev-file" },
        { 71, 6, 55, 0, "not-ev-file" }, { 71, 255, 55, 0, "not-ev-file" }, { 70, 0, 55, 0, "not-ev-file" },
        { 90, 4, 57, 0, "data-too-short" }, { 90, 5, 55, 0, "not-ev-file" }, { 90, 5, 67, 10, "data-too-short" },
        { 90, 5, 98, 41, "not-ev-file" }, { 90, 5, 86, 29, "data-too-short" }, { 74, 4, 57, 0, "not-ev-file" },
        { 75, 4, 57, 0, "data-too-short" }, { 76, 5, 57, 255, "not-ev-file" },
    };
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0);
    struct ev_buf out = EV_BUF_INIT(100);

    for (size_t i = 0; i < EV_COUNT(heads); i++) {
        uint8_t *file = calloc(1, heads[i].n);
        size_t crc_at = heads[i].n - 4;
        struct ev_err err = EV_ERR_INIT;
        uint32_t crc;

        memcpy(file, "%EVENC", 6);
        file[6] = heads[i].format;
        file[7] = heads[i].offset;
        file[55] = heads[i].meta;
        crc = ev_crc32(0, file, crc_at);
        for (size_t b = 0; heads[i].format >= 2 && b < 4; b++)
            file[crc_at + b] = (uint8_t)(crc >> 8 * b);
        OK(ev_evfile_decrypt(app, ev_slice_of(file, heads[i].n), &out, NULL, &err) < 0 &&
           strcmp(err.reason, heads[i].reason) == 0, "file head %zu: %s, %s", i, err.reason, err.msg);
        free(file);
    }
    ev_evapp_free(app);
    ev_buf_fini(&out);
}

static void test_public_only(void)
{
    struct ev_key *pub = NULL;
    struct ev_buf text = EV_BUF_INIT(1000), out = EV_BUF_INIT(100);
    struct ev_evstr_how how = { EV_EVSTR_TK9D, EV_EVSTR_STRING, false, NULL };
    struct ev_evapp *app, *owner = app_of(keys[0], NULL, false, 0), *none = NULL;
    struct ev_evapp_conf wrong = { .p256 = keys[1] };
    struct ev_err err = EV_ERR_INIT;
    uint8_t point[EV_POINT_MAX];
    int n = ev_key_point(keys[0], true, point);

    OK(n == 33 && ev_key_from_point(EV_P256, ev_slice_of(point, 33), &pub, NULL) == 0, "a public key");
    app = app_of(pub, NULL, false, 0);
    OK(ev_evstr_encrypt(app, &how, EV_LIT("x"), &text, NULL) == 0, "encrypts");
    OK(decrypt(app, ev_buf_slice(&text), &out, NULL, &err) == EV_ECRYPTO && strcmp(err.reason, "no-key") == 0,
       "does not decrypt");
    OK(decrypt(owner, ev_buf_slice(&text), &out, NULL, NULL) == 0 && strcmp(ev_buf_str(&out), "x") == 0,
       "the private one does");
    OK(ev_evapp_new(&wrong, &none, NULL) == EV_EUSAGE && !none, "a key in the wrong place");
    ev_evapp_free(app);
    ev_evapp_free(owner);
    ev_evapp_free(NULL);
    ev_key_free(pub);
    ev_buf_fini(&text);
    ev_buf_fini(&out);
}

int main(void)
{
    keys[0] = key_hex(EV_P256, EV_LIT(ONES));
    keys[1] = key_hex(EV_SECP256K1, EV_LIT(ONES));
    if (!keys[0] || !keys[1])
        exit(2);
    test_grammar();
    test_round();
    test_encrypt_refused();
    test_file_round();
    test_file_meta();
    test_meta();
    test_cache();
    test_cache_keyed();
    test_cache_two_clients();
    test_cache_model();
    test_hostile_content();
    test_file_heads();
    test_public_only();
    ev_key_free(keys[0]);
    ev_key_free(keys[1]);
    return tap_done();
}
