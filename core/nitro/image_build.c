/* image_build.c — a container image, a kernel and a runtime become an enclave image. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/digest.h"
#include "nitro/image_int.h"

enum { CMDLINE_MAX = 2047 };                    /* the kernel keeps 2048 bytes with the NUL */

struct group {
    uint32_t total, seen, ino;
};

struct build {
    const struct ev_image_build *b;
    struct ev_image_result *out;
    struct ev_oci *oci;
    struct ev_merge merge;
    struct ev_region source[EV_IMAGE_LAYERS];
    uint32_t *order;                            /* entries of ramdisk 2 */
    struct group *group;                        /* by node.group */
    int kernel_fd, runtime_fd;
    uint64_t kernel_size, runtime_size;
    struct ev_buf head;                         /* one cpio header */
};

static int open_input(const char *path, const char *what, int *fd, uint64_t *size, struct ev_err *err)
{
    struct stat st;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &st) < 0)
        return ev_fail_errno(err, "%s %s", what, path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return ev_fail(err, EV_EPARSE, "%s %s is empty or not a regular file", what, path);
    *size = (uint64_t)st.st_size;
    return 0;
}

static int check_entry(const struct ev_cpio_entry *e, bool *init, struct ev_err *err)
{
    size_t n = strcspn(e->name, "/");

    *init = *init || strcmp(e->name, "init") == 0;
    if ((n == 6 && memcmp(e->name, "rootfs", n) == 0) || (n == 4 && memcmp(e->name, "cage", n) == 0))
        return ev_fail_reason(err, EV_EDENY, "layout-entry", "it holds %s, which belongs to the cage", e->name);
    return 0;
}

/* A runtime that cannot be unpacked, or that meddles with what ramdisk 2 owns, is found out here. Modules
 * of the kernel follow as an archive of their own, aligned: the kernel would skip it silently otherwise. */
static int check_runtime(struct build *w, struct ev_err *err)
{
    struct ev_cpio_reader r;
    struct ev_cpio_entry e;
    bool init = false;
    int rc;

    ev_cpio_reader_init(&r, w->runtime_fd, 0, w->runtime_size);
    do {
        while ((rc = ev_cpio_next(&r, &e, err)) > 0)
            EV_TRY(check_entry(&e, &init, err));
        EV_TRY(rc);
        EV_TRY(ev_cpio_rest(&r, err));
        if (rc > 0 && (r.pos - r.start) % 4 != 0)
            EV_TRY(ev_fail_reason(err, EV_EPARSE, "cpio-trailer", "what follows an archive is not aligned"));
    } while (rc > 0);
    if (!init)
        rc = ev_fail_reason(err, EV_EPARSE, "layout-entry", "it holds no init");
out:
    ev_cpio_reader_fini(&r);
    if (rc < 0)
        ev_err_wrap(err, "runtime ramdisk %s", w->b->runtime);
    return rc;
}

static int check_texts(const struct ev_image_build *b, struct ev_err *err)
{
    int rc;

    if (strlen(b->cmdline) > CMDLINE_MAX)
        return ev_fail_reason(err, EV_ELIMIT, "eif-cmdline",
                              "the kernel's command line has %zu bytes; at most %d are kept",
                              strlen(b->cmdline), CMDLINE_MAX);
    if (strlen(b->metadata_json) > EV_EIF_METADATA_MAX)
        return ev_fail_reason(err, EV_ELIMIT, "eif-metadata", "metadata of %zu bytes", strlen(b->metadata_json));
    if (b->mtime < 0 || b->mtime > UINT32_MAX)
        return ev_fail(err, -EINVAL, "a time of %lld seconds does not fit into an archive", (long long)b->mtime);
    EV_TRY(ev_eif_check_metadata(ev_slice_str(b->metadata_json), err));
    if (b->key || b->cert_pem.n > 0)
        EV_TRY(ev_image_check_signer(b->cert_pem, b->key, b->now_ms, err));
out:
    return rc;
}

/* ---- layers → entries ---- */

