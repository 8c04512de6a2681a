/* Tests of crypto/key.c: RFC 6979 vectors, forms of keys, what is refused, and the openssl command
 * as a second opinion. */
#include <stdlib.h>

#include "base/file.h"
#include "codec/text.h"
#include "crypto/key.h"
#include "openssl_cmd.h"
#include "tap.h"

static uint8_t *unhex(const char *text, size_t *n)
{
    uint8_t *p;

    *n = strlen(text) / 2;
    p = ev_alloc(*n + 1);
    if (ev_hex_decode(ev_slice_str(text), p, *n) != (int)*n)
        exit(2);
    return p;
}

static struct ev_key *key_of(enum ev_curve curve, const char *hex)
{
    struct ev_key *k = NULL;
    size_t n;
    uint8_t *p = unhex(hex, &n);
    int rc = ev_key_from_scalar(curve, ev_slice_of(p, n), &k, NULL);

    ev_free(p);
    return rc < 0 ? NULL : k;
}

#define P256_X "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"
#define P384_X "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5"
#define P521_X "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836" \
               "A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538"
#define K256_X "0000000000000000000000000000000000000000000000000000000000000001"

/* RFC 6979 A.2.5, A.2.6, A.2.7; the last is the vector that secp256k1 libraries share, with the s
 * that RFC 6979 gives (they negate it, to have it low). */
static const struct { enum ev_curve curve; const char *x, *msg, *sig; } vectors[] = {
    { EV_P256, P256_X, "sample", "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
      "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8" },
    { EV_P256, P256_X, "test", "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
      "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083" },
    { EV_P384, P384_X, "sample", "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36D"
      "D1E80FABE4699EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8" },
    { EV_P384, P384_X, "test", "8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB0542A7F0812998DA8F1DD3"
      "CA3CF023DBDDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E06A739F040649A667BF3B828246BAA5A5" },
    { EV_P521, P521_X, "sample", "00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D4506"
      "06ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF"
      "282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A" },
    { EV_P521, P521_X, "test", "013E99020ABF5CEE7525D16B69B229652AB6BDF2AFFCAEF38773B4B7D08725F10CDB93482FDCC54EDCEE91E"
      "CA4166B2A7C6265EF0CE2BD7051B7CEF945BABD47EE6D01FBD0013C674AA79CB39849527916CE301C66EA7CE8B80682786AD60F98F7E78A"
      "19CA69EFF5C57400E3B3A0AD66CE0978214D13BAF4E9AC60752F7B155E2DE4DCE3" },
    { EV_SECP256K1, K256_X, "Satoshi Nakamoto", "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
      "dbbd3162d46e9f9bef7feb87c16dc13b4f6568a87f4e83f728e2443ba586675c" },
};

static void test_vectors(void)
{
    for (size_t i = 0; i < EV_COUNT(vectors); i++) {
        struct ev_key *k = key_of(vectors[i].curve, vectors[i].x);
        uint8_t sig[132] = { 0 }, *want;
        ev_slice msg = ev_slice_str(vectors[i].msg);
        size_t n;

        want = unhex(vectors[i].sig, &n);
        OK(k && ev_key_sign(k, msg, sig, NULL) == 0 && ev_key_sig_len(k) == n && memcmp(sig, want, n) == 0,
           "RFC 6979, %zu: \"%s\"", i, vectors[i].msg);
        OK(ev_key_verify(k, msg, ev_slice_of(sig, n), NULL) == 0, "it verifies");
        OK(ev_key_verify(k, EV_LIT("sampl"), ev_slice_of(sig, n), NULL) == EV_EVERIFY, "not for another message");
        ev_free(want);
        ev_key_free(k);
    }
}

