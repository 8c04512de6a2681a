/* attest_decode.c — see attest_decode.h; the rules are spec nsm-attestation §3 and §4.
 *
 * One pass of a strict cursor, no tree and no allocation sized by the input. Whatever the cursor
 * itself refuses gets the reason of the part it was in: doc-cbor outside, doc-payload inside. */
#include "nitro/attest_decode.h"

#include <stdio.h>

#include "codec/cbor.h"

enum {
    COSE_SIGN1_TAG = 18,
    COSE_ALG = 1,
    COSE_ES384 = 34,                    /* -35 as CBOR carries it: -1 - value */
    UNKNOWN_KEYS_MAX = 16,
};
static const uint64_t TIMESTAMP_MAX = 253402300799999;      /* end of the year 9999 */

int ev_attest_refuse(struct ev_err *err, const char *reason, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ev_fail_reason(err, EV_EVERIFY, reason, "%s", text);
}

#define PAYLOAD(err, ...) ev_attest_refuse(err, "doc-payload", __VA_ARGS__)

/* What the cursor said, under our reason. A refusal of ours stays as it is. */
static int recast(int rc, struct ev_err *err, const char *reason)
{
    char text[EV_ERR_MSG];

    if (rc >= 0 || rc == EV_EVERIFY)
        return rc;
    snprintf(text, sizeof text, "%s", err ? err->msg : "");
    return ev_attest_refuse(err, reason, "%s", text);
}

/* ---- payload ---- */

enum key { MODULE_ID, DIGEST, TIMESTAMP, PCRS, CERTIFICATE, CABUNDLE, PUBLIC_KEY, USER_DATA, NONCE, N_KEYS };

static const char *const key_names[N_KEYS] = {
    "module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce",
};
enum { REQUIRED = 1 << MODULE_ID | 1 << DIGEST | 1 << TIMESTAMP | 1 << PCRS | 1 << CERTIFICATE | 1 << CABUNDLE };

struct payload {
    struct ev_cbor_reader r;
    struct ev_attest_parts *parts;
    struct ev_attest *out;
    struct ev_err *err;
    unsigned seen;
    ev_slice unknown[UNKNOWN_KEYS_MAX];
    size_t n_unknown;
};

static int module_id(struct payload *p)
{
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_TEXT, &item, p->err);

    if (rc < 0)
        return rc;
    if (item.data.n == 0 || item.data.n >= sizeof p->out->module_id)
        return PAYLOAD(p->err, "module_id of %zu bytes", item.data.n);
    for (size_t i = 0; i < item.data.n; i++)
        if (item.data.p[i] < 0x21 || item.data.p[i] > 0x7E)     /* it goes to terminals and logs */
            return PAYLOAD(p->err, "module_id with byte 0x%02x", item.data.p[i]);
    memcpy(p->out->module_id, item.data.p, item.data.n);
    return 0;
}

static int digest(struct payload *p)
{
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_TEXT, &item, p->err);

    if (rc < 0)
        return rc;
    if (!ev_slice_eq(item.data, EV_LIT("SHA384")))
        return PAYLOAD(p->err, "the digest is not SHA384");
    memcpy(p->out->digest, item.data.p, item.data.n);
    return 0;
}

static int timestamp(struct payload *p)
{
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_UINT, &item, p->err);

    if (rc < 0)
        return rc;
    if (item.value == 0 || item.value > TIMESTAMP_MAX)
        return PAYLOAD(p->err, "timestamp %llu", (unsigned long long)item.value);
    p->out->timestamp_ms = (int64_t)item.value;
    return 0;
}

static int one_pcr(struct payload *p)
{
    struct ev_cbor_item key, value;
    struct ev_pcrs *pcrs = &p->out->pcrs;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_UINT, &key, p->err);

    if (rc < 0 || (rc = ev_cbor_expect(&p->r, EV_CBOR_BYTES, &value, p->err)) < 0)
        return rc;
    if (key.value >= EV_PCR_COUNT)
        return PAYLOAD(p->err, "PCR %llu", (unsigned long long)key.value);
    if (pcrs->present & UINT32_C(1) << key.value)
        return PAYLOAD(p->err, "PCR%u is there twice", (unsigned)key.value);
    if (value.data.n != EV_PCR_LEN)
        return PAYLOAD(p->err, "PCR%u of %zu bytes", (unsigned)key.value, value.data.n);
    pcrs->present |= UINT32_C(1) << key.value;
    memcpy(pcrs->value[key.value], value.data.p, EV_PCR_LEN);
    return 0;
}

