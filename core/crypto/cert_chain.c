/* cert_chain.c — is this leaf certified by a pinned root, the way Nitro documents are?
 *
 *   chain:  [0] leaf ← [1] instance ← [2] zonal ← [3] regional ← [n-1] root == a pinned one
 *
 * OpenSSL's own chain building is not used: its strict mode refuses every genuine document, its
 * lenient mode takes legacy CA certificates, and neither knows our algorithms. We walk the chain in
 * the order given and check each rule; OpenSSL verifies the signatures. A rule that cannot be
 * checked is a refusal. */
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/ossl.h"

enum { CHAIN_MAX = 10 };        /* leaf, eight between, root */

static int refuse(struct ev_err *err, const char *reason, size_t i, const char *what)
{
    ERR_clear_error();
    return ev_fail_reason(err, EV_EVERIFY, reason, "certificate %zu of the chain: %s", i, what);
}

static bool pinned(const struct ev_cert *c, struct ev_cert *const *roots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (roots[i] && ev_slice_eq(ev_cert_der(c), ev_cert_der(roots[i])))
            return true;
    }
    return false;
}

/* Both algorithm fields name ecdsa-with-SHA384 without parameters. */
static bool algorithm_ok(const X509 *x)
{
    const X509_ALGOR *outer = NULL, *inner = X509_get0_tbs_sigalg(x);
    const ASN1_OBJECT *o = NULL;
    int type = V_ASN1_UNDEF;

    X509_get0_signature(NULL, &outer, x);
    if (!outer || !inner || X509_ALGOR_cmp(outer, inner) != 0)
        return false;
    X509_ALGOR_get0(&o, &type, NULL, outer);
    return OBJ_obj2nid(o) == NID_ecdsa_with_SHA384 && type == V_ASN1_UNDEF;
}

/* P-384 by its name; explicit parameters make EV_CURVE_OTHER. */
static bool curve_ok(const struct ev_cert *c)
{
    struct ev_key *k = NULL;
    bool ok = ev_cert_key(c, &k, NULL) == 0 && ev_key_curve(k) == EV_P384;

    ev_key_free(k);
    return ok;
}

/* Critical extensions that this walk does not look at would go unheeded: refuse them, also those
 * that OpenSSL calls supported (name constraints, policies). */
static bool critical_ok(const X509 *x)
{
    for (int i = 0; i < X509_get_ext_count(x); i++) {
        X509_EXTENSION *e = X509_get_ext(x, i);
        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(e));

        if (X509_EXTENSION_get_critical(e) && nid != NID_basic_constraints && nid != NID_key_usage)
            return false;
    }
    return true;
}

static int check_form(const struct ev_cert *c, size_t i, struct ev_err *err)
{
    X509 *x = ev_cert_x509(c);

    if (X509_get_version(x) != X509_VERSION_3)
        return refuse(err, "cert-usage", i, "not version 3");
    if (!algorithm_ok(x))
        return refuse(err, "cert-algorithm", i, "not signed with ecdsa-with-SHA384");
    if (!curve_ok(c))
        return refuse(err, "cert-algorithm", i, "its key is not on the named curve P-384");
    if (X509_get_extension_flags(x) & EXFLAG_INVALID)
        return refuse(err, "cert-usage", i, "an extension is malformed");
    if (!critical_ok(x))
        return refuse(err, "cert-usage", i, "a critical extension is unknown");
    return 0;
}

static int check_leaf(const struct ev_cert *c, struct ev_err *err)
{
    X509 *x = ev_cert_x509(c);
    uint32_t flags = X509_get_extension_flags(x);

    /* X509_check_ca alone says no to CA:TRUE when keyUsage lacks keyCertSign. */
    if (X509_check_ca(x) != 0 || (flags & EXFLAG_CA))
        return refuse(err, "cert-usage", 0, "the leaf may issue certificates");
    if (X509_get_pathlen(x) >= 0)
        return refuse(err, "cert-usage", 0, "the leaf has a path length");
    if (!(flags & EXFLAG_KUSAGE) || !(X509_get_key_usage(x) & KU_DIGITAL_SIGNATURE))
        return refuse(err, "cert-usage", 0, "the leaf is not for signatures");
    return 0;
}

