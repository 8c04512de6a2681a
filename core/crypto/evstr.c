/* evstr.c — encrypted strings: grammar, the application's state, opening and sealing.
 *
 *   text → parse → base64 → key (cache, else agreement) → AES-256-GCM → metadata off → type checked
 *
 * AES-GCM is EVP with the cipher fetched once and one context for each direction. The context that
 * opens remembers whose key it was given last: the values of one body mostly share it, and then only
 * the IV is new. */
#include <openssl/err.h>

#include "codec/text.h"
#include "crypto/evstr_internal.h"

enum {
    IV_TEXT = 16, POINT_TEXT = 44, META_MAX = 65535, NO_SLOT = UINT32_MAX,
    KEEP = 64 * 1024            /* working buffers up to this size stay allocated */
};

enum aad { AAD_NONE, AAD_APP, AAD_FULL };

static const struct version {
    char tag[5];
    bool k1, kdf, meta;
    enum aad aad;
    uint8_t config;
} versions[] = {
    [EV_EVSTR_BARE] = { "", true, false, false, AAD_NONE, 0 },
    [EV_EVSTR_RFVC] = { "RFVC", true, false, false, AAD_NONE, 0 },
    [EV_EVSTR_T1JL] = { "T1JL", false, false, false, AAD_NONE, 0 },
    [EV_EVSTR_TK9D] = { "Tk9D", false, true, false, AAD_APP, 0 },
    [EV_EVSTR_TENZ] = { "TENZ", false, true, true, AAD_APP, 0 },
    [EV_EVSTR_QLJV] = { "QlJV", true, true, true, AAD_APP, 0 },
    [EV_EVSTR_QKTC] = { "QkTC", false, true, true, AAD_FULL, 1 },
    [EV_EVSTR_S0LS] = { "S0lS", true, true, true, AAD_FULL, 0 },
};

static const char *const types[] = { "string", "number", "boolean" };

int evstr_fail(struct ev_err *err, int code, const char *reason, const char *what)
{
    ERR_clear_error();
    return ev_fail_reason(err, code, reason, "encrypted value: %s", what);
}

/* ---- grammar ---- */

static bool in_alphabet(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' ||
           c == '=';
}

/* The characters up to ':', which is passed. */
static enum ev_evstr_match token(ev_slice text, size_t *at, size_t limit, ev_slice *out)
{
    size_t from = *at, end = from;

    while (end < text.n && end - from <= limit && in_alphabet(text.p[end]))
        end++;
    if (end - from > limit)
        return EV_EVSTR_NO;
    if (end == text.n)
        return EV_EVSTR_MORE;
    if (text.p[end] != ':')
        return EV_EVSTR_NO;
    *out = ev_slice_of(text.p + from, end - from);
    *at = end + 1;
    return EV_EVSTR_MATCH;
}

/* What may come before the IV, in this order. No two of them, nor an IV, have the same length. */
static bool marker(ev_slice word, int *stage, struct ev_evstr *out)
{
    if (*stage < 1 && ev_slice_eq(word, EV_LIT("debug"))) {
        *stage = 1;
        out->debug = true;
        return true;
    }
    for (size_t i = EV_EVSTR_RFVC; *stage < 2 && i < EV_COUNT(versions); i++) {
        if (ev_slice_eq(word, ev_slice_str(versions[i].tag))) {
            *stage = 2;
            out->version = (enum ev_evstr_version)i;
            return true;
        }
    }
    for (size_t i = 0; *stage < 3 && i < EV_COUNT(types); i++) {
        if (ev_slice_eq(word, ev_slice_str(types[i]))) {
            *stage = 3;
            out->type = (enum ev_evstr_type)i;
            return true;
        }
    }
    return false;
}

enum ev_evstr_match ev_evstr_parse(ev_slice text, struct ev_evstr *out)
{
    enum ev_evstr_match m;
    size_t at = 3;
    int stage = 0;