/* Every curve with fresh keys: many messages sign, verify, and sign the same again. */
static void test_fresh(void)
{
    static const enum ev_curve curves[] = { EV_P256, EV_P384, EV_P521, EV_SECP256K1 };

    for (size_t i = 0; i < EV_COUNT(curves); i++) {
        struct ev_key *k = NULL, *other = NULL;
        uint8_t a[132], b[132];
        size_t bad = 0;

        OK(ev_key_generate(curves[i], &k, NULL) == 0 && ev_key_generate(curves[i], &other, NULL) == 0 &&
           ev_key_is_private(k) && ev_key_curve(k) == curves[i], "generated on curve %zu", i);
        for (uint8_t m = 0; m < 12; m++) {
            ev_slice msg = ev_slice_of(&m, 1), sig = ev_slice_of(a, ev_key_sig_len(k));

            if (ev_key_sign(k, msg, a, NULL) < 0 || ev_key_sign(k, msg, b, NULL) < 0 || memcmp(a, b, sig.n) ||
                ev_key_verify(k, msg, sig, NULL) < 0 || ev_key_verify(other, msg, sig, NULL) != EV_EVERIFY)
                bad++;
        }
        EQ_INT(bad, 0, "messages that did not sign, verify and repeat");
        OK(ev_key_same_public(k, k) && !ev_key_same_public(k, other), "keys compare");
        ev_key_free(k);
        ev_key_free(other);
    }
}

/* Order of P-384, for signatures that must not verify whatever the message. */
#define N384 "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973"

static void test_refused_signatures(void)
{
    struct ev_key *k = key_of(EV_P384, P384_X);
    uint8_t sig[132], bent[132], *order;
    ev_slice msg = EV_LIT("sample");
    size_t n, bad = 0;

    order = unhex(N384, &n);
    OK(ev_key_sign(k, msg, sig, NULL) == 0, "a signature to bend");
    for (size_t i = 0; i < 96; i++) {
        memcpy(bent, sig, 96);
        bent[i] ^= (uint8_t)(1 << i % 8);
        bad += ev_key_verify(k, msg, ev_slice_of(bent, 96), NULL) != EV_EVERIFY;
    }
    EQ_INT(bad, 0, "a bit flipped in each byte");
    for (size_t len = 0; len < 132; len++) {
        memset(bent, 0, sizeof bent);
        memcpy(bent, sig, len < 96 ? len : 96);
        bad += len != 96 && ev_key_verify(k, msg, ev_slice_of(bent, len), NULL) != EV_EVERIFY;
    }
    EQ_INT(bad, 0, "every other length");
    memcpy(bent, sig, 96);
    memset(bent, 0, 48);
    OK(ev_key_verify(k, msg, ev_slice_of(bent, 96), NULL) == EV_EVERIFY, "r = 0");
    memcpy(bent, sig, 96);
    memset(bent + 48, 0, 48);
    OK(ev_key_verify(k, msg, ev_slice_of(bent, 96), NULL) == EV_EVERIFY, "s = 0");
    memcpy(bent + 48, order, 48);
    OK(ev_key_verify(k, msg, ev_slice_of(bent, 96), NULL) == EV_EVERIFY, "s = order");
    memcpy(bent, order, 48);
    memcpy(bent + 48, sig + 48, 48);
    OK(ev_key_verify(k, msg, ev_slice_of(bent, 96), NULL) == EV_EVERIFY, "r = order");
    ev_free(order);
    ev_key_free(k);
}

/* order - s verifies too, and one of the two is high: real documents have both. */
static void test_high_s(void)
{
    struct ev_key *k = key_of(EV_P384, P384_X);
    uint8_t sig[132], *order;
    size_t n;
    int borrow = 0;

    order = unhex(N384, &n);
    OK(ev_key_sign(k, EV_LIT("sample"), sig, NULL) == 0, "a signature");
    for (int i = 47; i >= 0; i--) {
        int d = order[i] - sig[48 + i] - borrow;

        borrow = d < 0;
        sig[48 + i] = (uint8_t)(d & 255);
    }
    OK(ev_key_verify(k, EV_LIT("sample"), ev_slice_of(sig, 96), NULL) == 0, "the other s verifies as well");
    ev_free(order);
    ev_key_free(k);
}

