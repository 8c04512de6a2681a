/* test_tls_ctx.c — what our TLS speaks, and to whom: authorities and names, ALPN, versions, ciphers, no
 * resumption, no renegotiation; a foreign client asks for what ours never would. */
#include <openssl/ssl.h>

#include "tls_link.h"

static void web_pki(const char *what, struct ev_cert *cert, const char *sni, const char *file, bool good)
{
    struct link l;

    link_init(&l);
    l.cert = cert;
    l.cc = (struct ev_tls_client_conf){ .sni = sni, .ca_file = file };
    link_run(&l);
    OK(good == (l.c.s != NULL), "%s: %s (%s)", what, good ? "accepted" : "refused", l.c.msg);
    if (!good)
        OK(l.c.code == EV_ETLS || l.c.code == EV_EUSAGE || l.c.code == EV_ECONFIG, "its code %s",
           ev_err_name(l.c.code));
    if (!good && l.c.code == EV_ETLS)
        EQ_STR(l.c.reason, "tls-certificate", "its reason");
    link_close(&l, "WebPKI: open handles");
}

static void protocols(bool http2, const char *offer, const char *want)
{
    struct link l;

    link_init(&l);
    l.sc.http2 = http2;
    l.cc.alpn = offer;
    link_run(&l);
    OK((want != NULL) == (l.c.s != NULL), "client offers %s, server %s: %s", offer, http2 ? "h2 too" : "http/1.1",
       want ? "agreed" : "refused");
    if (want && l.c.s) {
        EQ_STR(ev_tls_alpn(l.c.s), want, "client's view");
        EQ_STR(ev_tls_alpn(l.s.s), want, "server's view");
    }
    link_close(&l, "ALPN: open handles");
}

static void refused_name(void)
{
    struct link l;

    link_init(&l);
    l.refuse_sni = 1;
    l.cc.sni = NULL;
    link_run(&l);
    EQ_INT(l.selected, 1, "select is asked");
    EQ_STR(l.sni, "", "also without a name");
    OK(l.c.s == NULL && l.s.s == NULL, "and can refuse (%s)", l.c.msg);
    link_close(&l, "refused name: open handles");
}

/* --- a foreign client, straight on OpenSSL, to ask for what ours never would -------------------- */

struct foreign { SSL_CTX *c; SSL *ssl; BIO *in, *out; struct ev_stream *plain; int done, bad; };

static void foreign_step(struct foreign *f)
{
    char room[16384];
    int rc = f->done ? 1 : SSL_do_handshake(f->ssl), n;

    if (rc == 1) {
        f->done = 1;
        SSL_read(f->ssl, room, sizeof room);            /* takes a ticket, if there were one */
    } else if (SSL_get_error(f->ssl, rc) != SSL_ERROR_WANT_READ) {
        f->bad = 1;
    }
    while ((n = BIO_read(f->out, room, sizeof room)) > 0)
        if (ev_stream_write(f->plain, ev_slice_of(room, (size_t)n)) < 0)
            f->bad = 1;
}

static void foreign_data(void *ctx, ev_slice b)
{
    struct foreign *f = ctx;

    BIO_write(f->in, b.p, (int)b.n);
    foreign_step(f);
}

static void foreign_eof(void *ctx)
{
    ((struct foreign *)ctx)->bad = 1;
}

static void foreign_open(struct foreign *f, struct ev_stream *plain, int version, const char *ciphers, SSL_SESSION *old)
{
    static const struct ev_stream_cb cb = { foreign_data, foreign_eof, NULL, NULL };

    memset(f, 0, sizeof *f);
    f->plain = plain;
    f->c = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(f->c, version < TLS1_2_VERSION ? 0 : version);
    SSL_CTX_set_max_proto_version(f->c, version);
    SSL_CTX_set_security_level(f->c, 0);
    if (ciphers)
        SSL_CTX_set_cipher_list(f->c, ciphers);
    f->ssl = SSL_new(f->c);
    f->in = BIO_new(BIO_s_mem());
    f->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(f->in, -1);
    SSL_set_bio(f->ssl, f->in, f->out);
    SSL_set_connect_state(f->ssl);
    if (old)
        SSL_set_session(f->ssl, old);
    ev_stream_set_cb(plain, &cb, f);
    ev_stream_read_start(plain);
    foreign_step(f);
}

