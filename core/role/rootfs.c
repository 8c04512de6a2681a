/* rootfs.c — see rootfs.h. */
#include "role/rootfs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"

enum { PATH_PARTS = 256, PART_LEN = 255 };

int ev_root_open(int root_fd, const char *path, int flags, mode_t mode, int links)
{
    struct open_how how = { 0 };
    int fd;

    how.flags = (uint64_t)(flags | O_CLOEXEC);
    how.mode = (flags & O_CREAT) ? mode : 0;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    if (links == EV_ROOT_NO_LINKS)
        how.resolve |= RESOLVE_NO_SYMLINKS;
    do
        fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));  /* EAGAIN: a rename raced with "..": again */
    return fd < 0 ? -errno : fd;
}

int ev_root_dir(int root_fd, const char *name, struct ev_err *err)
{
    int fd = ev_root_open(root_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, EV_ROOT_NO_LINKS);

    if (fd == -ENOENT) {
        /* One component: mkdirat does not follow a link of that name, it answers EEXIST. */
        if (mkdirat(root_fd, name, 0755) < 0)
            return ev_fail_errno(err, "image: create /%s", name);
        if (fchmodat(root_fd, name, 0755, 0) < 0)
            return ev_fail_errno(err, "image: mode of /%s", name);
        fd = ev_root_open(root_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, EV_ROOT_NO_LINKS);
    }
    if (fd == -ELOOP || fd == -ENOTDIR)
        return ev_fail_reason(err, EV_EDENY, "image-link", "image: /%s is not a real directory", name);
    if (fd < 0)
        return ev_fail(err, fd, "image: open /%s: %s", name, ev_err_text(fd));
    return fd;
}

/* The next component of *path, or NULL. */
static const char *next_part(const char **path, char part[PART_LEN + 1])
{
    const char *p = *path;
    size_t n = 0;

    while (*p == '/')
        p++;
    while (p[n] && p[n] != '/')
        n++;
    if (n == 0 || n > PART_LEN)
        return NULL;
    memcpy(part, p, n);
    part[n] = 0;
    *path = p + n;
    return part;
}

/* Opens the folder `prefix` under root; makes its last component in the folder `parent` if need be. */
static int open_or_make(int root_fd, const char *prefix, int parent, const char *part)
{
    int fd = ev_root_open(root_fd, prefix, O_PATH | O_DIRECTORY, 0, EV_ROOT_FOLLOW);

    if (fd != -ENOENT)
        return fd;
    /* A dangling link of that name gives EEXIST here and ENOENT below: an error, as docker's. */
    if (mkdirat(parent, part, 0755) < 0 && errno != EEXIST)
        return -errno;
    return ev_root_open(root_fd, prefix, O_PATH | O_DIRECTORY, 0, EV_ROOT_FOLLOW);
}

int ev_root_mkdir_p(int root_fd, const char *path, struct ev_err *err)
{
    struct ev_buf prefix = EV_BUF_INIT(8192);
    const char *rest = path;
    char part[PART_LEN + 1];
    int dir, next, rc;

    EV_TRY(dir = ev_root_open(root_fd, "/", O_PATH | O_DIRECTORY, 0, EV_ROOT_FOLLOW));
    for (int i = 0; i < PATH_PARTS && next_part(&rest, part); i++) {
        if ((rc = ev_buf_printf(&prefix, "/%s", part)) < 0)
            break;
        next = open_or_make(root_fd, ev_buf_str(&prefix), dir, part);
        close(dir);
        rc = dir = next;
        if (rc < 0)
            break;
    }
    if (rc >= 0 && rest[strspn(rest, "/")])
        close(dir), rc = -ENAMETOOLONG;
out:
    ev_buf_fini(&prefix);
    if (rc < 0)
        return ev_fail(err, rc, "image: folder %s: %s", path, ev_err_text(rc));
    return dir;
}

int ev_root_write(int dir_fd, const char *name, ev_slice data, struct ev_err *err)
{
    int fd, rc;

    if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
        return ev_fail_errno(err, "image: replace %s", name);
    fd = ev_root_open(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644, EV_ROOT_NO_LINKS);
    if (fd < 0)
        return ev_fail(err, fd, "image: create %s: %s", name, ev_err_text(fd));
    rc = ev_write_all(fd, data.p, data.n);
    if (rc < 0)
        rc = ev_fail(err, rc, "image: write %s: %s", name, ev_err_text(rc));
    else if (fchmod(fd, 0644) < 0)
        rc = ev_fail_errno(err, "image: mode of %s", name);
    close(fd);
    return rc;
}

int ev_root_read(int root_fd, const char *path, struct ev_buf *out, struct ev_err *err)
{
    /* O_NONBLOCK: a FIFO or device of that name must not make PID 1 wait. */
    int fd = ev_root_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, EV_ROOT_FOLLOW);
    struct stat st;
    int rc;

    if (fd == -ENOENT)
        return fd;
    if (fd < 0)
        return ev_fail(err, fd, "open %s: %s", path, ev_err_text(fd));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        rc = ev_fail(err, EV_ECONFIG, "%s: not a regular file", path);
    else if ((rc = ev_file_read_fd(fd, out, err)) < 0)
        ev_err_wrap(err, "%s", path);
    close(fd);
    return rc;
}
