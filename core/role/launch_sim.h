/* launch_sim.h — the parts of the simulator's launcher, and how they share the work.
 *
 *   launch_sim.c   struct ev_launch: NSM simulator, console, deadlines, the end
 *   sim_twin.c     the vsock twin: connect and listen for the enclave, heartbeat, exit report
 *   sim_spawn.c    namespaces, id maps, descriptors; the janitor
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

/* The janitor kills the enclave and removes the sockets in the folder and the folder if we die without
 * ev_janitor_stop. */
struct ev_janitor { int pid, pipe; };
int ev_janitor_start(const char *dir, int dir_fd, struct ev_janitor *out, struct ev_err *err) EV_MUST_USE;
int ev_janitor_watch(const struct ev_janitor *j, int pid, struct ev_err *err) EV_MUST_USE;   /* at most once */
void ev_janitor_stop(struct ev_janitor *j);
/* Sockets in it, then the folder; nothing else is ever removed. System calls only. */
void ev_sim_remove_sockets(int dir_fd);
void ev_sim_remove_dir(int dir_fd, const char *path);

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
