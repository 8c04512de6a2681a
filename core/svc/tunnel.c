/* tunnel.c — raw bytes both ways: after a 101, and for everything when TLS is not ended here. The two
 * streams are handed to a relay; each side may end alone, and the other goes on. */
#include "svc/hconn.h"

static void relayed(void *ctx)
{
    struct hconn *c = ctx;

    c->relay = NULL;
    ev_hconn_close(c);
}

void ev_tunnel_start(struct hconn *c, ev_slice from_app)
{
    struct ev_stream *client = c->client, *app = c->up->stream;
    int rc = ev_stream_write(app, ev_buf_slice(&c->pending));

    if (rc == 0)
        rc = ev_stream_write(client, from_app);
    c->state = EV_HC_TUNNEL;
    ev_buf_fini(&c->pending);
    c->up->stream = c->client = NULL;
    ev_upool_drop(c->up);
    c->up = NULL;
    c->relay = ev_relay_start(c->in->rt, client, app, relayed, c);
    ev_relay_set_idle(c->relay, c->in->times.silent);
    if (rc < 0)
        ev_hconn_close(c);
}
