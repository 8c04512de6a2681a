/* launch_common.c — see launch_common.h. */
#include "role/launch_common.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

enum { BOOT_MS = 90000, CONSOLE_CHUNK = 4096, CONSOLE_RETRY_MS = 20, LAST_WORDS = 64,
       EXIT_CODE_MAX = 255 };

static void end_watch(struct ev_watch **w)
{
    ev_watch_stop(*w);
    *w = NULL;
}

static void end_timer(struct ev_timer **t)
{
    ev_timer_stop(*t);
    *t = NULL;
}

static void end_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- console ------------------------------------------------------------------------------------ */

static void console_ready(void *ctx, int events);

static void console_resume(void *ctx)
{
    struct ev_launch *l = ctx;

    end_timer(&l->console_timer);
    l->console_watch = ev_watch_start(l->rt, l->console_read, EV_READABLE, console_ready, l);
}

static void keep_tail(struct ev_launch *l, const char *chunk, size_t n)
{
    size_t old = n >= EV_LAUNCH_TAIL ? 0 : EV_LAUNCH_TAIL - n, from = l->n_tail > old ? l->n_tail - old : 0;

    if (n > EV_LAUNCH_TAIL)
        chunk += n - EV_LAUNCH_TAIL, n = EV_LAUNCH_TAIL;
    memmove(l->tail, l->tail + from, l->n_tail - from);
    l->n_tail -= from;
    for (size_t i = 0; i < n; i++)
        l->tail[l->n_tail++] = chunk[i] ? chunk[i] : ' ';
    l->tail[l->n_tail] = 0;
    if (l->kind->heard)
        l->kind->heard(l);
}

enum copied { COPIED, NOTHING_YET, NOBODY_TAKES, ENDED };

/* One chunk. The reader of console_out may be this very loop, so we never wait for it: a pipe that is
 * writable takes a page. */
static enum copied console_copy(struct ev_launch *l)
{
    struct pollfd out = { l->console_out, POLLOUT, 0 };
    char chunk[CONSOLE_CHUNK];
    ssize_t n;

    if (l->console_out >= 0 && poll(&out, 1, 0) == 0)
        return NOBODY_TAKES;
    n = read(l->console_read, chunk, sizeof(chunk));
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? NOTHING_YET : ENDED;
    if (l->console_out >= 0 && ev_write_all(l->console_out, chunk, (size_t)n) < 0)
        end_fd(&l->console_out);                    /* nobody listens any more: drop the rest */
    keep_tail(l, chunk, (size_t)n);
    return COPIED;
}

static void console_ready(void *ctx, int events)
{
    struct ev_launch *l = ctx;
    enum copied c = console_copy(l);

    (void)events;
    if (c == COPIED || c == NOTHING_YET)
        return;
    end_watch(&l->console_watch);
    if (c == NOBODY_TAKES)
        l->console_timer = ev_timer_start(l->rt, CONSOLE_RETRY_MS, false, console_resume, l);
}

static void console_drain(struct ev_launch *l)
{
    for (int i = 0; i < LAST_WORDS && l->console_read >= 0 && console_copy(l) == COPIED; i++)
        ;
}

/* --- the end ------------------------------------------------------------------------------------ */

static void stop_watching(struct ev_launch *l)
{
    end_watch(&l->pid_watch);
    end_watch(&l->console_watch);
    end_timer(&l->boot_timer);
    end_timer(&l->end_timer);
    end_timer(&l->console_timer);
}

/* The enclave's own words, if it could still send them ("exit code=N signal=N reason=…"). They
 * become our exit code and a line on a terminal: a report that no runtime makes is not heard, and no
 * control character. */
static void read_report(struct ev_launch *l, struct ev_launch_end *end)
{
    const char *line = l->kind->report(l), *reason;
    int c = 0, s = 0;

    if (sscanf(line, "exit code=%3d signal=%2d", &c, &s) != 2 || !(reason = strstr(line, " reason=")))
        return;
    if (c < 0 || c > EXIT_CODE_MAX || s < 0 || s >= NSIG)
        return;
    end->reported = true;
    end->code = c;
    end->signum = s;
    snprintf(end->why, sizeof(end->why), "%.*s", (int)strcspn(reason + 8, "\n"), reason + 8);
}

