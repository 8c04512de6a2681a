/* tls.c — TLS over a stream. See tls.h; what it speaks is set in tls_ctx.c.
 *
 *     handshaking ──▶ open ──▶ closed            the plain stream below belongs to us; our memory
 *          └────────▶ failed: closed, done(err)  goes after its close callback
 *
 * OpenSSL reads ciphertext straight out of the buffer that the loop has just filled, and writes
 * records into a buffer that is lent to one connection at a time, so an open connection that waits
 * holds no buffer of ours. Ciphertext is kept (`left`) only when the owner stops reading half-way
 * through a block. A client's own Finished is held back until accept_peer has agreed. */
#include "net/tls_internal.h"

#include "crypto/ossl.h"

enum {
    ACCEPT_MS = 10 * 1000, CONNECT_MS = 15 * 1000,
    LEFT_MAX = 1024 * 1024,
    WRITE_STEP = 64 * 1024,             /* four records go to the kernel with one call */
    SPARE_MAX = 128 * 1024,
    RECORD = 16 * 1024,
};

enum state { HANDSHAKING, OPEN, BROKEN };

struct tls {
    struct ev_stream s;
    struct ev_stream *plain;
    SSL *ssl;
    enum state state;
    struct ev_tls_ctx *ctx;             /* a server's, or NULL */
    int (*accept_peer)(void *ctx, const struct ev_cert *leaf, struct ev_err *err);
    void *accept_ctx;
    void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err);
    void *done_ctx;
    struct ev_timer *deadline;
    struct ev_soon soon;
    struct ev_tls_wire wire;
    struct ev_buf left;
    struct ev_err *why;                 /* a fatal error that waits for the data before it */
};

static struct tls *tls_of(const struct ev_stream *s)
{
    return (struct tls *)(uintptr_t)s;          /* first member */
}

/* --- records on their way out ----------------------------------------------------------------- */

/* Before OpenSSL may write: a buffer. After: to the plain stream, and the buffer back. */
static void borrow_out(struct tls *t)
{
    if (!t->wire.out.p && t->s.rt->spare.p) {
        t->wire.out = t->s.rt->spare;
        t->s.rt->spare = (struct ev_buf){ 0 };
        ev_buf_clear(&t->wire.out);
    }
    t->wire.out.max = EV_QUEUE_MAX + EV_QUEUE_ROOM;
}

static int flush_out(struct tls *t)
{
    int rc = t->wire.out.n ? ev_stream_write_raw(t->plain, ev_buf_slice(&t->wire.out)) : 0;

    ev_buf_clear(&t->wire.out);
    if (t->s.rt->spare.p || t->wire.out.cap > SPARE_MAX) {
        ev_buf_fini(&t->wire.out);
    } else {
        t->s.rt->spare = t->wire.out;
        t->wire.out = (struct ev_buf){ 0 };
    }
    return rc;
}

/* --- the handshake ---------------------------------------------------------------------------- */

static void end_handshake(struct tls *t, enum state state)
{
    t->state = state;
    ev_timer_stop(t->deadline);
    t->deadline = NULL;
}

static void handshake_failed(struct tls *t, struct ev_err *err)
{
    void (*done)(void *, struct ev_stream *, const struct ev_err *) = t->done;
    void *ctx = t->done_ctx;

    end_handshake(t, BROKEN);
    ev_err_wrap(err, "TLS handshake");
    if (flush_out(t) >= 0)              /* our alert */
        ev_stream_shutdown(t->plain);
    ev_stream_close(&t->s);
    done(ctx, NULL, err);
}

static void deadline_passed(void *ctx)
{
    struct tls *t = ctx;
    struct ev_err err = EV_ERR_INIT;

    ev_fail_reason(&err, -ETIMEDOUT, "tls-timeout", "the peer took too long");
    handshake_failed(t, &err);
}

static int judge_peer(struct tls *t, struct ev_err *err)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    struct ev_cert *leaf = NULL;
    uint8_t *der = NULL;
    int n, rc;

    if (!t->accept_peer)
        return 0;
    n = x ? i2d_X509(x, &der) : -1;
    if (n < 0)
        return ev_tls_fail(err, EV_ETLS, "tls-certificate", "the peer's certificate");
    EV_TRY(ev_cert_from_der(ev_slice_of(der, (size_t)n), &leaf, err));
    EV_TRY(t->accept_peer(t->accept_ctx, leaf, err));
out:
    if (rc < 0 && err->code == 0)
        ev_fail(err, rc, "the peer was refused");
    ev_cert_free(leaf);
    OPENSSL_free(der);
    return rc;
}

