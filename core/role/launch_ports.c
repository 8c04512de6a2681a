/* launch_ports.c — see launch_ports.h. A whole report is answered by the end of our side, so that
 * PID 1 knows that it has arrived before it ends the machine. */
#include "role/launch_ports.h"

#include <sys/socket.h>
#include <unistd.h>

#include "net/vsock.h"

enum { REPORT_MAX = 512, HEARTBEAT = 0xB7 };

static void beat_ready(void *ctx, int events)
{
    struct ev_ports *p = ctx;
    uint8_t byte = 0;
    ssize_t n = recv(p->beat_fd, &byte, 1, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ev_watch_stop(p->beat_watch);
    p->beat_watch = NULL;
    if (n == 1 && byte == HEARTBEAT && send(p->beat_fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
        p->heartbeat(p->ctx);
}

/* false: nothing more will come. */
static bool read_report(struct ev_ports *p)
{
    char chunk[REPORT_MAX];
    ssize_t n;

    while ((n = recv(p->report_fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0)
        if (ev_buf_put(&p->report, chunk, (size_t)n) < 0)
            return false;
    return n < 0 && (errno == EAGAIN || errno == EINTR) && !memchr(ev_buf_str(&p->report), '\n', p->report.n);
}

static void report_ready(void *ctx, int events)
{
    struct ev_ports *p = ctx;

    (void)events;
    if (read_report(p))
        return;
    ev_watch_stop(p->report_watch);
    p->report_watch = NULL;
    shutdown(p->report_fd, SHUT_WR);
}

static void forget(int *fd, struct ev_watch **watch)
{
    ev_watch_stop(*watch);
    *watch = NULL;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void ev_ports_init(struct ev_ports *p, struct ev_rt *rt, void (*heartbeat)(void *ctx), void *ctx)
{
    *p = (struct ev_ports){ .rt = rt, .beat_fd = -1, .report_fd = -1, .heartbeat = heartbeat, .ctx = ctx };
    ev_buf_init(&p->report, REPORT_MAX);
}

void ev_ports_fini(struct ev_ports *p)
{
    forget(&p->beat_fd, &p->beat_watch);
    forget(&p->report_fd, &p->report_watch);
    ev_buf_fini(&p->report);
}

int ev_ports_connect(struct ev_ports *p, uint32_t port)
{
    bool beat = port == EV_PORT_HEARTBEAT;
    int *fd = beat ? &p->beat_fd : &p->report_fd, pair[2];
    struct ev_watch **watch = beat ? &p->beat_watch : &p->report_watch;

    if (!beat && port != EV_PORT_EXIT)
        return -ENOENT;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    forget(fd, watch);
    *fd = pair[0];
    *watch = ev_watch_start(p->rt, *fd, EV_READABLE, beat ? beat_ready : report_ready, p);
    return pair[1];
}

const char *ev_ports_report(struct ev_ports *p)
{
    if (p->report_fd >= 0)
        read_report(p);
    return ev_buf_str(&p->report);
}
