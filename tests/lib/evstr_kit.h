/* evstr_kit.h — an application's keys and the shortest way to decrypt, for the tests of encrypted strings. */
#ifndef TESTS_EVSTR_KIT_H
#define TESTS_EVSTR_KIT_H

#include <stdlib.h>

#include "codec/text.h"
#include "crypto/evstr_internal.h"
#include "tap.h"

/* The private key of the specification's vectors, on either curve. */
#define ONES "1111111111111111111111111111111111111111111111111111111111111111"

static struct ev_key *keys[2];      /* [0] P-256, [1] secp256k1: the application */

static inline struct ev_key *key_hex(enum ev_curve curve, ev_slice hex)
{
    struct ev_key *k = NULL;
    uint8_t raw[66];
    int n = ev_hex_decode(hex, raw, sizeof raw);

    return n > 0 && ev_key_from_scalar(curve, ev_slice_of(raw, (size_t)n), &k, NULL) == 0 ? k : NULL;
}

static inline struct ev_evapp *app_of(const struct ev_key *p256, const struct ev_key *k1, bool debug, size_t cache)
{
    struct ev_evapp_conf conf = { p256, k1, debug, cache };
    struct ev_evapp *app = NULL;

    if (ev_evapp_new(&conf, &app, NULL) < 0)
        exit(2);
    return app;
}

static inline int decrypt(struct ev_evapp *app, ev_slice text, struct ev_buf *out, struct ev_evstr_meta *meta,
                          struct ev_err *err)
{
    struct ev_evstr s;

    ev_buf_clear(out);
    if (ev_evstr_parse(text, &s) != EV_EVSTR_MATCH || s.whole.n != text.n)
        return ev_fail_reason(err, EV_EPARSE, "not-a-ciphertext", "not an encrypted string");
    return ev_evstr_decrypt(app, &s, out, meta, err);
}

#endif
