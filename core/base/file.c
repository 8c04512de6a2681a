/* file.c — see file.h. */
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int ev_file_read_fd(int fd, struct ev_buf *out, struct ev_err *err)
{
    enum { STEP = 65536 };

    for (;;) {
        size_t room = out->max - out->n < STEP ? out->max - out->n : STEP;
        uint8_t probe;
        ssize_t n;

        if (room == 0) {
            if ((n = read(fd, &probe, 1)) == 0)
                return 0;
            if (n < 0 && errno == EINTR)
                continue;
            return n < 0 ? ev_fail_errno(err, "read")
                         : ev_fail(err, -ENOBUFS, "larger than %zu bytes", out->max);
        }
        if (ev_buf_reserve(out, room) < 0)
            return ev_fail(err, -ENOBUFS, "larger than %zu bytes", out->max);
        n = read(fd, out->p + out->n, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ev_fail_errno(err, "read");
        if (n == 0)
            return out->p[out->n] = 0, 0;
        out->n += (size_t)n;
        out->p[out->n] = 0;
    }
}

int ev_file_read(const char *path, struct ev_buf *out, struct ev_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return ev_fail_errno(err, "open %s", path);
    rc = ev_file_read_fd(fd, out, err);
    if (rc < 0)
        ev_err_wrap(err, "%s", path);
    close(fd);
    return rc;
}

int ev_write_all(int fd, const void *p, size_t n)
{
    const uint8_t *s = p;

    while (n > 0) {
        ssize_t w = write(fd, s, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? -errno : -EIO;
        s += w;
        n -= (size_t)w;
    }
    return 0;
}

int ev_pread_all(int fd, void *p, size_t n, uint64_t offset)
{
    uint8_t *d = p;

    while (n > 0) {
        ssize_t r = pread(fd, d, n, (off_t)offset);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : EV_EEOF;
        d += r;
        n -= (size_t)r;
        offset += (uint64_t)r;
    }
    return 0;
}

int ev_file_write(const char *path, ev_slice data, mode_t mode, struct ev_err *err)
{
    char *tmp = ev_asprintf("%s.tmp-XXXXXX", path);
    int fd = mkostemp(tmp, O_CLOEXEC);
    int rc = 0;

    if (fd < 0) {
        rc = ev_fail_errno(err, "create %s", path);
        ev_free(tmp);
        return rc;
    }
    if ((rc = ev_write_all(fd, data.p, data.n)) < 0)
        errno = -rc, rc = ev_fail_errno(err, "write %s", path);
    else if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
        rc = ev_fail_errno(err, "write %s", path);
    close(fd);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = ev_fail_errno(err, "replace %s", path);
    if (rc < 0)
        unlink(tmp);
    ev_free(tmp);
    return rc;
}
