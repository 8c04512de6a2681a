/* test_image_hostile.c — images that want something: stray entries in ramdisk 2, links in place of
 * directories, manifests that point elsewhere, wrong digests; and builds that end early. */
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "image_fixture.h"
#include "nitro/image_int.h"
#include "tap.h"

#define META "{\"ImageName\":\"t\",\"ImageVersion\":\"1\",\"BuildMetadata\":{\"BuildTime\":\"\",\"BuildTool\":\"\"," \
             "\"BuildToolVersion\":\"\",\"OperatingSystem\":\"\",\"KernelVersion\":\"\"}}"

static char *dir;

static const char *in_dir(const char *name) { return fixture_path(dir, name); }

static void put(struct ev_buf *b, const char *name, uint32_t mode, uint32_t nlink, const char *body)
{
    struct ev_cpio_entry e = { .name = name, .name_len = strlen(name), .ino = 9, .mode = mode, .nlink = nlink,
                               .size = (uint32_t)strlen(body) };

    MUST(ev_cpio_put_head(b, &e));
    MUST(ev_buf_puts(b, body));
    MUST(ev_buf_zero(b, ev_cpio_pad(e.size)));
}

struct entry { const char *name; uint32_t mode, nlink; const char *body; };
#define D(path) { path, S_IFDIR | 0755, 2, "" }
#define F(path) { path, S_IFREG | 0644, 1, "x" }
#define L(path, target) { path, S_IFLNK | 0777, 1, target }

static int emit_buf(void *ctx, struct ev_pump *p, int how, struct ev_err *err)
{
    const struct ev_buf *b = ctx;

    return ev_pump_put(p, how, b->p, b->n, err);
}

/* An image of a runtime with `init` and these entries as ramdisk 2, `tail` after its trailer. */
static void make_image(const struct entry *e, size_t n, const char *tail, size_t tail_n)
{
    struct ev_buf one = EV_BUF_INIT(1 << 20), two = EV_BUF_INIT(1 << 20);
    struct ev_pack_ramdisk ramdisk[2];
    struct ev_pack k = { .kernel_fd = mem_file("kernel", 6), .kernel_size = 6, .cmdline = EV_LIT("c"),
                         .metadata = EV_LIT(META), .ramdisk = ramdisk, .n_ramdisks = 2, .output = in_dir("i.eif") };
    struct ev_pcrs pcrs = {0};
    uint64_t size;

    put(&one, "init", S_IFREG | 0755, 1, "init");
    MUST(ev_cpio_put_trailer(&one));
    for (size_t i = 0; i < n; i++)
        put(&two, e[i].name, e[i].mode, e[i].nlink, e[i].body);
    MUST(ev_cpio_put_trailer(&two));
    MUST(ev_buf_put(&two, tail, tail_n));
    ramdisk[0] = (struct ev_pack_ramdisk){ one.n, emit_buf, &one };
    ramdisk[1] = (struct ev_pack_ramdisk){ two.n, emit_buf, &two };
    MUST(ev_pack_write(&k, NULL, &pcrs, &size, NULL));
    close(k.kernel_fd);
    ev_buf_fini(&one);
    ev_buf_fini(&two);
}

static void clear_root(void)
{
    char cmd[600];

    snprintf(cmd, sizeof cmd, "rm -rf '%s/root' && mkdir '%s/root'", dir, dir);
    if (system(cmd) != 0)
        abort();
}

static void refused(const struct entry *e, size_t n, const char *tail, size_t tail_n, const char *reason,
                    const char *what)
{
    struct ev_err err = EV_ERR_INIT, again = EV_ERR_INIT;
    int root, rc;

    make_image(e, n, tail, tail_n);
    rc = ev_image_check_layout(in_dir("i.eif"), &err);
    OK(rc < 0 && strcmp(err.reason, reason) == 0, "%s: %s (%d %s: %s)", what, reason, rc, err.reason, err.msg);
    clear_root();
    root = open(in_dir("root"), O_PATH | O_DIRECTORY);
    OK(ev_image_unpack(in_dir("i.eif"), root, &again) < 0 && strcmp(again.reason, reason) == 0 &&
       access(in_dir("root/rootfs"), F_OK) < 0 && access(in_dir("root/init"), F_OK) == 0,
       "%s: and not one entry of it is unpacked", what);
    close(root);
}
#define REFUSED(reason, what, ...) \
    do { const struct entry e_[] = { __VA_ARGS__ }; refused(e_, EV_COUNT(e_), "", 0, reason, what); } while (0)

