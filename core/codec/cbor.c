/* cbor.c — CBOR over libcbor: its encoders make the heads, its streaming decoder reads one item at a
 * time without allocating. The strictness is ours: a head is judged before libcbor sees it, and what
 * libcbor reports is compared with what is there. */
#include <cbor.h>

#include "codec/cbor.h"
#include "codec/text.h"

enum { HEAD_MAX = 9, DEPTH_MAX = 8 };

/* ---- writer ---- */

static int put_head(struct ev_buf *b, const uint8_t *head, size_t n)
{
    return n ? ev_buf_put(b, head, n) : EV_EINTERNAL;       /* 0: libcbor found its buffer too small */
}

int ev_cbor_put_uint(struct ev_buf *b, uint64_t v)
{
    uint8_t head[HEAD_MAX];

    return put_head(b, head, cbor_encode_uint(v, head, sizeof head));
}

int ev_cbor_put_nint(struct ev_buf *b, int64_t v)
{
    uint8_t head[HEAD_MAX];

    if (v >= 0)
        return -EINVAL;
    return put_head(b, head, cbor_encode_negint((uint64_t)(-1 - v), head, sizeof head));
}

/* Head and body together or nothing. */
static int put_string(struct ev_buf *b, const uint8_t *head, size_t n_head, ev_slice body)
{
    int rc = body.n <= SIZE_MAX - HEAD_MAX ? ev_buf_reserve(b, n_head + body.n) : -ENOBUFS;

    if (rc < 0 || (rc = put_head(b, head, n_head)) < 0)
        return rc;
    return ev_buf_put_slice(b, body);
}

int ev_cbor_put_bytes(struct ev_buf *b, ev_slice v)
{
    uint8_t head[HEAD_MAX];

    return put_string(b, head, cbor_encode_bytestring_start(v.n, head, sizeof head), v);
}

int ev_cbor_put_text(struct ev_buf *b, const char *s)
{
    ev_slice v = ev_slice_str(s);
    uint8_t head[HEAD_MAX];

    if (!ev_utf8_valid(v))
        return EV_EPARSE;
    return put_string(b, head, cbor_encode_string_start(v.n, head, sizeof head), v);
}

int ev_cbor_put_array(struct ev_buf *b, uint64_t n)
{
    uint8_t head[HEAD_MAX];

    return put_head(b, head, cbor_encode_array_start(n, head, sizeof head));
}

int ev_cbor_put_map(struct ev_buf *b, uint64_t n)
{
    uint8_t head[HEAD_MAX];

    return put_head(b, head, cbor_encode_map_start(n, head, sizeof head));
}

int ev_cbor_put_null(struct ev_buf *b)
{
    uint8_t head[HEAD_MAX];

    return put_head(b, head, cbor_encode_null(head, sizeof head));
}

int ev_cbor_put_bool(struct ev_buf *b, bool v)
{
    uint8_t head[HEAD_MAX];

    return put_head(b, head, cbor_encode_bool(v, head, sizeof head));
}

int ev_cbor_put_tag(struct ev_buf *b, uint64_t tag)
{
    uint8_t head[HEAD_MAX];

    return put_head(b, head, cbor_encode_tag(tag, head, sizeof head));
}

/* ---- what libcbor reports ---- */

/* A callback fills the item and says so; a kind that we refuse leaves `seen` false. */
struct sink {
    struct ev_cbor_item *item;
    bool seen;
};

static void take(void *ctx, enum ev_cbor_type type, uint64_t value)
{
    struct sink *s = ctx;

    s->item->type = type;
    s->item->value = value;
    s->seen = true;
}

static void take_string(void *ctx, enum ev_cbor_type type, const uint8_t *p, uint64_t n)
{
    struct sink *s = ctx;

    take(ctx, type, 0);
    s->item->data = ev_slice_of(p, (size_t)n);
}

static void take_open(void *ctx, enum ev_cbor_type type, uint64_t count, bool indefinite)
{
    struct sink *s = ctx;

    take(ctx, type, 0);
    s->item->count = count;
    s->item->indefinite = indefinite;
}

