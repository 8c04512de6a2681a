/* test_tls.c — TLS over streams: versions, who is trusted, what is refused before a byte, silence,
 * truncation, half-close, big certificates, no resumption, closing at each point. */
#include <sys/socket.h>

#include <openssl/ssl.h>

#include "base/file.h"
#include "net.h"
#include "net/tls.h"

static struct ev_rt *rt;
static struct ev_key *ca_key, *leaf_key;
static struct ev_cert *ca, *leaf, *big, *stranger;
static char dir[128], ca_file[200];

/* One connection: a client end and a server end over a socket pair. */
struct link {
    struct seen c, s;
    struct ev_stream *c_pending, *s_pending;
    struct ev_tls_ctx *ctx;
    struct ev_tls_server_conf sc;
    struct ev_tls_client_conf cc;
    struct ev_cert *cert;
    char sni[256];
    int selected, refuse_sni;
    int accepted, accept_rc;
    size_t leaf_len;
    int write_rc;
};

static int choose(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    struct link *l = ctx;

    l->selected++;
    snprintf(l->sni, sizeof l->sni, "%s", sni);
    out->cert = l->cert;
    out->key = leaf_key;
    return l->refuse_sni ? EV_EDENY : 0;
}

static int judge(void *ctx, const struct ev_cert *c, struct ev_err *err)
{
    struct link *l = ctx;

    l->accepted++;
    l->leaf_len = ev_cert_der(c).n;
    l->write_rc = ev_stream_write(l->c_pending, EV_LIT("too early"));
    if (l->accept_rc < 0)
        return ev_fail_reason(err, l->accept_rc, "pcr-mismatch", "PCR0 differs");
    return 0;
}

static struct ev_cert *make(const char *name, bool is_ca, const struct ev_cert *issuer, const struct ev_key *key,
                            const struct ev_key *issuer_key, const char *dns)
{
    const char *names[] = { dns };
    struct ev_cert_conf conf = { .subject = name, .not_before_ms = 1700000000000, .not_after_ms = 4000000000000,
                                 .dns = dns ? names : NULL, .n_dns = dns ? 1 : 0, .ca = is_ca, .path_len = -1 };
    struct ev_cert *c = NULL;
    struct ev_err err = EV_ERR_INIT;

    if (ev_cert_make(&conf, key, issuer, issuer_key, &c, &err) < 0) {
        printf("# %s\n", err.msg);
        abort();
    }
    return c;
}

static void make_certificates(void)
{
    struct ev_buf pem = EV_BUF_INIT(1 << 16);
    char *name = ev_alloc(20001);

    memset(name, 'a', 20000);
    for (size_t i = 60; i < 19990; i += 61)
        name[i] = '.';
    if (ev_key_generate(EV_P256, &ca_key, NULL) < 0 || ev_key_generate(EV_P256, &leaf_key, NULL) < 0)
        abort();
    ca = make("/CN=Test CA", true, NULL, ca_key, ca_key, NULL);
    leaf = make("/CN=leaf", false, ca, leaf_key, ca_key, "app.cages.localhost");
    big = make("/CN=big", false, NULL, leaf_key, leaf_key, name);
    stranger = make("/CN=app.cages.localhost", false, NULL, leaf_key, leaf_key, "app.cages.localhost");
    snprintf(ca_file, sizeof ca_file, "%s/ca.pem", dir);
    if (ev_cert_pem(ca, &pem, NULL) < 0 || ev_file_write(ca_file, ev_buf_slice(&pem), 0600, NULL) < 0)
        abort();
    ev_buf_fini(&pem);
    ev_free(name);
}

static void stream_pair(struct ev_stream **a, struct ev_stream **b)
{
    int fd[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ||
        ev_stream_from_fd(rt, fd[0], a, NULL) < 0 || ev_stream_from_fd(rt, fd[1], b, NULL) < 0)
        abort();
}

