/* image_tree.h — the file tree of a ramdisk in memory, about 100 bytes a file.
 *
 * Nodes are indexes into one array, names lie behind one another in an arena; node 0 is the root and
 * has no name. Nothing here touches a file system. Used for merging layers and for checking layouts.
 *
 *     root ── "rootfs" ── "usr" ── "bin" …        child: first child; prev, next: siblings, in no order
 *          └─ "cage" ── "config.json"             hash_next: next node in the same bucket (parent, name)
 */
#ifndef EV_NITRO_IMAGE_TREE_H
#define EV_NITRO_IMAGE_TREE_H

#include "base/buf.h"

enum {
    EV_TREE_FILES = 1000000,                    /* nodes alive at once */
    EV_TREE_PATH = 4095, EV_TREE_NAME = 255, EV_TREE_DEPTH = 256
};
#define EV_TREE_NONE UINT32_MAX

struct ev_node {
    uint32_t parent, child, prev, next, hash_next;
    uint32_t name;                              /* in the arena */
    uint32_t uid, gid, size, group;             /* group: 0, or the number of a set of hard links */
    uint32_t xattr;                             /* 0, or number + 1 of its capability */
    uint16_t name_len, mode;
    uint64_t data;                              /* file: offset in its source; link: arena; device: major, minor */
    uint16_t source, layer;
    uint16_t cleaned;                           /* layer that took away all that lower ones had below */
};

struct ev_tree {
    struct ev_node *node;
    uint32_t n, cap, alive, unused;             /* unused: chain of freed nodes through `next` */
    uint32_t *bucket, buckets;
    char *arena;
    uint32_t arena_n, arena_cap;
    uint64_t seed[2];                           /* of the hash: names are a stranger's */
};

int ev_tree_init(struct ev_tree *t, struct ev_err *err) EV_MUST_USE;    /* with its root, a directory */
void ev_tree_fini(struct ev_tree *t);
/* EV_TREE_NONE when there is none. */
uint32_t ev_tree_find(const struct ev_tree *t, uint32_t parent, const char *name, size_t n);
/* The name must be new in its parent. Fails with EV_ELIMIT, reason "image-files" "image-path". */
int ev_tree_add(struct ev_tree *t, uint32_t parent, const char *name, size_t n, uint32_t *out,
                struct ev_err *err) EV_MUST_USE;
void ev_tree_remove(struct ev_tree *t, uint32_t node);      /* with all below it */
/* Keeps a text (a link's target) in the arena. */
int ev_tree_keep(struct ev_tree *t, const char *text, size_t n, uint32_t *out, struct ev_err *err) EV_MUST_USE;
/* Path from the root without a leading slash → its length. */
size_t ev_tree_path(const struct ev_tree *t, uint32_t node, char out[EV_TREE_PATH + 1]);
/* All nodes but the root, bytewise by full path (which puts parents first); ev_free it. */
uint32_t *ev_tree_sorted(const struct ev_tree *t);
void ev_tree_sort(const struct ev_tree *t, uint32_t *nodes, size_t n);

static inline const char *ev_tree_text(const struct ev_tree *t, uint64_t at) { return t->arena + at; }

#endif
