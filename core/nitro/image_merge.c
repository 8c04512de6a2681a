/* image_merge.c — the layers of a container image become one tree, from their tar headers alone.
 *
 * Nothing here names a file of this machine. The image is hostile: a name may not be absolute or
 * climb; where a name's parent is a link in the merged tree, the link is followed *in the tree*, a
 * bounded number of times, and may not lead above the image's root. What a layer says about lower
 * ones (whiteouts) never touches its own entries, in whatever order they come. */
#include <stdio.h>
#include <sys/stat.h>

#include "codec/text.h"
#include "nitro/image_int.h"

enum { LINKS_MAX = 40, MEMORY_FILES_MAX = 4096, XATTR_LIST_MAX = 64 << 20, ID_MAX_MAJOR = 0xfff,
       ID_MAX_MINOR = 0xfffff };

static const char OPAQUE[] = ".wh..wh..opq", WHITEOUT[] = ".wh.", AUFS[] = ".wh..wh.";
#define LEN(s) (sizeof(s) - 1)

static bool is_dir(const struct ev_merge *m, uint32_t i)
{
    return S_ISDIR(m->tree.node[i].mode);
}

/* Takes the next component off *path; false at the end. "." and empty ones are skipped. */
static bool next_component(const char **path, const char **name, size_t *n)
{
    for (;;) {
        while (**path == '/')
            ++*path;
        if (!**path)
            return false;
        *name = *path;
        *path += *n = strcspn(*path, "/");
        if (*n != 1 || **name != '.')
            return true;
    }
}

static bool is_up(const char *name, size_t n)
{
    return n == 2 && name[0] == '.' && name[1] == '.';
}

/* A name in an archive may not begin at a root or climb. */
static int check_name(const char *path, const char *what, struct ev_err *err)
{
    const char *p = path, *name;
    size_t n;

    if (strlen(path) > EV_TREE_PATH)
        return ev_fail_reason(err, EV_ELIMIT, "image-path", "%s of %zu bytes", what, strlen(path));
    if (path[0] == '/' && path[1] != '\0')
        return ev_fail_reason(err, EV_EDENY, "image-path", "%s is absolute: %s", what, path);
    while (next_component(&p, &name, &n))
        if (is_up(name, n))
            return ev_fail_reason(err, EV_EDENY, "image-path", "%s climbs with \"..\": %s", what, path);
    return 0;
}

static int make_dir(struct ev_merge *m, uint32_t parent, const char *name, size_t n, uint32_t *out, struct ev_err *err)
{
    int rc = ev_tree_add(&m->tree, parent, name, n, out, err);

    if (rc == 0) {
        m->tree.node[*out].mode = S_IFDIR | 0755;
        m->tree.node[*out].layer = m->layer;
    }
    return rc;
}

/* Where the walk continues behind a link: its target and what is left, in `todo`. */
static int expand_link(struct ev_merge *m, uint32_t link, const char *rest, char todo[2 * EV_TREE_PATH + 2],
                       uint32_t *at, struct ev_err *err)
{
    const char *target = ev_tree_text(&m->tree, m->tree.node[link].data);
    char next[2 * EV_TREE_PATH + 2];
    int n = snprintf(next, sizeof next, "%s/%s", target, rest);

    if (n < 0 || (size_t)n >= sizeof next)
        return ev_fail_reason(err, EV_ELIMIT, "image-path", "a path through links has more than %zu bytes",
                              sizeof next);
    *at = target[0] == '/' ? m->rootfs : m->tree.node[link].parent;
    memcpy(todo, next, (size_t)n + 1);
    return 0;
}

/* Walks the directories of `path` from the image's root. Missing ones are made when `create`, else
 * the result is EV_TREE_NONE. */
