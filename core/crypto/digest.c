/* digest.c — SHA-2 over EVP. Algorithms are fetched once: a fetch in each operation costs more than
 * hashing a short text. What can fail here is only memory or a broken library, so it ends the
 * process as ev_alloc does, and hashing has no error to forget. */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "crypto/ossl.h"

struct ev_digest {
    EVP_MD_CTX *ctx;
    enum ev_digest_alg alg;
};

static const struct {
    const char *name;
    size_t len;
} known[] = { [EV_SHA256] = { "SHA256", 32 }, [EV_SHA384] = { "SHA384", 48 }, [EV_SHA512] = { "SHA512", 64 } };

static EVP_MD *fetched[EV_COUNT(known)];
static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;

static void demand(bool ok, const char *what)
{
    if (!ok) {
        ev_log(EV_ERROR, "digest", "%s failed", what);
        abort();
    }
}

static void fetch(void)
{
    for (size_t i = 0; i < EV_COUNT(known); i++) {
        fetched[i] = EVP_MD_fetch(NULL, known[i].name, NULL);
        demand(fetched[i], known[i].name);
    }
}

const EVP_MD *ev_digest_md(enum ev_digest_alg alg)
{
    demand(pthread_once(&fetch_once, fetch) == 0, "pthread_once");
    return fetched[alg];
}

struct ev_digest *ev_digest_new(enum ev_digest_alg alg)
{
    struct ev_digest *d = ev_alloc(sizeof *d);

    d->alg = alg;
    d->ctx = EVP_MD_CTX_new();
    demand(d->ctx && EVP_DigestInit_ex2(d->ctx, ev_digest_md(alg), NULL) == 1, known[alg].name);
    return d;
}

struct ev_digest *ev_digest_clone(const struct ev_digest *d)
{
    struct ev_digest *copy = ev_alloc(sizeof *copy);

    copy->alg = d->alg;
    copy->ctx = EVP_MD_CTX_new();
    demand(copy->ctx && EVP_MD_CTX_copy_ex(copy->ctx, d->ctx) == 1, "EVP_MD_CTX_copy_ex");
    return copy;
}

void ev_digest_update(struct ev_digest *d, const void *p, size_t n)
{
    if (n > 0)
        demand(EVP_DigestUpdate(d->ctx, p, n) == 1, "EVP_DigestUpdate");
}

size_t ev_digest_final(struct ev_digest *d, uint8_t *out)
{
    unsigned n = 0;

    demand(EVP_DigestFinal_ex(d->ctx, out, &n) == 1, "EVP_DigestFinal_ex");
    return n;
}

void ev_digest_free(struct ev_digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->ctx);                    /* wipes its state */
    ev_free(d);
}

size_t ev_digest_once(enum ev_digest_alg alg, ev_slice in, uint8_t *out)
{
    unsigned n = 0;

    demand(EVP_Digest(in.n ? in.p : (const uint8_t *)"", in.n, out, &n, ev_digest_md(alg), NULL) == 1, "EVP_Digest");
    return n;
}

size_t ev_digest_len(enum ev_digest_alg alg)
{
    return known[alg].len;
}

void ev_pcr_extend(uint8_t pcr[EV_SHA384_LEN], ev_slice data)
{
    struct ev_digest *d = ev_digest_new(EV_SHA384);

    ev_digest_update(d, pcr, EV_SHA384_LEN);
    ev_digest_update(d, data.p, data.n);
    ev_digest_final(d, pcr);
    ev_digest_free(d);
}

int ev_random(void *p, size_t n)
{
    uint8_t *at = p;

    while (n > 0) {
        size_t part = n < (1u << 30) ? n : 1u << 30;    /* RAND_bytes counts in int */

        if (RAND_bytes(at, (int)part) != 1)
            return EV_ECRYPTO;
        at += part;
        n -= part;
    }
    return 0;
}
