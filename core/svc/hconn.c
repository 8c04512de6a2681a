/* hconn.c — the client's side of a connection: reads requests, judges them, passes them on. The
 * drawing is in hconn.h. Requests are answered in order: the next one is not looked at before the
 * answer is out; what came in meanwhile waits in `pending`, and the client is paused. */
#include "svc/hconn.h"

#include "crypto/digest.h"
#include "svc/auth.h"

/* ---- reading and pausing ---- */

static bool app_full(const struct hconn *c)
{
    return c->up && c->up->stream && ev_stream_queued(c->up->stream) >= EV_HCONN_HIGH;
}

static bool client_full(const struct hconn *c)
{
    return c->client && ev_stream_queued(c->client) >= EV_HCONN_HIGH;
}

/* May the next bytes of the client be looked at? */
static bool can_read(const struct hconn *c)
{
    switch (c->state) {
    case EV_HC_HEAD:
    case EV_HC_REPLIED:
        return !client_full(c);
    case EV_HC_BODY:
        return !app_full(c);
    case EV_HC_LINGER:
        return true;
    default:
        return false;
    }
}

/* While an answer is awaited a little is read ahead, so that a client that goes away is noticed. */
static bool wants_client(const struct hconn *c)
{
    if (c->client_eof || !c->client)
        return false;
    if (c->state == EV_HC_ANSWER || c->state == EV_HC_CONNECT)
        return c->pending.n == 0;
    return can_read(c);
}

static bool wants_app(const struct hconn *c)
{
    return c->up && c->up->stream && !c->app_eof && !client_full(c);
}

void ev_hconn_pace(struct hconn *c)
{
    bool client = wants_client(c), app = wants_app(c);

    if (c->state == EV_HC_CLOSED || c->state == EV_HC_TUNNEL)
        return;
    if (client != c->client_reading && !c->client_eof) {
        c->client_reading = client;
        (client ? ev_stream_read_start : ev_stream_read_stop)(c->client);
    }
    if (c->up && c->up->stream && app != c->app_reading && !c->app_eof) {
        c->app_reading = app;
        (app ? ev_stream_read_start : ev_stream_read_stop)(c->up->stream);
    }
}

void ev_hconn_wait(struct hconn *c, uint32_t ms)
{
    c->deadline = ev_rt_now_ms(c->in->rt) + ms;
}

bool ev_hconn_send(struct hconn *c, ev_slice bytes)
{
    if (c->state == EV_HC_CLOSED)
        return false;
    if (ev_stream_queued(c->client) == 0)
        c->moved_at = ev_rt_now_ms(c->in->rt);
    if (bytes.n && ev_stream_write(c->client, bytes) < 0) {
        ev_hconn_close(c);
        return false;
    }
    return true;
}

static bool send_app(struct hconn *c, ev_slice bytes)
{
    if (c->up && bytes.n && ev_stream_write(c->up->stream, bytes) < 0) {
        ev_answer_lost(c, 502, "the app closed the connection");
        return false;
    }
    return true;
}

/* ---- ending ---- */

static void free_later(void *ctx)
{
    struct hconn *c = ctx;

    ev_http1_fini(&c->req);
    ev_http1_fini(&c->res);
    ev_buf_wipe(&c->pending);
    ev_buf_wipe(&c->head_out);
    ev_ingress_forget(c->in, c);
    ev_free(c);
}

void ev_hconn_close(struct hconn *c)
{
    if (c->state == EV_HC_CLOSED)
        return;
    c->state = EV_HC_CLOSED;
    ev_relay_close(c->relay);
    c->relay = NULL;
    ev_stream_close(c->client);
    c->client = NULL;
    ev_upool_drop(c->up);
    c->up = NULL;
    ev_defer(c->in->rt, free_later, c);
}

/* Ends our direction and reads on for a moment: closing with unread bytes would reset the
 * connection, and the client might never see the answer. */
