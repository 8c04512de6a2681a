/* http1.h — HTTP/1.0 and 1.1 messages, read strictly and written again. The one door of llhttp.
 *
 * A reader takes bytes in any pieces and gives events; the caller stops between two events whenever
 * it likes (back-pressure, pipelining) and comes back with the bytes that were not used:
 *
 *     HEAD ──▶ DATA … DATA ──▶ END ──▶ HEAD (next message) …      any error ──▶ failed
 *
 * What one reader and the next could take for two different things is refused, never repaired: a
 * bare CR or LF, a control byte, a blank before a colon, a folded line, Content-Length twice or
 * beside Transfer-Encoding, a coding that is not exactly "chunked", Host missing or twice. */
#ifndef EV_CODEC_HTTP1_H
#define EV_CODEC_HTTP1_H

#include "base/buf.h"

enum {
    EV_HTTP1_HEAD_MAX = 32 * 1024,      /* bytes of a head, its empty line included */
    EV_HTTP1_TARGET_MAX = 16 * 1024,    /* bytes of a start line */
    EV_HTTP1_FIELDS = 100,              /* fields of a head, and of the trailers */
    EV_HTTP1_OPTIONS = 32,              /* words of all Connection fields */
    EV_HTTP1_TRAILER_MAX = 8 * 1024,
    EV_HTTP1_CHUNK_LINE_MAX = 256       /* chunk size and its extensions (which are dropped) */
};

enum ev_http1_kind { EV_HTTP1_REQUEST, EV_HTTP1_RESPONSE };
enum ev_http1_body { EV_HTTP1_NONE, EV_HTTP1_LENGTH, EV_HTTP1_CHUNKED, EV_HTTP1_UNTIL_EOF };
enum ev_http1_event { EV_HTTP1_MORE, EV_HTTP1_HEAD, EV_HTTP1_DATA, EV_HTTP1_END };

struct ev_http1_field { ev_slice name, value; };        /* value without blanks around it */

/* Slices point into the reader; valid until the first call after END. */
struct ev_http1_head {
    enum ev_http1_kind kind;
    uint8_t minor;                      /* HTTP/1.minor: 0 or 1 */
    ev_slice method, target;            /* request; target as it came */
    ev_slice path;                      /* what of the target an origin wants: after http://host; may be empty */
    uint16_t status;                    /* response */
    ev_slice reason;
    struct ev_http1_field *fields;
    size_t n_fields;
    enum ev_http1_body body;
    bool has_length;                    /* Content-Length was there, whatever `body` says (HEAD, 304) */
    uint64_t length;
    bool keep_alive;                    /* by version and Connection */
    bool upgrade;                       /* Upgrade, and Connection names it */
    bool expect_continue;
    bool te_trailers;
};

struct ev_http1 {
    struct ev_http1_head head;          /* from HEAD to the first call after END */
    struct ev_http1_field *trailers;    /* at END of a chunked message */
    size_t n_trailers;
    uint16_t status;                    /* after an error: how to answer it (400, 414, 431, 501, 505 …) */
    /* private */
    enum ev_http1_kind kind;
    bool head_asked;                    /* the response belongs to a HEAD request */
    uint8_t state, scan;
    struct ev_buf buf, tail;            /* head; trailers */
    size_t chunk_line, n_lines, cap_fields, cap_trailers;
    uint64_t left;                      /* bytes of the body or the chunk still to come */
};

void ev_http1_init(struct ev_http1 *p, enum ev_http1_kind kind);
void ev_http1_fini(struct ev_http1 *p);             /* idempotent */
void ev_http1_reset(struct ev_http1 *p);            /* as after init; small allocations are kept */
/* The next response answers a HEAD request: it has no body whatever its fields say. */
void ev_http1_answers_head(struct ev_http1 *p, bool yes);
/* One event, or MORE when all of `in` was used up and more is needed; call again with the rest until
 * MORE (an END may come without a further byte). DATA: `data` borrows from `in`. After the END of a
 * 101 the bytes that follow are not HTTP: do not bring them here. */
int ev_http1_next(struct ev_http1 *p, ev_slice in, size_t *used, ev_slice *data, struct ev_err *err) EV_MUST_USE;
/* The peer has ended: END for a body that lasts until then, MORE between messages, else EV_EEOF. */
int ev_http1_eof(struct ev_http1 *p, struct ev_err *err) EV_MUST_USE;
bool ev_http1_idle(const struct ev_http1 *p);       /* between messages, no byte of the next one seen */

/* The value of the first field of that name, from field number *i on; *i is then the one after it. */
bool ev_http1_find(const struct ev_http1_head *h, const char *name, size_t *i, ev_slice *value);
bool ev_http1_same(ev_slice a, ev_slice b);             /* equal but for the case of letters */
static inline bool ev_http1_is(ev_slice text, const char *word)
{
    size_t n = strlen(word);

    return text.n == n && ev_http1_same(text, ev_slice_of(word, n));
}
bool ev_http1_lists(ev_slice value, const char *word);  /* the word is in a comma-separated list */

/* How a head is written on. Fields that belong to one connection only (Connection and what it names,
 * Keep-Alive, Proxy-*, TE, Transfer-Encoding, Upgrade) stay behind; framing is written anew. */
struct ev_http1_edit {
    const struct ev_http1_field *set;   /* replaces every field of that name ('_' counts as '-') */
    size_t n_set;
    const char *const *drop;            /* names that stay behind too; NULL-terminated or NULL */
    enum ev_http1_body body;            /* NONE: the length that was there is kept; UNTIL_EOF: none written */
    uint64_t length;
    const char *connection;             /* value of Connection, or NULL for none */
    bool upgrade;                       /* the Upgrade fields go on */
};
int ev_http1_put_head(struct ev_buf *out, const struct ev_http1_head *h, const struct ev_http1_edit *e) EV_MUST_USE;
int ev_http1_put_chunk(struct ev_buf *out, size_t n) EV_MUST_USE;  /* the line before n bytes; CRLF after is yours */
/* Last chunk and trailers, but for those that say how a message is framed, routed or trusted. */
int ev_http1_put_last(struct ev_buf *out, const struct ev_http1_field *trailers, size_t n) EV_MUST_USE;
const char *ev_http1_reason(int status);                /* "Not Found"; "" when unknown */

#endif
