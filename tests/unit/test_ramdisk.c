/* test_ramdisk.c — archives written from files of this machine: order, padding, what is refused; and one
 * behind another, as the kernel unpacks them. */
#include "nitro/ramdisk.h"

#include "tap.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/cpio.h"

static char dir[] = "/tmp/ev-ramdisk-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[64][200];               /* callers keep a few */
    static unsigned turn;
    char *p = path[turn++ % 64];

    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

static void file(const char *name, const char *text)
{
    if (ev_file_write(in_dir(name), ev_slice_str(text), 0644, NULL) < 0)
        perror(name);
}

static void load(const char *name, struct ev_buf *out)
{
    ev_buf_clear(out);
    if (ev_file_read(in_dir(name), out, NULL) < 0)
        perror(name);
}

/* "lib lib/a=3" of every archive, archives parted by "|". */
static void names(const char *name, char *out, size_t size)
{
    struct ev_buf bytes = EV_BUF_INIT(1 << 20);
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;
    size_t n = 0;
    int rc = 1;
    FILE *f = fopen(in_dir(name), "r");

    load(name, &bytes);
    out[0] = '\0';
    ev_cpio_reader_init(&r, fileno(f), 0, bytes.n);
    while (rc > 0) {
        while ((rc = ev_cpio_next(&r, &e, NULL)) > 0)
            n += (size_t)snprintf(out + n, size - n, "%s=%u ", e.name, e.size);
        if (rc == 0 && (rc = ev_cpio_rest(&r, NULL)) > 0)
            n += (size_t)snprintf(out + n, size - n, "| ");
    }
    if (rc < 0)
        snprintf(out + n, size - n, "broken");
    ev_cpio_reader_fini(&r);
    fclose(f);
    ev_buf_fini(&bytes);
}

static void test_write(void)
{
    const struct ev_ramdisk_entry e[] = { { "lib/b", S_IFREG | 0644, in_dir("b") }, { "lib", S_IFDIR | 0755, NULL },
                                          { "init", S_IFREG | 0755, in_dir("a") } };
    const struct ev_ramdisk_entry other[] = { e[2], e[0], e[1] };
    struct ev_buf one = EV_BUF_INIT(1 << 20), two = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    char got[200];

    OK(ev_ramdisk_write(in_dir("1"), e, 3, &err) == 0, "written: %s", err.msg);
    OK(ev_ramdisk_write(in_dir("2"), other, 3, &err) == 0, "in another order: %s", err.msg);
    load("1", &one);
    load("2", &two);
    OK(one.n == two.n && memcmp(one.p, two.p, one.n) == 0, "the same bytes");
    OK(one.n % 4 == 0, "a multiple of 4");
    names("1", got, sizeof(got));
    EQ_STR(got, "init=1 lib=0 lib/b=5 ", "sorted");
    ev_buf_fini(&one);
    ev_buf_fini(&two);
}

static void test_append(void)
{
    const struct ev_ramdisk_entry e[] = { { "lib", S_IFDIR | 0755, NULL },
                                          { "lib/m.ko", S_IFREG | 0644, in_dir("b") } };
    struct ev_buf one = EV_BUF_INIT(1 << 20), two = EV_BUF_INIT(1 << 20), three = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    char got[200];

    OK(ev_ramdisk_append(in_dir("2"), in_dir("1"), e, 2, &err) == 0, "one behind another: %s", err.msg);
    names("2", got, sizeof(got));
    EQ_STR(got, "init=1 lib=0 lib/b=5 | lib=0 lib/m.ko=5 ", "two archives");
    load("1", &one);
    load("2", &two);
    OK(two.n % 4 == 0 && two.n > one.n && memcmp(two.p, one.p, one.n) == 0, "the first one as it was");
    ev_buf_clear(&one);
    OK(ev_buf_put(&one, two.p, two.n) == 0 && ev_buf_zero(&one, 2) == 0, "a base that ends anywhere");
    if (ev_file_write(in_dir("odd"), ev_buf_slice(&one), 0644, NULL) < 0)
        return;
    OK(ev_ramdisk_append(in_dir("3"), in_dir("odd"), e, 2, &err) == 0, "is taken: %s", err.msg);
    names("3", got, sizeof(got));
    EQ_STR(got, "init=1 lib=0 lib/b=5 | lib=0 lib/m.ko=5 | lib=0 lib/m.ko=5 ", "and what follows it is aligned");
    load("3", &three);
    OK(three.n % 4 == 0, "a multiple of 4 again");
    OK(ev_ramdisk_append(in_dir("3"), in_dir("none"), e, 2, &err) == -ENOENT, "no base: %s", err.msg);
    load("3", &one);
    OK(one.n == three.n, "and the file is as it was");
    ev_buf_fini(&one);
    ev_buf_fini(&two);
    ev_buf_fini(&three);
}

static void refused(const struct ev_ramdisk_entry *e, size_t n, int code, const char *what)
{
    struct ev_err err = EV_ERR_INIT;

    OK(ev_ramdisk_write(in_dir("bad"), e, n, &err) == code && access(in_dir("bad"), F_OK) < 0, "%s: %s", what, err.msg);
}

static void test_refusals(void)
{
    const struct ev_ramdisk_entry lib = { "lib", S_IFDIR | 0755, NULL }, a = { "a", S_IFREG | 0644, in_dir("a") };

    refused((const struct ev_ramdisk_entry[]){ a, a }, 2, EV_EPARSE, "a name twice");
    refused((const struct ev_ramdisk_entry[]){ { "lib/a", a.mode, a.path } }, 1, EV_EPARSE, "no folder");
    refused((const struct ev_ramdisk_entry[]){ { "lib", a.mode, a.path }, { "lib/a", a.mode, a.path } }, 2, EV_EPARSE,
            "below a file");
    refused((const struct ev_ramdisk_entry[]){ lib, { "l", S_IFLNK | 0777, a.path } }, 2, EV_EPARSE, "a link");
    refused((const struct ev_ramdisk_entry[]){ { "x", a.mode, in_dir("none") } }, 1, -ENOENT, "no such file");
}

int main(void)
{
    char cmd[200];

    if (!mkdtemp(dir))
        return 1;
    file("a", "a");
    file("b", "bbbbb");
    test_write();
    test_append();
    test_refusals();
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    return system(cmd) == 0 ? tap_done() : 1;
}
