/* Tests of codec/cbor.c: what the writer writes (RFC 8949 appendix A), what the reader refuses. */
#include <stdlib.h>

#include "codec/cbor.h"
#include "codec/text.h"
#include "tap.h"

static const char *hex(const struct ev_buf *b)
{
    static char text[256];
    struct ev_buf h = EV_BUF_INIT(sizeof text - 1);

    snprintf(text, sizeof text, "%s", ev_hex_put(&h, ev_buf_slice(b)) < 0 ? "too long" : ev_buf_str(&h));
    ev_buf_fini(&h);
    return text;
}

static void test_writer(void)
{
    static const struct { uint64_t v; const char *hex; } uints[] = {
        { 0, "00" }, { 23, "17" }, { 24, "1818" }, { 255, "18ff" }, { 256, "190100" }, { 65535, "19ffff" },
        { 65536, "1a00010000" }, { 4294967295u, "1affffffff" }, { 4294967296u, "1b0000000100000000" },
        { UINT64_MAX, "1bffffffffffffffff" },
    };
    static const struct { int64_t v; const char *hex; } nints[] = {
        { -1, "20" }, { -24, "37" }, { -25, "3818" }, { -35, "3822" }, { -257, "390100" },
        { INT64_MIN, "3b7fffffffffffffff" },
    };
    struct ev_buf b = EV_BUF_INIT(64);

    for (size_t i = 0; i < EV_COUNT(uints); i++) {
        ev_buf_clear(&b);
        OK(ev_cbor_put_uint(&b, uints[i].v) == 0, "unsigned %zu", i);
        EQ_STR(hex(&b), uints[i].hex, "its bytes");
    }
    for (size_t i = 0; i < EV_COUNT(nints); i++) {
        ev_buf_clear(&b);
        OK(ev_cbor_put_nint(&b, nints[i].v) == 0, "negative %zu", i);
        EQ_STR(hex(&b), nints[i].hex, "its bytes");
    }
    OK(ev_cbor_put_nint(&b, 0) == -EINVAL, "0 is not negative");
    ev_buf_clear(&b);
    OK(ev_cbor_put_array(&b, 4) == 0 && ev_cbor_put_bytes(&b, EV_LIT("\x01\x02")) == 0 &&
       ev_cbor_put_text(&b, "DescribeNSM") == 0 && ev_cbor_put_map(&b, 25) == 0 && ev_cbor_put_null(&b) == 0 &&
       ev_cbor_put_bool(&b, true) == 0 && ev_cbor_put_bool(&b, false) == 0 && ev_cbor_put_tag(&b, 18) == 0 &&
       ev_cbor_put_bytes(&b, (ev_slice){0}) == 0 && ev_cbor_put_tag(&b, 300) == 0, "one of each");
    EQ_STR(hex(&b), "844201026b44657363726962654e534db819f6f5f4d240d9012c", "their bytes");
    OK(ev_cbor_put_text(&b, "\xFF") == EV_EPARSE, "text that is not UTF-8 is not written");
    ev_buf_fini(&b);
}

static void test_writer_bound(void)
{
    uint8_t big[300] = { 0 };
    struct ev_buf b = EV_BUF_INIT(302);

    OK(ev_cbor_put_bytes(&b, ev_slice_of(big, 300)) == -ENOBUFS && b.n == 0, "head and body do not fit: nothing");
    OK(ev_cbor_put_bytes(&b, ev_slice_of(big, 299)) == 0 && b.n == 302, "one byte less fits");
    OK(ev_cbor_put_null(&b) == -ENOBUFS && b.n == 302, "full");
    ev_buf_fini(&b);
}

/* Reads hexadecimal input as one item: the result of skip, or 1 when bytes are left. */
static int skips(const char *text, struct ev_err *err)
{
    size_t n = strlen(text) / 2;
    uint8_t *bytes = malloc(n ? n : 1);
    struct ev_cbor_reader r;
    int rc;

    if (ev_hex_decode(ev_slice_str(text), bytes, n) != (int)n)
        exit(2);
    ev_cbor_reader_init(&r, ev_slice_of(bytes, n));
    rc = ev_cbor_skip(&r, err);
    if (rc == 0 && !ev_cbor_done(&r))
        rc = 1;
    free(bytes);
    return rc;
}

static void test_accepted(void)
{
    static const char *const good[] = {
        "00", "1800", "190000", "1b0000000000000000", "20", "3bffffffffffffffff", "40", "5800", "43010203",
        "60", "6161",
        "62c3a9", "80", "83010203", "a0", "a10102", "a201020304", "9fff", "9f0102ff", "bfff", "bf0102ff",
        "bf01bf0203ff039fffff",
        "d24101", "d81e00", "d9ffff00", "c0616a", "f4", "f5", "f6", "9b0000000000000001f6",
        "8181818181818181f6", "a101a101a101a101a101a101a101a101f6", "d2d2d2d2d2d2d2d200", "5b000000000000000101",
    };

    for (size_t i = 0; i < EV_COUNT(good); i++) {
        struct ev_err err = EV_ERR_INIT;

        OK(skips(good[i], &err) == 0, "accepted: %s %s", good[i], err.msg);
    }
}

