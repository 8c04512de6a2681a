/* Tests of the ingress: size, pace, deadlines, closing. (test_ingress.c: what is said.) */
#include <sys/resource.h>

#include "ingress_world.h"

enum { MIB = 1 << 20, BIG = 64, SLOW = 24 };

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define POST(path, more) "POST " path " HTTP/1.1\r\nHost: x\r\n" more "\r\n"

/* What may be queued or waiting at one place: the mark, and one read on top. */
enum { QUEUE_BOUND = 3 * EV_HCONN_HIGH };

static long peak_kib(void)
{
    struct rusage u;

    return getrusage(RUSAGE_SELF, &u) == 0 ? u.ru_maxrss : 0;
}

static void test_big(void)
{
    char want[32];
    struct client *c;
    long before;

    world_open();
    c = dial();
    ASK(c, GET("/hello"), "hello", "warm");
    before = peak_kib();
    c->count_only = true;
    c->n_got = 0;
    say(c, GET("/big/67108864"));
    OK(UNTIL(c->n_got > (uint64_t)BIG * MIB) && UNTIL(front->conns->state == EV_HC_HEAD), "64 MiB down");
    OK(max_queued <= QUEUE_BOUND, "never more than %zu bytes queued", max_queued);
    max_queued = 0;
    c->count_only = false;
    ev_buf_clear(&c->got);
    say(c, POST("/sink", "Content-Length: 67108864\r\n"));
    c->to_send = (uint64_t)BIG * MIB;
    client_on_drained(c);
    snprintf(want, sizeof want, "\r\n\r\n%d", BIG * MIB);
    OK(UNTIL(heard(c, want)), "64 MiB up");
    OK(max_queued <= QUEUE_BOUND, "never more than %zu bytes queued", max_queued);
    OK(peak_kib() - before < 16 * 1024, "memory grew by %ld KiB", peak_kib() - before);
    ASK(c, GET("/hello"), "hello", "and the connection is in step");
    hang_up(c);
    world_close("big");
}

/* Who does not read pauses who sends, and nobody else. */
static void test_slow_reader(void)
{
    struct client *slow, *other;
    uint64_t before;

    world_open();
    slow = dial();
    other = dial();
    ev_stream_read_stop(slow->s);
    say(slow, GET("/big/25165824"));
    OK(UNTIL(app_written > MIB / 2), "the app begins");
    for (int i = 0; i < 40; i++)
        ASK(other, GET("/hello"), "hello", "another client is served meanwhile");
    before = app_written;
    for (int i = 0; i < 40; i++)
        ASK(other, GET("/hello"), "hello", "still");
    OK(app_written == before && before < 16 * MIB, "the app is paused (%llu bytes)", (unsigned long long)before);
    OK(max_queued <= QUEUE_BOUND, "never more than %zu bytes queued", max_queued);
    slow->count_only = true;
    ev_stream_read_start(slow->s);
    OK(UNTIL(slow->n_got > (uint64_t)SLOW * MIB), "all comes when it reads again");
    app_hold = true;
    say(slow, POST("/slowsink", "Content-Length: 25165824\r\n"));
    slow->to_send = (uint64_t)SLOW * MIB;
    client_on_drained(slow);
    OK(UNTIL(slow->to_send < SLOW * MIB - MIB), "upload to an app that does not read");
    for (int i = 0; i < 40; i++)
        ASK(other, GET("/hello"), "hello", "another client is served meanwhile");
    OK(slow->to_send > 8 * MIB, "the client is paused");
    OK(max_queued <= QUEUE_BOUND, "never more than %zu bytes queued", max_queued);
    app_hold = false;
    slow->n_got = 0;
    for (struct app_conn *a = app_conns; a; a = a->next)
        ev_stream_read_start(a->s);
    OK(UNTIL(slow->to_send == 0 && slow->n_got > 0), "all goes when it reads again");
    hang_up(slow);
    hang_up(other);
    world_close("slow reader");
}

