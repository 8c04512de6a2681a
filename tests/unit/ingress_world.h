/* ingress_world.h — a world in one process for test_ingress*.c: a loop, an app (a small HTTP server
 * whose answer depends on the path), an ingress in front of it, and clients. */
#ifndef TESTS_INGRESS_WORLD_H
#define TESTS_INGRESS_WORLD_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/digest.h"
#include "svc/hconn.h"
#include "tap.h"

#ifdef __SANITIZE_ADDRESS__
/* Freed memory is kept for a while by default: more than what these tests measure. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1";
}
#endif

/* EQ_STR for texts of many lines: they are printed only when they differ. */
static void same_text(const char *got, const char *want, const char *what, int line)
{
    if (tap_check(strcmp(got, want) == 0, __FILE__, line, "%s", what))
        return;
    printf("# got:\n");
    for (const char *p = got; *p; p++)
        *p == '\n' ? (void)printf("\n# ") : *p == '\r' ? (void)printf("\\r") : (void)putchar(*p);
    printf("\n");
}
#define SAME(got, want, what) same_text(got, want, what, __LINE__)

/* ---- the app ---- */

struct app_conn {
    struct app_conn *next;
    struct ev_stream *s;
    struct ev_http1 req;
    struct ev_buf body;
    char path[128];
    uint64_t to_send;           /* /big */
    uint64_t taken;             /* /sink */
    int n_requests;
    bool raw, chunked;
};

static struct ev_rt *rt;
static struct ev_listener *app_listener;
static struct app_conn *app_conns;
static struct ev_addr app_addr, front_addr;
static struct ev_ingress *front;
static int app_accepted, app_requests;
static uint64_t app_written;
static bool app_hold;                                   /* /slowsink reads nothing while this is set */
static struct ev_buf app_seen = EV_BUF_INIT(1 << 20);   /* the last head, as the app got it */

static void app_drop(struct app_conn *a)
{
    for (struct app_conn **at = &app_conns; *at; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            break;
        }
    ev_stream_close(a->s);
    ev_http1_fini(&a->req);
    ev_buf_fini(&a->body);
    ev_free(a);
}

static void app_say(struct app_conn *a, const char *text)
{
    if (ev_stream_write(a->s, ev_slice_str(text)) < 0)
        abort();
}

static void app_pour(struct app_conn *a)
{
    static uint8_t block[64 * 1024];

    while (a->to_send && ev_stream_queued(a->s) < sizeof block) {
        size_t n = a->to_send < sizeof block ? (size_t)a->to_send : sizeof block;

        if (ev_stream_write(a->s, ev_slice_of(block, n)) < 0)
            return;
        a->to_send -= n;
        app_written += n;
    }
}

static bool app_is(const struct app_conn *a, const char *path)
{
    return strncmp(a->path, path, strlen(path)) == 0;
}

