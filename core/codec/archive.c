/* archive.c — see archive.h.
 *
 * libarchive's tar reader asks for bytes and skips through the callbacks below, so a file of
 * gigabytes costs one header block. After each header, the count of bytes that the innermost
 * filter has handed out is the offset of the contents.
 *
 * libarchive converts names of pax headers (UTF-8) to the locale's character set; walking under
 * C.UTF-8, for this thread only, makes that the identity whatever the process runs in. */
#include "codec/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum { WALK_STEP = 32768, EXPAND_STEP = 1 << 20 };

/* Functions of libarchive that we call. */
#define FUNCTIONS(X)                                                                              \
    X(archive_read_new) X(archive_read_free) X(archive_read_support_format_tar)                   \
    X(archive_read_support_format_raw) X(archive_read_support_filter_gzip)                        \
    X(archive_read_support_filter_zstd) X(archive_read_support_filter_xz)                         \
    X(archive_read_set_callback_data) X(archive_read_set_read_callback)                           \
    X(archive_read_set_skip_callback) X(archive_read_open1) X(archive_read_next_header)           \
    X(archive_read_data_block) X(archive_filter_bytes) X(archive_error_string)                    \
    X(archive_entry_pathname) X(archive_entry_hardlink) X(archive_entry_symlink)                  \
    X(archive_entry_mode) X(archive_entry_uid) X(archive_entry_gid) X(archive_entry_size)         \
    X(archive_entry_rdevmajor) X(archive_entry_rdevminor) X(archive_entry_sparse_count)           \
    X(archive_entry_xattr_reset) X(archive_entry_xattr_next)

static struct {
#define X(name) __typeof__(&name) name;
    FUNCTIONS(X)
#undef X
} lib;
static bool lib_ok;
static char lib_error[256];
static pthread_once_t lib_once = PTHREAD_ONCE_INIT;

