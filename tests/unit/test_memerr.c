/* test_memerr.c — not enough memory at the first allocation of Lua, the second, the third, … of a
 * script that uses every binding that waits. Each time: no crash, and nothing is left open. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "script/state.h"
#include "tap.h"

enum { ROUNDS_MAX = 20000, TURNS_MAX = 20000 };

static const char prepare[] =
    "local task, net, proc, fs, sys = require 'ev.c.task', require 'ev.c.net', require 'ev.c.proc',\n"
    "  require 'ev.c.fs', require 'ev.c.sys'\n"
    "local addr, file = 'unix:' .. DIR .. '/s', DIR .. '/f'\n"
    "local function guard() return setmetatable({}, { __close = function() end }) end\n"
    "return function()\n"
    "  local g <close> = guard()\n"
    "  local t <close> = task.spawn(function(...) local h <close> = guard() task.sleep(0.0005) return ... end, 1, 2)\n"
    "  local a, b = t:join(5)\n"
    "  local victim = task.spawn(function() local h <close> = guard() task.sleep(9) end)\n"
    "  task.sleep(0)\n"
    "  victim:cancel()\n"
    "  assert(fs.write(file, ('x'):rep(1000)))\n"
    "  local text = assert(fs.read(file))\n"
    "  local l <close> = assert(net.listen(addr))\n"
    "  local server <close> = task.spawn(function()\n"
    "    local s <close> = assert(l:accept())\n"
    "    s:write(assert(s:read_until('\\n', 2000)))\n"
    "  end)\n"
    "  do\n"
    "    local s <close> = assert(net.connect(addr, 5))\n"
    "    assert(s:write(text .. '\\n'))\n"
    "    assert(#s:read_exact(1000) == 1000)\n"
    "  end\n"
    "  local f <close> = assert(net.forward('127.0.0.1:0', addr))\n"
    "  local child <close> = assert(proc.start { argv = { 'true' }, stdout = 'null', stderr = 'null' })\n"
    "  assert(child:next(5) == 'exit')\n"
    "  pcall(error, 'an error')\n"
    "  local failed = task.spawn(error, 'another')\n"
    "  failed:join()\n"
    "  return a + b\n"
    "end\n";

struct world {
    struct ev_rt *rt;
    struct ev_lua *h;
    char dir[64];
    int body;                   /* registry reference of the function */
};

static int load_body(lua_State *L)
{
    const struct world *w = lua_touserdata(L, 1);

    lua_pushglobaltable(L);
    lua_pushliteral(L, "DIR");
    lua_pushstring(L, w->dir);
    lua_rawset(L, -3);
    if (luaL_loadbuffer(L, prepare, sizeof prepare - 1, "=memerr") != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 1);
    return 1;
}

static int spawn_body(lua_State *L)
{
    const struct world *w = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, w->body);
    ev_task_spawn(L, 0);
    return 1;
}

static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void clean_up(struct world *w)
{
    struct ev_lua *h = w->h;

    h->allocs_left = -1;
    while (h->tasks)
        ev_task_cancel(h->tasks);
    lua_settop(h->L, 0);
    lua_gc(h->L, LUA_GCCOLLECT);
    lua_gc(h->L, LUA_GCCOLLECT);
    for (int i = 0; i < TURNS_MAX && ev_rt_open_handles(w->rt) > 0; i++)
        ev_rt_run_once(w->rt);
}

/* What the task on the top returned. */
static lua_Integer result(lua_State *L)
{
    lua_Integer n;

    lua_getfield(L, -1, "join");
    lua_pushvalue(L, -2);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK)
        return -1;
    n = lua_tointeger(L, -2);
    if (getenv("EV_TEST_VERBOSE") && !lua_isnil(L, -1))
        fprintf(stderr, "# %s\n", luaL_tolstring(L, -1, NULL));
    return n;
}

/* → whether the body came to its end although memory was short. */
static bool one_round(struct world *w, long n)
{
    lua_State *L = w->h->L;
    struct ev_task *t;
    bool good = false;

    lua_settop(L, 0);
    lua_pushcfunction(L, spawn_body);
    lua_pushlightuserdata(L, w);
    w->h->allocs_left = n;
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        t = lua_touserdata(L, -1);
        for (int i = 0; i < TURNS_MAX && !ev_task_done(t); i++)
            ev_rt_run_once(w->rt);
        if (!ev_task_done(t))
            OK(0, "round %ld: the task hangs", n);
        w->h->allocs_left = -1;
        good = ev_task_done(t) && result(L) == 3;
    }
    clean_up(w);
    return good;
}

static int setup(struct world *w)
{
    struct ev_err err = EV_ERR_INIT;

    snprintf(w->dir, sizeof w->dir, "/tmp/ev-memerr-XXXXXX");
    if (!mkdtemp(w->dir) || ev_rt_new(&w->rt, &err) < 0 || ev_lua_new(w->rt, &w->h, &err) < 0)
        return OK(0, "a state: %s", err.msg), -1;
    lua_pushcfunction(w->h->L, load_body);
    lua_pushlightuserdata(w->h->L, w);
    if (lua_pcall(w->h->L, 1, 1, 0) != LUA_OK)
        return OK(0, "the body: %s", lua_tostring(w->h->L, -1)), -1;
    w->body = luaL_ref(w->h->L, LUA_REGISTRYINDEX);
    return 0;
}

int main(void)
{
    struct world w = { 0 };
    long n = 0;
    int leaks = 0, fds;
    char path[96];

    if (setup(&w) < 0)
        return tap_done();
    OK(one_round(&w, -1), "with enough memory it comes to its end");
    fds = open_fds();
    for (; n < ROUNDS_MAX && !one_round(&w, n); n++)
        if (w.h->tasks || ev_rt_open_handles(w.rt) > 0)
            leaks++;
    OK(n > 50 && n < ROUNDS_MAX, "it takes %ld allocations, and each may fail", n);
    EQ_INT(leaks, 0, "rounds that left a task or a handle");
    EQ_INT(open_fds(), fds, "open descriptors");
    snprintf(path, sizeof path, "%s/f", w.dir);
    unlink(path);
    ev_lua_free(w.h);
    ev_rt_free(w.rt);
    OK(rmdir(w.dir) == 0, "nothing is left in the folder");
    return tap_done();
}
