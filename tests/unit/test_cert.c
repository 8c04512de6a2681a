/* Tests of crypto/cert*.c: genuine certificates, certificates that we make, chains that must and
 * must not verify (spec: mistakes seen in verifiers). OpenSSL is used here directly, to forge. */
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/text.h"
#include "crypto/ossl.h"
#include "tap.h"

#define DAY ((int64_t)86400000)

static int64_t ms(const char *text)
{
    int64_t v = 0;

    if (ev_time_parse(ev_slice_str(text), &v) < 0)
        exit(2);
    return v;
}

static void load(const char *path, struct ev_buf *out)
{
    struct ev_err err = EV_ERR_INIT;

    OK(ev_file_read(path, out, &err) == 0, "%s %s", path, err.msg);
}

/* ---- genuine ones ---- */

static void test_root(void)
{
    struct ev_buf text = EV_BUF_INIT(65536), pem = EV_BUF_INIT(65536), hex = EV_BUF_INIT(65536);
    struct ev_cert *c = NULL, *again = NULL;
    struct ev_key *k = NULL;
    uint8_t hash[EV_DIGEST_MAX];
    char name[64], value[64];
    int64_t from, to;
    ev_slice dns;

    load("tests/golden/cert/aws-nitro-root-g1.pem", &text);
    OK(ev_cert_from_pem(ev_buf_slice(&text), &c, NULL) == 0, "the root parses");
    ev_digest_once(EV_SHA256, ev_cert_der(c), hash);
    OK(ev_hex_put(&hex, ev_slice_of(hash, 32)) == 0, "hash");
    EQ_STR(ev_buf_str(&hex), "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b", "its digest");
    ev_cert_validity(c, &from, &to);
    EQ_INT(from, ms("2019-10-28T13:28:05Z"), "from");
    EQ_INT(to, ms("2049-10-28T14:28:05Z"), "to");
    EQ_STR(ev_cert_sig_alg(c), "ecdsa-with-SHA384", "algorithm");
    OK(ev_cert_signature(c).n > 96 && ev_cert_signature(c).p[0] == 0x30, "a signature in DER");
    OK(ev_cert_key(c, &k, NULL) == 0 && ev_key_curve(k) == EV_P384 && !ev_key_is_private(k), "its key");
    OK(ev_cert_issuer_attr(c, 0, name, sizeof name, value, sizeof value), "first attribute of the issuer");
    EQ_STR(name, "countryName", "its name");
    EQ_STR(value, "US", "its value");
    OK(ev_cert_issuer_attr(c, 3, name, sizeof name, value, 5) && strcmp(name, "commonName") == 0 &&
       strcmp(value, "aws.") == 0, "the last one, cut to what fits");
    OK(!ev_cert_issuer_attr(c, 4, name, sizeof name, value, sizeof value) &&
       !ev_cert_issuer_attr(c, SIZE_MAX, name, sizeof name, value, sizeof value), "no fifth");
    OK(!ev_cert_dns_name(c, 0, &dns), "no DNS name");
    OK(ev_cert_pem(c, &pem, NULL) == 0 && ev_cert_from_pem(ev_buf_slice(&pem), &again, NULL) == 0 &&
       ev_slice_eq(ev_cert_der(c), ev_cert_der(again)), "PEM there and back");
    ev_cert_free(ev_cert_ref(c));
    ev_cert_free(again);
    ev_cert_free(c);
    ev_cert_free(NULL);
    ev_key_free(k);
    ev_buf_fini(&text);
    ev_buf_fini(&pem);
    ev_buf_fini(&hex);
}

static void test_cage(void)
{
    struct ev_buf der = EV_BUF_INIT(65536);
    struct ev_cert *c = NULL;
    ev_slice name;
    size_t digits = 0;

    load("tests/golden/cert/evervault-nondebug-cert.der", &der);
    OK(ev_cert_from_der(ev_buf_slice(&der), &c, NULL) == 0, "a cage's certificate parses");
    OK(ev_cert_dns_name(c, 0, &name) && name.n == 53, "its first DNS name");
    OK(ev_cert_dns_name(c, 1, &name) && name.n > 9550, "its second is long");
    while (digits < name.n && name.p[digits] != '.')
        digits++;
    EQ_INT(digits, 9550, "and carries a document in its first label");
    OK(!ev_cert_dns_name(c, 2, &name), "there is no third");
    ev_cert_free(c);

    OK(ev_buf_putc(&der, 0) == 0 && ev_cert_from_der(ev_buf_slice(&der), &c, NULL) == EV_EPARSE && !c,
       "a byte behind it is refused");
    ev_buf_fini(&der);
}

