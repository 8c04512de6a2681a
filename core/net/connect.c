/* connect.c — from an address to an open stream: look the name up, try each address in turn.
 *
 *     lookup ──▶ attempt 1 ──▶ … ──▶ attempt n ──▶ done(stream) | done(error)
 *        └──────────┴── ev_stream_close of the pending stream: no callback
 *
 * One deadline covers everything; with k addresses left an attempt gets a k-th of what remains, so
 * that a silent first address does not use up the time of the second. Sockets of all families are
 * connected by hand, because libuv knows no AF_VSOCK and cannot wait for a full Unix backlog. */
#include "net/stream_internal.h"

#include <stdio.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 8, BACKLOG_RETRY_MS = 10 };

struct ev_connect {
    struct ev_rt *rt;
    struct ev_stream *s;                /* NULL once it was cancelled */
    struct ev_addr to;
    void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err);
    void *ctx;
    uint64_t ends_ms;
    struct ev_sockaddr addr[ADDRESSES_MAX];
    size_t n, next;
    int fd, last;                       /* socket of the attempt; why the latest one failed */
    struct ev_watch *watch;
    struct ev_timer *timer, *retry;
    struct ev_soon soon;
    uv_getaddrinfo_t lookup;
    bool looking;
};

static void attempt(struct ev_connect *op);

static void op_free(struct ev_connect *op)
{
    if (op->looking || op->s)
        return;
    ev_rt_closed(op->rt);
    ev_free(op);
}

static void stop_attempt(struct ev_connect *op)
{
    ev_watch_stop(op->watch);
    ev_timer_stop(op->timer);
    ev_timer_stop(op->retry);
    op->watch = NULL;
    op->timer = op->retry = NULL;
    if (op->fd >= 0)
        close(op->fd);
    op->fd = -1;
}

void ev_connect_cancel(struct ev_connect *op)
{
    stop_attempt(op);
    ev_soon_cancel(op->rt, &op->soon);
    op->s = NULL;
    if (op->looking)
        uv_cancel((uv_req_t *)&op->lookup);         /* its callback comes in any case */
    op_free(op);
}

static void finish_fail(struct ev_connect *op, int code, const char *why)
{
    struct ev_err err = EV_ERR_INIT;
    char text[300];
    void (*done)(void *, struct ev_stream *, const struct ev_err *) = op->done;
    void *ctx = op->ctx;

    ev_addr_text(&op->to, text, sizeof text);
    ev_fail(&err, code, "connect to %s: %s", text, why);
    stop_attempt(op);
    ev_plain_drop(op->s);
    op->s = NULL;
    if (op->looking)
        uv_cancel((uv_req_t *)&op->lookup);
    op_free(op);
    done(ctx, NULL, &err);
}

static void finish_open(struct ev_connect *op)
{
    struct ev_stream *s = op->s;
    struct ev_err err = EV_ERR_INIT;
    void (*done)(void *, struct ev_stream *, const struct ev_err *) = op->done;
    void *ctx = op->ctx;
    int fd = op->fd, rc;

    op->fd = -1;
    stop_attempt(op);
    op->s = NULL;
    rc = ev_plain_open(s, op->addr[op->next - 1].u.any.sa_family, fd);
    op_free(op);
    if (rc < 0)
        ev_fail(&err, rc, "connect: %s", ev_err_text(rc));
    done(ctx, rc < 0 ? NULL : s, rc < 0 ? &err : NULL);
}

static void next_attempt(struct ev_connect *op, int why)
{
    op->last = why;
    stop_attempt(op);
    attempt(op);
}

static void timed_out(void *ctx)
{
    next_attempt(ctx, -ETIMEDOUT);
}

static void lookup_timed_out(void *ctx)
{
    finish_fail(ctx, -ETIMEDOUT, "looking up the name took too long");
}

/* Reports the outcome of a connect that did not have to wait. */
static void report(void *ctx)
{
    struct ev_connect *op = ctx;

    if (op->fd >= 0)
        finish_open(op);
    else
        finish_fail(op, op->last, ev_err_text(op->last));
}

static void ready(void *ctx, int events)
{
    struct ev_connect *op = ctx;
    int why = 0;
    socklen_t n = sizeof why;

    (void)events;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
        why = errno;
    if (why)
        next_attempt(op, -why);
    else
        finish_open(op);
}

static void try_again(void *ctx)
{
    struct ev_connect *op = ctx;

    op->next--;
    next_attempt(op, -EAGAIN);
}

