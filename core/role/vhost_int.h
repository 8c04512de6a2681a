/* vhost_int.h — what the files of the vhost-user back ends share. Outside callers use vhost.h.
 *
 * One epoll descriptor per device holds everything it waits for (front end, kicks, host sockets), and
 * the loop watches that one: sockets of connections can then be edge-triggered and need no system call
 * to be paused. A turn: take note of every event, handle messages, let the device work, signal. */
#ifndef EV_ROLE_VHOST_INT_H
#define EV_ROLE_VHOST_INT_H

#include <sys/epoll.h>
#include <sys/uio.h>

#include "role/vhost.h"

enum {
    VHOST_REGIONS = 8,          /* of the memory table, the protocol's own number */
    VHOST_RINGS = 3,
    VHOST_RING_MAX = 1024,      /* entries of a ring */
    VHOST_IOV = 1024,           /* pieces of all chains looked at together */
    VHOST_CHAIN_BYTES = 16 << 20,
    VHOST_CONFIG_MAX = 256,
    VHOST_PAYLOAD_MAX = 512,    /* of a message; the largest we know has 280 bytes */
};

struct vhost_region {
    uint64_t guest, front, size;        /* guest-physical address, address in QEMU, length */
    uint8_t *at;                        /* where it is here */
    void *map;
    size_t map_len;
};

struct vhost_mem {
    struct vhost_region region[VHOST_REGIONS];
    size_t n;
};

/* A descriptor that epoll waits for. note() takes note and neither frees nor closes other sources. */
struct vhost_src {
    void (*note)(struct vhost_src *src, uint32_t events);
};

struct vhost_ring {
    struct vhost_src kicked;
    uint32_t num;
    uint16_t next, used_index;          /* next entry of the avail ring; our copy of used->idx */
    uint64_t desc_front, avail_front, used_front;
    uint8_t *desc, *avail, *used;       /* NULL until all of it is known and inside the memory table */
    int kick, call, error;              /* -1: none */
    bool started, enabled, broken, to_signal;
};

/* Buffers of one request: the first n_out are for us to read, the n_in after them to write. */
struct vhost_chain {
    uint16_t head;
    struct iovec *iov;
    size_t n_out, n_in, out_len, in_len;
};

struct vhost_device {
    const char *name;
    uint64_t protocol;                  /* protocol features */
    unsigned rings;
    bool (*work)(struct ev_vhost *v);   /* looks at the rings; true: there is more to do at once */
    void (*restarted)(struct ev_vhost *v);      /* the driver began anew */
    void (*gone)(struct ev_vhost *v);           /* the front end left: let go of everything */
    void (*free)(struct ev_vhost *v);
    size_t (*config)(struct ev_vhost *v, uint8_t out[VHOST_CONFIG_MAX]);    /* NULL: no config space */
};

enum { VHOST_FDS = VHOST_REGIONS, VHOST_HEAD = 12 };

struct vhost_message {                  /* the one being received; its first 12 bytes are the header */
    uint8_t bytes[VHOST_HEAD + VHOST_PAYLOAD_MAX];
    size_t n;
    int fd[VHOST_FDS];
    size_t n_fd;
};

struct ev_vhost {
    uint32_t magic;
    struct ev_rt *rt;
    const struct vhost_device *device;
    void *dev;                          /* the device's own */
    char *path;                         /* NULL once unlinked */
    int epoll, wake, listen, front;
    bool front_ready, accept_ready, awake;
    struct vhost_src listen_src, front_src, wake_src;
    struct ev_watch *watch;
    uint64_t features;
    unsigned breaks;                    /* queues that were stopped */
    struct vhost_message in;
    struct vhost_mem mem;
    struct vhost_ring ring[VHOST_RINGS];
    struct iovec iov[VHOST_IOV];
};

int vhost_open(struct ev_rt *rt, const struct vhost_device *device, const char *path, void *take_dev,
               struct ev_vhost **out, struct ev_err *err);
int vhost_watch(struct ev_vhost *v, int fd, uint32_t events, struct vhost_src *src);
void vhost_forget(struct ev_vhost *v, int *fd);     /* out of epoll, closed, -1 */
void vhost_wake(struct ev_vhost *v);                /* a turn soon, though nothing happened */
int vhost_bind(const char *path, int backlog, struct ev_err *err);      /* a Unix listener of mode 0600 → fd */

/* Memory. */
int vhost_mem_add(struct vhost_mem *m, const struct vhost_region *r, uint64_t offset, int fd);
void vhost_mem_clear(struct vhost_mem *m);
uint8_t *vhost_mem_guest(const struct vhost_mem *m, uint64_t address, uint64_t *len);   /* *len: what follows */
uint8_t *vhost_mem_front(const struct vhost_mem *m, uint64_t address, uint64_t len);    /* all of it or NULL */

/* Rings. */
void vhost_ring_init(struct vhost_ring *r);
int vhost_ring_map(struct ev_vhost *v, struct vhost_ring *r);       /* after a change of addresses or memory */
bool vhost_ring_ready(const struct ev_vhost *v, const struct vhost_ring *r);
bool vhost_ring_filled(struct ev_vhost *v, struct vhost_ring *r);   /* ready, and there is a chain */
/* The chain `ahead` places after the next; its pieces are put into v->iov from `at` on.
 * 1 = there it is; 0 = none; < 0: the ring is broken, or (-ENOBUFS, at > 0) v->iov is full. */
int vhost_ring_peek(struct ev_vhost *v, struct vhost_ring *r, uint16_t ahead, size_t at, struct vhost_chain *out);
void vhost_ring_done(struct vhost_ring *r, uint16_t head, uint32_t len);        /* the next chain, in order */
void vhost_ring_signal(struct vhost_ring *r);
void vhost_ring_break(struct ev_vhost *v, struct vhost_ring *r, const char *why);
void vhost_ring_mute(struct ev_vhost *v, struct vhost_ring *r);     /* we look by ourselves: no kicks, please */
bool vhost_ring_unmute(struct ev_vhost *v, struct vhost_ring *r);   /* true: something came meanwhile */

/* Bytes between pieces and a buffer. */
size_t vhost_gather(const struct iovec *iov, size_t n, size_t skip, void *to, size_t len);
size_t vhost_scatter(const struct iovec *iov, size_t n, size_t skip, const void *from, size_t len);
/* The pieces of bytes [skip, skip + len) → how many pieces; `to` has room for n. */
size_t vhost_slice(const struct iovec *iov, size_t n, size_t skip, size_t len, struct iovec *to);

#endif
