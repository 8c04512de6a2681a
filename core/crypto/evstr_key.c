/* evstr_key.c — key agreement of encrypted strings, and the cache in front of it.
 *
 * Chosen: EC_POINT_oct2point and EC_POINT_mul rather than EVP_PKEY_derive. They are not deprecated
 * in OpenSSL 3.0 (EC_KEY is), run in constant time for one secret number (ladder; nistz256 on
 * P-256), and take 86 us for a whole field where EVP takes 194, because EVP multiplies the peer's
 * point by the order once more to validate it. Decoding proves that the point is on the curve, both
 * curves have cofactor 1, and a compressed point cannot be infinity, so nothing is lost.
 *
 * A client uses one ephemeral key for many values, so the keys derived from it are kept: a table
 * with chains, threaded by a list in order of use. Ephemeral keys are chosen by strangers; the hash
 * is multiplied by secret numbers so that they cannot fill one chain. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <time.h>

#include "crypto/evstr_internal.h"

enum {
    OWN_LIFE_MS = 15000,            /* as the SDKs do */
    OWN_USES = 1 << 20,             /* random 96-bit IVs: far below where two could meet */
    NONE = UINT32_MAX
};

/* SubjectPublicKeyInfo with the curve spelled out, up to the point. */
static const uint8_t prefix_p256[] =
    "\x30\x82\x01\x4b\x30\x82\x01\x03\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x30\x81\xf7\x02\x01\x01\x30\x2c\x06\x07\x2a"
    "\x86\x48\xce\x3d\x01\x01\x02\x21\x00\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x30\x5b\x04\x20\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfc\x04\x20\x5a\xc6\x35\xd8\xaa"
    "\x3a\x93\xe7\xb3\xeb\xbd\x55\x76\x98\x86\xbc\x65\x1d\x06\xb0\xcc\x53\xb0\xf6\x3b\xce\x3c\x3e\x27\xd2\x60\x4b\x03"
    "\x15\x00\xc4\x9d\x36\x08\x86\xe7\x04\x93\x6a\x66\x78\xe1\x13\x9d\x26\xb7\x81\x9f\x7e\x90\x04\x41\x04\x6b\x17\xd1"
    "\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2"
    "\x96\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40"
    "\x68\x37\xbf\x51\xf5\x02\x21\x00\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad"
    "\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51\x02\x01\x01\x03\x42\x00";
static const uint8_t prefix_k1[] =
    "\x30\x82\x01\x33\x30\x81\xec\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x30\x81\xe0\x02\x01\x01\x30\x2c\x06\x07\x2a\x86"
    "\x48\xce\x3d\x01\x01\x02\x21\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    "\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xfc\x2f\x30\x44\x04\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x20\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x04\x41"
    "\x04\x79\xbe\x66\x7e\xf9\xdc\xbb\xac\x55\xa0\x62\x95\xce\x87\x0b\x07\x02\x9b\xfc\xdb\x2d\xce\x28\xd9\x59\xf2\x81"
    "\x5b\x16\xf8\x17\x98\x48\x3a\xda\x77\x26\xa3\xc4\x65\x5d\xa4\xfb\xfc\x0e\x11\x08\xa8\xfd\x17\xb4\x48\xa6\x85\x54"
    "\x19\x9c\x47\xd0\x8f\xfb\x10\xd4\xb8\x02\x21\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"
    "\xba\xae\xdc\xe6\xaf\x48\xa0\x3b\xbf\xd2\x5e\x8c\xd0\x36\x41\x41\x02\x01\x01\x03\x42\x00";

/* ---- agreement ---- */

int evstr_side_init(struct evstr_side *s, const struct ev_key *k, struct ev_err *err)
{
    enum ev_curve curve = ev_key_curve(k);
    uint8_t point[EV_POINT_MAX];
    int rc = 0;

    if (curve == EV_P256)
        s->prefix = ev_slice_of(prefix_p256, sizeof prefix_p256 - 1);
    else if (curve == EV_SECP256K1)
        s->prefix = ev_slice_of(prefix_k1, sizeof prefix_k1 - 1);
    else
        return ev_fail(err, EV_EUSAGE, "an application's key is on P-256 or secp256k1");
    EV_TRY(ev_key_point(k, true, point));
    memcpy(s->pub, point, sizeof s->pub);
    s->group = EC_GROUP_new_by_curve_name(ev_curve_nid(curve));
    s->q = s->group ? EC_POINT_new(s->group) : NULL;
    if (!s->q || !EC_POINT_oct2point(s->group, s->q, s->pub, sizeof s->pub, NULL) ||
        (ev_key_is_private(k) &&
         EVP_PKEY_get_bn_param(ev_key_pkey(k), OSSL_PKEY_PARAM_PRIV_KEY, &s->d) != 1))
        rc = EV_ECRYPTO;
    EV_TRY(rc);
    if (s->d)
        BN_set_flags(s->d, BN_FLG_CONSTTIME);
out:
    return rc < 0 ? ev_ossl_fail(err, rc, "application's key") : 0;
}

