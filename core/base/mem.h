/* mem.h — small allocations that never fail, slices that borrow, secrets that are wiped.
 *
 * ev_alloc & co. are for sizes *we* choose; they end the process when memory is gone. Whatever a
 * stranger sizes goes into an ev_buf with a named maximum (buf.h). */
#ifndef EV_BASE_MEM_H
#define EV_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; never outlives the buffer it points into. */
typedef struct ev_slice {
    const uint8_t *p;
    size_t n;
} ev_slice;

#define EV_LIT(s) ((ev_slice){ (const uint8_t *)("" s), sizeof(s) - 1 })
#define EV_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static inline ev_slice ev_slice_of(const void *p, size_t n)
{
    return (ev_slice){ (const uint8_t *)p, n };
}
static inline ev_slice ev_slice_str(const char *s)
{
    return (ev_slice){ (const uint8_t *)s, s ? strlen(s) : 0 };
}
static inline bool ev_slice_eq(ev_slice a, ev_slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
/* Constant time in the content (not in the length); for digests and tags. */
bool ev_slice_eq_ct(ev_slice a, ev_slice b);

void *ev_alloc(size_t n);                    /* zeroed */
void *ev_realloc(void *p, size_t n);
char *ev_strdup(const char *s);              /* NULL stays NULL */
char *ev_strndup(const void *p, size_t n);
char *ev_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ev_free(void *p);
void ev_wipe(void *p, size_t n);             /* not optimised away */

/* Secret bytes: own allocation, wiped by ev_secret_fini, kept out of core dumps where possible. */
struct ev_secret {
    uint8_t *p;
    size_t n;
};

void ev_secret_init(struct ev_secret *s, size_t n);          /* zeroed */
void ev_secret_copy(struct ev_secret *s, const void *p, size_t n);
void ev_secret_fini(struct ev_secret *s);                    /* idempotent */

#endif
