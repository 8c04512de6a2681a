/* nsm_sim.h — an NSM that signs, for the simulator and for QEMU. SIMULATED: its root is never
 * trusted by default (DESIGN §4.10). Lives in the launcher's process; a pure request → response
 * function, so that any transport can carry it. */
#ifndef EV_NITRO_NSM_SIM_H
#define EV_NITRO_NSM_SIM_H

#include "crypto/cert.h"
#include "nitro/attest.h"

/* A development PKI: P-384 root (kept on disk by the CLI). The three intermediates and the 3-hour
 * leaf are made by ev_nsm_sim_new in the same shapes as the real ones (spec §5). */
struct ev_nsm_sim;

struct ev_nsm_sim_conf {
    const struct ev_cert *root;     /* a reference of its own is taken of both */
    const struct ev_key *root_key;
    const char *module_id;          /* NULL: "i-<17 hex>-enc<16 hex>", at random; else of that form */
    struct ev_pcrs pcrs;            /* PCR0..4, 8 as measured from the EIF; absent ones are zero */
    bool debug;                     /* reports PCR0, 1, 2, 8 as zero */
    int64_t (*clock_ms)(void *arg); /* NULL: the real one; for tests */
    void *clock_arg;
};

int ev_nsm_sim_make_root(struct ev_cert **cert, struct ev_key **key, struct ev_err *err) EV_MUST_USE;
int ev_nsm_sim_new(const struct ev_nsm_sim_conf *conf, struct ev_nsm_sim **out, struct ev_err *err) EV_MUST_USE;
void ev_nsm_sim_free(struct ev_nsm_sim *s);
/* One request → one response, both CBOR. Never fails for bad requests: answers {"Error": ...}.
 * Renews its leaf when less than half an hour of it is left. */
void ev_nsm_sim_handle(struct ev_nsm_sim *s, ev_slice request, struct ev_buf *response);

#endif
