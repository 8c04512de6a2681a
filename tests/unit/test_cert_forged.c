/* Tests of crypto/cert_chain.c: whole chains of which one certificate is forged, and must not verify
 * (spec: mistakes seen in verifiers); what an extension may hold. OpenSSL is used here directly, to forge. */
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "crypto/ossl.h"
#include "tap.h"

#define DAY ((int64_t)86400000)

enum { LEAF, INSTANCE, ZONAL, REGIONAL, ROOT, LEVELS };

/* How one certificate of a chain is forged. */
struct forge {
    int version;                /* 3 unless set */
    int path_len;               /* -1 none, below that: no basicConstraints at all */
    int ca;
    unsigned usage;             /* bits of KU_*; 0 = no extension */
    int critical_nid;           /* a further critical extension with empty content */
    const EVP_MD *md;
    const char *subject, *issuer;
    enum ev_curve curve;
    bool explicit_curve, wrong_signer, bend_signature, inner_differs, null_params;
    int further_nid;            /* a further extension with this content, not critical */
    ev_slice further;
    int64_t from, to;
};

struct pki {
    struct forge f[LEVELS];
    struct ev_key *key[LEVELS];
    struct ev_cert *cert[LEVELS];
};

static const char *const subjects[LEVELS] = { "i-1-enc2.region.aws", "i-1.region", "zonal", "regional", "root" };
static const int64_t at = INT64_C(1795521600000);   /* 2026-11-24T12:00:00Z: the time that the chains are for */

static void pki_plan(struct pki *p)
{
    *p = (struct pki){0};
    for (int i = 0; i < LEVELS; i++) {
        p->f[i] = (struct forge){ .version = 3, .path_len = i == LEAF || i == ROOT ? -1 : i - 1, .ca = i != LEAF,
                                  .usage = i == LEAF ? KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION : KU_KEY_CERT_SIGN,
                                  .md = EVP_sha384(), .subject = subjects[i], .issuer = subjects[i < ROOT ? i + 1 : i],
                                  .curve = EV_P384, .from = at - DAY * (i + 1), .to = at + DAY * (i + 1) };
    }
}

static void add_ext(X509 *x, int nid, void *value, int critical)
{
    if (X509_add1_ext_i2d(x, nid, value, critical, X509V3_ADD_APPEND) != 1)
        exit(2);
}

static void add_usage(X509 *x, unsigned usage)
{
    ASN1_BIT_STRING *s = ASN1_BIT_STRING_new();

    for (int bit = 0; bit < 8; bit++) {
        if (usage & (0x80u >> bit))
            ASN1_BIT_STRING_set_bit(s, bit, 1);
    }
    add_ext(x, NID_key_usage, s, 1);
    ASN1_BIT_STRING_free(s);
}

static void add_constraints(X509 *x, const struct forge *f)
{
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();

    bc->ca = f->ca ? 0xFF : 0;
    if (f->path_len >= 0) {
        bc->pathlen = ASN1_INTEGER_new();
        ASN1_INTEGER_set(bc->pathlen, f->path_len);
    }
    add_ext(x, NID_basic_constraints, bc, 1);
    BASIC_CONSTRAINTS_free(bc);
}

static void add_raw(X509 *x, int nid, bool critical, ev_slice content)
{
    ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
    X509_EXTENSION *e;

    ASN1_OCTET_STRING_set(s, content.p, (int)content.n);
    e = X509_EXTENSION_create_by_NID(NULL, nid, critical, s);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(s);
}

static void set_name(X509_NAME *n, const char *cn)
{
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
}

static EVP_PKEY *explicit_key(EVP_PKEY *named)
{
    EVP_PKEY *copy = EVP_PKEY_dup(named);

    if (EVP_PKEY_set_utf8_string_param(copy, "encoding", "explicit") != 1)
        exit(2);
    return copy;
}

