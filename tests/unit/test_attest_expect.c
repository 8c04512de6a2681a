/* Tests of nitro/attest.c: what is expected of a document - measurements, fields, its time - and what is
 * reported of it. One for each mistake that verifiers were seen to make (spec nsm-attestation §9, by its
 * numbers); the mistakes about who made the document are in test_attest.c. */
#include "attest_judge.h"

static void test_good(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_expect e = any();

    is(&d, &e, "", "a good document");
    EQ_STR(got.module_id, d.module_id, "its module");
    OK(got.timestamp_ms == KIT_NOW - 1000 && got.pcrs.present == 0xFFFF && !got.debug, "its fields");
    OK(got.not_before_ms == KIT_NOW - KIT_HOUR && got.not_after_ms == KIT_NOW + 3 * KIT_HOUR, "its window");
    OK(got.leaf && ev_slice_eq(ev_cert_der(got.leaf), d.certificate), "its leaf");
    e.sets = &d.pcrs;
    e.n_sets = 1;
    e.any_measurement = false;
    e.has_nonce = e.has_user_data = true;
    e.nonce = d.nonce;
    e.user_data = d.user_data;
    e.max_age_ms = 1000;
    is(&d, &e, "", "with everything expected");
}

/* 1, 2, 6, 14, 15, 24 */
static void test_measurements(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_pcrs set[2] = { d.pcrs, d.pcrs };
    struct ev_expect e = { .sets = set, .n_sets = 1, .at_ms = KIT_NOW };

    set[0].present |= 1 << 16;
    is(&d, &e, "pcr-missing", "1. an expected PCR that is not there");
    memset(&set[0], 0, sizeof set[0]);
    set[0].present = 1 | 1 << 20;
    memcpy(set[0].value[0], d.pcrs.value[0], EV_PCR_LEN);
    is(&d, &e, "pcr-missing", "1. an expected zero that is not there");
    e = (struct ev_expect){ .at_ms = KIT_NOW };
    is(&d, &e, "no-expectation", "2. nothing expected");
    EQ_INT(kit_err.code, EV_ECONFIG, "is wrong configuration");
    e.n_sets = 1;
    is(&d, &e, "no-expectation", "2. a set that is not there");
    e.sets = set;
    set[0].present = 0;
    is(&d, &e, "no-expectation", "2. an empty set");
    e.any_measurement = true;
    is(&d, &e, "no-expectation", "2. an empty set, even if any will do");
    set[0].present = 1 << 3 | 1 << 4;
    is(&d, &e, "no-expectation", "2. a set without PCR0, 1, 2, 8");
    set[0].present = 1 << 8;
    memset(set[0].value[8], 0, EV_PCR_LEN);
    is(&d, &e, "no-expectation", "2. the zero PCR8 of any unsigned image");
    set[0] = d.pcrs;
    set[1].present = 0;
    e.n_sets = 2;
    is(&d, &e, "no-expectation", "2. an empty set beside a good one");
}

static void test_matching(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_pcrs set[2] = { d.pcrs, d.pcrs };
    struct ev_expect e = { .sets = set, .n_sets = 1, .at_ms = KIT_NOW, .has_user_data = true };

    e.user_data = d.user_data;
    for (unsigned i = 0; i < 16; i++) {
        char what[64];

        snprintf(what, sizeof what, "6. PCR%u differs in its last bit", i);
        set[0] = d.pcrs;
        set[0].value[i][EV_PCR_LEN - 1] ^= 1;
        is(&d, &e, "pcr-mismatch", what);
    }
    e.any_measurement = true;
    is(&d, &e, "pcr-mismatch", "6. any_measurement does not switch a set off");
    e.any_measurement = false;
    set[0] = d.pcrs;
    set[0].present = 1 << 8;
    is(&d, &e, "", "a set of PCR8 alone");
    set[0] = set[1] = d.pcrs;
    memset(set[0].value[8], 0x77, EV_PCR_LEN);
    memset(set[1].value[0], 0x66, EV_PCR_LEN);
    e.n_sets = 2;
    is(&d, &e, "pcr-mismatch", "24. PCR0 of one set, PCR8 of the other");
    set[1] = d.pcrs;
    is(&d, &e, "", "24. the second set matches whole");
    set[1].present |= 1 << 17;
    set[0].value[8][0] = d.pcrs.value[8][0];
    is(&d, &e, "pcr-mismatch", "24. one wrong, one not complete");
}