static void no_control(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
            *text = '?';
}

void ev_launch_finish(struct ev_launch *l)
{
    int signum = WIFSIGNALED(l->status) ? WTERMSIG(l->status) : 0;
    struct ev_launch_end end = { .signum = signum, .code = signum ? 128 + signum : WEXITSTATUS(l->status) };

    snprintf(end.why, sizeof(end.why),
             signum ? "the enclave was killed by signal %d" : "the enclave ended with code %d",
             signum ? signum : end.code);
    read_report(l, &end);
    if (l->killed_why[0])
        snprintf(end.why, sizeof(end.why), "%s", l->killed_why);
    console_drain(l);
    if (l->kind->explain)
        l->kind->explain(l, l->status, &end);
    no_control(end.why);
    stop_watching(l);
    l->on_exited(l->ctx, end.code, end.signum, end.why);
}

static void child_ended(void *ctx, int events)
{
    struct ev_launch *l = ctx;

    (void)events;
    if (waitpid(l->pid, &l->status, WNOHANG) != l->pid)
        return;
    l->pid = -1;
    end_watch(&l->pid_watch);
    if (!l->kind->ended || !l->kind->ended(l))
        ev_launch_finish(l);
}

void ev_launch_kill(struct ev_launch *l, const char *why)
{
    snprintf(l->killed_why, sizeof(l->killed_why), "%s", why);
    if (l->pid > 0)
        kill(l->pid, SIGKILL);                      /* PID 1 or QEMU: all of it ends */
}

static void boot_late(void *ctx)
{
    ev_launch_kill(ctx, "no heartbeat in time: the enclave was ended");
}

static void end_late(void *ctx)
{
    ev_launch_kill(ctx, "did not end in time after SIGTERM: the enclave was killed");
}

void ev_launch_heartbeat(void *launch)
{
    struct ev_launch *l = launch;

    if (l->booted)
        return;
    l->booted = true;
    end_timer(&l->boot_timer);
    if (l->on_booted)
        l->on_booted(l->ctx);
}

void ev_launch_reap(struct ev_launch *l)
{
    if (l->pid <= 0)
        return;
    kill(l->pid, SIGKILL);
    while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    l->pid = -1;
}

/* --- start -------------------------------------------------------------------------------------- */

static int check_image(const struct ev_launch_conf *conf, struct ev_image_info *info, struct ev_err *err)
{
    int rc = ev_image_describe(conf->eif_path, NULL, info, err);

    if (rc < 0)
        return rc;
    if (!info->crc_ok)
        return ev_fail_reason(err, EV_EVERIFY, "crc-mismatch", "%s: wrong CRC", conf->eif_path);
    if (info->is_signed && !info->signature_ok)
        return ev_fail_reason(err, EV_EVERIFY, "signature", "%s: %s", conf->eif_path, info->signature_error);
    return ev_image_check_layout(conf->eif_path, err);
}

/* The folder of the twin sockets, ours alone: the lock tells a running launcher's from a dead one's. */
static int open_dir(const char *dir, int *out, struct ev_err *err)
{
    struct stat st;
    int fd, rc = 0;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return ev_fail_errno(err, "create %s", dir);
    if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 || fstat(fd, &st) < 0)
        rc = ev_fail_errno(err, "open %s", dir);
    else if (st.st_uid != geteuid() || (st.st_mode & 077))
        rc = ev_fail(err, -EEXIST, "%s: is not a folder of ours alone", dir);
    else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        rc = ev_fail_errno(err, "%s: another cage runs there", dir);
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    ev_launch_remove_sockets(fd);                   /* of a launcher and a janitor that were both killed */
    *out = fd;
    return 0;
}

int ev_launch_open(struct ev_launch *l, const struct ev_launch_kind *kind, const struct ev_launch_conf *conf,
                   struct ev_image_info *info, struct ev_err *err)
{
    int image = -1, rc = 0;

