/* tunnel.c — raw bytes both ways: after a 101, and for everything when TLS is not ended here. Each
 * side may end alone; the other goes on. */
#include "svc/hconn.h"

static void passed(struct hconn *c)
{
    ev_hconn_wait(c, c->app_eof ? c->in->times.idle : c->in->times.silent);
    ev_hconn_pace(c);
}

void ev_tunnel_from_client(struct hconn *c, ev_slice bytes)
{
    if (bytes.n && ev_stream_write(c->up->stream, bytes) < 0)
        ev_hconn_close(c);
    else
        passed(c);
}

void ev_tunnel_from_app(struct hconn *c, ev_slice bytes)
{
    if (ev_hconn_send(c, bytes))
        passed(c);
}

void ev_tunnel_ended(struct hconn *c)
{
    if (c->client_eof)
        ev_stream_shutdown(c->up->stream);
    if (c->app_eof)
        ev_stream_shutdown(c->client);
    if (c->client_eof && c->app_eof && ev_stream_queued(c->client) == 0 && ev_stream_queued(c->up->stream) == 0)
        ev_hconn_close(c);
    else
        ev_hconn_pace(c);
}

void ev_tunnel_start(struct hconn *c)
{
    struct ev_buf early = c->pending;

    c->state = EV_HC_TUNNEL;
    ev_stream_set_cb(c->up->stream, &ev_answer_cb, c);
    ev_buf_init(&c->pending, EV_HCONN_PENDING_MAX);
    ev_tunnel_from_client(c, ev_buf_slice(&early));
    ev_buf_fini(&early);
    if (c->state == EV_HC_TUNNEL)
        ev_tunnel_ended(c);
}