    *out = (struct ev_evstr){ .version = EV_EVSTR_BARE, .type = EV_EVSTR_STRING };
    if (text.n == 0 || memcmp(text.p, "ev:", text.n < 3 ? text.n : 3) != 0)
        return text.n == 0 ? EV_EVSTR_MORE : EV_EVSTR_NO;
    if (text.n < 3)
        return EV_EVSTR_MORE;
    do {
        if ((m = token(text, &at, IV_TEXT, &out->iv)) != EV_EVSTR_MATCH)
            return m;
    } while (marker(out->iv, &stage, out));
    if (out->iv.n != IV_TEXT)
        return EV_EVSTR_NO;
    if ((m = token(text, &at, POINT_TEXT, &out->ephemeral)) != EV_EVSTR_MATCH)
        return m;
    if (out->ephemeral.n != POINT_TEXT)
        return EV_EVSTR_NO;
    if ((m = token(text, &at, SIZE_MAX - 1, &out->data)) != EV_EVSTR_MATCH)
        return m;
    if (at == text.n)
        return EV_EVSTR_MORE;
    if (text.p[at] != '$')
        return EV_EVSTR_NO;
    out->whole = ev_slice_of(text.p, at + 1);
    return EV_EVSTR_MATCH;
}

/* ---- the application ---- */

int ev_evapp_new(const struct ev_evapp_conf *conf, struct ev_evapp **out, struct ev_err *err)
{
    struct ev_evapp *app = ev_alloc(sizeof *app);
    int rc = 0;

    *out = NULL;
    app->debug = conf->debug;
    app->keyed = NO_SLOT;
    ev_buf_init(&app->coded, EV_EVSTR_MAX);
    ev_buf_init(&app->scratch, EV_EVSTR_MAX + META_MAX + 2);
    app->cache = evstr_cache_new(conf->cache ? conf->cache : EV_EVSTR_CACHE);
    app->gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    app->open = EVP_CIPHER_CTX_new();
    app->seal = EVP_CIPHER_CTX_new();
    if (!app->gcm || !app->open || !app->seal || EVP_DecryptInit_ex2(app->open, app->gcm, NULL, NULL, NULL) != 1 ||
        EVP_EncryptInit_ex2(app->seal, app->gcm, NULL, NULL, NULL) != 1)
        rc = ev_ossl_fail(err, EV_ECRYPTO, "AES-256-GCM");
    EV_TRY(rc);
    if ((conf->p256 && ev_key_curve(conf->p256) != EV_P256) ||
        (conf->secp256k1 && ev_key_curve(conf->secp256k1) != EV_SECP256K1))
        rc = ev_fail(err, EV_EUSAGE, "an application's key is on another curve than it should be");
    EV_TRY(rc);
    if (conf->p256)
        EV_TRY(evstr_side_init(&app->side[0], conf->p256, err));
    if (conf->secp256k1)
        EV_TRY(evstr_side_init(&app->side[1], conf->secp256k1, err));
    *out = app;
out:
    if (rc < 0)
        ev_evapp_free(app);
    return rc;
}

void ev_evapp_free(struct ev_evapp *app)
{
    if (!app)
        return;
    for (size_t i = 0; i < EV_COUNT(app->side); i++)
        evstr_side_fini(&app->side[i]);
    evstr_cache_free(app->cache);
    EVP_CIPHER_CTX_free(app->open);
    EVP_CIPHER_CTX_free(app->seal);
    EVP_CIPHER_free(app->gcm);
    ev_buf_wipe(&app->scratch);
    ev_buf_fini(&app->coded);
    ev_wipe(app->own, sizeof app->own);
    ev_free(app);
}

uint64_t ev_evapp_derived(const struct ev_evapp *app)
{
    return app->derived;
}

/* The working buffers after a value: emptied, and plain bytes wiped. */
static void work_done(struct ev_evapp *app)
{
    ev_wipe(app->scratch.p, app->scratch.n);
    ev_buf_clear(&app->scratch);
    ev_buf_clear(&app->coded);
    if (app->scratch.cap > KEEP)
        ev_buf_fini(&app->scratch);
    if (app->coded.cap > KEEP)
        ev_buf_fini(&app->coded);
}

/* ---- opening ---- */

/* Content and tag under the key that `open` has. */
static int gcm_open(struct ev_evapp *app, const struct evstr_seal *seal, const uint8_t *key, ev_slice sealed,
                    uint8_t *plain)
{
    uint8_t tag[EV_EVSTR_TAG];
    size_t n = sealed.n - EV_EVSTR_TAG;
    int len = 0, last = 0;

    memcpy(tag, sealed.p + n, sizeof tag);
    if (EVP_DecryptInit_ex2(app->open, NULL, key, seal->iv, NULL) != 1 ||
        (seal->n_aad > 0 && EVP_DecryptUpdate(app->open, NULL, &len, seal->aad, (int)seal->n_aad) != 1) ||
        (n > 0 && EVP_DecryptUpdate(app->open, plain, &len, sealed.p, (int)n) != 1) ||
        EVP_CIPHER_CTX_ctrl(app->open, EVP_CTRL_GCM_SET_TAG, EV_EVSTR_TAG, tag) != 1 ||
        EVP_DecryptFinal_ex(app->open, plain + n, &last) != 1) {
        ev_wipe(plain, n);
        ERR_clear_error();
        return EV_ECRYPTO;
    }
    return 0;
}

