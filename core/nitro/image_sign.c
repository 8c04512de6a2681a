/* image_sign.c — the signature section (eif.md §3): COSE_Sign1 over PCR0, beside the certificate.
 *
 * AWS writes byte values as CBOR arrays of small integers; so do we, and read byte strings too. The
 * payload is compared byte for byte with the one encoding that there is for a PCR0. */
#include "codec/cbor.h"
#include "crypto/digest.h"
#include "nitro/attest_decode.h"
#include "nitro/image_int.h"

enum { ALG_ES256 = -7, ALG_ES384 = -35, ALG_ES512 = -36, PAYLOAD_MAX = 160, COSE_MAX = 1024, SIG_MAX = 132,
       TAG_COSE_SIGN1 = 18 };

static int alg_of(const struct ev_key *key, int64_t *alg, struct ev_err *err)
{
    switch (ev_key_curve(key)) {
    case EV_P256: *alg = ALG_ES256; return 0;
    case EV_P384: *alg = ALG_ES384; return 0;
    case EV_P521: *alg = ALG_ES512; return 0;
    default: break;
    }
    return ev_fail_reason(err, EV_EPARSE, "sign-curve", "images are signed with keys on P-256, P-384 or P-521 only");
}

int ev_image_check_signer(ev_slice cert_pem, const struct ev_key *key, int64_t now_ms, struct ev_err *err)
{
    struct ev_cert *cert = NULL;
    struct ev_key *public_key = NULL;
    int64_t alg = 0, from, until;
    int rc;

    if (!key || cert_pem.n == 0)
        EV_TRY(ev_fail_reason(err, EV_EUSAGE, "sign-pair", "signing needs a certificate and its private key"));
    EV_TRY(alg_of(key, &alg, err));
    if (!ev_key_is_private(key))
        EV_TRY(ev_fail_reason(err, EV_EPARSE, "sign-key", "the signing key is not a private key"));
    EV_TRY(ev_cert_from_pem(cert_pem, &cert, err));
    EV_TRY(ev_cert_key(cert, &public_key, err));
    if (!ev_key_same_public(public_key, key))
        EV_TRY(ev_fail_reason(err, EV_EPARSE, "sign-mismatch", "the signing certificate is not for this private key"));
    ev_cert_validity(cert, &from, &until);
    if (now_ms != 0 && now_ms > until)
        EV_TRY(ev_fail_reason(err, EV_ECONFIG, "cert-expired", "the signing certificate has expired"));
    if (now_ms != 0 && now_ms < from)
        EV_TRY(ev_fail_reason(err, EV_ECONFIG, "cert-not-yet-valid", "the signing certificate is not yet valid"));
out:
    ev_key_free(public_key);
    ev_cert_free(cert);
    return rc;
}

/* ---- writing ---- */

static int put_ints(struct ev_buf *b, ev_slice bytes)
{
    int rc = ev_cbor_put_array(b, bytes.n);

    for (size_t i = 0; i < bytes.n && rc >= 0; i++)
        rc = ev_cbor_put_uint(b, bytes.p[i]);
    return rc;
}

static int put_payload(struct ev_buf *b, const uint8_t pcr0[48])
{
    int rc;

    EV_TRY(ev_cbor_put_map(b, 2));
    EV_TRY(ev_cbor_put_text(b, "register_index"));
    EV_TRY(ev_cbor_put_uint(b, 0));
    EV_TRY(ev_cbor_put_text(b, "register_value"));
    EV_TRY(put_ints(b, ev_slice_of(pcr0, EV_PCR_LEN)));
out:
    return rc;
}

static int put_protected(struct ev_buf *b, int64_t alg)
{
    int rc;

    EV_TRY(ev_cbor_put_map(b, 1));
    EV_TRY(ev_cbor_put_uint(b, 1));
    EV_TRY(ev_cbor_put_nint(b, alg));
out:
    return rc;
}

static int put_cose(struct ev_buf *b, ev_slice head, ev_slice payload, ev_slice sig)
{
    int rc;

    EV_TRY(ev_cbor_put_array(b, 4));
    EV_TRY(ev_cbor_put_bytes(b, head));
    EV_TRY(ev_cbor_put_map(b, 0));
    EV_TRY(ev_cbor_put_bytes(b, payload));
    EV_TRY(ev_cbor_put_bytes(b, sig));
out:
    return rc;
}

