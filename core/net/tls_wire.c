/* tls_wire.c — OpenSSL's view of a connection: it reads ciphertext straight out of the buffer that the
 * loop has just filled, and writes records into one that is lent to it. No copy of ours in between. */
#include "net/tls_internal.h"

#include <pthread.h>

static int wire_read(BIO *b, char *to, int n)
{
    struct ev_tls_wire *w = BIO_get_data(b);
    size_t take = w->in.n < (size_t)n ? w->in.n : (size_t)n;

    BIO_clear_retry_flags(b);
    if (take == 0) {
        if (w->ended)
            return 0;
        BIO_set_retry_read(b);
        return -1;
    }
    memcpy(to, w->in.p, take);
    w->in.p += take;
    w->in.n -= take;
    return (int)take;
}

static int wire_write(BIO *b, const char *from, int n)
{
    struct ev_tls_wire *w = BIO_get_data(b);

    BIO_clear_retry_flags(b);
    return ev_buf_put(&w->out, from, (size_t)n) < 0 ? -1 : n;
}

static long wire_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    const struct ev_tls_wire *w = BIO_get_data(b);

    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_FLUSH)
        return 1;
    return cmd == BIO_CTRL_EOF && w->ended && w->in.n == 0;
}

/* A table of functions; made once, read-only from then on. */
static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static void method_make(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ev stream");
    if (!method)
        return;
    BIO_meth_set_read(method, wire_read);
    BIO_meth_set_write(method, wire_write);
    BIO_meth_set_ctrl(method, wire_ctrl);
}

int ev_tls_wire_attach(struct ev_tls_wire *w, SSL *ssl)
{
    BIO *b;

    pthread_once(&method_once, method_make);
    if (!method || !(b = BIO_new(method)))
        return 0;
    BIO_set_data(b, w);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    return 1;
}
