/* Tests of codec/json.c: what is refused, large numbers, order, writing. */
#include <math.h>
#include <stdlib.h>

#include "codec/json.h"
#include "tap.h"

static struct ev_json *parse(const char *text)
{
    struct ev_json *j = NULL;

    return ev_json_parse(ev_slice_str(text), &j, NULL) < 0 ? NULL : j;
}

static void test_documents(void)
{
    static const char *const good[] = { "{}", "[]", "null", " 1 ", "\"x\"", "{\"a\":{\"a\":1},\"b\":[{\"a\":1}]}",
                                        "[1,2.5,-0,true,false,null]", "\"\\ud83d\\ude00\"", "[1e300]" };
    static const char *const bad[] = { "", " ", "{", "[1,]", "{\"a\":1,}", "{'a':1}", "01", "1.", ".5", "+1", "nul",
                                       "[1] x", "{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"b\":1}}", "\"\\u0000\"",
                                       "\"a\nb\"", "\"\xFF\"", "\"\xED\xA0\x80\"", "\"\\ud800\"", "NaN", "[1e999]",
                                       "// c\n1", "{\"a\\u0000\":1}", "[1 2]", "\"x", "{1:2}" };
    struct ev_err err = EV_ERR_INIT;
    struct ev_json *j;

    for (size_t i = 0; i < EV_COUNT(good); i++) {
        j = parse(good[i]);
        OK(j, "parses: %s", good[i]);
        ev_json_free(j);
    }
    for (size_t i = 0; i < EV_COUNT(bad); i++) {
        j = (struct ev_json *)&err;
        OK(ev_json_parse(ev_slice_str(bad[i]), &j, &err) == EV_EPARSE && !j, "refused %zu: %s", i, err.msg);
        ev_json_free(j);
    }
    OK(ev_json_parse(ev_slice_of("[1]\0", 4), &j, NULL) == EV_EPARSE, "a NUL behind the text is refused");
    OK(ev_json_parse((ev_slice){0}, &j, NULL) == EV_EPARSE, "no text at all is refused");
    err.msg[0] = 0;
    OK(ev_json_parse(EV_LIT("{\n  \"a\": x\n}"), &j, &err) < 0 && strstr(err.msg, "line 2"), "says where: %s",
       err.msg);
}

static void test_numbers(void)
{
    struct ev_json *j = parse("[9223372036854775807,-9223372036854775808,9223372036854775808,-9223372036854775809,"
                              "\"9223372036854775808 \\\" 99999999999999999999\",123456789012345678901234.5,"
                              "1e2,99999999999999999999e-5,1.5]");

    OK(j, "numbers of all sizes parse");
    OK(ev_json_type(ev_json_item(j, 0)) == EV_JSON_INT && ev_json_int(ev_json_item(j, 0)) == INT64_MAX, "largest");
    OK(ev_json_type(ev_json_item(j, 1)) == EV_JSON_INT && ev_json_int(ev_json_item(j, 1)) == INT64_MIN, "smallest");
    OK(ev_json_type(ev_json_item(j, 2)) == EV_JSON_REAL && ev_json_real(ev_json_item(j, 2)) == 0x1p63, "2^63 is real");
    OK(ev_json_type(ev_json_item(j, 3)) == EV_JSON_REAL && ev_json_real(ev_json_item(j, 3)) == -0x1p63, "and below");
    OK(ev_slice_eq(ev_json_str(ev_json_item(j, 4)), EV_LIT("9223372036854775808 \" 99999999999999999999")),
       "digits in strings stay");
    OK(ev_json_real(ev_json_item(j, 5)) == 123456789012345678901234.5, "a large real");
    OK(ev_json_type(ev_json_item(j, 6)) == EV_JSON_REAL && ev_json_real(ev_json_item(j, 6)) == 100, "an exponent");
    OK(ev_json_real(ev_json_item(j, 7)) == 99999999999999999999e-5, "a long number with an exponent");
    OK(ev_json_int(ev_json_item(j, 8)) == 0 && ev_json_real(ev_json_item(j, 8)) == 1.5, "a real is no integer");
    ev_json_free(j);
    OK(parse("[99999999999999999999,") == NULL, "broken text with a large number is still refused");
    OK(parse("{\"a\":99999999999999999999,\"a\":1}") == NULL, "and a duplicate key");
}

static void test_reading(void)
{
    struct ev_json *j = parse("{\"z\":1,\"a\":[true,null],\"m\":\"\\u00e9\"}");
    const char *key, *order[3] = { 0 };
    const struct ev_json *value;
    void *iter = NULL;
    size_t n = 0;

    while (ev_json_next(j, &iter, &key, &value)) {
        if (n < 3)
            order[n] = key;
        n++;
    }
    EQ_INT(n, 3, "three members");
    EQ_STR(order[0], "z", "first in the text, first here");
    EQ_STR(order[1], "a", "second");
    EQ_STR(order[2], "m", "third");
    EQ_INT(ev_json_count(j), 3, "count of members");
    EQ_INT(ev_json_count(ev_json_get(j, "a")), 2, "count of items");
    OK(ev_json_bool(ev_json_item(ev_json_get(j, "a"), 0)), "true");
    OK(ev_json_type(ev_json_item(ev_json_get(j, "a"), 1)) == EV_JSON_NULL, "null");
    EQ_STR((const char *)ev_json_str(ev_json_get(j, "m")).p, "\xC3\xA9", "an escape, decoded");
    OK(!ev_json_get(j, "none") && !ev_json_item(ev_json_get(j, "a"), 2) && !ev_json_get(NULL, "x"),
       "what is not there");
    OK(!ev_json_get(ev_json_get(j, "a"), "z") && !ev_json_item(j, 0), "wrong kind of container");
    iter = NULL;
    OK(!ev_json_next(ev_json_get(j, "a"), &iter, &key, &value), "an array has no members");
    OK(ev_json_str(NULL).n == 0 && ev_json_int(NULL) == 0 && !ev_json_bool(NULL) && ev_json_count(NULL) == 0 &&
       ev_json_type(NULL) == EV_JSON_NULL && ev_json_real(NULL) == 0, "nothing reads as nothing");
    ev_json_free(j);
    ev_json_free(NULL);
}

