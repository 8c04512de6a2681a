/* sim_spawn.c — the simulator's child: new namespaces, id maps, descriptors.
 *
 * As root, ids 0..65535 of the enclave become a high range of the host that nobody uses, so that
 * root inside is nobody outside. As an ordinary user newuidmap does the same from /etc/subuid; where
 * that is not set up, only one id exists inside and an image with another USER cannot start. Root in a
 * container without high ids has one, too: nobody's. Never its own: whoever is uid 0 outside may write
 * /proc/sys/kernel/core_pattern from any user namespace. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "role/launch_sim.h"

extern char **environ;

enum { SAFE_FD = 20, SUBID_MAX = 1 << 20, BASES = 4096, NOBODY = 65534, GO = 'g' };
#define BASE_FIRST UINT32_C(0x70000000)

/* --- in the child: system calls only until execve --------------------------------------------- */

static int keep(int fd)
{
    return fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : fcntl(fd, F_DUPFD_CLOEXEC, SAFE_FD);
}

/* What a namespace does not divide: the caller's session keyring, whose keys the image could read, and
 * the number of processes, which a fork bomb would take from the whole machine. */
static void let_go(void)
{
    struct rlimit tasks = { EV_SIM_TASKS, EV_SIM_TASKS }, had;

    if (getrlimit(RLIMIT_NPROC, &had) < 0 || (had.rlim_max > EV_SIM_TASKS && setrlimit(RLIMIT_NPROC, &tasks) < 0))
        _exit(74);
    /* A kernel without keys, or a sandbox around us that forbids them, forbids them to the image, too. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EPERM)
        _exit(74);
}

static void child(const struct ev_sim_spawn *s, int go, char *size)
{
    static char name[] = EV_SIM_CHILD_NAME, home[] = "HOME=/", term[] = "TERM=linux";
    char *argv[] = { name, size, NULL }, *env[] = { home, term, NULL }, byte = 0;
    int from[] = { -1, s->console, s->console, s->nsm, s->vsock, s->eif };
    sigset_t none;

    if (read(go, &byte, 1) != 1 || byte != GO)
        _exit(70);
    syscall(SYS_setgroups, 0, NULL);                /* refused where only one id is mapped: none then */
    if (syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0)
        _exit(71);
    let_go();
    for (size_t i = 0; i < EV_COUNT(from); i++)
        if ((from[i] = keep(from[i])) < 0)
            _exit(72);
    for (size_t i = 0; i < EV_COUNT(from); i++)
        if (dup2(from[i], (int)i) < 0)
            _exit(72);
    close_range(EV_COUNT(from), ~0U, 0);
    setsid();                                       /* Ctrl-C is the launcher's to handle */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve("/proc/self/exe", argv, env);
    _exit(73);
}

/* --- id maps ---------------------------------------------------------------------------------- */

static int write_proc(int pid, const char *file, const char *text)
{
    char path[64];
    int fd, rc;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return -errno;
    rc = ev_write_all(fd, text, strlen(text));
    close(fd);
    return rc;
}

static int map_as_root(int pid)
{
    char text[64];
    int rc;

    snprintf(text, sizeof(text), "0 %u %d\n", BASE_FIRST + (uint32_t)(pid % BASES) * EV_SIM_IDS, EV_SIM_IDS);
    EV_TRY(write_proc(pid, "uid_map", text));
    EV_TRY(write_proc(pid, "gid_map", text));
out:
    return rc;
}

static int map_single(int pid, struct ev_err *err)
{
    bool root = geteuid() == 0;
    char uid[64], gid[64];
    int rc;

    snprintf(uid, sizeof(uid), "0 %u 1\n", root ? NOBODY : (unsigned)geteuid());
    snprintf(gid, sizeof(gid), "0 %u 1\n", root ? NOBODY : (unsigned)getegid());
    if (!root)                                      /* who may keep his groups must be able to leave them */
        EV_TRY(write_proc(pid, "setgroups", "deny"));
    EV_TRY(write_proc(pid, "uid_map", uid));
    EV_TRY(write_proc(pid, "gid_map", gid));
out:
    return rc < 0 ? ev_fail(err, rc, "id map of the enclave: %s", ev_err_text(rc)) : 0;
}

