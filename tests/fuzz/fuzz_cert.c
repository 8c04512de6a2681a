/* fuzz_cert.c — any bytes as a certificate, as a public key and as a PEM text; what is taken is read
 * through every accessor, and is trusted only when it is a root itself. */
#include "crypto/cert.h"
#include "fuzz.h"

static void look(struct ev_cert *c)
{
    struct ev_buf pem = EV_BUF_INIT(1 << 20);
    struct ev_cert *again = NULL, *chain[2] = { c, c };
    struct ev_key *k = NULL;
    char name[80], value[80];
    int64_t from, to;
    ev_slice dns;

    ev_cert_validity(c, &from, &to);
    for (size_t i = 0; ev_cert_dns_name(c, i, &dns); i++)
        demand(dns.n < (1 << 20), "a name is within its certificate");
    for (size_t i = 0; ev_cert_issuer_attr(c, i, name, sizeof name, value, sizeof value); i++)
        demand(name[0] != 0, "an attribute has a name");
    demand(ev_cert_sig_alg(c) != NULL && ev_cert_signature(c).n <= ev_cert_der(c).n, "a signature");
    if (ev_cert_key(c, &k, NULL) == 0)
        demand(!ev_key_is_private(k), "a certificate has no private key");
    ev_key_free(k);
    demand(ev_cert_pem(c, &pem, NULL) == 0 && ev_cert_from_pem(ev_buf_slice(&pem), &again, NULL) == 0 &&
           ev_slice_eq(ev_cert_der(c), ev_cert_der(again)), "PEM there and back");
    demand(ev_cert_chain_verify(chain, 2, NULL, 0, from, NULL) < 0, "nothing is trusted without a root");
    demand(ev_cert_chain_verify(chain, 2, &c, 1, from, NULL) < 0, "one certificate is not leaf and root");
    ev_cert_free(again);
    ev_buf_fini(&pem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ev_slice in = ev_slice_of(data, size);
    struct ev_err err = EV_ERR_INIT;
    struct ev_cert *c = NULL;
    struct ev_key *k = NULL;

    if (ev_cert_from_der(in, &c, &err) == 0)
        look(c);
    else
        demand(!c && strcmp(err.reason, "cert-parse") == 0, "a failure has its reason");
    ev_cert_free(c);
    if (ev_cert_from_pem(in, &c, NULL) == 0)
        look(c);
    ev_cert_free(c);
    if (ev_key_from_spki(in, &k, NULL) == 0)
        demand(!ev_key_is_private(k), "a public key");
    ev_key_free(k);
    if (size < 4096 && ev_key_from_pem(in, &k, NULL) == 0)
        ev_key_free(k);
    return 0;
}