/* Truncated at every byte, and each byte bent: never a crash, never more than was there. */
static void test_hostile(void)
{
    struct ev_buf text = EV_BUF_INIT(65536);
    struct ev_cert *root = NULL, *c = NULL;
    size_t bad = 0;
    ev_slice der;

    load("tests/golden/cert/aws-nitro-root-g1.pem", &text);
    if (ev_cert_from_pem(ev_buf_slice(&text), &root, NULL) < 0)
        exit(2);
    der = ev_cert_der(root);
    for (size_t n = 0; n < der.n; n++) {
        uint8_t *copy = malloc(n ? n : 1);
        struct ev_err err = EV_ERR_INIT;

        memcpy(copy, der.p, n);
        bad += ev_cert_from_der(ev_slice_of(copy, n), &c, &err) != EV_EPARSE || strcmp(err.reason, "cert-parse") != 0;
        ev_cert_free(c);
        free(copy);
    }
    EQ_INT(bad, 0, "truncations that were not refused");
    for (size_t i = 0; i < der.n * 8; i++) {
        uint8_t *copy = malloc(der.n);

        memcpy(copy, der.p, der.n);
        copy[i / 8] ^= (uint8_t)(1 << i % 8);
        if (ev_cert_from_der(ev_slice_of(copy, der.n), &c, NULL) == 0) {
            bad += ev_cert_chain_verify((struct ev_cert *[]){ c, c }, 2, &root, 1, ms("2026-01-01T00:00:00Z"), NULL)
                   == 0;
            ev_cert_free(c);
        }
        free(copy);
    }
    EQ_INT(bad, 0, "bent roots that were trusted");
    OK(ev_cert_from_pem(EV_LIT("no certificate"), &c, NULL) == EV_EPARSE && !c, "text without a certificate");
    OK(ev_cert_from_pem((ev_slice){0}, &c, NULL) == EV_EPARSE, "no text");
    ev_cert_free(root);
    ev_buf_fini(&text);
}

/* What OpenSSL takes and DER does not allow. Made from the genuine root by changing its encoding. */
static void splice(struct ev_buf *out, ev_slice in, size_t at, size_t drop, const char *put, size_t n)
{
    ev_buf_clear(out);
    if (ev_buf_put(out, in.p, at) < 0 || ev_buf_put(out, put, n) < 0 ||
        ev_buf_put(out, in.p + at + drop, in.n - at - drop) < 0)
        exit(2);
    out->p[3] = (uint8_t)((out->n - 4) & 255);          /* the outer length: 30 82 xx xx */
    out->p[2] = (uint8_t)((out->n - 4) >> 8);
}

static bool openssl_takes(const struct ev_buf *b)
{
    const unsigned char *p = b->p;
    X509 *x = d2i_X509(NULL, &p, (long)b->n);

    X509_free(x);
    return x != NULL;
}