void evstr_side_fini(struct evstr_side *s)
{
    BN_clear_free(s->d);
    EC_POINT_free(s->q);
    EC_GROUP_free(s->group);
    *s = (struct evstr_side){0};
}

/* Keys out of the shared point: d times `peer`, where `own` is the point of the ephemeral key. */
static int agree(const struct evstr_side *s, const BIGNUM *d, const EC_POINT *peer, const EC_POINT *own,
                 struct evstr_keys *out)
{
    static const uint8_t counter[4] = { 0, 0, 0, 1 };
    EC_POINT *shared = EC_POINT_new(s->group);
    BN_CTX *ctx = BN_CTX_secure_new();
    BIGNUM *x = BN_secure_new();
    uint8_t full[2 * EVSTR_KEY + 1];
    struct ev_digest *h;
    int rc = EV_ECRYPTO;

    if (!shared || !ctx || !x || !EC_POINT_mul(s->group, shared, NULL, peer, d, ctx) ||
        !EC_POINT_get_affine_coordinates(s->group, shared, x, NULL, ctx) ||
        BN_bn2binpad(x, out->raw, EVSTR_KEY) != EVSTR_KEY ||
        EC_POINT_point2oct(s->group, own, POINT_CONVERSION_UNCOMPRESSED, full, sizeof full, ctx) != sizeof full)
        goto out;
    h = ev_digest_new(EV_SHA256);
    ev_digest_update(h, out->raw, EVSTR_KEY);
    ev_digest_update(h, counter, sizeof counter);
    ev_digest_update(h, s->prefix.p, s->prefix.n);
    ev_digest_update(h, full, sizeof full);
    ev_digest_final(h, out->kdf);
    ev_digest_free(h);
    rc = 0;
out:
    EC_POINT_clear_free(shared);
    BN_clear_free(x);
    BN_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}

