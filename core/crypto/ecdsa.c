/* ecdsa.c — ECDSA with a deterministic nonce (RFC 6979).
 *
 * OpenSSL 3.0 cannot be told to use one, so signing is done here: nonce by HMAC, R = kG, and
 * s = (h + r d) / k in Montgomery form. What depends on k or d runs in OpenSSL's constant-time
 * functions: EC_POINT_mul of the generator (ladder or nistz256), BN_mod_exp_mont_consttime for the
 * inverse (Fermat, the order is prime), Montgomery products of fixed width. Every secret number is
 * cleared. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <pthread.h>

#include "crypto/ossl.h"

enum { NONCE_TRIES = 64 };      /* each fails with a chance below 2^-32 */

/* Groups and what Montgomery arithmetic modulo their order needs; made once, shared, read only. */
static struct field {
    EC_GROUP *group;
    BN_MONT_CTX *mont;
    BIGNUM *minus2;             /* order - 2 */
} fields[EV_CURVE_OTHER];
static pthread_once_t fields_once = PTHREAD_ONCE_INIT;

/* ---- RFC 6979 ---- */

static void make_fields(void)
{
    for (int i = 0; i < EV_CURVE_OTHER; i++) {
        struct field *f = &fields[i];
        const BIGNUM *n;
        BN_CTX *ctx = BN_CTX_new();

        f->group = EC_GROUP_new_by_curve_name(ev_curve_nid((enum ev_curve)i));
        n = f->group ? EC_GROUP_get0_order(f->group) : NULL;
        f->mont = BN_MONT_CTX_new();
        f->minus2 = n ? BN_dup(n) : NULL;
        if (!ctx || !f->mont || !f->minus2 || !BN_MONT_CTX_set(f->mont, n, ctx) || !BN_sub_word(f->minus2, 2)) {
            BN_MONT_CTX_free(f->mont);
            f->mont = NULL;                     /* signing on this curve then fails */
        }
        BN_CTX_free(ctx);
    }
}

/* The generator of nonces: HMAC with key K over V, and the numbers of this signature. */
struct nonce {
    const EVP_MD *md;
    size_t hash, width;         /* bytes of a digest, of a number below the order */
    const BIGNUM *order;
    uint8_t k[EV_DIGEST_MAX], v[EV_DIGEST_MAX];
};

static int mac(struct nonce *g, const uint8_t *data, size_t n, uint8_t *out)
{
    unsigned len = 0;

    return HMAC(g->md, g->k, (int)g->hash, data, n, out, &len) ? 0 : EV_ECRYPTO;
}

/* K = HMAC_K(V || mark || seed), V = HMAC_K(V). */
static int nonce_mix(struct nonce *g, uint8_t mark, const uint8_t *seed, size_t n)
{
    uint8_t data[EV_DIGEST_MAX + 1 + EV_SIG_RAW_MAX];
    int rc = 0;

    memcpy(data, g->v, g->hash);
    data[g->hash] = mark;
    if (n > 0)
        memcpy(data + g->hash + 1, seed, n);
    EV_TRY(mac(g, data, g->hash + 1 + n, g->k));
    EV_TRY(mac(g, g->v, g->hash, g->v));
out:
    ev_wipe(data, sizeof data);
    return rc;
}

/* bits2int: the leftmost bits of `p`, as many as the order has. */
static int leftmost(BIGNUM *out, const uint8_t *p, size_t n, const BIGNUM *order)
{
    int bits = BN_num_bits(order), have = (int)n * 8;

    if (!BN_bin2bn(p, (int)n, out) || (have > bits && !BN_rshift(out, out, have - bits)))
        return EV_ECRYPTO;
    return 0;
}

static int nonce_start(struct nonce *g, const BIGNUM *d, const BIGNUM *hash_mod_order)
{
    uint8_t seed[EV_SIG_RAW_MAX];
    int rc = 0;

    memset(g->v, 1, g->hash);
    memset(g->k, 0, g->hash);
    if (BN_bn2binpad(d, seed, (int)g->width) < 0 ||
        BN_bn2binpad(hash_mod_order, seed + g->width, (int)g->width) < 0)
        rc = EV_ECRYPTO;
    EV_TRY(rc);
    EV_TRY(nonce_mix(g, 0, seed, 2 * g->width));
    EV_TRY(nonce_mix(g, 1, seed, 2 * g->width));
out:
    ev_wipe(seed, sizeof seed);
    return rc;
}

/* The next candidate; 1 when it is in 1 .. order - 1, 0 when another has to be drawn. */
static int nonce_draw(struct nonce *g, BIGNUM *k)
{
    uint8_t t[EV_SIG_RAW_MAX];
    size_t n = 0;
    int rc = 0;

    for (; n < g->width; n += g->hash) {
        EV_TRY(mac(g, g->v, g->hash, g->v));
        memcpy(t + n, g->v, g->hash);
    }
    EV_TRY(leftmost(k, t, n, g->order));
    rc = !BN_is_zero(k) && BN_cmp(k, g->order) < 0;
out:
    ev_wipe(t, sizeof t);
    return rc;
}

