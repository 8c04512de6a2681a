/* test_cpio.c — what is written is read back; damage of every kind is refused. */
#include "codec/cpio.h"
#include "image_fixture.h"
#include "tap.h"

static void put(struct ev_buf *b, const char *name, uint32_t mode, const char *body)
{
    struct ev_cpio_entry e = { .name = name, .name_len = strlen(name), .ino = 7, .mode = mode, .uid = 1, .gid = 2,
                               .nlink = 1, .mtime = 3, .size = (uint32_t)strlen(body), .rdev_major = 4,
                               .rdev_minor = 5 };

    MUST(ev_cpio_put_head(b, &e));
    MUST(ev_buf_puts(b, body));
    MUST(ev_buf_zero(b, ev_cpio_pad(e.size)));
}

static void sample(struct ev_buf *b)
{
    put(b, "a", S_IFDIR | 0755, "");
    put(b, "a/file", S_IFREG | 0644, "hello");
    put(b, "a/link", S_IFLNK | 0777, "file");
    put(b, "null", S_IFCHR | 0666, "");
    MUST(ev_cpio_put_trailer(b));
}

/* Entries until the trailer, or the failure. */
static int count(const uint8_t *p, size_t n, struct ev_err *err)
{
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;
    int fd = mem_file(p, n), rc, entries = 0;

    ev_cpio_reader_init(&r, fd, 0, n);
    while ((rc = ev_cpio_next(&r, &e, err)) > 0)
        entries++;
    ev_cpio_reader_fini(&r);
    close(fd);
    return rc < 0 ? rc : entries;
}

static void test_read_back(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;
    char body[8] = "";
    int fd;

    MUST(ev_buf_puts(&b, "XY"));
    sample(&b);
    MUST(ev_buf_zero(&b, 510));
    fd = mem_file(b.p, b.n);
    ev_cpio_reader_init(&r, fd, 2, b.n - 2);
    OK(ev_cpio_next(&r, &e, NULL) == 1 && strcmp(e.name, "a") == 0 && S_ISDIR(e.mode), "a directory");
    OK(ev_cpio_next(&r, &e, NULL) == 1 && strcmp(e.name, "a/file") == 0 && e.size == 5 && e.uid == 1 && e.gid == 2 &&
       e.ino == 7 && e.mtime == 3 && e.dev == 0 && e.nlink == 1 && e.name_len == 6, "a file");
    OK(ev_pread_all(fd, body, 5, e.data) == 0 && strcmp(body, "hello") == 0, "its contents lie where it says");
    OK(ev_cpio_next(&r, &e, NULL) == 1 && S_ISLNK(e.mode) && e.size == 4, "a link");
    OK(ev_cpio_next(&r, &e, NULL) == 1 && S_ISCHR(e.mode) && e.rdev_major == 4 && e.rdev_minor == 5, "a device");
    EQ_INT(ev_cpio_next(&r, &e, NULL), 0, "the trailer");
    EQ_INT(ev_cpio_rest(&r, NULL), 0, "zeros follow");
    ev_cpio_reader_fini(&r);
    close(fd);
    b.p[b.n - 1] = 1;
    fd = mem_file(b.p, b.n);
    ev_cpio_reader_init(&r, fd, 2, b.n - 2);
    while (ev_cpio_next(&r, &e, NULL) > 0)
        ;
    EQ_INT(ev_cpio_rest(&r, NULL), 1, "something follows");
    EQ_INT(r.pos, b.n - 1, "and where");
    ev_cpio_reader_fini(&r);
    close(fd);
    ev_buf_fini(&b);
}

static void refuses(struct ev_buf *b, size_t at, const char *bytes, const char *reason, const char *what)
{
    struct ev_err err = EV_ERR_INIT;
    uint8_t before[16];
    size_t n = strlen(bytes);
    int rc;

    memcpy(before, b->p + at, n);
    memcpy(b->p + at, bytes, n);
    rc = count(b->p, b->n, &err);
    OK(rc < 0 && strcmp(err.reason, reason) == 0, "%s: %s (%d %s %s)", what, reason, rc, err.reason, err.msg);
    memcpy(b->p + at, before, n);
}

/* Offset of a field within a header. */
static size_t field(size_t i) { return 6 + 8 * i; }

static void test_damage(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    size_t accepted = 0, second, size;

    sample(&b);
    EQ_INT(count(b.p, b.n, NULL), 4, "the sample");
    for (size_t n = 0; n < b.n; n++)
        accepted += count(b.p, n, NULL) >= 0;
    EQ_INT(accepted, 0, "every truncation is refused");
    second = ev_cpio_head_len(1);
    size = second + field(6);
    refuses(&b, 0, "070702", "cpio-magic", "another format");
    refuses(&b, field(0), "0000000g", "cpio-header", "a digit");
    refuses(&b, field(1), "0000 1ed", "cpio-header", "a blank");
    refuses(&b, field(11), "00000001", "cpio-name", "an empty name");
    refuses(&b, field(11), "00001001", "cpio-name", "a name of 4097 bytes");
    refuses(&b, field(11), "ffffffff", "cpio-name", "a name of 4 GiB");
    refuses(&b, field(11), "00000003", "cpio-name", "a length that takes more than the name");
    refuses(&b, field(12), "00000001", "cpio-header", "a checksum");
    refuses(&b, field(6), "00000004", "cpio-size", "a directory with contents");
    refuses(&b, field(1), "000001ed", "cpio-mode", "no type");
    refuses(&b, field(1), "0000f1ed", "cpio-mode", "an unknown type");
    refuses(&b, size, "ffffffff", "cpio-truncated", "contents of 4 GiB");
    refuses(&b, size, "00000009", "cpio-magic", "contents that swallow the next header");
    refuses(&b, second + ev_cpio_head_len(6) + 8 + field(6), "00000000", "cpio-link", "a link without a target");
    ev_buf_fini(&b);
}

int main(void)
{
    test_read_back();
    test_damage();
    return tap_done();
}
