/* l_codec.c — ev.c.codec: JSON, TOML, hex, base64, time, words. Pure functions.
 *
 * JSON: objects are tables with string keys, arrays are tables with keys 1..n; `null` is a light
 * userdata; an empty table is an object unless its metatable is `array_mt`. `ordered{ {k, v}, ... }`
 * keeps the order that it is given. TOML: a tree of nodes {type, line, column, value | fields + keys
 * | items}, so that a schema can name the place of every mistake. */
#include <stdlib.h>

#include "codec/json.h"
#include "codec/text.h"
#include "codec/toml.h"
#include "script/box.h"

enum { JSON_DEPTH = 64, TEXT_MAX = 64 << 20 };

static const char ARRAY_MT[] = "ev.json.array";
static const char ORDERED_MT[] = "ev.json.ordered";
static char null_mark;

static int fail(lua_State *L, int code, const char *text)
{
    struct ev_err err = EV_ERR_INIT;

    ev_fail(&err, code, "%s", text);
    return ev_lua_fail(L, &err);
}

/* --- JSON -------------------------------------------------------------------------------------- */

struct json_box { struct ev_json *j; };

static int json_gc(lua_State *L)
{
    struct json_box *b = luaL_checkudata(L, 1, "ev.json.box");

    ev_json_free(b->j);
    b->j = NULL;
    return 0;
}

static struct json_box *json_box(lua_State *L)
{
    struct json_box *b = lua_newuserdatauv(L, sizeof *b, 0);

