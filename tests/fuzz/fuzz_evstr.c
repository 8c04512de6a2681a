/* fuzz_evstr.c — any bytes as an encrypted string, as a file, as metadata. The grammar must not
 * change its mind: a match stays one whatever follows it, and every cut of it asks for more. */
#include "codec/text.h"
#include "crypto/evstr_internal.h"
#include "fuzz.h"

/* The vectors' application: its corpus decrypts. */
static struct ev_evapp *app(void)
{
    static const uint8_t p[] = "\xc8\xcf\x90\x70\xc7\x0f\x8d\x91\x4d\xe3\x60\xee\x06\x70\x44\xd6\x48\x34\x82\x07"
                               "\x3c\x74\x87\x7d\x08\xf9\x66\xc7\xb1\x8a\xec\x08";
    static const uint8_t k[] = "\xab\xe5\x4d\x5f\xc7\x1e\xfc\xe3\x6e\x54\xe1\x6b\xee\x3c\xd6\x4f\xd8\x11\xa4\xbb"
                               "\xb2\xc4\xd4\xe0\x56\xd4\x64\x16\x88\x1f\xf7\x61";
    static struct ev_evapp *one;
    struct ev_evapp_conf conf = { .cache = 8 };
    struct ev_key *p256 = NULL, *k1 = NULL;

    if (one)
        return one;
    demand(ev_key_from_scalar(EV_P256, ev_slice_of(p, 32), &p256, NULL) == 0 &&
           ev_key_from_scalar(EV_SECP256K1, ev_slice_of(k, 32), &k1, NULL) == 0, "keys");
    conf.p256 = p256;
    conf.secp256k1 = k1;
    demand(ev_evapp_new(&conf, &one, NULL) == 0, "an application");
    ev_key_free(p256);
    ev_key_free(k1);
    return one;
}

static void string(ev_slice in, struct ev_buf *out)
{
    struct ev_evstr s, cut;
    struct ev_err err = EV_ERR_INIT;

    if (ev_evstr_parse(in, &s) != EV_EVSTR_MATCH)
        return;
    demand(s.whole.p == in.p && s.whole.n <= in.n && s.whole.p[s.whole.n - 1] == '$', "one within the text");
    demand(ev_evstr_parse(s.whole, &cut) == EV_EVSTR_MATCH && cut.whole.n == s.whole.n, "what follows does not matter");
    for (size_t n = 0; n < s.whole.n && n < 200; n++)
        demand(ev_evstr_parse(ev_slice_of(in.p, n), &cut) == EV_EVSTR_MORE, "a cut asks for more");
    if (ev_evstr_decrypt(app(), &s, out, NULL, &err) == 0)
        demand(ev_utf8_valid(ev_buf_slice(out)), "a value is UTF-8");
    else
        demand(out->n == 0 && err.msg[0], "nothing on failure, and why");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ev_buf out = EV_BUF_INIT(1 << 20), again = EV_BUF_INIT(1 << 16);
    ev_slice in = ev_slice_of(data, size);
    struct ev_evstr_meta meta;

    string(in, &out);
    ev_buf_clear(&out);
    if (ev_evfile_decrypt(app(), in, &out, &meta, NULL) < 0)
        demand(out.n == 0, "nothing on failure");
    if (evstr_meta_read(in, &meta) == 0)
        demand(meta.role[EV_EVSTR_ROLE_MAX] == 0 && (evstr_meta_put(&again, &meta) == 0 || meta.origin > 127 ||
               meta.time > UINT32_MAX), "metadata can be written again");
    ev_buf_fini(&out);
    ev_buf_fini(&again);
    return 0;
}
