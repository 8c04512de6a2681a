/* mem.c — see mem.h. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void *must(void *p, size_t n)
{
    if (!p) {
        fprintf(stderr, "ev-cage: out of memory (%zu bytes)\n", n);
        abort();
    }
    return p;
}

bool ev_slice_eq_ct(ev_slice a, ev_slice b)
{
    volatile uint8_t diff = 0;

    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        diff |= (uint8_t)(a.p[i] ^ b.p[i]);
    return diff == 0;
}

void *ev_alloc(size_t n)
{
    return must(calloc(1, n ? n : 1), n);
}

void *ev_realloc(void *p, size_t n)
{
    return must(realloc(p, n ? n : 1), n);
}

char *ev_strndup(const void *p, size_t n)
{
    char *s = ev_alloc(n + 1);

    if (n)
        memcpy(s, p, n);
    return s;
}

char *ev_strdup(const char *s)
{
    return s ? ev_strndup(s, strlen(s)) : NULL;
}

char *ev_asprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        s = NULL;
    va_end(ap);
    return must(s, 0);
}

void ev_free(void *p)
{
    free(p);
}

void ev_wipe(void *p, size_t n)
{
    if (p && n)
        explicit_bzero(p, n);
}

void ev_secret_init(struct ev_secret *s, size_t n)
{
    s->p = ev_alloc(n);
    s->n = n;
}

void ev_secret_copy(struct ev_secret *s, const void *p, size_t n)
{
    ev_secret_init(s, n);
    if (n)
        memcpy(s->p, p, n);
}

void ev_secret_fini(struct ev_secret *s)
{
    ev_wipe(s->p, s->n);
    free(s->p);
    s->p = NULL;
    s->n = 0;
}
