/* hconn.h — one client's connection, from accept to its end; for the files of core/svc only.
 *
 *     HANDSHAKE -> HEAD -> judge -+-> REPLIED (our own answer) ---------+-> HEAD (next request)
 *                                 +-> CONNECT -> BODY -> ANSWER (app's) -+-> LINGER -> closed
 *                                        |                  |
 *                                   raw: +------> TUNNEL <--+ 101         TUNNEL -> closed
 *
 * hconn.c reads requests and passes them on, answer.c passes the app's answers back, reply.c makes
 * our own, tunnel.c hands both streams to a relay. A step that comes later (decrypt, log, PROXY v2) goes
 * among the steps of on_head in hconn.c, or where these files call one another. */
#ifndef EV_SVC_HCONN_H
#define EV_SVC_HCONN_H

#include "codec/http1.h"
#include "svc/ingress.h"
#include "svc/upstream.h"

enum {
    EV_HCONN_HIGH = 64 * 1024,          /* queued bytes of a direction at which its source is paused */
    EV_HCONN_PENDING_MAX = 1 << 20,     /* what came in before we asked it to stop: one read of any stream */
    EV_HCONN_OUT_MAX = 4 << 20,         /* one read, framed anew */
    EV_CTX_ID_BYTES = 16
};

enum ev_hconn_state { EV_HC_HANDSHAKE, EV_HC_HEAD, EV_HC_REPLIED, EV_HC_CONNECT, EV_HC_BODY, EV_HC_ANSWER,
                      EV_HC_TUNNEL, EV_HC_LINGER, EV_HC_CLOSED };

struct ev_ingress {
    struct ev_rt *rt;
    struct ev_listener *listener;
    struct ev_tls_ctx *tls;
    bool raw;                           /* TLS is not ended here: bytes are passed on as they are */
    bool api_key_auth, closed;
    uint8_t (*key_digests)[64];
    size_t n_key_digests;
    int (*attestation)(void *ctx, struct ev_buf *out, struct ev_err *err);
    void *ctx;
    uint32_t max_connections;
    struct ev_ingress_times times;
    struct ev_upool *pool;
    struct ev_timer *tick;              /* runs while there are connections */
    struct hconn *conns;
    size_t n_conns;
    uint8_t random[32 * EV_CTX_ID_BYTES];       /* for the next ids; no secret */
    size_t n_random;
    struct ev_buf out, out_app;         /* what one callback makes for a client, for the app: written at once */
};

struct hconn {
    struct ev_ingress *in;
    struct hconn *prev, *next;
    enum ev_hconn_state state;
    struct ev_stream *client;           /* NULL in TUNNEL */
    struct ev_relay *relay;             /* TUNNEL */
    struct ev_http1 req, res;
    struct ev_buf pending;              /* came in, not yet looked at */
    bool running;                       /* inside run(): who asks for more is served by its loop */
    bool client_reading, client_eof;
    /* the exchange */
    struct ev_upconn *up;
    bool app_reading, app_eof;
    struct ev_buf head_out;             /* the request's head, until the app has begun to answer */
    char ctx_id[2 * EV_CTX_ID_BYTES + 1];
    bool is_head;                       /* the request was HEAD */
    bool old_client;                    /* it spoke HTTP/1.0 */
    bool keep;                          /* the client's connection may live on */
    bool can_retry;                     /* the request may be sent again on another connection */
    bool asked_upgrade;
    bool sent;                          /* all of the request went to the app */
    bool chunk_in, chunk_out;           /* request, answer go on in chunks */
    bool answering;                     /* a byte of the final answer went to the client */
    /* time */
    uint64_t deadline;
    size_t last_queued;
    uint64_t moved_at;                  /* when the client last took something of the queue */
};

/* ingress.c */
/* ev_ingress_open is this with raw = "no TLS"; tests speak HTTP without TLS through it. */
int ev_ingress_open_as(const struct ev_ingress_conf *conf, bool raw, struct ev_ingress **out, struct ev_err *err)
    EV_MUST_USE;
void ev_ingress_forget(struct ev_ingress *in, struct hconn *c);

/* hconn.c */
void ev_hconn_open(struct hconn *c, struct ev_stream *client);      /* after the handshake */
void ev_hconn_tick(struct hconn *c, uint64_t now);
void ev_hconn_close(struct hconn *c);                               /* at once; freed at the next turn */
void ev_hconn_finish(struct hconn *c);                              /* nothing more to say: end, then linger */
void ev_hconn_resume(struct hconn *c);                              /* something changed: read on if we can */
void ev_hconn_pace(struct hconn *c);                                /* reading on or off, both sides */
void ev_hconn_next(struct hconn *c);                                /* the answer is out: next request, or finish */
void ev_hconn_wait(struct hconn *c, uint32_t ms);
bool ev_hconn_send(struct hconn *c, ev_slice bytes);                /* to the client; false: closed */
int ev_hconn_connect(struct hconn *c, bool fresh);

/* answer.c */
extern const struct ev_stream_cb ev_answer_cb;                      /* of the app's stream; ctx = hconn */
void ev_answer_lost(struct hconn *c, int status, const char *why);  /* the app is gone or too slow */

/* reply.c */
void ev_reply_message(struct hconn *c, int status, const char *message);
void ev_reply_attestation(struct hconn *c);

/* tunnel.c */
/* From here on a relay owns both streams; from_app is what the app sent already. */
void ev_tunnel_start(struct hconn *c, ev_slice from_app);

#endif