/* Signs with ecdsa-with-SHA384 that has NULL parameters, as RSA's algorithms do. */
static void sign_again(X509 *x, const struct ev_key *signer)
{
    const ASN1_BIT_STRING *sig;
    const X509_ALGOR *alg;
    uint8_t raw[EV_SIG_RAW_MAX], der[EV_SIG_DER_MAX];
    unsigned char *tbs = NULL;
    int n;

    X509_get0_signature(&sig, &alg, x);
    X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)alg, OBJ_nid2obj(NID_ecdsa_with_SHA384), V_ASN1_NULL, NULL);
    X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)X509_get0_tbs_sigalg(x), OBJ_nid2obj(NID_ecdsa_with_SHA384), V_ASN1_NULL,
                    NULL);
    if ((n = i2d_re_X509_tbs(x, &tbs)) <= 0 || ev_key_sign(signer, ev_slice_of(tbs, (size_t)n), raw, NULL) < 0 ||
        (n = ev_sig_to_der(ev_slice_of(raw, 96), der)) < 0)
        exit(2);
    ASN1_STRING_set((ASN1_BIT_STRING *)(uintptr_t)sig, der, n);
    OPENSSL_free(tbs);
}

static struct ev_cert *forge_one(const struct forge *f, const struct ev_key *key, const struct ev_key *signer)
{
    X509 *x = X509_new();
    X509_NAME *issuer = X509_NAME_new();
    EVP_PKEY *pub = f->explicit_curve ? explicit_key(ev_key_pkey(key)) : NULL;
    struct ev_cert *c = NULL;
    unsigned char *der = NULL;
    int n;

    X509_set_version(x, f->version - 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_set_pubkey(x, pub ? pub : ev_key_pkey(key));
    set_name(X509_get_subject_name(x), f->subject);
    set_name(issuer, f->issuer);
    X509_set_issuer_name(x, issuer);
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(f->from / 1000));
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(f->to / 1000));
    if (f->path_len >= -1 && f->version > 1)
        add_constraints(x, f);
    if (f->usage && f->version > 1)
        add_usage(x, f->usage);
    if (f->critical_nid)
        add_raw(x, f->critical_nid, true, EV_LIT("\x30\x00"));
    if (f->further_nid)
        add_raw(x, f->further_nid, false, f->further);
    if (X509_sign(x, ev_key_pkey(signer), f->md) <= 0)
        exit(2);
    if (f->null_params)
        sign_again(x, signer);
    if ((n = i2d_X509(x, &der)) <= 0)
        exit(2);
    if (f->bend_signature)
        der[n - 1] ^= 1;
    if (f->inner_differs) {
        /* The outer algorithm is the last ecdsa-with-SHA384 of the text: make it SHA512. */
        for (int i = n - 8; i > 0; i--) {
            if (memcmp(der + i, "\x2A\x86\x48\xCE\x3D\x04\x03\x03", 8) == 0) {
                der[i + 7] = 4;
                break;
            }
        }
    }
    if (ev_cert_from_der(ev_slice_of(der, (size_t)n), &c, NULL) < 0)
        exit(2);
    OPENSSL_free(der);
    EVP_PKEY_free(pub);
    X509_NAME_free(issuer);
    X509_free(x);
    return c;
}

static void pki_make(struct pki *p)
{
    for (int i = ROOT; i >= LEAF; i--) {
        struct ev_key *other = NULL;

        if (ev_key_generate(p->f[i].curve, &p->key[i], NULL) < 0 || ev_key_generate(EV_P384, &other, NULL) < 0)
            exit(2);
        p->cert[i] = forge_one(&p->f[i], p->key[i], p->f[i].wrong_signer ? other : p->key[i < ROOT ? i + 1 : i]);
        ev_key_free(other);
    }
}

static void pki_fini(struct pki *p)
{
    for (int i = 0; i < LEVELS; i++) {
        ev_cert_free(p->cert[i]);
        ev_key_free(p->key[i]);
    }
}

/* Makes the planned chain and expects this reason; NULL: it verifies. */
static void expect(struct pki *p, const char *reason, const char *what)
{
    struct ev_err err = EV_ERR_INIT;
    int rc;

    pki_make(p);
    rc = ev_cert_chain_verify(p->cert, LEVELS, &p->cert[ROOT], 1, at, &err);
    if (reason)
        OK(rc == EV_EVERIFY && strcmp(err.reason, reason) == 0, "%s: %s, %s", what, err.reason, err.msg);
    else
        OK(rc == 0, "%s %s", what, err.msg);
    pki_fini(p);
    pki_plan(p);
}