/* `below` = CA certificates between this one and the leaf that are not self-issued. */
static int check_ca(const struct ev_cert *c, size_t i, long below, struct ev_err *err)
{
    X509 *x = ev_cert_x509(c);
    uint32_t flags = X509_get_extension_flags(x);
    long path_len = X509_get_pathlen(x);

    if (!(flags & EXFLAG_BCONS) || X509_check_ca(x) != 1)
        return refuse(err, "cert-usage", i, "not a certificate authority");
    if (path_len != -1 && (path_len < 0 || below > path_len))
        return refuse(err, "cert-usage", i, "its path length does not allow the chain");
    if (!(flags & EXFLAG_KUSAGE) || !(X509_get_key_usage(x) & KU_KEY_CERT_SIGN))
        return refuse(err, "cert-usage", i, "not for signing certificates");
    return 0;
}

static bool same_name(const X509_NAME *a, const X509_NAME *b)
{
    const unsigned char *pa, *pb;
    size_t na, nb;

    return X509_NAME_get0_der(a, &pa, &na) == 1 && X509_NAME_get0_der(b, &pb, &nb) == 1 &&
           ev_slice_eq(ev_slice_of(pa, na), ev_slice_of(pb, nb));
}

static bool self_issued(const struct ev_cert *c)
{
    X509 *x = ev_cert_x509(c);

    return same_name(X509_get_subject_name(x), X509_get_issuer_name(x));
}

static int check_link(const struct ev_cert *child, const struct ev_cert *parent, size_t i, struct ev_err *err)
{
    X509 *c = ev_cert_x509(child), *p = ev_cert_x509(parent);

    if (!same_name(X509_get_issuer_name(c), X509_get_subject_name(p)))
        return refuse(err, "cert-chain", i, "another issuer than the next one");
    if (X509_verify(c, X509_get0_pubkey(p)) != 1)
        return refuse(err, "cert-chain", i, "its signature does not verify");
    return 0;
}

static int check_time(const struct ev_cert *c, size_t i, int64_t at_ms, struct ev_err *err)
{
    int64_t from, to;

    ev_cert_validity(c, &from, &to);
    if (at_ms < from)
        return refuse(err, "cert-not-yet-valid", i, "not valid yet");
    if (at_ms > to)
        return refuse(err, "cert-expired", i, "expired");
    return 0;
}

int ev_cert_chain_verify(struct ev_cert *const *chain, size_t n, struct ev_cert *const *roots,
                         size_t n_roots, int64_t at_ms, struct ev_err *err)
{
    long below = 0;
    int rc = 0;

    if (n < 2 || n > CHAIN_MAX)
        return ev_fail_reason(err, EV_EVERIFY, "cert-chain", "a chain of %zu certificates", n);
    for (size_t i = 0; i < n; i++) {
        if (!chain[i])
            return refuse(err, "cert-parse", i, "missing");
    }
    if (!pinned(chain[n - 1], roots, n_roots))
        return refuse(err, "cert-root", n - 1, "not a root that is trusted here");
    for (size_t i = 0; i < n; i++)
        EV_TRY(check_form(chain[i], i, err));
    EV_TRY(check_leaf(chain[0], err));
    for (size_t i = 1; i < n; i++) {
        EV_TRY(check_ca(chain[i], i, below, err));
        below += !self_issued(chain[i]);
    }
    for (size_t i = n - 1; i > 0; i--)
        EV_TRY(check_link(chain[i - 1], chain[i], i - 1, err));
    for (size_t i = n; i > 0; i--)
        EV_TRY(check_time(chain[i - 1], i - 1, at_ms, err));
out:
    return rc;
}
