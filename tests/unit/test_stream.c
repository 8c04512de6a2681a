/* test_stream.c — streams over TCP, Unix sockets and socket pairs: connecting and failing to,
 * half-close, back-pressure, limits, and closing at each point of a stream's life. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "net.h"

static struct ev_rt *rt;
static char dir[128];

static struct ev_addr addr_of(const char *text)
{
    struct ev_addr a;

    if (ev_addr_parse(text, &a, NULL) < 0)
        abort();
    return a;
}

static struct ev_addr in_dir(const char *name)
{
    char text[256];

    snprintf(text, sizeof text, "unix:%s/%s", dir, name);
    return addr_of(text);
}

/* A connected pair: a over the kind that is given, b accepted. */
struct pair { struct seen a, b; struct ev_listener *l; struct ev_addr at; };

static void pair_open(struct pair *p, struct ev_addr at)
{
    seen_init(&p->a);
    seen_init(&p->b);
    if (ev_listen(rt, &at, seen_accepted, &p->b, &p->l, NULL) < 0)
        abort();
    ev_listener_addr(p->l, &p->at);
    if (ev_stream_connect(rt, &p->at, 3000, seen_done, &p->a, NULL, NULL) < 0)
        abort();
    EQ_INT(p->a.opened + p->b.opened, 0, "nothing is called back inside connect");
    turn_until(rt, &p->a.opened);
    turn_until(rt, &p->b.opened);
    OK(p->a.s && p->b.s, "both ends are open");
}

static void pair_close(struct pair *p, const char *what)
{
    seen_fini(&p->a);
    seen_fini(&p->b);
    ev_listener_close(p->l);
    expect_closed(rt, what);
}

static int wait_bytes(struct seen *x, size_t n)
{
    for (int i = 0; i < 1000 && x->in.n < n && !x->failed; i++)
        turn_for(rt, 5);
    return x->in.n == n;
}

static void both_ways(struct ev_addr at, const char *kind)
{
    struct pair p;
    struct ev_addr peer;
    char text[320];

    pair_open(&p, at);
    EQ_INT(ev_stream_peer(p.a.s, &peer), 0, kind);
    ev_addr_text(&peer, text, sizeof text);
    printf("# peer %s\n", text);
    ev_stream_read_start(p.b.s);
    EQ_INT(ev_stream_write(p.a.s, EV_LIT("hello")), 0, "write");
    EQ_INT(p.b.in.n, 0, "data never arrives inside write");
    OK(wait_bytes(&p.b, 5), "it arrives");
    EQ_INT(ev_stream_write(p.a.s, EV_LIT(" bye")), 0, "write again");
    ev_stream_shutdown(p.a.s);
    ev_stream_shutdown(p.a.s);
    EQ_INT(ev_stream_write(p.a.s, EV_LIT("late")), -EPIPE, "no write after shutdown");
    OK(turn_until(rt, &p.b.eof), "eof after what was written");
    EQ_STR(ev_buf_str(&p.b.in), "hello bye", "all of it");
    EQ_INT(ev_stream_write(p.b.s, EV_LIT("answer")), 0, "the other direction is still open");
    ev_stream_read_start(p.a.s);
    OK(wait_bytes(&p.a, 6), "half-closed: the answer arrives");
    EQ_INT(p.a.eof, 0, "and no eof");
    ev_stream_shutdown(p.b.s);
    OK(turn_until(rt, &p.a.eof), "eof the other way");
    ev_stream_read_start(p.a.s);
    turn_for(rt, 20);
    EQ_INT(p.a.eof, 1, "eof is told once");
    pair_close(&p, "open handles");
}

static void refused(const char *text, struct ev_addr at, int want)
{
    struct seen x;
    struct ev_stream *pending = NULL;

    seen_init(&x);
    EQ_INT(ev_stream_connect(rt, &at, 3000, seen_done, &x, &pending, NULL), 0, text);
    OK(pending != NULL && x.opened == 0, "pending");
    OK(turn_until(rt, &x.opened), "it fails");
    EQ_INT(x.code, want, text);
    OK(x.s == NULL && x.msg[0], "%s", x.msg);
    seen_fini(&x);
    expect_closed(rt, "refused: open handles");
}

/* A listener whose backlog is full and that never accepts: connects hang. */
static int full_listener(const struct ev_addr *at)
{
    struct sockaddr_un { unsigned short f; char path[108]; } sa = { AF_UNIX, "" };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(sa.path, sizeof sa.path, "%.100s", at->host);
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 0) < 0)
        abort();
    return fd;
}

