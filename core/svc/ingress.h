/* ingress.h — vsock → TLS → HTTP/1.1 → api-key → app. No Lua, no uv.h.
 *
 * Streams both ways; memory per connection is bounded: a 32 KiB head, and a direction whose queue holds
 * 64 KiB takes nothing more of its source, so a queue is that and one read.
 * Chunked bodies, trailers, Expect: 100-continue, pipelining (answers in order), Upgrade (WebSocket:
 * after a 101 both directions become a raw relay), keep-alive to both sides. Shaped so that decrypt,
 * HTTP/2, logging and PROXY v2 can be put between the steps (later issues). */
#ifndef EV_SVC_INGRESS_H
#define EV_SVC_INGRESS_H

#include "net/stream.h"
#include "net/tls.h"

/* Deadlines in milliseconds; 0 = the default in brackets. */
struct ev_ingress_times {
    uint32_t head;          /* a head, from its first byte (a connection's first: from accept) [10 s] */
    uint32_t idle;          /* between two requests of a connection [75 s] */
    uint32_t connect;       /* to the app [5 s] */
    uint32_t body;          /* silence in a request's body [60 s] */
    uint32_t answer;        /* from the end of a request to the head of its answer [120 s] */
    uint32_t silent;        /* silence in an answer's body, in an upgraded connection, in a raw relay [1 h] */
    uint32_t stalled;       /* a client that takes nothing of what is queued for it [60 s] */
    uint32_t linger;        /* after our last byte, for the client to end too [2 s] */
};

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
    uint32_t max_connections;                   /* 0 = 4096; what comes above that is closed */
    const struct ev_ingress_times *times;       /* NULL = all defaults */
};
struct ev_ingress;
int ev_ingress_open(const struct ev_ingress_conf *conf, struct ev_ingress **out, struct ev_err *err) EV_MUST_USE;
void ev_ingress_close(struct ev_ingress *i);    /* stops accepting and closes every connection */

#endif
