/* image_oci.c — container images as they come: an OCI layout folder, an OCI archive, `docker save`
 * in its old form (ID/layer.tar) and its new one (blobs/sha256/…).
 *
 *   archive → its members,   manifest.json,
 *   folder                   or index.json → manifest → configuration, layers
 *
 * A name in a manifest is looked up among the members of that archive, or opened beneath that
 * folder without leaving it. JSON blobs are checked against their digests at once; layers when they
 * are expanded. An uncompressed layer of `docker save` has no digest of its own and is read once,
 * by the writer of the image. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/json.h"
#include "codec/text.h"
#include "crypto/digest.h"
#include "nitro/image_int.h"

enum { MEMBERS_MAX = 65536, MEMBER_LINKS_MAX = 8, INDEX_DEPTH_MAX = 3, BLOB_NAME = 128 };

/* ---- members of an archive, files of a folder ---- */

/* "./a//b/" → "a/b" in place; false for an empty or climbing or absolute name. */
static bool normalise(char *path)
{
    char *to = path, *from = path;

    if (*path == '/')
        return false;
    while (*from) {
        size_t n = strcspn(from, "/");

        if (n == 2 && from[0] == '.' && from[1] == '.')
            return false;
        if (n > 0 && !(n == 1 && *from == '.')) {
            if (to != path)
                *to++ = '/';
            memmove(to, from, n);
            to += n;
        }
        from += n;
        from += *from == '/';
    }
    *to = '\0';
    return to != path;
}

static int add_member(void *ctx, const struct ev_archive_entry *e, struct ev_err *err)
{
    struct ev_oci *o = ctx;
    const char *link = e->hardlink ? e->hardlink : e->symlink;
    struct ev_oci_member *m;
    char *path;

    if (!link && !S_ISREG(e->mode))
        return 0;
    if (o->n_members == MEMBERS_MAX)
        return ev_fail_reason(err, EV_ELIMIT, "image-archive", "more than %d members", MEMBERS_MAX);
    path = ev_strdup(e->path);
    if (!normalise(path)) {
        ev_free(path);
        return ev_fail_reason(err, EV_EDENY, "image-path", "a member named %s", e->path);
    }
    if (o->n_members == o->members_cap) {
        o->members_cap = o->members_cap ? o->members_cap * 2 : 64;
        o->member = ev_realloc(o->member, sizeof *o->member * o->members_cap);
    }
    m = &o->member[o->n_members++];
    *m = (struct ev_oci_member){ .path = path, .region = { o->fd, e->data, e->size } };
    if (e->hardlink)
        m->link = ev_asprintf("/%s", link);     /* from the archive's root */
    else if (link)
        m->link = ev_strdup(link);
    return 0;
}

/* Lexically: a link's target as a member's name, or NULL when it leaves the archive. */
static char *link_target(const struct ev_oci_member *m)
{
    const char *slash = strrchr(m->path, '/');
    size_t base = slash ? (size_t)(slash - m->path) : 0;
    const char *target = m->link;
    char *path;

    if (*target == '/')
        base = 0, target++;
    while (strncmp(target, "../", 3) == 0 && base > 0) {
        while (base > 0 && m->path[base - 1] != '/')
            base--;
        base -= base > 0;
        target += 3;
    }
    path = base ? ev_asprintf("%.*s/%s", (int)base, m->path, target) : ev_strdup(target);
    if (normalise(path))
        return path;
    ev_free(path);
    return NULL;
}

/* The last one of a name counts, as when the archive is unpacked. */
static const struct ev_oci_member *find_member(const struct ev_oci *o, const char *path)
{
    for (size_t i = o->n_members; i-- > 0;)
        if (strcmp(o->member[i].path, path) == 0)
            return &o->member[i];
    return NULL;
}

static int open_member(const struct ev_oci *o, const char *path, struct ev_region *out, struct ev_err *err)
{
    const struct ev_oci_member *m = find_member(o, path);

    for (int links = 0; m && m->link; links++) {
        char *target = links < MEMBER_LINKS_MAX ? link_target(m) : NULL;

        if (!target)
            return ev_fail_reason(err, EV_EDENY, "image-path", "%s is a link that leads out of the archive", path);
        m = find_member(o, target);
        ev_free(target);
    }
    if (!m)
        return ev_fail_reason(err, EV_EPARSE, "image-archive", "%s is not in the archive", path);
    *out = m->region;
    return 0;
}

