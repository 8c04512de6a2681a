/* fuzz_http1.c — any bytes through the HTTP/1 reader. Promises: any split of the bytes gives the same
 * events, the same error and the same status; and a head that was read, written on for the next hop
 * and read again says the same, framing above all.
 * Byte 0 of the input: bit 0 response, bit 1 answers HEAD; byte 1 seeds the split. */
#include <stdio.h>

#include "codec/http1.h"
#include "fuzz.h"

static void note(struct ev_buf *log, const char *what, ev_slice s)
{
    demand(ev_buf_printf(log, "%s %zu ", what, s.n) == 0 && ev_buf_put_slice(log, s) == 0 &&
           ev_buf_putc(log, '\n') == 0, "room for the log");
}

static void note_fields(struct ev_buf *log, const struct ev_http1_field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        note(log, "name", f[i].name);
        note(log, "value", f[i].value);
    }
}

/* Written with the same framing, the head must be read as the same message. */
static void again(const struct ev_http1_head *h, bool head_asked)
{
    struct ev_http1_edit e = { .body = h->body, .length = h->length, .upgrade = h->upgrade,
                               .connection = h->upgrade ? "upgrade" : h->keep_alive ? "keep-alive" : "close" };
    static const struct ev_http1_field host = { { (const uint8_t *)"host", 4 }, { (const uint8_t *)"h", 1 } };
    struct ev_buf out = EV_BUF_INIT(2 * EV_HTTP1_HEAD_MAX);
    struct ev_http1 p;
    ev_slice data, value;
    size_t used, i = 0;

    if (h->kind == EV_HTTP1_REQUEST && !ev_http1_find(h, "host", &i, &value)) {
        e.set = &host;
        e.n_set = 1;
    }
    demand(ev_http1_put_head(&out, h, &e) == 0, "a head fits twice its bound");
    ev_http1_init(&p, h->kind);
    ev_http1_answers_head(&p, head_asked);
    if (out.n < EV_HTTP1_HEAD_MAX && h->n_fields + 4 < EV_HTTP1_FIELDS) {
        demand(ev_http1_next(&p, ev_buf_slice(&out), &used, &data, NULL) == EV_HTTP1_HEAD, "reads what it wrote");
        demand(used == out.n, "one head");
        demand(p.head.body == h->body && (h->body != EV_HTTP1_LENGTH || p.head.length == h->length), "same framing");
        demand(h->kind == EV_HTTP1_RESPONSE ? p.head.status == h->status : ev_slice_eq(p.head.method, h->method),
               "same message");
        demand(p.head.upgrade == h->upgrade || !h->upgrade, "same upgrade");
    }
    ev_http1_fini(&p);
    ev_buf_fini(&out);
}

/* Runs all of `in` in pieces; adjacent DATA is one. */
static void transcript(ev_slice in, uint8_t flags, uint32_t seed, struct ev_buf *log, struct ev_buf *body)
{
    struct ev_http1 p;
    struct ev_err err = EV_ERR_INIT;
    int rc = 0;

    ev_http1_init(&p, flags & 1 ? EV_HTTP1_RESPONSE : EV_HTTP1_REQUEST);
    ev_http1_answers_head(&p, flags & 2);
    while (in.n && rc >= 0) {
        size_t n = seed == 0 ? in.n : seed == 1 ? 1 : 1 + (seed >> 16) % 61, used;
        ev_slice piece, data;

        seed = seed > 1 ? seed * 1664525u + 1013904223u : seed;
        piece = ev_slice_of(in.p, n < in.n ? n : in.n);
        in = ev_slice_of(in.p + piece.n, in.n - piece.n);
        while ((rc = ev_http1_next(&p, piece, &used, &data, &err)) > 0) {
            demand(used <= piece.n, "used at most what was given");
            piece = ev_slice_of(piece.p + used, piece.n - used);
            if (rc == EV_HTTP1_HEAD) {
                note(log, "head", p.head.method);
                note(log, "target", p.head.target);
                demand(ev_buf_printf(log, "%d %u %d %llu %d%d%d%d\n", p.head.minor, p.head.status, p.head.body,
                                     (unsigned long long)p.head.length, p.head.keep_alive, p.head.upgrade,
                                     p.head.expect_continue, p.head.te_trailers) == 0, "room");
                note_fields(log, p.head.fields, p.head.n_fields);
                if (seed == 0)
                    again(&p.head, flags & 2);
            } else if (rc == EV_HTTP1_DATA) {
                demand(data.n > 0 && ev_buf_put_slice(body, data) == 0, "data");
            } else {
                note(log, "end", ev_buf_slice(body));
                ev_buf_clear(body);
                note_fields(log, p.trailers, p.n_trailers);
            }
        }
        demand(rc < 0 || used == piece.n, "MORE means all was used");
    }
    note(log, "left", ev_buf_slice(body));
    if (rc < 0) {
        demand(p.status >= 400 && err.msg[0], "an error has its status and text");
        note(log, "error", ev_slice_str(err.msg));
    } else {
        rc = ev_http1_eof(&p, NULL);
    }
    demand(ev_buf_printf(log, "rc %d status %u\n", rc, p.status) == 0, "room");
    ev_buf_clear(body);
    ev_http1_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ev_buf whole = EV_BUF_INIT(1 << 24), pieces = EV_BUF_INIT(1 << 24), body = EV_BUF_INIT(1 << 24);
    ev_slice in;

    if (size < 2 || size > 1 << 17)
        return 0;
    in = ev_slice_of(data + 2, size - 2);
    transcript(in, data[0], 0, &whole, &body);
    transcript(in, data[0], 1, &pieces, &body);
    demand(ev_slice_eq(ev_buf_slice(&whole), ev_buf_slice(&pieces)), "byte by byte as in one piece");
    ev_buf_clear(&pieces);
    transcript(in, data[0], data[1] + 2u, &pieces, &body);
    demand(ev_slice_eq(ev_buf_slice(&whole), ev_buf_slice(&pieces)), "in pieces as in one piece");
    ev_buf_fini(&whole);
    ev_buf_fini(&pieces);
    ev_buf_fini(&body);
    return 0;
}
