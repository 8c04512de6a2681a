/* Tests of nitro/attest_decode.c: the shape of documents. No signature is looked at here. */
#include "nitro/attest_decode.h"

#include "attest_kit.h"
#include "tap.h"

static const uint8_t sig[96] = { 1 };

/* A document with certificates that are no certificates: decoding does not look inside. */
static struct kit_doc plain(void)
{
    struct kit_doc d = { .module_id = "i-0-enc0", .timestamp = KIT_NOW, .n_bundle = 2 };

    d.certificate = EV_LIT("leaf");
    d.bundle[0] = EV_LIT("root");
    d.bundle[1] = EV_LIT("issuer");
    d.pcrs.present = 0x1F;
    memset(d.pcrs.value, 0xAB, sizeof d.pcrs.value);
    return d;
}

static int decode(ev_slice doc, struct ev_err *err)
{
    struct ev_attest_parts parts;
    struct ev_attest a;
    uint8_t *exact = malloc(doc.n ? doc.n : 1);     /* so that the sanitizer sees a read past the end */
    int rc;

    if (doc.n)
        memcpy(exact, doc.p, doc.n);
    rc = ev_attest_decode(ev_slice_of(exact, doc.n), &parts, &a, err);
    ev_attest_fini(&a);
    ev_attest_fini(&a);
    free(exact);
    return rc;
}

static void check(ev_slice doc, const char *reason, const char *what)
{
    struct ev_err err = EV_ERR_INIT;
    int rc = decode(doc, &err);

    if (!reason)
        OK(rc == 0, "%s: accepted (%s)", what, err.msg);
    else
        OK(rc == EV_EVERIFY && err.code == EV_EVERIFY && strcmp(err.reason, reason) == 0 && err.msg[0],
           "%s: %s (%d %s: %s)", what, reason, rc, err.reason, err.msg);
    if (decode(doc, NULL) != rc)
        OK(0, "%s: the same without an error object", what);
}

static void check_payload(const struct kit_doc *d, const char *reason, const char *what)
{
    struct ev_buf payload = EV_BUF_INIT(1 << 20), doc = EV_BUF_INIT(1 << 20);

    kit_payload(d, &payload);
    kit_cose(d, ev_buf_slice(&payload), ev_slice_of(sig, sizeof sig), &doc);
    check(ev_buf_slice(&doc), reason, what);
    ev_buf_fini(&payload);
    ev_buf_fini(&doc);
}

static void test_good(void)
{
    struct kit_doc d = plain();
    struct ev_buf payload = EV_BUF_INIT(1 << 16), doc = EV_BUF_INIT(1 << 16);
    struct ev_attest_parts p;
    struct ev_attest a;
    struct ev_err err = EV_ERR_INIT;

    d.user_data = EV_LIT("user");
    d.nonce = EV_LIT("");
    kit_payload(&d, &payload);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(sig, sizeof sig), &doc);
    EQ_INT(ev_attest_decode(ev_buf_slice(&doc), &p, &a, &err), 0, "a plain document decodes");
    EQ_STR(a.module_id, "i-0-enc0", "module_id");
    EQ_STR(a.digest, "SHA384", "digest");
    EQ_INT(a.timestamp_ms, KIT_NOW, "timestamp");
    EQ_INT(a.pcrs.present, 0x1F, "PCRs that are there");
    OK(a.pcrs.value[4][47] == 0xAB && a.pcrs.value[5][0] == 0, "their values");
    OK(a.has_user_data && ev_slice_eq(ev_buf_slice(&a.user_data), d.user_data), "user_data");
    OK(a.has_nonce && a.nonce.n == 0, "an empty nonce is there");
    OK(!a.has_public_key, "a null public_key is not");
    OK(ev_slice_eq(p.payload, ev_buf_slice(&payload)) && p.signature.n == 96, "payload and signature as received");
    OK(ev_slice_eq(p.certificate, EV_LIT("leaf")), "certificate");
    OK(p.n_bundle == 2 && ev_slice_eq(p.bundle[0], EV_LIT("root")), "bundle");
    OK(!a.debug && !a.leaf, "neither debug nor believed");
    memset(doc.p, 0, doc.n);
    OK(ev_slice_eq(ev_buf_slice(&a.user_data), EV_LIT("user")), "fields do not borrow from the document");
    ev_attest_fini(&a);
    ev_buf_fini(&payload);
    ev_buf_fini(&doc);
}

