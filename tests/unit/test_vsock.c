/* test_vsock.c — the twin's protocol against a launcher of our own, honest and not. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/vsock.h"
#include "nitro/nsm.h"
#include "tap.h"

/* What the fake launcher does with the next request. */
enum act { GIVE, REFUSE, NO_FD, SHORT, POSITIVE, HUGE_CODE, LATE, SILENT, TWO_FDS, QUIT };

static int channel = -1, given = -1;
static enum act act;
static atomic_int taken;                /* requests that the launcher has begun with */
static uint8_t seen[16];
static ssize_t seen_n;
static pthread_t launcher;

static void answer(int32_t code, size_t len, int fds, int nonblock)
{
    union { struct cmsghdr align; char room[CMSG_SPACE(2 * sizeof(int))]; } control = { 0 };
    uint8_t b[8] = { (uint8_t)code, (uint8_t)(code >> 8), (uint8_t)(code >> 16), (uint8_t)(code >> 24) };
    struct iovec iov = { b, len };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    int pair[2] = { -1, -1 };

    if (fds) {
        struct cmsghdr *c;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0, pair) < 0)
            abort();
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE((size_t)fds * sizeof(int));
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)fds * sizeof(int));
        memcpy(CMSG_DATA(c), pair, (size_t)fds * sizeof(int));
    }
    if (fds == 1) {                     /* before the answer: then the test looks at it */
        if (given >= 0)
            close(given);
        given = pair[1];
    }
    if (sendmsg(channel, &m, MSG_NOSIGNAL) < 0)
        abort();
    if (fds == 1) {
        close(pair[0]);
    } else if (fds) {
        close(pair[0]);
        close(pair[1]);
    }
}

static void *launch(void *arg)
{
    (void)arg;
    while ((seen_n = recv(channel, seen, sizeof seen, 0)) > 0) {
        enum act now = act;

        atomic_fetch_add(&taken, 1);
        switch (now) {
        case GIVE: answer(0, 4, 1, 1); break;
        case REFUSE: answer(-ECONNREFUSED, 4, 0, 0); break;
        case NO_FD: answer(0, 4, 0, 0); break;
        case SHORT: answer(0, 3, 1, 0); break;
        case POSITIVE: answer(5, 4, 1, 0); break;
        case HUGE_CODE: answer(-5000, 4, 0, 0); break;
        case TWO_FDS: answer(0, 4, 2, 0); break;
        case LATE: usleep(250 * 1000); answer(0, 4, 1, 0); break;
        case SILENT: break;
        case QUIT: shutdown(channel, SHUT_RDWR); return NULL;
        }
    }
    return NULL;
}

static void start(void)
{
    int fd[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd) < 0)
        abort();
    channel = fcntl(fd[1], F_DUPFD_CLOEXEC, 20);
    close(fd[1]);
    if (fd[0] != EV_TWIN_VSOCK_FD && dup2(fd[0], EV_TWIN_VSOCK_FD) < 0)
        abort();
    if (fd[0] != EV_TWIN_VSOCK_FD)
        close(fd[0]);
    if (pthread_create(&launcher, NULL, launch, NULL) != 0)
        abort();
}

static void stop(void)
{
    shutdown(channel, SHUT_RDWR);
    pthread_join(launcher, NULL);
    close(channel);
    close(EV_TWIN_VSOCK_FD);
    if (given >= 0)
        close(given);
    given = -1;
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void good(void)
{
    struct ev_err err = EV_ERR_INIT;
    char b[8] = "";
    int fd;

    act = GIVE;
    fd = ev_vsock_connect_parent(0x01020304, 2000, &err);
    if (!OK(fd >= 0, "connect (%s)", err.msg))
        return;
    OK(seen_n == 8 && memcmp(seen, "\1\0\0\0\4\3\2\1", 8) == 0, "eight bytes: connect, port in little endian");
    OK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0, "blocking, whatever the launcher made it");
    OK(fcntl(fd, F_GETFD) & FD_CLOEXEC, "close-on-exec");
    OK(write(fd, "ping", 4) == 4 && read(given, b, sizeof b) == 4, "a real socket");
    close(fd);
    fd = ev_vsock_listen(7777, &err);
    OK(fd >= 0 && seen_n == 8 && memcmp(seen, "\2\0\0\0\x61\x1e\0\0", 8) == 0, "listen");
    close(fd);
}