static void test_chain_good(void)
{
    struct pki p;

    pki_plan(&p);
    expect(&p, NULL, "a chain like Nitro's");
    p.f[LEAF].path_len = -2;
    expect(&p, NULL, "a leaf without basicConstraints");
    p.f[INSTANCE].path_len = 5;
    expect(&p, NULL, "a path length that is longer than needed");
    p.f[REGIONAL].from = at;
    p.f[ZONAL].to = at;
    expect(&p, NULL, "valid from this very moment, and until it");
    p.f[ZONAL].subject = p.f[ZONAL].issuer = p.f[INSTANCE].issuer = p.f[REGIONAL].subject;
    p.f[REGIONAL].path_len = 1;
    expect(&p, NULL, "a self-issued certificate does not count for the path length");
}

static void test_chain_usage(void)
{
    struct pki p;

    pki_plan(&p);
    p.f[INSTANCE].ca = 0;
    p.f[INSTANCE].path_len = -1;
    expect(&p, "cert-usage", "an issuer that is no CA");
    p.f[INSTANCE].path_len = -2;
    expect(&p, "cert-usage", "an issuer without basicConstraints");
    p.f[ROOT].path_len = -2;
    expect(&p, "cert-usage", "a root without basicConstraints");
    p.f[ZONAL].path_len = 0;
    expect(&p, "cert-usage", "a path length that is too short");
    p.f[ROOT].path_len = 2;
    expect(&p, "cert-usage", "a root's path length that is too short");
    p.f[REGIONAL].path_len = 256;
    expect(&p, NULL, "a path length of two bytes is not cut to one");
    p.f[ZONAL].usage = KU_DIGITAL_SIGNATURE;
    expect(&p, "cert-usage", "an issuer that is not for signing certificates");
    p.f[ZONAL].usage = 0;
    expect(&p, "cert-usage", "an issuer without keyUsage");
    p.f[LEAF].ca = 1;
    expect(&p, "cert-usage", "a leaf that is a CA");
    p.f[LEAF].path_len = 0;
    expect(&p, "cert-usage", "a leaf with a path length");
    p.f[LEAF].usage = KU_KEY_ENCIPHERMENT;
    expect(&p, "cert-usage", "a leaf that is not for signatures");
    p.f[LEAF].usage = 0;
    expect(&p, "cert-usage", "a leaf without keyUsage");
    p.f[LEAF].usage = KU_KEY_CERT_SIGN | KU_DIGITAL_SIGNATURE;
    p.f[LEAF].path_len = -2;
    expect(&p, "cert-usage", "a leaf that may sign certificates and does not say it is no CA");
    p.f[ZONAL].critical_nid = NID_name_constraints;
    expect(&p, "cert-usage", "a critical extension that we do not follow");
    p.f[LEAF].critical_nid = NID_netscape_comment;
    expect(&p, "cert-usage", "a critical extension that nobody knows");
    p.f[INSTANCE].version = 1;
    expect(&p, "cert-usage", "version 1");
    p.f[INSTANCE].version = 2;
    expect(&p, "cert-usage", "version 2, with everything that is asked for");
    p.f[ZONAL].further_nid = NID_subject_key_identifier;
    p.f[ZONAL].further = EV_LIT("\x30\x00");
    expect(&p, "cert-usage", "an extension that is malformed");
    p.f[LEAF].further_nid = NID_subject_key_identifier;
    p.f[LEAF].further = EV_LIT("\x30\x00");
    expect(&p, "cert-usage", "the same in a leaf");
    p.f[ZONAL].further_nid = NID_netscape_comment;
    p.f[ZONAL].further = EV_LIT("\x16\x01x");
    expect(&p, NULL, "one that is not critical is passed over");
}

static void test_chain_algorithm(void)
{
    struct pki p;

    pki_plan(&p);
    p.f[LEAF].md = EVP_sha256();
    expect(&p, "cert-algorithm", "a leaf signed with SHA-256");
    p.f[REGIONAL].md = EVP_sha1();
    expect(&p, "cert-algorithm", "an issuer signed with SHA-1");
    p.f[LEAF].curve = EV_P256;
    expect(&p, "cert-algorithm", "a leaf on P-256");
    p.f[ZONAL].curve = EV_P521;
    expect(&p, "cert-algorithm", "an issuer on P-521");
    p.f[LEAF].explicit_curve = true;
    expect(&p, "cert-algorithm", "a leaf with explicit parameters");
    p.f[INSTANCE].explicit_curve = true;
    expect(&p, "cert-algorithm", "an issuer with explicit parameters");
    p.f[LEAF].null_params = true;
    expect(&p, "cert-algorithm", "an algorithm with NULL parameters");
    p.f[LEAF].inner_differs = true;
    expect(&p, "cert-algorithm", "two algorithms in one certificate");
}

