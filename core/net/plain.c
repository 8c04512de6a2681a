/* plain.c — a stream over a socket: TCP through uv_tcp, Unix and AF_VSOCK through uv_pipe.
 *
 *     connecting (no handle) ──▶ open ──▶ closed ──▶ [writing out what was queued before a
 *                                                     shutdown, 5 s at most] ──▶ uv_close ──▶ freed
 *
 * Writes go to the kernel at once (uv_try_write); what it does not take is copied. One request is
 * under way at a time, and what comes meanwhile is collected in `next`, so that many small writes
 * become one big one. An idle stream holds no buffer at all. */
#include "net/stream_internal.h"

#include <unistd.h>

struct plain {
    struct ev_stream s;
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    struct ev_connect *connecting;
    struct ev_buf next;
    unsigned under_way;                 /* write requests */
    bool lingering;
    struct ev_timer *linger;
    uv_shutdown_t shutdown;
};

struct request {
    uv_write_t req;
    struct plain *p;
    struct ev_buf bytes;
};

static struct plain *plain_of(const struct ev_stream *s)
{
    return (struct plain *)(uintptr_t)s;            /* first member */
}

static void plain_free(struct plain *p)
{
    ev_buf_fini(&p->next);
    ev_stream_fini(&p->s);
}

static void handle_closed(uv_handle_t *h)
{
    plain_free(h->data);
}

static void close_handle(struct plain *p)
{
    ev_timer_stop(p->linger);
    p->linger = NULL;
    if (!uv_is_closing(&p->h.any))
        uv_close(&p->h.any, handle_closed);
}

static void linger_over(void *ctx)
{
    close_handle(ctx);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void fail(struct plain *p, int code, const char *doing)
{
    struct ev_err err = EV_ERR_INIT;

    ev_fail(&err, code, "%s: %s", doing, ev_err_text(code));
    ev_stream_give_fail(&p->s, &err);
}

static void lend_buffer(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
    struct plain *p = h->data;

    (void)hint;
    *buf = uv_buf_init((char *)p->s.rt->cipher, EV_READ_CHUNK);
}

static void got(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
    struct plain *p = h->data;

    if (n > 0)
        ev_stream_give_data(&p->s, ev_slice_of(buf->base, (size_t)n));
    else if (n == UV_EOF)
        ev_stream_give_eof(&p->s);
    else if (n < 0)
        fail(p, (int)n, "read");
}

static void plain_read_start(struct ev_stream *s)
{
    struct plain *p = plain_of(s);

    if (!p->connecting)
        uv_read_start(&p->h.stream, lend_buffer, got);
}

static void plain_read_stop(struct ev_stream *s)
{
    struct plain *p = plain_of(s);

    if (!p->connecting && !uv_is_closing(&p->h.any))
        uv_read_stop(&p->h.stream);
}

/* --- writing ---------------------------------------------------------------------------------- */

static int submit(struct plain *p);

static void wrote(uv_write_t *req, int status)
{
    struct request *r = req->data;
    struct plain *p = r->p;

    ev_buf_fini(&r->bytes);
    ev_free(r);
    p->under_way--;
    if (p->s.closed) {
        if (p->lingering && (status < 0 || p->under_way == 0))
            close_handle(p);
        return;
    }
    if (status == 0 && p->next.n && p->under_way == 0)
        status = submit(p);
    if (status < 0)
        fail(p, status, "write");
    else if (p->under_way == 0)
        ev_stream_give_drained(&p->s);
}

static int submit(struct plain *p)
{
    struct request *r = ev_alloc(sizeof *r);
    uv_buf_t buf;
    int rc;

    r->p = p;
    r->req.data = r;
    r->bytes = p->next;
    ev_buf_init(&p->next, p->next.max);
    buf = uv_buf_init((char *)r->bytes.p, (unsigned)r->bytes.n);
    rc = uv_write(&r->req, &p->h.stream, &buf, 1, wrote);
    if (rc < 0) {
        ev_buf_fini(&r->bytes);
        ev_free(r);
        return rc;
    }
    p->under_way++;
    return 0;
}

static int plain_write(struct ev_stream *s, ev_slice bytes)
{
    struct plain *p = plain_of(s);
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes.p, (unsigned)bytes.n);
    bool idle = p->under_way == 0 && p->next.n == 0;
    int rc = 0;

    if (p->connecting)
        return -ENOTCONN;
    if (idle) {
        rc = uv_try_write(&p->h.stream, &buf, 1);
        if (rc < 0 && rc != UV_EAGAIN)
            return rc;
        if (rc > 0 && (size_t)rc == bytes.n)
            return 0;
        if (rc < 0)
            rc = 0;
    }
    rc = ev_buf_put(&p->next, bytes.p + rc, bytes.n - (size_t)rc);
    return rc < 0 || !idle ? rc : submit(p);
}