static int pcrs(struct payload *p)
{
    struct ev_cbor_item map;
    uint64_t n = 0;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_MAP, &map, p->err);

    if (rc < 0)
        return rc;
    while ((rc = ev_cbor_more(&p->r, &map, n, p->err)) > 0) {
        if ((rc = one_pcr(p)) < 0)              /* a 33rd has a bad index or is a duplicate */
            return rc;
        n++;
    }
    return rc < 0 ? rc : n == 0 ? PAYLOAD(p->err, "no PCR at all") : 0;
}

static int der(struct payload *p, ev_slice *out)
{
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_BYTES, &item, p->err);

    if (rc < 0)
        return rc;
    if (item.data.n == 0 || item.data.n > EV_ATTEST_FIELD_MAX)
        return PAYLOAD(p->err, "a certificate of %zu bytes", item.data.n);
    *out = item.data;
    return 0;
}

static int cabundle(struct payload *p)
{
    struct ev_attest_parts *parts = p->parts;
    struct ev_cbor_item list;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_ARRAY, &list, p->err);

    if (rc < 0)
        return rc;
    while ((rc = ev_cbor_more(&p->r, &list, parts->n_bundle, p->err)) > 0) {
        if (parts->n_bundle == EV_ATTEST_BUNDLE_MAX)
            return PAYLOAD(p->err, "more than %d certificates in the bundle", EV_ATTEST_BUNDLE_MAX);
        if ((rc = der(p, &parts->bundle[parts->n_bundle])) < 0)
            return rc;
        parts->n_bundle++;
    }
    return rc < 0 ? rc : parts->n_bundle == 0 ? PAYLOAD(p->err, "an empty bundle") : 0;
}

/* public_key, user_data, nonce: bytes or null; null is the same as absent, empty is not. */
static int optional(struct payload *p, const char *name, size_t min, struct ev_buf *buf, bool *has)
{
    struct ev_cbor_item item;
    int rc = ev_cbor_next(&p->r, &item, p->err);

    if (rc < 0 || item.type == EV_CBOR_NULL)
        return rc;
    if (item.type != EV_CBOR_BYTES)
        return PAYLOAD(p->err, "%s is neither bytes nor null", name);
    if (item.data.n < min || item.data.n > EV_ATTEST_FIELD_MAX)
        return PAYLOAD(p->err, "%s of %zu bytes", name, item.data.n);
    *has = true;
    return ev_buf_put_slice(buf, item.data);
}

static int value(struct payload *p, enum key key)
{
    struct ev_attest *out = p->out;

    switch (key) {
    case MODULE_ID: return module_id(p);
    case DIGEST: return digest(p);
    case TIMESTAMP: return timestamp(p);
    case PCRS: return pcrs(p);
    case CERTIFICATE: return der(p, &p->parts->certificate);
    case CABUNDLE: return cabundle(p);
    case PUBLIC_KEY: return optional(p, "public_key", 1, &out->public_key, &out->has_public_key);
    case USER_DATA: return optional(p, "user_data", 0, &out->user_data, &out->has_user_data);
    case NONCE: return optional(p, "nonce", 0, &out->nonce, &out->has_nonce);
    case N_KEYS: break;
    }
    return EV_EINTERNAL;
}

/* Keys of the future are skipped, but never twice the same: another reader might take the other. */
static int unknown(struct payload *p, ev_slice key)
{
    for (size_t i = 0; i < p->n_unknown; i++)
        if (ev_slice_eq(p->unknown[i], key))
            return PAYLOAD(p->err, "a key is there twice");
    if (p->n_unknown == UNKNOWN_KEYS_MAX)
        return PAYLOAD(p->err, "more than %d unknown keys", UNKNOWN_KEYS_MAX);
    p->unknown[p->n_unknown++] = key;
    return ev_cbor_skip(&p->r, p->err);
}

