/* state.c — one lua_State: allocator, strict globals, where modules come from, errors.
 *
 * Modules: embedded text (an overlay folder may lie above it), then C openers `ev.c.*`, then files
 * beside the script of `run`. Text only, never bytecode; no search path, no shared objects. */
#include "script/state.h"

#include <limits.h>
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "script/embed.h"

enum { MODULE_MAX = 4 << 20 };          /* bytes of a module's text */

static const struct ev_lua_module modules[] = {
    { "ev.c.codec", luaopen_ev_codec },
    { "ev.c.crypto", luaopen_ev_crypto },
    { "ev.c.fs", luaopen_ev_fs },
    { "ev.c.http", luaopen_ev_http },
    { "ev.c.launch", luaopen_ev_launch },
    { "ev.c.net", luaopen_ev_net },
    { "ev.c.nitro", luaopen_ev_nitro },
    { "ev.c.proc", luaopen_ev_proc },
    { "ev.c.ramdisk", luaopen_ev_ramdisk },
    { "ev.c.repl", luaopen_ev_repl },
    { "ev.c.sys", luaopen_ev_sys },
    { "ev.c.task", luaopen_ev_task },
    { NULL, NULL }
};

/* Always from the binary: what decides which code runs is not laid over (STYLE, "Roles"). */
static const char *const never_overlaid[] = { "ev.main", "ev.cli.spec" };

struct ev_lua *ev_lua_host(lua_State *L)
{
    void *ud;

    lua_getallocf(L, &ud);
    return ud;
}

struct ev_rt *ev_lua_rt(lua_State *L)
{
    return ev_lua_host(L)->rt;
}

static void *lua_alloc(void *ud, void *p, size_t old, size_t n)
{
    struct ev_lua *h = ud;

    if (n == 0) {
        free(p);
        return NULL;
    }
    if (h->allocs_left >= 0 && (!p || n > old) && (h->allocs_left == 0 || h->allocs_left-- == 0))
        return NULL;
    return realloc(p, n);
}

/* --- errors ----------------------------------------------------------------------------------- */

static const char err_class;            /* registry key of ev.err's class */

static bool is_err_object(lua_State *L, int idx)
{
    bool same;

    if (lua_type(L, idx) != LUA_TTABLE || !lua_getmetatable(L, idx))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &err_class);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static void set_str(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

void ev_lua_push_err(lua_State *L, const struct ev_err *err)
{
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, 0, 3);
    set_str(L, "code", ev_err_name(err->code));
    if (err->reason[0])
        set_str(L, "reason", err->reason);
    set_str(L, "message", err->msg[0] ? err->msg : ev_err_text(err->code));
    lua_rawgetp(L, LUA_REGISTRYINDEX, &err_class);
    lua_setmetatable(L, -2);
}

int ev_lua_fail(lua_State *L, const struct ev_err *err)
{
    luaL_checkstack(L, 2, NULL);
    lua_pushnil(L);
    ev_lua_push_err(L, err);
    return 2;
}

void ev_lua_objectify(lua_State *L, const char *traceback)
{
    luaL_checkstack(L, 6, NULL);
    if (!is_err_object(L, -1)) {
        const char *text = luaL_tolstring(L, -1, NULL);

        lua_createtable(L, 0, 4);
        set_str(L, "code", "EINTERNAL");
        set_str(L, "message", text);
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "crash");
        lua_rawgetp(L, LUA_REGISTRYINDEX, &err_class);
        lua_setmetatable(L, -2);
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
    if (lua_getfield(L, -1, "traceback") == LUA_TNIL && traceback) {
        lua_pushstring(L, traceback);
        lua_setfield(L, -3, "traceback");
    }
    lua_pop(L, 1);
}

