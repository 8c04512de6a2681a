/* attest_kit.h — makes attestation documents, right and wrong ones, under a PKI of its own.
 *
 * A kit_doc says what is in a document; its `raw` values and `extra` pairs put any bytes in the place
 * of the right ones. Nothing here shares code with the simulator but the signature and CBOR writers. */
#ifndef TESTS_ATTEST_KIT_H
#define TESTS_ATTEST_KIT_H

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "codec/cbor.h"
#include "crypto/cert.h"
#include "nitro/attest.h"

#define KIT_NOW INT64_C(1800000000000)      /* every kit certificate is valid then */
enum { KIT_LEVELS = 5, KIT_LEAF = 4, KIT_HOUR = 3600 * 1000 };

static struct ev_err kit_err;               /* for calls inside MUST */
#define MUST(expr) \
    do { if ((expr) < 0) { printf("Bail out! %s:%d: %s: %s\n", __FILE__, __LINE__, #expr, kit_err.msg); exit(1); } \
    } while (0)

struct kit_pki {
    struct ev_cert *cert[KIT_LEVELS];       /* root, regional, zonal, instance, leaf */
    struct ev_key *key[KIT_LEVELS];
};

/* Changes how one certificate is made. */
typedef void kit_tweak(unsigned level, struct ev_cert_conf *conf);

static inline void kit_pki_fini(struct kit_pki *p)
{
    for (unsigned i = 0; i < KIT_LEVELS; i++) {
        ev_cert_free(p->cert[i]);
        ev_key_free(p->key[i]);
    }
    *p = (struct kit_pki){0};
}

static inline struct ev_cert_conf kit_conf(unsigned level)
{
    static const char *const subject[KIT_LEVELS] = {
        "/C=IE/O=kit/CN=root", "/C=IE/O=kit/CN=regional", "/C=IE/O=kit/CN=zonal", "/C=IE/O=kit/CN=instance",
        "/C=IE/O=kit/CN=i-0123456789abcdef0-enc0123456789abcdef.kit",
    };
    static const int64_t hours[KIT_LEVELS] = { 24 * 365, 24 * 20, 24 * 6, 24, 3 };
    static const int path_len[KIT_LEVELS] = { -1, 2, 1, 0, -1 };

    return (struct ev_cert_conf){
        .subject = subject[level], .ca = level != KIT_LEAF, .leaf_usage = level == KIT_LEAF,
        .path_len = path_len[level], .not_before_ms = KIT_NOW - KIT_HOUR,
        .not_after_ms = KIT_NOW + hours[level] * KIT_HOUR,
    };
}

static inline void kit_pki_make(struct kit_pki *p, kit_tweak *tweak)
{
    for (unsigned i = 0; i < KIT_LEVELS; i++) {
        struct ev_cert_conf conf = kit_conf(i);

        if (tweak)
            tweak(i, &conf);
        MUST(ev_key_generate(EV_P384, &p->key[i], &kit_err));
        MUST(ev_cert_make(&conf, p->key[i], i ? p->cert[i - 1] : NULL, p->key[i ? i - 1 : 0], &p->cert[i], &kit_err));
    }
}

enum kit_key { K_MODULE_ID, K_DIGEST, K_TIMESTAMP, K_PCRS, K_CERTIFICATE, K_CABUNDLE, K_PUBLIC_KEY, K_USER_DATA,
               K_NONCE, K_COUNT };

struct kit_doc {
    const char *module_id;
    uint64_t timestamp;
    struct ev_pcrs pcrs;
    ev_slice certificate, bundle[16];
    size_t n_bundle;
    ev_slice public_key, user_data, nonce;  /* NULL pointer: null */
    unsigned omit;                          /* bits of kit_key */
    ev_slice raw[K_COUNT];                  /* CBOR in the place of a value */
    ev_slice extra;                         /* further pairs, as CBOR */
    unsigned n_extra;
    bool indefinite;
    ev_slice header, unprotected;           /* CBOR; empty: the right ones */
    const struct ev_key *key;
};

static inline struct kit_doc kit_doc(const struct kit_pki *p)
{
    struct kit_doc d = { .module_id = "i-0123456789abcdef0-enc0123456789abcdef", .timestamp = KIT_NOW - 1000 };

    d.pcrs.present = 0xFFFF;
    for (unsigned i = 0; i < 16; i++)
        memset(d.pcrs.value[i], i < 5 || i == 8 ? 0xA0 + (int)i : 0, EV_PCR_LEN);
    d.certificate = ev_cert_der(p->cert[KIT_LEAF]);
    for (unsigned i = 0; i < KIT_LEAF; i++)
        d.bundle[i] = ev_cert_der(p->cert[i]);
    d.n_bundle = KIT_LEAF;
    d.user_data = EV_LIT("user data");
    d.nonce = EV_LIT("nonce");
    d.key = p->key[KIT_LEAF];
    return d;
}

static inline void kit_bytes_or_null(struct ev_buf *b, ev_slice v)
{
    if (v.p)
        MUST(ev_cbor_put_bytes(b, v));
    else
        MUST(ev_cbor_put_null(b));
}

static inline void kit_pcrs(struct ev_buf *b, const struct ev_pcrs *pcrs)
{
    MUST(ev_cbor_put_map(b, (uint64_t)__builtin_popcount(pcrs->present)));
    for (unsigned i = 0; i < EV_PCR_COUNT; i++)
        if (pcrs->present & UINT32_C(1) << i) {
            MUST(ev_cbor_put_uint(b, i));
            MUST(ev_cbor_put_bytes(b, ev_slice_of(pcrs->value[i], EV_PCR_LEN)));
        }
}

static inline void kit_value(const struct kit_doc *d, enum kit_key k, struct ev_buf *b)
{
    switch (k) {
    case K_MODULE_ID: MUST(ev_cbor_put_text(b, d->module_id)); break;
    case K_DIGEST: MUST(ev_cbor_put_text(b, "SHA384")); break;
    case K_TIMESTAMP: MUST(ev_cbor_put_uint(b, d->timestamp)); break;
    case K_PCRS: kit_pcrs(b, &d->pcrs); break;
    case K_CERTIFICATE: MUST(ev_cbor_put_bytes(b, d->certificate)); break;
    case K_CABUNDLE:
        MUST(ev_cbor_put_array(b, d->n_bundle));
        for (size_t i = 0; i < d->n_bundle; i++)
            MUST(ev_cbor_put_bytes(b, d->bundle[i]));
        break;
    case K_PUBLIC_KEY: kit_bytes_or_null(b, d->public_key); break;
    case K_USER_DATA: kit_bytes_or_null(b, d->user_data); break;
    case K_NONCE: kit_bytes_or_null(b, d->nonce); break;
    case K_COUNT: break;
    }
}

static inline void kit_payload(const struct kit_doc *d, struct ev_buf *b)
{
    static const char *const names[K_COUNT] = { "module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle",
                                                "public_key", "user_data", "nonce" };

    if (d->indefinite)
        MUST(ev_buf_putc(b, 0xBF));
    else
        MUST(ev_cbor_put_map(b, (uint64_t)(K_COUNT - __builtin_popcount(d->omit)) + d->n_extra));
    for (unsigned k = 0; k < K_COUNT; k++) {
        if (d->omit & 1u << k)
            continue;
        MUST(ev_cbor_put_text(b, names[k]));
        if (d->raw[k].p)
            MUST(ev_buf_put_slice(b, d->raw[k]));
        else
            kit_value(d, (enum kit_key)k, b);
    }
    MUST(ev_buf_put_slice(b, d->extra));
    if (d->indefinite)
        MUST(ev_buf_putc(b, 0xFF));
}

/* What is signed, written out by hand. */
static inline void kit_sign(const struct kit_doc *d, ev_slice header, ev_slice payload, uint8_t sig[96])
{
    struct ev_buf tbs = EV_BUF_INIT(1 << 20);

    MUST(ev_buf_put_slice(&tbs, EV_LIT("\x84\x6A" "Signature1")));
    MUST(ev_cbor_put_bytes(&tbs, header));
    MUST(ev_buf_putc(&tbs, 0x40));
    MUST(ev_cbor_put_bytes(&tbs, payload));
    MUST(ev_key_sign(d->key, ev_buf_slice(&tbs), sig, &kit_err));
    ev_buf_fini(&tbs);
}

/* The four items around a payload and a signature of any length. */
static inline void kit_cose(const struct kit_doc *d, ev_slice payload, ev_slice sig, struct ev_buf *out)
{
    MUST(ev_cbor_put_array(out, 4));
    MUST(ev_cbor_put_bytes(out, d->header.p ? d->header : EV_LIT("\xA1\x01\x38\x22")));
    MUST(ev_buf_put_slice(out, d->unprotected.p ? d->unprotected : EV_LIT("\xA0")));
    MUST(ev_cbor_put_bytes(out, payload));
    MUST(ev_cbor_put_bytes(out, sig));
}

/* r or s of P-384 as a DER INTEGER. */
static inline void kit_put_integer(struct ev_buf *b, const uint8_t *p)
{
    size_t n = 48;

    while (n > 1 && *p == 0)
        p++, n--;
    MUST(ev_buf_putc(b, 2));
    MUST(ev_buf_putc(b, (uint8_t)(n + (*p >> 7))));
    if (*p >> 7)
        MUST(ev_buf_putc(b, 0));
    MUST(ev_buf_put(b, p, n));
}

/* Signs any payload. */
static inline void kit_seal(const struct kit_doc *d, ev_slice payload, struct ev_buf *out)
{
    uint8_t sig[96];

    ev_buf_clear(out);
    kit_sign(d, d->header.p ? d->header : EV_LIT("\xA1\x01\x38\x22"), payload, sig);
    kit_cose(d, payload, ev_slice_of(sig, sizeof sig), out);
}

static inline void kit_make(const struct kit_doc *d, struct ev_buf *out)
{
    struct ev_buf payload = EV_BUF_INIT(1 << 20);

    kit_payload(d, &payload);
    kit_seal(d, ev_buf_slice(&payload), out);
    ev_buf_fini(&payload);
}

static inline void kit_read(const char *path, struct ev_buf *out)
{
    ev_buf_clear(out);
    MUST(ev_file_read(path, out, &kit_err));
}

#endif