static const char *put(const struct ev_json *j, int flags)
{
    static char text[512];
    struct ev_buf b = EV_BUF_INIT(sizeof text - 1);
    int rc = ev_json_put(&b, j, flags);

    snprintf(text, sizeof text, "%s", rc < 0 ? ev_err_name(rc) : ev_buf_str(&b));
    ev_buf_fini(&b);
    return text;
}

static void test_writing(void)
{
    struct ev_json *j = ev_json_new_object(), *a = ev_json_new_array();
    struct ev_buf small = EV_BUF_INIT(10);

    ev_json_append(a, ev_json_new_int(INT64_MIN));
    ev_json_append(a, ev_json_new_real(0.1));
    ev_json_append(a, ev_json_new_real(2));
    ev_json_append(a, ev_json_new_real(NAN));
    ev_json_append(a, ev_json_new_real(INFINITY));
    ev_json_append(a, ev_json_new_bool(false));
    ev_json_append(a, ev_json_new_null());
    ev_json_append(a, ev_json_new_real(1e300));
    ev_json_set(j, "z", a);
    ev_json_set(j, "a", ev_json_new_string(EV_LIT("q\"\\\n\x01/\xC3\xA9")));
    ev_json_set(j, "e", ev_json_new_array());
    ev_json_set(j, "e", ev_json_new_object());
    EQ_STR(put(j, EV_JSON_COMPACT), "{\"z\":[-9223372036854775808,0.1,2.0,null,null,false,null,1e+300],"
           "\"a\":\"q\\\"\\\\\\n\\u0001/\xC3\xA9\",\"e\":{}}", "compact, in insertion order");
    OK(strcmp(put(j, EV_JSON_PRETTY | EV_JSON_SORTED),
           "{\n  \"a\": \"q\\\"\\\\\\n\\u0001/\xC3\xA9\",\n  \"e\": {},\n  \"z\": [\n    -9223372036854775808,\n"
           "    0.1,\n    2.0,\n    null,\n    null,\n    false,\n    null,\n    1e+300\n  ]\n}") == 0,
       "pretty, sorted");
    OK(ev_json_put(&small, j, 0) == -ENOBUFS && small.n == 0, "the maximum holds");
    ev_buf_fini(&small);
    EQ_STR(put(NULL, 0), "null", "nothing is null");
    OK(ev_json_new_string(EV_LIT("\xFF")) == NULL, "a string that is not UTF-8");
    ev_json_set(j, "n", ev_json_new_string(EV_LIT("\xFF")));
    OK(ev_json_get(j, "n") && ev_json_type(ev_json_get(j, "n")) == EV_JSON_NULL, "is stored as null");
    ev_json_set(j, "\xFF", ev_json_new_int(1));
    EQ_INT(ev_json_count(j), 4, "a key that is not UTF-8 is left out");
    ev_json_free(j);
}

static void test_round(void)
{
    static const double reals[] = { 0.0, -0.0, 0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456789.125, 1e21,
                                    -2.5e-7, 4503599627370497.5 };
    size_t bad = 0;

    for (size_t i = 0; i < EV_COUNT(reals); i++) {
        struct ev_json *j = ev_json_new_real(reals[i]), *back = parse(put(j, 0));

        if (ev_json_type(back) != EV_JSON_REAL || ev_json_real(back) != reals[i])
            bad++;
        ev_json_free(j);
        ev_json_free(back);
    }
    EQ_INT(bad, 0, "reals there and back");
}

/* Truncated at every byte, in an allocation of its own size. */
static void test_truncation(void)
{
    const char *text = "{\"a\":[1,2.5e3,\"\\u00e9\\n\",true],\"b\":{\"c\":null},\"d\":99999999999999999999}";
    size_t bad = 0;

    for (size_t n = 0; n < strlen(text); n++) {
        uint8_t *copy = malloc(n ? n : 1);
        struct ev_json *j = NULL;

        memcpy(copy, text, n);
        if (ev_json_parse(ev_slice_of(copy, n), &j, NULL) != EV_EPARSE)
            bad++;
        ev_json_free(j);
        free(copy);
    }
    EQ_INT(bad, 0, "every prefix is refused");
}

static void test_depth(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    struct ev_json *j = NULL;

    OK(ev_buf_zero(&b, 200000) == 0, "room for them");
    memset(b.p, '[', b.n);
    OK(ev_json_parse(ev_buf_slice(&b), &j, NULL) == EV_EPARSE, "200,000 open brackets are refused");
    ev_buf_fini(&b);
}

int main(void)
{
    test_documents();
    test_numbers();
    test_reading();
    test_writing();
    test_round();
    test_truncation();
    test_depth();
    return tap_done();
}