static void test_ber(void)
{
    struct ev_buf text = EV_BUF_INIT(65536), ber = EV_BUF_INIT(65536);
    struct ev_cert *root = NULL, *c = NULL;
    const uint8_t *sig, *flag, *alg;
    ev_slice der;

    load("tests/golden/cert/aws-nitro-root-g1.pem", &text);
    if (ev_cert_from_pem(ev_buf_slice(&text), &root, NULL) < 0)
        exit(2);
    der = ev_cert_der(root);
    sig = der.p + der.n - ev_cert_signature(root).n - 3;    /* 03 69 00 30 ... */
    alg = sig - 12;                                         /* 30 0a 06 08 ... */
    flag = memmem(der.p, der.n, "\x01\x01\xff", 3);    /* critical TRUE */
    OK(sig[0] == 3 && alg[0] == 0x30 && flag, "places to change");

    splice(&ber, der, (size_t)(flag - der.p) + 2, 1, "\x01", 1);
    OK(openssl_takes(&ber) && ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE, "TRUE that is not FF");
    splice(&ber, der, (size_t)(alg - der.p) + 1, 1, "\x81\x0a", 2);
    OK(openssl_takes(&ber) && ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE, "a length in two bytes");
    splice(&ber, der, (size_t)(alg - der.p) + 1, 1, "\x82\x00\x0a", 3);
    OK(openssl_takes(&ber) && ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE, "a length with zeros");
    ev_buf_clear(&ber);
    OK(ev_buf_put(&ber, "\x30\x83\x00", 3) == 0 && ev_buf_put(&ber, der.p + 2, der.n - 2) == 0 && openssl_takes(&ber) &&
       ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE, "a long length with a zero before it");
    splice(&ber, der, (size_t)(sig - der.p), 0, "\x23\x6b", 2);
    ber.p[(size_t)(sig - der.p) + 1] = (uint8_t)(sig[1] + 2);
    OK(ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE, "a bit string in parts");
    splice(&ber, der, (size_t)(alg - der.p), 0, "\x05\x00", 2);
    OK(ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE, "another element between");
    splice(&ber, der, (size_t)(sig - der.p) + 2, 1, "\x01", 1);
    OK(ev_cert_from_der(ev_buf_slice(&ber), &c, NULL) == EV_EPARSE || ev_cert_signature(c).p[0] != 0x30 ||
       X509_verify(ev_cert_x509(c), X509_get0_pubkey(ev_cert_x509(c))) != 1, "unused bits in a signature");
    ev_cert_free(c);
    ev_cert_free(root);
    ev_buf_fini(&text);
    ev_buf_fini(&ber);
}

/* ---- what we make ---- */

static const char *const hosts[] = { "a.app.cages.localhost", "b.app.cages.localhost" };

static int make(const struct ev_cert_conf *conf, const struct ev_key *k, struct ev_cert **out)
{
    struct ev_err err = EV_ERR_INIT;
    int rc = ev_cert_make(conf, k, NULL, NULL, out, &err);

    if (rc < 0)
        printf("# %s\n", err.msg);
    return rc;
}

static void test_make(void)
{
    static const enum ev_curve curves[] = { EV_P256, EV_P384, EV_P521, EV_SECP256K1 };
    static const char *const algs[] = { "ecdsa-with-SHA256", "ecdsa-with-SHA384", "ecdsa-with-SHA512",
                                        "ecdsa-with-SHA256" };

    for (size_t i = 0; i < EV_COUNT(curves); i++) {
        struct ev_cert_conf conf = { .subject = "/CN=x\\/y/C=IE/O=A \xC3\xA9",
                                     .not_before_ms = ms("2026-01-01T00:00:00Z"),
                                     .not_after_ms = ms("2056-01-01T00:00:00Z"), .dns = hosts, .n_dns = 2,
                                     .path_len = -1, .serial = EV_LIT("\x80\x01") };
        struct ev_cert *a = NULL, *b = NULL, *other = NULL;
        struct ev_key *k = NULL;
        char name[64], value[64];
        int64_t from, to;
        ev_slice dns;

        OK(ev_key_generate(curves[i], &k, NULL) == 0 && make(&conf, k, &a) == 0 && make(&conf, k, &b) == 0,
           "made on curve %zu", i);
        OK(ev_slice_eq(ev_cert_der(a), ev_cert_der(b)), "the same bytes twice");
        EQ_STR(ev_cert_sig_alg(a), algs[i], "algorithm of the curve");
        OK(X509_verify(ev_cert_x509(a), ev_key_pkey(k)) == 1, "OpenSSL verifies it");
        ev_cert_validity(a, &from, &to);
        OK(from == conf.not_before_ms && to == conf.not_after_ms, "its times, across 2050");
        OK(ev_cert_dns_name(a, 1, &dns) && ev_slice_eq(dns, ev_slice_str(hosts[1])) && !ev_cert_dns_name(a, 2, &dns),
           "its names");
        OK(ev_cert_issuer_attr(a, 0, name, 64, value, 64) && strcmp(value, "x/y") == 0 &&
           ev_cert_issuer_attr(a, 2, name, 64, value, 64) && strcmp(value, "A \xC3\xA9") == 0, "its issuer, in order");
        conf.serial = (ev_slice){0};
        OK(make(&conf, k, &other) == 0 && !ev_slice_eq(ev_cert_der(a), ev_cert_der(other)), "serials differ");
        ev_cert_free(a);
        ev_cert_free(b);
        ev_cert_free(other);
        ev_key_free(k);
    }
}

