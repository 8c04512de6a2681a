/* sandbox.c — capabilities, limits and the system call filter of the app; the one door of libseccomp.
 *
 * Two filters, because each is simple alone:
 *   1 "what exists": unknown numbers → ENOSYS (so a newer kernel adds nothing), refused names → EPERM,
 *     calls that depend on arguments only in their harmless form, everything else allowed. Another
 *     ABI (int 0x80, x32) kills the process.
 *   2 "arguments": allows all but forms named one by one, with the errno programs expect.
 * What must hold is in filter 1 in the form "allow only if"; filter 2 adds ioctl requests and better
 * errno values. Integer arguments are compared under a 32-bit mask, as the kernel reads them: a value
 * with junk in its upper half must not slip through. */
#include "role/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOW32 UINT64_C(0xffffffff)
#define IS32(arg, value) SCMP_CMP64((arg), SCMP_CMP_MASKED_EQ, LOW32, (scmp_datum_t)(uint32_t)(value))
#define HAS32(arg, bit) SCMP_CMP64((arg), SCMP_CMP_MASKED_EQ, (scmp_datum_t)(bit), (scmp_datum_t)(bit))
#define LACKS(arg, bits) SCMP_CMP64((arg), SCMP_CMP_MASKED_EQ, (scmp_datum_t)(bits), 0)

enum {
    NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                 CLONE_NEWNET,
    UNSHARE_FINE = CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
    SYSCALLS = 1024,            /* numbers looked at; the kernel is at about 470 */
    FAMILIES = 64,
    FILES_SOFT = 65536, FILES_HARD = 1 << 20
};

/* EPERM whatever the arguments. */
static const char *const refused[] = {
    /* other roots and mounts */
    "mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick",
    "mount_setattr", "open_by_handle_at", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct", "chroot", "setns",
    "fanotify_init", "fanotify_mark", "uselib", "nfsservctl",
    /* the kernel itself */
    "bpf", "perf_event_open", "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "create_module", "query_module", "get_kernel_syms", "reboot", "syslog", "lookup_dcookie",
    "add_key", "request_key", "keyctl", "iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "vhangup", "_sysctl",
    "sysfs", "ustat", "sethostname", "setdomainname",
    /* rings run system calls that no filter sees (socket, for one) */
    "io_uring_setup", "io_uring_enter", "io_uring_register",
    /* the clock */
    "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "settimeofday", "stime", "adjtimex",
    /* other processes' memory and descriptors */
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "move_pages",
    "migrate_pages",
};
/* Only in the forms of allow_forms. */
static const char *const by_args[] = { "socket", "socketpair", "clone", "unshare", "personality" };
/* ENOSYS, so that libc falls back to clone, whose flags a filter can see. */
static const char *const absent[] = { "clone3" };

static bool listed(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

enum ev_sandbox_verdict ev_sandbox_verdict(const char *name)
{
    if (listed(name, refused, EV_COUNT(refused)))
        return EV_CALL_REFUSED;
    if (listed(name, by_args, EV_COUNT(by_args)))
        return EV_CALL_ARGS;
    return listed(name, absent, EV_COUNT(absent)) ? EV_CALL_UNKNOWN : EV_CALL_ALLOWED;
}

static int allow_sockets(scmp_filter_ctx f)
{
    static const int families[] = { AF_UNIX, AF_INET, AF_INET6 };
    int rc = 0;

    for (size_t i = 0; i < EV_COUNT(families); i++)
        EV_TRY(seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, IS32(0, families[i])));
    EV_TRY(seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, IS32(0, AF_NETLINK), IS32(2, NETLINK_ROUTE)));
    EV_TRY(seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, IS32(0, AF_UNIX)));
out:
    return rc;
}

static int allow_forms(scmp_filter_ctx f)
{
    static const uint32_t personalities[] = { 0, 0xffffffff };      /* native; only asking */
    int rc;

    EV_TRY(allow_sockets(f));
    EV_TRY(seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, LACKS(0, (uint32_t)NAMESPACES)));
    EV_TRY(seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(unshare), 1, LACKS(0, (uint32_t)~UNSHARE_FINE)));
    for (size_t i = 0; i < EV_COUNT(personalities); i++)
        EV_TRY(seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(personality), 1, IS32(0, personalities[i])));
out:
    return rc;
}

