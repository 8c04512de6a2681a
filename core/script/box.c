/* box.c — the byte buffer that Lua's collector owns, and fields of result tables, types. (The certificate and
 * key boxes are in l_crypto.c.) */
#include "script/box.h"

static const char BUF_MT[] = "ev.buf";

static int buf_gc(lua_State *L)
{
    ev_buf_wipe(luaL_checkudata(L, 1, BUF_MT));
    return 0;
}

struct ev_buf *ev_lua_push_buf(lua_State *L, size_t max)
{
    struct ev_buf *b = lua_newuserdatauv(L, sizeof *b, 0);

    ev_buf_init(b, max);
    if (luaL_newmetatable(L, BUF_MT)) {
        lua_pushcfunction(L, buf_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

int ev_lua_return_buf(lua_State *L, struct ev_buf *b)
{
    lua_pushlstring(L, ev_buf_str(b), b->n);
    ev_buf_fini(b);
    return 1;
}

void ev_lua_push_hex(lua_State *L, const uint8_t *p, size_t n)
{
    static const char digit[] = "0123456789abcdef";
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, n * 2);

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digit[p[i] >> 4];
        out[2 * i + 1] = digit[p[i] & 15];
    }
    luaL_pushresultsize(&b, n * 2);
}

void ev_lua_set_int(lua_State *L, const char *name, int64_t v)
{
    lua_pushinteger(L, v);
    lua_setfield(L, -2, name);
}

void ev_lua_set_bool(lua_State *L, const char *name, bool v)
{
    lua_pushboolean(L, v);
    lua_setfield(L, -2, name);
}

void ev_lua_set_str(lua_State *L, const char *name, const char *v)
{
    lua_pushstring(L, v);
    lua_setfield(L, -2, name);
}

void ev_lua_set_buf(lua_State *L, const char *name, const struct ev_buf *b)
{
    lua_pushlstring(L, ev_buf_str(b), b->n);
    lua_setfield(L, -2, name);
}

void ev_lua_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
