/* tls.h — TLS 1.2/1.3 over a stream. OpenSSL lives here and in crypto. */
#ifndef EV_NET_TLS_H
#define EV_NET_TLS_H

#include "crypto/cert.h"
#include "net/stream.h"

/* Server. One attestable certificate now; the choice is a callback because later there are more
 * (trusted, nonce form). Returned pair is borrowed until the handshake's end. */
struct ev_tls_pair { struct ev_cert *cert; struct ev_key *key; };
struct ev_tls_server_conf {
    /* sni may be empty. Return negative to refuse the handshake. */
    int (*select)(void *ctx, const char *sni, struct ev_tls_pair *out);
    void *ctx;
    bool http2;                         /* ALPN h2 offered too */
    uint64_t handshake_timeout_ms;      /* 0 = 10 s */
};
int ev_tls_server_new(const struct ev_tls_server_conf *conf, struct ev_tls_ctx **out, struct ev_err *err) EV_MUST_USE;
void ev_tls_ctx_free(struct ev_tls_ctx *t);
/* Consumes `plain`; done gets the TLS stream or the failure. Resumption is off (DESIGN §6). The stream
 * returned is the one that done will get: closing it before that cancels the handshake, silently. */
struct ev_stream *ev_tls_accept(struct ev_tls_ctx *t, struct ev_stream *take_plain,
                                void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err), void *ctx);

/* Client. WebPKI is off when `accept_peer` is given: that function alone decides (attestation), and
 * it is called before one byte of application data can be written. */
struct ev_tls_client_conf {
    const char *sni;
    int (*accept_peer)(void *ctx, const struct ev_cert *leaf, struct ev_err *err);
    void *ctx;
    const char *ca_file;                /* PEM bundle; NULL = system's */
    uint64_t timeout_ms;                /* 0 = 15 s */
    const char *alpn;                   /* one protocol to offer, or NULL */
};
/* Returns the pending stream, as ev_tls_accept does. `conf` is copied. */
struct ev_stream *ev_tls_connect(struct ev_rt *rt, const struct ev_tls_client_conf *conf, struct ev_stream *take_plain,
                                 void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err), void *ctx);
/* RFC 8446 §7.5 exporter of this connection, empty context. Refused below TLS 1.3. */
int ev_tls_exporter(struct ev_stream *s, const char *label, uint8_t out[32], struct ev_err *err) EV_MUST_USE;
/* Of an open TLS stream; "" when there is none, or when s is no TLS stream. Borrowed from s. */
const char *ev_tls_alpn(const struct ev_stream *s);
const char *ev_tls_sni(const struct ev_stream *s);
const char *ev_tls_version(const struct ev_stream *s);          /* "TLSv1.3" */

#endif