static int open_beneath(const struct ev_oci *o, const char *path, struct ev_region *out, struct ev_err *err)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    struct stat st;
    int fd = (int)syscall(SYS_openat2, o->fd, path, &how, sizeof how);

    if (fd < 0)
        return ev_fail_errno(err, "open %s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return ev_fail(err, EV_EPARSE, "%s is not a regular file", path);
    }
    *out = (struct ev_region){ fd, 0, (uint64_t)st.st_size };
    return 0;
}

/* *own is the descriptor to close, or -1. */
static int open_path(const struct ev_oci *o, const char *name, struct ev_region *out, int *own, struct ev_err *err)
{
    char *path = ev_strdup(name);
    int rc;

    *own = -1;
    if (!normalise(path))
        rc = ev_fail_reason(err, EV_EDENY, "image-path", "the manifest names %s", name);
    else
        rc = o->folder ? open_beneath(o, path, out, err) : open_member(o, path, out, err);
    if (rc == 0 && o->folder)
        *own = out->fd;
    ev_free(path);
    return rc;
}

static bool has(const struct ev_oci *o, const char *name)
{
    struct ev_region r;
    int own, rc = open_path(o, name, &r, &own, NULL);

    if (own >= 0)
        close(own);
    return rc == 0;
}

static int read_path(const struct ev_oci *o, const char *name, struct ev_buf *out, struct ev_err *err)
{
    struct ev_region r;
    int own, rc;

    EV_TRY(open_path(o, name, &r, &own, err));
    ev_buf_clear(out);
    if (r.len > EV_IMAGE_JSON_MAX)
        rc = ev_fail_reason(err, EV_ELIMIT, "image-archive", "%s has %llu bytes", name, (unsigned long long)r.len);
    else if ((rc = ev_buf_zero(out, (size_t)r.len)) == 0 && r.len > 0 &&
             (rc = ev_pread_all(r.fd, out->p, (size_t)r.len, r.offset)) < 0)
        ev_fail(err, rc, "read %s: %s", name, ev_err_text(rc));
    if (own >= 0)
        close(own);
out:
    return rc;
}

/* ---- digests ---- */

static int parse_digest(ev_slice s, uint8_t digest[32], char path[BLOB_NAME], struct ev_err *err)
{
    if (s.n != 7 + 64 || memcmp(s.p, "sha256:", 7) != 0 ||
        ev_hex_decode(ev_slice_of(s.p + 7, 64), digest, 32) != 32)
        return ev_fail_reason(err, EV_EPARSE, "image-digest", "not a SHA-256 digest: %.*s", (int)(s.n < 80 ? s.n : 80),
                              (const char *)s.p);
    snprintf(path, BLOB_NAME, "blobs/sha256/%.64s", (const char *)s.p + 7);
    return 0;
}

static int wrong_digest(const char *what, struct ev_err *err)
{
    return ev_fail_reason(err, EV_EPARSE, "image-digest",
                          "%s is damaged: its SHA-256 is not the one that is recorded", what);
}

static int read_blob(const struct ev_oci *o, ev_slice digest, struct ev_buf *out, struct ev_err *err)
{
    uint8_t want[32], got[EV_DIGEST_MAX];
    char path[BLOB_NAME];
    int rc;

    EV_TRY(parse_digest(digest, want, path, err));
    EV_TRY(read_path(o, path, out, err));
    ev_digest_once(EV_SHA256, ev_buf_slice(out), got);
    if (memcmp(got, want, 32) != 0)
        rc = wrong_digest(path, err);
out:
    return rc;
}

/* ---- manifests ---- */

static int add_layer(struct ev_oci *o, const char *path, struct ev_err *err)
{
    struct ev_oci_layer *l = &o->layer[o->n_layers];
    int rc;

    if (o->n_layers == EV_IMAGE_LAYERS)
        return ev_fail_reason(err, EV_ELIMIT, "image-layers", "more than %d layers", EV_IMAGE_LAYERS);
    *l = (struct ev_oci_layer){ .own_fd = -1 };
    rc = open_path(o, path, &l->blob, &l->own_fd, err);
    if (rc == 0)
        o->n_layers++;
    return rc;
}