static size_t plain_queued(const struct ev_stream *s)
{
    const struct plain *p = plain_of(s);

    return p->connecting ? 0 : p->next.n + uv_stream_get_write_queue_size(&p->h.stream);
}

/* A peer that is gone already is noticed by the reading side. */
static void shut_done(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status;
}

static void plain_shutdown(struct ev_stream *s)
{
    struct plain *p = plain_of(s);

    if (p->connecting)
        return;
    if (p->next.n && submit(p) < 0)
        ev_buf_clear(&p->next);
    uv_shutdown(&p->shutdown, &p->h.stream, shut_done);
}

/* --- life ------------------------------------------------------------------------------------- */

static void plain_close(struct ev_stream *s)
{
    struct plain *p = plain_of(s);

    if (p->connecting) {
        ev_connect_cancel(p->connecting);
        plain_free(p);
        return;
    }
    if (s->shut && !s->dead && p->under_way) {
        p->lingering = true;
        uv_read_stop(&p->h.stream);
        p->linger = ev_timer_start(s->rt, EV_LINGER_MS, false, linger_over, p);
        return;
    }
    close_handle(p);
}

static int plain_fd(const struct ev_stream *s)
{
    struct plain *p = plain_of(s);
    uv_os_fd_t fd;

    return p->connecting || uv_fileno(&p->h.any, &fd) < 0 ? -1 : fd;
}

static const struct ev_stream_ops plain_ops = {
    .read_start = plain_read_start, .read_stop = plain_read_stop, .write = plain_write,
    .queued = plain_queued, .shutdown = plain_shutdown, .close = plain_close, .fd = plain_fd,
};

struct ev_stream *ev_plain_new(struct ev_rt *rt, struct ev_connect *op)
{
    struct plain *p = ev_alloc(sizeof *p);

    p->connecting = op;
    ev_buf_init(&p->next, EV_QUEUE_MAX + EV_QUEUE_ROOM);
    ev_stream_init(&p->s, rt, &plain_ops);
    return &p->s;
}

void ev_plain_drop(struct ev_stream *s)
{
    plain_free(plain_of(s));
}

/* On failure the descriptor is closed and the stream goes, too. */
int ev_plain_open(struct ev_stream *s, int family, int take_fd)
{
    struct plain *p = plain_of(s);
    int rc;

    if (family == AF_INET || family == AF_INET6) {
        uv_tcp_init(&s->rt->uv, &p->h.tcp);
        if ((rc = uv_tcp_open(&p->h.tcp, take_fd)) >= 0)
            uv_tcp_nodelay(&p->h.tcp, 1);
    } else {
        uv_pipe_init(&s->rt->uv, &p->h.pipe, 0);
        rc = uv_pipe_open(&p->h.pipe, take_fd);
    }
    p->h.any.data = p;
    p->connecting = NULL;
    if (rc < 0) {
        close(take_fd);
        s->closed = true;
        close_handle(p);
    }
    return rc;
}

int ev_stream_adopt(struct ev_rt *rt, int family, int take_fd, struct ev_stream **out)
{
    struct ev_stream *s = ev_plain_new(rt, NULL);
    int rc = ev_plain_open(s, family, take_fd);

    *out = rc < 0 ? NULL : s;
    return rc;
}

int ev_stream_from_fd(struct ev_rt *rt, int take_fd, struct ev_stream **out, struct ev_err *err)
{
    int family = ev_sock_family(take_fd), rc;

    if (family < 0) {
        close(take_fd);
        return ev_fail(err, family, "adopt a descriptor: %s", ev_err_text(family));
    }
    if ((rc = ev_stream_adopt(rt, family, take_fd, out)) < 0)
        return ev_fail(err, rc, "adopt a socket: %s", ev_err_text(rc));
    return 0;
}
