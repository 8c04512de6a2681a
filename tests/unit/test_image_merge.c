/* test_image_merge.c — layers become one tree: whiteouts, links, devices, hostile names, limits. */
#include "image_fixture.h"
#include "nitro/image_int.h"
#include "tap.h"

#define LAYER(...) { (const struct tar_entry[]){ __VA_ARGS__ }, \
                     sizeof (const struct tar_entry[]){ __VA_ARGS__ } / sizeof(struct tar_entry) }
/* A file, a directory, a symbolic link, a hard link. */
#define F(path) { .name = path, .data = "1" }
#define D(path) { .name = path, .type = '5' }
#define L(path, target) { .name = path, .type = '2', .link = target, .mode = 0777 }
#define H(path, target) { .name = path, .type = '1', .link = target }
struct layer { const struct tar_entry *e; size_t n; };

static char type_of(unsigned mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG: return '-';
    case S_IFDIR: return 'd';
    case S_IFLNK: return 'l';
    case S_IFCHR: return 'c';
    case S_IFBLK: return 'b';
    case S_IFIFO: return 'p';
    }
    return '?';
}

/* "-644 usr/bin/x[=g1]; l777 lib>usr/lib; …" below rootfs/, without the five mount points when plain. */
static void list(const struct ev_merge *m, struct ev_buf *out)
{
    uint32_t *order = ev_tree_sorted(&m->tree);
    char path[EV_TREE_PATH + 1];

    for (uint32_t i = 0; i < m->tree.alive; i++) {
        const struct ev_node *n = &m->tree.node[order[i]];

        ev_tree_path(&m->tree, order[i], path);
        if (strncmp(path, "rootfs/", 7) != 0)
            continue;
        MUST(ev_buf_printf(out, "%c%o %s", type_of(n->mode), n->mode & 07777u, path + 7));
        if (n->uid || n->gid)
            MUST(ev_buf_printf(out, "(%u:%u)", n->uid, n->gid));
        if (S_ISLNK(n->mode))
            MUST(ev_buf_printf(out, ">%s", ev_tree_text(&m->tree, n->data)));
        if (n->group)
            MUST(ev_buf_printf(out, "=%u", n->group));
        if (S_ISCHR(n->mode) || S_ISBLK(n->mode))
            MUST(ev_buf_printf(out, "@%u.%u", (unsigned)(n->data >> 32), (unsigned)n->data));
        MUST(ev_buf_puts(out, ";"));
    }
    ev_free(order);
}

static int merge(struct ev_merge *m, const struct layer *layers, size_t n, bool finish, struct ev_err *err)
{
    int rc = ev_merge_init(m, err);

    for (size_t i = 0; i < n && rc >= 0; i++) {
        struct ev_buf tar = EV_BUF_INIT(64 << 20);
        struct ev_region r;

        tar_all(&tar, layers[i].e, layers[i].n);
        r = (struct ev_region){ mem_file(tar.p, tar.n), 0, tar.n };
        rc = ev_merge_layer(m, &r, (uint16_t)i, err);
        close(r.fd);
        ev_buf_fini(&tar);
    }
    return rc >= 0 && finish ? ev_merge_finish(m, err) : rc;
}

static void gives(const struct layer *layers, size_t n, const char *want, const char *what)
{
    struct ev_buf got = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    struct ev_merge m;

    if (merge(&m, layers, n, false, &err) < 0)
        MUST(ev_buf_printf(&got, "%s: %s", err.reason, err.msg));
    else
        list(&m, &got);
    EQ_STR(ev_buf_str(&got), want, what);
    ev_buf_fini(&got);
    ev_merge_fini(&m);
}
#define GIVES(want, what, ...) \
    do { const struct layer l_[] = { __VA_ARGS__ }; gives(l_, sizeof l_ / sizeof *l_, want, what); } while (0)

