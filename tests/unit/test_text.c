/* Tests of codec/text.c: hex, base64, times, distances, UTF-8. */
#include <stdlib.h>

#include "codec/text.h"
#include "tap.h"

static void test_hex(void)
{
    struct ev_buf b = EV_BUF_INIT(16);
    uint8_t out[4];

    OK(ev_hex_put(&b, EV_LIT("\x00\x7f\xAB\xff")) == 0, "hex of four bytes");
    EQ_STR(ev_buf_str(&b), "007fabff", "lower case, two digits a byte");
    OK(ev_hex_put(&b, EV_LIT("12345")) == -ENOBUFS && b.n == 8, "the maximum holds, content stays");
    EQ_INT(ev_hex_decode(EV_LIT("00fFAb7F"), out, 4), 4, "either case decodes");
    OK(memcmp(out, "\x00\xff\xab\x7f", 4) == 0, "to these bytes");
    EQ_INT(ev_hex_decode(EV_LIT(""), out, 0), 0, "nothing decodes to nothing");
    EQ_INT(ev_hex_decode(EV_LIT("abc"), out, 4), EV_EPARSE, "odd length");
    EQ_INT(ev_hex_decode(EV_LIT("0g"), out, 4), EV_EPARSE, "g is no digit");
    EQ_INT(ev_hex_decode(EV_LIT("0\x00"), out, 4), EV_EPARSE, "NUL is no digit");
    EQ_INT(ev_hex_decode(EV_LIT("G0"), out, 4), EV_EPARSE, "G is no digit");
    EQ_INT(ev_hex_decode(EV_LIT(" 1"), out, 4), EV_EPARSE, "a blank is no digit");
    EQ_INT(ev_hex_decode(EV_LIT("0011223344"), out, 4), -ENOBUFS, "five bytes do not fit four");
    ev_buf_fini(&b);
}

static int decode(const char *in, size_t n, bool lax, struct ev_buf *b)
{
    ev_buf_clear(b);
    return ev_base64_decode(b, ev_slice_of(in, n), lax);
}

static void test_base64(void)
{
    /* RFC 4648 section 10, and both alphabets. */
    static const struct { const char *plain, *text; } same[] = {
        { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }, { "\xff\xef\xbe", "/+++" },
    };
    static const char *const good[] = { "Zg", "Zm8", "_-8", "__8", "//8=", "_w==" };
    static const char *const bad[] = { "Z", "Zg=", "Zg===", "=", "====", "Zm9v=", "Zm9v====", "Zg==Zg==", "Zh==",
                                       "Zm9=", "Z g=", "Zm9v\n", "+_8=", "Zg=a", "Z\xC3", "Zm9vY", "*" };
    struct ev_buf b = EV_BUF_INIT(64);

    for (size_t i = 0; i < EV_COUNT(same); i++) {
        ev_buf_clear(&b);
        OK(ev_base64_put(&b, ev_slice_str(same[i].plain)) == 0, "encodes %zu", i);
        EQ_STR(ev_buf_str(&b), same[i].text, "the text");
        OK(decode(same[i].text, strlen(same[i].text), false, &b) == 0, "decodes %zu", i);
        EQ_STR(ev_buf_str(&b), same[i].plain, "the bytes");
    }
    for (size_t i = 0; i < EV_COUNT(good); i++)
        OK(decode(good[i], strlen(good[i]), false, &b) == 0, "accepted: %s", good[i]);
    for (size_t i = 0; i < EV_COUNT(bad); i++)
        OK(decode(bad[i], strlen(bad[i]), false, &b) == EV_EPARSE && b.n == 0, "refused: %s", bad[i]);
    OK(decode("Zm\n9v \t Y\r\ng = =\n", 17, true, &b) == 0, "lax skips blanks and newlines");
    EQ_STR(ev_buf_str(&b), "foob", "lax bytes");
    OK(decode("Zg\0=", 4, true, &b) == EV_EPARSE, "lax does not skip NUL");
    ev_buf_fini(&b);

    b = (struct ev_buf)EV_BUF_INIT(3);
    OK(decode("Zm9v", 4, false, &b) == 0 && b.n == 3, "exactly the maximum fits");
    OK(decode("Zm9vYg==", 8, false, &b) == -ENOBUFS && b.n == 0, "one byte more does not");
    ev_buf_fini(&b);
}

static void test_base64_round(void)
{
    uint8_t bytes[300];
    size_t bad = 0;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 3);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        struct ev_buf text = EV_BUF_INIT(1000), back = EV_BUF_INIT(n);

        if (ev_base64_put(&text, ev_slice_of(bytes, n)) < 0 || text.n != (n + 2) / 3 * 4 ||
            ev_base64_decode(&back, ev_buf_slice(&text), false) < 0 ||
            !ev_slice_eq(ev_buf_slice(&back), ev_slice_of(bytes, n)))
            bad++;
        ev_buf_fini(&text);
        ev_buf_fini(&back);
    }
    EQ_INT(bad, 0, "every length there and back");
}

