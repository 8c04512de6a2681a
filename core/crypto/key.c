/* key.c — keys over EVP_PKEY: made, read, written, compared. Signing is in ecdsa.c, because OpenSSL
 * 3.0 has no deterministic one; verification is OpenSSL's. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <stdatomic.h>

#include "crypto/ossl.h"

enum { PEM_MAX = 64 * 1024 };   /* bytes of a key file */

struct ev_key {
    atomic_int refs;
    EVP_PKEY *pkey;
    enum ev_curve curve;
    bool private;
};

static const struct curve {
    const char *name;
    int nid;
    enum ev_digest_alg digest;
    size_t width;               /* bytes of r and of s */
} curves[] = {
    [EV_P256] = { "prime256v1", NID_X9_62_prime256v1, EV_SHA256, 32 },
    [EV_P384] = { "secp384r1", NID_secp384r1, EV_SHA384, 48 },
    [EV_P521] = { "secp521r1", NID_secp521r1, EV_SHA512, 66 },
    [EV_SECP256K1] = { "secp256k1", NID_secp256k1, EV_SHA256, 32 },
};

int ev_ossl_fail(struct ev_err *err, int code, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;

    ERR_clear_error();
    return why ? ev_fail(err, code, "%s: %s", what, why) : ev_fail(err, code, "%s", what);
}

enum ev_digest_alg ev_curve_digest(enum ev_curve curve)
{
    return curves[curve].digest;
}

int ev_curve_nid(enum ev_curve curve)
{
    return curve < EV_CURVE_OTHER ? curves[curve].nid : NID_undef;
}

/* ---- making and reading keys ---- */

static enum ev_curve curve_of(EVP_PKEY *pkey)
{
    char name[64];
    int explicit = 0;

    if (!EVP_PKEY_is_a(pkey, "EC") || EVP_PKEY_get_group_name(pkey, name, sizeof name, NULL) != 1)
        return EV_CURVE_OTHER;
    /* Parameters that were spelled out are not a named curve, even when they are the same. */
    if (EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit) != 1 || explicit)
        return EV_CURVE_OTHER;
    for (size_t i = 0; i < EV_COUNT(curves); i++) {
        if (strcmp(name, curves[i].name) == 0)
            return (enum ev_curve)i;
    }
    return EV_CURVE_OTHER;
}

static bool has_private(EVP_PKEY *pkey)
{
    BIGNUM *d = NULL;
    bool yes;

    if (EVP_PKEY_is_a(pkey, "EC"))
        yes = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1;
    else if (EVP_PKEY_is_a(pkey, "RSA"))
        yes = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_D, &d) == 1;
    else {
        size_t n = 0;

        yes = EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, NULL, 0, &n) == 1;
    }
    BN_clear_free(d);
    ERR_clear_error();
    return yes;
}

int ev_key_adopt(EVP_PKEY *take_pkey, struct ev_key **out, struct ev_err *err)
{
    struct ev_key *k;

    *out = NULL;
    if (!take_pkey)
        return ev_ossl_fail(err, EV_ECRYPTO, "key");
    k = ev_alloc(sizeof *k);
    atomic_init(&k->refs, 1);
    k->pkey = take_pkey;
    k->curve = curve_of(take_pkey);
    k->private = has_private(take_pkey);
    ERR_clear_error();
    *out = k;
    return 0;
}

int ev_key_generate(enum ev_curve curve, struct ev_key **out, struct ev_err *err)
{
    *out = NULL;
    if (curve >= EV_CURVE_OTHER)
        return ev_fail(err, EV_EUSAGE, "a key on an unknown curve");
    return ev_key_adopt(EVP_EC_gen(curves[curve].name), out, err);
}