static const char *arch_name(enum ev_oci_arch a)
{
    return a == EV_OCI_ARM64 ? "arm64" : "amd64";
}

static int check_arch(const struct ev_oci *o, enum ev_oci_arch arch, struct ev_err *err)
{
    if (arch == EV_OCI_ANY || !*o->config.architecture || strcmp(o->config.architecture, arch_name(arch)) == 0)
        return 0;
    return ev_fail_reason(err, EV_EPARSE, "image-architecture", "the image is for %s, not for %s",
                          o->config.architecture,
                          arch_name(arch));
}

/* A member's name in a manifest; "" (which is none) when it is no string. */
static const char *json_path(const struct ev_json *j)
{
    return ev_json_type(j) == EV_JSON_STRING ? (const char *)ev_json_str(j).p : "";
}

/* `docker save`: [{"Config": path, "Layers": [path, ...]}] */
static int read_docker(struct ev_oci *o, struct ev_buf *text, struct ev_err *err)
{
    const struct ev_json *image, *layers;
    struct ev_json *j = NULL;
    int rc;

    EV_TRY(read_path(o, "manifest.json", text, err));
    EV_TRY(ev_json_parse(ev_buf_slice(text), &j, err));
    if (ev_json_count(j) != 1)
        EV_TRY(ev_fail_reason(err, EV_EPARSE, "image-archive", "the archive holds %zu images; save exactly one",
                              ev_json_count(j)));
    image = ev_json_item(j, 0);
    layers = ev_json_get(image, "Layers");
    for (size_t i = 0; i < ev_json_count(layers); i++)
        EV_TRY(add_layer(o, json_path(ev_json_item(layers, i)), err));
    EV_TRY(read_path(o, json_path(ev_json_get(image, "Config")), text, err));
    EV_TRY(ev_oci_parse_config(ev_buf_slice(text), o, err));
out:
    ev_json_free(j);
    return rc;
}

static bool is(const struct ev_json *object, const char *key, const char *value)
{
    return ev_slice_eq(ev_json_str(ev_json_get(object, key)), ev_slice_str(value));
}

/* How well a descriptor of an index fits: 0 not at all. Attestations of a builder are "unknown". */
static int fitness(const struct ev_json *d, enum ev_oci_arch arch)
{
    const struct ev_json *p = ev_json_get(d, "platform");

    if (ev_json_type(p) != EV_JSON_OBJECT)
        return 1;
    if (!is(p, "os", "linux"))
        return 0;
    if (arch == EV_OCI_ANY)
        return is(p, "architecture", "amd64") ? 3 : is(p, "architecture", "arm64") ? 2 : 0;
    return is(p, "architecture", arch_name(arch)) ? 3 : 0;
}

static int choose(const struct ev_json *index, enum ev_oci_arch arch, const struct ev_json **out, struct ev_err *err)
{
    const struct ev_json *list = ev_json_get(index, "manifests"), *best = NULL;
    int score = 0, equals = 0;

    for (size_t i = 0; i < ev_json_count(list); i++) {
        const struct ev_json *d = ev_json_item(list, i);
        int f = fitness(d, arch);

        if (f > score)
            best = d, score = f, equals = 0;
        else if (f > 0 && f == score && !ev_slice_eq(ev_json_str(ev_json_get(d, "digest")),
                                                     ev_json_str(ev_json_get(best, "digest"))))
            equals++;
    }
    if (!best)
        return ev_fail_reason(err, EV_EPARSE, "image-architecture", "no image for linux/%s in its index",
                              arch_name(arch));
    if (equals > 0)
        return ev_fail_reason(err, EV_EPARSE, "image-archive", "%d images fit; save exactly one", equals + 1);
    *out = best;
    return 0;
}

static int read_layers(struct ev_oci *o, const struct ev_json *manifest, struct ev_err *err)
{
    const struct ev_json *layers = ev_json_get(manifest, "layers");
    char path[BLOB_NAME];
    uint8_t digest[32];
    int rc = 0;

    for (size_t i = 0; i < ev_json_count(layers); i++) {
        EV_TRY(parse_digest(ev_json_str(ev_json_get(ev_json_item(layers, i), "digest")), digest, path, err));
        EV_TRY(add_layer(o, path, err));
        o->layer[i].has_digest = o->layer[i].plain_checked = true;
        memcpy(o->layer[i].digest, digest, sizeof digest);
    }
out:
    return rc;
}