/* Opens with keys that have to be derived first; only what opens enters the cache. */
static int open_fresh(struct ev_evapp *app, const struct evstr_seal *seal, ev_slice sealed, uint8_t *plain,
                      struct ev_err *err)
{
    struct evstr_keys keys;
    int rc;

    app->derived++;
    if ((rc = evstr_derive(&app->side[seal->k1], seal->ephemeral, &keys)) < 0) {
        rc = rc == EV_EPARSE ? evstr_fail(err, rc, "public-key-point", "its key is no point of the curve")
                             : evstr_fail(err, rc, "", "key agreement failed");
        goto out;
    }
    app->keyed = NO_SLOT;
    rc = gcm_open(app, seal, seal->kdf ? keys.kdf : keys.raw, sealed, plain);
    if (rc < 0) {
        rc = evstr_fail(err, rc, "auth-failed", "it is for another key, or was changed");
        goto out;
    }
    app->keyed = evstr_cache_put(app->cache, seal->k1, seal->ephemeral, &keys);
    app->keyed_kdf = seal->kdf;
out:
    ev_wipe(&keys, sizeof keys);
    return rc;
}

static int open_known(struct ev_evapp *app, const struct evstr_seal *seal, const struct evstr_keys *keys,
                      uint32_t slot, ev_slice sealed, uint8_t *plain, struct ev_err *err)
{
    bool same = app->keyed == slot && app->keyed_kdf == seal->kdf;

    if (gcm_open(app, seal, same ? NULL : seal->kdf ? keys->kdf : keys->raw, sealed, plain) < 0) {
        app->keyed = NO_SLOT;
        return evstr_fail(err, EV_ECRYPTO, "auth-failed", "it is for another key, or was changed");
    }
    app->keyed = slot;
    app->keyed_kdf = seal->kdf;
    return 0;
}

int evstr_open(struct ev_evapp *app, const struct evstr_seal *seal, ev_slice sealed, struct ev_buf *out,
               struct ev_err *err)
{
    const struct evstr_keys *keys;
    size_t before = out->n;
    uint32_t slot;
    int rc;

    if (sealed.n < EV_EVSTR_TAG)
        return evstr_fail(err, EV_EPARSE, "data-too-short", "shorter than its tag");
    if (sealed.n > EV_EVSTR_MAX)
        return evstr_fail(err, EV_ELIMIT, "", "too large");
    if (!app->side[seal->k1].d)
        return evstr_fail(err, EV_ECRYPTO, "no-key", "there is no private key on its curve");
    if (ev_buf_zero(out, sealed.n - EV_EVSTR_TAG) < 0)
        return evstr_fail(err, -ENOBUFS, "", "no room for its content");
    if ((keys = evstr_cache_get(app->cache, seal->k1, seal->ephemeral, &slot)) != NULL)
        rc = open_known(app, seal, keys, slot, sealed, out->p + before, err);
    else
        rc = open_fresh(app, seal, sealed, out->p + before, err);
    if (rc < 0) {
        out->n = before;
        out->p[before] = 0;
    }
    return rc;
}

/* Additional data of a version; `flags` is used by those that have it. */
static void set_aad(struct evstr_seal *seal, const struct version *v, const uint8_t *app_pub, uint8_t flags)
{
    uint8_t *p = seal->aad;

    if (v->aad == AAD_FULL) {
        *p++ = flags;
        memcpy(p, seal->ephemeral, EV_EVSTR_POINT);
        p += EV_EVSTR_POINT;
    }
    if (v->aad != AAD_NONE) {
        memcpy(p, app_pub, EV_EVSTR_POINT);
        p += EV_EVSTR_POINT;
    }
    seal->n_aad = (size_t)(p - seal->aad);
}

static uint8_t flags_of(const struct version *v, enum ev_evstr_type type)
{
    return (uint8_t)(type << 4 | v->config);
}

/* Debug strings with authenticated flags exist in four spellings: clients got the byte wrong. */
static int open_string(struct ev_evapp *app, const struct ev_evstr *s, const struct version *v,
                       struct evstr_seal *seal, ev_slice sealed, struct ev_err *err)
{
    uint8_t plain = flags_of(v, s->type), tries[] = { plain, plain | 0x80, 0x80, 0x00 };
    size_t n = s->debug && v->aad == AAD_FULL ? EV_COUNT(tries) : 1;
    int rc = 0;

