/* tls_link.h — what the tests of TLS share: certificates, and one connection as a client end and a
 * server end over a socket pair. */
#ifndef TESTS_TLS_LINK_H
#define TESTS_TLS_LINK_H

#include <sys/socket.h>

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

__attribute__((unused)) static int choose(void *ctx, const char *sni, struct ev_tls_pair *out)
{
    struct link *l = ctx;

    l->selected++;
    snprintf(l->sni, sizeof l->sni, "%s", sni);
    out->cert = l->cert;
    out->key = leaf_key;
    return l->refuse_sni ? EV_EDENY : 0;
}

__attribute__((unused)) static int judge(void *ctx, const struct ev_cert *c, struct ev_err *err)
{
    struct link *l = ctx;

    l->accepted++;
    l->leaf_len = ev_cert_der(c).n;
    l->write_rc = ev_stream_write(l->c_pending, EV_LIT("too early"));
    if (l->accept_rc < 0)
        return ev_fail_reason(err, l->accept_rc, "pcr-mismatch", "PCR0 differs");
    return 0;
}

__attribute__((unused))
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

__attribute__((unused)) static void make_certificates(void)
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

__attribute__((unused)) static void stream_pair(struct ev_stream **a, struct ev_stream **b)
{
    int fd[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ||
        ev_stream_from_fd(rt, fd[0], a, NULL) < 0 || ev_stream_from_fd(rt, fd[1], b, NULL) < 0)
        abort();
}

__attribute__((unused)) static void link_init(struct link *l)
{
    memset(l, 0, sizeof *l);
    seen_init(&l->c);
    seen_init(&l->s);
    l->cert = leaf;
    l->sc = (struct ev_tls_server_conf){ .select = choose, .ctx = l };
    l->cc = (struct ev_tls_client_conf){ .sni = "app.cages.localhost", .accept_peer = judge, .ctx = l };
}

/* A server end alone, l->ctx kept; returns the client's end of the wire. */
__attribute__((unused)) static struct ev_stream *link_serve(struct link *l)
{
    struct ev_stream *a, *b;

    stream_pair(&a, &b);
    if (ev_tls_server_new(&l->sc, &l->ctx, NULL) < 0)
        abort();
    l->s_pending = ev_tls_accept(l->ctx, b, seen_done, &l->s);
    return a;
}

__attribute__((unused)) static void link_start(struct link *l)
{
    struct ev_stream *a = link_serve(l);

    l->c_pending = ev_tls_connect(rt, &l->cc, a, seen_done, &l->c);
    ev_tls_ctx_free(l->ctx);            /* the connection keeps what it needs */
}

__attribute__((unused)) static void link_run(struct link *l)
{
    link_start(l);
    EQ_INT(l->c.opened + l->s.opened, 0, "nothing is called back inside the start");
    turn_until(rt, &l->c.opened);
    turn_until(rt, &l->s.opened);
}

__attribute__((unused)) static void link_close(struct link *l, const char *what)
{
    seen_fini(&l->c);
    seen_fini(&l->s);
    expect_closed(rt, what);
}

__attribute__((unused)) static int wait_bytes(struct seen *x, size_t n)
{
    for (int i = 0; i < 2000 && x->in.n < n && !x->failed; i++)
        turn_for(rt, 2);
    return x->in.n == n;
}

/* Everything above, and away again. */
__attribute__((unused)) static int tls_test_begin(void)
{
    if (ev_rt_new(&rt, NULL) < 0 || !temp_dir(dir, sizeof dir))
        return -1;
    make_certificates();
    return 0;
}

__attribute__((unused)) static int tls_test_end(void)
{
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

#endif
