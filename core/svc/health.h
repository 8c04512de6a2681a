/* health.h — the in-enclave health agent (spec cages-original §5.9) and its answer on vsock 7779.
 * GET to the app's path once a second with a time-out (the original had none), keeps ten results and
 * reports the worst of the last nine since the first success; shallow without a path. */
#ifndef EV_SVC_HEALTH_H
#define EV_SVC_HEALTH_H

#include "net/stream.h"

enum ev_health_state { EV_HEALTH_IGNORED, EV_HEALTH_OK, EV_HEALTH_UNKNOWN, EV_HEALTH_ERR, EV_HEALTH_UNINITIALIZED };

struct ev_health_conf {
    struct ev_rt *rt;
    int take_listen_fd;                         /* answers {"status":"Ok","message":null} 200/500; -1 = none */
    struct ev_addr app;
    const char *path;                           /* NULL = shallow */
    uint32_t every_ms, timeout_ms;              /* of a probe; 0 = 1 s, 3 s */
};
struct ev_health;
int ev_health_open(const struct ev_health_conf *conf, struct ev_health **out, struct ev_err *err) EV_MUST_USE;
void ev_health_set_initialized(struct ev_health *h);    /* the app was started */
enum ev_health_state ev_health_state(const struct ev_health *h);
void ev_health_close(struct ev_health *h);

#endif
