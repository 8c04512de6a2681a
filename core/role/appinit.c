/* appinit.c — pid 1 of the app's namespaces (supervise.h): contains itself, starts the app as pid 2,
 * forwards signals, reaps orphans, reports the app's end. It goes through the same capabilities and
 * filters as the app and is not dumpable, so that uid 0 of the app can neither trace nor read it. */
#include <fcntl.h>
#include <poll.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "role/init.h"
#include "role/rootfs.h"
#include "role/sandbox.h"
#include "role/supervise.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { NOT_FOUND = 127, NOT_EXECUTABLE = 126, ENV_EXTRA = 3 };

struct plan {
    struct ev_conf conf;
    struct ev_user user;
    char **env;
    int root, workdir;          /* O_PATH, in the app's root */
};

/* --- control socket -------------------------------------------------------------------------- */

static void tell(char op, int32_t value, const char *text)
{
    struct ev_app_packet p;

    memset(&p, 0, sizeof(p));
    p.op = op;
    p.value = value;
    snprintf(p.text, sizeof(p.text), "%s", text);
    if (send(EV_APP_CTL_FD, &p, sizeof(p), MSG_NOSIGNAL) < 0)
        _exit(70);                                  /* the runtime is gone; so are we */
}

/* Waits for the runtime's word; it has no deadline of its own, since EOF ends the wait. */
static void await(char op)
{
    struct ev_app_packet p;

    if (recv(EV_APP_CTL_FD, &p, sizeof(p), 0) != (ssize_t)sizeof(p) || p.op != op)
        _exit(70);
}

/* --- plan ------------------------------------------------------------------------------------ */

static const char *env_get(char *const *env, const char *name)
{
    size_t n = strlen(name);

    for (; *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

/* The image's environment, byte for byte, and what every program may expect. */
static char **make_env(const struct plan *p)
{
    size_t n = 0;
    char **env;

    while (p->conf.env[n])
        n++;
    env = ev_alloc((n + ENV_EXTRA) * sizeof(char *));
    memcpy(env, p->conf.env, n * sizeof(char *));
    if (!env_get(p->conf.env, "PATH"))
        env[n++] = ev_strdup("PATH=" DEFAULT_PATH);
    if (!env_get(p->conf.env, "HOME"))
        env[n++] = ev_asprintf("HOME=%s", p->user.home);
    return env;
}

static int find_user(struct plan *p, struct ev_err *err)
{
    struct ev_buf passwd = EV_BUF_INIT(EV_USER_FILE_MAX), group = EV_BUF_INIT(EV_USER_FILE_MAX);
    int rc;

    if ((rc = ev_root_read(p->root, "etc/passwd", &passwd, err)) == -ENOENT)
        rc = 0;
    EV_TRY(rc);
    if ((rc = ev_root_read(p->root, "etc/group", &group, err)) == -ENOENT)
        rc = 0;
    EV_TRY(rc);
    EV_TRY(ev_user_find(p->conf.user, ev_buf_slice(&passwd), ev_buf_slice(&group), &p->user, err));
out:
    ev_buf_fini(&passwd);
    ev_buf_fini(&group);
    return rc;
}

static int prepare(struct plan *p, struct ev_err *err)
{
    int rc;

    EV_TRY(ev_init_conf(&p->conf, err));
    if (unshare(CLONE_NEWCGROUP) < 0)
        rc = ev_fail_errno(err, "new cgroup namespace");
    EV_TRY(rc);
    EV_TRY(p->root = ev_jail_enter("rootfs", p->conf.name, err));
    EV_TRY(find_user(p, err));
    EV_TRY(p->workdir = ev_root_mkdir_p(p->root, p->conf.workdir[0] ? p->conf.workdir : "/", err));
    p->env = make_env(p);
    EV_TRY(ev_sandbox_limits(err));
    EV_TRY(ev_sandbox_caps(err));
    EV_TRY(ev_sandbox_filter(err));
out:
    return rc;
}

/* --- the app's process, up to execve --------------------------------------------------------- */

static void die(int code, const char *what)
{
    int error = errno;
    char text[EV_APP_TEXT];

    snprintf(text, sizeof(text), "%s: %s", what, strerror(error));
    tell(EV_APP_ERROR, -error, text);
    _exit(code);
}

/* A path through a magic link (/proc/self/exe, an open descriptor) is not the image's program. */
static bool exists(const struct plan *p, const char *path)
{
    char full[8192];
    int fd;

    if (path[0] == '/')
        snprintf(full, sizeof(full), "%s", path);
    else
        snprintf(full, sizeof(full), "%s/%s", p->conf.workdir, path);
    fd = ev_root_open(p->root, full, O_PATH, 0, EV_ROOT_FOLLOW);
    if (fd >= 0)
        close(fd);
    else
        errno = -fd;
    return fd >= 0;
}

static void try_exec(const struct plan *p, const char *path)
{
    if (exists(p, path))
        execve(path, p->conf.argv, p->env);
}

static void exec_by_path(const struct plan *p)
{
    const char *path = env_get(p->env, "PATH"), *name = p->conf.argv[0];
    int worst = ENOENT;

    while (path && *path) {
        size_t n = strcspn(path, ":");
        char full[8192];

        if (snprintf(full, sizeof(full), "%.*s%s%s", (int)n, path, n ? "/" : "./", name) < (int)sizeof(full))
            try_exec(p, full);
        if (errno != ENOENT && errno != ENOTDIR)
            worst = errno;
        path += n + (path[n] == ':');
    }
    errno = worst;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);                         /* ignored ones would survive execve */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

#define NO_SUCH_ID "USER: this id does not exist in the simulator, which has only as many ids as it was given " \
                   "(run it as root, or install uidmap and set up /etc/subuid)"

static void become_user(const struct ev_user *u)
{
    bool few_ids;

    /* In a simulator with one id there are no supplementary groups to leave or to join. */
    if (setgroups(u->n_groups, u->groups) < 0) {
        few_ids = errno == EPERM || errno == EINVAL;
        if (!few_ids || u->uid != 0)
            die(NOT_EXECUTABLE, few_ids ? NO_SUCH_ID : "USER: supplementary groups");
    }
    if (setresgid(u->gid, u->gid, u->gid) < 0 || setresuid(u->uid, u->uid, u->uid) < 0)
        die(NOT_EXECUTABLE, errno == EINVAL ? NO_SUCH_ID : "USER");
}

/* So that a USER of its own can open /dev/stdout again; only of our pipe, never of a device. */
static void own_output(const struct ev_user *u)
{
    struct stat st;

    if (fstat(EV_APP_OUT_FD, &st) == 0 && S_ISFIFO(st.st_mode) && fchown(EV_APP_OUT_FD, u->uid, u->gid) < 0)
        return;                                     /* one id only: then it is this user's already */
}

static void run_app(const struct plan *p)
{
    char what[EV_APP_TEXT - 64];
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    setsid();
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(EV_APP_OUT_FD, STDOUT_FILENO) < 0 ||
        dup2(EV_APP_OUT_FD, STDERR_FILENO) < 0)
        die(NOT_EXECUTABLE, "standard descriptors");
    if (fchdir(p->workdir) < 0)
        die(NOT_EXECUTABLE, "WORKDIR");
    own_output(&p->user);
    become_user(&p->user);
    reset_signals();
    if (strchr(p->conf.argv[0], '/'))
        try_exec(p, p->conf.argv[0]);
    else
        exec_by_path(p);
    snprintf(what, sizeof(what), "start %s", p->conf.argv[0]);
    die(errno == ENOENT || errno == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE, what);
}

/* --- after it --------------------------------------------------------------------------------- */

/* Reaps everybody; ends with the app. */
static void reap(pid_t app)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == app) {
            tell(EV_APP_EXITED, status, "");
            _exit(0);                               /* the kernel ends what is left in the namespace */
        }
}