static void test_sparse(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_pcrs set = { .present = 1 | 1 << 16 };
    struct ev_expect e = { .sets = &set, .n_sets = 1, .at_ms = KIT_NOW };
    struct ev_buf b = EV_BUF_INIT(4096);

    memset(set.value[0], 1, EV_PCR_LEN);
    memset(set.value[16], 2, EV_PCR_LEN);
    d.pcrs = set;
    d.pcrs.present |= 1 << 2;
    is(&d, &e, "", "15. a sparse set with PCR16");
    MUST(ev_cbor_put_map(&b, 3));
    for (int i = 16; i >= 0; i -= 8) {
        MUST(ev_cbor_put_uint(&b, (uint64_t)i));
        MUST(ev_cbor_put_bytes(&b, ev_slice_of(set.value[i == 8 ? 5 : i], EV_PCR_LEN)));
    }
    d.raw[K_PCRS] = ev_buf_slice(&b);
    is(&d, &e, "", "15. in descending order");
    set.value[16][0] = 1;
    is(&d, &e, "pcr-mismatch", "15. by key, not by place");
    set.present = 1 << 1;
    is(&d, &e, "pcr-missing", "15. a gap is a gap");
    ev_buf_fini(&b);
}

static void test_debug(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_pcrs zeros = { .present = 7 };
    struct ev_expect e = { .sets = &zeros, .n_sets = 1, .at_ms = KIT_NOW };

    memset(d.pcrs.value, 0, 3 * EV_PCR_LEN);
    is(&d, &e, "debug", "14. zeros expected, zeros got");
    OK(got.debug, "14. and it is reported as debug");
    e.allow_debug = true;
    is(&d, &e, "", "14. unless debug is allowed");
    zeros.value[1][9] = 1;
    is(&d, &e, "pcr-mismatch", "14. allowed does not mean unchecked");
    e = any();
    is(&d, &e, "debug", "14. any measurement is not any debug enclave");
    d.pcrs.present &= ~(uint32_t)1;
    is(&d, &e, "debug", "14. zero PCR1 and PCR2 without PCR0");
    d.pcrs.present &= ~(uint32_t)7;
    is(&d, &e, "pcr-missing", "14. no PCR0, 1, 2 at all");
}

/* 17, 19, 2 */
static void test_fields(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_expect e = any();

    e.has_nonce = true;
    e.nonce = EV_LIT("nonce");
    is(&d, &e, "", "19. the nonce");
    e.nonce = EV_LIT("nonc");
    is(&d, &e, "nonce", "19. a shorter one");
    e.nonce = EV_LIT("noncf");
    is(&d, &e, "nonce", "19. another one");
    e.nonce = EV_LIT("");
    is(&d, &e, "no-expectation", "2. an empty one expected");
    e.nonce = EV_LIT("nonce");
    d.nonce = (ev_slice){0};
    is(&d, &e, "nonce", "17. null is not the nonce");
    d.nonce = EV_LIT("");
    is(&d, &e, "nonce", "17. nor is empty");
    d.omit = 1u << K_NONCE;
    is(&d, &e, "nonce", "17. nor is absent");
    d = kit_doc(&pki);
    e = any();
    e.has_user_data = true;
    e.user_data = EV_LIT("user data ");
    is(&d, &e, "user-data", "other user_data");
    d.user_data = (ev_slice){0};
    is(&d, &e, "user-data", "17. null user_data");
    e.user_data = (ev_slice){0};
    is(&d, &e, "no-expectation", "2. nothing as expected user_data");
    e = any();
    e.has_public_key = true;
    e.public_key = EV_LIT("key");
    is(&d, &e, "public-key", "17. a null public_key");
    d.public_key = EV_LIT("kez");
    is(&d, &e, "public-key", "another public_key");
    d.public_key = EV_LIT("key");
    is(&d, &e, "", "the public_key");
    e.public_key = EV_LIT("");
    is(&d, &e, "no-expectation", "2. an empty public_key expected");
}

