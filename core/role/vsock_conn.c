/* vsock_conn.c — connections of the vsock device and their sockets on the host (vsock_int.h).
 *
 * Nothing here waits: what the host does not take at once is kept, up to the credit we gave the guest;
 * what waits for somebody else has a deadline. A connection that ends is only marked dead, and freed
 * when the turn is over, so that no event of the turn finds it gone. */
#include "role/vsock_int.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

enum { TICK_MS = 20, ASK_MS = 200, CONNECT_MS = 5000, RESPONSE_MS = 30000, LINGER_MS = 30000, HOST_PORTS = 1 << 30,
       PARENT_CID = 3 };

/* --- finding -------------------------------------------------------------------------------------------- */

static size_t bucket_of(uint32_t guest_port, uint32_t host_port)
{
    uint32_t h = (guest_port * 0x9e3779b1u) ^ (host_port * 0x85ebca6bu);

    return (h ^ h >> 15) % VSOCK_BUCKETS;
}

struct vsock_conn *vsock_find(struct vsock *s, uint32_t cid, uint32_t guest_port, uint32_t host_port)
{
    struct vsock_conn *c = s->bucket[bucket_of(guest_port, host_port)];

    while (c && !(c->cid == cid && c->guest_port == guest_port && c->host_port == host_port))
        c = c->hash_next;
    return c;
}

static void unhash(struct vsock_conn *c)
{
    struct vsock_conn **p = &c->s->bucket[bucket_of(c->guest_port, c->host_port)];

    if (!c->hashed)
        return;
    while (*p != c)
        p = &(*p)->hash_next;
    *p = c->hash_next;
    c->hashed = false;
}

/* --- deadlines ------------------------------------------------------------------------------------------- */

static int dial(struct vsock_conn *c);
static void dialled(struct vsock_conn *c, int rc);

static void late(struct vsock_conn *c)
{
    if (c->state == CONN_LINGER || c->state == CONN_PARTED)
        vsock_kill(c);
    else
        vsock_abort(c);
}

static void tick(void *ctx)
{
    struct vsock *s = ctx;
    uint64_t now = ev_rt_now_ms(s->v->rt);
    bool any = false;

    for (struct vsock_conn *c = s->all; c; c = c->next) {
        if (c->ask_at && now >= c->ask_at) {
            c->ask_at = 0;
            if (c->state == CONN_OPEN)
                vsock_say(c, OP_CREDIT_REQUEST);
        }
        any = any || c->ask_at;
        if (!c->deadline)
            continue;
        if (now >= c->deadline)
            late(c);
        else if (c->state == CONN_CONNECTING)
            dialled(c, dial(c));
        any = any || c->deadline;
    }
    if (!any) {
        ev_timer_stop(s->tick);
        s->tick = NULL;
    }
    /* No event is being looked at, so the dead can go. */
    if (vsock_bury(s) || s->ready_first || s->accept_later)
        vhost_wake(s->v);
    s->accept_later = false;
}

static void need_tick(struct vsock *s)
{
    if (!s->tick)
        s->tick = ev_timer_start(s->v->rt, TICK_MS, true, tick, s);
}

static void set_deadline(struct vsock_conn *c, uint64_t ms)
{
    c->deadline = ms ? ev_rt_now_ms(c->s->v->rt) + ms : 0;
    if (ms)
        need_tick(c->s);
}

/* --- to the guest ------------------------------------------------------------------------------------------ */

void vsock_ready(struct vsock_conn *c)
{
    if (c->ready || c->state == CONN_DEAD)
        return;
    c->ready = true;
    c->ready_next = NULL;
    *c->s->ready_last = c;
    c->s->ready_last = &c->ready_next;
}

void vsock_say(struct vsock_conn *c, enum vsock_op op)
{
    c->send |= 1u << op;
    vsock_ready(c);
}

/* Drivers tell of new credit by themselves. One that is asked at once answers with what little it has,
 * and many small packets follow. */
void vsock_starve(struct vsock_conn *c)
{
    if (c->starved)
        return;
    c->starved = true;
    c->ask_at = ev_rt_now_ms(c->s->v->rt) + ASK_MS;
    need_tick(c->s);
}

/* --- ends ----------------------------------------------------------------------------------------------------- */

static void let_go(struct vsock_conn *c)
{
    vhost_forget(c->s->v, &c->fd);
    ev_buf_fini(&c->out);
    c->out_off = 0;
    c->readable = false;
}

void vsock_kill(struct vsock_conn *c)
{
    if (c->state == CONN_DEAD)
        return;
    let_go(c);
    unhash(c);
    c->state = CONN_DEAD;
    c->deadline = c->ask_at = 0;
    c->s->n_dead++;
}

void vsock_abort(struct vsock_conn *c)
{
    let_go(c);
    c->state = CONN_RESET;
    c->deadline = 0;
    c->send = 0;
    vsock_say(c, OP_RST);
}

