/* l_evstr.c — ev.c.crypto.evapp: the keys of one application as a Lua object, for the mock of the
 * crypto API (and, later, for `encrypt`). Keys never become Lua strings. */
#include "crypto/evstr.h"
#include "script/box.h"

static const char APP_MT[] = "ev.evapp";
static const char *const type_names[] = { "string", "number", "boolean", NULL };

struct app_box { struct ev_evapp *app; };

static int app_gc(lua_State *L)
{
    struct app_box *b = luaL_checkudata(L, 1, APP_MT);

    ev_evapp_free(b->app);
    b->app = NULL;
    return 0;
}

static struct ev_evapp *check(lua_State *L)
{
    struct app_box *b = luaL_checkudata(L, 1, APP_MT);

    luaL_argcheck(L, b->app, 1, "no application");
    return b->app;
}

/* app:encrypt(type, text, {debug, role, origin, time}) → "ev:…:$" | nil, err */
static int l_encrypt(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_evapp *app = check(L);
    struct ev_evstr_how how = { .version = EV_EVSTR_TK9D };
    struct ev_evstr_meta meta = { .origin = 0 };
    const char *role = NULL;
    ev_slice text = ev_lua_check_slice(L, 3);
    struct ev_buf *out;

    how.type = (enum ev_evstr_type)luaL_checkoption(L, 2, "string", type_names);
    if (lua_istable(L, 4)) {
        how.debug = ev_lua_field_bool(L, 4, "debug", false);
        role = ev_lua_field_str(L, 4, "role");
        meta.origin = ev_lua_field_int(L, 4, "origin", 0);
        meta.time = ev_lua_field_int(L, 4, "time", 0);
    }
    if (role) {
        luaL_argcheck(L, strlen(role) <= EV_EVSTR_ROLE_MAX, 4, "a role has at most 20 characters");
        memcpy(meta.role, role, strlen(role) + 1);
        how.version = EV_EVSTR_TENZ;
        how.meta = &meta;
    }
    out = ev_lua_push_buf(L, EV_EVSTR_MAX);
    if (ev_evstr_encrypt(app, &how, text, out, &err) < 0) return ev_lua_fail(L, &err);
    return ev_lua_return_buf(L, out);
}

/* app:decrypt(text) → JSON text of the value | false when it is no encrypted string | nil, err */
static int l_decrypt(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_evapp *app = check(L);
    ev_slice text = ev_lua_check_slice(L, 2);
    struct ev_evstr s;
    struct ev_buf *plain, *json;

    if (ev_evstr_parse(text, &s) != EV_EVSTR_MATCH || s.whole.n != text.n) {
        lua_pushboolean(L, 0);
        return 1;
    }
    plain = ev_lua_push_buf(L, EV_EVSTR_MAX);
    json = ev_lua_push_buf(L, EV_EVSTR_MAX);
    if (ev_evstr_decrypt(app, &s, plain, NULL, &err) < 0) return ev_lua_fail(L, &err);
    if (ev_evstr_put_json(json, s.type, ev_buf_slice(plain)) < 0) {
        ev_fail(&err, EV_ELIMIT, "the decrypted value is too long");
        return ev_lua_fail(L, &err);
    }
    return ev_lua_return_buf(L, json);
}

/* evapp{p256 = key, secp256k1 = key, debug = bool} → app | nil, err */
static int l_evapp(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_evapp_conf conf = { 0 };
    struct app_box *b;

    luaL_checktype(L, 1, LUA_TTABLE);
    conf.p256 = ev_lua_field_key(L, 1, "p256");
    conf.secp256k1 = ev_lua_field_key(L, 1, "secp256k1");
    conf.debug = ev_lua_field_bool(L, 1, "debug", false);
    b = lua_newuserdatauv(L, sizeof *b, 1);
    b->app = NULL;
    luaL_setmetatable(L, APP_MT);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    if (ev_evapp_new(&conf, &b->app, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

void ev_lua_add_evstr(lua_State *L)
{
    static const luaL_Reg methods[] = { { "encrypt", l_encrypt }, { "decrypt", l_decrypt }, { "__gc", app_gc },
                                        { NULL, NULL } };

    ev_lua_type(L, APP_MT, methods);
    lua_pushcfunction(L, l_evapp);
    lua_setfield(L, -2, "evapp");
}
