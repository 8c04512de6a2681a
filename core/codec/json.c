/* json.c — JSON values over jansson. `struct ev_json` is jansson's json_t under another name: the
 * pointers are the same, so nothing is copied or wrapped. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/json.h"
#include "codec/text.h"

static json_t *raw(const struct ev_json *j)
{
    return (json_t *)(uintptr_t)j;
}

static struct ev_json *own(json_t *j)
{
    return (struct ev_json *)j;
}

/* jansson says NULL when memory is gone; small allocations of ours never fail. */
static struct ev_json *made(json_t *j)
{
    if (!j)
        abort();
    return own(j);
}

/* ---- parsing ---- */

static json_t *load(ev_slice text, json_error_t *e)
{
    return json_loadb((const char *)(text.n ? text.p : (const uint8_t *)""), text.n,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, e);
}

/* End of the JSON string that starts at text.p[at]. */
static size_t string_end(ev_slice text, size_t at)
{
    for (at++; at < text.n && text.p[at] != '"'; at++) {
        if (text.p[at] == '\\')
            at++;
    }
    return at < text.n ? at + 1 : text.n;
}

/* End of the number that starts at text.p[at], with fraction and exponent; *whole without them. */
static size_t number_end(ev_slice text, size_t at, bool *whole)
{
    for (*whole = true; at < text.n && text.p[at] != 0 && strchr("0123456789.eE+-", text.p[at]); at++)
        *whole = *whole && text.p[at] >= '0' && text.p[at] <= '9';
    return at;
}

/* Does the decimal number (digits only) fit 64 bits with its sign? */
static bool fits(ev_slice digits, bool negative)
{
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";

    return digits.n < 19 || (digits.n == 19 && memcmp(digits.p, limit, 19) <= 0);
}

/* Copies the text with ".0" behind each integer that is too large for 64 bits: jansson refuses
 * those, and makes a real of what has a point. Strings pass untouched. */
static int widen(ev_slice text, struct ev_buf *out)
{
    size_t at, end;
    int rc = 0;

    for (at = 0; at < text.n; at = end) {
        bool whole = false;

        if (text.p[at] == '"')
            end = string_end(text, at);
        else if (text.p[at] >= '0' && text.p[at] <= '9')
            end = number_end(text, at, &whole);
        else
            end = at + 1;
        EV_TRY(ev_buf_put(out, text.p + at, end - at));
        if (whole && !fits(ev_slice_of(text.p + at, end - at), at > 0 && text.p[at - 1] == '-'))
            EV_TRY(ev_buf_puts(out, ".0"));
    }
out:
    return rc;
}

static json_t *load_widened(ev_slice text, json_error_t *e)
{
    struct ev_buf copy = EV_BUF_INIT(text.n + text.n / 4 + 16);     /* ".0" per 19 digits at most */
    json_t *j = NULL;

    if (widen(text, &copy) == 0)
        j = load(ev_buf_slice(&copy), e);
    ev_buf_fini(&copy);
    return j;
}

int ev_json_parse(ev_slice text, struct ev_json **out, struct ev_err *err)
{
    json_error_t e;
    json_t *j = load(text, &e);

    *out = NULL;
    if (!j && json_error_code(&e) == json_error_numeric_overflow)
        j = load_widened(text, &e);
    if (!j && json_error_code(&e) == json_error_out_of_memory)
        return ev_fail(err, -ENOMEM, "JSON: out of memory");
    if (!j)
        return ev_fail(err, EV_EPARSE, "JSON, line %d, column %d: %s", e.line > 0 ? e.line : 1,
                       e.column > 0 ? e.column : 1, e.text);
    *out = own(j);
    return 0;
}

void ev_json_free(struct ev_json *j)
{
    json_decref(raw(j));
}

/* ---- reading ---- */

