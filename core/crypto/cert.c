/* cert.c — reading X.509 certificates over OpenSSL, more strictly than it does.
 *
 * A certificate is taken apart when it comes in: DER through and through (OpenSSL takes BER in
 * places), nothing behind it, times that exist, a SAN that parses. What is handed out afterwards
 * cannot fail and is borrowed from the certificate. Making them is in cert_make.c, chains are in
 * cert_chain.c. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>

#include "codec/text.h"
#include "crypto/ossl.h"

enum {
    DER_MAX = 256 * 1024,       /* bytes of a certificate; attestable ones carry a document in their names */
    PEM_MAX = 1024 * 1024,      /* bytes of a PEM text */
    DER_DEPTH = 16
};

struct ev_cert {
    atomic_int refs;
    X509 *x;
    uint8_t *der;
    size_t n;
    int64_t not_before, not_after;              /* ms */
    struct ev_key *key;                         /* NULL: of a kind that OpenSSL does not know */
    GENERAL_NAMES *names;                       /* SAN, or NULL */
};

/* ---- strictness ---- */

/* Head of the element at p: → bytes of head, 0 when it is not DER; *len = bytes of content. */
static size_t der_head(const uint8_t *p, size_t n, size_t *len)
{
    size_t head = 2, k;

    if (n < 2 || (p[0] & 0x1F) == 0x1F)         /* tags of several bytes are not used here */
        return 0;
    *len = p[1];
    if (p[1] & 0x80) {
        k = p[1] & 0x7F;
        if (k == 0 || k > 4 || n < 2 + k || p[2] == 0)
            return 0;
        for (*len = 0; head < 2 + k; head++)
            *len = *len << 8 | p[head];
        if (*len < 128)
            return 0;
    }
    return *len <= n - head ? head : 0;
}

static bool primitive_ok(uint8_t tag, const uint8_t *p, size_t n)
{
    switch (tag) {
    case V_ASN1_BOOLEAN:
        return n == 1 && (p[0] == 0 || p[0] == 0xFF);
    case V_ASN1_INTEGER:
        return n > 0 && !(n > 1 && ((p[0] == 0 && p[1] < 0x80) || (p[0] == 0xFF && p[1] >= 0x80)));
    case V_ASN1_NULL:
        return n == 0;
    case V_ASN1_BIT_STRING:
        return n > 0 && p[0] < 8 && (p[0] == 0 || (n > 1 && (p[n - 1] & ((1 << p[0]) - 1)) == 0));
    default:
        return true;
    }
}

static bool der_ok(const uint8_t *p, size_t n, int depth)
{
    size_t head, len;

    for (; n > 0; p += head + len, n -= head + len) {
        if ((head = der_head(p, n, &len)) == 0)
            return false;
        if (p[0] & 0x20) {
            /* Strings in parts are BER: of the universal types only SEQUENCE and SET are constructed. */
            if ((p[0] & 0xC0) == 0 && p[0] != 0x30 && p[0] != 0x31)
                return false;
            if (depth == 0 || !der_ok(p + head, len, depth - 1))
                return false;
        } else if (!primitive_ok(p[0], p + head, len)) {
            return false;
        }
    }
    return true;
}

/* One element and nothing else. */
static bool der_single(const uint8_t *p, size_t n)
{
    size_t len, head = der_head(p, n, &len);

    return head > 0 && head + len == n && der_ok(p, n, DER_DEPTH);
}

/* Values of the extensions that decisions hang on; OpenSSL would ignore bytes behind them. */
static bool extensions_ok(const X509 *x)
{
    static const int nids[] = { NID_basic_constraints, NID_key_usage, NID_subject_alt_name };

    for (size_t i = 0; i < EV_COUNT(nids); i++) {
        int at = X509_get_ext_by_NID(x, nids[i], -1);
        const ASN1_OCTET_STRING *v = at < 0 ? NULL : X509_EXTENSION_get_data(X509_get_ext(x, at));

        if (at >= 0 && (!v || !der_single(ASN1_STRING_get0_data(v), (size_t)ASN1_STRING_length(v)) ||
                        X509_get_ext_by_NID(x, nids[i], at) >= 0))
            return false;
    }
    return true;
}