void ev_hconn_finish(struct hconn *c)
{
    if (c->state == EV_HC_CLOSED || c->state == EV_HC_LINGER)
        return;
    ev_upool_drop(c->up);
    c->up = NULL;
    ev_buf_clear(&c->pending);
    c->state = EV_HC_LINGER;
    ev_stream_shutdown(c->client);
    if (c->client_eof && ev_stream_queued(c->client) == 0)
        ev_hconn_close(c);
    else
        ev_hconn_wait(c, c->in->times.linger);
    ev_hconn_pace(c);
}

/* Kept while small, as it is in the readers: idle connections are many. */
static void forget_head(struct hconn *c)
{
    if (c->head_out.cap > 1024)
        ev_buf_fini(&c->head_out);
    else
        ev_buf_clear(&c->head_out);
}

void ev_hconn_next(struct hconn *c)
{
    if (c->state == EV_HC_CLOSED)
        return;
    if (!c->keep) {
        ev_hconn_finish(c);
        return;
    }
    forget_head(c);
    ev_http1_reset(&c->res);
    c->state = EV_HC_HEAD;
    c->answering = c->asked_upgrade = c->sent = c->chunk_in = c->chunk_out = false;
    ev_hconn_wait(c, c->in->times.idle);
}

/* ---- steps of a request ---- */

/* A random 128-bit number in upper-case hex, without leading zeros. */
static void make_ctx_id(struct hconn *c)
{
    struct ev_ingress *in = c->in;
    const uint8_t *r;
    size_t n = 0;

    if (in->n_random < EV_CTX_ID_BYTES) {
        if (ev_random(in->random, sizeof in->random) < 0)
            memset(in->random, 0, sizeof in->random);
        in->n_random = sizeof in->random;
    }
    r = in->random + (in->n_random -= EV_CTX_ID_BYTES);
    for (size_t i = 0; i < 2 * EV_CTX_ID_BYTES; i++) {
        char digit = "0123456789ABCDEF"[i % 2 ? r[i / 2] & 15 : r[i / 2] >> 4];

        if (n || digit != '0' || i == 2 * EV_CTX_ID_BYTES - 1)
            c->ctx_id[n++] = digit;
    }
    c->ctx_id[n] = '\0';
}

static bool is_attestation(const struct ev_http1_head *h)
{
    static const char path[] = "/.well-known/attestation";
    size_t n = sizeof path - 1;

    return h->path.n >= n && memcmp(h->path.p, path, n) == 0 && (h->path.n == n || h->path.p[n] == '?');
}

static bool method_is(const struct ev_http1_head *h, const char *m)
{
    return ev_slice_eq(h->method, ev_slice_str(m));
}

/* Sent twice they do what they do sent once (RFC 9110 §9.2.2), and there is no body that is gone. */
static bool repeatable(const struct ev_http1_head *h)
{
    static const char *const methods[] = { "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE" };

    for (size_t i = 0; i < EV_COUNT(methods); i++)
        if (method_is(h, methods[i]))
            return h->body == EV_HTTP1_NONE;
    return false;
}

/* An upgrade to h2c would take later requests out of our sight; an app may not be asked for it. */
static bool upgrade_goes_on(const struct ev_http1_head *h)
{
    ev_slice to;

    if (!h->upgrade || h->body != EV_HTTP1_NONE)
        return false;
    for (size_t i = 0; ev_http1_find(h, "upgrade", &i, &to);)
        if (ev_http1_lists(to, "h2c") || to.n == 0)
            return false;
    return true;
}

static void note_request(struct hconn *c, const struct ev_http1_head *h)
{
    make_ctx_id(c);
    c->is_head = method_is(h, "HEAD");
    c->old_client = h->minor == 0;
    c->keep = h->keep_alive;
    c->can_retry = repeatable(h);
    c->asked_upgrade = upgrade_goes_on(h);
    c->chunk_in = h->body == EV_HTTP1_CHUNKED;
}

