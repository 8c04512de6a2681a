/* cert.h — X.509 certificates: read, make, verify a chain the way attestation wants it. */
#ifndef EV_CRYPTO_CERT_H
#define EV_CRYPTO_CERT_H

#include "crypto/key.h"

struct ev_cert;                                     /* reference counted */

int ev_cert_from_der(ev_slice der, struct ev_cert **out, struct ev_err *err) EV_MUST_USE; /* fully consumed */
int ev_cert_from_pem(ev_slice pem, struct ev_cert **out, struct ev_err *err) EV_MUST_USE; /* the first one */
struct ev_cert *ev_cert_ref(struct ev_cert *c);
void ev_cert_free(struct ev_cert *c);
ev_slice ev_cert_der(const struct ev_cert *c);      /* borrowed */
int ev_cert_pem(const struct ev_cert *c, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;
int ev_cert_key(const struct ev_cert *c, struct ev_key **out, struct ev_err *err) EV_MUST_USE;
void ev_cert_validity(const struct ev_cert *c, int64_t *not_before_ms, int64_t *not_after_ms);
/* i-th DNS name of the SAN; false when there is none. Borrowed; may be many kilobytes long. */
bool ev_cert_dns_name(const struct ev_cert *c, size_t i, ev_slice *name);
/* Issuer attribute i: long name ("commonName") and value. false past the last. */
bool ev_cert_issuer_attr(const struct ev_cert *c, size_t i, char *name, size_t name_cap, char *value,
                         size_t value_cap);
const char *ev_cert_sig_alg(const struct ev_cert *c);           /* "ecdsa-with-SHA384" */
ev_slice ev_cert_signature(const struct ev_cert *c);            /* borrowed DER bytes */

/* How to make one. Serial: 159 random bits unless given. Everything deterministic when serial and
 * times are given (signature by RFC 6979). */
struct ev_cert_conf {
    const char *subject;            /* "/CN=x/C=IE/..." in this order */
    int64_t not_before_ms, not_after_ms;
    const char *const *dns;         /* SAN entries, or NULL */
    size_t n_dns;
    bool ca;                        /* basicConstraints CA:TRUE, keyCertSign */
    int path_len;                   /* with ca: -1 = none */
    bool bare;                      /* no extension at all (`cert new`, like the original) */
    bool leaf_usage;                /* digitalSignature + nonRepudiation (attestation leaf) */
    ev_slice serial;                /* or empty */
};
/* Self-signed when issuer is NULL. Digest follows the issuer key's curve. */
int ev_cert_make(const struct ev_cert_conf *conf, const struct ev_key *subject_key,
                 const struct ev_cert *issuer, const struct ev_key *issuer_key,
                 struct ev_cert **out, struct ev_err *err) EV_MUST_USE;

/* spec nsm-attestation §5, §6: chain[0] = leaf, chain[n-1] = root, which must equal one of the
 * roots byte for byte; P-384, ecdsa-with-SHA384, v3, CA, pathLen, keyCertSign, names, signatures,
 * validity of every one at `at_ms`. err->reason: "cert-parse" "cert-root" "cert-chain"
 * "cert-expired" "cert-not-yet-valid" "cert-usage" "cert-algorithm". */
int ev_cert_chain_verify(struct ev_cert *const *chain, size_t n, struct ev_cert *const *roots,
                         size_t n_roots, int64_t at_ms, struct ev_err *err) EV_MUST_USE;

#endif
