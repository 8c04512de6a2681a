/* task.c — tasks: coroutines that wait on the loop.
 *
 *     ready ──resume──▶ running ──pend + yield──▶ waiting ──wake──▶ ready
 *       │                  ├── returns ─────▶ done (results on its own stack)
 *       │                  └── raises ──────▶ done (error object)
 *       └──────── cancel (ready or waiting) ▶ done (ECANCELLED), <close> variables have run
 *
 * The struct lives in the userdata that scripts hold; while the task has not ended the registry
 * anchors it. Only the loop resumes a task, never another task, so one runs at a time. A task that
 * cancels itself ends at its next wait. While <close> variables of a cancelled task run, waiting
 * raises, because Lua cannot yield there. */
#include <stdio.h>

#include "base/log.h"
#include "script/state.h"

enum { TASK_MAGIC = 0x7461736b };
enum task_state { READY, RUNNING, WAITING, CLOSING, DONE };
enum { UV_THREAD = 1, UV_ERROR = 2, UV_COUNT = 2 };

struct join_op {
    struct ev_task *waiter, *target;
    struct ev_timer *timer;
    bool late;
    struct join_op *next;               /* in the target's list */
};

struct ev_task {
    unsigned magic;
    enum task_state state;
    struct ev_lua *host;
    lua_State *co;
    int nargs;                          /* for the next resume */
    void (*cancel)(void *ctx);          /* how to stop what it waits for */
    void *cancel_ctx;
    bool waiting, woken;                /* pended and not yet woken; woken before the yield */
    bool bare;                          /* yielded without waiting for anything: an error */
    bool doomed;                        /* cancelled itself: ends at the next wait */
    bool cancelled, failed, observed;   /* observed: somebody saw the failure */
    struct join_op *joiners;
    struct ev_task *next, *prev;        /* host's list of live tasks */
    struct ev_task *next_ready;
};

static struct ev_task **task_slot(lua_State *co)
{
    return lua_getextraspace(co);
}

struct ev_task *ev_task_check(lua_State *L)
{
    struct ev_task *t = *task_slot(L);

    if (!t)
        luaL_error(L, "waiting is possible only in a task's own function, not in a coroutine inside it");
    if (t->state == CLOSING)
        luaL_error(L, "cannot wait: the task was cancelled");
    if (!lua_isyieldable(L))            /* else the yield would raise after something was started */
        luaL_error(L, "cannot wait below a function of C, such as a comparison of table.sort");
    return t;
}

bool ev_task_cancelled(const struct ev_task *t)
{
    return t->cancelled || t->doomed;
}

lua_State *ev_task_thread(struct ev_task *t)
{
    return t->co;
}

bool ev_task_done(const struct ev_task *t)
{
    return t->state == DONE;
}

/* --- the ready queue -------------------------------------------------------------------------- */

static void schedule_turn(struct ev_lua *h);

/* Those woken meanwhile wait for the next turn, so that the loop gets its share. */
static void run_ready(void *ctx)
{
    struct ev_lua *h = ctx;
    size_t n = 0;

    h->turn_due = false;
    for (struct ev_task *t = h->ready; t; t = t->next_ready)
        n++;
    while (n-- > 0 && h->ready)
        ev_task_resume(h->ready);
    if (h->ready)
        schedule_turn(h);
}

static void schedule_turn(struct ev_lua *h)
{
    if (h->turn_due)
        return;
    h->turn_due = true;
    ev_defer(h->rt, run_ready, h);
}

static void enqueue(struct ev_task *t)
{
    struct ev_lua *h = t->host;

    t->state = READY;
    t->next_ready = NULL;
    if (h->ready_last)
        h->ready_last->next_ready = t;
    else
        h->ready = t;
    h->ready_last = t;
    schedule_turn(h);
}

static void dequeue(struct ev_task *t)
{
    struct ev_lua *h = t->host;
    struct ev_task **at = &h->ready, *before = NULL;

    while (*at && *at != t) {
        before = *at;
        at = &before->next_ready;
    }
    if (!*at)
        return;
    *at = t->next_ready;
    if (h->ready_last == t)
        h->ready_last = before;
    t->next_ready = NULL;
}

void ev_task_pend(struct ev_task *t, void (*cancel)(void *ctx), void *ctx)
{
    t->cancel = cancel;
    t->cancel_ctx = ctx;
    t->waiting = true;
}

void ev_task_wake(struct ev_task *t)
{
    if (!t->waiting)
        return;
    t->waiting = false;
    t->cancel = NULL;
    if (t->state == RUNNING)
        t->woken = true;
    else
        enqueue(t);
}

/* --- the end of a task ------------------------------------------------------------------------ */