static void link_init(struct link *l)
{
    memset(l, 0, sizeof *l);
    seen_init(&l->c);
    seen_init(&l->s);
    l->cert = leaf;
    l->sc = (struct ev_tls_server_conf){ .select = choose, .ctx = l };
    l->cc = (struct ev_tls_client_conf){ .sni = "app.cages.localhost", .accept_peer = judge, .ctx = l };
}

static void link_start(struct link *l)
{
    struct ev_stream *a, *b;

    stream_pair(&a, &b);
    if (ev_tls_server_new(&l->sc, &l->ctx, NULL) < 0)
        abort();
    l->c_pending = ev_tls_connect(rt, &l->cc, a, seen_done, &l->c);
    l->s_pending = ev_tls_accept(l->ctx, b, seen_done, &l->s);
    ev_tls_ctx_free(l->ctx);            /* the connection keeps what it needs */
}

static void link_run(struct link *l)
{
    link_start(l);
    EQ_INT(l->c.opened + l->s.opened, 0, "nothing is called back inside the start");
    turn_until(rt, &l->c.opened);
    turn_until(rt, &l->s.opened);
}

static void link_close(struct link *l, const char *what)
{
    seen_fini(&l->c);
    seen_fini(&l->s);
    expect_closed(rt, what);
}

static int wait_bytes(struct seen *x, size_t n)
{
    for (int i = 0; i < 2000 && x->in.n < n && !x->failed; i++)
        turn_for(rt, 2);
    return x->in.n == n;
}

static void plain_case(void)
{
    struct link l;
    uint8_t a[32], b[32], other[32];

    link_init(&l);
    link_run(&l);
    OK(l.c.s && l.s.s, "both ends are open");
    EQ_STR(ev_tls_version(l.c.s), "TLSv1.3", "version");
    EQ_STR(l.sni, "app.cages.localhost", "select sees the name");
    EQ_STR(ev_tls_sni(l.s.s), "app.cages.localhost", "and so does the connection");
    EQ_STR(ev_tls_alpn(l.c.s), "", "no ALPN");
    EQ_INT(l.accepted, 1, "accept_peer decides once");
    EQ_INT(l.write_rc, -ENOTCONN, "nothing can be written while it decides");
    EQ_INT(l.leaf_len, ev_cert_der(leaf).n, "it sees the leaf");
    EQ_INT(ev_tls_exporter(l.c.s, "EXPORTER-ev-cage-provision", a, NULL), 0, "exporter, client");
    EQ_INT(ev_tls_exporter(l.s.s, "EXPORTER-ev-cage-provision", b, NULL), 0, "exporter, server");
    EQ_INT(ev_tls_exporter(l.s.s, "EXPORTER-other", other, NULL), 0, "exporter, another label");
    OK(memcmp(a, b, 32) == 0 && memcmp(a, other, 32) != 0, "equal on both sides, different by label");
    ev_stream_read_start(l.s.s);
    ev_stream_read_start(l.c.s);
    EQ_INT(ev_stream_write(l.c.s, EV_LIT("ping")), 0, "write");
    OK(wait_bytes(&l.s, 4), "read");
    ev_stream_shutdown(l.c.s);
    EQ_INT(ev_stream_write(l.c.s, EV_LIT("x")), -EPIPE, "no write after shutdown");
    OK(turn_until(rt, &l.s.eof), "close_notify is eof");
    EQ_INT(ev_stream_write(l.s.s, EV_LIT("pong, after your close_notify")), 0, "half-closed");
    OK(wait_bytes(&l.c, 29), "the answer arrives");
    ev_stream_shutdown(l.s.s);
    OK(turn_until(rt, &l.c.eof), "eof the other way");
    EQ_INT(l.c.failed + l.s.failed, 0, "no failure");
    link_close(&l, "plain case: open handles");
}

