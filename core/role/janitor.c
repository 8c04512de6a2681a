/* janitor.c — removes the folder of a launcher that was killed (launch_common.h). Forked from a
 * threaded process, so it makes system calls only. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "role/launch_common.h"

enum { SAFE_FD = 20 };

struct dirent_raw {                                 /* what getdents64 gives (linux/dirent.h has no header) */
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

void ev_launch_remove_sockets(int dir_fd)
{
    union { char bytes[4096]; struct dirent_raw align; } b;
    long n;

    if (lseek(dir_fd, 0, SEEK_SET) < 0)
        return;
    while ((n = syscall(SYS_getdents64, dir_fd, b.bytes, sizeof(b.bytes))) > 0)
        for (long at = 0; at < n;) {
            const struct dirent_raw *d = (const struct dirent_raw *)(const void *)(b.bytes + at);
            struct stat st;

            if (fstatat(dir_fd, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
                unlinkat(dir_fd, d->name, 0);
            at += d->reclen;
        }
}

void ev_launch_remove_dir(int dir_fd, const char *path)
{
    ev_launch_remove_sockets(dir_fd);
    rmdir(path);
}

/* The child's pid comes once it runs, and another's should a second one be tried; our end of it as the
 * end of the pipe. Anything else means: not needed. */
static void janitor_wait(int dir_fd, const char *path, int pipe_fd)
{
    int enclave = -1, pid = 0;
    ssize_t n;

    while ((n = read(pipe_fd, &pid, sizeof(pid))) == (ssize_t)sizeof(pid)) {
        if (enclave >= 0)
            close(enclave);
        enclave = (int)syscall(SYS_pidfd_open, pid, 0);
    }
    if (n != 0)
        return;
    if (enclave >= 0)                               /* its PDEATHSIG does the same, unless it took that off */
        syscall(SYS_pidfd_send_signal, enclave, SIGKILL, NULL, 0);
    ev_launch_remove_dir(dir_fd, path);
}

static void janitor(int dir_fd, const char *path, int pipe_fd)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);             /* Ctrl-C goes to the whole foreground group */
    setsid();
    dir_fd = fcntl(dir_fd, F_DUPFD, SAFE_FD);
    pipe_fd = fcntl(pipe_fd, F_DUPFD, SAFE_FD);
    dup2(dir_fd, 0);
    dup2(pipe_fd, 1);
    close_range(2, ~0U, 0);                         /* holds nobody's pipe open */
    janitor_wait(0, path, 1);
    _exit(0);
}

int ev_janitor_start(const char *dir, int dir_fd, struct ev_janitor *out, struct ev_err *err)
{
    int p[2] = { -1, -1 }, rc = 0;

    *out = (struct ev_janitor){ -1, -1 };
    if (pipe2(p, O_CLOEXEC) < 0 || (out->pid = (int)fork()) < 0)
        rc = ev_fail_errno(err, "janitor");
    if (rc == 0 && out->pid == 0) {
        close(p[1]);
        janitor(dir_fd, dir, p[0]);
    }
    if (p[0] >= 0)
        close(p[0]);
    if (rc < 0 && p[1] >= 0)
        close(p[1]), p[1] = -1;
    out->pipe = p[1];
    return rc;
}

int ev_janitor_watch(const struct ev_janitor *j, int pid, struct ev_err *err)
{
    int rc = ev_write_all(j->pipe, &pid, sizeof(pid));

    return rc < 0 ? ev_fail(err, rc, "janitor: %s", ev_err_text(rc)) : 0;
}

void ev_janitor_stop(struct ev_janitor *j)
{
    if (j->pid <= 0)
        return;
    if (ev_write_all(j->pipe, "q", 1) < 0)
        kill(j->pid, SIGKILL);
    close(j->pipe);
    while (waitpid(j->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *j = (struct ev_janitor){ -1, -1 };
}
