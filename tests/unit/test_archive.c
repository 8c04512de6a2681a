/* test_archive.c — headers without contents, offsets, expansion, damage. */
#include "codec/archive.h"
#include "image_fixture.h"
#include "tap.h"

struct seen {
    struct ev_buf text;
    int fd, limit;
};

/* "path size first-bytes;" with the bytes read from where the entry says. */
static int note(void *ctx, const struct ev_archive_entry *e, struct ev_err *err)
{
    struct seen *s = ctx;
    char bytes[9] = "";

    if (s->limit-- == 0)
        return ev_fail(err, EV_ECANCELLED, "enough");
    if (e->size > 0)
        MUST(ev_pread_all(s->fd, bytes, e->size < 8 ? (size_t)e->size : 8, e->data));
    MUST(ev_buf_printf(&s->text, "%s %llu %s;", e->path, (unsigned long long)e->size, bytes));
    return 0;
}

static int walk(const void *p, size_t n, uint64_t offset, uint64_t len, struct seen *s, struct ev_err *err)
{
    struct ev_region r;
    int rc;

    *s = (struct seen){ .text = EV_BUF_INIT(1 << 20), .fd = mem_file(p, n), .limit = -1 };
    r = (struct ev_region){ s->fd, offset, len };
    rc = ev_archive_walk(&r, note, s, err);
    close(s->fd);
    return rc;
}

static void sample(struct ev_buf *b)
{
    static char big[100000];

    memset(big, 'z', sizeof big);
    memcpy(big, "bigfile!", 8);
    tar_put(b, &(struct tar_entry){ .name = "a", .data = "alpha" });
    tar_put(b, &(struct tar_entry){ .name = "big", .data = big, .n = sizeof big });
    tar_pax(b, "path", "long/name", 9);
    tar_put(b, &(struct tar_entry){ .name = "x", .data = "pax" });
    tar_put(b, &(struct tar_entry){ .name = "d/", .type = '5' });
    tar_end(b);
}

static void test_walk(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    struct seen s;
    size_t whole, silent = 0;

    MUST(ev_buf_zero(&b, 1000));
    sample(&b);
    whole = b.n;
    MUST(ev_buf_puts(&b, "what follows is not of this region"));
    OK(walk(b.p, b.n, 1000, whole - 1000, &s, &err) == 0, "an archive within a file %s", err.msg);
    EQ_STR(ev_buf_str(&s.text), "a 5 alpha;big 100000 bigfile!;long/name 3 pax;d/ 0 ;", "names, sizes, offsets");
    ev_buf_fini(&s.text);
    OK(walk("", 0, 0, 0, &s, &err) == 0 && s.text.n == 0, "an empty one");
    ev_buf_fini(&s.text);
    for (size_t n = 1; n < 105000; n += n < 2000 ? 1 : 509) {
        struct ev_err why = EV_ERR_INIT;
        int rc = walk(b.p, b.n, 1000, n, &s, &why);

        /* Without an end marker a cut between two entries cannot be told from an end. */
        silent += rc == 0 && n % 512 != 0 && n > 512;
        silent += rc < 0 && !why.msg[0];
        ev_buf_fini(&s.text);
    }
    EQ_INT(silent, 0, "a cut within an entry is never silent");
    b.p[1000] ^= 1;
    OK(walk(b.p, b.n, 1000, whole - 1000, &s, &err) == EV_EPARSE && strcmp(err.reason, "tar-damaged") == 0,
       "a wrong checksum: %s", err.msg);
    ev_buf_fini(&s.text);
    OK(walk("this is no archive at all, but long enough to be one", 52, 0, 52, &s, &err) == EV_EPARSE, "%s", err.msg);
    ev_buf_fini(&s.text);
    ev_buf_fini(&b);
}