/* index → (index →) manifest → configuration and layers. `text` holds the current document. */
static int read_oci(struct ev_oci *o, enum ev_oci_arch arch, struct ev_buf *text, struct ev_err *err)
{
    const struct ev_json *descriptor = NULL;
    struct ev_json *j = NULL;
    int rc, depth = 0;

    EV_TRY(read_path(o, "index.json", text, err));
    EV_TRY(ev_json_parse(ev_buf_slice(text), &j, err));
    while (ev_json_get(j, "manifests")) {
        if (++depth > INDEX_DEPTH_MAX)
            EV_TRY(ev_fail_reason(err, EV_EPARSE, "image-archive", "indexes within indexes"));
        EV_TRY(choose(j, arch, &descriptor, err));
        EV_TRY(read_blob(o, ev_json_str(ev_json_get(descriptor, "digest")), text, err));
        ev_json_free(j);
        j = NULL;
        EV_TRY(ev_json_parse(ev_buf_slice(text), &j, err));
    }
    EV_TRY(read_layers(o, j, err));
    EV_TRY(read_blob(o, ev_json_str(ev_json_get(ev_json_get(j, "config"), "digest")), text, err));
    EV_TRY(ev_oci_parse_config(ev_buf_slice(text), o, err));
out:
    ev_json_free(j);
    return rc;
}

/* ---- opening, expanding ---- */

struct tap {
    struct ev_oci *o;
    struct ev_digest *in, *out;
    uint64_t done, total;
};

static void tap_in(void *ctx, const void *p, size_t n)
{
    struct tap *t = ctx;

    t->done += n;
    if (t->in)
        ev_digest_update(t->in, p, n);
}

static int tap_out(void *ctx, const void *p, size_t n)
{
    struct tap *t = ctx;

    if (t->out)
        ev_digest_update(t->out, p, n);
    return ev_image_step(t->o->watch, "expand", t->done, t->total, NULL);
}

static int demand_digest(struct ev_digest *d, const uint8_t want[32], const char *what, struct ev_err *err)
{
    uint8_t got[EV_DIGEST_MAX];

    ev_digest_final(d, got);
    return memcmp(got, want, 32) == 0 ? 0 : wrong_digest(what, err);
}

static int open_archive(struct ev_oci *o, uint64_t size, struct ev_err *err)
{
    struct tap t = { .o = o, .total = size };
    const struct ev_archive_expand how = { .max = EV_IMAGE_TOTAL_MAX, .in = tap_in, .out = tap_out, .ctx = &t };
    struct ev_region file = { o->fd, 0, size }, plain;
    enum ev_archive_filter f = ev_archive_filter(&file);
    int rc = 0;

    if (f != EV_FILTER_NONE) {
        EV_TRY(ev_archive_expand(&file, f, &how, &plain, err));
        close(o->fd);
        o->fd = plain.fd;
        file = plain;
    }
    rc = ev_archive_walk(&file, add_member, o, err);
out:
    return rc;
}

int ev_oci_open(struct ev_oci *o, const char *source, enum ev_oci_arch arch, const struct ev_image_watch *watch,
                struct ev_err *err)
{
    struct ev_buf text = EV_BUF_INIT(EV_IMAGE_JSON_MAX);
    struct stat st;
    int rc;

    *o = (struct ev_oci){ .watch = watch };
    o->fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (o->fd < 0 || fstat(o->fd, &st) < 0)
        return ev_fail_errno(err, "open %s", source);
    o->folder = S_ISDIR(st.st_mode);
    if (!o->folder && !S_ISREG(st.st_mode))
        return ev_fail(err, EV_EPARSE, "%s is neither a file nor a folder", source);
    if (!o->folder)
        EV_TRY(open_archive(o, (uint64_t)st.st_size, err));
    if (!o->folder && has(o, "manifest.json"))
        rc = read_docker(o, &text, err);
    else if (has(o, "index.json"))
        rc = read_oci(o, arch, &text, err);
    else
        rc = ev_fail_reason(err, EV_EPARSE, "image-archive", "neither manifest.json nor index.json: not a container "
                            "image as docker save or an OCI layout hold it");
    if (rc >= 0)
        rc = check_arch(o, arch, err);
out:
    if (rc < 0)
        ev_err_wrap(err, "container image %s", source);
    ev_buf_fini(&text);
    return rc;
}

