/* probe.h — a hostile app: tries every way out of the cage that we know and says in TAP lines how
 * each went. Included by the unit test (which is the app itself) and by tests/flow/probe.c. Each
 * check runs in a process of its own, since the filter kills some of them. */
#ifndef TESTS_PROBE_H
#define TESTS_PROBE_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int probe_n, probe_bad;

/* fn returns < 0 with errno when the kernel refused. */
#define REFUSED(name, ...) probe_run(name, probe_##__VA_ARGS__)

static void probe_say(int good, const char *name, const char *how)
{
    printf("%sok %d - probe: %s (%s)\n", good ? "" : "not ", ++probe_n, name, how);
    fflush(stdout);
    probe_bad += !good;
}

static void probe_run(const char *name, long (*fn)(void))
{
    int status = 0;
    char how[96];
    pid_t pid = fork();

    if (pid == 0) {
        long rc = fn();

        _exit(rc < 0 ? (errno & 127 ? errno & 127 : 1) : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        probe_say(0, name, "no process");
        return;
    }
    if (WIFSIGNALED(status)) {
        snprintf(how, sizeof(how), "killed by signal %d", WTERMSIG(status));
        probe_say(WTERMSIG(status) == SIGSYS, name, how);
        return;
    }
    snprintf(how, sizeof(how), "%s", WEXITSTATUS(status) ? strerror(WEXITSTATUS(status)) : "IT WORKED");
    probe_say(WEXITSTATUS(status) != 0, name, how);
}

/* --- each way ------------------------------------------------------------------------------- */

static long probe_vsock(void) { return socket(AF_VSOCK, SOCK_STREAM, 0); }
static long probe_vsock_high(void)
{
    return syscall(SYS_socket, 0x100000000L | AF_VSOCK, (long)SOCK_STREAM, 0L);
}
static long probe_vsock_pair(void) { int p[2]; return socketpair(AF_VSOCK, SOCK_STREAM, 0, p); }
static long probe_packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long probe_alg(void) { return socket(38, SOCK_SEQPACKET, 0); }
static long probe_raw(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static long probe_audit(void) { return socket(AF_NETLINK, SOCK_RAW, 9); }
static long probe_uevent(void) { return socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT); }
static long probe_io_uring(void) { char p[256] = { 0 }; return syscall(425, 8, p); }
static long probe_io_uring_enter(void) { return syscall(426, 0, 0, 0, 0, NULL, 0); }
static long probe_bpf(void) { char a[128] = { 0 }; return syscall(SYS_bpf, 0, a, sizeof(a)); }
static long probe_mount(void) { return mount("tmpfs", "/tmp", "tmpfs", 0, ""); }
static long probe_bind(void) { return mount("/", "/tmp", NULL, MS_BIND, NULL); }
static long probe_remount(void) { return mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long probe_umount(void) { return umount2("/", MNT_DETACH); }
static long probe_umount_sys(void) { return umount2("/proc/sys", MNT_DETACH); }
static long probe_fsopen(void) { return syscall(430, "tmpfs", 0); }
static long probe_open_tree(void) { return syscall(428, -100, "/", 1); }
static long probe_pivot(void) { return syscall(SYS_pivot_root, ".", "."); }
static long probe_unshare(void) { return unshare(CLONE_NEWNS); }
static long probe_unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long probe_unshare_time(void) { return unshare(0x80); }
static long probe_clone_user(void)
{
    long pid = syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, 0, 0, 0, 0);

    if (pid == 0) _exit(0);
    return pid;
}
static long probe_clone_net(void)
{
    long pid = syscall(SYS_clone, SIGCHLD | CLONE_NEWNET, 0, 0, 0, 0);

    if (pid == 0) _exit(0);
    return pid;
}
static long probe_clone3(void)
{
    unsigned long long a[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0 };
    long pid = syscall(435, a, sizeof(a));

    if (pid == 0) _exit(0);
    return pid;
}
static long probe_setns(void)
{
    int fd = open("/proc/self/ns/net", O_RDONLY);

    return fd < 0 ? -1 : setns(fd, 0);
}
static long probe_ptrace(void) { return ptrace(PTRACE_ATTACH, 1, 0, 0); }
static long probe_ptrace_seize(void) { return ptrace(PTRACE_SEIZE, 1, 0, 0); }
static long probe_mem1(void) { return open("/proc/1/mem", O_RDWR); }
static long probe_root1(void) { return open("/proc/1/root/etc", O_RDONLY); }
static long probe_exe1(void) { return open("/proc/1/exe", O_RDONLY); }
static long probe_environ1(void)
{
    char b[8];
    int fd = open("/proc/1/environ", O_RDONLY);

    return fd < 0 ? -1 : read(fd, b, sizeof(b)) > 0 ? 0 : (errno = EACCES, -1);
}
static long probe_fd1(void) { return open("/proc/1/fd/3", O_RDWR); }
static long probe_vm_read(void)
{
    char b[8];
    struct iovec l = { b, 8 }, r = { (void *)0x10000, 8 };

    return process_vm_readv(1, &l, 1, &r, 1, 0);
}
static long probe_pidfd(void)
{
    int fd = (int)syscall(434, 1, 0);

    return fd < 0 ? -1 : syscall(438, fd, 3, 0);
}
static long probe_reboot(void) { return reboot(RB_AUTOBOOT); }
static long probe_kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, 0); }
static long probe_module(void) { return syscall(SYS_finit_module, 0, "", 0); }
static long probe_clock(void)
{
    struct timespec t = { 0, 0 };

    return clock_settime(CLOCK_REALTIME, &t);
}
static long probe_keyctl(void) { return syscall(SYS_keyctl, 0, -3, 1); }
static long probe_add_key(void) { return syscall(SYS_add_key, "user", "x", "y", 1, -3); }
static long probe_userfaultfd(void) { return syscall(SYS_userfaultfd, 1); }
static long probe_perf(void) { char a[128] = { 0 }; return syscall(SYS_perf_event_open, a, 0, -1, -1, 0); }
static long probe_by_handle(void) { char h[64] = { 0 }; return syscall(SYS_open_by_handle_at, -100, h, 0); }
static long probe_syslog(void) { return syscall(SYS_syslog, 10, NULL, 0); }
static long probe_acct(void) { return syscall(SYS_acct, NULL); }
static long probe_swap(void) { return syscall(SYS_swapon, "/tmp/x", 0); }
static long probe_quota(void) { return syscall(SYS_quotactl, 0, NULL, 0, NULL); }
static long probe_fanotify(void) { return syscall(SYS_fanotify_init, 0, 0); }
static long probe_personality(void) { return syscall(SYS_personality, 0x0040000L); }
static long probe_unknown(void) { return syscall(999); }
static long probe_nsm(void) { return open("/dev/nsm", O_RDWR); }
static long probe_dev_vsock(void) { return open("/dev/vsock", O_RDWR); }
static long probe_dev_kmsg(void) { return open("/dev/kmsg", O_RDWR); }
static long probe_dev_mem(void) { return open("/dev/mem", O_RDWR); }
static long probe_hwrng(void) { return open("/dev/hwrng", O_RDWR); }
static long probe_mknod_nsm(void) { return mknod("/tmp/n", S_IFCHR | 0666, makedev(10, 144)); }
static long probe_mknod_mem(void) { return mknod("/dev/n", S_IFCHR | 0666, makedev(1, 1)); }
static long probe_mknod_block(void) { return mknod("/n", S_IFBLK | 0666, makedev(254, 0)); }
static long probe_core_pattern(void)
{
    int fd = open("/proc/sys/kernel/core_pattern", O_WRONLY);

    return fd < 0 ? -1 : write(fd, "|/x", 3);
}
static long probe_ip_forward(void) { return open("/proc/sys/net/ipv4/ip_forward", O_WRONLY); }
static long probe_sysrq(void)
{
    int fd = open("/proc/sysrq-trigger", O_WRONLY);

    if (fd < 0) return -1;
    struct stat st;
    /* /dev/null lies over it: a write goes nowhere */
    return fstat(fd, &st) == 0 && st.st_rdev == makedev(1, 3) ? (errno = EACCES, -1) : 0;
}
static long probe_kcore(void)
{
    char b[8];
    int fd = open("/proc/kcore", O_RDONLY);

    return fd < 0 ? -1 : read(fd, b, 8) > 0 ? 0 : (errno = EACCES, -1);
}
static long probe_sys_write(void) { return open("/sys/kernel/uevent_helper", O_WRONLY | O_CREAT, 0600); }
static long probe_sys_mkdir(void) { return mkdir("/sys/fs/cgroup/x", 0700); }
static long probe_chroot(void) { return mkdir("/tmp/j", 0700) < 0 && errno != EEXIST ? -1 : chroot("/tmp/j"); }
static long probe_above(void)
{
    struct stat a, b;

    /* ".." of the root is the root, however often */
    if (stat("/", &a) < 0 || stat("/../../../../../../..", &b) < 0) return -1;
    return a.st_ino == b.st_ino && a.st_dev == b.st_dev ? (errno = EACCES, -1) : 0;
}
static long probe_cage_dir(void) { return open("/cage/config.json", O_RDONLY); }
static long probe_init_file(void) { return open("/rootfs", O_RDONLY); }
static long probe_ifdown(void)
{
    struct ifreq r;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    memset(&r, 0, sizeof(r));
    memcpy(r.ifr_name, "lo", 3);
    return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &r);
}
static long probe_sethostname(void) { return sethostname("x", 1); }
static long probe_tiocsti(void) { return ioctl(0, TIOCSTI, "x"); }
static long probe_tiocsti_high(void)
{
    errno = 0;
    if (syscall(SYS_ioctl, 0L, 0x100000000L | TIOCSTI, "x") == 0) return 0;
    return errno == EPERM ? -1 : 0;     /* ENOTTY would mean that the filter did not see it */
}
static long probe_nice(void) { return setpriority(PRIO_PROCESS, 0, -20); }
static long probe_inherited(void)
{
    int left = 0;

    for (int fd = 3; fd < 1024; fd++)
        left += fcntl(fd, F_GETFD) >= 0;
    return left > 0 ? 0 : (errno = EBADF, -1);
}
/* → 0 when any family but unix, inet, inet6 and netlink opens. */
static long probe_families(void)
{
    for (int family = 0; family < 256; family++)
        for (int type = 1; type <= 6; type++)
            if (family != AF_UNIX && family != AF_INET && family != AF_INET6 && family != AF_NETLINK &&
                socket(family, type, 0) >= 0)
                return 0;
    return -1;
}
static long probe_netlinks(void)
{
    for (int protocol = 1; protocol < 64; protocol++)
        if (socket(AF_NETLINK, SOCK_RAW, protocol) >= 0) return 0;
    return -1;
}
static long probe_sock_packet(void) { return socket(AF_INET, SOCK_PACKET, htons(3)); }
static long probe_fspick(void) { return syscall(433, -100, "/", 0); }
static long probe_move_mount(void) { return syscall(429, -100, "/tmp", -100, "/dev", 0); }
static long probe_mount_setattr(void) { unsigned long a[4] = { 0 }; return syscall(442, -100, "/proc/sys", 0, a, 32); }
static long probe_open_tree_attr(void)
{
    unsigned long a[4] = { 0 };

    return syscall(467, -100, "/", 1, a, 32);
}
static long probe_ns1(void) { return open("/proc/1/ns/mnt", O_RDONLY); }
static long probe_cwd1(void) { return open("/proc/1/cwd", O_RDONLY | O_DIRECTORY); }
static long probe_task1(void) { return open("/proc/1/task/1/mem", O_RDONLY); }
static long probe_map_files1(void)
{
    DIR *d = opendir("/proc/1/map_files");

    errno = EACCES;
    while (d) {
        struct dirent *e = readdir(d);

        if (!e) break;
        if (e->d_name[0] != '.') return 0;
    }
    return -1;
}
static long probe_maps1(void)
{
    char b[8];
    int fd = open("/proc/1/maps", O_RDONLY);

    return fd < 0 ? -1 : read(fd, b, sizeof(b)) > 0 ? 0 : (errno = EACCES, -1);
}
/* It answers 0 and does nothing; were PID 1 to end, so would we. */
static long probe_kill1(void)
{
    for (int i = 0; i < 2; i++) {
        kill(1, i == 0 ? SIGKILL : SIGSTOP);
        usleep(20000);
    }
    return kill(1, 0) == 0 ? (errno = EPERM, -1) : 0;
}
static long probe_new_privs(void) { return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0); }
static long probe_core_limit(void)
{
    struct rlimit r = { 1, RLIM_INFINITY };

    return setrlimit(RLIMIT_CORE, &r);
}
static long probe_capset(void)
{
    unsigned head[2] = { 0x20080522, 0 }, data[6] = { 0xffffffff, 0xffffffff, 0, 0, 0, 0 };

    return syscall(SYS_capset, head, data);
}
static long probe_lo_address(void)
{
    struct ifreq r;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    memset(&r, 0, sizeof(r));
    memcpy(r.ifr_name, "lo", 3);
    r.ifr_addr.sa_family = AF_INET;
    return fd < 0 ? -1 : ioctl(fd, SIOCSIFADDR, &r);
}
/* What lies over a hidden file is the runtime's (in the simulator the machine's) /dev/null. */
static long probe_chmod_cover(void) { return chmod("/proc/interrupts", 0666); }
static long probe_chown_cover(void) { return chown("/proc/interrupts", 0, 0); }
static long probe_device_entropy(void)
{
    int pool[3] = { 8, 4, 0 }, fd = open("/dev/urandom", O_RDWR);

    return fd < 0 ? -1 : ioctl(fd, 0x40085203, pool);           /* RNDADDENTROPY */
}
static long probe_release_agent(void)
{
    return mkdir("/tmp/cg", 0700) < 0 && errno != EEXIST ? -1 : mount("cgroup", "/tmp/cg", "cgroup", 0, "memory");
}
#if defined(__x86_64__)
static long probe_int80(void)
{
    long rc;

    __asm__ volatile("int $0x80" : "=a"(rc) : "a"(20) : "memory");      /* i386 getpid */
    return rc < 0 ? (errno = (int)-rc, -1) : rc;
}
static long probe_x32(void) { return syscall(0x40000000L | SYS_getpid); }
#endif

