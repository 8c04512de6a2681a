/* fuzz_attest.c — any bytes through the decoder of attestation documents, and through the verifier
 * (which never may accept them: nobody but AWS can sign). What decodes keeps its promises. */
#include "fuzz.h"
#include "nitro/attest_decode.h"

static bool inside(ev_slice part, ev_slice whole)
{
    return part.p >= whole.p && part.n <= whole.n && part.p + part.n <= whole.p + whole.n;
}

static void promises(ev_slice doc, const struct ev_attest_parts *p, const struct ev_attest *a)
{
    demand(inside(p->payload, doc) && p->payload.n > 0 && inside(p->protected_header, doc), "COSE parts");
    demand(inside(p->signature, doc) && p->signature.n == EV_ATTEST_SIG_LEN, "signature");
    demand(inside(p->certificate, p->payload) && p->certificate.n > 0, "leaf");
    demand(p->n_bundle > 0 && p->n_bundle <= EV_ATTEST_BUNDLE_MAX, "bundle");
    for (size_t i = 0; i < p->n_bundle; i++)
        demand(inside(p->bundle[i], p->payload) && p->bundle[i].n > 0, "bundle entry");
    demand(a->module_id[0] && memchr(a->module_id, 0, sizeof a->module_id), "module_id");
    demand(strcmp(a->digest, "SHA384") == 0 && a->timestamp_ms > 0 && a->pcrs.present != 0, "fields");
    demand(!a->has_public_key || a->public_key.n > 0, "public_key");
    demand(!a->leaf, "nothing is believed yet");
}

static void verify(ev_slice doc)
{
    static struct ev_trust trust;
    struct ev_expect e = { .any_measurement = true, .at_ms = INT64_C(1766668537578) };
    struct ev_attest a;
    struct ev_err err = EV_ERR_INIT;
    int rc;

    if (!trust.n_roots)
        demand(ev_trust_default(&trust, NULL) == 0, "the default trust");
    e.has_nonce = true;                         /* one that no genuine document of the corpus has */
    e.nonce = EV_LIT("fuzz");
    rc = ev_attest_verify(doc, &trust, &e, &a, &err);
    demand(rc == EV_EVERIFY && err.code == rc && err.reason[0] && err.msg[0], "refused with a reason");
    ev_attest_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ev_slice doc = ev_slice_of(data, size);
    struct ev_attest_parts parts;
    struct ev_attest a;
    struct ev_err err = EV_ERR_INIT;
    int rc = ev_attest_decode(doc, &parts, &a, &err);

    if (rc == 0)
        promises(doc, &parts, &a);
    else
        demand(rc == EV_EVERIFY && strncmp(err.reason, "doc-", 4) == 0, "a reason of the decoder");
    ev_attest_fini(&a);
    verify(doc);
    return 0;
}
