/* attestable.c — see attestable.h. */
#include "role/attestable.h"

#include <stdio.h>
#include <time.h>

#include "codec/cbor.h"
#include "codec/text.h"
#include "crypto/digest.h"
#include "role/init.h"

enum {
    DOC_MAX = 16384, HEX_HOSTS = 2, HOSTS = 64, NONCE_LEN = 32,
    RENEW_MS = 150 * 60 * 1000,         /* a signing certificate lives three hours */
    MARGIN_MS = 10 * 60 * 1000, SOONEST_MS = 60 * 1000, RETRY_MS = 30 * 1000
};
#define VALID_MS (INT64_C(365) * 24 * 3600 * 1000)

struct pair {
    struct ev_key *key;
    struct ev_cert *cert;
};

struct ev_attestable {
    struct ev_rt *rt;
    struct ev_nsm *nsm;
    char *const *hosts;
    struct pair now, before;            /* a handshake in flight may still hold the one before */
    struct ev_buf doc;
    int64_t lifetime_ms;
    struct ev_timer *timer;
};

static int64_t real_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pair_fini(struct pair *p)
{
    ev_key_free(p->key);
    ev_cert_free(p->cert);
    *p = (struct pair){ NULL, NULL };
}

/* The payload's "certificate": the certificate that signed the document (spec nsm-attestation §4). */
static int signing_cert(ev_slice doc, ev_slice *out, struct ev_err *err)
{
    struct ev_cbor_reader r;
    struct ev_cbor_item list, map, item;
    uint64_t seen = 0;
    int rc;

    ev_cbor_reader_init(&r, doc);
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_ARRAY, &list, err));
    EV_TRY(ev_cbor_skip(&r, err));
    EV_TRY(ev_cbor_skip(&r, err));
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_BYTES, &item, err));
    ev_cbor_reader_init(&r, item.data);
    EV_TRY(ev_cbor_expect(&r, EV_CBOR_MAP, &map, err));
    while ((rc = ev_cbor_more(&r, &map, seen++, err)) > 0) {
        EV_TRY(ev_cbor_expect(&r, EV_CBOR_TEXT, &item, err));
        if (!ev_slice_eq(item.data, EV_LIT("certificate"))) {
            EV_TRY(ev_cbor_skip(&r, err));
            continue;
        }
        EV_TRY(ev_cbor_expect(&r, EV_CBOR_BYTES, &item, err));
        *out = item.data;
        return 0;
    }
    if (rc == 0)
        rc = ev_fail(err, EV_EPARSE, "no certificate");
out:
    return rc;
}

/* How long this document may be served: its signer's end less a margin, at most RENEW_MS. */
static int lifetime_of(ev_slice doc, int64_t *out, struct ev_err *err)
{
    struct ev_cert *cert = NULL;
    int64_t from, until, left;
    ev_slice der;
    int rc;

    EV_TRY(signing_cert(doc, &der, err));
    EV_TRY(ev_cert_from_der(der, &cert, err));
    ev_cert_validity(cert, &from, &until);
    left = until - real_ms() - MARGIN_MS;
    *out = left > RENEW_MS ? RENEW_MS : left < SOONEST_MS ? SOONEST_MS : left;
out:
    ev_cert_free(cert);
    if (rc < 0)
        ev_err_wrap(err, "attestation document");
    return rc;
}

/* The hosts, then HEX.host of the first two. */
static int make_cert(char *const *hosts, ev_slice doc, const struct ev_key *key, struct ev_cert **out,
                     struct ev_err *err)
{
    struct ev_buf hex = EV_BUF_INIT(2 * DOC_MAX + 1);
    const char *dns[HOSTS + HEX_HOSTS];
    char *long_name[HEX_HOSTS] = { NULL, NULL };
    struct ev_cert_conf conf = { .dns = dns, .leaf_usage = true };
    char subject[128];
    size_t n = 0;
    int rc;