enum ev_json_type ev_json_type(const struct ev_json *j)
{
    if (!j)
        return EV_JSON_NULL;
    switch (json_typeof(raw(j))) {
    case JSON_OBJECT: return EV_JSON_OBJECT;
    case JSON_ARRAY: return EV_JSON_ARRAY;
    case JSON_STRING: return EV_JSON_STRING;
    case JSON_INTEGER: return EV_JSON_INT;
    case JSON_REAL: return EV_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return EV_JSON_BOOL;
    case JSON_NULL: break;
    }
    return EV_JSON_NULL;
}

const struct ev_json *ev_json_get(const struct ev_json *object, const char *key)
{
    return own(json_object_get(raw(object), key));
}

const struct ev_json *ev_json_item(const struct ev_json *array, size_t i)
{
    return own(json_array_get(raw(array), i));
}

size_t ev_json_count(const struct ev_json *j)
{
    return json_is_object(raw(j)) ? json_object_size(raw(j)) : json_array_size(raw(j));
}

bool ev_json_next(const struct ev_json *object, void **iter, const char **key, const struct ev_json **value)
{
    json_t *o = raw(object);

    *iter = *iter ? json_object_iter_next(o, *iter) : json_object_iter(o);
    if (!*iter)
        return false;
    *key = json_object_iter_key(*iter);
    *value = own(json_object_iter_value(*iter));
    return true;
}

ev_slice ev_json_str(const struct ev_json *j)
{
    const char *s = json_string_value(raw(j));

    return ev_slice_of(s ? s : "", s ? json_string_length(raw(j)) : 0);
}

int64_t ev_json_int(const struct ev_json *j)
{
    return json_integer_value(raw(j));
}

double ev_json_real(const struct ev_json *j)
{
    return json_number_value(raw(j));
}

bool ev_json_bool(const struct ev_json *j)
{
    return json_is_true(raw(j));
}

/* ---- making ---- */

struct ev_json *ev_json_new_null(void)
{
    return made(json_null());
}

struct ev_json *ev_json_new_bool(bool v)
{
    return made(json_boolean(v));
}

struct ev_json *ev_json_new_int(int64_t v)
{
    return made(json_integer(v));
}

struct ev_json *ev_json_new_real(double v)
{
    return isfinite(v) ? made(json_real(v)) : ev_json_new_null();
}

struct ev_json *ev_json_new_string(ev_slice utf8)
{
    if (!ev_utf8_valid(utf8))
        return NULL;
    return made(json_stringn_nocheck((const char *)(utf8.n ? utf8.p : (const uint8_t *)""), utf8.n));
}

struct ev_json *ev_json_new_array(void)
{
    return made(json_array());
}

struct ev_json *ev_json_new_object(void)
{
    return made(json_object());
}

void ev_json_set(struct ev_json *object, const char *key, struct ev_json *take_value)
{
    if (!take_value)
        take_value = ev_json_new_null();
    if (json_object_set_new(raw(object), key, raw(take_value)) < 0 && ev_utf8_valid(ev_slice_str(key)) &&
        json_is_object(raw(object)))
        abort();                                /* only memory is left as a cause */
}

void ev_json_append(struct ev_json *array, struct ev_json *take_value)
{
    if (!take_value)
        take_value = ev_json_new_null();
    if (json_array_append_new(raw(array), raw(take_value)) < 0 && json_is_array(raw(array)))
        abort();
}

/* ---- writing ----
 * Our own rather than json_dump, which prints 0.1 as 0.10000000000000001. */

struct writer {
    struct ev_buf *out;
    bool pretty, sorted;
    int depth;
};

static int put_value(struct writer *w, const json_t *j);

static int put_string(struct ev_buf *out, const char *s, size_t n)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    size_t plain = 0;
    int rc = 0;

    EV_TRY(ev_buf_putc(out, '"'));
    for (size_t i = 0; i < n; i++) {
        const char *known = s[i] ? strchr(from, s[i]) : NULL;

        if (!known && (unsigned char)s[i] >= 0x20)
            continue;
        EV_TRY(ev_buf_put(out, s + plain, i - plain));
        if (known)
            EV_TRY(ev_buf_printf(out, "\\%c", to[known - from]));
        else
            EV_TRY(ev_buf_printf(out, "\\u%04x", (unsigned)s[i]));
        plain = i + 1;
    }
    EV_TRY(ev_buf_put(out, s + plain, n - plain));
    rc = ev_buf_putc(out, '"');
