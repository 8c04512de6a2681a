/* loop.c — the event loop of a process: turns, timers, signals, descriptors, work. See loop.h.
 *
 * Each thing here is one heap object around one libuv handle:
 *
 *     start ──▶ active ──▶ stop: uv_close, the owner's pointer is dead ──▶ close callback: freed
 *
 * A single timer that has fired stays the owner's until it is stopped, like all others. */
#include "net/rt_internal.h"

#include <fcntl.h>
#include <signal.h>

#include "base/log.h"

struct ev_timer {
    uv_timer_t h;
    struct ev_rt *rt;
    void (*cb)(void *);
    void *ctx;
};

struct ev_signal {
    uv_signal_t h;
    struct ev_rt *rt;
    void (*cb)(void *, int);
    void *ctx;
};

struct ev_watch {
    uv_poll_t h;
    int fd, want;
    struct ev_rt *rt;
    void (*cb)(void *, int);
    void *ctx;
};

struct work {
    uv_work_t req;
    struct ev_rt *rt;
    void (*work)(void *), (*done)(void *);
    void *ctx;
};

struct defer {
    struct ev_soon soon;
    struct ev_rt *rt;
    void (*cb)(void *);
    void *ctx;
};

static void list_init(struct ev_soon *head)
{
    head->prev = head->next = head;
}

static void list_drop(struct ev_soon *s)
{
    s->prev->next = s->next;
    s->next->prev = s->prev;
    s->prev = s->next = NULL;
}

/* What is asked for during this turn belongs to the next one. */
static void run_soon(uv_idle_t *h)
{
    struct ev_rt *rt = h->data;

    if (rt->soon.next != &rt->soon) {
        rt->running.next = rt->soon.next;
        rt->running.prev = rt->soon.prev;
        rt->running.next->prev = rt->running.prev->next = &rt->running;
        list_init(&rt->soon);
    }
    while (rt->running.next != &rt->running) {
        struct ev_soon *s = rt->running.next;

        list_drop(s);
        s->cb(s->ctx);
    }
    if (rt->soon.next == &rt->soon)
        uv_idle_stop(&rt->idle);
}

void ev_soon_call(struct ev_rt *rt, struct ev_soon *s)
{
    if (s->next)
        return;
    s->prev = rt->soon.prev;
    s->next = &rt->soon;
    s->prev->next = s->next->prev = s;
    uv_idle_start(&rt->idle, run_soon);
}

void ev_soon_cancel(struct ev_rt *rt, struct ev_soon *s)
{
    if (!s->next)
        return;
    list_drop(s);
    if (rt->soon.next == &rt->soon && rt->running.next == &rt->running)
        uv_idle_stop(&rt->idle);
}

/* --- the runtime ------------------------------------------------------------------------------ */

int ev_rt_new(struct ev_rt **out, struct ev_err *err)
{
    struct ev_rt *rt = ev_alloc(sizeof *rt);
    int rc = uv_loop_init(&rt->uv);

    if (rc < 0) {
        ev_free(rt);
        return ev_fail(err, rc, "event loop: %s", uv_strerror(rc));
    }
    /* A peer that went away is an error of that stream, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    uv_idle_init(&rt->uv, &rt->idle);
    rt->idle.data = rt;
    list_init(&rt->soon);
    list_init(&rt->running);
    *out = rt;
    return 0;
}

static void drop_defers(struct ev_rt *rt);

void ev_rt_free(struct ev_rt *rt)
{
    if (!rt)
        return;
    drop_defers(rt);
    ev_process_forget_all(rt);
    uv_close((uv_handle_t *)&rt->idle, NULL);
    for (int i = 0; i < 8 && uv_run(&rt->uv, UV_RUN_NOWAIT); i++)
        ;
    ev_buf_fini(&rt->spare);
    if (rt->tls_client)
        rt->tls_client_free(rt->tls_client);
    if (uv_loop_close(&rt->uv) < 0) {
        /* Freeing the loop under a live handle would be worse than leaking it. */
        ev_log(EV_ERROR, "loop", "freed with %zu handles open", rt->open);
        return;
    }
    ev_free(rt);
}

int ev_rt_run(struct ev_rt *rt)
{
    return uv_run(&rt->uv, UV_RUN_DEFAULT);
}

int ev_rt_run_once(struct ev_rt *rt)
{
    return uv_run(&rt->uv, UV_RUN_ONCE);
}

void ev_rt_stop(struct ev_rt *rt)
{
    uv_stop(&rt->uv);
}

uint64_t ev_rt_now_ms(struct ev_rt *rt)
{
    uv_update_time(&rt->uv);
    return uv_now(&rt->uv);
}

size_t ev_rt_open_handles(struct ev_rt *rt)
{
    return rt->open;
}

/* --- timers ----------------------------------------------------------------------------------- */

static void timer_fired(uv_timer_t *h)
{
    struct ev_timer *t = h->data;

    t->cb(t->ctx);
}

static void timer_closed(uv_handle_t *h)
{
    struct ev_timer *t = h->data;

    ev_rt_closed(t->rt);
    ev_free(t);
}

struct ev_timer *ev_timer_start(struct ev_rt *rt, uint64_t ms, bool repeat, void (*cb)(void *), void *ctx)
{
    struct ev_timer *t = ev_alloc(sizeof *t);