static void test_layout(void)
{
    const struct entry good[] = { D("cage"), F("cage/config.json"), D("rootfs"), D("rootfs/etc"), L("rootfs/lib",
                                                                                                    "/init"),
                                  { "rootfs/a", S_IFREG | 0644, 2, "" }, { "rootfs/b", S_IFREG | 0644, 2, "x" } };
    struct ev_err err = EV_ERR_INIT;

    make_image(good, EV_COUNT(good), "\0\0\0\0\0\0\0\0", 8);
    OK(ev_image_check_layout(in_dir("i.eif"), &err) == 0, "a good one %s", err.msg);
    REFUSED("layout-entry", "an init", D("rootfs"), F("init"));
    REFUSED("layout-entry", "a look-alike", D("rootfs"), D("rootfs2"));
    REFUSED("layout-entry", "an absolute name", D("rootfs"), F("/rootfs/x"));
    REFUSED("layout-entry", "a climbing name", D("rootfs"), F("rootfs/../init"));
    REFUSED("layout-entry", "a dot", D("rootfs"), F("./rootfs/x"));
    REFUSED("layout-entry", "two slashes", D("rootfs"), F("rootfs//x"));
    REFUSED("layout-entry", "a slash at the end", D("rootfs"), D("rootfs/x/"));
    REFUSED("layout-entry", "the root itself", D("."), D("rootfs"));
    REFUSED("layout-entry", "no rootfs", D("cage"));
    REFUSED("layout-link", "rootfs as a link", L("rootfs", "/"));
    REFUSED("layout-link", "cage as a link", D("rootfs"), L("cage", "rootfs"));
    REFUSED("layout-link", "rootfs as a file", F("rootfs"));
    REFUSED("layout-link", "a link in cage", D("rootfs"), D("cage"), L("cage/config.json", "/rootfs/x"));
    REFUSED("layout-link", "a hard link in cage", D("rootfs"), D("cage"), { "cage/a", S_IFREG | 0644, 2, "x" });
    REFUSED("layout-link", "a device in cage", D("rootfs"), D("cage"), { "cage/a", S_IFCHR | 0644, 1, "" });
    REFUSED("layout-link", "a name behind a link", D("rootfs"), L("rootfs/l", "/"), F("rootfs/l/init"));
    REFUSED("layout-parent", "a name below a file", D("rootfs"), F("rootfs/l"), F("rootfs/l/init"));
    REFUSED("layout-parent", "a name before its directory", D("rootfs"), F("rootfs/l/init"));
    REFUSED("layout-duplicate", "a name twice", D("rootfs"), F("rootfs/a"), F("rootfs/a"));
    REFUSED("layout-duplicate", "rootfs twice", D("rootfs"), D("rootfs"));
    REFUSED("layout-duplicate", "a directory, then a link", D("rootfs"), D("rootfs/a"), L("rootfs/a", "/"));
    REFUSED("layout-link", "etc as a link", D("rootfs"), L("rootfs/etc", "/"));
    REFUSED("layout-link", "proc as a link", D("rootfs"), L("rootfs/proc", "/"));
    REFUSED("layout-link", "dev as a file", D("rootfs"), F("rootfs/dev"));
    refused(good, EV_COUNT(good), "x\0\0", 4, "layout-trailer", "bytes after the trailer");
    refused(good, EV_COUNT(good), "070701", 6, "layout-trailer", "a second archive");
    refused((const struct entry[]){ D("rootfs"), { "rootfs/x", 0644, 1, "" } }, 2, "", 0, "cpio-mode", "no type");
}

