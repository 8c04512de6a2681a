/* cbor.h — CBOR, the one door of libcbor.
 *
 * Writer: definite lengths, shortest forms. Reader: a strict cursor (spec nsm-attestation §4.3):
 * depth limit 8; duplicate keys are for the caller to refuse (it knows its keys); additional
 * information 28..30, floats, undefined, other simple values and chunked strings are EV_EPARSE;
 * indefinite maps and arrays are accepted with a proper break; declared lengths are compared with
 * what remains; non-shortest integers accepted. */
#ifndef EV_CODEC_CBOR_H
#define EV_CODEC_CBOR_H

#include "base/buf.h"

int ev_cbor_put_uint(struct ev_buf *b, uint64_t v) EV_MUST_USE;
int ev_cbor_put_nint(struct ev_buf *b, int64_t v) EV_MUST_USE;      /* v < 0, else -EINVAL */
int ev_cbor_put_bytes(struct ev_buf *b, ev_slice v) EV_MUST_USE;
int ev_cbor_put_text(struct ev_buf *b, const char *s) EV_MUST_USE;
int ev_cbor_put_array(struct ev_buf *b, uint64_t n) EV_MUST_USE;
int ev_cbor_put_map(struct ev_buf *b, uint64_t n) EV_MUST_USE;      /* n pairs */
int ev_cbor_put_null(struct ev_buf *b) EV_MUST_USE;
int ev_cbor_put_bool(struct ev_buf *b, bool v) EV_MUST_USE;
int ev_cbor_put_tag(struct ev_buf *b, uint64_t tag) EV_MUST_USE;

enum ev_cbor_type {
    EV_CBOR_UINT, EV_CBOR_NINT, EV_CBOR_BYTES, EV_CBOR_TEXT, EV_CBOR_ARRAY, EV_CBOR_MAP,
    EV_CBOR_TAG, EV_CBOR_BOOL, EV_CBOR_NULL,
    EV_CBOR_BREAK           /* never comes out: a break is consumed by ev_cbor_more, and refused elsewhere */
};

/* One item head. For bytes and text `data` borrows from the input. */
struct ev_cbor_item {
    enum ev_cbor_type type;
    uint64_t value;         /* uint; nint as -1 - value; tag; bool */
    bool indefinite;        /* array, map */
    uint64_t count;         /* array items, map pairs (0 when indefinite) */
    ev_slice data;          /* bytes, text (text is checked UTF-8) */
};

struct ev_cbor_reader {
    ev_slice in;
    size_t pos;
};

void ev_cbor_reader_init(struct ev_cbor_reader *r, ev_slice in);
int ev_cbor_next(struct ev_cbor_reader *r, struct ev_cbor_item *item, struct ev_err *err) EV_MUST_USE;
/* Reads the next item and demands the type. */
int ev_cbor_expect(struct ev_cbor_reader *r, enum ev_cbor_type type, struct ev_cbor_item *item,
                   struct ev_err *err) EV_MUST_USE;
/* Skips one whole item (nested ones too, depth limit). */
int ev_cbor_skip(struct ev_cbor_reader *r, struct ev_err *err) EV_MUST_USE;
/* In a container just opened: 1 = another entry follows, 0 = done (a break was consumed, or
 * `seen` entries reached the count). Increment `seen` per entry (pair for maps). */
int ev_cbor_more(struct ev_cbor_reader *r, const struct ev_cbor_item *container, uint64_t seen,
                 struct ev_err *err) EV_MUST_USE;
bool ev_cbor_done(const struct ev_cbor_reader *r);

#endif