/* As GNU tar writes them. */
static void test_sparse(void)
{
    static const char pax[] = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=holes\n"
                              "29 GNU.sparse.realsize=10000\n";
    struct ev_buf b = EV_BUF_INIT(1 << 20);
    struct ev_err err = EV_ERR_INIT;
    struct seen s;

    tar_raw(&b, "PaxHeaders/x", 'x', NULL, 0644, 0, 0, sizeof pax - 1, 0, 0);
    tar_body(&b, pax, sizeof pax - 1);
    tar_raw(&b, "GNUSparseFile.0/holes", '0', NULL, 0644, 0, 0, 1024, 0, 0);
    tar_body(&b, "1\n4096\n512\n", 11);
    MUST(ev_buf_zero(&b, 512));
    tar_end(&b);
    OK(walk(b.p, b.n, 0, b.n, &s, &err) == EV_EUNSUPPORTED && strcmp(err.reason, "tar-sparse") == 0, "sparse: %s",
       err.msg);
    ev_buf_fini(&s.text);
    ev_buf_fini(&b);
}

struct count { size_t in, out; int left; };

static void count_in(void *ctx, const void *p, size_t n)
{
    (void)p;
    ((struct count *)ctx)->in += n;
}

static int count_out(void *ctx, const void *p, size_t n)
{
    struct count *c = ctx;

    (void)p;
    c->out += n;
    return c->left-- == 0 ? EV_ECANCELLED : 0;
}

static int expand(const uint8_t *p, size_t n, uint64_t max, struct count *c, struct ev_buf *out, struct ev_err *err)
{
    const struct ev_archive_expand how = { .max = max, .in = count_in, .out = count_out, .ctx = c };
    struct ev_region in = { mem_file(p, n), 0, n }, r;
    int rc = ev_archive_expand(&in, ev_archive_filter(&in), &how, &r, err);

    if (rc >= 0) {
        MUST(lseek(r.fd, 0, SEEK_SET));
        MUST(ev_file_read_fd(r.fd, out, NULL));
        close(r.fd);
    }
    close(in.fd);
    return rc;
}

static void test_expand(void)
{
    static const char *const tool[] = { "gzip -c", "zstd -qc", "xz -c" };
    char path[] = "/tmp/ev-expand-XXXXXX", cmd[256];
    struct ev_buf plain = EV_BUF_INIT(1 << 20), packed = EV_BUF_INIT(1 << 20), got = EV_BUF_INIT(1 << 20);
    int fd = mkstemp(path);

    sample(&plain);
    MUST(fd);
    MUST(ev_write_all(fd, plain.p, plain.n));
    for (size_t i = 0; i < EV_COUNT(tool); i++) {
        struct count c = { 0, 0, -1 };
        struct ev_err err = EV_ERR_INIT;
        FILE *f;
        size_t accepted = 0;

        snprintf(cmd, sizeof cmd, "%s %s", tool[i], path);
        ev_buf_clear(&packed);
        ev_buf_clear(&got);
        if (!(f = popen(cmd, "r")))
            abort();
        MUST(ev_file_read_fd(fileno(f), &packed, NULL));
        pclose(f);
        OK(expand(packed.p, packed.n, 1 << 20, &c, &got, &err) == 0 && ev_slice_eq(ev_buf_slice(&got),
                                                                                   ev_buf_slice(&plain)) &&
           c.in == packed.n && c.out == plain.n, "%s %s", tool[i], err.msg);
        OK(expand(packed.p, packed.n, plain.n - 1, &c, &got, &err) == EV_ELIMIT, "%s: a limit: %s", tool[i], err.msg);
        c.left = 0;
        OK(expand(packed.p, packed.n, 1 << 20, &c, &got, &err) == EV_ECANCELLED, "%s: cancelled", tool[i]);
        c.left = -1;
        for (size_t n = 12; n + 12 < packed.n; n += 5)
            accepted += expand(packed.p, n, 1 << 20, &c, &got, NULL) >= 0 && c.out == plain.n;
        EQ_INT(accepted, 0, "truncated streams do not expand to the whole");
    }
    close(fd);
    unlink(path);
    ev_buf_fini(&plain);
    ev_buf_fini(&packed);
    ev_buf_fini(&got);
}

int main(void)
{
    test_walk();
    test_sparse();
    test_expand();
    return tap_done();
}