static void bad(enum act what, int want, const char *name)
{
    struct ev_err err = EV_ERR_INIT;
    int before = open_descriptors(), rc;

    act = what;
    rc = ev_vsock_connect_parent(9000, 5000, &err);
    EQ_INT(rc, want, name);
    OK(err.code == rc && strstr(err.msg, "9000"), "%s", err.msg);
    if (given >= 0)
        close(given);
    given = -1;
    for (int i = 0; i < 500 && open_descriptors() > before; i++)
        usleep(2000);                   /* the launcher's thread closes its own ends meanwhile */
    OK(open_descriptors() <= before, "no descriptor is left");
}

static void wait_taken(int n)
{
    for (int i = 0; i < 2000 && atomic_load(&taken) < n; i++)
        usleep(2000);
}

/* The answer to a request that was given up must not be taken for the next one's. */
static void late(void)
{
    struct ev_err err = EV_ERR_INIT;
    char b[8] = "";
    int fd, before = atomic_load(&taken);

    act = LATE;
    EQ_INT(ev_vsock_connect_parent(1, 50, &err), -ETIMEDOUT, "an answer that comes too late");
    wait_taken(before + 1);
    act = REFUSE;
    EQ_INT(ev_vsock_connect_parent(2, 3000, &err), -ECONNREFUSED, "the next request gets its own answer");
    act = GIVE;
    fd = ev_vsock_connect_parent(3, 2000, &err);
    OK(fd >= 0 && write(given, "3", 1) == 1 && read(fd, b, 8) == 1, "and the one after that, too");
    close(fd);
}

static void silent(void)
{
    struct ev_err err = EV_ERR_INIT;
    int before = atomic_load(&taken);

    act = SILENT;
    EQ_INT(ev_vsock_connect_parent(1, 50, &err), -ETIMEDOUT, "a silent launcher");
    wait_taken(before + 1);
    act = GIVE;
    EQ_INT(ev_vsock_connect_parent(1, 50, &err), -ETIMEDOUT, "who still owes an answer");
}

static void dead(void)
{
    struct ev_err err = EV_ERR_INIT;

    act = QUIT;
    EQ_INT(ev_vsock_connect_parent(1, 2000, &err), -EPIPE, "a launcher that dies");
    EQ_INT(ev_vsock_connect_parent(1, 2000, &err), -EPIPE, "and stays dead");
    EQ_INT(ev_vsock_listen(1, &err), -EPIPE, "for listeners as well");
}

static void not_simulated(void)
{
    struct ev_err err = EV_ERR_INIT;
    int fd[2], far, rc;

    close(EV_TWIN_VSOCK_FD);
    rc = ev_vsock_connect_parent(1, 100, &err);
    OK(rc < 0 && rc != -ENOTSOCK && rc != -EBADF, "no descriptor: AF_VSOCK itself is asked (%s)", ev_err_name(rc));
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
        abort();
    far = fcntl(fd[1], F_DUPFD_CLOEXEC, 20);        /* stays open, and is not descriptor 4 */
    close(fd[1]);
    if (dup2(fd[0], EV_TWIN_VSOCK_FD) < 0)
        abort();
    rc = ev_vsock_connect_parent(1, 100, &err);
    OK(rc < 0 && rc != -ETIMEDOUT, "a socket of another kind is not the launcher (%s)", ev_err_name(rc));
    close(far);
    close(EV_TWIN_VSOCK_FD);
}

int main(void)
{
    EQ_INT(EV_TWIN_VSOCK_FD, EV_SIM_VSOCK_FD, "net and nitro mean the same descriptor");
    if (access("/dev/nsm", F_OK) == 0) {
        SKIP(1, "this is an enclave: there is no twin");
        return tap_done();
    }
    start();
    good();
    bad(REFUSE, -ECONNREFUSED, "refused");
    bad(NO_FD, -EPROTO, "no descriptor");
    bad(SHORT, -EPROTO, "a short answer");
    bad(POSITIVE, -EPROTO, "a positive code");
    bad(HUGE_CODE, -EPROTO, "a code that is no errno");
    bad(TWO_FDS, -EPROTO, "two descriptors");
    late();
    dead();
    stop();
    start();
    silent();
    stop();
    not_simulated();
    return tap_done();
}