static int put_section(struct ev_buf *b, ev_slice cert_pem, ev_slice cose)
{
    int rc;

    EV_TRY(ev_cbor_put_array(b, 1));
    EV_TRY(ev_cbor_put_map(b, 2));
    EV_TRY(ev_cbor_put_text(b, "signing_certificate"));
    EV_TRY(put_ints(b, cert_pem));
    EV_TRY(ev_cbor_put_text(b, "signature"));
    EV_TRY(put_ints(b, cose));
out:
    return rc;
}

int ev_image_signature(ev_slice cert_pem, const struct ev_key *key, const uint8_t pcr0[48], struct ev_buf *out,
                       struct ev_err *err)
{
    struct ev_buf head = EV_BUF_INIT(16), payload = EV_BUF_INIT(PAYLOAD_MAX), tbs = EV_BUF_INIT(COSE_MAX),
                  cose = EV_BUF_INIT(COSE_MAX);
    uint8_t sig[SIG_MAX];
    int64_t alg = 0;
    int rc;

    EV_TRY(ev_image_check_signer(cert_pem, key, 0, err));
    EV_TRY(alg_of(key, &alg, err));
    EV_TRY(put_protected(&head, alg));
    EV_TRY(put_payload(&payload, pcr0));
    EV_TRY(ev_attest_put_tbs(&tbs, ev_buf_slice(&head), ev_buf_slice(&payload)));
    EV_TRY(ev_key_sign(key, ev_buf_slice(&tbs), sig, err));
    EV_TRY(put_cose(&cose, ev_buf_slice(&head), ev_buf_slice(&payload), ev_slice_of(sig, ev_key_sig_len(key))));
    rc = put_section(out, cert_pem, ev_buf_slice(&cose));
    if (rc < 0)
        ev_fail_reason(err, rc, "eif-signature", "the certificate file is too long for a signature section");
out:
    if (rc < 0)
        ev_err_wrap(err, "signing");
    ev_buf_fini(&head);
    ev_buf_fini(&payload);
    ev_buf_fini(&tbs);
    ev_buf_fini(&cose);
    return rc;
}

/* ---- reading ---- */

static int damaged(const char *what, struct ev_err *err)
{
    return ev_fail_reason(err, EV_EPARSE, "eif-signature", "signature section: %s", what);
}

/* A byte string, or an array of integers below 256. */
static int read_bytes(struct ev_cbor_reader *r, struct ev_buf *out, struct ev_err *err)
{
    struct ev_cbor_item item, one;
    uint64_t seen = 0;
    int rc;

    EV_TRY(ev_cbor_next(r, &item, err));
    if (item.type == EV_CBOR_BYTES) {
        rc = ev_buf_put_slice(out, item.data);
        goto out;
    }
    if (item.type != EV_CBOR_ARRAY)
        return damaged("bytes are expected", err);
    while ((rc = ev_cbor_more(r, &item, seen, err)) > 0) {
        EV_TRY(ev_cbor_expect(r, EV_CBOR_UINT, &one, err));
        if (one.value > 255)
            return damaged("a byte above 255", err);
        EV_TRY(ev_buf_putc(out, (uint8_t)one.value));
        seen++;
    }
out:
    return rc;
}

/* The first of the signatures; AWS writes one. */
static int read_section(ev_slice section, struct ev_buf *pem, struct ev_buf *cose, struct ev_err *err)
{
    struct ev_cbor_reader r;
    struct ev_cbor_item list, map, key;
    uint64_t seen = 0;
    int rc;

    ev_cbor_reader_init(&r, section);
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_ARRAY, &list, err));
    if (list.indefinite || list.count != 1)
        return damaged("one signature is expected", err);
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_MAP, &map, err));
    while ((rc = ev_cbor_more(&r, &map, seen, err)) > 0) {
        struct ev_buf *to;

        EV_TRY(ev_cbor_expect(&r, EV_CBOR_TEXT, &key, err));
        to = ev_slice_eq(key.data, EV_LIT("signing_certificate")) ? pem
           : ev_slice_eq(key.data, EV_LIT("signature")) ? cose : NULL;
        if (!to || to->n > 0)
            return damaged("an unknown or repeated key", err);
        EV_TRY(read_bytes(&r, to, err));
        seen++;
    }
    EV_TRY(rc);
    if (!ev_cbor_done(&r) || pem->n == 0 || cose->n == 0)
        return damaged("something is missing or follows", err);
    rc = 0;
