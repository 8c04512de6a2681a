/* vhost_vsock.c — virtio-vsock with Unix sockets on the host side: packets and rings (vhost.h).
 *
 * Towards the guest nothing is queued but a few resets: a connection that has something for the guest
 * stands in one line with the others, and when it is served its bytes go from the host's socket straight
 * into the guest's buffers, 64 KiB at most before it is the next one's turn. From the guest, bytes go
 * straight to the host's socket; what it does not take waits in the connection, up to the credit given. */
#include "role/vsock_int.h"

#include <endian.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

enum { PACKETS_A_TURN = 128, BATCH = 32, BATCH_BYTES = 64 * 1024, ACCEPTS_A_TURN = 16, STREAM = 1, BACKLOG = 1024,
       CID_HOST = 2, CID_PARENT = 3, PORT_DIGITS = 18 };

#define PROTOCOL (UINT64_C(1) << 0 | UINT64_C(1) << 3 | UINT64_C(1) << 9)       /* MQ, REPLY_ACK, CONFIG */

static struct vsock *vsock_of(struct ev_vhost *v) { return v->dev; }

/* --- packets ------------------------------------------------------------------------------------------ */

static void encode(const struct vsock_packet *p, uint8_t out[VSOCK_HEADER])
{
    uint64_t wide[2] = { htole64(p->src_cid), htole64(p->dst_cid) };
    uint32_t ports[3] = { htole32(p->src_port), htole32(p->dst_port), htole32(p->len) };
    uint16_t kind[2] = { htole16(p->type), htole16(p->op) };
    uint32_t rest[3] = { htole32(p->flags), htole32(p->buf_alloc), htole32(p->fwd_cnt) };

    memcpy(out, wide, 16);
    memcpy(out + 16, ports, 12);
    memcpy(out + 28, kind, 4);
    memcpy(out + 32, rest, 12);
}

static void decode(const uint8_t in[VSOCK_HEADER], struct vsock_packet *p)
{
    uint64_t wide[2];
    uint32_t ports[3], rest[3];
    uint16_t kind[2];

    memcpy(wide, in, 16);
    memcpy(ports, in + 16, 12);
    memcpy(kind, in + 28, 4);
    memcpy(rest, in + 32, 12);
    *p = (struct vsock_packet){
        .src_cid = le64toh(wide[0]), .dst_cid = le64toh(wide[1]), .src_port = le32toh(ports[0]),
        .dst_port = le32toh(ports[1]), .len = le32toh(ports[2]), .type = le16toh(kind[0]), .op = le16toh(kind[1]),
        .flags = le32toh(rest[0]), .buf_alloc = le32toh(rest[1]), .fwd_cnt = le32toh(rest[2]),
    };
}

static void put_header(struct vsock *s, struct vsock_conn *c, const struct vhost_chain *to, uint16_t op,
                       uint32_t flags, uint32_t len)
{
    struct vsock_packet p = { .src_cid = c->cid, .dst_cid = s->conf.guest_cid, .src_port = c->host_port,
                              .dst_port = c->guest_port, .len = len, .type = STREAM, .op = op, .flags = flags,
                              .buf_alloc = VSOCK_BUFFER, .fwd_cnt = c->fwd_cnt };
    uint8_t bytes[VSOCK_HEADER];

    encode(&p, bytes);
    vhost_scatter(to->iov, to->n_in, 0, bytes, sizeof bytes);
    c->told_fwd = c->fwd_cnt;
}

/* Room for a packet in the guest. 1 = there is, else none. */
static int room(struct ev_vhost *v, uint16_t ahead, size_t at, struct vhost_chain *to)
{
    int rc = vhost_ring_peek(v, &v->ring[VSOCK_RX], ahead, at, to);

    if (rc == 1 && (to->n_out > 0 || to->in_len < VSOCK_HEADER)) {
        vhost_ring_break(v, &v->ring[VSOCK_RX], "a buffer that holds no packet");
        return -EPROTO;
    }
    return rc;
}

/* --- resets of what is no connection ---------------------------------------------------------------------- */

