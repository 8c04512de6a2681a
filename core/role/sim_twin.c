/* sim_twin.c — the launcher's end of the vsock twin (net/vsock.h, launch_sim.h).
 *
 * The enclave asks for a connection to the parent or for a listening socket, and gets a descriptor;
 * it never sees a path. Ports 9000 and 7781 are answered by launch_ports.c. Bounded: a hostile
 * enclave gets at most LISTENERS sockets. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/vsock.h"
#include "role/launch_ports.h"
#include "role/launch_sim.h"

enum { OP_CONNECT = 1, OP_LISTEN = 2, REQUEST_LEN = 8, LISTENERS = 64, BACKLOG = 128, REQUESTS_A_TURN = 16 };

struct ev_twin {
    struct ev_rt *rt;
    const char *dir;
    int fd;
    struct ev_watch *watch;
    size_t n_listeners;
    struct ev_ports ports;
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

static int open_port(struct ev_twin *t, uint8_t op, uint32_t port)
{
    int fd;

    if (op == OP_LISTEN)
        return listen_enclave(t, port);
    if (op != OP_CONNECT)
        return -EINVAL;
    fd = ev_ports_connect(&t->ports, port);
    return fd == -ENOENT ? connect_parent(t, port) : fd;
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
    ev_ports_init(&t->ports, t->rt, conf->heartbeat, conf->ctx);
    t->watch = ev_watch_start(t->rt, t->fd, EV_READABLE, request_ready, t);
    return t;
}

const char *ev_twin_report(struct ev_twin *t)
{
    request_ready(t, 0);
    return ev_ports_report(&t->ports);
}

void ev_twin_close(struct ev_twin *t)
{
    if (!t)
        return;
    ev_watch_stop(t->watch);
    ev_ports_fini(&t->ports);
    if (t->fd >= 0)
        close(t->fd);
    ev_free(t);
}
