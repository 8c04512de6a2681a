/* toml.c — TOML 1.0, the grammar: lines, keys, headers, arrays, inline tables.
 *
 * One pass over the text with a cursor. Each table remembers how it was made (ev_toml_form), since
 * TOML's rules on redefinition depend on nothing else. Scalars are in toml_value.c. */
#include <stdio.h>

#include "codec/text.h"
#include "codec/toml_parse.h"

enum { BLOCK_NODES = 64 };

struct toml_block {
    struct toml_block *next;
    size_t used;
    struct ev_toml node[BLOCK_NODES];
};

/* ---- cursor and messages ---- */

static uint32_t column_of(const struct ev_toml_doc *doc, size_t at)
{
    uint32_t column = 1;

    while (at > 0 && doc->text[at - 1] != '\n') {
        at--;
        if ((doc->text[at] & 0xC0) != 0x80)
            column++;
    }
    return column;
}

int toml_fail(struct toml_parser *p, size_t at, int code, const char *fmt, ...)
{
    char msg[256], key[80] = "";
    size_t n = p->key_to - p->key_from;
    uint32_t line = 1;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < at; i++)
        line += p->doc->text[i] == '\n';
    if (n > 0)
        snprintf(key, sizeof key, "%.*s%s: ", n > 60 ? 60 : (int)n,
                 (const char *)p->doc->text + p->key_from, n > 60 ? "..." : "");
    if (p->where)
        *p->where = (struct ev_toml_pos){ line, column_of(p->doc, at) };
    return ev_fail(p->err, code, "line %u, column %u: %s%s", line, column_of(p->doc, at), key, msg);
}

int toml_peek(const struct toml_parser *p, size_t ahead)
{
    return ahead < p->doc->n - p->pos ? p->doc->text[p->pos + ahead] : -1;
}

void toml_skip_blanks(struct toml_parser *p)
{
    while (toml_peek(p, 0) == ' ' || toml_peek(p, 0) == '\t')
        p->pos++;
}

int toml_newline(struct toml_parser *p)
{
    size_t n = toml_peek(p, 0) == '\n' ? 1 : toml_peek(p, 0) == '\r' && toml_peek(p, 1) == '\n' ? 2 : 0;

    p->pos += n;
    p->line += n > 0;
    return n > 0;
}

int toml_comment(struct toml_parser *p)
{
    int c;

    if (toml_peek(p, 0) != '#')
        return 0;
    while ((c = toml_peek(p, 0)) >= 0 && c != '\n' && !(c == '\r' && toml_peek(p, 1) == '\n')) {
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            return toml_fail(p, p->pos, EV_EPARSE, "control character in a comment");
        p->pos++;
    }
    return 0;
}

/* Blanks, newlines and comments between the items of an array. */
static int skip_lines(struct toml_parser *p)
{
    int rc = 0;

    do {
        toml_skip_blanks(p);
        EV_TRY(toml_comment(p));
    } while (toml_newline(p));
out:
    return rc;
}

/* ---- nodes ---- */

static struct ev_toml *node_new(struct ev_toml_doc *doc)
{
    struct toml_block *b = doc->blocks;

    if (!b || b->used == BLOCK_NODES) {
        b = ev_alloc(sizeof *b);
        b->next = doc->blocks;
        doc->blocks = b;
    }
    return &b->node[b->used++];
}

static size_t index_slot(const struct ev_toml_doc *doc, const struct ev_toml *table, ev_slice key)
{
    uint64_t h = 1469598103934665603ull ^ (uintptr_t)table;

    for (size_t i = 0; i < key.n; i++)
        h = (h ^ key.p[i]) * 1099511628211ull;
    return (size_t)(h ^ h >> 29) & (doc->index_size - 1);
}

static struct ev_toml *find(const struct ev_toml_doc *doc, const struct ev_toml *table, ev_slice key)
{
    struct ev_toml *n = doc->index[index_slot(doc, table, key)];

    while (n && !(n->parent == table && ev_slice_eq(n->key, key)))
        n = n->chain;
    return n;
}