static void foreign_close(struct foreign *f)
{
    SSL_free(f->ssl);
    SSL_CTX_free(f->c);
    ev_stream_close(f->plain);
}

static void foreign_client(int version, const char *ciphers, bool good, const char *what)
{
    SSL_SESSION *session = NULL;

    for (int round = 0; round < (good ? 2 : 1); round++) {
        struct link l;
        struct foreign f;
        struct ev_stream *a;
        uint8_t x[32];

        link_init(&l);
        a = link_serve(&l);
        foreign_open(&f, a, version, ciphers, session);
        turn_until(rt, &l.s.opened);
        OK(good == (l.s.s != NULL), "%s: %s", what, good ? "spoken" : "refused");
        if (good) {
            turn_for(rt, 20);
            if (ev_stream_write(l.s.s, EV_LIT("hi")) < 0)
                abort();
            turn_for(rt, 20);
            EQ_INT(SSL_session_reused(f.ssl), 0, "no session is resumed");
            SSL_SESSION_free(session);
            session = SSL_get1_session(f.ssl);
            OK(!SSL_SESSION_has_ticket(session), "and there is no ticket");
            EQ_INT(SSL_SESSION_get_max_early_data(session), 0, "no early data");
            SSL_shutdown(f.ssl);
        }
        if (good && version == TLS1_2_VERSION) {
            EQ_INT(ev_tls_exporter(l.s.s, "EXPORTER-x", x, NULL), EV_ETLS, "no exporter below TLS 1.3");
        }
        foreign_close(&f);
        ev_tls_ctx_free(l.ctx);
        link_close(&l, "foreign client: open handles");
    }
    SSL_SESSION_free(session);
}

/* close_notify comes with the last data, and no FIN after it. */
static void notify_without_fin(void)
{
    struct link l;
    struct foreign f;
    struct ev_stream *a;

    link_init(&l);
    a = link_serve(&l);
    foreign_open(&f, a, TLS1_3_VERSION, NULL, NULL);
    turn_until(rt, &l.s.opened);
    turn_until(rt, &f.done);
    SSL_write(f.ssl, "last words", 10);
    SSL_shutdown(f.ssl);
    foreign_step(&f);
    l.s.stop_after_first = 1;
    ev_stream_read_start(l.s.s);
    OK(wait_bytes(&l.s, 10), "data");
    turn_for(rt, 20);
    EQ_INT(l.s.eof, 0, "no eof while reading is stopped");
    ev_stream_read_start(l.s.s);
    OK(turn_until(rt, &l.s.eof), "eof then, although nothing more arrives");
    foreign_close(&f);
    ev_tls_ctx_free(l.ctx);
    link_close(&l, "close_notify without FIN: open handles");
}

/* A real ClientHello, cut at every byte and with every byte flipped: refused, at once, each time. */
static int refuses(const uint8_t *hello, size_t n)
{
    struct link l;
    struct ev_stream *a, *b;
    int refused;

    link_init(&l);
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0 || ev_stream_write(a, ev_slice_of(hello, n)) < 0)
        abort();
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
    ev_stream_shutdown(a);
    refused = turn_until(rt, &l.s.opened) && !l.s.s && l.s.code && l.s.code != -ETIMEDOUT;
    ev_stream_close(a);
    ev_tls_ctx_free(l.ctx);
    seen_fini(&l.c);
    seen_fini(&l.s);
    return refused;
}

