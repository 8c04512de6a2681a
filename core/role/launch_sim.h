/* launch_sim.h — the parts of the simulator's launcher, and how they share the work.
 *
 *   launch_sim.c   NSM simulator, descriptors (what it shares with QEMU's: launch_common.c)
 *   sim_twin.c     the vsock twin: connect and listen for the enclave
 *   sim_spawn.c    namespaces, id maps, descriptors
 *   sim_child.c    inside the namespaces, before /init of the image: root, /dev, unpacking
 *
 * The child is our own binary executed again under the name below, because unpacking an image in a
 * process that was forked from a threaded one is not safe. main() asks ev_enclave_is_init, which
 * knows that name. */
#ifndef EV_ROLE_LAUNCH_SIM_H
#define EV_ROLE_LAUNCH_SIM_H

#include "net/loop.h"

#define EV_SIM_CHILD_NAME "ev-cage-simulator-child"

enum { EV_SIM_EIF_FD = 5, EV_SIM_IDS = 65536, EV_SIM_TASKS = 16384 };

/* argument: the size of the root's tmpfs in bytes, decimal. */
void ev_sim_child_main(const char *argument) __attribute__((noreturn));

struct ev_sim_spawn {
    int console, nsm, vsock, eif;           /* borrowed; become 1 and 2, 3, 4, 5 of the child */
    uint64_t root_bytes;
};
/* → pid of the child, which waits for nothing any more. */
int ev_sim_spawn(const struct ev_sim_spawn *s, struct ev_err *err) EV_MUST_USE;

struct ev_twin_conf {
    struct ev_rt *rt;
    const char *dir;                        /* borrowed */
    int take_fd;                            /* SOCK_SEQPACKET, our end */
    void (*heartbeat)(void *ctx);
    void *ctx;
};
struct ev_twin;
struct ev_twin *ev_twin_open(const struct ev_twin_conf *conf);
/* Reads what the enclave's exit report has left in its socket; "" when there is none. */
const char *ev_twin_report(struct ev_twin *t);
void ev_twin_close(struct ev_twin *t);      /* NULL is fine */

#endif
