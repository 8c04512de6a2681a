/* Tests of svc/ingress.c and what is under it, over real sockets on one loop: requests and answers of
 * every framing, authentication, bad input, apps that fail. (test_ingress_flow.c: size and time.) */
#include "ingress_world.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define CTX "x-evervault-cage-ctx: CTX\r\n"
#define JSON "content-type: application/json\r\n"
#define OURS(status, len) \
    "HTTP/1.1 " status "\r\n" JSON "content-length: " len "\r\n" CTX "connection: keep-alive\r\n\r\n"
#define UPGRADE "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"

static void test_forward(void)
{
    struct client *c;

    world_open();
    c = dial();
    ASK(c, GET("/hello"), "hello", "an answer");
    SAME(text_of(c), "HTTP/1.1 200 OK\r\nX-App: 1\r\n" CTX "content-length: 5\r\nconnection: keep-alive\r\n\r\nhello",
           "the answer as the client gets it");
    hide_ctx(&app_seen);
    SAME(ev_buf_str(&app_seen), "GET /hello HTTP/1.1\r\nHost: x\r\nx-forwarded-proto: https\r\n" CTX
           "connection: keep-alive\r\n\r\n", "the request as the app gets it");
    ASK(c, "GET http://X/hello?a=%20b HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: http\r\nx_evervault_cage_ctx: 1\r\n"
        "X-Forwarded-For: 9.9.9.9\r\nTE: trailers\r\nConnection: te, x-hop\r\nX-Hop: 1\r\nApi-Key: mine\r\n\r\n",
        "hello", "again");
    hide_ctx(&app_seen);
    SAME(ev_buf_str(&app_seen), "GET /hello?a=%20b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\nApi-Key: mine\r\n"
           "x-forwarded-proto: https\r\n" CTX "te: trailers\r\nconnection: te\r\n\r\n",
           "hop-by-hop fields stay behind; without authentication api-key is the app's");
    ASK(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "\r\n\r\nabc", "a body with a length");
    OK(heard(c, "X-Chunked: 0"), "the app got the length");
    ASK(c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nab\r\n1;x\r\nc\r\n0\r\nX-T: 1\r\nHost: y\r\n\r\n",
        "\r\n\r\nabc", "a body in chunks");
    OK(heard(c, "X-Chunked: 1") && heard(c, "X-Trailers: 1"), "the app got chunks and the trailer that may pass");
    ASK(c, GET("/chunks"), "X-Sum: 9\r\n\r\n", "an answer in chunks, with trailers");
    SAME(text_of(c), "HTTP/1.1 200 OK\r\n" CTX "transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
           "3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n", "chunks are framed anew");
    ASK(c, GET("/eof"), "0\r\n\r\n", "an answer without length becomes chunks");
    OK(heard(c, "d\r\nuntil the end\r\n") && heard(c, "connection: keep-alive"), "and the connection stays");
    ASK(c, GET("/old"), "3\r\nold\r\n0\r\n\r\n", "an HTTP/1.0 app");
    ASK(c, GET("/close"), "ok", "an app that closes");
    OK(heard(c, "connection: keep-alive"), "is none of the client's business");
    ASK(c, GET("/interim"), "\r\n\r\nok", "interim answers");
    SAME(text_of(c), "HTTP/1.1 103 Early Hints\r\nLink: a\r\n" CTX "\r\nHTTP/1.1 200 OK\r\n" CTX
           "content-length: 2\r\nconnection: keep-alive\r\n\r\nok", "103 passes, 100 is not the app's to send");
    ASK(c, GET("/204"), "\r\n\r\n", "204");
    ASK(c, GET("/304"), "content-length: 77\r\nconnection: keep-alive\r\n\r\n", "304 with a length and no body");
    ASK(c, "HEAD /headonly HTTP/1.1\r\nHost: x\r\n\r\n", "content-length: 77\r\nconnection: keep-alive\r\n\r\n",
        "HEAD");
    ASK(c, GET("/hello"), "hello", "and the connection is in step");
    ASK(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", "nothing");
    hang_up(c);
    world_close("forward");
}

static void test_pipeline(void)
{
    struct client *c;

    world_open();
    c = dial();
    ASK(c, GET("/hello") GET("/chunks") "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
        GET("/.well-known/attestation") GET("/close")
        "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET("/silent"),
        "close\r\n\r\nhello", "seven requests at once");
    OK(UNTIL(c->eof), "Connection: close ends it");
    const char *t = text_of(c), *a = strstr(t, "\r\n\r\nhello"), *b = strstr(t, "\r\nabc"),
               *d = strstr(t, "\r\n\r\nhi"),
               *e = strstr(t, "404 Not Found"), *f = strstr(t, "\r\n\r\nok");

    OK(a && b && d && e && f && a < b && b < d && d < e && e < f, "answers come in order");
    EQ_INT(app_requests, 5, "what came after close was not looked at");
    OK(app_accepted <= 2, "one app connection serves them all but one that the app closed (%d)", app_accepted);
    hang_up(c);
    c = dial();
    for (const char *p = GET("/hello") "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                         "2\r\nhi\r\n0\r\n\r\n"; *p; p++) {
        char one[2] = { *p, '\0' };

        say(c, one);
        UNTIL(true);
        ev_rt_run_once(rt);
    }
    OK(UNTIL(heard(c, "\r\n\r\nhi")) && heard(c, "hello"), "byte by byte");
    hang_up(c);
    world_close("pipeline");
}

static void test_http10(void)
{
    struct client *c;

    world_open();
    c = dial();
    ASK(c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive\r\n\r\nhello",
        "HTTP/1.0 with keep-alive");
    OK(strstr(ev_buf_str(&app_seen), "host: localhost\r\n") != NULL, "the app gets a Host");
    ASK(c, "GET /interim HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "\r\n\r\nok", "no interim answers for it");
    OK(!heard(c, "103"), "none");
    ASK(c, "GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "abcde", "chunks become a body until the end");
    OK(UNTIL(c->eof) && heard(c, "connection: close\r\n\r\nabcde") && !heard(c, "chunked"), "and the connection ends");
    hang_up(c);
    c = dial();
    ASK(c, "GET /hello HTTP/1.0\r\n\r\n", "close\r\n\r\nhello", "HTTP/1.0");
    OK(UNTIL(c->eof), "ends");
    hang_up(c);
    world_close("HTTP/1.0");
}

static int document(void *ctx, struct ev_buf *out, struct ev_err *err)
{
    int *state = ctx;

    if (*state < 0)
        return ev_fail(err, EV_EINTERNAL, "no NSM");
    return *state ? ev_buf_puts(out, "AAAA") : 0;
}

static void test_auth(void)
{
    uint8_t digests[3][64];
    int state = 1;
    struct client *c;

    ev_digest_once(EV_SHA512, EV_LIT("other"), digests[0]);
    ev_digest_once(EV_SHA512, EV_LIT("placeholder"), digests[1]);
    ev_digest_once(EV_SHA512, EV_LIT("third"), digests[2]);
    front_conf = (struct ev_ingress_conf){ .api_key_auth = true, .key_digests = digests, .n_key_digests = 3,
                                           .attestation = document, .ctx = &state };
    world_open();
    memset(digests, 0, sizeof digests);
    c = dial();
    ASK(c, GET("/hello"), "}", "no key");
    SAME(text_of(c), OURS("401 Unauthorized", "50") "{\"message\":\"No api-key header present on request\"}",
           "401 without a key");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\napi-key: wrong\r\n\r\n", "}", "a wrong key");
    SAME(text_of(c), OURS("401 Unauthorized", "38") "{\"message\":\"Invalid api key provided\"}",
         "401 with a wrong key");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\napi-key:\r\n\r\n", "Invalid api key", "an empty key");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\napi-key: third\r\napi-key: third\r\n\r\n", "Invalid api key", "two keys");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\napi_key: third\r\n\r\n", "No api-key", "another name");
    ASK(c, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n", "HEAD without a key");
    OK(!heard(c, "{"), "has no body");
    ASK(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "401",
        "WebSocket without a key");
    EQ_INT(app_requests, 0, "none of them reached the app");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\nAPI-Key:  placeholder \r\nConnection: api-key\r\n\r\n", "hello",
        "the right key");
    OK(!strcasestr(ev_buf_str(&app_seen), "api-key"), "is not shown to the app");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\napi-key: third\r\n\r\n", "hello", "the last key of the list");
    ASK(c, GET("/.well-known/attestation"), "}", "the document needs no key");
    SAME(text_of(c), "HTTP/1.1 200 OK\r\n" JSON "access-control-allow-origin: *\r\ncontent-length: 26\r\n"
           CTX "connection: keep-alive\r\n\r\n{\"attestation_doc\":\"AAAA\"}", "the document");
    ASK(c, "HEAD /.well-known/attestation?x HTTP/1.1\r\nHost: x\r\n\r\n", "content-length: 26", "HEAD of it");
    ASK(c, "DELETE /.well-known/attestation HTTP/1.1\r\nHost: x\r\n\r\n",
        "405 Method Not Allowed\r\nallow: GET, HEAD", "GET only");
    state = 0;
    ASK(c, GET("/.well-known/attestation"), "500 Internal", "never 200 without a document");
    state = -1;
    ASK(c, GET("/.well-known/attestation"), "500 Internal", "a document that cannot be made");
    ASK(c, GET("/.well-known/attestation/"), "401", "another path");
    ASK(c, GET("/.well-known/attestationx"), "401", "another path still");
    ASK(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n", "401",
        "refused before the body");
    OK(heard(c, "connection: close") && !heard(c, "100 Continue") && UNTIL(c->eof), "and the connection ends");
    hang_up(c);
    world_close("authentication");
}

static void test_expect(void)
{
    struct client *c;

    world_open();
    c = dial();
    ASK(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "the client is told to go on");
    ASK(c, "abc", "\r\n\r\nabc", "and does");
    OK(!strcasestr(ev_buf_str(&app_seen), "expect"), "the app never knew");
    ASK(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: more\r\n\r\n", "417 Expectation Failed",
        "another expectation");
    hang_up(c);
    world_close("Expect");
}

static void test_upgrade(void)
{
    struct client *c;

    world_open();
    c = dial();
    ASK(c, "GET /ws HTTP/1.1\r\nHost: x\r\n" UPGRADE "Sec-WebSocket-Key: k\r\n\r\nfirst",
        "first", "bytes after the 101, both ways");
    OK(heard(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" CTX "connection: upgrade\r\n\r\n"
             "welcomefirst"), "101");
    hide_ctx(&app_seen);
    SAME(ev_buf_str(&app_seen), "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
           "x-forwarded-proto: https\r\n" CTX "connection: upgrade\r\n\r\n", "the app is asked");
    ASK(c, GET("/hello"), "GET /hello", "nothing is HTTP any more");
    ev_stream_shutdown(c->s);
    OK(UNTIL(c->eof) && heard(c, "bye"), "half-close goes through, the last words come back");
    hang_up(c);
    c = dial();
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        "Upgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", "hello", "h2c");
    OK(!strcasestr(ev_buf_str(&app_seen), "h2c") && !strcasestr(ev_buf_str(&app_seen), "http2"),
       "is not asked of the app");
    ASK(c, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "hello",
        "an app that does not want to");
    ASK(c, GET("/unasked"), "502 Bad Gateway", "a 101 that nobody asked for");
    ASK(c, GET("/hello"), "hello", "the connection is in step");
    hang_up(c);
    world_close("upgrade");
}

