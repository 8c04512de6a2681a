/* sock.h — socket addresses and descriptors, for the files of core/net only. */
#ifndef EV_NET_SOCK_H
#define EV_NET_SOCK_H

#include <netinet/in.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#include "net/addr.h"

struct ev_sockaddr {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_vm vm;
        struct sockaddr_storage room;
    } u;
    socklen_t len;
};

/* 0, or 1 when the host is a name that must be looked up first. */
int ev_sockaddr_from(const struct ev_addr *a, struct ev_sockaddr *out);
void ev_sockaddr_to(const struct ev_sockaddr *sa, struct ev_addr *out);
int ev_sock_family(int fd);                                 /* AF_* or -errno */
int ev_sock_peer(int fd, struct ev_addr *out);
int ev_sock_local(int fd, struct ev_addr *out);
int ev_sock_open(int family);                               /* stream, non-blocking, close-on-exec */
int ev_sock_listen(const struct ev_addr *at, struct ev_err *err);   /* → fd */
int ev_sock_nonblock(int fd);

#endif