int evstr_derive(const struct evstr_side *s, const uint8_t *ephemeral, struct evstr_keys *out)
{
    EC_POINT *peer = EC_POINT_new(s->group);
    int rc;

    if (!peer || (ephemeral[0] != 2 && ephemeral[0] != 3) ||
        !EC_POINT_oct2point(s->group, peer, ephemeral, EV_EVSTR_POINT, NULL)) {
        ERR_clear_error();
        rc = EV_EPARSE;
    } else {
        rc = agree(s, s->d, peer, peer, out);
    }
    EC_POINT_free(peer);
    return rc;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int evstr_own_refresh(struct evstr_own *own, const struct evstr_side *s)
{
    int64_t now = now_ms();
    EC_POINT *point = NULL;
    BIGNUM *k = NULL;
    int rc = EV_ECRYPTO;

    if (own->ready && now - own->born_ms < OWN_LIFE_MS && own->uses < OWN_USES)
        return 0;
    ev_wipe(own, sizeof *own);
    point = EC_POINT_new(s->group);
    k = BN_secure_new();
    if (!point || !k || !BN_priv_rand_range(k, EC_GROUP_get0_order(s->group)) || BN_is_zero(k))
        goto out;
    BN_set_flags(k, BN_FLG_CONSTTIME);
    if (!EC_POINT_mul(s->group, point, k, NULL, NULL, NULL) ||
        EC_POINT_point2oct(s->group, point, POINT_CONVERSION_COMPRESSED, own->pub, sizeof own->pub, NULL) !=
            sizeof own->pub)
        goto out;
    EV_TRY(agree(s, k, s->q, point, &own->keys));
    own->ready = true;
    own->born_ms = now;
out:
    EC_POINT_clear_free(point);
    BN_clear_free(k);
    ERR_clear_error();
    return rc;
}

/* ---- cache ---- */

struct entry {
    struct evstr_keys keys;
    uint8_t ephemeral[EV_EVSTR_POINT];
    bool k1;
    uint32_t chain;                 /* next in the same bucket */
    uint32_t newer, older;
};

struct evstr_cache {
    uint64_t secret[5];
    uint32_t n, used, newest, oldest, mask;
    size_t allocated;
    uint32_t *bucket;
    struct entry *entry;
};

struct evstr_cache *evstr_cache_new(size_t entries)
{
    struct evstr_cache *c = ev_alloc(sizeof *c);
    size_t buckets = 16;

    while (buckets < entries * 2)
        buckets *= 2;
    c->n = (uint32_t)entries;
    c->allocated = entries;
    c->mask = (uint32_t)buckets - 1;
    c->newest = c->oldest = NONE;
    c->bucket = ev_alloc(buckets * sizeof *c->bucket);
    c->entry = ev_alloc(entries * sizeof *c->entry);
    memset(c->bucket, 0xFF, buckets * sizeof *c->bucket);
    if (ev_random(c->secret, sizeof c->secret) < 0)
        c->n = 0;                   /* nothing is kept */
    return c;
}

void evstr_cache_free(struct evstr_cache *c)
{
    if (!c)
        return;
    ev_wipe(c->entry, c->allocated * sizeof *c->entry);
    ev_free(c->entry);
    ev_free(c->bucket);
    ev_free(c);
}

static uint32_t *bucket_of(const struct evstr_cache *c, bool k1, const uint8_t *ephemeral)
{
    uint64_t h = (uint64_t)(ephemeral[0] + 4 * k1) * (c->secret[4] | 1), w;

    for (int i = 0; i < 4; i++) {
        memcpy(&w, ephemeral + 1 + 8 * i, sizeof w);
        h += (w ^ w >> 32) * (c->secret[i] | 1);
    }
    return &c->bucket[(h >> 40) & c->mask];
}

static void list_remove(struct evstr_cache *c, uint32_t i)
{
    struct entry *e = &c->entry[i];

    *(e->newer == NONE ? &c->newest : &c->entry[e->newer].older) = e->older;
    *(e->older == NONE ? &c->oldest : &c->entry[e->older].newer) = e->newer;
}

static void list_front(struct evstr_cache *c, uint32_t i)
{
    struct entry *e = &c->entry[i];

    e->newer = NONE;
    e->older = c->newest;
    *(c->newest == NONE ? &c->oldest : &c->entry[c->newest].newer) = i;
    c->newest = i;
}

const struct evstr_keys *evstr_cache_get(struct evstr_cache *c, bool k1, const uint8_t *ephemeral, uint32_t *slot)
{
    uint32_t i = *bucket_of(c, k1, ephemeral);

    for (; i != NONE; i = c->entry[i].chain) {
        if (c->entry[i].k1 == k1 && memcmp(c->entry[i].ephemeral, ephemeral, EV_EVSTR_POINT) == 0)
            break;
    }
    *slot = i;
    if (i == NONE)
        return NULL;
    if (c->newest != i) {
        list_remove(c, i);
        list_front(c, i);
    }
    return &c->entry[i].keys;
}

/* Takes the oldest out of its bucket and of the list. */
static uint32_t evict(struct evstr_cache *c)
{
    uint32_t i = c->oldest, *at = bucket_of(c, c->entry[i].k1, c->entry[i].ephemeral);

    while (*at != i)
        at = &c->entry[*at].chain;
    *at = c->entry[i].chain;
    list_remove(c, i);
    ev_wipe(&c->entry[i], sizeof c->entry[i]);
    return i;
}

uint32_t evstr_cache_put(struct evstr_cache *c, bool k1, const uint8_t *ephemeral, const struct evstr_keys *keys)
{
    uint32_t i, *bucket;

    if (c->n == 0)
        return NONE;
    i = c->used < c->n ? c->used++ : evict(c);
    bucket = bucket_of(c, k1, ephemeral);
    c->entry[i].keys = *keys;
    c->entry[i].k1 = k1;
    memcpy(c->entry[i].ephemeral, ephemeral, EV_EVSTR_POINT);
    c->entry[i].chain = *bucket;
    *bucket = i;
    list_front(c, i);
    return i;
}