static int merge_all(struct build *w, const struct ev_image_watch *watch, struct ev_err *err)
{
    const struct ev_image_build *b = w->b;
    uint64_t done = 0, total = 0;
    int rc = 0;

    EV_TRY(ev_merge_init(&w->merge, err));
    for (size_t i = 0; i < w->oci->n_layers; i++)
        total += w->oci->layer[i].blob.len;
    for (size_t i = 0; i < w->oci->n_layers; i++) {
        EV_TRY(ev_image_step(watch, "index", done, total, err));
        done += w->oci->layer[i].blob.len;
        EV_TRY(ev_oci_layer(w->oci, i, &w->source[i], err));
        rc = ev_merge_layer(&w->merge, &w->source[i], (uint16_t)i, err);
        if (rc < 0) {
            ev_err_wrap(err, "layer %zu", i + 1);
            goto out;
        }
    }
    for (size_t i = 0; i < b->n_cage; i++)
        EV_TRY(ev_merge_cage(&w->merge, b->cage[i].name, b->cage[i].data, err));
    EV_TRY(ev_merge_finish(&w->merge, err));
    memcpy(w->out->warning, w->merge.warning, sizeof w->out->warning);
out:
    if (rc < 0)
        ev_err_wrap(err, "container image %s", b->source);
    return rc;
}

/* The kernel makes every link of its own anew, so each needs its target. */
static bool is_linked(const struct build *w, const struct ev_node *node)
{
    return node->group > 0 && !S_ISLNK(node->mode) && w->group[node->group].total > 1;
}

/* How many bytes of contents the entry carries: hard links have theirs in the last. */
static uint32_t body_of(const struct build *w, const struct ev_node *node, bool last)
{
    return is_linked(w, node) && !last ? 0 : node->size;
}

/* Orders the entries, counts links, and knows then how large the archive will be. */
static int plan(struct build *w, uint64_t *size, struct ev_err *err)
{
    const struct ev_tree *t = &w->merge.tree;
    char path[EV_TREE_PATH + 1];
    uint64_t contents = 0;

    w->order = ev_tree_sorted(t);
    w->group = ev_alloc(sizeof *w->group * (w->merge.groups + 1u));
    for (uint32_t i = 0; i < t->alive; i++)
        w->group[t->node[w->order[i]].group].total++;
    *size = ev_cpio_head_len(sizeof EV_CPIO_TRAILER - 1);
    for (uint32_t i = 0; i < t->alive; i++) {
        const struct ev_node *node = &t->node[w->order[i]];
        struct group *g = &w->group[node->group];
        uint32_t body = body_of(w, node, ++g->seen == g->total);

        *size += ev_cpio_head_len(ev_tree_path(t, w->order[i], path)) + body + ev_cpio_pad(body);
        contents += body;
    }
    for (uint32_t i = 0; i <= w->merge.groups; i++)
        w->group[i].seen = 0;
    if (contents >= EV_IMAGE_TOTAL_MAX)
        return ev_fail_reason(err, EV_ELIMIT, "image-size", "the files have %llu bytes together",
                              (unsigned long long)contents);
    return 0;
}

/* ---- entries → ramdisk 2 ---- */

static int emit_body(struct build *w, const struct ev_node *node, uint32_t n, struct ev_pump *p, int how,
                     struct ev_err *err)
{
    static const uint8_t zeros[4];
    int rc = 0;

    if (n == 0)
        return 0;
    if (S_ISLNK(node->mode))
        rc = ev_pump_put(p, how, ev_tree_text(&w->merge.tree, node->data), n, err);
    else if (node->source == EV_MERGE_MEMORY)
        rc = ev_pump_put(p, how, w->merge.memory[node->data].p, n, err);
    else
        rc = ev_pump_file(p, how, w->source[node->source].fd, node->data, n, err);
    return rc < 0 ? rc : ev_pump_put(p, how, zeros, ev_cpio_pad(n), err);
}

static int emit_entry(struct build *w, uint32_t i, uint32_t *ino, struct ev_pump *p, int how, struct ev_err *err)
{
    const struct ev_node *node = &w->merge.tree.node[i];
    struct group *g = &w->group[node->group];
    bool linked = is_linked(w, node), device = S_ISCHR(node->mode) || S_ISBLK(node->mode);
    char path[EV_TREE_PATH + 1];
    struct ev_cpio_entry e = {
        .name = path, .name_len = ev_tree_path(&w->merge.tree, i, path), .mode = node->mode, .uid = node->uid,
        .gid = node->gid, .mtime = (uint32_t)w->b->mtime, .nlink = S_ISDIR(node->mode) ? 2 : linked ? g->total : 1,
        .rdev_major = device ? (uint32_t)(node->data >> 32) : 0, .rdev_minor = device ? (uint32_t)node->data : 0,
    };
    int rc;

    if (linked && g->ino == 0)
        g->ino = ++*ino;
    e.ino = linked ? g->ino : ++*ino;
    e.size = body_of(w, node, ++g->seen == g->total);
    ev_buf_clear(&w->head);
    EV_TRY(ev_cpio_put_head(&w->head, &e));
    EV_TRY(ev_pump_put(p, how, w->head.p, w->head.n, err));
    EV_TRY(emit_body(w, node, e.size, p, how, err));
out:
    return rc;
}

