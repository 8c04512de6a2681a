/* nsm.h — client of the Nitro Secure Module: /dev/nsm, or the simulator's descriptor.
 *
 * DESIGN §4.10: /dev/nsm if present, else the descriptor that the simulator handed over (number
 * EV_SIM_NSM_FD, a SOCK_SEQPACKET socket), else failure. Nothing else switches that.
 * On the socket one packet = one CBOR request, one packet = one CBOR response (same bytes as the
 * ioctl carries: request <= 4096, response <= 12288). Calls block (at most 120 s). One caller at a
 * time. After a failed exchange over the socket the client is dead (a late answer must not be taken
 * for that of the next request): every later call fails with -EPIPE. */
#ifndef EV_NITRO_NSM_H
#define EV_NITRO_NSM_H

#include "base/buf.h"

enum { EV_SIM_NSM_FD = 3, EV_SIM_VSOCK_FD = 4 };    /* handed over by launch_sim, nothing else */
enum { EV_NSM_REQ_MAX = 4096, EV_NSM_RESP_MAX = 12288, EV_NSM_FIELD_MAX = 1024 };

struct ev_nsm;

struct ev_nsm_info {
    char module_id[128];
    char digest[16];
    uint16_t version[3];
    uint32_t max_pcrs;
    uint64_t locked;                                /* bit per PCR */
};

int ev_nsm_open(struct ev_nsm **out, struct ev_err *err) EV_MUST_USE;
int ev_nsm_from_fd(int take_fd, struct ev_nsm **out, struct ev_err *err) EV_MUST_USE;   /* socket */
int ev_nsm_from_device(int take_fd, struct ev_nsm **out, struct ev_err *err) EV_MUST_USE;   /* ioctl */
/* How long a call over the socket may take; 0 = 120 s, as the hardware's driver. */
void ev_nsm_set_timeout(struct ev_nsm *n, int ms);
void ev_nsm_close(struct ev_nsm *n);
bool ev_nsm_simulated(const struct ev_nsm *n);
/* What the NSM itself refuses fails with its word as reason ("ReadOnlyIndex", "InputTooLarge", ...):
 * -EPERM, -EMSGSIZE, -EINVAL, else -EIO. An answer that is not well formed is EV_EPARSE. */
int ev_nsm_describe(struct ev_nsm *n, struct ev_nsm_info *out, struct ev_err *err) EV_MUST_USE;
int ev_nsm_random(struct ev_nsm *n, void *p, size_t len, struct ev_err *err) EV_MUST_USE;
int ev_nsm_pcr(struct ev_nsm *n, unsigned index, bool *locked, uint8_t value[48], struct ev_err *err) EV_MUST_USE;
int ev_nsm_extend(struct ev_nsm *n, unsigned index, ev_slice data, struct ev_err *err) EV_MUST_USE;
int ev_nsm_lock(struct ev_nsm *n, unsigned index, struct ev_err *err) EV_MUST_USE;
/* NULL slice pointer = null. `doc` receives the COSE_Sign1 bytes. */
int ev_nsm_attest(struct ev_nsm *n, ev_slice user_data, ev_slice nonce, ev_slice public_key,
                  struct ev_buf *doc, struct ev_err *err) EV_MUST_USE;

#endif