/* → false when the connection is gone. */
static bool app_on_head(struct app_conn *a)
{
    const struct ev_http1_head *h = &a->req.head;

    app_requests++;
    a->n_requests++;
    snprintf(a->path, sizeof a->path, "%.*s", (int)h->path.n, h->path.p);
    ev_buf_clear(&a->body);
    a->chunked = h->body == EV_HTTP1_CHUNKED;
    ev_buf_clear(&app_seen);
    if (ev_buf_put_slice(&app_seen, ev_buf_slice(&a->req.buf)) < 0)
        abort();
    if (app_is(a, "/early")) {
        app_say(a, "HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nstop");
        app_drop(a);
        return false;
    }
    if (app_is(a, "/duplex"))
        app_say(a, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    if (app_is(a, "/slowsink") && app_hold)
        ev_stream_read_stop(a->s);
    return true;
}

static bool app_on_end(struct app_conn *a)
{
    static const struct { const char *path, *answer; } fixed[] = {
        { "/hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-App: 1\r\nX-Evervault-Cage-Ctx: forged\r\n\r\nhello" },
        { "/stale", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale" },
        { "/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 9\r\n"
          "Content-Length: 3\r\n\r\n" },
        { "/interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" },
        { "/204", "HTTP/1.1 204 No Content\r\n\r\n" },
        { "/304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n" },
        { "/headonly", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n" },
        { "/bad", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok" },
        { "/twolengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok" },
        { "/wrongchunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokX" },
        { "/more", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno" },
        { "/unasked", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" },
        { "/ws", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nwelcome" },
    }, closing[] = {
        { "/close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" },
        { "/eof", "HTTP/1.1 200 OK\r\n\r\nuntil the end" },
        { "/old", "HTTP/1.0 200 OK\r\n\r\nold" },
        { "/die", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf" },
        { "/gone", "" }, { "/halfhead", "HTTP/1.1 200 O" },
        { "/diechunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n" },
    };
    char text[256];

    if (app_is(a, "/stale") && a->n_requests > 1) {     /* closed as if it had been idle too long */
        app_drop(a);
        return false;
    }
    for (size_t i = 0; i < EV_COUNT(fixed); i++)
        if (app_is(a, fixed[i].path)) {
            app_say(a, fixed[i].answer);
            a->raw = app_is(a, "/ws");
            return true;
        }
    for (size_t i = 0; i < EV_COUNT(closing); i++)
        if (app_is(a, closing[i].path)) {
            app_say(a, closing[i].answer);
            app_drop(a);
            return false;
        }
    if (app_is(a, "/echo")) {
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nX-Chunked: %d\r\nX-Trailers: %zu\r\n"
                 "Content-Length: %zu\r\n\r\n", a->chunked, a->req.n_trailers, a->body.n);
        app_say(a, text);
        if (a->body.n && ev_stream_write(a->s, ev_buf_slice(&a->body)) < 0)
            abort();
    } else if (app_is(a, "/sink") || app_is(a, "/slowsink")) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)a->taken);
        app_say(a, "HTTP/1.1 200 OK\r\nContent-Length: ");
        char head[32];

        snprintf(head, sizeof head, "%zu\r\n\r\n", strlen(text));
        app_say(a, head);
        app_say(a, text);
    } else if (app_is(a, "/big")) {
        a->to_send = strtoull(a->path + 5, NULL, 10);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)a->to_send);
        app_say(a, text);
        app_pour(a);
    } else if (app_is(a, "/duplex")) {
        app_say(a, "1\r\nz\r\n0\r\n\r\n");
    }
    a->taken = 0;
    return true;                        /* /silent and all others: no answer */
}

static void app_data(void *ctx, ev_slice in)
{
    struct app_conn *a = ctx;
    ev_slice data;
    size_t used;
    int rc;

    if (a->raw) {                       /* after the 101: the same bytes back */
        if (ev_stream_write(a->s, in) < 0)
            abort();
        return;
    }
    while ((rc = ev_http1_next(&a->req, in, &used, &data, NULL)) > 0) {
        in = ev_slice_of(in.p + used, in.n - used);
        if (rc == EV_HTTP1_HEAD && !app_on_head(a))
            return;
        if (rc == EV_HTTP1_DATA) {
            a->taken += data.n;
            if (app_is(a, "/echo") && ev_buf_put_slice(&a->body, data) < 0)
                abort();
        }
        if (rc == EV_HTTP1_END && !app_on_end(a))
            return;
        if (a->raw)
            break;
    }
    if (rc < 0) {
        printf("# the app got a malformed request (%u)\n", a->req.status);
        abort();
    }
}

static void app_ended(void *ctx)
{
    struct app_conn *a = ctx;

    if (a->raw)
        app_say(a, "bye");
    ev_stream_shutdown(a->s);
    app_drop(a);
}

static void app_failed(void *ctx, const struct ev_err *err)
{
    (void)err;
    app_drop(ctx);
}

static void app_drained(void *ctx)
{
    app_pour(ctx);
}

static void app_accept(void *ctx, struct ev_stream *s)
{
    static const struct ev_stream_cb cb = { app_data, app_ended, app_failed, app_drained };
    struct app_conn *a = ev_alloc(sizeof *a);

    (void)ctx;
    app_accepted++;
    a->s = s;
    a->next = app_conns;
    app_conns = a;
    ev_buf_init(&a->body, 1 << 24);
    ev_http1_init(&a->req, EV_HTTP1_REQUEST);
    ev_stream_set_cb(s, &cb, a);
    ev_stream_read_start(s);
}

static void app_start(void)
{
    struct ev_addr any = { .kind = EV_ADDR_TCP, .host = "127.0.0.1", .port = app_addr.port };

    if (ev_listen(rt, &any, app_accept, NULL, &app_listener, NULL) < 0)
        abort();
    ev_listener_addr(app_listener, &app_addr);
}

static void app_stop(void)
{
    if (app_listener)
        ev_listener_close(app_listener);
    app_listener = NULL;
    while (app_conns)
        app_drop(app_conns);
}

/* ---- waiting ---- */

static void beat(void *ctx)
{
    (void)ctx;
}

/* Turns the loop until the condition holds or 5 seconds are over; → whether it holds. */
#define UNTIL(cond) \
    ({ uint64_t end_ = ev_rt_now_ms(rt) + 5000; struct ev_timer *beat_ = ev_timer_start(rt, 5, true, beat, NULL); \
       while (!(cond) && ev_rt_now_ms(rt) < end_) { ev_rt_run_once(rt); watch_queues(); } \
       ev_timer_stop(beat_); (cond); })

static size_t max_queued;               /* the most that the ingress ever had queued, either way */

static void watch_queues(void)
{
    for (struct hconn *c = front ? front->conns : NULL; c; c = c->next) {
        size_t a = c->client ? ev_stream_queued(c->client) : 0;
        size_t b = c->up && c->up->stream ? ev_stream_queued(c->up->stream) : 0;

        max_queued = a > max_queued ? a : max_queued;
        max_queued = b > max_queued ? b : max_queued;
        max_queued = c->pending.n > max_queued ? c->pending.n : max_queued;
    }
}

static bool front_raw;

/* ---- clients ---- */

struct client {
    struct ev_stream *s;
    struct ev_buf got;
    uint64_t n_got, to_send;
    bool eof, failed, count_only;
};

static void client_on_data(void *ctx, ev_slice in)
{
    struct client *c = ctx;

    c->n_got += in.n;
    if (!c->count_only && ev_buf_put_slice(&c->got, in) < 0)
        abort();
}

static void client_on_eof(void *ctx)
{
    ((struct client *)ctx)->eof = true;
}

static void client_on_fail(void *ctx, const struct ev_err *err)
{
    (void)err;
    ((struct client *)ctx)->failed = ((struct client *)ctx)->eof = true;
}

static void client_on_drained(void *ctx)
{
    static uint8_t block[64 * 1024];
    struct client *c = ctx;

    while (c->to_send && ev_stream_queued(c->s) < sizeof block) {
        size_t n = c->to_send < sizeof block ? (size_t)c->to_send : sizeof block;

        if (ev_stream_write(c->s, ev_slice_of(block, n)) < 0)
            return;
        c->to_send -= n;
    }
}

static void client_connected(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    static const struct ev_stream_cb cb = { client_on_data, client_on_eof, client_on_fail, client_on_drained };
    struct client *c = ctx;

    if (err) {
        c->failed = c->eof = true;
        return;
    }
    c->s = s;
    ev_stream_set_cb(s, &cb, c);
    ev_stream_read_start(s);
}

static bool world_tls;                  /* clients speak TLS */

static int any_peer(void *ctx, const struct ev_cert *leaf, struct ev_err *err)
{
    (void)ctx;
    (void)err;
    return leaf ? 0 : EV_EVERIFY;
}

static void client_plain(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct ev_tls_client_conf conf = { .sni = "x.cages.localhost", .accept_peer = any_peer };

    if (err || !world_tls || front_raw)
        client_connected(ctx, s, err);
    else
        ev_tls_connect(rt, &conf, s, client_connected, ctx);
}

static struct client *dial(void)
{
    struct client *c = ev_alloc(sizeof *c);
    struct ev_stream *pending = NULL;

    ev_buf_init(&c->got, 1 << 26);
    if (ev_stream_connect(rt, &front_addr, 2000, client_plain, c, &pending, NULL) < 0)
        abort();
    if (!UNTIL(c->s || c->failed))
        abort();
    return c;
}

static void hang_up(struct client *c)
{
    ev_stream_close(c->s);
    ev_buf_fini(&c->got);
    ev_free(c);
}

static void say(struct client *c, const char *text)
{
    if (ev_stream_write(c->s, ev_slice_str(text)) < 0)
        printf("# could not write\n");
}

/* The value of the context id becomes "CTX" (and must look like one). */
static void hide_ctx(struct ev_buf *b)
{
    static const char name[] = "x-evervault-cage-ctx: ";
    char *at = b->p ? (char *)b->p : NULL;

    while (at && (at = strstr(at, name)) != NULL) {
        size_t n = strspn(at += sizeof name - 1, "0123456789ABCDEF"), off = (size_t)(at - (char *)b->p);

        if (n < 20 || n > 32 || at[n] != '\r')
            return;
        memmove(at + 3, at + n, b->n - off - n + 1);
        memcpy(at, "CTX", 3);
        b->n -= n - 3;
    }
}

static const char *text_of(struct client *c)
{
    hide_ctx(&c->got);
    return ev_buf_str(&c->got);
}

static bool heard(struct client *c, const char *what)
{
    return strstr(text_of(c), what) != NULL;
}

/* Sends, waits until `end` was heard, forgets all that was heard before the next one. */
#define ASK(c, request, end, what) \
    do { ev_buf_clear(&(c)->got); say(c, request); \
         if (!OK(UNTIL(heard(c, end) || (c)->eof) && heard(c, end), "%s", what)) \
             same_text(text_of(c), end, "(text)", __LINE__); \
    } while (0)

/* ---- the ingress ---- */

static struct ev_ingress_conf front_conf;
static struct ev_ingress_times front_times;
static struct ev_tls_pair front_pair;

static int choose(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    (void)ctx;
    (void)sni;
    *out = front_pair;
    return 0;
}

static void make_tls(void)
{
    struct ev_cert_conf cert = { .subject = "/CN=x.cages.localhost", .not_before_ms = 1700000000000,
                                 .not_after_ms = 4000000000000, .path_len = -1 };
    struct ev_tls_server_conf server = { .select = choose };

    if (ev_key_generate(EV_P256, &front_pair.key, NULL) < 0 ||
        ev_cert_make(&cert, front_pair.key, NULL, front_pair.key, &front_pair.cert, NULL) < 0 ||
        ev_tls_server_new(&server, &front_conf.tls, NULL) < 0)
        abort();
}

static void drop_tls(void)
{
    ev_tls_ctx_free(front_conf.tls);
    ev_cert_free(front_pair.cert);
    ev_key_free(front_pair.key);
    front_pair = (struct ev_tls_pair){0};
}

static void world_open(void)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof sin;
    int fd;

    if (ev_rt_new(&rt, NULL) < 0)
        abort();
    app_addr.port = 0;
    app_start();
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof sin) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &n) < 0)
        abort();
    front_addr = (struct ev_addr){ .kind = EV_ADDR_TCP, .host = "127.0.0.1", .port = ntohs(sin.sin_port) };
    front_conf.rt = rt;
    front_conf.take_listen_fd = fd;
    front_conf.app = app_addr;
    front_conf.times = &front_times;
    if (world_tls && !front_raw)
        make_tls();
    if (ev_ingress_open_as(&front_conf, front_raw, &front, NULL) < 0)
        abort();
    app_accepted = app_requests = 0;
    app_written = 0;
    max_queued = 0;
}

static void world_close(const char *what)
{
    ev_ingress_close(front);
    front = NULL;
    app_stop();
    OK(UNTIL(ev_rt_open_handles(rt) <= 1), "%s: nothing stays open", what);
    while (ev_rt_run_once(rt) > 0)
        ;
    EQ_INT(ev_rt_open_handles(rt), 0, "no handle is left");
    ev_rt_free(rt);
    rt = NULL;
    ev_buf_fini(&app_seen);
    drop_tls();
    front_conf = (struct ev_ingress_conf){0};
    front_times = (struct ev_ingress_times){0};
    front_raw = false;
}

#endif