/* The key and the signature are whole bytes. OpenSSL takes no notice of unused bits in a key, so the
 * same key could be certified in several spellings. */
static bool whole_bytes(const X509 *x)
{
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(x), *sig = NULL;

    X509_get0_signature(&sig, NULL, x);
    return key && sig && (key->flags & 7) == 0 && (sig->flags & 7) == 0;
}

/* "YYMMDDHHMMSSZ" or "YYYYMMDDHHMMSSZ" → ms. Our own, because days that do not exist must fail. */
static int time_of(const ASN1_TIME *t, int64_t *ms)
{
    const char *p = (const char *)ASN1_STRING_get0_data(t);
    size_t n = (size_t)ASN1_STRING_length(t);
    char text[32];

    if (n == 0 || p[n - 1] != 'Z')
        return EV_EPARSE;
    if (ASN1_STRING_type(t) == V_ASN1_UTCTIME && n == 13) {
        snprintf(text, sizeof text, "%s%.2s-%.2s-%.2sT%.2s:%.2s:%.2s%.1s", p[0] < '5' ? "20" : "19", p, p + 2, p + 4,
                 p + 6, p + 8, p + 10, p + 12);
    } else if (ASN1_STRING_type(t) == V_ASN1_GENERALIZEDTIME && n == 15) {
        snprintf(text, sizeof text, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2s%.1s", p, p + 4, p + 6, p + 8, p + 10, p + 12,
                 p + 14);
    } else {
        return EV_EPARSE;
    }
    return ev_time_parse(ev_slice_str(text), ms);
}

/* ---- coming in ---- */

static int fail(struct ev_err *err, const char *what)
{
    ERR_clear_error();
    return ev_fail_reason(err, EV_EPARSE, "cert-parse", "certificate: %s", what);
}

static int take_apart(struct ev_cert *c, struct ev_err *err)
{
    EVP_PKEY *pkey = X509_get0_pubkey(c->x);
    int critical = 0;

    if (!extensions_ok(c->x))
        return fail(err, "an extension that is not DER, or twice");
    if (!whole_bytes(c->x))
        return fail(err, "a key or a signature with unused bits");
    if (time_of(X509_get0_notBefore(c->x), &c->not_before) < 0 || time_of(X509_get0_notAfter(c->x), &c->not_after) < 0)
        return fail(err, "a time that does not exist");
    c->names = X509_get_ext_d2i(c->x, NID_subject_alt_name, &critical, NULL);
    if (!c->names && critical != -1)
        return fail(err, "subjectAltName");
    if (pkey) {
        EVP_PKEY_up_ref(pkey);
        return ev_key_adopt(pkey, &c->key, err);
    }
    ERR_clear_error();
    return 0;
}

