/* mounts.c — see mounts.h. */
#include "role/mounts.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "role/rootfs.h"

/* A new file system, not yet anywhere. → fd of the mount. */
int ev_mount_new(const char *type, const struct ev_mount_option *opt, unsigned attr, struct ev_err *err)
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

int ev_mount_attach(int mount_fd, int target_fd, const char *what, struct ev_err *err)
{
    if (move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return ev_fail_errno(err, "mount on %s", what);
    return 0;
}

/* New file system on the real directory root/name. → fd of the mount, usable as a directory. */
int ev_mount_on(int root, const char *name, const char *type, const struct ev_mount_option *opt, unsigned attr,
                    struct ev_err *err)
{
    int target = -1, fd = -1, rc;

    EV_TRY(target = ev_root_dir(root, name, err));
    EV_TRY(fd = ev_mount_new(type, opt, attr, err));
    EV_TRY(ev_mount_attach(fd, target, name, err));
out:
    if (target >= 0)
        close(target);
    if (rc < 0 && fd >= 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

static const struct { const char *name; unsigned major, minor; } nodes[] = {
    { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
static const struct { const char *name, *to; } links[] = {
    { "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
    { "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" } };

int ev_mount_clone_node(const char *path, struct ev_err *err)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), rc;

    if (fd < 0)
        return ev_fail_errno(err, "clone %s", path);
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        return fd;
    rc = ev_fail_errno(err, "make %s read-only", path);
    close(fd);
    return rc;
}

/* Clones one file of the runtime's /dev onto an empty file: in a user namespace nodes cannot be made. */
static int bind_node(int dev, const char *name, struct ev_err *err)
{
    char from[32];
    int file = -1, tree = -1, rc;

    snprintf(from, sizeof(from), "/dev/%s", name);
    EV_TRY(file = ev_root_open(dev, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666, EV_ROOT_NO_LINKS));
    EV_TRY(tree = ev_mount_clone_node(from, NULL));
    EV_TRY(ev_mount_attach(tree, file, from, NULL));
out:
    if (file >= 0)
        close(file);
    if (tree >= 0)
        close(tree);
    return rc < 0 ? ev_fail(err, rc, "/dev/%s: %s", name, ev_err_text(rc)) : 0;
}

int ev_mount_nodes(int dev, struct ev_err *err)
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