static void join_forget(struct join_op *op)
{
    struct join_op **at;

    if (!op->target)
        return;
    for (at = &op->target->joiners; *at && *at != op; at = &(*at)->next)
        continue;
    if (*at)
        *at = op->next;
    op->target = NULL;
    ev_timer_stop(op->timer);
    op->timer = NULL;
}

static void wake_joiners(struct ev_task *t)
{
    struct join_op *op;

    while ((op = t->joiners) != NULL) {
        struct ev_task *waiter = op->waiter;

        t->observed = true;
        join_forget(op);
        ev_task_wake(waiter);
    }
}

/* In protected mode: pushes what the task failed with. The coroutine keeps its copy of a raised
 * error, because closing it hands that to its <close> variables. */
static void push_failure(lua_State *L, struct ev_task *t)
{
    struct ev_err err = EV_ERR_INIT;

    if (t->cancelled) {
        ev_fail(&err, EV_ECANCELLED, "the task was cancelled");
        ev_lua_push_err(L, &err);
        return;
    }
    luaL_traceback(L, t->co, NULL, 0);
    if (t->bare) {
        lua_pushliteral(L, "coroutine.yield outside a coroutine: a task waits only through ev.*");
    } else if (lua_gettop(t->co) > 0 && lua_checkstack(t->co, 1)) {
        lua_pushvalue(t->co, -1);
        lua_xmove(t->co, L, 1);
    } else {
        lua_pushliteral(L, "not enough memory");
    }
    ev_lua_objectify(L, lua_tostring(L, -2));
}

static int keep_failure(lua_State *L)
{
    struct ev_task *t = lua_touserdata(L, 1);

    lua_rawgetp(L, LUA_REGISTRYINDEX, t);
    push_failure(L, t);
    lua_setiuservalue(L, 2, UV_ERROR);
    return 0;
}

static void report_close_error(struct ev_task *t)
{
    const char *text = lua_tostring(t->co, -1);

    ev_log(EV_ERROR, "task", "while a cancelled task was closing: %s", text ? text : "an error that is no text");
}

/* Coroutine closed, anchor dropped, joiners woken. Results of a good end stay on its stack. */
static void settle(struct ev_task *t, bool failed)
{
    struct ev_lua *h = t->host;
    lua_State *L = h->L;

    t->state = DONE;
    t->failed = failed;
    if (t->next)
        t->next->prev = t->prev;
    if (t->prev)
        t->prev->next = t->next;
    else
        h->tasks = t->next;
    if (h->root == t)
        t->observed = true;
    wake_joiners(t);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    if (failed && !t->cancelled && !t->observed)
        lua_gc(L, LUA_GCCOLLECT);       /* nobody holds it: its finalizer reports the failure now */
}

static enum ev_lua_status end_in_error(struct ev_task *t)
{
    lua_State *L = t->host->L;

    t->state = CLOSING;
    if (t->cancelled && ev_lua_closethread(t->co, L) != LUA_OK)
        report_close_error(t);
    lua_pushcfunction(L, keep_failure);
    lua_pushlightuserdata(L, t);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        lua_pop(L, 1);                  /* no memory even for that: the error object is missing */
    if (!t->cancelled)
        ev_lua_closethread(t->co, L);
    lua_settop(t->co, 0);
    settle(t, true);
    return t->cancelled ? EV_LUA_CANCELLED : EV_LUA_ERROR;
}

enum ev_lua_status ev_task_resume(struct ev_task *t)
{
    struct ev_lua *h = t->host;
    int nargs = t->nargs, nres = 0, rc;

    dequeue(t);
    t->state = RUNNING;
    t->nargs = 0;
    t->waiting = t->woken = false;
    h->current = t;
    rc = lua_resume(t->co, h->L, nargs, &nres);
    h->current = NULL;
    if (rc == LUA_OK) {
        settle(t, false);
        return EV_LUA_OK;
    }
    t->state = WAITING;
    if (rc != LUA_YIELD)
        return end_in_error(t);
    if (!t->waiting && !t->woken) {
        t->bare = true;
        return end_in_error(t);
    }
    if (t->doomed) {
        ev_task_cancel(t);
        return EV_LUA_CANCELLED;
    }
    if (t->woken)
        enqueue(t);
    return EV_LUA_WAIT;
}

void ev_task_cancel(struct ev_task *t)
{
    void (*cancel)(void *) = t->cancel;

    if (t->state == DONE || t->state == CLOSING)
        return;
    if (t->state == RUNNING) {
        t->doomed = true;
        return;
    }
    t->cancelled = true;
    t->waiting = false;
    t->cancel = NULL;
    dequeue(t);
    if (cancel)
        cancel(t->cancel_ctx);
    end_in_error(t);
}