static void test_chain_links(void)
{
    struct pki p;

    pki_plan(&p);
    for (int i = LEAF; i < ROOT; i++) {
        p.f[i].wrong_signer = true;
        expect(&p, "cert-chain", "signed by another key");
        p.f[i].bend_signature = true;
        expect(&p, "cert-chain", "a bent signature");
        p.f[i].issuer = "somebody";
        expect(&p, "cert-chain", "another issuer's name");
    }
    for (int i = LEAF; i < LEVELS; i++) {
        p.f[i].to = at - 1000;
        expect(&p, "cert-expired", "one that has expired");
        p.f[i].from = at + 1000;
        expect(&p, "cert-not-yet-valid", "one that is not valid yet");
    }
}

static const char *reason_of(struct ev_cert *const *chain, size_t n, struct ev_cert *const *roots, size_t n_roots)
{
    static struct ev_err err;

    err = (struct ev_err)EV_ERR_INIT;
    return ev_cert_chain_verify(chain, n, roots, n_roots, at, &err) == EV_EVERIFY ? err.reason : "accepted";
}

static void test_chain_shape(void)
{
    struct pki p, q;
    struct ev_cert *many[12];

    pki_plan(&p);
    pki_make(&p);
    pki_plan(&q);
    pki_make(&q);
    EQ_STR(reason_of(p.cert, LEVELS, &q.cert[ROOT], 1), "cert-root", "another root, of the same name");
    EQ_STR(reason_of(p.cert, LEVELS, NULL, 0), "cert-root", "no root is trusted");
    EQ_STR(reason_of(p.cert, LEVELS, (struct ev_cert *[]){ q.cert[ROOT], NULL, p.cert[ROOT] }, 3), "accepted",
           "one of several roots");
    EQ_STR(reason_of(p.cert, 0, &p.cert[ROOT], 1), "cert-chain", "no certificate");
    EQ_STR(reason_of(&p.cert[ROOT], 1, &p.cert[ROOT], 1), "cert-chain", "the root alone");
    EQ_STR(reason_of(p.cert, 4, &p.cert[ROOT], 1), "cert-root", "the root left out");
    EQ_STR(reason_of((struct ev_cert *[]){ p.cert[LEAF], p.cert[ROOT] }, 2, &p.cert[ROOT], 1), "cert-chain",
           "what is between left out");
    EQ_STR(reason_of((struct ev_cert *[]){ p.cert[LEAF], p.cert[ZONAL], p.cert[INSTANCE], p.cert[REGIONAL],
                                           p.cert[ROOT] }, 5, &p.cert[ROOT], 1), "cert-usage", "another order");
    EQ_STR(reason_of((struct ev_cert *[]){ p.cert[LEAF], NULL, p.cert[ROOT] }, 3, &p.cert[ROOT], 1), "cert-parse",
           "one missing");
    EQ_STR(reason_of((struct ev_cert *[]){ q.cert[LEAF], p.cert[INSTANCE], p.cert[ZONAL], p.cert[REGIONAL],
                                           p.cert[ROOT] }, 5, &p.cert[ROOT], 1), "cert-chain", "another PKI's leaf");
    EQ_STR(reason_of((struct ev_cert *[]){ p.cert[INSTANCE], p.cert[ZONAL], p.cert[REGIONAL], p.cert[ROOT] }, 4,
                     &p.cert[ROOT], 1), "cert-usage", "a CA as the leaf");
    EQ_STR(reason_of((struct ev_cert *[]){ p.cert[ROOT], p.cert[ROOT] }, 2, &p.cert[ROOT], 1), "cert-usage",
           "a root as its own leaf");
    for (size_t i = 0; i < EV_COUNT(many); i++)
        many[i] = p.cert[i < ROOT ? i : ROOT];
    EQ_STR(reason_of(many, 10, &p.cert[ROOT], 1), "accepted", "a root certifies itself, again and again");
    EQ_STR(reason_of(many, 11, &p.cert[ROOT], 1), "cert-chain", "but not without end");
    pki_fini(&p);
    pki_fini(&q);
}

