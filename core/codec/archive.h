/* archive.h — tar headers and decompression; the one door of libarchive, opened at run time.
 *
 * A tar is a range of a file. One pass over its headers skips the contents and says where each
 * regular file's bytes lie, so that they are read once, later, by whoever needs them. Something
 * compressed is first expanded into a temporary file that has no name. */
#ifndef EV_CODEC_ARCHIVE_H
#define EV_CODEC_ARCHIVE_H

#include <sys/types.h>

#include "base/buf.h"

struct ev_region {
    int fd;                                     /* borrowed */
    uint64_t offset, len;
};

enum { EV_ARCHIVE_XATTR_MAX = 1024 };

struct ev_archive_entry {
    const char *path;                           /* as it stands in the archive */
    const char *hardlink, *symlink;             /* target, or NULL */
    mode_t mode;                                /* type and permissions; type 0 for a hard link */
    uint64_t uid, gid, size;
    uint64_t data;                              /* absolute offset in the region's file */
    uint32_t rdev_major, rdev_minor;
    ev_slice capability;                        /* extended attribute security.capability, or empty */
};

enum ev_archive_filter { EV_FILTER_NONE, EV_FILTER_GZIP, EV_FILTER_ZSTD, EV_FILTER_XZ };

/* By its first bytes. An unreadable region is EV_FILTER_NONE. */
enum ev_archive_filter ev_archive_filter(const struct ev_region *r);
const char *ev_archive_filter_name(enum ev_archive_filter f);

/* Calls `each` for every entry in order; a negative result of `each` ends the walk and is returned.
 * Everything that the entry points to lives until `each` returns. err->reason: "tar-damaged"
 * "tar-truncated" "tar-sparse"; EV_EMISSING when libarchive is not there. */
typedef int ev_archive_fn(void *ctx, const struct ev_archive_entry *e, struct ev_err *err);
int ev_archive_walk(const struct ev_region *tar, ev_archive_fn *each, void *ctx, struct ev_err *err) EV_MUST_USE;

struct ev_archive_expand {
    uint64_t max;                               /* of the result, bytes */
    void (*in)(void *ctx, const void *p, size_t n);     /* compressed bytes as they are read, or NULL */
    int (*out)(void *ctx, const void *p, size_t n);     /* expanded bytes; negative cancels; or NULL */
    void *ctx;
};
/* Expands into a file without a name in TMPDIR (or where temporary files live) and returns its
 * descriptor in `result`, to be closed by the caller. Every byte of the region is read. */
int ev_archive_expand(const struct ev_region *in, enum ev_archive_filter f, const struct ev_archive_expand *how,
                      struct ev_region *result, struct ev_err *err) EV_MUST_USE;
/* An unnamed file, or -errno. */
int ev_archive_temp(void) EV_MUST_USE;

#endif
