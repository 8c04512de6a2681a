/* answer.c — the app's side of an exchange: its answer is read, framed anew and passed to the client.
 *
 * Interim answers (103 …) go on to clients that know them; 100 is ours, the app's is dropped. An
 * answer without a length becomes chunks for HTTP/1.1 clients. An app that dies in the middle of an
 * answer takes the client's connection with it: nothing else tells the client. */
#include <stdio.h>

#include "svc/hconn.h"

/* The head as the client gets it. */
static int put_answer(struct hconn *c, struct ev_buf *out, enum ev_http1_body body, const char *connection)
{
    struct ev_http1_field set = { EV_LIT("x-evervault-cage-ctx"), ev_slice_str(c->ctx_id) };
    struct ev_http1_edit e = { .set = &set, .n_set = 1, .body = body, .length = c->res.head.length,
                               .connection = connection, .upgrade = c->res.head.status == 101 };

    return ev_http1_put_head(out, &c->res.head, &e);
}

static int put_interim(struct hconn *c, struct ev_buf *out)
{
    if (c->res.head.status == 101)
        return c->asked_upgrade ? put_answer(c, out, EV_HTTP1_NONE, "upgrade") : EV_EPARSE;
    if (c->res.head.status == 100 || c->old_client)
        return 0;
    return put_answer(c, out, EV_HTTP1_NONE, NULL);
}

static int put_final(struct hconn *c, struct ev_buf *out)
{
    enum ev_http1_body body = c->res.head.body;

    if (body == EV_HTTP1_UNTIL_EOF && !c->old_client)
        body = EV_HTTP1_CHUNKED;
    if (body == EV_HTTP1_CHUNKED && c->old_client)
        body = EV_HTTP1_UNTIL_EOF;
    if (body == EV_HTTP1_UNTIL_EOF || !c->sent)     /* answered before the request was all there */
        c->keep = false;
    c->chunk_out = body == EV_HTTP1_CHUNKED;
    c->answering = true;
    return put_answer(c, out, body, c->keep ? "keep-alive" : "close");
}

static int put_data(struct hconn *c, struct ev_buf *out, ev_slice data)
{
    int rc;

    if (!c->chunk_out)
        return ev_buf_put_slice(out, data);
    EV_TRY(ev_http1_put_chunk(out, data.n));
    EV_TRY(ev_buf_put_slice(out, data));
    EV_TRY(ev_buf_puts(out, "\r\n"));
out:
    return rc;
}

/* Turns what the app sent into what the client gets. *ended: the final answer is complete, or a 101
 * was; the rest of *in is not part of it. */
static int translate(struct hconn *c, ev_slice *in, struct ev_buf *out, bool *ended, struct ev_err *err)
{
    ev_slice data;
    size_t used;
    int rc, event;

    for (*ended = false; !*ended;) {
        event = ev_http1_next(&c->res, *in, &used, &data, err);
        *in = ev_slice_of(in->n ? in->p + used : NULL, in->n - used);
        if (event <= 0)
            return event;
        if (event == EV_HTTP1_HEAD)
            EV_TRY(c->res.head.status < 200 ? put_interim(c, out) : put_final(c, out));
        else if (event == EV_HTTP1_DATA)
            EV_TRY(put_data(c, out, data));
        else
            *ended = c->res.head.status >= 200 || c->res.head.status == 101;
    }
    if (c->chunk_out)
        EV_TRY(ev_http1_put_last(out, c->res.trailers, c->res.n_trailers));
    return 0;
out:
    return ev_fail(err, rc, "the answer cannot be passed on");
}

/* The exchange is over. */
static void answered(struct hconn *c, bool reusable)
{
    if (reusable && c->sent && c->res.head.keep_alive && !c->app_eof && ev_stream_queued(c->up->stream) == 0)
        ev_upool_give(c->up);
    else
        ev_upool_drop(c->up);
    c->up = NULL;
    if (!c->sent)
        c->keep = false;
    ev_hconn_next(c);
    ev_hconn_resume(c);
}

static void app_data(void *ctx, ev_slice bytes)
{
    struct hconn *c = ctx;
    struct ev_buf *out = &c->in->out;
    struct ev_err err = EV_ERR_INIT;
    bool ended;
    int rc;

    c->can_retry = false;
    ev_buf_clear(out);
    rc = translate(c, &bytes, out, &ended, &err);
    if (c->answering)
        ev_hconn_wait(c, c->in->times.silent);
    if (!ev_hconn_send(c, ev_buf_slice(out)))
        return;
    if (rc < 0) {
        ev_answer_lost(c, 502, "the answer is malformed");
    } else if (ended && c->res.head.status == 101) {
        ev_tunnel_start(c, bytes);
    } else if (ended) {
        answered(c, bytes.n == 0);
    } else {
        ev_hconn_pace(c);
    }
}

static void app_eof(void *ctx)
{
    struct hconn *c = ctx;
    struct ev_buf *out = &c->in->out;

    c->app_eof = true;
    c->app_reading = false;
    if (ev_http1_eof(&c->res, NULL) != EV_HTTP1_END) {
        ev_answer_lost(c, 502, "the app closed the connection");
        return;
    }
    ev_buf_clear(out);
    if (c->chunk_out && ev_http1_put_last(out, NULL, 0) < 0)
        ev_hconn_close(c);
    else if (ev_hconn_send(c, ev_buf_slice(out)))
        answered(c, false);
}

static void app_fail(void *ctx, const struct ev_err *err)
{
    ev_answer_lost(ctx, 502, ev_err_text(err->code));
}

static void app_drained(void *ctx)
{
    ev_hconn_resume(ctx);
}

const struct ev_stream_cb ev_answer_cb = { app_data, app_eof, app_fail, app_drained };

/* A kept connection that the app had just ended is no failure of the app's: asked again on a new one. */
static bool ask_again(struct hconn *c)
{
    bool again = c->can_retry && c->up && c->up->reused;

    ev_upool_drop(c->up);
    c->up = NULL;
    if (again && ev_hconn_connect(c, true) == 0)
        ev_hconn_pace(c);
    return again;
}

void ev_answer_lost(struct hconn *c, int status, const char *why)
{
    char text[192];

    if (c->state == EV_HC_CLOSED || c->state == EV_HC_LINGER)
        return;
    if (c->in->raw || c->answering) {
        ev_hconn_close(c);
        return;
    }
    if (status >= 500 && ask_again(c))
        return;
    ev_upool_drop(c->up);
    c->up = NULL;
    snprintf(text, sizeof text, "%s%s", status >= 500 ? "Error requesting user process - " : "", why);
    ev_reply_message(c, status, text);
    ev_hconn_resume(c);
}