/* Extension values with bytes behind them, and one twice: refused before any chain. */
static void test_extension_values(void)
{
    static const struct { int nid; ev_slice value; bool ok; } values[] = {
        { NID_basic_constraints, EV_LIT("\x30\x03\x01\x01\xff"), true },
        { NID_basic_constraints, EV_LIT("\x30\x03\x01\x01\xff\x00"), false },
        { NID_basic_constraints, EV_LIT("\x30\x03\x01\x01\xff\x05\x00"), false },
        { NID_basic_constraints, EV_LIT("\x30\x03\x01\x01\x01"), false },
        { NID_basic_constraints, EV_LIT("\x30\x07\x01\x01\xff\x02\x02\x00\x01"), false },
        { NID_basic_constraints, EV_LIT(""), false },
        { NID_key_usage, EV_LIT("\x03\x02\x07\x80"), true },
        { NID_key_usage, EV_LIT("\x03\x02\x07\x81"), false },
        { NID_key_usage, EV_LIT("\x03\x02\x08\x80"), false },
        { NID_subject_alt_name, EV_LIT("\x30\x03\x82\x01\x61"), true },
        { NID_subject_alt_name, EV_LIT("\x30\x03\x82\x02\x61"), false },
        { NID_subject_alt_name, EV_LIT("\x30\x80\x82\x01\x61\x00\x00"), false },
    };
    struct ev_key *k = NULL;

    if (ev_key_generate(EV_P384, &k, NULL) < 0)
        exit(2);
    for (size_t i = 0; i < EV_COUNT(values) + 1; i++) {
        bool twice = i == EV_COUNT(values);
        size_t v = twice ? 0 : i;
        X509 *x = X509_new();
        struct ev_cert *c = NULL;
        unsigned char *der = NULL;
        int n;

        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
        X509_set_pubkey(x, ev_key_pkey(k));
        ASN1_TIME_set(X509_getm_notBefore(x), 0);
        ASN1_TIME_set(X509_getm_notAfter(x), 1);
        add_raw(x, values[v].nid, false, values[v].value);
        if (twice)
            add_raw(x, values[v].nid, false, values[v].value);
        if (X509_sign(x, ev_key_pkey(k), EVP_sha384()) <= 0 || (n = i2d_X509(x, &der)) <= 0)
            exit(2);
        OK((ev_cert_from_der(ev_slice_of(der, (size_t)n), &c, NULL) == 0) == (values[v].ok && !twice),
           "extension %zu: %s", i, values[v].ok && !twice ? "taken" : "refused");
        ev_cert_free(c);
        OPENSSL_free(der);
        X509_free(x);
    }
    ev_key_free(k);
}

/* A chain out of ev_cert_make, as the simulator makes it. */
static void test_chain_made(void)
{
    struct ev_cert_conf conf = { .not_before_ms = at - DAY, .not_after_ms = at + DAY, .ca = true, .path_len = -1 };
    struct ev_key *key[LEVELS] = { 0 };
    struct ev_cert *cert[LEVELS] = { 0 };
    char name[64];
    int rc = 0;

    for (int i = ROOT; i >= LEAF && rc == 0; i--) {
        snprintf(name, sizeof name, "/C=US/O=Test/CN=%s", subjects[i]);
        conf.subject = name;
        conf.ca = i != LEAF;
        conf.path_len = i == ROOT ? -1 : i - 1;
        conf.leaf_usage = i == LEAF;
        if (ev_key_generate(EV_P384, &key[i], NULL) < 0)
            exit(2);
        rc = ev_cert_make(&conf, key[i], i == ROOT ? NULL : cert[i + 1], i == ROOT ? NULL : key[i + 1], &cert[i], NULL);
    }
    OK(rc == 0, "five certificates are made");
    EQ_STR(reason_of(cert, LEVELS, &cert[ROOT], 1), "accepted", "they are a chain");
    for (int i = 0; i < LEVELS; i++) {
        ev_cert_free(cert[i]);
        ev_key_free(key[i]);
    }
}

int main(void)
{
    test_chain_good();
    test_chain_usage();
    test_chain_algorithm();
    test_chain_links();
    test_chain_shape();
    test_chain_made();
    test_extension_values();
    return tap_done();
}
