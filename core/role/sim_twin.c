/* sim_twin.c — the launcher's end of the vsock twin (net/vsock.h, launch_sim.h).
 *
 * The enclave asks for a connection to the parent or for a listening socket, and gets a descriptor;
 * it never sees a path. Ports 9000 and 7781 are answered here: heartbeat and exit report. Bounded: a
 * hostile enclave gets at most LISTENERS sockets, and one heartbeat and one report at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/vsock.h"
#include "role/launch_sim.h"

enum { OP_CONNECT = 1, OP_LISTEN = 2, REQUEST_LEN = 8, LISTENERS = 64, REPORT_MAX = 512, BACKLOG = 128,
       HEARTBEAT = 0xB7, REQUESTS_A_TURN = 16 };

struct ev_twin {
    struct ev_rt *rt;
    const char *dir;
    int fd, beat_fd, report_fd;
    struct ev_watch *watch, *beat_watch;
    size_t n_listeners;
    struct ev_buf report;
    void (*heartbeat)(void *ctx);
    void *ctx;
};

static void answer(struct ev_twin *t, int code, int fd)
{
    uint32_t v = (uint32_t)code;
    uint8_t bytes[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct iovec iov = { bytes, sizeof(bytes) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *c;

    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof(control.space);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    if (sendmsg(t->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        ev_watch_stop(t->watch), t->watch = NULL;   /* the enclave is gone or does not read */
}

static int unix_addr(const struct ev_twin *t, const char *side, uint32_t port, struct sockaddr_un *a)
{
    int n;

    memset(a, 0, sizeof(*a));
    a->sun_family = AF_UNIX;
    n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s_%u", t->dir, side, port);
    return n < (int)sizeof(a->sun_path) ? 0 : -ENAMETOOLONG;
}

/* A socket of DIR/parent_PORT. Nobody there looks like vsock's reset. */
static int connect_parent(struct ev_twin *t, uint32_t port)
{
    struct sockaddr_un a;
    int fd, rc = unix_addr(t, "parent", port, &a);

    if (rc < 0)
        return rc;
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    rc = errno == ENOENT || errno == ECONNREFUSED ? -ECONNRESET : -errno;
    close(fd);
    return rc;
}

static int listen_enclave(struct ev_twin *t, uint32_t port)
{
    struct sockaddr_un a;
    int fd, rc = unix_addr(t, "enclave", port, &a);

    if (rc < 0)
        return rc;
    if (t->n_listeners == LISTENERS)
        return -EMFILE;
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return -errno;
    /* bind, not unlink and bind: a second listener on a port is refused as vsock refuses it. */
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(a.sun_path, 0600) < 0 || listen(fd, BACKLOG) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    t->n_listeners++;
    return fd;
}

static void beat_ready(void *ctx, int events)
{
    struct ev_twin *t = ctx;
    uint8_t byte = 0;
    ssize_t n = recv(t->beat_fd, &byte, 1, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ev_watch_stop(t->beat_watch);
    t->beat_watch = NULL;
    if (n == 1 && byte == HEARTBEAT && send(t->beat_fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
        t->heartbeat(t->ctx);
}

/* One end for the enclave (returned), the other kept in *keep; a second one replaces the first. */
static int own_port(int *keep)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    if (*keep >= 0)
        close(*keep);
    *keep = pair[0];
    return pair[1];
}

static int open_port(struct ev_twin *t, uint8_t op, uint32_t port)
{
    int fd;

    if (op == OP_LISTEN)
        return listen_enclave(t, port);
    if (op != OP_CONNECT)
        return -EINVAL;
    if (port == EV_PORT_EXIT)
        return own_port(&t->report_fd);
    if (port != EV_PORT_HEARTBEAT)
        return connect_parent(t, port);
    ev_watch_stop(t->beat_watch);
    t->beat_watch = NULL;
    if ((fd = own_port(&t->beat_fd)) >= 0)
        t->beat_watch = ev_watch_start(t->rt, t->beat_fd, EV_READABLE, beat_ready, t);
    return fd;
}

static void request_ready(void *ctx, int events)
{
    struct ev_twin *t = ctx;

    (void)events;
    for (int i = 0; i < REQUESTS_A_TURN && t->watch; i++) {
        uint8_t q[REQUEST_LEN + 1];
        ssize_t n = recv(t->fd, q, sizeof(q), MSG_DONTWAIT);
        int fd;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            ev_watch_stop(t->watch);
            t->watch = NULL;
            return;
        }
        fd = n != REQUEST_LEN || q[1] || q[2] || q[3] ? -EINVAL
            : open_port(t, q[0], (uint32_t)q[4] | (uint32_t)q[5] << 8 | (uint32_t)q[6] << 16 | (uint32_t)q[7] << 24);
        answer(t, fd < 0 ? fd : 0, fd);
        if (fd >= 0)
            close(fd);
    }
}

struct ev_twin *ev_twin_open(const struct ev_twin_conf *conf)
{
    struct ev_twin *t = ev_alloc(sizeof(*t));

    t->rt = conf->rt;
    t->dir = conf->dir;
    t->fd = conf->take_fd;
    t->heartbeat = conf->heartbeat;
    t->ctx = conf->ctx;
    t->beat_fd = t->report_fd = -1;
    ev_buf_init(&t->report, REPORT_MAX);
    t->watch = ev_watch_start(t->rt, t->fd, EV_READABLE, request_ready, t);
    return t;
}

const char *ev_twin_report(struct ev_twin *t)
{
    char chunk[REPORT_MAX];
    ssize_t n;

    request_ready(t, 0);
    while (t->report_fd >= 0 && (n = recv(t->report_fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0)
        if (ev_buf_put(&t->report, chunk, (size_t)n) < 0)
            break;
    return ev_buf_str(&t->report);
}

void ev_twin_close(struct ev_twin *t)
{
    int fds[] = { t ? t->fd : -1, t ? t->beat_fd : -1, t ? t->report_fd : -1 };

    if (!t)
        return;
    ev_watch_stop(t->watch);
    ev_watch_stop(t->beat_watch);
    for (size_t i = 0; i < EV_COUNT(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    ev_buf_fini(&t->report);
    ev_free(t);
}
