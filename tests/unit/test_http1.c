/* Tests of codec/http1*.c: what is read, what is refused and with which status, bodies, limits, and
 * what the next hop gets. (That any split gives the same events is fuzz_http1's promise too.) */
#include <stdlib.h>

#include "codec/http1.h"
#include "tap.h"

#define H "Host: x\r\n"
#define GET "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n" H
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define R "HTTP/1.1 200 OK\r\n"

/* Everything a reader says about `text`, in one line: H(method target body) D(bytes) E !status. */
static const char *story(enum ev_http1_kind kind, bool head_asked, ev_slice text, size_t piece)
{
    static char out[4096];
    struct ev_http1 p;
    size_t at = 0, used, n = 0;
    ev_slice data;
    int rc = 0;

    ev_http1_init(&p, kind);
    ev_http1_answers_head(&p, head_asked);
    out[0] = '\0';
    while (at < text.n && rc >= 0) {
        size_t len = text.n - at < piece ? text.n - at : piece;
        uint8_t *copy = malloc(len);        /* of its own size: a read past the end is seen */
        ev_slice in = ev_slice_of(copy, len);

        memcpy(copy, text.p + at, len);
        while ((rc = ev_http1_next(&p, in, &used, &data, NULL)) > 0) {
            in = ev_slice_of(in.p + used, in.n - used);
            if (rc == EV_HTTP1_HEAD && kind == EV_HTTP1_REQUEST)
                n += (size_t)snprintf(out + n, sizeof out - n, "H(%.*s %.*s %d)", (int)p.head.method.n,
                                      p.head.method.p, (int)p.head.path.n, p.head.path.p, p.head.body);
            else if (rc == EV_HTTP1_HEAD)
                n += (size_t)snprintf(out + n, sizeof out - n, "H(%u %d)", p.head.status, p.head.body);
            else if (rc == EV_HTTP1_DATA)
                n += (size_t)snprintf(out + n, sizeof out - n, "%.*s", (int)data.n, data.p);
            else
                n += (size_t)snprintf(out + n, sizeof out - n, "E%zu", p.n_trailers);
        }
        at += len;
        free(copy);
    }
    if (rc < 0)
        snprintf(out + n, sizeof out - n, "!%u", p.status);
    else if ((rc = ev_http1_eof(&p, NULL)) != EV_HTTP1_MORE)
        snprintf(out + n, sizeof out - n, rc == EV_HTTP1_END ? "E%zu" : "?", p.n_trailers);
    ev_http1_fini(&p);
    return out;
}

/* EQ_STR for texts of many lines. */
#define SAME(got, want, what) \
    do { if (!OK(strcmp(got, want) == 0, "%s", what)) printf("# got %zu bytes: %s\n", strlen(got), got); } while (0)

struct row { const char *text, *want; };

