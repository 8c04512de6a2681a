/* toml_edit.c — changes one value in the text of a TOML document, and nothing else.
 *
 * Each change parses the text, finds the bytes that the value, the line or the section occupies,
 * and splices. The parser is asked again after every change, so an edit that would not read back
 * is an error and never a damaged file. */
#include <stdio.h>

#include "codec/toml.h"

/* text[from, to) becomes `with`. */
struct splice {
    size_t from, to;
    struct ev_buf with;
};

struct edit {
    ev_slice text;
    const struct ev_toml_edit *want;
    const struct ev_toml_doc *doc;
    const char *newline;
    struct splice cut;
};

/* ---- literals ---- */

int ev_toml_put_string(struct ev_buf *out, ev_slice s)
{
    static const char plain[] = "btnfr\"\\", codes[] = "\b\t\n\f\r\"\\";
    int rc = 0;

    EV_TRY(ev_buf_putc(out, '"'));
    for (size_t i = 0; i < s.n; i++) {
        const char *known = s.p[i] ? strchr(codes, s.p[i]) : NULL;

        if (known) {
            EV_TRY(ev_buf_putc(out, '\\'));
            EV_TRY(ev_buf_putc(out, (uint8_t)plain[known - codes]));
        } else if (s.p[i] < 0x20 || s.p[i] == 0x7F) {
            EV_TRY(ev_buf_printf(out, "\\u%04X", s.p[i]));
        } else {
            EV_TRY(ev_buf_putc(out, s.p[i]));
        }
    }
    EV_TRY(ev_buf_putc(out, '"'));
out:
    return rc;
}

