/* init.c — see init.h. Every failure is returned, never waited for: the kernel's own 30 s panic
 * timer is not part of our ending. */
#include "role/init.h"

#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "net/vsock.h"
#include "role/rootfs.h"

enum { HEARTBEAT = 0xB7, HEARTBEAT_TRIES = 20, HEARTBEAT_MS = 2000, PAUSE_MS = 250, REPORT_MS = 1000, POOL_BYTES = 64,
       XATTRS_MAX = 64 << 20, LINE_LEN = 1400, FILES = 65536 };

bool ev_init_simulated(void)
{
    struct stat st;

    return access("/dev/nsm", F_OK) < 0 && fstat(EV_SIM_NSM_FD, &st) == 0 && S_ISSOCK(st.st_mode);
}

void ev_init_say(const char *fmt, ...)
{
    char line[LINE_LEN];
    va_list ap;
    int n;

    n = snprintf(line, sizeof(line), "ev-cage enclave: ");
    va_start(ap, fmt);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof(line) - 2)
        n = (int)sizeof(line) - 2;
    line[n++] = '\n';
    if (ev_write_all(STDERR_FILENO, line, (size_t)n) < 0)
        return;                                     /* no console: nobody to tell */
}

/* --- mounts ---------------------------------------------------------------------------------- */

