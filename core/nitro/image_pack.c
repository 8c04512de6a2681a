/* image_pack.c — the sections of an image into a file that appears complete or not at all.
 *
 * Order: kernel, command line, metadata, ramdisks, signature (eif.md §1.6). The signature is over
 * PCR0 and the header holds its size and the CRC of everything, so both come last; the CRC of the
 * body is combined with that of the header in front of it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/crc32.h"
#include "crypto/digest.h"
#include "nitro/image_int.h"

enum { DEFAULT_CPUS = 2 };
static const uint64_t DEFAULT_MEM = 1ull << 30;

struct output {
    int fd;
    const char *path;
    char *temp;                                 /* a name beside it */
    bool named;                                 /* the file has that name already */
};

/* Room for all of it at once: a full disk is known before the work, and where allocation is delayed
 * (ext4), a rename over an older file has none left to do. */
static int output_reserve(const struct output *o, uint64_t size, struct ev_err *err)
{
    if (fallocate(o->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) < 0 && errno == ENOSPC)
        return ev_fail_errno(err, "%llu bytes", (unsigned long long)size);
    return 0;
}

/* Without a name where the file system can do that: then even a killed build leaves nothing. */
static int output_open(struct output *o, const char *path, struct ev_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = !slash ? ev_strdup(".") : slash == path ? ev_strdup("/") : ev_strndup(path, (size_t)(slash - path));
    struct stat st;
    uint32_t r;

    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        ev_free(dir);
        *o = (struct output){ .fd = -1 };
        return ev_fail(err, -EEXIST, "it is there and is not a regular file");
    }
    *o = (struct output){ .fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666), .path = path };
    ev_free(dir);
    if (ev_random(&r, sizeof r) < 0)
        return ev_fail(err, EV_ECRYPTO, "no random bytes");
    o->temp = ev_asprintf("%s.tmp-%08x", path, r);
    if (o->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        o->fd = open(o->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        o->named = o->fd >= 0;
    }
    return o->fd >= 0 ? 0 : ev_fail_errno(err, "create");
}

static int output_commit(struct output *o, struct ev_err *err)
{
    char self[32];
    int fd = o->fd;

    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (!o->named && linkat(AT_FDCWD, self, AT_FDCWD, o->temp, AT_SYMLINK_FOLLOW) < 0 &&
        linkat(fd, "", AT_FDCWD, o->temp, AT_EMPTY_PATH) < 0)
        return ev_fail_errno(err, "create");
    o->named = true;
    o->fd = -1;
    if (close(fd) < 0)
        return ev_fail_errno(err, "write");
    if (rename(o->temp, o->path) < 0)
        return ev_fail_errno(err, "replace");
    o->named = false;
    return 0;
}

static void output_close(struct output *o)
{
    if (o->fd >= 0)
        close(o->fd);
    if (o->named)
        unlink(o->temp);
    ev_free(o->temp);
}

struct packing {
    const struct ev_pack *k;
    struct ev_eif eif;
    struct ev_pump *pump;
    struct ev_pcrs pcrs;
    struct ev_buf signature;
};

static int section(struct packing *w, enum ev_eif_type type, uint64_t size, struct ev_err *err)
{
    uint8_t head[EV_EIF_SECTION_HEADER];
    int rc = ev_eif_add(&w->eif, type, size, err);

    if (rc < 0)
        return rc;
    ev_eif_section_header(&w->eif.section[w->eif.n - 1], head);
    return ev_pump_put(w->pump, 0, head, sizeof head, err);
}

static int pump_parts(struct packing *w, struct ev_err *err)
{
    const struct ev_pack *k = w->k;
    uint8_t unused[48];
    int rc;

    EV_TRY(section(w, EV_EIF_KERNEL, k->kernel_size, err));
    EV_TRY(ev_pump_file(w->pump, EV_PUMP_PCR0 | EV_PUMP_PART, k->kernel_fd, 0, k->kernel_size, err));
    EV_TRY(ev_pump_part(w->pump, k->kernel_sha384 ? k->kernel_sha384 : unused, err));
    EV_TRY(section(w, EV_EIF_CMDLINE, k->cmdline.n, err));
    EV_TRY(ev_pump_put(w->pump, EV_PUMP_PCR0, k->cmdline.p, k->cmdline.n, err));
    EV_TRY(section(w, EV_EIF_METADATA, k->metadata.n, err));
    EV_TRY(ev_pump_put(w->pump, 0, k->metadata.p, k->metadata.n, err));
    for (size_t i = 0; i < k->n_ramdisks; i++) {
        const struct ev_pack_ramdisk *r = &k->ramdisk[i];

        EV_TRY(section(w, EV_EIF_RAMDISK, r->size, err));
        EV_TRY(r->emit(r->ctx, w->pump, EV_PUMP_PCR0 | (i > 0 ? EV_PUMP_PCR2 : 0), err));
        if (i == 0)
            EV_TRY(ev_pump_mark_pcr1(w->pump, err));
    }
    EV_TRY(ev_pump_pcr0(w->pump, w->pcrs.value[0], err));
    w->pcrs.present |= 1u << 0;
out:
    return rc;
}

