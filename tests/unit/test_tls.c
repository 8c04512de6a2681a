/* test_tls.c — TLS over streams: what is refused before a byte, silence, truncation, half-close,
 * back-pressure, closing at each point. What is spoken at all: test_tls_ctx.c. */
#include "tls_link.h"

static void plain_case(void)
{
    struct link l;
    uint8_t a[32], b[32], other[32];

    link_init(&l);
    link_run(&l);
    OK(l.c.s && l.s.s, "both ends are open");
    EQ_STR(ev_tls_version(l.c.s), "TLSv1.3", "version");
    EQ_STR(l.sni, "app.cages.localhost", "select sees the name");
    EQ_STR(ev_tls_sni(l.s.s), "app.cages.localhost", "and so does the connection");
    EQ_STR(ev_tls_alpn(l.c.s), "", "no ALPN");
    EQ_INT(l.accepted, 1, "accept_peer decides once");
    EQ_INT(l.write_rc, -ENOTCONN, "nothing can be written while it decides");
    EQ_INT(l.leaf_len, ev_cert_der(leaf).n, "it sees the leaf");
    EQ_INT(ev_tls_exporter(l.c.s, "EXPORTER-ev-cage-provision", a, NULL), 0, "exporter, client");
    EQ_INT(ev_tls_exporter(l.s.s, "EXPORTER-ev-cage-provision", b, NULL), 0, "exporter, server");
    EQ_INT(ev_tls_exporter(l.s.s, "EXPORTER-other", other, NULL), 0, "exporter, another label");
    OK(memcmp(a, b, 32) == 0 && memcmp(a, other, 32) != 0, "equal on both sides, different by label");
    ev_stream_read_start(l.s.s);
    ev_stream_read_start(l.c.s);
    EQ_INT(ev_stream_write(l.c.s, EV_LIT("ping")), 0, "write");
    OK(wait_bytes(&l.s, 4), "read");
    ev_stream_shutdown(l.c.s);
    EQ_INT(ev_stream_write(l.c.s, EV_LIT("x")), -EPIPE, "no write after shutdown");
    OK(turn_until(rt, &l.s.eof), "close_notify is eof");
    EQ_INT(ev_stream_write(l.s.s, EV_LIT("pong, after your close_notify")), 0, "half-closed");
    OK(wait_bytes(&l.c, 29), "the answer arrives");
    ev_stream_shutdown(l.s.s);
    OK(turn_until(rt, &l.c.eof), "eof the other way");
    EQ_INT(l.c.failed + l.s.failed, 0, "no failure");
    link_close(&l, "plain case: open handles");
}

static void peer_refused(void)
{
    struct link l;

    link_init(&l);
    l.accept_rc = EV_EVERIFY;
    link_run(&l);
    OK(l.c.s == NULL && l.c.failed, "refused by accept_peer");
    EQ_INT(l.c.code, EV_EVERIFY, "its code");
    EQ_STR(l.c.reason, "pcr-mismatch", "its reason");
    OK(strstr(l.c.msg, "PCR0 differs") != NULL, "%s", l.c.msg);
    OK(l.s.s == NULL && l.s.failed, "the server never saw the client's Finished");
    EQ_INT(l.s.in.n, 0, "nor a byte");
    link_close(&l, "peer refused: open handles");
}

static void big_certificate(void)
{
    struct link l;

    link_init(&l);
    l.cert = big;
    link_run(&l);
    OK(l.c.s && l.leaf_len > 20000, "a certificate of %zu bytes passes", l.leaf_len);
    link_close(&l, "big certificate: open handles");
}

static void silent_client(void)
{
    struct link l, m;
    struct ev_stream *a;
    uint64_t before = ev_rt_now_ms(rt);

    link_init(&l);
    link_init(&m);
    l.sc.handshake_timeout_ms = 1500;
    a = link_serve(&l);
    link_run(&m);
    OK(m.c.s && m.s.s && l.s.opened == 0, "a silent client holds nobody");
    OK(turn_until(rt, &l.s.opened), "and is dropped");
    EQ_INT(l.s.code, -ETIMEDOUT, "as a time-out");
    OK(ev_rt_now_ms(rt) - before >= 1500, "at its deadline");
    ev_stream_close(a);
    ev_tls_ctx_free(l.ctx);
    link_close(&m, "beside the silent one");
    link_close(&l, "silent client: open handles");
}

