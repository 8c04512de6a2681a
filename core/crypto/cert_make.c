/* cert_make.c — making certificates, the same bytes each time for the same input.
 *
 * OpenSSL puts the parts together and encodes them; the signature comes from ev_key_sign, whose
 * nonce is deterministic. What was made is then read as anybody else's certificate would be, so
 * nothing leaves here that ev_cert_from_der refuses. */
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/ossl.h"

enum {
    SERIAL_LEN = 20,            /* RFC 5280's maximum */
    NAME_MAX_LEN = 1024,        /* bytes of a subject's text */
    DNS_MAX_LEN = 64 * 1024     /* bytes of a DNS name; attestable ones carry a document */
};

static int broken(struct ev_err *err, const char *what)
{
    return ev_ossl_fail(err, EV_ECRYPTO, what);
}

/* ---- parts ---- */

/* One attribute: up to the next unescaped '/'. Moves *p behind it. */
static int name_part(X509_NAME *name, const char **p, struct ev_err *err)
{
    char text[NAME_MAX_LEN + 1], *value;
    size_t n = 0;

    for (; **p && **p != '/'; (*p)++) {
        if (**p == '\\' && (*p)[1])
            (*p)++;
        if (n == NAME_MAX_LEN)
            return ev_fail(err, EV_ELIMIT, "a subject of more than %d bytes", NAME_MAX_LEN);
        text[n++] = **p;
    }
    text[n] = 0;
    if ((value = strchr(text, '=')) == NULL || value == text || value[1] == 0)
        return ev_fail(err, EV_EUSAGE, "subject: \"%s\" is not NAME=VALUE", text);
    *value++ = 0;
    if (X509_NAME_add_entry_by_txt(name, text, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) != 1) {
        ERR_clear_error();
        return ev_fail(err, EV_EUSAGE, "subject: \"%s\" is no attribute, or cannot be \"%s\"", text, value);
    }
    return 0;
}

/* "/CN=x/C=IE"; a slash inside a value is written "\/". */
static int put_name(X509_NAME *name, const char *text, struct ev_err *err)
{
    int rc = 0;

    if (!text || text[0] != '/')
        return ev_fail(err, EV_EUSAGE, "subject: it has to begin with \"/\", as in \"/CN=name\"");
    while (*text == '/') {
        text++;
        EV_TRY(name_part(name, &text, err));
    }
out:
    return rc;
}

static int put_serial(X509 *x, ev_slice given, struct ev_err *err)
{
    uint8_t bytes[SERIAL_LEN];
    BIGNUM *bn;
    bool ok;

    if (given.n > SERIAL_LEN)
        return ev_fail(err, EV_EUSAGE, "a serial number of more than %d bytes", SERIAL_LEN);
    if (given.n == 0) {
        if (ev_random(bytes, sizeof bytes) < 0)
            return broken(err, "serial number");
        bytes[0] &= 0x7F;                       /* 159 bits: 20 bytes, never negative */
        bytes[SERIAL_LEN - 1] |= 1;             /* nor zero */
        given = ev_slice_of(bytes, sizeof bytes);
    }
    bn = BN_bin2bn(given.p, (int)given.n, NULL);
    ok = bn && !BN_is_zero(bn) && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL;
    BN_free(bn);
    return ok ? 0 : ev_ossl_fail(err, EV_EUSAGE, "serial number");
}

static int put_time(ASN1_TIME *t, int64_t ms, struct ev_err *err)
{
    int64_t s = ms >= 0 ? ms / 1000 : -((-ms + 999) / 1000);

    return ASN1_TIME_adj(t, (time_t)s, 0, 0) ? 0 : broken(err, "a time that a certificate cannot have");
}

static int put_ext(X509 *x, int nid, void *value, bool critical, struct ev_err *err)
{
    return X509_add1_ext_i2d(x, nid, value, critical, X509V3_ADD_DEFAULT) == 1 ? 0 : broken(err, OBJ_nid2sn(nid));
}

static int put_constraints(X509 *x, bool ca, int path_len, struct ev_err *err)
{
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    int rc = 0;

    if (!bc)
        return broken(err, "basicConstraints");
    bc->ca = ca ? 0xFF : 0;
    if (ca && path_len >= 0 && ((bc->pathlen = ASN1_INTEGER_new()) == NULL || !ASN1_INTEGER_set(bc->pathlen, path_len)))
        rc = broken(err, "basicConstraints");
    EV_TRY(rc);
    rc = put_ext(x, NID_basic_constraints, bc, true, err);
out:
    BASIC_CONSTRAINTS_free(bc);
    return rc;
}

