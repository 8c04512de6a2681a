/* text.h — small text codecs: hex, base64, time, nearest word, UTF-8. Pure functions. */
#ifndef EV_CODEC_TEXT_H
#define EV_CODEC_TEXT_H

#include "base/buf.h"

int ev_hex_put(struct ev_buf *out, ev_slice in) EV_MUST_USE;                 /* lower case */
/* Writes exactly in.n / 2 bytes; odd length or another character: EV_EPARSE. Either case. */
int ev_hex_decode(ev_slice in, uint8_t *out, size_t cap) EV_MUST_USE;        /* → bytes written */

int ev_base64_put(struct ev_buf *out, ev_slice in) EV_MUST_USE;              /* standard, padded */
/* Standard or URL alphabet, padded or not; blanks and newlines skipped when `lax`. */
int ev_base64_decode(struct ev_buf *out, ev_slice in, bool lax) EV_MUST_USE;

/* "2026-11-24T12:00:00Z", optional fraction and offset → milliseconds since 1970 UTC. Impossible
 * dates (Feb 30) are EV_EPARSE. */
int ev_time_parse(ev_slice in, int64_t *ms) EV_MUST_USE;
int ev_time_put(struct ev_buf *out, int64_t ms, int fraction_digits) EV_MUST_USE;   /* "...Z" */

/* Damerau-Levenshtein distance, both at most 64 bytes (longer: SIZE_MAX). */
size_t ev_text_distance(const char *a, const char *b);
/* The nearest of n words, or NULL when none is near enough (distance <= 1 + length / 3). */
const char *ev_text_nearest(const char *word, const char *const *words, size_t n);
bool ev_utf8_valid(ev_slice s);

#endif
