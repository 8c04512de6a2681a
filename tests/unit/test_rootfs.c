/* test_rootfs.c — paths under a hostile root (rootfs.c), USER lookup (user.c), cage/xattrs. */
#include "role/rootfs.h"

#include "tap.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[] = "/tmp/ev-rootfs-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st; (void)type; (void)ftw;
    return remove(path);
}

static int make_root(void)
{
    int root, rc = 0;

    if (!mkdtemp(base) || (root = open(base, O_PATH | O_DIRECTORY)) < 0)
        return -1;
    rc |= mkdirat(root, "real", 0755);
    rc |= symlinkat("/", root, "up");
    rc |= symlinkat("../../../../../..", root, "out");
    rc |= symlinkat("/proc/self", root, "magic");
    rc |= symlinkat("nowhere", root, "dangling");
    rc |= symlinkat("real", root, "inside");
    rc |= mkfifoat(root, "pipe", 0600);
    rc |= mknodat(root, "file", S_IFREG | 0600, 0);
    return rc ? -1 : root;
}

static void test_dirs(int root)
{
    static const char *const links[] = { "up", "out", "magic", "dangling", "inside", "pipe", "file" };
    struct stat st;
    int fd;

    OK((fd = ev_root_dir(root, "real", NULL)) >= 0, "a real directory");
    close(fd);
    OK((fd = ev_root_dir(root, "made", NULL)) >= 0, "a missing one is made");
    OK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0755, "with mode 0755");
    close(fd);
    for (size_t i = 0; i < EV_COUNT(links); i++) {
        struct ev_err err = EV_ERR_INIT;

        OK(ev_root_dir(root, links[i], &err) < 0 && strcmp(err.reason, "image-link") == 0, "%s is refused: %s",
           links[i], err.msg);
    }
}

static bool is_under(int fd, const char *want)
{
    char link[64], path[4096], full[4096];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n < 0 ? 0 : n] = 0;
    snprintf(full, sizeof(full), "%s%s", base, want);
    return strcmp(path, full) == 0;
}

static void test_mkdir_p(int root)
{
    static const struct { const char *path, *where; } good[] = {
        { "/", "" }, { "/a/b/c", "/a/b/c" }, { "//a///b//", "/a/b" }, { "/up/x", "/x" }, { "/out/etc/y", "/etc/y" },
        { "/inside/z", "/real/z" }, { "/../../q", "/q" }, { "/a/../a/./b", "/a/b" } };
    static const char *const bad[] = { "/dangling/x", "/dangling", "/file/x", "/pipe", "/magic/root" };
    char longest[9000];

    for (size_t i = 0; i < EV_COUNT(good); i++) {
        int fd = ev_root_mkdir_p(root, good[i].path, NULL);

        OK(fd >= 0 && is_under(fd, good[i].where), "%s is %s of the root", good[i].path, good[i].where);
        if (fd >= 0)
            close(fd);
    }
    for (size_t i = 0; i < EV_COUNT(bad); i++)
        OK(ev_root_mkdir_p(root, bad[i], NULL) < 0, "%s fails", bad[i]);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[0] = '/';
    longest[sizeof(longest) - 1] = 0;
    OK(ev_root_mkdir_p(root, longest, NULL) < 0, "a name of 9000 bytes fails");
    for (size_t i = 0; i + 1 < sizeof(longest); i += 2)
        longest[i] = '/';
    OK(ev_root_mkdir_p(root, longest, NULL) < 0, "4500 levels fail");
}

static void test_files(int root)
{
    struct ev_buf b = EV_BUF_INIT(16);
    struct stat st;
    char path[128];

    EQ_INT(ev_root_write(root, "new", EV_LIT("text"), NULL), 0, "write");
    EQ_INT(ev_root_read(root, "new", &b, NULL), 0, "read");
    EQ_STR(ev_buf_str(&b), "text", "the same");
    ev_buf_fini(&b);
    EQ_INT(ev_root_write(root, "out", EV_LIT("x"), NULL), 0, "a link is replaced");
    snprintf(path, sizeof(path), "%s/out", base);
    OK(lstat(path, &st) == 0 && S_ISREG(st.st_mode), "by a file");
    OK(ev_root_write(root, "real", EV_LIT("x"), NULL) < 0, "a directory is not");
    EQ_INT(ev_root_read(root, "missing", &b, NULL), -ENOENT, "missing is ENOENT");
    OK(ev_root_read(root, "pipe", &b, NULL) < 0, "a FIFO is not waited for");
    OK(ev_root_read(root, "magic/status", &b, NULL) < 0, "nothing through a magic link");
    EQ_INT(ev_root_write(root, "big", EV_LIT("0123456789abcdefg"), NULL), 0, "17 bytes");
    EQ_INT(ev_root_read(root, "big", &b, NULL), -ENOBUFS, "do not fit in 16");
    ev_buf_fini(&b);
}

