/* fuzz_archive.c — any bytes as layers of a container image: headers, merge, mount points. The first
 * byte says where one layer ends and the next begins. Promises: whatever is merged can be listed,
 * lies below rootfs/ or cage/, in order, each name once and behind its directory. */
#include <sys/stat.h>

#include "fuzz.h"
#include "nitro/image_int.h"

static void check_tree(const struct ev_merge *m, size_t size)
{
    uint32_t *order = ev_tree_sorted(&m->tree);
    char path[EV_TREE_PATH + 1], before[EV_TREE_PATH + 1] = "";

    for (uint32_t i = 0; i < m->tree.alive; i++) {
        const struct ev_node *n = &m->tree.node[order[i]];

        ev_tree_path(&m->tree, order[i], path);
        demand(strcmp(before, path) < 0, "sorted, each once");
        demand(S_ISDIR(m->tree.node[n->parent].mode), "below a directory");
        demand(strncmp(path, "rootfs", 6) == 0 || strncmp(path, "cage", 4) == 0, "below rootfs or cage");
        demand(!strstr(path, "//") && !strstr(path, "/../") && !strstr(path, "/./"), "a plain name");
        demand(!S_ISREG(n->mode) || n->source == EV_MERGE_MEMORY || n->data + n->size <= size, "contents in the file");
        demand(!S_ISLNK(n->mode) || strlen(ev_tree_text(&m->tree, n->data)) == n->size, "a link's target");
        memcpy(before, path, sizeof path);
    }
    ev_free(order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_merge m;
    size_t cut;
    int fd, rc;

    if (size < 2)
        return 0;
    fd = fuzz_file(data, size);
    cut = (size_t)data[0] * 512;
    if (cut > size - 1)
        cut = size - 1;
    demand(ev_merge_init(&m, NULL) == 0, "an empty tree");
    rc = ev_merge_layer(&m, &(struct ev_region){ fd, 1, cut }, 0, &err);
    if (rc >= 0)
        rc = ev_merge_layer(&m, &(struct ev_region){ fd, 1 + cut, size - 1 - cut }, 1, &err);
    if (rc >= 0)
        rc = ev_merge_cage(&m, "config.json", EV_LIT("{}"), &err);
    if (rc >= 0)
        rc = ev_merge_finish(&m, &err);
    demand(rc >= 0 || err.msg[0], "a failure without a text");
    if (rc >= 0)
        check_tree(&m, size);
    ev_merge_fini(&m);
    return 0;
}