/* Many pipelined requests whose answers nobody reads: the queue stays bounded. */
static void test_pipeline_flood(void)
{
    struct client *c;
    size_t sent = 0;

    world_open();
    c = dial();
    ev_stream_read_stop(c->s);
    for (; sent < 200000 && ev_stream_queued(c->s) < MIB; sent++)
        say(c, GET("/.well-known/attestation"));
    for (uint64_t end = ev_rt_now_ms(rt) + 500; ev_rt_now_ms(rt) < end;)
        UNTIL(true), ev_rt_run_once(rt), watch_queues();
    OK(max_queued <= QUEUE_BOUND, "never more than %zu bytes queued for %zu requests", max_queued, sent);
    hang_up(c);
    world_close("flood");
}

static void test_deadlines(void)
{
    struct client *c, *idle, *hanging;

    front_times = (struct ev_ingress_times){ .head = 400, .idle = 500, .body = 400, .answer = 500, .silent = 500,
                                             .stalled = 500, .linger = 100 };
    world_open();
    idle = dial();
    ASK(idle, GET("/hello"), "hello", "a request, then nothing");
    c = dial();
    ASK(c, "GET / HTTP/1.1\r\nHo", "408 Request Timeout", "half a head");
    OK(UNTIL(c->eof) && heard(c, "connection: close"), "ends it");
    hang_up(c);
    OK(UNTIL(idle->eof) && !heard(idle, "408"), "an idle connection ends without a word");
    hang_up(idle);
    c = dial();
    OK(UNTIL(c->eof) && c->got.n == 0, "so does one that never said anything");
    hang_up(c);
    c = dial();
    ASK(c, POST("/echo", "Content-Length: 5\r\n") "ab", "408 Request Timeout", "half a body");
    OK(UNTIL(c->eof), "ends it");
    hang_up(c);
    c = dial();
    ASK(c, GET("/silent"), "504 Gateway Timeout", "an app that never answers");
    OK(UNTIL(heard(c, "}")) && heard(c, "\"Error requesting user process - timed out\""), "with a message");
    ASK(c, GET("/hello"), "hello", "and the connection lives on");
    hang_up(c);
    c = dial();
    ASK(c, POST("/duplex", "Content-Length: 2\r\n") "ab", "z", "an answer");
    hang_up(c);
    c = dial();
    say(c, POST("/duplex", "Content-Length: 2\r\n") "a");
    OK(UNTIL(c->eof) && heard(c, "1\r\na\r\n") && !heard(c, "408"), "half a body under an answer: cut");
    hang_up(c);
    c = dial();
    ev_stream_read_stop(c->s);
    say(c, GET("/big/67108864"));
    OK(UNTIL(app_written > MIB / 2) && UNTIL(front->n_conns == 0), "a client that reads nothing is cut");
    hang_up(c);
    c = dial();
    ASK(c, GET("/ws"), "502", "an upgrade nobody asked for");
    hang_up(c);
    c = dial();
    ASK(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "welcome",
        "a silent WebSocket");
    OK(UNTIL(c->eof), "ends");
    hang_up(c);
    hanging = dial();
    ASK(hanging, "BAD\r\n\r\n", "400", "a client that does not hang up after a refusal");
    OK(UNTIL(front->n_conns == 0), "is not waited for");
    hang_up(hanging);
    world_close("deadlines");
}

static void test_clients_leave(void)
{
    struct client *c;

    world_open();
    c = dial();
    say(c, "GET / HT");
    UNTIL(front->n_conns == 1);
    hang_up(c);
    OK(UNTIL(front->n_conns == 0), "in a head");
    c = dial();
    say(c, POST("/echo", "Content-Length: 100\r\n") "abc");
    OK(UNTIL(app_requests == 1), "the app has the head");
    hang_up(c);
    OK(UNTIL(front->n_conns == 0) && UNTIL(!app_conns), "in a body: the app's connection is closed too");
    c = dial();
    ev_stream_read_stop(c->s);
    say(c, GET("/big/67108864"));
    OK(UNTIL(app_written > MIB / 2), "in an answer");
    hang_up(c);
    OK(UNTIL(front->n_conns == 0) && UNTIL(!app_conns), "all is closed");
    c = dial();
    say(c, GET("/hello"));
    ev_stream_shutdown(c->s);
    OK(UNTIL(c->eof) && heard(c, "\r\n\r\nhello"), "a client that ends its side first gets its answer");
    hang_up(c);
    world_close("clients leave");
}

