/* launch_sim.c — the launcher of the simulator (launch.h, launch_sim.h).
 *
 *   checked (CRC, signature) → spawned → booted (heartbeat) → exited → closed
 *
 * The NSM simulator and the development keys stay in this process; the enclave has descriptors. */
#include "role/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "nitro/image.h"
#include "nitro/nsm.h"
#include "nitro/nsm_sim.h"
#include "role/launch_sim.h"

enum { BOOT_MS = 90000, END_MS = 15000, CONSOLE_CHUNK = 4096, CONSOLE_RETRY_MS = 20, LAST_WORDS = 64, WHY_LEN = 512,
       EXIT_CODE_MAX = 255 };

struct ev_launch {
    struct ev_rt *rt;
    char *dir;
    int dir_fd, pid, pid_fd, nsm_fd, console_read, console_out;
    bool booted, exited;
    struct ev_janitor janitor;
    struct ev_nsm_sim *nsm;
    struct ev_twin *twin;
    struct ev_watch *nsm_watch, *pid_watch, *console_watch;
    struct ev_timer *boot_timer, *end_timer, *console_timer;
    char killed_why[128];
    void (*on_booted)(void *ctx);
    void (*on_exited)(void *ctx, int code, int signum, const char *why);
    void *ctx;
};

/* --- NSM --------------------------------------------------------------------------------------- */