/* Ramdisk 1 may go through its links, but nowhere else. */
static void test_unpack_runtime(void)
{
    static const struct { const char *what; struct entry e[3]; size_t n; int rc; } t[] = {
        { "a link that climbs", { L("up", "../../../../../../../.."), F("up/tmp/ev-escaped") }, 2, -1 },
        { "an absolute link", { L("up", "/"), F("up/inside") }, 2, 0 },
        { "a file through /proc", { L("p", "/proc/self/root"), F("p/tmp/ev-escaped") }, 2, -1 },
        { "a climbing name", { F("../ev-escaped") }, 1, 0 },
        { "a replaced link", { L("x", "/etc/passwd"), F("x") }, 2, 0 },
    };

    for (size_t i = 0; i < EV_COUNT(t); i++) {
        struct ev_buf one = EV_BUF_INIT(1 << 20), two = EV_BUF_INIT(1 << 20);
        struct ev_pack_ramdisk ramdisk[2];
        struct ev_pack k = { .kernel_fd = mem_file("kernel", 6), .kernel_size = 6, .cmdline = EV_LIT("c"),
                             .metadata = EV_LIT(META), .ramdisk = ramdisk, .n_ramdisks = 2, .output = in_dir("i.eif") };
        struct ev_pcrs pcrs = {0};
        struct ev_err err = EV_ERR_INIT;
        uint64_t size;
        int root, rc;

        for (size_t j = 0; j < t[i].n; j++)
            put(&one, t[i].e[j].name, t[i].e[j].mode, t[i].e[j].nlink, t[i].e[j].body);
        MUST(ev_cpio_put_trailer(&one));
        put(&two, "rootfs", S_IFDIR | 0755, 2, "");
        MUST(ev_cpio_put_trailer(&two));
        ramdisk[0] = (struct ev_pack_ramdisk){ one.n, emit_buf, &one };
        ramdisk[1] = (struct ev_pack_ramdisk){ two.n, emit_buf, &two };
        MUST(ev_pack_write(&k, NULL, &pcrs, &size, NULL));
        clear_root();
        root = open(in_dir("root"), O_PATH | O_DIRECTORY);
        rc = ev_image_unpack(in_dir("i.eif"), root, &err);
        OK((rc < 0) == (t[i].rc < 0) && access(in_dir("ev-escaped"), F_OK) < 0 && access("/tmp/ev-escaped", F_OK) < 0,
           "%s stays inside: %s", t[i].what, err.msg);
        close(root);
        close(k.kernel_fd);
        ev_buf_fini(&one);
        ev_buf_fini(&two);
    }
}

/* As a bootloader might put them together: the kernel unpacks one after the other. */
static void test_two_archives(size_t between, bool fine)
{
    struct ev_buf one = EV_BUF_INIT(1 << 20), two = EV_BUF_INIT(1 << 20);
    const struct ev_pack_ramdisk ramdisk[] = { { 0, emit_buf, &one }, { 0, emit_buf, &two } };
    struct ev_pack_ramdisk sized[2];
    struct ev_pack k = { .kernel_fd = mem_file("kernel", 6), .kernel_size = 6, .cmdline = EV_LIT("c"),
                         .metadata = EV_LIT(META), .ramdisk = sized, .n_ramdisks = 2, .output = in_dir("i.eif") };
    struct ev_pcrs pcrs = {0};
    struct ev_err err = EV_ERR_INIT;
    uint64_t size;
    int root, rc;

    put(&one, "init", S_IFREG | 0755, 1, "old");
    MUST(ev_cpio_put_trailer(&one));
    MUST(ev_buf_zero(&one, between));
    put(&one, "init", S_IFREG | 0755, 1, "new");
    MUST(ev_cpio_put_trailer(&one));
    put(&two, "rootfs", S_IFDIR | 0755, 2, "");
    MUST(ev_cpio_put_trailer(&two));
    memcpy(sized, ramdisk, sizeof sized);
    sized[0].size = one.n;
    sized[1].size = two.n;
    MUST(ev_pack_write(&k, NULL, &pcrs, &size, NULL));
    clear_root();
    root = open(in_dir("root"), O_PATH | O_DIRECTORY);
    rc = ev_image_unpack(in_dir("i.eif"), root, &err);
    OK((rc == 0) == fine, "two archives in ramdisk 1, %zu bytes between them: %s", between, err.msg);
    ev_buf_clear(&one);
    MUST(ev_file_read(in_dir("root/init"), &one, NULL));
    EQ_STR(ev_buf_str(&one), fine ? "new" : "old", "a later entry replaces an earlier one");
    close(root);
    close(k.kernel_fd);
    ev_buf_fini(&one);
    ev_buf_fini(&two);
}