    b->j = NULL;
    if (luaL_newmetatable(L, "ev.json.box")) {
        lua_pushcfunction(L, json_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

static void push_json(lua_State *L, const struct ev_json *j);

static void push_object(lua_State *L, const struct ev_json *j)
{
    void *iter = NULL;
    const char *key;
    const struct ev_json *value;

    lua_createtable(L, 0, (int)ev_json_count(j));
    while (ev_json_next(j, &iter, &key, &value)) {
        push_json(L, value);
        lua_setfield(L, -2, key);
    }
}

static void push_array(lua_State *L, const struct ev_json *j)
{
    size_t n = ev_json_count(j);

    lua_createtable(L, (int)n, 0);
    luaL_setmetatable(L, ARRAY_MT);
    for (size_t i = 0; i < n; i++) {
        push_json(L, ev_json_item(j, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_json(lua_State *L, const struct ev_json *j)
{
    ev_slice s;

    luaL_checkstack(L, 4, "JSON");
    switch (ev_json_type(j)) {
    case EV_JSON_BOOL: lua_pushboolean(L, ev_json_bool(j)); return;
    case EV_JSON_INT: lua_pushinteger(L, ev_json_int(j)); return;
    case EV_JSON_REAL: lua_pushnumber(L, ev_json_real(j)); return;
    case EV_JSON_STRING:
        s = ev_json_str(j);
        lua_pushlstring(L, s.n ? (const char *)s.p : "", s.n);
        return;
    case EV_JSON_ARRAY: push_array(L, j); return;
    case EV_JSON_OBJECT: push_object(L, j); return;
    case EV_JSON_NULL: break;
    }
    lua_pushlightuserdata(L, &null_mark);
}

static bool too_deep(const struct ev_json *j, int depth)
{
    void *iter = NULL;
    const char *key;
    const struct ev_json *value;

    if (depth > JSON_DEPTH) return true;
    for (size_t i = 0; ev_json_type(j) == EV_JSON_ARRAY && i < ev_json_count(j); i++)
        if (too_deep(ev_json_item(j, i), depth + 1)) return true;
    while (ev_json_type(j) == EV_JSON_OBJECT && ev_json_next(j, &iter, &key, &value))
        if (too_deep(value, depth + 1)) return true;
    return false;
}

/* json_parse(text) → value | nil, err */
static int l_json_parse(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    ev_slice text = ev_lua_check_slice(L, 1);
    struct json_box *b = json_box(L);

    if (ev_json_parse(text, &b->j, &err) < 0) return ev_lua_fail(L, &err);
    if (too_deep(b->j, 0)) return fail(L, EV_ELIMIT, "JSON nests too deeply");
    push_json(L, b->j);
    ev_json_free(b->j);
    b->j = NULL;
    return 1;
}

/* Lua → JSON does not raise (but when memory is gone), since it holds C memory; `why` says what is wrong. */
static struct ev_json *to_json(lua_State *L, int index, int depth, const char **why);

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys of a table, sorted: Lua's own order differs from run to run. The strings stay anchored in
 * the table. Returns NULL with `why` when one is not a string without NUL. */
static const char **sorted_keys(lua_State *L, int t, size_t *count, const char **why)
{
    size_t n = 0, cap = 16;
    const char **keys = ev_alloc(cap * sizeof *keys);

    for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
        size_t len = 0;
        const char *k = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : NULL;
        if (!k || strlen(k) != len) {
            *why = "an object's key is not a plain string";
            lua_pop(L, 2);
            ev_free(keys);
            return NULL;
        }
        if (n == cap) keys = ev_realloc(keys, (cap *= 2) * sizeof *keys);
        keys[n++] = k;
    }
    qsort(keys, n, sizeof *keys, by_name);
    *count = n;
    return keys;
}

static struct ev_json *object_to_json(lua_State *L, int t, int depth, const char **why)
{
    struct ev_json *o, *v;
    size_t n = 0;
    const char **keys = sorted_keys(L, t, &n, why);

    if (!keys) return NULL;
    o = ev_json_new_object();
    for (size_t i = 0; i < n && o; i++) {
        lua_pushstring(L, keys[i]);
        lua_rawget(L, t);
        v = to_json(L, lua_gettop(L), depth + 1, why);
        lua_pop(L, 1);
        if (v) {
            ev_json_set(o, keys[i], v);
        } else {
            ev_json_free(o);
            o = NULL;
        }
    }
    ev_free(keys);
    return o;
}

static struct ev_json *array_to_json(lua_State *L, int t, int depth, const char **why)
{
    struct ev_json *a = ev_json_new_array(), *v;
    lua_Unsigned n = lua_rawlen(L, t);

    for (lua_Unsigned i = 1; i <= n; i++) {
        lua_rawgeti(L, t, (lua_Integer)i);
        v = to_json(L, lua_gettop(L), depth + 1, why);
        lua_pop(L, 1);
        if (!v) {
            ev_json_free(a);
            return NULL;
        }
        ev_json_append(a, v);
    }
    return a;
}

/* { {key, value}, ... } in this order */
static struct ev_json *ordered_to_json(lua_State *L, int t, int depth, const char **why)
{
    struct ev_json *o = ev_json_new_object(), *v = NULL;
    lua_Unsigned n = lua_rawlen(L, t);

    for (lua_Unsigned i = 1; i <= n; i++) {
        int top = lua_gettop(L);
        v = NULL;
        if (lua_rawgeti(L, t, (lua_Integer)i) == LUA_TTABLE && lua_rawgeti(L, top + 1, 1) == LUA_TSTRING) {
            lua_rawgeti(L, top + 1, 2);
            v = to_json(L, top + 3, depth + 1, why);
            if (v) ev_json_set(o, lua_tostring(L, top + 2), v);
        } else {
            *why = "an ordered object needs pairs of a key and a value";
        }
        lua_settop(L, top);
        if (!v) {
            ev_json_free(o);
            return NULL;
        }
    }
    return o;
}

static bool has_meta(lua_State *L, int t, const char *name)
{
    bool same = false;

    if (lua_getmetatable(L, t)) {
        luaL_getmetatable(L, name);
        same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    return same;
}

static struct ev_json *table_to_json(lua_State *L, int t, int depth, const char **why)
{
    if (depth >= JSON_DEPTH || !lua_checkstack(L, 8)) {
        *why = "the value nests too deeply";
        return NULL;
    }
    if (has_meta(L, t, ORDERED_MT)) return ordered_to_json(L, t, depth, why);
    if (has_meta(L, t, ARRAY_MT) || lua_rawlen(L, t) > 0) return array_to_json(L, t, depth, why);
    return object_to_json(L, t, depth, why);
}

static struct ev_json *to_json(lua_State *L, int index, int depth, const char **why)
{
    struct ev_json *j;
    size_t n;
    const char *s;

    switch (lua_type(L, index)) {
    case LUA_TNIL: return ev_json_new_null();
    case LUA_TBOOLEAN: return ev_json_new_bool(lua_toboolean(L, index));
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) return ev_json_new_int(lua_tointeger(L, index));
        return ev_json_new_real(lua_tonumber(L, index));
    case LUA_TSTRING:
        s = lua_tolstring(L, index, &n);
        j = ev_json_new_string(ev_slice_of(s, n));
        if (!j) *why = "a string is not valid UTF-8";
        return j;
    case LUA_TTABLE: return table_to_json(L, index, depth, why);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == &null_mark) return ev_json_new_null();
        break;
    default: break;
    }
    *why = "a value has no form in JSON";
    return NULL;
}

/* json_encode(value, {pretty}) → text | nil, err. Keys are sorted, but for `ordered` objects. */
static int l_json_encode(lua_State *L)
{
    const char *why = "";
    int flags = EV_JSON_COMPACT, rc;
    struct json_box *box;
    struct ev_buf *out;

    luaL_checkany(L, 1);
    if (lua_istable(L, 2) && ev_lua_field_bool(L, 2, "pretty", false)) flags |= EV_JSON_PRETTY;
    out = ev_lua_push_buf(L, TEXT_MAX);
    box = json_box(L);
    luaL_checkstack(L, 16, "JSON");
    box->j = to_json(L, 1, 0, &why);
    if (!box->j) return fail(L, EV_EPARSE, why);
    rc = ev_json_put(out, box->j, flags);
    ev_json_free(box->j);
    box->j = NULL;
    if (rc < 0) return fail(L, rc, "encoding JSON");
    return ev_lua_return_buf(L, out);
}

static int set_meta(lua_State *L, const char *name)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_setmetatable(L, name);
    return 1;
}
static int l_array(lua_State *L) { return set_meta(L, ARRAY_MT); }
static int l_ordered(lua_State *L) { return set_meta(L, ORDERED_MT); }

/* --- TOML -------------------------------------------------------------------------------------- */

struct toml_box { struct ev_toml_doc *doc; };

static int toml_gc(lua_State *L)
{
    struct toml_box *b = luaL_checkudata(L, 1, "ev.toml.box");

    ev_toml_free(b->doc);
    b->doc = NULL;
    return 0;
}

static struct toml_box *toml_box(lua_State *L)
{
    struct toml_box *b = lua_newuserdatauv(L, sizeof *b, 0);

    b->doc = NULL;
    if (luaL_newmetatable(L, "ev.toml.box")) {
        lua_pushcfunction(L, toml_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

static void push_node(lua_State *L, const struct ev_toml_doc *doc, const struct ev_toml *node);

static void push_slice(lua_State *L, ev_slice s)
{
    lua_pushlstring(L, s.n ? (const char *)s.p : "", s.n);
}

static void push_fields(lua_State *L, const struct ev_toml_doc *doc, const struct ev_toml *node)
{
    lua_Integer i = 0;

    lua_newtable(L);                                    /* keys, in the order of the text */
    lua_newtable(L);                                    /* fields */
    for (const struct ev_toml *c = node->first; c; c = c->next) {
        push_slice(L, c->key);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -4, ++i);
        push_node(L, doc, c);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -3, "fields");
    lua_setfield(L, -2, "keys");
}

static void push_items(lua_State *L, const struct ev_toml_doc *doc, const struct ev_toml *node)
{
    lua_Integer i = 0;

    lua_newtable(L);
    for (const struct ev_toml *c = node->first; c; c = c->next) {
        push_node(L, doc, c);
        lua_rawseti(L, -2, ++i);
    }
    lua_setfield(L, -2, "items");
}

static void push_scalar(lua_State *L, const struct ev_toml *node)
{
    switch (node->type) {
    case EV_TOML_INT: lua_pushinteger(L, node->integer); break;
    case EV_TOML_FLOAT: lua_pushnumber(L, node->real); break;
    case EV_TOML_BOOL: lua_pushboolean(L, node->boolean); break;
    default: push_slice(L, node->text); break;
    }
    lua_setfield(L, -2, "value");
}

static void push_node(lua_State *L, const struct ev_toml_doc *doc, const struct ev_toml *node)
{
    struct ev_toml_pos at = ev_toml_where(doc, node);

    luaL_checkstack(L, 8, "TOML");
    lua_newtable(L);
    lua_pushstring(L, ev_toml_type_name(node->type));
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, at.line);
    lua_setfield(L, -2, "line");
    lua_pushinteger(L, at.column);
    lua_setfield(L, -2, "column");
    if (node->type == EV_TOML_TABLE) push_fields(L, doc, node);
    else if (node->type == EV_TOML_ARRAY) push_items(L, doc, node);
    else push_scalar(L, node);
}

/* toml_parse(text) → node | nil, err, line */
static int l_toml_parse(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_toml_pos where = { 0, 0 };
    ev_slice text = ev_lua_check_slice(L, 1);
    struct toml_box *b = toml_box(L);

    if (ev_toml_parse(text, &b->doc, &where, &err) < 0) {
        ev_lua_fail(L, &err);
        lua_pushinteger(L, where.line);
        return 3;
    }
    push_node(L, b->doc, ev_toml_root(b->doc));
    ev_toml_free(b->doc);
    b->doc = NULL;
    return 1;
}

enum { EDITS_MAX = 64, PATH_MAX_KEYS = 8 };

/* edits[i] = {path = {"a"}, key = "k", literal = "\"v\""}; without literal the key goes away */
static void read_edit(lua_State *L, struct ev_toml_edit *e, ev_slice *path)
{
    lua_Unsigned n;
    int t = lua_gettop(L);

    if (!lua_istable(L, -1)) luaL_error(L, "an edit is not a table");
    lua_getfield(L, -1, "path");
    if (!lua_istable(L, -1)) luaL_error(L, "an edit has no path");
    n = lua_rawlen(L, -1);
    if (n > PATH_MAX_KEYS) luaL_error(L, "an edit's path is too long");
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        path[i] = ev_lua_check_slice(L, -1);            /* anchored in the edit's own table */
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    e->path = path;
    e->n_path = n;
    e->key = ev_lua_field_slice(L, t, "key");
    e->literal = ev_lua_field_slice(L, t, "literal");
}

/* toml_edit(text, edits) → text | nil, err */
static int l_toml_edit(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_toml_edit edits[EDITS_MAX];
    ev_slice paths[EDITS_MAX][PATH_MAX_KEYS], text = ev_lua_check_slice(L, 1);
    struct ev_buf *out;
    lua_Unsigned n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = lua_rawlen(L, 2);
    luaL_argcheck(L, n <= EDITS_MAX, 2, "too many edits");
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        read_edit(L, &edits[i], paths[i]);
        lua_pop(L, 1);
    }
    out = ev_lua_push_buf(L, EV_TOML_MAX);
    if (ev_toml_apply(text, edits, n, out, &err) < 0) return ev_lua_fail(L, &err);
    return ev_lua_return_buf(L, out);
}

/* text in, what `put` writes out */
static int encode(lua_State *L, int (*put)(struct ev_buf *, ev_slice), const char *failed)
{
    ev_slice s = ev_lua_check_slice(L, 1);
    struct ev_buf *out = ev_lua_push_buf(L, TEXT_MAX);
    int rc = put(out, s);

    return rc < 0 ? fail(L, rc, failed) : ev_lua_return_buf(L, out);
}

static int l_toml_string(lua_State *L) { return encode(L, ev_toml_put_string, "not a TOML string"); }

/* --- text -------------------------------------------------------------------------------------- */

static int l_hex(lua_State *L) { return encode(L, ev_hex_put, "hex"); }

static int l_unhex(lua_State *L)
{
    ev_slice s = ev_lua_check_slice(L, 1);
    struct ev_buf *out = ev_lua_push_buf(L, TEXT_MAX);
    int rc = ev_buf_reserve(out, s.n / 2 + 1);

    if (rc >= 0) rc = ev_hex_decode(s, out->p, s.n / 2 + 1);
    if (rc < 0) return fail(L, rc, "not hexadecimal");
    out->n = (size_t)rc;
    return ev_lua_return_buf(L, out);
}

static int l_base64(lua_State *L) { return encode(L, ev_base64_put, "base64"); }

/* unbase64(text, lax) → bytes | nil, err */
static int l_unbase64(lua_State *L)
{
    ev_slice s = ev_lua_check_slice(L, 1);
    bool lax = lua_toboolean(L, 2);
    struct ev_buf *out = ev_lua_push_buf(L, TEXT_MAX);
    int rc = ev_base64_decode(out, s, lax);

    return rc < 0 ? fail(L, rc, "not base64") : ev_lua_return_buf(L, out);
}

/* time_parse("2026-11-24T12:00:00Z") → milliseconds | nil, err */
static int l_time_parse(lua_State *L)
{
    int64_t ms;
    int rc = ev_time_parse(ev_lua_check_slice(L, 1), &ms);

    if (rc < 0) return fail(L, rc, "not a time like 2026-11-24T12:00:00Z");
    lua_pushinteger(L, ms);
    return 1;
}

static int l_time_format(lua_State *L)
{
    int64_t ms = luaL_checkinteger(L, 1);
    int digits = (int)luaL_optinteger(L, 2, 0);
    struct ev_buf *out = ev_lua_push_buf(L, 128);
    int rc = ev_time_put(out, ms, digits);

    return rc < 0 ? fail(L, rc, "time") : ev_lua_return_buf(L, out);
}

/* nearest(word, {words}) → word | nil */
static int l_nearest(lua_State *L)
{
    enum { WORDS = 512 };
    const char *words[WORDS], *word = luaL_checkstring(L, 1), *found;
    lua_Unsigned n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = lua_rawlen(L, 2);
    if (n > WORDS) n = WORDS;
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        words[i] = luaL_checkstring(L, -1);             /* anchored in the list */
        lua_pop(L, 1);
    }
    found = ev_text_nearest(word, words, n);
    if (found) lua_pushstring(L, found);
    else lua_pushnil(L);
    return 1;
}

static int l_utf8_valid(lua_State *L)
{
    lua_pushboolean(L, ev_utf8_valid(ev_lua_check_slice(L, 1)));
    return 1;
}

int luaopen_ev_codec(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "json_parse", l_json_parse }, { "json_encode", l_json_encode }, { "array", l_array },
        { "ordered", l_ordered }, { "toml_parse", l_toml_parse }, { "toml_edit", l_toml_edit },
        { "toml_string", l_toml_string }, { "hex", l_hex }, { "unhex", l_unhex }, { "base64", l_base64 },
        { "unbase64", l_unbase64 }, { "time_parse", l_time_parse }, { "time_format", l_time_format },
        { "nearest", l_nearest }, { "utf8_valid", l_utf8_valid }, { NULL, NULL },
    };

    luaL_newlib(L, functions);
    lua_pushlightuserdata(L, &null_mark);
    lua_setfield(L, -2, "null");
    luaL_newmetatable(L, ORDERED_MT);
    lua_pop(L, 1);
    luaL_newmetatable(L, ARRAY_MT);
    lua_setfield(L, -2, "array_mt");
    return 1;
}
