/* Tests of nitro/attest.c: who made a document - anchors, chains, signatures, encodings - one for each
 * mistake that verifiers were seen to make (spec nsm-attestation §9, by its numbers); documents inside
 * certificates. What is expected of a document is in test_attest_expect.c. Documents are made under a
 * PKI of the test's own; genuine ones are in test_attest_golden.c. */
#include "attest_judge.h"
#include "codec/text.h"
#include "crypto/digest.h"
#include "nitro/aws_root.h"

/* An authority that ends before the leaf, and one that begins after it. */
static void narrow(unsigned level, struct ev_cert_conf *conf)
{
    if (level == 3)
        conf->not_after_ms = KIT_NOW + KIT_HOUR;
    if (level == 2)
        conf->not_before_ms = KIT_NOW - 60000;
}

/* The bytes in `doc`. */
static void bytes_are(const char *reason, const char *what)
{
    struct ev_expect e = any();
    const char *r = judge_with(&pki, ev_buf_slice(&doc), &e);

    OK(strcmp(r, reason) == 0, "%s: %s (\"%s\" %s)", what, *reason ? reason : "accepted", r, kit_err.msg);
}

/* A document of another PKI, judged by that PKI's root. */
static void pki_is(kit_tweak *tweak, const char *reason, const char *what)
{
    struct kit_pki p = {0};
    struct kit_doc d;
    struct ev_expect e = any();
    const char *r;

    kit_pki_make(&p, tweak);
    d = kit_doc(&p);
    kit_make(&d, &doc);
    r = judge_with(&p, ev_buf_slice(&doc), &e);
    OK(strcmp(r, reason) == 0, "%s: %s (\"%s\" %s)", what, *reason ? reason : "accepted", r, kit_err.msg);
    kit_pki_fini(&p);
}

/* 3, 16 */
static void test_anchor(void)
{
    struct kit_pki other = {0};
    struct kit_doc d;
    struct ev_expect e = any();
    struct ev_trust none = {0};
    struct ev_cert *alike = NULL;
    struct ev_cert_conf conf = kit_conf(0);

    kit_pki_make(&other, NULL);
    d = kit_doc(&other);
    any_is(&d, "cert-root", "3. a whole PKI out of the document");
    d.bundle[0] = ev_cert_der(pki.cert[0]);
    any_is(&d, "cert-chain", "3. our root in front of another's chain");
    d = kit_doc(&pki);
    MUST(ev_cert_make(&conf, pki.key[0], NULL, pki.key[0], &alike, &kit_err));
    d.bundle[0] = ev_cert_der(alike);
    any_is(&d, "cert-root", "3. the root's name and key in another certificate");
    d = kit_doc(&pki);
    d.n_bundle = 3;
    memmove(d.bundle, d.bundle + 1, 3 * sizeof d.bundle[0]);
    any_is(&d, "cert-root", "3. no root in the bundle");
    d.n_bundle = 0;
    any_is(&d, "doc-payload", "16. an empty bundle");
    kit_make(&d, &doc);
    d = kit_doc(&pki);
    kit_make(&d, &doc);
    ev_attest_fini(&got);
    OK(ev_attest_verify(ev_buf_slice(&doc), &none, &e, &got, &kit_err) == EV_EVERIFY &&
       strcmp(kit_err.reason, "cert-root") == 0, "3. no trust anchor: nothing is trusted");
    ev_attest_fini(&got);
    OK(ev_attest_verify(ev_buf_slice(&doc), NULL, &e, &got, &kit_err) == EV_EVERIFY, "3. nor without a list");
    ev_cert_free(alike);
    kit_pki_fini(&other);
}

static void test_chain_order(void)
{
    struct kit_doc d = kit_doc(&pki);
    ev_slice t;

    t = d.bundle[1], d.bundle[1] = d.bundle[2], d.bundle[2] = t;
    any_is(&d, "cert-usage", "the bundle in another order (its path lengths show it first)");
    d = kit_doc(&pki);
    d.n_bundle = 3;
    any_is(&d, "cert-chain", "a link missing");
    d = kit_doc(&pki);
    d.bundle[4] = d.bundle[3];
    d.n_bundle = 5;
    any_is(&d, "cert-usage", "an authority twice");
    d = kit_doc(&pki);
    d.certificate = d.bundle[3];
    d.key = pki.key[3];
    d.n_bundle = 3;
    any_is(&d, "cert-usage", "an authority as leaf");
    d = kit_doc(&pki);
    d.certificate = d.bundle[0];
    d.key = pki.key[0];
    d.n_bundle = 1;
    any_is(&d, "cert-usage", "the root as leaf");
}