static int walk_dirs(struct ev_merge *m, const char *path, size_t len, bool create, uint32_t *out, struct ev_err *err)
{
    char todo[2 * EV_TREE_PATH + 2];
    const char *p = todo, *name;
    uint32_t at = m->rootfs, child;
    size_t n;
    int links = 0, rc = 0;

    memcpy(todo, path, len);
    todo[len] = '\0';
    while (next_component(&p, &name, &n)) {
        if (is_up(name, n)) {
            if (at == m->rootfs)
                return ev_fail_reason(err, EV_EDENY, "image-escape", "%.*s leads out of the image through a link",
                                      (int)len, path);
            at = m->tree.node[at].parent;
            continue;
        }
        child = ev_tree_find(&m->tree, at, name, n);
        if (child == EV_TREE_NONE) {
            if (!create)
                return *out = EV_TREE_NONE, 0;
            EV_TRY(make_dir(m, at, name, n, &child, err));
        } else if (S_ISLNK(m->tree.node[child].mode)) {
            if (++links > LINKS_MAX)
                return ev_fail_reason(err, EV_EDENY, "image-loop", "%.*s goes through more than %d links", (int)len,
                                      path, LINKS_MAX);
            EV_TRY(expand_link(m, child, p, todo, &at, err));
            p = todo;
            continue;
        } else if (!is_dir(m, child)) {
            return ev_fail_reason(err, EV_EPARSE, "image-path", "%.*s goes through something that is no directory",
                                  (int)len, path);
        }
        at = child;
    }
    *out = at;
out:
    return rc;
}

/* Splits off the last component: the directory it is in and its name. name_len 0: the root itself. */
static int locate(struct ev_merge *m, const char *path, bool create, uint32_t *dir, const char **name,
                  size_t *name_len, struct ev_err *err)
{
    size_t len = strlen(path), start;

    while (len > 0 && (path[len - 1] == '/' || (path[len - 1] == '.' && (len == 1 || path[len - 2] == '/'))))
        len--;
    for (start = len; start > 0 && path[start - 1] != '/'; start--)
        ;
    *name = path + start;
    *name_len = len - start;
    return walk_dirs(m, path, start, create, dir, err);
}

/* ---- whiteouts ---- */

/* Removes what lower layers put at `top` and below. What this layer put there stays, and the
 * directories above it stay as if made for it. Works from the leaves up, without recursion. */
static void remove_lower(struct ev_merge *m, uint32_t top, bool keep_top)
{
    struct ev_tree *t = &m->tree;
    uint32_t i = top, up, next;

    if (t->node[top].cleaned == m->layer)
        return;                                 /* a second time finds nothing: no quadratic walks */
    t->node[top].cleaned = m->layer;
    while (t->node[i].child != EV_TREE_NONE)
        i = t->node[i].child;
    for (;;) {
        up = t->node[i].parent;
        next = t->node[i].next;
        if (i == top && keep_top)
            return;
        if (t->node[i].layer < m->layer) {
            if (t->node[i].child == EV_TREE_NONE) {
                ev_tree_remove(t, i);
            } else {
                t->node[i].mode = S_IFDIR | 0755;
                t->node[i].uid = t->node[i].gid = 0;
                t->node[i].layer = m->layer;
            }
        }
        if (i == top)
            return;
        if (next == EV_TREE_NONE) {
            i = up;
            continue;
        }
        for (i = next; t->node[i].child != EV_TREE_NONE;)
            i = t->node[i].child;
    }
}

static int whiteout(struct ev_merge *m, const char *path, const char *name, size_t n, uint32_t dir, struct ev_err *err)
{
    uint32_t i;

    if (dir == EV_TREE_NONE)
        return 0;
    if (n == LEN(OPAQUE) && memcmp(name, OPAQUE, n) == 0)
        return remove_lower(m, dir, true), 0;
    name += LEN(WHITEOUT);
    n -= LEN(WHITEOUT);
    if (n == 0 || is_up(name, n) || (n == 1 && *name == '.'))
        return ev_fail_reason(err, EV_EDENY, "image-path", "a whiteout of nothing: %s", path);
    if ((i = ev_tree_find(&m->tree, dir, name, n)) != EV_TREE_NONE)
        remove_lower(m, i, false);
    return 0;
}

/* ---- entries ---- */

static int keep_capability(struct ev_merge *m, ev_slice value, const char *path, uint32_t *out, struct ev_err *err)
{
    struct ev_merge_xattr *x;

    if (value.n == 0 || m->n_xattrs >= EV_TREE_FILES || value.n > sizeof x->value)
        return ev_fail_reason(err, EV_EPARSE, "image-xattr", "%s: a capability of %zu bytes", path, value.n);
    if (m->n_xattrs == m->xattrs_cap) {
        m->xattrs_cap = m->xattrs_cap ? m->xattrs_cap * 2 : 16;
        m->xattr = ev_realloc(m->xattr, sizeof *m->xattr * m->xattrs_cap);
    }
    x = &m->xattr[m->n_xattrs++];
    x->n = (uint8_t)value.n;
    memcpy(x->value, value.p, value.n);
    *out = (uint32_t)m->n_xattrs;
    return 0;
}