static void test_forms(void)
{
    static const enum ev_curve curves[] = { EV_P256, EV_P384, EV_P521, EV_SECP256K1 };
    static const size_t spki_len[] = { 91, 120, 158, 88 };

    for (size_t i = 0; i < EV_COUNT(curves); i++) {
        struct ev_key *k = NULL, *pem = NULL, *pub = NULL, *pt = NULL, *pubpem = NULL, *none = NULL;
        struct ev_secret text = {0}, text2 = {0};
        struct ev_buf spki = EV_BUF_INIT(256);
        uint8_t point[EV_POINT_MAX], full[EV_POINT_MAX], again[EV_POINT_MAX], sig[132];
        int n, m;

        OK(ev_key_generate(curves[i], &k, NULL) == 0 && ev_key_pem(k, &text, NULL) == 0, "PEM of curve %zu", i);
        OK(ev_key_from_pem(ev_slice_of(text.p, text.n), &pem, NULL) == 0 && ev_key_is_private(pem) &&
           ev_key_same_public(k, pem), "read back");
        OK(strncmp((char *)text.p, "-----BEGIN PRIVATE KEY-----", 27) == 0, "PKCS#8");
        OK(ev_key_spki(k, &spki, NULL) == 0 && spki.n == spki_len[i], "SPKI of %zu bytes", spki.n);
        OK(ev_key_from_spki(ev_buf_slice(&spki), &pub, NULL) == 0 && !ev_key_is_private(pub) &&
           ev_key_same_public(k, pub), "SPKI read back");
        OK(ev_key_sign(pub, EV_LIT("x"), sig, NULL) == EV_EUSAGE, "a public key does not sign");
        OK(ev_key_pem(pub, &text2, NULL) == 0 && ev_key_from_pem(ev_slice_of(text2.p, text2.n), &pubpem, NULL) == 0 &&
           ev_key_same_public(pubpem, k), "PUBLIC KEY there and back");
        n = ev_key_point(k, true, point);
        m = ev_key_point(k, false, full);
        OK(n > 1 && m == 2 * n - 1 && (point[0] | 1) == 3 && full[0] == 4 &&
           memcmp(point + 1, full + 1, (size_t)n - 1) == 0, "the point, both ways");
        OK(ev_key_from_point(curves[i], ev_slice_of(point, (size_t)n), &pt, NULL) == 0 && ev_key_same_public(pt, k) &&
           ev_key_point(pt, false, again) == m && memcmp(again, full, (size_t)m) == 0,
           "a key from the compressed point");
        OK(ev_buf_putc(&spki, 0) == 0 && ev_key_from_spki(ev_buf_slice(&spki), &none, NULL) == EV_EPARSE && !none,
           "SPKI with a byte behind it");
        ev_secret_fini(&text);
        ev_secret_fini(&text2);
        ev_buf_fini(&spki);
        ev_key_free(k);
        ev_key_free(pem);
        ev_key_free(pub);
        ev_key_free(pt);
        ev_key_free(pubpem);
    }
}