out:
    return rc;
}

static int read_cose(ev_slice cose, ev_slice *head, ev_slice *payload, ev_slice *sig, struct ev_err *err)
{
    struct ev_cbor_reader r;
    struct ev_cbor_item item;
    int rc;

    ev_cbor_reader_init(&r, cose);
    EV_TRY(ev_cbor_next(&r, &item, err));
    if (item.type == EV_CBOR_TAG && item.value == TAG_COSE_SIGN1)
        EV_TRY(ev_cbor_next(&r, &item, err));
    if (item.type != EV_CBOR_ARRAY || item.indefinite || item.count != 4)
        return damaged("not a COSE_Sign1", err);
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_BYTES, &item, err));
    *head = item.data;
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_MAP, &item, err));
    if (item.indefinite || item.count != 0)
        return damaged("unprotected header fields", err);
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_BYTES, &item, err));
    *payload = item.data;
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_BYTES, &item, err));
    *sig = item.data;
    if (!ev_cbor_done(&r))
        return damaged("something follows the COSE_Sign1", err);
    rc = 0;
out:
    return rc;
}

static int demand_equal(ev_slice got, const struct ev_buf *want, const char *reason, const char *text,
                        struct ev_err *err)
{
    return ev_slice_eq(got, ev_buf_slice(want)) ? 0 : ev_fail_reason(err, EV_EVERIFY, reason, "%s", text);
}

/* Key's curve ↔ algorithm, payload ↔ PCR0, signature ↔ both. */
static int check_cose(ev_slice cose, const struct ev_key *key, const uint8_t pcr0[48], struct ev_err *err)
{
    struct ev_buf want_head = EV_BUF_INIT(16), want_payload = EV_BUF_INIT(PAYLOAD_MAX), tbs = EV_BUF_INIT(COSE_MAX);
    ev_slice head, payload, sig;
    int64_t alg = 0;
    int rc;

    EV_TRY(read_cose(cose, &head, &payload, &sig, err));
    EV_TRY(alg_of(key, &alg, err));
    EV_TRY(put_protected(&want_head, alg));
    EV_TRY(demand_equal(head, &want_head, "sign-algorithm",
                        "the algorithm is not the one of the certificate's curve", err));
    EV_TRY(put_payload(&want_payload, pcr0));
    EV_TRY(demand_equal(payload, &want_payload, "sign-pcr0", "the signature is over another image's PCR0", err));
    EV_TRY(ev_attest_put_tbs(&tbs, head, payload));
    rc = sig.n == ev_key_sig_len(key) ? ev_key_verify(key, ev_buf_slice(&tbs), sig, err) : EV_EVERIFY;
    if (rc < 0)
        rc = ev_fail_reason(err, EV_EVERIFY, "sign-signature", "the signature is not by the certificate's key");
out:
    ev_buf_fini(&want_head);
    ev_buf_fini(&want_payload);
    ev_buf_fini(&tbs);
    return rc;
}

int ev_image_check_signature(ev_slice section, const uint8_t pcr0[48], struct ev_cert **cert, struct ev_err *err)
{
    struct ev_buf pem = EV_BUF_INIT(EV_EIF_SIGNATURE_MAX), cose = EV_BUF_INIT(EV_EIF_SIGNATURE_MAX);
    struct ev_key *key = NULL;
    int rc;

    *cert = NULL;
    EV_TRY(read_section(section, &pem, &cose, err));
    EV_TRY(ev_cert_from_pem(ev_buf_slice(&pem), cert, err));
    EV_TRY(ev_cert_key(*cert, &key, err));
    EV_TRY(check_cose(ev_buf_slice(&cose), key, pcr0, err));
out:
    ev_key_free(key);
    ev_buf_fini(&pem);
    ev_buf_fini(&cose);
    return rc;
}
