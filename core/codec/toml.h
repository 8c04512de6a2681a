/* toml.h — TOML 1.0: a strict parser that keeps source positions, and an editor that changes one
 * value and leaves every other byte of the text as it was.
 *
 * A document owns its nodes, its decoded strings and a copy of the text; everything reached from
 * ev_toml_root lives until ev_toml_free. Dates and times are checked and kept as text. */
#ifndef EV_CODEC_TOML_H
#define EV_CODEC_TOML_H

#include "base/buf.h"

enum {
    EV_TOML_MAX = 1 << 20,          /* bytes of a document */
    EV_TOML_DEPTH = 32,             /* nesting of tables and arrays, headers and dotted keys too */
    EV_TOML_KEYS = 10000,           /* keys of a document, in all tables */
    EV_TOML_ITEMS = 65536           /* items of all arrays */
};

enum ev_toml_type {
    EV_TOML_STRING, EV_TOML_INT, EV_TOML_FLOAT, EV_TOML_BOOL,
    EV_TOML_DATETIME, EV_TOML_DATETIME_LOCAL, EV_TOML_DATE, EV_TOML_TIME,
    EV_TOML_ARRAY, EV_TOML_TABLE
};

/* How a node came to be; TOML's rules on what may be extended later hang on it. */
enum ev_toml_form {
    EV_TOML_VALUE,                  /* written as a value (scalar, [...], {...}): closed */
    EV_TOML_IMPLIED,                /* table only named on the way in [a.b.c] */
    EV_TOML_HEADER,                 /* [table], an element of [[tables]], and the root */
    EV_TOML_DOTTED,                 /* table made by a dotted key */
    EV_TOML_TABLES                  /* the array of [[tables]] */
};

struct ev_toml {
    enum ev_toml_type type;
    enum ev_toml_form form;
    uint8_t depth;
    uint32_t line;                  /* of the key, or of the value for an array's item; from 1 */
    size_t at;                      /* offset of the same */
    size_t from, to;                /* offsets of the value's own text; 0, 0 without one */
    size_t tail;                    /* HEADER, DOTTED: end of the last line that belongs to it */
    struct ev_toml *section;        /* the header table whose lines it was written in */
    ev_slice key;                   /* decoded; empty for an array's item and the root */
    ev_slice text;                  /* string: decoded; date or time: as written */
    int64_t integer;
    double real;
    bool boolean;
    size_t n;                       /* children */
    struct ev_toml *parent, *first, *last, *next;
    struct ev_toml *chain;          /* parser's index */
};

struct ev_toml_doc;
struct ev_toml_pos { uint32_t line, column; };      /* from 1; columns count characters */

/* On failure `where` (may be NULL) has the place; the message has it too. */
int ev_toml_parse(ev_slice text, struct ev_toml_doc **out, struct ev_toml_pos *where,
                  struct ev_err *err) EV_MUST_USE;
void ev_toml_free(struct ev_toml_doc *doc);
const struct ev_toml *ev_toml_root(const struct ev_toml_doc *doc);
const struct ev_toml *ev_toml_get(const struct ev_toml *table, ev_slice key);   /* NULL: none */
const struct ev_toml *ev_toml_item(const struct ev_toml *array, size_t i);      /* from 0 */
struct ev_toml_pos ev_toml_where(const struct ev_toml_doc *doc, const struct ev_toml *node);
const char *ev_toml_type_name(enum ev_toml_type type);
bool ev_toml_equal(const struct ev_toml *a, const struct ev_toml *b);           /* types and values */

/* One change. `literal` is the TOML text of the new value; empty removes the key (a key that is
 * not there is fine). A table that is not there is made at the end of the text. */
struct ev_toml_edit {
    const ev_slice *path;
    size_t n_path;
    ev_slice key;
    ev_slice literal;
};
/* Puts the changed text into `out`; on failure the content of `out` means nothing. A value that is
 * already equal leaves its spelling alone. EV_ECONFIG: the place cannot hold the change (a table
 * where a value is asked for, an array of tables on the path). */
int ev_toml_apply(ev_slice text, const struct ev_toml_edit *edits, size_t n, struct ev_buf *out,
                  struct ev_err *err) EV_MUST_USE;

/* Literals for the editor. */
int ev_toml_put_string(struct ev_buf *out, ev_slice s) EV_MUST_USE;     /* basic string, one line */
int ev_toml_put_key(struct ev_buf *out, ev_slice key) EV_MUST_USE;      /* bare where it may be */

#endif