static void on_uint8(void *c, uint8_t v) { take(c, EV_CBOR_UINT, v); }
static void on_uint16(void *c, uint16_t v) { take(c, EV_CBOR_UINT, v); }
static void on_uint32(void *c, uint32_t v) { take(c, EV_CBOR_UINT, v); }
static void on_uint64(void *c, uint64_t v) { take(c, EV_CBOR_UINT, v); }
static void on_nint8(void *c, uint8_t v) { take(c, EV_CBOR_NINT, v); }
static void on_nint16(void *c, uint16_t v) { take(c, EV_CBOR_NINT, v); }
static void on_nint32(void *c, uint32_t v) { take(c, EV_CBOR_NINT, v); }
static void on_nint64(void *c, uint64_t v) { take(c, EV_CBOR_NINT, v); }
static void on_array(void *c, size_t n) { take_open(c, EV_CBOR_ARRAY, n, false); }
static void on_map(void *c, size_t n) { take_open(c, EV_CBOR_MAP, n, false); }
static void on_open_array(void *c) { take_open(c, EV_CBOR_ARRAY, 0, true); }
static void on_open_map(void *c) { take_open(c, EV_CBOR_MAP, 0, true); }
static void on_tag(void *c, uint64_t v) { take(c, EV_CBOR_TAG, v); }
static void on_null(void *c) { take(c, EV_CBOR_NULL, 0); }
static void on_bool(void *c, bool v) { take(c, EV_CBOR_BOOL, v); }
static void on_bytes(void *c, const unsigned char *p, size_t n) { take_string(c, EV_CBOR_BYTES, p, n); }
static void on_text(void *c, const unsigned char *p, size_t n) { take_string(c, EV_CBOR_TEXT, p, n); }

static const struct cbor_callbacks callbacks = {
    .uint8 = on_uint8, .uint16 = on_uint16, .uint32 = on_uint32, .uint64 = on_uint64,
    .negint8 = on_nint8, .negint16 = on_nint16, .negint32 = on_nint32, .negint64 = on_nint64,
    .byte_string = on_bytes, .string = on_text,
    .array_start = on_array, .map_start = on_map,
    .indef_array_start = on_open_array, .indef_map_start = on_open_map,
    .tag = on_tag, .null = on_null, .boolean = on_bool,
    /* The rest is refused by its first byte already. */
    .byte_string_start = cbor_null_byte_string_start_callback,
    .string_start = cbor_null_string_start_callback,
    .float2 = cbor_null_float2_callback, .float4 = cbor_null_float4_callback,
    .float8 = cbor_null_float8_callback, .undefined = cbor_null_undefined_callback,
    .indef_break = cbor_null_indef_break_callback,
};

/* ---- reader ---- */

void ev_cbor_reader_init(struct ev_cbor_reader *r, ev_slice in)
{
    *r = (struct ev_cbor_reader){ in, 0 };
}

static int fail(const struct ev_cbor_reader *r, struct ev_err *err, const char *what)
{
    return ev_fail(err, EV_EPARSE, "CBOR, byte %zu: %s", r->pos, what);
}

/* Why an item with this first byte is refused, or NULL. */
static const char *refused(uint8_t first)
{
    unsigned major = first >> 5, info = first & 31;

    if (info >= 28 && info <= 30)
        return "reserved additional information";
    if (first == 0xFF)
        return "a break where an item was expected";
    if (info == 31 && (major == 2 || major == 3))
        return "a string in chunks";
    if (info == 31 && major != 4 && major != 5)
        return "an indefinite length where there is none";
    if (major == 7 && (info < 20 || info > 22))
        return info >= 25 && info <= 27 ? "a floating-point number" : "an unknown simple value";
    return NULL;
}

/* A definite container has at least one byte an item: a count that cannot be is refused before
 * anyone allocates for it. */
static bool too_many(const struct ev_cbor_reader *r, const struct ev_cbor_item *item)
{
    size_t left = r->in.n - r->pos;

    return (item->type == EV_CBOR_ARRAY && item->count > left) ||
           (item->type == EV_CBOR_MAP && item->count > left / 2);
}

