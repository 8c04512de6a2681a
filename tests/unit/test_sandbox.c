/* test_sandbox.c — the pure part of the filter: which system calls are refused, by name, and that
 * ordinary ones are not. What the kernel makes of it is test_contain.c's. */
#include "role/sandbox.h"

#include "tap.h"

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
    return tap_done();
}
