/* l_ramdisk.c — ev.c.ramdisk: write(path, { { name =, mode =, path = }, … } [, base]) → true | nil, err.
 * Used when the runtime ramdisk is made (scripts/dev/runtime.lua) and where modules follow it (`base`). */
#include <sys/stat.h>

#include "nitro/ramdisk.h"
#include "script/script.h"

static int l_write(lua_State *L)
{
    const char *out = luaL_checkstring(L, 1), *base = luaL_optstring(L, 3, NULL);
    struct ev_err err = EV_ERR_INIT;
    struct ev_ramdisk_entry *entries;
    lua_Integer n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = luaL_len(L, 2);
    luaL_argcheck(L, n >= 0 && n <= EV_RAMDISK_ENTRIES, 2, "too many entries");
    luaL_checkstack(L, (int)n + 8, "entries");
    entries = lua_newuserdatauv(L, (size_t)(n ? n : 1) * sizeof *entries, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, 2, i + 1);              /* stays on the stack: its strings are borrowed */
        luaL_checktype(L, -1, LUA_TTABLE);
        entries[i].name = ev_lua_field_str(L, lua_gettop(L), "name");
        entries[i].path = ev_lua_field_str(L, lua_gettop(L), "path");
        entries[i].mode = (uint32_t)ev_lua_field_int(L, lua_gettop(L), "mode", 0);
        luaL_argcheck(L, entries[i].name, 2, "an entry without a name");
        luaL_argcheck(L, entries[i].path || S_ISDIR(entries[i].mode), 2, "a file without a path");
    }
    if (ev_ramdisk_append(out, base, entries, (size_t)n, &err) < 0)
        return ev_lua_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

int luaopen_ev_ramdisk(lua_State *L)
{
    static const luaL_Reg functions[] = { { "write", l_write }, { NULL, NULL } };

    luaL_newlib(L, functions);
    return 1;
}