void ev_lua_push_report(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    luaL_tolstring(L, idx, NULL);
    if (lua_type(L, idx) == LUA_TTABLE && lua_getfield(L, idx, "traceback") == LUA_TSTRING) {
        lua_pushfstring(L, "%s\n%s", lua_tostring(L, -2), lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pop(L, 1);
    } else if (lua_type(L, idx) == LUA_TTABLE) {
        lua_pop(L, 1);
    }
}

static int message_handler(lua_State *L)
{
    luaL_traceback(L, L, NULL, 1);
    lua_insert(L, 1);
    lua_settop(L, 2);
    ev_lua_objectify(L, lua_tostring(L, 1));
    return 1;
}

enum ev_lua_status ev_lua_call(lua_State *L, int nargs, int nresults)
{
    int base = lua_gettop(L) - nargs;
    int rc;

    lua_pushcfunction(L, message_handler);
    lua_insert(L, base);
    rc = lua_pcall(L, nargs, nresults, base);
    lua_remove(L, base);
    if (rc == LUA_OK)
        return EV_LUA_OK;
    return rc == LUA_ERRMEM ? EV_LUA_NOMEM : EV_LUA_ERROR;
}

int ev_lua_closethread(lua_State *co, lua_State *from)
{
#if LUA_VERSION_RELEASE_NUM >= 50406
    return lua_closethread(co, from);
#else
    (void)from;
    return lua_resetthread(co);
#endif
}

/* --- arguments -------------------------------------------------------------------------------- */

ev_slice ev_lua_check_slice(lua_State *L, int arg)
{
    size_t n;
    const char *s = luaL_checklstring(L, arg, &n);

    return ev_slice_of(s, n);
}

static int field_error(lua_State *L, const char *name, const char *want, int type)
{
    return luaL_error(L, "field '%s': %s expected, got %s", name, want, lua_typename(L, type));
}

/* The string stays alive in its table, so the slice may outlive the pop. */
ev_slice ev_lua_field_slice(lua_State *L, int table, const char *name)
{
    int type = lua_getfield(L, table, name);
    ev_slice s = { NULL, 0 };

    if (type == LUA_TSTRING)
        s.p = (const uint8_t *)lua_tolstring(L, -1, &s.n);
    else if (type != LUA_TNIL)
        field_error(L, name, "string", type);
    lua_pop(L, 1);
    return s;
}

const char *ev_lua_field_str(lua_State *L, int table, const char *name)
{
    ev_slice s = ev_lua_field_slice(L, table, name);

    if (s.p && memchr(s.p, 0, s.n))
        luaL_error(L, "field '%s': a zero byte inside", name);
    return (const char *)s.p;
}

int64_t ev_lua_field_int(lua_State *L, int table, const char *name, int64_t fallback)
{
    int type = lua_getfield(L, table, name);
    int ok = 1;
    int64_t v = type == LUA_TNIL ? fallback : lua_tointegerx(L, -1, &ok);

    if (!ok || type == LUA_TSTRING)
        field_error(L, name, "integer", type);
    lua_pop(L, 1);
    return v;
}

bool ev_lua_field_bool(lua_State *L, int table, const char *name, bool fallback)
{
    int type = lua_getfield(L, table, name);
    bool v = type == LUA_TNIL ? fallback : lua_toboolean(L, -1);

    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        field_error(L, name, "boolean", type);
    lua_pop(L, 1);
    return v;
}

void ev_lua_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc, lua_CFunction close)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

uint64_t ev_lua_ms(lua_State *L, lua_Number seconds)
{
    const lua_Number year = 366.0 * 86400;

    if (!(seconds >= 0))
        luaL_error(L, "a number of seconds must not be negative");
    return (uint64_t)ceil((double)(seconds > year ? year : seconds) * 1000);
}

/* --- modules ---------------------------------------------------------------------------------- */

/* A few dozen entries, sorted by path and not by name: a plain walk. */
static const struct ev_embedded *find_embedded(const char *name)
{
    for (unsigned long i = 0; i < ev_embedded_count; i++)
        if (strcmp(name, ev_embedded[i].module) == 0)
            return &ev_embedded[i];
    return NULL;
}

