/* xattrs.c — cage/xattrs: the file capabilities of the image, which newc cannot carry (image.h).
 *
 * One line a file: hex of the path, TAB, "security.capability", TAB, hex of the value, LF. The list is
 * measured but its paths were a stranger's: they are opened beneath the app's root through no link,
 * and only regular files get the attribute. */
#include "role/rootfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "codec/text.h"

#define ATTRIBUTE "security.capability"

enum { PATH_LEN = 4096, VALUE_LEN = 64 };

struct entry {
    char path[PATH_LEN];
    uint8_t value[VALUE_LEN];
    size_t n;
};

static int parse_line(ev_slice line, struct entry *out, struct ev_err *err)
{
    const uint8_t *tab = line.n ? memchr(line.p, '\t', line.n) : NULL;
    ev_slice path = ev_slice_of(line.p, tab ? (size_t)(tab - line.p) : 0), rest;
    size_t mid = sizeof("\t" ATTRIBUTE "\t") - 1;
    int n = tab ? ev_hex_decode(path, (uint8_t *)out->path, sizeof(out->path) - 1) : -1;

    if (n <= 0 || memchr(out->path, 0, (size_t)n))
        return ev_fail(err, EV_ECONFIG, "malformed path");
    out->path[n] = 0;
    rest = ev_slice_of(tab, line.n - path.n);
    if (rest.n <= mid || memcmp(rest.p, "\t" ATTRIBUTE "\t", mid) != 0)
        return ev_fail(err, EV_ECONFIG, "only " ATTRIBUTE " is known");
    n = ev_hex_decode(ev_slice_of(rest.p + mid, rest.n - mid), out->value, sizeof(out->value));
    if (n <= 0)
        return ev_fail(err, EV_ECONFIG, "malformed value");
    out->n = (size_t)n;
    return 0;
}

static int apply(int rootfs, const struct entry *e, size_t *refused, struct ev_err *err)
{
    /* O_NONBLOCK: were it a FIFO, PID 1 must not wait. */
    int fd = ev_root_open(rootfs, e->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, EV_ROOT_NO_LINKS), rc = 0;
    struct stat st;

    if (fd < 0)
        return ev_fail(err, fd, "%.200s: %s", e->path, ev_err_text(fd));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        rc = ev_fail(err, EV_ECONFIG, "%.200s: not a regular file", e->path);
    else if (fsetxattr(fd, ATTRIBUTE, e->value, e->n, 0) < 0) {
        if (errno == EOPNOTSUPP || errno == EPERM)
            ++*refused;         /* this root cannot carry it; no_new_privs makes it inert anyway */
        else
            rc = ev_fail_errno(err, "%.200s", e->path);
    }
    close(fd);
    return rc;
}

int ev_xattrs_apply(int rootfs, ev_slice list, size_t *refused, struct ev_err *err)
{
    size_t number = 0;
    int rc = 0;

    *refused = 0;
    while (list.n > 0) {
        const uint8_t *end = memchr(list.p, '\n', list.n);
        struct entry e;

        number++;
        if (!end)
            rc = ev_fail(err, EV_ECONFIG, "the last line has no end");
        EV_TRY(rc);
        EV_TRY(parse_line(ev_slice_of(list.p, (size_t)(end - list.p)), &e, err));
        EV_TRY(apply(rootfs, &e, refused, err));
        list.n -= (size_t)(end - list.p) + 1;
        list.p = end + 1;
    }
out:
    if (rc < 0)
        ev_err_wrap(err, "cage/xattrs, line %zu", number);
    return rc;
}