/* --- what scripts hold ------------------------------------------------------------------------ */

#define TASK_CLASS "ev.task"

static struct ev_task *check_task(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, TASK_CLASS);
}

struct ev_task *ev_task_spawn(lua_State *L, int nargs)
{
    struct ev_lua *h = ev_lua_host(L);
    struct ev_task *t;

    luaL_checkstack(L, 4, NULL);
    t = lua_newuserdatauv(L, sizeof *t, UV_COUNT);
    *t = (struct ev_task){ .magic = TASK_MAGIC, .host = h, .nargs = nargs, .state = DONE, .observed = true };
    luaL_setmetatable(L, TASK_CLASS);
    t->co = lua_newthread(L);
    lua_setiuservalue(L, -2, UV_THREAD);
    luaL_checkstack(t->co, nargs + 1, "too many arguments");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    lua_insert(L, -nargs - 2);
    lua_xmove(L, t->co, nargs + 1);
    *task_slot(t->co) = t;
    t->observed = false;
    t->next = h->tasks;
    if (h->tasks)
        h->tasks->prev = t;
    h->tasks = t;
    enqueue(t);
    return t;
}

/* There was no memory even for the error object: it is made now. */
static void push_error(lua_State *L, int idx)
{
    struct ev_err err = EV_ERR_INIT;

    if (lua_getiuservalue(L, idx, UV_ERROR) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    ev_fail(&err, -ENOMEM, "not enough memory");
    ev_lua_push_err(L, &err);
}

static int push_results(lua_State *L, struct ev_task *t, int idx)
{
    int n;

    t->observed = true;
    if (t->failed) {
        lua_pushnil(L);
        push_error(L, idx);
        return 2;
    }
    n = lua_gettop(t->co);
    luaL_checkstack(L, n, "too many results");
    luaL_checkstack(t->co, n, "too many results");
    for (int i = 1; i <= n; i++)
        lua_pushvalue(t->co, i);
    lua_xmove(t->co, L, n);
    return n;
}

static int join_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct join_op *op = (struct join_op *)ctx;
    struct ev_task *t = check_task(L, 1);
    struct ev_err err = EV_ERR_INIT;

    (void)status;
    if (t->state == DONE)
        return push_results(L, t, 1);
    if (op->late)
        ev_fail(&err, -ETIMEDOUT, "the task did not end in time");
    else
        ev_fail(&err, EV_EINTERNAL, "a join was woken early");
    return ev_lua_fail(L, &err);
}

static void join_late(void *ctx)
{
    struct join_op *op = ctx;
    struct ev_task *waiter = op->waiter;

    op->late = true;
    join_forget(op);
    ev_task_wake(waiter);
}

static void join_cancel(void *ctx)
{
    join_forget(ctx);
}

/* task:join([seconds]) → what its function returned | nil, err */
static int l_join(lua_State *L)
{
    struct ev_task *t = check_task(L, 1), *self;
    lua_Number limit = luaL_optnumber(L, 2, -1);
    struct join_op *op;

    if (t->state == DONE)
        return push_results(L, t, 1);
    self = ev_task_check(L);
    luaL_argcheck(L, self != t, 1, "a task cannot join itself");
    op = lua_newuserdatauv(L, sizeof *op, 0);
    *op = (struct join_op){ .waiter = self, .target = t, .next = t->joiners };
    t->joiners = op;
    if (limit >= 0)
        op->timer = ev_timer_start(t->host->rt, ev_lua_ms(L, limit), false, join_late, op);
    ev_task_pend(self, join_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, join_finish);
}

static int l_cancel(lua_State *L)
{
    struct ev_task *t = check_task(L, 1);

    t->observed = true;
    ev_task_cancel(t);
    return 0;
}

static int l_status(lua_State *L)
{
    const struct ev_task *t = check_task(L, 1);
    static const char *const names[] = { "ready", "running", "waiting", "closing", "done" };
    const char *name = names[t->state];

    if (t->state == DONE && t->failed)
        name = t->cancelled ? "cancelled" : "failed";
    lua_pushstring(L, name);
    return 1;
}

static int task_gc(lua_State *L)
{
    struct ev_task *t = check_task(L, 1);

    if (!t->failed || t->observed || t->cancelled)
        return 0;
    t->observed = true;
    push_error(L, 1);
    ev_lua_push_report(L, -1);
    fprintf(stderr, "ev-cage: a task that nobody joined failed: %s\n", lua_tostring(L, -1));
    return 0;
}

void ev_task_open_class(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "join", l_join }, { "cancel", l_cancel }, { "status", l_status }, { NULL, NULL }
    };

    ev_lua_class(L, TASK_CLASS, methods, task_gc, l_cancel);
}