static void test_make_forms(void)
{
    struct ev_cert_conf conf = { .subject = "/CN=x", .not_after_ms = DAY, .bare = true, .path_len = -1 };
    struct ev_key *k = NULL;
    struct ev_cert *c = NULL;
    char *big = ev_alloc(9600 + 1);
    const char *names[1] = { big };
    int64_t from, to;
    ev_slice dns;

    OK(ev_key_generate(EV_P384, &k, NULL) == 0 && make(&conf, k, &c) == 0, "a bare one");
    EQ_INT(X509_get_ext_count(ev_cert_x509(c)), 0, "has no extension");
    ev_cert_free(c);
    conf.bare = false;
    conf.leaf_usage = true;
    OK(make(&conf, k, &c) == 0, "a leaf for attestation");
    EQ_INT(X509_get_ext_count(ev_cert_x509(c)), 2, "has two extensions");
    OK(X509_get_key_usage(ev_cert_x509(c)) == (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION), "usage as Nitro's");
    OK(X509_EXTENSION_get_critical(X509_get_ext(ev_cert_x509(c), 0)) == 1 &&
       X509_EXTENSION_get_critical(X509_get_ext(ev_cert_x509(c), 1)) == 0, "critical as Nitro's");
    ev_cert_free(c);
    memset(big, 'a', 9600);
    conf.leaf_usage = false;
    conf.dns = names;
    conf.n_dns = 1;
    OK(make(&conf, k, &c) == 0 && ev_cert_dns_name(c, 0, &dns) && dns.n == 9600, "a name of 9600 bytes");
    ev_cert_free(c);
    conf.n_dns = 0;
    conf.not_before_ms = ms("1950-01-01T00:00:00Z");
    conf.not_after_ms = ms("9999-12-31T23:59:59Z");
    OK(make(&conf, k, &c) == 0, "a long life");
    ev_cert_validity(c, &from, &to);
    OK(from == conf.not_before_ms && to == conf.not_after_ms, "from the first to the last time that there is");
    ev_cert_free(c);
    ev_free(big);
    ev_key_free(k);
}

static void test_make_refused(void)
{
    static const char *const subjects[] = { "", "CN=x", "/", "/CN", "/CN=", "/=x", "/NOSUCH=x", "/CN=x/", "/CN=x//C=IE",
                                            "/C=IRELAND", "/CN=\xFF", NULL };
    static const char *const names[] = { "", "a b", "a\tb", "caf\xC3\xA9" };
    struct ev_cert_conf conf = { .not_after_ms = DAY, .path_len = -1 };
    struct ev_key *k = NULL, *other = NULL, *pub = NULL;
    struct ev_cert *c = NULL, *ca = NULL;
    uint8_t point[EV_POINT_MAX];
    int n;

    OK(ev_key_generate(EV_P256, &k, NULL) == 0 && ev_key_generate(EV_P256, &other, NULL) == 0 &&
       (n = ev_key_point(k, true, point)) > 0 && ev_key_from_point(EV_P256, ev_slice_of(point, (size_t)n), &pub, NULL)
       == 0, "keys");
    for (size_t i = 0; i < EV_COUNT(subjects); i++) {
        conf.subject = subjects[i];
        OK(ev_cert_make(&conf, k, NULL, NULL, &c, NULL) == EV_EUSAGE && !c, "subject refused: %s",
           subjects[i] ? subjects[i] : "none");
    }
    conf.subject = "/CN=x";
    for (size_t i = 0; i < EV_COUNT(names); i++) {
        conf.dns = &names[i];
        conf.n_dns = 1;
        OK(ev_cert_make(&conf, k, NULL, NULL, &c, NULL) == EV_EUSAGE && !c, "name refused: \"%s\"", names[i]);
    }
    conf.n_dns = 0;
    conf.serial = EV_LIT("\0\0");
    OK(ev_cert_make(&conf, k, NULL, NULL, &c, NULL) == EV_EUSAGE, "serial 0");
    conf.serial = EV_LIT("123456789012345678901");
    OK(ev_cert_make(&conf, k, NULL, NULL, &c, NULL) == EV_EUSAGE, "a serial of 21 bytes");
    conf.serial = (ev_slice){0};
    OK(ev_cert_make(&conf, pub, NULL, NULL, &c, NULL) == EV_EUSAGE, "no private key");
    OK(ev_cert_make(&conf, k, NULL, NULL, &ca, NULL) == 0 && ev_cert_make(&conf, k, ca, other, &c, NULL) == EV_EUSAGE,
       "a key that is not the issuer's");
    OK(ev_cert_make(&conf, pub, ca, k, &c, NULL) == 0, "a subject needs only its public key");
    ev_cert_free(c);
    conf.not_before_ms = 2 * DAY;
    OK(ev_cert_make(&conf, k, NULL, NULL, &c, NULL) == EV_EUSAGE, "an end before the beginning");
    ev_cert_free(ca);
    ev_key_free(k);
    ev_key_free(other);
    ev_key_free(pub);
}