/* Bits as RFC 5280 counts them: 0 digitalSignature, 1 nonRepudiation, 5 keyCertSign, 6 cRLSign. */
static int put_usage(X509 *x, const int *bits, size_t n, bool critical, struct ev_err *err)
{
    ASN1_BIT_STRING *s = ASN1_BIT_STRING_new();
    int rc = s ? 0 : broken(err, "keyUsage");

    EV_TRY(rc);
    for (size_t i = 0; i < n; i++) {
        if (!ASN1_BIT_STRING_set_bit(s, bits[i], 1))
            rc = broken(err, "keyUsage");
        EV_TRY(rc);
    }
    rc = put_ext(x, NID_key_usage, s, critical, err);
out:
    ASN1_BIT_STRING_free(s);
    return rc;
}

static bool dns_ok(const char *s)
{
    size_t n = 0;

    for (; s[n] && n <= DNS_MAX_LEN; n++) {
        if (s[n] <= ' ' || s[n] > '~')
            return false;
    }
    return n > 0 && n <= DNS_MAX_LEN;
}

static int put_dns(X509 *x, const char *const *dns, size_t n, struct ev_err *err)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    int rc = names ? 0 : broken(err, "subjectAltName");

    EV_TRY(rc);
    for (size_t i = 0; i < n; i++) {
        GENERAL_NAME *g = GENERAL_NAME_new();
        ASN1_IA5STRING *s = ASN1_IA5STRING_new();

        if (!g || !s || !dns_ok(dns[i]) || !ASN1_STRING_set(s, dns[i], (int)strlen(dns[i]))) {
            GENERAL_NAME_free(g);
            ASN1_IA5STRING_free(s);
            rc = ev_fail(err, EV_EUSAGE, "a DNS name that cannot be one");
            goto out;
        }
        GENERAL_NAME_set0_value(g, GEN_DNS, s);
        if (sk_GENERAL_NAME_push(names, g) <= 0) {
            GENERAL_NAME_free(g);
            rc = broken(err, "subjectAltName");
            goto out;
        }
    }
    rc = put_ext(x, NID_subject_alt_name, names, false, err);
out:
    GENERAL_NAMES_free(names);
    return rc;
}

/* ---- key identifiers: strict TLS clients want them; Nitro's leaves have none ---- */

static ASN1_OCTET_STRING *key_id(const X509 *x)
{
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(x);
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    uint8_t hash[EV_DIGEST_MAX];

    /* RFC 7093: the leftmost 160 bits of SHA-256 over the key. */
    ev_digest_once(EV_SHA256, ev_slice_of(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits)), hash);
    if (id && !ASN1_OCTET_STRING_set(id, hash, 20)) {
        ASN1_OCTET_STRING_free(id);
        id = NULL;
    }
    return id;
}

static int put_key_ids(X509 *x, const struct ev_cert *issuer, struct ev_err *err)
{
    ASN1_OCTET_STRING *own = key_id(x);
    const ASN1_OCTET_STRING *above = issuer ? X509_get0_subject_key_id(ev_cert_x509(issuer)) : NULL;
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    int rc = own && aki ? 0 : broken(err, "key identifier");

    EV_TRY(rc);
    EV_TRY(put_ext(x, NID_subject_key_identifier, own, false, err));
    if (above) {
        aki->keyid = ASN1_OCTET_STRING_dup(above);
        EV_TRY(put_ext(x, NID_authority_key_identifier, aki, false, err));
    }
out:
    ASN1_OCTET_STRING_free(own);
    AUTHORITY_KEYID_free(aki);
    return rc;
}

static int put_extensions(X509 *x, const struct ev_cert_conf *conf, const struct ev_cert *issuer, struct ev_err *err)
{
    static const int ca_bits[] = { 0, 5, 6 }, leaf_bits[] = { 0, 1 };
    int rc = 0;

    if (conf->bare)
        return 0;
    EV_TRY(put_constraints(x, conf->ca, conf->path_len, err));
    if (conf->ca)
        EV_TRY(put_usage(x, ca_bits, EV_COUNT(ca_bits), true, err));
    else if (conf->leaf_usage)
        EV_TRY(put_usage(x, leaf_bits, EV_COUNT(leaf_bits), false, err));
    if (conf->n_dns > 0)
        EV_TRY(put_dns(x, conf->dns, conf->n_dns, err));
    if (conf->ca || !conf->leaf_usage)
        EV_TRY(put_key_ids(x, issuer, err));
out:
    return rc;
}

/* ---- signing ---- */

static int signature_nid(const struct ev_key *k)
{
    switch (ev_curve_digest(ev_key_curve(k))) {
    case EV_SHA256: return NID_ecdsa_with_SHA256;
    case EV_SHA384: return NID_ecdsa_with_SHA384;
    case EV_SHA512: break;
    }
    return NID_ecdsa_with_SHA512;
}

/* OpenSSL hands out the parts of a certificate as const even to who is making one. */
#define MUTABLE(type, p) ((type *)(uintptr_t)(p))

