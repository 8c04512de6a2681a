/* image_describe.c — reads an image once, strictly, and says what it is. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/crc32.h"
#include "crypto/digest.h"
#include "nitro/image_int.h"

void ev_image_info_fini(struct ev_image_info *i)
{
    ev_cert_free(i->cert);
    ev_buf_fini(&i->metadata);
    ev_buf_fini(&i->cmdline);
    i->cert = NULL;
}

static int load(int fd, const struct ev_eif *e, enum ev_eif_type type, struct ev_buf *out, struct ev_err *err)
{
    const struct ev_eif_section *s = ev_eif_find(e, type, 0);

    return s ? ev_eif_load(fd, s, out, err) : 0;
}

static int load_texts(int fd, const struct ev_eif *e, struct ev_image_info *out, struct ev_err *err)
{
    int rc;

    EV_TRY(load(fd, e, EV_EIF_CMDLINE, &out->cmdline, err));
    if (out->cmdline.n > 0 && memchr(out->cmdline.p, '\0', out->cmdline.n))
        return ev_fail_reason(err, EV_EPARSE, "eif-cmdline", "the command line contains a NUL");
    EV_TRY(load(fd, e, EV_EIF_METADATA, &out->metadata, err));
    if (ev_eif_find(e, EV_EIF_METADATA, 0))
        EV_TRY(ev_eif_check_metadata(ev_buf_slice(&out->metadata), err));
out:
    return rc;
}

/* PCR1 is kernel, command line and first ramdisk: a prefix of PCR0's content unless the command
 * line comes after the second ramdisk, as some writer might have it. Then it takes a pass of its own. */
static bool pcr1_is_prefix(const struct ev_eif *e)
{
    const struct ev_eif_section *second = ev_eif_find(e, EV_EIF_RAMDISK, 1);

    return !second || ev_eif_find(e, EV_EIF_CMDLINE, 0)->offset < second->offset;
}

/* Every section in file order; the measured ones on their way to PCR0 and PCR2. */
static int pump_all(int fd, const struct ev_eif *e, struct ev_pump *p, struct ev_err *err)
{
    size_t ramdisks = 0;
    int rc;

    for (size_t i = 0; i < e->n; i++) {
        const struct ev_eif_section *s = &e->section[i];
        int how = s->type <= EV_EIF_RAMDISK ? EV_PUMP_PCR0 : 0;

        ramdisks += s->type == EV_EIF_RAMDISK;
        if (s->type == EV_EIF_RAMDISK && ramdisks > 1)
            how |= EV_PUMP_PCR2;
        if (s->type == EV_EIF_RAMDISK && ramdisks == 2 && pcr1_is_prefix(e))
            EV_TRY(ev_pump_mark_pcr1(p, err));
        EV_TRY(ev_pump_file(p, 0, fd, s->offset, EV_EIF_SECTION_HEADER, err));
        EV_TRY(ev_pump_file(p, how, fd, ev_eif_data(s), s->size, err));
    }
    rc = ramdisks == 1 ? ev_pump_mark_pcr1(p, err) : 0;
out:
    return rc;
}

static int pump_until_pcr1(int fd, const struct ev_eif *e, struct ev_pump *p, struct ev_err *err)
{
    size_t ramdisks = 0;
    int rc = 0;

    for (size_t i = 0; i < e->n; i++) {
        const struct ev_eif_section *s = &e->section[i];

        ramdisks += s->type == EV_EIF_RAMDISK;
        if (s->type <= EV_EIF_CMDLINE || (s->type == EV_EIF_RAMDISK && ramdisks == 1))
            EV_TRY(ev_pump_file(p, EV_PUMP_PCR0, fd, ev_eif_data(s), s->size, err));
    }
out:
    return rc;
}