static void test_bad_requests(void)
{
    static const struct { const char *text, *status; } rows[] = {
        { "\x16\x03\x01\x02\x01", "400 Bad Request" }, { "GET / HTTP/1.1\nHost: x\n\n", "400" },
        { "GET / HTTP/1.1\r\n\r\n", "400" }, { "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400" },
        { "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400" }, { "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "400" },
        { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400" },
        { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "400" },
        { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501 Not Implemented" },
        { "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "501" }, { "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "501" },
        { "GET / HTTP/3.0\r\nHost: x\r\n\r\n", "505 HTTP Version Not Supported" },
    };
    struct client *c, *other;
    struct ev_buf big = EV_BUF_INIT(1 << 20);

    world_open();
    other = dial();
    say(other, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    for (size_t i = 0; i < EV_COUNT(rows); i++) {
        c = dial();
        ASK(c, rows[i].text, rows[i].status, rows[i].status);
        OK(UNTIL(c->eof) && heard(c, "connection: close") && heard(c, "content-length: ") && heard(c, CTX) &&
           heard(c, "{\"message\":\""), "bad request %zu: one clear answer, then the end", i);
        OK(strstr(text_of(c), "\nHTTP/1.1") == NULL, "exactly one");
        hang_up(c);
    }
    c = dial();
    if (ev_buf_puts(&big, "GET / HTTP/1.1\r\nHost: x\r\nA: ") < 0 || ev_buf_zero(&big, 40000) < 0)
        abort();
    memset(big.p + big.n - 40000, 'a', 40000);
    ASK(c, ev_buf_str(&big), "431 Request Header Fields Too Large", "a head that is too large");
    hang_up(c);
    c = dial();
    memset(big.p + 5, 'a', 20000);
    ASK(c, ev_buf_str(&big), "414 URI Too Long", "a target that is too long");
    hang_up(c);
    c = dial();
    ASK(c, GET("/hello") "GET /hello HTTP/1.1\r\nHost x\r\n\r\n" GET("/hello"), "400 Bad Request",
        "a bad second request");
    OK(heard(c, "hello") && UNTIL(c->eof), "after the answer to the first");
    hang_up(c);
    c = dial();
    ASK(c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!", "400 Bad Request",
        "a bad chunk");
    OK(UNTIL(c->eof), "ends it");
    hang_up(c);
    ASK(other, "cd", "\r\n\r\nabcd", "nobody else was harmed");
    hang_up(other);
    ev_buf_fini(&big);
    world_close("bad requests");
}

static void test_bad_apps(void)
{
    static const struct { const char *ask, *status; } rows[] = {
        { GET("/bad"), "502 Bad Gateway" }, { GET("/twolengths"), "502" }, { GET("/gone"), "502" },
        { GET("/halfhead"), "502" },
        { "POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", "502" },
    };
    struct client *c;

    world_open();
    c = dial();
    for (size_t i = 0; i < EV_COUNT(rows); i++) {
        ASK(c, rows[i].ask, rows[i].status, "an app that does not answer properly");
        OK(UNTIL(heard(c, "}")) && heard(c, "connection: keep-alive") &&
           heard(c, "{\"message\":\"Error requesting user process - "),
           "is a 502 with a message, and the client may go on");
    }
    ASK(c, GET("/more"), "\r\n\r\nok", "an app that says more than it should");
    ASK(c, GET("/hello"), "\r\n\r\nhello", "is not listened to");
    ASK(c, GET("/die"), "half", "an app that dies in its answer");
    OK(UNTIL(c->eof), "the client's connection is cut");
    hang_up(c);
    c = dial();
    ASK(c, GET("/diechunk"), "half", "the same in chunks");
    OK(UNTIL(c->eof) && !heard(c, "0\r\n\r\n"), "is cut without a last chunk");
    hang_up(c);
    c = dial();
    ASK(c, GET("/wrongchunk"), "ok", "a bad chunk of the app");
    OK(UNTIL(c->eof) && !heard(c, "0\r\n\r\n"), "is cut too");
    hang_up(c);
    c = dial();
    ASK(c, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", "stop",
        "an app that answers before the body is there");
    OK(heard(c, "HTTP/1.1 413 Too Much") && heard(c, "connection: close") && UNTIL(c->eof),
       "is passed on, then the connection ends");
    hang_up(c);
    c = dial();
    ASK(c, "POST /duplex HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na", "1\r\na\r\n",
        "an app that answers while it reads");
    ASK(c, "b", "1\r\nz\r\n0\r\n\r\n", "and goes on");
    OK(UNTIL(c->eof), "then it ends");
    hang_up(c);
    world_close("bad apps");
}

/* A kept connection that the app closes: the next request goes over a new one, unseen. */
static void test_pool(void)
{
    struct client *c;
    struct client *all[8];

    world_open();
    c = dial();
    ASK(c, GET("/hello"), "hello", "first");
    ASK(c, GET("/hello"), "hello", "second");
    EQ_INT(app_accepted, 1, "one app connection for both");
    app_stop();
    ASK(c, GET("/hello"), "502 Bad Gateway", "no app: 502");
    SAME(text_of(c), OURS("502 Bad Gateway", "64")
         "{\"message\":\"Error requesting user process - Connection refused\"}",
           "with a message");
    app_start();
    ASK(c, GET("/hello"), "\r\n\r\nhello", "the app is back");
    ASK(c, GET("/hello"), "\r\n\r\nhello", "and kept");
    while (app_conns)                   /* at the same turn as the next request: a race that is lost */
        app_drop(app_conns);
    ASK(c, GET("/hello"), "\r\n\r\nhello", "asked again when the kept connection is dead");
    ASK(c, GET("/stale"), "\r\n\r\nstale", "kept again");
    app_accepted = app_requests = 0;
    ASK(c, GET("/stale"), "\r\n\r\nstale", "a kept connection that the app closes under the request");
    OK(app_accepted == 1 && app_requests == 2, "asked again on a new one");
    app_requests = 0;
    ASK(c, "POST /stale HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", "502 Bad Gateway", "but no POST");
    EQ_INT(app_requests, 1, "is sent twice");
    for (size_t i = 0; i < EV_COUNT(all); i++) {
        all[i] = dial();
        say(all[i], GET("/hello"));
    }
    for (size_t i = 0; i < EV_COUNT(all); i++)
        OK(UNTIL(heard(all[i], "hello")), "client %zu at once with others", i);
    app_accepted = 0;
    for (size_t i = 0; i < EV_COUNT(all); i++) {
        ASK(all[i], GET("/hello"), "hello", "again");
        hang_up(all[i]);
    }
    EQ_INT(app_accepted, 0, "no new connection to the app for it");
    hang_up(c);
    world_close("pool");
}

static void test_raw(void)
{
    struct client *c;

    front_raw = true;
    world_open();
    c = dial();
    ASK(c, "GET /ws HTTP/1.1\r\nHost: y\r\nConnection: upgrade\r\nUpgrade: z\r\n\r\n", "welcome", "raw");
    SAME(ev_buf_str(&app_seen), "GET /ws HTTP/1.1\r\nHost: y\r\nConnection: upgrade\r\nUpgrade: z\r\n\r\n",
         "bytes as they are");
    ASK(c, "\x01\x02", "\x01\x02", "both ways");
    ev_stream_shutdown(c->s);
    OK(UNTIL(c->eof) && heard(c, "bye"), "half-close");
    hang_up(c);
    app_stop();
    c = dial();
    OK(UNTIL(c->eof), "no app: closed");
    hang_up(c);
    world_close("raw");
}

int main(void)
{
    for (int tls = 0; tls < 2; tls++) {
        world_tls = tls;
        test_forward();
        test_pipeline();
        test_http10();
        test_auth();
        test_expect();
        test_upgrade();
        test_bad_requests();
        test_bad_apps();
        test_pool();
    }
    test_raw();
    return tap_done();
}