static void time_out(void)
{
    struct ev_addr at = in_dir("full");
    int l = full_listener(&at);
    struct seen first, x, y;
    struct ev_stream *pending = NULL;
    uint64_t before = ev_rt_now_ms(rt);

    seen_init(&first);
    seen_init(&x);
    seen_init(&y);
    EQ_INT(ev_stream_connect(rt, &at, 200, seen_done, &first, NULL, NULL), 0, "the only place in the backlog");
    turn_until(rt, &first.opened);
    EQ_INT(ev_stream_connect(rt, &at, 150, seen_done, &x, NULL, NULL), 0, "connect to a full backlog");
    EQ_INT(ev_stream_connect(rt, &at, 5000, seen_done, &y, &pending, NULL), 0, "and another, to be cancelled");
    OK(turn_until(rt, &x.opened), "the deadline ends it");
    EQ_INT(x.code, -ETIMEDOUT, "as a time-out");
    OK(ev_rt_now_ms(rt) - before >= 150, "not before its time");
    ev_stream_close(pending);
    turn_for(rt, 60);
    EQ_INT(y.opened, 0, "a cancelled connect calls nobody");
    y.s = NULL;
    seen_fini(&first);
    seen_fini(&x);
    seen_fini(&y);
    close(l);
    expect_closed(rt, "time-out: open handles");
}

/* The backlog empties while we wait. */
static void backlog(void)
{
    struct ev_addr at = in_dir("busy");
    int l = full_listener(&at), fd;
    struct seen a, b;

    seen_init(&a);
    seen_init(&b);
    EQ_INT(ev_stream_connect(rt, &at, 3000, seen_done, &a, NULL, NULL), 0, "first");
    EQ_INT(ev_stream_connect(rt, &at, 3000, seen_done, &b, NULL, NULL), 0, "second waits");
    turn_for(rt, 50);
    EQ_INT(b.opened, 0, "still waiting");
    fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    OK(turn_until(rt, &b.opened) && b.s, "the second gets in once there is room");
    close(fd);
    close(l);
    seen_fini(&a);
    seen_fini(&b);
    expect_closed(rt, "backlog: open handles");
}

static void cancel_connects(void)
{
    struct ev_addr live = in_dir("live");
    char live_text[300];
    const char *const to[] = { "127.0.0.1:1", "localhost:1", "no-such-host.invalid:1", live_text };
    struct ev_listener *l;
    struct seen x, y;

    ev_addr_text(&live, live_text, sizeof live_text);
    seen_init(&x);
    seen_init(&y);
    if (ev_listen(rt, &live, seen_accepted, &y, &l, NULL) < 0)
        abort();
    for (size_t i = 0; i < EV_COUNT(to); i++)
        for (int turns = 0; turns < 3; turns++) {
            struct ev_addr at = addr_of(to[i]);
            struct ev_stream *pending = NULL;
            int before = x.opened;

            if (ev_stream_connect(rt, &at, 5000, seen_done, &x, &pending, NULL) < 0)
                continue;
            for (int t = 0; t < turns && x.opened == before; t++)
                turn_for(rt, 0);
            if (x.opened == before) {
                ev_stream_close(pending);
                turn_for(rt, 30);
                OK(x.opened == before, "cancel %s after %d turns", i == 3 ? "a live one" : to[i], turns);
            }
            ev_stream_close(x.s);
            ev_stream_close(y.s);
            x.s = y.s = NULL;
        }
    ev_listener_close(l);
    seen_fini(&x);
    seen_fini(&y);
    expect_closed(rt, "cancelled connects: open handles");
}