static void test_damaged_file(void)
{
    const struct entry good[] = { D("rootfs") };
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    struct ev_image_info info;
    struct ev_err err = EV_ERR_INIT;
    size_t accepted = 0;
    int root;

    make_image(good, 1, "", 0);
    MUST(ev_file_read(in_dir("i.eif"), &b, NULL));
    for (size_t n = b.n; n-- > 0;) {
        if (truncate(in_dir("i.eif"), (off_t)n) < 0)
            abort();
        accepted += ev_image_describe(in_dir("i.eif"), NULL, &info, NULL) >= 0;
    }
    EQ_INT(accepted, 0, "describe refuses every truncation");
    b.p[b.n - 200] ^= 1;
    MUST(ev_file_write(in_dir("i.eif"), ev_buf_slice(&b), 0644, NULL));
    OK(ev_image_describe(in_dir("i.eif"), NULL, &info, &err) == 0 && !info.crc_ok, "a changed byte shows in the CRC");
    ev_image_info_fini(&info);
    clear_root();
    root = open(in_dir("root"), O_PATH | O_DIRECTORY);
    OK(ev_image_unpack(in_dir("i.eif"), root, &err) < 0 && strcmp(err.reason, "eif-crc") == 0,
       "and is not unpacked: %s", err.msg);
    close(root);
    ev_buf_fini(&b);
}

/* ---- container images ---- */

static void archive(const char *name, const struct tar_entry *e, size_t n)
{
    struct ev_buf tar = EV_BUF_INIT(1 << 20);

    tar_all(&tar, e, n);
    MUST(ev_file_write(in_dir(name), ev_buf_slice(&tar), 0644, NULL));
    ev_buf_fini(&tar);
}

static struct ev_image_build plan(const char *source)
{
    return (struct ev_image_build){ .kernel = in_dir("kernel"), .cmdline = "c", .runtime = in_dir("runtime"),
                                    .source = in_dir(source), .metadata_json = META, .output = in_dir("out.eif") };
}

static void no_image(const struct tar_entry *e, size_t n, const char *reason, const char *what)
{
    struct ev_image_build b;
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;
    int rc;

    archive("c.tar", e, n);
    b = plan("c.tar");
    rc = ev_image_build(&b, NULL, &r, &err);
    OK(rc < 0 && strcmp(err.reason, reason) == 0, "%s: %s (%d %s: %s)", what, reason, rc, err.reason, err.msg);
}
#define NO_IMAGE(reason, what, ...) \
    do { const struct tar_entry e_[] = { __VA_ARGS__ }; no_image(e_, EV_COUNT(e_), reason, what); } while (0)
#define CONFIG { .name = "c.json", .data = "{\"architecture\":\"amd64\",\"config\":{}}" }
#define MANIFEST(layer) { .name = "manifest.json", .data = "[{\"Config\":\"c.json\",\"Layers\":[\"" layer "\"]}]" }

static void test_sources(void)
{
    static char empty_tar[1024];
    struct ev_image_build b;
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;

    NO_IMAGE("image-path", "a layer outside", CONFIG, MANIFEST("../../etc/passwd"));
    NO_IMAGE("image-path", "an absolute layer", CONFIG, MANIFEST("/etc/passwd"));
    NO_IMAGE("image-path", "a configuration that is no string", { .name = "manifest.json",
                                                                  .data = "[{\"Config\":1,\"Layers\":[]}]" });
    NO_IMAGE("image-archive", "a layer that is not there", CONFIG, MANIFEST("l/layer.tar"));
    NO_IMAGE("image-path", "a layer behind a link that leaves", CONFIG, MANIFEST("l"), { .name = "l", .type = '2',
                                                                                         .link = "../x" });
    NO_IMAGE("image-path", "a layer behind a loop", CONFIG, MANIFEST("l"), { .name = "l", .type = '2', .link = "l" });
    NO_IMAGE("image-path", "a member outside", { .name = "../x", .data = "x" });
    NO_IMAGE("image-archive", "two images", { .name = "manifest.json", .data = "[{},{}]" });
    NO_IMAGE("image-architecture", "another architecture", MANIFEST("l"), { .name = "l", .data = empty_tar, .n = 1024 },
             { .name = "c.json", .data = "{\"architecture\":\"arm64\"}" });
    NO_IMAGE("image-layers", "another number of layers", MANIFEST("l"), { .name = "l", .data = empty_tar, .n = 1024 },
             { .name = "c.json", .data = "{\"rootfs\":{\"diff_ids\":[]}}" });
    NO_IMAGE("image-digest", "a digest of another kind", { .name = "index.json",
                                                           .data = "{\"manifests\":[{\"digest\":\"md5:1\"}]}" });
    NO_IMAGE("image-digest", "a digest as a path",
             { .name = "index.json", .data = "{\"manifests\":[{\"digest\":"
               "\"sha256:../../../../../../../../../../../../../etc/passwd\"}]}" });
    NO_IMAGE("image-digest", "a wrong digest",
             { .name = "index.json", .data = "{\"manifests\":[{\"digest\":\"sha256:"
               "0000000000000000000000000000000000000000000000000000000000000000\"}]}" },
             { .name = "blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000", .data = "{}" });
    archive("c.tar", (const struct tar_entry[]){ CONFIG, MANIFEST("id/layer.tar"),
            { .name = "id/layer.tar", .type = '2', .link = "../other/layer.tar" },
            { .name = "other/layer.tar", .data = empty_tar, .n = 1024 } }, 4);
    b = plan("c.tar");
    OK(ev_image_build(&b, NULL, &r, &err) == 0, "a layer behind a link inside, as old dockers write it %s", err.msg);
    EQ_INT(r.files, 6, "six directories");
}

