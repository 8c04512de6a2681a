/* test_httpc.c — the CLI's HTTP client against a small server of our own, over TCP, a Unix socket and
 * TLS. Requests run on the thread pool, the server on the loop. */
#include <dlfcn.h>
#include <unistd.h>

#include "base/file.h"
#include "net.h"
#include "net/httpc.h"
#include "net/tls.h"

static struct ev_rt *rt;
static char dir[128], base[64], secure[64];
static struct ev_addr unix_at;
static int hide_curl, connections;
static struct ev_key *key;
static struct ev_cert *cert;
static struct ev_tls_ctx *tls;

/* The client's dlopen: without libcurl for the first test. */
void *dlopen(const char *name, int flags)
{
    void *(*real)(const char *, int);
    void *p = dlsym(RTLD_NEXT, "dlopen");

    memcpy(&real, &p, sizeof real);
    return hide_curl && name && strstr(name, "libcurl") ? NULL : real(name, flags);
}

/* --- the server: one request a connection ------------------------------------------------------- */

struct peer { struct ev_stream *s; struct ev_buf in; struct peer *next; };
static struct peer *peers;

/* A client may send a second request before it sees that we shut down: that one gets nothing. */
static void say(struct peer *p, const char *text)
{
    if (p->s && ev_stream_write(p->s, ev_slice_str(text)) < 0)
        printf("# answer not sent\n");
}

static void big_answer(struct peer *p, size_t n)
{
    char *body = ev_alloc(n + 1), head[100];

    memset(body, 'b', n);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
    say(p, head);
    say(p, body);
    ev_free(body);
}

static void many_headers(struct peer *p, int n)
{
    char line[64];

    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
    for (int i = 0; i < n; i++) {
        snprintf(line, sizeof line, "X-H%d: v\r\n", i);
        say(p, line);
    }
    say(p, "\r\n");
}

