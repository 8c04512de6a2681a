/* Tests of crypto/evstr*.c: the vectors of published clients (tests/golden/ev-encryption) and of the
 * specification. What we write ourselves is in test_evstr.c. */
#include "base/file.h"
#include "codec/json.h"
#include "evstr_kit.h"

static struct ev_json *load(const char *name)
{
    struct ev_buf text = EV_BUF_INIT(1 << 20);
    struct ev_json *j = NULL;
    struct ev_err err = EV_ERR_INIT;
    char path[256];

    snprintf(path, sizeof path, "tests/golden/ev-encryption/%s.json", name);
    if (ev_file_read(path, &text, &err) == 0) {
        /* One value holds a NUL, which our JSON refuses: U+E000 stands for it here. */
        for (char *p = (char *)text.p; (p = strstr(p, "\\u0000")) != NULL; )
            memcpy(p, "\\ue000", 6);
    }
    if (text.n == 0 || ev_json_parse(ev_buf_slice(&text), &j, &err) < 0)
        OK(0, "%s: %s", path, err.msg);
    ev_buf_fini(&text);
    return j;
}

static ev_slice get(const struct ev_json *j, const char *key)
{
    return ev_json_str(ev_json_get(j, key));
}

/* ---- vectors ---- */

static void test_keys(void)
{
    struct ev_json *j = load("keys");
    const struct ev_json *side[2] = { ev_json_get(j, "prime256v1"), ev_json_get(j, "secp256k1") };
    static const enum ev_curve curves[2] = { EV_P256, EV_SECP256K1 };

    for (int i = 0; i < 2; i++) {
        struct ev_key *pem = NULL;
        struct ev_buf b = EV_BUF_INIT(128);
        uint8_t point[EV_POINT_MAX];
        int n;

        keys[i] = key_hex(curves[i], get(side[i], "privateHex"));
        OK(keys[i] && ev_key_from_pem(get(side[i], "privatePem"), &pem, NULL) == 0 && ev_key_same_public(pem, keys[i]),
           "number and PEM are the same key");
        n = ev_key_point(keys[i], true, point);
        OK(n == 33 && ev_base64_put(&b, ev_slice_of(point, 33)) == 0 &&
           ev_slice_eq(ev_buf_slice(&b), get(side[i], "publicCompressedBase64")), "its public point");
        ev_key_free(pem);
        ev_buf_fini(&b);
    }
    ev_json_free(j);
}

/* The text with U+E000 for each NUL, as the vectors were loaded. */
static void without_nul(struct ev_buf *out, ev_slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        if ((text.p[i] ? ev_buf_putc(out, text.p[i]) : ev_buf_puts(out, "\xEE\x80\x80")) < 0)
            exit(2);
    }
}

/* Does the decrypted text mean this JSON value? */
static bool same_value(const struct ev_evstr *s, ev_slice text, const struct ev_json *want)
{
    struct ev_buf json = EV_BUF_INIT(1 << 20), plain = EV_BUF_INIT(1 << 20);
    struct ev_json *got = NULL;
    bool same;

    without_nul(&plain, text);
    same = ev_evstr_put_json(&json, s->type, ev_buf_slice(&plain)) == 0 &&
           ev_json_parse(ev_buf_slice(&json), &got, NULL) == 0;
    if (same && ev_json_type(want) == EV_JSON_STRING)
        same = s->type == EV_EVSTR_STRING && ev_slice_eq(ev_json_str(got), ev_json_str(want));
    else if (same && ev_json_type(want) == EV_JSON_BOOL)
        same = s->type == EV_EVSTR_BOOLEAN && ev_json_type(got) == EV_JSON_BOOL &&
               ev_json_bool(got) == ev_json_bool(want);
    else
        same = same && s->type == EV_EVSTR_NUMBER && ev_json_real(got) == ev_json_real(want);
    ev_json_free(got);
    ev_buf_fini(&json);
    ev_buf_fini(&plain);
    return same;
}

/* Every encrypted leaf of `c` decrypts to the leaf of `p`; counts them. */
static size_t compare(struct ev_evapp *app, const struct ev_json *c, const struct ev_json *p, const char *id,
                      struct ev_evstr_meta *meta)
{
    struct ev_buf out = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    const struct ev_json *child;
    struct ev_evstr s;
    const char *key;
    void *iter = NULL;
    size_t n = 0;