static int sign(X509 *x, const struct ev_key *key, struct ev_err *err)
{
    const ASN1_BIT_STRING *sig = NULL;
    const X509_ALGOR *outer = NULL;
    uint8_t raw[EV_SIG_RAW_MAX], der[EV_SIG_DER_MAX];
    unsigned char *tbs = NULL;
    ASN1_BIT_STRING *bits;
    int rc = 0, n = 0, nid = signature_nid(key);

    X509_get0_signature(&sig, &outer, x);
    if (!X509_ALGOR_set0(MUTABLE(X509_ALGOR, X509_get0_tbs_sigalg(x)), OBJ_nid2obj(nid), V_ASN1_UNDEF, NULL) ||
        !X509_ALGOR_set0(MUTABLE(X509_ALGOR, outer), OBJ_nid2obj(nid), V_ASN1_UNDEF, NULL) ||
        (n = i2d_re_X509_tbs(x, &tbs)) <= 0)
        rc = broken(err, "certificate");
    EV_TRY(rc);
    EV_TRY(ev_key_sign(key, ev_slice_of(tbs, (size_t)n), raw, err));
    EV_TRY(n = ev_sig_to_der(ev_slice_of(raw, ev_key_sig_len(key)), der));
    bits = MUTABLE(ASN1_BIT_STRING, sig);
    if (!ASN1_STRING_set(bits, der, n))
        rc = broken(err, "certificate");
    EV_TRY(rc);
    bits->flags &= ~(ASN1_STRING_FLAG_BITS_LEFT | 7);
    bits->flags |= ASN1_STRING_FLAG_BITS_LEFT;          /* no unused bits, said rather than guessed */
    rc = 0;
out:
    OPENSSL_free(tbs);
    return rc;
}

static int fill(X509 *x, const struct ev_cert_conf *conf, const struct ev_key *subject_key,
                const struct ev_cert *issuer, struct ev_err *err)
{
    int rc = 0;

    if (X509_set_version(x, X509_VERSION_3) != 1 || X509_set_pubkey(x, ev_key_pkey(subject_key)) != 1)
        rc = broken(err, "certificate");
    EV_TRY(rc);
    EV_TRY(put_serial(x, conf->serial, err));
    EV_TRY(put_time(X509_getm_notBefore(x), conf->not_before_ms, err));
    EV_TRY(put_time(X509_getm_notAfter(x), conf->not_after_ms, err));
    EV_TRY(put_name(X509_get_subject_name(x), conf->subject, err));
    if (X509_set_issuer_name(x, X509_get_subject_name(issuer ? ev_cert_x509(issuer) : x)) != 1)
        rc = broken(err, "certificate");
    EV_TRY(rc);
    rc = put_extensions(x, conf, issuer, err);
out:
    return rc;
}

static int check_conf(const struct ev_cert_conf *conf, const struct ev_cert *issuer, const struct ev_key *signer,
                      struct ev_err *err)
{
    struct ev_key *above = NULL;
    bool same = true;

    if (!signer || !ev_key_is_private(signer) || ev_key_curve(signer) == EV_CURVE_OTHER)
        return ev_fail(err, EV_EUSAGE, "an issuer needs a private key on a curve that is known");
    if (conf->not_after_ms < conf->not_before_ms)
        return ev_fail(err, EV_EUSAGE, "it would end before it begins");
    if (issuer) {
        same = ev_cert_key(issuer, &above, NULL) == 0 && ev_key_same_public(above, signer);
        ev_key_free(above);
    }
    return same ? 0 : ev_fail(err, EV_EUSAGE, "the issuer's key does not belong to its certificate");
}

int ev_cert_make(const struct ev_cert_conf *conf, const struct ev_key *subject_key,
                 const struct ev_cert *issuer, const struct ev_key *issuer_key,
                 struct ev_cert **out, struct ev_err *err)
{
    const struct ev_key *signer = issuer ? issuer_key : subject_key;
    unsigned char *der = NULL;
    X509 *x = NULL;
    int rc, n;

    *out = NULL;
    EV_TRY(check_conf(conf, issuer, signer, err));
    if ((x = X509_new()) == NULL)
        rc = broken(err, "certificate");
    EV_TRY(rc);
    EV_TRY(fill(x, conf, subject_key, issuer, err));
    EV_TRY(sign(x, signer, err));
    if ((n = i2d_X509(x, &der)) <= 0)
        rc = broken(err, "certificate");
    EV_TRY(rc);
    rc = ev_cert_from_der(ev_slice_of(der, (size_t)n), out, err);
out:
    if (rc < 0)
        ev_err_wrap(err, "making a certificate");
    OPENSSL_free(der);
    X509_free(x);
    return rc;
}