static int expand_layer(struct ev_oci *o, struct ev_oci_layer *l, enum ev_archive_filter f, const char *what,
                        struct ev_err *err)
{
    struct tap t = { .o = o, .total = l->blob.len };
    const struct ev_archive_expand how = { .max = EV_IMAGE_TOTAL_MAX, .in = tap_in, .out = tap_out, .ctx = &t };
    struct ev_region plain = { .fd = -1 };
    int rc;

    t.in = l->has_digest ? ev_digest_new(EV_SHA256) : NULL;
    t.out = l->has_diff ? ev_digest_new(EV_SHA256) : NULL;
    EV_TRY(ev_archive_expand(&l->blob, f, &how, &plain, err));
    if (t.in)
        EV_TRY(demand_digest(t.in, l->digest, what, err));
    if (t.out)
        EV_TRY(demand_digest(t.out, l->diff, what, err));
    if (l->own_fd >= 0)
        close(l->own_fd);
    l->own_fd = plain.fd;
    l->blob = plain;
    plain.fd = -1;
out:
    if (plain.fd >= 0)
        close(plain.fd);
    ev_digest_free(t.in);
    ev_digest_free(t.out);
    return rc;
}

/* A plain layer of an OCI layout: one reading for its digest. */
static int hash_layer(struct ev_oci *o, const struct ev_oci_layer *l, const char *what, struct ev_err *err)
{
    struct ev_digest *d = ev_digest_new(EV_SHA256);
    uint8_t *block = ev_alloc(EV_IMAGE_STEP);
    int rc = 0;

    for (uint64_t at = 0; at < l->blob.len && rc == 0;) {
        size_t n = l->blob.len - at < EV_IMAGE_STEP ? (size_t)(l->blob.len - at) : EV_IMAGE_STEP;

        if ((rc = ev_pread_all(l->blob.fd, block, n, l->blob.offset + at)) < 0)
            ev_fail(err, rc, "read %s: %s", what, ev_err_text(rc));
        else
            rc = ev_image_step(o->watch, "verify", at, l->blob.len, err);
        ev_digest_update(d, block, n);
        at += n;
    }
    if (rc == 0)
        rc = demand_digest(d, l->digest, what, err);
    ev_digest_free(d);
    ev_free(block);
    return rc;
}

int ev_oci_layer(struct ev_oci *o, size_t i, struct ev_region *tar, struct ev_err *err)
{
    struct ev_oci_layer *l = &o->layer[i];
    enum ev_archive_filter f = ev_archive_filter(&l->blob);
    char what[32];
    int rc = 0;

    snprintf(what, sizeof what, "layer %zu", i + 1);
    if (f != EV_FILTER_NONE)
        EV_TRY(expand_layer(o, l, f, what, err));
    else if (l->plain_checked)
        EV_TRY(hash_layer(o, l, what, err));
    *tar = l->blob;
out:
    return rc;
}

void ev_oci_close(struct ev_oci *o)
{
    for (size_t i = 0; i < o->n_layers; i++)
        if (o->layer[i].own_fd >= 0)
            close(o->layer[i].own_fd);
    for (size_t i = 0; i < o->n_members; i++) {
        ev_free(o->member[i].path);
        ev_free(o->member[i].link);
    }
    ev_free(o->member);
    if (o->fd >= 0)
        close(o->fd);
    ev_image_config_fini(&o->config);
    *o = (struct ev_oci){ .fd = -1 };
}

int ev_image_step(const struct ev_image_watch *w, const char *step, uint64_t done, uint64_t total, struct ev_err *err)
{
    if (!w || !w->step || w->step(w->ctx, step, done, total))
        return 0;
    return ev_fail(err, EV_ECANCELLED, "cancelled");
}

int ev_image_read_config(const char *source, struct ev_image_config *out, struct ev_err *err)
{
    struct ev_oci *o = ev_alloc(sizeof *o);
    int rc = ev_oci_open(o, source, EV_OCI_ANY, NULL, err);

    *out = (struct ev_image_config){0};
    if (rc >= 0) {
        *out = o->config;
        o->config = (struct ev_image_config){0};
        rc = 0;
    }
    ev_oci_close(o);
    ev_free(o);
    return rc;
}
