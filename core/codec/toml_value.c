/* toml_value.c — TOML's scalars: the four kinds of strings, numbers, booleans, dates and times. */
#include <math.h>
#include <stdlib.h>

#include "codec/toml_parse.h"

enum { TOKEN_MAX = 80 };        /* a number or a date; longer ones are refused */

/* ---- strings ---- */

/* Decoded bytes go to the pool. It is as long as the text, and decoding never makes longer. */
static void emit(struct toml_parser *p, const void *bytes, size_t n)
{
    memcpy(p->doc->pool + p->doc->pool_used, bytes, n);
    p->doc->pool_used += n;
}

static void emit_utf8(struct toml_parser *p, uint32_t c)
{
    uint8_t b[4];

    if (c < 0x80) {
        b[0] = (uint8_t)c;
        emit(p, b, 1);
    } else if (c < 0x800) {
        b[0] = (uint8_t)(0xC0 | c >> 6);
        b[1] = (uint8_t)(0x80 | (c & 0x3F));
        emit(p, b, 2);
    } else if (c < 0x10000) {
        b[0] = (uint8_t)(0xE0 | c >> 12);
        b[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        b[2] = (uint8_t)(0x80 | (c & 0x3F));
        emit(p, b, 3);
    } else {
        b[0] = (uint8_t)(0xF0 | c >> 18);
        b[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        b[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        b[3] = (uint8_t)(0x80 | (c & 0x3F));
        emit(p, b, 4);
    }
}

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* \uXXXX or \UXXXXXXXX, the cursor on the first digit. */
static int unicode_escape(struct toml_parser *p, int digits)
{
    uint32_t c = 0;

    for (int i = 0; i < digits; i++, p->pos++) {
        int d = hex_digit(toml_peek(p, 0));

        if (d < 0)
            return toml_fail(p, p->pos, EV_EPARSE, "%d hexadecimal digits were expected", digits);
        c = c << 4 | (uint32_t)d;
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return toml_fail(p, p->pos, EV_EPARSE, "U+%04X is not a character", c);
    emit_utf8(p, c);
    return 0;
}

/* A backslash at the end of a line swallows all white space up to the next visible character. */
static int line_joint(struct toml_parser *p)
{
    size_t at = p->pos;

    toml_skip_blanks(p);
    if (!toml_newline(p))
        return toml_fail(p, at, EV_EPARSE, "unknown escape");
    do
        toml_skip_blanks(p);
    while (toml_newline(p));
    return 0;
}

/* The cursor is behind the backslash. */
static int escape(struct toml_parser *p, bool multiline)
{
    static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
    int c = toml_peek(p, 0);
    const char *known = c > 0 ? strchr(from, c) : NULL;

    if (known) {
        p->pos++;
        emit(p, &to[known - from], 1);
        return 0;
    }
    if (c == 'u' || c == 'U') {
        p->pos++;
        return unicode_escape(p, c == 'u' ? 4 : 8);
    }
    if (multiline && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
        return line_joint(p);
    return toml_fail(p, p->pos, EV_EPARSE, "unknown escape");
}

/* Number of equal quotes at the cursor. */
static size_t quotes(const struct toml_parser *p, int quote)
{
    size_t n = 0;

    while (toml_peek(p, n) == quote)
        n++;
    return n;
}

/* Content of a string up to its closing quotes, which are consumed. */
static int string_body(struct toml_parser *p, int quote, bool multiline, size_t opened)
{
    int c, rc = 0;

    while (rc >= 0) {
        c = toml_peek(p, 0);
        if (c < 0 || (!multiline && (c == '\n' || c == '\r')))
            return toml_fail(p, opened, EV_EPARSE, "the string is not closed");
        if (c == quote && !multiline)
            break;
        if (c == quote && quotes(p, quote) >= 3)
            break;
        if (c == '\n' || (c == '\r' && toml_peek(p, 1) == '\n')) {
            emit(p, p->doc->text + p->pos, c == '\n' ? 1 : 2);
            toml_newline(p);
            continue;
        }
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            return toml_fail(p, p->pos, EV_EPARSE, "control character in a string");
        p->pos++;
        if (c == '\\' && quote == '"')
            rc = escape(p, multiline);
        else
            emit(p, p->doc->text + p->pos - 1, 1);
    }
    return rc;
}

/* Up to two quotes may stand directly before the closing three: they belong to the content. */
static int close_multiline(struct toml_parser *p, int quote)
{
    size_t n = quotes(p, quote);

    if (n > 5)
        return toml_fail(p, p->pos, EV_EPARSE, "too many quotes at the end of the string");
    emit(p, p->doc->text + p->pos, n - 3);
    p->pos += n;
    return 0;
}

int toml_string(struct toml_parser *p, bool multiline_allowed, ev_slice *out)
{
    int quote = toml_peek(p, 0), rc = 0;
    size_t opened = p->pos, start = p->doc->pool_used;
    bool multiline = quotes(p, quote) >= 3;

    if (multiline && !multiline_allowed)
        return toml_fail(p, opened, EV_EPARSE, "a key cannot be a multi-line string");
    p->pos += multiline ? 3 : 1;
    if (multiline)
        toml_newline(p);
    EV_TRY(string_body(p, quote, multiline, opened));
    if (multiline)
        EV_TRY(close_multiline(p, quote));
    else
        p->pos++;
    *out = ev_slice_of(p->doc->pool + start, p->doc->pool_used - start);
out:
    return rc;
}

/* ---- numbers ---- */

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* Copies without underscores, each of which must stand between two digits of the base. */
static bool strip_underscores(const char *s, bool hex, char *out)
{
    for (const char *c = s; *c; c++) {
        bool between = c > s && (hex ? hex_digit(c[-1]) >= 0 : is_digit(c[-1])) &&
                       (hex ? hex_digit(c[1]) >= 0 : is_digit(c[1]));

        if (*c == '_' && !between)
            return false;
        if (*c != '_')
            *out++ = *c;
    }
    *out = '\0';
    return true;
}

/* 0x, 0o, 0b without a sign. `s` is behind the prefix. */
static bool prefixed_integer(const char *s, int base, struct ev_toml *node)
{
    char digits[TOKEN_MAX + 1];
    uint64_t v = 0;

    if (!strip_underscores(s, true, digits) || digits[0] == '\0')
        return false;
    for (const char *c = digits; *c; c++) {
        int d = hex_digit(*c);

        if (d < 0 || d >= base || v > ((uint64_t)INT64_MAX - (uint64_t)d) / (uint64_t)base)
            return false;
        v = v * (uint64_t)base + (uint64_t)d;
    }
    node->type = EV_TOML_INT;
    node->integer = (int64_t)v;
    return true;
}

/* Length of [+-] (0 | [1-9][0-9]*), or 0. */
static size_t integer_part(const char *s)
{
    size_t i = s[0] == '+' || s[0] == '-', start = i;

    while (is_digit(s[i]))
        i++;
    return i == start || (s[start] == '0' && i - start > 1) ? 0 : i;
}

/* Length of the fraction and exponent at s, which must reach the end of the text; 0 when wrong. */
static bool float_tail(const char *s)
{
    if (*s == '.') {
        s++;
        if (!is_digit(*s))
            return false;
        while (is_digit(*s))
            s++;
    }
    if (*s == 'e' || *s == 'E') {
        s += s[1] == '+' || s[1] == '-' ? 2 : 1;
        if (!is_digit(*s))
            return false;
        while (is_digit(*s))
            s++;
    }
    return *s == '\0';
}

static bool number(const char *token, struct ev_toml *node)
{
    char s[TOKEN_MAX + 1];
    size_t n;

    if (token[0] == '0' && token[1] && strchr("xob", token[1]))
        return prefixed_integer(token + 2, token[1] == 'x' ? 16 : token[1] == 'o' ? 8 : 2, node);
    if (!strip_underscores(token, false, s))
        return false;
    n = integer_part(s);
    if (n == 0)
        return false;
    if (s[n] == '\0') {
        errno = 0;
        node->type = EV_TOML_INT;
        node->integer = strtoll(s, NULL, 10);
        return errno == 0;
    }
    node->type = EV_TOML_FLOAT;
    node->real = strtod(s, NULL);       /* nothing of ours sets LC_NUMERIC */
    return float_tail(s + n);
}

static bool special_float(const char *token, struct ev_toml *node)
{
    bool minus = *token == '-';

    token += *token == '+' || *token == '-';
    if (strcmp(token, "inf") != 0 && strcmp(token, "nan") != 0)
        return false;
    node->type = EV_TOML_FLOAT;
    node->real = *token == 'i' ? (double)INFINITY : (double)NAN;
    if (minus)
        node->real = -node->real;
    return true;
}

/* ---- dates and times ---- */

/* Reads exactly n digits; -1 when they are not there. */
static int digits(const char **s, int n)
{
    int v = 0;

    for (int i = 0; i < n; i++, (*s)++) {
        if (!is_digit(**s))
            return -1;
        v = v * 10 + (**s - '0');
    }
    return v;
}

static bool between(int v, int low, int high)
{
    return v >= low && v <= high;
}

static bool separator(const char **s, char c)
{
    return *(*s)++ == c;
}

static bool date(const char **s)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int y, m, d, leap;

    if ((y = digits(s, 4)) < 0 || !separator(s, '-') || !between(m = digits(s, 2), 1, 12) ||
        !separator(s, '-'))
        return false;
    leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    d = digits(s, 2);
    return between(d, 1, days[m - 1] + (m == 2 && leap));
}

static bool time_of_day(const char **s)
{
    if (!between(digits(s, 2), 0, 23) || !separator(s, ':') || !between(digits(s, 2), 0, 59) ||
        !separator(s, ':') || !between(digits(s, 2), 0, 60))
        return false;
    if (**s != '.')
        return true;
    if (!is_digit(*++*s))
        return false;
    while (is_digit(**s))
        (*s)++;
    return true;
}

static bool zone(const char **s)
{
    if (**s == 'Z' || **s == 'z') {
        (*s)++;
        return true;
    }
    if (**s != '+' && **s != '-')
        return false;
    (*s)++;
    return between(digits(s, 2), 0, 23) && separator(s, ':') && between(digits(s, 2), 0, 59);
}

static bool date_or_time(const char *s, struct ev_toml *node)
{
    if (s[2] == ':') {
        node->type = EV_TOML_TIME;
        return time_of_day(&s) && *s == '\0';
    }
    node->type = EV_TOML_DATE;
    if (!date(&s))
        return false;
    if (*s == '\0')
        return true;
    if (!strchr("Tt ", *s++) || !time_of_day(&s))
        return false;
    node->type = *s ? EV_TOML_DATETIME : EV_TOML_DATETIME_LOCAL;
    return *s == '\0' || (zone(&s) && *s == '\0');
}

/* ---- tokens ---- */

static bool is_token(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c > 0 && strchr("+-_.:", c));
}

static bool looks_like_date(const char *t, size_t n)
{
    return n >= 8 && is_digit(t[0]) && is_digit(t[1]) &&
           (t[2] == ':' || (is_digit(t[2]) && is_digit(t[3]) && t[4] == '-'));
}

/* The longest run of token characters; a date may be followed by one blank and a time. */
static size_t token_length(const struct toml_parser *p)
{
    size_t n = 0;

    while (is_token(toml_peek(p, n)))
        n++;
    if (n == 10 && toml_peek(p, 4) == '-' && toml_peek(p, 10) == ' ' && is_digit(toml_peek(p, 11)) &&
        is_digit(toml_peek(p, 12)) && toml_peek(p, 13) == ':')
        for (n = 11; is_token(toml_peek(p, n)); n++)
            ;
    return n;
}

static bool classify(const char *t, size_t n, struct ev_toml *node)
{
    if (strcmp(t, "true") == 0 || strcmp(t, "false") == 0) {
        node->type = EV_TOML_BOOL;
        node->boolean = *t == 't';
        return true;
    }
    if (looks_like_date(t, n))
        return date_or_time(t, node);
    return special_float(t, node) || number(t, node);
}

int toml_scalar(struct toml_parser *p, struct ev_toml *node)
{
    char token[TOKEN_MAX + 1];
    size_t n = token_length(p);

    if (n == 0)
        return toml_fail(p, p->pos, EV_EPARSE, "a value was expected");
    if (n > TOKEN_MAX)
        return toml_fail(p, p->pos, EV_EPARSE, "not a value (text needs quotes)");
    memcpy(token, p->doc->text + p->pos, n);
    token[n] = '\0';
    if (!classify(token, n, node))
        return toml_fail(p, p->pos, EV_EPARSE, "\"%s\" is not a value (text needs quotes)", token);
    node->text = ev_slice_of(p->doc->text + p->pos, n);
    p->pos += n;
    return 0;
}
