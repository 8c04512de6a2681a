/* http1.c — the reader of http1.h.
 *
 * Three steps, so that no leniency of one of them matters. A scanner looks at each byte of a head
 * when it comes and refuses whatever the grammar has no place for (llhttp 8, as distributions build
 * it, takes any byte for the LF after a CR, and folds lines). llhttp then reads the whole head and
 * gives the fields. Framing is worked out here from the fields, and must be what llhttp thinks.
 * Bodies are counted here: llhttp has no bound for a chunk's extensions. */
#include "codec/http1_internal.h"

#include <llhttp.h>

/* What is being read. */
enum { ST_HEAD, ST_LENGTH, ST_SIZE_FIRST, ST_SIZE, ST_EXT, ST_SIZE_LF, ST_CHUNK, ST_CHUNK_CR, ST_CHUNK_LF,
       ST_TRAILER, ST_UNTIL_EOF, ST_END, ST_DONE, ST_FAILED };

enum { CHUNK_DIGITS = 15 };                         /* far below what 64 bits hold */

/* Where in a head or in trailers the scanner is. */
enum { SC_FIRST, SC_FIRST_LF, SC_BEGIN, SC_START, SC_START_LF, SC_LINE, SC_NAME, SC_VALUE, SC_VALUE_LF, SC_END_LF,
       SC_DONE };

/* ---- scanner ---- */

static const char *const scan_wrong[] = {
    [SC_FIRST] = "not an HTTP message", [SC_FIRST_LF] = "CR without LF",
    [SC_BEGIN] = "not an HTTP message",
    [SC_START] = "a byte that no start line may have", [SC_START_LF] = "CR without LF",
    [SC_LINE] = "a line that does not begin with a field name", [SC_NAME] = "a byte that no field name may have",
    [SC_VALUE] = "a byte that no field value may have", [SC_VALUE_LF] = "CR without LF", [SC_END_LF] = "CR without LF",
};

static uint8_t start_class(const struct ev_http1 *p)
{
    return p->kind == EV_HTTP1_REQUEST ? EV_HTTP1_LINE : EV_HTTP1_VALUE;
}

/* The state after byte c, or -1. */
static int scan_byte(const struct ev_http1 *p, int at, uint8_t c)
{
    switch (at) {
    case SC_FIRST:
        if (c == '\r' && p->kind == EV_HTTP1_REQUEST)
            return SC_FIRST_LF;         /* one empty line before a request is forgiven (RFC 9112 §2.2) */
        return ev_http1_isa(c, EV_HTTP1_TOKEN) ? SC_START : -1;
    case SC_BEGIN:
        return ev_http1_isa(c, EV_HTTP1_TOKEN) ? SC_START : -1;
    case SC_START:
        if (c == '\r')
            return SC_START_LF;
        return ev_http1_isa(c, start_class(p)) ? SC_START : -1;
    case SC_LINE:
        return c == '\r' ? SC_END_LF : ev_http1_isa(c, EV_HTTP1_TOKEN) ? SC_NAME : -1;
    case SC_NAME:
        return c == ':' ? SC_VALUE : ev_http1_isa(c, EV_HTTP1_TOKEN) ? SC_NAME : -1;
    case SC_VALUE:
        return c == '\r' ? SC_VALUE_LF : ev_http1_isa(c, EV_HTTP1_VALUE) ? SC_VALUE : -1;
    case SC_FIRST_LF:
        return c == '\n' ? SC_BEGIN : -1;
    case SC_START_LF:
    case SC_VALUE_LF:
        return c == '\n' ? SC_LINE : -1;
    default:
        return c == '\n' ? SC_DONE : -1;
    }
}

/* How many bytes this part may have in all, as far as is known in this state. */
static size_t scan_room(const struct ev_http1 *p, const struct ev_buf *b)
{
    return p->scan <= SC_START ? EV_HTTP1_TARGET_MAX : b->max;
}

/* The end of the bytes from i on that leave the state as it is. */
static size_t scan_run(const struct ev_http1 *p, ev_slice in, size_t i, size_t end)
{
    uint8_t kind = p->scan == SC_VALUE ? EV_HTTP1_VALUE : p->scan == SC_NAME ? EV_HTTP1_TOKEN :
                   p->scan == SC_START ? start_class(p) : 0;

    while (i < end && ev_http1_isa(in.p[i], kind))
        i++;
    return i;
}

