/* http1_write.c — heads, chunks and trailers written again for the next hop (http1.h). */
#include "codec/http1_internal.h"

#define EV_WORD(s) { (const uint8_t *)("" s), sizeof(s) - 1 }

/* Fields of one connection only; `proxy` would become HTTP_PROXY in a CGI's environment. */
static const ev_slice hop_fields[] = {
    EV_WORD("connection"), EV_WORD("keep-alive"), EV_WORD("proxy-connection"),
    EV_WORD("proxy-authorization"), EV_WORD("proxy-authenticate"), EV_WORD("proxy"), EV_WORD("te"),
    EV_WORD("transfer-encoding"), EV_WORD("content-length"), EV_WORD("upgrade"), EV_WORD("expect"),
    EV_WORD("http2-settings"),
};

/* What no Connection field can take out of a message: a client must not switch off what the app or
 * we rely on. */
static const ev_slice never_hop[] = {
    EV_WORD("host"), EV_WORD("cookie"), EV_WORD("authorization"), EV_WORD("content-type"),
    EV_WORD("content-encoding"), EV_WORD("cache-control"), EV_WORD("set-cookie"),
};

/* What no trailer may say (RFC 9110 §6.5.1): framing, routing, authentication, how content is read. */
static const ev_slice no_trailers[] = {
    EV_WORD("host"), EV_WORD("content-type"), EV_WORD("content-encoding"), EV_WORD("content-range"),
    EV_WORD("trailer"), EV_WORD("authorization"), EV_WORD("api-key"), EV_WORD("cookie"),
    EV_WORD("set-cookie"), EV_WORD("cache-control"), EV_WORD("range"), EV_WORD("age"),
    EV_WORD("date"), EV_WORD("location"), EV_WORD("www-authenticate"),
};

