/* attest.c — see attest.h; the order is spec nsm-attestation §6.
 *
 *   usable expectations → decode → chain to a pinned root → signature → timestamp → policy
 *
 * One decode feeds all of it: what is verified is what is reported. Nothing is skipped because
 * something is missing; what is missing is refused. */
#include "nitro/attest.h"

#include <stdio.h>

#include "codec/text.h"
#include "nitro/attest_decode.h"
#include "nitro/aws_root.h"

enum {
    CHAIN_MAX = EV_ATTEST_BUNDLE_MAX + 1,
    ROOTS_MAX = 16,
    DNS_LABEL_MAX = 63,                         /* a longer label is no name but a document */
    SAN_NAMES_MAX = 1024,
    MINUTE_MS = 60 * 1000,
};

/* ---- trust anchors ---- */

static bool is_aws_root(const struct ev_cert *c)
{
    return ev_slice_eq(ev_cert_der(c), ev_slice_of(ev_aws_root_g1, sizeof ev_aws_root_g1));
}

static void add_root(struct ev_trust *t, struct ev_cert *take_root)
{
    t->roots = ev_realloc(t->roots, (t->n_roots + 1) * sizeof *t->roots);
    t->roots[t->n_roots++] = take_root;
    t->development |= !is_aws_root(take_root);
}

int ev_trust_default(struct ev_trust *t, struct ev_err *err)
{
    struct ev_cert *root = NULL;
    int rc = ev_cert_from_der(ev_slice_of(ev_aws_root_g1, sizeof ev_aws_root_g1), &root, err);

    *t = (struct ev_trust){0};
    if (rc < 0)
        return rc;
    add_root(t, root);
    return 0;
}

/* Where `word` begins in `s`, or NULL. */
static const uint8_t *find(ev_slice s, const char *word)
{
    return s.n ? memmem(s.p, s.n, word, strlen(word)) : NULL;
}

int ev_trust_from_pem(struct ev_trust *t, ev_slice pem, struct ev_err *err)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    ev_slice rest = pem;
    const uint8_t *from, *to;
    int rc = 0;

    *t = (struct ev_trust){0};
    while ((from = find(rest, begin))) {
        struct ev_cert *root = NULL;

        rest = ev_slice_of(from, (size_t)(rest.p + rest.n - from));
        to = find(rest, end);
        if (!to || t->n_roots == ROOTS_MAX) {
            rc = ev_fail(err, to ? EV_ELIMIT : EV_EPARSE,
                         to ? "more than %d certificates" : "certificate %d has no end line",
                         to ? (int)ROOTS_MAX : (int)t->n_roots + 1);
            goto out;
        }
        to += sizeof end - 1;
        EV_TRY(ev_cert_from_pem(ev_slice_of(from, (size_t)(to - from)), &root, err));
        add_root(t, root);
        rest = ev_slice_of(to, (size_t)(rest.p + rest.n - to));
    }
    if (t->n_roots == 0)
        rc = ev_fail(err, EV_EPARSE, "no certificate in it (PEM is asked for)");
out:
    if (rc < 0) {
        ev_err_wrap(err, "trust anchor");
        ev_trust_fini(t);
    }
    return rc < 0 ? rc : 0;
}

void ev_trust_fini(struct ev_trust *t)
{
    for (size_t i = 0; i < t->n_roots; i++)
        ev_cert_free(t->roots[i]);
    ev_free(t->roots);
    *t = (struct ev_trust){0};
}

void ev_attest_fini(struct ev_attest *a)
{
    ev_buf_fini(&a->user_data);
    ev_buf_fini(&a->nonce);
    ev_buf_fini(&a->public_key);
    ev_cert_free(a->leaf);
    a->leaf = NULL;
}

/* ---- expectations ---- */

static bool is_zero(const uint8_t value[EV_PCR_LEN])
{
    uint8_t any = 0;

    for (unsigned k = 0; k < EV_PCR_LEN; k++)
        any |= value[k];
    return any == 0;
}

/* A set must say something about the image: PCR0, 1 or 2, or a signing certificate (a zero PCR8 is
 * that of every unsigned image). */
static bool is_usable(const struct ev_pcrs *set)
{
    return (set->present & 7) || ((set->present & 1 << 8) && !is_zero(set->value[8]));
}

static int no_expectation(struct ev_err *err, const char *why)
{
    return ev_fail_reason(err, EV_ECONFIG, "no-expectation", "%s", why);
}

static int check_expectations(const struct ev_expect *e, struct ev_err *err)
{
    if (e->n_sets == 0 && !e->any_measurement)
        return no_expectation(err, "no measurement is expected, so none can be checked");
    if (e->n_sets > 0 && !e->sets)
        return no_expectation(err, "the expected measurements are missing");
    for (size_t i = 0; i < e->n_sets; i++)
        if (!is_usable(&e->sets[i]))
            return no_expectation(err, "an expected measurement has none of PCR0, PCR1, PCR2 and PCR8");
    if ((e->has_nonce && e->nonce.n == 0) || (e->has_user_data && e->user_data.n == 0) ||
        (e->has_public_key && e->public_key.n == 0))
        return no_expectation(err, "an expected nonce, user_data or public_key is empty");
    if (e->max_age_ms < 0 || e->future_skew_ms < 0)
        return no_expectation(err, "an allowance of time is negative");
    return 0;
}

