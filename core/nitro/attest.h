/* attest.h — attestation documents: decode, verify, judge (spec nsm-attestation §3..§6, §9). */
#ifndef EV_NITRO_ATTEST_H
#define EV_NITRO_ATTEST_H

#include "base/buf.h"
#include "crypto/cert.h"

enum { EV_PCR_COUNT = 32, EV_PCR_LEN = 48, EV_ATTEST_DOC_MAX = 32768 };

struct ev_pcrs {
    uint32_t present;                               /* bit i = PCR i is set */
    uint8_t value[EV_PCR_COUNT][EV_PCR_LEN];
};

struct ev_trust {
    struct ev_cert **roots;                         /* owned */
    size_t n_roots;
    bool development;                               /* a root given by the user, not AWS's */
};
/* AWS root G1, compiled in. */
int ev_trust_default(struct ev_trust *t, struct ev_err *err) EV_MUST_USE;
/* Only the certificates of this PEM text (one or more): the default root is NOT added. */
int ev_trust_from_pem(struct ev_trust *t, ev_slice pem, struct ev_err *err) EV_MUST_USE;
void ev_trust_fini(struct ev_trust *t);

/* What the caller demands. Without at least one PCR set, `any_measurement` must be true. */
struct ev_expect {
    const struct ev_pcrs *sets;                     /* one WHOLE set must match */
    size_t n_sets;
    bool any_measurement;
    bool allow_debug;
    bool has_user_data, has_nonce, has_public_key;
    ev_slice user_data, nonce, public_key;
    int64_t at_ms;                                  /* validation time */
    int64_t max_age_ms;                             /* 0 = no bound on at - timestamp */
    int64_t future_skew_ms;                         /* bound on timestamp - at; 0 = 5 minutes */
};

struct ev_attest {
    char module_id[128];
    char digest[16];
    int64_t timestamp_ms;
    struct ev_pcrs pcrs;
    bool has_user_data, has_nonce, has_public_key;  /* null and absent are both false */
    struct ev_buf user_data, nonce, public_key;
    bool debug;                                     /* PCR0, 1, 2 all zero */
    int64_t not_before_ms, not_after_ms;            /* window in which the whole chain is valid */
    struct ev_cert *leaf;
};

void ev_attest_fini(struct ev_attest *a);           /* idempotent; zeroed struct is fine */

/* Authenticity, then policy; everything judged from one decode. `out` is overwritten (ev_attest_fini
 * it before a second use) and filled as far as decoding came, also on failure (for reports); with
 * unusable expectations nothing is decoded. An expected empty slice is unusable. On failure
 * err->code = EV_EVERIFY (or EV_ECONFIG for unusable expectations) and err->reason is one of:
 * doc-size doc-cbor doc-cose doc-alg doc-payload cert-* doc-signature doc-timestamp no-expectation
 * debug pcr-missing pcr-mismatch nonce user-data public-key too-old. */
int ev_attest_verify(ev_slice doc, const struct ev_trust *trust, const struct ev_expect *expect,
                     struct ev_attest *out, struct ev_err *err) EV_MUST_USE;

/* Finds the document in a cage's certificate: the longest first label of the SAN DNS names, hex.
 * Appends to `doc`. Reasons: doc-missing, doc-size. */
int ev_attest_from_cert(const struct ev_cert *cert, struct ev_buf *doc, struct ev_err *err) EV_MUST_USE;

#endif
