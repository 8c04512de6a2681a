/* fuzz_toml.c — any bytes through the TOML parser; and for what parses, the editor's promise: the
 * changed text has the new value, and every other value is what it was. */
#include "codec/toml.h"
#include "fuzz.h"

/* Every value of `a` is in `b` too, but for `except` (in a). */
static void contained(const struct ev_toml *a, const struct ev_toml *b, const struct ev_toml *except)
{
    for (const struct ev_toml *x = a->first; x; x = x->next) {
        const struct ev_toml *y = ev_toml_get(b, x->key);

        if (x == except)
            continue;
        if (x->type == EV_TOML_TABLE && y && y->type == EV_TOML_TABLE)
            contained(x, y, except);
        else
            demand(y && ev_toml_equal(x, y), "another value changed");
    }
}

static const struct ev_toml *lookup(const struct ev_toml *t, const struct ev_toml_edit *e)
{
    for (size_t i = 0; i < e->n_path; i++)
        t = ev_toml_get(t, e->path[i]);
    return ev_toml_get(t, e->key);
}

static void try_edit(ev_slice text, const struct ev_toml_doc *doc, const struct ev_toml_edit *e)
{
    struct ev_buf out = EV_BUF_INIT(EV_TOML_MAX);
    struct ev_toml_doc *after = NULL;
    const struct ev_toml *node;

    if (ev_toml_apply(text, e, 1, &out, NULL) == 0) {
        demand(ev_toml_parse(ev_buf_slice(&out), &after, NULL, NULL) == 0, "does not parse");
        node = lookup(ev_toml_root(after), e);
        if (e->literal.n > 0)
            demand(node && node->type == EV_TOML_STRING && ev_slice_eq(node->text, EV_LIT("new")),
                   "the new value is not there");
        else
            demand(!node, "the removed value is still there");
        if (e->literal.n > 0)
            contained(ev_toml_root(doc), ev_toml_root(after), lookup(ev_toml_root(doc), e));
    }
    ev_toml_free(after);
    ev_buf_fini(&out);
}

/* Replaces, removes and adds beside the first few keys of each table on the way down. */
static void edit_below(ev_slice text, const struct ev_toml_doc *doc, const struct ev_toml *table,
                       ev_slice *path, size_t depth)
{
    struct ev_toml_edit e = { .path = path, .n_path = depth };
    int left = 4;

    for (const struct ev_toml *n = table->first; n && left > 0; n = n->next, left--) {
        e.key = n->key;
        e.literal = EV_LIT("'new'");
        try_edit(text, doc, &e);
        e.literal = (ev_slice){0};
        try_edit(text, doc, &e);
        path[depth] = n->key;
        if (n->type == EV_TOML_TABLE && depth < 4)
            edit_below(text, doc, n, path, depth + 1);
    }
    e.key = EV_LIT("fresh key");
    e.literal = EV_LIT("'new'");
    try_edit(text, doc, &e);
    if (depth < 7) {
        path[depth] = EV_LIT("fresh");
        e.n_path++;
        try_edit(text, doc, &e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ev_slice text = ev_slice_of(data, size), path[8];
    struct ev_toml_doc *doc = NULL;
    struct ev_toml_pos where;
    struct ev_err err = EV_ERR_INIT;

    if (ev_toml_parse(text, &doc, &where, &err) < 0)
        demand(where.line > 0 && where.column > 0 && err.msg[0], "a failure without its place");
    else if (size <= 4096)
        edit_below(text, doc, ev_toml_root(doc), path, 0);
    ev_toml_free(doc);
    return 0;
}
