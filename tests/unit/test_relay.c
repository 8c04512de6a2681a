/* test_relay.c — two streams as one pipe: bytes, half-close, back-pressure, death, idleness. */
#include <fcntl.h>
#include <sys/socket.h>

#include "net.h"
#include "net/tls.h"

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
    size_t queued;

    rig_open(&g);
    for (int i = 0; i < 40; i++)                    /* fills b's socket, and queues */
        if (ev_stream_write(g.b, ev_slice_of(block, N)) < 0)
            abort();
    ev_stream_shutdown(g.B.s);
    queued = ev_stream_queued(g.b);
    rig_start(&g);
    ev_stream_read_stop(g.B.s);
    if (ev_stream_write(g.A.s, EV_LIT("tail")) < 0)
        abort();
    ev_stream_shutdown(g.A.s);
    turn_for(rt, 50);
    EQ_INT(g.done, 0, "not done while bytes wait");
    EQ_INT(ev_stream_queued(g.b), queued, "nothing is read on top of a queue");
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

/* Both sides ended before the relay began, and one still has to be written to. */
static void both_ended(void)
{
    enum { N = 1000000 };
    uint8_t *block = ev_alloc(N);
    struct rig g;
    struct seen a, b;

    rig_open(&g);
    seen_init(&a);
    seen_init(&b);
    seen_attach(&a, g.a);
    seen_attach(&b, g.b);
    ev_stream_read_start(g.a);
    ev_stream_read_start(g.b);
    ev_stream_shutdown(g.A.s);
    ev_stream_shutdown(g.B.s);
    turn_until(rt, &a.eof);
    turn_until(rt, &b.eof);
    if (ev_stream_write(g.b, ev_slice_of(block, N)) < 0)
        abort();
    rig_start(&g);
    ev_stream_read_stop(g.B.s);
    turn_for(rt, 30);
    EQ_INT(g.done, 0, "not done before the last byte is written");
    ev_stream_read_start(g.B.s);
    OK(turn_until(rt, &g.done) && turn_until(rt, &g.B.eof), "then done");
    EQ_INT(g.B.in.n, N, "every byte");
    a.s = b.s = NULL;
    seen_fini(&a);
    seen_fini(&b);
    ev_free(block);
    rig_close(&g, "both ended: open handles");
}

static void idle(void)
{
    struct rig g;
    uint64_t before;

    rig_open(&g);
    rig_start(&g);
    ev_relay_set_idle(g.r, 500);
    before = ev_rt_now_ms(rt);
    for (int i = 0; i < 35; i++) {
        if (ev_stream_write(g.A.s, EV_LIT(".")) < 0)
            abort();
        turn_for(rt, 20);
    }
    EQ_INT(g.done, 0, "traffic keeps it");
    OK(turn_until(rt, &g.done), "silence ends it");
    OK(ev_rt_now_ms(rt) - before >= 1200, "not before its time");
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

/* --- chaos: client ⇄ TLS ⇄ relay ⇄ echo, and everybody dies at random moments ------------------- */

enum { CLIENTS = 40, ROUNDS = 4000 };

struct client {
    struct ev_stream *s, *pending;
    size_t sent, got;
    int opened, over, bad, faithful;    /* faithful: never closes early */
};
struct echo { struct ev_stream *s; struct echo *next; bool ended; };
struct bridge { struct ev_stream *outside, *pending; struct bridge *next; };

static struct client clients[CLIENTS];
static struct echo *echoes;
static struct bridge *bridges;
static struct ev_tls_ctx *tls;
static struct ev_key *key;
static struct ev_cert *cert;
static struct ev_addr echo_at, front_at;
static unsigned seed = 20261124;       /* EV_SEED=N for another run */
static int relays_done, relays_started;

static unsigned dice(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % n;
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 37 + i / 253);
}