static void silent_server(void)
{
    struct link l;
    struct ev_stream *a, *b;

    link_init(&l);
    l.cc.timeout_ms = 100;
    stream_pair(&a, &b);
    l.c_pending = ev_tls_connect(rt, &l.cc, a, seen_done, &l.c);
    OK(turn_until(rt, &l.c.opened), "a silent server");
    EQ_INT(l.c.code, -ETIMEDOUT, "is a time-out");
    ev_stream_close(b);
    link_close(&l, "silent server: open handles");
}

/* Bytes that are no TLS, or TLS cut short. */
static void garbage(const void *p, size_t n, bool close_after)
{
    struct link l;
    struct ev_stream *a;

    link_init(&l);
    a = link_serve(&l);
    if (ev_stream_write(a, ev_slice_of(p, n)) < 0)
        abort();
    if (close_after)
        ev_stream_shutdown(a);
    OK(turn_until(rt, &l.s.opened) && l.s.s == NULL, "%zu bytes of garbage: %s", n, l.s.msg);
    ev_stream_close(a);
    ev_tls_ctx_free(l.ctx);
    link_close(&l, "garbage: open handles");
}

static void truncated(void)
{
    struct link l;

    link_init(&l);
    link_run(&l);
    ev_stream_read_start(l.s.s);
    if (ev_stream_write(l.c.s, EV_LIT("half of it")) < 0)
        abort();
    ev_stream_close(l.c.s);             /* no close_notify */
    l.c.s = NULL;
    OK(turn_until(rt, &l.s.failed), "an end without close_notify is a failure");
    EQ_INT(l.s.code, EV_EEOF, "its code");
    EQ_STR(l.s.reason, "tls-truncated", "its reason");
    EQ_STR(ev_buf_str(&l.s.in), "half of it", "after the data");
    EQ_INT(l.s.eof, 0, "and no eof");
    link_close(&l, "truncated: open handles");
}

static void bulk(void)
{
    enum { N = 3 << 20 };
    uint8_t *block = ev_alloc(N);
    struct link l;
    int rc;
    size_t total = 0;

    for (size_t i = 0; i < N; i++)
        block[i] = (uint8_t)(i * 13 + i / 255);
    link_init(&l);
    link_run(&l);
    while ((rc = ev_stream_write(l.c.s, ev_slice_of(block, N))) == 0)
        total += N;
    EQ_INT(rc, -ENOBUFS, "a reader that stands still: 16 MiB and no more");
    OK(total >= 12u << 20, "%zu queued", ev_stream_queued(l.c.s));
    turn_for(rt, 30);
    EQ_INT(l.s.data_calls, 0, "nothing is read before read_start");
    l.s.stop_after_first = 1;
    for (int i = 1; i <= 5; i++) {
        ev_stream_read_start(l.s.s);
        for (int k = 0; k < 200 && l.s.data_calls < i; k++)
            turn_for(rt, 1);
        turn_for(rt, 5);
        EQ_INT(l.s.data_calls, i, "one read_start, one block");
    }
    l.s.stop_after_first = 0;
    ev_stream_read_start(l.s.s);
    OK(turn_until(rt, &l.c.drained), "drained");
    OK(wait_bytes(&l.s, total), "every byte arrives");
    for (size_t i = 0; i < l.s.in.n; i += N)
        if (memcmp(l.s.in.p + i, block, N) != 0)
            OK(0, "block at %zu differs", i);
    ev_stream_shutdown(l.c.s);
    ev_stream_close(l.c.s);
    l.c.s = NULL;
    OK(turn_until(rt, &l.s.eof), "shutdown, then close: eof");
    ev_free(block);
    link_close(&l, "bulk: open handles");
}