/* 4, 5, 18, 22, 23 */
static void test_signature(void)
{
    struct kit_doc d = kit_doc(&pki), other = d;
    struct ev_buf payload = EV_BUF_INIT(1 << 16);
    uint8_t sig[97] = {0}, bad[97];

    d.omit = 1u << K_CERTIFICATE;
    any_is(&d, "doc-payload", "4. no certificate");
    d.omit = 1u << K_CABUNDLE;
    any_is(&d, "doc-payload", "4. no bundle");
    d.omit = 0;
    kit_payload(&d, &payload);
    kit_sign(&d, EV_LIT("\xA1\x01\x38\x22"), ev_buf_slice(&payload), sig);
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), EV_LIT(""), &doc);
    bytes_are("doc-cose", "4. no signature");
    for (size_t i = 0; i < 96; i += 19) {
        memcpy(bad, sig, sizeof bad);
        bad[i] ^= 4;
        ev_buf_clear(&doc);
        kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(bad, 96), &doc);
        bytes_are("doc-signature", "5. a changed signature");
    }
    memset(bad, 0, sizeof bad);
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(bad, 96), &doc);
    bytes_are("doc-signature", "5. r and s zero");
    memset(bad, 0xFF, sizeof bad);
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(bad, 96), &doc);
    bytes_are("doc-signature", "5. r and s above the order");
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(sig, 97), &doc);
    bytes_are("doc-cose", "18. a zero after the signature");
    payload.p[payload.n - 1] ^= 1;                      /* in the nonce, the last field */
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(sig, 96), &doc);
    bytes_are("doc-signature", "5. a changed payload");
    other.key = pki.key[3];
    any_is(&other, "doc-signature", "5. signed by another key of the chain");
    ev_buf_fini(&payload);
}

static void test_signature_forms(void)
{
    static const uint8_t order[48] = {      /* of P-384 */
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC7, 0x63, 0x4D, 0x81, 0xF4, 0x37, 0x2D, 0xDF,
        0x58, 0x1A, 0x0D, 0xB2, 0x48, 0xB0, 0xA7, 0x7A, 0xEC, 0xEC, 0x19, 0x6A, 0xCC, 0xC5, 0x29, 0x73 };
    struct kit_doc d = kit_doc(&pki);
    struct ev_buf payload = EV_BUF_INIT(1 << 16), der = EV_BUF_INIT(128);
    uint8_t sig[96];
    int borrow = 0, leading = 0;

    kit_payload(&d, &payload);
    kit_sign(&d, EV_LIT("\xA1\x01\x38\x22"), ev_buf_slice(&payload), sig);
    kit_put_integer(&der, sig);
    kit_put_integer(&der, sig + 48);
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), ev_buf_slice(&der), &doc);
    bytes_are("doc-cose", "18. a DER signature");
    for (int i = 47; i >= 0; i--) {                     /* s → order - s: valid, high when s was low */
        int v = order[i] - sig[48 + i] - borrow;

        borrow = v < 0;
        sig[48 + i] = (uint8_t)v;
    }
    ev_buf_clear(&doc);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(sig, 96), &doc);
    bytes_are("", "22. the other s");
    for (int i = 0; i < 4000 && !leading; i++) {
        d.timestamp--;
        kit_make(&d, &doc);
        leading = doc.p[doc.n - 96] == 0 || doc.p[doc.n - 48] == 0;
    }
    OK(leading, "22. a component that begins with a zero byte");
    bytes_are("", "22. verifies");
    ev_buf_fini(&payload);
    ev_buf_fini(&der);
}

