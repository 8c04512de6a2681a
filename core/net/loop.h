/* loop.h — the one event loop of a process. libuv inside; svc and script never include uv.h.
 *
 * Close is idempotent; memory goes back only after libuv's close callback; a callback never fires
 * inside the call that started it. */
#ifndef EV_NET_LOOP_H
#define EV_NET_LOOP_H

#include "base/err.h"
#include "base/mem.h"

struct ev_rt;

int ev_rt_new(struct ev_rt **out, struct ev_err *err) EV_MUST_USE;
void ev_rt_free(struct ev_rt *rt);          /* everything must have been closed */
int ev_rt_run(struct ev_rt *rt);            /* until ev_rt_stop or nothing is left */
int ev_rt_run_once(struct ev_rt *rt);       /* one turn, blocking; > 0: more to come */
void ev_rt_stop(struct ev_rt *rt);
uint64_t ev_rt_now_ms(struct ev_rt *rt);    /* monotonic */
size_t ev_rt_open_handles(struct ev_rt *rt);        /* for leak checks in tests */

struct ev_timer;                            /* repeating or single; the owner stops it in both cases */
struct ev_timer *ev_timer_start(struct ev_rt *rt, uint64_t ms, bool repeat, void (*cb)(void *), void *ctx);
void ev_timer_stop(struct ev_timer *t);     /* closes and frees; NULL is fine */

struct ev_signal;                           /* start: NULL when the signal cannot be watched */
struct ev_signal *ev_signal_start(struct ev_rt *rt, int signum, void (*cb)(void *, int), void *ctx);
void ev_signal_stop(struct ev_signal *s);

/* Readiness of a descriptor we own elsewhere; one in error counts as ready. start: NULL when it cannot
 * be watched. */
struct ev_watch;
enum { EV_READABLE = 1, EV_WRITABLE = 2 };
struct ev_watch *ev_watch_start(struct ev_rt *rt, int fd, int events, void (*cb)(void *, int), void *ctx);
void ev_watch_stop(struct ev_watch *w);

/* Work on the thread pool: `work` there, `done` on the loop. */
void ev_work_start(struct ev_rt *rt, void (*work)(void *), void (*done)(void *), void *ctx);
/* Runs cb at the next turn. */
void ev_defer(struct ev_rt *rt, void (*cb)(void *), void *ctx);

/* Child processes. Any of in/out/err: -1 = /dev/null, else a descriptor to dup onto 0, 1, 2. */
struct ev_process;
struct ev_process_conf {
    const char *const *argv;                /* NULL-terminated; argv[0] searched in PATH */
    const char *const *env;                 /* NULL-terminated or NULL = ours */
    const char *cwd;                        /* or NULL */
    int fd_in, fd_out, fd_err;
    bool new_session;
};
int ev_process_start(struct ev_rt *rt, const struct ev_process_conf *conf,
                     void (*exited)(void *, int status, int signum), void *ctx,
                     struct ev_process **out, struct ev_err *err) EV_MUST_USE;
int ev_process_pid(const struct ev_process *p);
void ev_process_kill(struct ev_process *p, int signum);
void ev_process_close(struct ev_process *p);    /* forgets it (does not kill; no zombie); NULL is fine */

#endif
