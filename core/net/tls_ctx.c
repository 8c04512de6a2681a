/* tls_ctx.c — what our TLS speaks, on both sides. See tls.h.
 *
 * TLS 1.2 and 1.3, forward secret and authenticated ciphers only. Nothing is ever resumed: clients
 * skip attestation on a resumed session (DESIGN §6), so there is no ticket, no session cache, no
 * early data and no renegotiation, on either side. */
#include "net/tls_internal.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include "crypto/ossl.h"

enum { CERT_LIST_MAX = 256 * 1024 };    /* an attestation document in a SAN is about 20 KB */

static const char ciphers_12[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char ciphers_13[] = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
static const char groups[] = "X25519:P-256:P-384";

int ev_tls_fail(struct ev_err *err, int code, const char *reason, const char *what)
{
    unsigned long e = ERR_peek_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;

    ev_fail_reason(err, code, reason, "%s: %s", what, text ? text : "the connection broke");
    ERR_clear_error();
    return code;
}

static int settings(SSL_CTX *c)
{
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    /* Released buffers are what keeps an idle connection at 15 KiB instead of 41 (performance §2). */
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_max_cert_list(c, CERT_LIST_MAX);
    return SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(c, ciphers_12) == 1 &&
           SSL_CTX_set_ciphersuites(c, ciphers_13) == 1 && SSL_CTX_set1_groups_list(c, groups) == 1;
}

/* --- server ----------------------------------------------------------------------------------- */

/* Called for every ClientHello, also for one without a name. */
static int choose_certificate(SSL *ssl, int *alert, void *arg)
{
    struct ev_tls_ctx *t = arg;
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct ev_tls_pair pair = { NULL, NULL };

    if (t->conf.select(t->conf.ctx, sni ? sni : "", &pair) < 0) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    if (!pair.cert || !pair.key ||
        SSL_use_cert_and_key(ssl, ev_cert_x509(pair.cert), ev_key_pkey(pair.key), NULL, 1) != 1) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

static bool offered(const uint8_t *list, unsigned n, const uint8_t *name)
{
    for (unsigned i = 0; i < n && list[i] < n - i; i += 1u + list[i])
        if (list[i] == name[0] && memcmp(list + i + 1, name + 1, name[0]) == 0)
            return true;
    return false;
}

/* A client that offers protocols and none of ours would misread every byte: refused. */
static int choose_protocol(SSL *ssl, const uint8_t **out, uint8_t *outlen, const uint8_t *in, unsigned n, void *arg)
{
    static const uint8_t h2[] = "\x02h2", http1[] = "\x08http/1.1";
    const struct ev_tls_ctx *t = arg;
    const uint8_t *pick = NULL;

    (void)ssl;
    if (t->conf.http2 && offered(in, n, h2))
        pick = h2;
    else if (offered(in, n, http1))
        pick = http1;
    if (!pick)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = pick + 1;
    *outlen = pick[0];
    return SSL_TLSEXT_ERR_OK;
}

int ev_tls_server_new(const struct ev_tls_server_conf *conf, struct ev_tls_ctx **out, struct ev_err *err)
{
    struct ev_tls_ctx *t = ev_alloc(sizeof *t);

    t->conf = *conf;
    t->refs = 1;
    t->ssl = SSL_CTX_new(TLS_server_method());
    if (!t->ssl || !settings(t->ssl) || SSL_CTX_set_num_tickets(t->ssl, 0) != 1) {
        ev_tls_ctx_free(t);
        return ev_tls_fail(err, EV_ETLS, "", "TLS settings");
    }
    SSL_CTX_set_options(t->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_max_early_data(t->ssl, 0);
    SSL_CTX_set_tlsext_servername_callback(t->ssl, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(t->ssl, t);
    SSL_CTX_set_alpn_select_cb(t->ssl, choose_protocol, t);
    *out = t;
    return 0;
}

void ev_tls_ctx_drop(struct ev_tls_ctx *t)
{
    if (!t || --t->refs > 0)
        return;
    SSL_CTX_free(t->ssl);
    ev_free(t);
}

void ev_tls_ctx_free(struct ev_tls_ctx *t)
{
    ev_tls_ctx_drop(t);
}

/* --- client ----------------------------------------------------------------------------------- */

/* The chain is not judged here: accept_peer does, once the peer has proved that it holds the key. */
static int leave_to_accept_peer(X509_STORE_CTX *store, void *arg)
{
    (void)store;
    (void)arg;
    return 1;
}

static bool is_ip(const char *s)
{
    uint8_t room[16];

    return inet_pton(AF_INET, s, room) == 1 || inet_pton(AF_INET6, s, room) == 1;
}

static void drop_client_ctx(void *c)
{
    SSL_CTX_free(c);
}

/* Attested clients share one, because making it costs as much as a handshake; with WebPKI each has its
 * own authorities. */
static SSL_CTX *client_ctx(struct ev_rt *rt, bool attested)
{
    SSL_CTX *c = attested ? rt->tls_client : NULL;

    if (c) {
        SSL_CTX_up_ref(c);
        return c;
    }
    c = SSL_CTX_new(TLS_client_method());
    if (!c || !settings(c)) {
        SSL_CTX_free(c);
        return NULL;
    }
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
    if (attested) {
        SSL_CTX_set_cert_verify_callback(c, leave_to_accept_peer, NULL);
        SSL_CTX_up_ref(c);
        rt->tls_client = c;
        rt->tls_client_free = drop_client_ctx;
    }
    return c;
}

static int trust(SSL_CTX *c, const struct ev_tls_client_conf *conf, struct ev_err *err)
{
    if (conf->accept_peer)
        return 0;
    if (!conf->sni || !*conf->sni)
        return ev_fail(err, EV_EUSAGE, "TLS: no host name to check the certificate against");
    if (conf->ca_file && SSL_CTX_load_verify_file(c, conf->ca_file) != 1) {
        ev_tls_fail(err, EV_ECONFIG, "", "read certificate authorities");
        ev_err_wrap(err, "%s", conf->ca_file);
        return EV_ECONFIG;
    }
    if (!conf->ca_file)
        SSL_CTX_set_default_verify_paths(c);
    return 0;
}

/* SNI carries names only; an address is checked against the certificate's addresses. */
static int name_peer(SSL *ssl, const struct ev_tls_client_conf *conf)
{
    if (!conf->sni || !*conf->sni)
        return 1;
    if (is_ip(conf->sni))
        return conf->accept_peer || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), conf->sni) == 1;
    if (SSL_set_tlsext_host_name(ssl, conf->sni) != 1)
        return 0;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return conf->accept_peer || SSL_set1_host(ssl, conf->sni) == 1;
}

static int offer_protocol(SSL *ssl, const char *alpn)
{
    uint8_t list[256];
    size_t n = alpn ? strlen(alpn) : 0;

    if (n == 0)
        return 1;
    if (n > 255)
        return 0;
    list[0] = (uint8_t)n;
    memcpy(list + 1, alpn, n);
    return SSL_set_alpn_protos(ssl, list, (unsigned)n + 1) == 0;
}

int ev_tls_client_ssl(struct ev_rt *rt, const struct ev_tls_client_conf *conf, SSL **out, struct ev_err *err)
{
    SSL_CTX *c = client_ctx(rt, conf->accept_peer != NULL);
    SSL *ssl = NULL;
    int rc = 0;

    if (!c)
        EV_TRY(ev_tls_fail(err, EV_ETLS, "", "TLS settings"));
    EV_TRY(trust(c, conf, err));
    ssl = SSL_new(c);
    if (!ssl || !name_peer(ssl, conf) || !offer_protocol(ssl, conf->alpn))
        EV_TRY(ev_tls_fail(err, EV_ETLS, "", "TLS settings"));
    *out = ssl;
    ssl = NULL;
out:
    SSL_free(ssl);
    SSL_CTX_free(c);                    /* the SSL keeps its own reference */
    return rc;
}