static int separate_pcr1(int fd, const struct ev_eif *e, struct ev_pcrs *pcrs, struct ev_err *err)
{
    struct ev_pump *p = ev_pump_new(-1, 0);
    int rc;

    EV_TRY(pump_until_pcr1(fd, e, p, err));
    EV_TRY(ev_pump_pcr0(p, pcrs->value[1], err));
    pcrs->present |= 1u << 1;
out:
    ev_pump_free(p);
    return rc;
}

static int measure(int fd, const struct ev_eif *e, const struct ev_image_watch *watch, struct ev_image_info *out,
                   struct ev_err *err)
{
    struct ev_pump *p = ev_pump_new(-1, 0);
    uint8_t head[EV_EIF_HEADER];
    uint64_t len;
    uint32_t crc;
    int rc;

    ev_pump_watch(p, watch, "measure", e->length);
    EV_TRY(pump_all(fd, e, p, err));
    EV_TRY(ev_pump_pcr0(p, out->pcrs.value[0], err));
    out->pcrs.present |= 1u << 0;
    EV_TRY(ev_pump_finish(p, &out->pcrs, &crc, &len, err));
    if (!pcr1_is_prefix(e))
        EV_TRY(separate_pcr1(fd, e, &out->pcrs, err));
    EV_TRY(ev_pread_all(fd, head, sizeof head, 0));
    out->crc_ok = ev_crc32_combine(ev_crc32(0, head, EV_EIF_CRC_OFFSET), crc, len) == e->crc;
out:
    ev_pump_free(p);
    return rc;
}

static int check_signature(int fd, const struct ev_eif *e, struct ev_image_info *out, struct ev_err *err)
{
    struct ev_buf section = EV_BUF_INIT(EV_EIF_SIGNATURE_MAX);
    struct ev_err why = EV_ERR_INIT;
    uint8_t digest[EV_DIGEST_MAX];
    int rc;

    if (!(out->is_signed = ev_eif_find(e, EV_EIF_SIGNATURE, 0) != NULL))
        return 0;
    EV_TRY(load(fd, e, EV_EIF_SIGNATURE, &section, err));
    rc = ev_image_check_signature(ev_buf_slice(&section), out->pcrs.value[0], &out->cert, &why);
    out->signature_ok = rc >= 0;
    if (rc < 0)
        snprintf(out->signature_error, sizeof out->signature_error, "%.255s", why.msg);
    if (out->cert) {
        ev_digest_once(EV_SHA384, ev_cert_der(out->cert), digest);
        ev_pcr_extend(out->pcrs.value[8], ev_slice_of(digest, EV_PCR_LEN));
        out->pcrs.present |= 1u << 8;
    }
    rc = 0;
out:
    ev_buf_fini(&section);
    return rc;
}

static void copy_header(const struct ev_eif *e, struct ev_image_info *out)
{
    out->version = e->version;
    out->flags = e->flags;
    out->crc = e->crc;
    out->n_sections = e->n;
    for (size_t i = 0; i < e->n; i++) {
        out->section[i].type = e->section[i].type;
        out->section[i].offset = e->section[i].offset;
        out->section[i].size = e->section[i].size;
    }
    memcpy(out->warning, e->warning, sizeof out->warning);
}

int ev_image_describe(const char *path, const struct ev_image_watch *watch, struct ev_image_info *out,
                      struct ev_err *err)
{
    struct ev_eif e;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

    *out = (struct ev_image_info){ .metadata = EV_BUF_INIT(EV_EIF_METADATA_MAX),
                                   .cmdline = EV_BUF_INIT(EV_EIF_CMDLINE_MAX) };
    if (fd < 0)
        return ev_fail_errno(err, "open %s", path);
    EV_TRY(ev_eif_read(fd, &e, err));
    copy_header(&e, out);
    EV_TRY(load_texts(fd, &e, out, err));
    EV_TRY(measure(fd, &e, watch, out, err));
    EV_TRY(check_signature(fd, &e, out, err));
    rc = 0;
out:
    close(fd);
    if (rc < 0) {
        ev_image_info_fini(out);
        ev_err_wrap(err, "%s", path);
    }
    return rc;
}
