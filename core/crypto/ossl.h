/* ossl.h — what the files that may include OpenSSL share: core/crypto itself and core/net/tls*.c. */
#ifndef EV_CRYPTO_OSSL_H
#define EV_CRYPTO_OSSL_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "crypto/cert.h"
#include "crypto/digest.h"
#include "crypto/key.h"

enum { EV_SIG_RAW_MAX = 132, EV_SIG_DER_MAX = 144 };

/* Fails with OpenSSL's own words behind `what`, and leaves its error queue empty. */
int ev_ossl_fail(struct ev_err *err, int code, const char *what);

EVP_PKEY *ev_key_pkey(const struct ev_key *k);                  /* borrowed */
/* Takes the reference, on failure too. */
int ev_key_adopt(EVP_PKEY *take_pkey, struct ev_key **out, struct ev_err *err) EV_MUST_USE;
X509 *ev_cert_x509(const struct ev_cert *c);                    /* borrowed */
const EVP_MD *ev_digest_md(enum ev_digest_alg alg);             /* fetched once, never freed */
enum ev_digest_alg ev_curve_digest(enum ev_curve curve);        /* not for EV_CURVE_OTHER */
int ev_curve_nid(enum ev_curve curve);                          /* NID_undef for EV_CURVE_OTHER */
/* Raw r || s, `width` bytes each, over the digest of `msg` that belongs to the curve. */
int ev_ecdsa_sign(EVP_PKEY *pkey, enum ev_curve curve, size_t width, ev_slice msg, uint8_t *sig) EV_MUST_USE;
/* Raw r || s → DER in `der` (EV_SIG_DER_MAX bytes); → length, negative on failure. */
int ev_sig_to_der(ev_slice raw, uint8_t *der) EV_MUST_USE;

#endif
