/* fuzz_eif.c — any bytes as an enclave image: the reader, its sections' texts, a signature section.
 * What it promises: what is accepted ends exactly where the file ends and every section lies in it. */
#include "fuzz.h"
#include "nitro/image_int.h"

static void texts(int fd, const struct ev_eif *e)
{
    struct ev_buf b = EV_BUF_INIT(EV_EIF_METADATA_MAX);
    const struct ev_eif_section *meta = ev_eif_find(e, EV_EIF_METADATA, 0), *sig = ev_eif_find(e, EV_EIF_SIGNATURE, 0);
    static const uint8_t pcr0[48];
    struct ev_cert *cert = NULL;

    if (meta && ev_eif_load(fd, meta, &b, NULL) == 0 && ev_eif_check_metadata(ev_buf_slice(&b), NULL) == 0)
        demand(b.n > 2, "metadata of nothing");
    if (sig && ev_eif_load(fd, sig, &b, NULL) == 0)
        demand(ev_image_check_signature(ev_buf_slice(&b), pcr0, &cert, NULL) < 0, "a signature over no PCR0");
    ev_cert_free(cert);
    ev_buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ev_err err = EV_ERR_INIT;
    uint64_t pos = EV_EIF_HEADER;
    int fd = fuzz_file(data, size);
    struct ev_eif e;

    if (ev_eif_read(fd, &e, &err) < 0) {
        demand(err.msg[0], "a failure without a text");
        return 0;
    }
    demand(e.n <= EV_EIF_SECTIONS && ev_eif_count(&e, EV_EIF_KERNEL) == 1, "counts");
    for (size_t i = 0; i < e.n; i++) {
        demand(e.section[i].offset == pos, "sections one after the other");
        pos += EV_EIF_SECTION_HEADER + e.section[i].size;
    }
    demand(pos == size, "the end of the file");
    texts(fd, &e);
    return 0;
}