    seal->k1 = v->k1;
    seal->kdf = v->kdf;
    for (size_t i = 0; i < n; i++) {
        set_aad(seal, v, app->side[v->k1].pub, tries[i]);
        if ((rc = evstr_open(app, seal, sealed, &app->scratch, err)) != EV_ECRYPTO)
            break;
    }
    return rc;
}

/* Splits metadata off, checks the type, and hands the value over. */
static int deliver(const struct ev_evstr *s, ev_slice plain, struct ev_buf *out, struct ev_evstr_meta *meta,
                   struct ev_err *err)
{
    struct ev_evstr_meta found = {0};
    int rc;

    if (versions[s->version].meta) {
        size_t n = plain.n >= 2 ? (size_t)(plain.p[0] | plain.p[1] << 8) : 0;

        if (plain.n < 2 || n > plain.n - 2 || evstr_meta_read(ev_slice_of(plain.p + 2, n), &found) < 0)
            return evstr_fail(err, EV_EPARSE, "metadata", "its metadata is malformed");
        plain = ev_slice_of(plain.p + 2 + n, plain.n - 2 - n);
    }
    if (!evstr_value_ok(s->type, plain))
        return evstr_fail(err, EV_EPARSE, "value", "its content does not fit its type");
    if (meta)
        *meta = found;
    if ((rc = ev_buf_put_slice(out, plain)) < 0)
        return evstr_fail(err, rc, "", "no room for its content");
    return 0;
}

/* Fixed number of bytes out of base64, by way of a working buffer. */
static int decode_exact(struct ev_evapp *app, ev_slice text, uint8_t *out, size_t n)
{
    int rc = ev_base64_decode(&app->coded, text, false);

    if (rc == 0 && app->coded.n == n)
        memcpy(out, app->coded.p, n);
    else
        rc = EV_EPARSE;
    ev_buf_clear(&app->coded);
    return rc;
}

int ev_evstr_decrypt(struct ev_evapp *app, const struct ev_evstr *s, struct ev_buf *out,
                     struct ev_evstr_meta *meta, struct ev_err *err)
{
    uint8_t iv[EV_EVSTR_IV], ephemeral[EV_EVSTR_POINT];
    struct evstr_seal seal = { .iv = iv, .ephemeral = ephemeral };
    ev_slice sealed;
    int rc;

    if (s->debug && !app->debug)
        return evstr_fail(err, EV_ECRYPTO, "debug", "it was made with a debug key");
    if (decode_exact(app, s->iv, iv, sizeof iv) < 0 ||
        decode_exact(app, s->ephemeral, ephemeral, sizeof ephemeral) < 0 ||
        (rc = ev_base64_decode(&app->coded, s->data, false)) == EV_EPARSE)
        rc = evstr_fail(err, EV_EPARSE, "base64", "a part of it is not base64");
    else if (rc < 0)
        rc = evstr_fail(err, EV_ELIMIT, "", "too large");
    EV_TRY(rc);
    sealed = ev_buf_slice(&app->coded);
    rc = open_string(app, s, &versions[s->version], &seal, sealed, err);
    /* The oldest form does not say its curve. */
    if (rc < 0 && s->version == EV_EVSTR_BARE && app->side[0].d &&
        open_string(app, s, &versions[EV_EVSTR_T1JL], &seal, sealed, NULL) == 0)
        rc = 0;
    EV_TRY(rc);
    rc = deliver(s, ev_buf_slice(&app->scratch), out, meta, err);
out:
    work_done(app);
    return rc;
}

/* ---- sealing ---- */

int evstr_close(struct ev_evapp *app, const struct evstr_seal *seal, const struct evstr_keys *keys, ev_slice plain,
                struct ev_buf *out, struct ev_err *err)
{
    size_t before = out->n;
    int len = 0, last = 0;
    uint8_t *p;

