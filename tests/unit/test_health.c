/* Tests of svc/health.c over real sockets: the probe of the app and what we tell who asks. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "svc/health.h"
#include "tap.h"

static struct ev_rt *rt;
static struct ev_health *health;
static struct ev_listener *app;
static struct ev_addr app_addr, our_addr;
static const char *app_answer;          /* NULL: none */
static char app_asked[512];
static int probes;
static struct ev_stream *app_streams[64];
static size_t n_app_streams;

static void beat(void *ctx)
{
    (void)ctx;
}

#define UNTIL(cond) \
    ({ uint64_t end_ = ev_rt_now_ms(rt) + 5000; struct ev_timer *beat_ = ev_timer_start(rt, 5, true, beat, NULL); \
       while (!(cond) && ev_rt_now_ms(rt) < end_) ev_rt_run_once(rt); \
       ev_timer_stop(beat_); (cond); })

static void app_data(void *ctx, ev_slice in)
{
    struct ev_stream *s = *(struct ev_stream **)ctx;

    snprintf(app_asked, sizeof app_asked, "%.*s", (int)in.n, in.p);
    probes++;
    if (app_answer && ev_stream_write(s, ev_slice_str(app_answer)) < 0)
        abort();
}

static void app_gone(void *ctx)
{
    ev_stream_close(*(struct ev_stream **)ctx);
    *(struct ev_stream **)ctx = NULL;
}

static void app_fail(void *ctx, const struct ev_err *err)
{
    (void)err;
    app_gone(ctx);
}

static void app_accept(void *ctx, struct ev_stream *s)
{
    static const struct ev_stream_cb cb = { .data = app_data, .eof = app_gone, .fail = app_fail };
    struct ev_stream **slot = &app_streams[n_app_streams++ % EV_COUNT(app_streams)];

    (void)ctx;
    *slot = s;
    ev_stream_set_cb(s, &cb, slot);
    ev_stream_read_start(s);
}

static void app_start(void)
{
    struct ev_addr at = { .kind = EV_ADDR_TCP, .host = "127.0.0.1", .port = app_addr.port };

    if (ev_listen(rt, &at, app_accept, NULL, &app, NULL) < 0)
        abort();
    ev_listener_addr(app, &app_addr);
}

static int listening(void)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof sin;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof sin) < 0 || listen(fd, 16) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &n) < 0)
        abort();
    our_addr = (struct ev_addr){ .kind = EV_ADDR_TCP, .host = "127.0.0.1", .port = ntohs(sin.sin_port) };
    return fd;
}

/* ---- who asks ---- */

static struct ev_stream *asker;
static struct ev_buf heard = EV_BUF_INIT(1 << 16);
static bool ended;

static void ask_data(void *ctx, ev_slice in)
{
    (void)ctx;
    if (ev_buf_put_slice(&heard, in) < 0)
        abort();
}

static void ask_eof(void *ctx)
{
    (void)ctx;
    ended = true;
}

static void ask_fail(void *ctx, const struct ev_err *err)
{
    (void)ctx;
    (void)err;
    ended = true;
}

static void ask_open(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    static const struct ev_stream_cb cb = { .data = ask_data, .eof = ask_eof, .fail = ask_fail };

    (void)ctx;
    if (err)
        abort();
    asker = s;
    ev_stream_set_cb(s, &cb, NULL);
    ev_stream_read_start(s);
}

static const char *ask(const char *request)
{
    struct ev_stream *pending;

    ev_buf_clear(&heard);
    ended = false;
    asker = NULL;
    if (ev_stream_connect(rt, &our_addr, 1000, ask_open, NULL, &pending, NULL) < 0)
        abort();
    if (!UNTIL(asker) || ev_stream_write(asker, ev_slice_str(request)) < 0)
        abort();
    UNTIL(ended);
    ev_stream_close(asker);
    return ev_buf_str(&heard);
}

#define GET "GET /anything?x HTTP/1.1\r\nHost: x\r\nUser-Agent: CageHealthChecker/0.0\r\n\r\n"
#define IS(got, want) (strstr(got, want) != NULL)

static void open_health(const char *path)
{
    struct ev_health_conf conf = { .app = app_addr, .path = path, .every_ms = 60, .timeout_ms = 400 };

    conf.rt = rt;
    conf.take_listen_fd = listening();
    OK(ev_health_open(&conf, &health, NULL) == 0, "opens");
}