/* A password is never asked for: this may run without a terminal, and in a cage. */
static int no_password(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

/* The public half has to belong to the private one, or what is signed verifies nowhere. */
static bool halves_match(EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool yes = ctx && EVP_PKEY_pairwise_check(ctx) == 1;

    EVP_PKEY_CTX_free(ctx);
    return yes;
}

int ev_key_from_pem(ev_slice pem, struct ev_key **out, struct ev_err *err)
{
    EVP_PKEY *pkey = NULL;
    BIO *bio;
    int rc;

    *out = NULL;
    if (pem.n > PEM_MAX)
        return ev_fail(err, EV_ELIMIT, "a key of more than %d bytes", PEM_MAX);
    if (pem.n > 0 && (bio = BIO_new_mem_buf(pem.p, (int)pem.n)) != NULL) {
        pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
        BIO_free(bio);
        if (!pkey && (bio = BIO_new_mem_buf(pem.p, (int)pem.n)) != NULL) {
            pkey = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
            BIO_free(bio);
        }
    }
    if (!pkey)
        return ev_ossl_fail(err, EV_EPARSE, "not a key in PEM form without a password");
    if ((rc = ev_key_adopt(pkey, out, err)) < 0)
        return rc;
    if ((*out)->private && EVP_PKEY_is_a(pkey, "EC") && !halves_match(pkey)) {
        ev_key_free(*out);
        *out = NULL;
        return ev_ossl_fail(err, EV_EPARSE, "the public half does not belong to the private key");
    }
    return 0;
}

int ev_key_from_spki(ev_slice der, struct ev_key **out, struct ev_err *err)
{
    const unsigned char *p = der.p;
    EVP_PKEY *pkey;

    *out = NULL;
    if (der.n == 0 || der.n > PEM_MAX)
        return ev_fail(err, EV_EPARSE, "public key: no bytes, or too many");
    pkey = d2i_PUBKEY(NULL, &p, (long)der.n);
    if (!pkey)
        return ev_ossl_fail(err, EV_EPARSE, "public key");
    if (p != der.p + der.n) {
        EVP_PKEY_free(pkey);
        return ev_fail(err, EV_EPARSE, "public key: %zu bytes follow it", (size_t)(der.p + der.n - p));
    }
    return ev_key_adopt(pkey, out, err);
}

/* A key out of its parts; d may be NULL. */
static EVP_PKEY *assemble(enum ev_curve curve, const BIGNUM *d, const uint8_t *point, size_t n)
{
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (b && ctx && OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, curves[curve].name, 0) &&
        OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, n) &&
        (!d || OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_PRIV_KEY, d)) &&
        (params = OSSL_PARAM_BLD_to_param(b)) != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &pkey, d ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    OSSL_PARAM_free(params);                    /* numbers in secure memory are cleared */
    OSSL_PARAM_BLD_free(b);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

int ev_key_from_scalar(enum ev_curve curve, ev_slice number, struct ev_key **out, struct ev_err *err)
{
    EC_GROUP *group = NULL;
    EC_POINT *q = NULL;
    BIGNUM *d = BN_secure_new();
    uint8_t point[EV_POINT_MAX];
    EVP_PKEY *pkey = NULL;
    size_t n = 0;

    *out = NULL;
    if (curve < EV_CURVE_OTHER && number.n == curves[curve].width && d && BN_bin2bn(number.p, (int)number.n, d) &&
        (group = EC_GROUP_new_by_curve_name(curves[curve].nid)) != NULL && !BN_is_zero(d) &&
        BN_cmp(d, EC_GROUP_get0_order(group)) < 0 && (q = EC_POINT_new(group)) != NULL) {
        BN_set_flags(d, BN_FLG_CONSTTIME);
        if (EC_POINT_mul(group, q, d, NULL, NULL, NULL))
            n = EC_POINT_point2oct(group, q, POINT_CONVERSION_UNCOMPRESSED, point, sizeof point, NULL);
        if (n > 0)
            pkey = assemble(curve, d, point, n);
    }
    EC_POINT_free(q);
    EC_GROUP_free(group);
    BN_clear_free(d);
    return pkey ? ev_key_adopt(pkey, out, err) : ev_ossl_fail(err, EV_EPARSE, "not a private key of this curve");
}

int ev_key_from_point(enum ev_curve curve, ev_slice point, struct ev_key **out, struct ev_err *err)
{
    EVP_PKEY *pkey = NULL;

    *out = NULL;
    if (curve < EV_CURVE_OTHER && point.n > 1 && point.n <= EV_POINT_MAX)
        pkey = assemble(curve, NULL, point.p, point.n);
    return pkey ? ev_key_adopt(pkey, out, err) : ev_ossl_fail(err, EV_EPARSE, "not a point of this curve");
}

/* Compressed point → uncompressed. */
static int expand(enum ev_curve curve, const uint8_t *point, size_t n, uint8_t *out)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(curves[curve].nid);
    EC_POINT *q = group ? EC_POINT_new(group) : NULL;
    size_t len = 0;

    if (q && EC_POINT_oct2point(group, q, point, n, NULL))
        len = EC_POINT_point2oct(group, q, POINT_CONVERSION_UNCOMPRESSED, out, EV_POINT_MAX, NULL);
    EC_POINT_free(q);
    EC_GROUP_free(group);
    ERR_clear_error();
    return len > 0 ? (int)len : EV_ECRYPTO;
}

int ev_key_point(const struct ev_key *k, bool compressed, uint8_t *out)
{
    uint8_t full[EV_POINT_MAX];
    size_t n = 0, width;

    if (k->curve == EV_CURVE_OTHER)
        return EV_EUNSUPPORTED;
    width = curves[k->curve].width;
    /* A key that was read from a compressed point answers with one: take the coordinates. */
    if (EVP_PKEY_get_octet_string_param(k->pkey, OSSL_PKEY_PARAM_PUB_KEY, full, sizeof full, &n) != 1)
        return EV_ECRYPTO;
    if (n == 2 * width + 1 && compressed) {
        full[0] = (uint8_t)(2 + (full[2 * width] & 1));
        n = width + 1;
    } else if (n == width + 1 && !compressed) {
        return expand(k->curve, full, n, out);
    }
    memcpy(out, full, n);
    return (int)n;
}