    EV_TRY(ev_hex_put(&hex, doc));
    for (; hosts[n] && n < HOSTS; n++)
        dns[n] = hosts[n];
    for (size_t i = 0; i < HEX_HOSTS && hosts[i]; i++)
        dns[n++] = long_name[i] = ev_asprintf("%s.%s", ev_buf_str(&hex), hosts[i]);
    snprintf(subject, sizeof(subject), "/C=IE/ST=DUB/O=Evervault%s%s", strlen(hosts[0]) <= 64 ? "/CN=" : "",
             strlen(hosts[0]) <= 64 ? hosts[0] : "");
    conf.subject = subject;
    conf.n_dns = n;
    conf.not_before_ms = real_ms() - 10 * 1000;
    conf.not_after_ms = conf.not_before_ms + VALID_MS;
    EV_TRY(ev_cert_make(&conf, key, NULL, key, out, err));
out:
    for (size_t i = 0; i < HEX_HOSTS; i++)
        ev_free(long_name[i]);
    ev_buf_fini(&hex);
    return rc;
}

int ev_attestable_renew(struct ev_attestable *a, struct ev_err *err)
{
    struct pair fresh = { NULL, NULL };
    struct ev_buf doc = EV_BUF_INIT(DOC_MAX), spki = EV_BUF_INIT(1024);
    uint8_t nonce[NONCE_LEN];
    int64_t lifetime = 0;
    int rc;

    EV_TRY(ev_key_generate(EV_P256, &fresh.key, err));
    EV_TRY(ev_key_spki(fresh.key, &spki, err));
    EV_TRY(ev_random(nonce, sizeof(nonce)));
    EV_TRY(ev_nsm_attest(a->nsm, ev_buf_slice(&spki), ev_slice_of(nonce, sizeof(nonce)), (ev_slice){ NULL, 0 }, &doc,
                         err));
    EV_TRY(lifetime_of(ev_buf_slice(&doc), &lifetime, err));
    EV_TRY(make_cert(a->hosts, ev_buf_slice(&doc), fresh.key, &fresh.cert, err));
    pair_fini(&a->before);
    a->before = a->now;
    a->now = fresh;
    fresh = (struct pair){ NULL, NULL };
    ev_buf_fini(&a->doc);
    a->doc = doc;
    doc = (struct ev_buf)EV_BUF_INIT(DOC_MAX);
    a->lifetime_ms = lifetime;
out:
    if (rc < 0)
        ev_err_wrap(err, "attestable certificate");
    pair_fini(&fresh);
    ev_buf_fini(&doc);
    ev_buf_fini(&spki);
    return rc;
}

static void due(void *ctx)
{
    struct ev_attestable *a = ctx;
    struct ev_err err = EV_ERR_INIT;
    uint64_t next = RETRY_MS;           /* on failure the old one is served on, and tried again */

    if (ev_attestable_renew(a, &err) == 0)
        next = (uint64_t)a->lifetime_ms;
    else
        ev_init_say("renewal failed: %s", err.msg);
    ev_timer_stop(a->timer);
    a->timer = ev_timer_start(a->rt, next, false, due, a);
}

int ev_attestable_new(struct ev_rt *rt, struct ev_nsm *nsm, char *const *hosts, struct ev_attestable **out,
                      struct ev_err *err)
{
    struct ev_attestable *a = ev_alloc(sizeof(*a));
    int rc;

    a->rt = rt;
    a->nsm = nsm;
    a->hosts = hosts;
    ev_buf_init(&a->doc, DOC_MAX);
    if ((rc = ev_attestable_renew(a, err)) < 0) {
        ev_attestable_free(a);
        return rc;
    }
    if (rt)
        a->timer = ev_timer_start(rt, (uint64_t)a->lifetime_ms, false, due, a);
    *out = a;
    return 0;
}

int ev_attestable_select(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    struct ev_attestable *a = ctx;

    (void)sni;                          /* one certificate so far; the trusted one comes with provisioning */
    out->cert = a->now.cert;
    out->key = a->now.key;
    return 0;
}

int ev_attestable_document(void *ctx, struct ev_buf *out, struct ev_err *err)
{
    struct ev_attestable *a = ctx;
    int rc = ev_base64_put(out, ev_buf_slice(&a->doc));

    return rc < 0 ? ev_fail(err, rc, "document: %s", ev_err_text(rc)) : 0;
}

int64_t ev_attestable_lifetime_ms(const struct ev_attestable *a)
{
    return a->lifetime_ms;
}

void ev_attestable_free(struct ev_attestable *a)
{
    if (!a)
        return;
    ev_timer_stop(a->timer);
    pair_fini(&a->now);
    pair_fini(&a->before);
    ev_buf_fini(&a->doc);
    ev_free(a);
}