    while (ev_json_next(c, &iter, &key, &child))
        n += compare(app, child, ev_json_get(p, key), id, meta);
    for (size_t i = 0; ev_json_type(c) == EV_JSON_ARRAY && i < ev_json_count(c); i++)
        n += compare(app, ev_json_item(c, i), ev_json_item(p, i), id, meta);
    if (ev_json_type(c) == EV_JSON_STRING && ev_evstr_parse(ev_json_str(c), &s) == EV_EVSTR_MATCH) {
        OK(ev_evstr_decrypt(app, &s, &out, meta, &err) == 0 && same_value(&s, ev_buf_slice(&out), p), "%s %s", id,
           err.msg);
        n++;
    }
    ev_buf_fini(&out);
    return n;
}

static void test_vectors(void)
{
    static const char *const names[] = { "strings", "json", "roles" };
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0);
    size_t fields = 0, want = 0;

    for (size_t f = 0; f < EV_COUNT(names); f++) {
        struct ev_json *j = load(names[f]);
        const struct ev_json *list = ev_json_get(j, "vectors"), *v;

        for (size_t i = 0; (v = ev_json_item(list, i)) != NULL; i++) {
            const struct ev_json *about = ev_json_get(ev_json_item(ev_json_get(v, "fields"), 0), "metadata");
            struct ev_evstr_meta meta = {0};
            char role[32] = "";

            want += ev_json_count(ev_json_get(v, "fields"));
            fields += compare(app, ev_json_get(v, "ciphertext"), ev_json_get(v, "plaintext"), (char *)get(v, "id").p,
                              &meta);
            if (ev_json_type(about) != EV_JSON_OBJECT)
                continue;
            snprintf(role, sizeof role, "%s", (const char *)get(about, "dr").p);
            OK(strcmp(meta.role, role) == 0 && meta.origin == ev_json_int(ev_json_get(about, "eo")) &&
               (meta.time == ev_json_int(ev_json_get(about, "et")) || ev_json_count(ev_json_get(v, "fields")) > 1),
               "its metadata: \"%s\", %d", meta.role, (int)meta.origin);
        }
        ev_json_free(j);
    }
    OK(fields == want && fields > 25, "%zu encrypted strings, all of them", fields);
    ev_evapp_free(app);
}

static void test_malformed(void)
{
    struct ev_json *j = load("malformed");
    const struct ev_json *v;
    size_t n = 0;

    for (size_t i = 0; (v = ev_json_item(ev_json_get(j, "vectors"), i)) != NULL; i++) {
        struct ev_evapp *app = app_of(keys[0], keys[1], false, 0);
        struct ev_buf out = EV_BUF_INIT(1 << 20), file = EV_BUF_INIT(1 << 20);
        struct ev_err err = EV_ERR_INIT;
        bool shape = !ev_slice_eq(get(v, "expected"), EV_LIT("not-a-ciphertext"));
        ev_slice c = get(v, "ciphertext"), reason = get(v, "reason");
        int rc;

        if (ev_slice_eq(get(v, "kind"), EV_LIT("file"))) {
            c = c.n ? c : get(v, "ciphertextBase64");
            rc = ev_base64_decode(&file, c, false) == 0 ? ev_evfile_decrypt(app, ev_buf_slice(&file), &out, NULL, &err)
                                                        : 0;
        } else {
            rc = decrypt(app, c, &out, NULL, &err);
        }
        OK(rc < 0 && out.n == 0 && (!shape || ev_slice_eq(reason, ev_slice_str(err.reason))) &&
           shape == (strcmp(err.reason, "not-a-ciphertext") != 0), "%s: %s", (char *)get(v, "name").p, err.msg);
        n++;
        ev_buf_fini(&out);
        ev_buf_fini(&file);
        ev_evapp_free(app);
    }
    EQ_INT(n, 12, "malformed vectors");
    ev_json_free(j);
}