static void peer_refused(void)
{
    struct link l;

    link_init(&l);
    l.accept_rc = EV_EVERIFY;
    link_run(&l);
    OK(l.c.s == NULL && l.c.failed, "refused by accept_peer");
    EQ_INT(l.c.code, EV_EVERIFY, "its code");
    EQ_STR(l.c.reason, "pcr-mismatch", "its reason");
    OK(strstr(l.c.msg, "PCR0 differs") != NULL, "%s", l.c.msg);
    OK(l.s.s == NULL && l.s.failed, "the server never saw the client's Finished");
    EQ_INT(l.s.in.n, 0, "nor a byte");
    link_close(&l, "peer refused: open handles");
}

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

static void big_certificate(void)
{
    struct link l;

    link_init(&l);
    l.cert = big;
    link_run(&l);
    OK(l.c.s && l.leaf_len > 20000, "a certificate of %zu bytes passes", l.leaf_len);
    link_close(&l, "big certificate: open handles");
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

static void silent_client(void)
{
    struct link l, m;
    struct ev_stream *a, *b;
    uint64_t before = ev_rt_now_ms(rt);

    link_init(&l);
    link_init(&m);
    l.sc.handshake_timeout_ms = 200;
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0)
        abort();
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
    link_run(&m);
    OK(m.c.s && m.s.s && l.s.opened == 0, "a silent client holds nobody");
    OK(turn_until(rt, &l.s.opened), "and is dropped");
    EQ_INT(l.s.code, -ETIMEDOUT, "as a time-out");
    OK(ev_rt_now_ms(rt) - before >= 200, "at its deadline");
    ev_stream_close(a);
    ev_tls_ctx_free(l.ctx);
    link_close(&m, "beside the silent one");
    link_close(&l, "silent client: open handles");
}

static void silent_server(void)
{
    struct link l;
    struct ev_stream *a, *b;

    link_init(&l);
    l.cc.timeout_ms = 100;
    stream_pair(&a, &b);
    l.c_pending = ev_tls_connect(rt, &l.cc, a, seen_done, &l.c);
    OK(turn_until(rt, &l.c.opened), "a silent server");
    EQ_INT(l.c.code, -ETIMEDOUT, "is a time-out");
    ev_stream_close(b);
    link_close(&l, "silent server: open handles");
}

/* Bytes that are no TLS, or TLS cut short. */
static void garbage(const void *p, size_t n, bool close_after)
{
    struct link l;
    struct ev_stream *a, *b;

    link_init(&l);
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0)
        abort();
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
    if (ev_stream_write(a, ev_slice_of(p, n)) < 0)
        abort();
    if (close_after)
        ev_stream_shutdown(a);
    OK(turn_until(rt, &l.s.opened) && l.s.s == NULL, "%zu bytes of garbage: %s", n, l.s.msg);
    ev_stream_close(a);
    ev_tls_ctx_free(l.ctx);
    link_close(&l, "garbage: open handles");
}

static void truncated(void)
{
    struct link l;

    link_init(&l);
    link_run(&l);
    ev_stream_read_start(l.s.s);
    if (ev_stream_write(l.c.s, EV_LIT("half of it")) < 0)
        abort();
    ev_stream_close(l.c.s);             /* no close_notify */
    l.c.s = NULL;
    OK(turn_until(rt, &l.s.failed), "an end without close_notify is a failure");
    EQ_INT(l.s.code, EV_EEOF, "its code");
    EQ_STR(l.s.reason, "tls-truncated", "its reason");
    EQ_STR(ev_buf_str(&l.s.in), "half of it", "after the data");
    EQ_INT(l.s.eof, 0, "and no eof");
    link_close(&l, "truncated: open handles");
}