    t->rt = rt;
    t->cb = cb;
    t->ctx = ctx;
    t->h.data = t;
    uv_timer_init(&rt->uv, &t->h);
    ev_rt_opened(rt);
    /* libuv counts from the turn's start; after a long callback that would be too early. */
    uv_update_time(&rt->uv);
    uv_timer_start(&t->h, timer_fired, ms, repeat ? (ms ? ms : 1) : 0);
    return t;
}

void ev_timer_stop(struct ev_timer *t)
{
    if (t && !uv_is_closing((uv_handle_t *)&t->h))
        uv_close((uv_handle_t *)&t->h, timer_closed);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void signal_fired(uv_signal_t *h, int signum)
{
    struct ev_signal *s = h->data;

    s->cb(s->ctx, signum);
}

static void signal_closed(uv_handle_t *h)
{
    struct ev_signal *s = h->data;

    ev_rt_closed(s->rt);
    ev_free(s);
}

struct ev_signal *ev_signal_start(struct ev_rt *rt, int signum, void (*cb)(void *, int), void *ctx)
{
    struct ev_signal *s = ev_alloc(sizeof *s);

    s->rt = rt;
    s->cb = cb;
    s->ctx = ctx;
    s->h.data = s;
    if (uv_signal_init(&rt->uv, &s->h) < 0) {
        ev_free(s);
        return NULL;
    }
    ev_rt_opened(rt);
    if (uv_signal_start(&s->h, signal_fired, signum) < 0) {
        ev_signal_stop(s);
        return NULL;
    }
    return s;
}

void ev_signal_stop(struct ev_signal *s)
{
    if (s && !uv_is_closing((uv_handle_t *)&s->h))
        uv_close((uv_handle_t *)&s->h, signal_closed);
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* A broken descriptor is reported as ready: the owner's next read or write says what is wrong. libuv
 * stops watching it then; we go on, so that a listener cannot fall silent. */
static void watch_fired(uv_poll_t *h, int status, int events)
{
    struct ev_watch *w = h->data;
    int what = 0;

    if (status < 0) {
        what = w->want;
        if (fcntl(w->fd, F_GETFD) >= 0)
            uv_poll_start(h, (what & EV_READABLE ? UV_READABLE : 0) | (what & EV_WRITABLE ? UV_WRITABLE : 0),
                          watch_fired);
    }
    if (events & (UV_READABLE | UV_DISCONNECT))
        what |= EV_READABLE;
    if (events & UV_WRITABLE)
        what |= EV_WRITABLE;
    w->cb(w->ctx, what);
}

static void watch_closed(uv_handle_t *h)
{
    struct ev_watch *w = h->data;

    ev_rt_closed(w->rt);
    ev_free(w);
}

struct ev_watch *ev_watch_start(struct ev_rt *rt, int fd, int events, void (*cb)(void *, int), void *ctx)
{
    struct ev_watch *w = ev_alloc(sizeof *w);
    int want = (events & EV_READABLE ? UV_READABLE : 0) | (events & EV_WRITABLE ? UV_WRITABLE : 0);

    w->rt = rt;
    w->fd = fd;
    w->want = events;
    w->cb = cb;
    w->ctx = ctx;
    w->h.data = w;
    if (uv_poll_init(&rt->uv, &w->h, fd) < 0) {
        ev_free(w);
        return NULL;
    }
    ev_rt_opened(rt);
    if (uv_poll_start(&w->h, want, watch_fired) < 0) {
        ev_watch_stop(w);
        return NULL;
    }
    return w;
}

void ev_watch_stop(struct ev_watch *w)
{
    if (w && !uv_is_closing((uv_handle_t *)&w->h))
        uv_close((uv_handle_t *)&w->h, watch_closed);
}

/* --- work and deferred calls ------------------------------------------------------------------ */

static void work_run(uv_work_t *req)
{
    struct work *w = req->data;

    w->work(w->ctx);
}

static void work_done(uv_work_t *req, int status)
{
    struct work *w = req->data;
    void (*done)(void *) = w->done;
    void *ctx = w->ctx;

    (void)status;               /* work is never cancelled */
    ev_rt_closed(w->rt);
    ev_free(w);
    if (done)
        done(ctx);
}

void ev_work_start(struct ev_rt *rt, void (*work)(void *), void (*done)(void *), void *ctx)
{
    struct work *w = ev_alloc(sizeof *w);

    w->rt = rt;
    w->work = work;
    w->done = done;
    w->ctx = ctx;
    w->req.data = w;
    ev_rt_opened(rt);
    uv_queue_work(&rt->uv, &w->req, work_run, work_done);
}

static void defer_run(void *p)
{
    struct defer *d = p;
    void (*cb)(void *) = d->cb;
    void *ctx = d->ctx;

    ev_rt_closed(d->rt);
    ev_free(d);
    cb(ctx);
}

void ev_defer(struct ev_rt *rt, void (*cb)(void *), void *ctx)
{
    struct defer *d = ev_alloc(sizeof *d);

    d->soon.cb = defer_run;
    d->soon.ctx = d;
    d->rt = rt;
    d->cb = cb;
    d->ctx = ctx;
    ev_rt_opened(rt);
    ev_soon_call(rt, &d->soon);
}

/* Deferred calls that never got their turn; the rest of the list belongs to its owners. */
static void drop_defers(struct ev_rt *rt)
{
    struct ev_soon *s = rt->soon.next, *next;

    for (; s != &rt->soon; s = next) {
        next = s->next;
        list_drop(s);
        if (s->cb == defer_run) {
            ev_rt_closed(rt);
            ev_free(s->ctx);
        }
    }
}
