/* vhost_nsm.c — virtio device 33, the Nitro Secure Module, in front of the NSM simulator (vhost.h).
 *
 * The driver queues two chains for a call: the request (for us to read), then room for the response.
 * Both go back, the first with length 0, the second with the response's length; the driver relies on
 * that order. One chain that holds both kinds of buffers is answered alike. */
#include "nitro/nsm.h"
#include "role/vhost_int.h"

enum { CALLS_A_TURN = 4 };      /* a signature is milliseconds, and the loop has others to serve */

#define PROTOCOL (UINT64_C(1) << 0 | UINT64_C(1) << 3)      /* MQ, REPLY_ACK */

struct nsm { struct ev_nsm_sim *sim; };

/* What does not fit is not given in part: the length says that nothing was written. */
static uint32_t answer(struct nsm *n, const struct vhost_chain *in, const struct vhost_chain *out)
{
    uint8_t request[EV_NSM_REQ_MAX + 1];        /* the simulator refuses what is longer than its maximum */
    struct ev_buf response = EV_BUF_INIT(EV_NSM_RESP_MAX);
    size_t len = vhost_gather(in->iov, in->n_out, 0, request, sizeof request);

    ev_nsm_sim_handle(n->sim, ev_slice_of(request, len), &response);
    len = response.n > out->in_len ? 0 : vhost_scatter(out->iov + out->n_out, out->n_in, 0, response.p, response.n);
    ev_buf_fini(&response);
    return (uint32_t)len;
}

/* → 1 a call was answered, 0 there is none (yet). */
static int call(struct ev_vhost *v, struct vhost_ring *r)
{
    struct vhost_chain in, out;
    uint32_t len;

    if (vhost_ring_peek(v, r, 0, 0, &in) <= 0)
        return 0;
    if (in.n_out > 0 && in.n_in > 0) {
        len = answer(v->dev, &in, &in);
        vhost_ring_done(r, in.head, len);
        return 1;
    }
    if (in.n_out == 0) {
        vhost_ring_break(v, r, "a response without its request");
        return 0;
    }
    switch (vhost_ring_peek(v, r, 1, in.n_out, &out)) {
    case 1: break;
    case 0: return 0;                           /* the response's room comes with the next kick */
    default:
        vhost_ring_break(v, r, "two chains that are too long");
        return 0;
    }
    if (out.n_out > 0 || out.n_in == 0) {
        vhost_ring_break(v, r, "a request without room for its response");
        return 0;
    }
    len = answer(v->dev, &in, &out);
    vhost_ring_done(r, in.head, 0);
    vhost_ring_done(r, out.head, len);
    return 1;
}

static bool work(struct ev_vhost *v)
{
    for (int i = 0; i < CALLS_A_TURN; i++)
        if (!call(v, &v->ring[0]))
            return false;
    return true;
}

static void free_nsm(struct ev_vhost *v)
{
    ev_free(v->dev);
}

static const struct vhost_device device = { .name = "NSM", .protocol = PROTOCOL, .rings = 1, .work = work,
                                            .free = free_nsm };

int ev_vhost_nsm_open(struct ev_rt *rt, const char *socket_path, struct ev_nsm_sim *borrow_sim,
                      struct ev_vhost **out, struct ev_err *err)
{
    struct nsm *n = ev_alloc(sizeof *n);

    n->sim = borrow_sim;
    return vhost_open(rt, &device, socket_path, n, out, err);
}