static void test_shallow(void)
{
    open_health(NULL);
    EQ_INT(ev_health_state(health), EV_HEALTH_UNINITIALIZED, "before the app was started");
    OK(IS(ask(GET), "HTTP/1.1 500 Internal Server Error\r\n") &&
       IS(ev_buf_str(&heard), "{\"status\":\"Uninitialized\",\"message\":null}"),
       "500 Uninitialized");
    ev_health_set_initialized(health);
    EQ_INT(ev_health_state(health), EV_HEALTH_OK, "without a path: Ok from then on");
    OK(strcmp(ask(GET), "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 30\r\n"
              "connection: close\r\n\r\n"
              "{\"status\":\"Ok\",\"message\":null}") == 0, "200 Ok");
    OK(IS(ask("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"), "200 OK") && !IS(ev_buf_str(&heard), "{"), "HEAD");
    OK(IS(ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"), "405 "), "POST");
    OK(IS(ask("nonsense\r\n\r\n"), "400 Bad Request"), "nonsense");
    OK(IS(ask("GET / HTTP/1.0\r\n\r\n"), "200 OK"), "HTTP/1.0");
    EQ_INT(probes, 0, "the app was not asked");
    ev_health_close(health);
}

static void test_probe(void)
{
    app_answer = "HTTP/1.1 204 No Content\r\n\r\n";
    open_health("/health");
    ev_health_set_initialized(health);
    EQ_INT(ev_health_state(health), EV_HEALTH_UNKNOWN, "before the first probe");
    OK(UNTIL(ev_health_state(health) == EV_HEALTH_OK), "2xx is Ok");
    OK(IS(app_asked, "GET /health HTTP/1.1\r\n") && IS(app_asked, "user-agent: Evervault-Healthcheck-Agent\r\n"),
       "how the app is asked");
    OK(UNTIL(probes >= 2) && ev_health_state(health) == EV_HEALTH_OK, "again and again");
    app_answer = "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n";
    OK(UNTIL(ev_health_state(health) == EV_HEALTH_ERR), "another status is a failure");
    OK(IS(ask(GET), "500 Internal") && IS(ev_buf_str(&heard),
                                          "{\"status\":\"Err\",\"message\":\"the app answered 301\"}"), "said so");
    app_answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    probes = 0;
    OK(UNTIL(probes >= 3) && ev_health_state(health) == EV_HEALTH_ERR,
       "one failure counts for a while (the worst of nine)");
    ev_health_close(health);
}

static void fails_with(const char *answer, const char *what)
{
    app_answer = answer;
    open_health("/health");
    ev_health_set_initialized(health);
    OK(UNTIL(ev_health_state(health) == EV_HEALTH_ERR), "%s: %s", what, ask(GET) + strcspn(ev_buf_str(&heard), "{"));
    OK(IS(ev_buf_str(&heard), "500 Internal"), "we answer meanwhile");
    ev_health_close(health);
}

static void run_until_ok(uint32_t ms)
{
    uint64_t end = ev_rt_now_ms(rt) + ms;

    while (ev_health_state(health) != EV_HEALTH_OK && ev_rt_now_ms(rt) < end)
        ev_rt_run_once(rt);
}

/* Failures of an app that is still starting are forgotten with its first success. After that nine good
 * results must follow a bad one. */
static void test_recovery(void)
{
    app_answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    open_health("/health");
    ev_health_set_initialized(health);
    probes = 0;
    OK(UNTIL(probes >= 3) && ev_health_state(health) == EV_HEALTH_ERR, "failures while the app starts");
    app_answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    probes = 0;
    run_until_ok(5000);
    OK(ev_health_state(health) == EV_HEALTH_OK && probes <= 3, "the first success ends that, after %d probes", probes);
    app_answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    OK(UNTIL(ev_health_state(health) == EV_HEALTH_ERR), "a failure after it counts");
    app_answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    probes = 0;
    run_until_ok(12000);
    OK(ev_health_state(health) == EV_HEALTH_OK && probes >= 9, "until nine good ones have followed");
    ev_health_close(health);
}

int main(void)
{
    if (ev_rt_new(&rt, NULL) < 0)
        abort();
    app_start();
    test_shallow();
    test_probe();
    test_recovery();
    fails_with("SSH-2.0-x\r\n\r\n", "not HTTP");
    fails_with(NULL, "no answer");
    ev_listener_close(app);
    fails_with(NULL, "no app");
    for (size_t i = 0; i < EV_COUNT(app_streams); i++)
        ev_stream_close(app_streams[i]);
    while (ev_rt_run_once(rt) > 0)
        ;
    EQ_INT(ev_rt_open_handles(rt), 0, "no handle is left");
    ev_rt_free(rt);
    ev_buf_fini(&heard);
    return tap_done();
}
