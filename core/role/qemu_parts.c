/* qemu_parts.c — the EIF in its parts, as the platform's loader gives them to a machine: the kernel,
 * the command line, the ramdisks one after the other without a byte between them. */
#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/eif.h"
#include "role/launch_qemu.h"

enum { SNIFF = 4, UNPACKED_TIMES = 3, PIECE = 1 << 30 };
#define GUEST_BYTES (UINT64_C(150) << 20)           /* kernel, runtime and a small app (local-enclave.md §4) */

/* A file without a name on that file system. */
static int nameless(int dir_fd, struct ev_err *err)
{
    int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        fd = openat(dir_fd, "part", O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 && unlinkat(dir_fd, "part", 0) < 0)
            close(fd), fd = -1;
    }
    return fd < 0 ? ev_fail_errno(err, "file for a part of the image") : fd;
}

static int copy_section(int eif, const struct ev_eif_section *s, int to, struct ev_err *err)
{
    off_t at = (off_t)ev_eif_data(s);
    uint64_t left = s->size;

    while (left > 0) {
        ssize_t n = sendfile(to, eif, &at, left < PIECE ? left : PIECE);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ev_fail_errno(err, "copy a part of the image");
        if (n == 0)
            return ev_fail(err, EV_EEOF, "the image became shorter");
        left -= (uint64_t)n;
    }
    return 0;
}

/* An archive lies in memory packed and unpacked at once while the kernel unpacks it, and its root takes
 * at most half of what was free before. */
static int add_memory(int eif, const struct ev_eif_section *s, uint64_t *sum)
{
    char magic[SNIFF] = { 0 };
    int rc = s->size < SNIFF ? 0 : ev_pread_all(eif, magic, SNIFF, ev_eif_data(s));
    bool plain = memcmp(magic, "0707", SNIFF) == 0;

    *sum += s->size * (1 + 2 * (plain ? 1 : UNPACKED_TIMES));
    return rc;
}

int ev_qemu_split(int fd, int dir_fd, struct ev_qemu_parts *out, struct ev_err *err)
{
    const struct ev_eif_section *s;
    struct ev_eif eif;
    int rc;

    *out = (struct ev_qemu_parts){ .kernel = -1, .ramdisks = -1, .memory = GUEST_BYTES };
    ev_buf_init(&out->cmdline, EV_EIF_CMDLINE_MAX);
    EV_TRY(ev_eif_read(fd, &eif, err));
    EV_TRY(out->kernel = nameless(dir_fd, err));
    EV_TRY(copy_section(fd, ev_eif_find(&eif, EV_EIF_KERNEL, 0), out->kernel, err));
    EV_TRY(ev_eif_load(fd, ev_eif_find(&eif, EV_EIF_CMDLINE, 0), &out->cmdline, err));
    EV_TRY(out->ramdisks = nameless(dir_fd, err));
    for (size_t i = 0; (s = ev_eif_find(&eif, EV_EIF_RAMDISK, i)); i++) {
        EV_TRY(copy_section(fd, s, out->ramdisks, err));
        EV_TRY(add_memory(fd, s, &out->memory));
    }
out:
    return rc < 0 ? rc : 0;
}

void ev_qemu_parts_fini(struct ev_qemu_parts *p)
{
    if (p->kernel >= 0)
        close(p->kernel);
    if (p->ramdisks >= 0)
        close(p->ramdisks);
    p->kernel = p->ramdisks = -1;
    ev_buf_fini(&p->cmdline);
}