static const struct row requests[] = {
    { GET H "\r\n", "H(GET / 0)E0" },
    { "\r\n" GET H "\r\n", "H(GET / 0)E0" },
    { GET H "\r\n" GET H "\r\n", "H(GET / 0)E0H(GET / 0)E0" },
    { "GET / HTTP/1.0\r\n\r\n", "H(GET / 0)E0" },
    { "GET /a?b#c HTTP/1.1\r\n" H "\r\n", "!400" },
    { "GET http://X/a?b HTTP/1.1\r\n" H "\r\n", "H(GET /a?b 0)E0" },
    { "GET https://x HTTP/1.1\r\n" H "\r\n", "H(GET  0)E0" },
    { "GET http://x?q HTTP/1.1\r\n" H "\r\n", "H(GET ?q 0)E0" },
    { "OPTIONS * HTTP/1.1\r\n" H "\r\n", "H(OPTIONS * 0)E0" },
    { POST "Content-Length: 5\r\n\r\nhello", "H(POST / 1)helloE0" },
    { POST "Content-Length: 0\r\n\r\n", "H(POST / 0)E0" },
    { POST "\r\n", "H(POST / 0)E0" },
    { POST "Content-Length: \t 5 \r\n\r\nhello" GET H "\r\n", "H(POST / 1)helloE0H(GET / 0)E0" },
    { CHUNKED "5\r\nhello\r\n0\r\n\r\n", "H(POST / 2)helloE0" },
    { CHUNKED "5;x=\"y z\"\r\nhello\r\n001\r\n!\r\n0\r\nA: b\r\nC: d\r\n\r\n" GET H "\r\n",
      "H(POST / 2)hello!E2H(GET / 0)E0" },
    { CHUNKED "A\r\n0123456789\r\na\r\n0123456789\r\n00\r\n\r\n", "H(POST / 2)01234567890123456789E0" },
    { POST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "H(POST / 2)E0" },
    { GET "Host:\r\n\r\n", "H(GET / 0)E0" },
    { GET "Host: [::1]:80\r\n\r\n", "H(GET / 0)E0" },
    { GET H "A:\r\nB: \xC3\xA9\tx\r\n\r\n", "H(GET / 0)E0" },
    { "PATCH / HTTP/1.1\r\n" H "\r\n", "H(PATCH / 0)E0" },
    /* request lines */
    { "\r\n\r\n" GET H "\r\n", "!400" }, { "\n" GET H "\r\n", "!400" }, { " " GET H "\r\n", "!400" },
    { "GET /\r\n\r\n", "!400" }, { "GET\r\n\r\n", "!400" }, { "GET  / HTTP/1.1\r\n" H "\r\n", "!400" },
    { "GET /  HTTP/1.1\r\n" H "\r\n", "!400" }, { "GET / HTTP/1.1 \r\n" H "\r\n", "!400" },
    { "GET /a b HTTP/1.1\r\n" H "\r\n", "!400" }, { "GET\t/ HTTP/1.1\r\n" H "\r\n", "!400" },
    { "GET /\x01 HTTP/1.1\r\n" H "\r\n", "!400" }, { "GET /\xC3\xA9 HTTP/1.1\r\n" H "\r\n", "!400" },
    { "GET a HTTP/1.1\r\n" H "\r\n", "!400" }, { "GET * HTTP/1.1\r\n" H "\r\n", "!400" },
    { "GET x:80 HTTP/1.1\r\n" H "\r\n", "!400" }, { "CONNECT x:80 HTTP/1.1\r\n" H "\r\n", "!501" },
    { "GET http://y/ HTTP/1.1\r\n" H "\r\n", "!400" }, { "GET http:/// HTTP/1.1\r\n" H "\r\n", "!400" },
    { "GET http://u@x/ HTTP/1.1\r\n" H "\r\n", "!400" }, { "GET ftp://x/ HTTP/1.1\r\n" H "\r\n", "!400" },
    { "FROB / HTTP/1.1\r\n" H "\r\n", "!501" }, { "get / HTTP/1.1\r\n" H "\r\n", "!501" },
    { "GET / HTTP/1.2\r\n" H "\r\n", "!505" }, { "GET / HTTP/2.0\r\n" H "\r\n", "!505" },
    { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "!505" }, { "GET / http/1.1\r\n" H "\r\n", "!400" },
    { "GET / HTTP/1.1a\r\n" H "\r\n", "!400" }, { "GET / HTTP/11\r\n" H "\r\n", "!400" },
    { "\x16\x03\x01\x02\x00\x01", "!400" }, { "GET / HTTP/1.1\n" H "\r\n", "!400" },
    { "GET / HTTP/1.1\rX" H "\r\n", "!400" }, { "GET / HTTP/1.1\r\r\n" H "\r\n", "!400" },
    /* fields */
    { GET H "A : b\r\n\r\n", "!400" }, { GET H "A\t: b\r\n\r\n", "!400" }, { GET H ": b\r\n\r\n", "!400" },
    { GET H "A b: c\r\n\r\n", "!400" }, { GET H "A\r\n\r\n", "!400" }, { GET H "A: b\r\n c\r\n\r\n", "!400" },
    { GET H "A: b\r\n\tc\r\n\r\n", "!400" }, { GET " A: b\r\n" H "\r\n", "!400" }, { GET H "A: b\n\r\n", "!400" },
    { GET H "A: b\rc\r\n\r\n", "!400" }, { GET H "A: b\r\r\n\r\n", "!400" }, { GET H "A: b\x7f\r\n\r\n", "!400" },
    { GET H "A: b\x0b\r\n\r\n", "!400" }, { GET H "A: b\r\n\rX", "!400" }, { GET H "A: b\r\n\n", "!400" },
    { GET H "\xC3\xA9: b\r\n\r\n", "!400" }, { GET H "A(: b\r\n\r\n", "!400" }, { GET H "A:\rB: c\r\n\r\n", "!400" },
    /* Host */
    { GET "\r\n", "!400" }, { GET H H "\r\n", "!400" }, { GET H "hOST: y\r\n\r\n", "!400" },
    { GET "Host: a b\r\n\r\n", "!400" }, { GET "Host: a/b\r\n\r\n", "!400" }, { GET "Host: u@x\r\n\r\n", "!400" },
    { "GET / HTTP/1.0\r\n" H H "\r\n", "!400" },
    /* framing */
    { POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "!400" },
    { POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "!400" },
    { POST "Content-Length: 3, 3\r\n\r\nabc", "!400" }, { POST "Content-Length: +3\r\n\r\nabc", "!400" },
    { POST "Content-Length: -1\r\n\r\n", "!400" }, { POST "Content-Length: 3 3\r\n\r\n", "!400" },
    { POST "Content-Length: 0x3\r\n\r\n", "!400" }, { POST "Content-Length:\r\n\r\n", "!400" },
    { POST "Content-Length: 18446744073709551617\r\n\r\n", "!400" },
    { POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400" },
    { POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "!400" },
    { POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400" },
    { POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "!400" },
    { POST "Transfer-Encoding: gzip, chunked\r\n\r\n", "!501" }, { POST "Transfer-Encoding: identity\r\n\r\n", "!501" },
    { POST "Transfer-Encoding: xchunked\r\n\r\n", "!501" },
    { POST "Transfer-Encoding: chunked, chunked\r\n\r\n", "!400" },
    { POST "Transfer-Encoding:\r\n\r\n", "!501" }, { POST "Transfer-Encoding: \"chunked\"\r\n\r\n", "!501" },
    { POST "Transfer-Encoding: chunked;q=1\r\n\r\n", "!501" },
    { POST "Transfer-Encoding: \x0b" "chunked\r\n\r\n", "!400" },
    { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400" },
    { POST "Expect: 200-ok\r\n\r\n", "!417" },
    /* chunks */
    { CHUNKED "\r\n", "H(POST / 2)!400" }, { CHUNKED "g\r\n", "H(POST / 2)!400" },
    { CHUNKED " 5\r\n", "H(POST / 2)!400" },
    { CHUNKED "5 \r\n", "H(POST / 2)!400" }, { CHUNKED "5\nhello\r\n", "H(POST / 2)!400" },
    { CHUNKED "0x5\r\n", "H(POST / 2)!400" }, { CHUNKED "-5\r\n", "H(POST / 2)!400" },
    { CHUNKED "5\rXhello", "H(POST / 2)!400" }, { CHUNKED "5\r\nhelloX\r\n", "H(POST / 2)hello!400" },
    { CHUNKED "5\r\nhello\n0\r\n", "H(POST / 2)hello!400" }, { CHUNKED "5\r\nhello\rX", "H(POST / 2)hello!400" },
    { CHUNKED "1000000000000000\r\n", "H(POST / 2)!400" }, { CHUNKED "5;a\x01\r\n", "H(POST / 2)!400" },
    { CHUNKED "5;a\nb\r\n", "H(POST / 2)!400" }, { CHUNKED "0\r\nA: b\n\r\n", "H(POST / 2)!400" },
    { CHUNKED "0\r\n A: b\r\n\r\n", "H(POST / 2)!400" }, { CHUNKED "0\r\nA : b\r\n\r\n", "H(POST / 2)!400" },
    { CHUNKED "0\r\nA\r\n\r\n", "H(POST / 2)!400" }, { CHUNKED "0\r\n\rX", "H(POST / 2)!400" },
    /* ends early */
    { GET H, "?" }, { POST "Content-Length: 5\r\n\r\nhell", "H(POST / 1)hell?" },
    { CHUNKED "5\r\nhello\r\n", "H(POST / 2)hello?" },
    { CHUNKED "0\r\n", "H(POST / 2)?" },
};

static const struct row responses[] = {
    { R "Content-Length: 3\r\n\r\nabc", "H(200 1)abcE0" },
    { R "Content-Length: 0\r\n\r\n" R "\r\nabc", "H(200 0)E0H(200 3)abcE0" },
    { "HTTP/1.0 200\r\n\r\nabc", "H(200 3)abcE0" },
    { R "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: u\r\n\r\n", "H(200 2)aE1" },
    { "HTTP/1.1 100 Continue\r\n\r\n" R "Content-Length: 1\r\n\r\na", "H(100 0)E0H(200 1)aE0" },
    { "HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 4\r\n\r\n" R "Content-Length: 1\r\n\r\na",
      "H(103 0)E0H(200 1)aE0" },
    { "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", "H(204 0)E0" },
    { "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "H(304 0)E0" },
    { "HTTP/1.1 404 Nicht gefunden \xC3\xA9\r\nContent-Length: 0\r\n\r\n", "H(404 0)E0" },
    { "HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", "H(999 0)E0" },
    { "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "H(101 0)E0" },
    { R "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "!400" },
    { R "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "!400" }, { R "Transfer-Encoding: gzip\r\n\r\n", "!501" },
    { "HTTP/1.1 20 OK\r\n\r\n", "!400" }, { "HTTP/1.1 2000 OK\r\n\r\n", "!400" }, { "HTTP/1.1 200OK\r\n\r\n", "!400" },
    { "HTTP/1.1 099 OK\r\n\r\n", "!400" }, { "HTTP/1.1  200 OK\r\n\r\n", "!400" },
    { "HTTP/2.0 200 OK\r\n\r\n", "!505" },
    { "\r\n" R "\r\n", "!400" }, { "SSH-2.0-x\r\n", "?" }, { R "A: b\r\n c\r\n\r\n", "!400" },
    { R "Content-Length: 3\r\n\r\nab", "H(200 1)ab?" },
    { R "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "H(200 2)a?" },
};

static void run_rows(enum ev_http1_kind kind, const struct row *rows, size_t n)
{
    static const size_t pieces[] = { 1 << 20, 1, 2, 7 };

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < EV_COUNT(pieces); k++) {
            const char *got = story(kind, false, ev_slice_str(rows[i].text), pieces[k]);

            if (k == 0 || strcmp(got, rows[i].want) != 0)
                OK(strcmp(got, rows[i].want) == 0, "%s %zu in pieces of %zu: %s (want %s)",
                   kind == EV_HTTP1_REQUEST ? "request" : "response", i, pieces[k], got, rows[i].want);
        }
}

static void test_nul(void)
{
    EQ_STR(story(EV_HTTP1_REQUEST, false, EV_LIT("GET /\0 HTTP/1.1\r\n" H "\r\n"), 99), "!400", "NUL in the target");
    EQ_STR(story(EV_HTTP1_REQUEST, false, EV_LIT(GET H "A: \0\r\n\r\n"), 99), "!400", "NUL in a value");
    EQ_STR(story(EV_HTTP1_REQUEST, false, EV_LIT(GET H "A\0: b\r\n\r\n"), 99), "!400", "NUL in a name");
    EQ_STR(story(EV_HTTP1_RESPONSE, false, EV_LIT("HTTP/1.1 200 O\0K\r\n\r\n"), 99), "!400", "NUL in a reason");
    EQ_STR(story(EV_HTTP1_RESPONSE, true,
                 EV_LIT(R "Content-Length: 9\r\n\r\n" R "Transfer-Encoding: chunked\r\n\r\n"), 5),
           "H(200 0)E0H(200 0)E0", "answers to HEAD have no body");
}

static void fill(struct ev_buf *b, const char *start, size_t n, const char *end)
{
    ev_buf_clear(b);
    if (ev_buf_puts(b, start) < 0 || ev_buf_zero(b, n) < 0)
        abort();
    memset(b->p + b->n - n, 'a', n);
    if (ev_buf_puts(b, end) < 0)
        abort();
}

static void test_limits(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    size_t rest = EV_HTTP1_HEAD_MAX - strlen(GET H "A: \r\n\r\n");

    for (size_t more = 0; more < 2; more++) {
        fill(&b, GET H "A: ", rest + more, "\r\n\r\n");
        EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1 << 20), more ? "!431" : "H(GET / 0)E0",
               "head of 32 KiB");
        EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1000), more ? "!431" : "H(GET / 0)E0", "in pieces");
    }
    for (size_t n = EV_HTTP1_FIELDS; n <= EV_HTTP1_FIELDS + 1; n++) {
        fill(&b, GET H, 0, "");
        for (size_t i = 1; i < n; i++)
            if (ev_buf_puts(&b, "A: b\r\n") < 0)
                abort();
        OK(ev_buf_puts(&b, "\r\n") == 0, "%zu fields", n);
        EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1 << 20), n > EV_HTTP1_FIELDS ? "!431" : "H(GET / 0)E0",
               "100 fields");
    }
    for (size_t n = EV_HTTP1_OPTIONS; n <= EV_HTTP1_OPTIONS + 1; n++) {
        fill(&b, GET H "Connection: a\r\nConnection: a", 0, "");
        for (size_t i = 2; i < n; i++)
            if (ev_buf_puts(&b, ",a") < 0)
                abort();
        OK(ev_buf_puts(&b, "\r\n\r\n") == 0, "%zu words", n);
        EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1 << 20),
               n > EV_HTTP1_OPTIONS ? "!400" : "H(GET / 0)E0",
               "words of Connection");
    }
    fill(&b, "GET /", EV_HTTP1_TARGET_MAX, "");
    EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1 << 20), "!414", "a target without end");
    fill(&b, CHUNKED "5;", EV_HTTP1_CHUNK_LINE_MAX, "");
    EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1 << 20), "H(POST / 2)!400", "an extension without end");
    fill(&b, CHUNKED "0\r\nA: ", EV_HTTP1_TRAILER_MAX, "");
    EQ_STR(story(EV_HTTP1_REQUEST, false, ev_buf_slice(&b), 1 << 20), "H(POST / 2)!431", "trailers without end");
    ev_buf_fini(&b);
}