/* Modules of the kernel follow the runtime as an archive of their own. */
static void test_runtime(const char *name, size_t between, const char *body, const char *reason)
{
    struct ev_image_build b = plan("c.tar");
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;
    struct ev_buf runtime = EV_BUF_INIT(1 << 20);
    int rc;

    MUST(ev_file_read(in_dir("runtime"), &runtime, NULL));
    MUST(ev_buf_zero(&runtime, between));
    if (body) {
        put(&runtime, name, *body ? S_IFREG | 0644 : S_IFDIR | 0755, 1, body);
        MUST(ev_cpio_put_trailer(&runtime));
    } else
        MUST(ev_buf_puts(&runtime, name));
    MUST(ev_file_write(in_dir("two"), ev_buf_slice(&runtime), 0644, NULL));
    b.runtime = in_dir("two");
    rc = ev_image_build(&b, NULL, &r, &err);
    OK((rc == 0) == !reason && (!reason || strcmp(err.reason, reason) == 0), "%s after %zu bytes: %s %s", name, between,
       reason ? reason : "fine", err.msg);
    ev_buf_fini(&runtime);
}

static void test_runtimes(void)
{
    test_runtime("lib", 0, "", NULL);
    test_runtime("lib", 512, "", NULL);
    test_runtime("lib", 2, "", "cpio-trailer");
    test_runtime("rootfs", 0, "", "layout-entry");
    test_runtime("cage/config.json", 4, "x", "layout-entry");
    test_runtime("what is no archive", 0, NULL, "cpio-truncated");
}

/* 17 files of nearly 4 GiB each: an archive of 68 GiB that is almost all hole. */
static void test_total_size(void)
{
    static const uint64_t size = 0xfffffe00;
    const struct tar_entry head[] = { CONFIG, MANIFEST("l") };
    struct ev_buf tar = EV_BUF_INIT(1 << 20);
    struct ev_image_build b = plan("c.tar");
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;
    char name[16];
    uint64_t at;
    int fd = open(in_dir("c.tar"), O_RDWR | O_CREAT | O_TRUNC, 0600);

    MUST(fd);
    for (size_t i = 0; i < EV_COUNT(head); i++)
        tar_put(&tar, &head[i]);
    tar_raw(&tar, "l", '0', NULL, 0644, 0, 0, 17 * (512 + size) + 1024, 0, 0);
    MUST(ev_write_all(fd, tar.p, tar.n));
    at = tar.n;
    for (int i = 0; i < 17; i++, at += 512 + size) {
        ev_buf_clear(&tar);
        snprintf(name, sizeof name, "big%d", i);
        tar_raw(&tar, name, '0', NULL, 0644, 0, 0, size, 0, 0);
        if (pwrite(fd, tar.p, tar.n, (off_t)at) != (ssize_t)tar.n)
            abort();
    }
    MUST(ftruncate(fd, (off_t)at + 2048));
    OK(ev_image_build(&b, NULL, &r, &err) == EV_ELIMIT && strcmp(err.reason, "image-size") == 0, "68 GiB: %s", err.msg);
    close(fd);
    unlink(in_dir("c.tar"));
    ev_buf_fini(&tar);
}