static int entry(struct payload *p)
{
    struct ev_cbor_item key;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_TEXT, &key, p->err);

    if (rc < 0)
        return rc;
    for (unsigned k = 0; k < N_KEYS; k++) {
        if (!ev_slice_eq(key.data, ev_slice_str(key_names[k])))
            continue;
        if (p->seen & 1u << k)
            return PAYLOAD(p->err, "%s is there twice", key_names[k]);
        p->seen |= 1u << k;
        if ((rc = value(p, (enum key)k)) < 0)
            ev_err_wrap(p->err, "%s", key_names[k]);
        return rc;
    }
    return unknown(p, key.data);
}

static int payload(struct payload *p)
{
    struct ev_cbor_item map;
    uint64_t n = 0;
    int rc = ev_cbor_expect(&p->r, EV_CBOR_MAP, &map, p->err);

    if (rc < 0)
        return rc;
    while ((rc = ev_cbor_more(&p->r, &map, n, p->err)) > 0) {
        if ((rc = entry(p)) < 0)
            return rc;
        n++;
    }
    if (rc < 0)
        return rc;
    for (unsigned k = 0; k < N_KEYS; k++)
        if ((REQUIRED & 1u << k) && !(p->seen & 1u << k))
            return PAYLOAD(p->err, "%s is missing", key_names[k]);
    return ev_cbor_done(&p->r) ? 0 : PAYLOAD(p->err, "bytes after the payload");
}

/* ---- COSE_Sign1 ---- */

/* Exactly {1: -35}: no text algorithm, no `crit`, nothing else. */
static int protected_header(ev_slice header, struct ev_err *err)
{
    struct ev_cbor_reader r;
    struct ev_cbor_item map, key, alg;
    bool ok;

    ev_cbor_reader_init(&r, header);
    ok = ev_cbor_next(&r, &map, NULL) >= 0 && map.type == EV_CBOR_MAP && ev_cbor_more(&r, &map, 0, NULL) > 0 &&
         ev_cbor_next(&r, &key, NULL) >= 0 && key.type == EV_CBOR_UINT && key.value == COSE_ALG &&
         ev_cbor_next(&r, &alg, NULL) >= 0 && alg.type == EV_CBOR_NINT && alg.value == COSE_ES384 &&
         ev_cbor_more(&r, &map, 1, NULL) == 0 && ev_cbor_done(&r);
    return ok ? 0 : ev_attest_refuse(err, "doc-alg", "the protected header is not {1: -35} (ES384)");
}

/* The next of the four items, which must be there and of that type. */
static int cose_bytes(struct ev_cbor_reader *r, const struct ev_cbor_item *list, uint64_t i, const char *what,
                      ev_slice *out, struct ev_err *err)
{
    struct ev_cbor_item item;
    int rc = ev_cbor_more(r, list, i, err);

    if (rc < 0)
        return rc;
    if (rc == 0)
        return ev_attest_refuse(err, "doc-cose", "%s is missing", what);
    if ((rc = ev_cbor_next(r, &item, err)) < 0)
        return rc;
    if (item.type != EV_CBOR_BYTES)
        return ev_attest_refuse(err, "doc-cose", "%s is not a byte string", what);
    *out = item.data;
    return 0;
}

/* The unprotected header must be a map; what is in it is nobody's business. */
static int unprotected(struct ev_cbor_reader *r, const struct ev_cbor_item *list, struct ev_err *err)
{
    struct ev_cbor_reader look;
    struct ev_cbor_item item;
    int rc = ev_cbor_more(r, list, 1, err);

    if (rc < 0)
        return rc;
    if (rc == 0)
        return ev_attest_refuse(err, "doc-cose", "the unprotected header is missing");
    look = *r;
    if ((rc = ev_cbor_next(&look, &item, err)) < 0)
        return rc;
    if (item.type != EV_CBOR_MAP)
        return ev_attest_refuse(err, "doc-cose", "the unprotected header is not a map");
    return ev_cbor_skip(r, err);
}