static void index_put(struct ev_toml_doc *doc, struct ev_toml *node)
{
    size_t slot = index_slot(doc, node->parent, node->key);

    node->chain = doc->index[slot];
    doc->index[slot] = node;
}

static void index_grow(struct ev_toml_doc *doc)
{
    doc->index_size *= 2;
    ev_free(doc->index);
    doc->index = ev_alloc(doc->index_size * sizeof *doc->index);
    for (struct toml_block *b = doc->blocks; b; b = b->next)
        for (size_t i = 0; i < b->used; i++)
            if (b->node[i].parent && b->node[i].parent->type == EV_TOML_TABLE)
                index_put(doc, &b->node[i]);
}

static void adopt(struct ev_toml *parent, struct ev_toml *child)
{
    child->parent = parent;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->n++;
}

/* A new child of a table or an array (key empty); `at` is the key's or the value's offset. */
static int child_new(struct toml_parser *p, struct ev_toml *parent, ev_slice key, size_t at,
                     struct ev_toml **out)
{
    struct ev_toml_doc *doc = p->doc;
    bool keyed = parent->type == EV_TOML_TABLE;
    struct ev_toml *node;

    if (parent->depth + 1 >= EV_TOML_DEPTH)
        return toml_fail(p, at, EV_ELIMIT, "nested deeper than %d", EV_TOML_DEPTH);
    if (keyed && ++doc->n_keys > EV_TOML_KEYS)
        return toml_fail(p, at, EV_ELIMIT, "more than %d keys", EV_TOML_KEYS);
    if (!keyed && ++doc->n_items > EV_TOML_ITEMS)
        return toml_fail(p, at, EV_ELIMIT, "more than %d array items", EV_TOML_ITEMS);
    node = node_new(doc);
    node->depth = (uint8_t)(parent->depth + 1);
    node->key = key;
    node->at = at;
    node->line = p->line;
    node->section = p->section;
    adopt(parent, node);
    if (keyed) {
        index_put(doc, node);
        if (doc->n_keys > doc->index_size)
            index_grow(doc);
    }
    *out = node;
    return 0;
}

/* ---- keys ---- */

