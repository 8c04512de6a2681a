/* err.c — see err.h. */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Messages name files, hosts and fields that strangers chose, and are printed on terminals: control
 * characters of C0 (but tabs), DEL, and of C1 in UTF-8. */
static void without_controls(char *s)
{
    for (uint8_t *p = (uint8_t *)s; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;

        if ((*p < 0x20 && *p != '\t') || *p == 0x7f || c1)
            *p = '?';
        if (c1)
            *++p = '?';
    }
}

static void set_text(struct ev_err *err, const char *fmt, va_list ap)
{
    if (vsnprintf(err->msg, sizeof err->msg, fmt, ap) < 0)
        err->msg[0] = '\0';
    without_controls(err->msg);
}

int ev_fail(struct ev_err *err, int code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    err->reason[0] = '\0';
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    return code;
}

int ev_fail_reason(struct ev_err *err, int code, const char *reason, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    snprintf(err->reason, sizeof err->reason, "%s", reason);
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    return code;
}

int ev_fail_errno(struct ev_err *err, const char *fmt, ...)
{
    int saved = errno ? errno : EIO;
    size_t n;
    va_list ap;

    if (!err)
        return -saved;
    err->code = -saved;
    err->reason[0] = '\0';
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    n = strlen(err->msg);
    snprintf(err->msg + n, sizeof err->msg - n, ": %s", strerror(saved));
    return -saved;
}

void ev_err_wrap(struct ev_err *err, const char *fmt, ...)
{
    char inner[EV_ERR_MSG];
    size_t n;
    va_list ap;

    if (!err)
        return;
    memcpy(inner, err->msg, sizeof inner);
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    n = strlen(err->msg);
    snprintf(err->msg + n, sizeof err->msg - n, ": %s", inner);
}

const char *ev_err_name(int code)
{
    const char *name;

    switch (code) {
#define X(sym, num, str, exit, text) case num: return str;
    EV_ERRORS(X)
#undef X
    }
    name = code < 0 && code > -4096 ? strerrorname_np(-code) : NULL;
    return name ? name : "EUNKNOWN";
}

const char *ev_err_text(int code)
{
    switch (code) {
#define X(sym, num, str, exit, text) case num: return text;
    EV_ERRORS(X)
#undef X
    }
    return code < 0 && code > -4096 ? strerror(-code) : "unknown error";
}

int ev_err_exit_code(int code)
{
    switch (code) {
#define X(sym, num, str, exit, text) case num: return exit;
    EV_ERRORS(X)
#undef X
    case -ENOENT: case -ENOTDIR: case -EISDIR:                      return 66;
    case -EACCES: case -EPERM: case -EEXIST: case -EROFS:           return 73;
    case -ENOSPC: case -EIO: case -EDQUOT: case -EFBIG:             return 74;
    case -ETIMEDOUT: case -EAGAIN: case -EINTR:                     return 75;
    case -ECONNREFUSED: case -ECONNRESET: case -EHOSTUNREACH:
    case -ENETUNREACH: case -EPIPE:                                 return 69;
    case -ENOBUFS: case -E2BIG: case -EMSGSIZE: case -EINVAL:       return 65;
    }
    return code < 0 && code > -4096 ? 71 : 70;
}