void vsock_reset_unknown(struct vsock *s, const struct vsock_packet *p)
{
    struct vsock_reset r = { (uint32_t)p->dst_cid, p->src_port, p->dst_port, p->type };

    if (s->n_resets == VSOCK_RESETS)            /* cannot be: packets wait until there is room */
        return;
    s->reset[(s->reset_first + s->n_resets++) % VSOCK_RESETS] = r;
}

static bool send_reset(struct vsock *s)
{
    const struct vsock_reset *r = &s->reset[s->reset_first];
    struct vsock_packet p = { .src_cid = r->cid, .dst_cid = s->conf.guest_cid, .src_port = r->host_port,
                              .dst_port = r->guest_port, .type = r->type, .op = OP_RST };
    struct vhost_chain to;
    uint8_t bytes[VSOCK_HEADER];

    if (room(s->v, 0, 0, &to) != 1)
        return false;
    encode(&p, bytes);
    vhost_scatter(to.iov, to.n_in, 0, bytes, sizeof bytes);
    vhost_ring_done(&s->v->ring[VSOCK_RX], to.head, sizeof bytes);
    s->reset_first = (s->reset_first + 1) % VSOCK_RESETS;
    s->n_resets--;
    return true;
}

/* --- to the guest -------------------------------------------------------------------------------------------- */

enum served { NOTHING, SOME, NO_ROOM };

static enum served send_control(struct vsock *s, struct vsock_conn *c, enum vsock_op op, uint32_t flags)
{
    struct vhost_chain to;

    if (room(s->v, 0, 0, &to) != 1)
        return NO_ROOM;
    put_header(s, c, &to, op, flags, 0);
    vhost_ring_done(&s->v->ring[VSOCK_RX], to.head, VSOCK_HEADER);
    c->send &= ~(1u << op);
    return SOME;
}

