/* supervise.c — see supervise.h. */
#include "role/supervise.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

struct ev_app {
    int pid, ctl;
    bool running, told;
    struct ev_rt *rt;
    struct ev_watch *watch;
    struct ev_timer *grace;
    void (*exited)(void *ctx, int code, int signum);
    void *ctx;
};

/* Our own file on a read-only mount that is nowhere else. → fd, executable with execveat. */
static int sealed_exe(struct ev_err *err)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
    int fd = open_tree(AT_FDCWD, "/init", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (fd < 0)
        return ev_fail_errno(err, "clone the runtime's file");
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        return fd;
    ev_fail_errno(err, "make the runtime's file read-only");
    close(fd);
    return err ? err->code : -EIO;
}

/* In the child, which shares nothing but memory that is about to go: system calls only. */
static void become_appinit(int exe, int ctl, int out)
{
    static char name[] = "/init", mode[] = "app", home[] = "HOME=/";
    char *argv[] = { name, mode, NULL }, *env[] = { home, NULL };
    enum { SAFE = 10, EXE = EV_APP_OUT_FD + 1 };
    int null;

    exe = fcntl(exe, F_DUPFD, SAFE);
    ctl = fcntl(ctl, F_DUPFD, SAFE);
    out = fcntl(out, F_DUPFD, SAFE);
    null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(ctl, EV_APP_CTL_FD) < 0 || dup2(out, EV_APP_OUT_FD) < 0 ||
        dup3(exe, EXE, O_CLOEXEC) < 0 || close_range(EXE + 1, ~0U, 0) < 0)
        _exit(70);
    syscall(SYS_execveat, EXE, "", argv, env, AT_EMPTY_PATH);
    _exit(70);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Blocks for one packet, at most until `deadline`. */
static int receive(struct ev_app *a, struct ev_app_packet *p, int64_t deadline, struct ev_err *err)
{
    for (;;) {
        struct pollfd pfd = { a->ctl, POLLIN, 0 };
        int64_t left = deadline - now_ms();
        ssize_t n;

        if (left <= 0 || poll(&pfd, 1, (int)left) == 0)
            return ev_fail(err, -ETIMEDOUT, "the app's init does not answer");
        n = recv(a->ctl, p, sizeof(*p), MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n != (ssize_t)sizeof(*p))
            return ev_fail(err, EV_EEOF, "the app's init ended");
        p->text[sizeof(p->text) - 1] = 0;
        return 0;
    }
}

static int expect(struct ev_app *a, char op, struct ev_err *err)
{
    struct ev_app_packet p;
    int rc = receive(a, &p, now_ms() + EV_APP_SETUP_MS, err);

    if (rc == 0 && p.op == EV_APP_ERROR)
        rc = ev_fail(err, p.value < 0 ? p.value : EV_EINTERNAL, "%s", p.text);
    else if (rc == 0 && p.op != op)
        rc = ev_fail(err, EV_EINTERNAL, "the app's init answered out of turn");
    return rc;
}

static int tell(struct ev_app *a, char op, int32_t value)
{
    struct ev_app_packet p;

    memset(&p, 0, sizeof(p));
    p.op = op;
    p.value = value;
    return send(a->ctl, &p, sizeof(p), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* The app gets a cgroup of its own where this kernel lets us; its namespace begins there. */
static void place_in_cgroup(int pid)
{
    static const char dir[] = "/sys/fs/cgroup/app";
    char path[64], text[16];
    int fd, n = snprintf(text, sizeof(text), "%d", pid);

    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return;
    snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return;
    if (ev_write_all(fd, text, (size_t)n) < 0)
        n = 0;                                      /* not delegated to us: it stays in ours */
    close(fd);
}

int ev_app_prepare(int out_fd, struct ev_app **out, struct ev_err *err)
{
    struct ev_app *a = ev_alloc(sizeof(*a));
    int pair[2] = { -1, -1 }, exe = -1, rc = 0;

    a->ctl = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        rc = ev_fail_errno(err, "control socket");
    EV_TRY(rc);
    a->ctl = pair[0];
    EV_TRY(exe = sealed_exe(err));
    a->pid = (int)syscall(SYS_clone, SIGCHLD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS, 0, 0, 0, 0);
    if (a->pid == 0)
        become_appinit(exe, pair[1], out_fd);
    if (a->pid < 0)
        rc = ev_fail_errno(err, "new namespaces");
    EV_TRY(rc);
    close(pair[1]);
    pair[1] = -1;
    place_in_cgroup(a->pid);
    if ((rc = tell(a, EV_APP_BEGIN, 0)) < 0)
        ev_fail(err, rc, "the app's init: %s", ev_err_text(rc));
    EV_TRY(rc);
    EV_TRY(expect(a, EV_APP_READY, err));
out:
    if (exe >= 0)
        close(exe);
    if (pair[1] >= 0)
        close(pair[1]);
    if (rc < 0) {
        ev_app_close(a);
        return rc;
    }
    *out = a;
    return 0;
}

static void finish(struct ev_app *a, int status)
{
    int signum = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + signum;

    if (a->told)
        return;
    a->told = true;
    ev_watch_stop(a->watch);
    a->watch = NULL;
    a->exited(a->ctx, code, signum);
}

static void ctl_ready(void *ctx, int events)
{
    struct ev_app *a = ctx;
    struct ev_app_packet p;
    ssize_t n = recv(a->ctl, &p, sizeof(p), MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == (ssize_t)sizeof(p) && p.op == EV_APP_EXITED)
        finish(a, p.value);
    else if (n <= 0)
        finish(a, SIGKILL);                         /* appinit itself was killed, and the app with it */
}

int ev_app_start(struct ev_app *a, struct ev_rt *rt, void (*exited)(void *ctx, int code, int signum), void *ctx,
                 struct ev_err *err)
{
    int rc = tell(a, EV_APP_GO, 0);

    if (rc < 0)
        return ev_fail(err, rc, "the app's init: %s", ev_err_text(rc));
    if ((rc = expect(a, EV_APP_STARTED, err)) < 0)
        return rc;
    a->rt = rt;
    a->exited = exited;
    a->ctx = ctx;
    a->running = true;
    a->watch = ev_watch_start(rt, a->ctl, EV_READABLE, ctl_ready, a);
    return 0;
}

int ev_app_pid(const struct ev_app *a)
{
    return a ? a->pid : -1;
}

void ev_app_signal(struct ev_app *a, int signum)
{
    if (tell(a, EV_APP_SIGNAL, signum) < 0)
        kill(a->pid, SIGKILL);                      /* an init that does not listen is of no use */
}

static void grace_over(void *ctx)
{
    struct ev_app *a = ctx;

    kill(a->pid, SIGKILL);                          /* takes its whole pid namespace along */
}

void ev_app_stop(struct ev_app *a)
{
    if (a->grace || !a->running)
        return;
    ev_app_signal(a, SIGTERM);
    a->grace = ev_timer_start(a->rt, EV_APP_GRACE_MS, false, grace_over, a);
}

void ev_app_close(struct ev_app *a)
{
    if (!a)
        return;
    ev_watch_stop(a->watch);
    ev_timer_stop(a->grace);
    if (a->pid > 0) {
        kill(a->pid, SIGKILL);
        while (waitpid(a->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (a->ctl >= 0)
        close(a->ctl);
    ev_free(a);
}
