/* l_task.c — ev.c.task: spawn, sleep, now, who runs. Tasks themselves are in task.c. */
#include "script/state.h"

struct sleep_op {
    struct ev_task *task;
    struct ev_timer *timer;
};

static void sleep_cancel(void *ctx)
{
    struct sleep_op *op = ctx;

    ev_timer_stop(op->timer);
    op->timer = NULL;
}

static void sleep_fired(void *ctx)
{
    struct sleep_op *op = ctx;

    sleep_cancel(op);
    ev_task_wake(op->task);
}

static int sleep_finish(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lua_pushboolean(L, true);
    return 1;
}

/* sleep(seconds) → true */
static int l_sleep(lua_State *L)
{
    uint64_t ms = ev_lua_ms(L, luaL_checknumber(L, 1));
    struct ev_task *t = ev_task_check(L);
    struct sleep_op *op = lua_newuserdatauv(L, sizeof *op, 0);

    op->task = t;
    op->timer = ev_timer_start(ev_lua_rt(L), ms, false, sleep_fired, op);
    ev_task_pend(t, sleep_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, sleep_finish);
}

/* spawn(fn, ...) → task, which starts at the next turn of the loop */
static int l_spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    ev_task_spawn(L, lua_gettop(L) - 1);
    return 1;
}

/* now() → monotonic seconds */
static int l_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)ev_rt_now_ms(ev_lua_rt(L)) / 1000);
    return 1;
}

/* waitable() → true where a wait is possible */
static int l_waitable(lua_State *L)
{
    lua_pushboolean(L, *(void **)lua_getextraspace(L) != NULL && lua_isyieldable(L));
    return 1;
}

/* foreground(task | nil): what the first Ctrl-C ends instead of the whole run */
static int l_foreground(lua_State *L)
{
    ev_lua_host(L)->foreground = lua_isnoneornil(L, 1) ? NULL : luaL_checkudata(L, 1, "ev.task");
    return 0;
}

int luaopen_ev_task(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "spawn", l_spawn }, { "sleep", l_sleep }, { "now", l_now },
        { "waitable", l_waitable }, { "foreground", l_foreground }, { NULL, NULL }
    };

    luaL_newlib(L, functions);
    return 1;
}
