/* test_relay.c — two streams as one pipe: bytes, half-close, back-pressure, death, idleness. */
#include <fcntl.h>
#include <sys/socket.h>

#include "net.h"

static struct ev_rt *rt;

/* far end A ── (a ⇄ relay ⇄ b) ── far end B */
struct rig { struct seen A, B; int done; struct ev_relay *r; struct ev_stream *a, *b; };

static void on_done(void *ctx)
{
    ((struct rig *)ctx)->done++;
}

static void stream_pair(struct ev_stream **near, struct seen *far)
{
    struct ev_stream *s;
    int fd[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ||
        ev_stream_from_fd(rt, fd[0], near, NULL) < 0 || ev_stream_from_fd(rt, fd[1], &s, NULL) < 0)
        abort();
    seen_init(far);
    seen_attach(far, s);
}

static void rig_open(struct rig *g)
{
    memset(g, 0, sizeof *g);
    stream_pair(&g->a, &g->A);
    stream_pair(&g->b, &g->B);
}

static void rig_start(struct rig *g)
{
    g->r = ev_relay_start(rt, g->a, g->b, on_done, g);
    ev_stream_read_start(g->A.s);
    ev_stream_read_start(g->B.s);
}

static void rig_close(struct rig *g, const char *what)
{
    seen_fini(&g->A);
    seen_fini(&g->B);
    turn_for(rt, 20);
    expect_closed(rt, what);
}

static void half_close(void)
{
    struct rig g;

    rig_open(&g);
    rig_start(&g);
    if (ev_stream_write(g.A.s, EV_LIT("request")) < 0)
        abort();
    ev_stream_shutdown(g.A.s);
    OK(turn_until(rt, &g.B.eof), "the eof passes");
    EQ_STR(ev_buf_str(&g.B.in), "request", "after the bytes");
    EQ_INT(g.done, 0, "and the other way stays open");
    if (ev_stream_write(g.B.s, EV_LIT("response")) < 0)
        abort();
    ev_stream_shutdown(g.B.s);
    OK(turn_until(rt, &g.A.eof), "the answer comes back");
    EQ_STR(ev_buf_str(&g.A.in), "response", "whole");
    OK(turn_until(rt, &g.done), "both ways ended: done");
    EQ_INT(g.done, 1, "once");
    rig_close(&g, "half-close: open handles");
}

static void back_pressure(void)
{
    enum { N = 1 << 20, TIMES = 12 };
    uint8_t *block = ev_alloc(N);
    struct rig g;
    size_t before;

    for (size_t i = 0; i < N; i++)
        block[i] = (uint8_t)(i * 31 + i / 257);
    rig_open(&g);
    rig_start(&g);
    ev_stream_read_stop(g.B.s);
    for (int i = 0; i < TIMES; i++)
        if (ev_stream_write(g.A.s, ev_slice_of(block, N)) < 0)
            abort();
    ev_stream_shutdown(g.A.s);
    turn_for(rt, 100);
    before = ev_stream_queued(g.A.s);
    OK(before > (size_t)(TIMES - 2) * N, "a reader that stands still stops the writer (%zu queued there)", before);
    OK(ev_stream_queued(g.b) <= 65536, "64 KiB at most in the relay (%zu)", ev_stream_queued(g.b));
    if (ev_stream_write(g.B.s, EV_LIT("meanwhile")) < 0)
        abort();
    turn_for(rt, 30);
    EQ_STR(ev_buf_str(&g.A.in), "meanwhile", "the other way still moves");
    ev_stream_read_start(g.B.s);
    OK(turn_until(rt, &g.B.eof), "it ends");
    EQ_INT(g.B.in.n, (size_t)TIMES * N, "every byte");
    for (int i = 0; i < TIMES; i++)
        if (memcmp(g.B.in.p + (size_t)i * N, block, N) != 0)
            OK(0, "block %d differs", i);
    ev_stream_shutdown(g.B.s);
    OK(turn_until(rt, &g.done), "done");
    ev_free(block);
    rig_close(&g, "back-pressure: open handles");
}

