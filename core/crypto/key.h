/* key.h — private and public keys. OpenSSL stays inside; key material is wiped. */
#ifndef EV_CRYPTO_KEY_H
#define EV_CRYPTO_KEY_H

#include "base/buf.h"

enum ev_curve { EV_P256, EV_P384, EV_P521, EV_SECP256K1, EV_CURVE_OTHER };

enum { EV_POINT_MAX = 133 };

struct ev_key;                                      /* private or public, reference counted */

int ev_key_generate(enum ev_curve curve, struct ev_key **out, struct ev_err *err) EV_MUST_USE;
/* SEC1, PKCS#8, or a PUBLIC KEY; the first one in the text, never with a password. */
int ev_key_from_pem(ev_slice pem, struct ev_key **out, struct ev_err *err) EV_MUST_USE;
int ev_key_from_spki(ev_slice der, struct ev_key **out, struct ev_err *err) EV_MUST_USE;  /* fully consumed */
/* The private number, big-endian, exactly the curve's width; 0 and what is not below the order fail. */
int ev_key_from_scalar(enum ev_curve curve, ev_slice number, struct ev_key **out, struct ev_err *err) EV_MUST_USE;
/* A public point, compressed or not; it must be on the curve. */
int ev_key_from_point(enum ev_curve curve, ev_slice point, struct ev_key **out, struct ev_err *err) EV_MUST_USE;
struct ev_key *ev_key_ref(struct ev_key *k);
void ev_key_free(struct ev_key *k);
enum ev_curve ev_key_curve(const struct ev_key *k); /* EV_CURVE_OTHER for RSA, Ed25519, ... */
bool ev_key_is_private(const struct ev_key *k);
/* PKCS#8 for a private key, PUBLIC KEY for a public one. */
int ev_key_pem(const struct ev_key *k, struct ev_secret *out, struct ev_err *err) EV_MUST_USE;
int ev_key_spki(const struct ev_key *k, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;    /* DER */
/* The public point; `out` has EV_POINT_MAX bytes. → bytes written, negative for EV_CURVE_OTHER. */
int ev_key_point(const struct ev_key *k, bool compressed, uint8_t *out) EV_MUST_USE;
bool ev_key_same_public(const struct ev_key *a, const struct ev_key *b);

/* ECDSA with the digest that belongs to the curve (ES256, ES384, ES512), over `msg`; signature is
 * raw r || s of fixed width (64, 96, 132). Deterministic: nonce by RFC 6979. */
size_t ev_key_sig_len(const struct ev_key *k);
int ev_key_sign(const struct ev_key *k, ev_slice msg, uint8_t *sig, struct ev_err *err) EV_MUST_USE;
/* 0 when it verifies; EV_EVERIFY when not. High s is accepted (real documents have it). */
int ev_key_verify(const struct ev_key *k, ev_slice msg, ev_slice sig, struct ev_err *err) EV_MUST_USE;

#endif