static void nsm_ready(void *ctx, int events)
{
    struct ev_launch *l = ctx;
    uint8_t request[EV_NSM_REQ_MAX + 1];
    struct ev_buf response = EV_BUF_INIT(EV_NSM_RESP_MAX);
    ssize_t n = recv(l->nsm_fd, request, sizeof(request), MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        ev_nsm_sim_handle(l->nsm, ev_slice_of(request, (size_t)n), &response);
        n = send(l->nsm_fd, response.p, response.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    ev_buf_fini(&response);
    if (n <= 0) {                                   /* the enclave is gone or does not read */
        ev_watch_stop(l->nsm_watch);
        l->nsm_watch = NULL;
    }
}

/* --- console ------------------------------------------------------------------------------------ */

static void console_ready(void *ctx, int events);

static void console_resume(void *ctx)
{
    struct ev_launch *l = ctx;

    ev_timer_stop(l->console_timer);
    l->console_timer = NULL;
    l->console_watch = ev_watch_start(l->rt, l->console_read, EV_READABLE, console_ready, l);
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
    if (l->console_out >= 0 && ev_write_all(l->console_out, chunk, (size_t)n) < 0) {
        close(l->console_out);                      /* nobody listens any more: drop the rest */
        l->console_out = -1;
    }
    return COPIED;
}

static void console_ready(void *ctx, int events)
{
    struct ev_launch *l = ctx;
    enum copied c = console_copy(l);

    (void)events;
    if (c == COPIED || c == NOTHING_YET)
        return;
    ev_watch_stop(l->console_watch);
    l->console_watch = NULL;
    if (c == NOBODY_TAKES)
        l->console_timer = ev_timer_start(l->rt, CONSOLE_RETRY_MS, false, console_resume, l);
}

static void console_drain(struct ev_launch *l)
{
    for (int i = 0; i < LAST_WORDS && console_copy(l) == COPIED; i++)
        ;
}

/* --- the end ------------------------------------------------------------------------------------ */

static void stop_watching(struct ev_launch *l)
{
    struct ev_watch **watches[] = { &l->nsm_watch, &l->pid_watch, &l->console_watch };
    struct ev_timer **timers[] = { &l->boot_timer, &l->end_timer, &l->console_timer };

    for (size_t i = 0; i < EV_COUNT(watches); i++) {
        ev_watch_stop(*watches[i]);
        *watches[i] = NULL;
    }
    for (size_t i = 0; i < EV_COUNT(timers); i++) {
        ev_timer_stop(*timers[i]);
        *timers[i] = NULL;
    }
}

/* The enclave's own words, if it could still send them ("exit code=N signal=N reason=…"). They
 * become our exit code and a line on a terminal: a report that no runtime makes is not heard, and no
 * control character. */
static void read_report(struct ev_launch *l, int *code, int *signum, char why[WHY_LEN])
{
    const char *line = ev_twin_report(l->twin), *reason;
    int c = 0, s = 0;

    if (sscanf(line, "exit code=%3d signal=%2d", &c, &s) != 2 || !(reason = strstr(line, " reason=")))
        return;
    if (c < 0 || c > EXIT_CODE_MAX || s < 0 || s >= NSIG)
        return;
    *code = c;
    *signum = s;
    snprintf(why, WHY_LEN, "%.*s", (int)strcspn(reason + 8, "\n"), reason + 8);
    for (char *p = why; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
            *p = '?';
}

static void child_ended(void *ctx, int events)
{
    struct ev_launch *l = ctx;
    char why[WHY_LEN];
    int status = 0, code, signum;

    (void)events;
    if (waitpid(l->pid, &status, WNOHANG) != l->pid)
        return;
    l->pid = -1;
    l->exited = true;
    signum = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    code = signum ? 128 + signum : WEXITSTATUS(status);
    snprintf(why, sizeof(why), signum ? "the enclave was killed by signal %d" : "the enclave ended with code %d",
             signum ? signum : code);
    read_report(l, &code, &signum, why);
    if (l->killed_why[0])
        snprintf(why, sizeof(why), "%s", l->killed_why);
    console_drain(l);
    stop_watching(l);
    l->on_exited(l->ctx, code, signum, why);
}

static void kill_because(struct ev_launch *l, const char *why)
{
    snprintf(l->killed_why, sizeof(l->killed_why), "%s", why);
    if (l->pid > 0)
        kill(l->pid, SIGKILL);                      /* PID 1: its whole namespace ends */
}

static void boot_late(void *ctx)
{
    kill_because(ctx, "no heartbeat in time: the enclave was ended");
}

static void end_late(void *ctx)
{
    kill_because(ctx, "did not end in time after SIGTERM: the enclave was killed");
}

static void heartbeat(void *ctx)
{
    struct ev_launch *l = ctx;

    if (l->booted)
        return;
    l->booted = true;
    ev_timer_stop(l->boot_timer);
    l->boot_timer = NULL;
    if (l->on_booted)
        l->on_booted(l->ctx);
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

/* Inside, the image is read by nobody in particular; one that others may not read is copied into
 * memory for that. */
static int open_eif(const char *path, struct ev_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), copy;
    struct stat st;
    ssize_t n = 1;

    if (fd < 0 || fstat(fd, &st) < 0)
        return ev_fail_errno(err, "open %s", path);
    if ((st.st_mode & S_IROTH) || geteuid() != 0)
        return fd;
    copy = memfd_create("eif", MFD_CLOEXEC);
    while (copy >= 0 && n > 0)
        n = sendfile(copy, fd, NULL, 1 << 20);
    close(fd);
    if (copy >= 0 && n == 0)
        return copy;
    if (copy >= 0)
        close(copy);
    return ev_fail_errno(err, "copy %s", path);
}

/* The measurements are of one reading and the enclave runs another: a build in between must not come to
 * run under the measurements of the one before. */
static int unchanged(const char *path, const struct stat *before, struct ev_err *err)
{
    struct stat now;

    if (stat(path, &now) == 0 && now.st_dev == before->st_dev && now.st_ino == before->st_ino &&
        now.st_size == before->st_size && memcmp(&now.st_mtim, &before->st_mtim, sizeof(now.st_mtim)) == 0 &&
        memcmp(&now.st_ctim, &before->st_ctim, sizeof(now.st_ctim)) == 0)
        return 0;
    return ev_fail_reason(err, EV_EVERIFY, "image-changed", "%s: was changed while it was read", path);
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
    ev_sim_remove_sockets(fd);                      /* of a launcher and a janitor that were both killed */
    *out = fd;
    return 0;
}

static uint64_t root_bytes(const struct ev_image_info *info)
{
    enum { RAMDISK = 3 };
    uint64_t sum = 0;

    for (size_t i = 0; i < info->n_sections && i < EV_COUNT(info->section); i++)
        if (info->section[i].type == RAMDISK)
            sum += info->section[i].size;
    return sum * 4 + (UINT64_C(1) << 30);           /* unpacked (maybe compressed), and room for the app */
}

static int start_nsm(struct ev_launch *l, const struct ev_launch_conf *conf, const struct ev_image_info *info,
                     struct ev_err *err)
{
    struct ev_nsm_sim_conf nsm = { .root = conf->root, .root_key = conf->root_key, .pcrs = info->pcrs,
                                   .debug = conf->debug };

    return ev_nsm_sim_new(&nsm, &l->nsm, err);
}

struct ends { int nsm[2], vsock[2], console[2], eif; };

static int make_ends(struct ends *e, struct ev_err *err)
{
    int rc = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->nsm) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->vsock) < 0 || pipe2(e->console, O_CLOEXEC) < 0 ||
        fcntl(e->console[0], F_SETFL, O_NONBLOCK) < 0)
        rc = ev_fail_errno(err, "descriptors of the enclave");
    return rc;
}

static void close_ends(struct ends *e)
{
    int all[] = { e->nsm[0], e->nsm[1], e->vsock[0], e->vsock[1], e->console[0], e->console[1], e->eif };

    for (size_t i = 0; i < EV_COUNT(all); i++)
        if (all[i] >= 0)
            close(all[i]);
}

