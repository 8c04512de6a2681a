/* addr.c — see addr.h. No name is looked up here. */
#include "net/addr.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    HOST_MAX = 253,
    PATH_MAX_UNIX = sizeof(((struct sockaddr_un *)0)->sun_path) - 1,
};

static const char *after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static int number(const char *s, uint32_t max, uint32_t *out)
{
    uint64_t v = 0;

    if (!*s)
        return EV_EPARSE;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return EV_EPARSE;
        v = v * 10 + (uint64_t)(*s - '0');
        if (v > max)
            return EV_EPARSE;
    }
    *out = (uint32_t)v;
    return 0;
}

static bool host_ok(const char *s, size_t n, bool v6)
{
    if (n == 0 || n > HOST_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!word && c != '.' && c != '-' && c != '_' && !(v6 && (c == ':' || c == '%')))
            return false;
    }
    return true;
}

static int parse_unix(const char *path, struct ev_addr *out, struct ev_err *err)
{
    size_t n = strlen(path);

    if (n == 0)
        return ev_fail(err, EV_EPARSE, "unix: needs a path");
    if (n > PATH_MAX_UNIX)
        return ev_fail(err, EV_ELIMIT, "socket path is longer than %d bytes: %s", (int)PATH_MAX_UNIX, path);
    out->kind = EV_ADDR_UNIX;
    memcpy(out->host, path, n + 1);
    return 0;
}

/* vsock:CID:PORT, CID may be "any" for a listener. */
static int parse_vsock(const char *s, struct ev_addr *out)
{
    const char *colon = strchr(s, ':');
    char cid[16];
    size_t n;

    if (!colon)
        return EV_EPARSE;
    n = (size_t)(colon - s);
    if (n == 0 || n >= sizeof cid)
        return EV_EPARSE;
    memcpy(cid, s, n);
    cid[n] = 0;
    out->kind = EV_ADDR_VSOCK;
    if (strcmp(cid, "any") == 0)
        out->cid = UINT32_MAX;
    else if (number(cid, UINT32_MAX, &out->cid) < 0)
        return EV_EPARSE;
    return number(colon + 1, UINT32_MAX, &out->port);
}

static int parse_tcp(const char *s, struct ev_addr *out)
{
    bool v6 = *s == '[';
    const char *end = v6 ? strchr(s, ']') : strrchr(s, ':');
    const char *host = v6 ? s + 1 : s;
    size_t n;

    if (!end || (v6 && end[1] != ':'))
        return EV_EPARSE;
    n = (size_t)(end - host);
    if (!host_ok(host, n, v6) || (v6 && !memchr(host, ':', n)))
        return EV_EPARSE;
    out->kind = EV_ADDR_TCP;
    memcpy(out->host, host, n);
    out->host[n] = 0;
    return number(end + (v6 ? 2 : 1), 65535, &out->port);
}

int ev_addr_parse(const char *text, struct ev_addr *out, struct ev_err *err)
{
    const char *rest;
    int rc;

    memset(out, 0, sizeof *out);
    if ((rest = after(text, "unix:")))
        return parse_unix(rest, out, err);
    if ((rest = after(text, "vsock:")))
        rc = parse_vsock(rest, out);
    else
        rc = parse_tcp((rest = after(text, "tcp:")) ? rest : text, out);
    if (rc < 0)
        return ev_fail(err, rc, "address \"%.200s\": expected HOST:PORT, [IPV6]:PORT, unix:PATH or vsock:CID:PORT",
                       text);
    return 0;
}

void ev_addr_text(const struct ev_addr *a, char *out, size_t cap)
{
    switch (a->kind) {
    case EV_ADDR_TCP:
        snprintf(out, cap, strchr(a->host, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u", a->host, a->port);
        break;
    case EV_ADDR_UNIX:
        snprintf(out, cap, "unix:%s", a->host);
        break;
    case EV_ADDR_VSOCK:
        if (a->cid == UINT32_MAX)
            snprintf(out, cap, "vsock:any:%u", a->port);
        else
            snprintf(out, cap, "vsock:%u:%u", a->cid, a->port);
        break;
    }
}
