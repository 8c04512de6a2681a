/* launch_ports.h — the two ports of the parent that every local launcher answers itself: heartbeat
 * (9000) and exit report (7781). Bounded: one of each at a time, a second one replaces the first. */
#ifndef EV_ROLE_LAUNCH_PORTS_H
#define EV_ROLE_LAUNCH_PORTS_H

#include "base/buf.h"
#include "net/loop.h"

struct ev_ports {
    struct ev_rt *rt;
    int beat_fd, report_fd;
    struct ev_watch *beat_watch, *report_watch;
    struct ev_buf report;
    void (*heartbeat)(void *ctx);
    void *ctx;
};

void ev_ports_init(struct ev_ports *p, struct ev_rt *rt, void (*heartbeat)(void *ctx), void *ctx);
void ev_ports_fini(struct ev_ports *p);
/* A connection to one of the two → the enclave's end of it, the caller's; -ENOENT: not one of them. */
int ev_ports_connect(struct ev_ports *p, uint32_t port);
/* Reads what the enclave has sent to 7781 so far; "" when there is none. */
const char *ev_ports_report(struct ev_ports *p);

#endif
