/* image_fixture.h — makes tar archives and images for tests, in memory and in a temporary folder. */
#ifndef TESTS_IMAGE_FIXTURE_H
#define TESTS_IMAGE_FIXTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "codec/text.h"
#include "crypto/digest.h"

#define MUST(expr)                                                            \
    do {                                                                      \
        if ((expr) < 0) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expr);        \
            abort();                                                          \
        }                                                                     \
    } while (0)

/* dir/name; good for the next 63 calls. */
__attribute__((unused)) static const char *fixture_path(const char *dir, const char *name)
{
    static char path[64][512];
    static int turn;

    turn = (turn + 1) % 64;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* One ustar header; `type` '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' dir, '6' fifo. */
struct tar_entry {
    const char *name, *link, *data;
    char type;
    unsigned mode, uid, gid, major, minor;
    size_t n;                                   /* of data; 0 = strlen */
};

__attribute__((unused)) static void tar_octal(char *field, size_t n, unsigned long long v)
{
    if (n == 12 && v >= 8ull << 30) {               /* GNU: binary, marked by its first bit */
        memset(field, 0, n);
        field[0] = (char)0x80;
        for (int i = 0; i < 8; i++)
            field[11 - i] = (char)(v >> (8 * i));
        return;
    }
    for (field[--n] = '\0'; n-- > 0; v >>= 3)
        field[n] = (char)('0' + (v & 7));
}

__attribute__((unused)) static void tar_raw(struct ev_buf *b, const char *name, char type, const char *link,
                                            unsigned mode,
                                            unsigned uid, unsigned gid, unsigned long long size, unsigned major,
                                            unsigned minor)
{
    char h[512] = {0};
    unsigned sum = 0;

    memcpy(h, name, strlen(name) < 100 ? strlen(name) : 100);
    tar_octal(h + 100, 8, mode);
    tar_octal(h + 108, 8, uid);
    tar_octal(h + 116, 8, gid);
    tar_octal(h + 124, 12, size);
    tar_octal(h + 136, 12, 1700000000);
    memset(h + 148, ' ', 8);
    h[156] = type;
    if (link)
        memcpy(h + 157, link, strlen(link) < 100 ? strlen(link) : 100);
    memcpy(h + 257, "ustar\0" "00", 8);
    tar_octal(h + 329, 8, major);
    tar_octal(h + 337, 8, minor);
    for (size_t i = 0; i < sizeof h; i++)
        sum += (unsigned char)h[i];
    tar_octal(h + 148, 7, sum);
    MUST(ev_buf_put(b, h, sizeof h));
}

__attribute__((unused)) static void tar_body(struct ev_buf *b, const void *p, size_t n)
{
    MUST(ev_buf_put(b, p, n));
    MUST(ev_buf_zero(b, (size_t)(-n & 511)));
}

__attribute__((unused)) static void tar_put(struct ev_buf *b, const struct tar_entry *e)
{
    size_t n = e->n ? e->n : e->data ? strlen(e->data) : 0;
    char type = e->type ? e->type : '0';

    tar_raw(b, e->name, type, e->link, e->mode ? e->mode : type == '5' ? 0755 : 0644, e->uid, e->gid, n, e->major,
            e->minor);
    if (n)
        tar_body(b, e->data, n);
}

/* A pax header "key=value" before the next entry. */
__attribute__((unused)) static void tar_pax(struct ev_buf *b, const char *key, const void *value, size_t n)
{
    char head[128];
    struct ev_buf r = EV_BUF_INIT(65536);
    size_t len = strlen(key) + n + 3, digits = 1;

    for (size_t total = len + 1; snprintf(head, sizeof head, "%zu", total) != (int)digits;)
        digits++, total = len + digits;
    snprintf(head, sizeof head, "%zu %s=", len + digits, key);
    MUST(ev_buf_puts(&r, head));
    MUST(ev_buf_put(&r, value, n));
    MUST(ev_buf_putc(&r, '\n'));
    tar_raw(b, "PaxHeaders/x", 'x', NULL, 0644, 0, 0, r.n, 0, 0);
    tar_body(b, r.p, r.n);
    ev_buf_fini(&r);
}

__attribute__((unused)) static void tar_end(struct ev_buf *b)
{
    MUST(ev_buf_zero(b, 1024));
}

__attribute__((unused)) static void tar_all(struct ev_buf *b, const struct tar_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tar_put(b, &e[i]);
    tar_end(b);
}

__attribute__((unused)) static int mem_file(const void *p, size_t n)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    MUST(fd);
    MUST(ev_write_all(fd, p, n));
    return fd;
}

__attribute__((unused)) static char *sha256_hex(ev_slice s)
{
    struct ev_buf b = EV_BUF_INIT(128);
    uint8_t d[EV_DIGEST_MAX];
    char *hex;

    ev_digest_once(EV_SHA256, s, d);
    MUST(ev_hex_put(&b, ev_slice_of(d, 32)));
    hex = ev_strdup(ev_buf_str(&b));
    ev_buf_fini(&b);
    return hex;
}

/* A `docker save` archive (new form) of these layers, written to `path`. */
__attribute__((unused)) static void docker_save(const char *path, const struct ev_buf *layer, size_t n, const char *run)
{
    struct ev_buf tar = EV_BUF_INIT(1 << 30), config = EV_BUF_INIT(1 << 20), manifest = EV_BUF_INIT(1 << 20);

    MUST(ev_buf_printf(&config, "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":%s,"
                       "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[", run));
    MUST(ev_buf_puts(&manifest, "[{\"Config\":\"config.json\",\"RepoTags\":[\"t:1\"],\"Layers\":["));
    for (size_t i = 0; i < n; i++) {
        char *hex = sha256_hex(ev_buf_slice(&layer[i])), name[128];

        snprintf(name, sizeof name, "blobs/sha256/%s", hex);
        MUST(ev_buf_printf(&config, "%s\"sha256:%s\"", i ? "," : "", hex));
        MUST(ev_buf_printf(&manifest, "%s\"%s\"", i ? "," : "", name));
        tar_raw(&tar, name, '0', NULL, 0644, 0, 0, layer[i].n, 0, 0);
        tar_body(&tar, layer[i].p, layer[i].n);
        ev_free(hex);
    }
    MUST(ev_buf_puts(&config, "]}}"));
    MUST(ev_buf_puts(&manifest, "]}]"));
    tar_put(&tar, &(struct tar_entry){ .name = "config.json", .data = ev_buf_str(&config) });
    tar_put(&tar, &(struct tar_entry){ .name = "manifest.json", .data = ev_buf_str(&manifest) });
    tar_end(&tar);
    MUST(ev_file_write(path, ev_buf_slice(&tar), 0644, NULL));
    ev_buf_fini(&tar);
    ev_buf_fini(&config);
    ev_buf_fini(&manifest);
}

#endif