static void test_time(void)
{
    static const struct { const char *text; int64_t ms; } good[] = {
        { "1970-01-01T00:00:00Z", 0 }, { "1970-01-01T00:00:00+00:00", 0 }, { "1969-12-31T23:59:59.999Z", -1 },
        { "2026-11-24T12:00:00Z", 1795521600000 }, { "2026-11-24T13:30:00+01:30", 1795521600000 },
        { "2026-11-24T10:00:00.5-02:00", 1795521600500 }, { "2000-02-29T00:00:00Z", 951782400000 },
        { "2026-11-24t12:00:00.1239z", 1795521600123 }, { "2049-10-28 14:28:05Z", 2519044085000 },
        { "0000-01-01T00:00:00Z", -62167219200000 }, { "9999-12-31T23:59:59.999Z", 253402300799999 },
        { "1900-03-01T00:00:00Z", -2203891200000 }, { "2026-11-24T12:00:00.1234567890123Z", 1795521600123 },
    };
    static const char *const bad[] = {
        "", "2026", "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
        "2026-01-01T24:00:00Z", "2026-01-01T23:60:00Z", "2026-01-01T23:59:60Z", "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+00:60",
        "2026-01-01T00:00:00ZZ", "2026-01-01T00:00:00Z ", "2026-1-01T00:00:00Z", "2026-01-01X00:00:00Z",
        "-026-01-01T00:00:00Z", "2026-01-01T00:00Z", "2026/01/01T00:00:00Z", "2026-01-01T00:00:00+0000",
    };
    int64_t ms;

    for (size_t i = 0; i < EV_COUNT(good); i++)
        OK(ev_time_parse(ev_slice_str(good[i].text), &ms) == 0 && ms == good[i].ms, "%s is %lld, want %lld",
           good[i].text, (long long)ms, (long long)good[i].ms);
    for (size_t i = 0; i < EV_COUNT(bad); i++)
        OK(ev_time_parse(ev_slice_str(bad[i]), &ms) == EV_EPARSE, "refused: \"%s\"", bad[i]);
    OK(ev_time_parse(ev_slice_of("2026-01-01T00:00:00\0Z", 21), &ms) == EV_EPARSE, "refused: NUL");
}

static const char *shown(int64_t ms, int digits)
{
    static char text[64];
    struct ev_buf b = EV_BUF_INIT(60);
    int rc = ev_time_put(&b, ms, digits);

    snprintf(text, sizeof text, "%s", rc < 0 ? ev_err_name(rc) : ev_buf_str(&b));
    ev_buf_fini(&b);
    return text;
}

static void test_time_put(void)
{
    int64_t step = 86400000ll * 17 + 12345, back;
    size_t bad = 0;

    EQ_STR(shown(0, 0), "1970-01-01T00:00:00Z", "the epoch");
    EQ_STR(shown(-1, 3), "1969-12-31T23:59:59.999Z", "a millisecond before");
    EQ_STR(shown(1795521600005, 6), "2026-11-24T12:00:00.005000Z", "six digits");
    EQ_STR(shown(1795521600999, 1), "2026-11-24T12:00:00.9Z", "one digit, cut");
    EQ_STR(shown(253402300800000, 0), "ERANGE", "year 10000");
    EQ_STR(shown(-62167219200001, 0), "ERANGE", "before year 0");
    EQ_STR(shown(0, 10), "ERANGE", "ten digits");
    for (int64_t ms = -62167219200000; ms < 253402300800000; ms += step) {
        if (ev_time_parse(ev_slice_str(shown(ms, 3)), &back) < 0 || back != ms)
            bad++;
    }
    EQ_INT(bad, 0, "ten thousand years there and back");
}

static void test_words(void)
{
    static const char *const verbs[] = { "build", "attest", "deploy", "describe", "run" };
    char lengthy[80];

    EQ_INT(ev_text_distance("", ""), 0, "empty words");
    EQ_INT(ev_text_distance("abc", ""), 3, "three removed");
    EQ_INT(ev_text_distance("kitten", "sitting"), 3, "kitten, sitting");
    EQ_INT(ev_text_distance("biuld", "build"), 1, "neighbours swapped");
    EQ_INT(ev_text_distance("ca", "abc"), 3, "no edit inside a swap");
    memset(lengthy, 'a', 65);
    lengthy[65] = 0;
    OK(ev_text_distance(lengthy, "a") == SIZE_MAX, "65 bytes are too long");
    EQ_INT(ev_text_distance(lengthy + 1, lengthy + 1), 0, "64 are not");
    EQ_STR(ev_text_nearest("biuld", verbs, 5), "build", "nearest of biuld");
    EQ_STR(ev_text_nearest("decsribe", verbs, 5), "describe", "nearest of decsribe");
    OK(ev_text_nearest("zzz", verbs, 5) == NULL, "zzz is near to none");
    OK(ev_text_nearest(lengthy, verbs, 5) == NULL, "too long is near to none");
    OK(ev_text_nearest("run", verbs, 0) == NULL, "none of none");
}

static void test_utf8(void)
{
    static const char *const good[] = { "", "plain ascii, long enough for a word", "\xC3\xA9", "\xE2\x82\xAC",
                                        "\xF0\x9F\x98\x80", "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF", "1234567\xC3\xA9" };
    static const char *const bad[] = { "\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80",
                                       "\xED\xBF\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                                       "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3(",
                                       "\xE2(\xA1", "\xE2\x82(", "12345678\xFF", "1234567\xC3" };

    for (size_t i = 0; i < EV_COUNT(good); i++)
        OK(ev_utf8_valid(ev_slice_str(good[i])), "UTF-8 %zu", i);
    for (size_t i = 0; i < EV_COUNT(bad); i++) {
        size_t n = strlen(bad[i]);
        uint8_t *copy = malloc(n);              /* exact size: a read past the end is seen */

        memcpy(copy, bad[i], n);
        OK(!ev_utf8_valid(ev_slice_of(copy, n)), "not UTF-8 %zu", i);
        free(copy);
    }
    OK(ev_utf8_valid(ev_slice_of("a\0b", 3)), "NUL is a character");
}

int main(void)
{
    test_hex();
    test_base64();
    test_base64_round();
    test_time();
    test_time_put();
    test_words();
    test_utf8();
    return tap_done();
}
