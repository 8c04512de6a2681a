/* fuzz_cbor.c — any bytes through the CBOR reader; what it accepts, written again item by item,
 * must be accepted again and mean the same. */
#include "codec/cbor.h"
#include "codec/text.h"
#include "fuzz.h"

/* Writes one item as it was read; containers by their head alone. */
static void copy(struct ev_buf *out, const struct ev_cbor_item *it)
{
    int rc = 0;

    switch (it->type) {
    case EV_CBOR_UINT: rc = ev_cbor_put_uint(out, it->value); break;
    case EV_CBOR_NINT: rc = it->value <= INT64_MAX ? ev_cbor_put_nint(out, -1 - (int64_t)it->value) : 0; break;
    case EV_CBOR_BYTES: rc = ev_cbor_put_bytes(out, it->data); break;
    case EV_CBOR_TEXT: demand(ev_utf8_valid(it->data), "text is UTF-8"); break;
    case EV_CBOR_ARRAY: rc = ev_cbor_put_array(out, it->count); break;
    case EV_CBOR_MAP: rc = ev_cbor_put_map(out, it->count); break;
    case EV_CBOR_TAG: rc = ev_cbor_put_tag(out, it->value); break;
    case EV_CBOR_BOOL: rc = ev_cbor_put_bool(out, it->value != 0); break;
    case EV_CBOR_NULL: rc = ev_cbor_put_null(out); break;
    case EV_CBOR_BREAK: demand(false, "a break never comes out"); break;
    }
    demand(rc == 0, "what was read can be written");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ev_slice in = ev_slice_of(data, size);
    struct ev_cbor_reader r, again;
    struct ev_cbor_item it, back;
    struct ev_err err = EV_ERR_INIT;
    size_t from = 0;

    ev_cbor_reader_init(&r, in);
    while (!ev_cbor_done(&r) && ev_cbor_next(&r, &it, &err) == 0) {
        struct ev_buf out = EV_BUF_INIT(size + 16);

        demand(r.pos > from && r.pos <= size, "the cursor moves, within the input");
        demand(it.data.n == 0 || (it.data.p >= data && it.data.p + it.data.n == data + r.pos), "data is borrowed");
        demand(it.count <= size, "a count that can be");
        copy(&out, &it);
        if (out.n > 0 && it.type != EV_CBOR_ARRAY && it.type != EV_CBOR_MAP) {
            demand(out.n <= r.pos - from, "the shortest form is not longer");
            ev_cbor_reader_init(&again, ev_buf_slice(&out));
            demand(ev_cbor_next(&again, &back, NULL) == 0 && back.type == it.type && back.value == it.value &&
                   ev_slice_eq(back.data, it.data), "there and back");
        }
        from = r.pos;
        ev_buf_fini(&out);
    }
    ev_cbor_reader_init(&r, in);
    if (ev_cbor_skip(&r, &err) < 0)
        demand(err.msg[0] && err.code == EV_EPARSE, "a failure says why");
    else
        demand(r.pos > 0 && r.pos <= size, "skip stays within the input");
    return 0;
}
