/* launch.h — the launcher interface (DESIGN §5); sim first, qemu and nitro later.
 *
 * The launcher owns the NSM simulator, the twin sockets and the child; it closes everything at
 * ev_launch_close, and a janitor process removes what is left should the launcher itself be killed. */
#ifndef EV_ROLE_LAUNCH_H
#define EV_ROLE_LAUNCH_H

#include "crypto/cert.h"
#include "net/loop.h"

struct ev_launch_conf {
    struct ev_rt *rt;
    const char *eif_path;
    const char *dir;                    /* for twin sockets: DIR/enclave_<port> (host connects),
                                           DIR/parent_<port> (host listens); made 0700, removed at the end */
    const struct ev_cert *root;         /* development root of the NSM simulator */
    const struct ev_key *root_key;
    bool debug;
    int console_fd;                     /* where the enclave's console goes (dup'ed); -1 = dropped */
    uint64_t boot_timeout_ms;           /* until the heartbeat; 0 = 90 s */
    void (*booted)(void *ctx);                                  /* heartbeat arrived */
    void (*exited)(void *ctx, int code, int signum, const char *why);   /* exactly once */
    void *ctx;
};
struct ev_launch;
int ev_launch_sim(const struct ev_launch_conf *conf, struct ev_launch **out, struct ev_err *err) EV_MUST_USE;
void ev_launch_signal(struct ev_launch *l, int signum);     /* SIGTERM: orderly end */
void ev_launch_close(struct ev_launch *l);                  /* kills if needed, cleans up, frees */

#endif