/* 19 */
static void test_time(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_expect e = any();

    d.timestamp = KIT_NOW / 1000;
    any_is(&d, "doc-timestamp", "19. seconds instead of milliseconds");
    d.timestamp = KIT_NOW - KIT_HOUR - 1;
    any_is(&d, "doc-timestamp", "19. before its certificates");
    d.timestamp = KIT_NOW + 5 * 60 * 1000;
    any_is(&d, "", "19. five minutes in the future");
    d.timestamp++;
    any_is(&d, "doc-timestamp", "19. more than that");
    e.future_skew_ms = 1000;
    d.timestamp = KIT_NOW + 1000;
    is(&d, &e, "", "19. a skew of a second");
    d.timestamp++;
    is(&d, &e, "doc-timestamp", "19. more than a second");
    e = any();
    e.max_age_ms = 60000;
    d.timestamp = KIT_NOW - 60000;
    is(&d, &e, "", "19. a minute old");
    d.timestamp--;
    is(&d, &e, "too-old", "19. more than a minute old");
    e.max_age_ms = -1;
    is(&d, &e, "no-expectation", "a negative age");
    e.max_age_ms = 0;
    e.future_skew_ms = -1;
    is(&d, &e, "no-expectation", "a negative skew");
    e = any();
    e.at_ms = d.timestamp = KIT_NOW + 3 * KIT_HOUR + 1000;
    is(&d, &e, "cert-expired", "19. at its own time, which its certificates do not cover");
    e.at_ms = KIT_NOW + 3 * KIT_HOUR - 60000;
    is(&d, &e, "doc-timestamp", "19. after its certificates, though near enough to now");
}

/* 25: what is reported is what was verified, and it is reported on failure too. */
static void test_report(void)
{
    struct kit_doc d = kit_doc(&pki);
    struct ev_expect e = any();
    struct ev_trust trust = { pki.cert, 1, true };

    kit_make(&d, &doc);
    ev_attest_fini(&got);
    MUST(ev_attest_verify(ev_buf_slice(&doc), &trust, &e, &got, &kit_err));
    memset(doc.p, 0xFF, doc.n);
    OK(ev_slice_eq(ev_buf_slice(&got.user_data), EV_LIT("user data")) && got.pcrs.value[0][0] == 0xA0 &&
       strcmp(got.module_id, d.module_id) == 0, "25. a report has no byte of the document's memory");
    e.has_nonce = true;
    e.nonce = EV_LIT("other");
    is(&d, &e, "nonce", "25. refused by policy");
    OK(got.pcrs.present == 0xFFFF && got.leaf && got.not_after_ms > 0, "25. and reported in full");
    OK(strncmp(kit_err.msg, "attestation document: ", 22) == 0, "the error says what it is about: %s", kit_err.msg);
    d.omit = 1u << K_CERTIFICATE;
    is(&d, &e, "doc-payload", "25. refused in the middle");
    OK(got.pcrs.present == 0xFFFF && !got.leaf, "25. reported as far as it was read");
    ev_attest_fini(&got);
    ev_attest_fini(&got);
}

int main(void)
{
    kit_pki_make(&pki, NULL);
    test_good();
    test_measurements();
    test_matching();
    test_sparse();
    test_debug();
    test_fields();
    test_time();
    test_report();
    ev_attest_fini(&got);
    ev_buf_fini(&doc);
    kit_pki_fini(&pki);
    return tap_done();
}
