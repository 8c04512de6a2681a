/* Tests of nitro/nsm_sim.c and nsm_sim_pki.c: requests, limits and words of the hardware; documents
 * with its exact bytes; certificates of its shape; renewal. */
#include "nitro/nsm_sim.h"

#include <sys/socket.h>
#include <time.h>
#include <pthread.h>
#include <unistd.h>

#include "attest_kit.h"
#include "crypto/digest.h"
#include "nitro/attest_decode.h"
#include "nitro/nsm.h"
#include "nitro/nsm_sim_pki.h"
#include "tap.h"

static struct ev_cert *root;
static struct ev_key *root_key;
static int64_t now_ms;
static struct ev_buf answer = EV_BUF_INIT(EV_NSM_RESP_MAX);

static int64_t fake_clock(void *arg) { return *(int64_t *)arg; }

static struct ev_nsm_sim *sim(bool debug)
{
    struct ev_nsm_sim_conf conf = { .root = root, .root_key = root_key, .debug = debug, .clock_ms = fake_clock,
                                    .clock_arg = &now_ms, .module_id = "i-0123456789abcdef0-enc0123456789abcdef" };
    struct ev_nsm_sim *s = NULL;

    conf.pcrs.present = 1 | 2 | 4 | 8 | 16 | 256;
    for (int i = 0; i < 9; i++)
        memset(conf.pcrs.value[i], 0x10 + i, EV_PCR_LEN);
    MUST(ev_nsm_sim_new(&conf, &s, &kit_err));
    return s;
}

static ev_slice ask(struct ev_nsm_sim *s, ev_slice request)
{
    uint8_t *exact = malloc(request.n ? request.n : 1);

    if (request.n)
        memcpy(exact, request.p, request.n);
    ev_nsm_sim_handle(s, ev_slice_of(exact, request.n), &answer);
    free(exact);
    return ev_buf_slice(&answer);
}

static void gives(struct ev_nsm_sim *s, ev_slice request, ev_slice want, const char *what)
{
    OK(ev_slice_eq(ask(s, request), want), "%s", what);
}

static void errs(struct ev_nsm_sim *s, ev_slice request, const char *word, const char *what)
{
    struct ev_buf want = EV_BUF_INIT(64);

    MUST(ev_buf_put_slice(&want, EV_LIT("\xA1\x65" "Error")));
    MUST(ev_cbor_put_text(&want, word));
    OK(ev_slice_eq(ask(s, request), ev_buf_slice(&want)), "%s: %s", what, word);
    ev_buf_fini(&want);
}

#define INDEX "\x65" "index"
#define DATA "\x64" "data"

