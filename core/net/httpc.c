/* httpc.c — see httpc.h. One easy handle a request: a CLI makes few, and nothing is shared between
 * threads that way. Proxies come from the environment, as curl reads it. */
#include "net/httpc.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>

#include "base/version.h"

enum { TIMEOUT_MS = 60 * 1000, CONNECT_MS = 15 * 1000, BODY_MAX = 16 * 1024 * 1024 };

/* curl.h turns these names into type-checking macros; here they are members. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

struct curl_api {
    void *library;
    CURLcode (*global_init)(long);
    CURL *(*init)(void);
    CURLcode (*setopt)(CURL *, CURLoption, ...);
    CURLcode (*perform)(CURL *);
    CURLcode (*getinfo)(CURL *, CURLINFO, ...);
    void (*cleanup)(CURL *);
    const char *(*strerror)(CURLcode);
    struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
    void (*slist_free)(struct curl_slist *);
};

static pthread_mutex_t api_lock = PTHREAD_MUTEX_INITIALIZER;
static struct curl_api api;             /* filled once; read-only from then on */

struct transfer {
    CURL *easy;
    const struct ev_httpc_request *rq;
    struct ev_httpc_response *out;
    struct curl_slist *headers;
    size_t head_bytes;
    bool too_large, head_too_large;
    char why[CURL_ERROR_SIZE];
};

/* --- the library ------------------------------------------------------------------------------ */

static int find(const char *name, void *slot)
{
    void *p = dlsym(api.library, name);

    memcpy(slot, &p, sizeof p);         /* a cast between object and function pointer is no C */
    return p ? 0 : EV_EMISSING;
}

static int load(struct ev_err *err)
{
    int rc = 0;

    api.library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!api.library)
        return ev_fail(err, EV_EMISSING, "libcurl.so.4 is not installed (Debian: libcurl4)");
    EV_TRY(find("curl_global_init", &api.global_init));
    EV_TRY(find("curl_easy_init", &api.init));
    EV_TRY(find("curl_easy_setopt", &api.setopt));
    EV_TRY(find("curl_easy_perform", &api.perform));
    EV_TRY(find("curl_easy_getinfo", &api.getinfo));
    EV_TRY(find("curl_easy_cleanup", &api.cleanup));
    EV_TRY(find("curl_easy_strerror", &api.strerror));
    EV_TRY(find("curl_slist_append", &api.slist_append));
    EV_TRY(find("curl_slist_free_all", &api.slist_free));
    if (api.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        rc = EV_EMISSING;
out:
    if (rc < 0) {
        dlclose(api.library);
        api.library = NULL;
        ev_fail(err, rc, "libcurl.so.4 is too old or broken");
    }
    return rc;
}

static int need_library(struct ev_err *err)
{
    int rc = 0;

    pthread_mutex_lock(&api_lock);
    if (!api.library)
        rc = load(err);
    pthread_mutex_unlock(&api_lock);
    return rc;
}

/* --- what comes back -------------------------------------------------------------------------- */

static void drop_headers(struct ev_httpc_response *r)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        ev_free(r->headers[i].name);
        ev_free(r->headers[i].value);
    }
    ev_free(r->headers);
    r->headers = NULL;
    r->n_headers = 0;
}

static void keep_header(struct ev_httpc_response *r, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n), *value, *end = line + n;
    struct ev_httpc_header *h;

    if (!colon || colon == line)
        return;
    value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    r->headers = ev_realloc(r->headers, (r->n_headers + 1) * sizeof *r->headers);
    h = &r->headers[r->n_headers++];
    h->name = ev_strndup(line, (size_t)(colon - line));
    h->value = ev_strndup(value, (size_t)(end - value));
    for (char *p = h->name; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 'a' - 'A');
}

/* A status line begins a new answer: after a redirect, or a 100 Continue. */
static size_t got_header(char *line, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    size_t all = size * count, n = all;

    while (n && (line[n - 1] == '\r' || line[n - 1] == '\n'))
        n--;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        drop_headers(t->out);
        ev_buf_clear(&t->out->body);
        t->head_bytes = 0;
        return all;
    }
    t->head_bytes += n;
    if (n && (t->out->n_headers >= EV_HTTPC_HEADERS_MAX || t->head_bytes > EV_HTTPC_HEAD_BYTES)) {
        t->head_too_large = true;
        return 0;
    }
    if (n)
        keep_header(t->out, line, n);
    return all;
}

