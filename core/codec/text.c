/* text.c — hex, base64, RFC 3339 times, the nearest word, UTF-8. No state, no allocation but the
 * caller's buffer, which is left as it was when a decoder fails. */
#include <stdio.h>

#include "codec/text.h"

enum { WORD_MAX = 64, MS_PER_DAY = 86400000 };

/* ---- hex ---- */

int ev_hex_put(struct ev_buf *out, ev_slice in)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *p;
    int rc;

    if (in.n > SIZE_MAX / 2)
        return -ENOBUFS;
    if ((rc = ev_buf_zero(out, in.n * 2)) < 0)
        return rc;
    p = out->p + (out->n - in.n * 2);
    for (size_t i = 0; i < in.n; i++) {
        *p++ = (uint8_t)digits[in.p[i] >> 4];
        *p++ = (uint8_t)digits[in.p[i] & 15];
    }
    return 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int ev_hex_decode(ev_slice in, uint8_t *out, size_t cap)
{
    if (in.n % 2)
        return EV_EPARSE;
    if (in.n / 2 > cap || in.n / 2 > INT32_MAX)
        return -ENOBUFS;
    for (size_t i = 0; i < in.n; i += 2) {
        int hi = hex_digit(in.p[i]), lo = hex_digit(in.p[i + 1]);

        if (hi < 0 || lo < 0)
            return EV_EPARSE;
        out[i / 2] = (uint8_t)(hi << 4 | lo);
    }
    return (int)(in.n / 2);
}

/* ---- base64 ---- */

int ev_base64_put(struct ev_buf *out, ev_slice in)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n, i;
    uint8_t *p;
    int rc;

    if (in.n > SIZE_MAX / 2)
        return -ENOBUFS;
    n = (in.n + 2) / 3 * 4;
    if ((rc = ev_buf_zero(out, n)) < 0)
        return rc;
    p = out->p + (out->n - n);
    for (i = 0; i + 3 <= in.n; i += 3, p += 4) {
        uint32_t v = (uint32_t)in.p[i] << 16 | (uint32_t)in.p[i + 1] << 8 | in.p[i + 2];

        p[0] = (uint8_t)abc[v >> 18];
        p[1] = (uint8_t)abc[v >> 12 & 63];
        p[2] = (uint8_t)abc[v >> 6 & 63];
        p[3] = (uint8_t)abc[v & 63];
    }
    if (i < in.n) {
        uint32_t v = (uint32_t)in.p[i] << 16 | (i + 1 < in.n ? (uint32_t)in.p[i + 1] << 8 : 0);

        p[0] = (uint8_t)abc[v >> 18];
        p[1] = (uint8_t)abc[v >> 12 & 63];
        p[2] = i + 1 < in.n ? (uint8_t)abc[v >> 6 & 63] : '=';
        p[3] = '=';
    }
    return 0;
}