/* ---- chains ---- */

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
static int64_t at;              /* the time that the chains are for */

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

/* ---- the openssl command reads what we make ---- */

static int run(const char *dir, const char *const *argv)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (chdir(dir) < 0 || !freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(126);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#define RUN(dir, ...) run(dir, (const char *const[]){ __VA_ARGS__, NULL })

static bool save(const char *dir, const char *name, const struct ev_cert *c)
{
    struct ev_buf pem = EV_BUF_INIT(65536);
    char path[256];
    bool ok;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    ok = ev_cert_pem(c, &pem, NULL) == 0 && ev_file_write(path, ev_buf_slice(&pem), 0600, NULL) == 0;
    ev_buf_fini(&pem);
    return ok;
}

static void test_openssl(void)
{
    struct ev_cert_conf conf = { .subject = "/CN=ca", .not_before_ms = ms("2020-01-01T00:00:00Z"),
                                 .not_after_ms = ms("2060-01-01T00:00:00Z"), .ca = true, .path_len = 0 };
    struct ev_key *ck = NULL, *lk = NULL;
    struct ev_cert *ca = NULL, *leaf = NULL;
    char dir[] = "/tmp/ev-test-cert-XXXXXX";

    if (!mkdtemp(dir) || RUN(dir, "openssl", "version") != 0) {
        SKIP(1, "the openssl command is not there");
        return;
    }
    OK(ev_key_generate(EV_P256, &ck, NULL) == 0 && ev_key_generate(EV_P256, &lk, NULL) == 0 &&
       ev_cert_make(&conf, ck, NULL, NULL, &ca, NULL) == 0, "a CA");
    conf = (struct ev_cert_conf){ .subject = "/CN=leaf", .not_before_ms = conf.not_before_ms, .path_len = -1,
                                  .not_after_ms = conf.not_after_ms, .dns = hosts, .n_dns = 2 };
    OK(ev_cert_make(&conf, lk, ca, ck, &leaf, NULL) == 0 && save(dir, "ca.pem", ca) && save(dir, "leaf.pem", leaf),
       "and a leaf of it");
    OK(RUN(dir, "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", hosts[0], "-CAfile",
           "ca.pem", "leaf.pem") == 0, "openssl verify -x509_strict, as a server");
    OK(RUN(dir, "openssl", "verify", "-verify_hostname", "other", "-CAfile", "ca.pem", "leaf.pem") != 0,
       "not for another host");
    ev_cert_free(ca);
    ev_cert_free(leaf);
    ev_key_free(ck);
    ev_key_free(lk);
    RUN("/", "rm", "-rf", dir);
}

int main(void)
{
    at = ms("2026-11-24T12:00:00Z");
    test_root();
    test_cage();
    test_hostile();
    test_ber();
    test_make();
    test_make_forms();
    test_make_refused();
    test_chain_good();
    test_chain_usage();
    test_chain_algorithm();
    test_chain_links();
    test_chain_shape();
    test_chain_made();
    test_extension_values();
    test_openssl();
    return tap_done();
}