static void back_pressure(struct ev_addr at)
{
    enum { CHUNK = 256 * 1024 };
    uint8_t *block = ev_alloc(CHUNK);
    struct pair p;
    size_t total = 0, stuck;
    int rc;

    for (size_t i = 0; i < CHUNK; i++)
        block[i] = (uint8_t)(i * 7 + i / 251);
    pair_open(&p, at);
    while ((rc = ev_stream_write(p.a.s, ev_slice_of(block, CHUNK))) == 0)
        total += CHUNK;
    EQ_INT(rc, -ENOBUFS, "a reader that does not read: the queue ends at its limit");
    stuck = ev_stream_queued(p.a.s);
    OK(stuck > (15u << 20) && stuck <= (16u << 20), "16 MiB at most (%zu)", stuck);
    turn_for(rt, 50);
    EQ_INT(ev_stream_queued(p.a.s), stuck, "and stays there");
    EQ_INT(p.b.data_calls, 0, "nothing is read before read_start");
    p.b.stop_after_first = 1;
    ev_stream_read_start(p.b.s);
    turn_until(rt, &p.b.data_calls);
    turn_for(rt, 30);
    EQ_INT(p.b.data_calls, 1, "read_stop inside data stops at once");
    OK(p.b.in.n <= 65536, "64 KiB at most at a time (%zu)", p.b.in.n);
    p.b.stop_after_first = 0;
    ev_stream_read_start(p.b.s);
    OK(turn_until(rt, &p.a.drained), "drained");
    OK(wait_bytes(&p.b, total), "every byte arrives (%zu)", total);
    rc = 0;
    for (size_t i = 0; i < p.b.in.n; i += CHUNK)
        rc |= memcmp(p.b.in.p + i, block, CHUNK);
    EQ_INT(rc, 0, "in order");
    EQ_INT(p.a.drained, 1, "drained is told once");
    EQ_INT(ev_stream_queued(p.a.s), 0, "nothing queued");
    OK(ev_stream_write(p.a.s, (ev_slice){ block, (16u << 20) + 1 }) == -ENOBUFS, "one write past the limit");
    ev_free(block);
    pair_close(&p, "back-pressure: open handles");
}

/* Closing with a queue: after a shutdown it is written out, without one it is dropped. */
static void close_with_queue(bool shut)
{
    enum { N = 4 << 20 };
    uint8_t *block = ev_alloc(N);
    struct pair p;

    pair_open(&p, in_dir("queue"));
    EQ_INT(ev_stream_write(p.a.s, ev_slice_of(block, N)), 0, "write 4 MiB");
    OK(ev_stream_queued(p.a.s) > 0, "most of it is queued");
    if (shut)
        ev_stream_shutdown(p.a.s);
    ev_stream_close(p.a.s);
    p.a.s = NULL;
    ev_stream_read_start(p.b.s);
    OK(turn_until(rt, &p.b.eof), "eof");
    OK(shut ? p.b.in.n == N : p.b.in.n < N, "%s (%zu)", shut ? "shutdown, close: all of it arrives"
                                                           : "close alone drops the queue", p.b.in.n);
    EQ_INT(p.a.drained + p.a.failed + p.a.eof, 0, "no callback after close");
    ev_free(block);
    pair_close(&p, "close with a queue: open handles");
}

struct closer { struct ev_stream *s; int on; };

static void close_it(struct closer *c, int on)
{
    if (c->on == on) {
        ev_stream_close(c->s);
        c->s = NULL;
        c->on = 100 + on;
    } else if (c->on >= 100) {
        c->on = -1;                     /* a callback after close */
    }
}

static void closer_data(void *ctx, ev_slice b) { (void)b; close_it(ctx, 1); }
static void closer_eof(void *ctx) { close_it(ctx, 2); }
static void closer_fail(void *ctx, const struct ev_err *err) { (void)err; close_it(ctx, 3); }
static void closer_drained(void *ctx) { close_it(ctx, 4); }

static void close_in_callback(int which)
{
    static const struct ev_stream_cb cb = { closer_data, closer_eof, closer_fail, closer_drained };
    enum { N = 2 << 20 };
    uint8_t *block = ev_alloc(N);
    struct pair p;
    struct closer c = { NULL, which };

    pair_open(&p, in_dir("closer"));
    c.s = p.a.s;
    p.a.s = NULL;
    ev_stream_set_cb(c.s, &cb, &c);
    ev_stream_read_start(c.s);
    if (ev_stream_write(p.b.s, ev_slice_of(block, which == 1 ? N : which == 4 ? 0 : 1)) < 0)
        abort();
    if (which == 4 && ev_stream_write(c.s, ev_slice_of(block, N)) == 0)
        ev_stream_read_start(p.b.s);
    if (which == 2)
        ev_stream_shutdown(p.b.s);
    if (which == 3) {
        if (ev_stream_write(c.s, ev_slice_of(block, N)) < 0)
            abort();
        ev_stream_close(p.b.s);         /* with our bytes unread, and our queue not empty */
        p.b.s = NULL;
    }
    for (int i = 0; i < 400 && c.on == which; i++)
        turn_for(rt, 5);
    EQ_INT(c.on, 100 + which, "closed in that callback, and none after it");
    ev_stream_close(c.s);
    ev_free(block);
    pair_close(&p, "close in a callback: open handles");
}

