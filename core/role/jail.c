/* jail.c — the app's mount tree (sandbox.h).
 *
 *   runtime's /            app's /
 *   ├─ rootfs ──clone──▶   ├─ (the image)
 *   └─ dev ────nodes───▶   ├─ dev    tmpfs: null zero full random urandom tty, pts, shm, links
 *                          ├─ proc   of the app's own pid namespace; parts masked or read-only
 *                          └─ sys    read-only
 *
 * Mounts are made detached (fsopen, open_tree) and moved onto descriptors that ev_root_dir opened,
 * so no path of the image is ever resolved by mount(2). */
#include "role/sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "role/mounts.h"
#include "role/rootfs.h"

static int mount_pts(int dev, struct ev_err *err)
{
    static const struct ev_mount_option opt[] = { { "gid", "5" }, { "ptmxmode", "0666" }, { "mode", "0620" },
                                                  { NULL, NULL } };
    int fd = ev_mount_on(dev, "pts", "devpts", opt, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NULL);

    if (fd < 0)         /* one mapped id only (an ordinary user's simulator): gid 5 does not exist */
        fd = ev_mount_on(dev, "pts", "devpts", opt + 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
    return fd;
}

static int mount_dev(int root, struct ev_err *err)
{
    static const struct ev_mount_option small[] = { { "mode", "0755" }, { "size", "256k" }, { "nr_inodes", "512" },
                                                    { NULL, NULL } };
    static const struct ev_mount_option shared[] = { { "mode", "1777" }, { "size", "256m" }, { "nr_inodes", "65536" },
                                                     { NULL, NULL } };
    int dev = -1, fd = -1, rc;

    EV_TRY(dev = ev_mount_on(root, "dev", "tmpfs", small, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err));
    EV_TRY(ev_mount_nodes(dev, err));
    EV_TRY(fd = mount_pts(dev, err));
    close(fd);
    EV_TRY(fd = ev_mount_on(dev, "shm", "tmpfs", shared,
                         MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err));
    close(fd);
out:
    if (dev >= 0)
        close(dev);
    if (rc < 0)
        ev_err_wrap(err, "/dev of the app");
    return rc < 0 ? rc : 0;
}

/* --- /proc and /sys -------------------------------------------------------------------------- */

/* Kernel state that is nobody's business: files become /dev/null, folders an empty read-only tmpfs.
 * Beyond this list nothing outside the processes' own folders stays writable: see cover_rest. */
static const char *const proc_hidden[] = {
    "acpi", "asound", "config.gz", "interrupts", "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup",
    "kpagecount", "kpageflags", "latency_stats", "sched_debug", "scsi", "sysrq-trigger", "timer_list", "timer_stats",
    "vmallocinfo" };
static const char *const sys_hidden[] = { "firmware", "kernel/debug", "kernel/security", "kernel/tracing",
                                          "fs/bpf", "devices/virtual/powercap" };

enum { LOCKED = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };

static int hidden_source(mode_t mode, struct ev_err *err)
{
    static const struct ev_mount_option empty[] = { { "mode", "0555" }, { "size", "4k" }, { "nr_inodes", "2" },
                                                    { NULL, NULL } };

    if (S_ISDIR(mode))
        return ev_mount_new("tmpfs", empty, LOCKED | MOUNT_ATTR_RDONLY, err);
    return ev_mount_clone_node("/dev/null", err);
}

/* A read-only copy of the very thing, to lie over it. */
static int fixed_source(int target, struct ev_err *err)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | LOCKED };
    int fd = open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

    if (fd < 0)
        return ev_fail_errno(err, "clone");
    if (mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0) {
        ev_fail_errno(err, "make read-only");
        close(fd);
        return err ? err->code : -EIO;
    }
    return fd;
}

static int cover(int base, const char *path, bool hide, struct ev_err *err)
{
    int target = ev_root_open(base, path, O_PATH | O_NOFOLLOW, 0, EV_ROOT_NO_LINKS), source = -1, rc = 0;
    struct stat st;

    if (target == -ENOENT)
        return 0;                                   /* this kernel has no such file */
    if (target < 0)
        return ev_fail(err, target, "%s: %s", path, ev_err_text(target));
    if (fstat(target, &st) < 0)
        rc = ev_fail_errno(err, "stat");
    EV_TRY(rc);
    EV_TRY(source = hide ? hidden_source(st.st_mode, err) : fixed_source(target, err));
    EV_TRY(ev_mount_attach(source, target, path, err));
out:
    if (rc < 0)
        ev_err_wrap(err, "%s", path);
    if (source >= 0)
        close(source);
    close(target);
    return rc;
}

static int cover_all(int base, const char *const *paths, size_t n, bool hide, struct ev_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc >= 0; i++)
        rc = cover(base, paths[i], hide, err);
    return rc;
}

static bool is_process(const char *name)
{
    return name[strspn(name, "0123456789")] == 0;
}

