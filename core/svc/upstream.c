/* upstream.c — the pool of upstream.h. Last in, first out, so that few connections stay warm. */
#include "svc/upstream.h"

struct ev_upool {
    struct ev_rt *rt;
    struct ev_addr app;
    uint32_t connect_ms;
    struct ev_upconn *idle;             /* newest first */
    size_t n_idle;
    struct ev_timer *sweep;
};

static void unlink_idle(struct ev_upconn *c)
{
    for (struct ev_upconn **at = &c->pool->idle; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            c->pool->n_idle--;
            return;
        }
}

static void lost(void *ctx)
{
    unlink_idle(ctx);
    ev_upool_drop(ctx);
}

static void lost_data(void *ctx, ev_slice bytes)
{
    (void)bytes;                        /* nobody asked */
    lost(ctx);
}

static void lost_fail(void *ctx, const struct ev_err *err)
{
    (void)err;
    lost(ctx);
}

static const struct ev_stream_cb idle_cb = { .data = lost_data, .eof = lost, .fail = lost_fail };

static void sweep(void *ctx)
{
    struct ev_upool *p = ctx;
    uint64_t now = ev_rt_now_ms(p->rt);

    for (struct ev_upconn *c = p->idle, *next; c; c = next) {
        next = c->next;
        if (now - c->idle_since >= EV_UPSTREAM_IDLE_MS)
            lost(c);
    }
    if (!p->idle) {
        ev_timer_stop(p->sweep);
        p->sweep = NULL;
    }
}

struct ev_upool *ev_upool_new(struct ev_rt *rt, const struct ev_addr *app, uint32_t connect_ms)
{
    struct ev_upool *p = ev_alloc(sizeof *p);

    p->rt = rt;
    p->app = *app;
    p->connect_ms = connect_ms;
    return p;
}

void ev_upool_free(struct ev_upool *p)
{
    if (!p)
        return;
    ev_timer_stop(p->sweep);
    while (p->idle)
        lost(p->idle);
    ev_free(p);
}

static void connected(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct ev_upconn *c = ctx;

    c->pending = NULL;
    c->stream = s;
    c->opened(c->ctx, err);
}

static struct ev_upconn *take_idle(struct ev_upool *p, uint32_t max_idle_ms)
{
    struct ev_upconn *c = p->idle;

    if (!c || ev_rt_now_ms(p->rt) - c->idle_since >= max_idle_ms)
        return NULL;
    unlink_idle(c);
    c->reused = true;
    return c;
}

int ev_upool_take(struct ev_upool *p, uint32_t max_idle_ms, void (*opened)(void *ctx, const struct ev_err *err),
                  void *ctx, struct ev_upconn **out, struct ev_err *err)
{
    struct ev_upconn *c = take_idle(p, max_idle_ms);
    int rc = 0;

    if (!c) {
        c = ev_alloc(sizeof *c);
        c->pool = p;
        rc = ev_stream_connect(p->rt, &p->app, p->connect_ms, connected, c, &c->pending, err);
    }
    c->opened = opened;
    c->ctx = ctx;
    if (rc < 0) {
        ev_free(c);
        c = NULL;
    }
    *out = c;
    return rc;
}

void ev_upool_give(struct ev_upconn *c)
{
    struct ev_upool *p = c->pool;

    if (p->n_idle >= EV_UPSTREAM_IDLE_MAX) {
        ev_upool_drop(c);
        return;
    }
    c->idle_since = ev_rt_now_ms(p->rt);
    c->next = p->idle;
    p->idle = c;
    p->n_idle++;
    ev_stream_set_cb(c->stream, &idle_cb, c);
    ev_stream_read_start(c->stream);
    if (!p->sweep)
        p->sweep = ev_timer_start(p->rt, EV_UPSTREAM_IDLE_MS / 4, true, sweep, p);
}

void ev_upool_drop(struct ev_upconn *c)
{
    if (!c)
        return;
    ev_stream_close(c->pending);
    ev_stream_close(c->stream);
    ev_free(c);
}