static void test_files(void)
{
    struct ev_json *j = load("files");
    struct ev_evapp *app = app_of(keys[0], keys[1], false, 0);
    const struct ev_json *v;
    size_t n = 0;

    for (size_t i = 0; (v = ev_json_item(ev_json_get(j, "vectors"), i)) != NULL; i++) {
        struct ev_buf out = EV_BUF_INIT(1 << 20), file = EV_BUF_INIT(1 << 20), want = EV_BUF_INIT(1 << 20);
        struct ev_err err = EV_ERR_INIT;
        size_t bad = 0;

        if (ev_base64_decode(&file, get(v, "ciphertextBase64"), false) < 0 ||
            ev_base64_decode(&want, get(v, "plaintextBase64"), false) < 0)
            exit(2);
        OK(ev_evfile_decrypt(app, ev_buf_slice(&file), &out, NULL, &err) == 0 &&
           ev_slice_eq(ev_buf_slice(&out), ev_buf_slice(&want)), "%s %s", (char *)get(v, "id").p, err.msg);
        for (size_t cut = 0; cut < file.n; cut++)
            bad += ev_evfile_decrypt(app, ev_slice_of(file.p, cut), &out, NULL, NULL) >= 0;
        for (size_t at = 0; at < file.n; at++) {
            file.p[at] ^= 0x10;                 /* bits of the flags but the lowest mean nothing */
            bad += at != 54 && ev_evfile_decrypt(app, ev_buf_slice(&file), &out, NULL, NULL) >= 0;
            file.p[at] ^= 0x10;
        }
        EQ_INT(bad, 0, "cut or bent files that were taken");
        n++;
        ev_buf_fini(&out);
        ev_buf_fini(&file);
        ev_buf_fini(&want);
    }
    EQ_INT(n, 4, "files");
    ev_evapp_free(app);
    ev_json_free(j);
}

/* ---- the specification's own vectors ---- */

#define P "AAECAwQFBgcICQoL:A9Zak5d8qj0bCBhS/1ennkZfFmBXcwS66tUF3TpIWJzz"
#define K "AAECAwQFBgcICQoL:AkZtf8rlY+XLCaDRhwu1gDRIBGF4eaFJSc8iKF8brj8n"

