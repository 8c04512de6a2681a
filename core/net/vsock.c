/* vsock.c — see vsock.h. Blocking, with a deadline on every wait; for start-up and job threads.
 *
 * The launcher answers the twin's requests in order and without a number, so one request is under
 * way at a time, and an answer that came too late is read and dropped before the next request. */
#include "net/vsock.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum { OP_CONNECT = 1, OP_LISTEN = 2, BACKLOG = 1024, LISTEN_MS = 10 * 1000, ERRNO_MAX = 4095 };

/* The twin's channel is one descriptor of the whole process, so this state is, too. */
static pthread_mutex_t twin_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned twin_late;              /* answers that nobody waits for any more */

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(int fd, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline - now_ms();
        struct pollfd p = { .fd = fd, .events = events };
        int n = poll(&p, 1, left > 0 ? (int)left : 0);

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (left <= 0)
            return -ETIMEDOUT;
    }
}

/* Never on a machine that has an NSM: there the launcher must not be able to stand in for it. */
static bool simulated(void)
{
    int type = 0;
    socklen_t n = sizeof type;
    struct stat st;

    if (stat("/dev/nsm", &st) == 0)
        return false;
    return getsockopt(EV_TWIN_VSOCK_FD, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_SEQPACKET;
}

/* --- the twin --------------------------------------------------------------------------------- */

/* The one descriptor of the message; of several, none is kept. */
static int descriptor_of(struct msghdr *m)
{
    int fd[2] = { -1, -1 };

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = c->cmsg_len >= CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && n <= EV_COUNT(fd))
            memcpy(fd, CMSG_DATA(c), n * sizeof(int));      /* the buffer has room for two at most */
    }
    if (fd[1] < 0)
        return fd[0];
    close(fd[0]);
    close(fd[1]);
    return -1;
}

/* One answer. → descriptor, or negative. */
static int receive(int64_t deadline)
{
    union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } control;
    uint8_t answer[4];
    struct iovec iov = { answer, sizeof answer };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t n;
    int32_t code;
    int fd, rc;

    do {
        if ((rc = wait_for(EV_TWIN_VSOCK_FD, POLLIN, deadline)) < 0)
            return rc;
        n = recvmsg(EV_TWIN_VSOCK_FD, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n <= 0)
        return n < 0 ? -errno : -EPIPE;
    fd = descriptor_of(&m);
    code = (int32_t)((uint32_t)answer[0] | (uint32_t)answer[1] << 8 | (uint32_t)answer[2] << 16 |
                     (uint32_t)answer[3] << 24);
    if (n == sizeof answer && code == 0 && fd >= 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return n == sizeof answer && code < 0 && code >= -ERRNO_MAX ? code : -EPROTO;
}

static int drop_late(int64_t deadline)
{
    while (twin_late) {
        int fd = receive(deadline);

        if (fd == -ETIMEDOUT || fd == -EPIPE)
            return fd;
        if (fd >= 0)
            close(fd);
        twin_late--;
    }
    return 0;
}

static int ask(uint8_t op, uint32_t port, int64_t deadline)
{
    uint8_t packet[8] = { op, 0, 0, 0, (uint8_t)port, (uint8_t)(port >> 8), (uint8_t)(port >> 16),
                          (uint8_t)(port >> 24) };
    int rc;

    EV_TRY(drop_late(deadline));
    EV_TRY(wait_for(EV_TWIN_VSOCK_FD, POLLOUT, deadline));
    if (send(EV_TWIN_VSOCK_FD, packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof packet)
        EV_TRY(-errno);
    rc = receive(deadline);
    if (rc == -ETIMEDOUT)
        twin_late++;
out:
    return rc;
}

static int set_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

static int twin(uint8_t op, uint32_t port, int64_t deadline)
{
    int fd, rc;

    pthread_mutex_lock(&twin_lock);
    fd = ask(op, port, deadline);
    pthread_mutex_unlock(&twin_lock);
    if (fd >= 0 && (rc = set_blocking(fd)) < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* --- AF_VSOCK --------------------------------------------------------------------------------- */

static int real_connect(uint32_t port, int64_t deadline)
{
    struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = EV_CID_PARENT, .svm_port = port };
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc = 0, why = 0;
    socklen_t n = sizeof why;

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        if (errno != EINPROGRESS)
            EV_TRY(-errno);
        EV_TRY(wait_for(fd, POLLOUT, deadline));
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
            why = errno;
        EV_TRY(-why);
    }
    EV_TRY(set_blocking(fd));
    return fd;
out:
    close(fd);
    return rc;
}

static int real_listen(uint32_t port)
{
    struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, BACKLOG) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int ev_vsock_connect_parent(uint32_t port, int timeout_ms, struct ev_err *err)
{
    int64_t deadline = now_ms() + timeout_ms;
    int fd = simulated() ? twin(OP_CONNECT, port, deadline) : real_connect(port, deadline);

    return fd < 0 ? ev_fail(err, fd, "connect to the parent, port %u: %s", port, ev_err_text(fd)) : fd;
}

int ev_vsock_listen(uint32_t port, struct ev_err *err)
{
    int fd = simulated() ? twin(OP_LISTEN, port, now_ms() + LISTEN_MS) : real_listen(port);

    return fd < 0 ? ev_fail(err, fd, "listen on vsock port %u: %s", port, ev_err_text(fd)) : fd;
}