static void test_received_bytes(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_buf b = EV_BUF_INIT(1 << 12);

    MUST(ev_buf_put_slice(&b, EV_LIT("\xB9\x00\x01\x18\x00\x59\x00\x30")));
    MUST(ev_buf_put(&b, d.pcrs.value[0], EV_PCR_LEN));
    d.raw[K_PCRS] = ev_buf_slice(&b);
    d.raw[K_NONCE] = EV_LIT("\x58\x01n");
    any_is(&d, "", "23. a payload that nobody would encode that way");
    OK(got.pcrs.present == 1 && got.nonce.n == 1, "23. read all the same");
    d = kit_doc(&pki);
    d.header = EV_LIT("\xA1\x18\x01\x39\x00\x22");
    any_is(&d, "", "23. a protected header that nobody would encode that way");
    d.header = EV_LIT("\xA1\x01\x26");
    any_is(&d, "doc-alg", "7. ES256, validly signed as such");
    d.header = EV_LIT("\xA1\x01\x65" "ES384");
    any_is(&d, "doc-alg", "7. the text ES384");
    d.header = EV_LIT("\xA0");
    d.unprotected = EV_LIT("\xA1\x01\x38\x22");
    any_is(&d, "doc-alg", "7. an unprotected algorithm");
    d.header = EV_LIT("\xA2\x01\x38\x22\x02\x81\x01");
    any_is(&d, "doc-alg", "7. crit");
    d = kit_doc(&pki);
    d.unprotected = EV_LIT("\xA1\x01\x26");
    any_is(&d, "", "7. what is unprotected says nothing");
    ev_buf_fini(&b);
}

/* 7, 8, 20 */
static void p256_leaf(struct kit_doc *d, struct ev_key **key, struct ev_cert **cert)
{
    struct ev_cert_conf conf = kit_conf(KIT_LEAF);

    MUST(ev_key_generate(EV_P256, key, &kit_err));
    MUST(ev_cert_make(&conf, *key, pki.cert[3], pki.key[3], cert, &kit_err));
    d->certificate = ev_cert_der(*cert);
}

static void test_leaf_key(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_key *key = NULL;
    struct ev_cert *cert = NULL;

    p256_leaf(&d, &key, &cert);
    any_is(&d, "cert-algorithm", "7. a leaf on P-256");
    ev_key_free(key);
    ev_cert_free(cert);
}

static void test_rogue_leaf(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_cert_conf conf = kit_conf(KIT_LEAF);
    struct ev_key *key = NULL;
    struct ev_cert *cert = NULL;

    MUST(ev_key_generate(EV_P384, &key, &kit_err));
    MUST(ev_cert_make(&conf, key, pki.cert[KIT_LEAF], pki.key[KIT_LEAF], &cert, &kit_err));
    d.bundle[4] = d.certificate;
    d.n_bundle = 5;
    d.certificate = ev_cert_der(cert);
    d.key = key;
    any_is(&d, "cert-usage", "8. a leaf issues another leaf");
    ev_key_free(key);
    ev_cert_free(cert);
}

static void not_ca(unsigned level, struct ev_cert_conf *conf)
{
    if (level == 2)
        conf->ca = false;
}

static void no_extensions(unsigned level, struct ev_cert_conf *conf) { conf->bare |= level == 3; }

static void leaf_bare(unsigned level, struct ev_cert_conf *conf) { conf->bare |= level == KIT_LEAF; }

static void leaf_unusable(unsigned level, struct ev_cert_conf *conf)
{
    if (level == KIT_LEAF)
        conf->leaf_usage = false;
}

static void leaf_ca(unsigned level, struct ev_cert_conf *conf)
{
    if (level == KIT_LEAF)
        conf->ca = true;
}

static void zonal_0(unsigned level, struct ev_cert_conf *conf)
{
    if (level == 2)
        conf->path_len = 0;
}

static void regional_256(unsigned level, struct ev_cert_conf *conf)
{
    if (level == 1)
        conf->path_len = 256;
}

static void regional_0(unsigned level, struct ev_cert_conf *conf)
{
    if (level == 1)
        conf->path_len = 0;
}

static void test_usage(void)
{
    pki_is(NULL, "", "a PKI of its own");
    pki_is(narrow, "", "authorities that live shorter than the leaf");
    OK(got.not_before_ms == KIT_NOW - 60000 && got.not_after_ms == KIT_NOW + KIT_HOUR, "narrow the window");
    pki_is(not_ca, "cert-usage", "8. an issuer that is no authority");
    pki_is(no_extensions, "cert-usage", "8. an issuer without extensions");
    pki_is(leaf_ca, "cert-usage", "8. a leaf that is an authority");
    pki_is(leaf_bare, "cert-usage", "8. a leaf without extensions");
    pki_is(leaf_unusable, "cert-usage", "8. a leaf that is not for signatures");
    pki_is(zonal_0, "cert-usage", "8. path length 0 above an authority");
    pki_is(regional_0, "cert-usage", "8. path length 0 above two");
    pki_is(regional_256, "", "9. path length 256 is more than enough, not 0");
}

