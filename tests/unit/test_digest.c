/* Tests of crypto/digest.c with the examples of FIPS 180-4, and of clone, extend and randomness. */
#include "codec/text.h"
#include "crypto/digest.h"
#include "tap.h"

static const char *hex(const uint8_t *p, size_t n)
{
    static char text[2 * EV_DIGEST_MAX + 1];
    struct ev_buf b = EV_BUF_INIT(sizeof text - 1);

    snprintf(text, sizeof text, "%s", ev_hex_put(&b, ev_slice_of(p, n)) < 0 ? "" : ev_buf_str(&b));
    ev_buf_fini(&b);
    return text;
}

static void test_known(void)
{
    static const struct { enum ev_digest_alg alg; const char *in, *out; } known[] = {
        { EV_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { EV_SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { EV_SHA384, "abc", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
                            "8086072ba1e7cc2358baeca134c825a7" },
        { EV_SHA512, "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" },
    };
    uint8_t out[EV_DIGEST_MAX];

    for (size_t i = 0; i < EV_COUNT(known); i++) {
        size_t n = ev_digest_once(known[i].alg, ev_slice_str(known[i].in), out);
        struct ev_digest *d = ev_digest_new(known[i].alg);

        EQ_INT(n, ev_digest_len(known[i].alg), "length");
        EQ_STR(hex(out, n), known[i].out, "at once");
        for (const char *p = known[i].in; *p; p++)
            ev_digest_update(d, p, 1);
        ev_digest_update(d, NULL, 0);
        n = ev_digest_final(d, out);
        EQ_STR(hex(out, n), known[i].out, "byte by byte");
        ev_digest_free(d);
    }
    ev_digest_free(NULL);
    EQ_INT(ev_digest_once(EV_SHA256, (ev_slice){0}, out), 32, "a slice of nothing");
}

static void test_clone(void)
{
    struct ev_digest *a = ev_digest_new(EV_SHA384), *b;
    uint8_t x[EV_DIGEST_MAX], y[EV_DIGEST_MAX], z[EV_DIGEST_MAX];

    ev_digest_update(a, "ab", 2);
    b = ev_digest_clone(a);
    ev_digest_update(a, "c", 1);
    ev_digest_final(a, x);
    ev_digest_final(b, y);
    ev_digest_once(EV_SHA384, EV_LIT("abc"), z);
    OK(memcmp(x, z, 48) == 0, "the original goes on");
    ev_digest_once(EV_SHA384, EV_LIT("ab"), z);
    OK(memcmp(y, z, 48) == 0, "the clone stays where it was made");
    ev_digest_free(a);
    ev_digest_free(b);
}

static void test_extend(void)
{
    uint8_t pcr[EV_SHA384_LEN] = { 0 }, want[EV_DIGEST_MAX], both[EV_SHA384_LEN + 3] = { 0 };

    memcpy(both + EV_SHA384_LEN, "abc", 3);
    ev_digest_once(EV_SHA384, ev_slice_of(both, sizeof both), want);
    ev_pcr_extend(pcr, EV_LIT("abc"));
    OK(memcmp(pcr, want, sizeof pcr) == 0, "extend is the hash of the old value and the data");
}

static void test_random(void)
{
    uint8_t a[40] = { 0 }, b[40] = { 0 };

    OK(ev_random(a, 32) == 0 && ev_random(b, 32) == 0 && memcmp(a, b, 32) != 0, "two draws differ");
    OK(memcmp(a + 32, "\0\0\0\0\0\0\0\0", 8) == 0, "nothing is written past the end");
    OK(ev_random(NULL, 0) == 0, "no bytes");
}

int main(void)
{
    test_known();
    test_clone();
    test_extend();
    test_random();
    return tap_done();
}