/* → answered here (false) or to be passed on (true). */
static bool judge(struct hconn *c, const struct ev_http1_head *h)
{
    enum ev_auth verdict;

    if (is_attestation(h)) {
        ev_reply_attestation(c);
        return false;
    }
    if (!c->in->api_key_auth)
        return true;
    verdict = ev_auth_check(h, c->in->key_digests, c->in->n_key_digests);
    if (verdict != EV_AUTH_OK)
        ev_reply_message(c, 401, ev_auth_message(verdict));
    return verdict == EV_AUTH_OK;
}

/* The head as the app gets it. */
static int write_head(struct hconn *c, const struct ev_http1_head *h)
{
    static const char *const secret[] = { "api-key", NULL };
    struct ev_http1_field set[4] = { { EV_LIT("x-forwarded-proto"), EV_LIT("https") },
                                     { EV_LIT("x-evervault-cage-ctx"), ev_slice_str(c->ctx_id) } };
    struct ev_http1_edit e = { .set = set, .n_set = 2, .body = h->body, .length = h->length,
                               .upgrade = c->asked_upgrade,
                               .connection = c->asked_upgrade ? "upgrade" : h->te_trailers ? "te" : "keep-alive",
                               .drop = c->in->api_key_auth ? secret : NULL };
    ev_slice host;
    size_t i = 0;

    if (!ev_http1_find(h, "host", &i, &host))
        set[e.n_set++] = (struct ev_http1_field){ EV_LIT("host"), EV_LIT("localhost") };
    if (h->te_trailers)
        set[e.n_set++] = (struct ev_http1_field){ EV_LIT("te"), EV_LIT("trailers") };
    ev_buf_clear(&c->head_out);
    return ev_http1_put_head(&c->head_out, h, &e);
}