static void explain(struct tls *t, int ssl_error, struct ev_err *err)
{
    long verdict = SSL_get_verify_result(t->ssl);

    if (verdict != X509_V_OK) {
        ev_fail_reason(err, EV_ETLS, "tls-certificate", "the peer's certificate: %s",
                       X509_verify_cert_error_string(verdict));
        ERR_clear_error();
    } else if (ssl_error != SSL_ERROR_SSL || ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ev_fail_reason(err, EV_EEOF, "tls-truncated", "the peer closed the connection");
        ERR_clear_error();
    } else {
        ev_tls_fail(err, EV_ETLS, "tls-protocol", "TLS");
    }
}

static void handshake(struct tls *t)
{
    struct ev_err err = EV_ERR_INIT;
    int rc, e;

    borrow_out(t);
    ERR_clear_error();
    rc = SSL_do_handshake(t->ssl);
    if (t->s.closed)                    /* by its owner, inside select */
        return;
    if (rc != 1) {
        e = SSL_get_error(t->ssl, rc);
        if (e != SSL_ERROR_WANT_READ)
            explain(t, e, &err);
        else if ((rc = flush_out(t)) < 0)
            ev_fail(&err, rc, "write: %s", ev_err_text(rc));
        if (err.code)
            handshake_failed(t, &err);
        return;
    }
    rc = judge_peer(t, &err);
    if (t->s.closed)
        return;
    if (rc < 0)
        ev_buf_clear(&t->wire.out);          /* our Finished stays here */
    else if ((rc = flush_out(t)) < 0)
        ev_fail(&err, rc, "write: %s", ev_err_text(rc));
    if (rc < 0) {
        handshake_failed(t, &err);
        return;
    }
    end_handshake(t, OPEN);
    t->done(t->done_ctx, &t->s, NULL);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void broke(struct tls *t, int ssl_error)
{
    t->why = ev_alloc(sizeof *t->why);
    explain(t, ssl_error, t->why);
}

/* Up to 64 KiB of plaintext into the loop's second buffer. → bytes; *e says why it stopped. */
static size_t decrypt(struct tls *t, int *e)
{
    uint8_t *to = t->s.rt->plain;
    size_t n = 0;

    *e = SSL_ERROR_NONE;
    while (EV_READ_CHUNK - n >= RECORD) {
        int rc;

        ERR_clear_error();
        rc = SSL_read(t->ssl, to + n, (int)(EV_READ_CHUNK - n));
        if (rc <= 0) {
            *e = SSL_get_error(t->ssl, rc);
            break;
        }
        n += (size_t)rc;
    }
    return n;
}

static void read_records(struct tls *t)
{
    int rc;

    while (ev_stream_wants(&t->s) && !t->why) {
        int e;
        size_t n;

        borrow_out(t);
        n = decrypt(t, &e);
        rc = flush_out(t);              /* answers to key updates; after our shutdown there are none */
        if (rc < 0 && !t->s.shut && !t->wire.ended)
            e = SSL_ERROR_SYSCALL;
        if (e != SSL_ERROR_NONE && e != SSL_ERROR_WANT_READ && e != SSL_ERROR_ZERO_RETURN)
            broke(t, e);
        if (n)
            ev_stream_give_data(&t->s, ev_slice_of(t->s.rt->plain, n));
        if (e == SSL_ERROR_WANT_READ)
            break;
        if (e == SSL_ERROR_ZERO_RETURN && ev_stream_wants(&t->s))
            ev_stream_give_eof(&t->s);
    }
    if (t->why && ev_stream_wants(&t->s))
        ev_stream_give_fail(&t->s, t->why);
}

static void pace(struct tls *t)
{
    if (t->s.closed || t->s.dead || t->plain->eof)
        return;
    if (t->state == HANDSHAKING || ev_stream_wants(&t->s))
        ev_stream_read_start(t->plain);
    else
        ev_stream_read_stop(t->plain);
}

static void pump(struct tls *t)
{
    if (t->state == HANDSHAKING)
        handshake(t);
    if (t->state == OPEN && !t->s.closed)
        read_records(t);
    pace(t);
}

static void pump_left(void *ctx)
{
    struct tls *t = ctx;

    t->wire.in = ev_buf_slice(&t->left);
    pump(t);
    ev_buf_consume(&t->left, t->left.n - t->wire.in.n);
    if (t->left.n == 0)
        ev_buf_fini(&t->left);
    t->wire.in = (ev_slice){ NULL, 0 };
}

static void below_data(void *ctx, ev_slice bytes)
{
    struct tls *t = ctx;
    struct ev_err err = EV_ERR_INIT;
    int rc;

    if (t->left.n == 0) {
        t->wire.in = bytes;
        pump(t);
        bytes = t->wire.in;
        t->wire.in = (ev_slice){ NULL, 0 };
        rc = t->s.closed || bytes.n == 0 ? 0 : ev_buf_put_slice(&t->left, bytes);
    } else {
        rc = ev_buf_put_slice(&t->left, bytes);
        if (rc >= 0)
            pump_left(t);
    }
    if (rc < 0 && !t->s.closed) {
        ev_fail(&err, rc, "TLS: more ciphertext than its owner reads");
        ev_stream_give_fail(&t->s, &err);
    }
}

static void below_eof(void *ctx)
{
    struct tls *t = ctx;

    t->wire.ended = true;
    pump_left(t);
}

static void below_fail(void *ctx, const struct ev_err *err)
{
    struct tls *t = ctx;
    struct ev_err copy = *err;

    if (t->state == HANDSHAKING)
        handshake_failed(t, &copy);
    else
        ev_stream_give_fail(&t->s, err);
}

static void below_drained(void *ctx)
{
    struct tls *t = ctx;

    if (t->state == OPEN)
        ev_stream_give_drained(&t->s);
}

/* --- the stream's operations ------------------------------------------------------------------ */

static void tls_read_start(struct ev_stream *s)
{
    struct tls *t = tls_of(s);

    if (t->state != OPEN)
        return;
    if (t->left.n || t->wire.ended || t->why || SSL_has_pending(t->ssl) ||
        (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN))
        ev_soon_call(s->rt, &t->soon);
    pace(t);
}

static void tls_read_stop(struct ev_stream *s)
{
    struct tls *t = tls_of(s);

    ev_soon_cancel(s->rt, &t->soon);
    if (t->state == OPEN)
        ev_stream_read_stop(t->plain);
}

static int tls_write(struct ev_stream *s, ev_slice bytes)
{
    struct tls *t = tls_of(s);
    int rc = 0;

    if (t->state != OPEN)
        return -ENOTCONN;
    while (bytes.n && rc >= 0) {
        size_t n = bytes.n < WRITE_STEP ? bytes.n : WRITE_STEP;

        borrow_out(t);
        ERR_clear_error();
        if (SSL_write(t->ssl, bytes.p, (int)n) != (int)n)
            rc = EV_ETLS;
        if (flush_out(t) < 0)
            rc = -EPIPE;
        bytes.p += n;
        bytes.n -= n;
    }
    return rc;
}

static size_t tls_queued(const struct ev_stream *s)
{
    const struct tls *t = tls_of(s);

    return t->state == OPEN ? ev_stream_queued(t->plain) : 0;
}

static void tls_shutdown(struct ev_stream *s)
{
    struct tls *t = tls_of(s);

    if (t->state == OPEN) {
        borrow_out(t);
        ERR_clear_error();
        SSL_shutdown(t->ssl);           /* writes close_notify; the peer's is read like data */
        if (flush_out(t) < 0)
            return;
    }
    ev_stream_shutdown(t->plain);
}

static void tls_free(void *ctx)
{
    struct tls *t = ctx;

    SSL_free(t->ssl);
    ERR_clear_error();
    ev_tls_ctx_drop(t->ctx);
    ev_buf_fini(&t->left);
    ev_buf_fini(&t->wire.out);
    ev_free(t->why);
    ev_stream_fini(&t->s);
}

static void tls_close(struct ev_stream *s)
{
    struct tls *t = tls_of(s);

    end_handshake(t, BROKEN);
    ev_soon_cancel(s->rt, &t->soon);
    t->plain->freed = tls_free;
    t->plain->freed_ctx = t;
    ev_stream_close(t->plain);
}

static int tls_fd(const struct ev_stream *s)
{
    const struct tls *t = tls_of(s);

    return t->plain->ops->fd(t->plain);
}

static const struct ev_stream_ops tls_ops = {
    .read_start = tls_read_start, .read_stop = tls_read_stop, .write = tls_write, .queued = tls_queued,
    .shutdown = tls_shutdown, .close = tls_close, .fd = tls_fd,
};

/* --- beginning -------------------------------------------------------------------------------- */

static void begin(void *ctx)
{
    struct tls *t = ctx;
    struct ev_err err = EV_ERR_INIT;

    t->soon.cb = pump_left;
    if (t->why)
        err = *t->why;
    else if (t->plain->dead || t->plain->eof)
        ev_fail_reason(&err, EV_EEOF, "tls-truncated", "the peer closed the connection");
    if (err.code)
        handshake_failed(t, &err);
    else if (t->ctx)
        pace(t);                        /* a server speaks second */
    else
        pump(t);
}

static struct tls *tls_new(struct ev_stream *take_plain, uint64_t timeout_ms,
                           void (*done)(void *, struct ev_stream *, const struct ev_err *), void *ctx)
{
    static const struct ev_stream_cb below = { below_data, below_eof, below_fail, below_drained };
    struct tls *t = ev_alloc(sizeof *t);

    ev_stream_init(&t->s, take_plain->rt, &tls_ops);
    t->plain = take_plain;
    t->done = done;
    t->done_ctx = ctx;
    ev_buf_init(&t->left, LEFT_MAX);
    t->soon = (struct ev_soon){ .cb = begin, .ctx = t };
    t->deadline = ev_timer_start(take_plain->rt, timeout_ms, false, deadline_passed, t);
    ev_stream_read_stop(take_plain);
    ev_stream_set_cb(take_plain, &below, t);
    ev_soon_call(take_plain->rt, &t->soon);
    return t;
}

static void cannot(struct tls *t, const char *what)
{
    t->why = ev_alloc(sizeof *t->why);
    ev_tls_fail(t->why, EV_ETLS, "", what);
}

struct ev_stream *ev_tls_accept(struct ev_tls_ctx *ctx, struct ev_stream *take_plain,
                                void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err), void *done_ctx)
{
    struct tls *t = tls_new(take_plain, ctx->conf.handshake_timeout_ms ? ctx->conf.handshake_timeout_ms : ACCEPT_MS,
                            done, done_ctx);

    t->ctx = ctx;
    ctx->refs++;
    t->ssl = SSL_new(ctx->ssl);
    if (!t->ssl || !ev_tls_wire_attach(&t->wire, t->ssl)) {
        cannot(t, "TLS connection");
        return &t->s;
    }
    SSL_set_accept_state(t->ssl);
    return &t->s;
}