static bool may_overlay(const char *name)
{
    for (size_t i = 0; i < EV_COUNT(never_overlaid); i++)
        if (strcmp(name, never_overlaid[i]) == 0)
            return false;
    return true;
}

/* Pushes the loaded chunk of a text file, or returns false when there is no such file. */
static EV_MAY_RAISE bool load_file(lua_State *L, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    if (st.st_size > MODULE_MAX)
        luaL_error(L, "%s: larger than %d bytes", path, (int)MODULE_MAX);
    if (luaL_loadfilex(L, path, "t") != LUA_OK)
        lua_error(L);
    return true;
}

/* "a.b" under dir → dir/a/b.lua or dir/a/b/init.lua; pushes chunk and its path. */
static EV_MAY_RAISE int load_under(lua_State *L, const char *dir, const char *name)
{
    static const char *const tails[] = { ".lua", "/init.lua" };
    char path[PATH_MAX];

    if (strstr(name, "..") || strchr(name, '/'))
        return 0;
    for (size_t i = 0; i < EV_COUNT(tails); i++) {
        int head = snprintf(path, sizeof path, "%s/", dir);
        int n = snprintf(path, sizeof path, "%s/%s%s", dir, name, tails[i]);

        if (n >= (int)sizeof path)
            return 0;
        for (char *p = path + head; p < path + n - strlen(tails[i]); p++)
            if (*p == '.')
                *p = '/';
        if (load_file(L, path)) {
            lua_pushstring(L, path);
            return 2;
        }
    }
    return 0;
}

/* The overlay has the tree's own shape: DIR/lua/ev/x.lua, DIR/scripts/x.lua, DIR/plugins/x.lua. */
static EV_MAY_RAISE int load_overlay(lua_State *L, const struct ev_lua *h, const char *name)
{
    char dir[PATH_MAX];
    bool library = strncmp(name, "ev.", 3) == 0;

    if (!h->overlay || !may_overlay(name))
        return 0;
    if (!library && strncmp(name, "scripts.", 8) != 0 && strncmp(name, "plugins.", 8) != 0)
        return 0;
    if (snprintf(dir, sizeof dir, "%s%s", h->overlay, library ? "/lua" : "") >= (int)sizeof dir)
        return 0;
    return load_under(L, dir, name);
}

static int search_embedded(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const struct ev_embedded *e = find_embedded(name);
    int n = load_overlay(L, ev_lua_host(L), name);

    if (n)
        return n;
    if (!e) {
        lua_pushfstring(L, "no embedded module '%s'", name);
        return 1;
    }
    lua_pushfstring(L, "@%s", e->path);
    if (luaL_loadbufferx(L, e->text, e->size, lua_tostring(L, -1), "t") != LUA_OK)
        return lua_error(L);
    lua_pushstring(L, e->path);
    return 2;
}

static int search_c(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);

    for (const struct ev_lua_module *m = modules; m->name; m++)
        if (strcmp(m->name, name) == 0) {
            lua_pushcfunction(L, m->open);
            lua_pushliteral(L, "built in");
            return 2;
        }
    lua_pushfstring(L, "no built-in module '%s'", name);
    return 1;
}

static int search_beside_script(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const struct ev_lua *h = ev_lua_host(L);
    int n = h->script_dir ? load_under(L, h->script_dir, name) : 0;

    if (n)
        return n;
    lua_pushfstring(L, "no file for '%s' beside the script", name);
    return 1;
}

