/* evstr_internal.h — what evstr*.c share: key agreement and its cache, the application's state,
 * AES-GCM, metadata. */
#ifndef EV_CRYPTO_EVSTR_INTERNAL_H
#define EV_CRYPTO_EVSTR_INTERNAL_H

#include <openssl/ec.h>

#include "crypto/evstr.h"
#include "crypto/ossl.h"

enum { EVSTR_KEY = 32 };

/* An application's key on one curve. `d` is NULL for a public one; `group` for none at all. */
struct evstr_side {
    EC_GROUP *group;
    BIGNUM *d;
    EC_POINT *q;
    uint8_t pub[EV_EVSTR_POINT];
    ev_slice prefix;                /* of the ephemeral key's DER form in the KDF */
};

/* Both keys that a shared point gives; versions use one or the other. */
struct evstr_keys {
    uint8_t raw[EVSTR_KEY];         /* x of the shared point */
    uint8_t kdf[EVSTR_KEY];
};

/* An ephemeral key of our own, used for many values. */
struct evstr_own {
    bool ready;
    int64_t born_ms;
    uint32_t uses;
    uint8_t pub[EV_EVSTR_POINT];
    struct evstr_keys keys;
};

int evstr_side_init(struct evstr_side *s, const struct ev_key *k, struct ev_err *err) EV_MUST_USE;
void evstr_side_fini(struct evstr_side *s);
/* EV_EPARSE: the bytes are no point of the curve. */
int evstr_derive(const struct evstr_side *s, const uint8_t *ephemeral, struct evstr_keys *out) EV_MUST_USE;
int evstr_own_refresh(struct evstr_own *own, const struct evstr_side *s) EV_MUST_USE;

struct evstr_cache;
struct evstr_cache *evstr_cache_new(size_t entries);
void evstr_cache_free(struct evstr_cache *c);
/* Borrowed until the next put; NULL: not there. `slot` names it until it is evicted. */
const struct evstr_keys *evstr_cache_get(struct evstr_cache *c, bool k1, const uint8_t *ephemeral, uint32_t *slot);
/* Must not be there yet. → its slot; what was in that slot is gone. */
uint32_t evstr_cache_put(struct evstr_cache *c, bool k1, const uint8_t *ephemeral, const struct evstr_keys *keys);

/* ---- application (evstr.c) ---- */

struct ev_evapp {
    struct evstr_side side[2];      /* [0] P-256, [1] secp256k1 */
    struct evstr_own own[2];
    struct evstr_cache *cache;
    EVP_CIPHER *gcm;
    EVP_CIPHER_CTX *open, *seal;
    uint32_t keyed;                 /* slot whose key `open` has been given, UINT32_MAX: none */
    bool keyed_kdf;
    uint64_t derived;
    bool debug;
    struct ev_buf coded;            /* bytes of the value at work: sealed, */
    struct ev_buf scratch;          /* and plain; wiped after it */
};

/* How one value or file is sealed. */
struct evstr_seal {
    bool k1, kdf;
    const uint8_t *iv, *ephemeral;
    uint8_t aad[1 + 2 * EV_EVSTR_POINT];
    size_t n_aad;
};

int evstr_fail(struct ev_err *err, int code, const char *reason, const char *what);
/* Appends the content of `sealed` (tag behind it) to `out`; on failure `out` is as it was. Goes
 * through the cache. */
int evstr_open(struct ev_evapp *app, const struct evstr_seal *seal, ev_slice sealed, struct ev_buf *out,
               struct ev_err *err) EV_MUST_USE;
/* Appends ciphertext and tag. */
int evstr_close(struct ev_evapp *app, const struct evstr_seal *seal, const struct evstr_keys *keys, ev_slice plain,
                struct ev_buf *out, struct ev_err *err) EV_MUST_USE;

/* ---- metadata and values (evstr_value.c) ---- */

int evstr_meta_read(ev_slice msgpack, struct ev_evstr_meta *out) EV_MUST_USE;
int evstr_meta_put(struct ev_buf *out, const struct ev_evstr_meta *m) EV_MUST_USE;
bool evstr_value_ok(enum ev_evstr_type type, ev_slice text);

#endif