static void bulk(void)
{
    enum { N = 3 << 20 };
    uint8_t *block = ev_alloc(N);
    struct link l;
    int rc;
    size_t total = 0;

    for (size_t i = 0; i < N; i++)
        block[i] = (uint8_t)(i * 13 + i / 255);
    link_init(&l);
    link_run(&l);
    while ((rc = ev_stream_write(l.c.s, ev_slice_of(block, N))) == 0)
        total += N;
    EQ_INT(rc, -ENOBUFS, "a reader that stands still: 16 MiB and no more");
    OK(total >= 12u << 20, "%zu queued", ev_stream_queued(l.c.s));
    turn_for(rt, 30);
    EQ_INT(l.s.data_calls, 0, "nothing is read before read_start");
    l.s.stop_after_first = 1;
    for (int i = 1; i <= 5; i++) {
        ev_stream_read_start(l.s.s);
        for (int k = 0; k < 200 && l.s.data_calls < i; k++)
            turn_for(rt, 1);
        turn_for(rt, 5);
        EQ_INT(l.s.data_calls, i, "one read_start, one block");
    }
    l.s.stop_after_first = 0;
    ev_stream_read_start(l.s.s);
    OK(turn_until(rt, &l.c.drained), "drained");
    OK(wait_bytes(&l.s, total), "every byte arrives");
    for (size_t i = 0; i < l.s.in.n; i += N)
        if (memcmp(l.s.in.p + i, block, N) != 0)
            OK(0, "block at %zu differs", i);
    ev_stream_shutdown(l.c.s);
    ev_stream_close(l.c.s);
    l.c.s = NULL;
    OK(turn_until(rt, &l.s.eof), "shutdown, then close: eof");
    ev_free(block);
    link_close(&l, "bulk: open handles");
}

/* The last data and close_notify come while the owner does not read. */
static void late_eof(void)
{
    struct link l;

    link_init(&l);
    link_run(&l);
    if (ev_stream_write(l.c.s, EV_LIT("last words")) < 0)
        abort();
    ev_stream_shutdown(l.c.s);
    turn_for(rt, 20);
    l.s.stop_after_first = 1;
    ev_stream_read_start(l.s.s);
    OK(wait_bytes(&l.s, 10), "data");
    turn_for(rt, 20);
    EQ_INT(l.s.eof, 0, "no eof while reading is stopped");
    ev_stream_read_start(l.s.s);
    EQ_INT(l.s.eof, 0, "nor inside read_start");
    OK(turn_until(rt, &l.s.eof), "eof then");
    link_close(&l, "late eof: open handles");
}

static void cancel_at_each_turn(void)
{
    for (int side = 0; side < 2; side++)
        for (int turns = 0; turns < 8; turns++) {
            struct link l;

            link_init(&l);
            link_start(&l);
            for (int i = 0; i < turns; i++)
                ev_rt_run_once(rt);
            if (side == 0 && !l.c.opened) {
                ev_stream_close(l.c_pending);
                turn_for(rt, 10);
                EQ_INT(l.c.opened, 0, "a cancelled client hears nothing");
            }
            if (side == 1 && !l.s.opened) {
                ev_stream_close(l.s_pending);
                turn_for(rt, 10);
                EQ_INT(l.s.opened, 0, "a cancelled server hears nothing");
            }
            turn_until(rt, side ? &l.c.opened : &l.s.opened);
            link_close(&l, "cancelled: open handles");
        }
}

static int choose_and_close(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    struct link *l = ctx;

    choose(ctx, sni, out);
    ev_stream_close(l->s_pending);
    return 0;
}

static int judge_and_close(void *ctx, const struct ev_cert *c, struct ev_err *err)
{
    struct link *l = ctx;

    (void)c;
    (void)err;
    ev_stream_close(l->c_pending);
    return 0;
}

static void close_inside(void)
{
    struct link l;

    link_init(&l);
    l.sc.select = choose_and_close;
    link_start(&l);
    turn_until(rt, &l.c.opened);
    EQ_INT(l.s.opened, 0, "closed inside select");
    link_close(&l, "closed inside select: open handles");
    link_init(&l);
    l.cc.accept_peer = judge_and_close;
    link_start(&l);
    turn_until(rt, &l.s.opened);
    EQ_INT(l.c.opened, 0, "closed inside accept_peer");
    link_close(&l, "closed inside accept_peer: open handles");
}