static const struct mount_row {
    const char *target, *type, *data;
    unsigned long flags;
    bool optional;              /* a user namespace forbids it (EPERM); the launcher prepared the rest */
    bool machine;               /* not in the simulator: it would be this machine's, and outlive us */
} mount_rows[] = {
    { "/dev", "devtmpfs", NULL, MS_NOSUID | MS_NOEXEC, true, false },
    { "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false, false },
    { "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false, false },
    { "/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV | MS_NOEXEC, false, false },
    { "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV | MS_NOEXEC, false, false },
    { "/sys/fs/cgroup", "cgroup2", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true, true },
};

static int mount_one(const struct mount_row *m, struct ev_err *err)
{
    if (mkdir(m->target, 0755) < 0 && errno != EEXIST && !m->optional)
        return ev_fail_errno(err, "create %s", m->target);
    if (mount(m->type, m->target, m->type, m->flags, m->data) == 0 || errno == EBUSY)
        return 0;                                   /* EBUSY: the kernel or the launcher did it */
    if (m->optional && (errno == EPERM || errno == ENODEV || errno == ENOENT))
        return 0;
    return ev_fail_errno(err, "mount %s on %s", m->type, m->target);
}

/* The kernel's first root cannot be pivoted away. A clone of it, moved on top and entered, can. */
static int enter_clone_of_root(struct ev_err *err)
{
    int tree = open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE), rc = 0;

    if (tree < 0)
        return ev_fail_errno(err, "clone /");
    if (move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        rc = ev_fail_errno(err, "move the clone of /");
    else if (fchdir(tree) < 0 || chroot(".") < 0 || chdir("/") < 0)
        rc = ev_fail_errno(err, "enter the clone of /");
    close(tree);
    return rc;
}

int ev_init_mounts(struct ev_err *err)
{
    int rc;

    EV_TRY(enter_clone_of_root(err));
    for (size_t i = 0; i < EV_COUNT(mount_rows); i++)
        if (!mount_rows[i].machine || !ev_init_simulated())
            EV_TRY(mount_one(&mount_rows[i], err));
out:
    return rc;
}

void ev_init_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return;                                     /* the simulator's console is 0, 1 and 2 already */
    for (int i = 0; i <= STDERR_FILENO; i++)
        if (dup2(fd, i) < 0)
            break;
    if (fd > STDERR_FILENO)
        close(fd);
}

int ev_init_limits(struct ev_err *err)
{
    struct rlimit none = { 0, 0 }, files;

    if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
        return ev_fail_errno(err, "limits");
    /* A kernel gives its init 1024 and 4096; only the first user namespace may raise the second. */
    if (files.rlim_max < FILES && setrlimit(RLIMIT_NOFILE, &(struct rlimit){ FILES, FILES }) == 0)
        return 0;
    files.rlim_cur = files.rlim_max < FILES ? files.rlim_max : FILES;
    return setrlimit(RLIMIT_NOFILE, &files) < 0 ? ev_fail_errno(err, "limit of descriptors") : 0;
}

/* --- network, entropy, files ----------------------------------------------------------------- */

int ev_init_loopback(struct ev_err *err)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;
    struct ifreq req;

    if (fd < 0)
        return ev_fail_errno(err, "lo: socket");
    memset(&req, 0, sizeof(req));
    memcpy(req.ifr_name, "lo", sizeof("lo"));
    if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
        rc = ev_fail_errno(err, "lo: flags");
    else if (!(req.ifr_flags & IFF_UP)) {
        req.ifr_flags |= IFF_UP;                    /* the kernel adds 127.0.0.1/8 and ::1 itself */
        if (ioctl(fd, SIOCSIFFLAGS, &req) < 0)
            rc = ev_fail_errno(err, "lo: up");
    }
    close(fd);
    return rc;
}

int ev_init_entropy(struct ev_nsm *nsm, struct ev_err *err)
{
    int pool[2 + POOL_BYTES / (int)sizeof(int)] = { POOL_BYTES * 8, POOL_BYTES };   /* struct rand_pool_info */
    int fd = -1, rc;

    EV_TRY(ev_nsm_random(nsm, &pool[2], POOL_BYTES, err));
    if ((fd = open("/dev/urandom", O_RDWR | O_CLOEXEC)) < 0)
        rc = ev_fail_errno(err, "open /dev/urandom");
    EV_TRY(rc);
    /* Crediting needs a capability of the first user namespace; mixing in does not. */
    if (ioctl(fd, RNDADDENTROPY, pool) < 0 && (rc = ev_write_all(fd, &pool[2], POOL_BYTES)) < 0)
        ev_fail(err, rc, "mix entropy: %s", ev_err_text(rc));
out:
    ev_wipe(pool, sizeof(pool));
    if (fd >= 0)
        close(fd);
    return rc < 0 ? rc : 0;
}

/* A file of cage/, through no link. -ENOENT is left to the caller. */
static int read_cage(const char *path, struct ev_buf *out, struct ev_err *err)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd, rc;

    if (root < 0)
        return ev_fail_errno(err, "open /");
    rc = fd = ev_root_open(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, EV_ROOT_NO_LINKS);
    if (fd >= 0) {
        rc = ev_file_read_fd(fd, out, NULL);
        close(fd);
    }
    close(root);
    return rc < 0 ? ev_fail(err, rc, "%s: %s", path, ev_err_text(rc)) : 0;
}

int ev_init_conf(struct ev_conf *out, struct ev_err *err)
{
    struct ev_buf text = EV_BUF_INIT(EV_CONF_MAX);
    int rc;

    EV_TRY(read_cage("cage/config.json", &text, err));
    EV_TRY(ev_conf_parse(ev_buf_slice(&text), out, err));
out:
    ev_buf_fini(&text);
    return rc;
}

int ev_init_xattrs(struct ev_err *err)
{
    struct ev_buf text = EV_BUF_INIT(XATTRS_MAX);
    size_t refused = 0;
    int root = -1, rc = read_cage("cage/xattrs", &text, NULL);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        rc = ev_fail(err, rc, "cage/xattrs: %s", ev_err_text(rc));
    EV_TRY(rc);
    if ((root = open("/rootfs", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        rc = ev_fail_errno(err, "open /rootfs");
    EV_TRY(rc);
    EV_TRY(ev_xattrs_apply(root, ev_buf_slice(&text), &refused, err));
    if (refused > 0)
        ev_init_say("%zu file capabilities of the image cannot be kept on this root", refused);
out:
    if (root >= 0)
        close(root);
    ev_buf_fini(&text);
    return rc < 0 ? rc : 0;
}

/* --- the parent ------------------------------------------------------------------------------ */

static void pause_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&t, NULL);
}

static int beat(struct ev_err *err)
{
    uint8_t byte = HEARTBEAT;
    int fd = ev_vsock_connect_parent(EV_PORT_HEARTBEAT, HEARTBEAT_MS, err), rc;
    struct pollfd p = { fd, POLLIN, 0 };

    if (fd < 0)
        return fd;
    if ((rc = ev_write_all(fd, &byte, 1)) < 0)
        rc = ev_fail(err, rc, "write: %s", ev_err_text(rc));
    else if (poll(&p, 1, HEARTBEAT_MS) != 1)
        rc = ev_fail(err, -ETIMEDOUT, "no answer");
    else if (read(fd, &byte, 1) != 1 || byte != HEARTBEAT)
        rc = ev_fail(err, EV_EEOF, "wrong answer");
    close(fd);
    return rc;
}

int ev_init_heartbeat(struct ev_err *err)
{
    int rc = 0;

    for (int i = 0; i < HEARTBEAT_TRIES; i++) {
        /* The transport may not be ready at once (spec bootstrap §3). */
        if ((rc = beat(err)) == 0)
            return 0;
        if (rc != -ENODEV && rc != -ECONNRESET && rc != -ECONNREFUSED && rc != -ENETUNREACH)
            break;
        pause_ms(PAUSE_MS);
    }
    ev_err_wrap(err, "heartbeat to the parent");
    return rc;
}

static void report(int code, int signum, const char *reason)
{
    char line[512];
    int fd = ev_vsock_connect_parent(EV_PORT_EXIT, REPORT_MS, NULL), n;

    if (fd < 0)
        return;                                     /* best effort: the parent sees the end anyway */
    n = snprintf(line, sizeof(line) - 1, "exit code=%d signal=%d reason=%s", code, signum, reason);
    if (n > (int)sizeof(line) - 2)
        n = (int)sizeof(line) - 2;
    for (int i = 0; i < n; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[n++] = '\n';
    if (ev_write_all(fd, line, (size_t)n) == 0 && shutdown(fd, SHUT_WR) == 0) {
        struct pollfd p = { fd, POLLIN, 0 };        /* the end of a machine would overtake what is queued */

        poll(&p, 1, REPORT_MS);
    }
    close(fd);
}

void ev_init_end(int code, int signum, const char *reason)
{
    bool simulated = ev_init_simulated();

    ev_init_say("end: %s", reason);
    report(code, signum, reason);
    if (!simulated) {
        if (isatty(STDERR_FILENO))
            tcdrain(STDERR_FILENO);
        sync();
        reboot(RB_AUTOBOOT);
    }
    _exit(code);
}