static int fill_kind(struct ev_merge *m, const struct ev_archive_entry *e, uint16_t source, struct ev_node *node,
                     struct ev_err *err)
{
    uint32_t text;
    size_t n;
    int rc;

    switch (e->mode & S_IFMT) {
    case S_IFREG:
        if (e->size > UINT32_MAX)
            return ev_fail_reason(err, EV_ELIMIT, "image-file-size", "%s has %llu bytes; a file of a ramdisk has less "
                                  "than 4 GiB", e->path, (unsigned long long)e->size);
        node->size = (uint32_t)e->size;
        node->data = e->data;
        node->source = source;
        return 0;
    case S_IFLNK:
        n = e->symlink ? strlen(e->symlink) : 0;
        if (n == 0 || n > EV_TREE_PATH)
            return ev_fail_reason(err, EV_ELIMIT, "image-link", "%s: a link target of %zu bytes", e->path, n);
        if ((rc = ev_tree_keep(&m->tree, e->symlink, n, &text, err)) < 0)
            return rc;
        node->size = (uint32_t)n;
        node->data = text;
        return 0;
    case S_IFCHR: case S_IFBLK:
        if (e->rdev_major > ID_MAX_MAJOR || e->rdev_minor > ID_MAX_MINOR)
            return ev_fail_reason(err, EV_EPARSE, "image-device", "%s: device %u:%u", e->path, e->rdev_major,
                                  e->rdev_minor);
        node->data = (uint64_t)e->rdev_major << 32 | e->rdev_minor;
        return 0;
    case S_IFIFO: case S_IFDIR:
        return 0;
    }
    return ev_fail_reason(err, EV_EUNSUPPORTED, "image-type", "%s: unknown type %o", e->path, (unsigned)e->mode);
}

/* What the entry says, without its place. */
static int fill(struct ev_merge *m, const struct ev_archive_entry *e, uint16_t source, struct ev_node *node,
                struct ev_err *err)
{
    int rc;

    if (e->uid >= UINT32_MAX || e->gid >= UINT32_MAX)
        return ev_fail_reason(err, EV_EPARSE, "image-owner", "%s: owner %llu:%llu", e->path, (unsigned long long)e->uid,
                              (unsigned long long)e->gid);
    *node = (struct ev_node){ .uid = (uint32_t)e->uid, .gid = (uint32_t)e->gid, .mode = (uint16_t)e->mode };
    EV_TRY(fill_kind(m, e, source, node, err));
    if (e->capability.n > 0 && S_ISREG(e->mode))
        EV_TRY(keep_capability(m, e->capability, e->path, &node->xattr, err));
out:
    return rc;
}

/* Takes over everything but the place in the tree. */
static void assign(struct ev_merge *m, uint32_t i, const struct ev_node *from)
{
    struct ev_node *node = &m->tree.node[i];

    node->uid = from->uid;
    node->gid = from->gid;
    node->mode = from->mode;
    node->size = from->size;
    node->data = from->data;
    node->source = from->source;
    node->group = from->group;
    node->xattr = from->xattr;
    node->layer = m->layer;
}

/* A hard link shares what its target is now; the target may vanish later. `same`: it is the target. */
static int fill_hardlink(struct ev_merge *m, const struct ev_archive_entry *e, uint32_t existing, struct ev_node *node,
                         bool *same, struct ev_err *err)
{
    uint32_t dir, target = EV_TREE_NONE;
    const char *name;
    size_t n;
    int rc;

    EV_TRY(check_name(e->hardlink, "a hard link's target", err));
    EV_TRY(locate(m, e->hardlink, false, &dir, &name, &n, err));
    if (dir != EV_TREE_NONE && n > 0)
        target = ev_tree_find(&m->tree, dir, name, n);
    if (target == EV_TREE_NONE || is_dir(m, target))
        return ev_fail_reason(err, EV_EPARSE, "image-hardlink", "%s is a hard link to %s, which is %s", e->path,
                              e->hardlink, target == EV_TREE_NONE ? "not there" : "a directory");
    if ((*same = target == existing))
        return 0;
    if (m->tree.node[target].group == 0)
        m->tree.node[target].group = ++m->groups;
    *node = m->tree.node[target];
out:
    return rc;
}

struct layer_walk {
    struct ev_merge *m;
    uint16_t source;
};

static int put_entry(struct layer_walk *w, const struct ev_archive_entry *e, uint32_t dir, const char *name, size_t n,
                     struct ev_err *err)
{
    struct ev_merge *m = w->m;
    struct ev_node node;
    uint32_t i = ev_tree_find(&m->tree, dir, name, n);
    bool same = false;
    int rc;