/* What came with an earlier protocol's last read. */
static void after_a_header(void)
{
    struct link l;
    struct ev_stream *a, *b;
    struct seen x;

    link_init(&l);
    seen_init(&x);
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0 || ev_stream_write(a, EV_LIT("PROXY")) < 0)
        abort();
    l.c_pending = ev_tls_connect(rt, &l.cc, a, seen_done, &l.c);
    turn_for(rt, 20);
    seen_attach(&x, b);
    x.stop_after_first = 1;
    ev_stream_read_start(b);
    turn_until(rt, &x.data_calls);
    OK(x.in.n > 100, "header and ClientHello in one read (%zu)", x.in.n);
    ev_stream_unread(b, ev_slice_of(x.in.p + 5, x.in.n - 5));
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
    turn_until(rt, &l.c.opened);
    turn_until(rt, &l.s.opened);
    OK(l.c.s && l.s.s, "the handshake takes up what was given back");
    x.s = NULL;
    seen_fini(&x);
    ev_tls_ctx_free(l.ctx);
    link_close(&l, "after a header: open handles");
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
        struct ev_stream *a, *b;
        uint8_t x[32];

        link_init(&l);
        stream_pair(&a, &b);
        if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0)
            abort();
        ev_tls_accept(l.ctx, b, seen_done, &l.s);
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
    struct ev_stream *a, *b;

    link_init(&l);
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0)
        abort();
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
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
    struct ev_stream *a, *b;
    int before;

    link_init(&l);
    stream_pair(&a, &b);
    if (ev_tls_server_new(&l.sc, &l.ctx, NULL) < 0)
        abort();
    ev_tls_accept(l.ctx, b, seen_done, &l.s);
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
    static const uint8_t cut_hello[] = { 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3 };

    if (ev_rt_new(&rt, NULL) < 0 || !temp_dir(dir, sizeof dir))
        return 1;
    make_certificates();
    plain_case();
    peer_refused();
    web_pki("our authority", leaf, "app.cages.localhost", ca_file, true);
    web_pki("another name", leaf, "other.cages.localhost", ca_file, false);
    web_pki("an address", leaf, "127.0.0.1", ca_file, false);
    web_pki("a stranger", stranger, "app.cages.localhost", ca_file, false);
    web_pki("the system's authorities", leaf, "app.cages.localhost", NULL, false);
    web_pki("no such file", leaf, "app.cages.localhost", "/no/such/file.pem", false);
    web_pki("no name", leaf, NULL, ca_file, false);
    big_certificate();
    protocols(false, "http/1.1", "http/1.1");
    protocols(true, "h2", "h2");
    protocols(true, "http/1.1", "http/1.1");
    protocols(false, "h2", NULL);
    protocols(true, "spdy/3", NULL);
    refused_name();
    silent_client();
    silent_server();
    garbage("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, false);
    for (size_t n = 0; n <= sizeof cut_hello; n++)
        garbage(cut_hello, n, true);
    truncated();
    bulk();
    late_eof();
    cancel_at_each_turn();
    close_inside();
    after_a_header();
    foreign_client(TLS1_3_VERSION, NULL, true, "TLS 1.3");
    foreign_client(TLS1_2_VERSION, NULL, true, "TLS 1.2");
    foreign_client(TLS1_1_VERSION, NULL, false, "TLS 1.1");
    foreign_client(TLS1_2_VERSION, "AES128-SHA", false, "no forward secrecy");
    foreign_client(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", false, "CBC");
    notify_without_fin();
    hostile_hello();
    renegotiation();
    not_tls();
    unlink(ca_file);
    rmdir(dir);
    ev_cert_free(ca);
    ev_cert_free(leaf);
    ev_cert_free(big);
    ev_cert_free(stranger);
    ev_key_free(ca_key);
    ev_key_free(leaf_key);
    ev_rt_free(rt);
    return tap_done();
}
