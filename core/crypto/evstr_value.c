/* evstr_value.c — what is inside an encrypted string: metadata (a small MessagePack map) and the text
 * of a typed value. Both come from whoever knows the public key, so they are read as hostile. */
#include "codec/json.h"
#include "codec/text.h"
#include "crypto/evstr_internal.h"

enum { PACK_DEPTH = 4, PACK_ENTRIES = 64 };

/* ---- MessagePack ---- */

struct pack {
    const uint8_t *p;
    size_t n;
};

/* n bytes, big-endian; false when they are not there. */
static bool pack_number(struct pack *r, size_t n, uint64_t *v)
{
    if (r->n < n)
        return false;
    *v = 0;
    for (size_t i = 0; i < n; i++)
        *v = *v << 8 | r->p[i];
    r->p += n;
    r->n -= n;
    return true;
}

static bool pack_take(struct pack *r, uint64_t n, ev_slice *out)
{
    if (n > r->n)
        return false;
    *out = ev_slice_of(r->p, (size_t)n);
    r->p += n;
    r->n -= (size_t)n;
    return true;
}

enum pack_kind { PACK_INT, PACK_TEXT, PACK_MAP, PACK_LIST, PACK_OTHER };
struct pack_item {
    enum pack_kind kind;
    uint64_t value;             /* unsigned integer; entries of a map or a list */
    ev_slice text;
};

/* Content of a length or number that takes 1, 2, 4 or 8 bytes, from the byte that names it first. */
static bool pack_sized(struct pack *r, uint8_t first, uint8_t base, uint64_t *v)
{
    return pack_number(r, (size_t)1 << (first - base), v);
}

static bool pack_next(struct pack *r, struct pack_item *it)
{
    uint64_t first, n = 0;

    *it = (struct pack_item){ .kind = PACK_OTHER };
    if (!pack_number(r, 1, &first))
        return false;
    if (first <= 0x7F || (first >= 0xCC && first <= 0xCF)) {
        it->kind = PACK_INT;
        it->value = first;
        return first <= 0x7F || pack_sized(r, (uint8_t)first, 0xCC, &it->value);
    }
    if ((first & 0xF0) == 0x80 || first == 0xDE || first == 0xDF) {
        it->kind = PACK_MAP;
        it->value = first & 15;
        return first < 0xDE || pack_sized(r, (uint8_t)first, 0xDD, &it->value);
    }
    if ((first & 0xF0) == 0x90 || first == 0xDC || first == 0xDD) {
        it->kind = PACK_LIST;
        it->value = first & 15;
        return first < 0xDC || pack_sized(r, (uint8_t)first, 0xDB, &it->value);
    }
    if ((first & 0xE0) == 0xA0 || (first >= 0xD9 && first <= 0xDB)) {
        it->kind = PACK_TEXT;
        n = first & 31;
        return (first < 0xD9 || pack_sized(r, (uint8_t)first, 0xD9, &n)) && pack_take(r, n, &it->text);
    }
    if (first >= 0xC4 && first <= 0xC6)         /* bytes */
        return pack_sized(r, (uint8_t)first, 0xC4, &n) && pack_take(r, n, &it->text);
    if (first >= 0xC7 && first <= 0xC9)         /* extension: length, type, bytes */
        return pack_sized(r, (uint8_t)first, 0xC7, &n) && n < UINT32_MAX && pack_take(r, n + 1, &it->text);
    if (first == 0xCA || first == 0xCB)         /* floats */
        return pack_take(r, first == 0xCA ? 4 : 8, &it->text);
    if (first >= 0xD0 && first <= 0xD3)         /* signed integers */
        return pack_take(r, (uint64_t)1 << (first - 0xD0), &it->text);
    if (first >= 0xD4 && first <= 0xD8)         /* extensions of fixed size */
        return pack_take(r, 1 + ((uint64_t)1 << (first - 0xD4)), &it->text);
    return first >= 0xE0 || first == 0xC0 || first == 0xC2 || first == 0xC3;
}

static bool pack_skip(struct pack *r, int depth)
{
    struct pack_item it;

    if (!pack_next(r, &it))
        return false;
    if (it.kind != PACK_MAP && it.kind != PACK_LIST)
        return true;
    if (depth == 0 || it.value > PACK_ENTRIES)
        return false;
    for (uint64_t i = it.kind == PACK_MAP ? 2 * it.value : it.value; i > 0; i--) {
        if (!pack_skip(r, depth - 1))
            return false;
    }
    return true;
}

/* ---- metadata ---- */