static void refuses(const struct layer *layers, size_t n, bool finish, const char *reason, const char *what)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_merge m;
    int rc = merge(&m, layers, n, finish, &err);

    OK(rc < 0 && strcmp(err.reason, reason) == 0 && err.msg[0], "%s: %s (%d %s: %s)", what, reason, rc, err.reason,
       err.msg);
    ev_merge_fini(&m);
}
#define REFUSES(reason, what, ...) \
    do { const struct layer l_[] = { __VA_ARGS__ }; refuses(l_, sizeof l_ / sizeof *l_, true, reason, what); } while (0)

static void test_plain(void)
{
    GIVES("d755 a;-644 a-b;-4755 a/x(7:8);l777 l>/etc/passwd;", "order is bytewise by full path; owners, modes, links",
          LAYER(D("./"), D("a/"),
                { .name = "a/x", .data = "1", .mode = 04755, .uid = 7, .gid = 8 }, F("a-b"),
                L("l", "/etc/passwd")));
    GIVES("c666 c@1.3;b660 d@8.0;p644 f;", "devices and fifos",
          LAYER({ .name = "c", .type = '3', .mode = 0666, .major = 1, .minor = 3 },
                { .name = "d", .type = '4', .mode = 0660, .major = 8 }, { .name = "f", .type = '6' }));
    GIVES("d755 x;d755 x/y;-644 x/y/z;", "missing parents are made", LAYER(F("./x//./y/z")));
    GIVES("d700 a(1:1);-644 a/b;", "a directory's later entry changes it and keeps what is in it",
          LAYER(D("a"), F("a/b")), LAYER({ .name = "a/", .type = '5', .mode = 0700, .uid = 1, .gid = 1 }));
    GIVES("-644 a;d755 b;-644 b/x;", "a file replaces a directory and a directory a file",
          LAYER(F("a/x"), F("b")), LAYER(F("a"), D("b/"), F("b/x")));
    GIVES("d755 l;-644 l/x;d755 t;", "a directory replaces a link; what follows is in it",
          LAYER(D("t"), L("l", "t")),
          LAYER(D("l/"), F("l/x")));
}

static void test_whiteouts(void)
{
    GIVES("d755 a;-644 a/keep;", "a whiteout removes a file", LAYER(F("a/x"), F("a/keep")), LAYER(F("a/.wh.x")));
    GIVES("", "a whiteout removes a directory with all below",
          LAYER(F("a/b/c/d"), F("a/e")), LAYER(F(".wh.a")));
    GIVES("d755 a;-644 a/new;", "opaque hides what is below, whatever the order: before",
          LAYER(F("a/old"), F("a/d/e")), LAYER(F("a/.wh..wh..opq"), F("a/new")));
    GIVES("d755 a;-644 a/new;", "and after",
          LAYER(F("a/old"), F("a/d/e")), LAYER(F("a/new"), F("a/.wh..wh..opq")));
    GIVES("d755 a;-644 a/x;", "a whiteout does not remove what its own layer brings",
          LAYER(F("a/x")), LAYER({ .name = "a/x", .data = "new" }, F("a/.wh.x")));
    GIVES("d755 a;d755 a/d;-644 a/d/new;", "nor what is below, but all else below",
          LAYER({ .name = "a/d", .type = '5', .mode = 0700 }, F("a/d/old")),
          LAYER(F("a/d/new"), F("a/.wh.d")));
    GIVES("d755 d;-644 d/1;-644 d/2;", "twice opaque in one layer",
          LAYER(F("d/0")), LAYER(F("d/1"), F("d/.wh..wh..opq"), F("d/2"),
                                          F("d/.wh..wh..opq")));
    GIVES("-644 x;", "whiteouts of what is not there, AUFS notes", LAYER(F("x")),
          LAYER(F("no/.wh.y"), F(".wh.z"), F(".wh..wh.plnk/1.2"), F(".wh..wh.aufs")));
    GIVES("l777 lib>usr/lib;d755 usr;d755 usr/lib;", "a whiteout through a link",
          LAYER(F("usr/lib/x"), L("lib", "usr/lib")),
          LAYER(F("lib/.wh.x")));
}

