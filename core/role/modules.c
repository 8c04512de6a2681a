/* modules.c — see modules.h. */
#include "role/modules.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool is_module(const char *name)
{
    size_t n = strlen(name);

    return n > 3 && name[0] != '.' && strcmp(name + n - 3, ".ko") == 0;
}

static int add_name(struct ev_modules *m, const char *name, struct ev_err *err)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    if (!is_module(name))
        return ev_fail(err, EV_EDENY, "%s: not a kernel module", name);
    if (strlen(name) >= EV_MODULE_NAME)
        return ev_fail(err, EV_ELIMIT, "%s: a name of more than %d bytes", name, EV_MODULE_NAME - 1);
    if (m->n == EV_MODULES_MAX)
        return ev_fail(err, EV_ELIMIT, "more than %d modules", EV_MODULES_MAX);
    memcpy(m->name[m->n++], name, strlen(name) + 1);
    return 0;
}

int ev_modules_list(const char *path, struct ev_modules *out, struct ev_err *err)
{
    const struct dirent *e;
    DIR *dir = NULL;
    int fd, rc = 0;

    *out = (struct ev_modules){ .dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) };
    if (out->dir < 0 && errno == ENOENT)
        return 0;
    if (out->dir < 0 || (fd = fcntl(out->dir, F_DUPFD_CLOEXEC, 0)) < 0) {
        rc = ev_fail_errno(err, "open");
        goto out;
    }
    if (!(dir = fdopendir(fd))) {
        rc = ev_fail_errno(err, "read");
        close(fd);
        goto out;
    }
    while (errno = 0, (e = readdir(dir)))
        EV_TRY(add_name(out, e->d_name, err));
    if (errno != 0)
        rc = ev_fail_errno(err, "read");
    qsort(out->name, out->n, sizeof(out->name[0]), by_name);
out:
    if (dir)
        closedir(dir);
    if (rc < 0) {
        ev_err_wrap(err, "%s", path);
        ev_modules_fini(out);
    }
    return rc;
}

void ev_modules_fini(struct ev_modules *m)
{
    if (m->dir >= 0)
        close(m->dir);
    m->dir = -1;
    m->n = 0;
}

static int load_one(int dir, const char *name, int (*load)(void *ctx, int fd), void *ctx, struct ev_err *err)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        rc = ev_fail_errno(err, "open");
    else if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > EV_MODULE_BYTES)
        rc = ev_fail(err, EV_ELIMIT, "not a file of 1 to %d bytes", EV_MODULE_BYTES);
    else if ((rc = load(ctx, fd)) < 0 && rc != -EEXIST)
        ev_fail(err, rc, "the kernel does not take it: %s", ev_err_text(rc));
    else
        rc = 0;
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        ev_err_wrap(err, "%s", name);
    return rc;
}

int ev_modules_each(const struct ev_modules *m, int (*load)(void *ctx, int fd), void *ctx, struct ev_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < m->n && rc == 0; i++)
        rc = load_one(m->dir, m->name[i], load, ctx, err);
    return rc;
}

static int into_kernel(void *ctx, int fd)
{
    (void)ctx;
    return syscall(SYS_finit_module, fd, "", 0) < 0 ? -errno : 0;
}

/* From here on no code enters the kernel. A kernel without modules has no such switch. */
static int close_door(struct ev_err *err)
{
    int fd = open("/proc/sys/kernel/modules_disabled", O_WRONLY | O_CLOEXEC), rc;

    if (fd < 0)
        return errno == ENOENT ? 0 : ev_fail_errno(err, "modules_disabled");
    if ((rc = ev_write_all(fd, "1", 1)) < 0)
        ev_fail(err, rc, "modules_disabled: %s", ev_err_text(rc));
    close(fd);
    return rc;
}

int ev_modules_load(struct ev_err *err)
{
    struct ev_modules m;
    int rc, n;

    if ((rc = ev_modules_list(EV_MODULES_DIR, &m, err)) < 0)
        return rc;
    n = (int)m.n;
    if ((rc = ev_modules_each(&m, into_kernel, NULL, err)) == 0)
        rc = close_door(err);
    ev_modules_fini(&m);
    return rc < 0 ? rc : n;
}
