/* vhost.c — the vhost-user protocol, back end side (vhost.h, vhost_int.h).
 *
 * A message is a 12-byte header {request, flags, size}, a payload, and descriptors beside it. Reading
 * never goes past the message at hand, so descriptors belong to the message they come with. A message
 * that we cannot honour is answered with a failure when an answer was asked for; else the front end
 * is let go, because it would go on as if we had done it. */
#include "role/vhost_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

enum { MAGIC = 0x76686f73, EVENTS = 64, MESSAGES_A_TURN = 32, VERSION = 1, VERSION_MASK = 3, REPLY = 4, NEED_REPLY = 8,
       NO_FD = 0x100, INDEX_MASK = 0xff, RING_LOG = 1 };

#define BIT(n) (UINT64_C(1) << (n))
#define FEATURES (BIT(30) | BIT(32))        /* protocol features; virtio 1 */

/* --- descriptors -------------------------------------------------------------------------------------- */

int vhost_watch(struct ev_vhost *v, int fd, uint32_t events, struct vhost_src *src)
{
    struct epoll_event e = { .events = events, .data.ptr = src };

    return epoll_ctl(v->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* Others may hold the same open file, and epoll goes by that: closing alone would not end its events. */
void vhost_forget(struct ev_vhost *v, int *fd)
{
    if (*fd < 0)
        return;
    epoll_ctl(v->epoll, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

void vhost_wake(struct ev_vhost *v)
{
    uint64_t one = 1;

    if (!v->awake && write(v->wake, &one, sizeof one) == sizeof one)
        v->awake = true;
}

int vhost_bind(const char *path, int backlog, struct ev_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    size_t n = strlen(path);
    int fd, rc;

    if (n >= sizeof a.sun_path)
        return ev_fail(err, -ENAMETOOLONG, "socket path is longer than %zu bytes: %s", sizeof a.sun_path - 1, path);
    memcpy(a.sun_path, path, n + 1);
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return ev_fail_errno(err, "socket");
    /* The mode before the name: there is no moment at which others could connect. */
    if (fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, backlog) == 0)
        return fd;
    rc = ev_fail_errno(err, "listen on %s", path);
    close(fd);
    return rc;
}

/* --- the front end's life -------------------------------------------------------------------------------- */

static void drop_fds(struct vhost_message *m)
{
    for (size_t i = 0; i < m->n_fd; i++)
        if (m->fd[i] >= 0)
            close(m->fd[i]);
    m->n_fd = m->n = 0;
}

static int take_fd(struct vhost_message *m)
{
    int fd = m->fd[0];

    m->fd[0] = -1;
    return fd;
}

static void stop_ring(struct ev_vhost *v, struct vhost_ring *r)
{
    vhost_forget(v, &r->kick);
    vhost_forget(v, &r->call);
    vhost_forget(v, &r->error);
    r->started = r->broken = r->to_signal = false;
}

static void front_gone(struct ev_vhost *v, const char *why)
{
    if (v->front < 0)
        return;
    ev_log(EV_DEBUG, "vhost", "%s: %s", v->device->name, why);
    vhost_forget(v, &v->front);
    drop_fds(&v->in);
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        stop_ring(v, &v->ring[i]);
        vhost_ring_init(&v->ring[i]);
    }
    vhost_mem_clear(&v->mem);
    if (v->device->gone)
        v->device->gone(v);
}

static void unlist(struct ev_vhost *v)
{
    vhost_forget(v, &v->listen);
    if (v->path)
        unlink(v->path);
    ev_free(v->path);
    v->path = NULL;
}

static void accept_front(struct ev_vhost *v)
{
    int fd = accept4(v->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    unlist(v);
    v->front = fd;
    if (vhost_watch(v, fd, EPOLLIN, &v->front_src) < 0)
        front_gone(v, "the front end cannot be watched");
}

/* --- messages --------------------------------------------------------------------------------------------- */

struct ring_state { uint32_t index, num; };
struct ring_addr { uint32_t index, flags; uint64_t desc, used, avail, log; };
struct region { uint64_t guest, size, front, offset; };

static uint8_t *payload(struct vhost_message *m) { return m->bytes + VHOST_HEAD; }

static uint32_t head(const struct vhost_message *m, int word)
{
    uint32_t v;

    memcpy(&v, m->bytes + 4 * word, sizeof v);
    return v;
}

static uint64_t number(struct vhost_message *m)
{
    uint64_t v;

    memcpy(&v, payload(m), sizeof v);
    return v;
}

/* An answer takes the message's place; the socket has room for every answer that is waited for. */
static int reply(struct ev_vhost *v, struct vhost_message *m, const void *bytes, size_t n)
{
    uint32_t h[3] = { head(m, 0), VERSION | REPLY, (uint32_t)n };

    memcpy(m->bytes, h, sizeof h);
    if (n > 0)
        memmove(payload(m), bytes, n);
    if (send(v->front, m->bytes, VHOST_HEAD + n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(VHOST_HEAD + n)) {
        front_gone(v, "the front end does not take answers");
        return -EPIPE;
    }
    return 1;
}

static int reply_number(struct ev_vhost *v, struct vhost_message *m, uint64_t n)
{
    return reply(v, m, &n, sizeof n);
}

static struct vhost_ring *ring_at(struct ev_vhost *v, uint64_t i)
{
    return i < v->device->rings ? &v->ring[i] : NULL;
}

static int get_features(struct ev_vhost *v, struct vhost_message *m) { return reply_number(v, m, FEATURES); }
static int get_protocol(struct ev_vhost *v, struct vhost_message *m) { return reply_number(v, m, v->device->protocol); }
static int get_queues(struct ev_vhost *v, struct vhost_message *m) { return reply_number(v, m, v->device->rings); }

static int set_features(struct ev_vhost *v, struct vhost_message *m)
{
    if (number(m) & ~FEATURES)
        return -EINVAL;
    v->features = number(m);
    return 0;
}

static int set_protocol(struct ev_vhost *v, struct vhost_message *m)
{
    return number(m) & ~v->device->protocol ? -EINVAL : 0;
}

static int set_owner(struct ev_vhost *v, struct vhost_message *m)
{
    (void)v, (void)m;
    return 0;
}

static int map_rings(struct ev_vhost *v)
{
    int worst = 0, rc;

    for (unsigned i = 0; i < v->device->rings; i++)
        if ((rc = vhost_ring_map(v, &v->ring[i])) < 0)
            worst = rc;
    return worst;
}

/* A new table replaces the old one, and every ring is found anew; one that is not there stands still. */
static int set_memory(struct ev_vhost *v, struct vhost_message *m)
{
    uint32_t n, size = head(m, 2);
    int rc = 0;

    if (size < 8)
        return -EINVAL;
    memcpy(&n, payload(m), sizeof n);
    if (n > VHOST_REGIONS || size < 8 + n * sizeof(struct region) || n != m->n_fd)
        return -EINVAL;
    vhost_mem_clear(&v->mem);
    for (uint32_t i = 0; i < n && rc >= 0; i++) {
        struct region r;

        memcpy(&r, payload(m) + 8 + i * sizeof r, sizeof r);
        rc = vhost_mem_add(&v->mem, &(struct vhost_region){ .guest = r.guest, .front = r.front, .size = r.size },
                           r.offset, m->fd[i]);
    }
    if (rc < 0)
        vhost_mem_clear(&v->mem);
    if (map_rings(v) < 0 && rc >= 0)
        ev_log(EV_DEBUG, "vhost", "%s: a queue is outside the new memory", v->device->name);
    return rc;
}

static int set_num(struct ev_vhost *v, struct vhost_message *m)
{
    struct ring_state s;
    struct vhost_ring *r;

    memcpy(&s, payload(m), sizeof s);
    if (!(r = ring_at(v, s.index)) || r->started || s.num == 0 || s.num > VHOST_RING_MAX || (s.num & (s.num - 1)))
        return -EINVAL;
    r->num = s.num;
    if (vhost_ring_map(v, r) < 0)
        ev_log(EV_DEBUG, "vhost", "%s: the addresses of before are of no use", v->device->name);
    return 0;
}

static int set_base(struct ev_vhost *v, struct vhost_message *m)
{
    struct ring_state s;
    struct vhost_ring *r;

    memcpy(&s, payload(m), sizeof s);
    if (!(r = ring_at(v, s.index)) || r->started || s.num > UINT16_MAX)
        return -EINVAL;
    if (r->next != s.num && v->device->restarted)       /* not where it was stopped: another driver */
        v->device->restarted(v);
    r->next = (uint16_t)s.num;
    return 0;
}

static int set_addr(struct ev_vhost *v, struct vhost_message *m)
{
    struct ring_addr a;
    struct vhost_ring *r;
    int rc;

    memcpy(&a, payload(m), sizeof a);
    if (!(r = ring_at(v, a.index)) || (a.flags & RING_LOG))
        return -EINVAL;
    r->desc_front = a.desc;
    r->avail_front = a.avail;
    r->used_front = a.used;
    r->broken = false;
    if ((rc = vhost_ring_map(v, r)) < 0)
        r->desc_front = r->avail_front = r->used_front = 0;
    return rc;
}

static int get_base(struct ev_vhost *v, struct vhost_message *m)
{
    struct ring_state s;
    struct vhost_ring *r;

    memcpy(&s, payload(m), sizeof s);
    if (!(r = ring_at(v, s.index)))
        return -EINVAL;
    stop_ring(v, r);
    s.num = r->next;
    return reply(v, m, &s, sizeof s);
}

/* Kick, call and error come alike: an index, and a descriptor unless a bit says that there is none.
 * A descriptor that could block is not for the loop. */
static int ring_fd(struct ev_vhost *v, struct vhost_message *m, struct vhost_ring **ring, int *fd)
{
    uint64_t n = number(m);
    int flags;

    *ring = ring_at(v, n & INDEX_MASK);
    *fd = -1;
    if (!*ring || n > (NO_FD | INDEX_MASK) || m->n_fd != (n & NO_FD ? 0 : 1))
        return -EINVAL;
    if (n & NO_FD)
        return 0;
    if ((flags = fcntl(m->fd[0], F_GETFL)) < 0 || fcntl(m->fd[0], F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    *fd = take_fd(m);
    return 0;
}

static int set_kick(struct ev_vhost *v, struct vhost_message *m)
{
    struct vhost_ring *r;
    int fd, rc = ring_fd(v, m, &r, &fd);

    if (rc < 0)
        return rc;
    if (fd < 0)
        return -EINVAL;                                 /* we do not poll */
    vhost_forget(v, &r->kick);
    r->kick = fd;
    /* By edges: an eventfd gives one for every kick, read or not. */
    if ((rc = vhost_watch(v, fd, EPOLLIN | EPOLLET, &r->kicked)) < 0) {
        vhost_forget(v, &r->kick);
        return rc;
    }
    r->started = true;
    return 0;
}

/* What was answered while QEMU had no descriptor to hear it with is signalled once more. */
static int set_call(struct ev_vhost *v, struct vhost_message *m)
{
    struct vhost_ring *r;
    int fd, rc = ring_fd(v, m, &r, &fd);

    if (rc < 0)
        return rc;
    vhost_forget(v, &r->call);
    r->call = fd;
    if (r->used && r->used_index != 0)
        r->to_signal = true;
    return 0;
}

static int set_error(struct ev_vhost *v, struct vhost_message *m)
{
    struct vhost_ring *r;
    int fd, rc = ring_fd(v, m, &r, &fd);

    if (rc < 0)
        return rc;
    vhost_forget(v, &r->error);
    r->error = fd;
    return 0;
}

static int set_enable(struct ev_vhost *v, struct vhost_message *m)
{
    struct ring_state s;
    struct vhost_ring *r;

    memcpy(&s, payload(m), sizeof s);
    if (!(r = ring_at(v, s.index)) || s.num > 1)
        return -EINVAL;
    r->enabled = s.num;
    return 0;
}

/* {offset, size, flags} and the bytes; a range that is not there is answered with none. */
static int get_config(struct ev_vhost *v, struct vhost_message *m)
{
    uint8_t all[VHOST_CONFIG_MAX], out[12 + VHOST_CONFIG_MAX];
    uint32_t range[3];
    size_t have = v->device->config ? v->device->config(v, all) : 0;

    if (head(m, 2) < sizeof range)
        return reply(v, m, NULL, 0);
    memcpy(range, payload(m), sizeof range);
    if (range[0] > have || range[1] > have - range[0])
        return reply(v, m, NULL, 0);
    memcpy(out, range, sizeof range);
    memcpy(out + sizeof range, all + range[0], range[1]);
    return reply(v, m, out, sizeof range + range[1]);
}

/* run: < 0 failed, 0 done, 1 answered. size: of the payload, 0 = the function looks. */
static const struct request { uint32_t number; uint16_t size; int (*run)(struct ev_vhost *, struct vhost_message *); }
requests[] = {
    { 1, 0, get_features }, { 2, 8, set_features }, { 3, 0, set_owner }, { 5, 0, set_memory },
    { 8, sizeof(struct ring_state), set_num }, { 9, sizeof(struct ring_addr), set_addr },
    { 10, sizeof(struct ring_state), set_base }, { 11, sizeof(struct ring_state), get_base },
    { 12, 8, set_kick }, { 13, 8, set_call }, { 14, 8, set_error }, { 15, 0, get_protocol },
    { 16, 8, set_protocol }, { 17, 0, get_queues }, { 18, sizeof(struct ring_state), set_enable },
    { 24, 0, get_config },
};

static int run(struct ev_vhost *v, struct vhost_message *m, bool *known)
{
    for (size_t i = 0; i < EV_COUNT(requests); i++) {
        const struct request *q = &requests[i];

        if (q->number != head(m, 0))
            continue;
        *known = true;
        return q->size && q->size != head(m, 2) ? -EINVAL : q->run(v, m);
    }
    return -EOPNOTSUPP;
}

static void handle(struct ev_vhost *v, struct vhost_message *m)
{
    uint32_t number_of = head(m, 0);
    bool asked = head(m, 1) & NEED_REPLY, known = false;
    int rc = run(v, m, &known);

    if (rc < 0 && v->front >= 0)
        ev_log(EV_DEBUG, "vhost", "%s: request %u refused: %s", v->device->name, number_of, ev_err_text(rc));
    if (rc <= 0 && asked && v->front >= 0)
        reply_number(v, m, rc < 0);
    else if (rc < 0 && known)
        front_gone(v, "a request that cannot be honoured");
    drop_fds(m);
}

/* --- receiving ------------------------------------------------------------------------------------------- */

static bool keep_fds(struct vhost_message *m, struct msghdr *h)
{
    bool room = !(h->msg_flags & MSG_CTRUNC);

    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        size_t n = c->cmsg_len >= CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (m->n_fd < VHOST_FDS)
                m->fd[m->n_fd++] = fd;
            else
                close(fd), room = false;
        }
    }
    return room;
}

/* Up to `want` bytes of the message → 1 all there, 0 later, < 0 gone. */
static int receive(struct ev_vhost *v, size_t want)
{
    struct vhost_message *m = &v->in;

    while (m->n < want) {
        union { struct cmsghdr align; char room[CMSG_SPACE(VHOST_FDS * sizeof(int))]; } control;
        struct iovec iov = { m->bytes + m->n, want - m->n };
        struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                            .msg_controllen = sizeof control };
        ssize_t n = recvmsg(v->front, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -EPIPE;
        m->n += (size_t)n;
        if (!keep_fds(m, &h))
            return -EMFILE;
    }
    return 1;
}

static void read_messages(struct ev_vhost *v)
{
    v->front_ready = false;
    for (int i = 0; i < MESSAGES_A_TURN && v->front >= 0; i++) {
        int rc = receive(v, VHOST_HEAD);

        if (rc > 0) {
            uint32_t flags = head(&v->in, 1), size = head(&v->in, 2);

            if ((flags & VERSION_MASK) != VERSION || (flags & REPLY) || size > VHOST_PAYLOAD_MAX)
                rc = -EPROTO;
            else
                rc = receive(v, VHOST_HEAD + size);
        }
        if (rc < 0)
            front_gone(v, rc == -EPIPE ? "the front end left" : "the front end does not speak the protocol");
        if (rc <= 0)
            return;
        handle(v, &v->in);
    }
}

/* --- turns --------------------------------------------------------------------------------------------------- */

static void turn(void *ctx, int what)
{
    struct ev_vhost *v = ctx;
    struct epoll_event e[EVENTS];
    int n = epoll_wait(v->epoll, e, EVENTS, 0);

    (void)what;
    for (int i = 0; i < n; i++) {
        struct vhost_src *src = e[i].data.ptr;

        src->note(src, e[i].events);
    }
    if (v->accept_ready && v->listen >= 0)
        accept_front(v);
    v->accept_ready = false;
    if (v->front_ready)
        read_messages(v);
    if (v->front < 0)
        return;
    if (v->device->work(v))
        vhost_wake(v);
    for (unsigned i = 0; i < v->device->rings; i++)
        vhost_ring_signal(&v->ring[i]);
}

#define OWNER(src, field) ((struct ev_vhost *)(void *)((char *)(src) - offsetof(struct ev_vhost, field)))

static void note_listen(struct vhost_src *src, uint32_t events)
{
    (void)events;
    OWNER(src, listen_src)->accept_ready = true;
}

static void note_front(struct vhost_src *src, uint32_t events)
{
    (void)events;
    OWNER(src, front_src)->front_ready = true;
}

static void note_wake(struct vhost_src *src, uint32_t events)
{
    struct ev_vhost *v = OWNER(src, wake_src);
    uint64_t n;

    (void)events;
    if (read(v->wake, &n, sizeof n) == sizeof n)
        v->awake = false;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static int start(struct ev_vhost *v, const char *path, struct ev_err *err)
{
    int rc;

    if ((v->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || (v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return ev_fail_errno(err, "epoll");
    EV_TRY(v->listen = vhost_bind(path, 1, err));
    v->path = ev_strdup(path);
    EV_TRY(vhost_watch(v, v->listen, EPOLLIN, &v->listen_src));
    EV_TRY(vhost_watch(v, v->wake, EPOLLIN, &v->wake_src));
    if (!(v->watch = ev_watch_start(v->rt, v->epoll, EV_READABLE, turn, v)))
        rc = ev_fail(err, -EIO, "epoll cannot be watched");
out:
    return rc;
}

int vhost_open(struct ev_rt *rt, const struct vhost_device *device, const char *path, void *take_dev,
               struct ev_vhost **out, struct ev_err *err)
{
    struct ev_vhost *v = ev_alloc(sizeof *v);
    int rc;

    v->magic = MAGIC;
    v->rt = rt;
    v->device = device;
    v->dev = take_dev;
    v->epoll = v->wake = v->listen = v->front = -1;
    v->listen_src.note = note_listen;
    v->front_src.note = note_front;
    v->wake_src.note = note_wake;
    for (unsigned i = 0; i < VHOST_RINGS; i++)
        vhost_ring_init(&v->ring[i]);
    if ((rc = start(v, path, err)) < 0) {
        ev_err_wrap(err, "%s device", device->name);
        ev_vhost_close(v);
        return rc;
    }
    *out = v;
    return 0;
}

void ev_vhost_close(struct ev_vhost *v)
{
    if (!v)
        return;
    if (v->front >= 0)
        front_gone(v, "closed");
    unlist(v);
    ev_watch_stop(v->watch);
    if (v->device->free)
        v->device->free(v);
    if (v->wake >= 0)
        close(v->wake);
    if (v->epoll >= 0)
        close(v->epoll);
    v->magic = 0;
    ev_free(v);
}