static void lib_load(void)
{
    void *so = dlopen("libarchive.so.13", RTLD_NOW | RTLD_LOCAL);
    const char *why;

    if (!so) {
        why = dlerror();
        snprintf(lib_error, sizeof lib_error, "%s", why ? why : "not found");
        return;
    }
    lib_ok = true;
#define X(name)                                                                                   \
    *(void **)(void *)&lib.name = dlsym(so, #name);                                               \
    if (!lib.name) {                                                                              \
        lib_ok = false;                                                                           \
        snprintf(lib_error, sizeof lib_error, "it lacks %s", #name);                              \
    }
    FUNCTIONS(X)
#undef X
}

static int lib_open(struct ev_err *err)
{
    pthread_once(&lib_once, lib_load);
    return lib_ok ? 0 : ev_fail(err, EV_EMISSING, "libarchive is needed to read container images: %s", lib_error);
}

enum ev_archive_filter ev_archive_filter(const struct ev_region *r)
{
    uint8_t b[6] = {0};

    if (r->len < sizeof b || ev_pread_all(r->fd, b, sizeof b, r->offset) < 0)
        return EV_FILTER_NONE;
    if (b[0] == 0x1f && b[1] == 0x8b)
        return EV_FILTER_GZIP;
    if (b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd)
        return EV_FILTER_ZSTD;
    return memcmp(b, "\xfd" "7zXZ", 6) == 0 ? EV_FILTER_XZ : EV_FILTER_NONE;
}

const char *ev_archive_filter_name(enum ev_archive_filter f)
{
    static const char *const name[] = { "none", "gzip", "zstd", "xz" };

    return name[f];
}

/* What libarchive reads from. */
struct source {
    const struct ev_region *region;
    uint64_t pos;                               /* within the region */
    void (*tap)(void *ctx, const void *p, size_t n);
    void *ctx;
    int error;                                  /* -errno of a failed read */
    size_t step;
    uint8_t *block;
};

static la_ssize_t source_read(struct archive *a, void *ctx, const void **p)
{
    struct source *s = ctx;
    uint64_t left = s->region->len - s->pos;
    size_t n = left < s->step ? (size_t)left : s->step;

    (void)a;
    if (n > 0 && (s->error = ev_pread_all(s->region->fd, s->block, n, s->region->offset + s->pos)) < 0)
        return -1;
    if (s->tap && n > 0)
        s->tap(s->ctx, s->block, n);
    s->pos += n;
    *p = s->block;
    return (la_ssize_t)n;
}

static la_int64_t source_skip(struct archive *a, void *ctx, la_int64_t n)
{
    struct source *s = ctx;
    uint64_t left = s->region->len - s->pos;

    (void)a;
    if (n < 0)
        return 0;
    if ((uint64_t)n > left)
        n = (la_int64_t)left;
    s->pos += (uint64_t)n;
    return n;
}

static int reader_fail(struct archive *a, const struct source *s, const char *what, struct ev_err *err)
{
    const char *text = lib.archive_error_string(a);

    if (s->error < 0)
        return ev_fail(err, s->error, "%s: %s", what, ev_err_text(s->error));
    return ev_fail_reason(err, EV_EPARSE, "tar-damaged", "%s: %s", what, text ? text : "malformed");
}

static int reader_open(struct archive *a, struct source *s, bool skip, struct ev_err *err)
{
    lib.archive_read_set_callback_data(a, s);
    lib.archive_read_set_read_callback(a, source_read);
    if (skip)
        lib.archive_read_set_skip_callback(a, source_skip);
    return lib.archive_read_open1(a) == ARCHIVE_OK ? 0 : reader_fail(a, s, "open", err);
}

static ev_slice capability_of(struct archive_entry *e)
{
    const char *name;
    const void *value;
    size_t n;

    lib.archive_entry_xattr_reset(e);
    while (lib.archive_entry_xattr_next(e, &name, &value, &n) == ARCHIVE_OK)
        if (name && strcmp(name, "security.capability") == 0)
            return ev_slice_of(value, n);
    return (ev_slice){0};
}

/* A number that tar may give as anything in 64 bits; ids and sizes below zero are damage. */
static int convert(struct archive *a, const struct source *s, struct archive_entry *e, struct ev_archive_entry *out,
                   struct ev_err *err)
{
    la_int64_t uid = lib.archive_entry_uid(e), gid = lib.archive_entry_gid(e), size = lib.archive_entry_size(e);
    uint64_t at = (uint64_t)lib.archive_filter_bytes(a, 0);

    *out = (struct ev_archive_entry){
        .path = lib.archive_entry_pathname(e), .hardlink = lib.archive_entry_hardlink(e),
        .symlink = lib.archive_entry_symlink(e), .mode = lib.archive_entry_mode(e),
        .rdev_major = (uint32_t)lib.archive_entry_rdevmajor(e), .rdev_minor = (uint32_t)lib.archive_entry_rdevminor(e),
        .capability = capability_of(e), .uid = (uint64_t)uid, .gid = (uint64_t)gid, .size = (uint64_t)size,
        .data = s->region->offset + at,
    };
    if (!out->path || !*out->path)
        return ev_fail_reason(err, EV_EPARSE, "tar-damaged", "an entry without a readable name");
    if (uid < 0 || gid < 0 || size < 0)
        return ev_fail_reason(err, EV_EPARSE, "tar-damaged", "%s: a negative owner or size", out->path);
    if (out->hardlink || !S_ISREG(out->mode))
        out->size = 0;
    if (out->hardlink)
        out->mode &= 07777;
    if (out->size > 0 && lib.archive_entry_sparse_count(e) > 0)
        return ev_fail_reason(err, EV_EUNSUPPORTED, "tar-sparse", "%s is stored as a sparse file; write the archive "
                              "without sparse entries", out->path);
    if (at > s->region->len || out->size > s->region->len - at)
        return ev_fail_reason(err, EV_EPARSE, "tar-truncated", "%s: the archive ends within its contents", out->path);
    return 0;
}

/* libarchive warns where it goes on with something else than what the header says, and a name taken
 * from elsewhere is the wrong file. Only names of owners may be wrong: nobody uses them. */
static bool is_harmless(struct archive *a)
{
    const char *text = lib.archive_error_string(a);

    return text && (strncmp(text, "Uname ", 6) == 0 || strncmp(text, "Gname ", 6) == 0);
}

static int walk(struct archive *a, struct source *s, ev_archive_fn *each, void *ctx, struct ev_err *err)
{
    struct ev_archive_entry entry;
    struct archive_entry *e;
    int rc;

    EV_TRY(reader_open(a, s, true, err));
    for (;;) {
        rc = lib.archive_read_next_header(a, &e);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc != ARCHIVE_OK && !(rc == ARCHIVE_WARN && is_harmless(a)))
            return reader_fail(a, s, "tar", err);
        EV_TRY(convert(a, s, e, &entry, err));
        EV_TRY(each(ctx, &entry, err));
    }
out:
    return rc;
}

int ev_archive_walk(const struct ev_region *tar, ev_archive_fn *each, void *ctx, struct ev_err *err)
{
    struct source s = { .region = tar, .step = WALK_STEP };
    locale_t utf8, before;
    struct archive *a;
    int rc;

    if (tar->len == 0)
        return 0;
    if ((rc = lib_open(err)) < 0)
        return rc;
    if (!(a = lib.archive_read_new()))
        return ev_fail(err, -ENOMEM, "libarchive");
    utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    before = utf8 ? uselocale(utf8) : (locale_t)0;
    s.block = ev_alloc(s.step);
    lib.archive_read_support_format_tar(a);
    rc = walk(a, &s, each, ctx, err);
    lib.archive_read_free(a);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    ev_free(s.block);
    return rc;
}

static int temp_in(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *path;

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd >= 0 ? fd : -errno;
    path = ev_asprintf("%s/ev-cage-XXXXXX", dir);
    if ((fd = mkostemp(path, O_CLOEXEC)) >= 0)
        unlink(path);
    else
        fd = -errno;
    ev_free(path);
    return fd;
}

int ev_archive_temp(void)
{
    const char *dir = getenv("TMPDIR");
    int fd;

    if (dir && *dir)
        return temp_in(dir);
    fd = temp_in("/var/tmp");                   /* layers are large: not where memory may back the files */
    return fd >= 0 ? fd : temp_in("/tmp");
}

static int support(struct archive *a, enum ev_archive_filter f, struct ev_err *err)
{
    int rc = f == EV_FILTER_GZIP ? lib.archive_read_support_filter_gzip(a)
           : f == EV_FILTER_ZSTD ? lib.archive_read_support_filter_zstd(a)
           : f == EV_FILTER_XZ ? lib.archive_read_support_filter_xz(a) : ARCHIVE_OK;

    lib.archive_read_support_format_raw(a);
    return rc == ARCHIVE_OK ? 0 : ev_fail(err, EV_EMISSING, "this libarchive cannot expand %s",
                                          ev_archive_filter_name(f));
}

static int expand(struct archive *a, struct source *s, const struct ev_archive_expand *how, int fd, uint64_t *len,
                  struct ev_err *err)
{
    struct archive_entry *e;
    const void *p;
    la_int64_t at;
    size_t n;
    int rc;

    EV_TRY(reader_open(a, s, false, err));
    rc = lib.archive_read_next_header(a, &e);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc != ARCHIVE_OK)
        return reader_fail(a, s, "expand", err);
    while ((rc = lib.archive_read_data_block(a, &p, &n, &at)) == ARCHIVE_OK) {
        if (n > how->max - *len)
            return ev_fail_reason(err, EV_ELIMIT, "image-size", "expands to more than %llu bytes",
                                  (unsigned long long)how->max);
        if ((rc = ev_write_all(fd, p, n)) < 0)
            return ev_fail(err, rc, "write a temporary file: %s", ev_err_text(rc));
        if (how->out && (rc = how->out(how->ctx, p, n)) < 0)
            return ev_fail(err, rc, "%s", ev_err_text(rc));
        *len += n;
    }
    return rc == ARCHIVE_EOF ? 0 : reader_fail(a, s, "expand", err);
out:
    return rc;
}