/* Takes bytes into b until the empty line. → SC_DONE reached (1), more needed (0), error. */
static int scan(struct ev_http1 *p, struct ev_buf *b, ev_slice in, size_t *used, struct ev_err *err)
{
    size_t i = 0;
    int next;

    while (i < in.n && p->scan != SC_DONE) {
        size_t room = scan_room(p, b) - b->n;

        i = scan_run(p, in, i, in.n < room ? in.n : room);
        if (i == in.n)
            break;
        if (i >= room)
            return ev_http1_refuse(p, p->scan <= SC_START ? 414 : 431, EV_ELIMIT, err, "the head is too large");
        if ((next = scan_byte(p, p->scan, in.p[i])) < 0)
            return ev_http1_bad(p, err, scan_wrong[p->scan]);
        if (p->scan == SC_LINE && next == SC_NAME && ++p->n_lines > EV_HTTP1_FIELDS)
            return ev_http1_refuse(p, 431, EV_ELIMIT, err, "too many fields");
        p->scan = (uint8_t)next;
        i++;
    }
    if (ev_buf_put(b, in.p, i) < 0)
        return ev_http1_refuse(p, 431, EV_ELIMIT, err, "the head is too large");
    *used = i;
    return p->scan == SC_DONE;
}

/* ---- llhttp ---- */

struct fields {
    struct ev_http1_field **list;
    size_t *n, *cap;
    ev_slice target;
    bool in_value;
    uint16_t flags;
    uint64_t length;
};

static int on_field(llhttp_t *ll, const char *at, size_t n)
{
    struct fields *f = ll->data;

    if (*f->n >= EV_HTTP1_FIELDS)
        return -1;
    if (*f->n == *f->cap) {
        *f->cap = *f->cap ? *f->cap * 2 : 16;
        *f->list = ev_realloc(*f->list, *f->cap * sizeof **f->list);
    }
    (*f->list)[(*f->n)++] = (struct ev_http1_field){ ev_slice_of(at, n), { NULL, 0 } };
    f->in_value = false;
    return 0;
}

static int on_value(llhttp_t *ll, const char *at, size_t n)
{
    struct fields *f = ll->data;

    if (*f->n == 0 || f->in_value)      /* a second piece is a folded line: the scanner lets none through */
        return -1;
    (*f->list)[*f->n - 1].value = ev_http1_trim(ev_slice_of(at, n));
    f->in_value = true;
    return 0;
}

static int on_url(llhttp_t *ll, const char *at, size_t n)
{
    ((struct fields *)ll->data)->target = ev_slice_of(at, n);
    return 0;
}

static int on_head_end(llhttp_t *ll)
{
    struct fields *f = ll->data;

    f->flags = ll->flags;
    f->length = ll->content_length;
    return HPE_PAUSED;
}

