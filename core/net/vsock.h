/* vsock.h — the enclave's side of vsock, and its twin in the simulator.
 *
 * In the simulator (descriptor EV_SIM_VSOCK_FD is a socket and /dev/nsm is absent) there is no
 * AF_VSOCK: the runtime asks the launcher over that SOCK_SEQPACKET descriptor, and gets a real,
 * connected or listening, Unix socket back by SCM_RIGHTS. Packet to the launcher: 8 bytes
 * {u8 op: 1 connect, 2 listen; 3 zero bytes; u32 LE port}; answer: 4 bytes {i32 LE: 0 or -errno}
 * and on 0 one descriptor. The enclave so has no path of the host's file system. */
#ifndef EV_NET_VSOCK_H
#define EV_NET_VSOCK_H

#include "base/err.h"
#include "base/mem.h"

/* The twin's descriptor: nitro/nsm.h's EV_SIM_VSOCK_FD, said again because net does not see nitro. */
enum { EV_TWIN_VSOCK_FD = 4 };
enum { EV_CID_PARENT = 3, EV_PORT_HEARTBEAT = 9000, EV_PORT_INGRESS = 7777, EV_PORT_HEALTH = 7779,
       EV_PORT_EXIT = 7781 };

int ev_vsock_connect_parent(uint32_t port, int timeout_ms, struct ev_err *err) EV_MUST_USE; /* → fd, blocking use */
int ev_vsock_listen(uint32_t port, struct ev_err *err) EV_MUST_USE;                         /* → fd */

#endif
