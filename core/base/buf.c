/* buf.c — see buf.h. */
#include "base/buf.h"

#include <stdio.h>

void ev_buf_init(struct ev_buf *b, size_t max)
{
    *b = (struct ev_buf)EV_BUF_INIT(max);
}

void ev_buf_fini(struct ev_buf *b)
{
    ev_free(b->p);
    b->p = NULL;
    b->n = b->cap = 0;
}

void ev_buf_wipe(struct ev_buf *b)
{
    ev_wipe(b->p, b->cap);
    ev_buf_fini(b);
}

void ev_buf_clear(struct ev_buf *b)
{
    b->n = 0;
    if (b->p)
        b->p[0] = 0;
}

void ev_buf_consume(struct ev_buf *b, size_t n)
{
    if (n >= b->n) {
        ev_buf_clear(b);
        return;
    }
    memmove(b->p, b->p + n, b->n - n + 1);
    b->n -= n;
}

/* Keeps one byte more than asked, for the terminating zero. */
int ev_buf_reserve(struct ev_buf *b, size_t extra)
{
    size_t want, cap;

    if (extra > b->max || b->n > b->max - extra)
        return -ENOBUFS;
    want = b->n + extra + 1;
    if (want <= b->cap)
        return 0;
    cap = b->cap ? b->cap * 2 : 256;
    if (cap < want)
        cap = want;
    if (cap > b->max + 1)
        cap = b->max + 1;
    b->p = ev_realloc(b->p, cap);
    b->cap = cap;
    return 0;
}

int ev_buf_put(struct ev_buf *b, const void *p, size_t n)
{
    int rc = ev_buf_reserve(b, n);

    if (rc < 0)
        return rc;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
    return 0;
}

int ev_buf_put_slice(struct ev_buf *b, ev_slice s)
{
    return ev_buf_put(b, s.p, s.n);
}

int ev_buf_puts(struct ev_buf *b, const char *s)
{
    return ev_buf_put(b, s, strlen(s));
}

int ev_buf_putc(struct ev_buf *b, uint8_t c)
{
    return ev_buf_put(b, &c, 1);
}

int ev_buf_zero(struct ev_buf *b, size_t n)
{
    int rc = ev_buf_reserve(b, n);

    if (rc < 0)
        return rc;
    memset(b->p + b->n, 0, n + 1);
    b->n += n;
    return 0;
}

int ev_buf_printf(struct ev_buf *b, const char *fmt, ...)
{
    va_list ap;
    int n, rc;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return -EINVAL;
    if ((rc = ev_buf_reserve(b, (size_t)n)) < 0)
        return rc;
    va_start(ap, fmt);
    vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
    return 0;
}

int ev_buf_put_u32be(struct ev_buf *b, uint32_t v)
{
    uint8_t d[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };

    return ev_buf_put(b, d, sizeof d);
}

int ev_buf_put_u64be(struct ev_buf *b, uint64_t v)
{
    int rc = ev_buf_put_u32be(b, (uint32_t)(v >> 32));

    return rc < 0 ? rc : ev_buf_put_u32be(b, (uint32_t)v);
}

ev_slice ev_buf_slice(const struct ev_buf *b)
{
    return ev_slice_of(b->p, b->n);
}

const char *ev_buf_str(const struct ev_buf *b)
{
    return b->p ? (const char *)b->p : "";
}