/* ---- authenticity ---- */

struct chain {
    struct ev_cert *cert[CHAIN_MAX];            /* leaf first, root last */
    size_t n;
};

static int parse_cert(struct chain *c, ev_slice der, struct ev_err *err)
{
    int rc = ev_cert_from_der(der, &c->cert[c->n], err);

    if (rc >= 0) {
        c->n++;
        return 0;
    }
    return ev_attest_refuse(err, "cert-parse", "certificate %zu from the leaf does not parse", c->n);
}

static int parse_chain(const struct ev_attest_parts *parts, struct chain *c, struct ev_err *err)
{
    int rc = parse_cert(c, parts->certificate, err);

    for (size_t i = parts->n_bundle; rc == 0 && i > 0; i--)
        rc = parse_cert(c, parts->bundle[i - 1], err);
    return rc;
}

/* Time in which all of them are valid. */
static void window(const struct chain *c, struct ev_attest *out)
{
    ev_cert_validity(c->cert[0], &out->not_before_ms, &out->not_after_ms);
    for (size_t i = 1; i < c->n; i++) {
        int64_t from, to;

        ev_cert_validity(c->cert[i], &from, &to);
        if (from > out->not_before_ms)
            out->not_before_ms = from;
        if (to < out->not_after_ms)
            out->not_after_ms = to;
    }
}

static int verify_chain(const struct chain *c, const struct ev_trust *trust, int64_t at_ms, struct ev_err *err)
{
    if (!trust || trust->n_roots == 0)
        return ev_attest_refuse(err, "cert-root", "there is no trust anchor");
    if (ev_cert_chain_verify(c->cert, c->n, trust->roots, trust->n_roots, at_ms, err) < 0) {
        if (err)
            err->code = EV_EVERIFY;
        return EV_EVERIFY;
    }
    return 0;
}

/* Over the protected header and the payload as they were received, never encoded again. */
static int verify_signature(const struct ev_attest_parts *parts, const struct ev_cert *leaf, struct ev_err *err)
{
    struct ev_buf tbs = EV_BUF_INIT(EV_ATTEST_TBS_MAX);
    struct ev_key *key = NULL;
    int rc;

    EV_TRY(ev_cert_key(leaf, &key, err));
    EV_TRY(ev_attest_put_tbs(&tbs, parts->protected_header, parts->payload));
    EV_TRY(ev_key_verify(key, ev_buf_slice(&tbs), parts->signature, err));
out:
    if (rc < 0)
        rc = ev_attest_refuse(err, "doc-signature", "the document's signature does not verify");
    ev_key_free(key);
    ev_buf_fini(&tbs);
    return rc < 0 ? rc : 0;
}

static int check_timestamp(const struct ev_attest *a, const struct ev_expect *e, struct ev_err *err)
{
    int64_t skew = e->future_skew_ms ? e->future_skew_ms : 5 * MINUTE_MS;
    int64_t age = e->at_ms - a->timestamp_ms;           /* both are bounded: no overflow */

    if (a->timestamp_ms < a->not_before_ms || a->timestamp_ms > a->not_after_ms)
        return ev_attest_refuse(err, "doc-timestamp", "its timestamp is outside its certificates' validity");
    if (age < 0 && -age > skew)
        return ev_attest_refuse(err, "doc-timestamp", "its timestamp is %lld s in the future",
                                (long long)(-age / 1000));
    if (e->max_age_ms && age > e->max_age_ms)
        return ev_attest_refuse(err, "too-old", "it is %lld s old, more than the %lld s allowed",
                                (long long)(age / 1000), (long long)(e->max_age_ms / 1000));
    return 0;
}

/* ---- policy ---- */

struct verdict {
    unsigned missing, wrong;                    /* index + 1 of the first one, 0 = none */
};

/* Looks at every expected register of the set, whatever it found before. */
static struct verdict judge(const struct ev_pcrs *got, const struct ev_pcrs *want)
{
    struct verdict v = {0};

    for (unsigned i = 0; i < EV_PCR_COUNT; i++) {
        bool equal;

        if (!(want->present & UINT32_C(1) << i))
            continue;
        equal = ev_slice_eq_ct(ev_slice_of(got->value[i], EV_PCR_LEN), ev_slice_of(want->value[i], EV_PCR_LEN));
        if (!(got->present & UINT32_C(1) << i))
            v.missing = v.missing ? v.missing : i + 1;
        else if (!equal)
            v.wrong = v.wrong ? v.wrong : i + 1;
    }
    return v;
}

static int refuse_pcr(const struct ev_pcrs *got, const struct ev_pcrs *want, struct verdict v, size_t n_sets,
                      struct ev_err *err)
{
    char hex[2][2 * EV_PCR_LEN + 1];
    unsigned i = v.wrong - 1;

