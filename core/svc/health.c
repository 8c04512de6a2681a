/* health.c — see health.h. Two halves: the probe, which asks the app, and the answers to whoever asks
 * us. One probe at a time; its deadline is its own, so an app that hangs is unhealthy, and this agent
 * goes on answering. */
#include "svc/health.h"

#include <stdio.h>

#include "codec/http1.h"

enum {
    PROBE_EVERY_MS = 1000, PROBE_TIMEOUT_MS = 3000,
    RESULTS = 10, JUDGED = 9,           /* kept, and how many of the last ones count */
    CALLERS_MAX = 32, CALLER_TIMEOUT_MS = 5000
};

struct probe {
    struct ev_stream *pending, *stream;
    struct ev_http1 res;
    struct ev_timer *deadline;
    bool running;
};

/* Somebody who asks how we are. */
struct caller {
    struct ev_health *health;
    struct caller *next;
    struct ev_stream *stream;
    struct ev_http1 req;
    struct ev_timer *deadline;
    bool replied;
};

struct ev_health {
    struct ev_rt *rt;
    struct ev_addr app;
    char *path;
    uint32_t timeout_ms;
    bool initialized;
    enum ev_health_state results[RESULTS];
    size_t n_results;
    bool started;                       /* the app was healthy once */
    char why[96];                       /* of the last failure; "" = none */
    struct ev_timer *every;
    struct probe probe;
    struct ev_listener *listener;
    struct caller *callers;
    size_t n_callers;
};

/* ---- results ---- */

/* An app that is still starting refuses connections; that is forgotten with its first success, or a cage
 * would be unhealthy for nine probes after it is ready. */
static void add_result(struct ev_health *h, enum ev_health_state r, const char *why)
{
    if (r == EV_HEALTH_OK && !h->started) {
        h->started = true;
        h->n_results = 0;
    }
    memmove(h->results + 1, h->results, sizeof h->results - sizeof h->results[0]);
    h->results[0] = r;
    if (h->n_results < RESULTS)
        h->n_results++;
    if (why)
        snprintf(h->why, sizeof h->why, "%s", why);
}

enum ev_health_state ev_health_state(const struct ev_health *h)
{
    enum ev_health_state worst = EV_HEALTH_IGNORED;

    if (!h->initialized)
        return EV_HEALTH_UNINITIALIZED;
    if (!h->path)
        return EV_HEALTH_OK;
    if (h->n_results == 0)
        return EV_HEALTH_UNKNOWN;
    for (size_t i = 0; i < h->n_results && i < JUDGED; i++)
        if (h->results[i] > worst)
            worst = h->results[i];
    return worst;
}

/* ---- probe ---- */

static void probe_end(struct ev_health *h, enum ev_health_state r, const char *why)
{
    struct probe *p = &h->probe;

    if (!p->running)
        return;
    ev_stream_close(p->pending);
    ev_stream_close(p->stream);
    ev_timer_stop(p->deadline);
    ev_http1_fini(&p->res);
    *p = (struct probe){0};
    add_result(h, r, why);
}

static void probe_late(void *ctx)
{
    probe_end(ctx, EV_HEALTH_ERR, "the app did not answer in time");
}

static void probe_status(struct ev_health *h)
{
    char why[64];
    int status = h->probe.res.head.status;

    snprintf(why, sizeof why, "the app answered %d", status);
    if (status / 100 == 2)
        probe_end(h, EV_HEALTH_OK, NULL);
    else
        probe_end(h, EV_HEALTH_ERR, why);
}

static void probe_data(void *ctx, ev_slice in)
{
    struct ev_health *h = ctx;
    ev_slice data;
    size_t used;
    int rc;

    while ((rc = ev_http1_next(&h->probe.res, in, &used, &data, NULL)) > 0) {
        if (rc == EV_HTTP1_HEAD && h->probe.res.head.status >= 200) {
            probe_status(h);
            return;
        }
        in = ev_slice_of(in.p + used, in.n - used);
    }
    if (rc < 0)
        probe_end(h, EV_HEALTH_ERR, "the app's answer is not HTTP");
}

static void probe_eof(void *ctx)
{
    probe_end(ctx, EV_HEALTH_ERR, "the app closed the connection");
}

static void probe_fail(void *ctx, const struct ev_err *err)
{
    probe_end(ctx, EV_HEALTH_ERR, ev_err_text(err->code));
}

static const struct ev_stream_cb probe_cb = { .data = probe_data, .eof = probe_eof, .fail = probe_fail };

static void probe_connected(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct ev_health *h = ctx;
    struct ev_buf out = EV_BUF_INIT(8192);

    h->probe.pending = NULL;
    if (err) {
        probe_fail(h, err);
        return;
    }
    h->probe.stream = s;
    ev_stream_set_cb(s, &probe_cb, h);
    ev_stream_read_start(s);
    if (ev_buf_printf(&out, "GET %s HTTP/1.1\r\nhost: localhost\r\nuser-agent: Evervault-Healthcheck-Agent\r\n"
                      "accept: */*\r\nconnection: close\r\n\r\n", h->path) < 0 ||
        ev_stream_write(s, ev_buf_slice(&out)) < 0)
        probe_end(h, EV_HEALTH_ERR, "the app closed the connection");
    ev_buf_fini(&out);
}

