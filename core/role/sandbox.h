/* sandbox.h — what the app may not do, even as uid 0 (DESIGN §6).
 *
 *   jail.c      mounts: own root, /dev, /proc, /sys; pivot_root and chroot
 *   sandbox.c   capabilities, no_new_privs, limits, the system call filter
 *
 * All of it runs in the app's init process (appinit.c), before the app exists; each function leaves
 * the process more restricted and none can be undone. */
#ifndef EV_ROLE_SANDBOX_H
#define EV_ROLE_SANDBOX_H

#include "base/buf.h"

/* Builds the app's mount tree over `rootfs` (a real directory of the runtime's root) and makes it
 * the root. The caller is alone in new mount, pid, ipc and uts namespaces. After it nothing of the
 * runtime's file system can be named. → O_PATH fd of the new root. */
int ev_jail_enter(const char *rootfs, const char *hostname, struct ev_err *err) EV_MUST_USE;

/* Bounding set, permitted and effective = the container's ten; inheritable and ambient empty. */
int ev_sandbox_caps(struct ev_err *err) EV_MUST_USE;
int ev_sandbox_limits(struct ev_err *err) EV_MUST_USE;      /* no core dumps, NOFILE, umask */
/* no_new_privs and both filters. After this: no mount, namespace, vsock, ... (see sandbox.c). */
int ev_sandbox_filter(struct ev_err *err) EV_MUST_USE;

/* For the whole simulated enclave, its /init included: AF_VSOCK knows no namespaces, so that a foreign
 * image would otherwise talk to this machine's own hypervisor. The twin is its only vsock. */
int ev_sandbox_simulator(struct ev_err *err) EV_MUST_USE;

/* For tests: what the filter says about a system call by name. */
enum ev_sandbox_verdict { EV_CALL_ALLOWED, EV_CALL_ARGS, EV_CALL_REFUSED, EV_CALL_UNKNOWN };
enum ev_sandbox_verdict ev_sandbox_verdict(const char *syscall_name);

#endif
