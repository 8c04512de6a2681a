/* ingress.c — accepting, the list of connections, their clock. See ingress.h and hconn.h.
 *
 * Connections are freed one turn after they were closed, and the ingress after the last of them. */
#include "base/log.h"
#include "svc/hconn.h"

enum { DEFAULT_MAX_CONNECTIONS = 4096, TICK_MS = 250, TICK_MIN_MS = 10 };

static const struct ev_ingress_times default_times = {
    .head = 10 * 1000, .idle = 75 * 1000, .connect = 5 * 1000, .body = 60 * 1000, .answer = 120 * 1000,
    .silent = 3600 * 1000, .stalled = 60 * 1000, .linger = 2 * 1000,
};

static void set_times(struct ev_ingress_times *t, const struct ev_ingress_times *asked)
{
    *t = asked ? *asked : default_times;
#define OR_DEFAULT(field) t->field = t->field ? t->field : default_times.field
    OR_DEFAULT(head);
    OR_DEFAULT(idle);
    OR_DEFAULT(connect);
    OR_DEFAULT(body);
    OR_DEFAULT(answer);
    OR_DEFAULT(silent);
    OR_DEFAULT(stalled);
    OR_DEFAULT(linger);
#undef OR_DEFAULT
}

/* How often deadlines are looked at: fine enough for the shortest. */
static uint32_t tick_ms(const struct ev_ingress_times *t)
{
    uint32_t all[] = { t->head, t->idle, t->body, t->answer, t->silent, t->stalled, t->linger }, ms = TICK_MS;

    for (size_t i = 0; i < EV_COUNT(all); i++)
        if (all[i] / 4 < ms)
            ms = all[i] / 4;
    return ms < TICK_MIN_MS ? TICK_MIN_MS : ms;
}

/* Closing only marks a connection, so the list holds still. */
static void tick(void *ctx)
{
    struct ev_ingress *in = ctx;
    uint64_t now = ev_rt_now_ms(in->rt);

    for (struct hconn *c = in->conns; c; c = c->next)
        ev_hconn_tick(c, now);
}

static void ingress_free(struct ev_ingress *in)
{
    ev_free(in->key_digests);
    ev_buf_fini(&in->out);
    ev_buf_fini(&in->out_app);
    ev_free(in);
}

void ev_ingress_forget(struct ev_ingress *in, struct hconn *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        in->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (--in->n_conns > 0)
        return;
    ev_timer_stop(in->tick);
    in->tick = NULL;
    if (in->closed)
        ingress_free(in);
}

static void secured(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct hconn *c = ctx;
    if (!err) {
        ev_hconn_open(c, s);
        return;
    }
    ev_log(EV_DEBUG, "ingress", "TLS: %s", err->msg);
    c->client = NULL;                   /* gone already */
    ev_hconn_close(c);
}

static void accepted(void *ctx, struct ev_stream *s)
{
    struct ev_ingress *in = ctx;
    struct hconn *c;

    if (in->n_conns >= in->max_connections) {
        ev_log(EV_DEBUG, "ingress", "%u connections: one more was closed", in->max_connections);
        ev_stream_close(s);
        return;
    }
    c = ev_alloc(sizeof *c);
    c->in = in;
    c->state = EV_HC_HANDSHAKE;
    c->next = in->conns;
    if (c->next)
        c->next->prev = c;
    in->conns = c;
    if (in->n_conns++ == 0)
        in->tick = ev_timer_start(in->rt, tick_ms(&in->times), true, tick, in);
    if (in->tls)
        c->client = ev_tls_accept(in->tls, s, secured, c);
    else
        ev_hconn_open(c, s);
}

int ev_ingress_open_as(const struct ev_ingress_conf *conf, bool raw, struct ev_ingress **out, struct ev_err *err)
{
    struct ev_ingress *in = ev_alloc(sizeof *in);
    int rc;

    in->rt = conf->rt;
    in->tls = conf->tls;
    in->raw = raw;
    in->api_key_auth = conf->api_key_auth;
    in->attestation = conf->attestation;
    in->ctx = conf->ctx;
    in->max_connections = conf->max_connections ? conf->max_connections : DEFAULT_MAX_CONNECTIONS;
    set_times(&in->times, conf->times);
    ev_buf_init(&in->out, EV_HCONN_OUT_MAX);
    ev_buf_init(&in->out_app, EV_HCONN_OUT_MAX);
    if (conf->n_key_digests) {
        in->key_digests = ev_alloc(conf->n_key_digests * sizeof *in->key_digests);
        memcpy(in->key_digests, conf->key_digests, conf->n_key_digests * sizeof *in->key_digests);
        in->n_key_digests = conf->n_key_digests;
    }
    EV_TRY(ev_listen_fd(in->rt, conf->take_listen_fd, accepted, in, &in->listener, err));
    in->pool = ev_upool_new(in->rt, &conf->app, in->times.connect);
    *out = in;
    return 0;
out:
    ev_err_wrap(err, "ingress");
    ingress_free(in);
    return rc;
}

int ev_ingress_open(const struct ev_ingress_conf *conf, struct ev_ingress **out, struct ev_err *err)
{
    return ev_ingress_open_as(conf, !conf->tls, out, err);
}

void ev_ingress_close(struct ev_ingress *in)
{
    if (!in)
        return;
    ev_listener_close(in->listener);
    in->closed = true;
    for (struct hconn *c = in->conns; c; c = c->next)
        ev_hconn_close(c);
    ev_upool_free(in->pool);
    in->pool = NULL;
    if (in->n_conns == 0)
        ingress_free(in);
}