#define PASSWD "root:x:0:0:root:/root:/bin/sh\nbroken\n:::::\nnode:x:1000:1001:Node,,,:/home/node:/bin/bash\n" \
               "1234:x:77:78::/n:/\nbad:x:-1:5::/:/\nhuge:x:99999999999:5::/:/\nnohome:x:5:6\nlast:x:9:9::/last:"
#define GROUP "root:x:0:root\nnode:x:1001:\nvideo:x:44:alice,node\naudio:x:29:node,bob\nx\nnodes:x:50:nodejs\n" \
              "wheel:x:10:root"

static void test_users(void)
{
    static const struct { const char *spec; int uid, gid, groups; const char *home; } good[] = {
        { "", 0, 0, 2, "/root" }, { "root", 0, 0, 2, "/root" }, { "0", 0, 0, 2, "/root" },
        { "node", 1000, 1001, 2, "/home/node" }, { "1000", 1000, 1001, 2, "/home/node" },
        { "node:video", 1000, 44, 0, "/home/node" }, { "node:7", 1000, 7, 0, "/home/node" },
        { "4242", 4242, 0, 0, "/" }, { "4242:5", 4242, 5, 0, "/" }, { ":audio", 0, 29, 0, "/root" },
        { "1234", 77, 78, 0, "/n" }, { "node:", 1000, 1001, 2, "/home/node" }, { "last", 9, 9, 0, "/last" } };
    static const char *const bad[] = { "nobody", "bad", "huge", "nohome", "node:nogroup", "-1", "99999999999",
                                       "4294967295", "node :video", "a b" };
    static struct ev_user u;

    for (size_t i = 0; i < EV_COUNT(good); i++) {
        int rc = ev_user_find(good[i].spec, EV_LIT(PASSWD), EV_LIT(GROUP), &u, NULL);

        OK(rc == 0 && (int)u.uid == good[i].uid && (int)u.gid == good[i].gid && (int)u.n_groups == good[i].groups &&
           strcmp(u.home, good[i].home) == 0, "USER \"%s\": %d:%d, %d groups, %s", good[i].spec, (int)u.uid, (int)u.gid,
           (int)u.n_groups, u.home);
    }
    for (size_t i = 0; i < EV_COUNT(bad); i++) {
        struct ev_err err = EV_ERR_INIT;

        OK(ev_user_find(bad[i], EV_LIT(PASSWD), EV_LIT(GROUP), &u, &err) < 0, "USER \"%s\": %s", bad[i], err.msg);
    }
    EQ_INT(ev_user_find("", (ev_slice){ NULL, 0 }, (ev_slice){ NULL, 0 }, &u, NULL), 0, "no passwd at all: root");
    EQ_STR(u.home, "/", "at home in /");
    for (size_t n = 0; n < sizeof(PASSWD) - 1; n++)
        if (ev_user_find("node", ev_slice_of(PASSWD, n), ev_slice_of(GROUP, n % (sizeof(GROUP) - 1)), &u, NULL) == 0 &&
            u.uid != 1000)
            OK(0, "passwd cut at %zu gives uid %d", n, (int)u.uid);
}

static void test_xattrs(int root)
{
    /* "file", "up/file", "missing", "pipe" in hex */
    static const struct { const char *text; int ok; const char *what; } t[] = {
        { "", 1, "empty" },
        { "66696c65\tsecurity.capability\t0100000200040000000000000000000000000000\n", 1, "a capability" },
        { "66696c65\tsecurity.capability\t01000002\n", -1, "a value the kernel does not know" },
        { "75702f66696c65\tsecurity.capability\t00\n", 0, "a path through a link" },
        { "6d697373696e67\tsecurity.capability\t00\n", 0, "a file that is not there" },
        { "70697065\tsecurity.capability\t00\n", 0, "a FIFO" },
        { "66696c65\tuser.x\t00\n", 0, "another attribute" },
        { "66696c65\tsecurity.capability\t\n", 0, "no value" },
        { "66696c65\tsecurity.capability\tzz\n", 0, "not hex" },
        { "66690065\tsecurity.capability\t00\n", 0, "NUL in the path" },
        { "66696c65\tsecurity.capability\t00", 0, "no line end" },
        { "66696c65\n", 0, "no fields" }, { "\n", 0, "an empty line" } };
    size_t refused;

    for (size_t i = 0; i < EV_COUNT(t); i++) {
        struct ev_err err = EV_ERR_INIT;
        int rc = ev_xattrs_apply(root, ev_slice_str(t[i].text), &refused, &err);

        if (t[i].ok >= 0)
            OK((rc == 0) == t[i].ok, "%s: %s", t[i].what, err.msg);
        else
            OK(rc < 0 || refused == 1, "%s: refused", t[i].what);
    }
}

int main(void)
{
    int root = make_root();

    if (!OK(root >= 0, "a root"))
        return tap_done();
    test_dirs(root);
    test_mkdir_p(root);
    test_xattrs(root);
    test_files(root);
    test_users();
    close(root);
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return tap_done();
}