struct ev_stream *ev_tls_connect(struct ev_rt *rt, const struct ev_tls_client_conf *conf, struct ev_stream *take_plain,
                                 void (*done)(void *ctx, struct ev_stream *s, const struct ev_err *err), void *ctx)
{
    struct tls *t = tls_new(take_plain, conf->timeout_ms ? conf->timeout_ms : CONNECT_MS, done, ctx);
    struct ev_err err = EV_ERR_INIT;

    t->accept_peer = conf->accept_peer;
    t->accept_ctx = conf->ctx;
    if (ev_tls_client_ssl(rt, conf, &t->ssl, &err) < 0) {
        t->why = ev_alloc(sizeof *t->why);
        *t->why = err;
    } else if (!ev_tls_wire_attach(&t->wire, t->ssl)) {
        cannot(t, "TLS connection");
    } else {
        SSL_set_connect_state(t->ssl);
    }
    return &t->s;
}

/* --- what an open connection says about itself ------------------------------------------------ */

static SSL *ssl_of(const struct ev_stream *s)
{
    return s->ops == &tls_ops && tls_of(s)->state == OPEN ? tls_of(s)->ssl : NULL;
}

int ev_tls_exporter(struct ev_stream *s, const char *label, uint8_t out[32], struct ev_err *err)
{
    SSL *ssl = ssl_of(s);

    if (!ssl)
        return ev_fail(err, EV_EUSAGE, "TLS exporter: not an open TLS stream");
    /* Below 1.3 the value need not be unique to the connection (RFC 7627), so it binds nothing. */
    if (SSL_version(ssl) < TLS1_3_VERSION)
        return ev_fail(err, EV_ETLS, "TLS exporter: the connection is %s", SSL_get_version(ssl));
    if (SSL_export_keying_material(ssl, out, 32, label, strlen(label), (const uint8_t *)"", 0, 1) != 1)
        return ev_tls_fail(err, EV_ETLS, "", "TLS exporter");
    return 0;
}

const char *ev_tls_alpn(const struct ev_stream *s)
{
    /* The protocols we speak, spelt as text: OpenSSL's has no terminator. */
    static const char *const known[] = { "h2", "http/1.1" };
    SSL *ssl = ssl_of(s);
    const uint8_t *p = NULL;
    unsigned n = 0;

    if (ssl)
        SSL_get0_alpn_selected(ssl, &p, &n);
    for (size_t i = 0; i < EV_COUNT(known); i++)
        if (n == strlen(known[i]) && memcmp(p, known[i], n) == 0)
            return known[i];
    return "";
}

const char *ev_tls_sni(const struct ev_stream *s)
{
    SSL *ssl = ssl_of(s);
    const char *name = ssl ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;

    return name ? name : "";
}

const char *ev_tls_version(const struct ev_stream *s)
{
    SSL *ssl = ssl_of(s);

    return ssl ? SSL_get_version(ssl) : "";
}
