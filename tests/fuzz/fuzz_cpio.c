/* fuzz_cpio.c — any bytes as a ramdisk: the reader, and the layout check of ramdisk 2. Promises: no
 * entry leaves the range, and what the check accepts has plain names below rootfs/ and cage/ only. */
#include "fuzz.h"
#include "nitro/image_int.h"

static bool belongs(const char *name)
{
    return strcmp(name, "rootfs") == 0 || strncmp(name, "rootfs/", 7) == 0 || strcmp(name, "cage") == 0 ||
           strncmp(name, "cage/", 5) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = fuzz_file(data, size), rc;
    bool layout = ev_layout_check(fd, 0, size, NULL) == 0;
    struct ev_err err = EV_ERR_INIT;
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;

    ev_cpio_reader_init(&r, fd, 0, size);
    do {
        while ((rc = ev_cpio_next(&r, &e, &err)) > 0) {
            demand(e.data + e.size <= size && r.pos <= size, "contents within the range");
            demand(strlen(e.name) == e.name_len && e.name_len > 0, "a name of its length");
            demand(!layout || belongs(e.name), "only our entries");
            demand(!layout || (!strstr(e.name, "/../") && !strstr(e.name, "//") && !strstr(e.name, "/./")),
                   "plain names");
        }
        demand(rc == 0 || err.msg[0], "a failure without a text");
        demand(rc == 0 || !layout, "the check accepts what cannot be read");
    } while (rc == 0 && (rc = ev_cpio_rest(&r, &err)) > 0);
    ev_cpio_reader_fini(&r);
    return 0;
}