static void test_links(void)
{
    GIVES("l777 lib>usr/lib;d755 usr;d755 usr/lib;-644 usr/lib/x;",
          "a name through a link of a lower layer lands behind it",
          LAYER(L("lib", "usr/lib"), D("usr/lib")),
          LAYER(F("lib/x")));
    GIVES("d755 a;l777 a/l>../b/./c;d755 b;d755 b/c;d755 b/c/d;-644 b/c/d/x;",
          "relative, with .., into what is missing",
          LAYER(L("a/l", "../b/./c")), LAYER(F("a/l/d/x")));
    GIVES("l777 a>/b;d755 b;-644 b/x;", "an absolute target starts at the image's root",
          LAYER(L("a", "/b")), LAYER(F("a/x")));
    GIVES("-644 a=1;-644 b=1;", "a hard link", LAYER(F("a"), H("b", "a")));
    GIVES("-644 b=1;", "outlives its target", LAYER(F("a"), H("b", "./a")),
          LAYER(F(".wh.a")));
    GIVES("-644 a;", "a link to itself changes nothing",
          LAYER(F("a"), H("a", "a")));
    GIVES("-600 a;-644 b=1;-644 c=1;", "a new file of the name leaves the others together",
          LAYER(F("a"), H("b", "a"), H("c", "b")),
          LAYER({ .name = "a", .data = "2", .mode = 0600 }));
    REFUSES("image-hardlink", "a hard link to nothing", LAYER(H("b", "a")));
    REFUSES("image-hardlink", "a hard link to a directory", LAYER(D("a/"), H("b", "a")));
    REFUSES("image-path", "a hard link that climbs", LAYER(H("b", "../etc/shadow")));
    REFUSES("image-path", "a hard link to an absolute name", LAYER(H("b", "/etc/shadow")));
    REFUSES("image-escape", "a hard link through a link that climbs",
            LAYER(L("l", "../.."), H("b", "l/etc/shadow")));
    REFUSES("image-loop", "a loop of links", LAYER(L("a", "b"), L("b", "a"),
                                                   F("a/x")));
    REFUSES("image-escape", "a name through a link that climbs", LAYER(L("a", "../x"), F("a/y")));
}

static void test_hostile_names(void)
{
    REFUSES("image-path", "..", LAYER(F("../x")));
    REFUSES("image-path", ".. within", LAYER(F("a/../../x")));
    REFUSES("image-path", ".. at the end", LAYER(D("a/..")));
    REFUSES("image-path", "absolute", LAYER(F("/etc/passwd")));
    REFUSES("image-path", "the root as a link", LAYER(L("./", "x")));
    REFUSES("image-path", "below a file", LAYER(F("a"), F("a/b")));
    REFUSES("image-path", "a whiteout of ..", LAYER(F(".wh...")));
    REFUSES("image-path", "a whiteout of nothing", LAYER(F(".wh.")));
    GIVES("d755 cage;-644 cage/config.json;-644 rootfs;", "cage and rootfs inside the image are only names",
          LAYER(F("cage/config.json"), F("rootfs")));
    GIVES("", "an empty layer", LAYER(D("./")));
    GIVES("d755 a;d755 a/a;d755 a/a/a;d755 a/a/a/a;-644 a/a/a/a/a;", "a deep path", LAYER(F("a/a/a/a/a")));
    {
        struct ev_merge m;
        struct ev_err err = EV_ERR_INIT;
        struct ev_buf tar = EV_BUF_INIT(1 << 20), path = EV_BUF_INIT(1 << 16);
        struct ev_region r;

        for (int i = 0; i < EV_TREE_DEPTH; i++)
            MUST(ev_buf_puts(&path, "d/"));
        tar_pax(&tar, "path", path.p, path.n);
        tar_put(&tar, &(struct tar_entry)D("x"));
        tar_end(&tar);
        r = (struct ev_region){ mem_file(tar.p, tar.n), 0, tar.n };
        MUST(ev_merge_init(&m, NULL));
        OK(ev_merge_layer(&m, &r, 0, &err) == EV_ELIMIT && strcmp(err.reason, "image-path") == 0, "too deep: %s",
           err.msg);
        ev_merge_fini(&m);
        close(r.fd);
        ev_buf_clear(&tar);
        ev_buf_clear(&path);
        for (int i = 0; i < 256; i++)
            MUST(ev_buf_putc(&path, 'n'));
        tar_pax(&tar, "path", path.p, path.n);
        tar_put(&tar, &(struct tar_entry)F("x"));
        tar_end(&tar);
        r = (struct ev_region){ mem_file(tar.p, tar.n), 0, tar.n };
        MUST(ev_merge_init(&m, NULL));
        OK(ev_merge_layer(&m, &r, 0, &err) == EV_ELIMIT && strcmp(err.reason, "image-path") == 0,
           "a name too long: %s", err.msg);
        ev_merge_fini(&m);
        close(r.fd);
        ev_buf_fini(&tar);
        ev_buf_fini(&path);
    }
}

