/* image_unpack.c — what the kernel does with the ramdisks, below a directory, for the simulator.
 *
 * The image is hostile and this may run as root. Every parent is opened with openat2 below root_fd;
 * the last component is never followed. Ramdisk 1 may go through its own links (lib → usr/lib) and
 * replace what it made before, as in the kernel; ramdisk 2 goes through the layout check first, then
 * through no link at all, and makes everything anew.
 *
 * Refused by the kernel to who runs this, and then left out: owners (EPERM, EINVAL: an id that the
 * user namespace does not map) and devices (EPERM). Modes and times of directories are set last, so
 * that one without write permission does not keep its own contents out. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/crc32.h"
#include "nitro/image_int.h"

enum { COPY_STEP = 1 << 18, LINK_SETS_MAX = 1 << 20, LINK_BUCKETS = 4096 };

/* First name of a set of hard links within one archive. */
struct link_set {
    uint64_t dev;
    uint32_t ino, mode, next;                   /* next: in the same bucket */
    char *name;
};

struct unpack {
    int root;
    bool strict;                                /* ramdisk 2 */
    struct ev_region in;
    char parent[EV_CPIO_NAME_MAX];              /* whose directory `dir` is; -1: none */
    int dir;
    struct link_set *set;
    size_t n_sets, sets_cap;
    uint32_t bucket[LINK_BUCKETS];              /* by inode: number + 1 of a set, or 0 */
    uint8_t *block;
};

static int open_below(const struct unpack *u, const char *path, int flags)
{
    struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
                            .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };

    if (u->strict)
        how.resolve |= RESOLVE_NO_SYMLINKS;
    return (int)syscall(SYS_openat2, u->root, path, &how, sizeof how);
}

/* Splits a path at its last slash; the parent's descriptor is kept for the next entry. */
static int open_parent(struct unpack *u, const char *path, const char **base, struct ev_err *err)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    *base = slash ? slash + 1 : path;
    if (!**base || strcmp(*base, ".") == 0 || strcmp(*base, "..") == 0 || strlen(*base) > EV_TREE_NAME)
        return ev_fail_reason(err, EV_EPARSE, "unpack-name", "an entry named %s", path);
    if (u->dir >= 0 && strlen(u->parent) == n && memcmp(u->parent, path, n) == 0)
        return 0;
    if (u->dir >= 0)
        close(u->dir);
    memcpy(u->parent, path, n);
    u->parent[n] = '\0';
    u->dir = open_below(u, n ? u->parent : ".", O_PATH | O_DIRECTORY);
    if (u->dir < 0 && errno == ENOSYS)
        return ev_fail(err, EV_EMISSING, "this kernel has no openat2");
    return u->dir >= 0 ? 0 : ev_fail_errno(err, "the directory of %s", path);
}

static bool tolerated(int e)
{
    return e == EPERM || e == EINVAL;
}

/* ---- one entry ---- */

static int copy_contents(struct unpack *u, const struct ev_cpio_entry *e, int fd, struct ev_err *err)
{
    uint64_t at = e->data;
    int rc;

    for (uint32_t left = e->size; left > 0;) {
        size_t n = left < COPY_STEP ? left : COPY_STEP;

        if ((rc = ev_pread_all(u->in.fd, u->block, n, at)) < 0 || (rc = ev_write_all(fd, u->block, n)) < 0)
            return ev_fail(err, rc, "%s: %s", e->name, ev_err_text(rc));
        at += n;
        left -= (uint32_t)n;
    }
    return 0;
}