    if (plain.n > EV_EVSTR_MAX - EV_EVSTR_TAG)
        return evstr_fail(err, EV_ELIMIT, "", "too large");
    if (ev_buf_zero(out, plain.n + EV_EVSTR_TAG) < 0)
        return evstr_fail(err, -ENOBUFS, "", "no room for it");
    p = out->p + before;
    if (EVP_EncryptInit_ex2(app->seal, NULL, seal->kdf ? keys->kdf : keys->raw, seal->iv, NULL) != 1 ||
        (seal->n_aad > 0 && EVP_EncryptUpdate(app->seal, NULL, &len, seal->aad, (int)seal->n_aad) != 1) ||
        (plain.n > 0 && EVP_EncryptUpdate(app->seal, p, &len, plain.p, (int)plain.n) != 1) ||
        EVP_EncryptFinal_ex(app->seal, p + plain.n, &last) != 1 ||
        EVP_CIPHER_CTX_ctrl(app->seal, EVP_CTRL_GCM_GET_TAG, EV_EVSTR_TAG, p + plain.n) != 1) {
        out->n = before;
        out->p[before] = 0;
        return ev_ossl_fail(err, EV_ECRYPTO, "encrypting");
    }
    return 0;
}

/* Base64 without its padding, as the SDKs write it. */
static int put_base64(struct ev_buf *out, ev_slice in)
{
    int rc = ev_base64_put(out, in);

    while (rc == 0 && out->n > 0 && out->p[out->n - 1] == '=')
        out->p[--out->n] = 0;
    return rc;
}

static int put_string(struct ev_buf *out, const struct ev_evstr_how *how, const struct evstr_seal *seal,
                      ev_slice sealed)
{
    int rc = 0;

    EV_TRY(ev_buf_printf(out, "ev:%s%s:", how->debug ? "debug:" : "", versions[how->version].tag));
    if (how->type != EV_EVSTR_STRING)
        EV_TRY(ev_buf_printf(out, "%s:", types[how->type]));
    EV_TRY(put_base64(out, ev_slice_of(seal->iv, EV_EVSTR_IV)));
    EV_TRY(ev_buf_putc(out, ':'));
    EV_TRY(put_base64(out, ev_slice_of(seal->ephemeral, EV_EVSTR_POINT)));
    EV_TRY(ev_buf_putc(out, ':'));
    EV_TRY(put_base64(out, sealed));
    rc = ev_buf_puts(out, ":$");
out:
    return rc;
}

/* Metadata with its length, and the value. */
static int put_content(struct ev_buf *out, const struct ev_evstr_how *how, ev_slice text)
{
    static const struct ev_evstr_meta none;
    int rc = 0;

    if (versions[how->version].meta) {
        EV_TRY(ev_buf_zero(out, 2));
        EV_TRY(evstr_meta_put(out, how->meta ? how->meta : &none));
        out->p[0] = (uint8_t)(out->n - 2);
        out->p[1] = (uint8_t)((out->n - 2) >> 8);
    }
    rc = ev_buf_put_slice(out, text);
out:
    return rc;
}

int ev_evstr_encrypt(struct ev_evapp *app, const struct ev_evstr_how *how, ev_slice text, struct ev_buf *out,
                     struct ev_err *err)
{
    const struct version *v = &versions[how->version];
    struct evstr_own *own = &app->own[v->k1];
    uint8_t iv[EV_EVSTR_IV];
    struct evstr_seal seal = { .k1 = v->k1, .kdf = v->kdf, .iv = iv, .ephemeral = own->pub };
    size_t before = out->n;
    int rc;

    if (how->version == EV_EVSTR_BARE || !app->side[v->k1].group)
        return evstr_fail(err, EV_EUSAGE, "no-key", "there is no key on the curve of this version");
    if (!evstr_value_ok(how->type, text))
        return evstr_fail(err, EV_EPARSE, "value", "what is to be encrypted does not fit its type");
    if ((rc = evstr_own_refresh(own, &app->side[v->k1])) < 0 || (rc = ev_random(iv, sizeof iv)) < 0)
        return ev_ossl_fail(err, rc, "encrypting");
    own->uses++;
    set_aad(&seal, v, app->side[v->k1].pub, (uint8_t)(flags_of(v, how->type) | (how->debug ? 0x80 : 0)));
    EV_TRY(put_content(&app->scratch, how, text));
    EV_TRY(evstr_close(app, &seal, &own->keys, ev_buf_slice(&app->scratch), &app->coded, err));
    EV_TRY(put_string(out, how, &seal, ev_buf_slice(&app->coded)));
out:
    if (rc < 0 && out->p) {
        out->n = before;
        out->p[before] = 0;
    }
    if (rc == -ENOBUFS)
        evstr_fail(err, rc, "", "no room for it");
    else if (rc == -EINVAL)
        evstr_fail(err, rc, "metadata", "this metadata cannot be written");
    work_done(app);
    return rc;
}