static void test_mount_points(void)
{
    struct ev_buf got = EV_BUF_INIT(1 << 16);
    struct ev_merge m;
    const struct layer l[] = { LAYER(L("run", "/"), F("tmp"),
                                     { .name = "dev/", .type = '5', .mode = 0700 },
                                     { .name = "dev/null", .type = '3', .major = 1, .minor = 3 },
                                     D("etc/")) };

    MUST(merge(&m, l, 1, true, NULL));
    list(&m, &got);
    EQ_STR(ev_buf_str(&got), "d700 dev;c644 dev/null@1.3;d755 etc;d755 proc;d755 run;d755 sys;d1777 tmp;",
           "mount points");
    OK(strstr(m.warning, "/run of the image is a link") && strstr(m.warning, "/tmp of the image is a file"), "%s",
       m.warning);
    ev_buf_fini(&got);
    ev_merge_fini(&m);
    REFUSES("image-mountpoint", "etc as a link", LAYER(L("etc", "/proc/self/root/etc")));
    REFUSES("image-mountpoint", "etc as a file", LAYER(F("etc")));
}

static void test_xattrs(void)
{
    static const uint8_t cap[20] = { 1, 0, 0, 2, 0, 4 };
    struct ev_buf tar = EV_BUF_INIT(1 << 20);
    struct ev_region r;
    struct ev_merge m;

    tar_pax(&tar, "SCHILY.xattr.security.capability", cap, sizeof cap);
    tar_put(&tar, &(struct tar_entry){ .name = "b", .data = "x", .mode = 0755 });
    tar_put(&tar, &(struct tar_entry)H("a", "b"));
    tar_pax(&tar, "SCHILY.xattr.user.other", "1", 1);
    tar_put(&tar, &(struct tar_entry)F("c"));
    tar_end(&tar);
    r = (struct ev_region){ mem_file(tar.p, tar.n), 0, tar.n };
    MUST(ev_merge_init(&m, NULL));
    MUST(ev_merge_layer(&m, &r, 0, NULL));
    MUST(ev_merge_cage(&m, "plugins/egress.lua", EV_LIT("return {}"), NULL));
    MUST(ev_merge_finish(&m, NULL));
    OK(strcmp(ev_buf_str(&m.xattr_list), "61\tsecurity.capability\t0100000200040000000000000000000000000000\n"
           "62\tsecurity.capability\t0100000200040000000000000000000000000000\n") == 0,
       "capabilities, sorted, of both names");
    OK(ev_tree_find(&m.tree, ev_tree_find(&m.tree, 0, "cage", 4), "xattrs", 6) != EV_TREE_NONE, "the list is in cage/");
    EQ_INT(ev_merge_cage(&m, "xattrs", EV_LIT(""), NULL), -EEXIST, "nothing of ours may come twice");
    EQ_INT(ev_merge_cage(&m, "../rootfs/x", EV_LIT(""), NULL), EV_EDENY, "nor climb");
    ev_merge_fini(&m);
    close(r.fd);
    ev_buf_fini(&tar);
}

