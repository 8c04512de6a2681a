/* attested.h — what a client of a cage does: takes the document out of the leaf certificate, verifies it,
 * and demands that it speaks of that certificate's key. */
#ifndef TESTS_ATTESTED_H
#define TESTS_ATTESTED_H

#include "nitro/attest.h"

/* `want` without user_data; `got` is the caller's to end, also on failure. */
static inline int attested_leaf(const struct ev_cert *leaf, struct ev_cert *root, struct ev_expect want,
                                struct ev_attest *got, struct ev_err *err)
{
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX), spki = EV_BUF_INIT(4096);
    struct ev_trust trust = { &root, 1, true };
    struct ev_key *key = NULL;
    int rc;

    memset(got, 0, sizeof *got);
    EV_TRY(ev_attest_from_cert(leaf, &doc, err));
    EV_TRY(ev_cert_key(leaf, &key, err));
    EV_TRY(ev_key_spki(key, &spki, err));
    want.has_user_data = true;
    want.user_data = ev_buf_slice(&spki);
    EV_TRY(ev_attest_verify(ev_buf_slice(&doc), &trust, &want, got, err));
    if (ev_key_curve(key) != EV_P256)
        rc = ev_fail(err, EV_EVERIFY, "not a key on P-256");
out:
    ev_key_free(key);
    ev_buf_fini(&doc);
    ev_buf_fini(&spki);
    return rc;
}

#endif