void vsock_part(struct vsock_conn *c)
{
    let_go(c);
    c->state = CONN_PARTED;
    c->send = 0;
    set_deadline(c, LINGER_MS);
}

static void drop_from_ready(struct vsock *s)
{
    struct vsock_conn **p = &s->ready_first;

    while (*p) {
        if ((*p)->state == CONN_DEAD)
            *p = (*p)->ready_next;
        else
            p = &(*p)->ready_next;
    }
    s->ready_last = p;
}

bool vsock_bury(struct vsock *s)
{
    struct vsock_conn *next;

    if (s->n_dead == 0)
        return false;
    drop_from_ready(s);
    for (struct vsock_conn *c = s->all; c; c = next) {
        next = c->next;
        if (c->state != CONN_DEAD)
            continue;
        if (c->prev)
            c->prev->next = c->next;
        else
            s->all = c->next;
        if (c->next)
            c->next->prev = c->prev;
        ev_free(c);
        s->n_conns--;
    }
    s->n_dead = 0;
    return true;
}

void vsock_kill_all(struct vsock *s)
{
    for (struct vsock_conn *c = s->all; c; c = c->next)
        vsock_kill(c);
    s->n_resets = 0;
}

/* --- to the host ---------------------------------------------------------------------------------------------- */

static size_t pending(const struct vsock_conn *c)
{
    return c->out.n - c->out_off;
}

/* Tells the guest before the credit that it knows of is half gone. */
static void forwarded(struct vsock_conn *c, size_t n)
{
    c->fwd_cnt += (uint32_t)n;
    if (c->state == CONN_OPEN && (uint32_t)(c->fwd_cnt - c->told_fwd) >= VSOCK_BUFFER / 2)
        vsock_say(c, OP_CREDIT_UPDATE);
}

/* The host takes no more. What it sent before that is still read. */
static void host_deaf(struct vsock_conn *c)
{
    if (c->state == CONN_LINGER) {
        vsock_kill(c);
        return;
    }
    ev_buf_fini(&c->out);
    c->out_off = 0;
    c->host_deaf = c->readable = true;
    vsock_ready(c);
}

/* All of the guest's bytes are with the host: what was said after them can be done. */
static void flushed(struct vsock_conn *c)
{
    ev_buf_clear(&c->out);
    c->out_off = 0;
    if (c->state == CONN_LINGER) {
        vsock_kill(c);
    } else if ((c->guest_shut & SHUT_SEND) && !c->wrote_shut) {
        c->wrote_shut = true;
        shutdown(c->fd, SHUT_WR);
    }
}

static ssize_t send_some(struct vsock_conn *c, struct iovec *iov, size_t n)
{
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
    ssize_t r = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

    return r < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : r;
}

static void flush(struct vsock_conn *c)
{
    while (pending(c) > 0) {
        struct iovec iov = { c->out.p + c->out_off, pending(c) };
        ssize_t n = send_some(c, &iov, 1);

        if (n < 0) {
            host_deaf(c);
            return;
        }
        if (n == 0)
            return;
        c->out_off += (size_t)n;
        forwarded(c, (size_t)n);
        if (c->state == CONN_LINGER)
            set_deadline(c, LINGER_MS);
    }
    flushed(c);
}

static int keep(struct vsock_conn *c, const struct iovec *iov, size_t n)
{
    int rc = 0;

    if (c->out_off > 0) {
        ev_buf_consume(&c->out, c->out_off);
        c->out_off = 0;
    }
    for (size_t i = 0; i < n && rc >= 0; i++)
        rc = ev_buf_put(&c->out, iov[i].iov_base, iov[i].iov_len);
    return rc;
}

/* More than we gave credit for is a guest that does not play by the rules. */
void vsock_write(struct vsock_conn *c, const struct iovec *iov, size_t n, size_t len)
{
    struct iovec rest[VHOST_IOV];
    size_t n_rest = n, sent = 0;

    c->rx_cnt += (uint32_t)len;
    if (c->host_deaf || len == 0)
        return;
    if (pending(c) + len > VSOCK_BUFFER) {
        vsock_abort(c);
        return;
    }
    if (pending(c) == 0) {
        struct iovec copy[VHOST_IOV];
        ssize_t r;

        memcpy(copy, iov, n * sizeof *iov);
        if ((r = send_some(c, copy, n)) < 0) {
            host_deaf(c);
            return;
        }
        sent = (size_t)r;
        forwarded(c, sent);
    }
    if (sent == len)
        return;
    n_rest = vhost_slice(iov, n, sent, len - sent, rest);
    if (keep(c, rest, n_rest) < 0)
        vsock_abort(c);
}

