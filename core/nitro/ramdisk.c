/* ramdisk.c — see ramdisk.h. The whole archive is built in one bounded buffer. */
#include "nitro/ramdisk.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "codec/cpio.h"

static int by_name(const void *a, const void *b)
{
    const struct ev_ramdisk_entry *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* The entry before in order, or one of those before it, must be the folder. */
static bool has_folder(const struct ev_ramdisk_entry *const *sorted, size_t i)
{
    const char *name = sorted[i]->name, *slash = strrchr(name, '/');
    size_t len = slash ? (size_t)(slash - name) : 0;

    if (!slash)
        return true;
    while (i-- > 0)
        if (strlen(sorted[i]->name) == len && memcmp(sorted[i]->name, name, len) == 0)
            return S_ISDIR(sorted[i]->mode);
    return false;
}

static int put_entry(struct ev_buf *b, const struct ev_ramdisk_entry *e, uint32_t ino, struct ev_err *err)
{
    struct ev_buf data = EV_BUF_INIT(EV_RAMDISK_MAX);
    struct ev_cpio_entry head = { .name = e->name, .name_len = strlen(e->name), .ino = ino, .mode = e->mode };
    int rc = 0;

    head.nlink = S_ISDIR(e->mode) ? 2 : 1;
    if (S_ISREG(e->mode))
        EV_TRY(ev_file_read(e->path, &data, err));
    head.size = (uint32_t)data.n;
    EV_TRY(ev_cpio_put_head(b, &head));
    EV_TRY(ev_buf_put_slice(b, ev_buf_slice(&data)));
    EV_TRY(ev_buf_zero(b, ev_cpio_pad(data.n)));
out:
    ev_buf_fini(&data);
    return rc;
}

static int put_all(struct ev_buf *b, const struct ev_ramdisk_entry *const *sorted, size_t n, struct ev_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const char *name = sorted[i]->name;

        if (!S_ISDIR(sorted[i]->mode) && !S_ISREG(sorted[i]->mode))
            return ev_fail(err, EV_EPARSE, "%s: neither a folder nor a file", name);
        if (i > 0 && strcmp(name, sorted[i - 1]->name) == 0)
            return ev_fail(err, EV_EPARSE, "%s: twice", name);
        if (!has_folder(sorted, i))
            return ev_fail(err, EV_EPARSE, "%s: its folder is not among the entries", name);
        EV_TRY(put_entry(b, sorted[i], (uint32_t)i + 1, err));
    }
    EV_TRY(ev_cpio_put_trailer(b));
    EV_TRY(ev_buf_zero(b, ev_cpio_pad(b->n)));
out:
    return rc;
}

int ev_ramdisk_append(const char *out, const char *base, const struct ev_ramdisk_entry *entries, size_t n,
                      struct ev_err *err)
{
    struct ev_buf b = EV_BUF_INIT(EV_RAMDISK_MAX);
    const struct ev_ramdisk_entry **sorted = NULL;
    int rc;

    if (n > EV_RAMDISK_ENTRIES) {
        rc = ev_fail(err, EV_ELIMIT, "more than %d entries", EV_RAMDISK_ENTRIES);
        goto out;
    }
    sorted = ev_alloc(n * sizeof *sorted);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &entries[i];
    qsort(sorted, n, sizeof *sorted, by_name);
    if (base) {
        EV_TRY(ev_file_read(base, &b, err));
        EV_TRY(ev_buf_zero(&b, ev_cpio_pad(b.n)));
    }
    EV_TRY(put_all(&b, sorted, n, err));
    EV_TRY(ev_file_write(out, ev_buf_slice(&b), 0644, err));
out:
    if (rc < 0)
        ev_err_wrap(err, "ramdisk %s", out);
    ev_buf_fini(&b);
    ev_free(sorted);
    return rc;
}

int ev_ramdisk_write(const char *out, const struct ev_ramdisk_entry *entries, size_t n, struct ev_err *err)
{
    return ev_ramdisk_append(out, NULL, entries, n, err);
}