/* A client that leaves, or ends its side, after every byte. */
static void test_truncation(void)
{
    static const char text[] = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                               "Expect: 100-continue\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
    char part[sizeof text];
    size_t whole = 0;

    world_open();
    for (size_t n = 0; n < 2 * sizeof text; n++) {
        struct client *c = dial();

        snprintf(part, n / 2 + 1, "%s", text);
        say(c, part);
        if (n % 2)
            ev_stream_shutdown(c->s);
        if (n % 2)
            UNTIL(c->eof);
        whole += heard(c, "hello");
        hang_up(c);
        if (!UNTIL(front->n_conns == 0))
            OK(0, "%zu bytes: the connection stays", n / 2);
    }
    EQ_INT(whole, 1, "only the whole request was answered");
    OK(UNTIL(!app_conns || !app_conns->next), "the app has no connection left but a kept one");
    world_close("truncation");
}

/* Clients that connect and never shake hands stop nobody, and closing takes them along. */
static void test_silent_handshakes(void)
{
    struct client *c, *silent[4];
    bool tls = world_tls;

    world_open();
    world_tls = false;
    for (size_t i = 0; i < EV_COUNT(silent); i++)
        silent[i] = dial();
    world_tls = tls;
    OK(UNTIL(front->n_conns == EV_COUNT(silent)), "four silent clients");
    c = dial();
    ASK(c, GET("/hello"), "hello", "another is served");
    if (tls) {
        say(silent[0], GET("/hello"));
        OK(UNTIL(silent[0]->eof) && !heard(silent[0], "HTTP"), "HTTP without TLS is no handshake");
    }
    ev_ingress_close(front);
    front = NULL;
    for (size_t i = 0; i < EV_COUNT(silent); i++) {
        OK(UNTIL(silent[i]->eof), "closed");
        hang_up(silent[i]);
    }
    hang_up(c);
    world_close("silent handshakes");
}

/* Closing with connections in every state. */
static void test_close(void)
{
    struct client *c[6];

    front_conf.max_connections = 6;
    world_open();
    for (size_t i = 0; i < EV_COUNT(c); i++)
        c[i] = dial();
    say(c[1], "GET / HT");
    say(c[2], GET("/silent"));
    say(c[3], POST("/echo", "Content-Length: 100\r\n") "abc");
    say(c[4], "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    ev_stream_read_stop(c[5]->s);
    say(c[5], GET("/big/67108864"));
    OK(UNTIL(heard(c[4], "welcome") && app_requests == 4 && app_written > MIB / 2), "six connections in six states");
    struct client *more = dial();
    OK(UNTIL(more->eof), "the seventh is closed at once");
    hang_up(more);
    hang_up(c[0]);
    OK(UNTIL(front->n_conns == 5), "one leaves");
    c[0] = dial();
    ASK(c[0], GET("/hello"), "hello", "so another may come");
    ev_stream_read_start(c[5]->s);
    c[5]->count_only = true;
    ev_ingress_close(front);
    front = NULL;
    for (size_t i = 0; i < EV_COUNT(c); i++) {
        OK(UNTIL(c[i]->eof), "connection %zu is closed", i);
        hang_up(c[i]);
    }
    world_close("close");
}

int main(void)
{
    for (int tls = 0; tls < 2; tls++) {
        world_tls = tls;
        test_big();
        test_slow_reader();
        test_pipeline_flood();
        if (tls)
            test_deadlines();
        test_clients_leave();
        test_truncation();
        test_silent_handshakes();
        test_close();
    }
    return tap_done();
}
