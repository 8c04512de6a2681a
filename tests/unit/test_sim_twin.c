/* test_sim_twin.c — the launcher's end of the vsock twin against an enclave that means harm. */
#include "role/launch_common.h"
#include "role/launch_sim.h"

#include "net/vsock.h"
#include "tap.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[] = "/tmp/ev-twin-XXXXXX";
static struct ev_rt *rt;
static int beats, enclave;

static void heartbeat(void *ctx)
{
    (void)ctx;
    beats++;
}

/* Sends n bytes; the answer's code, *fd the descriptor or -1. */
static int ask_bytes(const void *q, size_t n, int *fd)
{
    uint8_t a[8] = { 0 };
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct iovec iov = { a, sizeof(a) };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
                        .msg_controllen = sizeof(control.space) };
    struct cmsghdr *c;

    *fd = -1;
    if (send(enclave, q, n, MSG_NOSIGNAL) < 0)
        return -1;
    for (int i = 0; i < 20; i++) {
        struct pollfd p = { enclave, POLLIN, 0 };

        if (poll(&p, 1, 0) == 1)
            break;
        ev_rt_run_once(rt);
    }
    if (recvmsg(enclave, &m, MSG_DONTWAIT) != 4)
        return -2;
    for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(fd, CMSG_DATA(c), sizeof(int));
    return (int)((uint32_t)a[0] | (uint32_t)a[1] << 8 | (uint32_t)a[2] << 16 | (uint32_t)a[3] << 24);
}

static int ask(uint8_t op, uint32_t port, int *fd)
{
    uint8_t q[8] = { op, 0, 0, 0, (uint8_t)port, (uint8_t)(port >> 8), (uint8_t)(port >> 16), (uint8_t)(port >> 24) };

    return ask_bytes(q, sizeof(q), fd);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

static void turn(void)
{
    struct ev_timer *t = ev_timer_start(rt, 1, true, nothing, NULL);    /* so that both turns end */

    ev_rt_run_once(rt);
    ev_rt_run_once(rt);
    ev_timer_stop(t);
}

static struct sockaddr_un address(const char *name)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", dir, name);
    return a;
}

static void test_ports(void)
{
    struct sockaddr_un a = address("enclave_7777"), p = address("parent_5000");
    struct stat st;
    int fd = -1, other, l, rc;

    EQ_INT(ask(2, 7777, &l), 0, "listen");
    OK(l >= 0 && stat(a.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600, "a socket, 0600");
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    OK(connect(other, (struct sockaddr *)&a, sizeof(a)) == 0 && (fd = accept(l, NULL, NULL)) >= 0, "the host connects");
    close(fd);
    close(other);
    EQ_INT(ask(2, 7777, &fd), -EADDRINUSE, "the same port again");
    EQ_INT(fd, -1, "without a descriptor");
    EQ_INT(ask(1, 5000, &fd), -ECONNRESET, "connect to nobody is a reset, as vsock's");
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    rc = bind(other, (struct sockaddr *)&p, sizeof(p)) | listen(other, 4);
    OK(rc == 0 && ask(1, 5000, &fd) == 0 && fd >= 0, "connect to a listener of the host");
    close(fd);
    close(other);
    close(l);
}

static void test_malformed(void)
{
    static const uint8_t q[16] = { 1, 0, 0, 0, 0x88, 0x13, 0, 0 };
    uint8_t bad[8] = { 1, 1, 0, 0, 1, 0, 0, 0 };
    int fd;

    for (size_t n = 1; n < sizeof(q); n++)
        if (n != 8 && ask_bytes(q, n, &fd) != -EINVAL)
            OK(0, "a request of %zu bytes", n);
    EQ_INT(ask_bytes(bad, 8, &fd), -EINVAL, "bytes that must be zero");
    EQ_INT(ask(0, 1, &fd), -EINVAL, "no operation");
    EQ_INT(ask(3, 1, &fd), -EINVAL, "an unknown one");
    EQ_INT(ask(255, 4294967295U, &fd), -EINVAL, "and another");
}

static void test_heartbeat(void)
{
    uint8_t byte = 0x00;
    int fd;

    beats = 0;
    OK(ask(1, EV_PORT_HEARTBEAT, &fd) == 0 && send(fd, &byte, 1, 0) == 1, "a wrong byte");
    turn();
    EQ_INT(beats, 0, "is no heartbeat");
    close(fd);
    byte = 0xB7;
    OK(ask(1, EV_PORT_HEARTBEAT, &fd) == 0 && send(fd, &byte, 1, 0) == 1, "the right one");
    beats = 0;
    for (int i = 0; i < 5 && beats < 1; i++) {
        beats = 0;
        ev_rt_run_once(rt);
    }
    OK(beats == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) == 1 && byte == 0xB7, "is answered");
    close(fd);
}

static void test_report(struct ev_twin *t)
{
    static char longest[4096];
    int fd;

    EQ_STR(ev_twin_report(t), "", "no report so far");
    memset(longest, 'x', sizeof(longest));
    OK(ask(1, EV_PORT_EXIT, &fd) == 0 && send(fd, "exit code=7 signal=0 reason=x\n", 30, 0) == 30, "a report");
    EQ_INT(strlen(ev_twin_report(t)), 30, "arrives");
    OK(send(fd, longest, sizeof(longest), MSG_DONTWAIT) > 0 && strlen(ev_twin_report(t)) <= 512, "and is bounded");
    close(fd);
}

static void test_many(void)
{
    int fd, n = 1, rc = 0;

    for (uint32_t port = 100; port < 300 && (rc = ask(2, port, &fd)) == 0; port++, n++)
        close(fd);
    OK(n == 64 && rc == -EMFILE, "at most 64 listeners (%d)", n);
}

int main(void)
{
    struct ev_twin_conf conf = { .dir = dir, .heartbeat = heartbeat };
    struct ev_twin *t;
    int pair[2], dir_fd;

    if (!mkdtemp(dir) || ev_rt_new(&rt, NULL) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return 1;
    conf.rt = rt;
    conf.take_fd = pair[0];
    enclave = pair[1];
    t = ev_twin_open(&conf);
    test_ports();
    test_malformed();
    test_heartbeat();
    test_report(t);
    test_many();
    close(enclave);
    turn();
    ev_twin_close(t);
    ev_twin_close(NULL);
    while (ev_rt_open_handles(rt) > 0 && ev_rt_run_once(rt) > 0)
        ;
    EQ_INT(ev_rt_open_handles(rt), 0, "no handle is left");
    ev_rt_free(rt);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    ev_launch_remove_dir(dir_fd, dir);
    close(dir_fd);
    OK(access(dir, F_OK) < 0, "no socket and no folder is left");
    return tap_done();
}