void vsock_guest_shut(struct vsock_conn *c, unsigned flags)
{
    c->guest_shut |= flags & SHUT_BOTH;
    if ((c->guest_shut & SHUT_RECEIVE) && c->fd >= 0)
        shutdown(c->fd, SHUT_RD);
    if (c->guest_shut == SHUT_BOTH) {
        /* Answered at once; the host still gets what is on its way. */
        vsock_reset_unknown(c->s, &(struct vsock_packet){ .dst_cid = c->cid, .src_port = c->guest_port,
                                                          .dst_port = c->host_port, .type = 1 });
        if (pending(c) == 0) {
            vsock_kill(c);
            return;
        }
        unhash(c);
        c->state = CONN_LINGER;
        c->send = 0;
        set_deadline(c, LINGER_MS);
    } else if (pending(c) == 0) {
        flushed(c);
    }
}

/* --- beginnings --------------------------------------------------------------------------------------------------- */

static void note(struct vhost_src *src, uint32_t events)
{
    struct vsock_conn *c = (struct vsock_conn *)(void *)((char *)src - offsetof(struct vsock_conn, src));

    if (c->state != CONN_REQUESTED && c->state != CONN_OPEN && c->state != CONN_LINGER)
        return;
    if ((events & EPOLLOUT) && pending(c) > 0)
        flush(c);
    if (c->state != CONN_REQUESTED && c->state != CONN_OPEN)
        return;
    if (events & (EPOLLHUP | EPOLLERR))
        c->host_deaf = true;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        c->readable = true;
        vsock_ready(c);
    }
}

static struct vsock_conn *conn_new(struct vsock *s, uint32_t cid, uint32_t guest_port, uint32_t host_port)
{
    struct vsock_conn *c = ev_alloc(sizeof *c), **b = &s->bucket[bucket_of(guest_port, host_port)];

    c->src.note = note;
    c->s = s;
    c->fd = -1;
    c->cid = cid;
    c->guest_port = guest_port;
    c->host_port = host_port;
    ev_buf_init(&c->out, VSOCK_BUFFER);
    c->hash_next = *b;
    *b = c;
    c->hashed = true;
    if ((c->next = s->all))
        c->next->prev = c;
    s->all = c;
    s->n_conns++;
    return c;
}

static int adopt(struct vsock_conn *c, int fd)
{
    c->fd = fd;
    return vhost_watch(c->s->v, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &c->src);
}

/* A Unix connect never lasts: it works, fails, or (EAGAIN) the backlog is full and we try again. */
static int dial(struct vsock_conn *c)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct ev_vhost_vsock_conf *conf = &c->s->conf;
    int fd = conf->connect ? conf->connect(conf->ctx, c->host_port) : -1, rc;

    if (fd >= 0)
        return adopt(c, fd);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/parent_%u", c->s->dir, c->host_port);   /* room: see open */
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return adopt(c, fd);
    rc = -errno;
    close(fd);
    return rc;
}

static void dialled(struct vsock_conn *c, int rc)
{
    if (rc >= 0) {
        c->state = CONN_OPEN;
        set_deadline(c, 0);
        vsock_say(c, OP_RESPONSE);
    } else if (rc != -EAGAIN) {
        vsock_abort(c);
    } else if (!c->deadline) {
        c->state = CONN_CONNECTING;
        set_deadline(c, CONNECT_MS);
    }
}

void vsock_open_from_guest(struct vsock *s, const struct vsock_packet *p)
{
    struct vsock_conn *c;

    if (s->n_conns >= VSOCK_CONNS) {
        vsock_reset_unknown(s, p);
        return;
    }
    c = conn_new(s, (uint32_t)p->dst_cid, p->src_port, p->dst_port);
    c->peer_alloc = p->buf_alloc;
    c->peer_fwd = p->fwd_cnt;
    dialled(c, dial(c));
}

static uint32_t free_port(struct vsock *s, uint32_t guest_port)
{
    do
        s->next_port = s->next_port % HOST_PORTS + 1;
    while (vsock_find(s, PARENT_CID, guest_port, HOST_PORTS + s->next_port));
    return HOST_PORTS + s->next_port;
}

bool vsock_accept(struct vsock *s, struct vsock_listener *l, unsigned budget)
{
    while (l->pending && budget-- > 0 && s->n_conns < VSOCK_CONNS) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct vsock_conn *c;

        if (fd < 0) {
            l->pending = errno != EAGAIN;
            if (l->pending) {               /* out of descriptors: they stay in the backlog for now */
                s->accept_later = true;
                need_tick(s);
            }
            return false;
        }
        c = conn_new(s, PARENT_CID, l->guest_port, free_port(s, l->guest_port));
        c->state = CONN_REQUESTED;
        if (adopt(c, fd) < 0) {
            vsock_kill(c);
            continue;
        }
        set_deadline(c, RESPONSE_MS);
        vsock_say(c, OP_REQUEST);
    }
    return l->pending && s->n_conns < VSOCK_CONNS;      /* room for more comes when one is buried */
}