int ev_toml_put_key(struct ev_buf *out, ev_slice key)
{
    static const char bare[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    for (size_t i = 0; i < key.n; i++)
        if (!key.p[i] || !strchr(bare, key.p[i]))
            return ev_toml_put_string(out, key);
    return key.n > 0 ? ev_buf_put_slice(out, key) : ev_toml_put_string(out, key);
}

/* "key = literal" */
static int put_pair(struct ev_buf *out, ev_slice key, ev_slice literal)
{
    int rc = 0;

    EV_TRY(ev_toml_put_key(out, key));
    EV_TRY(ev_buf_puts(out, " = "));
    EV_TRY(ev_buf_put_slice(out, literal));
out:
    return rc;
}

/* The wanted path from its element `first` on, each followed by a dot. */
static int put_prefix(const struct edit *e, struct ev_buf *out, size_t first)
{
    int rc = 0;

    for (size_t i = first; i < e->want->n_path; i++) {
        EV_TRY(ev_toml_put_key(out, e->want->path[i]));
        EV_TRY(ev_buf_putc(out, '.'));
    }
out:
    return rc;
}

/* ---- where things are ---- */

static const char *newline_of(ev_slice text)
{
    const uint8_t *nl = text.n ? memchr(text.p, '\n', text.n) : NULL;

    return nl && nl > text.p && nl[-1] == '\r' ? "\r\n" : "\n";
}

static size_t bom_length(ev_slice text)
{
    return text.n >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

static size_t line_start(ev_slice text, size_t at)
{
    size_t first = bom_length(text);

    while (at > first && text.p[at - 1] != '\n')
        at--;
    return at;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool is_inline(const struct ev_toml *table)
{
    return table->form == EV_TOML_VALUE;
}

static bool inside_inline(const struct ev_toml *node)
{
    for (node = node->parent; node; node = node->parent)
        if (node->form == EV_TOML_VALUE)
            return true;
    return false;
}

/* Number of steps from the root, counting keys only. */
static size_t keys_above(const struct ev_toml *table)
{
    size_t n = 0;

    for (; table->parent; table = table->parent)
        n++;
    return n;
}

/* ---- the kinds of change ---- */

static int replace(struct edit *e, const struct ev_toml *node)
{
    e->cut.from = node->from;
    e->cut.to = node->to;
    return ev_buf_put_slice(&e->cut.with, e->want->literal);
}

/* A member of an inline table goes with one comma: the one behind it, or else the one before. */
static void remove_member(struct edit *e, const struct ev_toml *node)
{
    size_t from = node->at, to = node->to;

    while (is_blank(e->text.p[to]))             /* a "}" follows somewhere */
        to++;
    if (e->text.p[to] == ',') {
        to++;
        while (is_blank(e->text.p[to]))
            to++;
    } else {
        to = node->to;
        while (from > 0 && is_blank(e->text.p[from - 1]))
            from--;
        if (from > 0 && e->text.p[from - 1] == ',')
            from--;
    }
    e->cut.from = from;
    e->cut.to = to;
}

static void remove_line(struct edit *e, const struct ev_toml *node)
{
    const uint8_t *nl = memchr(e->text.p + node->to, '\n', e->text.n - node->to);

    e->cut.from = line_start(e->text, node->at);
    e->cut.to = nl ? (size_t)(nl - e->text.p) + 1 : e->text.n;
}

/* Into { ... }, behind its last member. `first`: path elements that the table does not have. */
static int insert_member(struct edit *e, const struct ev_toml *table, size_t first)
{
    size_t end = table->to - 1;
    bool tight = table->n == 0 && !is_blank(e->text.p[end - 1]);
    int rc = 0;

    while (is_blank(e->text.p[end - 1]))
        end--;
    e->cut.from = e->cut.to = end;
    EV_TRY(ev_buf_puts(&e->cut.with, table->n > 0 ? ", " : " "));
    EV_TRY(put_prefix(e, &e->cut.with, first));
    EV_TRY(put_pair(&e->cut.with, e->want->key, e->want->literal));
    EV_TRY(ev_buf_puts(&e->cut.with, tight ? " " : ""));
out:
    return rc;
}

/* A new line behind the last one of a section (or of a dotted table in it), indented like it. */
static int insert_line(struct edit *e, const struct ev_toml *table, size_t first)
{
    size_t start = line_start(e->text, table->last ? table->last->at : table->tail), end = start;
    int rc = 0;

    while (end < table->tail && is_blank(e->text.p[end]))
        end++;
    e->cut.from = e->cut.to = table->tail;
    EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
    EV_TRY(ev_buf_put(&e->cut.with, e->text.p + start, end - start));
    EV_TRY(put_prefix(e, &e->cut.with, first));
    EV_TRY(put_pair(&e->cut.with, e->want->key, e->want->literal));
out:
    return rc;
}

/* The root has no line of its own yet: the new one becomes the first line of the text. */
static int insert_top(struct edit *e)
{
    size_t at = bom_length(e->text);
    int rc = 0;

    e->cut.from = e->cut.to = at;
    EV_TRY(put_prefix(e, &e->cut.with, 0));
    EV_TRY(put_pair(&e->cut.with, e->want->key, e->want->literal));
    EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
    if (at < e->text.n && e->text.p[at] != '\n' && e->text.p[at] != '\r')
        EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
out:
    return rc;
}

/* [path] at the end of the text, one blank line before it. */
static int append_section(struct edit *e)
{
    size_t n = e->text.n, last = line_start(e->text, n ? n - 1 : 0);
    bool blank_end = n == bom_length(e->text) || e->text.p[last] == '\n' || e->text.p[last] == '\r';
    int rc = 0;

    e->cut.from = e->cut.to = n;
    if (n > 0 && e->text.p[n - 1] != '\n')
        EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
    if (!blank_end)
        EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
    EV_TRY(ev_buf_putc(&e->cut.with, '['));
    EV_TRY(put_prefix(e, &e->cut.with, 0));
    e->cut.with.p[e->cut.with.n - 1] = ']';             /* in place of the last dot */
    EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
    EV_TRY(put_pair(&e->cut.with, e->want->key, e->want->literal));
    EV_TRY(ev_buf_puts(&e->cut.with, e->newline));
out:
    return rc;
}

/* ---- one change ---- */

/* Goes down the path as far as it exists: `depth` elements, ending in `table`. */
static int descend(const struct edit *e, const struct ev_toml **table, size_t *depth,
                   struct ev_err *err)
{
    const struct ev_toml *next;

    *table = ev_toml_root(e->doc);
    for (*depth = 0; *depth < e->want->n_path; (*depth)++) {
        next = ev_toml_get(*table, e->want->path[*depth]);
        if (!next)
            break;
        if (next->type != EV_TOML_TABLE)
            return ev_fail(err, EV_ECONFIG, "line %u: %.*s is not a table", next->line,
                           next->key.n > 60 ? 60 : (int)next->key.n, (const char *)next->key.p);
        *table = next;
    }
    return 0;
}

static int insert(struct edit *e, const struct ev_toml *table, size_t depth)
{
    const struct ev_toml *dotted = table;
    bool whole = depth == e->want->n_path;

    if (is_inline(table))
        return insert_member(e, table, depth);
    if (inside_inline(table)) {                 /* { a.b = 1 } and the path ends in a */
        while (!is_inline(dotted))
            dotted = dotted->parent;
        return insert_member(e, dotted, keys_above(dotted));
    }
    if (table->form == EV_TOML_DOTTED)
        return insert_line(e, table, keys_above(table->section));
    if (whole && e->want->n_path == 0)
        return table->tail > 0 ? insert_line(e, table, 0) : insert_top(e);
    if (whole && table->form == EV_TOML_HEADER)
        return insert_line(e, table, depth);
    return append_section(e);
}

static int plan(struct edit *e, struct ev_err *err)
{
    const struct ev_toml *table, *node;
    size_t depth;
    int rc = 0;

    EV_TRY(descend(e, &table, &depth, err));
    node = depth == e->want->n_path ? ev_toml_get(table, e->want->key) : NULL;
    if (!node)
        return e->want->literal.n > 0 ? insert(e, table, depth) : 0;
    if (node->form != EV_TOML_VALUE)
        return ev_fail(err, EV_ECONFIG, "line %u: %.*s is a table, not a value", node->line,
                       node->key.n > 60 ? 60 : (int)node->key.n, (const char *)node->key.p);
    if (e->want->literal.n > 0)
        return replace(e, node);
    if (inside_inline(node))
        remove_member(e, node);
    else
        remove_line(e, node);
out:
    return rc;
}

/* The literal alone, as a document "x = literal"; more than one key in it is an attempt to smuggle. */
static int parse_literal(ev_slice literal, struct ev_toml_doc **out, struct ev_err *err)
{
    struct ev_buf b = EV_BUF_INIT(EV_TOML_MAX);
    struct ev_toml_doc *doc = NULL;
    int rc = 0;

    EV_TRY(ev_buf_puts(&b, "x = "));
    EV_TRY(ev_buf_put_slice(&b, literal));
    EV_TRY(ev_toml_parse(ev_buf_slice(&b), &doc, NULL, err));
    if (ev_toml_root(doc)->n != 1 || ev_toml_root(doc)->first->to != b.n)
        rc = ev_fail(err, EV_EPARSE, "not one value");
out:
    if (rc < 0) {
        ev_err_wrap(err, "new value");
        ev_toml_free(doc);
        doc = NULL;
    }
    *out = doc;
    ev_buf_fini(&b);
    return rc;
}

static bool already_so(const struct edit *e, const struct ev_toml_doc *literal)
{
    const struct ev_toml *table, *node;
    size_t depth;

    if (!literal || descend(e, &table, &depth, NULL) < 0 || depth != e->want->n_path)
        return false;
    node = ev_toml_get(table, e->want->key);
    return node && ev_toml_equal(node, ev_toml_root(literal)->first);
}

static int splice(ev_slice text, const struct splice *s, struct ev_buf *out)
{
    int rc = 0;

    EV_TRY(ev_buf_put(out, text.p, s->from));
    EV_TRY(ev_buf_put(out, s->with.p, s->with.n));
    EV_TRY(ev_buf_put(out, text.p + s->to, text.n - s->to));
out:
    return rc;
}

/* Reads the changed text back. */
static int check(ev_slice text, const struct ev_toml_edit *want, const struct ev_toml_doc *literal,
                 struct ev_err *err)
{
    struct edit e = { .text = text, .want = want };
    struct ev_toml_doc *doc = NULL;
    int rc = 0;

    EV_TRY(ev_toml_parse(text, &doc, NULL, err));
    e.doc = doc;
    if (literal && !already_so(&e, literal))
        rc = ev_fail(err, EV_ECONFIG, "the value cannot be put there");
out:
    if (rc < 0)
        ev_err_wrap(err, "after the change");
    ev_toml_free(doc);
    return rc;
}

static int apply_one(ev_slice text, const struct ev_toml_edit *want, struct ev_buf *out,
                     struct ev_err *err)
{
    struct edit e = { .text = text, .want = want, .newline = newline_of(text) };
    struct ev_toml_doc *doc = NULL, *literal = NULL;
    int rc = 0;

    ev_buf_init(&e.cut.with, EV_TOML_MAX);
    if (want->literal.n > 0)
        EV_TRY(parse_literal(want->literal, &literal, err));
    EV_TRY(ev_toml_parse(text, &doc, NULL, err));
    e.doc = doc;
    if (!already_so(&e, literal))
        EV_TRY(plan(&e, err));
    rc = splice(text, &e.cut, out);
    if (rc < 0) {
        ev_fail(err, rc, "the changed text would be too large");
        goto out;
    }
    EV_TRY(check(ev_buf_slice(out), want, literal, err));
out:
    ev_toml_free(doc);
    ev_toml_free(literal);
    ev_buf_fini(&e.cut.with);
    return rc;
}

int ev_toml_apply(ev_slice text, const struct ev_toml_edit *edits, size_t n, struct ev_buf *out,
                  struct ev_err *err)
{
    struct ev_buf now = EV_BUF_INIT(EV_TOML_MAX), next = EV_BUF_INIT(EV_TOML_MAX), swap;
    int rc = 0;

    EV_TRY(ev_buf_put_slice(&now, text));
    for (size_t i = 0; i < n; i++) {
        ev_buf_clear(&next);
        EV_TRY(apply_one(ev_buf_slice(&now), &edits[i], &next, err));
        swap = now, now = next, next = swap;
    }
    EV_TRY(ev_buf_put_slice(out, ev_buf_slice(&now)));
out:
    if (rc < 0)
        ev_err_wrap(err, "changing TOML");
    ev_buf_fini(&now);
    ev_buf_fini(&next);
    return rc;
}