static uint32_t credit(const struct vsock_conn *c)
{
    uint32_t under_way = c->tx_cnt - c->peer_fwd;

    return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

struct batch {
    struct vhost_chain to[BATCH];
    struct iovec iov[VHOST_IOV];
    size_t n, n_iov, room;
};

/* As many of the guest's next buffers as `want` bytes need; each begins with a header. */
static void take_room(struct vsock *s, struct batch *b, size_t want)
{
    size_t at = 0;

    b->n = b->n_iov = b->room = 0;
    while (b->n < BATCH && b->room < want) {
        struct vhost_chain *to = &b->to[b->n];
        size_t len;

        if (room(s->v, (uint16_t)b->n, at, to) != 1)
            return;
        at += to->n_in;
        len = to->in_len - VSOCK_HEADER;
        len = len < want - b->room ? len : want - b->room;
        b->n_iov += vhost_slice(to->iov, to->n_in, VSOCK_HEADER, len, &b->iov[b->n_iov]);
        b->room += len;
        b->n++;
    }
}

static void hand_over(struct vsock *s, struct vsock_conn *c, const struct batch *b, size_t got)
{
    for (size_t i = 0; i < b->n && got > 0; i++) {
        size_t len = b->to[i].in_len - VSOCK_HEADER;

        len = len < got ? len : got;
        c->tx_cnt += (uint32_t)len;
        got -= len;
        put_header(s, c, &b->to[i], OP_RW, 0, (uint32_t)len);
        vhost_ring_done(&s->v->ring[VSOCK_RX], b->to[i].head, (uint32_t)(VSOCK_HEADER + len));
    }
}

/* Buffers that only hold a header would never bring a byte across. */
static enum served send_data(struct vsock *s, struct vsock_conn *c)
{
    struct batch b;
    struct msghdr m = { .msg_iov = b.iov };
    uint32_t may = credit(c);
    ssize_t n;

    if (may == 0) {
        vsock_starve(c);
        return NOTHING;
    }
    take_room(s, &b, may < BATCH_BYTES ? may : BATCH_BYTES);
    if (b.n == 0)
        return NO_ROOM;
    if (b.room == 0) {
        vhost_ring_break(s->v, &s->v->ring[VSOCK_RX], "buffers without room for data");
        return NO_ROOM;
    }
    m.msg_iovlen = b.n_iov;
    n = recvmsg(c->fd, &m, MSG_DONTWAIT);
    if (n > 0) {
        hand_over(s, c, &b, (size_t)n);
        return SOME;
    }
    c->readable = false;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return NOTHING;
    c->host_eof = true;
    c->host_deaf = c->host_deaf || n < 0;
    return SOME;
}

/* What the host will do no more; once that is both the socket is given back. */
static enum served send_shutdown(struct vsock *s, struct vsock_conn *c, unsigned flags)
{
    if (send_control(s, c, OP_SHUTDOWN, flags) != SOME)
        return NO_ROOM;
    c->sent_shut = flags;
    if (flags == SHUT_BOTH)
        vsock_part(c);
    return SOME;
}

/* One step of one connection. What is first in the list goes first on the wire. */
static enum served serve(struct vsock *s, struct vsock_conn *c)
{
    static const enum vsock_op order[] = { OP_RST, OP_REQUEST, OP_RESPONSE, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
    bool dead = c->state == CONN_RESET;
    unsigned shut;

    for (size_t i = 0; i < EV_COUNT(order); i++) {
        if (!(c->send & 1u << order[i]))
            continue;
        if (send_control(s, c, order[i], 0) != SOME)
            return NO_ROOM;
        if (dead)
            vsock_kill(c);
        return SOME;
    }
    if (c->state != CONN_OPEN)
        return NOTHING;
    shut = c->host_eof ? SHUT_SEND : 0;
    if (c->host_deaf && (c->host_eof || !(c->guest_shut & SHUT_SEND)))     /* news for who still sends */
        shut |= SHUT_RECEIVE;
    if (shut & ~c->sent_shut)
        return send_shutdown(s, c, shut);
    return c->readable && !c->host_eof && !(c->guest_shut & SHUT_RECEIVE) ? send_data(s, c) : NOTHING;
}

static struct vsock_conn *next_ready(struct vsock *s)
{
    struct vsock_conn *c = s->ready_first;

    if (!c)
        return NULL;
    if (!(s->ready_first = c->ready_next))
        s->ready_last = &s->ready_first;
    c->ready = false;
    return c;
}

/* → true: there is more to send, but not in this turn. */
static bool serve_all(struct vsock *s, bool *starved)
{
    int left = PACKETS_A_TURN;

    *starved = false;
    while (s->n_resets > 0 && left-- > 0)
        if (!send_reset(s)) {
            *starved = true;
            return false;
        }
    while (s->ready_first && left-- > 0) {
        struct vsock_conn *c = next_ready(s);
        enum served served = serve(s, c);

        if (served != NOTHING)
            vsock_ready(c);
        if (served == NO_ROOM) {
            *starved = true;
            return false;
        }
    }
    return s->ready_first || s->n_resets;
}

/* --- from the guest ---------------------------------------------------------------------------------------------- */

static void open_packet(struct vsock *s, struct vsock_conn *c, const struct vsock_packet *p,
                        const struct vhost_chain *in)
{
    struct iovec iov[VHOST_IOV];

    switch (p->op) {
    case OP_RW:
        if (c->guest_shut & SHUT_SEND)
            vsock_abort(c);
        else
            vsock_write(c, iov, vhost_slice(in->iov, in->n_out, VSOCK_HEADER, p->len, iov), p->len);
        break;
    case OP_CREDIT_UPDATE:
        break;
    case OP_CREDIT_REQUEST:
        vsock_say(c, OP_CREDIT_UPDATE);
        break;
    case OP_SHUTDOWN:
        vsock_guest_shut(c, p->flags);
        break;
    case OP_RST:
        vsock_kill(c);
        break;
    default:
        vsock_abort(c);
    }
    (void)s;
}

static void other_packet(struct vsock *s, struct vsock_conn *c, const struct vsock_packet *p)
{
    bool over = p->op == OP_RST || (p->op == OP_SHUTDOWN && (p->flags & SHUT_BOTH) == SHUT_BOTH);

    switch (c->state) {
    case CONN_REQUESTED:
        if (p->op == OP_RST)
            vsock_kill(c);
        else if (p->op == OP_RESPONSE) {
            c->state = CONN_OPEN;
            c->deadline = 0;
            c->readable = true;
            vsock_ready(c);
        } else
            vsock_abort(c);
        break;
    case CONN_PARTED:
        if (p->op == OP_REQUEST) {              /* the guest uses its port again */
            vsock_kill(c);
            vsock_open_from_guest(s, p);
        } else if (over) {
            vsock_kill(c);
            if (p->op == OP_SHUTDOWN)
                vsock_reset_unknown(s, p);
        }
        break;
    case CONN_RESET:
        break;                                  /* on its way */
    default:
        if (p->op == OP_RST)
            vsock_kill(c);
        else
            vsock_abort(c);
    }
}

static void known_packet(struct vsock *s, struct vsock_conn *c, const struct vsock_packet *p,
                         const struct vhost_chain *in)
{
    c->peer_alloc = p->buf_alloc;
    c->peer_fwd = p->fwd_cnt;
    if (c->starved && credit(c) > 0) {
        c->starved = false;
        c->ask_at = 0;
        vsock_ready(c);
    }
    if (c->state == CONN_OPEN)
        open_packet(s, c, p, in);
    else
        other_packet(s, c, p);
}

static void packet(struct vsock *s, const struct vhost_chain *in)
{
    uint8_t bytes[VSOCK_HEADER];
    struct vsock_packet p;
    struct vsock_conn *c;
    bool ours;

    vhost_gather(in->iov, in->n_out, 0, bytes, sizeof bytes);
    decode(bytes, &p);
    if (p.src_cid != s->conf.guest_cid)
        return;                                 /* not from whom it says */
    ours = p.dst_cid == CID_HOST || p.dst_cid == CID_PARENT;
    c = ours ? vsock_find(s, (uint32_t)p.dst_cid, p.src_port, p.dst_port) : NULL;
    if (p.type != STREAM || !ours || p.len > in->out_len - VSOCK_HEADER) {
        if (c && p.type == STREAM)
            vsock_abort(c);
        else if (p.op != OP_RST && p.dst_cid <= UINT32_MAX)
            vsock_reset_unknown(s, &p);
    } else if (c) {
        known_packet(s, c, &p, in);
    } else if (p.op == OP_REQUEST) {
        vsock_open_from_guest(s, &p);
    } else if (p.op != OP_RST) {
        vsock_reset_unknown(s, &p);
    }
}

/* Each packet may cost one reset, so it is taken only when one can be kept. */
static bool take_packets(struct vsock *s)
{
    struct ev_vhost *v = s->v;
    struct vhost_ring *r = &v->ring[VSOCK_TX];
    struct vhost_chain in;

    vhost_ring_mute(v, r);
    for (int i = 0; i < PACKETS_A_TURN; i++) {
        if (s->n_resets == VSOCK_RESETS)
            return false;                       /* goes on when the guest has taken some */
        if (vhost_ring_peek(v, r, 0, 0, &in) != 1)
            return vhost_ring_unmute(v, r);
        if (in.out_len < VSOCK_HEADER) {
            vhost_ring_break(v, r, "a packet without a header");
            return false;
        }
        packet(s, &in);
        vhost_ring_done(r, in.head, 0);
    }
    return true;
}

/* → true: they wait for the guest's buffers. */
static bool accept_hosts(struct vsock *s, bool *more)
{
    struct ev_vhost *v = s->v;
    bool filled = vhost_ring_filled(v, &v->ring[VSOCK_RX]), wait = false;

    if (!vhost_ring_ready(v, &v->ring[VSOCK_TX]))       /* nobody could answer */
        return false;
    for (struct vsock_listener *l = s->listeners; l; l = l->next) {
        wait = wait || (!filled && l->pending);
        if (filled)
            *more = vsock_accept(s, l, ACCEPTS_A_TURN) || *more;
    }
    return wait;
}

static bool work(struct ev_vhost *v)
{
    struct vsock *s = vsock_of(v);
    struct vhost_ring *rx = &v->ring[VSOCK_RX];
    bool more = take_packets(s), stalled = s->n_resets == VSOCK_RESETS, starved;
    bool hosts_wait = accept_hosts(s, &more);

    more = serve_all(s, &starved) || more;
    more = (stalled && s->n_resets < VSOCK_RESETS) || more;
    more = vsock_bury(s) || more;               /* somebody may have waited for the place */
    /* A kick is of use only when somebody waits for room. */
    if (starved || hosts_wait)
        return vhost_ring_unmute(v, rx) || more;
    vhost_ring_mute(v, rx);
    return more;
}

/* --- life ---------------------------------------------------------------------------------------------- */

static void restarted(struct ev_vhost *v)
{
    vsock_kill_all(vsock_of(v));
}

static void gone(struct ev_vhost *v)
{
    struct vsock *s = vsock_of(v);

    vsock_kill_all(s);
    vsock_bury(s);
    while (s->listeners) {
        struct vsock_listener *l = s->listeners;

        s->listeners = l->next;
        vhost_forget(v, &l->fd);
        unlink(l->path);
        ev_free(l);
    }
    s->n_listeners = 0;
    ev_timer_stop(s->tick);
    s->tick = NULL;
}

static void free_vsock(struct ev_vhost *v)
{
    gone(v);
    ev_free(vsock_of(v)->dir);
    ev_free(v->dev);
}

static size_t config(struct ev_vhost *v, uint8_t out[VHOST_CONFIG_MAX])
{
    uint64_t cid = htole64(vsock_of(v)->conf.guest_cid);

    memcpy(out, &cid, sizeof cid);
    return sizeof cid;
}

static const struct vhost_device device = {
    .name = "vsock", .protocol = PROTOCOL, .rings = 3, .work = work, .restarted = restarted, .gone = gone,
    .free = free_vsock, .config = config,
};

int ev_vhost_vsock_open(struct ev_rt *rt, const char *socket_path, const struct ev_vhost_vsock_conf *conf,
                        struct ev_vhost **out, struct ev_err *err)
{
    struct vsock *s;
    int rc;

    if (strlen(conf->dir) + PORT_DIGITS >= VSOCK_PATH_MAX)
        return ev_fail(err, -ENAMETOOLONG, "vsock device: the folder's name is too long for sockets: %s", conf->dir);
    s = ev_alloc(sizeof *s);
    s->conf = *conf;
    s->conf.dir = s->dir = ev_strdup(conf->dir);
    s->ready_last = &s->ready_first;
    if ((rc = vhost_open(rt, &device, socket_path, s, out, err)) < 0)
        return rc;
    s->v = *out;
    return 0;
}

static void note_listener(struct vhost_src *src, uint32_t events)
{
    (void)events;
    ((struct vsock_listener *)(void *)((char *)src - offsetof(struct vsock_listener, src)))->pending = true;
}

int ev_vhost_vsock_listen(struct ev_vhost *v, uint32_t guest_port, const char *unix_path, struct ev_err *err)
{
    struct vsock *s = vsock_of(v);
    struct vsock_listener *l;
    int fd, rc;

    if (s->n_listeners == VSOCK_LISTENERS)
        return ev_fail(err, -ENOBUFS, "more than %d listening ports", VSOCK_LISTENERS);
    if ((fd = vhost_bind(unix_path, BACKLOG, err)) < 0)
        return fd;
    l = ev_alloc(sizeof *l);
    l->src.note = note_listener;
    l->s = s;
    l->fd = fd;
    l->guest_port = guest_port;
    snprintf(l->path, sizeof l->path, "%s", unix_path);     /* it fitted a socket address */
    if ((rc = vhost_watch(v, fd, EPOLLIN | EPOLLET, &l->src)) < 0) {
        close(fd);
        unlink(l->path);
        ev_free(l);
        return ev_fail(err, rc, "port %u cannot be watched", guest_port);
    }
    l->next = s->listeners;
    s->listeners = l;
    s->n_listeners++;
    return 0;
}