/* 9, 12 in the certificates; 21 is in test_attest_decode.c */
static void test_der(void)
{
    struct kit_doc d;
    uint8_t der[1024];
    size_t n;

    for (unsigned i = 0; i < KIT_LEVELS; i++) {
        ev_slice *which;

        d = kit_doc(&pki);
        which = i == KIT_LEAF ? &d.certificate : &d.bundle[i];
        n = which->n;
        memcpy(der, which->p, n);
        der[n] = 0;
        *which = ev_slice_of(der, n + 1);
        any_is(&d, "cert-parse", "9. a byte after a certificate");
        *which = ev_slice_of(der, n - 1);
        any_is(&d, "cert-parse", "9. a byte less");
        der[0] = 0x31;
        *which = ev_slice_of(der, n);
        any_is(&d, "cert-parse", "9. another tag");
    }
    d = kit_doc(&pki);
    d.bundle[2] = EV_LIT("\x30\x00");
    any_is(&d, "cert-parse", "9. an empty sequence");
    d.bundle[2] = EV_LIT("-----BEGIN CERTIFICATE-----");
    any_is(&d, "cert-parse", "9. PEM");
}

/* 10 */
static unsigned late_level, late_how;

static void late(unsigned level, struct ev_cert_conf *conf)
{
    if (level != late_level)
        return;
    if (late_how == 0)
        conf->not_after_ms = KIT_NOW - 2000;
    else
        conf->not_before_ms = KIT_NOW + 2000;
}

static void test_validity(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_expect e = any();
    char what[64];
    uint8_t der[1024], *p;

    for (late_how = 0; late_how < 2; late_how++)
        for (late_level = 0; late_level < KIT_LEVELS; late_level++) {
            snprintf(what, sizeof what, "10. certificate %u, %s", late_level, late_how ? "too early" : "expired");
            pki_is(late, late_how ? "cert-not-yet-valid" : "cert-expired", what);
        }
    e.at_ms = KIT_NOW + 3 * KIT_HOUR;
    is(&d, &e, "", "10. in its last second");
    e.at_ms += 1000;
    is(&d, &e, "cert-expired", "10. a second later");
    e.at_ms = KIT_NOW - KIT_HOUR - 1;
    is(&d, &e, "cert-not-yet-valid", "10. a millisecond before its first");
    e.at_ms = 0;
    is(&d, &e, "cert-not-yet-valid", "10. a time that was forgotten");
    memcpy(der, d.certificate.p, d.certificate.n);
    p = memmem(der, d.certificate.n, "\x17\x0D" "2701", 6);
    if (OK(p != NULL, "10. the leaf's notBefore is in January")) {
        memcpy(p + 4, "0230", 4);
        d.certificate = ev_slice_of(der, d.certificate.n);
        any_is(&d, "cert-parse", "10. February 30");
    }
}

/* 11, 12, 13, 17 under a valid signature (shapes without one: test_attest_decode.c) */
static void test_shapes(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_buf b = EV_BUF_INIT(1 << 16);
    struct ev_expect e = any();

    d.extra = EV_LIT("\x65" "nonce\x41n");
    d.n_extra = 1;
    any_is(&d, "doc-payload", "11. a nonce twice");
    MUST(ev_cbor_put_map(&b, 2));
    for (int i = 0; i < 2; i++) {
        MUST(ev_cbor_put_uint(&b, 0));
        MUST(ev_cbor_put_bytes(&b, ev_slice_of(d.pcrs.value[i], EV_PCR_LEN)));
    }
    d = kit_doc(&pki);
    d.raw[K_PCRS] = ev_buf_slice(&b);
    any_is(&d, "doc-payload", "11. PCR0 twice");
    d = kit_doc(&pki);
    d.extra = EV_LIT("\x00");
    any_is(&d, "doc-payload", "12. a byte after the payload, signed");
    d = kit_doc(&pki);
    kit_make(&d, &doc);
    MUST(ev_buf_putc(&doc, 0));
    bytes_are("doc-cose", "12. a byte after the document");
    d.indefinite = true;
    any_is(&d, "", "13. an indefinite payload map");
    d = kit_doc(&pki);
    d.user_data = d.nonce = (ev_slice){0};
    any_is(&d, "", "17. null fields");
    OK(!got.has_user_data && !got.has_nonce && !got.has_public_key, "17. are not there");
    d.omit = 1u << K_NONCE | 1u << K_USER_DATA | 1u << K_PUBLIC_KEY;
    any_is(&d, "", "17. absent fields");
    OK(!got.has_user_data && !got.has_nonce && !got.has_public_key, "17. are not there either");
    d = kit_doc(&pki);
    d.nonce = EV_LIT("");
    is(&d, &e, "", "17. an empty nonce");
    OK(got.has_nonce && got.nonce.n == 0, "17. is there, and empty");
    ev_buf_fini(&b);
}