/* The first range of /etc/subuid or subgid for this user, by name or number. */
static bool sub_range(const char *file, const char *user, uint32_t *start, uint32_t *count)
{
    struct ev_buf text = EV_BUF_INIT(SUBID_MAX);
    char number[16], *line, *save = NULL;
    bool found = false;

    snprintf(number, sizeof(number), "%u", (unsigned)geteuid());
    if (ev_file_read(file, &text, NULL) == 0 && text.n > 0)
        for (line = strtok_r((char *)text.p, "\n", &save); line && !found; line = strtok_r(NULL, "\n", &save)) {
            char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;

            if (!second)
                continue;
            *first = 0;
            *start = (uint32_t)strtoul(first + 1, NULL, 10);
            *count = (uint32_t)strtoul(second + 1, NULL, 10);
            found = (strcmp(line, user) == 0 || strcmp(line, number) == 0) && *count > 0;
        }
    ev_buf_fini(&text);
    return found;
}

/* newuidmap PID 0 SELF 1 1 START COUNT: a set-uid helper that checks /etc/subuid itself. */
static int run_map(const char *tool, int pid, unsigned self, uint32_t start, uint32_t count)
{
    char arg[5][16];
    char *argv[] = { (char *)(uintptr_t)tool, arg[0], (char[]){ "0" }, arg[1], (char[]){ "1" }, (char[]){ "1" },
                     arg[2], arg[3], NULL };
    int status, child_pid;

    if (count > EV_SIM_IDS - 1)
        count = EV_SIM_IDS - 1;
    snprintf(arg[0], sizeof(arg[0]), "%d", pid);
    snprintf(arg[1], sizeof(arg[1]), "%u", self);
    snprintf(arg[2], sizeof(arg[2]), "%u", (unsigned)start);
    snprintf(arg[3], sizeof(arg[3]), "%u", (unsigned)count);
    if (posix_spawnp(&child_pid, tool, NULL, NULL, argv, environ) != 0)
        return -ENOENT;
    while (waitpid(child_pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static int map_as_user(int pid)
{
    const struct passwd *pw = getpwuid(geteuid());
    const char *user = pw ? pw->pw_name : "";
    uint32_t uids, n_uids, gids, n_gids;
    int rc;

    if (!sub_range("/etc/subuid", user, &uids, &n_uids) || !sub_range("/etc/subgid", user, &gids, &n_gids))
        return -ENOENT;
    EV_TRY(run_map("newuidmap", pid, geteuid(), uids, n_uids));
    EV_TRY(run_map("newgidmap", pid, getegid(), gids, n_gids));
out:
    return rc;
}

static int map_ids(int pid, struct ev_err *err)
{
    int rc = geteuid() == 0 ? map_as_root(pid) : map_as_user(pid);

    return rc == 0 ? 0 : map_single(pid, err);
}

/* --- spawn ------------------------------------------------------------------------------------- */

int ev_sim_spawn(const struct ev_sim_spawn *s, struct ev_err *err)
{
    unsigned long flags = SIGCHLD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                          CLONE_NEWUTS | CLONE_NEWCGROUP;
    char size[24], byte = GO;
    int go[2] = { -1, -1 }, pid = -1, rc = 0;

    snprintf(size, sizeof(size), "%llu", (unsigned long long)s->root_bytes);
    if (pipe2(go, O_CLOEXEC) < 0)
        return ev_fail_errno(err, "pipe");
    pid = (int)syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0) {
        close(go[1]);                               /* so that our death ends its wait */
        child(s, go[0], size);
    }
    if (pid < 0)
        rc = ev_fail_errno(err, "new namespaces (does this kernel allow user namespaces?)");
    EV_TRY(rc);
    EV_TRY(map_ids(pid, err));
    if ((rc = ev_write_all(go[1], &byte, 1)) < 0)
        ev_fail(err, rc, "start the enclave: %s", ev_err_text(rc));
out:
    close(go[0]);
    close(go[1]);
    if (rc < 0 && pid > 0) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    return rc < 0 ? rc : pid;
}
