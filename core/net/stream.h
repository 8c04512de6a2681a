/* stream.h — one byte stream over TCP, Unix socket, vsock, or TLS on top of one of them.
 *
 *     connecting ──▶ open ──▶ (read_eof / write_shut in any order) ──▶ closed
 *
 * A stream is closed exactly once by its owner; `on_close` style notifications do not exist: after
 * ev_stream_close no callback fires. Reads are pull-paced: data arrives only between read_start and
 * read_stop. Writes copy what the kernel does not take at once; `ev_stream_queued` tells how much,
 * and the drained callback fires when it falls to zero (back-pressure is the caller's). */
#ifndef EV_NET_STREAM_H
#define EV_NET_STREAM_H

#include "net/addr.h"
#include "net/loop.h"

struct ev_stream;
struct ev_tls_ctx;

struct ev_stream_cb {
    void (*data)(void *ctx, ev_slice bytes);            /* bytes borrowed for the call */
    void (*eof)(void *ctx);                             /* peer will send no more */
    void (*fail)(void *ctx, const struct ev_err *err);  /* stream is dead; close it */
    void (*drained)(void *ctx);
};

/* timeout 0 = 30 s, for all of it: name, every address. `pending` may be NULL; closing it before done
 * cancels, silently. When done gets an error, it is gone. */
int ev_stream_connect(struct ev_rt *rt, const struct ev_addr *to, uint64_t timeout_ms,
                      void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err),
                      void *ctx, struct ev_stream **pending, struct ev_err *err) EV_MUST_USE;
/* Adopts a connected socket (any family). */
int ev_stream_from_fd(struct ev_rt *rt, int take_fd, struct ev_stream **out, struct ev_err *err) EV_MUST_USE;
void ev_stream_set_cb(struct ev_stream *s, const struct ev_stream_cb *cb, void *ctx);
void ev_stream_read_start(struct ev_stream *s);
void ev_stream_read_stop(struct ev_stream *s);
/* Bytes of the last data that belong to whoever reads next (TLS, a relay): delivered first. */
void ev_stream_unread(struct ev_stream *s, ev_slice bytes);
int ev_stream_write(struct ev_stream *s, ev_slice bytes) EV_MUST_USE;   /* -ENOBUFS past 16 MiB queued */
size_t ev_stream_queued(const struct ev_stream *s);
void ev_stream_shutdown(struct ev_stream *s);           /* after what is queued: FIN / close_notify */
/* Idempotent via NULL; frees later. After a shutdown what is queued is still written, for 5 s at most;
 * without one it is dropped. */
void ev_stream_close(struct ev_stream *s);
int ev_stream_peer(const struct ev_stream *s, struct ev_addr *out);

struct ev_listener;
/* A unix: listener unlinks a stale socket first and its path at close. mode of the socket 0600. */
int ev_listen(struct ev_rt *rt, const struct ev_addr *at, void (*accepted)(void *ctx, struct ev_stream *s),
              void *ctx, struct ev_listener **out, struct ev_err *err) EV_MUST_USE;
int ev_listen_fd(struct ev_rt *rt, int take_fd, void (*accepted)(void *ctx, struct ev_stream *s),
                 void *ctx, struct ev_listener **out, struct ev_err *err) EV_MUST_USE;   /* already listening */
int ev_listener_addr(const struct ev_listener *l, struct ev_addr *out);     /* the port that was chosen */
void ev_listener_close(struct ev_listener *l);

/* Two streams become one pipe with half-close and bounded buffers (64 KiB a direction); both are
 * consumed. done: both directions ended, or one stream failed. The handle may be ignored; it is dead
 * once done was called or ev_relay_close returned. */
struct ev_relay;
struct ev_relay *ev_relay_start(struct ev_rt *rt, struct ev_stream *take_a, struct ev_stream *take_b,
                                void (*done)(void *ctx), void *ctx);
void ev_relay_set_idle(struct ev_relay *r, uint64_t ms);    /* ends it after so long without a byte; 0 = never */
void ev_relay_close(struct ev_relay *r);                    /* both streams; done is not called */

#endif