static size_t got_body(char *p, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;

    if (ev_buf_put(&t->out->body, p, size * count) < 0) {
        t->too_large = true;
        return 0;
    }
    return size * count;
}

static int still_wanted(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct transfer *t = ctx;

    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return t->rq->cancelled && atomic_load(t->rq->cancelled);
}

/* --- what goes out ---------------------------------------------------------------------------- */

/* A line break in a header would be a second header; in a method, a second request. */
static bool one_line(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' && *s != '\t')
            return false;
    return true;
}

static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!((*s >= 'A' && *s <= 'Z') || (*s >= 'a' && *s <= 'z') || *s == '-'))
            return false;
    return true;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static int check(const struct ev_httpc_request *rq, struct ev_err *err)
{
    if (!rq->url || !*rq->url || !one_line(rq->url))
        return ev_fail(err, EV_EUSAGE, "the URL is empty or has control characters");
    if (strncmp(rq->url, "http://", 7) != 0 && strncmp(rq->url, "https://", 8) != 0)
        return ev_fail(err, EV_EUSAGE, "only http:// and https:// can be requested");
    if (rq->method && !is_token(rq->method))
        return ev_fail(err, EV_EUSAGE, "the method is no HTTP method");
    for (size_t i = 0; i < rq->n_headers; i++)
        if (!one_line(rq->headers[i]) || !strchr(rq->headers[i], ':'))
            return ev_fail(err, EV_EUSAGE, "header %zu is not \"Name: value\" on one line", i + 1);
    return 0;
}