static void set_searchers(lua_State *L)
{
    lua_CFunction list[] = { search_embedded, search_c, search_beside_script };

    lua_getglobal(L, "package");
    lua_createtable(L, EV_COUNT(list) + 1, 0);
    lua_getfield(L, -2, "searchers");
    lua_rawgeti(L, -1, 1);                              /* package.preload */
    lua_rawseti(L, -3, 1);
    lua_pop(L, 1);
    for (size_t i = 0; i < EV_COUNT(list); i++) {
        lua_pushcfunction(L, list[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 2);
    }
    lua_setfield(L, -2, "searchers");
    set_str(L, "path", "");
    set_str(L, "cpath", "");
    lua_pushnil(L);
    lua_setfield(L, -2, "loadlib");
    lua_pop(L, 1);
}

/* --- globals ---------------------------------------------------------------------------------- */

static int strict_read(lua_State *L)
{
    return luaL_error(L, "undefined global '%s'", luaL_tolstring(L, 2, NULL));
}

static int strict_write(lua_State *L)
{
    return luaL_error(L, "assignment to undefined global '%s' (write 'local')", luaL_tolstring(L, 2, NULL));
}

static void set_strict(lua_State *L)
{
    lua_pushglobaltable(L);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, strict_read);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, strict_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

/* load and loadfile with mode "t" whatever was asked; upvalues: the original, index of `mode`. */
static int load_text(lua_State *L)
{
    int mode = (int)lua_tointeger(L, lua_upvalueindex(2));

    while (lua_gettop(L) < mode)
        lua_pushnil(L);
    lua_pushliteral(L, "t");
    lua_replace(L, mode);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int do_text_file(lua_State *L)
{
    if (luaL_loadfilex(L, luaL_checkstring(L, 1), "t") != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L) - 1;
}

/* Like Lua's, but a reader that went away ends the script instead of being ignored. */
static int checked_print(lua_State *L)
{
    int n = lua_gettop(L);
    bool ok = true;

    for (int i = 1; i <= n; i++) {
        size_t len;
        const char *s = luaL_tolstring(L, i, &len);

        ok = ok && (i == 1 || putchar('\t') != EOF) && fwrite(s, 1, len, stdout) == len;
        lua_pop(L, 1);
    }
    if (!ok || putchar('\n') == EOF || ferror(stdout)) {
        struct ev_err err = EV_ERR_INIT;

        ev_fail_errno(&err, "standard output");
        ev_lua_push_err(L, &err);
        return lua_error(L);
    }
    return 0;
}

static void wrap_loader(lua_State *L, const char *name, int mode)
{
    lua_getglobal(L, name);
    lua_pushinteger(L, mode);
    lua_pushcclosure(L, load_text, 2);
    lua_setglobal(L, name);
}

static int open_state(lua_State *L)
{
    luaL_openlibs(L);
    wrap_loader(L, "load", 3);
    wrap_loader(L, "loadfile", 2);
    lua_pushcfunction(L, do_text_file);
    lua_setglobal(L, "dofile");
    lua_pushcfunction(L, checked_print);
    lua_setglobal(L, "print");
    set_searchers(L);
    ev_task_open_class(L);
    ev_job_open_class(L);
    ev_net_open_classes(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ev.err");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "class");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &err_class);
    set_strict(L);
    return 0;
}

int ev_lua_new(struct ev_rt *rt, struct ev_lua **out, struct ev_err *err)
{
    struct ev_lua *h = ev_alloc(sizeof *h);

    h->rt = rt;
    h->allocs_left = -1;
    h->L = lua_newstate(lua_alloc, h);
    if (!h->L) {
        ev_free(h);
        return ev_fail(err, -ENOMEM, "Lua state");
    }
    *(void **)lua_getextraspace(h->L) = NULL;
    lua_pushcfunction(h->L, open_state);
    if (lua_pcall(h->L, 0, 0, 0) != LUA_OK) {
        ev_fail(err, EV_EINTERNAL, "Lua state: %s", luaL_tolstring(h->L, -1, NULL));
        ev_lua_free(h);
        return EV_EINTERNAL;
    }
    *out = h;
    return 0;
}

void ev_lua_free(struct ev_lua *h)
{
    if (!h)
        return;
    lua_close(h->L);
    ev_free(h->overlay);
    ev_free(h->script_dir);
    ev_free(h);
}