/* What pax says in UTF-8 must be UTF-8: else libarchive would fall back to the other name. */
static void test_wrong_utf8(const char *key)
{
    struct ev_buf tar = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    struct ev_region r;
    struct ev_merge m;

    tar_pax(&tar, key, "p\xff\xfe", 3);
    tar_put(&tar, &(struct tar_entry)L("x", "y"));
    tar_end(&tar);
    r = (struct ev_region){ mem_file(tar.p, tar.n), 0, tar.n };
    MUST(ev_merge_init(&m, NULL));
    OK(ev_merge_layer(&m, &r, 0, &err) == EV_EPARSE && strcmp(err.reason, "tar-damaged") == 0,
       "%s that is not UTF-8: %s",
       key, err.msg);
    ev_merge_fini(&m);
    close(r.fd);
    ev_buf_fini(&tar);
}

/* A tar that claims a file of 5 GiB, most of it a hole; a tree of more files than there may be. */
static void test_limits(void)
{
    char head[513] = "";
    struct ev_buf tar = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    struct ev_region r;
    struct ev_merge m;
    uint32_t i, n = 0;
    int rc = 0;

    tar_raw(&tar, "big", '0', NULL, 0644, 0, 0, 5ull << 30, 0, 0);
    r = (struct ev_region){ mem_file(tar.p, tar.n), 0, (5ull << 30) + 1536 };
    MUST(ftruncate(r.fd, (off_t)r.len));
    MUST(ev_merge_init(&m, NULL));
    OK(ev_merge_layer(&m, &r, 0, &err) == EV_ELIMIT && strcmp(err.reason, "image-file-size") == 0, "5 GiB: %s",
       err.msg);
    for (; rc == 0 && n <= EV_TREE_FILES; n++)
        rc = ev_tree_add(&m.tree, m.rootfs, head, (size_t)snprintf(head, sizeof head, "%u", n), &i, &err);
    OK(rc == EV_ELIMIT && m.tree.alive == EV_TREE_FILES, "more files than there may be: %s", err.msg);
    ev_merge_fini(&m);
    close(r.fd);
    ev_buf_fini(&tar);
}

static void test_names(void)
{
    static const char utf8[] = "d\xc3\xbcr/\xe2\x82\xac", raw[] = "latin\xfc";
    struct ev_buf tar = EV_BUF_INIT(1 << 20), got = EV_BUF_INIT(1 << 16);
    struct ev_region r;
    struct ev_merge m;
    struct ev_err err = EV_ERR_INIT;

    tar_pax(&tar, "path", utf8, sizeof utf8 - 1);
    tar_put(&tar, &(struct tar_entry)F("x"));
    tar_put(&tar, &(struct tar_entry)F("k\xc3\xbcrzer"));
    tar_put(&tar, &(struct tar_entry){ .name = raw });
    tar_end(&tar);
    r = (struct ev_region){ mem_file(tar.p, tar.n), 0, tar.n };
    MUST(ev_merge_init(&m, NULL));
    OK(ev_merge_layer(&m, &r, 0, &err) == 0, "names beyond ASCII %s", err.msg);
    list(&m, &got);
    EQ_STR(ev_buf_str(&got), "d755 d\xc3\xbcr;-644 d\xc3\xbcr/\xe2\x82\xac;-644 k\xc3\xbcrzer;-644 latin\xfc;",
           "come through byte for byte in whatever locale");
    ev_merge_fini(&m);
    close(r.fd);
    ev_buf_fini(&tar);
    ev_buf_fini(&got);
}

int main(void)
{
    test_plain();
    test_whiteouts();
    test_links();
    test_hostile_names();
    test_mount_points();
    test_xattrs();
    test_names();
    test_wrong_utf8("path");
    test_wrong_utf8("linkpath");
    test_limits();
    return tap_done();
}