static int take(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static void watch_all(struct ev_launch *l, struct ends *e, const struct ev_launch_conf *conf)
{
    struct ev_twin_conf twin = { .rt = l->rt, .dir = l->dir, .take_fd = take(&e->vsock[0]), .heartbeat = heartbeat,
                                 .ctx = l };

    l->nsm_fd = take(&e->nsm[0]);
    l->console_read = take(&e->console[0]);
    l->twin = ev_twin_open(&twin);
    l->nsm_watch = ev_watch_start(l->rt, l->nsm_fd, EV_READABLE, nsm_ready, l);
    l->pid_watch = ev_watch_start(l->rt, l->pid_fd, EV_READABLE, child_ended, l);
    l->console_watch = ev_watch_start(l->rt, l->console_read, EV_READABLE, console_ready, l);
    l->boot_timer = ev_timer_start(l->rt, conf->boot_timeout_ms ? conf->boot_timeout_ms : BOOT_MS, false, boot_late, l);
}

static int spawn(struct ev_launch *l, const struct ev_launch_conf *conf, int take_eif, uint64_t bytes,
                 struct ev_err *err)
{
    struct ends e = { { -1, -1 }, { -1, -1 }, { -1, -1 }, take_eif };
    struct ev_sim_spawn s;
    int rc;

    EV_TRY(make_ends(&e, err));
    s = (struct ev_sim_spawn){ .console = e.console[1], .nsm = e.nsm[1], .vsock = e.vsock[1], .eif = e.eif,
                               .root_bytes = bytes };
    EV_TRY(l->pid = ev_sim_spawn(&s, err));
    if ((l->pid_fd = (int)syscall(SYS_pidfd_open, l->pid, 0)) < 0)
        rc = ev_fail_errno(err, "watch the enclave");
    EV_TRY(rc);
    EV_TRY(ev_janitor_watch(&l->janitor, l->pid, err));
    watch_all(l, &e, conf);
out:
    close_ends(&e);
    return rc < 0 ? rc : 0;
}

int ev_launch_sim(const struct ev_launch_conf *conf, struct ev_launch **out, struct ev_err *err)
{
    struct ev_launch *l = ev_alloc(sizeof(*l));
    struct ev_image_info info;
    struct stat st;
    int eif = -1, rc = 0;

    memset(&info, 0, sizeof(info));
    l->rt = conf->rt;
    l->dir_fd = l->pid = l->pid_fd = l->nsm_fd = l->console_read = l->console_out = -1;
    l->janitor.pid = -1;
    l->on_booted = conf->booted;
    l->on_exited = conf->exited;
    l->ctx = conf->ctx;
    if (stat(conf->eif_path, &st) < 0)
        rc = ev_fail_errno(err, "open %s", conf->eif_path);
    EV_TRY(rc);
    EV_TRY(eif = open_eif(conf->eif_path, err));
    EV_TRY(check_image(conf, &info, err));
    EV_TRY(unchanged(conf->eif_path, &st, err));
    EV_TRY(open_dir(conf->dir, &l->dir_fd, err));
    l->dir = ev_strdup(conf->dir);
    EV_TRY(ev_janitor_start(l->dir, l->dir_fd, &l->janitor, err));
    if (conf->console_fd >= 0 && (l->console_out = fcntl(conf->console_fd, F_DUPFD_CLOEXEC, 3)) < 0)
        rc = ev_fail_errno(err, "console");
    EV_TRY(rc);
    EV_TRY(start_nsm(l, conf, &info, err));
    EV_TRY(spawn(l, conf, take(&eif), root_bytes(&info), err));
out:
    if (eif >= 0)
        close(eif);
    ev_image_info_fini(&info);
    if (rc < 0) {
        ev_err_wrap(err, "simulator");
        ev_launch_close(l);
        return rc;
    }
    *out = l;
    return 0;
}

void ev_launch_signal(struct ev_launch *l, int signum)
{
    if (l->pid <= 0)
        return;
    if (!l->booted) {                               /* no signal of ours would be heard yet */
        kill_because(l, "ended before it had booted");
        return;
    }
    kill(l->pid, signum);
    if (!l->end_timer && signum != SIGKILL)
        l->end_timer = ev_timer_start(l->rt, END_MS, false, end_late, l);
}

void ev_launch_close(struct ev_launch *l)
{
    int fds[] = { l ? l->pid_fd : -1, l ? l->nsm_fd : -1, l ? l->console_read : -1, l ? l->console_out : -1 };

    if (!l)
        return;
    stop_watching(l);
    if (l->pid > 0) {
        kill(l->pid, SIGKILL);
        while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    ev_twin_close(l->twin);
    ev_nsm_sim_free(l->nsm);
    for (size_t i = 0; i < EV_COUNT(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (l->dir_fd >= 0) {
        ev_sim_remove_dir(l->dir_fd, l->dir);
        close(l->dir_fd);
    }
    ev_janitor_stop(&l->janitor);
    ev_free(l->dir);
    ev_free(l);
}