    l->kind = kind;
    l->rt = conf->rt;
    l->dir_fd = l->pid = l->pid_fd = l->console_read = l->console_out = -1;
    l->janitor.pid = -1;
    l->accel = "sim";
    l->boot_ms = conf->boot_timeout_ms ? conf->boot_timeout_ms : BOOT_MS;
    l->on_booted = conf->booted;
    l->on_exited = conf->exited;
    l->ctx = conf->ctx;
    if (stat(conf->eif_path, &l->image) < 0 || (image = open(conf->eif_path, O_RDONLY | O_CLOEXEC)) < 0)
        rc = ev_fail_errno(err, "open %s", conf->eif_path);
    EV_TRY(rc);
    EV_TRY(check_image(conf, info, err));
    EV_TRY(open_dir(conf->dir, &l->dir_fd, err));
    l->dir = ev_strdup(conf->dir);
    EV_TRY(ev_janitor_start(l->dir, l->dir_fd, &l->janitor, err));
    if (conf->console_fd >= 0 && (l->console_out = fcntl(conf->console_fd, F_DUPFD_CLOEXEC, 3)) < 0)
        rc = ev_fail_errno(err, "console");
    EV_TRY(rc);
    return image;
out:
    if (image >= 0)
        close(image);
    return rc;
}

int ev_launch_unchanged(const struct ev_launch *l, const char *path, struct ev_err *err)
{
    const struct stat *then = &l->image;
    struct stat now;

    if (stat(path, &now) == 0 && now.st_dev == then->st_dev && now.st_ino == then->st_ino &&
        now.st_size == then->st_size && memcmp(&now.st_mtim, &then->st_mtim, sizeof(now.st_mtim)) == 0 &&
        memcmp(&now.st_ctim, &then->st_ctim, sizeof(now.st_ctim)) == 0)
        return 0;
    return ev_fail_reason(err, EV_EVERIFY, "image-changed", "%s: was changed while it was read", path);
}

int ev_launch_nsm(const struct ev_launch_conf *conf, const struct ev_image_info *info, struct ev_nsm_sim **out,
                  struct ev_err *err)
{
    struct ev_nsm_sim_conf nsm = { .root = conf->root, .root_key = conf->root_key, .pcrs = info->pcrs,
                                   .debug = conf->debug };

    return ev_nsm_sim_new(&nsm, out, err);
}

int ev_launch_watch(struct ev_launch *l, int pid, int take_console, struct ev_err *err)
{
    int rc;

    stop_watching(l);
    end_fd(&l->pid_fd);
    end_fd(&l->console_read);
    l->pid = pid;
    l->console_read = take_console;
    if ((l->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0)) < 0)
        return ev_fail_errno(err, "watch the enclave");
    if ((rc = ev_janitor_watch(&l->janitor, pid, err)) < 0)
        return rc;
    l->pid_watch = ev_watch_start(l->rt, l->pid_fd, EV_READABLE, child_ended, l);
    l->console_watch = ev_watch_start(l->rt, l->console_read, EV_READABLE, console_ready, l);
    l->boot_timer = ev_timer_start(l->rt, l->boot_ms, false, boot_late, l);
    return 0;
}

const char *ev_launch_accel(const struct ev_launch *l) { return l->accel; }

void ev_launch_signal(struct ev_launch *l, int signum)
{
    if (l->pid <= 0)
        return;
    if (!l->signalled)
        l->signalled = signum;
    if (!l->booted) {                               /* no signal of ours would be heard yet */
        ev_launch_kill(l, "ended before it had booted");
        return;
    }
    kill(l->pid, signum);
    if (!l->end_timer && signum != SIGKILL)
        l->end_timer = ev_timer_start(l->rt, l->kind->end_ms, false, end_late, l);
}

void ev_launch_close(struct ev_launch *l)
{
    if (!l)
        return;
    stop_watching(l);
    ev_launch_reap(l);
    l->kind->close(l);
    ev_nsm_sim_free(l->nsm);
    end_fd(&l->pid_fd);
    end_fd(&l->console_read);
    end_fd(&l->console_out);
    if (l->dir_fd >= 0) {
        ev_launch_remove_dir(l->dir_fd, l->dir);
        close(l->dir_fd);
    }
    ev_janitor_stop(&l->janitor);
    ev_free(l->dir);
    ev_free(l);
}
