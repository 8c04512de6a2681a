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

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "role/rootfs.h"

struct option { const char *key, *value; };

/* A new file system, not yet anywhere. → fd of the mount. */
static int new_mount(const char *type, const struct option *opt, unsigned attr, struct ev_err *err)
{
    int fs = fsopen(type, FSOPEN_CLOEXEC), fd;

    if (fs < 0)
        return ev_fail_errno(err, "fsopen %s", type);
    for (; opt && opt->key; opt++)
        if (fsconfig(fs, FSCONFIG_SET_STRING, opt->key, opt->value, 0) < 0)
            goto fail;
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 || (fd = fsmount(fs, FSMOUNT_CLOEXEC, attr)) < 0)
        goto fail;
    close(fs);
    return fd;
fail:
    ev_fail_errno(err, "mount %s", type);
    close(fs);
    return err ? err->code : -EIO;
}

static int attach(int mount_fd, int target_fd, const char *what, struct ev_err *err)
{
    if (move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return ev_fail_errno(err, "mount on %s", what);
    return 0;
}

/* New file system on the real directory root/name. → fd of the mount, usable as a directory. */
static int mount_on(int root, const char *name, const char *type, const struct option *opt, unsigned attr,
                    struct ev_err *err)
{
    int target = -1, fd = -1, rc;

    EV_TRY(target = ev_root_dir(root, name, err));
    EV_TRY(fd = new_mount(type, opt, attr, err));
    EV_TRY(attach(fd, target, name, err));
out:
    if (target >= 0)
        close(target);
    if (rc < 0 && fd >= 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

/* --- /dev ----------------------------------------------------------------------------------- */

static const struct { const char *name; unsigned major, minor; } nodes[] = {
    { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
static const struct { const char *name, *to; } links[] = {
    { "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
    { "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" } };

/* Clones one file of the runtime's /dev onto an empty file: in a user namespace nodes cannot be made. */
static int bind_node(int dev, const char *name, struct ev_err *err)
{
    char from[32];
    int file = -1, tree = -1, rc;

    snprintf(from, sizeof(from), "/dev/%s", name);
    EV_TRY(file = ev_root_open(dev, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666, EV_ROOT_NO_LINKS));
    if ((tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)) < 0)
        rc = -errno;
    else
        rc = attach(tree, file, from, NULL);
out:
    if (file >= 0)
        close(file);
    if (tree >= 0)
        close(tree);
    return rc < 0 ? ev_fail(err, rc, "/dev/%s: %s", name, ev_err_text(rc)) : 0;
}

static int make_nodes(int dev, struct ev_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < EV_COUNT(nodes) && rc == 0; i++) {
        if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) == 0)
            rc = fchmodat(dev, nodes[i].name, 0666, 0) < 0 ? ev_fail_errno(err, "/dev/%s", nodes[i].name) : 0;
        else if (errno == EPERM)
            rc = bind_node(dev, nodes[i].name, err);
        else
            rc = ev_fail_errno(err, "create /dev/%s", nodes[i].name);
    }
    for (size_t i = 0; i < EV_COUNT(links) && rc == 0; i++)
        if (symlinkat(links[i].to, dev, links[i].name) < 0)
            rc = ev_fail_errno(err, "link /dev/%s", links[i].name);
    return rc;
}

static int mount_pts(int dev, struct ev_err *err)
{
    static const struct option with_tty[] = { { "ptmxmode", "0666" }, { "mode", "0620" }, { "gid", "5" }, { NULL, NULL } };
    static const struct option plain[] = { { "ptmxmode", "0666" }, { "mode", "0620" }, { NULL, NULL } };
    int fd = mount_on(dev, "pts", "devpts", with_tty, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NULL);

    if (fd < 0)         /* one mapped id only (an ordinary user's simulator): gid 5 does not exist */
        fd = mount_on(dev, "pts", "devpts", plain, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
    return fd;
}

static int mount_dev(int root, struct ev_err *err)
{
    static const struct option small[] = { { "mode", "0755" }, { "size", "256k" }, { "nr_inodes", "512" }, { NULL, NULL } };
    static const struct option shared[] = { { "mode", "1777" }, { NULL, NULL } };
    int dev = -1, fd = -1, rc;

    EV_TRY(dev = mount_on(root, "dev", "tmpfs", small, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err));
    EV_TRY(make_nodes(dev, err));
    EV_TRY(fd = mount_pts(dev, err));
    close(fd);
    EV_TRY(fd = mount_on(dev, "shm", "tmpfs", shared,
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

/* Kernel state that is nobody's business: files become /dev/null, folders an empty read-only tmpfs. */
static const char *const proc_hidden[] = { "acpi", "asound", "config.gz", "interrupts", "kallsyms", "kcore", "key-users",
                                           "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats",
                                           "sched_debug", "scsi", "sysrq-trigger", "timer_list", "timer_stats",
                                           "vmallocinfo" };
static const char *const proc_fixed[] = { "bus", "fs", "irq", "mtrr", "sys" };
static const char *const sys_hidden[] = { "firmware", "kernel/debug", "kernel/security", "kernel/tracing",
                                          "fs/bpf", "devices/virtual/powercap" };

enum { LOCKED = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };

static int hidden_source(mode_t mode, struct ev_err *err)
{
    static const struct option empty[] = { { "mode", "0555" }, { "size", "4k" }, { "nr_inodes", "2" }, { NULL, NULL } };
    int fd;

    if (S_ISDIR(mode))
        return new_mount("tmpfs", empty, LOCKED | MOUNT_ATTR_RDONLY, err);
    fd = open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return fd < 0 ? ev_fail_errno(err, "clone /dev/null") : fd;
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
    EV_TRY(attach(source, target, path, err));
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

static int mount_proc(int root, struct ev_err *err)
{
    int fd = -1, rc;

    EV_TRY(fd = mount_on(root, "proc", "proc", NULL, LOCKED, err));
    EV_TRY(cover_all(fd, proc_hidden, EV_COUNT(proc_hidden), true, err));
    EV_TRY(cover_all(fd, proc_fixed, EV_COUNT(proc_fixed), false, err));
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

    EV_TRY(fd = mount_on(root, "sys", "sysfs", NULL, LOCKED | MOUNT_ATTR_RDONLY, err));
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
    EV_TRY(attach(tree, dir, rootfs, err));
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
