/* vhost.h — vhost-user back ends: devices of a QEMU guest that live in our process.
 *
 * The NSM (virtio id 33, one queue) in front of the NSM simulator, and vsock with Unix sockets as twins
 * on the host side. Each serves one front end (one QEMU): its socket is gone from the file system once
 * QEMU has connected, and when QEMU leaves the device is dead until it is closed. Guest and QEMU are
 * strangers: what they say is checked, and a ring with nonsense in it stops.
 *
 *     listening ──▶ connected ──▶ rings started ⇄ stopped ──▶ front end gone ──▶ close */
#ifndef EV_ROLE_VHOST_H
#define EV_ROLE_VHOST_H

#include "net/loop.h"
#include "nitro/nsm_sim.h"

struct ev_vhost;

int ev_vhost_nsm_open(struct ev_rt *rt, const char *socket_path, struct ev_nsm_sim *borrow_sim,
                      struct ev_vhost **out, struct ev_err *err) EV_MUST_USE;

struct ev_vhost_vsock_conf {
    uint32_t guest_cid;
    const char *dir;            /* the guest connects to port P of its parent → DIR/parent_P */
    /* A connected, non-blocking socket that serves the port here instead of DIR/parent_P; negative:
     * the port is not served here. Must not close the device. NULL = none. */
    int (*connect)(void *ctx, uint32_t port);
    void *ctx;
};

int ev_vhost_vsock_open(struct ev_rt *rt, const char *socket_path, const struct ev_vhost_vsock_conf *conf,
                        struct ev_vhost **out, struct ev_err *err) EV_MUST_USE;
/* Who connects to unix_path reaches the guest's port. Connections wait in the backlog until the guest's
 * driver is there; once QEMU is gone the path is, too. */
int ev_vhost_vsock_listen(struct ev_vhost *v, uint32_t guest_port, const char *unix_path,
                          struct ev_err *err) EV_MUST_USE;
void ev_vhost_close(struct ev_vhost *v);        /* NULL is fine */

#endif
