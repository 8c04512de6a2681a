/* test_sandbox.c — the pure part of the filter: which system calls are refused, by name, and that
 * ordinary ones are not. What the kernel makes of it is test_contain.c's. */
#include "role/sandbox.h"

#include "tap.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void all(const char *const *names, size_t n, enum ev_sandbox_verdict want, const char *what)
{
    size_t good = 0;

    for (size_t i = 0; i < n; i++)
        if (ev_sandbox_verdict(names[i]) == want)
            good++;
        else
            printf("# %s\n", names[i]);
    EQ_INT(good, n, what);
}

/* The filter of the whole simulator, in a process of its own; nothing is ever sent. */
static void test_simulator(void)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        char params[256] = { 0 };
        int bad = 0;

        if (ev_sandbox_simulator(NULL) < 0)
            _exit(99);
        bad |= !(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT) << 0;
        bad |= !(syscall(SYS_socket, 0x700000000L | AF_VSOCK, 1L, 0L) < 0 && errno == EAFNOSUPPORT) << 1;
        bad |= !(syscall(425, 4, params) < 0 && errno == EPERM) << 2;
        bad |= !(socket(AF_INET, SOCK_STREAM, 0) >= 0 && socket(AF_UNIX, SOCK_STREAM, 0) >= 0) << 3;
        _exit(bad);
    }
    waitpid(pid, &status, 0);
    EQ_INT(status, 0, "no AF_VSOCK and no io_uring in the simulator, everything else");
}

int main(void)
{
    static const char *const refused[] = {
        "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "mount", "umount2", "pivot_root", "move_mount",
        "open_tree", "fsopen", "fsmount", "fsconfig", "fspick", "mount_setattr", "setns", "ptrace", "process_vm_readv",
        "process_vm_writev", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot",
        "clock_settime", "settimeofday", "adjtimex", "clock_adjtime", "keyctl", "add_key", "request_key", "userfaultfd",
        "perf_event_open", "open_by_handle_at", "quotactl", "swapon", "swapoff", "acct", "syslog", "iopl", "ioperm",
        "vhangup", "fanotify_init", "chroot", "pidfd_getfd" };
    static const char *const by_args[] = { "socket", "socketpair", "clone", "unshare", "personality" };
    static const char *const fine[] = {
        "read", "write", "openat", "openat2", "close", "mmap", "execve", "fork", "vfork", "wait4", "kill", "futex",
        "bind", "connect", "accept4", "sendmsg", "recvmsg", "epoll_wait", "eventfd2", "timerfd_create",
        "inotify_add_watch", "getrandom", "memfd_create", "prctl", "seccomp", "setuid", "setgid", "setgroups", "chown",
        "chmod", "mknod", "name_to_handle_at", "statx", "copy_file_range", "rseq", "membarrier", "sched_setaffinity",
        "arch_prctl",
        "landlock_create_ruleset", "ioctl", "capset", "umask", "pidfd_open", "close_range" };

    all(refused, EV_COUNT(refused), EV_CALL_REFUSED, "refused whatever the arguments");
    all(by_args, EV_COUNT(by_args), EV_CALL_ARGS, "judged by their arguments");
    all(fine, EV_COUNT(fine), EV_CALL_ALLOWED, "what programs need is allowed");
    EQ_INT(ev_sandbox_verdict("clone3"), EV_CALL_UNKNOWN, "clone3 does not exist, so libc uses clone");
    test_simulator();
    return tap_done();
}