out:
    return rc;
}

/* The shortest digits that read back as the same number; always with a point or an exponent, so
 * that it stays a real. */
static int put_real(struct ev_buf *out, double v)
{
    char text[40];
    char *comma;

    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text - 2, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    if ((comma = strchr(text, ',')) != NULL)            /* another locale's point */
        *comma = '.';
    if (!strpbrk(text, ".e"))
        memcpy(text + strlen(text), ".0", 3);
    return ev_buf_puts(out, text);
}

static int put_break(struct writer *w)
{
    int rc = 0;

    if (!w->pretty)
        return 0;
    EV_TRY(ev_buf_putc(w->out, '\n'));
    for (int i = 0; i < w->depth; i++)
        EV_TRY(ev_buf_puts(w->out, "  "));
out:
    return rc;
}

static int put_array(struct writer *w, const json_t *j)
{
    size_t n = json_array_size(j);
    int rc = 0;

    EV_TRY(ev_buf_putc(w->out, '['));
    w->depth++;
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            EV_TRY(ev_buf_putc(w->out, ','));
        EV_TRY(put_break(w));
        EV_TRY(put_value(w, json_array_get(j, i)));
    }
    w->depth--;
    if (n > 0)
        EV_TRY(put_break(w));
    rc = ev_buf_putc(w->out, ']');
out:
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int put_member(struct writer *w, const char *key, const json_t *value, bool first)
{
    int rc = 0;

    if (!first)
        EV_TRY(ev_buf_putc(w->out, ','));
    EV_TRY(put_break(w));
    EV_TRY(put_string(w->out, key, strlen(key)));
    EV_TRY(ev_buf_puts(w->out, w->pretty ? ": " : ":"));
    rc = put_value(w, value);
out:
    return rc;
}

static int put_object(struct writer *w, json_t *j)
{
    size_t n = json_object_size(j), i = 0;
    const char **keys = ev_alloc(n * sizeof *keys + 1);
    int rc = 0;

    for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it))
        keys[i++] = json_object_iter_key(it);
    if (w->sorted)
        qsort(keys, n, sizeof *keys, by_name);
    EV_TRY(ev_buf_putc(w->out, '{'));
    w->depth++;
    for (i = 0; i < n; i++)
        EV_TRY(put_member(w, keys[i], json_object_get(j, keys[i]), i == 0));
    w->depth--;
    if (n > 0)
        EV_TRY(put_break(w));
    rc = ev_buf_putc(w->out, '}');
out:
    ev_free(keys);
    return rc;
}

static int put_value(struct writer *w, const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT: return put_object(w, raw((const struct ev_json *)j));
    case JSON_ARRAY: return put_array(w, j);
    case JSON_STRING: return put_string(w->out, json_string_value(j), json_string_length(j));
    case JSON_INTEGER: return ev_buf_printf(w->out, "%lld", (long long)json_integer_value(j));
    case JSON_REAL: return put_real(w->out, json_real_value(j));
    case JSON_TRUE: return ev_buf_puts(w->out, "true");
    case JSON_FALSE: return ev_buf_puts(w->out, "false");
    case JSON_NULL: break;
    }
    return ev_buf_puts(w->out, "null");
}

int ev_json_put(struct ev_buf *out, const struct ev_json *j, int flags)
{
    struct writer w = { out, flags & EV_JSON_PRETTY, flags & EV_JSON_SORTED, 0 };
    size_t before = out->n;
    int rc = j ? put_value(&w, raw(j)) : ev_buf_puts(out, "null");

    if (rc < 0 && out->p) {
        out->n = before;
        out->p[before] = 0;
    }
    return rc;
}