    if (e->hardlink)
        EV_TRY(fill_hardlink(m, e, i, &node, &same, err));
    else
        EV_TRY(fill(m, e, w->source, &node, err));
    if (same)
        return 0;
    if (i != EV_TREE_NONE && !(is_dir(m, i) && S_ISDIR(node.mode))) {
        ev_tree_remove(&m->tree, i);
        i = EV_TREE_NONE;
    }
    if (i == EV_TREE_NONE)
        EV_TRY(ev_tree_add(&m->tree, dir, name, n, &i, err));
    assign(m, i, &node);
out:
    return rc;
}

static int put_root(struct layer_walk *w, const struct ev_archive_entry *e, struct ev_err *err)
{
    struct ev_node node;
    int rc;

    if (e->hardlink || !S_ISDIR(e->mode))
        return ev_fail_reason(err, EV_EPARSE, "image-path", "the image's root is not a directory");
    if ((rc = fill(w->m, e, w->source, &node, err)) < 0)
        return rc;
    assign(w->m, w->m->rootfs, &node);
    return 0;
}

/* AUFS's own notes: .wh..wh.plnk/… and the like. */
static bool is_aufs(const char *path)
{
    const char *name;
    size_t n;

    while (next_component(&path, &name, &n))
        if (n >= LEN(AUFS) && memcmp(name, AUFS, LEN(AUFS)) == 0 && !(n == LEN(OPAQUE) && memcmp(name, OPAQUE, n) == 0))
            return true;
    return false;
}

static int merge_entry(void *ctx, const struct ev_archive_entry *e, struct ev_err *err)
{
    struct layer_walk *w = ctx;
    const char *name;
    uint32_t dir;
    bool gone;
    size_t n;
    int rc;

    EV_TRY(check_name(e->path, "a name in the archive", err));
    if (is_aufs(e->path))
        return 0;
    name = strrchr(e->path, '/');
    gone = strncmp(name ? name + 1 : e->path, WHITEOUT, LEN(WHITEOUT)) == 0;
    EV_TRY(locate(w->m, e->path, !gone, &dir, &name, &n, err));
    if (gone)
        return whiteout(w->m, e->path, name, n, dir, err);
    return n == 0 ? put_root(w, e, err) : put_entry(w, e, dir, name, n, err);
out:
    return rc;
}

int ev_merge_layer(struct ev_merge *m, const struct ev_region *tar, uint16_t source, struct ev_err *err)
{
    struct layer_walk w = { m, source };

    m->layer++;
    return ev_archive_walk(tar, merge_entry, &w, err);
}

/* ---- our own entries ---- */

int ev_merge_init(struct ev_merge *m, struct ev_err *err)
{
    int rc;

    memset(m, 0, sizeof *m);
    ev_buf_init(&m->xattr_list, XATTR_LIST_MAX);
    EV_TRY(ev_tree_init(&m->tree, err));
    EV_TRY(make_dir(m, 0, "rootfs", 6, &m->rootfs, err));
out:
    return rc;
}

void ev_merge_fini(struct ev_merge *m)
{
    ev_tree_fini(&m->tree);
    ev_free(m->xattr);
    ev_free(m->memory);
    ev_buf_fini(&m->xattr_list);
    memset(m, 0, sizeof *m);
}

static int child_dir(struct ev_merge *m, uint32_t parent, const char *name, size_t n, uint32_t *out, struct ev_err *err)
{
    *out = ev_tree_find(&m->tree, parent, name, n);
    if (*out == EV_TREE_NONE)
        return make_dir(m, parent, name, n, out, err);
    return is_dir(m, *out) ? 0 : ev_fail(err, -ENOTDIR, "%.*s is not a directory", (int)n, name);
}

