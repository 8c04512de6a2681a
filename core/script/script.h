/* script.h — what the bindings (l_*.c) share: errors, tasks, blocking jobs, objects.
 *
 * Lua is entered only through ev_lua_call and ev_task_resume (state.c, task.c). A binding never
 * holds plain malloc across a call that may raise: box first, then acquire. */
#ifndef EV_SCRIPT_SCRIPT_H
#define EV_SCRIPT_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "net/loop.h"
#include "net/stream.h"

#define EV_MAY_RAISE        /* marks functions that may longjmp */

/* Raw C modules, opened by `require "ev.c.<name>"`; the table is in state.c. */
struct ev_lua_module { const char *name; lua_CFunction open; };

struct ev_rt *ev_lua_rt(lua_State *L);                              /* the process's loop */

/* Expected failure: pushes nil and the error object {code = "EPARSE", reason = "…", message = "…"}
 * (metatable of ev.err: wrap, tostring); returns 2, so `return ev_lua_fail(L, &err);`. */
EV_MAY_RAISE int ev_lua_fail(lua_State *L, const struct ev_err *err);
EV_MAY_RAISE void ev_lua_push_err(lua_State *L, const struct ev_err *err);
EV_MAY_RAISE ev_slice ev_lua_check_slice(lua_State *L, int arg);    /* string argument, borrowed */
/* Fields of a table argument. Missing: NULL / fallback; wrong type: raises with the field's name. */
EV_MAY_RAISE const char *ev_lua_field_str(lua_State *L, int table, const char *name);
EV_MAY_RAISE ev_slice ev_lua_field_slice(lua_State *L, int table, const char *name);
EV_MAY_RAISE int64_t ev_lua_field_int(lua_State *L, int table, const char *name, int64_t fallback);
EV_MAY_RAISE bool ev_lua_field_bool(lua_State *L, int table, const char *name, bool fallback);
/* A list of strings as a NULL-terminated vector in a userdata on the stack, NULL when nil; the strings
 * stay alive in the table. */
EV_MAY_RAISE const char *const *ev_lua_field_strings(lua_State *L, int table, const char *name);

/* --- tasks (task.c) ------------------------------------------------------------------------
 * A waiting C function: 1 check arguments, 2 t = ev_task_check(L), 3 box and start, 4 ev_task_pend,
 * 5 return lua_yieldk(L, 0, (lua_KContext)op, finish). The callback calls ev_task_wake, which
 * resumes the task at the next turn of the loop; `finish` then runs in the task's coroutine. */
struct ev_task;
EV_MAY_RAISE struct ev_task *ev_task_check(lua_State *L);           /* raises outside a task's own coroutine */
void ev_task_pend(struct ev_task *t, void (*cancel)(void *ctx), void *ctx);
void ev_task_wake(struct ev_task *t);                               /* at most once per pend */
bool ev_task_cancelled(const struct ev_task *t);

/* --- blocking work on the thread pool (job.c) ------------------------------------------------
 * `struct ev_job` is the first member of the binding's own struct, inside a userdata that Lua sees
 * as a job: job:wait() → results of finish, job:cancel(), job:progress() → step, done, total.
 *     struct build_job *b = ev_job_new(L, sizeof *b, build_work, build_finish, build_fini);
 *     ... fill b from the arguments (owned copies only) ...
 *     return ev_job_start(L, &b->job);                 -- returns the userdata, 1 result */
struct ev_job {
    void (*work)(struct ev_job *j);                     /* pool thread: no Lua, no loop */
    int (*finish)(lua_State *L, struct ev_job *j);      /* pushes results, returns their count */
    void (*fini)(struct ev_job *j);                     /* frees what the binding owns; exactly once */
    _Atomic(const char *) step;                         /* set by work; static strings */
    atomic_ullong done, total;                          /* set by work */
    atomic_bool cancelled;                              /* polled by work */
    struct ev_err err;                                  /* for work's use */
    void *priv[6];                                      /* job.c's */
};
EV_MAY_RAISE void *ev_job_new(lua_State *L, size_t size, void (*work)(struct ev_job *),
                              int (*finish)(lua_State *, struct ev_job *), void (*fini)(struct ev_job *));
EV_MAY_RAISE int ev_job_start(lua_State *L, struct ev_job *job);    /* job's userdata is on the top */

/* --- objects made by one binding and used by another ---------------------------------------- */
EV_MAY_RAISE int ev_lua_push_stream(lua_State *L, struct ev_stream *take);      /* → ev.c.net stream userdata */
struct ev_stream *ev_lua_check_stream(lua_State *L, int arg);                   /* borrowed */

/* --- the process ---------------------------------------------------------------------------- */
int ev_script_main(int argc, char **argv);                          /* CLI: runtime, ev.main, exit code */

int luaopen_ev_codec(lua_State *L);     /* json, toml, text     l_codec.c  */
int luaopen_ev_crypto(lua_State *L);    /* digest, key, cert    l_crypto.c */
int luaopen_ev_nitro(lua_State *L);     /* attest, image        l_nitro.c  */
int luaopen_ev_launch(lua_State *L);    /* launcher, front      l_launch.c */
int luaopen_ev_task(lua_State *L);
int luaopen_ev_sys(lua_State *L);       /* time, environment, terminal */
int luaopen_ev_fs(lua_State *L);        /* files and folders */
int luaopen_ev_proc(lua_State *L);
int luaopen_ev_net(lua_State *L);
int luaopen_ev_http(lua_State *L);
int luaopen_ev_repl(lua_State *L);
int luaopen_ev_ramdisk(lua_State *L);

#endif