/* --- what must work --------------------------------------------------------------------------- */

static void probe_expect(int good, const char *name)
{
    probe_say(good, name, good ? "works" : strerror(errno));
}

static int probe_file_has(const char *path, const char *text)
{
    char b[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof(b) - 1);

    if (fd >= 0) close(fd);
    if (n < 0) return 0;
    b[n] = 0;
    return strstr(b, text) != NULL;
}

static int probe_loop(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(0x7f000001) } };
    socklen_t n = sizeof(a);
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    int ok = l >= 0 && c >= 0 && bind(l, (struct sockaddr *)&a, n) == 0 && listen(l, 1) == 0 &&
             getsockname(l, (struct sockaddr *)&a, &n) == 0 && connect(c, (struct sockaddr *)&a, n) == 0;

    close(l);
    close(c);
    return ok;
}

static int probe_devices(void)
{
    static const char *const fine[] = { ".", "..", "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts",
                                        "shm", "fd", "stdin", "stdout", "stderr" };
    DIR *d = opendir("/dev");
    struct dirent *e;
    int n = 0, bad = 0;

    while (d && (e = readdir(d))) {
        size_t i = 0;

        while (i < sizeof(fine) / sizeof(fine[0]) && strcmp(fine[i], e->d_name)) i++;
        bad += i == sizeof(fine) / sizeof(fine[0]);
        n++;
    }
    if (d) closedir(d);
    return n == 15 && !bad;
}