static bool role_ok(ev_slice s)
{
    if (s.n == 0 || s.n > EV_EVSTR_ROLE_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!(s.p[i] >= 'a' && s.p[i] <= 'z') && !(s.p[i] >= '0' && s.p[i] <= '9') && s.p[i] != '-')
            return false;
    }
    return true;
}

/* Value of a key that was read; unknown ones are passed over. A role decides what may be
 * decrypted, so a second one or one that is none is refused. */
static bool meta_value(struct pack *r, ev_slice key, struct ev_evstr_meta *out)
{
    struct pack_item it;
    bool role = ev_slice_eq(key, EV_LIT("dr")), origin = ev_slice_eq(key, EV_LIT("eo"));

    if (!role && !origin && !ev_slice_eq(key, EV_LIT("et")))
        return pack_skip(r, PACK_DEPTH);
    if (!pack_next(r, &it))
        return false;
    if (role) {
        if (it.kind != PACK_TEXT || !role_ok(it.text) || out->role[0])
            return false;
        memcpy(out->role, it.text.p, it.text.n);
        return true;
    }
    if (it.kind != PACK_INT || it.value > INT64_MAX)
        return false;
    *(origin ? &out->origin : &out->time) = (int64_t)it.value;
    return true;
}

int evstr_meta_read(ev_slice msgpack, struct ev_evstr_meta *out)
{
    struct pack r = { msgpack.p, msgpack.n };
    struct pack_item map, key;

    *out = (struct ev_evstr_meta){0};
    if (!pack_next(&r, &map) || map.kind != PACK_MAP || map.value > PACK_ENTRIES)
        return EV_EPARSE;
    for (uint64_t i = 0; i < map.value; i++) {
        if (!pack_next(&r, &key) || key.kind != PACK_TEXT || !meta_value(&r, key.text, out))
            return EV_EPARSE;
    }
    return r.n == 0 ? 0 : EV_EPARSE;
}

/* In the order and the sizes that the original's clients use. */
int evstr_meta_put(struct ev_buf *out, const struct ev_evstr_meta *m)
{
    size_t n = strlen(m->role);
    int rc = 0;

    if ((n > 0 && !role_ok(ev_slice_of(m->role, n))) || m->origin < 0 || m->origin > 127 || m->time < 0 ||
        m->time > UINT32_MAX)
        return -EINVAL;
    EV_TRY(ev_buf_putc(out, n > 0 ? 0x83 : 0x82));
    if (n > 0) {
        EV_TRY(ev_buf_puts(out, "\xA2" "dr"));
        EV_TRY(ev_buf_putc(out, (uint8_t)(0xA0 + n)));
        EV_TRY(ev_buf_put(out, m->role, n));
    }
    EV_TRY(ev_buf_puts(out, "\xA2" "eo"));
    EV_TRY(ev_buf_putc(out, (uint8_t)m->origin));
    EV_TRY(ev_buf_puts(out, "\xA2" "et\xCE"));
    rc = ev_buf_put_u32be(out, (uint32_t)m->time);
out:
    return rc;
}

/* ---- values ---- */

static size_t digits(ev_slice s, size_t at)
{
    while (at < s.n && s.p[at] >= '0' && s.p[at] <= '9')
        at++;
    return at;
}

/* A number as JSON writes it. */
static bool number_ok(ev_slice s)
{
    size_t at = s.n > 0 && s.p[0] == '-', end = digits(s, at);

    if (end == at || (s.p[at] == '0' && end > at + 1))
        return false;
    if (end < s.n && s.p[end] == '.') {
        at = end + 1;
        if ((end = digits(s, at)) == at)
            return false;
    }
    if (end < s.n && (s.p[end] | 0x20) == 'e') {
        at = end + 1;
        at += at < s.n && (s.p[at] == '+' || s.p[at] == '-');
        if ((end = digits(s, at)) == at)
            return false;
    }
    return end == s.n;
}

bool evstr_value_ok(enum ev_evstr_type type, ev_slice text)
{
    switch (type) {
    case EV_EVSTR_STRING: return ev_utf8_valid(text);
    case EV_EVSTR_NUMBER: return number_ok(text) || ev_slice_eq(text, EV_LIT("null"));
    case EV_EVSTR_BOOLEAN: return ev_slice_eq(text, EV_LIT("true")) || ev_slice_eq(text, EV_LIT("false"));
    }
    return false;
}

int ev_evstr_put_json(struct ev_buf *out, enum ev_evstr_type type, ev_slice text)
{
    struct ev_json *j;
    int rc;

    if (type != EV_EVSTR_STRING)
        return ev_buf_put_slice(out, text);
    if ((j = ev_json_new_string(text)) == NULL)
        return EV_EPARSE;
    rc = ev_json_put(out, j, EV_JSON_COMPACT);
    ev_json_free(j);
    return rc;
}