static void dead_peer(void)
{
    struct pair p;
    int rc = 0;

    pair_open(&p, addr_of("127.0.0.1:0"));
    seen_fini(&p.b);
    seen_init(&p.b);
    for (int i = 0; i < 50 && rc == 0; i++) {
        rc = ev_stream_write(p.a.s, EV_LIT("x"));
        turn_for(rt, 5);
    }
    OK(rc == -EPIPE || rc == -ECONNRESET, "writing to a dead peer fails (%s), no signal", ev_err_name(rc));
    pair_close(&p, "dead peer: open handles");
}

static void adopted(void)
{
    struct ev_stream *s = NULL;
    struct ev_err err = EV_ERR_INIT;
    int fd[2], file = open("/dev/null", O_RDWR | O_CLOEXEC);
    char b[8] = "";
    struct ev_addr peer;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        abort();
    EQ_INT(ev_stream_from_fd(rt, fd[0], &s, &err), 0, "a socket pair");
    EQ_INT(ev_stream_write(s, EV_LIT("abc")), 0, "write");
    EQ_INT(read(fd[1], b, sizeof b), 3, "read");
    EQ_INT(ev_stream_peer(s, &peer), 0, "peer");
    EQ_INT(peer.kind, EV_ADDR_UNIX, "is a unix socket");
    ev_stream_close(s);
    ev_stream_close(NULL);
    close(fd[1]);
    EQ_INT(ev_stream_from_fd(rt, file, &s, &err), -ENOTSOCK, "no socket");
    OK(fcntl(file, F_GETFD) < 0, "is closed all the same");
    expect_closed(rt, "adopted: open handles");
}

/* The first reader takes a line and gives the rest back, while reading or after it stopped. */
struct line { struct ev_stream *s; int calls, stop, close; };

static void line_data(void *ctx, ev_slice b)
{
    struct line *x = ctx;

    x->calls++;
    if (x->stop)
        ev_stream_read_stop(x->s);
    ev_stream_unread(x->s, ev_slice_of(b.p + 4, b.n - 4));
    if (x->close)
        ev_stream_close(x->s);
}

static void given_back(int stop, int close_it_then)
{
    static const struct ev_stream_cb cb = { .data = line_data };
    struct line x = { NULL, 0, stop, close_it_then };
    struct pair p;

    pair_open(&p, in_dir("unread"));
    x.s = p.b.s;
    ev_stream_set_cb(p.b.s, &cb, &x);
    if (ev_stream_write(p.a.s, EV_LIT("one\ntwo\n")) < 0)
        abort();
    ev_stream_read_start(p.b.s);
    turn_until(rt, &x.calls);
    if (close_it_then) {
        turn_for(rt, 20);
        EQ_INT(x.calls, 1, "closed after giving back: no callback");
        p.b.s = NULL;
    } else {
        ev_stream_set_cb(p.b.s, &seen_cb, &p.b);
        if (ev_stream_write(p.a.s, EV_LIT("three\n")) < 0)
            abort();
        ev_stream_shutdown(p.a.s);
        turn_for(rt, 20);
        EQ_INT(p.b.data_calls > 0, !stop, "delivered only while reading");
        ev_stream_read_start(p.b.s);
        OK(turn_until(rt, &p.b.eof), "eof after it");
        OK(strcmp(ev_buf_str(&p.b.in), "two\nthree\n") == 0, "what was given back comes first");
    }
    pair_close(&p, "given back: open handles");
}

/* A name with more than one address, of which one answers. */
static void by_name(void)
{
    struct ev_addr at = addr_of("127.0.0.1:0"), got, name;
    struct ev_listener *l;
    struct seen a, b;

    seen_init(&a);
    seen_init(&b);
    if (ev_listen(rt, &at, seen_accepted, &b, &l, NULL) < 0 || ev_listener_addr(l, &got) < 0)
        abort();
    name = addr_of("localhost:1");
    name.port = got.port;
    EQ_INT(ev_stream_connect(rt, &name, 5000, seen_done, &a, NULL, NULL), 0, "connect by name");
    OK(turn_until(rt, &a.opened) && a.s, "localhost is found (%s)", a.msg);
    turn_until(rt, &b.opened);
    ev_listener_close(l);
    seen_fini(&a);
    seen_fini(&b);
    expect_closed(rt, "by name: open handles");
    refused("a name where nobody listens", name, -ECONNREFUSED);
}

