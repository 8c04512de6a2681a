/* vsock_int.h — between vhost_vsock.c (packets and rings) and vsock_conn.c (connections, host side). */
#ifndef EV_ROLE_VSOCK_INT_H
#define EV_ROLE_VSOCK_INT_H

#include "role/vhost_int.h"

enum {
    VSOCK_CONNS = 1024,             /* at once, both ways */
    VSOCK_LISTENERS = 64,
    VSOCK_BUFFER = 256 * 1024,      /* the credit we give: what one connection may have waiting for the host */
    VSOCK_RESETS = 256,             /* answers to packets of no connection that wait for room in the ring */
    VSOCK_BUCKETS = 1024,
    VSOCK_HEADER = 44,
    VSOCK_RX = 0, VSOCK_TX = 1,     /* queues */
    VSOCK_PATH_MAX = 108,
};

enum vsock_op { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
enum { SHUT_RECEIVE = 1, SHUT_SEND = 2, SHUT_BOTH = 3 };       /* what the sender will do no more */

struct vsock_packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
};

/*  guest asks:  CONNECTING (the host's backlog is full) ──▶ OPEN
 *  host asks:   REQUESTED ──────────────(RESPONSE)───────▶ OPEN
 *  OPEN ──▶ LINGER   the guest is done, its last bytes are still on their way to the host
 *  OPEN ──▶ PARTED   the host is gone, the guest knows and may still read: until its RST or SHUTDOWN
 *  any  ──▶ RESET    an RST is to be sent    ──▶ DEAD   freed at the end of the turn */
enum vsock_state { CONN_CONNECTING, CONN_REQUESTED, CONN_OPEN, CONN_LINGER, CONN_PARTED, CONN_RESET, CONN_DEAD };

struct vsock;

struct vsock_conn {
    struct vhost_src src;
    struct vsock *s;
    struct vsock_conn *hash_next, *next, *prev;         /* next, prev: of all */
    struct vsock_conn *ready_next;
    bool hashed, ready;                                 /* ready: has (perhaps) something for the guest */
    int fd;
    uint32_t cid, guest_port, host_port;                /* cid: the one the guest calls the host by */
    enum vsock_state state;
    unsigned send;                                      /* bit per vsock_op */
    unsigned guest_shut, sent_shut;                     /* SHUT_* as the guest said, and as we said */
    bool readable, host_eof, host_deaf;                 /* the host sends no more; receives no more */
    bool starved, wrote_shut;                           /* starved: has bytes and no credit for them */
    uint32_t rx_cnt, fwd_cnt, told_fwd;                 /* from the guest; given to the host; as last said */
    uint32_t tx_cnt, peer_alloc, peer_fwd;
    struct ev_buf out;                                  /* waits until the host takes it */
    size_t out_off;
    uint64_t deadline, ask_at;                          /* 0: none */
};

struct vsock_listener {
    struct vhost_src src;
    struct vsock_listener *next;
    struct vsock *s;
    int fd;
    uint32_t guest_port;
    char path[VSOCK_PATH_MAX];
    bool pending;
};

struct vsock_reset { uint32_t cid, guest_port, host_port; uint16_t type; };

struct vsock {
    struct ev_vhost *v;
    struct ev_vhost_vsock_conf conf;
    char *dir;
    struct vsock_conn *bucket[VSOCK_BUCKETS], *all, *ready_first, **ready_last;
    size_t n_conns, n_dead, n_listeners;
    struct vsock_listener *listeners;
    struct vsock_reset reset[VSOCK_RESETS];             /* a ring of its own */
    size_t reset_first, n_resets;
    uint32_t next_port;
    struct ev_timer *tick;                              /* runs while something waits for time to pass */
    bool accept_later;                                  /* no descriptor was to be had */
};

/* vsock_conn.c */
struct vsock_conn *vsock_find(struct vsock *s, uint32_t cid, uint32_t guest_port, uint32_t host_port);
void vsock_open_from_guest(struct vsock *s, const struct vsock_packet *p);
bool vsock_accept(struct vsock *s, struct vsock_listener *l, unsigned budget);   /* true: more at once */
void vsock_ready(struct vsock_conn *c);
void vsock_say(struct vsock_conn *c, enum vsock_op op);
void vsock_starve(struct vsock_conn *c);                /* no credit: the guest is asked if that lasts */
void vsock_write(struct vsock_conn *c, const struct iovec *iov, size_t n, size_t len);   /* bytes from the guest */
void vsock_guest_shut(struct vsock_conn *c, unsigned flags);
void vsock_abort(struct vsock_conn *c);                 /* an RST is sent, then it is dead */
void vsock_part(struct vsock_conn *c);                  /* a full SHUTDOWN was sent */
void vsock_kill(struct vsock_conn *c);                  /* dead at once */
bool vsock_bury(struct vsock *s);                       /* frees the dead; true: there were some */
void vsock_kill_all(struct vsock *s);
/* vhost_vsock.c */
void vsock_reset_unknown(struct vsock *s, const struct vsock_packet *p);

#endif