static int cose_array(struct ev_cbor_reader *r, struct ev_cbor_item *list, struct ev_err *err)
{
    int rc = ev_cbor_next(r, list, err);

    if (rc >= 0 && list->type == EV_CBOR_TAG && list->value == COSE_SIGN1_TAG)
        rc = ev_cbor_next(r, list, err);
    if (rc < 0)
        return rc;
    if (list->type != EV_CBOR_ARRAY || (!list->indefinite && list->count != 4))
        return ev_attest_refuse(err, "doc-cose", "not a COSE_Sign1 array of four");
    return 0;
}

static int cose(ev_slice doc, struct ev_attest_parts *parts, struct ev_err *err)
{
    struct ev_cbor_reader r;
    struct ev_cbor_item list;
    int rc;

    ev_cbor_reader_init(&r, doc);
    EV_TRY(cose_array(&r, &list, err));
    EV_TRY(cose_bytes(&r, &list, 0, "the protected header", &parts->protected_header, err));
    EV_TRY(unprotected(&r, &list, err));
    EV_TRY(cose_bytes(&r, &list, 2, "the payload", &parts->payload, err));
    EV_TRY(cose_bytes(&r, &list, 3, "the signature", &parts->signature, err));
    EV_TRY(ev_cbor_more(&r, &list, 4, err));
    if (rc > 0 || !ev_cbor_done(&r))
        return ev_attest_refuse(err, "doc-cose", "bytes after the signature");
    EV_TRY(protected_header(parts->protected_header, err));
    if (parts->payload.n == 0 || parts->payload.n > EV_ATTEST_PAYLOAD_MAX)
        return ev_attest_refuse(err, "doc-cose", "a payload of %zu bytes", parts->payload.n);
    if (parts->signature.n != EV_ATTEST_SIG_LEN)
        return ev_attest_refuse(err, "doc-cose", "a signature of %zu bytes", parts->signature.n);
out:
    return rc;
}

int ev_attest_put_tbs(struct ev_buf *out, ev_slice protected_header, ev_slice payload_bytes)
{
    int rc;

    EV_TRY(ev_cbor_put_array(out, 4));
    EV_TRY(ev_cbor_put_text(out, "Signature1"));
    EV_TRY(ev_cbor_put_bytes(out, protected_header));
    EV_TRY(ev_cbor_put_bytes(out, EV_LIT("")));
    EV_TRY(ev_cbor_put_bytes(out, payload_bytes));
out:
    return rc;
}

/* Debug enclaves: hardware reports PCR0, 1 and 2 as zero. Those that a document does not list
 * count as zero, unless it lists none of them (then it measures nothing; attest.c refuses that). */
static bool is_debug(const struct ev_pcrs *pcrs)
{
    uint8_t any = 0;

    for (unsigned i = 0; i < 3; i++)
        for (unsigned k = 0; k < EV_PCR_LEN; k++)
            any |= pcrs->value[i][k];
    return any == 0 && (pcrs->present & 7) != 0;
}

int ev_attest_decode(ev_slice doc, struct ev_attest_parts *parts, struct ev_attest *out, struct ev_err *err)
{
    struct payload p = { .parts = parts, .out = out, .err = err };
    int rc;

    *parts = (struct ev_attest_parts){0};
    *out = (struct ev_attest){0};
    ev_buf_init(&out->user_data, EV_ATTEST_FIELD_MAX);
    ev_buf_init(&out->nonce, EV_ATTEST_FIELD_MAX);
    ev_buf_init(&out->public_key, EV_ATTEST_FIELD_MAX);
    if (doc.n == 0 || doc.n > EV_ATTEST_DOC_MAX)
        return ev_attest_refuse(err, "doc-size", "%zu bytes, which no document has", doc.n);
    if ((rc = recast(cose(doc, parts, err), err, "doc-cbor")) < 0)
        return rc;
    ev_cbor_reader_init(&p.r, parts->payload);
    if ((rc = recast(payload(&p), err, "doc-payload")) < 0) {
        ev_err_wrap(err, "payload");
        return rc;
    }
    out->debug = is_debug(&out->pcrs);
    return 0;
}
