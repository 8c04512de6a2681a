/* Tests of crypto/cert.c and cert_make.c: genuine certificates, bent ones, certificates that we make and
 * what the openssl command says of them. Chains are in test_cert_forged.c and test_cert_chain.c. */
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "codec/text.h"
#include "crypto/ossl.h"
#include "openssl_cmd.h"
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

/* ---- the openssl command reads what we make ---- */

static bool save(const char *dir, const char *name, const struct ev_cert *c)
{
    struct ev_buf pem = EV_BUF_INIT(65536);
    bool ok = ev_cert_pem(c, &pem, NULL) == 0 && cmd_save(dir, name, ev_buf_slice(&pem));

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
    test_root();
    test_cage();
    test_hostile();
    test_ber();
    test_make();
    test_make_forms();
    test_make_refused();
    test_openssl();
    return tap_done();
}
