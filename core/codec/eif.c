/* eif.c — see eif.h. */
#include "codec/eif.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "codec/json.h"

/* Offsets in the header, eif.md §1.1. */
enum { AT_VERSION = 4, AT_FLAGS = 6, AT_MEM = 8, AT_CPUS = 16, AT_RESERVED = 24, AT_COUNT = 26,
       AT_OFFSETS = 28, AT_SIZES = 284, AT_UNUSED = 540 };

static const uint8_t MAGIC[4] = { '.', 'e', 'i', 'f' };

static void warn(struct ev_eif *e, const char *text)
{
    size_t n = strlen(e->warning);

    snprintf(e->warning + n, sizeof e->warning - n, "%s%s", n ? "; " : "", text);
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static int read_fixed(struct ev_eif *e, const uint8_t *h, struct ev_err *err)
{
    if (memcmp(h, MAGIC, sizeof MAGIC) != 0)
        return ev_fail_reason(err, EV_EPARSE, "eif-magic", "not an enclave image: it does not begin with \".eif\"");
    e->version = ev_get_u16be(h + AT_VERSION);
    e->flags = ev_get_u16be(h + AT_FLAGS);
    e->default_mem = ev_get_u64be(h + AT_MEM);
    e->default_cpus = ev_get_u64be(h + AT_CPUS);
    e->n = ev_get_u16be(h + AT_COUNT);
    e->crc = ev_get_u32be(h + EV_EIF_CRC_OFFSET);
    if (e->version < 2 || e->version > EV_EIF_VERSION)
        return ev_fail_reason(err, EV_EPARSE, "eif-version", "format version %u; 2 to 4 can be read", e->version);
    if (e->n < 2 || e->n > EV_EIF_SECTIONS)
        return ev_fail_reason(err, EV_EPARSE, "eif-count", "%zu sections; 2 to 32 are possible", e->n);
    if (e->flags & ~EV_EIF_ARM64)
        warn(e, "header flags beyond the architecture are set: PCR0 may differ on hardware");
    if (!all_zero(h + AT_RESERVED, 2) || !all_zero(h + AT_UNUSED, 4))
        warn(e, "reserved header bytes are not zero");
    if (!all_zero(h + AT_OFFSETS + 8 * e->n, 8 * (EV_EIF_SECTIONS - e->n)) ||
        !all_zero(h + AT_SIZES + 8 * e->n, 8 * (EV_EIF_SECTIONS - e->n)))
        warn(e, "unused entries of the section table are not zero");
    return 0;
}

/* One section at `pos`: what the table says (from h) against what stands there. */
static int read_section(int fd, struct ev_eif *e, size_t i, uint64_t pos, const uint8_t *h, struct ev_err *err)
{
    struct ev_eif_section *s = &e->section[i];
    uint64_t offset = ev_get_u64be(h + AT_OFFSETS + 8 * i), size = ev_get_u64be(h + AT_SIZES + 8 * i);
    uint8_t b[EV_EIF_SECTION_HEADER];

    if (offset != pos)
        return ev_fail_reason(err, EV_EPARSE, "eif-table",
                              "section %zu is said to lie at %llu, the one before ends at %llu",
                              i, (unsigned long long)offset, (unsigned long long)pos);
    if (e->length - pos < EV_EIF_SECTION_HEADER)
        return ev_fail_reason(err, EV_EPARSE, "eif-truncated", "the file ends before section %zu", i);
    if (ev_pread_all(fd, b, sizeof b, pos) < 0)
        return ev_fail_reason(err, EV_EPARSE, "eif-truncated", "cannot read the header of section %zu", i);
    *s = (struct ev_eif_section){ .type = ev_get_u16be(b), .offset = pos, .size = ev_get_u64be(b + 4) };
    if (s->type < EV_EIF_KERNEL || s->type > EV_EIF_METADATA)
        return ev_fail_reason(err, EV_EPARSE, "eif-section", "section %zu has the unknown type %u", i, s->type);
    if (ev_get_u16be(b + 2) != 0)
        return ev_fail_reason(err, EV_EPARSE, "eif-section", "section %zu has flags", i);
    if (s->size > e->length - pos - EV_EIF_SECTION_HEADER)
        return ev_fail_reason(err, EV_EPARSE, "eif-truncated", "section %zu does not end within the file", i);
    if (s->size == size)
        return 0;
    if (s->type != EV_EIF_SIGNATURE || i != e->n - 1)
        return ev_fail_reason(err, EV_EPARSE, "eif-table", "section %zu has %llu bytes, the table says %llu", i,
                              (unsigned long long)s->size, (unsigned long long)size);
    warn(e, "the table has an old size of the signature (a known fault of sign-eif)");
    return 0;
}

static int check_counts(struct ev_eif *e, struct ev_err *err)
{
    size_t kernel = 0, count[EV_EIF_METADATA + 1] = {0};

    for (size_t i = 0; i < e->n; i++) {
        const struct ev_eif_section *s = &e->section[i];

        count[s->type]++;
        if (s->type == EV_EIF_KERNEL)
            kernel = i;
        if (s->type == EV_EIF_RAMDISK && count[EV_EIF_KERNEL] == 0)
            return ev_fail_reason(err, EV_EPARSE, "eif-order", "a ramdisk comes before the kernel");
        if (s->type == EV_EIF_SIGNATURE && s->size > EV_EIF_SIGNATURE_MAX)
            return ev_fail_reason(err, EV_EPARSE, "eif-signature", "the signature section has more than %d bytes",
                                  EV_EIF_SIGNATURE_MAX);
    }
    if (count[EV_EIF_KERNEL] != 1 || count[EV_EIF_CMDLINE] != 1 || count[EV_EIF_RAMDISK] < 1 ||
        count[EV_EIF_SIGNATURE] > 1 || count[EV_EIF_METADATA] > 1)
        return ev_fail_reason(err, EV_EPARSE, "eif-count",
                              "one kernel, one command line, at least one ramdisk, at most "
                              "one signature and metadata are expected; there are %zu, %zu, %zu, %zu, %zu",
                              count[EV_EIF_KERNEL], count[EV_EIF_CMDLINE], count[EV_EIF_RAMDISK],
                              count[EV_EIF_SIGNATURE], count[EV_EIF_METADATA]);
    if (e->section[kernel].size == 0)
        return ev_fail_reason(err, EV_EPARSE, "eif-section", "the kernel is empty");
    if (e->version == EV_EIF_VERSION && count[EV_EIF_METADATA] == 0)
        return ev_fail_reason(err, EV_EPARSE, "eif-count", "version 4 without metadata");
    if (e->version < EV_EIF_VERSION && count[EV_EIF_METADATA])
        warn(e, "metadata in an image older than version 4");
    if (e->version < 3 && count[EV_EIF_SIGNATURE])
        warn(e, "a signature in an image older than version 3");
    return 0;
}

int ev_eif_read(int fd, struct ev_eif *out, struct ev_err *err)
{
    uint8_t h[EV_EIF_HEADER];
    struct stat st;
    uint64_t pos = EV_EIF_HEADER;
    int rc;

    *out = (struct ev_eif){0};
    if (fstat(fd, &st) < 0)
        return ev_fail_errno(err, "stat");
    if (!S_ISREG(st.st_mode))
        return ev_fail(err, EV_EPARSE, "not a regular file");
    out->length = (uint64_t)st.st_size;
    if (out->length < EV_EIF_HEADER || ev_pread_all(fd, h, sizeof h, 0) < 0)
        return ev_fail_reason(err, EV_EPARSE, "eif-truncated", "the file ends within its header");
    EV_TRY(read_fixed(out, h, err));
    for (size_t i = 0; i < out->n; i++) {
        EV_TRY(read_section(fd, out, i, pos, h, err));
        pos += EV_EIF_SECTION_HEADER + out->section[i].size;
    }
    if (pos != out->length)
        return ev_fail_reason(err, EV_EPARSE, "eif-trailing", "%llu bytes follow the last section",
                              (unsigned long long)(out->length - pos));
    rc = check_counts(out, err);
out:
    return rc;
}

const struct ev_eif_section *ev_eif_find(const struct ev_eif *e, enum ev_eif_type type, size_t i)
{
    for (size_t k = 0; k < e->n; k++)
        if (e->section[k].type == type && i-- == 0)
            return &e->section[k];
    return NULL;
}

size_t ev_eif_count(const struct ev_eif *e, enum ev_eif_type type)
{
    size_t n = 0;

    for (size_t k = 0; k < e->n; k++)
        n += e->section[k].type == type;
    return n;
}

int ev_eif_load(int fd, const struct ev_eif_section *s, struct ev_buf *out, struct ev_err *err)
{
    int rc;

    if (s->size > out->max)
        return ev_fail(err, EV_ELIMIT, "a section of type %u has %llu bytes; at most %zu are read", s->type,
                       (unsigned long long)s->size, out->max);
    ev_buf_clear(out);
    if (ev_buf_zero(out, (size_t)s->size) < 0)
        return ev_fail(err, EV_ELIMIT, "a section of type %u is too large", s->type);
    if (s->size > 0 && (rc = ev_pread_all(fd, out->p, (size_t)s->size, ev_eif_data(s))) < 0)
        return ev_fail(err, rc, "a section of type %u cannot be read", s->type);
    return 0;
}

static bool has_strings(const struct ev_json *object, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct ev_json *v = ev_json_get(object, keys[i]);

        if (!v || ev_json_type(v) != EV_JSON_STRING)
            return false;
    }
    return true;
}