/* The documents of QEMU's device: real measurements, nobody's signature (spec §7). */
static void test_qemu(void)
{
    static const uint8_t zero[64];
    struct kit_doc d = kit_doc(&pki);
    struct ev_expect e = { .sets = &d.pcrs, .n_sets = 1, .at_ms = KIT_NOW, .allow_debug = true };
    struct ev_buf payload = EV_BUF_INIT(1 << 16);
    static const char *const reasons[] = { "doc-alg", "doc-cose" };

    d.certificate = d.bundle[0] = ev_slice_of(zero, sizeof zero);
    d.n_bundle = 1;
    kit_payload(&d, &payload);
    for (int i = 0; i < 2; i++) {               /* as it is, and with the right algorithm */
        d.header = i == 0 ? EV_LIT("\xA1\x01\x20") : EV_LIT("\xA1\x01\x38\x22");
        ev_buf_clear(&doc);
        kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(zero, sizeof zero), &doc);
        EQ_STR(judge_with(&pki, ev_buf_slice(&doc), &e), reasons[i], "QEMU's document is refused");
    }
    is(&d, &e, "cert-parse", "QEMU's certificates under a signature");
    ev_buf_fini(&payload);
}

/* ---- trust anchors ---- */

static void test_trust(void)
{
    struct ev_trust t;
    struct ev_err err = EV_ERR_INIT;
    struct ev_buf pem = EV_BUF_INIT(1 << 16), aws = EV_BUF_INIT(1 << 16);
    uint8_t sha[32];
    static const uint8_t want[32] = {
        0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06, 0x31,
        0x7e, 0xd7, 0xcd, 0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79, 0xbb, 0x5b };

    ev_digest_once(EV_SHA256, ev_slice_of(ev_aws_root_g1, sizeof ev_aws_root_g1), sha);
    OK(memcmp(sha, want, 32) == 0, "the compiled-in root has the SHA-256 that AWS publishes");
    MUST(ev_trust_default(&t, &kit_err));
    OK(t.n_roots == 1 && !t.development, "default trust: AWS alone");
    kit_read("tests/golden/attestation/aws-nitro-root-g1.pem", &aws);
    ev_trust_fini(&t);
    MUST(ev_trust_from_pem(&t, ev_buf_slice(&aws), &kit_err));
    OK(t.n_roots == 1 && !t.development &&
       ev_slice_eq(ev_cert_der(t.roots[0]), ev_slice_of(ev_aws_root_g1, sizeof ev_aws_root_g1)), "the same from PEM");
    ev_trust_fini(&t);
    MUST(ev_cert_pem(pki.cert[0], &pem, &kit_err));
    MUST(ev_trust_from_pem(&t, ev_buf_slice(&pem), &kit_err));
    OK(t.n_roots == 1 && t.development, "another root is a development root, and AWS's is not added");
    ev_trust_fini(&t);
    MUST(ev_buf_puts(&pem, "# a comment between\n"));
    MUST(ev_buf_put_slice(&pem, ev_buf_slice(&aws)));
    MUST(ev_trust_from_pem(&t, ev_buf_slice(&pem), &kit_err));
    OK(t.n_roots == 2 && t.development, "two of them");
    ev_trust_fini(&t);
    EQ_INT(ev_trust_from_pem(&t, ev_slice_of(pem.p, pem.n - 20), &err), EV_EPARSE, "the second cut off");
    OK(t.n_roots == 0 && !t.roots, "leaves nothing");
    EQ_INT(ev_trust_from_pem(&t, EV_LIT(""), &err), EV_EPARSE, "an empty text");
    EQ_INT(ev_trust_from_pem(&t, ev_slice_of(ev_aws_root_g1, sizeof ev_aws_root_g1), &err), EV_EPARSE, "DER");
    OK(ev_trust_from_pem(&t, EV_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &err) < 0,
       "no certificate inside");
    ev_buf_clear(&pem);
    for (int i = 0; i < 17; i++)
        MUST(ev_buf_put_slice(&pem, ev_buf_slice(&aws)));
    EQ_INT(ev_trust_from_pem(&t, ev_buf_slice(&pem), &err), EV_ELIMIT, "17 of them");
    ev_trust_fini(&t);
    ev_buf_fini(&pem);
    ev_buf_fini(&aws);
}

