/* test_eif.c — the reader refuses all damage of eif.md §1.7; AWS's samples are read as they are. */
#include "codec/eif.h"
#include "image_fixture.h"
#include "tap.h"

#define GOLDEN "tests/golden/eif/"

static int read_bytes(const uint8_t *p, size_t n, struct ev_eif *e, struct ev_err *err)
{
    int fd = mem_file(p, n), rc = ev_eif_read(fd, e, err);

    close(fd);
    return rc;
}

static void refuses(struct ev_buf *b, size_t at, const char *bytes, size_t n, const char *reason, const char *what)
{
    uint8_t before[16];
    struct ev_err err = EV_ERR_INIT;
    struct ev_eif e;

    memcpy(before, b->p + at, n);
    memcpy(b->p + at, bytes, n);
    OK(read_bytes(b->p, b->n, &e, &err) < 0 && strcmp(err.reason, reason) == 0, "%s: %s (%s)", what, reason, err.msg);
    memcpy(b->p + at, before, n);
}

static void test_samples(void)
{
    static const struct { const char *file; size_t n; uint16_t flags; uint32_t crc; uint64_t last; } s[] = {
        { GOLDEN "aws-unsigned.eif", 5, 0, 0x1a38f0d1, 7456 },
        { GOLDEN "aws-signed-p384.eif", 6, 0, 0x0671cd30, 9517 },
        { GOLDEN "aws-one-ramdisk-arm64.eif", 4, 1, 0x586fde71, 5910 },
    };

    for (size_t i = 0; i < EV_COUNT(s); i++) {
        int fd = open(s[i].file, O_RDONLY);
        struct ev_err err = EV_ERR_INIT;
        struct ev_eif e;

        OK(ev_eif_read(fd, &e, &err) == 0, "%s is read %s", s[i].file, err.msg);
        OK(e.n == s[i].n && e.flags == s[i].flags && e.crc == s[i].crc && e.version == 4 && !e.warning[0] &&
           e.section[e.n - 1].offset == s[i].last && e.default_mem == 1u << 30 && e.default_cpus == 2,
           "as its index says");
        close(fd);
    }
}

static void test_damage(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    struct ev_eif e;
    size_t accepted = 0;

    MUST(ev_file_read(GOLDEN "aws-signed-p384.eif", &b, NULL));
    for (size_t n = 0; n < b.n; n++)
        accepted += read_bytes(b.p, n, &e, NULL) >= 0;
    EQ_INT(accepted, 0, "every truncation is refused");
    refuses(&b, 0, ".elf", 4, "eif-magic", "magic");
    refuses(&b, 4, "\0\1", 2, "eif-version", "version 1");
    refuses(&b, 4, "\0\5", 2, "eif-version", "version 5");
    refuses(&b, 26, "\0\1", 2, "eif-count", "one section");
    refuses(&b, 26, "\0\x21", 2, "eif-count", "33 sections");
    refuses(&b, 26, "\0\5", 2, "eif-trailing", "one section less than there are");
    refuses(&b, 28 + 7, "\x25", 1, "eif-table", "offset of the first section");
    refuses(&b, 28 + 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "eif-table", "offset of the second");
    refuses(&b, 284 + 7, "\x89", 1, "eif-table", "size in the table");
    refuses(&b, 548 + 4, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "eif-truncated", "size of 2^64-1");
    refuses(&b, 548 + 4, "\xff\xff\xff\xff\xff\xff\xff\xf4", 8, "eif-truncated", "size that wraps");
    refuses(&b, 548, "\0\0", 2, "eif-section", "type 0");
    refuses(&b, 548, "\0\6", 2, "eif-section", "type 6");
    refuses(&b, 548, "\0\2", 2, "eif-order", "no kernel before a ramdisk");
    refuses(&b, 550, "\0\1", 2, "eif-section", "section flags");
    refuses(&b, 5560 + 1, "\1", 1, "eif-count", "two kernels");
    refuses(&b, 5641 + 1, "\2", 1, "eif-count", "two command lines, no metadata");
    b.p[24] = 1;
    OK(read_bytes(b.p, b.n, &e, &err) == 0 && strstr(e.warning, "reserved"), "a reserved byte is only a warning");
    b.p[24] = 0;
    b.p[6] = 2, b.p[7] = 0x40;
    OK(read_bytes(b.p, b.n, &e, &err) == 0 && strstr(e.warning, "PCR0"), "PCIe flags are only a warning");
    b.p[6] = 0, b.p[7] = 0;
    b.p[284 + 8 * 5 + 7] ^= 1;
    OK(read_bytes(b.p, b.n, &e, &err) == 0 && strstr(e.warning, "sign-eif") && e.section[5].size == 1937,
       "an old size of the last signature is only a warning, and not believed");
    b.p[284 + 8 * 5 + 7] ^= 1;
    b.p[5] = 3;
    OK(read_bytes(b.p, b.n, &e, &err) == 0 && e.version == 3, "version 3 is read");
    ev_buf_fini(&b);
}

