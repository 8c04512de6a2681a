/* Tests of nitro/attest.c on genuine documents: tests/golden/attestation and tests/golden/nitro-docs,
 * with the results that their indexes promise. */
#include <time.h>

#include "attest_kit.h"
#include "codec/json.h"
#include "codec/text.h"
#include "crypto/digest.h"
#include "nitro/attest_decode.h"
#include "tap.h"

#define ATTESTATION "tests/golden/attestation/"
#define NITRO_DOCS "tests/golden/nitro-docs/"

static struct ev_trust aws;

static void say(bool good, const char *name, const char *what)
{
    if (!good)
        OK(0, "%s: %s (%s %s)", name, what, kit_err.reason, kit_err.msg);
}

static const char *judge(ev_slice doc, const struct ev_expect *e, struct ev_attest *out)
{
    kit_err = (struct ev_err)EV_ERR_INIT;
    return ev_attest_verify(doc, &aws, e, out, &kit_err) == 0 ? "" : kit_err.reason;
}

/* Judges, and demands the reason ("" = accepted). */
static bool gives(ev_slice doc, const struct ev_expect *e, const char *reason)
{
    struct ev_attest a;
    bool same = strcmp(judge(doc, e, &a), reason) == 0;

    ev_attest_fini(&a);
    return same;
}

static const char *text_of(const struct ev_json *object, const char *key)
{
    const struct ev_json *j = ev_json_get(object, key);

    return ev_json_type(j) == EV_JSON_STRING ? (const char *)ev_json_str(j).p : NULL;
}

static int64_t time_of(const struct ev_json *object, const char *key)
{
    int64_t ms = 0;

    MUST(ev_time_parse(ev_json_str(ev_json_get(object, key)), &ms));
    return ms;
}

/* The JSON text of a field (hex or null) against what the document has. */
static bool field_is(const struct ev_json *j, bool has, const struct ev_buf *got)
{
    uint8_t bytes[EV_ATTEST_FIELD_MAX];
    int n;

    if (ev_json_type(j) != EV_JSON_STRING)
        return !has;
    n = ev_hex_decode(ev_json_str(j), bytes, sizeof bytes);
    return has && n >= 0 && ev_slice_eq(ev_buf_slice(got), ev_slice_of(bytes, (size_t)n));
}

/* The PCRs of an index, keys "0".. or "PCR0"..; returns how many. */
static int expected_pcrs(const struct ev_json *pcrs, struct ev_pcrs *out)
{
    int n = 0;

    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < 16; i++) {
        char name[2][8];
        const struct ev_json *v;

        snprintf(name[0], sizeof name[0], "%u", i);
        snprintf(name[1], sizeof name[1], "PCR%u", i);
        v = ev_json_get(pcrs, name[0]);
        if (!v && !(v = ev_json_get(pcrs, name[1])))
            continue;
        MUST(ev_hex_decode(ev_json_str(v), out->value[i], EV_PCR_LEN));
        out->present |= UINT32_C(1) << i;
        n++;
    }
    return n;
}

/* ---- what every genuine document must do ---- */

struct facts {
    const char *name;
    int64_t timestamp_ms, from_ms, to_ms;
    struct ev_pcrs pcrs;
    bool debug;
};

static void times(const struct facts *f, ev_slice doc)
{
    struct ev_expect e = { .any_measurement = true, .allow_debug = true };

    e.at_ms = f->timestamp_ms;
    say(gives(doc, &e, ""), f->name, "accepted at its own time");
    e.at_ms = f->to_ms;
    say(gives(doc, &e, ""), f->name, "accepted in its last second");
    e.at_ms = f->to_ms + 1000;
    say(gives(doc, &e, "cert-expired"), f->name, "refused a second later");
    e.at_ms = f->from_ms - 1000;
    say(gives(doc, &e, "cert-not-yet-valid"), f->name, "refused before");
    e.at_ms = (int64_t)time(NULL) * 1000;
    say(gives(doc, &e, "cert-expired"), f->name, "refused now");
}