static bool is_bare(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static int simple_key(struct toml_parser *p, ev_slice *out)
{
    size_t from = p->pos;

    if (toml_peek(p, 0) == '"' || toml_peek(p, 0) == '\'')
        return toml_string(p, false, out);
    while (is_bare(toml_peek(p, 0)))
        p->pos++;
    if (p->pos == from)
        return toml_fail(p, from, EV_EPARSE, "a key was expected");
    *out = ev_slice_of(p->doc->text + from, p->pos - from);
    return 0;
}

/* a . "b" . c — at most EV_TOML_DEPTH parts; blanks after the last one are consumed. */
static int key_path(struct toml_parser *p, ev_slice part[EV_TOML_DEPTH], size_t *n)
{
    int rc = 0;

    p->key_from = p->key_to = p->pos;
    for (*n = 0;; p->pos++) {
        if (*n == EV_TOML_DEPTH)
            return toml_fail(p, p->pos, EV_ELIMIT, "nested deeper than %d", EV_TOML_DEPTH);
        toml_skip_blanks(p);
        EV_TRY(simple_key(p, &part[(*n)++]));
        p->key_to = p->pos;
        toml_skip_blanks(p);
        if (toml_peek(p, 0) != '.')
            break;
    }
out:
    return rc;
}

/* ---- key = value ---- */

static int value(struct toml_parser *p, struct ev_toml *node);

/* The table that a part of a path (not the last) means, made when it is not there: EV_TOML_DOTTED by a
 * key, which extends only what keys made; EV_TOML_IMPLIED by a header, which passes through every table
 * that is no value, and means the last of [[...]]. */
static int step(struct toml_parser *p, struct ev_toml **table, ev_slice key, size_t at, enum ev_toml_form made)
{
    struct ev_toml *node = find(p->doc, *table, key);
    int rc;

    if (!node) {
        if ((rc = child_new(p, *table, key, at, &node)) < 0)
            return rc;
        node->type = EV_TOML_TABLE;
        node->form = made;
    }
    if (made == EV_TOML_IMPLIED && node->form == EV_TOML_TABLES)
        node = node->last;
    if (node->type != EV_TOML_TABLE ||
        (made == EV_TOML_IMPLIED ? node->form == EV_TOML_VALUE : node->form != EV_TOML_DOTTED))
        return toml_fail(p, at, EV_EPARSE, "\"%.*s\" is already set on line %u and cannot be extended",
                         key.n > 60 ? 60 : (int)key.n, (const char *)key.p, node->line);
    *table = node;
    return 0;
}

static int pair(struct toml_parser *p, struct ev_toml *table, struct ev_toml **out)
{
    ev_slice part[EV_TOML_DEPTH];
    struct ev_toml *node;
    size_t n, at = p->pos;
    int rc = 0;

    EV_TRY(key_path(p, part, &n));
    for (size_t i = 0; i + 1 < n; i++)
        EV_TRY(step(p, &table, part[i], at, EV_TOML_DOTTED));
    node = find(p->doc, table, part[n - 1]);
    if (node)
        return toml_fail(p, at, EV_EPARSE, "set twice, first on line %u", node->line);
    if (toml_peek(p, 0) != '=')
        return toml_fail(p, p->pos, EV_EPARSE, "\"=\" was expected after the key");
    p->pos++;
    toml_skip_blanks(p);
    EV_TRY(child_new(p, table, part[n - 1], at, &node));
    EV_TRY(value(p, node));
    *out = node;
out:
    return rc;
}

static int array(struct toml_parser *p, struct ev_toml *node)
{
    struct ev_toml *item;
    int rc = 0;

    node->type = EV_TOML_ARRAY;
    p->pos++;
    for (;;) {
        EV_TRY(skip_lines(p));
        if (toml_peek(p, 0) == ']')
            break;
        EV_TRY(child_new(p, node, (ev_slice){0}, p->pos, &item));
        EV_TRY(value(p, item));
        EV_TRY(skip_lines(p));
        if (toml_peek(p, 0) == ']')
            break;
        if (toml_peek(p, 0) != ',')
            return toml_fail(p, p->pos, EV_EPARSE, "\",\" or \"]\" was expected in the array");
        p->pos++;
    }
    p->pos++;
out:
    return rc;
}

static int inline_table(struct toml_parser *p, struct ev_toml *node)
{
    size_t key_from = p->key_from, key_to = p->key_to;
    struct ev_toml *member;
    int rc = 0;

    node->type = EV_TOML_TABLE;
    p->pos++;
    toml_skip_blanks(p);
    while (toml_peek(p, 0) != '}' || node->n > 0) {
        EV_TRY(pair(p, node, &member));
        p->key_from = key_from;
        p->key_to = key_to;
        toml_skip_blanks(p);
        if (toml_peek(p, 0) == '}')
            break;
        if (toml_peek(p, 0) != ',')
            return toml_fail(p, p->pos, EV_EPARSE,
                             "\",\" or \"}\" was expected in the inline table (it is one line)");
        p->pos++;
        toml_skip_blanks(p);
    }
    p->pos++;
out:
    return rc;
}

static int value(struct toml_parser *p, struct ev_toml *node)
{
    int c = toml_peek(p, 0), rc;

    node->form = EV_TOML_VALUE;
    node->from = p->pos;
    if (c == '"' || c == '\'') {
        node->type = EV_TOML_STRING;
        rc = toml_string(p, true, &node->text);
    } else if (c == '[') {
        rc = array(p, node);
    } else if (c == '{') {
        rc = inline_table(p, node);
    } else {
        rc = toml_scalar(p, node);
    }
    node->to = p->pos;
    return rc;
}

/* ---- [headers] ---- */

/* The table that a header's last part opens: [table] itself, or a new element of [[tables]]. */
static int header_table(struct toml_parser *p, struct ev_toml *parent, ev_slice key, size_t at, bool tables,
                        struct ev_toml **out)
{
    struct ev_toml *node = find(p->doc, parent, key);
    int rc = 0;

    if (node && node->form != (tables ? EV_TOML_TABLES : EV_TOML_IMPLIED))
        return toml_fail(p, at, EV_EPARSE, tables ? "already set on line %u, and not as [[...]]"
                                                  : "defined twice, first on line %u", node->line);
    if (!node)
        EV_TRY(child_new(p, parent, key, at, &node));
    if (tables) {
        node->type = EV_TOML_ARRAY;
        node->form = EV_TOML_TABLES;
        EV_TRY(child_new(p, node, (ev_slice){0}, at, &node));
    }
    node->type = EV_TOML_TABLE;
    node->form = EV_TOML_HEADER;
    node->line = p->line;
    node->at = at;
    *out = node;
out:
    return rc;
}

static int header(struct toml_parser *p)
{
    bool tables = toml_peek(p, 1) == '[';
    ev_slice part[EV_TOML_DEPTH];
    struct ev_toml *t = p->doc->root;
    size_t n, at = p->pos;
    int rc = 0;

    p->pos += tables ? 2 : 1;
    EV_TRY(key_path(p, part, &n));
    if (toml_peek(p, 0) != ']' || (tables && toml_peek(p, 1) != ']'))
        return toml_fail(p, p->pos, EV_EPARSE, "\"%s\" was expected", tables ? "]]" : "]");
    p->pos += tables ? 2 : 1;
    for (size_t i = 0; i + 1 < n; i++)
        EV_TRY(step(p, &t, part[i], at, EV_TOML_IMPLIED));
    EV_TRY(header_table(p, t, part[n - 1], at, tables, &t));
    p->section = t;
    t->section = t;
out:
    return rc;
}

/* ---- lines ---- */

/* The section and every dotted table on the way to what was just read now end with this line. */
static void move_tails(struct toml_parser *p, struct ev_toml *node)
{
    p->section->tail = p->pos;
    for (; node && node != p->section; node = node->parent)
        if (node->form == EV_TOML_DOTTED)
            node->tail = p->pos;
}

static int line(struct toml_parser *p)
{
    struct ev_toml *node = NULL;
    bool content = true;
    int rc = 0;

    p->key_from = p->key_to = 0;
    toml_skip_blanks(p);
    if (toml_peek(p, 0) == '[')
        EV_TRY(header(p));
    else if (is_bare(toml_peek(p, 0)) || toml_peek(p, 0) == '"' || toml_peek(p, 0) == '\'')
        EV_TRY(pair(p, p->section, &node));
    else
        content = false;
    toml_skip_blanks(p);
    EV_TRY(toml_comment(p));
    if (content)
        move_tails(p, node);
    if (p->pos < p->doc->n && !toml_newline(p))
        return toml_fail(p, p->pos, EV_EPARSE,
                         content ? "the end of the line was expected" : "a key was expected");
out:
    return rc;
}

static int check_utf8(struct toml_parser *p)
{
    const uint8_t *end, *at = p->doc->text, *last = at + p->doc->n;

    for (; at < last; at = end + 1) {
        end = memchr(at, '\n', (size_t)(last - at));
        if (!end)
            end = last;
        if (!ev_utf8_valid(ev_slice_of(at, (size_t)(end - at))))
            return toml_fail(p, (size_t)(at - p->doc->text), EV_EPARSE, "not UTF-8");
    }
    return 0;
}

static struct ev_toml_doc *doc_new(ev_slice text)
{
    struct ev_toml_doc *doc = ev_alloc(sizeof *doc);

    doc->n = text.n;
    doc->text = ev_alloc(text.n + 1);
    doc->pool = ev_alloc(text.n + 1);
    if (text.n > 0)
        memcpy(doc->text, text.p, text.n);
    doc->index_size = 64;
    doc->index = ev_alloc(doc->index_size * sizeof *doc->index);
    doc->root = node_new(doc);
    doc->root->type = EV_TOML_TABLE;
    doc->root->form = EV_TOML_HEADER;
    doc->root->line = 1;
    doc->root->section = doc->root;
    return doc;
}

/* ---- public ---- */

int ev_toml_parse(ev_slice text, struct ev_toml_doc **out, struct ev_toml_pos *where,
                  struct ev_err *err)
{
    struct toml_parser p = { .line = 1, .where = where, .err = err };
    int rc = 0;

    if (where)
        *where = (struct ev_toml_pos){ 1, 1 };
    if (text.n > EV_TOML_MAX)
        return ev_fail(err, EV_ELIMIT, "line 1, column 1: larger than %d bytes", EV_TOML_MAX);
    p.doc = doc_new(text);
    p.section = p.doc->root;
    EV_TRY(check_utf8(&p));
    if (text.n >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0)
        p.pos = 3;                                  /* editors on Windows put it there */
    while (p.pos < p.doc->n)
        EV_TRY(line(&p));
    *out = p.doc;
    p.doc = NULL;
out:
    ev_toml_free(p.doc);
    return rc;
}

void ev_toml_free(struct ev_toml_doc *doc)
{
    if (!doc)
        return;
    for (struct toml_block *next, *b = doc->blocks; b; b = next) {
        next = b->next;
        ev_free(b);
    }
    ev_free(doc->index);
    ev_free(doc->pool);
    ev_free(doc->text);
    ev_free(doc);
}

const struct ev_toml *ev_toml_root(const struct ev_toml_doc *doc)
{
    return doc->root;
}

const struct ev_toml *ev_toml_get(const struct ev_toml *table, ev_slice key)
{
    if (!table || table->type != EV_TOML_TABLE)
        return NULL;
    for (const struct ev_toml *n = table->first; n; n = n->next)
        if (ev_slice_eq(n->key, key))
            return n;
    return NULL;
}

const struct ev_toml *ev_toml_item(const struct ev_toml *array_node, size_t i)
{
    const struct ev_toml *n;

    if (!array_node || array_node->type != EV_TOML_ARRAY)
        return NULL;
    for (n = array_node->first; n && i > 0; i--)
        n = n->next;
    return n;
}

struct ev_toml_pos ev_toml_where(const struct ev_toml_doc *doc, const struct ev_toml *node)
{
    return (struct ev_toml_pos){ node->line, column_of(doc, node->at) };
}

const char *ev_toml_type_name(enum ev_toml_type type)
{
    static const char *const names[] = {
        [EV_TOML_STRING] = "string", [EV_TOML_INT] = "integer", [EV_TOML_FLOAT] = "float",
        [EV_TOML_BOOL] = "boolean", [EV_TOML_DATETIME] = "date-time",
        [EV_TOML_DATETIME_LOCAL] = "local date-time", [EV_TOML_DATE] = "date",
        [EV_TOML_TIME] = "time", [EV_TOML_ARRAY] = "array", [EV_TOML_TABLE] = "table",
    };

    return names[type];
}

/* Members of tables are compared by key, items of arrays by position. */
static bool equal_children(const struct ev_toml *a, const struct ev_toml *b)
{
    const struct ev_toml *x, *y;

    if (a->n != b->n)
        return false;
    for (x = a->first, y = b->first; x; x = x->next, y = y->next) {
        const struct ev_toml *other = a->type == EV_TOML_TABLE ? ev_toml_get(b, x->key) : y;

        if (!other || !ev_toml_equal(x, other))
            return false;
    }
    return true;
}

bool ev_toml_equal(const struct ev_toml *a, const struct ev_toml *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case EV_TOML_INT: return a->integer == b->integer;
    case EV_TOML_FLOAT: return memcmp(&a->real, &b->real, sizeof a->real) == 0;   /* nan too */
    case EV_TOML_BOOL: return a->boolean == b->boolean;
    case EV_TOML_ARRAY:
    case EV_TOML_TABLE: return equal_children(a, b);
    default: return ev_slice_eq(a->text, b->text);
    }
}
