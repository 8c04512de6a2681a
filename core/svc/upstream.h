/* upstream.h — connections to the app, kept alive and used again.
 *
 *     take -> (connecting ->) open, owned by one exchange -+-> give: idle in the pool -> take ...
 *                                                          +-> drop: closed
 *
 * While idle a connection is watched: what the app ends leaves the pool at once. */
#ifndef EV_SVC_UPSTREAM_H
#define EV_SVC_UPSTREAM_H

#include "net/stream.h"

enum {
    EV_UPSTREAM_IDLE_MAX = 64,          /* connections that wait in the pool */
    EV_UPSTREAM_IDLE_MS = 4000,         /* how long: below the 5 s that common app servers use */
    EV_UPSTREAM_FRESH_MS = 1000         /* for what must not be sent twice, only a connection used this lately */
};

struct ev_upool;
struct ev_upconn {
    struct ev_upool *pool;
    struct ev_stream *stream;           /* NULL while connecting */
    struct ev_stream *pending;
    bool reused;
    uint64_t idle_since;
    void (*opened)(void *ctx, const struct ev_err *err);    /* err: the connection is gone; drop it */
    void *ctx;
    struct ev_upconn *next;
};

struct ev_upool *ev_upool_new(struct ev_rt *rt, const struct ev_addr *app, uint32_t connect_ms);
void ev_upool_free(struct ev_upool *p);             /* all that was taken is given back or dropped; NULL is fine */
/* One that was used not longer ago than max_idle_ms (0: a new one). It is open at once when ->stream is
 * there, else `opened` fires later. The owner sets the stream's callbacks itself, at once. A reused
 * one is being read already: stopping and starting would be two system calls a request. */
int ev_upool_take(struct ev_upool *p, uint32_t max_idle_ms, void (*opened)(void *ctx, const struct ev_err *err),
                  void *ctx, struct ev_upconn **out, struct ev_err *err) EV_MUST_USE;
void ev_upool_give(struct ev_upconn *c);            /* between two exchanges, nothing queued or unread */
void ev_upool_drop(struct ev_upconn *c);            /* NULL is fine */

#endif