/* What the kernel does to make room: a file replaces a file in place, else the old one goes. */
static int make_room(struct unpack *u, const char *base, const struct ev_cpio_entry *e, struct ev_err *err)
{
    struct stat st;

    if (u->strict || fstatat(u->dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISDIR(e->mode) && S_ISDIR(st.st_mode))
        return 0;
    if (unlinkat(u->dir, base, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
        return ev_fail_errno(err, "replace %s", e->name);
    return 0;
}

static const char *linked_name(const struct unpack *u, const struct ev_cpio_entry *e)
{
    if (e->nlink < 2)
        return NULL;
    for (uint32_t i = u->bucket[e->ino % LINK_BUCKETS]; i != 0; i = u->set[i - 1].next)
        if (u->set[i - 1].ino == e->ino && u->set[i - 1].dev == e->dev &&
            (u->set[i - 1].mode & S_IFMT) == (e->mode & S_IFMT))
            return u->set[i - 1].name;
    return NULL;
}

static int remember_link(struct unpack *u, const struct ev_cpio_entry *e, struct ev_err *err)
{
    uint32_t *b = &u->bucket[e->ino % LINK_BUCKETS];

    if (e->nlink < 2)
        return 0;
    if (u->n_sets == LINK_SETS_MAX)
        return ev_fail_reason(err, EV_ELIMIT, "unpack-links", "more than %d hard links", LINK_SETS_MAX);
    if (u->n_sets == u->sets_cap) {
        u->sets_cap = u->sets_cap ? u->sets_cap * 2 : 64;
        u->set = ev_realloc(u->set, sizeof *u->set * u->sets_cap);
    }
    u->set[u->n_sets++] = (struct link_set){ e->dev, e->ino, e->mode, *b, ev_strdup(e->name) };
    *b = (uint32_t)u->n_sets;
    return 0;
}

/* A second name for a file that this archive made. 1 = linked, 0 = it is the first. */
static int try_link(struct unpack *u, const struct ev_cpio_entry *e, const char *base, struct ev_err *err)
{
    const char *first = linked_name(u, e), *slash;
    char parent[EV_CPIO_NAME_MAX];
    int dir, rc;

    if (!first)
        return remember_link(u, e, err);
    slash = strrchr(first, '/');
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - first) : 1, slash ? first : ".");
    if ((dir = open_below(u, parent, O_PATH | O_DIRECTORY)) < 0)
        return ev_fail_errno(err, "%s", first);
    rc = linkat(dir, slash ? slash + 1 : first, u->dir, base, 0) < 0 ? ev_fail_errno(err, "link %s", e->name) : 1;
    close(dir);
    return rc;
}

static int set_owner(const struct unpack *u, const char *base, const struct ev_cpio_entry *e, struct ev_err *err)
{
    if (fchownat(u->dir, base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0 && !tolerated(errno))
        return ev_fail_errno(err, "owner of %s", e->name);
    return 0;
}

static void set_time(const struct unpack *u, const char *base, const struct ev_cpio_entry *e)
{
    const struct timespec t[2] = { { .tv_sec = e->mtime }, { .tv_sec = e->mtime } };

    (void)utimensat(u->dir, base, t, AT_SYMLINK_NOFOLLOW);      /* for show: nothing depends on it */
}

/* Owner first: changing it clears setuid. */
static int finish_file(int fd, const struct ev_cpio_entry *e, struct ev_err *err)
{
    const struct timespec t[2] = { { .tv_sec = e->mtime }, { .tv_sec = e->mtime } };

    if (fchown(fd, e->uid, e->gid) < 0 && !tolerated(errno))
        return ev_fail_errno(err, "owner of %s", e->name);
    if (fchmod(fd, e->mode & 07777) < 0)
        return ev_fail_errno(err, "mode of %s", e->name);
    (void)futimens(fd, t);
    return 0;
}

static int put_file(struct unpack *u, const struct ev_cpio_entry *e, const char *base, struct ev_err *err)
{
    int rc = try_link(u, e, base, err), fd, flags;
    bool linked = rc > 0;

    if (rc < 0 || (linked && e->size == 0))
        return rc < 0 ? rc : 0;
    flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (linked ? O_TRUNC : O_CREAT | O_EXCL);
    fd = openat(u->dir, base, flags, 0600);
    if (fd < 0)
        return ev_fail_errno(err, "create %s", e->name);
    EV_TRY(copy_contents(u, e, fd, err));
    EV_TRY(finish_file(fd, e, err));
out:
    if (close(fd) < 0 && rc >= 0)
        rc = ev_fail_errno(err, "write %s", e->name);
    return rc;
}

static int put_link(struct unpack *u, const struct ev_cpio_entry *e, const char *base, struct ev_err *err)
{
    char target[EV_CPIO_NAME_MAX];
    int rc = ev_pread_all(u->in.fd, target, e->size, e->data);

    if (rc < 0)
        return ev_fail(err, rc, "%s: %s", e->name, ev_err_text(rc));
    target[e->size] = '\0';
    if (strlen(target) != e->size)
        return ev_fail_reason(err, EV_EPARSE, "cpio-link", "%s: a link target with a NUL", e->name);
    if (symlinkat(target, u->dir, base) < 0)
        return ev_fail_errno(err, "create %s", e->name);
    set_time(u, base, e);
    return set_owner(u, base, e, err);
}

static int put_dir(struct unpack *u, const struct ev_cpio_entry *e, const char *base, struct ev_err *err)
{
    if (mkdirat(u->dir, base, 0700) < 0 && (errno != EEXIST || u->strict))
        return ev_fail_errno(err, "create %s", e->name);
    return set_owner(u, base, e, err);
}

static int put_node(struct unpack *u, const struct ev_cpio_entry *e, const char *base, struct ev_err *err)
{
    mode_t type = e->mode & S_IFMT;
    int rc = try_link(u, e, base, err);

    if (rc != 0)
        return rc == -ENOENT || rc > 0 ? 0 : rc;            /* -ENOENT: the first was not permitted */
    if (mknodat(u->dir, base, type | 0600, makedev(e->rdev_major, e->rdev_minor)) < 0)
        return errno == EPERM ? 0 : ev_fail_errno(err, "create %s", e->name);
    if ((rc = set_owner(u, base, e, err)) < 0)
        return rc;
    if (fchmodat(u->dir, base, e->mode & 07777, 0) < 0)      /* just made, by us, and no link */
        return ev_fail_errno(err, "mode of %s", e->name);
    return 0;
}

static int put_entry(struct unpack *u, const struct ev_cpio_entry *e, struct ev_err *err)
{
    const char *base;
    int rc;

    if (strcmp(e->name, ".") == 0)
        return 0;                               /* the root is the caller's */
    EV_TRY(open_parent(u, e->name, &base, err));
    EV_TRY(make_room(u, base, e, err));
    switch (e->mode & S_IFMT) {
    case S_IFREG: rc = put_file(u, e, base, err); break;
    case S_IFLNK: rc = put_link(u, e, base, err); break;
    case S_IFDIR: rc = put_dir(u, e, base, err); break;
    default:      rc = put_node(u, e, base, err); break;
    }
out:
    return rc;
}

static int finish_dir(struct unpack *u, const struct ev_cpio_entry *e, struct ev_err *err)
{
    const struct timespec t[2] = { { .tv_sec = e->mtime }, { .tv_sec = e->mtime } };
    const char *base;
    int fd, rc;

    if (!S_ISDIR(e->mode) || strcmp(e->name, ".") == 0)
        return 0;
    if ((rc = open_parent(u, e->name, &base, err)) < 0)
        return rc;
    if ((fd = openat(u->dir, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return u->strict ? ev_fail_errno(err, "%s", e->name) : 0;       /* replaced by a later entry */
    rc = fchmod(fd, e->mode & 07777) < 0 ? ev_fail_errno(err, "mode of %s", e->name) : 0;
    (void)futimens(fd, t);
    close(fd);
    return rc;
}

/* ---- ramdisks ---- */

static void forget_links(struct unpack *u)
{
    for (size_t i = 0; i < u->n_sets; i++)
        ev_free(u->set[i].name);
    u->n_sets = 0;
    memset(u->bucket, 0, sizeof u->bucket);
}

/* Every archive of a ramdisk, one after the other, each with its own set of hard links. */
static int each_entry(struct unpack *u, int (*put)(struct unpack *, const struct ev_cpio_entry *, struct ev_err *),
                      struct ev_err *err)
{
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;
    int rc;

    ev_cpio_reader_init(&r, u->in.fd, u->in.offset, u->in.len);
    do {
        while ((rc = ev_cpio_next(&r, &e, err)) > 0)
            EV_TRY(put(u, &e, err));
        EV_TRY(rc);
        forget_links(u);
        EV_TRY(ev_cpio_rest(&r, err));
        if (rc > 0 && (r.pos - r.start) % 4 != 0)
            EV_TRY(ev_fail_reason(err, EV_EPARSE, "cpio-trailer", "what follows an archive is not aligned"));
    } while (rc > 0);
out:
    ev_cpio_reader_fini(&r);
    return rc;
}

static int unpack_plain(struct unpack *u, struct ev_err *err)
{
    int rc;

    if (u->strict)
        EV_TRY(ev_layout_check(u->in.fd, u->in.offset, u->in.len, err));
    EV_TRY(each_entry(u, put_entry, err));
    EV_TRY(each_entry(u, finish_dir, err));
out:
    return rc;
}

/* What does not fit below root_fd is not expanded into a temporary file either, which may lie on a disk. */
static uint64_t room_below(int root_fd)
{
    struct statvfs v;
    uint64_t room;

    if (fstatvfs(root_fd, &v) < 0 || __builtin_mul_overflow((uint64_t)v.f_bavail, (uint64_t)v.f_frsize, &room))
        return EV_IMAGE_TOTAL_MAX;
    return room < EV_IMAGE_TOTAL_MAX ? room : EV_IMAGE_TOTAL_MAX;
}

/* Others compress ramdisk 1; what is measured is then what is compressed. */
static int unpack_one(int fd, int root_fd, const struct ev_eif_section *s, bool strict, struct ev_err *err)
{
    const struct ev_archive_expand how = { .max = room_below(root_fd) };
    struct unpack u = { .root = root_fd, .strict = strict, .in = { fd, ev_eif_data(s), s->size }, .dir = -1 };
    enum ev_archive_filter f = ev_archive_filter(&u.in);
    struct ev_region plain = { .fd = -1 };
    int rc;

    u.block = ev_alloc(COPY_STEP);
    if (f != EV_FILTER_NONE) {
        if (strict)
            EV_TRY(ev_fail_reason(err, EV_EDENY, "layout-format", "ramdisk 2 is compressed with %s",
                                  ev_archive_filter_name(f)));
        EV_TRY(ev_archive_expand(&u.in, f, &how, &plain, err));
        u.in = plain;
    }
    EV_TRY(unpack_plain(&u, err));
out:
    forget_links(&u);
    ev_free(u.set);
    ev_free(u.block);
    if (u.dir >= 0)
        close(u.dir);
    if (plain.fd >= 0)
        close(plain.fd);
    return rc;
}

/* The hypervisor refuses an image whose CRC is wrong, and so does this. */
static int check_crc(int fd, const struct ev_eif *e, struct ev_err *err)
{
    uint8_t *block = ev_alloc(EV_IMAGE_STEP);
    uint32_t crc = 0;
    int rc = 0;

    for (uint64_t at = 0; at < e->length && rc == 0;) {
        size_t n = e->length - at < EV_IMAGE_STEP ? (size_t)(e->length - at) : EV_IMAGE_STEP;

        if ((rc = ev_pread_all(fd, block, n, at)) < 0)
            ev_fail(err, rc, "read: %s", ev_err_text(rc));
        else if (at == 0)
            crc = ev_crc32(ev_crc32(0, block, EV_EIF_CRC_OFFSET), block + EV_EIF_HEADER, n - EV_EIF_HEADER);
        else
            crc = ev_crc32(crc, block, n);
        at += n;
    }
    ev_free(block);
    if (rc == 0 && crc != e->crc)
        rc = ev_fail_reason(err, EV_EPARSE, "eif-crc", "damaged: the CRC of the file is %08x, its header says %08x",
                            crc,
                            e->crc);
    return rc;
}

int ev_image_unpack(const char *path, int root_fd, struct ev_err *err)
{
    struct ev_eif e;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

    if (fd < 0)
        return ev_fail_errno(err, "open %s", path);
    EV_TRY(ev_eif_read(fd, &e, err));
    EV_TRY(check_crc(fd, &e, err));
    if (ev_eif_count(&e, EV_EIF_RAMDISK) != 2)
        EV_TRY(ev_fail_reason(err, EV_EDENY, "layout-ramdisks", "%zu ramdisks; a cage has two",
                              ev_eif_count(&e, EV_EIF_RAMDISK)));
    EV_TRY(unpack_one(fd, root_fd, ev_eif_find(&e, EV_EIF_RAMDISK, 0), false, err));
    EV_TRY(unpack_one(fd, root_fd, ev_eif_find(&e, EV_EIF_RAMDISK, 1), true, err));
out:
    close(fd);
    if (rc < 0)
        ev_err_wrap(err, "unpacking %s", path);
    return rc;
}
