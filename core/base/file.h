/* file.h — whole files, bounded, and replaced atomically. */
#ifndef EV_BASE_FILE_H
#define EV_BASE_FILE_H

#include <sys/types.h>

#include "base/buf.h"

/* Reads all of `path` into `out` (whose max is the limit: -ENOBUFS "larger than N bytes"). */
int ev_file_read(const char *path, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;
/* The rest of a descriptor. Does not close it. */
int ev_file_read_fd(int fd, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;
/* Writes a temporary file beside `path`, syncs it, renames it over `path`. On failure `path` is as
 * it was and no temporary file is left. */
int ev_file_write(const char *path, ev_slice data, mode_t mode, struct ev_err *err) EV_MUST_USE;
/* All bytes or an error; EINTR is retried. */
int ev_write_all(int fd, const void *p, size_t n) EV_MUST_USE;
int ev_pread_all(int fd, void *p, size_t n, uint64_t offset) EV_MUST_USE;   /* short file: EV_EEOF */

#endif