static int pump_signature(struct packing *w, struct ev_err *err)
{
    const struct ev_pack *k = w->k;
    struct ev_cert *cert = NULL;
    uint8_t digest[EV_DIGEST_MAX];
    int rc;

    EV_TRY(ev_cert_from_pem(k->cert_pem, &cert, err));
    EV_TRY(ev_image_signature(k->cert_pem, k->key, w->pcrs.value[0], &w->signature, err));
    if (w->signature.n > EV_EIF_SIGNATURE_MAX)
        EV_TRY(ev_fail_reason(err, EV_ELIMIT, "eif-signature", "the signature section would have %zu bytes, at most %d "
                              "are possible: use a shorter certificate file", w->signature.n, EV_EIF_SIGNATURE_MAX));
    EV_TRY(section(w, EV_EIF_SIGNATURE, w->signature.n, err));
    EV_TRY(ev_pump_put(w->pump, 0, w->signature.p, w->signature.n, err));
    ev_digest_once(EV_SHA384, ev_cert_der(cert), digest);
    memset(w->pcrs.value[8], 0, EV_PCR_LEN);
    ev_pcr_extend(w->pcrs.value[8], ev_slice_of(digest, EV_PCR_LEN));
    w->pcrs.present |= 1u << 8;
out:
    ev_cert_free(cert);
    return rc;
}

static int put_header(struct packing *w, int fd, uint32_t body_crc, uint64_t body_len, struct ev_err *err)
{
    uint8_t head[EV_EIF_HEADER];
    ssize_t n;

    if (EV_EIF_HEADER + body_len != w->eif.length)
        return ev_fail(err, EV_EINTERNAL, "the sections have %llu bytes, not %llu", (unsigned long long)body_len,
                       (unsigned long long)(w->eif.length - EV_EIF_HEADER));
    ev_eif_header(&w->eif, head);
    w->eif.crc = ev_crc32_combine(ev_crc32(0, head, EV_EIF_CRC_OFFSET), body_crc, body_len);
    ev_eif_header(&w->eif, head);
    n = pwrite(fd, head, sizeof head, 0);
    if (n < 0)
        return ev_fail_errno(err, "write");
    return n == (ssize_t)sizeof head ? 0 : ev_fail(err, -ENOSPC, "write: %s", ev_err_text(-ENOSPC));
}

static uint64_t expected_size(const struct ev_pack *k)
{
    uint64_t n = EV_EIF_HEADER + EV_EIF_SECTION_HEADER * (3 + k->n_ramdisks) + k->kernel_size + k->cmdline.n +
                 k->metadata.n;

    for (size_t i = 0; i < k->n_ramdisks; i++)
        n += k->ramdisk[i].size;
    return n;
}

int ev_pack_write(const struct ev_pack *k, const struct ev_image_watch *watch, struct ev_pcrs *pcrs, uint64_t *size,
                  struct ev_err *err)
{
    struct packing w = { .k = k, .eif = { .version = EV_EIF_VERSION, .flags = k->arm64 ? EV_EIF_ARM64 : 0,
                         .default_mem = DEFAULT_MEM, .default_cpus = DEFAULT_CPUS },
                         .signature = EV_BUF_INIT(4 * EV_EIF_SIGNATURE_MAX) };
    struct output o;
    uint64_t body_len;
    uint32_t body_crc;
    int rc;

    EV_TRY(output_open(&o, k->output, err));
    EV_TRY(output_reserve(&o, expected_size(k), err));
    w.pump = ev_pump_new(o.fd, EV_EIF_HEADER);
    ev_pump_watch(w.pump, watch, "write", expected_size(k));
    EV_TRY(pump_parts(&w, err));
    if (k->key)
        EV_TRY(pump_signature(&w, err));
    EV_TRY(ev_pump_finish(w.pump, &w.pcrs, &body_crc, &body_len, err));
    EV_TRY(put_header(&w, o.fd, body_crc, body_len, err));
    EV_TRY(output_commit(&o, err));
    *pcrs = w.pcrs;
    *size = w.eif.length;
out:
    ev_pump_free(w.pump);
    ev_buf_fini(&w.signature);
    output_close(&o);
    if (rc < 0)
        ev_err_wrap(err, "%s", k->output);
    return rc;
}
