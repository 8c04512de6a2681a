/* text.h — small text codecs: hex, base64, time, nearest word, UTF-8. Pure functions. */
#ifndef EV_CODEC_TEXT_H
#define EV_CODEC_TEXT_H

#include "base/buf.h"

int ev_hex_put(struct ev_buf *out, ev_slice in) EV_MUST_USE;                 /* lower case */
/* Writes exactly in.n / 2 bytes; odd length or another character: EV_EPARSE. Either case. */
int ev_hex_decode(ev_slice in, uint8_t *out, size_t cap) EV_MUST_USE;        /* → bytes written */

int ev_base64_put(struct ev_buf *out, ev_slice in) EV_MUST_USE;              /* standard, padded */
/* Standard or URL alphabet (not both), padded or not; blanks and newlines skipped when `lax`. Stray
 * bits below the last byte are refused. On failure `out` is as it was. */
int ev_base64_decode(struct ev_buf *out, ev_slice in, bool lax) EV_MUST_USE;

/* "2026-11-24T12:00:00Z", optional fraction, "Z" or an offset → milliseconds since 1970 UTC.
 * Impossible dates (Feb 30) and second 60 are EV_EPARSE. */
int ev_time_parse(ev_slice in, int64_t *ms) EV_MUST_USE;
/* "...Z"; years 0 to 9999 and 0 to 9 digits, else -ERANGE. */
int ev_time_put(struct ev_buf *out, int64_t ms, int fraction_digits) EV_MUST_USE;

/* Damerau-Levenshtein distance, both at most 64 bytes (longer: SIZE_MAX). */
size_t ev_text_distance(const char *a, const char *b);
/* The nearest of n words, or NULL when none is near enough (distance <= 1 + length / 3). */
const char *ev_text_nearest(const char *word, const char *const *words, size_t n);
bool ev_utf8_valid(ev_slice s);

#endif