/* The app is there: the head goes out, and the client may send its body. */
static void app_open(struct hconn *c)
{
    ev_stream_set_cb(c->up->stream, &ev_answer_cb, c);
    c->app_reading = c->up->reused;
    c->app_eof = false;
    ev_http1_reset(&c->res);
    ev_http1_answers_head(&c->res, c->is_head);
    c->state = c->sent ? EV_HC_ANSWER : EV_HC_BODY;
    ev_hconn_wait(c, c->sent ? c->in->times.answer : c->in->times.body);
    if (!send_app(c, ev_buf_slice(&c->head_out)))
        return;
    if (!c->can_retry || !c->up->reused)
        forget_head(c);
    if (!c->sent && c->req.head.expect_continue && c->req.head.body != EV_HTTP1_NONE && c->pending.n == 0)
        ev_hconn_send(c, EV_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
}

static void app_opened(void *ctx, const struct ev_err *err)
{
    struct hconn *c = ctx;

    if (err) {
        ev_answer_lost(c, err->code == -ETIMEDOUT ? 504 : 502, ev_err_text(err->code));
        return;
    }
    if (c->in->raw) {
        ev_tunnel_start(c, (ev_slice){0});
        return;
    }
    app_open(c);
    ev_hconn_resume(c);
}

int ev_hconn_connect(struct hconn *c, bool fresh)
{
    uint32_t age = fresh ? 0 : c->can_retry ? EV_UPSTREAM_IDLE_MS : EV_UPSTREAM_FRESH_MS;
    struct ev_err err = EV_ERR_INIT;
    int rc;

    c->state = EV_HC_CONNECT;
    c->deadline = UINT64_MAX;           /* the connect has its own */
    rc = ev_upool_take(c->in->pool, age, app_opened, c, &c->up, &err);
    if (rc < 0)
        ev_answer_lost(c, 502, ev_err_text(rc));
    else if (c->up->stream)
        app_open(c);
    return rc;
}

static void on_head(struct hconn *c)
{
    const struct ev_http1_head *h = &c->req.head;

    note_request(c, h);
    if (!judge(c, h))
        return;
    if (write_head(c, h) < 0)
        ev_reply_message(c, 431, "the head is too large");
    else
        ev_hconn_connect(c, false);
}

static void on_body(struct hconn *c, ev_slice data)
{
    struct ev_buf *out = &c->in->out_app;

    if (c->state != EV_HC_BODY)
        return;
    ev_hconn_wait(c, c->answering ? c->in->times.silent : c->in->times.body);
    if (!c->chunk_in)
        send_app(c, data);
    else if (ev_http1_put_chunk(out, data.n) < 0 || ev_buf_put_slice(out, data) < 0 || ev_buf_puts(out, "\r\n") < 0)
        ev_hconn_close(c);
}

/* Small chunks of one read go to the app in one write. */
static void flush_chunks(struct hconn *c)
{
    struct ev_buf *out = &c->in->out_app;

    if (out->n && (c->state == EV_HC_BODY || c->state == EV_HC_ANSWER))
        send_app(c, ev_buf_slice(out));
    ev_buf_clear(out);
}

static void on_end(struct hconn *c)
{
    if (c->state == EV_HC_REPLIED) {
        ev_hconn_next(c);
        return;
    }
    if (c->state != EV_HC_BODY)
        return;
    c->sent = true;
    c->state = EV_HC_ANSWER;
    ev_hconn_wait(c, c->answering ? c->in->times.silent : c->in->times.answer);
    if (c->chunk_in && ev_http1_put_last(&c->in->out_app, c->req.trailers, c->req.n_trailers) < 0)
        ev_hconn_close(c);
    flush_chunks(c);
}

static void on_malformed(struct hconn *c, const struct ev_err *err)
{
    c->keep = false;
    if (c->state == EV_HC_HEAD) {
        c->is_head = false;
        make_ctx_id(c);
        ev_reply_message(c, c->req.status, err->msg);
    } else {
        ev_answer_lost(c, c->req.status, err->msg);
    }
}

/* ---- the loop over what has come in ---- */

/* The client has ended and all it sent was looked at. */
static void client_ended(struct hconn *c)
{
    if (c->state == EV_HC_HEAD)
        ev_hconn_finish(c);
    else if (c->state == EV_HC_BODY)    /* half a request */
        ev_hconn_close(c);
}

/* The first byte of a head is there; a connection's first head is due from accept on. */
static void begin_head(struct hconn *c)
{
    uint64_t due = ev_rt_now_ms(c->in->rt) + c->in->times.head;

    if (due < c->deadline)
        c->deadline = due;
}

static void step(struct hconn *c, ev_slice *in, int *rc)
{
    struct ev_err err = EV_ERR_INIT;
    bool idle = c->state == EV_HC_HEAD && ev_http1_idle(&c->req);
    ev_slice data;
    size_t used;

    *rc = ev_http1_next(&c->req, *in, &used, &data, &err);
    *in = ev_slice_of(in->n ? in->p + used : NULL, in->n - used);
    if (*rc < 0)
        on_malformed(c, &err);
    else if (*rc == EV_HTTP1_HEAD)
        on_head(c);
    else if (*rc == EV_HTTP1_DATA)
        on_body(c, data);
    else if (*rc == EV_HTTP1_END)
        on_end(c);
    else if (idle && !ev_http1_idle(&c->req))
        begin_head(c);
}

static void run(struct hconn *c, ev_slice in)
{
    int rc = EV_HTTP1_END;

    c->running = true;
    while (rc > 0 && can_read(c) && c->state != EV_HC_LINGER)
        step(c, &in, &rc);
    flush_chunks(c);
    c->running = false;
    if (c->state == EV_HC_CLOSED || c->state == EV_HC_LINGER)
        return;
    if (in.n && ev_buf_put_slice(&c->pending, in) < 0)
        ev_hconn_close(c);
    else if (c->client_eof && c->pending.n == 0)
        client_ended(c);
    ev_hconn_pace(c);
}

void ev_hconn_resume(struct hconn *c)
{
    struct ev_buf taken = c->pending;

    if (c->running || c->state == EV_HC_CLOSED || c->state == EV_HC_TUNNEL)
        return;
    ev_buf_init(&c->pending, EV_HCONN_PENDING_MAX);
    run(c, ev_buf_slice(&taken));
    ev_buf_fini(&taken);
}

/* ---- what the client's stream tells ---- */

static void client_data(void *ctx, ev_slice bytes)
{
    struct hconn *c = ctx;

    if (c->state == EV_HC_LINGER)
        return;
    if (c->pending.n == 0)
        run(c, bytes);
    else if (ev_buf_put_slice(&c->pending, bytes) < 0)
        ev_hconn_close(c);
    else
        ev_hconn_resume(c);
}

static void client_eof(void *ctx)
{
    struct hconn *c = ctx;

    c->client_eof = true;
    c->client_reading = false;
    if (c->state == EV_HC_LINGER && ev_stream_queued(c->client) == 0)
        ev_hconn_close(c);
    else
        ev_hconn_resume(c);
}

static void client_fail(void *ctx, const struct ev_err *err)
{
    (void)err;
    ev_hconn_close(ctx);
}

static void client_drained(void *ctx)
{
    struct hconn *c = ctx;

    if (c->state == EV_HC_LINGER && c->client_eof)
        ev_hconn_close(c);
    else if (c->state == EV_HC_LINGER)
        ev_hconn_wait(c, c->in->times.linger);
    else
        ev_hconn_resume(c);
}

static const struct ev_stream_cb client_cb = { client_data, client_eof, client_fail, client_drained };

void ev_hconn_open(struct hconn *c, struct ev_stream *client)
{
    c->client = client;
    ev_http1_init(&c->req, EV_HTTP1_REQUEST);
    ev_http1_init(&c->res, EV_HTTP1_RESPONSE);
    ev_buf_init(&c->head_out, 2 * EV_HTTP1_HEAD_MAX);
    ev_buf_init(&c->pending, EV_HCONN_PENDING_MAX);
    ev_stream_set_cb(client, &client_cb, c);
    c->state = EV_HC_HEAD;
    c->keep = true;
    ev_hconn_wait(c, c->in->times.head);
    if (c->in->raw)
        ev_hconn_connect(c, true);
    ev_hconn_pace(c);
}

/* ---- time ---- */

static void too_late(struct hconn *c)
{
    switch (c->state) {
    case EV_HC_HEAD:
        if (ev_http1_idle(&c->req)) {
            ev_hconn_finish(c);
            return;
        }
        c->keep = c->is_head = false;
        make_ctx_id(c);
        ev_reply_message(c, 408, "the request did not come in time");
        return;
    case EV_HC_BODY:
        c->keep = false;
        if (app_full(c))
            ev_answer_lost(c, 504, "timed out");
        else
            ev_answer_lost(c, 408, "the request did not come in time");
        return;
    case EV_HC_ANSWER:
        ev_answer_lost(c, 504, "timed out");
        return;
    default:
        ev_hconn_close(c);
    }
}

/* A client that takes nothing is cut; while it is slow, the app's silence is our doing. */
void ev_hconn_tick(struct hconn *c, uint64_t now)
{
    size_t queued = c->client ? ev_stream_queued(c->client) : 0;

    if (c->state == EV_HC_HANDSHAKE || c->state == EV_HC_TUNNEL || c->state == EV_HC_CLOSED)
        return;                         /* they have deadlines of their own */
    if (queued != c->last_queued)
        c->moved_at = now;
    c->last_queued = queued;
    if (queued && now - c->moved_at >= c->in->times.stalled)
        ev_hconn_close(c);
    else if (queued == 0 && now >= c->deadline)
        too_late(c);
}
