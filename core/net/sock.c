/* sock.c — see sock.h. */
#include "net/sock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static int from_v6(const struct ev_addr *a, struct sockaddr_in6 *in6)
{
    char host[sizeof a->host];
    char *scope;

    memcpy(host, a->host, sizeof host);
    if ((scope = strchr(host, '%'))) {
        *scope++ = 0;
        in6->sin6_scope_id = if_nametoindex(scope);
    }
    return inet_pton(AF_INET6, host, &in6->sin6_addr);
}

static int from_tcp(const struct ev_addr *a, struct ev_sockaddr *out)
{
    if (inet_pton(AF_INET, a->host, &out->u.in.sin_addr) == 1) {
        out->u.in.sin_family = AF_INET;
        out->u.in.sin_port = htons((uint16_t)a->port);
        out->len = sizeof out->u.in;
        return 0;
    }
    if (from_v6(a, &out->u.in6) == 1) {
        out->u.in6.sin6_family = AF_INET6;
        out->u.in6.sin6_port = htons((uint16_t)a->port);
        out->len = sizeof out->u.in6;
        return 0;
    }
    return 1;
}

int ev_sockaddr_from(const struct ev_addr *a, struct ev_sockaddr *out)
{
    memset(out, 0, sizeof *out);
    switch (a->kind) {
    case EV_ADDR_TCP:
        return from_tcp(a, out);
    case EV_ADDR_UNIX:
        out->u.un.sun_family = AF_UNIX;
        memcpy(out->u.un.sun_path, a->host, strnlen(a->host, sizeof out->u.un.sun_path - 1));
        out->len = sizeof out->u.un;
        return 0;
    case EV_ADDR_VSOCK:
        out->u.vm.svm_family = AF_VSOCK;
        out->u.vm.svm_cid = a->cid;
        out->u.vm.svm_port = a->port;
        out->len = sizeof out->u.vm;
        return 0;
    }
    return -EINVAL;
}

static void to_unix(const struct ev_sockaddr *sa, struct ev_addr *out)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t n = sa->len > head ? sa->len - head : 0;

    out->kind = EV_ADDR_UNIX;
    if (n > sizeof sa->u.un.sun_path)
        n = sizeof sa->u.un.sun_path;
    memcpy(out->host, sa->u.un.sun_path, n);        /* out was zeroed and is longer */
}

void ev_sockaddr_to(const struct ev_sockaddr *sa, struct ev_addr *out)
{
    memset(out, 0, sizeof *out);
    switch (sa->u.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &sa->u.in.sin_addr, out->host, sizeof out->host);
        out->port = ntohs(sa->u.in.sin_port);
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &sa->u.in6.sin6_addr, out->host, sizeof out->host);
        out->port = ntohs(sa->u.in6.sin6_port);
        break;
    case AF_VSOCK:
        out->kind = EV_ADDR_VSOCK;
        out->cid = sa->u.vm.svm_cid;
        out->port = sa->u.vm.svm_port;
        break;
    default:
        to_unix(sa, out);
    }
}

int ev_sock_family(int fd)
{
    int family = 0;
    socklen_t n = sizeof family;

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0 ? -errno : family;
}

int ev_sock_peer(int fd, struct ev_addr *out)
{
    struct ev_sockaddr sa = { .len = sizeof sa.u };

    if (getpeername(fd, &sa.u.any, &sa.len) < 0)
        return -errno;
    ev_sockaddr_to(&sa, out);
    return 0;
}

int ev_sock_local(int fd, struct ev_addr *out)
{
    struct ev_sockaddr sa = { .len = sizeof sa.u };

    if (getsockname(fd, &sa.u.any, &sa.len) < 0)
        return -errno;
    ev_sockaddr_to(&sa, out);
    return 0;
}

int ev_sock_open(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

int ev_sock_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

/* A socket file that nobody listens on any more is removed; one that answers is left alone. */
static int remove_stale(const struct ev_sockaddr *sa)
{
    struct stat st;
    int fd, rc;

    if (lstat(sa->u.un.sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    if ((fd = ev_sock_open(AF_UNIX)) < 0)
        return fd;
    rc = connect(fd, &sa->u.any, sa->len);
    if (rc < 0 && errno == ECONNREFUSED)
        rc = unlink(sa->u.un.sun_path) < 0 ? -errno : 0;
    else
        rc = -EADDRINUSE;
    close(fd);
    return rc;
}

static int prepare(int fd, const struct ev_sockaddr *sa)
{
    int on = 1;

    if (sa->u.any.sa_family == AF_UNIX) {
        /* Before bind: Linux makes the socket file with the mode of the socket, so there is no
         * moment at which others could connect. */
        if (fchmod(fd, 0600) < 0)
            return -errno;
        return remove_stale(sa);
    }
    if (sa->u.any.sa_family != AF_VSOCK && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    return 0;
}

int ev_sock_listen(const struct ev_addr *at, struct ev_err *err)
{
    struct ev_addr to = *at;
    struct ev_sockaddr sa;
    char text[300];
    int fd = -1, rc;

    ev_addr_text(at, text, sizeof text);
    if (to.kind == EV_ADDR_TCP && strcmp(to.host, "localhost") == 0)
        memcpy(to.host, "127.0.0.1", sizeof "127.0.0.1");
    if (ev_sockaddr_from(&to, &sa) != 0)
        return ev_fail(err, EV_EUSAGE, "listen on %s: an IP address is needed, not a name", text);
    EV_TRY(fd = ev_sock_open(sa.u.any.sa_family));
    EV_TRY(prepare(fd, &sa));
    if (bind(fd, &sa.u.any, sa.len) < 0 || listen(fd, BACKLOG) < 0)
        EV_TRY(-errno);
    return fd;
out:
    if (fd >= 0)
        close(fd);
    return ev_fail(err, rc, "listen on %s: %s", text, ev_err_text(rc));
}