static void test_writer(void)
{
    static const uint64_t size[] = { 5000, 69, 254, 1537, 2049 };
    static const enum ev_eif_type type[] = { EV_EIF_KERNEL, EV_EIF_CMDLINE, EV_EIF_METADATA, EV_EIF_RAMDISK,
                                             EV_EIF_RAMDISK };
    struct ev_eif e = { .version = 4, .default_mem = 1 << 30, .default_cpus = 2, .crc = 0x1a38f0d1 };
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    uint8_t head[EV_EIF_HEADER], section[EV_EIF_SECTION_HEADER];
    size_t wrong = 0;

    MUST(ev_file_read(GOLDEN "aws-unsigned.eif", &b, NULL));
    for (size_t i = 0; i < EV_COUNT(size); i++) {
        MUST(ev_eif_add(&e, type[i], size[i], NULL));
        ev_eif_section_header(&e.section[i], section);
        wrong += memcmp(b.p + e.section[i].offset, section, sizeof section) != 0;
    }
    ev_eif_header(&e, head);
    OK(memcmp(head, b.p, sizeof head) == 0 && wrong == 0 && e.length == b.n, "headers as AWS writes them");
    while (e.n < EV_EIF_SECTIONS)
        MUST(ev_eif_add(&e, EV_EIF_RAMDISK, 1, NULL));
    EQ_INT(ev_eif_add(&e, EV_EIF_RAMDISK, 1, NULL), EV_ELIMIT, "a 33rd section is refused");
    ev_buf_fini(&b);
}

static void test_metadata(void)
{
#define BUILD "\"BuildMetadata\":{\"BuildTime\":\"t\",\"BuildTool\":\"x\",\"BuildToolVersion\":\"1\"," \
              "\"OperatingSystem\":\"Linux\",\"KernelVersion\":\"6\"}"
    static const char *const bad[] = {
        "", "{}", "[]", "null", "{", "{\"ImageName\":\"a\",\"ImageVersion\":\"1\"}",
        "{\"ImageName\":1,\"ImageVersion\":\"1\"," BUILD "}", "{\"ImageName\":\"a\",\"ImageVersion\":\"1\"," BUILD "}x",
    };
    struct ev_err err = EV_ERR_INIT;
    size_t accepted = 0;

    EQ_INT(ev_eif_check_metadata(EV_LIT("{\"ImageName\":\"a\",\"ImageVersion\":\"1\"," BUILD
                                        ",\"DockerInfo\":null,\"CustomMetadata\":{\"a\":1}}"), &err), 0, "metadata");
    for (size_t i = 0; i < EV_COUNT(bad); i++)
        accepted += ev_eif_check_metadata(ev_slice_str(bad[i]), &err) >= 0 || strcmp(err.reason, "eif-metadata") != 0;
    EQ_INT(accepted, 0, "other shapes are refused");
}

int main(void)
{
    test_samples();
    test_damage();
    test_writer();
    test_metadata();
    return tap_done();
}
