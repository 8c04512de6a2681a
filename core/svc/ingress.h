/* ingress.h — vsock → TLS → HTTP/1.1 → api-key → app. No Lua, no uv.h.
 *
 * Streams both ways; memory per connection is bounded (64 KiB a direction plus a 32 KiB head).
 * Chunked bodies, trailers, Expect: 100-continue, pipelining (answers in order), Upgrade (WebSocket:
 * after a 101 both directions become a raw relay), keep-alive to both sides. Shaped so that decrypt,
 * HTTP/2, logging and PROXY v2 can be put between the steps (later issues). */
#ifndef EV_SVC_INGRESS_H
#define EV_SVC_INGRESS_H

#include "net/stream.h"
#include "net/tls.h"

struct ev_ingress_conf {
    struct ev_rt *rt;
    int take_listen_fd;
    struct ev_tls_ctx *tls;                     /* NULL: TLS termination off, raw relay */
    struct ev_addr app;                         /* 127.0.0.1:8008 */
    bool api_key_auth;
    uint8_t (*key_digests)[64];                 /* SHA-512 of each accepted key; copied */
    size_t n_key_digests;
    /* `/.well-known/attestation`: fills base64 document text; before authentication. NULL = 404. */
    int (*attestation)(void *ctx, struct ev_buf *out, struct ev_err *err);
    void *ctx;
    uint32_t max_connections;                   /* 0 = 4096 */
};
struct ev_ingress;
int ev_ingress_open(const struct ev_ingress_conf *conf, struct ev_ingress **out, struct ev_err *err) EV_MUST_USE;
void ev_ingress_close(struct ev_ingress *i);    /* stops accepting and closes every connection */

#endif
