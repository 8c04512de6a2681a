/* nsm_sim_pki.h — the certificates of the simulated NSM (nsm_sim.c and its tests only).
 *
 *   root (the CLI's) ── regional ── zonal ── instance ── leaf, which signs documents
 *                       20 days     6 days   24 h        3 h */
#ifndef EV_NITRO_NSM_SIM_PKI_H
#define EV_NITRO_NSM_SIM_PKI_H

#include "crypto/cert.h"

enum { EV_SIM_CHAIN = 5, EV_SIM_CERT_MAX = 1024, EV_SIM_ROOT_MAX = 536 };
enum { EV_SIM_MODULE_ID_MAX = 48 };     /* a common name has 64 characters */

struct ev_sim_pki;

/* Takes references. `module_id` is "i-HEX-encHEX". */
int ev_sim_pki_new(const struct ev_cert *root, const struct ev_key *root_key, const char *module_id,
                   int64_t now_ms, struct ev_sim_pki **out, struct ev_err *err) EV_MUST_USE;
void ev_sim_pki_free(struct ev_sim_pki *p);
/* A new leaf when less than half an hour of it is left, and new authorities where they would not
 * outlive that leaf. On failure everything is as it was. */
int ev_sim_pki_refresh(struct ev_sim_pki *p, int64_t now_ms, struct ev_err *err) EV_MUST_USE;
const struct ev_cert *ev_sim_pki_cert(const struct ev_sim_pki *p, unsigned level);  /* 0 root .. 4 leaf */
const struct ev_key *ev_sim_pki_key(const struct ev_sim_pki *p);                    /* the leaf's */

#endif
