/* state.h — the inside of a Lua state, shared by state.c, task.c, job.c and run.c, and by bindings that
 * need more than script.h gives (the host behind a state, seconds as milliseconds).
 *
 * One `struct ev_lua` per lua_State; it is the state's allocator context, so every coroutine finds
 * it without touching a stack. A task's coroutine has the task in its extra space; the main thread's
 * is NULL, and a script's own coroutine inherits that NULL. */
#ifndef EV_SCRIPT_STATE_H
#define EV_SCRIPT_STATE_H

#include "script/script.h"

enum ev_lua_status {
    EV_LUA_OK, EV_LUA_WAIT, EV_LUA_ERROR, EV_LUA_BUDGET, EV_LUA_NOMEM, EV_LUA_CANCELLED
};

struct ev_lua {
    lua_State *L;                       /* main thread */
    struct ev_rt *rt;
    long allocs_left;                   /* tests: growing fails once it is 0; negative = never */
    char *overlay;                      /* --lua-dir, absolute; or NULL */
    bool announced;                     /* the overlay was named on stderr */
    char *script_dir;                   /* `run FILE`: require looks here too; or NULL */

    struct ev_task *tasks;              /* every task that has not ended */
    struct ev_task *ready, *ready_last; /* to be resumed at the next turn */
    bool turn_due;                      /* a turn is scheduled */
    struct ev_task *current;            /* running now */
    struct ev_task *root;
    struct ev_task *foreground;         /* what Ctrl-C ends; NULL = root */
    struct ev_job *jobs;                /* on the pool */
    bool shutting_down;                 /* failures are no longer reported */
};

struct ev_lua *ev_lua_host(lua_State *L);
int ev_lua_new(struct ev_rt *rt, struct ev_lua **out, struct ev_err *err) EV_MUST_USE;
void ev_lua_free(struct ev_lua *h);     /* tasks and jobs must have ended */

/* Protected call of the function below nargs arguments; on anything but OK one value (the error,
 * with a traceback when it is a plain message) is left. */
enum ev_lua_status ev_lua_call(lua_State *L, int nargs, int nresults);
/* lua_closethread where Lua has it (5.4.6); runs <close> variables of a suspended coroutine. */
int ev_lua_closethread(lua_State *co, lua_State *from);
/* Turns the value on the top into an error object: strings become EINTERNAL with `traceback`. */
EV_MAY_RAISE void ev_lua_objectify(lua_State *L, const char *traceback);
/* "message\nstack traceback: ..." of the error object at idx; pushes a string. */
EV_MAY_RAISE void ev_lua_push_report(lua_State *L, int idx);

/* Makes the class of a userdata: methods behind __index, what the collector and `<close>` call. */
EV_MAY_RAISE void ev_lua_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc,
                               lua_CFunction close);
/* Seconds of a script as milliseconds: rounded up, 0 to a year; NaN and negative raise. */
EV_MAY_RAISE uint64_t ev_lua_ms(lua_State *L, lua_Number seconds);

enum ev_lua_status ev_task_resume(struct ev_task *t);
EV_MAY_RAISE struct ev_task *ev_task_spawn(lua_State *L, int nargs);    /* fn, args on top → userdata */
void ev_task_cancel(struct ev_task *t);
lua_State *ev_task_thread(struct ev_task *t);
bool ev_task_done(const struct ev_task *t);
void ev_task_open_class(lua_State *L);
void ev_job_open_class(lua_State *L);
void ev_jobs_cancel(struct ev_lua *h);
void ev_net_open_classes(lua_State *L);
void ev_net_open_forward(lua_State *L);  /* l_forward.c */
int ev_net_forward(lua_State *L);
/* The terminal's settings as they are now, and back to them; safe in a signal handler. */
void ev_sys_save_terminal(int fd);
void ev_sys_restore_terminal(void);

#endif