/* Runs llhttp over a whole head (after `prefix`, for trailers, which it has no entry for). */
static llhttp_errno_t run_llhttp(enum ev_http1_kind kind, ev_slice prefix, ev_slice text, struct fields *f)
{
    static const llhttp_settings_t settings = { .on_url = on_url, .on_header_field = on_field,
                                                .on_header_value = on_value, .on_headers_complete = on_head_end };
    llhttp_errno_t rc = HPE_OK;
    llhttp_t ll;

    llhttp_init(&ll, kind == EV_HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    ll.data = f;
    if (prefix.n)
        rc = llhttp_execute(&ll, (const char *)prefix.p, prefix.n);
    if (rc == HPE_OK)
        rc = llhttp_execute(&ll, (const char *)text.p, text.n);
    return rc;
}

/* ---- a whole head, whole trailers ---- */

/* Does llhttp see the fields and the framing that we see? */
static bool same_reading(const struct ev_http1 *p, const struct fields *f, bool chunked)
{
    const struct ev_http1_head *h = &p->head;

    return h->n_fields == p->n_lines && chunked == !!(f->flags & F_CHUNKED) &&
           h->has_length == !!(f->flags & F_CONTENT_LENGTH) && (!h->has_length || h->length == f->length);
}

static int read_head(struct ev_http1 *p, struct ev_err *err)
{
    struct fields f = { .list = &p->head.fields, .n = &p->head.n_fields, .cap = &p->cap_fields };
    size_t skip = p->buf.p[0] == '\r' ? 2 : 0;
    ev_slice text = ev_slice_of(p->buf.p + skip, p->buf.n - skip);
    ev_slice line = ev_slice_of(text.p, (size_t)((uint8_t *)memchr(text.p, '\r', text.n) - text.p));
    bool chunked = false;
    llhttp_errno_t ll;
    int rc;

    p->head.kind = p->kind;
    if ((rc = ev_http1_start_line(p, line, err)) < 0)
        return rc;
    ll = run_llhttp(p->kind, (ev_slice){0}, text, &f);
    if (ll == HPE_INVALID_METHOD)
        return ev_http1_refuse(p, 501, EV_EUNSUPPORTED, err, "no such method");
    if (ll != HPE_PAUSED)
        return ev_http1_bad(p, err, llhttp_errno_name(ll));
    if (p->kind == EV_HTTP1_REQUEST && !ev_slice_eq(f.target, p->head.target))
        return ev_http1_bad(p, err, "the target can be read in two ways");
    if ((rc = ev_http1_judge(p, &chunked, err)) < 0)
        return rc;
    return same_reading(p, &f, chunked) ? 0 : ev_http1_bad(p, err, "the head can be read in two ways");
}

static int read_trailers(struct ev_http1 *p, struct ev_err *err)
{
    struct fields f = { .list = &p->trailers, .n = &p->n_trailers, .cap = &p->cap_trailers };

    if (run_llhttp(EV_HTTP1_RESPONSE, EV_LIT("HTTP/1.1 200 OK\r\n"), ev_buf_slice(&p->tail), &f) != HPE_PAUSED ||
        p->n_trailers != p->n_lines)
        return ev_http1_bad(p, err, "malformed trailers");
    p->state = ST_END;
    return 0;
}

/* A small allocation is kept for the next message, a large one is not: idle connections are many. */
static void forget(struct ev_buf *b)
{
    if (b->cap > 2048)
        ev_buf_fini(b);
    else
        ev_buf_clear(b);
}

static void begin_message(struct ev_http1 *p)
{
    struct ev_http1_field *fields = p->head.fields;

    forget(&p->buf);
    forget(&p->tail);
    p->head = (struct ev_http1_head){ .fields = fields };
    p->n_trailers = 0;
    p->scan = SC_FIRST;
    p->chunk_line = p->n_lines = 0;
    p->state = ST_HEAD;
}

static void begin_body(struct ev_http1 *p)
{
    static const uint8_t first[] = { [EV_HTTP1_NONE] = ST_END, [EV_HTTP1_LENGTH] = ST_LENGTH,
                                     [EV_HTTP1_CHUNKED] = ST_SIZE_FIRST, [EV_HTTP1_UNTIL_EOF] = ST_UNTIL_EOF };

    p->state = first[p->head.body];
    p->left = p->head.body == EV_HTTP1_LENGTH ? p->head.length : 0;
    p->chunk_line = 0;
}

/* ---- chunks ---- */

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void begin_trailers(struct ev_http1 *p)
{
    p->state = ST_TRAILER;
    p->scan = SC_LINE;
    p->n_lines = 0;
}

/* One byte of the line before a chunk; p->chunk_line counts them. */
static int chunk_line(struct ev_http1 *p, uint8_t c, struct ev_err *err)
{
    int v = hex_value(c);

    if (++p->chunk_line > EV_HTTP1_CHUNK_LINE_MAX)
        return ev_http1_refuse(p, 400, EV_ELIMIT, err, "the line of a chunk is too long");
    if (p->state == ST_SIZE_LF) {
        if (c != '\n')
            return ev_http1_bad(p, err, "CR without LF in a chunk's line");
        p->chunk_line = 0;
        if (p->left)
            p->state = ST_CHUNK;
        else
            begin_trailers(p);
    } else if (p->state != ST_EXT && v >= 0) {
        if (p->chunk_line > CHUNK_DIGITS)
            return ev_http1_bad(p, err, "the size of a chunk is too large");
        p->left = p->left << 4 | (uint64_t)v;
        p->state = ST_SIZE;
    } else if (p->state != ST_SIZE_FIRST && c == '\r') {
        p->state = ST_SIZE_LF;
    } else if ((p->state == ST_SIZE && c == ';') || (p->state == ST_EXT && ev_http1_isa(c, EV_HTTP1_VALUE))) {
        p->state = ST_EXT;
    } else {
        return ev_http1_bad(p, err, "the size of a chunk is not a number");
    }
    return 0;
}

/* The CR LF after a chunk. */
static int chunk_end(struct ev_http1 *p, uint8_t c, struct ev_err *err)
{
    if (c != (p->state == ST_CHUNK_CR ? '\r' : '\n'))
        return ev_http1_bad(p, err, "a chunk is longer than its size");
    p->state = p->state == ST_CHUNK_CR ? ST_CHUNK_LF : ST_SIZE_FIRST;
    p->left = 0;
    return 0;
}

/* ---- public ---- */

void ev_http1_init(struct ev_http1 *p, enum ev_http1_kind kind)
{
    *p = (struct ev_http1){ .kind = kind };
    ev_buf_init(&p->buf, EV_HTTP1_HEAD_MAX);
    ev_buf_init(&p->tail, EV_HTTP1_TRAILER_MAX);
    begin_message(p);
}

void ev_http1_reset(struct ev_http1 *p)
{
    p->head_asked = false;
    p->status = 0;
    begin_message(p);
}

void ev_http1_fini(struct ev_http1 *p)
{
    ev_free(p->head.fields);
    ev_free(p->trailers);
    ev_buf_fini(&p->buf);
    ev_buf_fini(&p->tail);
    p->head = (struct ev_http1_head){0};
    p->trailers = NULL;
    p->n_trailers = p->cap_fields = p->cap_trailers = 0;
    p->state = ST_FAILED;
}

void ev_http1_answers_head(struct ev_http1 *p, bool yes)
{
    p->head_asked = yes;
}

bool ev_http1_idle(const struct ev_http1 *p)
{
    return p->state == ST_DONE || (p->state == ST_HEAD && p->buf.n == 0);
}

/* Bytes of the body, at most what is left of it. */
static int give(struct ev_http1 *p, ev_slice in, size_t *used, ev_slice *data)
{
    size_t n = p->state != ST_UNTIL_EOF && p->left < in.n ? (size_t)p->left : in.n;

    *data = ev_slice_of(in.p, n);
    *used += n;
    if (p->state == ST_UNTIL_EOF)
        return EV_HTTP1_DATA;
    p->left -= n;
    if (p->left == 0)
        p->state = p->state == ST_LENGTH ? ST_END : ST_CHUNK_CR;
    return EV_HTTP1_DATA;
}

/* Head or trailers. → HEAD, or 0 for "go on". */
static int take_lines(struct ev_http1 *p, ev_slice in, size_t *used, struct ev_err *err)
{
    struct ev_buf *b = p->state == ST_HEAD ? &p->buf : &p->tail;
    size_t n = 0;
    int rc = scan(p, b, in, &n, err);

    *used += n;
    if (rc <= 0)
        return rc;
    if (p->state == ST_TRAILER)
        return read_trailers(p, err);
    if ((rc = read_head(p, err)) < 0)
        return rc;
    begin_body(p);
    return EV_HTTP1_HEAD;
}

static int step(struct ev_http1 *p, ev_slice in, size_t *used, ev_slice *data, struct ev_err *err)
{
    switch (p->state) {
    case ST_HEAD:
    case ST_TRAILER:
        return take_lines(p, in, used, err);
    case ST_LENGTH:
    case ST_CHUNK:
    case ST_UNTIL_EOF:
        return give(p, in, used, data);
    case ST_CHUNK_CR:
    case ST_CHUNK_LF:
        ++*used;
        return chunk_end(p, in.p[0], err);
    case ST_FAILED:
        return ev_fail(err, EV_EPARSE, "after a malformed message");
    default:
        ++*used;
        return chunk_line(p, in.p[0], err);
    }
}

int ev_http1_next(struct ev_http1 *p, ev_slice in, size_t *used, ev_slice *data, struct ev_err *err)
{
    int rc = 0;

    *used = 0;
    *data = (ev_slice){0};
    if (p->state == ST_DONE && in.n)
        begin_message(p);
    while (rc == 0 && p->state != ST_END && *used < in.n)
        rc = step(p, ev_slice_of(in.p + *used, in.n - *used), used, data, err);
    if (rc < 0)
        p->state = ST_FAILED;
    if (rc == 0 && p->state == ST_END) {
        p->state = ST_DONE;
        return EV_HTTP1_END;
    }
    return rc;
}

int ev_http1_eof(struct ev_http1 *p, struct ev_err *err)
{
    if (p->state == ST_UNTIL_EOF || p->state == ST_END) {
        p->state = ST_DONE;
        return EV_HTTP1_END;
    }
    if (ev_http1_idle(p))
        return EV_HTTP1_MORE;
    p->state = ST_FAILED;
    p->status = 400;
    return ev_fail(err, EV_EEOF, "the message ended in its middle");
}