static void test_refused_keys(void)
{
    static const struct { enum ev_curve curve; const char *hex, *what; } scalars[] = {
        { EV_P256, "0000000000000000000000000000000000000000000000000000000000000000", "zero" },
        { EV_P256, "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551", "the order" },
        { EV_P256, "01", "one byte" },
        { EV_P384, P256_X, "too short for P-384" },
        { EV_P384, N384, "the order of P-384" },
        { EV_CURVE_OTHER, P256_X, "no curve" },
    };
    static const struct { enum ev_curve curve; const char *hex, *what; } points[] = {
        { EV_P256, "00", "infinity" },
        { EV_P256, "02FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "x above the prime" },
        { EV_P256, "020000000000000000000000000000000000000000000000000000000000000001", "no such x" },
        { EV_P256, "0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
                   "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D446229A", "not on the curve" },
        { EV_P256, "0260FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29F", "a byte short" },
        { EV_P256, "0260FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB600", "a byte long" },
        { EV_P256, "0560FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6", "another form" },
        { EV_P256, "", "nothing" },
    };
    struct ev_key *k = (struct ev_key *)&k;

    for (size_t i = 0; i < EV_COUNT(scalars); i++) {
        size_t n;
        uint8_t *p = unhex(scalars[i].hex, &n);

        OK(ev_key_from_scalar(scalars[i].curve, ev_slice_of(p, n), &k, NULL) == EV_EPARSE && !k, "number refused: %s",
           scalars[i].what);
        ev_free(p);
    }
    for (size_t i = 0; i < EV_COUNT(points); i++) {
        size_t n;
        uint8_t *p = unhex(points[i].hex, &n);

        OK(ev_key_from_point(points[i].curve, ev_slice_of(p, n), &k, NULL) == EV_EPARSE && !k, "point refused: %s",
           points[i].what);
        ev_free(p);
    }
    OK(ev_key_generate(EV_CURVE_OTHER, &k, NULL) == EV_EUSAGE && !k, "no key on no curve");
}

#define SEC1_GOOD "-----BEGIN EC PRIVATE KEY-----\n" \
    "MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n" \
    "AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n" \
    "maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n-----END EC PRIVATE KEY-----\n"

/* A SEC1 key whose public half is another key's. */
static bool foreign_half(struct ev_buf *out)
{
    struct ev_buf der = EV_BUF_INIT(256);
    struct ev_key *other = NULL;
    uint8_t point[EV_POINT_MAX], *d;
    size_t n;
    bool ok;

    d = unhex(P256_X, &n);
    ok = ev_key_generate(EV_P256, &other, NULL) == 0 && ev_key_point(other, false, point) == 65 &&
         ev_buf_put(&der, "\x30\x77\x02\x01\x01\x04\x20", 7) == 0 && ev_buf_put(&der, d, n) == 0 &&
         ev_buf_put(&der, "\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\xa1\x44\x03\x42\x00", 17) == 0 &&
         ev_buf_put(&der, point, 65) == 0 && ev_buf_puts(out, "-----BEGIN EC PRIVATE KEY-----\n") == 0 &&
         ev_base64_put(out, ev_buf_slice(&der)) == 0 && ev_buf_puts(out, "\n-----END EC PRIVATE KEY-----\n") == 0;
    ev_free(d);
    ev_key_free(other);
    ev_buf_fini(&der);
    return ok;
}

static void test_pem(void)
{
    struct ev_buf text = EV_BUF_INIT(1 << 20);
    struct ev_key *k = NULL, *same = key_of(EV_P256, P256_X);
    char *bent = ev_strdup(SEC1_GOOD);
    size_t bad = 0;

    OK(ev_key_from_pem(EV_LIT(SEC1_GOOD), &k, NULL) == 0 && ev_key_is_private(k) && ev_key_same_public(k, same),
       "SEC1 form");
    ev_key_free(k);
    OK(ev_buf_puts(&text, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" SEC1_GOOD)
       == 0 && ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == 0 && ev_key_same_public(k, same),
       "parameters before it");
    ev_key_free(k);
    for (size_t n = 0; n + 30 < strlen(SEC1_GOOD); n++) {
        bad += ev_key_from_pem(ev_slice_of(bent, n), &k, NULL) == 0;
        ev_key_free(k);
    }
    EQ_INT(bad, 0, "truncated keys that were accepted");
    strstr(bent, "5A/4Q")[0] = '6';
    OK(ev_key_from_pem(ev_slice_str(bent), &k, NULL) == EV_EPARSE && !k, "a public half that is no point");
    ev_buf_clear(&text);
    OK(foreign_half(&text) && ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == EV_EPARSE && !k,
       "a public half that is not its own");
    ev_buf_clear(&text);
    OK(ev_buf_zero(&text, 64 * 1024 + 1) == 0 && ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == EV_ELIMIT,
       "a key file without end");
    OK(ev_key_from_pem((ev_slice){0}, &k, NULL) == EV_EPARSE, "no text");
    ev_key_free(same);
    ev_free(bent);
    ev_buf_fini(&text);
}

/* ---- the openssl command ---- */

/* Raw r || s as DER, written here once more so that the code under test does not check itself. */
static size_t der_of(const uint8_t *raw, size_t width, uint8_t *out)
{
    uint8_t body[160];
    size_t n = 0;

    for (int i = 0; i < 2; i++) {
        const uint8_t *p = raw + (size_t)i * width;
        size_t len = width;

        while (len > 1 && *p == 0) {
            p++;
            len--;
        }
        body[n++] = 2;
        body[n++] = (uint8_t)(len + (*p >> 7));
        if (*p >> 7)
            body[n++] = 0;
        memcpy(body + n, p, len);
        n += len;
    }
    out[0] = 0x30;
    out[1] = n < 128 ? (uint8_t)n : 0x81;
    out[2] = (uint8_t)n;
    memcpy(out + (n < 128 ? 2 : 3), body, n);
    return n + (n < 128 ? 2 : 3);
}

static void check_with_openssl(const char *dir, enum ev_curve curve, const char *md)
{
    struct ev_key *k = NULL, *pub = NULL;
    struct ev_buf spki = EV_BUF_INIT(256);
    struct ev_secret pem = {0};
    uint8_t sig[132], der[160];
    size_t n = 0;
    bool made = ev_key_generate(curve, &k, NULL) == 0 && ev_key_sign(k, EV_LIT("hello"), sig, NULL) == 0 &&
                ev_key_spki(k, &spki, NULL) == 0 && ev_key_from_spki(ev_buf_slice(&spki), &pub, NULL) == 0 &&
                ev_key_pem(pub, &pem, NULL) == 0;

    if (made)
        n = der_of(sig, ev_key_sig_len(k) / 2, der);
    made = made && cmd_save(dir, "pub.pem", ev_slice_of(pem.p, pem.n)) &&
           cmd_save(dir, "sig.der", ev_slice_of(der, n)) && cmd_save(dir, "msg", EV_LIT("hello")) &&
           cmd_save(dir, "other", EV_LIT("hellp"));
    OK(made && RUN(dir, "openssl", "dgst", md, "-verify", "pub.pem", "-signature", "sig.der", "msg") == 0,
       "openssl dgst %s -verify", md);
    OK(RUN(dir, "openssl", "dgst", md, "-verify", "pub.pem", "-signature", "sig.der", "other") == 1,
       "and not another message");
    ev_secret_fini(&pem);
    ev_buf_fini(&spki);
    ev_key_free(k);
    ev_key_free(pub);
}

static void load(const char *dir, const char *name, struct ev_buf *out)
{
    char path[256];

    ev_buf_clear(out);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK(ev_file_read(path, out, NULL) == 0, "%s is there", name);
}

/* Keys that the command makes and that we read, or refuse to use. */
static void read_foreign(const char *dir)
{
    struct ev_buf text = EV_BUF_INIT(16384);
    struct ev_key *k = NULL;
    uint8_t sig[132];

    OK(RUN(dir, "openssl", "ecparam", "-name", "secp384r1", "-genkey", "-out", "a.pem") == 0 &&
       RUN(dir, "openssl", "ec", "-in", "a.pem", "-aes128", "-passout", "pass:x", "-out", "locked.pem") == 0 &&
       RUN(dir, "openssl", "ecparam", "-name", "secp384r1", "-param_enc", "explicit", "-genkey", "-out",
           "e.pem") == 0 &&
       RUN(dir, "openssl", "genrsa", "-out", "rsa.pem", "2048") == 0 &&
       RUN(dir, "openssl", "genpkey", "-algorithm", "ed25519", "-out", "ed.pem") == 0, "keys of the command");
    load(dir, "a.pem", &text);
    OK(ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == 0 && ev_key_curve(k) == EV_P384 && ev_key_is_private(k),
       "P-384 of the command");
    ev_key_free(k);
    load(dir, "locked.pem", &text);
    OK(ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == EV_EPARSE && !k, "a password is not asked for");
    load(dir, "e.pem", &text);
    OK(ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == 0 && ev_key_curve(k) == EV_CURVE_OTHER,
       "explicit parameters are no named curve");
    OK(ev_key_sign(k, EV_LIT("x"), sig, NULL) == EV_EUNSUPPORTED &&
       ev_key_verify(k, EV_LIT("x"), ev_slice_of(sig, 96), NULL) == EV_EUNSUPPORTED, "and do nothing here");
    ev_key_free(k);
    load(dir, "rsa.pem", &text);
    OK(ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == 0 && ev_key_curve(k) == EV_CURVE_OTHER &&
       ev_key_is_private(k) && ev_key_sig_len(k) == 0, "RSA is another kind");
    ev_key_free(k);
    load(dir, "ed.pem", &text);
    OK(ev_key_from_pem(ev_buf_slice(&text), &k, NULL) == 0 && ev_key_curve(k) == EV_CURVE_OTHER &&
       ev_key_is_private(k), "so is Ed25519");
    ev_key_free(k);
    ev_buf_fini(&text);
}

static void test_openssl(void)
{
    char dir[] = "/tmp/ev-test-key-XXXXXX";

    if (!mkdtemp(dir) || RUN(dir, "openssl", "version") != 0) {
        SKIP(1, "the openssl command is not there");
        return;
    }
    check_with_openssl(dir, EV_P256, "-sha256");
    check_with_openssl(dir, EV_P384, "-sha384");
    check_with_openssl(dir, EV_P521, "-sha512");
    check_with_openssl(dir, EV_SECP256K1, "-sha256");
    read_foreign(dir);
    RUN("/", "rm", "-rf", dir);
}

int main(void)
{
    test_vectors();
    test_fresh();
    test_refused_signatures();
    test_high_s();
    test_forms();
    test_refused_keys();
    test_pem();
    test_openssl();
    return tap_done();
}