/* ---- signing ---- */

struct signing {
    const struct field *f;
    const BIGNUM *order;
    BN_CTX *ctx;
    BIGNUM *d, *h, *k, *inv, *r, *s;
    EC_POINT *point;
};

static void signing_fini(struct signing *x)
{
    BN_clear_free(x->d);
    BN_clear_free(x->k);
    BN_clear_free(x->inv);
    BN_clear_free(x->s);
    BN_free(x->r);
    BN_free(x->h);
    EC_POINT_clear_free(x->point);
    BN_CTX_free(x->ctx);                        /* secure: cleared */
}

static bool signing_init(struct signing *x, EVP_PKEY *pkey, enum ev_curve curve)
{
    if (pthread_once(&fields_once, make_fields) != 0 || !fields[curve].mont)
        return false;
    x->f = &fields[curve];
    x->order = EC_GROUP_get0_order(x->f->group);
    x->ctx = BN_CTX_secure_new();
    x->h = BN_new();
    x->r = BN_new();
    x->k = BN_secure_new();
    x->inv = BN_secure_new();
    x->s = BN_secure_new();
    x->point = EC_POINT_new(x->f->group);
    if (!x->ctx || !x->h || !x->r || !x->k || !x->inv || !x->s || !x->point ||
        EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &x->d) != 1)
        return false;
    BN_set_flags(x->d, BN_FLG_CONSTTIME);
    BN_set_flags(x->k, BN_FLG_CONSTTIME);
    BN_set_flags(x->inv, BN_FLG_CONSTTIME);
    return true;
}

/* r and s for the nonce x->k; 1, 0 when one of them is zero, negative on failure. */
static int signing_pair(struct signing *x)
{
    BN_MONT_CTX *mont = x->f->mont;

    if (!EC_POINT_mul(x->f->group, x->point, x->k, NULL, NULL, x->ctx) ||
        !EC_POINT_get_affine_coordinates(x->f->group, x->point, x->r, NULL, x->ctx) ||
        !BN_nnmod(x->r, x->r, x->order, x->ctx) ||
        !BN_mod_exp_mont_consttime(x->inv, x->k, x->f->minus2, x->order, x->ctx, mont))
        return EV_ECRYPTO;
    /* One factor in Montgomery form and one not: the product is an ordinary number. */
    if (!BN_to_montgomery(x->s, x->r, mont, x->ctx) ||
        !BN_mod_mul_montgomery(x->s, x->s, x->d, mont, x->ctx) ||
        !BN_mod_add_quick(x->s, x->s, x->h, x->order) ||
        !BN_to_montgomery(x->s, x->s, mont, x->ctx) ||
        !BN_mod_mul_montgomery(x->s, x->s, x->inv, mont, x->ctx))
        return EV_ECRYPTO;
    return !BN_is_zero(x->r) && !BN_is_zero(x->s);
}

static int signing_run(struct signing *x, struct nonce *g)
{
    int rc = 0;

    EV_TRY(nonce_start(g, x->d, x->h));
    for (int i = 0; i < NONCE_TRIES; i++) {
        EV_TRY(nonce_draw(g, x->k));
        if (rc == 1) {
            EV_TRY(signing_pair(x));
            if (rc == 1)
                return 0;
        }
        EV_TRY(nonce_mix(g, 0, NULL, 0));
    }
    rc = EV_ECRYPTO;
out:
    return rc;
}

int ev_ecdsa_sign(EVP_PKEY *pkey, enum ev_curve curve, size_t width, ev_slice msg, uint8_t *sig)
{
    enum ev_digest_alg alg = ev_curve_digest(curve);
    struct nonce g = { .md = ev_digest_md(alg), .hash = ev_digest_len(alg), .width = width };
    struct signing x = {0};
    uint8_t hash[EV_DIGEST_MAX];
    int rc = 0;

    ev_digest_once(alg, msg, hash);
    if (!signing_init(&x, pkey, curve))
        rc = EV_ECRYPTO;
    EV_TRY(rc);
    g.order = x.order;
    EV_TRY(leftmost(x.h, hash, g.hash, x.order));
    if (!BN_nnmod(x.h, x.h, x.order, x.ctx))
        rc = EV_ECRYPTO;
    EV_TRY(rc);
    EV_TRY(signing_run(&x, &g));
    if (BN_bn2binpad(x.r, sig, (int)width) < 0 || BN_bn2binpad(x.s, sig + width, (int)width) < 0)
        rc = EV_ECRYPTO;
out:
    ev_wipe(&g, sizeof g);
    signing_fini(&x);
    return rc;
}