/* Bytes behind the compressed stream belong to the digest of the blob, too. */
static int drain(struct source *s, struct ev_err *err)
{
    const void *p;

    while (s->pos < s->region->len)
        if (source_read(NULL, s, &p) < 0)
            return ev_fail(err, s->error, "read: %s", ev_err_text(s->error));
    return 0;
}

int ev_archive_expand(const struct ev_region *in, enum ev_archive_filter f, const struct ev_archive_expand *how,
                      struct ev_region *result, struct ev_err *err)
{
    struct source s = { .region = in, .step = EXPAND_STEP, .tap = how->in, .ctx = how->ctx };
    struct archive *a = NULL;
    int rc, fd = -1;

    *result = (struct ev_region){ .fd = -1 };
    EV_TRY(lib_open(err));
    if ((fd = ev_archive_temp()) < 0)
        return ev_fail(err, fd, "create a temporary file: %s", ev_err_text(fd));
    if (!(a = lib.archive_read_new())) {
        close(fd);
        return ev_fail(err, -ENOMEM, "libarchive");
    }
    s.block = ev_alloc(s.step);
    EV_TRY(support(a, f, err));
    EV_TRY(expand(a, &s, how, fd, &result->len, err));
    EV_TRY(drain(&s, err));
    result->fd = fd;
    fd = -1;
out:
    if (a)
        lib.archive_read_free(a);
    if (fd >= 0)
        close(fd);
    ev_free(s.block);
    return rc;
}
