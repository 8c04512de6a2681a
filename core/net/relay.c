/* relay.c — two streams become one pipe. See stream.h.
 *
 *     a ──data──▶ b        each way on its own: open ──eof──▶ half closed (the other side gets a
 *     a ◀──data── b        shutdown); both ways ended and written out ──▶ closed, done
 *
 * Nothing is buffered here: what the target's socket does not take waits in that stream's queue (one
 * read, at most 64 KiB), and the source is not read until the queue is empty. So an idle relay holds
 * no buffer, and a slow reader slows its writer and nobody else. Splicing kernel to kernel would
 * replace `pass` for two plain streams (spec performance §3); nothing else here would change. */
#include "net/stream_internal.h"

enum { IDLE_CHECKS = 4 };       /* a deadline is noticed at most a quarter late */

struct way {
    struct ev_relay *r;
    struct ev_stream *from, *to;
    bool ended;
};

struct ev_relay {
    struct ev_rt *rt;
    struct way way[2];
    void (*done)(void *ctx);
    void *ctx;
    struct ev_timer *idle;
    uint64_t idle_ms, last_ms;
    struct ev_soon begin;
    bool over;
};

static void close_all(struct ev_relay *r)
{
    r->over = true;
    ev_soon_cancel(r->rt, &r->begin);
    ev_timer_stop(r->idle);
    ev_stream_close(r->way[0].from);
    ev_stream_close(r->way[1].from);
}

static void finish(struct ev_relay *r)
{
    void (*done)(void *) = r->done;
    void *ctx = r->ctx;

    if (r->over)
        return;
    close_all(r);
    ev_rt_closed(r->rt);
    ev_free(r);
    if (done)
        done(ctx);
}

/* Each stream is the source of one way and the target of the other; its callbacks get the first. */
static struct way *other(struct way *w)
{
    return &w->r->way[w == &w->r->way[0]];
}

static void finish_if_ended(struct ev_relay *r)
{
    for (int i = 0; i < 2; i++)
        if (!r->way[i].ended || ev_stream_queued(r->way[i].to))
            return;
    finish(r);
}

static void pass(void *ctx, ev_slice bytes)
{
    struct way *w = ctx;

    w->r->last_ms = uv_now(&w->r->rt->uv);
    if (ev_stream_write(w->to, bytes) < 0)
        finish(w->r);
    else if (ev_stream_queued(w->to))
        ev_stream_read_stop(w->from);
}

static void ended(void *ctx)
{
    struct way *w = ctx;

    w->ended = true;
    ev_stream_shutdown(w->to);
    finish_if_ended(w->r);
}

static void failed(void *ctx, const struct ev_err *err)
{
    struct way *w = ctx;

    (void)err;
    finish(w->r);
}

static void drained(void *ctx)
{
    struct way *w = other(ctx);         /* the way whose target this stream is */

    w->r->last_ms = uv_now(&w->r->rt->uv);
    if (w->ended)
        finish_if_ended(w->r);
    else
        ev_stream_read_start(w->from);
}

static void check_idle(void *ctx)
{
    struct ev_relay *r = ctx;

    if (uv_now(&r->rt->uv) - r->last_ms >= r->idle_ms)
        finish(r);
}

/* A stream may have ended, or died, while its owner still had it. */
static void begin(void *ctx)
{
    struct ev_relay *r = ctx;

    if (r->way[0].from->dead || r->way[1].from->dead) {
        finish(r);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (r->way[i].from->eof) {
            r->way[i].ended = true;
            ev_stream_shutdown(r->way[i].to);
        }
    finish_if_ended(r);
}

struct ev_relay *ev_relay_start(struct ev_rt *rt, struct ev_stream *take_a, struct ev_stream *take_b,
                                void (*done)(void *ctx), void *ctx)
{
    static const struct ev_stream_cb cb = { pass, ended, failed, drained };
    struct ev_relay *r = ev_alloc(sizeof *r);

    r->rt = rt;
    r->done = done;
    r->ctx = ctx;
    r->way[0] = (struct way){ .r = r, .from = take_a, .to = take_b };
    r->way[1] = (struct way){ .r = r, .from = take_b, .to = take_a };
    r->last_ms = ev_rt_now_ms(rt);
    ev_rt_opened(rt);
    for (int i = 0; i < 2; i++) {
        ev_stream_read_stop(r->way[i].from);
        ev_stream_set_cb(r->way[i].from, &cb, &r->way[i]);
    }
    /* What an owner wrote before it handed the streams over comes first. */
    for (int i = 0; i < 2; i++)
        if (ev_stream_queued(r->way[i].to) == 0)
            ev_stream_read_start(r->way[i].from);
    r->begin = (struct ev_soon){ .cb = begin, .ctx = r };
    ev_soon_call(rt, &r->begin);
    return r;
}

void ev_relay_set_idle(struct ev_relay *r, uint64_t ms)
{
    ev_timer_stop(r->idle);
    r->idle = NULL;
    r->idle_ms = ms;
    r->last_ms = ev_rt_now_ms(r->rt);
    if (ms)
        r->idle = ev_timer_start(r->rt, ms / IDLE_CHECKS + 1, true, check_idle, r);
}

void ev_relay_close(struct ev_relay *r)
{
    if (!r || r->over)
        return;
    close_all(r);
    ev_rt_closed(r->rt);
    ev_free(r);
}
