/* stream_internal.h — how a stream is built: plain.c over libuv, tls*.c over another stream.
 *
 * The public functions of stream.h live in stream.c; they keep the rules that all kinds share (what is
 * closed gets no callback, writing after shutdown fails) and hand the rest to `ops`. */
#ifndef EV_NET_STREAM_INTERNAL_H
#define EV_NET_STREAM_INTERNAL_H

#include "net/rt_internal.h"
#include "net/sock.h"
#include "net/stream.h"

enum {
    EV_QUEUE_MAX = 16 * 1024 * 1024,
    EV_QUEUE_ROOM = 1024 * 1024,        /* above that, for what TLS adds to each record */
    EV_CONNECT_MS = 30 * 1000,          /* when the caller names no deadline */
    EV_LINGER_MS = 5 * 1000,            /* how long a closed stream may go on writing out its queue */
    EV_STREAM_MAGIC = 0x45565354,
};

struct ev_stream_ops {
    void (*read_start)(struct ev_stream *s);
    void (*read_stop)(struct ev_stream *s);
    int (*write)(struct ev_stream *s, ev_slice bytes);
    size_t (*queued)(const struct ev_stream *s);
    void (*shutdown)(struct ev_stream *s);
    void (*close)(struct ev_stream *s);
    int (*fd)(const struct ev_stream *s);       /* of the transport below, or -1 */
};

struct ev_stream {
    uint32_t magic;
    struct ev_rt *rt;
    const struct ev_stream_ops *ops;
    struct ev_stream_cb cb;
    void *ctx;
    bool reading, eof, shut, closed;
    int dead;                                   /* the error that ended it, or 0 */
    struct ev_buf *unread;                      /* given back by a reader, or NULL */
    struct ev_soon again;                       /* delivers it */
    void (*freed)(void *);                      /* for the layer above: no memory of s is left */
    void *freed_ctx;
};

void ev_stream_init(struct ev_stream *s, struct ev_rt *rt, const struct ev_stream_ops *ops);
void ev_stream_fini(struct ev_stream *s);       /* last act of whoever frees it */
/* Each may end with s closed by its owner; look at s->closed (or s->reading) before going on. */
void ev_stream_give_data(struct ev_stream *s, ev_slice bytes);
void ev_stream_give_eof(struct ev_stream *s);
void ev_stream_give_fail(struct ev_stream *s, const struct ev_err *err);
void ev_stream_give_drained(struct ev_stream *s);
/* Whether the owner takes data now. */
static inline bool ev_stream_wants(const struct ev_stream *s)
{
    return s->reading && !s->closed && !s->dead && !s->unread;
}
/* Without the limit of 16 MiB; the layer above has its own. */
int ev_stream_write_raw(struct ev_stream *s, ev_slice bytes) EV_MUST_USE;

/* plain.c: a stream with nothing below yet, for connect.c; `fd` is consumed by open. */
struct ev_connect;
struct ev_stream *ev_plain_new(struct ev_rt *rt, struct ev_connect *op);
int ev_plain_open(struct ev_stream *s, int family, int take_fd) EV_MUST_USE;
void ev_plain_drop(struct ev_stream *s);        /* one that was never opened */
int ev_stream_adopt(struct ev_rt *rt, int family, int take_fd, struct ev_stream **out) EV_MUST_USE;
void ev_connect_cancel(struct ev_connect *op);

#endif