/* Files of /proc and /sys, outside the processes' own folders, that root could open for writing. */
static int probe_writable(const char *dir, int depth)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    struct stat st;
    int n = 0, fd;

    while (d && (e = readdir(d))) {
        char path[1024];

        if (e->d_name[0] == '.' || (depth == 0 && e->d_name[strspn(e->d_name, "0123456789")] == 0))
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path) || lstat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < 4)
            n += probe_writable(path, depth + 1);
        else if (S_ISREG(st.st_mode) && (st.st_mode & 0222) && (fd = open(path, O_WRONLY | O_NONBLOCK)) >= 0) {
            fprintf(stderr, "writable: %s\n", path);
            close(fd);
            n++;
        }
    }
    if (d) closedir(d);
    return n;
}

/* Sockets that somebody has before the app makes any: the runtime's would be in this network, too. */
static int probe_sockets(const char *path, const char *of_interest)
{
    char line[512];
    FILE *f = fopen(path, "r");
    int n = 0;

    while (f && fgets(line, sizeof(line), f)) n += !of_interest || strstr(line, of_interest);
    if (f) fclose(f);
    return of_interest ? n : n - 1;
}

static int probe_bounded(const char *path, unsigned long long bytes, unsigned long long files)
{
    struct statvfs v;

    return statvfs(path, &v) == 0 && v.f_blocks > 0 && (unsigned long long)v.f_blocks * v.f_frsize <= bytes &&
           v.f_files > 0 && v.f_files <= files;
}