/* ---- builds that end early ---- */

static size_t entries_in_dir(void)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static bool stop_at(void *ctx, const char *step, uint64_t done, uint64_t total)
{
    int *left = ctx;

    (void)step, (void)done, (void)total;
    return (*left)-- > 0;
}

static void test_early_end(void)
{
    struct ev_image_build b = plan("c.tar");
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;
    size_t before, after, cancelled = 0;
    struct ev_buf got = EV_BUF_INIT(64);

    MUST(ev_file_write(in_dir("out.eif"), EV_LIT("old"), 0644, NULL));
    before = entries_in_dir();
    for (int n = 0;; n++) {
        int left = n;
        const struct ev_image_watch w = { stop_at, &left };
        int rc = ev_image_build(&b, &w, &r, &err);

        if (rc == 0)
            break;
        cancelled += rc == EV_ECANCELLED;
        ev_buf_clear(&got);
        MUST(ev_file_read(in_dir("out.eif"), &got, NULL));
        if (strcmp(ev_buf_str(&got), "old") != 0)
            break;
        OK(n < 100, "cancelled at step %d", n);
    }
    after = entries_in_dir();
    OK(cancelled > 3 && before == after, "cancelled at each of %zu steps: the old file is there and nothing else",
       cancelled);
    b.kernel = in_dir("missing");
    EQ_INT(ev_image_build(&b, NULL, &r, &err), -ENOENT, "a missing kernel");
    b.kernel = in_dir("kernel");
    b.metadata_json = "{}";
    OK(ev_image_build(&b, NULL, &r, &err) < 0 && strcmp(err.reason, "eif-metadata") == 0, "metadata: %s", err.msg);
    b.metadata_json = META;
    b.output = in_dir("no/such/folder.eif");
    EQ_INT(ev_image_build(&b, NULL, &r, &err), -ENOENT, "an output folder that is not there");
    b.output = in_dir("root");
    EQ_INT(ev_image_build(&b, NULL, &r, &err), -EEXIST, "an output that is a folder");
    ev_buf_fini(&got);
}

/* A file system of one page, in a mount namespace of a child: exit 0 = as it should be. */
static int on_full_disk(void)
{
    struct ev_image_build b = plan("c.tar");
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;
    char path[600];

    snprintf(path, sizeof path, "%s/full.eif", in_dir("root"));
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", in_dir("root"), "tmpfs", 0, "size=64k") < 0)
        return 2;
    b.output = path;
    if (ev_image_build(&b, NULL, &r, &err) != -ENOSPC)
        return 1;
    return access(path, F_OK) == 0 ? 1 : 0;
}

static void test_full_disk(void)
{
    int status = -1;
    pid_t pid;

    fflush(stdout);
    if ((pid = fork()) == 0)
        _exit(on_full_disk());
    MUST(waitpid(pid, &status, 0));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        SKIP(1, "no rights to mount a small file system");
    else
        EQ_INT(status, 0, "a full disk is said so and leaves nothing");
}

int main(void)
{
    char template[] = "/tmp/ev-hostile-XXXXXX", cmd[300];
    static uint8_t kernel[1 << 18];
    struct ev_buf b = EV_BUF_INIT(1 << 20);

    dir = mkdtemp(template);
    if (!dir)
        return 1;
    memset(kernel, 1, sizeof kernel);
    MUST(ev_file_write(in_dir("kernel"), ev_slice_of(kernel, sizeof kernel), 0644, NULL));
    put(&b, "init", S_IFREG | 0755, 1, "init");
    MUST(ev_cpio_put_trailer(&b));
    MUST(ev_file_write(in_dir("runtime"), ev_buf_slice(&b), 0644, NULL));
    ev_buf_fini(&b);
    test_layout();
    test_unpack_runtime();
    test_two_archives(0, true);
    test_two_archives(512, true);
    test_two_archives(2, false);
    test_damaged_file();
    test_sources();
    test_runtimes();
    test_early_end();
    test_full_disk();
    test_total_size();
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd) == 0 ? tap_done() : 1;
}
