/* init.h — the duties of PID 1 before and after the data plane: mounts, console, loopback,
 * entropy, the measured files, and the end of the enclave. */
#ifndef EV_ROLE_INIT_H
#define EV_ROLE_INIT_H

#include "nitro/nsm.h"
#include "role/conf.h"

/* True when the launcher handed over descriptors and there is no /dev/nsm (nsm.h). */
bool ev_init_simulated(void);
/* /dev first, so that there is a console; then a root that pivot_root works on, and the rest. */
int ev_init_mounts(struct ev_err *err) EV_MUST_USE;
void ev_init_console(void);
/* Descriptors for the data plane; no core dump of a process that holds keys. */
int ev_init_limits(struct ev_err *err) EV_MUST_USE;
int ev_init_loopback(struct ev_err *err) EV_MUST_USE;
/* Mixes 64 bytes of the NSM into the kernel's pool. */
int ev_init_entropy(struct ev_nsm *nsm, struct ev_err *err) EV_MUST_USE;
/* cage/config.json of ramdisk 2, through no link. */
int ev_init_conf(struct ev_conf *out, struct ev_err *err) EV_MUST_USE;
/* cage/xattrs, if there is one, onto the files of rootfs/. */
int ev_init_xattrs(struct ev_err *err) EV_MUST_USE;
/* 0xB7 to the parent's port 9000 and back (spec bootstrap §3), tried for at most 10 s. */
int ev_init_heartbeat(struct ev_err *err) EV_MUST_USE;
/* One line to the console. Never a secret. */
void ev_init_say(const char *fmt, ...) EV_PRINTF(1, 2);
/* Reports to the parent's port 7781 and ends the enclave: reboot on a kernel of our own, exit with
 * `code` in the simulator. */
void ev_init_end(int code, int signum, const char *reason) __attribute__((noreturn));

#endif