int ev_cert_from_der(ev_slice der, struct ev_cert **out, struct ev_err *err)
{
    const unsigned char *p = der.p;
    struct ev_cert *c;
    X509 *x;
    int rc;

    *out = NULL;
    if (der.n == 0 || der.n > DER_MAX)
        return fail(err, der.n ? "too large" : "no bytes");
    if (!der_single(der.p, der.n))
        return fail(err, "not DER, or bytes behind it");
    if ((x = d2i_X509(NULL, &p, (long)der.n)) == NULL || p != der.p + der.n) {
        X509_free(x);
        return fail(err, "not a certificate");
    }
    c = ev_alloc(sizeof *c);
    atomic_init(&c->refs, 1);
    c->x = x;
    c->n = der.n;
    c->der = ev_alloc(der.n);
    memcpy(c->der, der.p, der.n);
    if ((rc = take_apart(c, err)) < 0) {
        ev_cert_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

static int no_password(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

int ev_cert_from_pem(ev_slice pem, struct ev_cert **out, struct ev_err *err)
{
    unsigned char *der = NULL;
    char *name = NULL;
    long n = 0;
    BIO *bio;
    int rc;

    *out = NULL;
    if (pem.n == 0 || pem.n > PEM_MAX)
        return fail(err, pem.n ? "too large" : "no text");
    if ((bio = BIO_new_mem_buf(pem.p, (int)pem.n)) == NULL)
        return fail(err, "out of memory");
    rc = PEM_bytes_read_bio(&der, &n, &name, PEM_STRING_X509, bio, no_password, NULL);
    BIO_free(bio);
    if (rc != 1)
        return fail(err, "no CERTIFICATE block in PEM form");
    rc = ev_cert_from_der(ev_slice_of(der, (size_t)n), out, err);
    OPENSSL_free(der);
    OPENSSL_free(name);
    return rc;
}

struct ev_cert *ev_cert_ref(struct ev_cert *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void ev_cert_free(struct ev_cert *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    GENERAL_NAMES_free(c->names);
    ev_key_free(c->key);
    X509_free(c->x);
    ev_free(c->der);
    ev_free(c);
}

/* ---- reading ---- */

X509 *ev_cert_x509(const struct ev_cert *c)
{
    return c->x;
}

ev_slice ev_cert_der(const struct ev_cert *c)
{
    return ev_slice_of(c->der, c->n);
}

int ev_cert_pem(const struct ev_cert *c, struct ev_buf *out, struct ev_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n = 0;
    int rc;

    if (bio && PEM_write_bio(bio, PEM_STRING_X509, "", c->der, (long)c->n) > 0)
        n = BIO_get_mem_data(bio, &p);
    rc = n > 0 ? ev_buf_put(out, p, (size_t)n) : EV_ECRYPTO;
    BIO_free(bio);
    return rc < 0 ? ev_ossl_fail(err, rc, "writing a certificate") : 0;
}

int ev_cert_key(const struct ev_cert *c, struct ev_key **out, struct ev_err *err)
{
    *out = NULL;
    if (!c->key)
        return ev_fail(err, EV_EUNSUPPORTED, "a certificate's key of an unknown kind");
    *out = ev_key_ref(c->key);
    return 0;
}

void ev_cert_validity(const struct ev_cert *c, int64_t *not_before_ms, int64_t *not_after_ms)
{
    *not_before_ms = c->not_before;
    *not_after_ms = c->not_after;
}

bool ev_cert_dns_name(const struct ev_cert *c, size_t i, ev_slice *name)
{
    int n = c->names ? sk_GENERAL_NAME_num(c->names) : 0;

    for (int at = 0; at < n; at++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(c->names, at);

        if (g->type == GEN_DNS && i-- == 0) {
            *name = ev_slice_of(ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName));
            return true;
        }
    }
    return false;
}

bool ev_cert_issuer_attr(const struct ev_cert *c, size_t i, char *name, size_t name_cap, char *value,
                         size_t value_cap)
{
    const X509_NAME *issuer = X509_get_issuer_name(c->x);
    X509_NAME_ENTRY *e = i < INT16_MAX ? X509_NAME_get_entry(issuer, (int)i) : NULL;
    unsigned char *utf8 = NULL;
    const ASN1_OBJECT *o;
    int nid, n;

    if (!e)
        return false;
    o = X509_NAME_ENTRY_get_object(e);
    if ((nid = OBJ_obj2nid(o)) != NID_undef)
        snprintf(name, name_cap, "%s", OBJ_nid2ln(nid));
    else
        OBJ_obj2txt(name, (int)name_cap, o, 1);
    n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(e));
    snprintf(value, value_cap, "%.*s", n > 0 ? n : 0, n > 0 ? (char *)utf8 : "");
    OPENSSL_free(utf8);
    ERR_clear_error();
    return true;
}

const char *ev_cert_sig_alg(const struct ev_cert *c)
{
    int nid = X509_get_signature_nid(c->x);

    return nid == NID_undef ? "unknown" : OBJ_nid2ln(nid);
}

ev_slice ev_cert_signature(const struct ev_cert *c)
{
    const ASN1_BIT_STRING *sig = NULL;

    X509_get0_signature(&sig, NULL, c->x);
    return sig ? ev_slice_of(ASN1_STRING_get0_data(sig), (size_t)ASN1_STRING_length(sig)) : (ev_slice){0};
}