/* Gateways of CGI and WSGI cannot tell '_' from '-', nor cases. */
static uint8_t fold(uint8_t c)
{
    return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static bool same_name(ev_slice a, ev_slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (fold(a.p[i]) != fold(b.p[i]))
            return false;
    return true;
}

static bool among(ev_slice name, const ev_slice *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (same_name(name, list[i]))
            return true;
    return false;
}
#define AMONG(name, list) among(name, list, EV_COUNT(list))

static bool starts(ev_slice name, const char *word)
{
    size_t n = strlen(word);

    return name.n >= n && same_name(ev_slice_of(name.p, n), ev_slice_str(word));
}

/* Does a Connection field of this head name it? */
static bool nominated(const struct ev_http1_head *h, ev_slice name)
{
    char word[64];
    ev_slice value;
    size_t i = 0;

    if (name.n >= sizeof word || AMONG(name, never_hop))
        return false;
    memcpy(word, name.p, name.n);
    word[name.n] = '\0';
    while (ev_http1_find(h, "connection", &i, &value))
        if (ev_http1_lists(value, word))
            return true;
    return false;
}

static bool replaced(ev_slice name, const struct ev_http1_edit *e)
{
    for (size_t i = 0; i < e->n_set; i++)
        if (same_name(name, e->set[i].name))
            return true;
    for (const char *const *d = e->drop; d && *d; d++)
        if (same_name(name, ev_slice_str(*d)))
            return true;
    return false;
}

static int put_field(struct ev_buf *out, ev_slice name, ev_slice value)
{
    int rc;

    EV_TRY(ev_buf_put_slice(out, name));
    EV_TRY(ev_buf_put(out, ": ", 2));
    EV_TRY(ev_buf_put_slice(out, value));
    EV_TRY(ev_buf_put(out, "\r\n", 2));
out:
    return rc;
}

static int put_number(struct ev_buf *out, uint64_t n, unsigned base)
{
    char text[20];
    size_t at = sizeof text;

    do
        text[--at] = "0123456789abcdef"[n % base];
    while ((n /= base) > 0);
    return ev_buf_put(out, text + at, sizeof text - at);
}

static int put_start(struct ev_buf *out, const struct ev_http1_head *h)
{
    int rc;

    if (h->kind == EV_HTTP1_RESPONSE) {
        EV_TRY(ev_buf_puts(out, "HTTP/1.1 "));
        EV_TRY(put_number(out, h->status, 10));
        EV_TRY(ev_buf_putc(out, ' '));
        EV_TRY(ev_buf_put_slice(out, h->reason));
        return ev_buf_puts(out, "\r\n");
    }
    EV_TRY(ev_buf_put_slice(out, h->method));
    EV_TRY(ev_buf_putc(out, ' '));
    if (h->path.n == 0 || h->path.p[0] == '?')      /* http://host?x asks for /?x */
        EV_TRY(ev_buf_putc(out, '/'));
    EV_TRY(ev_buf_put_slice(out, h->path));
    EV_TRY(ev_buf_puts(out, " HTTP/1.1\r\n"));
out:
    return rc;
}

static bool no_length(const struct ev_http1_head *h)
{
    return h->kind == EV_HTTP1_RESPONSE && (h->status < 200 || h->status == 204);
}

static int put_framing(struct ev_buf *out, const struct ev_http1_head *h, const struct ev_http1_edit *e)
{
    bool kept = e->body == EV_HTTP1_NONE && h->has_length && !no_length(h);
    int rc;

    if (e->body == EV_HTTP1_CHUNKED)
        return ev_buf_puts(out, "transfer-encoding: chunked\r\n");
    if (e->body != EV_HTTP1_LENGTH && !kept)
        return 0;
    EV_TRY(ev_buf_puts(out, "content-length: "));
    EV_TRY(put_number(out, kept ? h->length : e->length, 10));
    EV_TRY(ev_buf_put(out, "\r\n", 2));
out:
    return rc;
}

static bool stays(const struct ev_http1_head *h, const struct ev_http1_edit *e, const struct ev_http1_field *f)
{
    if (e->upgrade && ev_http1_is(f->name, "upgrade"))
        return false;
    if (ev_http1_is(f->name, "trailer") && e->body != EV_HTTP1_CHUNKED)
        return true;
    return AMONG(f->name, hop_fields) || replaced(f->name, e) || nominated(h, f->name);
}

int ev_http1_put_head(struct ev_buf *out, const struct ev_http1_head *h, const struct ev_http1_edit *e)
{
    int rc;

    EV_TRY(put_start(out, h));
    for (size_t i = 0; i < h->n_fields; i++)
        if (!stays(h, e, &h->fields[i]))
            EV_TRY(put_field(out, h->fields[i].name, h->fields[i].value));
    for (size_t i = 0; i < e->n_set; i++)
        EV_TRY(put_field(out, e->set[i].name, e->set[i].value));
    EV_TRY(put_framing(out, h, e));
    if (e->connection)
        EV_TRY(put_field(out, EV_LIT("connection"), ev_slice_str(e->connection)));
    EV_TRY(ev_buf_put(out, "\r\n", 2));
out:
    return rc;
}

int ev_http1_put_chunk(struct ev_buf *out, size_t n)
{
    int rc = put_number(out, n, 16);

    return rc < 0 ? rc : ev_buf_put(out, "\r\n", 2);
}

int ev_http1_put_last(struct ev_buf *out, const struct ev_http1_field *trailers, size_t n)
{
    int rc;

    EV_TRY(ev_buf_puts(out, "0\r\n"));
    for (size_t i = 0; i < n; i++)
        if (!AMONG(trailers[i].name, hop_fields) && !AMONG(trailers[i].name, no_trailers) &&
            !starts(trailers[i].name, "x-forwarded-") && !starts(trailers[i].name, "x-evervault-"))
            EV_TRY(put_field(out, trailers[i].name, trailers[i].value));
    EV_TRY(ev_buf_put(out, "\r\n", 2));
out:
    return rc;
}

const char *ev_http1_reason(int status)
{
    static const struct { int status; const char *text; } known[] = {
        { 100, "Continue" }, { 200, "OK" }, { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" },
        { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" },
        { 413, "Content Too Large" }, { 414, "URI Too Long" }, { 417, "Expectation Failed" },
        { 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" }, { 501, "Not Implemented" },
        { 502, "Bad Gateway" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };

    for (size_t i = 0; i < EV_COUNT(known); i++)
        if (known[i].status == status)
            return known[i].text;
    return "";
}