/* ---- what a head says ---- */

static struct ev_http1 reader;

static const struct ev_http1_head *read_one(enum ev_http1_kind kind, const char *text)
{
    size_t used;
    ev_slice data;

    ev_http1_fini(&reader);
    ev_http1_init(&reader, kind);
    OK(ev_http1_next(&reader, ev_slice_str(text), &used, &data, NULL) == EV_HTTP1_HEAD, "reads");
    return &reader.head;
}

static void test_persistence(void)
{
    static const struct { const char *text; bool keep; } rows[] = {
        { GET H "\r\n", true }, { GET H "Connection: close\r\n\r\n", false },
        { GET H "Connection: x,  CLOSE ,y\r\n\r\n", false }, { GET H "Connection: closed\r\n\r\n", true },
        { GET H "Connection: x\r\nConnection: close\r\n\r\n", false }, { "GET / HTTP/1.0\r\n\r\n", false },
        { "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
        { "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false },
    };

    for (size_t i = 0; i < EV_COUNT(rows); i++)
        EQ_INT(read_one(EV_HTTP1_REQUEST, rows[i].text)->keep_alive, rows[i].keep, "persistence");
    OK(!read_one(EV_HTTP1_RESPONSE, R "\r\n")->keep_alive, "a body until the end ends the connection");
    OK(read_one(EV_HTTP1_REQUEST, GET H "Upgrade: a\r\nConnection: upgrade\r\n\r\n")->upgrade, "upgrade");
    OK(!read_one(EV_HTTP1_REQUEST, GET H "Upgrade: a\r\n\r\n")->upgrade, "Upgrade that Connection does not name");
    OK(!read_one(EV_HTTP1_REQUEST, "GET / HTTP/1.0\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n")->upgrade,
       "nor in 1.0");
    OK(read_one(EV_HTTP1_REQUEST, POST "Expect: 100-Continue\r\n\r\n")->expect_continue, "Expect");
    OK(read_one(EV_HTTP1_REQUEST, GET H "TE: gzip, Trailers\r\n\r\n")->te_trailers, "TE");
}

static void test_writer(void)
{
    static const char *const drop[] = { "api-key", NULL };
    struct ev_http1_field set = { ev_slice_str("x-ctx"), ev_slice_str("1") };
    struct ev_http1_edit e = { .set = &set, .n_set = 1, .drop = drop, .body = EV_HTTP1_CHUNKED };
    struct ev_buf out = EV_BUF_INIT(1 << 16);
    const struct ev_http1_head *h;

    h = read_one(EV_HTTP1_REQUEST, "POST http://h/a?b HTTP/1.1\r\nHOST: h\r\nConnection: X-Hop, cookie, close\r\n"
                 "x-hop: 1\r\n"
                 "Cookie: c\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy: evil\r\nTE: trailers\r\nAPI_Key: k\r\n"
                 "api-key: k\r\nContent_Length: 9\r\nTRANSFER_encoding: gzip\r\nX_Ctx: 9\r\nx-ctx: 8\r\n"
                 "Trailer: t\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
                 "Transfer-Encoding: chunked\r\nA:   b \r\nA: c\r\nExpect: 100-continue\r\n\r\n");
    OK(ev_http1_put_head(&out, h, &e) == 0, "writes");
    SAME(ev_buf_str(&out), "POST /a?b HTTP/1.1\r\nHOST: h\r\nCookie: c\r\nTrailer: t\r\nA: b\r\nA: c\r\nx-ctx: 1\r\n"
           "transfer-encoding: chunked\r\n\r\n", "what belongs to one connection stays behind");
    ev_buf_clear(&out);
    e = (struct ev_http1_edit){ .connection = "close" };
    h = read_one(EV_HTTP1_RESPONSE, "HTTP/1.0 304 Not\r\nContent-Length: 7\r\n\r\n");
    OK(ev_http1_put_head(&out, h, &e) == 0, "writes");
    SAME(ev_buf_str(&out), "HTTP/1.1 304 Not\r\ncontent-length: 7\r\nconnection: close\r\n\r\n",
           "the length of a 304 stays");
    ev_buf_clear(&out);
    h = read_one(EV_HTTP1_RESPONSE, "HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n");
    OK(ev_http1_put_head(&out, h, &e) == 0, "writes");
    SAME(ev_buf_str(&out), "HTTP/1.1 204 No\r\nconnection: close\r\n\r\n", "a 204 has none");
    ev_buf_clear(&out);
    h = read_one(EV_HTTP1_REQUEST, "GET http://h?q HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
                 "Upgrade: websocket\r\n\r\n");
    e = (struct ev_http1_edit){ .connection = "upgrade", .upgrade = true };
    OK(ev_http1_put_head(&out, h, &e) == 0, "writes");
    SAME(ev_buf_str(&out), "GET /?q HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n",
           "upgrade goes on");
    ev_buf_fini(&out);
}

static void test_trailers(void)
{
    struct ev_http1_field f[] = { { EV_LIT("X-Sum"), EV_LIT("1") }, { EV_LIT("Content-Length"), EV_LIT("9") },
                                  { EV_LIT("API-key"), EV_LIT("k") }, { EV_LIT("x-forwarded-proto"), EV_LIT("http") },
                                  { EV_LIT("Transfer-Encoding"), EV_LIT("x") },
                                  { EV_LIT("API_key"), EV_LIT("k") }, { EV_LIT("X_Forwarded_For"), EV_LIT("1") },
                                  { EV_LIT("x_evervault-cage_ctx"), EV_LIT("1") },
                                  { EV_LIT("grpc-status"), EV_LIT("0") } };
    struct ev_buf out = EV_BUF_INIT(1 << 16);

    OK(ev_http1_put_chunk(&out, 0x1a2b) == 0 && ev_http1_put_last(&out, f, EV_COUNT(f)) == 0, "writes");
    SAME(ev_buf_str(&out), "1a2b\r\n0\r\nX-Sum: 1\r\ngrpc-status: 0\r\n\r\n",
           "trailers that frame or route stay behind");
    ev_buf_fini(&out);
}

int main(void)
{
    run_rows(EV_HTTP1_REQUEST, requests, EV_COUNT(requests));
    run_rows(EV_HTTP1_RESPONSE, responses, EV_COUNT(responses));
    test_nul();
    test_limits();
    test_persistence();
    test_writer();
    test_trailers();
    ev_http1_fini(&reader);
    OK(ev_http1_reason(404)[0] && !ev_http1_reason(799)[0], "reasons");
    return tap_done();
}