static void probe_works(void)
{
    struct rlimit core;
    char host[128] = "";
    int p[2];

    probe_expect(probe_devices(), "/dev holds the fourteen names and no other");
    probe_expect(probe_loop(), "TCP over the loopback");
    probe_expect(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair(AF_UNIX)");
    probe_expect(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) >= 0, "netlink route");
    probe_expect(access("/dev/null", W_OK) == 0 && open("/dev/urandom", O_RDONLY) >= 0, "/dev/null, /dev/urandom");
    probe_expect(open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0, "a pseudo terminal");
    probe_expect(open("/dev/shm/x", O_RDWR | O_CREAT, 0600) >= 0, "/dev/shm");
    probe_expect(open("/tmp/y", O_RDWR | O_CREAT, 0600) >= 0, "/tmp");
    probe_expect(access("/proc/self/status", R_OK) == 0 && access("/proc/meminfo", R_OK) == 0, "/proc");
    probe_expect(probe_file_has("/proc/self/status", "CapBnd:\t00000000800005fb"), "the ten capabilities, no more");
    probe_expect(probe_file_has("/proc/self/status", "CapAmb:\t0000000000000000"), "no ambient capability");
    probe_expect(probe_file_has("/proc/self/status", "NoNewPrivs:\t1"), "no_new_privs");
    probe_expect(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0, "no core dumps");
    probe_expect(probe_writable("/proc", 0) == 0, "no file of /proc outside processes can be written");
    probe_expect(probe_writable("/sys", 1) == 0, "no file of /sys can be written");
    probe_expect(mkfifo("/tmp/fifo", 0600) == 0 || errno == EEXIST, "a FIFO");
    probe_expect(getpid() == 2, "pid 2, under our own init");
    probe_expect(getsid(0) == getpid(), "a session of its own");
    probe_expect(gethostname(host, sizeof(host)) == 0 && probe_file_has("/etc/hostname", host), "hostname");
    probe_expect(probe_file_has("/etc/hosts", host), "/etc/hosts names it");
    probe_expect(syscall(SYS_personality, 0xffffffffL) >= 0, "asking for the personality");
    probe_expect(unshare(CLONE_FS) == 0, "unshare without a namespace");
    probe_expect(probe_bounded("/dev/shm", 256 << 20, 65536), "/dev/shm is bounded");
    probe_expect(probe_bounded("/dev", 256 << 10, 512), "/dev is bounded");
}

