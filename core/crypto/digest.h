/* digest.h — SHA-2 over OpenSSL. A running hash can be cloned (PCR1 is a prefix of PCR0). */
#ifndef EV_CRYPTO_DIGEST_H
#define EV_CRYPTO_DIGEST_H

#include "base/err.h"
#include "base/mem.h"

enum ev_digest_alg { EV_SHA256, EV_SHA384, EV_SHA512 };
enum { EV_DIGEST_MAX = 64, EV_SHA384_LEN = 48 };

struct ev_digest;                                   /* not shared between threads */

struct ev_digest *ev_digest_new(enum ev_digest_alg alg);
struct ev_digest *ev_digest_clone(const struct ev_digest *d);
void ev_digest_update(struct ev_digest *d, const void *p, size_t n);
size_t ev_digest_final(struct ev_digest *d, uint8_t *out);      /* → length; d may only be freed */
void ev_digest_free(struct ev_digest *d);
size_t ev_digest_once(enum ev_digest_alg alg, ev_slice in, uint8_t *out);
size_t ev_digest_len(enum ev_digest_alg alg);
/* One TPM-style extend: out = H(old || data). For PCRs: SHA-384, 48 bytes (eif.md §2). */
void ev_pcr_extend(uint8_t pcr[EV_SHA384_LEN], ev_slice data);
int ev_random(void *p, size_t n) EV_MUST_USE;                   /* CSPRNG */

#endif