#define SET(option, value) \
    do { if (api.setopt(t->easy, CURLOPT_##option, value) != CURLE_OK) return EV_EHTTP; } while (0)

static int add_header(struct transfer *t, const char *line)
{
    struct curl_slist *l = api.slist_append(t->headers, line);

    if (!l)
        return -ENOMEM;
    t->headers = l;
    return 0;
}

static int set_body(struct transfer *t, const char *method)
{
    const struct ev_httpc_request *rq = t->rq;
    bool wants = is(method, "POST") || is(method, "PUT") || is(method, "PATCH");

    if (rq->body.n || wants) {
        SET(POST, 1L);
        SET(POSTFIELDS, rq->body.n ? (const char *)rq->body.p : "");
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
    } else if (is(method, "HEAD")) {
        SET(NOBODY, 1L);
    }
    SET(CUSTOMREQUEST, method);
    if (rq->redirects && (is(method, "GET") || is(method, "HEAD")) && !rq->body.n) {
        SET(FOLLOWLOCATION, 1L);
        SET(MAXREDIRS, (long)rq->redirects);
    }
    return 0;
}

static int set_headers(struct transfer *t)
{
    /* Ours first, so that a caller's own line of the same name replaces what curl would add. */
    int rc = add_header(t, "Expect:");

    for (size_t i = 0; rc >= 0 && i < t->rq->n_headers; i++)
        rc = add_header(t, t->rq->headers[i]);
    if (rc < 0)
        return rc;
    SET(HTTPHEADER, t->headers);
    SET(USERAGENT, "ev-cage/" EV_VERSION);
    return 0;
}

static int set_trust(struct transfer *t)
{
    const struct ev_httpc_request *rq = t->rq;

    SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (rq->ca_file) {
        SET(CAINFO, rq->ca_file);
        SET(CAPATH, (char *)NULL);
    }
    if (rq->unix_socket) {
        SET(UNIX_SOCKET_PATH, rq->unix_socket);
        SET(PROXY, "");
    }
    return 0;
}

static int set_all(struct transfer *t)
{
    const struct ev_httpc_request *rq = t->rq;
    long total = (long)(rq->timeout_ms ? rq->timeout_ms : TIMEOUT_MS);
    int rc;

    SET(ERRORBUFFER, t->why);
    SET(URL, rq->url);
    SET(PROTOCOLS_STR, "http,https");
    SET(REDIR_PROTOCOLS_STR, "http,https");
    SET(NOSIGNAL, 1L);
    SET(TIMEOUT_MS, total);
    SET(CONNECTTIMEOUT_MS, total < CONNECT_MS ? total : (long)CONNECT_MS);
    SET(HEADERFUNCTION, got_header);
    SET(HEADERDATA, t);
    SET(WRITEFUNCTION, got_body);
    SET(WRITEDATA, t);
    SET(NOPROGRESS, 0L);
    SET(XFERINFOFUNCTION, still_wanted);
    SET(XFERINFODATA, t);
    EV_TRY(set_trust(t));
    EV_TRY(set_headers(t));
    EV_TRY(set_body(t, rq->method ? rq->method : "GET"));
out:
    return rc;
}

/* --- failures --------------------------------------------------------------------------------- */

static const struct { CURLcode curl; int code; const char *reason; } failures[] = {
    { CURLE_COULDNT_RESOLVE_HOST, -ENOENT, "resolve" },
    { CURLE_COULDNT_RESOLVE_PROXY, -ENOENT, "resolve" },
    { CURLE_COULDNT_CONNECT, -ECONNREFUSED, "connect" },
    { CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, "timeout" },
    { CURLE_ABORTED_BY_CALLBACK, EV_ECANCELLED, "" },
    { CURLE_PEER_FAILED_VERIFICATION, EV_ETLS, "tls-certificate" },
    { CURLE_SSL_CACERT_BADFILE, EV_ECONFIG, "ca-file" },
    { CURLE_SSL_CONNECT_ERROR, EV_ETLS, "tls-protocol" },
    { CURLE_SSL_CIPHER, EV_ETLS, "tls-protocol" },
    { CURLE_UNSUPPORTED_PROTOCOL, EV_EHTTP, "protocol" },       /* a redirect out of HTTP, or no HTTP at all */
    { CURLE_URL_MALFORMAT, EV_EUSAGE, "url" },
    { CURLE_TOO_MANY_REDIRECTS, EV_EHTTP, "redirects" },
    { CURLE_PARTIAL_FILE, EV_EHTTP, "truncated" },
    { CURLE_GOT_NOTHING, EV_EHTTP, "truncated" },
    { CURLE_RECV_ERROR, EV_EHTTP, "truncated" },
    { CURLE_OUT_OF_MEMORY, -ENOMEM, "" },
};

static int explain(const struct transfer *t, CURLcode c, struct ev_err *err)
{
    const char *text = t->why[0] ? t->why : api.strerror(c);

    if (t->too_large)
        return ev_fail_reason(err, -ENOBUFS, "body", "the answer is larger than %zu bytes", t->out->body.max);
    if (t->head_too_large)
        return ev_fail_reason(err, -ENOBUFS, "head", "the answer's head is too large");
    for (size_t i = 0; i < EV_COUNT(failures); i++)
        if (failures[i].curl == c)
            return ev_fail_reason(err, failures[i].code, failures[i].reason, "%s", text);
    return ev_fail(err, EV_EHTTP, "%s", text);
}

static int run(struct transfer *t, struct ev_err *err)
{
    CURLcode c;
    long status = 0;
    int rc = set_all(t);

    if (rc < 0)
        return ev_fail(err, rc, "libcurl refused an option");
    c = api.perform(t->easy);
    if (c != CURLE_OK)
        return explain(t, c, err);
    api.getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->out->status = (int)status;
    return 0;
}

/* Names the place, never a query or a password in the URL. */
static void wrap(const struct ev_httpc_request *rq, struct ev_err *err)
{
    const char *url = rq->url ? rq->url : "", *at = strchr(url, '@');
    size_t n = strcspn(url, "?#");

    if (!one_line(url) || at || n > 200)
        n = 0;
    ev_err_wrap(err, "%s %.*s", rq->method && is_token(rq->method) ? rq->method : "GET", (int)n, url);
}

int ev_httpc_request(const struct ev_httpc_request *rq, struct ev_httpc_response *out, struct ev_err *err)
{
    struct transfer t = { .rq = rq, .out = out };
    int rc;

    memset(out, 0, sizeof *out);
    ev_buf_init(&out->body, rq->max_body ? rq->max_body : BODY_MAX);
    EV_TRY(check(rq, err));
    EV_TRY(need_library(err));
    t.easy = api.init();
    if (!t.easy)
        EV_TRY(ev_fail(err, -ENOMEM, "libcurl"));
    EV_TRY(run(&t, err));
out:
    if (t.easy)
        api.cleanup(t.easy);
    if (t.headers)
        api.slist_free(t.headers);
    if (rc < 0) {
        ev_httpc_response_fini(out);
        wrap(rq, err);
    }
    return rc;
}

const char *ev_httpc_header(const struct ev_httpc_response *r, const char *name)
{
    for (size_t i = 0; i < r->n_headers; i++)
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}

void ev_httpc_response_fini(struct ev_httpc_response *r)
{
    drop_headers(r);
    ev_buf_fini(&r->body);
    r->status = 0;
}