/* ---- documents in certificates ---- */

static int carried(const char *const *dns, size_t n, struct ev_buf *out, struct ev_err *err)
{
    struct ev_cert_conf conf = { .subject = "/CN=cage", .not_before_ms = KIT_NOW, .not_after_ms = KIT_NOW + KIT_HOUR,
                                 .dns = dns, .n_dns = n };
    struct ev_cert *c = NULL;
    int rc;

    MUST(ev_cert_make(&conf, pki.key[4], NULL, pki.key[4], &c, &kit_err));
    rc = ev_attest_from_cert(c, out, err);
    ev_cert_free(c);
    return rc;
}

static void test_from_cert(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_buf hex = EV_BUF_INIT(1 << 20), out = EV_BUF_INIT(1 << 20), tiny = EV_BUF_INIT(16);
    const char *names[3] = { "cage.app.cages.example", NULL, "cage-2.app.cages.example" };
    struct ev_err err = EV_ERR_INIT;

    kit_make(&d, &doc);
    MUST(ev_hex_put(&hex, ev_buf_slice(&doc)));
    MUST(ev_buf_puts(&hex, ".cage.app.cages.example"));
    names[1] = ev_buf_str(&hex);
    EQ_INT(carried(names, 3, &out, &err), 0, "a document in the second of three names");
    OK(ev_slice_eq(ev_buf_slice(&out), ev_buf_slice(&doc)), "its bytes");
    EQ_INT(carried(names, 3, &tiny, &err), -ENOBUFS, "no room for it");
    EQ_INT(tiny.n, 0, "leaves nothing");
    hex.p[0] = 'X';
    EQ_INT(carried(names, 3, &out, &err), EV_EVERIFY, "a long label that is not hex");
    EQ_STR(err.reason, "doc-missing", "reason");
    OK(ev_slice_eq(ev_buf_slice(&out), ev_buf_slice(&doc)), "leaves the buffer as it was");
    hex.p[0] = 'A';                                     /* 8 → A: hex in upper case, no document */
    ev_buf_clear(&out);
    EQ_INT(carried(names, 3, &out, &err), 0, "upper case digits are digits");
    OK(out.p[0] == 0xA4, "with their value");
    hex.p[1] = '.';
    EQ_INT(carried(names, 3, &out, &err), EV_EVERIFY, "a short first label before a long one");
    EQ_INT(carried(names, 1, &out, &err), EV_EVERIFY, "ordinary names");
    EQ_INT(carried(NULL, 0, &out, &err), EV_EVERIFY, "no names at all");
    names[0] = "abcd.example";
    EQ_INT(carried(names, 1, &out, &err), EV_EVERIFY, "a name that happens to be hex");
    EQ_STR(err.reason, "doc-missing", "is no document");
    ev_buf_clear(&hex);
    for (int i = 0; i < 2 * EV_ATTEST_DOC_MAX - 100; i++)
        MUST(ev_buf_putc(&hex, 'a'));
    MUST(ev_buf_putc(&hex, 'a'));
    names[1] = ev_buf_str(&hex);
    EQ_INT(carried(names, 3, &out, &err), EV_EVERIFY, "an odd number of digits");
    ev_buf_fini(&hex);
    ev_buf_fini(&out);
}

int main(void)
{
    kit_pki_make(&pki, NULL);
    test_anchor();
    test_chain_order();
    test_signature();
    test_signature_forms();
    test_received_bytes();
    test_leaf_key();
    test_rogue_leaf();
    test_usage();
    test_der();
    test_validity();
    test_shapes();
    test_qemu();
    test_trust();
    test_from_cert();
    ev_attest_fini(&got);
    ev_buf_fini(&doc);
    kit_pki_fini(&pki);
    return tap_done();
}