/* Value of each character plus one; 0 = none. Both alphabets. */
static const uint8_t sextet[256] = {
    ['A'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    ['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50,
    51, 52, ['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, ['+'] = 63, ['-'] = 63, ['/'] = 64, ['_'] = 64,
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* What follows the last character of the alphabet: padding, all of it or none. */
static int base64_tail(ev_slice in, size_t at, size_t chars, bool lax)
{
    size_t pads = 0;

    for (; at < in.n; at++) {
        if (in.p[at] == '=')
            pads++;
        else if (!lax || !is_blank(in.p[at]))
            return EV_EPARSE;
    }
    if (chars % 4 == 1 || (pads > 0 && pads != (4 - chars % 4) % 4))
        return EV_EPARSE;
    return 0;
}

/* Decodes into dst, which has room for every character of the alphabet; → bytes, or negative. */
static int64_t base64_body(uint8_t *dst, ev_slice in, bool lax)
{
    size_t i = 0, chars = 0;
    bool standard = false, url = false;
    uint8_t *p = dst;
    uint32_t v = 0;

    for (; i < in.n; i++) {
        uint8_t c = in.p[i], s = sextet[c];

        if (s == 0) {
            if (lax && is_blank(c))
                continue;
            break;
        }
        standard |= c == '+' || c == '/';
        url |= c == '-' || c == '_';
        v = v << 6 | (uint32_t)(s - 1);
        if (++chars % 4 == 0) {
            *p++ = (uint8_t)(v >> 16);
            *p++ = (uint8_t)(v >> 8);
            *p++ = (uint8_t)v;
            v = 0;
        }
    }
    /* One spelling for one value: no mixed alphabets, no stray bits below the last byte. */
    if ((standard && url) || base64_tail(in, i, chars, lax) < 0)
        return EV_EPARSE;
    if (chars % 4 == 2) {
        *p++ = (uint8_t)(v >> 4);
        if (v & 15)
            return EV_EPARSE;
    } else if (chars % 4 == 3) {
        *p++ = (uint8_t)(v >> 10);
        *p++ = (uint8_t)(v >> 2);
        if (v & 3)
            return EV_EPARSE;
    }
    return p - dst;
}

int ev_base64_decode(struct ev_buf *out, ev_slice in, bool lax)
{
    size_t before = out->n, chars = 0;
    int64_t n = 0;
    int rc;

    for (size_t i = 0; i < in.n; i++)
        chars += sextet[in.p[i]] != 0;
    if ((rc = ev_buf_zero(out, chars / 4 * 3 + (chars % 4 ? chars % 4 - 1 : 0))) < 0)
        return rc;
    n = base64_body(out->p + before, in, lax);
    out->n = before + (n > 0 ? (size_t)n : 0);
    out->p[out->n] = 0;
    return n < 0 ? (int)n : 0;
}

/* ---- time ---- */

/* Days from 1970-01-01 of a date in the proleptic Gregorian calendar (March-based years). */
static int64_t days_of(int64_t y, int m, int d)
{
    int64_t era, yoe, doy;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = y - era * 400;
    doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int64_t *y, int *m, int *d)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = yoe + era * 400 + (*m <= 2);
}

/* n digits at *p, which moves; -1 when they are not there or above max. */
static int digits_at(ev_slice *s, int n, int max)
{
    int v = 0;

    if (s->n < (size_t)n)
        return -1;
    for (int i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return -1;
        v = v * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= (size_t)n;
    return v <= max ? v : -1;
}

static bool char_at(ev_slice *s, const char *any)
{
    if (s->n == 0 || s->p[0] == 0 || !strchr(any, s->p[0]))
        return false;
    s->p++;
    s->n--;
    return true;
}

/* ".123456" → 123; digits past the third are dropped. */
static int fraction_at(ev_slice *s, int *ms)
{
    size_t n = 0;

    *ms = 0;
    if (!char_at(s, "."))
        return 0;
    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
        if (n < 3)
            *ms = *ms * 10 + (s->p[n] - '0');
    }
    if (n == 0)
        return EV_EPARSE;
    for (size_t i = n; i < 3; i++)
        *ms *= 10;
    s->p += n;
    s->n -= n;
    return 0;
}

/* "Z" or "+hh:mm" → minutes east of UTC. */
static int offset_at(ev_slice *s, int *minutes)
{
    bool west = s->n > 0 && s->p[0] == '-';
    int h, m;

    *minutes = 0;
    if (char_at(s, "Zz"))
        return 0;
    if (!char_at(s, "+-") || (h = digits_at(s, 2, 23)) < 0 || !char_at(s, ":") ||
        (m = digits_at(s, 2, 59)) < 0)
        return EV_EPARSE;
    *minutes = (west ? -1 : 1) * (h * 60 + m);
    return 0;
}

static int days_in(int y, int m)
{
    static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    return days[m - 1] + (m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
}

int ev_time_parse(ev_slice in, int64_t *ms)
{
    int y, m, d, h, min, s, frac, off;

    if ((y = digits_at(&in, 4, 9999)) < 0 || !char_at(&in, "-") || (m = digits_at(&in, 2, 12)) < 1 ||
        !char_at(&in, "-") || (d = digits_at(&in, 2, 31)) < 1 || d > days_in(y, m))
        return EV_EPARSE;
    if (!char_at(&in, "Tt ") || (h = digits_at(&in, 2, 23)) < 0 || !char_at(&in, ":") ||
        (min = digits_at(&in, 2, 59)) < 0 || !char_at(&in, ":") || (s = digits_at(&in, 2, 59)) < 0)
        return EV_EPARSE;
    if (fraction_at(&in, &frac) < 0 || offset_at(&in, &off) < 0 || in.n > 0)
        return EV_EPARSE;
    *ms = days_of(y, m, d) * MS_PER_DAY + ((h * 60 + min - off) * 60 + s) * (int64_t)1000 + frac;
    return 0;
}

int ev_time_put(struct ev_buf *out, int64_t ms, int fraction_digits)
{
    int64_t days = ms / MS_PER_DAY, rest = ms % MS_PER_DAY, y;
    char frac[12] = "";
    int m, d, t;

    if (rest < 0) {
        rest += MS_PER_DAY;
        days--;
    }
    date_of(days, &y, &m, &d);
    if (y < 0 || y > 9999 || fraction_digits < 0 || fraction_digits > 9)
        return -ERANGE;
    if (fraction_digits > 0)
        snprintf(frac, sizeof frac, ".%03d000000", (int)(rest % 1000));
    frac[fraction_digits > 0 ? fraction_digits + 1 : 0] = 0;
    t = (int)(rest / 1000);
    return ev_buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d%sZ", (int)y, m, d, t / 3600, t / 60 % 60,
                         t % 60, frac);
}

/* ---- words ---- */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

/* Optimal string alignment: insert, delete, replace, and swap of neighbours, each costs one. */
size_t ev_text_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b), row[3][WORD_MAX + 1];
    size_t *before = row[0], *prev = row[1], *cur = row[2], *t;

    if (na > WORD_MAX || nb > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        prev[j] = j;
    for (size_t i = 1; i <= na; i++) {
        cur[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            cur[j] = min3(prev[j] + 1, cur[j - 1] + 1, prev[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < cur[j])
                cur[j] = before[j - 2] + 1;
        }
        t = before;
        before = prev;
        prev = cur;
        cur = t;
    }
    return prev[nb];
}

const char *ev_text_nearest(const char *word, const char *const *words, size_t n)
{
    size_t limit = 1 + strlen(word) / 3, best = limit + 1;
    const char *found = NULL;

    for (size_t i = 0; i < n; i++) {
        size_t d = ev_text_distance(word, words[i]);

        if (d < best) {
            best = d;
            found = words[i];
        }
    }
    return found;
}

/* ---- UTF-8 ---- */

/* Length of the character at p, 0 when there is none: overlong forms, surrogates and what lies
 * above U+10FFFF are refused by narrowing the second byte's range. */
static size_t utf8_char(const uint8_t *p, size_t n)
{
    uint8_t c = p[0], lo = 0x80, hi = 0xBF;
    size_t len;

    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (c == 0xE0)
        lo = 0xA0;
    else if (c == 0xED)
        hi = 0x9F;
    else if (c == 0xF0)
        lo = 0x90;
    else if (c == 0xF4)
        hi = 0x8F;
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return len;
}

bool ev_utf8_valid(ev_slice s)
{
    size_t i = 0;

    while (i < s.n) {
        uint64_t eight;
        size_t len;

        if (s.n - i >= sizeof eight) {          /* most text is ASCII */
            memcpy(&eight, s.p + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        if ((len = utf8_char(s.p + i, s.n - i)) == 0)
            return false;
        i += len;
    }
    return true;
}