/* libcbor 0.8 knows only some of the one-byte tags (not 18, which COSE uses). */
static bool short_tag(struct ev_cbor_reader *r, struct ev_cbor_item *item)
{
    uint8_t first = r->in.p[r->pos];

    if (first >> 5 != 6 || (first & 31) >= 24)
        return false;
    item->type = EV_CBOR_TAG;
    item->value = first & 31;
    r->pos++;
    return true;
}

int ev_cbor_next(struct ev_cbor_reader *r, struct ev_cbor_item *item, struct ev_err *err)
{
    struct sink sink = { item, false };
    struct cbor_decoder_result got;
    const char *why;

    *item = (struct ev_cbor_item){0};
    if (r->pos >= r->in.n)
        return fail(r, err, "it ends where an item was expected");
    if ((why = refused(r->in.p[r->pos])) != NULL)
        return fail(r, err, why);
    if (short_tag(r, item))
        return 0;
    got = cbor_stream_decode(r->in.p + r->pos, r->in.n - r->pos, &callbacks, &sink);
    if (got.status == CBOR_DECODER_NEDATA)
        return fail(r, err, "it ends inside an item");
    if (got.status != CBOR_DECODER_FINISHED || !sink.seen || got.read == 0 || got.read > r->in.n - r->pos)
        return fail(r, err, "not an item that is accepted");
    if (item->type == EV_CBOR_TEXT && !ev_utf8_valid(item->data))
        return fail(r, err, "text that is not UTF-8");
    r->pos += got.read;
    if (too_many(r, item))
        return fail(r, err, "more items are announced than bytes are left");
    return 0;
}

static const char *type_name(enum ev_cbor_type type)
{
    static const char *const names[] = { "an unsigned integer", "a negative integer", "bytes", "text", "an array",
                                         "a map", "a tag", "a boolean", "null", "a break" };

    return names[type];
}

int ev_cbor_expect(struct ev_cbor_reader *r, enum ev_cbor_type type, struct ev_cbor_item *item,
                   struct ev_err *err)
{
    size_t at = r->pos;
    int rc = ev_cbor_next(r, item, err);

    if (rc < 0)
        return rc;
    if (item->type != type)
        return ev_fail(err, EV_EPARSE, "CBOR, byte %zu: %s where %s was expected", at, type_name(item->type),
                       type_name(type));
    return 0;
}

static int skip_one(struct ev_cbor_reader *r, int depth, struct ev_err *err)
{
    struct ev_cbor_item item;
    uint64_t per, seen = 0;
    int rc = 0, more;

    EV_TRY(ev_cbor_next(r, &item, err));
    if (item.type != EV_CBOR_ARRAY && item.type != EV_CBOR_MAP && item.type != EV_CBOR_TAG)
        return 0;
    if (depth >= DEPTH_MAX)
        return fail(r, err, "nested too deeply");
    if (item.type == EV_CBOR_TAG)
        return skip_one(r, depth + 1, err);
    per = item.type == EV_CBOR_MAP ? 2 : 1;
    while ((more = ev_cbor_more(r, &item, seen, err)) > 0) {
        for (uint64_t i = 0; i < per; i++)
            EV_TRY(skip_one(r, depth + 1, err));
        seen++;
    }
    rc = more;
out:
    return rc;
}

int ev_cbor_skip(struct ev_cbor_reader *r, struct ev_err *err)
{
    return skip_one(r, 0, err);
}

int ev_cbor_more(struct ev_cbor_reader *r, const struct ev_cbor_item *container, uint64_t seen,
                 struct ev_err *err)
{
    if (!container->indefinite)
        return seen < container->count;
    if (r->pos >= r->in.n)
        return fail(r, err, "it ends inside an array or a map");
    if (r->in.p[r->pos] != 0xFF)
        return 1;
    r->pos++;
    return 0;
}

bool ev_cbor_done(const struct ev_cbor_reader *r)
{
    return r->pos == r->in.n;
}