/* The source ends while the target's queue is not written out yet. */
static void ends_with_queue(void)
{
    enum { N = 40000 };
    uint8_t block[N] = { 1 };
    struct rig g;

    rig_open(&g);
    for (int i = 0; i < 40; i++)                    /* fills b's socket, and queues */
        if (ev_stream_write(g.b, ev_slice_of(block, N)) < 0)
            abort();
    ev_stream_shutdown(g.B.s);
    rig_start(&g);
    ev_stream_read_stop(g.B.s);
    if (ev_stream_write(g.A.s, EV_LIT("tail")) < 0)
        abort();
    ev_stream_shutdown(g.A.s);
    turn_for(rt, 50);
    EQ_INT(g.done, 0, "not done while bytes wait");
    ev_stream_read_start(g.B.s);
    OK(turn_until(rt, &g.B.eof), "then everything goes");
    EQ_INT(g.B.in.n, 40 * N + 4, "what was written before the relay comes first, all of it");
    OK(turn_until(rt, &g.done), "done");
    rig_close(&g, "ends with a queue: open handles");
}

static void death(void)
{
    struct rig g;

    rig_open(&g);
    rig_start(&g);
    if (ev_stream_write(g.A.s, EV_LIT("x")) < 0)
        abort();
    ev_stream_close(g.B.s);
    g.B.s = NULL;
    for (int i = 0; i < 100 && !g.done; i++) {
        if (g.A.s && ev_stream_write(g.A.s, EV_LIT("more")) < 0)
            break;
        turn_for(rt, 5);
    }
    OK(turn_until(rt, &g.done), "a dead side ends both");
    EQ_INT(turn_until(rt, &g.A.eof) + g.A.failed > 0, 1, "and the other side sees it");
    rig_close(&g, "death: open handles");
}

static void already_ended(void)
{
    struct rig g;
    struct seen near;

    rig_open(&g);
    seen_init(&near);
    seen_attach(&near, g.a);
    ev_stream_read_start(g.a);
    ev_stream_shutdown(g.A.s);
    turn_until(rt, &near.eof);
    rig_start(&g);
    OK(turn_until(rt, &g.B.eof), "an eof that the owner saw before the relay passes, too");
    ev_stream_shutdown(g.B.s);
    OK(turn_until(rt, &g.done), "done");
    near.s = NULL;
    seen_fini(&near);
    rig_close(&g, "already ended: open handles");
}

static void idle(void)
{
    struct rig g;
    uint64_t before;

    rig_open(&g);
    rig_start(&g);
    ev_relay_set_idle(g.r, 120);
    before = ev_rt_now_ms(rt);
    for (int i = 0; i < 10; i++) {
        if (ev_stream_write(g.A.s, EV_LIT(".")) < 0)
            abort();
        turn_for(rt, 20);
    }
    EQ_INT(g.done, 0, "traffic keeps it");
    OK(turn_until(rt, &g.done), "silence ends it");
    OK(ev_rt_now_ms(rt) - before >= 300, "not before its time");
    rig_close(&g, "idle: open handles");
}

static void closed_by_owner(void)
{
    for (int turns = 0; turns < 4; turns++) {
        struct rig g;

        rig_open(&g);
        rig_start(&g);
        ev_relay_set_idle(g.r, 1000);
        if (turns && ev_stream_write(g.A.s, EV_LIT("x")) < 0)
            abort();
        for (int i = 0; i < turns; i++)
            turn_for(rt, 1);
        ev_relay_close(g.r);
        turn_for(rt, 10);
        EQ_INT(g.done, 0, "closed by its owner: done is not called");
        rig_close(&g, "closed by owner: open handles");
    }
}

int main(void)
{
    if (ev_rt_new(&rt, NULL) < 0)
        return 1;
    half_close();
    back_pressure();
    ends_with_queue();
    death();
    already_ended();
    idle();
    closed_by_owner();
    ev_rt_free(rt);
    return tap_done();
}
