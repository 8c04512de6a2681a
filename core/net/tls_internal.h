/* tls_internal.h — what tls.c (connections), tls_wire.c (their bytes) and tls_ctx.c (settings) share. */
#ifndef EV_NET_TLS_INTERNAL_H
#define EV_NET_TLS_INTERNAL_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "net/stream_internal.h"
#include "net/tls.h"

struct ev_tls_ctx {
    SSL_CTX *ssl;
    struct ev_tls_server_conf conf;
    unsigned refs;                      /* its owner's, and one for each connection */
};

/* Where OpenSSL reads and writes ciphertext (tls_wire.c). */
struct ev_tls_wire {
    ev_slice in;                        /* borrowed; what OpenSSL has not read yet */
    bool ended;                         /* nothing comes after `in` */
    struct ev_buf out;
};

int ev_tls_wire_attach(struct ev_tls_wire *w, SSL *ssl);    /* 0 when there is no memory */
void ev_tls_ctx_drop(struct ev_tls_ctx *t);
/* A client's settings for one connection: trust, name check, SNI, ALPN. */
int ev_tls_client_ssl(struct ev_rt *rt, const struct ev_tls_client_conf *conf, SSL **out,
                      struct ev_err *err) EV_MUST_USE;
/* The oldest message of OpenSSL's queue behind `what`; leaves the queue empty. */
int ev_tls_fail(struct ev_err *err, int code, const char *reason, const char *what);

#endif
