/* rootfs.h — touching the app's root file system, whose content a stranger wrote.
 *
 * Every path of ours under that root is resolved by the kernel with openat2(RESOLVE_IN_ROOT |
 * RESOLVE_NO_MAGICLINKS), and whatever we create or mount on with RESOLVE_NO_SYMLINKS as well, so a
 * link in the image can at most name another place in the image. */
#ifndef EV_ROLE_ROOTFS_H
#define EV_ROLE_ROOTFS_H

#include <sys/types.h>

#include "base/buf.h"

enum { EV_ROOT_FOLLOW = 0, EV_ROOT_NO_LINKS = 1 };

/* openat2 under root_fd; O_CLOEXEC and O_NOFOLLOW-free as the kernel resolves. → fd or -errno. */
int ev_root_open(int root_fd, const char *path, int flags, mode_t mode, int links) EV_MUST_USE;
/* A real directory of one component; made (0755) when it is missing. → O_PATH fd. */
int ev_root_dir(int root_fd, const char *name, struct ev_err *err) EV_MUST_USE;
/* Like mkdir -p, following the image's own links inside its root (docker's WORKDIR). → O_PATH fd. */
int ev_root_mkdir_p(int root_fd, const char *path, struct ev_err *err) EV_MUST_USE;
/* Replaces dir/name by a fresh regular file; a link there is removed, not followed. */
int ev_root_write(int dir_fd, const char *name, ev_slice data, struct ev_err *err) EV_MUST_USE;
/* A regular file, bounded by out->max. -ENOENT is not reported in err. */
int ev_root_read(int root_fd, const char *path, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;

/* Applies cage/xattrs (xattrs.c). *refused: how many this file system cannot carry. */
int ev_xattrs_apply(int rootfs_fd, ev_slice list, size_t *refused, struct ev_err *err) EV_MUST_USE;

enum { EV_USER_GROUPS = 1024, EV_USER_FILE_MAX = 1 << 20 };

struct ev_user {
    uid_t uid;
    gid_t gid;
    gid_t groups[EV_USER_GROUPS];
    size_t n_groups;
    char home[512];             /* from passwd, else "/" */
};
/* USER of an image: "", name, uid, name:group, uid:gid. passwd and group are the texts of the
 * image's files (maybe empty). A name that is not there is an error; a number need not be. */
int ev_user_find(const char *spec, ev_slice passwd, ev_slice group, struct ev_user *out,
                 struct ev_err *err) EV_MUST_USE;

#endif
