/* auth.c — see auth.h. */
#include "svc/auth.h"

#include "crypto/digest.h"

static bool accepted(ev_slice key, uint8_t (*digests)[64], size_t n)
{
    uint8_t digest[EV_DIGEST_MAX];
    unsigned hits = 0;

    ev_digest_once(EV_SHA512, key, digest);
    for (size_t i = 0; i < n; i++)
        hits |= ev_slice_eq_ct(ev_slice_of(digest, 64), ev_slice_of(digests[i], 64));
    ev_wipe(digest, sizeof digest);
    return hits;
}

enum ev_auth ev_auth_check(const struct ev_http1_head *h, uint8_t (*digests)[64], size_t n)
{
    ev_slice key, other;
    size_t i = 0;

    if (!ev_http1_find(h, "api-key", &i, &key))
        return EV_AUTH_NO_KEY;
    if (ev_http1_find(h, "api-key", &i, &other))
        return EV_AUTH_WRONG_KEY;
    return accepted(key, digests, n) ? EV_AUTH_OK : EV_AUTH_WRONG_KEY;
}

const char *ev_auth_message(enum ev_auth verdict)
{
    return verdict == EV_AUTH_NO_KEY ? "No api-key header present on request" : "Invalid api key provided";
}
