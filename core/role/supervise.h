/* supervise.h — the app's processes, seen from the runtime.
 *
 *   PID 1 (runtime) ──clone+exec──▶ appinit: pid 1 of the app's namespaces ──fork──▶ app, pid 2
 *            └──────── control socket ────────┘
 *
 *   prepared (contained, nothing of the app has run) ──start──▶ running ──▶ exited
 *
 * appinit is our own binary, executed afresh from a read-only mount of its file: it holds no memory
 * of the runtime, no descriptor but the control socket, and /proc/self/exe cannot be written through
 * it. It exists so that the app need not be an init: a program that is pid 1 ignores SIGTERM unless
 * it installed a handler and must reap orphans, which Node.js, Python and most others do not. */
#ifndef EV_ROLE_SUPERVISE_H
#define EV_ROLE_SUPERVISE_H

#include "net/loop.h"

enum { EV_APP_CTL_FD = 3, EV_APP_OUT_FD = 4 };      /* in appinit, nothing else above 2 */
enum { EV_APP_GRACE_MS = 10000, EV_APP_SETUP_MS = 20000, EV_APP_TEXT = 512 };

/* Control packets: a letter, then (signal: int32) or (exit: int32 wait status) or (error: int32
 * code, text). */
enum ev_app_op {
    EV_APP_BEGIN = 'B', EV_APP_GO = 'G', EV_APP_SIGNAL = 'T',              /* to appinit   */
    EV_APP_READY = 'R', EV_APP_STARTED = 'S', EV_APP_EXITED = 'X', EV_APP_ERROR = 'E'  /* from appinit */
};
struct ev_app_packet {
    char op;
    char text[EV_APP_TEXT];
    int32_t value;
};

struct ev_app;

/* Starts appinit and waits until the app is contained. out_fd: where the app's output goes. */
int ev_app_prepare(int out_fd, struct ev_app **out, struct ev_err *err) EV_MUST_USE;
/* Lets the app's first instruction run; `exited` fires once, on the loop. */
int ev_app_pid(const struct ev_app *a);
int ev_app_start(struct ev_app *a, struct ev_rt *rt, void (*exited)(void *ctx, int code, int signum), void *ctx,
                 struct ev_err *err) EV_MUST_USE;
/* SIGTERM now, SIGKILL after EV_APP_GRACE_MS. */
void ev_app_stop(struct ev_app *a);
void ev_app_signal(struct ev_app *a, int signum);
void ev_app_close(struct ev_app *a);                /* kills what is left; NULL is fine */

/* The other side: `/init app`. Never returns. */
void ev_appinit_main(void) __attribute__((noreturn));

#endif