static void test_spec(void)
{
    static const struct { const char *text, *plain; bool meta; } known[] = {
        { "ev:Tk9D:" P ":ye0W7Zx1O0DBTATcgTRqRFJrtRyU:$", "hello", false },
        { "ev:Tk9D:number:" P ":kLpJ/p54veJtmpxvJ1qv1TmBrA:$", "123", false },
        { "ev:Tk9D:boolean:" P ":1foP5Ijp/L23q6ETWUiXZOwBuFI:$", "true", false },
        { "ev:Tk9D:" P ":AMHeL3ZrW3asKVnhJKsHzQ:$", "", false },
        { "ev:T1JL:" P ":gRNRFwWAJ3vODTwbntcilM5VdQUb:$", "hello", false },
        { "ev:" P ":gRNRFwWAJ3vODTwbntcilM5VdQUb:$", "hello", false },
        { "ev:TENZ:" P ":u4j5I5ezaywkhgG0EosdAYhOR+Ze08tSdawgmrxUwE+cwMqmLaQD+uZ6jsovT+s6aQ:$", "hello", true },
        { "ev:QkTC:" P ":u4j5I5ezaywkhgG0EosdAYhOR+Ze08tSdawgmrxUwE+cDGkDwE/RVGKlRMat9TNMmQ:$", "hello", true },
        { "ev:RFVC:" K ":IMG3MCrR2YRlEklKmZa7BJs6yKjS:$", "hello", false },
        { "ev:" K ":IMG3MCrR2YRlEklKmZa7BJs6yKjS:$", "hello", false },
        { "ev:RFVC:number:" K ":eZbo0fLfYMFvIFKi6STWdHb02A:$", "123", false },
        { "ev:RFVC:boolean:" K ":PNauOfviPIkXamAVgpa32lDs5es:$", "true", false },
        { "ev:QlJV:" K ":z0K5t2HmcMig0H5+d8TA/R4kHqKp2JgvvoZ3V4uRIZ+0Fa84FeBkS0UsVjYt8HGqxA:$", "hello", true },
        { "ev:S0lS:" K ":z0K5t2HmcMig0H5+d8TA/R4kHqKp2JgvvoZ3V4uRIZ+0uK9Bjaxhl+P9O/e8BP+fIg:$", "hello", true },
        { "ev:Tk9D:string:" P ":ye0W7Zx1O0DBTATcgTRqRFJrtRyU:$", "hello", false },
        { "ev:Tk9D:" P ":ye0W7Zx1O0DBTATcgTRqRFJrtRyU=:$", NULL, false },
        { "ev:Tk9D:" P ":AMHeL3ZrW3asKVnhJKsHzQ==:$", "", false },
        { "ev:RFVC:" P ":gRNRFwWAJ3vODTwbntcilM5VdQUb:$", NULL, false },
        { "ev:Tk9D:number:" P ":ye0W7Zx1O0DBTATcgTRqRFJrtRyU:$", NULL, false },
        { "ev:debug:Tk9D:" P ":ye0W7Zx1O0DBTATcgTRqRFJrtRyU:$", NULL, false },
        { "ev:QkTC:number:" P ":u4j5I5ezaywkhgG0EosdAYhOR+Ze08tSdawgmrxUwE+cDGkDwE/RVGKlRMat9TNMmQ:$", NULL, false },
        { "ev:Tk9D:" P "::$", NULL, false },
    };
    struct ev_key *p = key_hex(EV_P256, EV_LIT(ONES)), *k = key_hex(EV_SECP256K1, EV_LIT(ONES));
    struct ev_evapp *app = app_of(p, k, false, 0);
    struct ev_buf out = EV_BUF_INIT(100);

    /* Twice: with keys derived, and with keys from the cache. */
    for (size_t i = 0; i < 2 * EV_COUNT(known); i++) {
        const char *text = known[i / 2].text, *plain = known[i / 2].plain;
        struct ev_evstr_meta meta = {0};
        struct ev_err err = EV_ERR_INIT;
        int rc = decrypt(app, ev_slice_str(text), &out, &meta, &err);

        if (!plain) {
            OK(rc < 0 && out.n == 0 && err.reason[0], "refused: %.24s: %s", text, err.reason);
            continue;
        }
        OK(rc == 0 && strcmp(ev_buf_str(&out), plain) == 0, "%.24s is \"%s\" %s", text, plain, err.msg);
        OK(!known[i / 2].meta || (strcmp(meta.role, "allow-all") == 0 && meta.origin == 5 && meta.time == 1691665064),
           "its metadata");
    }
    ev_evapp_free(app);
    app = app_of(p, k, true, 0);
    OK(decrypt(app, EV_LIT("ev:debug:Tk9D:" P ":ye0W7Zx1O0DBTATcgTRqRFJrtRyU:$"), &out, NULL, NULL) == 0,
       "a debug string with debug keys");
    ev_evapp_free(app);
    ev_buf_fini(&out);
    ev_key_free(p);
    ev_key_free(k);
}

static void test_spec_files(void)
{
    static const char *const files[] = {
        "254556454e4303370003d65a93977caa3d1b081852ff57a79e465f1660577304baead505dd3a48589cf3000102030405060708090a0b00"
        "a06a2a4377f0b60ffe9fe1c4228cc7d3269c0c9459",
        "254556454e4302370002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27000102030405060708090a0b00"
        "49dd9a4ebdd5f19324abbdf2a31eaab065e812bd84",
    };
    struct ev_key *p = key_hex(EV_P256, EV_LIT(ONES)), *k = key_hex(EV_SECP256K1, EV_LIT(ONES));
    struct ev_evapp *app = app_of(p, k, false, 0);
    struct ev_buf out = EV_BUF_INIT(100);
    uint8_t raw[200];

    for (size_t i = 0; i < EV_COUNT(files); i++) {
        int n = ev_hex_decode(ev_slice_str(files[i]), raw, sizeof raw);

        ev_buf_clear(&out);
        OK(n > 0 && ev_evfile_decrypt(app, ev_slice_of(raw, (size_t)n), &out, NULL, NULL) == 0 && out.n == 1 &&
           out.p[0] == 1, "file %zu of the specification", i);
    }
    ev_evapp_free(app);
    ev_buf_fini(&out);
    ev_key_free(p);
    ev_key_free(k);
}

int main(void)
{
    test_keys();
    test_vectors();
    test_malformed();
    test_files();
    test_spec();
    test_spec_files();
    ev_key_free(keys[0]);
    ev_key_free(keys[1]);
    return tap_done();
}
