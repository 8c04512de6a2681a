/* image_layout.c — DESIGN §5: ramdisk 2 holds rootfs/ and cage/ and nothing else.
 *
 * The kernel unpacks ramdisk 2 over ramdisk 1, so a stray entry could replace the runtime that PCR1
 * names, and a link could lead another entry there. Checked entry by entry against the tree of those
 * before it: a parent must have come as a directory, no name may come twice. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nitro/image_int.h"

static int refuse(struct ev_err *err, const char *reason, const char *name, const char *why)
{
    return ev_fail_reason(err, EV_EDENY, reason, "ramdisk 2: %s %s", name, why);
}

/* Only names that have one reading: no empty, "." or ".." component, no slash at an end. */
static bool is_plain(const char *name)
{
    for (const char *p = name;; p++) {
        size_t n = strcspn(p, "/");

        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n;
        if (!*p)
            return true;
    }
}

/* Where the entry belongs: its parent directory in the tree of earlier entries, its last component. */
static int find_parent(const struct ev_tree *t, const struct ev_cpio_entry *e, uint32_t *dir, const char **base,
                       struct ev_err *err)
{
    const char *p = e->name, *slash;
    uint32_t at = 0;

    while ((slash = strchr(p, '/'))) {
        at = ev_tree_find(t, at, p, (size_t)(slash - p));
        if (at == EV_TREE_NONE)
            return refuse(err, "layout-parent", e->name, "comes before its directory");
        if (S_ISLNK(t->node[at].mode))
            return refuse(err, "layout-link", e->name, "lies behind a link");
        if (!S_ISDIR(t->node[at].mode))
            return refuse(err, "layout-parent", e->name, "lies below something that is no directory");
        p = slash + 1;
    }
    *dir = at;
    *base = p;
    return 0;
}

/* At the top only the two directories; in cage/ only files and directories. */
static int check_kind(const struct ev_cpio_entry *e, bool top, struct ev_err *err)
{
    size_t n = strcspn(e->name, "/");
    bool cage = n == 4 && memcmp(e->name, "cage", 4) == 0, rootfs = n == 6 && memcmp(e->name, "rootfs", 6) == 0;

    if (!cage && !rootfs)
        return refuse(err, "layout-entry", e->name, "is neither in rootfs/ nor in cage/");
    if (top && !S_ISDIR(e->mode))
        return refuse(err, "layout-link", e->name, "is not a directory");
    if (cage && !S_ISDIR(e->mode) && !S_ISREG(e->mode))
        return refuse(err, "layout-link", e->name, "is neither a file nor a directory");
    if (cage && S_ISREG(e->mode) && e->nlink > 1)
        return refuse(err, "layout-link", e->name, "is a hard link");
    return 0;
}

static int check_entry(struct ev_tree *t, const struct ev_cpio_entry *e, struct ev_err *err)
{
    const char *base = e->name;
    uint32_t dir = 0, i;
    int rc;

    if (!is_plain(e->name))
        return refuse(err, "layout-entry", e->name, "is not a plain relative name");
    EV_TRY(find_parent(t, e, &dir, &base, err));
    EV_TRY(check_kind(e, dir == 0, err));
    if (ev_tree_find(t, dir, base, strlen(base)) != EV_TREE_NONE)
        return refuse(err, "layout-duplicate", e->name, "comes twice");
    EV_TRY(ev_tree_add(t, dir, base, strlen(base), &i, err));
    t->node[i].mode = (uint16_t)e->mode;
out:
    return rc;
}

static int check_mount_points(const struct ev_tree *t, struct ev_err *err)
{
    static const char *const point[] = { "dev", "proc", "sys", "run", "tmp", "etc" };
    uint32_t rootfs = ev_tree_find(t, 0, "rootfs", 6);

    if (rootfs == EV_TREE_NONE)
        return refuse(err, "layout-entry", "rootfs", "is missing");
    for (size_t i = 0; i < EV_COUNT(point); i++) {
        uint32_t n = ev_tree_find(t, rootfs, point[i], strlen(point[i]));

        if (n != EV_TREE_NONE && !S_ISDIR(t->node[n].mode))
            return ev_fail_reason(err, EV_EDENY, "layout-link", "ramdisk 2: rootfs/%s is not a directory", point[i]);
    }
    return 0;
}

int ev_layout_check(int fd, uint64_t offset, uint64_t len, struct ev_err *err)
{
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;
    struct ev_tree t = {0};
    int rc;

    ev_cpio_reader_init(&r, fd, offset, len);
    EV_TRY(ev_tree_init(&t, err));
    while ((rc = ev_cpio_next(&r, &e, err)) > 0)
        EV_TRY(check_entry(&t, &e, err));
    EV_TRY(rc);
    EV_TRY(check_mount_points(&t, err));
    rc = ev_cpio_rest(&r, err);
    if (rc > 0)
        rc = ev_fail_reason(err, EV_EDENY, "layout-trailer", "ramdisk 2: something follows its trailer");
out:
    ev_tree_fini(&t);
    ev_cpio_reader_fini(&r);
    return rc;
}

int ev_image_check_layout(const char *path, struct ev_err *err)
{
    const struct ev_eif_section *s;
    struct ev_eif e;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

    if (fd < 0)
        return ev_fail_errno(err, "open %s", path);
    EV_TRY(ev_eif_read(fd, &e, err));
    if (ev_eif_count(&e, EV_EIF_RAMDISK) != 2)
        EV_TRY(ev_fail_reason(err, EV_EDENY, "layout-ramdisks", "%zu ramdisks; a cage has two",
                              ev_eif_count(&e, EV_EIF_RAMDISK)));
    s = ev_eif_find(&e, EV_EIF_RAMDISK, 0);
    if (s->size % 4 != 0)
        EV_TRY(ev_fail_reason(err, EV_EDENY, "layout-padding", "ramdisk 1 does not end at a multiple of four bytes"));
    s = ev_eif_find(&e, EV_EIF_RAMDISK, 1);
    EV_TRY(ev_layout_check(fd, ev_eif_data(s), s->size, err));
out:
    close(fd);
    if (rc < 0)
        ev_err_wrap(err, "%s", path);
    return rc;
}