static void forward(pid_t app, int signum)
{
    if (signum > 0 && signum < NSIG && signum != SIGCHLD)
        kill(app, signum);
}

static void watch(pid_t app, int signals)
{
    struct pollfd p[2] = { { EV_APP_CTL_FD, POLLIN, 0 }, { signals, POLLIN, 0 } };
    struct signalfd_siginfo info;
    struct ev_app_packet word;

    for (;;) {
        reap(app);
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            _exit(70);
        if (p[1].revents && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
            forward(app, (int)info.ssi_signo);
        if (!p[0].revents)
            continue;
        if (recv(EV_APP_CTL_FD, &word, sizeof(word), 0) != (ssize_t)sizeof(word))
            _exit(70);
        if (word.op == EV_APP_SIGNAL)
            forward(app, word.value);
    }
}

/* Everything above the standard descriptors is close-on-exec; execve success shows as the end of
 * this pipe. */
static pid_t start(const struct plan *p)
{
    int pipe_fd[2];
    pid_t app;
    char byte;

    if (pipe2(pipe_fd, O_CLOEXEC) < 0 || (app = fork()) < 0) {
        tell(EV_APP_ERROR, -errno, "start the app's process");
        _exit(70);
    }
    if (app == 0) {
        close(pipe_fd[0]);
        close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        run_app(p);
    }
    close(pipe_fd[1]);
    close(EV_APP_OUT_FD);                           /* the app alone holds its output */
    while (read(pipe_fd[0], &byte, 1) < 0 && errno == EINTR)
        ;
    close(pipe_fd[0]);
    return app;
}

void ev_appinit_main(void)
{
    struct plan p;
    struct ev_err err = EV_ERR_INIT;
    sigset_t all;
    int signals;
    pid_t app;

    memset(&p, 0, sizeof(p));
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_NAME, "cage-init", 0, 0, 0);
    signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    await(EV_APP_BEGIN);
    if (signals < 0 || prepare(&p, &err) < 0) {
        tell(EV_APP_ERROR, err.code ? err.code : -EIO, err.msg);
        _exit(70);
    }
    tell(EV_APP_READY, 0, "");
    await(EV_APP_GO);
    app = start(&p);
    /* If exec failed its process has sent the error already, and this comes after it: not heard. */
    tell(EV_APP_STARTED, 0, "");
    watch(app, signals);
    _exit(70);
}
