/* http1_internal.h — between the reader (http1.c: bytes, llhttp, bodies), the rules for what a head says
 * (http1_fields.c) and the writer (http1_write.c). */
#ifndef EV_CODEC_HTTP1_INTERNAL_H
#define EV_CODEC_HTTP1_INTERNAL_H

#include "codec/http1.h"

enum { EV_HTTP1_TOKEN = 1, EV_HTTP1_VALUE = 2, EV_HTTP1_VISIBLE = 4, EV_HTTP1_LINE = 8 };

extern const uint8_t ev_http1_class[256];

static inline bool ev_http1_isa(uint8_t c, uint8_t kind)
{
    return ev_http1_class[c] & kind;
}

ev_slice ev_http1_trim(ev_slice s);
/* Ends the reader: how to answer, and why. Returns `code`. */
int ev_http1_refuse(struct ev_http1 *p, uint16_t status, int code, struct ev_err *err, const char *why);
int ev_http1_bad(struct ev_http1 *p, struct ev_err *err, const char *why);         /* 400 */
int ev_http1_start_line(struct ev_http1 *p, ev_slice line, struct ev_err *err) EV_MUST_USE;
/* Works the fields out: framing, persistence, target. */
int ev_http1_judge(struct ev_http1 *p, bool *chunked, struct ev_err *err) EV_MUST_USE;

#endif