/* → 1: under way or to be reported; 0: this address failed at once. */
static int start_one(struct ev_connect *op, const struct ev_sockaddr *sa)
{
    if ((op->fd = ev_sock_open(sa->u.any.sa_family)) < 0) {
        op->last = op->fd;
        return 0;
    }
    if (connect(op->fd, &sa->u.any, sa->len) == 0) {
        ev_soon_call(op->rt, &op->soon);
        return 1;
    }
    if (errno == EINPROGRESS) {
        op->watch = ev_watch_start(op->rt, op->fd, EV_WRITABLE, ready, op);
        op->last = -EBADF;
        return op->watch != NULL;
    }
    if (errno == EAGAIN && sa->u.any.sa_family == AF_UNIX) {    /* the listener's backlog is full */
        op->retry = ev_timer_start(op->rt, BACKLOG_RETRY_MS, false, try_again, op);
        return 1;
    }
    op->last = -errno;
    return 0;
}

static void attempt(struct ev_connect *op)
{
    while (op->next < op->n) {
        uint64_t now = ev_rt_now_ms(op->rt);
        uint64_t left = op->ends_ms > now ? op->ends_ms - now : 0;
        const struct ev_sockaddr *sa = &op->addr[op->next];

        if (left == 0) {
            op->last = -ETIMEDOUT;
            break;
        }
        op->timer = ev_timer_start(op->rt, left / (op->n - op->next) + 1, false, timed_out, op);
        op->next++;
        if (start_one(op, sa))
            return;
        stop_attempt(op);
    }
    ev_soon_call(op->rt, &op->soon);
}

static void looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct ev_connect *op = req->data;

    op->looking = false;
    if (!op->s) {                       /* cancelled, or too late */
        uv_freeaddrinfo(list);
        op_free(op);
        return;
    }
    ev_timer_stop(op->timer);
    op->timer = NULL;
    for (struct addrinfo *a = list; a && op->n < ADDRESSES_MAX; a = a->ai_next) {
        struct ev_sockaddr *sa = &op->addr[op->n];

        if (a->ai_addrlen > sizeof sa->u || (a->ai_family != AF_INET && a->ai_family != AF_INET6))
            continue;
        memcpy(&sa->u, a->ai_addr, a->ai_addrlen);
        sa->len = a->ai_addrlen;
        op->n++;
    }
    uv_freeaddrinfo(list);
    if (status < 0 || op->n == 0)
        finish_fail(op, status < 0 ? status : -ENOENT, status < 0 ? uv_strerror(status) : "no address");
    else
        attempt(op);
}

static int lookup(struct ev_connect *op, uint64_t timeout_ms)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC,
                              .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV };
    char port[16];
    int rc;

    snprintf(port, sizeof port, "%u", op->to.port);
    op->lookup.data = op;
    rc = uv_getaddrinfo(&op->rt->uv, &op->lookup, looked_up, op->to.host, port, &hints);
    if (rc < 0)
        return rc;
    op->looking = true;
    op->timer = ev_timer_start(op->rt, timeout_ms, false, lookup_timed_out, op);
    return 0;
}

int ev_stream_connect(struct ev_rt *rt, const struct ev_addr *to, uint64_t timeout_ms,
                      void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err),
                      void *ctx, struct ev_stream **pending, struct ev_err *err)
{
    struct ev_connect *op = ev_alloc(sizeof *op);
    int rc;

    if (timeout_ms == 0)
        timeout_ms = EV_CONNECT_MS;
    op->rt = rt;
    op->to = *to;
    op->done = done;
    op->ctx = ctx;
    op->ends_ms = ev_rt_now_ms(rt) + timeout_ms;
    op->fd = -1;
    op->soon = (struct ev_soon){ .cb = report, .ctx = op };
    op->s = ev_plain_new(rt, op);
    ev_rt_opened(rt);
    rc = ev_sockaddr_from(to, &op->addr[0]);
    if (rc == 1)
        rc = lookup(op, timeout_ms);
    else if (rc == 0) {
        op->n = 1;
        attempt(op);
    }
    if (rc < 0) {
        ev_plain_drop(op->s);
        op->s = NULL;
        op_free(op);
        return ev_fail(err, rc, "connect to %s: %s", to->host, ev_err_text(rc));
    }
    if (pending)
        *pending = op->s;
    return 0;
}