static void test_refused(void)
{
    static const char *const bad[] = {
        "", "1c", "1d", "1e", "1f", "3c", "3f", "5c", "5d", "7e", "9c", "9d", "9e", "bc", "be", "dc", "df", "fc", "fe",
        "f7",
        "bf01bf02ff039fffff", "f0", "e0", "f3", "f800", "f8ff", "f90000", "fa00000000",
        "fb0000000000000000", "ff", "5f4101ff", "7f6161ff",
        "5fff", "18", "19ff", "1a000000", "1b00000000000000", "41", "58", "58ff", "5901", "5bffffffffffffffff00",
        "7bffffffffffffffff00", "5b7fffffffffffffff00", "61", "61ff", "62c328", "63eda080", "81", "820100ff",
        "9bffffffffffffffff", "9b000000000000000201",
        "bb8000000000000001", "bbffffffffffffffff0000", "a1", "a101",
        "9f", "9f01", "bf", "bf01", "bf01ff", "a1ff", "81ff", "a101ff", "d2", "d2ff", "9f81ff", "818181818181818181f6",
        "d2d2d2d2d2d2d2d2d200", "9f9f9f9f9f9f9f9f9fffffffffffffffffff",
    };

    for (size_t i = 0; i < EV_COUNT(bad); i++) {
        struct ev_err err = EV_ERR_INIT;
        int rc = skips(bad[i], &err);

        OK(rc == EV_EPARSE || (rc == 1 && strcmp(bad[i], "820100ff") == 0), "refused: %s: %s", bad[i], err.msg);
    }
}

static void test_reader(void)
{
    /* {1: "é", -7: h'0102', 3: [_ null, true]} */
    static const uint8_t in[] = { 0xA3, 1, 0x62, 0xC3, 0xA9, 0x26, 0x42, 1, 2, 3, 0x9F, 0xF6, 0xF5, 0xFF };
    struct ev_cbor_reader r;
    struct ev_cbor_item map, list, it;
    struct ev_err err = EV_ERR_INIT;

    ev_cbor_reader_init(&r, ev_slice_of(in, sizeof in));
    OK(ev_cbor_expect(&r, EV_CBOR_MAP, &map, &err) == 0 && map.count == 3 && !map.indefinite, "a map of 3");
    OK(ev_cbor_more(&r, &map, 0, &err) == 1, "an entry follows");
    OK(ev_cbor_expect(&r, EV_CBOR_UINT, &it, &err) == 0 && it.value == 1, "key 1");
    OK(ev_cbor_expect(&r, EV_CBOR_TEXT, &it, &err) == 0 && it.data.n == 2 && it.data.p == in + 3, "borrowed text");
    OK(ev_cbor_next(&r, &it, &err) == 0 && it.type == EV_CBOR_NINT && it.value == 6, "-7 as 6");
    OK(ev_cbor_expect(&r, EV_CBOR_TEXT, &it, &err) == EV_EPARSE, "bytes are not text: %s", err.msg);
    OK(ev_cbor_expect(&r, EV_CBOR_UINT, &it, &err) == 0, "key 3");
    OK(ev_cbor_expect(&r, EV_CBOR_ARRAY, &list, &err) == 0 && list.indefinite && list.count == 0, "an open array");
    OK(ev_cbor_more(&r, &list, 0, &err) == 1 && ev_cbor_expect(&r, EV_CBOR_NULL, &it, &err) == 0, "null");
    OK(ev_cbor_more(&r, &list, 1, &err) == 1 && ev_cbor_expect(&r, EV_CBOR_BOOL, &it, &err) == 0 && it.value == 1,
       "true");
    OK(!ev_cbor_done(&r) && ev_cbor_more(&r, &list, 2, &err) == 0 && ev_cbor_done(&r), "the break ends both");
    OK(ev_cbor_more(&r, &map, 3, &err) == 0, "the map is complete");
    OK(ev_cbor_more(&r, &list, 2, &err) == EV_EPARSE, "no break after the end");
    OK(ev_cbor_next(&r, &it, &err) == EV_EPARSE, "nothing after the end");
}

/* Counts are judged when the head is read, before anyone allocates for them. */
static void test_counts(void)
{
    static const struct { const char *in; size_t n; bool ok; } heads[] = {
        { "\x82\x01\x02", 3, true }, { "\x83\x01\x02", 3, false }, { "\xA1\x01\x02", 3, true },
        { "\xA2\x01\x02\x03", 4, false }, { "\xA2\x01\x02\x03\x04", 5, true },
        { "\x9A\x00\x00\x00\x02\x01\x02", 7, true },
        { "\xBB\x80\x00\x00\x00\x00\x00\x00\x00\x01\x01", 11, false },
    };

    for (size_t i = 0; i < EV_COUNT(heads); i++) {
        struct ev_cbor_reader r;
        struct ev_cbor_item it;

        ev_cbor_reader_init(&r, ev_slice_of(heads[i].in, heads[i].n));
        OK((ev_cbor_next(&r, &it, NULL) == 0) == heads[i].ok, "count %zu", i);
    }
}

static void test_all_heads(void)
{
    size_t bad = 0;

    /* Every first byte with nothing behind it, in an allocation of one byte. */
    for (int first = 0; first < 256; first++) {
        uint8_t *p = malloc(1);
        struct ev_cbor_reader r;
        struct ev_cbor_item it;
        int rc, major = first >> 5, info = first & 31;
        bool fine = info < 24 && (major < 2 || major == 6 || info == 0 || (major == 7 && info >= 20 && info <= 22));

        fine = (fine && (major != 7 || info != 0)) || first == 0x9F || first == 0xBF;
        *p = (uint8_t)first;
        ev_cbor_reader_init(&r, ev_slice_of(p, 1));
        rc = ev_cbor_next(&r, &it, NULL);
        bad += (rc == 0) != fine;
        free(p);
    }
    EQ_INT(bad, 0, "256 first bytes: accepted or refused as they should be");
}

int main(void)
{
    test_writer();
    test_writer_bound();
    test_accepted();
    test_refused();
    test_reader();
    test_counts();
    test_all_heads();
    return tap_done();
}