int ev_eif_check_metadata(ev_slice json, struct ev_err *err)
{
    static const char *const image[] = { "ImageName", "ImageVersion" };
    static const char *const build[] = { "BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem",
                                         "KernelVersion" };
    struct ev_err inner = EV_ERR_INIT;
    struct ev_json *j = NULL;
    int rc = ev_json_parse(json, &j, &inner);

    if (rc < 0)
        rc = ev_fail_reason(err, EV_EPARSE, "eif-metadata", "metadata: %s", inner.msg);
    else if (ev_json_type(j) != EV_JSON_OBJECT || !has_strings(j, image, EV_COUNT(image)) ||
             !has_strings(ev_json_get(j, "BuildMetadata"), build, EV_COUNT(build)))
        rc = ev_fail_reason(err, EV_EPARSE, "eif-metadata", "metadata lacks a name, a version or its build facts");
    else
        rc = 0;
    ev_json_free(j);
    return rc;
}

static void set_u16be(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void set_u64be(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

void ev_eif_header(const struct ev_eif *e, uint8_t out[EV_EIF_HEADER])
{
    memset(out, 0, EV_EIF_HEADER);
    memcpy(out, MAGIC, sizeof MAGIC);
    set_u16be(out + AT_VERSION, e->version);
    set_u16be(out + AT_FLAGS, e->flags);
    set_u64be(out + AT_MEM, e->default_mem);
    set_u64be(out + AT_CPUS, e->default_cpus);
    set_u16be(out + AT_COUNT, (uint16_t)e->n);
    for (size_t i = 0; i < e->n; i++) {
        set_u64be(out + AT_OFFSETS + 8 * i, e->section[i].offset);
        set_u64be(out + AT_SIZES + 8 * i, e->section[i].size);
    }
    set_u16be(out + EV_EIF_CRC_OFFSET, (uint16_t)(e->crc >> 16));
    set_u16be(out + EV_EIF_CRC_OFFSET + 2, (uint16_t)e->crc);
}

void ev_eif_section_header(const struct ev_eif_section *s, uint8_t out[EV_EIF_SECTION_HEADER])
{
    set_u16be(out, s->type);
    set_u16be(out + 2, 0);
    set_u64be(out + 4, s->size);
}

int ev_eif_add(struct ev_eif *e, enum ev_eif_type type, uint64_t size, struct ev_err *err)
{
    if (e->n == EV_EIF_SECTIONS)
        return ev_fail_reason(err, EV_ELIMIT, "eif-count", "an image has at most %d sections", EV_EIF_SECTIONS);
    if (e->length == 0)
        e->length = EV_EIF_HEADER;
    e->section[e->n++] = (struct ev_eif_section){ .type = (uint16_t)type, .offset = e->length, .size = size };
    e->length += EV_EIF_SECTION_HEADER + size;
    return 0;
}
