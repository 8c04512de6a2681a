/* net.h — what the tests of core/net share: a loop that is turned until something is true or a
 * deadline has passed, and the check that nothing is left open. */
#ifndef TESTS_NET_H
#define TESTS_NET_H

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/loop.h"
#include "net/stream.h"
#include "tap.h"

enum { PATIENCE_MS = 8000 };

__attribute__((unused)) static void nothing(void *ctx)
{
    (void)ctx;
}

/* Turns the loop until *flag is not 0. */
__attribute__((unused)) static int turn_until(struct ev_rt *rt, const int *flag)
{
    uint64_t end = ev_rt_now_ms(rt) + PATIENCE_MS;
    struct ev_timer *tick = ev_timer_start(rt, 20, true, nothing, NULL);

    while (!*flag && ev_rt_now_ms(rt) < end)
        ev_rt_run_once(rt);
    ev_timer_stop(tick);
    return *flag;
}

__attribute__((unused)) static void turn_for(struct ev_rt *rt, uint64_t ms)
{
    uint64_t end = ev_rt_now_ms(rt) + ms;
    struct ev_timer *tick = ev_timer_start(rt, 5, true, nothing, NULL);

    while (ev_rt_now_ms(rt) < end)
        ev_rt_run_once(rt);
    ev_timer_stop(tick);
}

/* Lets close callbacks run; what is open after that is a leak. */
__attribute__((unused)) static void expect_closed(struct ev_rt *rt, const char *what)
{
    for (int i = 0; i < 300 && ev_rt_open_handles(rt) > 0; i++) {
        struct ev_timer *tick = ev_timer_start(rt, 2, false, nothing, NULL);

        ev_rt_run_once(rt);
        ev_timer_stop(tick);
        ev_rt_run_once(rt);
    }
    EQ_INT(ev_rt_open_handles(rt), 0, what);
}

/* A stream's owner that records what happens. */
struct seen {
    struct ev_buf in;
    int eof, failed, drained, data_calls;
    int code;
    char msg[EV_ERR_MSG], reason[48];
    struct ev_stream *s;
    int opened;
    int stop_after_first;
};

__attribute__((unused)) static void seen_data(void *ctx, ev_slice b)
{
    struct seen *x = ctx;

    x->data_calls++;
    if (ev_buf_put_slice(&x->in, b) < 0)
        abort();
    if (x->stop_after_first)
        ev_stream_read_stop(x->s);
}

__attribute__((unused)) static void seen_eof(void *ctx)
{
    ((struct seen *)ctx)->eof++;
}

static void seen_error(struct seen *x, const struct ev_err *err)
{
    x->failed++;
    x->code = err->code;
    snprintf(x->msg, sizeof x->msg, "%s", err->msg);
    snprintf(x->reason, sizeof x->reason, "%s", err->reason);
}

__attribute__((unused)) static void seen_fail(void *ctx, const struct ev_err *err)
{
    seen_error(ctx, err);
}

__attribute__((unused)) static void seen_drained(void *ctx)
{
    ((struct seen *)ctx)->drained++;
}

__attribute__((unused)) static const struct ev_stream_cb seen_cb = { seen_data, seen_eof, seen_fail, seen_drained };

__attribute__((unused)) static void seen_init(struct seen *x)
{
    memset(x, 0, sizeof *x);
    ev_buf_init(&x->in, 64 << 20);
}

__attribute__((unused)) static void seen_attach(struct seen *x, struct ev_stream *s)
{
    x->s = s;
    ev_stream_set_cb(s, &seen_cb, x);
}

/* For connect, accept, TLS: the outcome. */
__attribute__((unused)) static void seen_done(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct seen *x = ctx;

    x->opened++;
    x->s = s;
    if (err)
        seen_error(x, err);
    if (s)
        ev_stream_set_cb(s, &seen_cb, x);
}

__attribute__((unused)) static void seen_accepted(void *ctx, struct ev_stream *s)
{
    seen_done(ctx, s, NULL);
}

__attribute__((unused)) static void seen_fini(struct seen *x)
{
    ev_stream_close(x->s);
    x->s = NULL;
    ev_buf_fini(&x->in);
}

__attribute__((unused)) static char *temp_dir(char *room, size_t cap)
{
    const char *base = getenv("TMPDIR");

    snprintf(room, cap, "%s/ev-net-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
    return mkdtemp(room);
}

#endif