static void echo_data(void *ctx, ev_slice b)
{
    struct echo *e = ctx;

    if (ev_stream_write(e->s, b) < 0) {
        ev_stream_close(e->s);
        e->s = NULL;
    } else if (ev_stream_queued(e->s)) {
        ev_stream_read_stop(e->s);
    }
}

static void echo_drained(void *ctx)
{
    struct echo *e = ctx;

    if (!e->ended)
        ev_stream_read_start(e->s);
}

static void echo_eof(void *ctx)
{
    struct echo *e = ctx;

    e->ended = true;
    ev_stream_shutdown(e->s);
}

static void echo_fail(void *ctx, const struct ev_err *err)
{
    struct echo *e = ctx;

    (void)err;
    ev_stream_close(e->s);
    e->s = NULL;
}

static void echo_accepted(void *ctx, struct ev_stream *s)
{
    static const struct ev_stream_cb cb = { echo_data, echo_eof, echo_fail, echo_drained };
    struct echo *e = ev_alloc(sizeof *e);

    (void)ctx;
    e->s = s;
    e->next = echoes;
    echoes = e;
    ev_stream_set_cb(s, &cb, e);
    ev_stream_read_start(s);
}

static void relay_ended(void *ctx)
{
    (void)ctx;
    relays_done++;
}

static void inside_open(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct bridge *b = ctx;

    (void)err;
    b->pending = NULL;
    if (s) {
        relays_started++;
        ev_relay_start(rt, b->outside, s, relay_ended, NULL);
    } else {
        ev_stream_close(b->outside);
    }
    b->outside = NULL;
}

static void outside_open(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct bridge *b = ctx;

    (void)err;
    b->outside = s;
    if (s && ev_stream_connect(rt, &echo_at, 2000, inside_open, b, &b->pending, NULL) < 0)
        abort();
}

static void front_accepted(void *ctx, struct ev_stream *s)
{
    struct bridge *b = ev_alloc(sizeof *b);

    (void)ctx;
    b->next = bridges;
    bridges = b;
    ev_tls_accept(tls, s, outside_open, b);
}

static int choose(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    (void)ctx;
    (void)sni;
    out->cert = cert;
    out->key = key;
    return 0;
}

static int agree(void *ctx, const struct ev_cert *leaf, struct ev_err *err)
{
    (void)ctx;
    (void)leaf;
    (void)err;
    return 0;
}

static void client_data(void *ctx, ev_slice b)
{
    struct client *c = ctx;

    for (size_t i = 0; i < b.n; i++)
        c->bad |= b.p[i] != pattern(c->got + i);
    c->got += b.n;
    if (!c->faithful && dice(50) == 0) {
        ev_stream_close(c->s);
        c->s = NULL;
        c->over = 1;
    } else if (dice(8) == 0) {
        ev_stream_read_stop(c->s);
    }
}

static void client_eof(void *ctx)
{
    struct client *c = ctx;

    c->bad |= c->got != c->sent;        /* eof comes only after our own, so all of it must be there */
    ev_stream_close(c->s);
    c->s = NULL;
    c->over = 1;
}

static void client_fail(void *ctx, const struct ev_err *err)
{
    struct client *c = ctx;

    (void)err;
    c->bad |= c->faithful;
    ev_stream_close(c->s);
    c->s = NULL;
    c->over = 1;
}

static void client_tls(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    static const struct ev_stream_cb cb = { client_data, client_eof, client_fail, NULL };
    struct client *c = ctx;

    c->pending = NULL;
    if (!s) {
        client_fail(c, err);
        return;
    }
    c->s = s;
    c->opened = 1;
    ev_stream_set_cb(s, &cb, c);
    ev_stream_read_start(s);
}

static void client_tcp(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    static const struct ev_tls_client_conf conf = { .sni = "x", .accept_peer = agree };
    struct client *c = ctx;

    c->pending = NULL;
    if (s)
        c->pending = ev_tls_connect(rt, &conf, s, client_tls, c);
    else
        client_fail(c, err);
}