/* Every truncation, and every byte changed in a few ways: no crash, and never a success with fewer
 * bytes. (What a change of content means is for the signature.) */
static void test_hostile_bytes(void)
{
    struct kit_doc d = plain();
    struct ev_buf payload = EV_BUF_INIT(1 << 16), doc = EV_BUF_INIT(1 << 16);
    static const uint8_t flips[] = { 0x01, 0x20, 0x80, 0x1F, 0xFF };
    int bad = 0, refused = 0;

    d.indefinite = true;
    kit_payload(&d, &payload);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(sig, sizeof sig), &doc);
    for (size_t n = 0; n < doc.n; n++)
        bad += decode(ev_slice_of(doc.p, n), NULL) != EV_EVERIFY;
    EQ_INT(bad, 0, "every truncation is refused");
    for (size_t i = 0; i < doc.n; i++)
        for (size_t k = 0; k < sizeof flips; k++) {
            doc.p[i] ^= flips[k];
            refused += decode(ev_buf_slice(&doc), NULL) < 0;
            doc.p[i] ^= flips[k];
        }
    OK(refused > 200, "changed bytes: %d of %zu refused by shape alone", refused, doc.n * sizeof flips);
    check(ev_buf_slice(&doc), NULL, "and unchanged again");
    MUST(ev_buf_putc(&doc, 0));
    check(ev_buf_slice(&doc), "doc-cose", "a byte after it");
    ev_buf_fini(&payload);
    ev_buf_fini(&doc);
}

static void test_size(void)
{
    struct ev_buf big = EV_BUF_INIT(1 << 20);

    check(ev_slice_of(NULL, 0), "doc-size", "no bytes");
    MUST(ev_buf_zero(&big, EV_ATTEST_DOC_MAX + 1));
    check(ev_buf_slice(&big), "doc-size", "32769 bytes");
    check(ev_slice_of(big.p, EV_ATTEST_DOC_MAX), "doc-cose", "32768 zeros");
    ev_buf_fini(&big);
}

/* ---- the outer array ---- */

/* Items by hand: prefix, header, unprotected, payload, signature, suffix. */
static void check_outer(ev_slice prefix, ev_slice header, ev_slice unprotected, ev_slice signature, ev_slice suffix,
                        const char *reason, const char *what)
{
    struct kit_doc d = plain();
    struct ev_buf payload = EV_BUF_INIT(1 << 16), doc = EV_BUF_INIT(1 << 16);

    kit_payload(&d, &payload);
    MUST(ev_buf_put_slice(&doc, prefix));
    MUST(ev_buf_put_slice(&doc, header));
    MUST(ev_buf_put_slice(&doc, unprotected));
    MUST(ev_cbor_put_bytes(&doc, ev_buf_slice(&payload)));
    MUST(ev_buf_put_slice(&doc, signature));
    MUST(ev_buf_put_slice(&doc, suffix));
    check(ev_buf_slice(&doc), reason, what);
    ev_buf_fini(&payload);
    ev_buf_fini(&doc);
}

