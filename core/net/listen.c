/* listen.c — listeners over any kind of socket. See stream.h.
 *
 * The descriptor is watched and accepted from by hand: one code path for TCP, Unix and AF_VSOCK, and
 * running out of descriptors pauses the listener instead of spinning. */
#include "net/stream_internal.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { ACCEPT_PER_TURN = 64, PAUSE_MS = 100 };

struct ev_listener {
    struct ev_rt *rt;
    int fd, family;
    void (*accepted)(void *ctx, struct ev_stream *s);
    void *ctx;
    struct ev_watch *watch;
    struct ev_timer *pause;
    struct ev_soon free_soon;
    bool closed;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];     /* to unlink, or "" */
    dev_t dev;
    ino_t ino;
};

static void readable(void *ctx, int events);

static void resume(void *ctx)
{
    struct ev_listener *l = ctx;

    ev_timer_stop(l->pause);
    l->pause = NULL;
    l->watch = ev_watch_start(l->rt, l->fd, EV_READABLE, readable, l);
    if (!l->watch)
        l->pause = ev_timer_start(l->rt, PAUSE_MS, false, resume, l);
}

static void pause_accepting(struct ev_listener *l, int why)
{
    ev_log(EV_WARN, "listen", "accept: %s; pausing", ev_err_text(why));
    ev_watch_stop(l->watch);
    l->watch = NULL;
    l->pause = ev_timer_start(l->rt, PAUSE_MS, false, resume, l);
}

/* A connection that died in the queue, or a signal: nothing is wrong with the listener. */
static bool passing(int e)
{
    return e == ECONNABORTED || e == EINTR || e == EPROTO || e == EPERM || e == ENETDOWN || e == EHOSTUNREACH;
}

static void listener_free(void *ctx)
{
    struct ev_listener *l = ctx;

    ev_rt_closed(l->rt);
    ev_free(l);
}

static void readable(void *ctx, int events)
{
    struct ev_listener *l = ctx;

    (void)events;
    for (int i = 0; i < ACCEPT_PER_TURN && !l->closed; i++) {
        struct ev_stream *s;
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0 && passing(errno))
            continue;
        if (fd < 0) {
            pause_accepting(l, -errno);
            return;
        }
        if (ev_stream_adopt(l->rt, l->family, fd, &s) >= 0)
            l->accepted(l->ctx, s);
    }
}

static struct ev_listener *listener_new(struct ev_rt *rt, int fd, int family,
                                        void (*accepted)(void *ctx, struct ev_stream *s), void *ctx)
{
    struct ev_listener *l = ev_alloc(sizeof *l);

    l->rt = rt;
    l->fd = fd;
    l->family = family;
    l->accepted = accepted;
    l->ctx = ctx;
    l->free_soon = (struct ev_soon){ .cb = listener_free, .ctx = l };
    l->watch = ev_watch_start(rt, fd, EV_READABLE, readable, l);
    if (!l->watch) {
        ev_free(l);
        return NULL;
    }
    ev_rt_opened(rt);
    return l;
}

int ev_listen_fd(struct ev_rt *rt, int take_fd, void (*accepted)(void *ctx, struct ev_stream *s),
                 void *ctx, struct ev_listener **out, struct ev_err *err)
{
    int family = ev_sock_family(take_fd), rc = family;

    EV_TRY(rc);
    EV_TRY(ev_sock_nonblock(take_fd));
    *out = listener_new(rt, take_fd, family, accepted, ctx);
    if (!*out)
        EV_TRY(-EBADF);
    return 0;
out:
    close(take_fd);
    return ev_fail(err, rc, "listen on a descriptor: %s", ev_err_text(rc));
}

int ev_listen(struct ev_rt *rt, const struct ev_addr *at, void (*accepted)(void *ctx, struct ev_stream *s),
              void *ctx, struct ev_listener **out, struct ev_err *err)
{
    struct stat st;
    int fd = ev_sock_listen(at, err), rc;

    if (fd < 0)
        return fd;
    if ((rc = ev_listen_fd(rt, fd, accepted, ctx, out, err)) < 0)
        return rc;
    if (at->kind == EV_ADDR_UNIX && stat(at->host, &st) == 0) {
        memcpy((*out)->path, at->host, strnlen(at->host, sizeof (*out)->path - 1));
        (*out)->dev = st.st_dev;
        (*out)->ino = st.st_ino;
    }
    return 0;
}

int ev_listener_addr(const struct ev_listener *l, struct ev_addr *out)
{
    return ev_sock_local(l->fd, out);
}

/* Only our own file: another process may listen at that path by now. */
static void unlink_path(const struct ev_listener *l)
{
    struct stat st;

    if (l->path[0] && stat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        unlink(l->path);
}

void ev_listener_close(struct ev_listener *l)
{
    if (!l || l->closed)
        return;
    l->closed = true;
    ev_watch_stop(l->watch);
    ev_timer_stop(l->pause);
    unlink_path(l);
    close(l->fd);
    ev_soon_call(l->rt, &l->free_soon);
}
