/* reply.c — answers of our own: refusals as {"message": …}, and the attestation document. */
#include <stdio.h>

#include "svc/hconn.h"

enum { DOCUMENT_MAX = 64 * 1024 };

/* What is still to come of the request would have to be read before the next one: better to end. */
static bool unread(const struct hconn *c)
{
    return c->state != EV_HC_ANSWER && c->req.head.body != EV_HTTP1_NONE;
}

static int put_reply(struct hconn *c, struct ev_buf *out, int status, const char *more, ev_slice body)
{
    int rc;

    EV_TRY(ev_buf_printf(out, "HTTP/1.1 %d %s\r\n%scontent-length: %zu\r\nx-evervault-cage-ctx: %s\r\n", status,
                         ev_http1_reason(status), more, body.n, c->ctx_id));
    EV_TRY(ev_buf_printf(out, "connection: %s\r\n\r\n", c->keep ? "keep-alive" : "close"));
    if (!c->is_head)
        EV_TRY(ev_buf_put_slice(out, body));
out:
    return rc;
}

static void reply(struct hconn *c, int status, const char *more, ev_slice body)
{
    struct ev_buf *out = &c->in->out;

    if (unread(c))
        c->keep = false;
    ev_buf_clear(out);
    if (put_reply(c, out, status, more, body) < 0) {
        ev_hconn_close(c);
        return;
    }
    if (!ev_hconn_send(c, ev_buf_slice(out)))
        return;
    if (!c->keep || c->state == EV_HC_ANSWER)
        ev_hconn_next(c);
    else
        c->state = EV_HC_REPLIED;       /* until the reader says END */
}

/* `message` is ours: nothing in it needs escaping. */
void ev_reply_message(struct hconn *c, int status, const char *message)
{
    char body[256];

    snprintf(body, sizeof body, "{\"message\":\"%s\"}", message);
    reply(c, status, "content-type: application/json\r\n", ev_slice_str(body));
}

static int put_document(struct hconn *c, struct ev_buf *body, struct ev_err *err)
{
    struct ev_buf doc = EV_BUF_INIT(DOCUMENT_MAX);
    int rc;

    EV_TRY(c->in->attestation(c->in->ctx, &doc, err));
    if (doc.n == 0)
        EV_TRY(ev_fail(err, EV_EMISSING, "no document"));
    EV_TRY(ev_buf_printf(body, "{\"attestation_doc\":\"%s\"}", ev_buf_str(&doc)));
out:
    ev_buf_fini(&doc);
    return rc;
}

/* Never 200 without a document: clients keep it. */
void ev_reply_attestation(struct hconn *c)
{
    static const char more[] = "content-type: application/json\r\naccess-control-allow-origin: *\r\n";
    struct ev_buf body = EV_BUF_INIT(DOCUMENT_MAX + 64);
    struct ev_err err = EV_ERR_INIT;

    if (!c->in->attestation)
        ev_reply_message(c, 404, "No attestation document is served here");
    else if (!c->is_head && !ev_slice_eq(c->req.head.method, EV_LIT("GET")))
        reply(c, 405, "allow: GET, HEAD\r\ncontent-type: application/json\r\n",
              EV_LIT("{\"message\":\"Method not allowed\"}"));
    else if (put_document(c, &body, &err) < 0)
        ev_reply_message(c, 500, "The attestation document could not be made");
    else
        reply(c, 200, more, ev_buf_slice(&body));
    ev_buf_fini(&body);
}