static void measurements(const struct facts *f, ev_slice doc)
{
    struct ev_pcrs set = f->pcrs;
    struct ev_expect e = { .sets = &set, .n_sets = 1, .allow_debug = true, .at_ms = f->timestamp_ms };
    static const unsigned changed[] = { 0, 1, 2, 3, 4, 8 };

    say(gives(doc, &e, ""), f->name, "its own measurements");
    for (size_t k = 0; k < EV_COUNT(changed); k++) {
        set = f->pcrs;
        set.value[changed[k]][k * 9] ^= 0x10;
        say(gives(doc, &e, "pcr-mismatch"), f->name, "a PCR changed");
    }
    set = f->pcrs;
    set.present |= 1 << 16;
    say(gives(doc, &e, "pcr-missing"), f->name, "PCR16 expected");
    set = f->pcrs;
    e.allow_debug = false;
    say(gives(doc, &e, f->debug ? "debug" : ""), f->name, "debug only when allowed");
}

static void content(const struct facts *f, const struct ev_attest *a)
{
    say(a->debug == f->debug, f->name, "debug or not");
    say(a->timestamp_ms == f->timestamp_ms, f->name, "timestamp");
    say(a->not_before_ms == f->from_ms && a->not_after_ms == f->to_ms, f->name, "window");
    for (unsigned i = 0; i < 16; i++)
        if (f->pcrs.present & UINT32_C(1) << i)
            say(memcmp(a->pcrs.value[i], f->pcrs.value[i], EV_PCR_LEN) == 0, f->name, "a PCR");
    say(a->pcrs.present == 0xFFFF, f->name, "sixteen PCRs");
    say(strcmp(a->digest, "SHA384") == 0 && a->leaf, f->name, "digest and leaf");
}

static bool sha256_is(ev_slice data, const char *hex)
{
    uint8_t sha[32], want[32];

    ev_digest_once(EV_SHA256, data, sha);
    return ev_hex_decode(ev_slice_str(hex), want, sizeof want) == 32 && memcmp(sha, want, 32) == 0;
}

static void genuine(const struct facts *f, ev_slice doc, struct ev_attest *a)
{
    struct ev_expect e = { .any_measurement = true, .allow_debug = true, .at_ms = f->timestamp_ms };
    int failed = tap_failed;

    say(strcmp(judge(doc, &e, a), "") == 0, f->name, "accepted");
    content(f, a);
    times(f, doc);
    measurements(f, doc);
    OK(tap_failed == failed, "%s", f->name);
}

/* ---- tests/golden/attestation ---- */

static void one(const struct ev_json *j)
{
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX);
    struct facts f = { .name = text_of(j, "name"), .timestamp_ms = ev_json_int(ev_json_get(j, "timestamp_ms")),
                       .from_ms = time_of(j, "valid_from"), .to_ms = time_of(j, "valid_to"),
                       .debug = ev_json_bool(ev_json_get(j, "debug")) };
    struct ev_attest a;
    char path[256];

    snprintf(path, sizeof path, ATTESTATION "%s", f.name);
    kit_read(path, &doc);
    say(expected_pcrs(ev_json_get(j, "pcrs"), &f.pcrs) == 16, f.name, "16 PCRs in the index");
    say(sha256_is(ev_buf_slice(&doc), text_of(j, "sha256")), f.name, "the file that the index means");
    genuine(&f, ev_buf_slice(&doc), &a);
    say(strcmp(a.module_id, text_of(j, "module_id")) == 0, f.name, "module_id");
    say(field_is(ev_json_get(j, "user_data"), a.has_user_data, &a.user_data), f.name, "user_data");
    say(field_is(ev_json_get(j, "nonce"), a.has_nonce, &a.nonce), f.name, "nonce");
    say(field_is(ev_json_get(j, "public_key"), a.has_public_key, &a.public_key), f.name, "public_key");
    ev_attest_fini(&a);
    ev_buf_fini(&doc);
}

static struct ev_json *index_of(const char *path)
{
    struct ev_buf text = EV_BUF_INIT(1 << 20);
    struct ev_json *j = NULL;

    kit_read(path, &text);
    MUST(ev_json_parse(ev_buf_slice(&text), &j, &kit_err));
    ev_buf_fini(&text);
    return j;
}

static void test_attestation(void)
{
    struct ev_json *all = index_of(ATTESTATION "expected.json");

    EQ_INT(ev_json_count(all), 14, "documents in attestation/");
    for (size_t i = 0; i < ev_json_count(all); i++)
        one(ev_json_item(all, i));
    ev_json_free(all);
}

