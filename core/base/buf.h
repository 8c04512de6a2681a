/* buf.h — a growing byte buffer with a named maximum.
 *
 * Owns its bytes. Every append fails with -ENOBUFS once `max` would be passed, leaving the content
 * as it was. The byte after the last one is always 0 when the buffer holds anything, so text can be
 * read with ev_buf_str. */
#ifndef EV_BASE_BUF_H
#define EV_BASE_BUF_H

#include "base/err.h"
#include "base/mem.h"

struct ev_buf {
    uint8_t *p;
    size_t n, cap, max;
};

#define EV_BUF_INIT(maximum) { NULL, 0, 0, (maximum) }

void ev_buf_init(struct ev_buf *b, size_t max);
void ev_buf_fini(struct ev_buf *b);                 /* idempotent; does not wipe */
void ev_buf_wipe(struct ev_buf *b);                 /* wipes and frees */
void ev_buf_clear(struct ev_buf *b);                /* n = 0, keeps the allocation */
void ev_buf_consume(struct ev_buf *b, size_t n);    /* drops n bytes from the front */
int ev_buf_reserve(struct ev_buf *b, size_t extra) EV_MUST_USE;
int ev_buf_put(struct ev_buf *b, const void *p, size_t n) EV_MUST_USE;
int ev_buf_put_slice(struct ev_buf *b, ev_slice s) EV_MUST_USE;
int ev_buf_puts(struct ev_buf *b, const char *s) EV_MUST_USE;
int ev_buf_putc(struct ev_buf *b, uint8_t c) EV_MUST_USE;
int ev_buf_zero(struct ev_buf *b, size_t n) EV_MUST_USE;          /* n zero bytes */
int ev_buf_printf(struct ev_buf *b, const char *fmt, ...) EV_PRINTF(2, 3) EV_MUST_USE;
int ev_buf_put_u32be(struct ev_buf *b, uint32_t v) EV_MUST_USE;
int ev_buf_put_u64be(struct ev_buf *b, uint64_t v) EV_MUST_USE;
ev_slice ev_buf_slice(const struct ev_buf *b);
const char *ev_buf_str(const struct ev_buf *b);     /* "" when empty; valid until the next append */

static inline uint16_t ev_get_u16be(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t ev_get_u32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t ev_get_u64be(const uint8_t *p)
{
    return (uint64_t)ev_get_u32be(p) << 32 | ev_get_u32be(p + 4);
}

#endif