/* The last data and close_notify come while the owner does not read. */
static void late_eof(void)
{
    struct link l;

    link_init(&l);
    link_run(&l);
    if (ev_stream_write(l.c.s, EV_LIT("last words")) < 0)
        abort();
    ev_stream_shutdown(l.c.s);
    turn_for(rt, 20);
    l.s.stop_after_first = 1;
    ev_stream_read_start(l.s.s);
    OK(wait_bytes(&l.s, 10), "data");
    turn_for(rt, 20);
    EQ_INT(l.s.eof, 0, "no eof while reading is stopped");
    ev_stream_read_start(l.s.s);
    EQ_INT(l.s.eof, 0, "nor inside read_start");
    OK(turn_until(rt, &l.s.eof), "eof then");
    link_close(&l, "late eof: open handles");
}

static void cancel_at_each_turn(void)
{
    for (int side = 0; side < 2; side++)
        for (int turns = 0; turns < 8; turns++) {
            struct link l;

            link_init(&l);
            link_start(&l);
            for (int i = 0; i < turns; i++)
                ev_rt_run_once(rt);
            if (side == 0 && !l.c.opened) {
                ev_stream_close(l.c_pending);
                turn_for(rt, 10);
                EQ_INT(l.c.opened, 0, "a cancelled client hears nothing");
            }
            if (side == 1 && !l.s.opened) {
                ev_stream_close(l.s_pending);
                turn_for(rt, 10);
                EQ_INT(l.s.opened, 0, "a cancelled server hears nothing");
            }
            turn_until(rt, side ? &l.c.opened : &l.s.opened);
            link_close(&l, "cancelled: open handles");
        }
}

static int choose_and_close(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    struct link *l = ctx;

    choose(ctx, sni, out);
    ev_stream_close(l->s_pending);
    return 0;
}

static int judge_and_close(void *ctx, const struct ev_cert *c, struct ev_err *err)
{
    struct link *l = ctx;

    (void)c;
    (void)err;
    ev_stream_close(l->c_pending);
    return 0;
}

static void close_inside(void)
{
    struct link l;

    link_init(&l);
    l.sc.select = choose_and_close;
    link_start(&l);
    turn_until(rt, &l.c.opened);
    EQ_INT(l.s.opened, 0, "closed inside select");
    link_close(&l, "closed inside select: open handles");
    link_init(&l);
    l.cc.accept_peer = judge_and_close;
    link_start(&l);
    turn_until(rt, &l.s.opened);
    EQ_INT(l.c.opened, 0, "closed inside accept_peer");
    link_close(&l, "closed inside accept_peer: open handles");
}

/* What came with an earlier protocol's last read. */
static void after_a_header(void)
{
    struct link l;
    struct ev_stream *a, *b;
    struct seen x;

    link_init(&l);
    seen_init(&x);
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0 || ev_stream_write(a, EV_LIT("PROXY")) < 0)
        abort();
    l.c_pending = ev_tls_connect(rt, &l.cc, a, seen_done, &l.c);
    turn_for(rt, 20);
    seen_attach(&x, b);
    x.stop_after_first = 1;
    ev_stream_read_start(b);
    turn_until(rt, &x.data_calls);
    OK(x.in.n > 100, "header and ClientHello in one read (%zu)", x.in.n);
    ev_stream_unread(b, ev_slice_of(x.in.p + 5, x.in.n - 5));
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
    turn_until(rt, &l.c.opened);
    turn_until(rt, &l.s.opened);
    OK(l.c.s && l.s.s, "the handshake takes up what was given back");
    x.s = NULL;
    seen_fini(&x);
    ev_tls_ctx_free(l.ctx);
    link_close(&l, "after a header: open handles");
}

int main(void)
{
    static const uint8_t cut_hello[] = { 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3 };

    if (tls_test_begin() < 0)
        return 1;
    plain_case();
    peer_refused();
    big_certificate();
    silent_client();
    silent_server();
    garbage("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, false);
    for (size_t n = 0; n <= sizeof cut_hello; n++)
        garbage(cut_hello, n, true);
    truncated();
    bulk();
    late_eof();
    cancel_at_each_turn();
    close_inside();
    after_a_header();
    return tls_test_end();
}