static void probe_start(void *ctx)
{
    struct ev_health *h = ctx;
    struct ev_err err = EV_ERR_INIT;

    if (!h->initialized || !h->path || h->probe.running)
        return;
    h->probe.running = true;
    ev_http1_init(&h->probe.res, EV_HTTP1_RESPONSE);
    if (ev_stream_connect(h->rt, &h->app, h->timeout_ms, probe_connected, h, &h->probe.pending, &err) < 0)
        probe_end(h, EV_HEALTH_ERR, ev_err_text(err.code));
    else
        h->probe.deadline = ev_timer_start(h->rt, h->timeout_ms, false, probe_late, h);
}

/* ---- who asks us ---- */

static void caller_close(struct caller *c)
{
    for (struct caller **at = &c->health->callers; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            c->health->n_callers--;
            break;
        }
    ev_stream_close(c->stream);
    ev_timer_stop(c->deadline);
    ev_http1_fini(&c->req);
    ev_free(c);
}

static void caller_gone(void *ctx)
{
    caller_close(ctx);
}

static void caller_fail(void *ctx, const struct ev_err *err)
{
    (void)err;
    caller_close(ctx);
}

static const char *state_name(enum ev_health_state s)
{
    static const char *const names[] = { "Ignored", "Ok", "Unknown", "Err", "Uninitialized" };

    return names[s];
}

/* {"status":"Ok","message":null}; texts are ours and errno's, without quotes. */
static void put_state(const struct ev_health *h, char *out, size_t cap)
{
    enum ev_health_state s = ev_health_state(h);

    if (s == EV_HEALTH_ERR && h->why[0])
        snprintf(out, cap, "{\"status\":\"%s\",\"message\":\"%s\"}", state_name(s), h->why);
    else
        snprintf(out, cap, "{\"status\":\"%s\",\"message\":null}", state_name(s));
}

static void caller_reply(struct caller *c, int status, const char *body)
{
    struct ev_buf out = EV_BUF_INIT(1024);
    bool head = ev_slice_eq(c->req.head.method, EV_LIT("HEAD"));

    c->replied = true;
    if (ev_buf_printf(&out, "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
                      "connection: close\r\n\r\n%s", status, ev_http1_reason(status), strlen(body),
                      head ? "" : body) == 0 && ev_stream_write(c->stream, ev_buf_slice(&out)) == 0)
        ev_stream_shutdown(c->stream);
    ev_buf_fini(&out);
}

static void caller_head(struct caller *c)
{
    enum ev_health_state s = ev_health_state(c->health);
    char body[192];

    put_state(c->health, body, sizeof body);
    if (ev_slice_eq(c->req.head.method, EV_LIT("GET")) || ev_slice_eq(c->req.head.method, EV_LIT("HEAD")))
        caller_reply(c, s <= EV_HEALTH_OK ? 200 : 500, body);
    else
        caller_reply(c, 405, "{\"message\":\"Method not allowed\"}");
}

static void caller_data(void *ctx, ev_slice in)
{
    struct caller *c = ctx;
    ev_slice data;
    size_t used;
    int rc;

    if (c->replied)                     /* what follows is not looked at; the deadline ends it */
        return;
    rc = ev_http1_next(&c->req, in, &used, &data, NULL);
    if (rc == EV_HTTP1_HEAD)
        caller_head(c);
    else if (rc < 0)
        caller_reply(c, c->req.status, "{\"message\":\"Malformed request\"}");
}

static const struct ev_stream_cb caller_cb = { .data = caller_data, .eof = caller_gone, .fail = caller_fail };

static void caller_accepted(void *ctx, struct ev_stream *s)
{
    struct ev_health *h = ctx;
    struct caller *c;

    if (h->n_callers >= CALLERS_MAX) {
        ev_stream_close(s);
        return;
    }
    c = ev_alloc(sizeof *c);
    c->health = h;
    c->stream = s;
    c->next = h->callers;
    h->callers = c;
    h->n_callers++;
    ev_http1_init(&c->req, EV_HTTP1_REQUEST);
    c->deadline = ev_timer_start(h->rt, CALLER_TIMEOUT_MS, false, caller_gone, c);
    ev_stream_set_cb(s, &caller_cb, c);
    ev_stream_read_start(s);
}

/* ---- public ---- */

int ev_health_open(const struct ev_health_conf *conf, struct ev_health **out, struct ev_err *err)
{
    struct ev_health *h = ev_alloc(sizeof *h);
    int rc;

    h->rt = conf->rt;
    h->app = conf->app;
    h->path = ev_strdup(conf->path);
    h->timeout_ms = conf->timeout_ms ? conf->timeout_ms : PROBE_TIMEOUT_MS;
    if (conf->take_listen_fd >= 0)
        EV_TRY(ev_listen_fd(h->rt, conf->take_listen_fd, caller_accepted, h, &h->listener, err));
    h->every = ev_timer_start(h->rt, conf->every_ms ? conf->every_ms : PROBE_EVERY_MS, true, probe_start, h);
    *out = h;
    return 0;
out:
    ev_err_wrap(err, "health");
    ev_free(h->path);
    ev_free(h);
    return rc;
}

void ev_health_set_initialized(struct ev_health *h)
{
    if (h->initialized)
        return;
    h->initialized = true;
    probe_start(h);
}

void ev_health_close(struct ev_health *h)
{
    if (!h)
        return;
    while (h->callers)
        caller_close(h->callers);
    probe_end(h, EV_HEALTH_UNKNOWN, NULL);
    ev_listener_close(h->listener);
    ev_timer_stop(h->every);
    ev_free(h->path);
    ev_free(h);
}