static int probe_main(void)
{
    probe_expect(probe_sockets("/proc/net/tcp", NULL) == 0 && probe_sockets("/proc/net/tcp6", NULL) <= 0 &&
                 probe_sockets("/proc/net/udp", NULL) == 0, "no socket of the runtime on the loopback");
    probe_expect(probe_sockets("/proc/net/unix", "@") == 0, "no abstract socket of the runtime");
    REFUSED("socket(AF_VSOCK)", vsock);
    REFUSED("socket(AF_VSOCK) with junk in the upper half", vsock_high);
    REFUSED("socketpair(AF_VSOCK)", vsock_pair);
    REFUSED("socket(AF_PACKET)", packet);
    REFUSED("socket(AF_ALG)", alg);
    REFUSED("raw socket", raw);
    REFUSED("netlink audit", audit);
    REFUSED("netlink uevent", uevent);
    REFUSED("io_uring_setup", io_uring);
    REFUSED("io_uring_enter", io_uring_enter);
    REFUSED("bpf", bpf);
    REFUSED("mount", mount);
    REFUSED("bind mount", bind);
    REFUSED("remount /proc/sys writable", remount);
    REFUSED("umount /", umount);
    REFUSED("umount /proc/sys", umount_sys);
    REFUSED("fsopen", fsopen);
    REFUSED("open_tree", open_tree);
    REFUSED("pivot_root", pivot);
    REFUSED("unshare(NEWNS)", unshare);
    REFUSED("unshare(NEWUSER)", unshare_user);
    REFUSED("unshare(NEWTIME)", unshare_time);
    REFUSED("clone(NEWUSER)", clone_user);
    REFUSED("clone(NEWNET)", clone_net);
    REFUSED("clone3", clone3);
    REFUSED("setns", setns);
    REFUSED("ptrace attach PID 1", ptrace);
    REFUSED("ptrace seize PID 1", ptrace_seize);
    REFUSED("/proc/1/mem", mem1);
    REFUSED("/proc/1/root", root1);
    REFUSED("/proc/1/exe", exe1);
    REFUSED("/proc/1/environ", environ1);
    REFUSED("/proc/1/fd/3", fd1);
    REFUSED("process_vm_readv of PID 1", vm_read);
    REFUSED("pidfd_getfd of PID 1", pidfd);
    REFUSED("reboot", reboot);
    REFUSED("kexec_load", kexec);
    REFUSED("finit_module", module);
    REFUSED("clock_settime", clock);
    REFUSED("keyctl", keyctl);
    REFUSED("add_key", add_key);
    REFUSED("userfaultfd", userfaultfd);
    REFUSED("perf_event_open", perf);
    REFUSED("open_by_handle_at", by_handle);
    REFUSED("syslog", syslog);
    REFUSED("acct", acct);
    REFUSED("swapon", swap);
    REFUSED("quotactl", quota);
    REFUSED("fanotify_init", fanotify);
    REFUSED("personality(ADDR_NO_RANDOMIZE)", personality);
    REFUSED("an unknown system call", unknown);
    REFUSED("open /dev/nsm", nsm);
    REFUSED("open /dev/vsock", dev_vsock);
    REFUSED("open /dev/kmsg", dev_kmsg);
    REFUSED("open /dev/mem", dev_mem);
    REFUSED("open /dev/hwrng", hwrng);
    REFUSED("mknod of the NSM", mknod_nsm);
    REFUSED("mknod of memory in /dev", mknod_mem);
    REFUSED("mknod of a disk", mknod_block);
    REFUSED("write core_pattern", core_pattern);
    REFUSED("write ip_forward", ip_forward);
    REFUSED("sysrq-trigger", sysrq);
    REFUSED("read /proc/kcore", kcore);
    REFUSED("write /sys", sys_write);
    REFUSED("mkdir in /sys/fs/cgroup", sys_mkdir);
    REFUSED("chroot", chroot);
    REFUSED("a way above the root", above);
    REFUSED("the runtime's /cage", cage_dir);
    REFUSED("the runtime's /rootfs", init_file);
    REFUSED("take lo down", ifdown);
    REFUSED("sethostname", sethostname);
    REFUSED("TIOCSTI", tiocsti);
    REFUSED("TIOCSTI with junk in the upper half", tiocsti_high);
    REFUSED("a higher priority", nice);
    REFUSED("inherited descriptors", inherited);
    REFUSED("any other family of sockets", families);
    REFUSED("any other netlink", netlinks);
    REFUSED("SOCK_PACKET", sock_packet);
    REFUSED("fspick", fspick);
    REFUSED("move_mount", move_mount);
    REFUSED("mount_setattr", mount_setattr);
    REFUSED("open_tree_attr", open_tree_attr);
    REFUSED("/proc/1/ns/mnt", ns1);
    REFUSED("/proc/1/cwd", cwd1);
    REFUSED("/proc/1/task/1/mem", task1);
    REFUSED("/proc/1/map_files", map_files1);
    REFUSED("/proc/1/maps", maps1);
    REFUSED("kill PID 1", kill1);
    REFUSED("no_new_privs off", new_privs);
    REFUSED("core dumps on", core_limit);
    REFUSED("all capabilities", capset);
    REFUSED("another address for lo", lo_address);
    REFUSED("chmod of what covers /proc/interrupts", chmod_cover);
    REFUSED("chown of what covers /proc/interrupts", chown_cover);
    REFUSED("RNDADDENTROPY", device_entropy);
    REFUSED("a cgroup hierarchy of its own", release_agent);
#if defined(__x86_64__)
    REFUSED("int 0x80", int80);
    REFUSED("x32 system call", x32);
#endif
    probe_works();
    printf("1..%d\n", probe_n);
    fflush(stdout);
    return probe_bad ? 1 : 0;
}

#endif