static int emit_app(void *ctx, struct ev_pump *p, int how, struct ev_err *err)
{
    struct build *w = ctx;
    uint32_t ino = 0;
    int rc;

    for (uint32_t i = 0; i < w->merge.tree.alive; i++)
        EV_TRY(emit_entry(w, w->order[i], &ino, p, how, err));
    ev_buf_clear(&w->head);
    EV_TRY(ev_cpio_put_trailer(&w->head));
    EV_TRY(ev_pump_put(p, how, w->head.p, w->head.n, err));
out:
    return rc;
}

static int emit_runtime(void *ctx, struct ev_pump *p, int how, struct ev_err *err)
{
    static const uint8_t zeros[4];
    struct build *w = ctx;
    int rc;

    EV_TRY(ev_pump_file(p, how | EV_PUMP_PART, w->runtime_fd, 0, w->runtime_size, err));
    EV_TRY(ev_pump_part(p, w->out->runtime_sha384, err));
    EV_TRY(ev_pump_put(p, how, zeros, ev_cpio_pad(w->runtime_size), err));
out:
    return rc;
}

static int pack(struct build *w, uint64_t app_size, const struct ev_image_watch *watch, struct ev_err *err)
{
    const struct ev_image_build *b = w->b;
    const struct ev_pack_ramdisk ramdisk[] = {
        { .size = w->runtime_size + ev_cpio_pad(w->runtime_size), .emit = emit_runtime, .ctx = w },
        { .size = app_size, .emit = emit_app, .ctx = w },
    };
    const struct ev_pack k = {
        .kernel_fd = w->kernel_fd, .kernel_size = w->kernel_size, .cmdline = ev_slice_str(b->cmdline),
        .metadata = ev_slice_str(b->metadata_json), .ramdisk = ramdisk, .n_ramdisks = EV_COUNT(ramdisk),
        .cert_pem = b->cert_pem, .key = b->key, .arm64 = b->arm64, .output = b->output,
        .kernel_sha384 = w->out->kernel_sha384,
    };

    ev_digest_once(EV_SHA384, k.cmdline, w->out->cmdline_sha384);
    w->out->files = w->merge.tree.alive;
    return ev_pack_write(&k, watch, &w->out->pcrs, &w->out->size, err);
}

int ev_image_build(const struct ev_image_build *b, const struct ev_image_watch *watch, struct ev_image_result *out,
                   struct ev_err *err)
{
    struct build *w = ev_alloc(sizeof *w);
    uint64_t app_size;
    int rc;

    *w = (struct build){ .b = b, .out = out, .kernel_fd = -1, .runtime_fd = -1 };
    *out = (struct ev_image_result){0};
    ev_buf_init(&w->head, EV_CPIO_HEADER + EV_CPIO_NAME_MAX + 8);
    w->oci = ev_alloc(sizeof *w->oci);
    w->oci->fd = -1;
    EV_TRY(check_texts(b, err));
    EV_TRY(open_input(b->kernel, "kernel", &w->kernel_fd, &w->kernel_size, err));
    EV_TRY(open_input(b->runtime, "runtime ramdisk", &w->runtime_fd, &w->runtime_size, err));
    EV_TRY(check_runtime(w, err));
    EV_TRY(ev_oci_open(w->oci, b->source, b->arm64 ? EV_OCI_ARM64 : EV_OCI_AMD64, watch, err));
    EV_TRY(merge_all(w, watch, err));
    EV_TRY(plan(w, &app_size, err));
    EV_TRY(pack(w, app_size, watch, err));
    rc = 0;
out:
    if (w->kernel_fd >= 0)
        close(w->kernel_fd);
    if (w->runtime_fd >= 0)
        close(w->runtime_fd);
    ev_merge_fini(&w->merge);
    ev_oci_close(w->oci);
    ev_free(w->oci);
    ev_free(w->order);
    ev_free(w->group);
    ev_buf_fini(&w->head);
    ev_free(w);
    return rc;
}
