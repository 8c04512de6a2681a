/* http1_fields.c — the rules of HTTP/1 for what a head says: start line, target, framing,
 * persistence (RFC 9112 §3, §6, §9). Every doubt is an error. */
#include "codec/http1_internal.h"

enum { LENGTH_DIGITS = 18 };                        /* far below what 64 bits hold */

/* TOKEN 1: names and methods; VALUE 2: field values; VISIBLE 4: targets (no blank, no '#');
 * LINE 8: request lines (visible or space). */
const uint8_t ev_http1_class[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    10, 15, 14, 3, 15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15, 14,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 14, 14, 14, 14,
    14, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 14, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 15, 14, 15, 0,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
};

int ev_http1_refuse(struct ev_http1 *p, uint16_t status, int code, struct ev_err *err, const char *why)
{
    p->status = status;
    return ev_fail_reason(err, code, "http", "%s", why);
}

int ev_http1_bad(struct ev_http1 *p, struct ev_err *err, const char *why)
{
    return ev_http1_refuse(p, 400, EV_EPARSE, err, why);
}

static bool blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

ev_slice ev_http1_trim(ev_slice s)
{
    while (s.n && blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* ---- start line ---- */

/* "HTTP/1.0" or "HTTP/1.1". */
static int read_version(struct ev_http1 *p, ev_slice v, struct ev_err *err)
{
    if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[5] < '0' || v.p[5] > '9' || v.p[6] != '.' || v.p[7] < '0' ||
        v.p[7] > '9')
        return ev_http1_bad(p, err, "no HTTP version in the start line");
    if (v.p[5] != '1' || v.p[7] > '1')
        return ev_http1_refuse(p, 505, EV_EUNSUPPORTED, err, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    p->head.minor = (uint8_t)(v.p[7] - '0');
    return 0;
}

static int request_line(struct ev_http1 *p, ev_slice line, struct ev_err *err)
{
    const uint8_t *end = line.p + line.n, *a = memchr(line.p, ' ', line.n), *b = memrchr(line.p, ' ', line.n);

    if (!a || a == b || a == line.p)
        return ev_http1_bad(p, err, "the start line is not METHOD TARGET VERSION");
    p->head.method = ev_slice_of(line.p, (size_t)(a - line.p));
    p->head.target = ev_slice_of(a + 1, (size_t)(b - a) - 1);
    if (p->head.target.n == 0 || memchr(p->head.target.p, ' ', p->head.target.n))
        return ev_http1_bad(p, err, "more than one space in the start line");
    for (size_t i = 0; i < p->head.method.n; i++)
        if (!ev_http1_isa(p->head.method.p[i], EV_HTTP1_TOKEN))
            return ev_http1_bad(p, err, "a byte that no method may have");
    return read_version(p, ev_slice_of(b + 1, (size_t)(end - b) - 1), err);
}

static bool digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static int status_line(struct ev_http1 *p, ev_slice line, struct ev_err *err)
{
    const uint8_t *s = line.p;
    int rc;

    if (line.n < 12 || s[8] != ' ')
        return ev_http1_bad(p, err, "not a status line");
    if ((rc = read_version(p, ev_slice_of(s, 8), err)) < 0)
        return rc;
    if (s[9] < '1' || !digit(s[9]) || !digit(s[10]) || !digit(s[11]) || (line.n > 12 && s[12] != ' '))
        return ev_http1_bad(p, err, "not a status line");
    p->head.status = (uint16_t)((s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0'));
    p->head.reason = line.n > 13 ? ev_slice_of(s + 13, line.n - 13) : (ev_slice){0};
    return 0;
}

/* ---- what the fields say ---- */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

bool ev_http1_same(ev_slice a, ev_slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool ev_http1_lists(ev_slice value, const char *word)
{
    while (value.n) {
        const uint8_t *comma = memchr(value.p, ',', value.n);
        size_t n = comma ? (size_t)(comma - value.p) : value.n;

        if (ev_http1_is(ev_http1_trim(ev_slice_of(value.p, n)), word))
            return true;
        n += comma != NULL;
        value.p += n;
        value.n -= n;
    }
    return false;
}

bool ev_http1_find(const struct ev_http1_head *h, const char *name, size_t *i, ev_slice *value)
{
    ev_slice want = ev_slice_str(name);

    for (; *i < h->n_fields; (*i)++)
        if (ev_http1_same(h->fields[*i].name, want)) {
            *value = h->fields[(*i)++].value;
            return true;
        }
    return false;
}

static int read_length(struct ev_http1 *p, ev_slice v, struct ev_err *err)
{
    if (p->head.has_length)
        return ev_http1_bad(p, err, "Content-Length twice");
    if (v.n == 0 || v.n > LENGTH_DIGITS)
        return ev_http1_bad(p, err, "Content-Length is not a number");
    p->head.length = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (!digit(v.p[i]))
            return ev_http1_bad(p, err, "Content-Length is not a number");
        p->head.length = p->head.length * 10 + (uint64_t)(v.p[i] - '0');
    }
    p->head.has_length = true;
    return 0;
}

static int read_coding(struct ev_http1 *p, ev_slice v, bool *chunked, struct ev_err *err)
{
    if (*chunked)
        return ev_http1_bad(p, err, "Transfer-Encoding twice");
    if (p->head.minor == 0)
        return ev_http1_bad(p, err, "Transfer-Encoding in HTTP/1.0");
    if (!ev_http1_is(v, "chunked"))
        return ev_http1_refuse(p, 501, EV_EUNSUPPORTED, err, "the only transfer coding is chunked");
    *chunked = true;
    return 0;
}

static int read_expect(struct ev_http1 *p, ev_slice v, struct ev_err *err)
{
    if (p->kind == EV_HTTP1_RESPONSE || p->head.minor == 0)
        return 0;
    if (!ev_http1_is(v, "100-continue"))
        return ev_http1_refuse(p, 417, EV_EUNSUPPORTED, err, "the only expectation is 100-continue");
    p->head.expect_continue = true;
    return 0;
}

static bool host_byte(uint8_t c)
{
    return ev_http1_isa(c, EV_HTTP1_VISIBLE) && !strchr("\"/<>?@\\^`{|}", c);
}

struct seen {
    bool chunked, close, keep, names_upgrade, upgrade;
    size_t hosts, options;
    ev_slice host;
};

static int read_host(struct ev_http1 *p, struct seen *s, ev_slice v, struct ev_err *err)
{
    if (s->hosts++)
        return ev_http1_bad(p, err, "Host twice");
    for (size_t i = 0; i < v.n; i++)
        if (!host_byte(v.p[i]))
            return ev_http1_bad(p, err, "a byte that no Host may have");
    s->host = v;
    return 0;
}

/* Each word may name a field that stays behind, and is compared with every one: so they are few. */
static int read_connection(struct ev_http1 *p, struct seen *s, ev_slice v, struct ev_err *err)
{
    s->options++;
    for (size_t i = 0; i < v.n; i++)
        s->options += v.p[i] == ',';
    if (s->options > EV_HTTP1_OPTIONS)
        return ev_http1_refuse(p, 400, EV_ELIMIT, err, "too many words in Connection");
    s->close |= ev_http1_lists(v, "close");
    s->keep |= ev_http1_lists(v, "keep-alive");
    s->names_upgrade |= ev_http1_lists(v, "upgrade");
    return 0;
}

static int read_field(struct ev_http1 *p, struct seen *s, const struct ev_http1_field *f, struct ev_err *err)
{
    if (ev_http1_is(f->name, "content-length"))
        return read_length(p, f->value, err);
    if (ev_http1_is(f->name, "transfer-encoding"))
        return read_coding(p, f->value, &s->chunked, err);
    if (ev_http1_is(f->name, "expect"))
        return read_expect(p, f->value, err);
    if (ev_http1_is(f->name, "host") && p->kind == EV_HTTP1_REQUEST)
        return read_host(p, s, f->value, err);
    if (ev_http1_is(f->name, "connection"))
        return read_connection(p, s, f->value, err);
    if (ev_http1_is(f->name, "upgrade")) {
        s->upgrade = true;
    } else if (ev_http1_is(f->name, "te")) {
        p->head.te_trailers |= ev_http1_lists(f->value, "trailers");
    }
    return 0;
}

/* http://host/path: the host must be the one of Host, the path is what an origin is asked for. */
static int absolute_form(struct ev_http1 *p, const struct seen *s, size_t scheme, struct ev_err *err)
{
    ev_slice t = ev_slice_of(p->head.target.p + scheme, p->head.target.n - scheme), host = t;

    for (host.n = 0; host.n < t.n && !strchr("/?", t.p[host.n]); host.n++)
        if (!host_byte(t.p[host.n]))
            return ev_http1_bad(p, err, "a byte that no host may have in the target");
    if (host.n == 0)
        return ev_http1_bad(p, err, "no host in the target");
    p->head.path = ev_slice_of(t.p + host.n, t.n - host.n);
    if (!s->hosts)
        return 0;
    return ev_http1_same(host, s->host) ? 0 : ev_http1_bad(p, err, "Host and the target name two hosts");
}

static bool starts(ev_slice s, const char *word)
{
    size_t n = strlen(word);

    return s.n >= n && ev_http1_is(ev_slice_of(s.p, n), word);
}

static int read_target(struct ev_http1 *p, const struct seen *s, struct ev_err *err)
{
    ev_slice t = p->head.target;

    if (s->hosts == 0 && p->head.minor > 0)
        return ev_http1_bad(p, err, "no Host");
    p->head.path = t;
    if (ev_slice_eq(p->head.method, EV_LIT("CONNECT")))
        return ev_http1_refuse(p, 501, EV_EUNSUPPORTED, err, "CONNECT is not done here");
    if (t.p[0] == '/')
        return 0;
    if (ev_slice_eq(t, EV_LIT("*")))
        return ev_slice_eq(p->head.method, EV_LIT("OPTIONS")) ? 0 :
               ev_http1_bad(p, err, "the target * is for OPTIONS only");
    if (starts(t, "http://"))
        return absolute_form(p, s, 7, err);
    return starts(t, "https://") ? absolute_form(p, s, 8, err) : ev_http1_bad(p, err, "the target is not a path");
}

/* Which body follows (RFC 9112 §6.3), once the fields are known to be consistent. */
static enum ev_http1_body framing(const struct ev_http1 *p, bool chunked)
{
    const struct ev_http1_head *h = &p->head;

    if (p->kind == EV_HTTP1_RESPONSE && (p->head_asked || h->status < 200 || h->status == 204 || h->status == 304))
        return EV_HTTP1_NONE;
    if (chunked)
        return EV_HTTP1_CHUNKED;
    if (h->has_length)
        return h->length ? EV_HTTP1_LENGTH : EV_HTTP1_NONE;
    return p->kind == EV_HTTP1_RESPONSE ? EV_HTTP1_UNTIL_EOF : EV_HTTP1_NONE;
}

int ev_http1_judge(struct ev_http1 *p, bool *chunked, struct ev_err *err)
{
    struct ev_http1_head *h = &p->head;
    struct seen s = {0};
    int rc;

    for (size_t i = 0; i < h->n_fields; i++)
        if ((rc = read_field(p, &s, &h->fields[i], err)) < 0)
            return rc;
    if (s.chunked && h->has_length)
        return ev_http1_bad(p, err, "Content-Length beside Transfer-Encoding");
    if (p->kind == EV_HTTP1_REQUEST && (rc = read_target(p, &s, err)) < 0)
        return rc;
    *chunked = s.chunked;
    h->body = framing(p, s.chunked);
    h->upgrade = s.upgrade && s.names_upgrade && h->minor > 0;
    h->keep_alive = !s.close && (h->minor > 0 || s.keep) && h->body != EV_HTTP1_UNTIL_EOF;
    return 0;
}

int ev_http1_start_line(struct ev_http1 *p, ev_slice line, struct ev_err *err)
{
    return p->kind == EV_HTTP1_REQUEST ? request_line(p, line, err) : status_line(p, line, err);
}