int ev_merge_cage(struct ev_merge *m, const char *path, ev_slice data, struct ev_err *err)
{
    const char *p = path, *name = NULL, *next;
    struct ev_node *node;
    uint32_t dir, i;
    size_t n = 0, next_n;
    int rc;

    EV_TRY(check_name(path, "a file of the cage", err));
    if (path[0] == '/' || !next_component(&p, &name, &n))
        return ev_fail(err, -EINVAL, "a file of the cage without a name");
    EV_TRY(child_dir(m, 0, "cage", 4, &dir, err));
    while (next_component(&p, &next, &next_n)) {
        EV_TRY(child_dir(m, dir, name, n, &dir, err));
        name = next;
        n = next_n;
    }
    if (ev_tree_find(&m->tree, dir, name, n) != EV_TREE_NONE || data.n > UINT32_MAX || m->n_memory >= MEMORY_FILES_MAX)
        return ev_fail(err, -EEXIST, "cage/%s: given twice, too large or one too many", path);
    EV_TRY(ev_tree_add(&m->tree, dir, name, n, &i, err));
    if (m->n_memory == m->memory_cap) {
        m->memory_cap = m->memory_cap ? m->memory_cap * 2 : 16;
        m->memory = ev_realloc(m->memory, sizeof *m->memory * m->memory_cap);
    }
    node = &m->tree.node[i];
    node->mode = S_IFREG | 0644;
    node->size = (uint32_t)data.n;
    node->source = EV_MERGE_MEMORY;
    node->data = m->n_memory;
    m->memory[m->n_memory++] = data;
out:
    return rc;
}

/* The runtime mounts over these: they must be directories, and no link of the image's. */
static int ensure_mount_point(struct ev_merge *m, const char *name, uint16_t mode, struct ev_err *err)
{
    uint32_t i = ev_tree_find(&m->tree, m->rootfs, name, strlen(name));
    size_t n = strlen(m->warning);
    int rc;

    if (i != EV_TREE_NONE && is_dir(m, i))
        return 0;
    if (i != EV_TREE_NONE) {
        snprintf(m->warning + n, sizeof m->warning - n,
                 "%s/%s of the image is a %s and was replaced by an empty directory",
                 n ? "; " : "", name, S_ISLNK(m->tree.node[i].mode) ? "link" : "file");
        ev_tree_remove(&m->tree, i);
    }
    rc = make_dir(m, m->rootfs, name, strlen(name), &i, err);
    if (rc == 0)
        m->tree.node[i].mode = (uint16_t)(S_IFDIR | mode);
    return rc;
}

static int put_xattr_line(struct ev_merge *m, uint32_t i)
{
    const struct ev_merge_xattr *x = &m->xattr[m->tree.node[i].xattr - 1];
    char path[EV_TREE_PATH + 1];
    size_t skip = sizeof "rootfs/" - 1, n = ev_tree_path(&m->tree, i, path);
    int rc;

    EV_TRY(ev_hex_put(&m->xattr_list, ev_slice_of(path + skip, n - skip)));
    EV_TRY(ev_buf_puts(&m->xattr_list, "\tsecurity.capability\t"));
    EV_TRY(ev_hex_put(&m->xattr_list, ev_slice_of(x->value, x->n)));
    EV_TRY(ev_buf_putc(&m->xattr_list, '\n'));
out:
    return rc;
}

/* cage/xattrs, form in image.h. */
static int list_xattrs(struct ev_merge *m, struct ev_err *err)
{
    uint32_t *nodes, n = 0;
    int rc = 0;

    if (m->n_xattrs == 0)
        return 0;
    nodes = ev_alloc(sizeof *nodes * (m->tree.alive + 1));
    for (uint32_t i = 1; i < m->tree.n; i++)
        if (m->tree.node[i].name_len > 0 && m->tree.node[i].xattr > 0)
            nodes[n++] = i;
    ev_tree_sort(&m->tree, nodes, n);
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = put_xattr_line(m, nodes[i]);
    ev_free(nodes);
    if (rc < 0)
        return ev_fail_reason(err, EV_ELIMIT, "image-xattr", "the list of capabilities is too long");
    return n == 0 ? 0 : ev_merge_cage(m, "xattrs", ev_buf_slice(&m->xattr_list), err);
}

int ev_merge_finish(struct ev_merge *m, struct ev_err *err)
{
    static const struct { const char *name; uint16_t mode; } point[] = {
        { "dev", 0755 }, { "proc", 0755 }, { "sys", 0755 }, { "run", 0755 }, { "tmp", 01777 },
    };
    uint32_t etc = ev_tree_find(&m->tree, m->rootfs, "etc", 3);
    int rc;

    if (etc != EV_TREE_NONE && !is_dir(m, etc))
        return ev_fail_reason(err, EV_EDENY, "image-mountpoint", "/etc of the image is not a directory");
    for (size_t i = 0; i < EV_COUNT(point); i++)
        EV_TRY(ensure_mount_point(m, point[i].name, point[i].mode, err));
    EV_TRY(list_xattrs(m, err));
out:
    return rc;
}
