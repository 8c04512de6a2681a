/* json.h — JSON values; the one door of jansson.
 *
 * A value made or parsed here is owned by whoever holds it and freed with ev_json_free; values
 * reached from inside it are borrowed. Parsing refuses duplicate keys, NUL in strings, trailing
 * text and invalid UTF-8. Integers are 64 bits; larger numbers become reals. */
#ifndef EV_CODEC_JSON_H
#define EV_CODEC_JSON_H

#include "base/buf.h"

enum ev_json_type { EV_JSON_NULL, EV_JSON_BOOL, EV_JSON_INT, EV_JSON_REAL, EV_JSON_STRING,
                    EV_JSON_ARRAY, EV_JSON_OBJECT };
struct ev_json;

int ev_json_parse(ev_slice text, struct ev_json **out, struct ev_err *err) EV_MUST_USE;
void ev_json_free(struct ev_json *j);                               /* NULL is fine */
enum ev_json_type ev_json_type(const struct ev_json *j);            /* NULL: EV_JSON_NULL */
const struct ev_json *ev_json_get(const struct ev_json *object, const char *key);   /* NULL: none */
const struct ev_json *ev_json_item(const struct ev_json *array, size_t i);          /* NULL: none */
size_t ev_json_count(const struct ev_json *j);                      /* items, members; else 0 */
/* Members in insertion order: start with *iter = NULL; false when there are no more. */
bool ev_json_next(const struct ev_json *object, void **iter, const char **key, const struct ev_json **value);
ev_slice ev_json_str(const struct ev_json *j);                      /* empty when not a string; NUL follows */
int64_t ev_json_int(const struct ev_json *j);                       /* 0 when not an integer */
double ev_json_real(const struct ev_json *j);                       /* int or real, else 0 */
bool ev_json_bool(const struct ev_json *j);                         /* false when not a boolean */

struct ev_json *ev_json_new_null(void);
struct ev_json *ev_json_new_bool(bool v);
struct ev_json *ev_json_new_int(int64_t v);
struct ev_json *ev_json_new_real(double v);                         /* NaN and infinities: null */
struct ev_json *ev_json_new_string(ev_slice utf8);                  /* NULL when not UTF-8 */
struct ev_json *ev_json_new_array(void);
struct ev_json *ev_json_new_object(void);
/* A value of NULL is stored as null. A key that is not UTF-8 is left out, its value freed. */
void ev_json_set(struct ev_json *object, const char *key, struct ev_json *take_value);
void ev_json_append(struct ev_json *array, struct ev_json *take_value);

enum { EV_JSON_COMPACT = 0, EV_JSON_PRETTY = 1, EV_JSON_SORTED = 2 };    /* pretty: two blanks a level */
int ev_json_put(struct ev_buf *out, const struct ev_json *j, int flags) EV_MUST_USE;

#endif
