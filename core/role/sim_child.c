/* sim_child.c — in the simulator's namespaces, as their PID 1, until /init of the image takes over.
 *
 * Makes what a kernel would have made before init: a root in RAM with both ramdisks, and a small /dev,
 * because nodes cannot be made in a user namespace. /proc and /sys are mounted here as well: the
 * kernel lets a user namespace mount them only where a whole one is visible, which is no longer so
 * once the host's root is gone. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nitro/image.h"
#include "nitro/nsm.h"
#include "role/init.h"
#include "role/launch_sim.h"
#include "role/mounts.h"
#include "role/rootfs.h"
#include "role/sandbox.h"

#define EIF_PATH "/proc/self/fd/5"

static int make_root(const char *bytes, struct ev_err *err)
{
    const struct ev_mount_option opt[] = { { "mode", "0755" }, { "size", bytes }, { NULL, NULL } };
    int root = -1, top = -1, rc = 0;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        rc = ev_fail_errno(err, "make mounts private");
    EV_TRY(rc);
    EV_TRY(root = ev_mount_new("tmpfs", opt, MOUNT_ATTR_NODEV, err));
    if ((top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = ev_fail_errno(err, "open /");
    EV_TRY(rc);
    EV_TRY(ev_mount_attach(root, top, "/", err));
out:
    if (top >= 0)
        close(top);
    if (rc < 0 && root >= 0)
        close(root);
    return rc < 0 ? rc : root;
}

static int make_kernel_mounts(int root, struct ev_err *err)
{
    static const struct ev_mount_option small[] = { { "mode", "0755" }, { "size", "64k" }, { NULL, NULL } };
    enum { PLAIN = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
    int dev = -1, fd = -1, rc;

    EV_TRY(dev = ev_mount_on(root, "dev", "tmpfs", small, PLAIN, err));
    EV_TRY(ev_mount_nodes(dev, err));
    EV_TRY(fd = ev_mount_on(root, "proc", "proc", NULL, PLAIN | MOUNT_ATTR_NODEV, err));
    close(fd);
    EV_TRY(fd = ev_mount_on(root, "sys", "sysfs", NULL, PLAIN | MOUNT_ATTR_NODEV, err));
    close(fd);
out:
    if (rc == -EPERM)
        ev_err_wrap(err, "a kernel forbids this where parts of /proc or /sys are hidden, as in most containers");
    if (dev >= 0)
        close(dev);
    return rc < 0 ? rc : 0;
}

static int enter(int root, struct ev_err *err)
{
    static const char name[] = "enclave";

    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return ev_fail_errno(err, "enter the enclave's root");
    if (sethostname(name, sizeof(name) - 1) < 0)
        return ev_fail_errno(err, "hostname");
    return 0;
}

/* The launcher may have died before PDEATHSIG was set: its end of the NSM's socket tells. */
static bool launcher_alive(void)
{
    struct pollfd p = { EV_SIM_NSM_FD, 0, 0 };

    return poll(&p, 1, 0) == 0;
}

void ev_sim_child_main(const char *argument)
{
    static char init[] = "/init", home[] = "HOME=/", term[] = "TERM=linux";
    char *argv[] = { init, NULL }, *env[] = { home, term, NULL };
    struct ev_err err = EV_ERR_INIT;
    int root = -1, rc = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (!launcher_alive())
        _exit(70);
    umask(0);
    EV_TRY(root = make_root(argument, &err));
    EV_TRY(ev_image_unpack(EIF_PATH, root, &err));
    EV_TRY(make_kernel_mounts(root, &err));
    close(EV_SIM_EIF_FD);
    EV_TRY(enter(root, &err));
    close(root);
    umask(022);
    EV_TRY(ev_sandbox_simulator(&err));
    execve(init, argv, env);
    rc = ev_fail_errno(&err, "start /init of the image");
out:
    ev_err_wrap(&err, "simulator");
    ev_init_end(ev_err_exit_code(rc), 0, err.msg);
}