static void test_words(void)
{
    struct ev_nsm_sim *s = sim(false);
    static uint8_t big[EV_NSM_REQ_MAX + 1];

    errs(s, EV_LIT(""), "InvalidOperation", "nothing");
    errs(s, EV_LIT("\x00"), "InvalidOperation", "a number");
    errs(s, EV_LIT("\x80"), "InvalidOperation", "an array");
    errs(s, EV_LIT("\xA0"), "InvalidOperation", "an empty map");
    errs(s, EV_LIT("\x64" "Quit"), "InvalidOperation", "an unknown name");
    errs(s, EV_LIT("\x69" "getrandom"), "InvalidOperation", "another case");
    errs(s, EV_LIT("\x69" "GetRandom" "\x00"), "InvalidOperation", "a byte after a name");
    errs(s, EV_LIT("\xA1\x69" "GetRandom" "\xA0"), "InvalidOperation", "arguments where there are none");
    errs(s, EV_LIT("\x67" "LockPCR"), "InvalidOperation", "no arguments where there are some");
    errs(s, EV_LIT("\xA1\x64" "Quit" "\xA0"), "InvalidOperation", "an unknown name with arguments");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\x10"), "InvalidArgument", "arguments that are no map");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA0"), "InvalidArgument", "no index");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x42" "16"), "InvalidArgument", "an index of bytes");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\xF6"), "InvalidArgument", "an index of null");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA2" INDEX "\x10" INDEX "\x11"), "InvalidArgument", "an index twice");
    errs(s, EV_LIT("\xA2\x67" "LockPCR" "\xA1" INDEX "\x10\x61" "a\x00"), "InvalidArgument", "two requests in one");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x10\x00"), "InvalidArgument", "a byte after the map");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x18\x20"), "InvalidIndex", "LockPCR 32");
    errs(s, EV_LIT("\xA1\x6B" "DescribePCR" "\xA1" INDEX "\x18\x20"), "InvalidIndex", "DescribePCR 32");
    errs(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA2" INDEX "\x1B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF" DATA "\x41" "a"),
         "InvalidIndex", "ExtendPCR 2^64 - 1");
    errs(s, EV_LIT("\xA1\x68" "LockPCRs" "\xA1\x65" "range" "\x18\x21"), "InvalidIndex", "LockPCRs 33");
    errs(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA1" INDEX "\x10"), "InvalidArgument", "an extension without data");
    errs(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA2" INDEX "\x10" DATA "\xF6"), "InvalidArgument", "with null");
    errs(s, ev_slice_of(big, sizeof big), "InputTooLarge", "4097 bytes");
    errs(s, ev_slice_of(big, sizeof big - 1), "InvalidOperation", "4096 zeros");
    ev_nsm_sim_free(s);
}

static void test_describe(void)
{
    struct ev_nsm_sim *s = sim(false);

    gives(s, EV_LIT("\x6B" "DescribeNSM"),
          EV_LIT("\xA1\x6B" "DescribeNSM" "\xA7\x6D" "version_major" "\x01\x6D" "version_minor" "\x00"
                 "\x6D" "version_patch" "\x00\x69" "module_id" "\x78\x27" "i-0123456789abcdef0-enc0123456789abcdef"
                 "\x68" "max_pcrs" "\x18\x20\x6B" "locked_pcrs" "\x90\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A"
                 "\x0B\x0C\x0D\x0E\x0F\x66" "digest" "\x66" "SHA384"), "DescribeNSM, byte for byte");
    ev_nsm_sim_free(s);
}

static void test_random(void)
{
    struct ev_nsm_sim *s = sim(false);
    ev_slice a = ask(s, EV_LIT("\x69" "GetRandom"));
    ev_slice head = EV_LIT("\xA1\x69" "GetRandom" "\xA1\x66" "random" "\x59\x01\x00");
    uint8_t first[256];

    OK(a.n == head.n + 256 && memcmp(a.p, head.p, head.n) == 0, "GetRandom: 256 bytes");
    memcpy(first, a.p + head.n, 256);
    a = ask(s, EV_LIT("\x69" "GetRandom"));
    OK(memcmp(first, a.p + head.n, 256) != 0, "others the next time");
    ev_nsm_sim_free(s);
}

/* The expected answer of DescribePCR. */
static void register_is(struct ev_nsm_sim *s, uint8_t i, bool lock, const uint8_t value[48], const char *what)
{
    struct ev_buf request = EV_BUF_INIT(64), want = EV_BUF_INIT(256);

    MUST(ev_buf_put_slice(&request, EV_LIT("\xA1\x6B" "DescribePCR" "\xA1" INDEX)));
    MUST(ev_cbor_put_uint(&request, i));
    MUST(ev_buf_put_slice(&want, EV_LIT("\xA1\x6B" "DescribePCR" "\xA2\x64" "lock")));
    MUST(ev_cbor_put_bool(&want, lock));
    MUST(ev_cbor_put_text(&want, "data"));
    MUST(ev_cbor_put_bytes(&want, ev_slice_of(value, 48)));
    gives(s, ev_buf_slice(&request), ev_buf_slice(&want), what);
    ev_buf_fini(&request);
    ev_buf_fini(&want);
}

static void test_registers(void)
{
    struct ev_nsm_sim *s = sim(false);
    uint8_t v[48] = {0}, old[48 + 9] = {0}, one[48];
    struct ev_buf want = EV_BUF_INIT(256);

    memset(one, 0x11, sizeof one);
    register_is(s, 1, true, one, "PCR1 as configured, locked at boot");
    register_is(s, 15, true, v, "PCR15 zero, locked");
    register_is(s, 16, false, v, "PCR16 zero, open");
    errs(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA2" INDEX "\x0F" DATA "\x41" "a"), "ReadOnlyIndex", "extending PCR15");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x00"), "ReadOnlyIndex", "locking PCR0");
    memcpy(old + 48, "app-phase", 9);
    ev_digest_once(EV_SHA384, ev_slice_of(old, sizeof old), v);
    MUST(ev_buf_put_slice(&want, EV_LIT("\xA1\x69" "ExtendPCR" "\xA1" DATA)));
    MUST(ev_cbor_put_bytes(&want, ev_slice_of(v, 48)));
    gives(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA2" INDEX "\x10" DATA "\x49" "app-phase"), ev_buf_slice(&want),
          "extending PCR16: SHA-384 of the old value and the data");
    register_is(s, 16, false, v, "and it stays");
    gives(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x10"), EV_LIT("\x67" "LockPCR"), "locking PCR16");
    register_is(s, 16, true, v, "locked");
    errs(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA2" DATA "\x41" "a" INDEX "\x10"), "ReadOnlyIndex", "extending it");
    errs(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x10"), "ReadOnlyIndex", "locking it again");
    gives(s, EV_LIT("\xA1\x68" "LockPCRs" "\xA1\x65" "range" "\x12"), EV_LIT("\x68" "LockPCRs"), "LockPCRs 18");
    gives(s, EV_LIT("\xA1\x68" "LockPCRs" "\xA1\x65" "range" "\x12"), EV_LIT("\x68" "LockPCRs"), "twice");
    gives(s, EV_LIT("\xA1\x68" "LockPCRs" "\xA1\x65" "range" "\x00"), EV_LIT("\x68" "LockPCRs"), "LockPCRs 0");
    memset(v, 0, sizeof v);
    register_is(s, 17, true, v, "PCR17 is locked");
    register_is(s, 18, false, v, "PCR18 is not");
    gives(s, EV_LIT("\xA1\x68" "LockPCRs" "\xA1\x65" "range" "\x18\x20"), EV_LIT("\x68" "LockPCRs"), "LockPCRs 32");
    register_is(s, 31, true, v, "PCR31 is locked");
    ev_buf_fini(&want);
    ev_nsm_sim_free(s);
}

/* ---- documents ---- */

static int64_t at(void) { return now_ms; }

/* {"Attestation": {user_data, nonce, public_key}}; NULL = null. */
static void put_request(struct ev_buf *b, ev_slice user_data, ev_slice nonce, ev_slice public_key)
{
    MUST(ev_buf_put_slice(b, EV_LIT("\xA1\x6B" "Attestation" "\xA3\x69" "user_data")));
    kit_bytes_or_null(b, user_data);
    MUST(ev_cbor_put_text(b, "nonce"));
    kit_bytes_or_null(b, nonce);
    MUST(ev_cbor_put_text(b, "public_key"));
    kit_bytes_or_null(b, public_key);
}

/* The document of an answer; empty when there is none. */
static ev_slice document(struct ev_nsm_sim *s, ev_slice user_data, ev_slice nonce, ev_slice public_key)
{
    struct ev_buf b = EV_BUF_INIT(8192);
    ev_slice a, head = EV_LIT("\xA1\x6B" "Attestation" "\xA1\x68" "document" "\x59");

    put_request(&b, user_data, nonce, public_key);
    a = ask(s, ev_buf_slice(&b));
    ev_buf_fini(&b);
    if (a.n < head.n + 2 || memcmp(a.p, head.p, head.n) != 0 ||
        a.n != head.n + 2 + ev_get_u16be(a.p + head.n))
        return (ev_slice){0};
    return ev_slice_of(a.p + head.n + 2, a.n - head.n - 2);
}

static int verify(ev_slice doc, struct ev_attest *a, bool allow_debug)
{
    struct ev_cert *roots[1] = { root };
    struct ev_trust trust = { roots, 1, true };
    struct ev_expect e = { .any_measurement = true, .allow_debug = allow_debug, .at_ms = at() };

    kit_err = (struct ev_err)EV_ERR_INIT;
    return ev_attest_verify(doc, &trust, &e, a, &kit_err);
}

/* The bytes that the hardware would have written for the same content. */
static void expect_bytes(const struct ev_attest_parts *p, const struct ev_attest *a, ev_slice doc)
{
    struct kit_doc d = { .module_id = a->module_id, .timestamp = (uint64_t)a->timestamp_ms, .pcrs = a->pcrs,
                         .certificate = p->certificate, .n_bundle = p->n_bundle };
    struct ev_buf payload = EV_BUF_INIT(16384), want = EV_BUF_INIT(16384);

    memcpy(d.bundle, p->bundle, sizeof p->bundle);
    d.user_data = EV_LIT("user");
    d.nonce = EV_LIT("");
    kit_payload(&d, &payload);
    kit_cose(&d, ev_buf_slice(&payload), p->signature, &want);
    OK(ev_slice_eq(ev_buf_slice(&want), doc), "the document, byte for byte: order, lengths, null, empty");
    OK(memmem(payload.p, payload.n, "timestamp\x1B", 10) != NULL, "an 8-byte timestamp");
    ev_buf_fini(&payload);
    ev_buf_fini(&want);
}

static void test_document(void)
{
    struct ev_nsm_sim *s = sim(false);
    ev_slice doc = document(s, EV_LIT("user"), EV_LIT(""), (ev_slice){0});
    struct ev_attest_parts p;
    struct ev_attest a;

    EQ_INT(verify(doc, &a, false), 0, "a document verifies under the development root");
    OK(!a.debug && a.pcrs.present == 0xFFFF && a.pcrs.value[8][0] == 0x18 && a.pcrs.value[5][0] == 0, "its registers");
    OK(a.timestamp_ms == now_ms, "its time");
    OK(a.not_after_ms - a.not_before_ms == (3 * 3600 + 3) * 1000, "valid for three hours and three seconds");
    ev_attest_fini(&a);
    MUST(ev_attest_decode(doc, &p, &a, &kit_err));
    OK(doc.n > 3500 && doc.n < 5300, "of a size that the hardware's have (%zu)", doc.n);
    expect_bytes(&p, &a, doc);
    ev_attest_fini(&a);
    doc = document(s, (ev_slice){0}, (ev_slice){0}, EV_LIT(""));
    EQ_INT(verify(doc, &a, false), 0, "an empty public key");
    OK(!a.has_user_data && !a.has_nonce && !a.has_public_key, "is null in the document, as null is");
    ev_attest_fini(&a);
    ev_nsm_sim_free(s);
}

static void test_document_limits(void)
{
    struct ev_nsm_sim *s = sim(false);
    static uint8_t big[1025];
    ev_slice full = ev_slice_of(big, 1024), over = ev_slice_of(big, 1025), null = {0};
    struct ev_attest a;
    struct ev_buf b = EV_BUF_INIT(8192);

    EQ_INT(verify(document(s, full, full, full), &a, false), 0, "three fields of 1024 bytes");
    OK(a.user_data.n == 1024 && a.nonce.n == 1024 && a.public_key.n == 1024, "are all there");
    ev_attest_fini(&a);
    gives(s, EV_LIT("\xA1\x68" "LockPCRs" "\xA1\x65" "range" "\x18\x20"), EV_LIT("\x68" "LockPCRs"), "all locked");
    EQ_INT(verify(document(s, full, full, full), &a, false), 0, "and with 32 registers: the largest document");
    OK(a.pcrs.present == UINT32_MAX && answer.n <= EV_NSM_RESP_MAX, "fits the answer (%zu)", answer.n);
    ev_attest_fini(&a);
    for (int i = 0; i < 3; i++) {
        ev_buf_clear(&b);
        put_request(&b, i == 0 ? over : null, i == 1 ? over : null, i == 2 ? over : null);
        errs(s, ev_buf_slice(&b), "InputTooLarge", "a field of 1025 bytes");
    }
    errs(s, EV_LIT("\xA1\x6B" "Attestation" "\xA2\x69" "user_data" "\xF6\x65" "nonce" "\xF6"), "InvalidArgument",
         "a key missing");
    errs(s, EV_LIT("\xA1\x6B" "Attestation" "\xA3\x69" "user_data" "\xF6\x65" "nonce" "\x61" "n"
                   "\x6A" "public_key" "\xF6"), "InvalidArgument", "a nonce of text");
    ev_buf_fini(&b);
    ev_nsm_sim_free(s);
}

static void test_locked_in_document(void)
{
    struct ev_nsm_sim *s = sim(false);
    struct ev_attest a;

    ask(s, EV_LIT("\xA1\x69" "ExtendPCR" "\xA2" INDEX "\x10" DATA "\x49" "app-phase"));
    EQ_INT(verify(document(s, (ev_slice){0}, (ev_slice){0}, (ev_slice){0}), &a, false), 0, "PCR16 extended only");
    EQ_INT(a.pcrs.present, 0xFFFF, "is not in the document");
    ev_attest_fini(&a);
    ask(s, EV_LIT("\xA1\x67" "LockPCR" "\xA1" INDEX "\x10"));
    EQ_INT(verify(document(s, (ev_slice){0}, (ev_slice){0}, (ev_slice){0}), &a, false), 0, "PCR16 locked");
    EQ_INT(a.pcrs.present, 0x1FFFF, "is in it");
    ev_attest_fini(&a);
    ev_nsm_sim_free(s);
}

static void test_debug(void)
{
    struct ev_nsm_sim *s = sim(true);
    struct ev_attest a;
    ev_slice doc = document(s, (ev_slice){0}, (ev_slice){0}, (ev_slice){0});
    static const uint8_t zero[48];

    EQ_INT(verify(doc, &a, false), EV_EVERIFY, "a debug document is refused");
    EQ_STR(kit_err.reason, "debug", "reason");
    ev_attest_fini(&a);
    EQ_INT(verify(doc, &a, true), 0, "unless it is allowed");
    for (int i = 0; i <= 8; i++)
        if (i < 5 || i == 8)
            OK((memcmp(a.pcrs.value[i], zero, 48) == 0) == (i <= 2 || i == 8), "PCR%d in debug mode", i);
    ev_attest_fini(&a);
    register_is(s, 8, true, zero, "PCR8 is zero when asked, too");
    ev_nsm_sim_free(s);
}

/* ---- certificates ---- */

static int64_t leaf_end(struct ev_nsm_sim *s, struct ev_cert **leaf)
{
    struct ev_attest a;
    int64_t end;

    MUST(verify(document(s, (ev_slice){0}, (ev_slice){0}, (ev_slice){0}), &a, false));
    end = a.not_after_ms;
    if (leaf) {
        ev_cert_free(*leaf);
        *leaf = ev_cert_ref(a.leaf);
    }
    ev_attest_fini(&a);
    return end;
}

static void test_renewal(void)
{
    struct ev_nsm_sim *s;
    struct ev_cert *first = NULL, *second = NULL;
    int64_t start = now_ms, end, hours;

    s = sim(false);
    end = leaf_end(s, &first);
    now_ms = end - 30 * 60 * 1000;
    leaf_end(s, &second);
    OK(ev_slice_eq(ev_cert_der(first), ev_cert_der(second)), "the leaf stays while half an hour of it is left");
    now_ms += 1000;
    leaf_end(s, &second);
    OK(!ev_slice_eq(ev_cert_der(first), ev_cert_der(second)), "then there is a new one");
    for (hours = 0; hours < 24 * 45; hours += 2) {      /* past the end of every authority, twice */
        now_ms = start + hours * KIT_HOUR;
        if (leaf_end(s, NULL) - now_ms < 30 * 60 * 1000)
            break;
    }
    EQ_INT(hours, 24 * 45, "45 days, every two hours: documents that stay valid for half an hour at least");
    now_ms = start - 24 * KIT_HOUR + 60 * 1000;
    OK(leaf_end(s, &second) < end, "a clock set back: an earlier leaf");
    ev_cert_free(first);
    ev_cert_free(second);
    ev_nsm_sim_free(s);
    now_ms = start;
}

static void test_shapes(void)
{
    struct ev_sim_pki *p = NULL;
    static const int64_t hours[] = { 0, 20 * 24, 6 * 24, 24, 3 };
    char name[64], value[128], text[512] = "";
    int64_t from, to;

    MUST(ev_sim_pki_new(root, root_key, "i-0123456789abcdef0-enc0123456789abcdef", now_ms, &p, &kit_err));
    OK(ev_cert_der(root).n <= 536, "root: %zu bytes", ev_cert_der(root).n);
    for (unsigned i = 1; i < EV_SIM_CHAIN; i++) {
        ev_cert_validity(ev_sim_pki_cert(p, i), &from, &to);
        OK((to - from) / KIT_HOUR == hours[i] && from <= now_ms, "certificate %u lasts %lld hours", i,
           (long long)((to - from) / KIT_HOUR));
        OK(ev_cert_der(ev_sim_pki_cert(p, i)).n <= 800, "of %zu bytes", ev_cert_der(ev_sim_pki_cert(p, i)).n);
        EQ_STR(ev_cert_sig_alg(ev_sim_pki_cert(p, i)), "ecdsa-with-SHA384", "signed with");
    }
    for (size_t i = 0; ev_cert_issuer_attr(ev_sim_pki_cert(p, 4), i, name, sizeof name, value, sizeof value); i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%s;", name, value);
    OK(strstr(text, "commonName=i-0123456789abcdef0.local-1.sim.nitro-enclaves;") != NULL, "the leaf's issuer: %s",
       text);
    ev_sim_pki_free(p);
}

static void test_conf(void)
{
    struct ev_nsm_sim_conf conf = { .root = root, .root_key = root_key };
    struct ev_nsm_sim *s = NULL;
    struct ev_key *other = NULL;
    struct ev_err err = EV_ERR_INIT;
    static const char *const ids[] = { "", "x", "i-", "i-enc0", "i--enc0", "i-0-enc", "i-0-enc0/CN=x", "i-0-encG",
                                       "i-0123456789abcdef-enc0123456789abcdef0123456789a",
                                       "i-0123456789abcdef0123456789abcdef0-enc0" };
    struct timespec ts;
    struct ev_attest a;

    for (size_t i = 0; i < EV_COUNT(ids); i++) {
        conf.module_id = ids[i];
        EQ_INT(ev_nsm_sim_new(&conf, &s, &err), EV_EUSAGE, ids[i]);
    }
    conf.module_id = NULL;
    MUST(ev_nsm_sim_new(&conf, &s, &kit_err));
    clock_gettime(CLOCK_REALTIME, &ts);
    now_ms = ts.tv_sec * INT64_C(1000);
    MUST(verify(document(s, EV_LIT("x"), (ev_slice){0}, (ev_slice){0}), &a, true));
    OK(strlen(a.module_id) == 39 && a.module_id[19] == '-', "a module id of its own: %s", a.module_id);
    OK(a.timestamp_ms >= now_ms && a.timestamp_ms < now_ms + 60000, "and the real clock");
    ev_attest_fini(&a);
    ev_nsm_sim_free(s);
    MUST(ev_key_generate(EV_P384, &other, &kit_err));
    conf.root_key = other;
    EQ_INT(ev_nsm_sim_new(&conf, &s, &err), EV_ECONFIG, "a key that is not the root's");
    ev_key_free(other);
    ev_nsm_sim_free(NULL);
}

/* ---- all of it: client, packets, simulator ---- */

struct server {
    int fd;
    struct ev_nsm_sim *sim;
};

static void *serve(void *arg)
{
    struct server *v = arg;
    static uint8_t in[EV_NSM_REQ_MAX + 1];
    struct ev_buf out = EV_BUF_INIT(EV_NSM_RESP_MAX);
    ssize_t n;

    while ((n = recv(v->fd, in, sizeof in, 0)) > 0) {
        ev_nsm_sim_handle(v->sim, ev_slice_of(in, (size_t)n), &out);
        if (send(v->fd, out.p, out.n, MSG_NOSIGNAL) < 0)
            break;
    }
    ev_buf_fini(&out);
    return NULL;
}

static void test_client(void)
{
    int fd[2];
    struct server v = { .sim = sim(false) };
    struct ev_nsm *n = NULL;
    struct ev_nsm_info info;
    struct ev_buf doc = EV_BUF_INIT(16384);
    struct ev_attest a;
    struct ev_err err = EV_ERR_INIT;
    uint8_t random[1000] = {0}, value[48];
    bool locked;
    pthread_t thread;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
        abort();
    v.fd = fd[1];
    pthread_create(&thread, NULL, serve, &v);
    MUST(ev_nsm_from_fd(fd[0], &n, &kit_err));
    MUST(ev_nsm_describe(n, &info, &kit_err));
    OK(info.locked == 0xFFFF && info.max_pcrs == 32, "client: DescribeNSM");
    MUST(ev_nsm_random(n, random, sizeof random, &kit_err));
    OK(random[0] | random[500] | random[990] | random[999], "client: 1000 random bytes");
    MUST(ev_nsm_extend(n, 16, EV_LIT("app-phase"), &kit_err));
    MUST(ev_nsm_lock(n, 16, &kit_err));
    EQ_INT(ev_nsm_extend(n, 16, EV_LIT("again"), &err), -EPERM, "client: a locked register");
    MUST(ev_nsm_pcr(n, 16, &locked, value, &kit_err));
    OK(locked, "client: DescribePCR");
    MUST(ev_nsm_attest(n, EV_LIT("u"), EV_LIT("n"), (ev_slice){0}, &doc, &kit_err));
    EQ_INT(verify(ev_buf_slice(&doc), &a, false), 0, "client: a document that verifies");
    OK(a.pcrs.present == 0x1FFFF && memcmp(a.pcrs.value[16], value, 48) == 0, "with PCR16");
    ev_attest_fini(&a);
    ev_nsm_close(n);
    pthread_join(thread, NULL);
    close(fd[1]);
    ev_nsm_sim_free(v.sim);
    ev_buf_fini(&doc);
}

/* Any bytes: an answer each time, and no crash. */
static void test_hostile(void)
{
    struct ev_nsm_sim *s = sim(false);
    struct ev_buf b = EV_BUF_INIT(8192), tiny = EV_BUF_INIT(8);
    int silent = 0, good = 0;

    MUST(ev_buf_put_slice(&b, EV_LIT("\xA1\x69" "ExtendPCR" "\xBF" INDEX "\x10" DATA "\x49" "app-phase" "\x63" "new"
                                    "\x82\x01\xA1\x01\x02\xFF")));
    for (size_t n = 0; n < b.n; n++)
        silent += ask(s, ev_slice_of(b.p, n)).n == 0;
    for (size_t i = 0; i < b.n; i++)
        for (int flip = 1; flip < 256; flip += 13) {
            b.p[i] ^= (uint8_t)flip;
            silent += ask(s, ev_buf_slice(&b)).n == 0;
            good += answer.n > 1 && answer.p[1] != 0x65;
            b.p[i] ^= (uint8_t)flip;
        }
    EQ_INT(silent, 0, "cut or changed requests always get an answer");
    OK(good > 10, "some of them good (%d)", good);
    ev_nsm_sim_handle(s, EV_LIT("\x6B" "DescribeNSM"), &tiny);
    EQ_INT(tiny.n, 0, "a buffer that holds nothing gets nothing");
    ev_buf_fini(&b);
    ev_buf_fini(&tiny);
    ev_nsm_sim_free(s);
}

int main(void)
{
    MUST(ev_nsm_sim_make_root(&root, &root_key, &kit_err));
    now_ms = (int64_t)time(NULL) * 1000 + 123;
    test_words();
    test_describe();
    test_random();
    test_registers();
    test_document();
    test_document_limits();
    test_locked_in_document();
    test_debug();
    test_renewal();
    test_shapes();
    test_client();
    test_hostile();
    test_conf();
    ev_cert_free(root);
    ev_key_free(root_key);
    ev_buf_fini(&answer);
    return tap_done();
}