    if (!v.wrong)
        return ev_attest_refuse(err, "pcr-missing", "the document has no PCR%u", v.missing - 1);
    for (unsigned k = 0; k < EV_PCR_LEN; k++) {
        snprintf(hex[0] + 2 * k, 3, "%02x", got->value[i][k]);
        snprintf(hex[1] + 2 * k, 3, "%02x", want->value[i][k]);
    }
    return ev_attest_refuse(err, "pcr-mismatch", "PCR%u is %s, %s %s", i, hex[0],
                            n_sets > 1 ? "none of the expected sets; the first has" : "expected", hex[1]);
}

/* One whole set must match: never PCR0 of one release with PCR8 of another. */
static int check_pcrs(const struct ev_pcrs *got, const struct ev_expect *e, struct ev_err *err)
{
    struct verdict reported = {0};
    size_t which = 0;
    bool matched = e->n_sets == 0 && e->any_measurement;

    if (matched && !(got->present & 7))
        return ev_attest_refuse(err, "pcr-missing", "the document measures no image");
    for (size_t i = 0; i < e->n_sets; i++) {
        struct verdict v = judge(got, &e->sets[i]);

        matched |= !v.missing && !v.wrong;
        if (i == 0 || (v.wrong && !reported.wrong)) {
            reported = v;
            which = i;
        }
    }
    return matched ? 0 : refuse_pcr(got, &e->sets[which], reported, e->n_sets, err);
}

/* A field that is expected must be there and be the same; null never matches. */
static int check_field(const char *name, const char *reason, bool has, const struct ev_buf *got, ev_slice want,
                       struct ev_err *err)
{
    if (!has)
        return ev_attest_refuse(err, reason, "the document has no %s", name);
    if (!ev_slice_eq_ct(ev_buf_slice(got), want))
        return ev_attest_refuse(err, reason, "%s is not the expected one", name);
    return 0;
}

static int check_policy(const struct ev_attest *a, const struct ev_expect *e, struct ev_err *err)
{
    int rc = 0;

    /* Before comparing, so that expected zeros let no debug enclave in. */
    if (a->debug && !e->allow_debug)
        return ev_attest_refuse(err, "debug", "a debug enclave: its measurements are zero and prove nothing");
    EV_TRY(check_pcrs(&a->pcrs, e, err));
    if (e->has_nonce)
        EV_TRY(check_field("nonce", "nonce", a->has_nonce, &a->nonce, e->nonce, err));
    if (e->has_user_data)
        EV_TRY(check_field("user_data", "user-data", a->has_user_data, &a->user_data, e->user_data, err));
    if (e->has_public_key)
        EV_TRY(check_field("public_key", "public-key", a->has_public_key, &a->public_key, e->public_key, err));
out:
    return rc;
}

int ev_attest_verify(ev_slice doc, const struct ev_trust *trust, const struct ev_expect *expect,
                     struct ev_attest *out, struct ev_err *err)
{
    struct ev_attest_parts parts;
    struct chain chain = {0};
    int rc;

    *out = (struct ev_attest){0};
    EV_TRY(check_expectations(expect, err));
    EV_TRY(ev_attest_decode(doc, &parts, out, err));
    EV_TRY(parse_chain(&parts, &chain, err));
    out->leaf = ev_cert_ref(chain.cert[0]);
    window(&chain, out);
    EV_TRY(verify_chain(&chain, trust, expect->at_ms, err));
    EV_TRY(verify_signature(&parts, out->leaf, err));
    EV_TRY(check_timestamp(out, expect, err));
    EV_TRY(check_policy(out, expect, err));
out:
    if (rc < 0)
        ev_err_wrap(err, "attestation document");
    for (size_t i = 0; i < chain.n; i++)
        ev_cert_free(chain.cert[i]);
    return rc < 0 ? rc : 0;
}

/* ---- the document inside a certificate ---- */

int ev_attest_from_cert(const struct ev_cert *cert, struct ev_buf *doc, struct ev_err *err)
{
    ev_slice longest = {0}, name;
    size_t was = doc->n;
    int rc;

    for (size_t i = 0; i < SAN_NAMES_MAX && ev_cert_dns_name(cert, i, &name); i++) {
        const uint8_t *dot = name.n ? memchr(name.p, '.', name.n) : NULL;

        if (dot)
            name.n = (size_t)(dot - name.p);
        if (name.n > longest.n)
            longest = name;
    }
    if (longest.n <= DNS_LABEL_MAX)
        return ev_attest_refuse(err, "doc-missing", "the certificate carries no attestation document");
    if (longest.n / 2 > EV_ATTEST_DOC_MAX)
        return ev_attest_refuse(err, "doc-size", "the certificate's document has %zu bytes", longest.n / 2);
    if ((rc = ev_buf_zero(doc, longest.n / 2)) < 0)
        return ev_fail(err, rc, "the document does not fit");
    if (longest.n % 2 || ev_hex_decode(longest, doc->p + was, longest.n / 2) < 0) {
        doc->n = was;
        return ev_attest_refuse(err, "doc-missing", "the certificate's longest name is not a document in hex");
    }
    return 0;
}
