/* addr.h — one notation for every place: "tcp:127.0.0.1:8443", "127.0.0.1:8443", "[::1]:80",
 * "unix:/run/x.sock", "vsock:16:7777" ("vsock:any:7777" to listen). Every place that takes vsock takes
 * unix as its twin. */
#ifndef EV_NET_ADDR_H
#define EV_NET_ADDR_H

#include <sys/socket.h>

#include "base/err.h"
#include "base/mem.h"

enum ev_addr_kind { EV_ADDR_TCP, EV_ADDR_UNIX, EV_ADDR_VSOCK };

struct ev_addr {
    enum ev_addr_kind kind;
    char host[256];             /* tcp: name or literal; unix: path (<= 107 bytes) */
    uint32_t cid;               /* vsock */
    uint32_t port;              /* tcp, vsock */
};

int ev_addr_parse(const char *text, struct ev_addr *out, struct ev_err *err) EV_MUST_USE;
void ev_addr_text(const struct ev_addr *a, char *out, size_t cap);

#endif