static void client_act(struct client *c)
{
    uint8_t block[30000];
    size_t n = dice(4) ? dice(500) : dice(sizeof block);

    if (c->pending && !c->faithful && dice(30) == 0) {
        ev_stream_close(c->pending);
        c->pending = NULL;
        c->over = 1;
    }
    if (!c->s)
        return;
    ev_stream_read_start(c->s);
    if (c->sent > 400000 || dice(200) == 0) {
        ev_stream_shutdown(c->s);
        c->opened = 2;
    }
    if (c->opened == 2)
        return;
    for (size_t i = 0; i < n; i++)
        block[i] = pattern(c->sent + i);
    if (ev_stream_queued(c->s) < 100000 && ev_stream_write(c->s, ev_slice_of(block, n)) >= 0)
        c->sent += n;
}

static void client_start(struct client *c, int faithful)
{
    memset(c, 0, sizeof *c);
    c->faithful = faithful;
    if (ev_stream_connect(rt, &front_at, 5000, client_tcp, c, &c->pending, NULL) < 0)
        abort();
}

static void make_certificate(void)
{
    struct ev_cert_conf conf = { .subject = "/CN=x", .not_before_ms = 1700000000000, .not_after_ms = 4000000000000 };
    struct ev_tls_server_conf server = { .select = choose };

    if (ev_key_generate(EV_P256, &key, NULL) < 0 || ev_cert_make(&conf, key, NULL, NULL, &cert, NULL) < 0 ||
        ev_tls_server_new(&server, &tls, NULL) < 0)
        abort();
}

static void clean_up(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        ev_stream_close(clients[i].s);
        ev_stream_close(clients[i].pending);
    }
    turn_for(rt, 100);
    while (echoes) {
        struct echo *e = echoes;

        echoes = e->next;
        ev_stream_close(e->s);
        ev_free(e);
    }
    turn_for(rt, 100);
    while (bridges) {
        struct bridge *b = bridges;

        bridges = b->next;
        ev_stream_close(b->pending);
        ev_stream_close(b->outside);
        ev_free(b);
    }
}

static void chaos(void)
{
    char dir[128], text[200];
    struct ev_listener *front, *back;
    int bad = 0, finished = 0;

    if (getenv("EV_SEED"))
        seed = (unsigned)atoi(getenv("EV_SEED"));
    if (!temp_dir(dir, sizeof dir))
        abort();
    make_certificate();
    snprintf(text, sizeof text, "unix:%s/echo", dir);
    if (ev_addr_parse(text, &echo_at, NULL) < 0 || ev_listen(rt, &echo_at, echo_accepted, NULL, &back, NULL) < 0 ||
        ev_addr_parse("127.0.0.1:0", &front_at, NULL) < 0 ||
        ev_listen(rt, &front_at, front_accepted, NULL, &front, NULL) < 0)
        abort();
    ev_listener_addr(front, &front_at);
    for (int i = 0; i < CLIENTS; i++)
        client_start(&clients[i], i % 3 == 0);
    for (int r = 0; r < ROUNDS || (finished < 3 && r < 8 * ROUNDS); r++) {
        struct client *c = &clients[dice(CLIENTS)];

        bad |= c->bad;
        client_act(c);
        if (c->over) {
            finished += c->faithful && !c->bad;
            client_start(c, c->faithful);
        }
        turn_for(rt, r % 4 == 0);
    }
    EQ_INT(bad, 0, "chaos: every faithful client got its own bytes back");
    OK(finished >= 3, "%d of them to the end, %d relays", finished, relays_started);
    ev_listener_close(front);
    ev_listener_close(back);
    clean_up();
    turn_for(rt, 200);
    EQ_INT(relays_done, relays_started, "every relay ended");
    ev_tls_ctx_free(tls);
    ev_cert_free(cert);
    ev_key_free(key);
    rmdir(dir);
    expect_closed(rt, "chaos: open handles");
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
    both_ended();
    idle();
    closed_by_owner();
    chaos();
    ev_rt_free(rt);
    return tap_done();
}