struct ev_key *ev_key_ref(struct ev_key *k)
{
    atomic_fetch_add(&k->refs, 1);
    return k;
}

void ev_key_free(struct ev_key *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    EVP_PKEY_free(k->pkey);                     /* clears the private number */
    ev_free(k);
}

EVP_PKEY *ev_key_pkey(const struct ev_key *k)
{
    return k->pkey;
}

enum ev_curve ev_key_curve(const struct ev_key *k)
{
    return k->curve;
}

bool ev_key_is_private(const struct ev_key *k)
{
    return k->private;
}

int ev_key_pem(const struct ev_key *k, struct ev_secret *out, struct ev_err *err)
{
    BIO *bio = BIO_new(BIO_s_secmem());         /* clears what it held */
    char *p = NULL;
    long n = 0;
    int ok;

    *out = (struct ev_secret){0};
    if (!bio)
        return ev_ossl_fail(err, EV_ECRYPTO, "writing a key");
    ok = k->private ? PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL)
                    : PEM_write_bio_PUBKEY(bio, k->pkey);
    if (ok == 1 && (n = BIO_get_mem_data(bio, &p)) > 0)
        ev_secret_copy(out, p, (size_t)n);
    BIO_free(bio);
    return ok == 1 && n > 0 ? 0 : ev_ossl_fail(err, EV_ECRYPTO, "writing a key");
}

int ev_key_spki(const struct ev_key *k, struct ev_buf *out, struct ev_err *err)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(k->pkey, &der), rc;

    if (n <= 0)
        return ev_ossl_fail(err, EV_ECRYPTO, "writing a public key");
    rc = ev_buf_put(out, der, (size_t)n);
    OPENSSL_free(der);
    return rc < 0 ? ev_fail(err, rc, "public key: no room") : 0;
}

bool ev_key_same_public(const struct ev_key *a, const struct ev_key *b)
{
    bool same = EVP_PKEY_eq(a->pkey, b->pkey) == 1;

    ERR_clear_error();
    return same;
}

/* ---- signing ---- */

size_t ev_key_sig_len(const struct ev_key *k)
{
    return k->curve < EV_CURVE_OTHER ? 2 * curves[k->curve].width : 0;
}

int ev_key_sign(const struct ev_key *k, ev_slice msg, uint8_t *sig, struct ev_err *err)
{
    int rc;

    if (k->curve == EV_CURVE_OTHER)
        return ev_fail(err, EV_EUNSUPPORTED, "signing with a key of this kind");
    if (!k->private)
        return ev_fail(err, EV_EUSAGE, "signing with a public key");
    rc = ev_ecdsa_sign(k->pkey, k->curve, curves[k->curve].width, msg, sig);
    return rc < 0 ? ev_ossl_fail(err, rc, "signing") : 0;
}

/* ---- verifying ---- */

int ev_sig_to_der(ev_slice raw, uint8_t *der)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw.p, (int)(raw.n / 2), NULL);
    BIGNUM *s = BN_bin2bn(raw.p + raw.n / 2, (int)(raw.n / 2), NULL);
    int n = -1;

    if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL;                           /* the pair has them now */
        n = i2d_ECDSA_SIG(sig, NULL);
        n = n > 0 && n <= EV_SIG_DER_MAX ? i2d_ECDSA_SIG(sig, &der) : -1;
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return n > 0 ? n : EV_ECRYPTO;
}

int ev_key_verify(const struct ev_key *k, ev_slice msg, ev_slice sig, struct ev_err *err)
{
    uint8_t der[EV_SIG_DER_MAX];
    EVP_MD_CTX *ctx;
    int n, ok;

    if (k->curve == EV_CURVE_OTHER)
        return ev_fail(err, EV_EUNSUPPORTED, "verifying with a key of this kind");
    if (sig.n != ev_key_sig_len(k))
        return ev_fail(err, EV_EVERIFY, "a signature of %zu bytes, not %zu", sig.n, ev_key_sig_len(k));
    if ((n = ev_sig_to_der(sig, der)) < 0)
        return ev_ossl_fail(err, n, "signature");
    ctx = EVP_MD_CTX_new();
    ok = ctx && EVP_DigestVerifyInit(ctx, NULL, ev_digest_md(curves[k->curve].digest), NULL, k->pkey) == 1 &&
         EVP_DigestVerify(ctx, der, (size_t)n, msg.n ? msg.p : (const uint8_t *)"", msg.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok ? 0 : ev_fail(err, EV_EVERIFY, "the signature does not verify");
}
