/* cpio.c — see cpio.h. */
#include "codec/cpio.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"

static const char MAGIC[] = "070701";

/* Order of the 13 numbers behind the magic. */
enum { INO, MODE, UID, GID, NLINK, MTIME, SIZE, DEV_MAJOR, DEV_MINOR, RDEV_MAJOR, RDEV_MINOR, NAMESIZE, CHECK, FIELDS };

size_t ev_cpio_head_len(size_t name_len)
{
    size_t n = EV_CPIO_HEADER + name_len + 1;

    return n + ev_cpio_pad(n);
}

int ev_cpio_put_head(struct ev_buf *out, const struct ev_cpio_entry *e)
{
    const uint32_t v[FIELDS] = {
        [INO] = e->ino, [MODE] = e->mode, [UID] = e->uid, [GID] = e->gid, [NLINK] = e->nlink, [MTIME] = e->mtime,
        [SIZE] = e->size, [RDEV_MAJOR] = e->rdev_major, [RDEV_MINOR] = e->rdev_minor,
        [NAMESIZE] = (uint32_t)e->name_len + 1,
    };
    static const char digit[] = "0123456789abcdef";
    char head[EV_CPIO_HEADER], *p = head + sizeof MAGIC - 1;
    int rc;

    if (e->name_len >= EV_CPIO_NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(head, MAGIC, sizeof MAGIC - 1);
    for (int i = 0; i < FIELDS; i++)
        for (int shift = 28; shift >= 0; shift -= 4)
            *p++ = digit[v[i] >> shift & 15];
    EV_TRY(ev_buf_put(out, head, sizeof head));
    EV_TRY(ev_buf_put(out, e->name, e->name_len));
    EV_TRY(ev_buf_zero(out, ev_cpio_head_len(e->name_len) - EV_CPIO_HEADER - e->name_len));
out:
    return rc;
}

int ev_cpio_put_trailer(struct ev_buf *out)
{
    struct ev_cpio_entry e = { .name = EV_CPIO_TRAILER, .name_len = sizeof EV_CPIO_TRAILER - 1, .nlink = 1 };

    return ev_cpio_put_head(out, &e);
}

void ev_cpio_reader_init(struct ev_cpio_reader *r, int fd, uint64_t offset, uint64_t len)
{
    *r = (struct ev_cpio_reader){ .fd = fd, .start = offset, .pos = offset, .end = offset + len };
    r->ahead = ev_alloc(EV_CPIO_AHEAD);
}

void ev_cpio_reader_fini(struct ev_cpio_reader *r)
{
    ev_free(r->ahead);
    r->ahead = NULL;
}

/* Makes n <= EV_CPIO_AHEAD bytes from r->pos readable at *p. */
static int peek(struct ev_cpio_reader *r, size_t n, const uint8_t **p, struct ev_err *err)
{
    size_t want = r->end - r->pos < EV_CPIO_AHEAD ? (size_t)(r->end - r->pos) : EV_CPIO_AHEAD;
    int rc;

    if (r->end - r->pos < n)
        return ev_fail_reason(err, EV_EPARSE, "cpio-truncated", "the archive ends without its trailer");
    if (r->pos < r->ahead_at || r->pos + n > r->ahead_at + r->ahead_n) {
        if ((rc = ev_pread_all(r->fd, r->ahead, want, r->pos)) < 0)
            return r->ahead_n = 0, ev_fail(err, rc, "reading the archive");
        r->ahead_at = r->pos;
        r->ahead_n = want;
    }
    *p = r->ahead + (r->pos - r->ahead_at);
    return 0;
}

static int hex_field(const uint8_t *p, uint32_t *out)
{
    uint32_t v = 0;

    for (int i = 0; i < 8; i++) {
        int c = p[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
                c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

        if (d < 0)
            return -1;
        v = v << 4 | (uint32_t)d;
    }
    *out = v;
    return 0;
}

static int parse_head(struct ev_cpio_entry *e, const uint8_t *p, uint32_t *namesize, struct ev_err *err)
{
    uint32_t v[FIELDS];

    if (memcmp(p, MAGIC, sizeof MAGIC - 1) != 0)
        return ev_fail_reason(err, EV_EPARSE, "cpio-magic", "not a newc header");
    for (int i = 0; i < FIELDS; i++)
        if (hex_field(p + sizeof MAGIC - 1 + 8 * i, &v[i]) < 0)
            return ev_fail_reason(err, EV_EPARSE, "cpio-header", "a header field is not hexadecimal");
    if (v[NAMESIZE] < 2 || v[NAMESIZE] > EV_CPIO_NAME_MAX)
        return ev_fail_reason(err, EV_EPARSE, "cpio-name", "a name of %u bytes", v[NAMESIZE]);
    if (v[CHECK] != 0)
        return ev_fail_reason(err, EV_EPARSE, "cpio-header", "a checksum where there is none");
    *e = (struct ev_cpio_entry){
        .ino = v[INO], .mode = v[MODE], .uid = v[UID], .gid = v[GID], .nlink = v[NLINK], .mtime = v[MTIME],
        .dev = (uint64_t)v[DEV_MAJOR] << 32 | v[DEV_MINOR], .size = v[SIZE], .rdev_major = v[RDEV_MAJOR],
            .rdev_minor = v[RDEV_MINOR],
    };
    *namesize = v[NAMESIZE];
    return 0;
}

/* Contents only where the kernel looks at them; a link's target is a path. */
static int check_kind(const struct ev_cpio_entry *e, struct ev_err *err)
{
    switch (e->mode & S_IFMT) {
    case S_IFREG:
        return 0;
    case S_IFLNK:
        if (e->size == 0 || e->size >= EV_CPIO_NAME_MAX)
            return ev_fail_reason(err, EV_EPARSE, "cpio-link", "%s: a link target of %u bytes", e->name, e->size);
        return 0;
    case S_IFDIR: case S_IFCHR: case S_IFBLK: case S_IFIFO: case S_IFSOCK:
        if (e->size != 0)
            return ev_fail_reason(err, EV_EPARSE, "cpio-size", "%s: contents in something that has none", e->name);
        return 0;
    }
    return ev_fail_reason(err, EV_EPARSE, "cpio-mode", "%s: unknown type %o", e->name, e->mode);
}

int ev_cpio_next(struct ev_cpio_reader *r, struct ev_cpio_entry *e, struct ev_err *err)
{
    const uint8_t *p;
    uint32_t namesize = 0;
    size_t head;
    int rc;

    EV_TRY(peek(r, EV_CPIO_HEADER, &p, err));
    EV_TRY(parse_head(e, p, &namesize, err));
    head = ev_cpio_head_len(namesize - 1);
    EV_TRY(peek(r, head, &p, err));
    memcpy(r->name, p + EV_CPIO_HEADER, namesize);
    if (memchr(r->name, '\0', namesize) != r->name + namesize - 1)
        return ev_fail_reason(err, EV_EPARSE, "cpio-name", "a name that does not end where its length says");
    e->name = r->name;
    e->name_len = namesize - 1;
    r->pos += head;
    e->data = r->pos;
    if (strcmp(r->name, EV_CPIO_TRAILER) == 0)
        return e->size ? ev_fail_reason(err, EV_EPARSE, "cpio-size", "a trailer with contents") : 0;
    EV_TRY(check_kind(e, err));
    if (r->end - r->pos < (uint64_t)e->size + ev_cpio_pad(e->size))
        return ev_fail_reason(err, EV_EPARSE, "cpio-truncated", "%s: the contents do not end within the archive",
                              r->name);
    r->pos += (uint64_t)e->size + ev_cpio_pad(e->size);
    return 1;
out:
    return rc;
}

int ev_cpio_rest(struct ev_cpio_reader *r, struct ev_err *err)
{
    const uint8_t *p;

    while (r->pos < r->end) {
        uint64_t left = r->ahead_at + r->ahead_n - r->pos;
        size_t n = r->pos >= r->ahead_at && r->pos < r->ahead_at + r->ahead_n ? (size_t)left
                 : r->end - r->pos < EV_CPIO_AHEAD ? (size_t)(r->end - r->pos) : EV_CPIO_AHEAD;
        int rc = peek(r, n, &p, err);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < n; i++)
            if (p[i]) {
                r->pos += i;
                return 1;
            }
        r->pos += n;
    }
    return 0;
}