/* ---- tests/golden/nitro-docs ---- */

static struct ev_cert *cert_of(const char *name)
{
    struct ev_buf der = EV_BUF_INIT(1 << 16);
    struct ev_cert *c = NULL;
    char path[256];

    snprintf(path, sizeof path, NITRO_DOCS "%s", name);
    kit_read(path, &der);
    MUST(ev_cert_from_der(ev_buf_slice(&der), &c, &kit_err));
    ev_buf_fini(&der);
    return c;
}

/* A document in any of the three forms of the index. */
static void load(const struct ev_json *j, struct ev_buf *doc)
{
    const char *file = text_of(j, "file"), *form = text_of(j, "form");
    char path[256];

    snprintf(path, sizeof path, NITRO_DOCS "%s", file);
    if (strncmp(form, "hex", 3) == 0) {
        struct ev_cert *c = cert_of(file);

        MUST(ev_attest_from_cert(c, doc, &kit_err));
        ev_cert_free(c);
    } else if (strncmp(form, "base64", 6) == 0) {
        struct ev_buf text = EV_BUF_INIT(1 << 16);

        kit_read(path, &text);
        MUST(ev_base64_decode(doc, ev_buf_slice(&text), true));
        ev_buf_fini(&text);
    } else {
        kit_read(path, doc);
    }
}

/* Bound to its certificate's key, and to no other. */
static void binding(const char *name, const char *cert, const char *other, ev_slice doc, int64_t at_ms)
{
    struct ev_expect e = { .any_measurement = true, .allow_debug = true, .has_user_data = true, .at_ms = at_ms };
    const char *certs[2] = { cert, other };

    for (int i = 0; i < 2; i++) {
        struct ev_cert *c = cert_of(certs[i]);
        struct ev_key *key = NULL;
        struct ev_buf spki = EV_BUF_INIT(1024);

        MUST(ev_cert_key(c, &key, &kit_err));
        MUST(ev_key_spki(key, &spki, &kit_err));
        e.user_data = ev_buf_slice(&spki);
        say(gives(doc, &e, i == 0 ? "" : "user-data"), name, i == 0 ? "bound to its key" : "not bound to another key");
        ev_key_free(key);
        ev_cert_free(c);
        ev_buf_fini(&spki);
    }
}

static void nitro_doc(const struct ev_json *j, const char *other)
{
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX);
    struct facts f = { .name = text_of(j, "file"), .timestamp_ms = ev_json_int(ev_json_get(j, "timestampMs")),
                       .from_ms = time_of(j, "validFrom"), .to_ms = time_of(j, "validTo"),
                       .debug = strncmp(text_of(j, "note"), "debug", 5) == 0 };
    const char *cert = text_of(j, "certificate");
    struct ev_attest a;

    load(j, &doc);
    say(expected_pcrs(ev_json_get(j, "pcrs"), &f.pcrs) == 6, f.name, "6 PCRs in the index");
    say(sha256_is(ev_buf_slice(&doc), text_of(j, "documentSha256")), f.name, "the document that the index means");
    genuine(&f, ev_buf_slice(&doc), &a);
    say(strcmp(a.module_id, text_of(j, "moduleId")) == 0, f.name, "module_id");
    say(field_is(ev_json_get(j, "userDataHex"), a.has_user_data, &a.user_data), f.name, "user_data");
    say(field_is(ev_json_get(j, "nonceHex"), a.has_nonce, &a.nonce), f.name, "nonce");
    if (cert)
        binding(f.name, cert, other, ev_buf_slice(&doc), f.timestamp_ms);
    ev_attest_fini(&a);
    ev_buf_fini(&doc);
}

static void test_nitro_docs(void)
{
    struct ev_json *all = index_of(NITRO_DOCS "docs.json");
    const struct ev_json *docs = ev_json_get(all, "documents");
    int failed = tap_failed, bound = 0;

    EQ_INT(ev_json_count(docs), 5, "documents in nitro-docs/");
    for (size_t i = 0; i < ev_json_count(docs); i++) {
        const char *cert = text_of(ev_json_item(docs, i), "certificate");
        const char *other = text_of(ev_json_item(docs, i == 0 ? 1 : 0), "certificate");

        bound += cert != NULL;
        nitro_doc(ev_json_item(docs, i), other);
    }
    OK(bound == 3 && tap_failed == failed, "three are bound to the key of their certificate and no other");
    ev_json_free(all);
}

