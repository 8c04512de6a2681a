/* mounts.h — mounts by descriptor, for the app's jail and for the simulator's root. No path of an
 * image ever reaches mount(2): file systems are made detached and moved onto opened directories. */
#ifndef EV_ROLE_MOUNTS_H
#define EV_ROLE_MOUNTS_H

#include "base/err.h"
#include "base/mem.h"

struct ev_mount_option { const char *key, *value; };    /* lists end with { NULL, NULL } */

/* A new file system, not yet anywhere; attr: MOUNT_ATTR_*. → fd of the mount. */
int ev_mount_new(const char *type, const struct ev_mount_option *opt, unsigned attr, struct ev_err *err) EV_MUST_USE;
int ev_mount_attach(int mount_fd, int target_fd, const char *what, struct ev_err *err) EV_MUST_USE;
/* New file system on the real directory root/name (rootfs.h). → fd, usable as a directory. */
int ev_mount_on(int root, const char *name, const char *type, const struct ev_mount_option *opt, unsigned attr,
                struct ev_err *err) EV_MUST_USE;
/* A device node, not yet anywhere, as a read-only mount: it can be read and written, but its mode and
 * owner are not this mount's to change, whoever has it. */
int ev_mount_clone_node(const char *path, struct ev_err *err) EV_MUST_USE;
/* null zero full random urandom tty and the links fd stdin stdout stderr ptmx in the folder `dev`;
 * nodes are bound from /dev where a user namespace forbids mknod. */
int ev_mount_nodes(int dev, struct ev_err *err) EV_MUST_USE;

#endif