static void listeners(void)
{
    struct ev_addr at = in_dir("l"), other = in_dir("plain-file"), name = addr_of("example.invalid:80"), got;
    struct ev_listener *a, *b;
    struct ev_err err = EV_ERR_INIT;
    struct seen x;
    struct stat st;
    int fd;

    seen_init(&x);
    EQ_INT(ev_listen(rt, &at, seen_accepted, &x, &a, &err), 0, "listen");
    OK(stat(at.host, &st) == 0 && (st.st_mode & 07777) == 0600, "mode 0600 (%o)", st.st_mode & 07777u);
    EQ_INT(ev_listen(rt, &at, seen_accepted, &x, &b, &err), -EADDRINUSE, "a live socket is left alone");
    ev_listener_close(a);
    OK(stat(at.host, &st) < 0, "its path goes with it");
    fd = full_listener(&at);
    close(fd);
    OK(stat(at.host, &st) == 0, "a stale socket");
    EQ_INT(ev_listen(rt, &at, seen_accepted, &x, &a, &err), 0, "is replaced");
    unlink(at.host);
    fd = full_listener(&at);
    ev_listener_close(a);
    OK(stat(at.host, &st) == 0, "a path that another took over is not unlinked");
    close(fd);
    unlink(at.host);
    fd = open(other.host, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    EQ_INT(ev_listen(rt, &other, seen_accepted, &x, &b, &err), -EEXIST, "a plain file is never removed");
    close(fd);
    unlink(other.host);
    EQ_INT(ev_listen(rt, &name, seen_accepted, &x, &b, &err), EV_EUSAGE, "a name to listen on");
    at = addr_of("localhost:0");
    EQ_INT(ev_listen(rt, &at, seen_accepted, &x, &a, &err), 0, "localhost");
    OK(ev_listener_addr(a, &got) == 0 && got.port > 0, "the port that was chosen (%u)", got.port);
    EQ_INT(ev_listen(rt, &got, seen_accepted, &x, &b, &err), -EADDRINUSE, "and taken");
    OK(strstr(err.msg, "listen on") != NULL, "%s", err.msg);
    ev_listener_close(a);
    ev_listener_close(NULL);
    seen_fini(&x);
    expect_closed(rt, "listeners: open handles");
}

struct once { struct ev_listener *l; int n; };

static void close_listener(void *ctx, struct ev_stream *s)
{
    struct once *o = ctx;

    o->n++;
    ev_stream_close(s);
    ev_listener_close(o->l);
}

static void close_in_accept(void)
{
    struct ev_addr at = in_dir("once");
    struct once o = { NULL, 0 };
    struct seen a, b;

    seen_init(&a);
    seen_init(&b);
    if (ev_listen(rt, &at, close_listener, &o, &o.l, NULL) < 0 ||
        ev_stream_connect(rt, &at, 1000, seen_done, &a, NULL, NULL) < 0 ||
        ev_stream_connect(rt, &at, 1000, seen_done, &b, NULL, NULL) < 0)
        abort();
    turn_for(rt, 50);
    EQ_INT(o.n, 1, "a listener closed in its callback accepts no more");
    seen_fini(&a);
    seen_fini(&b);
    expect_closed(rt, "close in accept: open handles");
}

int main(void)
{
    if (ev_rt_new(&rt, NULL) < 0 || !temp_dir(dir, sizeof dir))
        return 1;
    both_ways(addr_of("127.0.0.1:0"), "tcp");
    both_ways(in_dir("s"), "unix");
    refused("nobody listens (tcp)", addr_of("127.0.0.1:1"), -ECONNREFUSED);
    refused("no such path", in_dir("none"), -ENOENT);
    time_out();
    backlog();
    cancel_connects();
    back_pressure(in_dir("bp"));
    back_pressure(addr_of("127.0.0.1:0"));
    close_with_queue(true);
    close_with_queue(false);
    for (int which = 1; which <= 4; which++)
        close_in_callback(which);
    dead_peer();
    adopted();
    given_back(0, 0);
    given_back(1, 0);
    given_back(0, 1);
    given_back(1, 1);
    by_name();
    listeners();
    close_in_accept();
    unlink(in_dir("full").host);
    unlink(in_dir("busy").host);
    OK(rmdir(dir) == 0, "no socket file is left");
    ev_rt_free(rt);
    return tap_done();
}