static void test_outer(void)
{
    uint8_t s[2 + 97] = { 0x58, 96 }, s95[2 + 95] = { 0x58, 95 }, s97[2 + 97] = { 0x58, 97 };
    uint8_t text[2 + 96] = { 0x78, 96 };
    ev_slice H = EV_LIT("\x44\xA1\x01\x38\x22"), U = EV_LIT("\xA0"), S = ev_slice_of(s, 98), N = EV_LIT("");
    ev_slice four = EV_LIT("\x84");

    check_outer(four, H, U, S, N, NULL, "untagged");
    check_outer(EV_LIT("\xD2\x84"), H, U, S, N, NULL, "tag 18");
    check_outer(EV_LIT("\xD8\x12\x84"), H, U, S, N, NULL, "tag 18 in its long form");
    check_outer(EV_LIT("\xD2\xD2\x84"), H, U, S, N, "doc-cose", "tag 18 twice");
    check_outer(EV_LIT("\xD1\x84"), H, U, S, N, "doc-cose", "tag 17");
    check_outer(EV_LIT("\x9F"), H, U, S, EV_LIT("\xFF"), NULL, "an indefinite array with its break");
    check_outer(EV_LIT("\x9F"), H, U, S, N, "doc-cbor", "without its break");
    check_outer(EV_LIT("\x9F"), H, U, S, EV_LIT("\x00\xFF"), "doc-cose", "with a fifth item");
    check_outer(EV_LIT("\x83"), H, U, S, N, "doc-cose", "an array of three");
    check_outer(EV_LIT("\x85"), H, U, S, EV_LIT("\x00"), "doc-cose", "an array of five");
    check_outer(EV_LIT("\xA2"), H, U, S, N, "doc-cose", "a map");
    check_outer(EV_LIT("\x9B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), H, U, S, N, "doc-cbor", "an array of 2^64 - 1");
    check_outer(EV_LIT("\x9C"), H, U, S, N, "doc-cbor", "additional information 28");
    check_outer(EV_LIT("\xF9\x00\x00"), H, U, S, N, "doc-cbor", "a float first");
    check_outer(EV_LIT("\xFF"), H, U, S, N, "doc-cbor", "a break first");
    check_outer(four, H, EV_LIT("\xA1\x04\x01"), S, N, NULL, "an unprotected entry is nobody's business");
    check_outer(four, H, EV_LIT("\xA1\x01\x38\x22"), S, N, NULL, "an unprotected alg too");
    check_outer(four, H, EV_LIT("\xBF\xFF"), S, N, NULL, "an indefinite unprotected map");
    check_outer(four, H, EV_LIT("\x40"), S, N, "doc-cose", "unprotected: bytes");
    check_outer(four, H, EV_LIT("\xF6"), S, N, "doc-cose", "unprotected: null");
    check_outer(four, H, EV_LIT("\xA1\x01\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x00"), S, N, "doc-cbor",
                "unprotected: deep");
    check_outer(four, H, EV_LIT("\xA1\x01\xFF"), S, N, "doc-cbor", "unprotected: a break in a definite map");
    check_outer(four, EV_LIT("\xA1\x01\x38\x22"), U, S, N, "doc-cose", "the protected header not wrapped");
    check_outer(four, EV_LIT("\xF6"), U, S, N, "doc-cose", "protected: null");
    check_outer(four, EV_LIT("\x5F\x44\xA1\x01\x38\x22\xFF"), U, S, N, "doc-cbor", "protected: in chunks");
    check_outer(four, H, U, EV_LIT("\x40"), N, "doc-cose", "an empty signature");
    check_outer(four, H, U, EV_LIT("\xF6"), N, "doc-cose", "a null signature");
    check_outer(four, H, U, ev_slice_of(s95, sizeof s95), N, "doc-cose", "a signature of 95 bytes");
    check_outer(four, H, U, ev_slice_of(s97, sizeof s97), N, "doc-cose", "a signature of 97 bytes");
    memset(text + 2, 'a', 96);
    check_outer(four, H, U, ev_slice_of(text, sizeof text), N, "doc-cose", "a signature that is text");
    check_outer(four, H, U, S, EV_LIT("\x00"), "doc-cose", "an item after the array");
    check_outer(four, H, U, N, N, "doc-cbor", "no signature at all");
    check(EV_LIT("\x84\x44\xA1\x01\x38\x22\xA0\xF6\x40"), "doc-cose", "a detached (null) payload");
    check(EV_LIT("\x84\x44\xA1\x01\x38\x22\xA0\x40\x40"), "doc-cose", "an empty payload");
}

static void test_algorithm(void)
{
    static const struct { const char *bytes; size_t n; const char *reason, *what; } c[] = {
#define C(s, reason, what) { s, sizeof s - 1, reason, what }
        C("\x44\xA1\x01\x38\x22", NULL, "ES384"),
        C("\x46\xA1\x18\x01\x39\x00\x22", NULL, "ES384 in long forms"),
        C("\x45\xBF\x01\x38\x22\xFF", NULL, "ES384 in an indefinite map"),
        C("\x43\xA1\x01\x26", "doc-alg", "ES256"), C("\x44\xA1\x01\x38\x23", "doc-alg", "ES512"),
        C("\x43\xA1\x01\x20", "doc-alg", "-1, as QEMU's"), C("\x44\xA1\x01\x18\x22", "doc-alg", "34"),
        C("\x48\xA1\x01\x65" "ES384", "doc-alg", "the text ES384"), C("\x43\xA1\x01\xF6", "doc-alg", "null"),
        C("\x47\xA1\x01\x64" "none", "doc-alg", "none"), C("\x40", "doc-alg", "nothing"),
        C("\x41\xA0", "doc-alg", "{}"),
        C("\x46\xA2\x01\x38\x22\x04\x01", "doc-alg", "a second key"),
        C("\x47\xA2\x01\x38\x22\x02\x81\x01", "doc-alg", "crit"),
        C("\x47\xA2\x01\x38\x22\x01\x38\x22", "doc-alg", "alg twice"),
        C("\x45\xA1\x01\x38\x22\x00", "doc-alg", "a byte more"),
        C("\x43\xA1\x01\x38", "doc-alg", "cut off"), C("\x44\xA1\x02\x38\x22", "doc-alg", "another label"),
        C("\x47\xA1\x63" "alg\x38\x22", "doc-alg", "a text label"), C("\x43\x01\x38\x22", "doc-alg", "no map"),
        C("\x44\xBF\x01\x38\x22", "doc-alg", "no break"), C("\x44\x81\x01\x38\x22", "doc-alg", "an array"),
#undef C
    };
    uint8_t s[98] = { 0x58, 96 };

    for (size_t i = 0; i < EV_COUNT(c); i++)
        check_outer(EV_LIT("\x84"), ev_slice_of(c[i].bytes, c[i].n), EV_LIT("\xA0"), ev_slice_of(s, 98), EV_LIT(""),
                    c[i].reason, c[i].what);
}

/* ---- payload ---- */

static void with_raw(enum kit_key k, ev_slice raw, const char *reason, const char *what)
{
    struct kit_doc d = plain();

    d.raw[k] = raw;
    check_payload(&d, reason, what);
}

static void with_extra(ev_slice extra, unsigned n, const char *reason, const char *what)
{
    struct kit_doc d = plain();

    d.extra = extra;
    d.n_extra = n;
    check_payload(&d, reason, what);
    d.indefinite = true;
    check_payload(&d, reason, what);
}

static void test_keys(void)
{
    struct kit_doc d;
    static const char *const name[K_COUNT] = { "module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle",
                                               "public_key", "user_data", "nonce" };
    struct ev_buf many = EV_BUF_INIT(4096);

    for (unsigned k = 0; k < K_COUNT; k++) {
        d = plain();
        d.omit = 1u << k;
        check_payload(&d, k < K_PUBLIC_KEY ? "doc-payload" : NULL, name[k]);
    }
    with_extra(EV_LIT("\x66" "digest" "\x66" "SHA384"), 1, "doc-payload", "digest twice");
    with_extra(EV_LIT("\x65" "nonce" "\xF6"), 1, "doc-payload", "nonce twice, both null");
    with_extra(EV_LIT("\x78\x05" "nonce" "\xF6"), 1, "doc-payload", "nonce twice, spelled longer");
    with_extra(EV_LIT("\x64" "pcrs" "\xA0"), 1, "doc-payload", "pcrs twice");
    with_extra(EV_LIT("\x63" "new" "\x82\x01\xA1\x01\xF5"), 1, NULL, "a key of the future");
    with_extra(EV_LIT("\x63" "new" "\x01\x63" "new" "\x01"), 2, "doc-payload", "twice the same unknown key");
    with_extra(EV_LIT("\x63" "new" "\x01\x63" "old" "\x01"), 2, NULL, "two unknown keys");
    with_extra(EV_LIT("\x43" "new" "\x01"), 1, "doc-payload", "a key of bytes");
    with_extra(EV_LIT("\x01\x01"), 1, "doc-payload", "a number as key");
    with_extra(EV_LIT("\x63" "new" "\xFB\x3F\xF0\x00\x00\x00\x00\x00\x00"), 1, "doc-payload",
               "a float in an unknown key");
    with_extra(EV_LIT("\x63" "new" "\xF7"), 1, "doc-payload", "undefined in an unknown key");
    with_extra(EV_LIT("\x63" "new" "\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x01"), 1, "doc-payload", "depth 10");
    with_extra(EV_LIT("\x63\xFF" "ew" "\x01"), 1, "doc-payload", "a key that is not UTF-8");
    for (char c = 'a'; c < 'a' + 17; c++)
        MUST(ev_buf_printf(&many, "\x61%c%c", c, 1));
    with_extra(ev_buf_slice(&many), 17, "doc-payload", "17 unknown keys");
    ev_buf_fini(&many);
}

static void test_shape(void)
{
    struct kit_doc d = plain();

    d.indefinite = true;
    check_payload(&d, NULL, "an indefinite payload map");
    d.extra = EV_LIT("\xFF");
    check_payload(&d, "doc-payload", "a byte (a second break) after it");
    d.extra = EV_LIT("\x63" "odd");
    check_payload(&d, "doc-payload", "a break where a value was expected");
    d = plain();
    d.n_extra = 1;
    check_payload(&d, "doc-payload", "a pair less than announced");
    d.extra = EV_LIT("\x63" "new" "\xFF");
    check_payload(&d, "doc-payload", "a break in a definite map");
    d = plain();
    d.extra = EV_LIT("\x00");
    check_payload(&d, "doc-payload", "a byte after the payload map");
}

static void test_scalars(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 16);

    with_raw(K_MODULE_ID, EV_LIT("\x60"), "doc-payload", "an empty module_id");
    with_raw(K_MODULE_ID, EV_LIT("\x41" "i"), "doc-payload", "module_id of bytes");
    with_raw(K_MODULE_ID, EV_LIT("\x62" "i\x1B"), "doc-payload", "a control character in it");
    with_raw(K_MODULE_ID, EV_LIT("\x62" "i\x00"), "doc-payload", "a NUL in it");
    MUST(ev_buf_put_slice(&b, EV_LIT("\x78\x80")));
    for (int i = 0; i < 128; i++)
        MUST(ev_buf_putc(&b, 'i'));
    with_raw(K_MODULE_ID, ev_buf_slice(&b), "doc-payload", "module_id of 128 bytes");
    with_raw(K_DIGEST, EV_LIT("\x66" "SHA256"), "doc-payload", "SHA256");
    with_raw(K_DIGEST, EV_LIT("\x66" "sha384"), "doc-payload", "sha384");
    with_raw(K_DIGEST, EV_LIT("\x67" "SHA384 "), "doc-payload", "SHA384 and a blank");
    with_raw(K_DIGEST, EV_LIT("\x46" "SHA384"), "doc-payload", "digest of bytes");
    with_raw(K_TIMESTAMP, EV_LIT("\x00"), "doc-payload", "timestamp 0");
    with_raw(K_TIMESTAMP, EV_LIT("\x20"), "doc-payload", "timestamp -1");
    with_raw(K_TIMESTAMP, EV_LIT("\x1B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), "doc-payload", "timestamp 2^64 - 1");
    with_raw(K_TIMESTAMP, EV_LIT("\x1B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), "doc-payload", "timestamp 2^63 - 1");
    with_raw(K_TIMESTAMP, EV_LIT("\xFB\x42\x79\x00\x00\x00\x00\x00\x00"), "doc-payload", "timestamp as a float");
    with_raw(K_TIMESTAMP, EV_LIT("\xC1\x1A\x60\x00\x00\x00"), "doc-payload", "timestamp with a tag");
    with_raw(K_TIMESTAMP, EV_LIT("\x1B\x00\x00\x00\x00\x00\x00\x00\x07"), NULL, "timestamp 7 in its long form");
    ev_buf_fini(&b);
}

static void test_pcrs(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 16);
    static const uint8_t v[48] = { 7 };
    ev_slice value = ev_slice_of(v, sizeof v);

    with_raw(K_PCRS, EV_LIT("\xA0"), "doc-payload", "no PCR");
    with_raw(K_PCRS, EV_LIT("\xBF\xFF"), "doc-payload", "no PCR, indefinite");
    with_raw(K_PCRS, EV_LIT("\x80"), "doc-payload", "an array of PCRs");
    with_raw(K_PCRS, EV_LIT("\xF6"), "doc-payload", "pcrs null");
    with_raw(K_PCRS, EV_LIT("\xBB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00"), "doc-payload", "2^64 - 1 PCRs");
#define PCR_MAP(head, key1, key2, reason, what) \
    do { ev_buf_clear(&b); MUST(ev_buf_put_slice(&b, EV_LIT(head))); MUST(ev_buf_put_slice(&b, EV_LIT(key1))); \
         MUST(ev_cbor_put_bytes(&b, value)); MUST(ev_buf_put_slice(&b, EV_LIT(key2))); \
         MUST(ev_cbor_put_bytes(&b, value)); if (head[0] == '\xBF') MUST(ev_buf_putc(&b, 0xFF)); \
         with_raw(K_PCRS, ev_buf_slice(&b), reason, what); } while (0)
    PCR_MAP("\xA2", "\x00", "\x10", NULL, "PCR0 and PCR16");
    PCR_MAP("\xBF", "\x10", "\x00", NULL, "the same, indefinite, the other way round");
    PCR_MAP("\xA2", "\x00", "\x00", "doc-payload", "PCR0 twice");
    PCR_MAP("\xA2", "\x00", "\x18\x00", "doc-payload", "PCR0 twice, once in its long form");
    PCR_MAP("\xA2", "\x00", "\x18\x20", "doc-payload", "PCR32");
    PCR_MAP("\xA2", "\x00", "\x1B\x00\x00\x00\x01\x00\x00\x00\x01", "doc-payload", "PCR 2^32 + 1");
    PCR_MAP("\xA2", "\x00", "\x20", "doc-payload", "PCR -1");
    PCR_MAP("\xA2", "\x00", "\x61" "1", "doc-payload", "PCR \"1\"");
    PCR_MAP("\xA3", "\x00", "\x01", "doc-payload", "one less than announced");
    value = ev_slice_of(v, 32);
    PCR_MAP("\xA2", "\x00", "\x01", "doc-payload", "values of 32 bytes");
    value = ev_slice_of(v, 0);
    PCR_MAP("\xA2", "\x00", "\x01", "doc-payload", "empty values");
#undef PCR_MAP
    ev_buf_fini(&b);
}

static void test_certificates(void)
{
    struct kit_doc d = plain();
    static uint8_t big[1025];

    d.certificate = ev_slice_of(big, 1024);
    check_payload(&d, NULL, "a certificate of 1024 bytes");
    d.certificate = ev_slice_of(big, 1025);
    check_payload(&d, "doc-payload", "of 1025");
    d.certificate = EV_LIT("");
    check_payload(&d, "doc-payload", "an empty one");
    with_raw(K_CERTIFICATE, EV_LIT("\xF6"), "doc-payload", "certificate null");
    with_raw(K_CERTIFICATE, EV_LIT("\x64" "leaf"), "doc-payload", "certificate of text");
    with_raw(K_CABUNDLE, EV_LIT("\x80"), "doc-payload", "an empty bundle");
    with_raw(K_CABUNDLE, EV_LIT("\x9F\xFF"), "doc-payload", "an empty bundle, indefinite");
    with_raw(K_CABUNDLE, EV_LIT("\xF6"), "doc-payload", "bundle null");
    with_raw(K_CABUNDLE, EV_LIT("\x81\x40"), "doc-payload", "an empty certificate in it");
    with_raw(K_CABUNDLE, EV_LIT("\x81\xF6"), "doc-payload", "a null in it");
    with_raw(K_CABUNDLE, EV_LIT("\x81\x81\x41" "a"), "doc-payload", "an array in it");
    with_raw(K_CABUNDLE, EV_LIT("\x9F\x41" "a\x41" "b\xFF"), NULL, "an indefinite one");
    with_raw(K_CABUNDLE, EV_LIT("\x9A\xFF\xFF\xFF\xFF\x41" "a"), "doc-payload", "2^32 - 1 certificates");
    with_raw(K_CABUNDLE, EV_LIT("\x88\x41" "a\x41" "b\x41" "c\x41" "d\x41" "e\x41" "f\x41" "g\x41" "h"), NULL,
             "8 certificates");
    with_raw(K_CABUNDLE, EV_LIT("\x89\x41" "a\x41" "b\x41" "c\x41" "d\x41" "e\x41" "f\x41" "g\x41" "h\x41" "i"),
             "doc-payload", "9 certificates");
}

static void test_optional(void)
{
    static uint8_t big[1025];
    struct kit_doc d = plain();

    d.user_data = d.nonce = d.public_key = ev_slice_of(big, 1024);
    check_payload(&d, NULL, "three fields of 1024 bytes");
    d.user_data = ev_slice_of(big, 1025);
    check_payload(&d, "doc-payload", "user_data of 1025");
    d = plain();
    d.nonce = ev_slice_of(big, 1025);
    check_payload(&d, "doc-payload", "a nonce of 1025");
    d = plain();
    d.public_key = ev_slice_of(big, 1025);
    check_payload(&d, "doc-payload", "a public_key of 1025");
    with_raw(K_USER_DATA, EV_LIT("\x40"), NULL, "an empty user_data");
    with_raw(K_NONCE, EV_LIT("\x40"), NULL, "an empty nonce");
    with_raw(K_PUBLIC_KEY, EV_LIT("\x40"), "doc-payload", "an empty public_key");
    with_raw(K_USER_DATA, EV_LIT("\x61" "a"), "doc-payload", "user_data of text");
    with_raw(K_NONCE, EV_LIT("\xF4"), "doc-payload", "a nonce of false");
    with_raw(K_NONCE, EV_LIT("\x00"), "doc-payload", "a nonce of 0");
    with_raw(K_PUBLIC_KEY, EV_LIT("\x5F\x41" "a\xFF"), "doc-payload", "a public_key in chunks");
    with_raw(K_USER_DATA, EV_LIT("\x5B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF" "a"), "doc-payload", "user_data of 2^63 - 1");
}

static bool debug_of(uint32_t present, bool zero0, bool zero1, bool zero2)
{
    struct kit_doc d = plain();
    struct ev_buf payload = EV_BUF_INIT(1 << 16), doc = EV_BUF_INIT(1 << 16);
    struct ev_attest_parts p;
    struct ev_attest a;
    bool zero[3] = { zero0, zero1, zero2 }, debug;

    d.pcrs.present = present;
    for (int i = 0; i < 3; i++)
        memset(d.pcrs.value[i], zero[i] ? 0 : 1, EV_PCR_LEN);
    kit_payload(&d, &payload);
    kit_cose(&d, ev_buf_slice(&payload), ev_slice_of(sig, sizeof sig), &doc);
    MUST(ev_attest_decode(ev_buf_slice(&doc), &p, &a, &kit_err));
    debug = a.debug;
    ev_attest_fini(&a);
    ev_buf_fini(&payload);
    ev_buf_fini(&doc);
    return debug;
}

static void test_debug(void)
{
    OK(debug_of(0xFFFF, true, true, true), "PCR0, 1, 2 zero: debug");
    OK(!debug_of(0xFFFF, false, true, true) && !debug_of(0xFFFF, true, false, true) &&
       !debug_of(0xFFFF, true, true, false), "one of them not zero: not debug");
    OK(debug_of(0xFFFE, false, true, true), "a missing PCR0 counts as zero");
    OK(!debug_of(0xFFF8, true, true, true), "none of them: not debug (and refused elsewhere)");
}

int main(void)
{
    test_good();
    test_hostile_bytes();
    test_size();
    test_outer();
    test_algorithm();
    test_keys();
    test_shape();
    test_scalars();
    test_pcrs();
    test_certificates();
    test_optional();
    test_debug();
    return tap_done();
}
