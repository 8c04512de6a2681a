/* job.c — blocking work on the thread pool, seen by scripts as a job.
 *
 *     new ─start─▶ on the pool ─done─▶ ended ─first wait─▶ results kept in the userdata
 *
 * On the pool the registry anchors the userdata. finish runs once, in the coroutine of the first
 * waiter; later waits get the same results. fini runs once: after finish, or in the finalizer. */
#include "script/state.h"

#define JOB_CLASS "ev.job"
enum { P_HOST, P_WAITERS, P_FLAGS, P_NEXT, P_PREV };
enum { STARTED = 1, ENDED = 2, FINISHED = 4, RELEASED = 8 };
enum { UV_RESULTS = 1, UV_COUNT = 1 };

struct wait_op {
    struct ev_job *job;                 /* NULL: woken or cancelled */
    struct ev_task *task;
    struct wait_op *next;
};

static uintptr_t flags(const struct ev_job *j)
{
    return (uintptr_t)j->priv[P_FLAGS];
}

static void set_flag(struct ev_job *j, uintptr_t f)
{
    j->priv[P_FLAGS] = (void *)(flags(j) | f);
}

static struct ev_job *check_job(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, JOB_CLASS);
}

static void release(struct ev_job *j)
{
    if (flags(j) & RELEASED)
        return;
    set_flag(j, RELEASED);
    if (j->fini)
        j->fini(j);
}

static void unlink_job(struct ev_job *j)
{
    struct ev_lua *h = j->priv[P_HOST];
    struct ev_job *next = j->priv[P_NEXT], *prev = j->priv[P_PREV];

    if (next)
        next->priv[P_PREV] = prev;
    if (prev)
        prev->priv[P_NEXT] = next;
    else
        h->jobs = next;
}

static void job_work(void *ctx)
{
    struct ev_job *j = ctx;

    j->work(j);
}

static void job_done(void *ctx)
{
    struct ev_job *j = ctx;
    struct ev_lua *h = j->priv[P_HOST];
    struct wait_op *op;

    set_flag(j, ENDED);
    unlink_job(j);
    while ((op = j->priv[P_WAITERS]) != NULL) {
        j->priv[P_WAITERS] = op->next;
        op->job = NULL;
        ev_task_wake(op->task);
    }
    lua_pushnil(h->L);                  /* an existing key: no allocation */
    lua_rawsetp(h->L, LUA_REGISTRYINDEX, j);
}

void *ev_job_new(lua_State *L, size_t size, void (*work)(struct ev_job *),
                 int (*finish)(lua_State *, struct ev_job *), void (*fini)(struct ev_job *))
{
    struct ev_job *j = lua_newuserdatauv(L, size, UV_COUNT);

    memset(j, 0, size);
    j->work = work;
    j->finish = finish;
    j->fini = fini;
    j->priv[P_HOST] = ev_lua_host(L);
    luaL_setmetatable(L, JOB_CLASS);
    return j;
}

int ev_job_start(lua_State *L, struct ev_job *j)
{
    struct ev_lua *h = j->priv[P_HOST];

    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, j);
    set_flag(j, STARTED);
    j->priv[P_NEXT] = h->jobs;
    if (h->jobs)
        h->jobs->priv[P_PREV] = j;
    h->jobs = j;
    ev_work_start(h->rt, job_work, job_done, j);
    return 1;
}

void ev_jobs_cancel(struct ev_lua *h)
{
    for (struct ev_job *j = h->jobs; j; j = j->priv[P_NEXT])
        atomic_store(&j->cancelled, true);
}

/* --- what scripts hold ------------------------------------------------------------------------ */

static void wait_cancel(void *ctx)
{
    struct wait_op *op = ctx;
    struct wait_op **at;

    if (!op->job)
        return;
    atomic_store(&op->job->cancelled, true);
    for (at = (struct wait_op **)&op->job->priv[P_WAITERS]; *at && *at != op; at = &(*at)->next)
        continue;
    if (*at)
        *at = op->next;
    op->job = NULL;
}

static int results(lua_State *L, struct ev_job *j)
{
    int n;

    if (!(flags(j) & FINISHED)) {
        int base = lua_gettop(L);

        set_flag(j, FINISHED);
        n = j->finish(L, j);
        lua_settop(L, base + n);
        lua_createtable(L, n, 1);
        for (int i = 1; i <= n; i++) {
            lua_pushvalue(L, base + i);
            lua_rawseti(L, -2, i);
        }
        lua_pushinteger(L, n);
        lua_setfield(L, -2, "n");
        lua_setiuservalue(L, 1, UV_RESULTS);
        release(j);
        return n;
    }
    if (lua_getiuservalue(L, 1, UV_RESULTS) != LUA_TTABLE)
        return luaL_error(L, "the job's results were lost by an error");
    lua_getfield(L, -1, "n");
    n = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, n, NULL);
    for (int i = 1, table = lua_gettop(L); i <= n; i++)
        lua_rawgeti(L, table, i);
    return n;
}

static int wait_finish(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return results(L, check_job(L, 1));
}

/* job:wait() → what the binding returns */
static int l_wait(lua_State *L)
{
    struct ev_job *j = check_job(L, 1);
    struct ev_task *t;
    struct wait_op *op;

    lua_settop(L, 1);
    luaL_argcheck(L, flags(j) & STARTED, 1, "the job was not started");
    if (flags(j) & ENDED)
        return results(L, j);
    t = ev_task_check(L);
    op = lua_newuserdatauv(L, sizeof *op, 0);
    *op = (struct wait_op){ .job = j, .task = t, .next = j->priv[P_WAITERS] };
    j->priv[P_WAITERS] = op;
    ev_task_pend(t, wait_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, wait_finish);
}

static int l_cancel(lua_State *L)
{
    atomic_store(&check_job(L, 1)->cancelled, true);
    return 0;
}

/* job:progress() → step, done, total */
static int l_progress(lua_State *L)
{
    struct ev_job *j = check_job(L, 1);

    lua_pushstring(L, atomic_load(&j->step));
    lua_pushinteger(L, (lua_Integer)atomic_load(&j->done));
    lua_pushinteger(L, (lua_Integer)atomic_load(&j->total));
    return 3;
}

/* job:ended() → boolean */
static int l_ended(lua_State *L)
{
    lua_pushboolean(L, (flags(check_job(L, 1)) & ENDED) != 0);
    return 1;
}

static int job_gc(lua_State *L)
{
    release(check_job(L, 1));
    return 0;
}

void ev_job_open_class(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "wait", l_wait }, { "cancel", l_cancel }, { "progress", l_progress }, { "ended", l_ended },
        { NULL, NULL }
    };

    ev_lua_class(L, JOB_CLASS, methods, job_gc, l_cancel);
}