static const struct { const char *path, *answer; } fixed[] = {
    { "/hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Space: \t a b \r\n\r\nhello" },
    { "/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "5\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n" },
    { "/until-eof", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it" },
    { "/404", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno" },
    { "/204", "HTTP/1.1 204 No Content\r\n\r\n" },
    { "/100", "HTTP/1.1 100 Continue\r\nX-Old: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-New: 1\r\n\r\nok" },
    { "/redirect", "HTTP/1.1 302 Found\r\nLocation: /hello\r\nX-Old: 1\r\nContent-Length: 3\r\n\r\nold" },
    { "/loop", "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n" },
    { "/file", "HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n" },
    { "/truncated", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes." },
    { "/garbage", "\x01\x02 nonsense\r\n\r\n" },
    { "/close", "" },
};

static void answer(struct peer *p)
{
    const char *in = ev_buf_str(&p->in), *path = strchr(in, ' ');
    char head[100];

    if (!path || strncmp(++path, "/silent", 7) == 0)
        return;
    if (strncmp(path, "http://", 7) == 0)       /* we are a proxy: the answer is the request */
        path = "/echo";
    if (strncmp(path, "/echo", 5) == 0) {
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", p->in.n);
        say(p, head);
        say(p, in);
    } else if (strncmp(path, "/big", 4) == 0) {
        big_answer(p, 1000000);
    } else if (strncmp(path, "/headers", 8) == 0) {
        many_headers(p, atoi(path + 8));
    }
    for (size_t i = 0; i < EV_COUNT(fixed); i++)
        if (strncmp(path, fixed[i].path, strlen(fixed[i].path)) == 0 && path[strlen(fixed[i].path)] == ' ')
            say(p, fixed[i].answer);
    if (p->s)
        ev_stream_shutdown(p->s);
}

static void peer_data(void *ctx, ev_slice b)
{
    struct peer *p = ctx;
    const char *end, *length;
    size_t want = 0;

    if (ev_buf_put_slice(&p->in, b) < 0)
        abort();
    if (p->in.p[0] == 0x16) {           /* a ClientHello */
        say(p, "HTTP/1.1 400 Bad Request\r\n\r\n");
        ev_stream_shutdown(p->s);
        return;
    }
    end = strstr(ev_buf_str(&p->in), "\r\n\r\n");
    length = strstr(ev_buf_str(&p->in), "Content-Length: ");
    if (length)
        want = (size_t)atoi(length + 16);
    if (end && p->in.n >= (size_t)(end + 4 - ev_buf_str(&p->in)) + want)
        answer(p);
}

static void peer_end(void *ctx)
{
    struct peer *p = ctx;

    ev_stream_close(p->s);
    p->s = NULL;
}

static void peer_fail(void *ctx, const struct ev_err *err)
{
    (void)err;
    peer_end(ctx);
}

static void serve(void *ctx, struct ev_stream *s)
{
    static const struct ev_stream_cb cb = { peer_data, peer_end, peer_fail, NULL };
    struct peer *p = ev_alloc(sizeof *p);

    (void)ctx;
    connections++;
    p->s = s;
    p->next = peers;
    peers = p;
    ev_buf_init(&p->in, 1 << 20);
    ev_stream_set_cb(s, &cb, p);
    ev_stream_read_start(s);
}

static void serve_tls(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    (void)err;
    if (s)
        serve(ctx, s);
}

static void accept_tls(void *ctx, struct ev_stream *s)
{
    (void)ctx;
    ev_tls_accept(tls, s, serve_tls, NULL);
}

static void drop_peers(void)
{
    while (peers) {
        struct peer *p = peers;

        peers = p->next;
        ev_stream_close(p->s);
        ev_buf_fini(&p->in);
        ev_free(p);
    }
}

static int choose(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    (void)ctx;
    (void)sni;
    out->cert = cert;
    out->key = key;
    return 0;
}

/* --- one request ---------------------------------------------------------------------------------- */

struct call { struct ev_httpc_request rq; struct ev_httpc_response r; struct ev_err err; int rc, done; char url[200]; };

static void call_work(void *ctx)
{
    struct call *c = ctx;

    c->rc = ev_httpc_request(&c->rq, &c->r, &c->err);
}

static void call_done(void *ctx)
{
    ((struct call *)ctx)->done = 1;
}

static void call_init(struct call *c, const char *where, const char *path)
{
    memset(c, 0, sizeof *c);
    snprintf(c->url, sizeof c->url, "%s%s", where, path);
    c->rq.url = c->url;
    c->rq.timeout_ms = 5000;
}

static void call_run(struct call *c)
{
    ev_work_start(rt, call_work, call_done, c);
    turn_until(rt, &c->done);
}

static void get(const char *where, const char *path, int status, const char *body)
{
    struct call c;

    call_init(&c, where, path);
    call_run(&c);
    EQ_INT(c.rc, 0, path);
    EQ_INT(c.r.status, status, "its status");
    EQ_STR(ev_buf_str(&c.r.body), body, "its body");
    ev_httpc_response_fini(&c.r);
    ev_httpc_response_fini(&c.r);
}

static void fails(struct call *c, int want, const char *reason, const char *what)
{
    call_run(c);
    EQ_INT(c->rc, want, what);
    EQ_INT(c->err.code, want, c->err.msg);
    EQ_STR(c->err.reason, reason, "its reason");
    OK(c->r.status == 0 && c->r.n_headers == 0 && c->r.body.p == NULL, "and no half answer");
    ev_httpc_response_fini(&c->r);
}

static void without_curl(void)
{
    struct call c;

    hide_curl = 1;
    call_init(&c, base, "/hello");
    fails(&c, EV_EMISSING, "", "no libcurl");
    hide_curl = 0;
}

static void answers(void)
{
    struct call c;

    get(base, "/hello", 200, "hello");
    get(base, "/chunked", 200, "hello world");
    get(base, "/until-eof", 200, "all of it");
    get(base, "/404", 404, "no");
    get(base, "/204", 204, "");
    get(base, "/redirect", 302, "old");
    call_init(&c, base, "/hello");
    call_run(&c);
    EQ_STR(ev_httpc_header(&c.r, "x-twice"), "1", "a header, first of two");
    EQ_STR(ev_httpc_header(&c.r, "x-space"), "a b", "trimmed");
    OK(ev_httpc_header(&c.r, "x-none") == NULL, "no such header");
    EQ_INT(c.r.n_headers, 4, "all of them");
    ev_httpc_response_fini(&c.r);
    call_init(&c, base, "/100");
    call_run(&c);
    OK(c.r.status == 200 && !ev_httpc_header(&c.r, "x-old") && ev_httpc_header(&c.r, "x-new"),
       "only the last head counts");
    ev_httpc_response_fini(&c.r);
    call_init(&c, base, "/redirect");
    c.rq.redirects = 3;
    call_run(&c);
    OK(c.r.status == 200 && !ev_httpc_header(&c.r, "x-old") && strcmp(ev_buf_str(&c.r.body), "hello") == 0,
       "a redirect when asked for");
    ev_httpc_response_fini(&c.r);
    call_init(&c, base, "/echo");
    c.rq.method = "HEAD";
    call_run(&c);
    OK(c.rc == 0 && c.r.status == 200 && c.r.body.n == 0, "HEAD has no body (%s)", c.err.msg);
    ev_httpc_response_fini(&c.r);
    call_init(&c, "http://localhost", "/hello");
    c.rq.unix_socket = unix_at.host;
    call_run(&c);
    OK(c.rc == 0 && c.r.status == 200, "over a Unix socket (%s)", c.err.msg);
    ev_httpc_response_fini(&c.r);
}

static void proxies(void)
{
    struct call c;

    setenv("http_proxy", base, 1);
    call_init(&c, "http://example.invalid", "/x");
    call_run(&c);
    OK(c.rc == 0 && strncmp(ev_buf_str(&c.r.body), "GET http://example.invalid/x HTTP/", 34) == 0,
       "a proxy of the environment (%s)", c.err.msg);
    ev_httpc_response_fini(&c.r);
    setenv("no_proxy", "127.0.0.1", 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    get(base, "/hello", 200, "hello");
    unsetenv("no_proxy");
    call_init(&c, "http://localhost", "/echo");
    c.rq.unix_socket = unix_at.host;
    call_run(&c);
    OK(strncmp(ev_buf_str(&c.r.body), "GET /echo HTTP/", 15) == 0, "none on a Unix socket (%s)", c.err.msg);
    ev_httpc_response_fini(&c.r);
    unsetenv("http_proxy");
}

static void sent(const char *method, const char *body, const char *first, const char *part)
{
    static const char *const headers[] = { "X-Mine: yes", "Content-Type: application/json", "Accept:" };
    struct call c;

    call_init(&c, base, "/echo?a=b");
    c.rq.method = method;
    c.rq.headers = headers;
    c.rq.n_headers = EV_COUNT(headers);
    c.rq.body = ev_slice_str(body);
    call_run(&c);
    OK(c.rc == 0 && strncmp(ev_buf_str(&c.r.body), first, strlen(first)) == 0, "%s (%s)", first, c.err.msg);
    OK(strstr(ev_buf_str(&c.r.body), "X-Mine: yes\r\n") && !strstr(ev_buf_str(&c.r.body), "Expect") &&
       !strstr(ev_buf_str(&c.r.body), "Accept:") && strstr(ev_buf_str(&c.r.body), "User-Agent: ev-cage/"),
       "the headers, and none of curl's own that were not wanted");
    OK(strstr(ev_buf_str(&c.r.body), part) != NULL, "%s", part);
    ev_httpc_response_fini(&c.r);
}

static void limits(void)
{
    struct call c;

    call_init(&c, base, "/big");
    c.rq.max_body = 999999;
    fails(&c, -ENOBUFS, "body", "an answer past its limit");
    call_init(&c, base, "/big");
    c.rq.max_body = 1000000;
    call_run(&c);
    EQ_INT(c.r.body.n, 1000000, "an answer at its limit");
    ev_httpc_response_fini(&c.r);
    call_init(&c, base, "/headers255");
    call_run(&c);
    EQ_INT(c.r.n_headers, 256, "256 headers");
    ev_httpc_response_fini(&c.r);
    call_init(&c, base, "/headers256");
    fails(&c, -ENOBUFS, "head", "257 headers");
}

static void failures(void)
{
    struct call c;
    uint64_t before = ev_rt_now_ms(rt);

    call_init(&c, base, "/silent");
    c.rq.timeout_ms = 200;
    fails(&c, -ETIMEDOUT, "timeout", "a silent server");
    OK(ev_rt_now_ms(rt) - before < 3000, "in time");
    call_init(&c, base, "/truncated");
    fails(&c, EV_EHTTP, "truncated", "a truncated answer");
    call_init(&c, base, "/close");
    fails(&c, EV_EHTTP, "truncated", "no answer");
    call_init(&c, base, "/garbage");
    fails(&c, EV_EHTTP, "protocol", "no HTTP at all");
    call_init(&c, base, "/loop");
    c.rq.redirects = 3;
    fails(&c, EV_EHTTP, "redirects", "too many redirects");
    call_init(&c, base, "/file");
    c.rq.redirects = 3;
    fails(&c, EV_EHTTP, "protocol", "a redirect to a file");
    call_init(&c, "http://127.0.0.1:1", "/");
    fails(&c, -ECONNREFUSED, "connect", "nobody listens");
    call_init(&c, "http://no-such-host.invalid", "/");
    c.rq.timeout_ms = 3000;
    call_run(&c);
    OK(c.rc == -ENOENT || c.rc == -ETIMEDOUT, "an unknown host (%s)", c.err.msg);
}

static void wrong_usage(void)
{
    static const char *const bad_url[] = { "file:///etc/hostname", "ftp://localhost/", "", "localhost",
                                          "http://a\r\nb/" };
    static const char *const bad_header[] = { "X: a\r\nY: b", "X: a\nY: b", "no colon" };
    struct call c;
    int before = connections;

    for (size_t i = 0; i < EV_COUNT(bad_url); i++) {
        call_init(&c, bad_url[i], "");
        fails(&c, EV_EUSAGE, "", "a URL that is not for us");
    }
    for (size_t i = 0; i < EV_COUNT(bad_header); i++) {
        call_init(&c, base, "/hello");
        c.rq.headers = &bad_header[i];
        c.rq.n_headers = 1;
        fails(&c, EV_EUSAGE, "", "a header that is two");
    }
    call_init(&c, base, "/hello");
    c.rq.method = "GET / HTTP/1.1\r\nX:";
    fails(&c, EV_EUSAGE, "", "a method that is a request");
    EQ_INT(connections, before, "nothing was sent");
    call_init(&c, "http://user:geheim@127.0.0.1:1", "/?token=geheim");
    call_run(&c);
    OK(c.rc < 0 && !strstr(c.err.msg, "geheim"), "no secret of a URL in the message: %s", c.err.msg);
}

static void cancel(void)
{
    struct call c;
    atomic_bool stop = false;
    uint64_t before = ev_rt_now_ms(rt);

    call_init(&c, base, "/silent");
    c.rq.cancelled = &stop;
    c.rq.timeout_ms = 60000;
    ev_work_start(rt, call_work, call_done, &c);
    turn_for(rt, 100);
    EQ_INT(c.done, 0, "waiting");
    atomic_store(&stop, true);
    OK(turn_until(rt, &c.done), "cancelled");
    EQ_INT(c.rc, EV_ECANCELLED, "and says so");
    OK(ev_rt_now_ms(rt) - before < 3000, "soon");
    call_init(&c, base, "/hello");
    c.rq.cancelled = &stop;
    call_run(&c);
    EQ_INT(c.rc, EV_ECANCELLED, "cancelled before it began");
}

static void over_tls(void)
{
    struct call c;
    char file[200];
    struct ev_buf pem = EV_BUF_INIT(1 << 16);

    snprintf(file, sizeof file, "%s/ca.pem", dir);
    if (ev_cert_pem(cert, &pem, NULL) < 0 || ev_file_write(file, ev_buf_slice(&pem), 0600, NULL) < 0)
        abort();
    ev_buf_fini(&pem);
    call_init(&c, secure, "/hello");
    c.rq.ca_file = file;
    call_run(&c);
    OK(c.rc == 0 && c.r.status == 200, "https with its authority (%s)", c.err.msg);
    ev_httpc_response_fini(&c.r);
    call_init(&c, secure, "/hello");
    fails(&c, EV_ETLS, "tls-certificate", "https with the system's authorities");
    call_init(&c, secure, "/hello");
    memcpy(strstr(c.url, "localhost"), "127.0.0.1", 9);
    c.rq.ca_file = file;
    fails(&c, EV_ETLS, "tls-certificate", "https with another name");
    call_init(&c, secure, "/hello");
    c.rq.ca_file = "/no/such/file.pem";
    fails(&c, EV_ECONFIG, "ca-file", "no such authority file");
    call_init(&c, base, "/hello");
    memmove(c.url + 5, c.url + 4, strlen(c.url) - 3);
    c.url[4] = 's';
    c.rq.ca_file = file;
    call_run(&c);
    OK(c.rc == EV_ETLS, "https to a server that speaks none (%s)", c.err.msg);
    unlink(file);
}

static void make_certificate(void)
{
    const char *dns[] = { "localhost" };
    struct ev_cert_conf conf = { .subject = "/CN=localhost", .not_before_ms = 1700000000000,
                                 .not_after_ms = 4000000000000, .dns = dns, .n_dns = 1, .ca = true, .path_len = -1 };
    struct ev_tls_server_conf server = { .select = choose };

    if (ev_key_generate(EV_P256, &key, NULL) < 0 || ev_cert_make(&conf, key, NULL, NULL, &cert, NULL) < 0 ||
        ev_tls_server_new(&server, &tls, NULL) < 0)
        abort();
}

static struct ev_listener *listen_at(const char *text, void (*accepted)(void *, struct ev_stream *),
                                     struct ev_addr *got)
{
    struct ev_addr at;
    struct ev_listener *l;

    if (ev_addr_parse(text, &at, NULL) < 0 || ev_listen(rt, &at, accepted, NULL, &l, NULL) < 0)
        abort();
    ev_listener_addr(l, got);
    return l;
}

int main(void)
{
    static const char *const mine[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy",
                                        "no_proxy", "NO_PROXY" };
    struct ev_listener *a, *b, *c;
    struct ev_addr at;
    char text[200];

    for (size_t i = 0; i < EV_COUNT(mine); i++)
        unsetenv(mine[i]);
    if (ev_rt_new(&rt, NULL) < 0 || !temp_dir(dir, sizeof dir))
        return 1;
    make_certificate();
    a = listen_at("127.0.0.1:0", serve, &at);
    snprintf(base, sizeof base, "http://127.0.0.1:%u", at.port);
    b = listen_at("127.0.0.1:0", accept_tls, &at);
    snprintf(secure, sizeof secure, "https://localhost:%u", at.port);
    snprintf(text, sizeof text, "unix:%s/http.sock", dir);
    c = listen_at(text, serve, &unix_at);
    without_curl();
    answers();
    proxies();
    sent(NULL, "", "GET /echo?a=b HTTP/", "Host: ");
    sent("POST", "{\"a\":1}", "POST /echo?a=b HTTP/", "Content-Length: 7");
    sent("POST", "", "POST /echo?a=b HTTP/", "Content-Length: 0");
    sent("PATCH", "x", "PATCH /echo?a=b HTTP/", "Content-Length: 1");
    sent("DELETE", "", "DELETE /echo?a=b HTTP/", "Host: ");
    limits();
    failures();
    wrong_usage();
    cancel();
    over_tls();
    drop_peers();
    ev_listener_close(a);
    ev_listener_close(b);
    ev_listener_close(c);
    ev_tls_ctx_free(tls);
    expect_closed(rt, "open handles");
    ev_cert_free(cert);
    ev_key_free(key);
    rmdir(dir);
    ev_rt_free(rt);
    return tap_done();
}
