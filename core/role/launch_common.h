/* launch_common.h — what the launchers of this machine share (launch.h): the folder of the twins and
 * its janitor, the child, its console, the deadlines, the end.
 *
 *   opened ──▶ watched (child runs) ──▶ booted (heartbeat) ──▶ exited ──▶ closed
 *
 * A launcher's own structure begins with a struct ev_launch, so that closing frees both. */
#ifndef EV_ROLE_LAUNCH_COMMON_H
#define EV_ROLE_LAUNCH_COMMON_H

#include <sys/stat.h>

#include "nitro/image.h"
#include "nitro/nsm_sim.h"
#include "role/launch.h"

enum { EV_LAUNCH_TAIL = 4096, EV_LAUNCH_WHY = 1024 };

/* The janitor kills the child it was told of last and removes the sockets in the folder and the folder
 * if we die without ev_janitor_stop. */
struct ev_janitor { int pid, pipe; };
int ev_janitor_start(const char *dir, int dir_fd, struct ev_janitor *out, struct ev_err *err) EV_MUST_USE;
int ev_janitor_watch(const struct ev_janitor *j, int pid, struct ev_err *err) EV_MUST_USE;
void ev_janitor_stop(struct ev_janitor *j);
/* Sockets in it, then the folder; nothing else is ever removed. System calls only. */
void ev_launch_remove_sockets(int dir_fd);
void ev_launch_remove_dir(int dir_fd, const char *path);

/* How a child ended, for people and for `exited`. */
struct ev_launch_end {
    int code, signum;
    bool reported;                          /* code, signum and why are the enclave's own words */
    char why[EV_LAUNCH_WHY];
};

struct ev_launch_kind {
    const char *name;                       /* begins errors: "simulator" */
    uint64_t end_ms;                        /* from a signal to SIGKILL */
    /* The line of the exit report, "" when there is none. */
    const char *(*report)(struct ev_launch *l);
    /* The child has ended and was collected. true: the launcher goes on and calls ev_launch_finish
     * itself, or has started another child. May be NULL. */
    bool (*ended)(struct ev_launch *l);
    /* Has the last word about an end, e.g. that there was no report. May be NULL. */
    void (*explain)(struct ev_launch *l, int status, struct ev_launch_end *end);
    void (*heard)(struct ev_launch *l);     /* the console said something; may be NULL */
    void (*close)(struct ev_launch *l);     /* the launcher's own parts; the child is gone */
};

struct ev_launch {
    const struct ev_launch_kind *kind;
    struct ev_rt *rt;
    char *dir;
    int dir_fd, pid, pid_fd, status, console_read, console_out;
    bool booted;
    int signalled;                          /* the first signal that was asked for, or 0 */
    uint64_t boot_ms;
    struct stat image;                      /* as it was before it was opened */
    const char *accel;                      /* ev_launch_accel */
    struct ev_janitor janitor;
    struct ev_nsm_sim *nsm;
    struct ev_watch *pid_watch, *console_watch;
    struct ev_timer *boot_timer, *end_timer, *console_timer;
    char killed_why[128];
    char tail[EV_LAUNCH_TAIL + 1];          /* the last of the console, and NUL */
    size_t n_tail;
    void (*on_booted)(void *ctx);
    void (*on_exited)(void *ctx, int code, int signum, const char *why);
    void *ctx;
};

/* The image is opened, checked and described into *info (the caller ends that), the folder made and
 * locked; `l` was zeroed memory. → descriptor of the image; on failure the caller closes the launch. */
int ev_launch_open(struct ev_launch *l, const struct ev_launch_kind *kind, const struct ev_launch_conf *conf,
                   struct ev_image_info *info, struct ev_err *err) EV_MUST_USE;
/* The measurements are of one reading and the enclave runs another: a build in between must not come to
 * run under the measurements of the one before. To be called behind the second. */
int ev_launch_unchanged(const struct ev_launch *l, const char *path, struct ev_err *err) EV_MUST_USE;
/* An NSM simulator with the PCRs of the image. */
int ev_launch_nsm(const struct ev_launch_conf *conf, const struct ev_image_info *info, struct ev_nsm_sim **out,
                  struct ev_err *err) EV_MUST_USE;
/* The child runs: its end, its console and the deadline of its boot are watched from now on. */
int ev_launch_watch(struct ev_launch *l, int pid, int take_console, struct ev_err *err) EV_MUST_USE;
void ev_launch_heartbeat(void *launch);
/* The child is ended at once; `why` is what will be said of it. */
void ev_launch_kill(struct ev_launch *l, const char *why);
/* Says how it ended, exactly once. */
void ev_launch_finish(struct ev_launch *l);
/* Kills and collects the child, if there is one. */
void ev_launch_reap(struct ev_launch *l);

#endif