/* Everything of /proc that is not a process: folders (sys, bus, irq, ... whatever this kernel has)
 * become read-only, files that root could write become /dev/null. */
static int cover_rest(int proc, struct ev_err *err)
{
    DIR *d = fdopendir(ev_root_open(proc, "/", O_RDONLY | O_DIRECTORY, 0, EV_ROOT_NO_LINKS));
    struct dirent *e;
    struct stat st;
    int rc = 0;

    if (!d)
        return ev_fail_errno(err, "list");
    while (rc == 0 && (e = readdir(d))) {
        if (e->d_name[0] == '.' || is_process(e->d_name) || fstatat(proc, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && (st.st_mode & 0222)))
            rc = cover(proc, e->d_name, !S_ISDIR(st.st_mode), err);
    }
    closedir(d);
    return rc;
}

static int mount_proc(int root, struct ev_err *err)
{
    int fd = -1, rc;

    EV_TRY(fd = ev_mount_on(root, "proc", "proc", NULL, LOCKED, err));
    EV_TRY(cover_all(fd, proc_hidden, EV_COUNT(proc_hidden), true, err));
    EV_TRY(cover_rest(fd, err));
out:
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        ev_err_wrap(err, "/proc of the app");
    return rc < 0 ? rc : 0;
}

static int mount_sys(int root, struct ev_err *err)
{
    int fd = -1, rc;

    EV_TRY(fd = ev_mount_on(root, "sys", "sysfs", NULL, LOCKED | MOUNT_ATTR_RDONLY, err));
    EV_TRY(cover_all(fd, sys_hidden, EV_COUNT(sys_hidden), true, err));
out:
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        ev_err_wrap(err, "/sys of the app");
    return rc < 0 ? rc : 0;
}

/* --- root and names --------------------------------------------------------------------------- */

/* hosts and hostname, as a container gets them. An /etc that is a link is refused by ev_root_dir. */
static int write_names(int root, const char *hostname, struct ev_err *err)
{
    char text[512];
    int etc = ev_root_dir(root, "etc", err), n, rc;

    if (etc < 0)
        return etc;
    n = snprintf(text, sizeof(text), "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname);
    if ((rc = ev_root_write(etc, "hosts", ev_slice_of(text, (size_t)n), err)) == 0) {
        n = snprintf(text, sizeof(text), "%s\n", hostname);
        rc = ev_root_write(etc, "hostname", ev_slice_of(text, (size_t)n), err);
    }
    close(etc);
    return rc;
}

/* The image's root as a mount of its own, attached over itself. → fd */
static int clone_root(const char *rootfs, struct ev_err *err)
{
    int base = -1, dir = -1, tree = -1, rc = 0;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        rc = ev_fail_errno(err, "make mounts private");
    EV_TRY(rc);
    if ((base = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = ev_fail_errno(err, "open /");
    EV_TRY(rc);
    if ((dir = rc = ev_root_open(base, rootfs, O_PATH | O_DIRECTORY, 0, EV_ROOT_NO_LINKS)) < 0)
        ev_fail(err, rc, "open %s: %s", rootfs, ev_err_text(rc));
    EV_TRY(rc);
    tree = rc = open_tree(dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (rc < 0)
        rc = ev_fail_errno(err, "clone %s", rootfs);
    EV_TRY(rc);
    EV_TRY(ev_mount_attach(tree, dir, rootfs, err));
out:
    if (base >= 0)
        close(base);
    if (dir >= 0)
        close(dir);
    if (rc < 0 && tree >= 0)
        close(tree);
    return rc < 0 ? rc : tree;
}

/* The old root ends up on top of the new one ("." twice) and is taken off: nothing is left of it. */
static int swap_root(int root, struct ev_err *err)
{
    if (fchdir(root) < 0)
        return ev_fail_errno(err, "enter the new root");
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return ev_fail_errno(err, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0)
        return ev_fail_errno(err, "detach the old root");
    if (chdir("/") < 0 || chroot(".") < 0 || chdir("/") < 0)
        return ev_fail_errno(err, "chroot");
    return 0;
}

int ev_jail_enter(const char *rootfs, const char *hostname, struct ev_err *err)
{
    int root = -1, fresh = -1, rc;

    EV_TRY(root = clone_root(rootfs, err));
    EV_TRY(write_names(root, hostname, err));
    EV_TRY(mount_dev(root, err));
    EV_TRY(mount_proc(root, err));
    EV_TRY(mount_sys(root, err));
    EV_TRY(swap_root(root, err));
    if (sethostname(hostname, strlen(hostname)) < 0)
        rc = ev_fail_errno(err, "hostname");
    else if ((fresh = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = ev_fail_errno(err, "open /");
out:
    if (root >= 0)
        close(root);
    if (rc < 0)
        ev_err_wrap(err, "containment");
    return rc < 0 ? rc : fresh;
}
