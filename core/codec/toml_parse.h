/* toml_parse.h — the parser's state, shared by toml.c and toml_value.c only. */
#ifndef EV_CODEC_TOML_PARSE_H
#define EV_CODEC_TOML_PARSE_H

#include "codec/toml.h"

struct toml_block;                  /* nodes are given out of blocks */

struct ev_toml_doc {
    uint8_t *text;                  /* copy of the input */
    size_t n;
    uint8_t *pool;                  /* decoded strings: never longer than what they were read from */
    size_t pool_used;
    struct toml_block *blocks;
    struct ev_toml **index;         /* (table, key) → node, chained */
    size_t index_size;
    size_t n_keys, n_items;
    struct ev_toml *root;
};

struct toml_parser {
    struct ev_toml_doc *doc;
    size_t pos;
    uint32_t line;
    struct ev_toml *section;        /* the header table that lines go into */
    size_t key_from, key_to;        /* text of the key being worked on, for messages */
    struct ev_toml_pos *where;
    struct ev_err *err;
};

int toml_fail(struct toml_parser *p, size_t at, int code, const char *fmt, ...) EV_PRINTF(4, 5);
int toml_peek(const struct toml_parser *p, size_t ahead);           /* byte, or -1 at the end */
void toml_skip_blanks(struct toml_parser *p);                       /* blanks and tabs */
int toml_newline(struct toml_parser *p);                            /* 1 consumed, 0 none here */
int toml_comment(struct toml_parser *p);                            /* up to the newline */
/* A quoted string at the cursor, of any of the four kinds. */
int toml_string(struct toml_parser *p, bool multiline_allowed, ev_slice *out);
/* Number, boolean, date or time at the cursor. */
int toml_scalar(struct toml_parser *p, struct ev_toml *node);

#endif