/* One rule for each number that the library has a name for; the rest stay ENOSYS. */
static int add_calls(scmp_filter_ctx f)
{
    int rc = 0;

    for (int nr = 0; nr < SYSCALLS && rc == 0; nr++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
        enum ev_sandbox_verdict v = name ? ev_sandbox_verdict(name) : EV_CALL_UNKNOWN;

        free(name);
        if (v == EV_CALL_ALLOWED)
            rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, nr, 0);
        else if (v == EV_CALL_REFUSED)
            rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
    return rc;
}

static int load_calls(void)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int rc = f ? 0 : -ENOMEM;

    EV_TRY(rc);
    EV_TRY(seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    EV_TRY(seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2));   /* a tree, not a list of 350 compares */
    EV_TRY(add_calls(f));
    EV_TRY(allow_forms(f));
    EV_TRY(seccomp_load(f));
out:
    seccomp_release(f);
    return rc;
}

static bool family_fine(int family)
{
    return family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
}

static int refuse_forms(scmp_filter_ctx f)
{
    static const unsigned long requests[] = { TIOCSTI, TIOCLINUX, TIOCSETD };   /* typing for others */
    int rc = 0;

    for (size_t i = 0; i < EV_COUNT(requests); i++)
        EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, IS32(1, requests[i])));
    for (int family = 0; family < FAMILIES; family++)
        if (!family_fine(family))
            EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, IS32(0, family)));
    for (int protocol = 1; protocol < MAX_LINKS; protocol++)
        EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2, IS32(0, AF_NETLINK),
                                IS32(2, protocol)));
    for (uint32_t bit = 1; bit; bit <<= 1) {
        if (bit & (uint32_t)NAMESPACES)
            EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, HAS32(0, bit)));
        if (bit & (uint32_t)~UNSHARE_FINE)
            EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1, HAS32(0, bit)));
    }
out:
    return rc;
}

static int load_arguments(void)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int rc = f ? 0 : -ENOMEM;

    EV_TRY(rc);
    EV_TRY(seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    EV_TRY(refuse_forms(f));
    EV_TRY(seccomp_load(f));
out:
    seccomp_release(f);
    return rc;
}

int ev_sandbox_filter(struct ev_err *err)
{
    int rc;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ev_fail_errno(err, "no_new_privs");
    EV_TRY(load_calls());
    EV_TRY(load_arguments());
out:
    return rc < 0 ? ev_fail(err, rc, "system call filter: %s", ev_err_text(rc)) : 0;
}

int ev_sandbox_simulator(struct ev_err *err)
{
    static const int rings[] = { SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register) };
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int rc = f ? 0 : -ENOMEM;

    EV_TRY(rc);
    EV_TRY(seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, IS32(0, AF_VSOCK)));
    for (size_t i = 0; i < EV_COUNT(rings); i++)
        EV_TRY(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), rings[i], 0));
    EV_TRY(seccomp_load(f));
out:
    seccomp_release(f);
    return rc < 0 ? ev_fail(err, rc, "system call filter: %s", ev_err_text(rc)) : 0;
}

/* A container's set (DESIGN §6): enough for entrypoints that chown and drop to a user. */
static const int kept_caps[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID,
                                 CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SETFCAP };

int ev_sandbox_caps(struct ev_err *err)
{
    enum { CAPS = 64 };
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
    uint64_t keep = 0;

    for (size_t i = 0; i < EV_COUNT(kept_caps); i++)
        keep |= UINT64_C(1) << kept_caps[i];
    for (int cap = 0; cap < CAPS; cap++) {
        int had = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

        if (had < 0)
            break;                                  /* past the kernel's last one */
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return ev_fail_errno(err, "drop capability %d", cap);
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return ev_fail_errno(err, "clear ambient capabilities");
    for (int i = 0; i < 2; i++)
        data[i].permitted = data[i].effective = (uint32_t)(keep >> (32 * i));
    if (syscall(SYS_capset, &head, data) < 0)
        return ev_fail_errno(err, "set capabilities");
    return 0;
}

int ev_sandbox_limits(struct ev_err *err)
{
    struct rlimit core = { 0, 0 }, files;

    if (setrlimit(RLIMIT_CORE, &core) < 0)
        return ev_fail_errno(err, "forbid core dumps");
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return ev_fail_errno(err, "limit of descriptors");
    if (files.rlim_max > FILES_HARD)
        files.rlim_max = FILES_HARD;
    files.rlim_cur = files.rlim_max < FILES_SOFT ? files.rlim_max : FILES_SOFT;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return ev_fail_errno(err, "limit of descriptors");
    umask(022);
    return 0;
}
