/* attest_decode.h — an attestation document taken apart, before any cryptography.
 *
 * Between attest_decode.c and attest.c; the limits and what is signed also for those who write such
 * documents (nsm_sim.c, image_sign.c). Nothing that comes out of here is to be believed: only
 * ev_attest_verify says that. */
#ifndef EV_NITRO_ATTEST_DECODE_H
#define EV_NITRO_ATTEST_DECODE_H

#include "nitro/attest.h"

enum {
    EV_ATTEST_BUNDLE_MAX = 8,           /* certificates above the leaf; real documents have 4 */
    EV_ATTEST_FIELD_MAX = 1024,         /* certificate, user_data, nonce, public_key */
    EV_ATTEST_PAYLOAD_MAX = 16384,
    EV_ATTEST_SIG_LEN = 96,             /* r then s */
    EV_ATTEST_TBS_MAX = EV_ATTEST_PAYLOAD_MAX + 64,
};

/* Slices borrow from the document. */
struct ev_attest_parts {
    ev_slice protected_header;          /* content of the byte string, as received */
    ev_slice payload;                   /* as received: this is what is signed */
    ev_slice signature;
    ev_slice certificate;               /* the leaf, DER */
    ev_slice bundle[EV_ATTEST_BUNDLE_MAX];      /* in the document's order: root first */
    size_t n_bundle;
};

/* Zeroes both, then fills them as far as it came. Failure is EV_EVERIFY with one of the reasons
 * doc-size, doc-cbor, doc-cose, doc-alg, doc-payload. */
int ev_attest_decode(ev_slice doc, struct ev_attest_parts *parts, struct ev_attest *out,
                     struct ev_err *err) EV_MUST_USE;

/* What a COSE_Sign1 signature is over, a document's or an image's: ["Signature1", protected, h'', payload]. */
int ev_attest_put_tbs(struct ev_buf *out, ev_slice protected_header, ev_slice payload) EV_MUST_USE;

/* Fails with EV_EVERIFY and a reason; for attest*.c. */
int ev_attest_refuse(struct ev_err *err, const char *reason, const char *fmt, ...) EV_PRINTF(3, 4);

#endif
