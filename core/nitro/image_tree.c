/* image_tree.c — see image_tree.h. */
#include "nitro/image_tree.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "crypto/digest.h"

enum { FIRST_NODES = 1024, FIRST_BUCKETS = 1024, FIRST_ARENA = 16384 };
static const uint32_t ARENA_MAX = 1u << 30;

static uint64_t rotl(uint64_t v, int n)
{
    return v << n | v >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1]; v[1] = rotl(v[1], 13) ^ v[0]; v[0] = rotl(v[0], 32);
    v[2] += v[3]; v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3]; v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1]; v[1] = rotl(v[1], 17) ^ v[2]; v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 of parent and name: chosen names cannot be made to fall into one bucket. */
static uint32_t hash(const struct ev_tree *t, uint32_t parent, const char *name, size_t n)
{
    uint64_t v[4] = { t->seed[0] ^ 0x736f6d6570736575, t->seed[1] ^ 0x646f72616e646f6d,
                      t->seed[0] ^ 0x6c7967656e657261, t->seed[1] ^ 0x7465646279746573 };
    uint64_t word = (uint64_t)parent << 32 | n;

    for (size_t at = 0;; at += 8) {
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        if (at >= n)
            break;
        word = 0;
        memcpy(&word, name + at, n - at < 8 ? n - at : 8);
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

static uint32_t *bucket_of(const struct ev_tree *t, uint32_t parent, const char *name, size_t n)
{
    return &t->bucket[hash(t, parent, name, n) & (t->buckets - 1)];
}

static void set_buckets(struct ev_tree *t, uint32_t n)
{
    ev_free(t->bucket);
    t->bucket = ev_alloc(sizeof *t->bucket * n);
    t->buckets = n;
    memset(t->bucket, 0xff, sizeof *t->bucket * n);
    for (uint32_t i = 1; i < t->n; i++) {
        struct ev_node *node = &t->node[i];
        uint32_t *b;

        if (node->name_len == 0)
            continue;                           /* freed */
        b = bucket_of(t, node->parent, t->arena + node->name, node->name_len);
        node->hash_next = *b;
        *b = i;
    }
}

int ev_tree_init(struct ev_tree *t, struct ev_err *err)
{
    *t = (struct ev_tree){ .cap = FIRST_NODES, .n = 1, .unused = EV_TREE_NONE, .arena_cap = FIRST_ARENA };
    if (ev_random(t->seed, sizeof t->seed) < 0)
        return ev_fail(err, EV_ECRYPTO, "no random bytes");
    t->node = ev_alloc(sizeof *t->node * t->cap);
    t->arena = ev_alloc(t->arena_cap);
    t->node[0] = (struct ev_node){ .parent = EV_TREE_NONE, .child = EV_TREE_NONE, .prev = EV_TREE_NONE,
                                   .next = EV_TREE_NONE, .hash_next = EV_TREE_NONE, .mode = S_IFDIR | 0755 };
    set_buckets(t, FIRST_BUCKETS);
    return 0;
}

void ev_tree_fini(struct ev_tree *t)
{
    ev_free(t->node);
    ev_free(t->bucket);
    ev_free(t->arena);
    *t = (struct ev_tree){0};
}

uint32_t ev_tree_find(const struct ev_tree *t, uint32_t parent, const char *name, size_t n)
{
    uint32_t i = *bucket_of(t, parent, name, n);

    for (; i != EV_TREE_NONE; i = t->node[i].hash_next) {
        const struct ev_node *node = &t->node[i];

        if (node->parent == parent && node->name_len == n && memcmp(t->arena + node->name, name, n) == 0)
            return i;
    }
    return EV_TREE_NONE;
}

int ev_tree_keep(struct ev_tree *t, const char *text, size_t n, uint32_t *out, struct ev_err *err)
{
    if (n >= ARENA_MAX - t->arena_n)
        return ev_fail_reason(err, EV_ELIMIT, "image-files", "names and links take more than %u bytes", ARENA_MAX);
    if (n + 1 > t->arena_cap - t->arena_n) {
        while (n + 1 > t->arena_cap - t->arena_n)
            t->arena_cap += t->arena_cap / 2;
        t->arena = ev_realloc(t->arena, t->arena_cap);
    }
    *out = t->arena_n;
    memcpy(t->arena + t->arena_n, text, n);
    t->arena[t->arena_n + n] = '\0';
    t->arena_n += (uint32_t)n + 1;
    return 0;
}

static int check_place(const struct ev_tree *t, uint32_t parent, const char *name, size_t n, struct ev_err *err)
{
    size_t length = n, depth = 1;

    if (n == 0 || n > EV_TREE_NAME)
        return ev_fail_reason(err, EV_ELIMIT, "image-path", "a name of %zu bytes: %.40s...", n, name);
    for (; parent != 0; parent = t->node[parent].parent, depth++)
        length += t->node[parent].name_len + 1u;
    if (length > EV_TREE_PATH || depth > EV_TREE_DEPTH)
        return ev_fail_reason(err, EV_ELIMIT, "image-path", "a path of %zu bytes and %zu levels ending in %.*s", length,
                              depth, (int)n, name);
    if (t->alive >= EV_TREE_FILES)
        return ev_fail_reason(err, EV_ELIMIT, "image-files", "more than %d files", EV_TREE_FILES);
    return 0;
}

static uint32_t take_node(struct ev_tree *t)
{
    uint32_t i = t->unused;

    if (i != EV_TREE_NONE) {
        t->unused = t->node[i].next;
        return i;
    }
    if (t->n == t->cap) {
        t->cap += t->cap / 2;
        t->node = ev_realloc(t->node, sizeof *t->node * t->cap);
    }
    return t->n++;
}

int ev_tree_add(struct ev_tree *t, uint32_t parent, const char *name, size_t n, uint32_t *out, struct ev_err *err)
{
    uint32_t i, text, *b;
    struct ev_node *node;
    int rc;

    EV_TRY(check_place(t, parent, name, n, err));
    EV_TRY(ev_tree_keep(t, name, n, &text, err));
    if (t->alive >= t->buckets)
        set_buckets(t, t->buckets * 2);
    i = take_node(t);
    node = &t->node[i];
    *node = (struct ev_node){ .parent = parent, .child = EV_TREE_NONE, .prev = EV_TREE_NONE, .name = text,
                              .next = t->node[parent].child, .name_len = (uint16_t)n };
    if (node->next != EV_TREE_NONE)
        t->node[node->next].prev = i;
    t->node[parent].child = i;
    b = bucket_of(t, parent, name, n);
    node->hash_next = *b;
    *b = i;
    t->alive++;
    *out = i;
out:
    return rc;
}

static void remove_leaf(struct ev_tree *t, uint32_t i)
{
    struct ev_node *node = &t->node[i];
    uint32_t *b = bucket_of(t, node->parent, t->arena + node->name, node->name_len);

    while (*b != i)
        b = &t->node[*b].hash_next;
    *b = node->hash_next;
    if (node->prev != EV_TREE_NONE)
        t->node[node->prev].next = node->next;
    else
        t->node[node->parent].child = node->next;
    if (node->next != EV_TREE_NONE)
        t->node[node->next].prev = node->prev;
    node->name_len = 0;
    node->next = t->unused;
    t->unused = i;
    t->alive--;
}

void ev_tree_remove(struct ev_tree *t, uint32_t top)
{
    uint32_t i = top, parent;

    for (;;) {
        while (t->node[i].child != EV_TREE_NONE)
            i = t->node[i].child;
        parent = t->node[i].parent;
        remove_leaf(t, i);
        if (i == top)
            return;
        i = parent;
    }
}

size_t ev_tree_path(const struct ev_tree *t, uint32_t node, char out[EV_TREE_PATH + 1])
{
    size_t n = 0, at;

    for (uint32_t i = node; i != 0; i = t->node[i].parent)
        n += t->node[i].name_len + 1u;
    if (n == 0)
        return out[0] = '\0', 0;
    at = --n;
    out[n] = '\0';
    for (uint32_t i = node; i != 0; i = t->node[i].parent) {
        at -= t->node[i].name_len;
        memcpy(out + at, t->arena + t->node[i].name, t->node[i].name_len);
        if (at > 0)
            out[--at] = '/';
    }
    return n;
}

static size_t depth_of(const struct ev_tree *t, uint32_t i)
{
    size_t d = 0;

    for (; i != 0; i = t->node[i].parent)
        d++;
    return d;
}

/* Where two names differ only by one being longer, the shorter path goes on with '/' or ends. */
static int compare_names(const struct ev_tree *t, uint32_t x, bool x_deeper, uint32_t y, bool y_deeper)
{
    const struct ev_node *a = &t->node[x], *b = &t->node[y];
    size_t n = a->name_len < b->name_len ? a->name_len : b->name_len;
    int d = memcmp(t->arena + a->name, t->arena + b->name, n), next_a, next_b;

    if (d)
        return d;
    next_a = a->name_len > n ? (uint8_t)t->arena[a->name + n] : x_deeper ? '/' : -1;
    next_b = b->name_len > n ? (uint8_t)t->arena[b->name + n] : y_deeper ? '/' : -1;
    return next_a - next_b;
}

/* Order of the full paths without building them: climb to siblings and compare those. */
static int compare_paths(const void *pa, const void *pb, void *ctx)
{
    const struct ev_tree *t = ctx;
    uint32_t x = *(const uint32_t *)pa, y = *(const uint32_t *)pb;
    size_t dx = depth_of(t, x), dy = depth_of(t, y);
    bool x_deeper = dx > dy, y_deeper = dy > dx;

    for (; dx > dy; dx--)
        x = t->node[x].parent;
    for (; dy > dx; dy--)
        y = t->node[y].parent;
    if (x == y)
        return x_deeper ? 1 : y_deeper ? -1 : 0;
    while (t->node[x].parent != t->node[y].parent) {
        x = t->node[x].parent;
        y = t->node[y].parent;
        x_deeper = y_deeper = true;
    }
    return compare_names(t, x, x_deeper, y, y_deeper);
}

void ev_tree_sort(const struct ev_tree *t, uint32_t *nodes, size_t n)
{
    qsort_r(nodes, n, sizeof *nodes, compare_paths, (void *)(uintptr_t)t);
}

uint32_t *ev_tree_sorted(const struct ev_tree *t)
{
    uint32_t *nodes = ev_alloc(sizeof *nodes * (t->alive + 1));
    size_t n = 0;

    for (uint32_t i = 1; i < t->n; i++)
        if (t->node[i].name_len > 0)
            nodes[n++] = i;
    ev_tree_sort(t, nodes, n);
    return nodes;
}
