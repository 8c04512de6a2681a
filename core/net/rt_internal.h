/* rt_internal.h — what the files of core/net share about the loop. Nobody else includes this. */
#ifndef EV_NET_RT_INTERNAL_H
#define EV_NET_RT_INTERNAL_H

#include <uv.h>

#include "base/buf.h"
#include "net/loop.h"

enum { EV_READ_CHUNK = 64 * 1024 };

/* A call at the next turn that can be taken back; lives inside its owner. */
struct ev_soon {
    void (*cb)(void *ctx);
    void *ctx;
    struct ev_soon *prev, *next;        /* NULL when not queued */
};

struct ev_rt {
    uv_loop_t uv;
    uv_idle_t idle;                     /* active while `soon` holds something */
    struct ev_soon soon, running;       /* list heads */
    struct ev_process *forgotten;       /* closed by their owner, not yet ended */
    size_t open;
    struct ev_buf spare;                /* outgoing TLS records, lent to one connection at a time */
    void *tls_client;                   /* settings of attested clients (tls_ctx.c); NULL until needed */
    void (*tls_client_free)(void *);
    /* A read is borrowed for its callback only, so one buffer serves every stream and an idle
     * connection holds none. The second is for what TLS decrypts out of the first. */
    uint8_t cipher[EV_READ_CHUNK];
    uint8_t plain[EV_READ_CHUNK];
};

void ev_soon_call(struct ev_rt *rt, struct ev_soon *s);     /* once, however often it is asked */
void ev_soon_cancel(struct ev_rt *rt, struct ev_soon *s);

/* Every handle that was opened is counted until its close callback has run. */
static inline void ev_rt_opened(struct ev_rt *rt) { rt->open++; }
static inline void ev_rt_closed(struct ev_rt *rt) { rt->open--; }

void ev_process_forget_all(struct ev_rt *rt);

#endif