static void test_trusted_cert_has_none(void)
{
    struct ev_cert *c = cert_of("trusted-cert-2023-09-18.der");
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX);
    struct ev_err err = EV_ERR_INIT;

    OK(ev_attest_from_cert(c, &doc, &err) == EV_EVERIFY && strcmp(err.reason, "doc-missing") == 0,
       "a public certificate carries no document");
    ev_cert_free(c);
    ev_buf_fini(&doc);
}

/* ---- changed bytes ---- */

/* Every byte that is changed makes a document that is refused. The outer map and the heads of items
 * have other spellings of the same content; a single changed byte is never one of them. */
static void test_every_byte(void)
{
    enum { STEP = 5 };
    static const uint8_t flips[] = { 0x01, 0x80, 0x40, 0xFF };
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX);
    struct ev_expect e = { .any_measurement = true, .at_ms = INT64_C(1766668537578) };
    int accepted = 0, tried = 0, odd = 0;

    kit_read(ATTESTATION "5e983e0bf00a.cbor", &doc);            /* the one with an indefinite map */
    OK(gives(ev_buf_slice(&doc), &e, ""), "unchanged: accepted");
    for (size_t i = 0; i < doc.n; i += i < 64 || doc.n - i < 110 ? 1 : STEP) {
        struct ev_attest a;
        const char *r;

        doc.p[i] ^= flips[i % 4];
        r = judge(ev_buf_slice(&doc), &e, &a);
        accepted += *r == 0;
        odd += *r != 0 && strncmp(r, "doc-", 4) != 0 && strncmp(r, "cert-", 5) != 0;
        if (*r == 0)
            printf("# byte %zu ^ %02x was accepted\n", i, flips[i % 4]);
        tried++;
        ev_attest_fini(&a);
        doc.p[i] ^= flips[i % 4];
    }
    OK(accepted == 0 && tried > 900, "%d changed bytes: %d accepted", tried, accepted);
    EQ_INT(odd, 0, "all refused by form, chain or signature, never by policy");
    ev_buf_fini(&doc);
}

static void test_truncated(void)
{
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX);
    struct ev_expect e = { .any_measurement = true, .at_ms = INT64_C(1766668537578) };
    int accepted = 0;

    kit_read(ATTESTATION "5e983e0bf00a.cbor", &doc);
    for (size_t n = 0; n < doc.n; n++)
        accepted += gives(ev_slice_of(doc.p, n), &e, "");
    EQ_INT(accepted, 0, "cut at any byte: refused");
    ev_buf_fini(&doc);
}

/* A development root beside the document's own does not matter; alone it refuses. */
static void test_other_root(void)
{
    struct kit_pki pki = {0};
    struct ev_buf doc = EV_BUF_INIT(EV_ATTEST_DOC_MAX);
    struct ev_expect e = { .any_measurement = true, .at_ms = INT64_C(1766668537578) };
    struct ev_cert *two[2];
    struct ev_trust trust = { two, 1, true };
    struct ev_attest a;

    kit_pki_make(&pki, NULL);
    kit_read(ATTESTATION "5e983e0bf00a.cbor", &doc);
    two[0] = pki.cert[0];
    two[1] = aws.roots[0];
    OK(ev_attest_verify(ev_buf_slice(&doc), &trust, &e, &a, &kit_err) == EV_EVERIFY &&
       strcmp(kit_err.reason, "cert-root") == 0, "genuine, under a development root only: refused");
    ev_attest_fini(&a);
    trust.n_roots = 2;
    EQ_INT(ev_attest_verify(ev_buf_slice(&doc), &trust, &e, &a, &kit_err), 0, "under both: accepted");
    ev_attest_fini(&a);
    ev_buf_fini(&doc);
    kit_pki_fini(&pki);
}

int main(void)
{
    MUST(ev_trust_default(&aws, &kit_err));
    test_attestation();
    test_nitro_docs();
    test_trusted_cert_has_none();
    test_every_byte();
    test_truncated();
    test_other_root();
    ev_trust_fini(&aws);
    return tap_done();
}
