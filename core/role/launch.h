/* launch.h — the launcher interface (DESIGN §5): sim and qemu; nitro later.
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
    /* QEMU's launcher only. The program (absolute path) with the first of its arguments, and its
     * environment (NULL: ours); both NULL-terminated. */
    const char *const *qemu, *const *qemu_env;
    uint32_t memory_mib;                /* 0: by the size of the image, at least 256 */
    uint32_t cpus;                      /* 0: one */
    bool no_kvm;                        /* emulation even where there is /dev/kvm */
    void (*booted)(void *ctx);                                  /* heartbeat arrived */
    void (*exited)(void *ctx, int code, int signum, const char *why);   /* exactly once */
    void *ctx;
};
struct ev_launch;
int ev_launch_sim(const struct ev_launch_conf *conf, struct ev_launch **out, struct ev_err *err) EV_MUST_USE;
/* A machine: KVM where it boots in time, else emulation. A signal goes to QEMU, which just ends. */
int ev_launch_qemu(const struct ev_launch_conf *conf, struct ev_launch **out, struct ev_err *err) EV_MUST_USE;
/* What runs it: "sim", "kvm", "tcg", or "tcg-after-kvm" when KVM was tried in vain. */
const char *ev_launch_accel(const struct ev_launch *l);
void ev_launch_signal(struct ev_launch *l, int signum);     /* SIGTERM: orderly end */
void ev_launch_close(struct ev_launch *l);                  /* kills if needed, cleans up, frees */

#endif
