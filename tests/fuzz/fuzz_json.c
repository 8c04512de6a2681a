/* fuzz_json.c — any bytes through the JSON parser; what parses is written and parses again to the
 * same text. The small text codecs get the same bytes: what decodes encodes back. */
#include "codec/json.h"
#include "codec/text.h"
#include "fuzz.h"

static void json(ev_slice text, int flags)
{
    struct ev_buf a = EV_BUF_INIT(64 << 20), b = EV_BUF_INIT(64 << 20);
    struct ev_json *j = NULL, *again = NULL;
    struct ev_err err = EV_ERR_INIT;

    if (ev_json_parse(text, &j, &err) < 0) {
        demand(!j && err.msg[0], "a failure says why");
    } else {
        demand(ev_utf8_valid(text), "what parses is UTF-8");
        demand(ev_json_put(&a, j, flags) == 0 && ev_json_parse(ev_buf_slice(&a), &again, &err) == 0, "parses again");
        demand(ev_json_put(&b, again, flags) == 0 && ev_slice_eq(ev_buf_slice(&a), ev_buf_slice(&b)), "the same text");
    }
    ev_json_free(j);
    ev_json_free(again);
    ev_buf_fini(&a);
    ev_buf_fini(&b);
}

static void base64(ev_slice text, bool lax)
{
    struct ev_buf bytes = EV_BUF_INIT(text.n), back = EV_BUF_INIT(2 * text.n + 8), again = EV_BUF_INIT(text.n);

    if (ev_base64_decode(&bytes, text, lax) == 0) {
        demand(ev_base64_put(&back, ev_buf_slice(&bytes)) == 0 &&
               ev_base64_decode(&again, ev_buf_slice(&back), false) == 0 &&
               ev_slice_eq(ev_buf_slice(&bytes), ev_buf_slice(&again)), "base64 there and back");
    } else {
        demand(bytes.n == 0, "nothing on failure");
    }
    ev_buf_fini(&bytes);
    ev_buf_fini(&back);
    ev_buf_fini(&again);
}

static void small(ev_slice text)
{
    struct ev_buf b = EV_BUF_INIT(2 * text.n + 64);
    uint8_t bytes[256];
    int64_t ms, again;
    int n = ev_hex_decode(text, bytes, sizeof bytes);

    demand(n < 0 || (ev_hex_put(&b, ev_slice_of(bytes, (size_t)n)) == 0 && b.n == text.n), "hex there and back");
    ev_buf_clear(&b);
    if (ev_time_parse(text, &ms) == 0 && ev_time_put(&b, ms, 3) == 0)
        demand(ev_time_parse(ev_buf_slice(&b), &again) == 0 && again == ms, "time there and back");
    ev_buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ev_slice text = ev_slice_of(data, size);

    json(text, EV_JSON_COMPACT);
    json(text, EV_JSON_PRETTY | EV_JSON_SORTED);
    base64(text, false);
    base64(text, true);
    small(text);
    return 0;
}
