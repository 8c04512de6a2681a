/* ramdisk.h — writing a small newc archive from files of this machine: ramdisk 1, the runtime.
 * Ramdisk 2 is made from a container image as a stream (image.h); this one is a handful of files. Modules
 * of the kernel come behind it as an archive of their own. */
#ifndef EV_NITRO_RAMDISK_H
#define EV_NITRO_RAMDISK_H

#include "base/buf.h"

enum { EV_RAMDISK_MAX = 256 << 20, EV_RAMDISK_ENTRIES = 4096 };

struct ev_ramdisk_entry {
    const char *name;               /* relative, no leading "/" or "./" */
    uint32_t mode;                  /* type and permissions: S_IFDIR or S_IFREG */
    const char *path;               /* S_IFREG: the file whose content it has */
};

/* Sorted bytewise, inodes from 1, uid, gid and times 0, padded to a multiple of 4: the same entries
 * give the same bytes in any order. A name twice, or without its folder among the entries, is
 * EV_EPARSE. `out` is replaced atomically. */
int ev_ramdisk_write(const char *out, const struct ev_ramdisk_entry *entries, size_t n,
                     struct ev_err *err) EV_MUST_USE;
/* The bytes of the archive `base`, zeros up to a multiple of 4, and then the archive of the entries:
 * the kernel unpacks them one after the other. */
int ev_ramdisk_append(const char *out, const char *base, const struct ev_ramdisk_entry *entries, size_t n,
                      struct ev_err *err) EV_MUST_USE;

#endif
