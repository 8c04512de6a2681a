/* cpio.h — newc archives, as the kernel unpacks them into its first file system (spec eif.md §7).
 *
 * The writer makes the bytes of one header with its name; contents and their padding are the
 * caller's to stream. The reader walks a range of a descriptor, reads headers only and is strict:
 * what the kernel would take in more than one way is malformed here. */
#ifndef EV_CODEC_CPIO_H
#define EV_CODEC_CPIO_H

#include "base/buf.h"

enum { EV_CPIO_HEADER = 110, EV_CPIO_NAME_MAX = 4096, EV_CPIO_AHEAD = 65536 };     /* name with its NUL */
#define EV_CPIO_TRAILER "TRAILER!!!"

struct ev_cpio_entry {
    const char *name;
    size_t name_len;                            /* without NUL */
    uint32_t ino, mode, uid, gid, nlink, mtime, size, rdev_major, rdev_minor;
    uint64_t dev;                               /* reader: major, minor; part of a hard link's identity */
    uint64_t data;                              /* reader: absolute offset of the contents */
};

/* Bytes that header, name and padding take; bytes of padding after n bytes of contents. */
size_t ev_cpio_head_len(size_t name_len);
static inline size_t ev_cpio_pad(uint64_t n) { return (size_t)(-n & 3); }
/* Appends header, name, NUL and padding. dev is 0, check is 0. */
int ev_cpio_put_head(struct ev_buf *out, const struct ev_cpio_entry *e) EV_MUST_USE;
int ev_cpio_put_trailer(struct ev_buf *out) EV_MUST_USE;

struct ev_cpio_reader {
    int fd;                                     /* borrowed */
    uint64_t start, pos, end;
    uint64_t ahead_at;                          /* what `ahead` holds: ahead_n bytes from here */
    size_t ahead_n;
    uint8_t *ahead;
    char name[EV_CPIO_NAME_MAX];
};

/* offset + len within the file is the caller's promise; the range is never left. */
void ev_cpio_reader_init(struct ev_cpio_reader *r, int fd, uint64_t offset, uint64_t len);
void ev_cpio_reader_fini(struct ev_cpio_reader *r);
/* 1 = an entry (its name lives until the next call), 0 = the trailer. err->reason "cpio-...". */
int ev_cpio_next(struct ev_cpio_reader *r, struct ev_cpio_entry *e, struct ev_err *err) EV_MUST_USE;
/* After the trailer: skips zero bytes. 0 = nothing else follows, 1 = another archive may begin here. */
int ev_cpio_rest(struct ev_cpio_reader *r, struct ev_err *err) EV_MUST_USE;

#endif
