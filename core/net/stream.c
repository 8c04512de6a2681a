/* stream.c — the rules that every kind of stream keeps. See stream.h and stream_internal.h. */
#include "net/stream_internal.h"

#include <assert.h>

static void deliver_unread(void *ctx);

void ev_stream_init(struct ev_stream *s, struct ev_rt *rt, const struct ev_stream_ops *ops)
{
    s->magic = EV_STREAM_MAGIC;
    s->rt = rt;
    s->ops = ops;
    s->again = (struct ev_soon){ .cb = deliver_unread, .ctx = s };
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
    ev_stream_read_stop(s);
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
    if (s->unread)
        ev_soon_call(s->rt, &s->again);
    else
        s->ops->read_start(s);
}

void ev_stream_read_stop(struct ev_stream *s)
{
    if (!s->reading)
        return;
    s->reading = false;
    ev_soon_cancel(s->rt, &s->again);
    s->ops->read_stop(s);
}

static void drop_unread(struct ev_stream *s)
{
    ev_soon_cancel(s->rt, &s->again);
    if (s->unread) {
        ev_buf_fini(s->unread);
        ev_free(s->unread);
        s->unread = NULL;
    }
}

static void deliver_unread(void *ctx)
{
    struct ev_stream *s = ctx;
    struct ev_buf *bytes = s->unread;

    s->unread = NULL;
    if (bytes) {
        ev_stream_give_data(s, ev_buf_slice(bytes));
        ev_buf_fini(bytes);
        ev_free(bytes);
    }
    if (ev_stream_wants(s))
        s->ops->read_start(s);
}

void ev_stream_unread(struct ev_stream *s, ev_slice bytes)
{
    if (s->closed || s->dead || bytes.n == 0)
        return;
    if (s->reading)
        s->ops->read_stop(s);
    if (!s->unread) {
        s->unread = ev_alloc(sizeof *s->unread);
        ev_buf_init(s->unread, EV_QUEUE_MAX);
    }
    /* The bytes came out of one read of ours, so the limit is never near. */
    if (ev_buf_put_slice(s->unread, bytes) < 0)
        assert(!"unread more than was read");
    if (s->reading)
        ev_soon_call(s->rt, &s->again);
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
    drop_unread(s);
    s->ops->close(s);
}

int ev_stream_peer(const struct ev_stream *s, struct ev_addr *out)
{
    int fd = s->ops->fd(s);

    return fd < 0 ? -ENOTCONN : ev_sock_peer(fd, out);
}