static void hostile_hello(void)
{
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(c);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    uint8_t hello[1024];
    int n, cut = 0, flipped = 0;

    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    SSL_set_tlsext_host_name(ssl, "app.cages.localhost");
    SSL_do_handshake(ssl);
    n = BIO_read(out, hello, sizeof hello);
    SSL_free(ssl);
    SSL_CTX_free(c);
    for (int i = 0; i <= n; i++)
        cut += refuses(hello, (size_t)i);
    for (int i = 0; i < n; i++) {
        hello[i] ^= 0xff;
        flipped += refuses(hello, (size_t)n);
        hello[i] ^= 0xff;
    }
    OK(n > 200, "a ClientHello of %d bytes", n);
    EQ_INT(cut, n + 1, "cut at every byte");
    EQ_INT(flipped, n, "every byte flipped");
    expect_closed(rt, "hostile hello: open handles");
}

static void renegotiation(void)
{
    struct link l;
    struct foreign f;
    struct ev_stream *a;
    int before;

    link_init(&l);
    a = link_serve(&l);
    foreign_open(&f, a, TLS1_2_VERSION, NULL, NULL);
    turn_until(rt, &l.s.opened);
    turn_until(rt, &f.done);
    ev_stream_read_start(l.s.s);
    before = l.selected;
    EQ_INT(SSL_renegotiate(f.ssl), 1, "a client wants to renegotiate");
    f.done = 0;
    foreign_step(&f);
    turn_for(rt, 50);
    EQ_INT(l.selected, before, "a client that renegotiates gets no second handshake");
    EQ_INT(f.done, 0, "its handshake never ends");
    foreign_close(&f);
    ev_tls_ctx_free(l.ctx);
    link_close(&l, "renegotiation: open handles");
}

static void not_tls(void)
{
    struct ev_stream *a, *b;
    uint8_t out[32];
    struct ev_tls_client_conf none = { .ca_file = ca_file };
    struct seen x;

    stream_pair(&a, &b);
    EQ_INT(ev_tls_exporter(a, "x", out, NULL), EV_EUSAGE, "a plain stream has no exporter");
    EQ_STR(ev_tls_alpn(a), "", "nor ALPN");
    EQ_STR(ev_tls_version(a), "", "nor a version");
    seen_init(&x);
    ev_tls_connect(rt, &none, a, seen_done, &x);
    OK(turn_until(rt, &x.opened), "no name to check");
    EQ_INT(x.code, EV_EUSAGE, "is wrong usage");
    ev_stream_close(b);
    seen_fini(&x);
    expect_closed(rt, "not TLS: open handles");
}

int main(void)
{
    if (tls_test_begin() < 0)
        return 1;
    web_pki("our authority", leaf, "app.cages.localhost", ca_file, true);
    web_pki("another name", leaf, "other.cages.localhost", ca_file, false);
    web_pki("an address", leaf, "127.0.0.1", ca_file, false);
    web_pki("a stranger", stranger, "app.cages.localhost", ca_file, false);
    web_pki("the system's authorities", leaf, "app.cages.localhost", NULL, false);
    web_pki("no such file", leaf, "app.cages.localhost", "/no/such/file.pem", false);
    web_pki("no name", leaf, NULL, ca_file, false);
    protocols(false, "http/1.1", "http/1.1");
    protocols(true, "h2", "h2");
    protocols(true, "http/1.1", "http/1.1");
    protocols(false, "h2", NULL);
    protocols(true, "spdy/3", NULL);
    refused_name();
    foreign_client(TLS1_3_VERSION, NULL, true, "TLS 1.3");
    foreign_client(TLS1_2_VERSION, NULL, true, "TLS 1.2");
    foreign_client(TLS1_1_VERSION, NULL, false, "TLS 1.1");
    foreign_client(TLS1_2_VERSION, "AES128-SHA", false, "no forward secrecy");
    foreign_client(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", false, "CBC");
    notify_without_fin();
    hostile_hello();
    renegotiation();
    not_tls();
    return tls_test_end();
}
