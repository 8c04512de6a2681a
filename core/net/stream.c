/* stream.c — the rules that every kind of stream keeps. See stream.h and stream_internal.h. */
#include "net/stream_internal.h"

#include <assert.h>

void ev_stream_init(struct ev_stream *s, struct ev_rt *rt, const struct ev_stream_ops *ops)
{
    s->magic = EV_STREAM_MAGIC;
    s->rt = rt;
    s->ops = ops;
    ev_rt_opened(rt);
}

void ev_stream_fini(struct ev_stream *s)
{
    void (*freed)(void *) = s->freed;
    void *ctx = s->freed_ctx;

    s->magic = 0;
    ev_rt_closed(s->rt);
    ev_free(s);
    if (freed)
        freed(ctx);
}

void ev_stream_give_data(struct ev_stream *s, ev_slice bytes)
{
    if (!s->closed && s->cb.data)
        s->cb.data(s->ctx, bytes);
}

void ev_stream_give_eof(struct ev_stream *s)
{
    if (s->closed || s->eof)
        return;
    s->eof = true;
    s->reading = false;
    if (s->cb.eof)
        s->cb.eof(s->ctx);
}

void ev_stream_give_fail(struct ev_stream *s, const struct ev_err *err)
{
    if (s->closed || s->dead)
        return;
    s->dead = err->code < 0 ? err->code : EV_EINTERNAL;
    s->ops->read_stop(s);
    s->reading = false;
    if (s->cb.fail)
        s->cb.fail(s->ctx, err);
}

void ev_stream_give_drained(struct ev_stream *s)
{
    if (!s->closed && !s->dead && s->cb.drained)
        s->cb.drained(s->ctx);
}

/* --- what owners call ------------------------------------------------------------------------- */

void ev_stream_set_cb(struct ev_stream *s, const struct ev_stream_cb *cb, void *ctx)
{
    s->cb = cb ? *cb : (struct ev_stream_cb){ 0 };
    s->ctx = ctx;
}

void ev_stream_read_start(struct ev_stream *s)
{
    if (s->reading || s->closed || s->eof || s->dead)
        return;
    s->reading = true;
    s->ops->read_start(s);
}

void ev_stream_read_stop(struct ev_stream *s)
{
    if (!s->reading)
        return;
    s->reading = false;
    s->ops->read_stop(s);
}

int ev_stream_write_raw(struct ev_stream *s, ev_slice bytes)
{
    if (s->dead)
        return s->dead;
    if (s->shut || s->closed)
        return -EPIPE;
    if (bytes.n == 0)
        return 0;
    return s->ops->write(s, bytes);
}

int ev_stream_write(struct ev_stream *s, ev_slice bytes)
{
    assert(s->magic == EV_STREAM_MAGIC);
    if (bytes.n > EV_QUEUE_MAX || ev_stream_queued(s) > EV_QUEUE_MAX - bytes.n)
        return -ENOBUFS;
    return ev_stream_write_raw(s, bytes);
}

size_t ev_stream_queued(const struct ev_stream *s)
{
    return s->ops->queued(s);
}

void ev_stream_shutdown(struct ev_stream *s)
{
    if (s->shut || s->closed || s->dead)
        return;
    s->shut = true;
    s->ops->shutdown(s);
}

void ev_stream_close(struct ev_stream *s)
{
    if (!s || s->closed)
        return;
    assert(s->magic == EV_STREAM_MAGIC);
    s->closed = true;
    s->reading = false;
    s->ops->close(s);
}

int ev_stream_peer(const struct ev_stream *s, struct ev_addr *out)
{
    int fd = s->ops->fd(s);

    return fd < 0 ? -ENOTCONN : ev_sock_peer(fd, out);
}
