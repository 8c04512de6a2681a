/* l_repl.c — ev.c.repl: a line from the terminal with editing, history and completion.
 *
 * libedit is opened at run time, because only the prompt needs it, and driven by readiness of the
 * terminal, so that tasks go on while somebody types. It is one per process, so is what is static
 * here. Its completion asks Lua through ev_lua_call; the completer must not wait. */
#include <dlfcn.h>
#include <editline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "script/state.h"

enum { HISTORY_LINES = 2000, MATCHES_MAX = 512 };

/* X(name in libedit, member): resolved together, so either all are there or editing is off. */
#define FUNCTIONS(X)                                                                              \
    X(rl_callback_handler_install, void, (const char *, rl_vcpfunc_t *))                          \
    X(rl_callback_handler_remove, void, (void))                                                   \
    X(rl_callback_read_char, void, (void))                                                        \
    X(rl_initialize, int, (void))                                                                 \
    X(using_history, void, (void))                                                                \
    X(stifle_history, void, (int))                                                                \
    X(add_history, int, (const char *))                                                           \
    X(read_history, int, (const char *))                                                          \
    X(write_history, int, (const char *))

static struct edit {
    void *lib;
#define X(name, type, args) type (*name) args;
    FUNCTIONS(X)
#undef X
    rl_completion_func_t **completion;
    int *completion_over, *append_character;
} edit;

struct line_op {
    struct ev_task *task;
    struct ev_watch *watch;
    char *line;                         /* libedit's malloc */
    bool ended;
};

static struct line_op *reading;         /* whose line is being typed */
static struct ev_lua *host;
static int completer_ref = LUA_NOREF;

/* --- libedit ---------------------------------------------------------------------------------- */

static void *symbol(const char *name, bool *all)
{
    void *p = dlsym(edit.lib, name);

    if (!p)
        *all = false;
    return p;
}

static void set_int(const char *name, int value, bool *all)
{
    int *p = symbol(name, all);

    if (p)
        *p = value;
}

static char **attempt_completion(const char *text, int start, int end);

static bool resolve(void)
{
    static const char breaks[] = " \t\n\"\\'`@$><=;|&{}()[]+-*/%^#,~";
    const char **basic;
    bool all = true;

#define X(name, type, args) *(void **)&edit.name = symbol(#name, &all);
    FUNCTIONS(X)
#undef X
    edit.completion = symbol("rl_attempted_completion_function", &all);
    edit.completion_over = symbol("rl_attempted_completion_over", &all);
    edit.append_character = symbol("rl_completion_append_character", &all);
    basic = symbol("rl_basic_word_break_characters", &all);
    set_int("rl_catch_signals", 0, &all);       /* Ctrl-C is the run's business */
    if (!all)
        return false;
    *basic = breaks;
    *edit.completion = attempt_completion;
    return true;
}

static int open_library(struct ev_err *err)
{
    if (edit.lib)
        return 0;
    edit.lib = dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!edit.lib)
        return ev_fail(err, EV_EMISSING, "libedit is not installed: no line editing and no history");
    if (!resolve()) {
        dlclose(edit.lib);
        edit.lib = NULL;
        return ev_fail(err, EV_EMISSING, "this libedit lacks what line editing needs");
    }
    ev_sys_save_terminal(0);
    edit.rl_initialize();
    edit.using_history();
    edit.stifle_history(HISTORY_LINES);
    return 0;
}

/* --- completion ------------------------------------------------------------------------------- */

/* In protected mode: the typed text (a light userdata) → list of words. */
static int ask_completer(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, completer_ref);
    lua_pushstring(L, lua_touserdata(L, 1));
    lua_call(L, 1, 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    return 1;
}

static size_t common_prefix(const char *a, const char *b)
{
    size_t n = 0;

    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* The list on the top as libedit wants it: common prefix, words, NULL; all malloc'ed. */
static char **to_matches(lua_State *L)
{
    size_t n = (size_t)lua_rawlen(L, -1), shared = SIZE_MAX, same;
    char **m;

    if (n == 0)
        return NULL;
    if (n > MATCHES_MAX)
        n = MATCHES_MAX;
    m = ev_alloc((n + 2) * sizeof *m);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        m[i + 1] = ev_strdup(lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");
        lua_pop(L, 1);
        same = common_prefix(m[1], m[i + 1]);
        shared = same < shared ? same : shared;
    }
    m[0] = ev_strndup(m[1], shared);
    if (n == 1) {
        ev_free(m[1]);
        m[1] = NULL;
    }
    return m;
}

static char **attempt_completion(const char *text, int start, int end)
{
    lua_State *L = host->L;
    char **matches = NULL;

    (void)start;
    (void)end;
    *edit.completion_over = 1;          /* never file names */
    *edit.append_character = 0;
    if (completer_ref == LUA_NOREF)
        return NULL;
    lua_pushcfunction(L, ask_completer);
    lua_pushlightuserdata(L, (void *)(uintptr_t)text);
    if (ev_lua_call(L, 1, 1) == EV_LUA_OK)
        matches = to_matches(L);
    lua_pop(L, 1);
    return matches;
}

/* completer(function(word) → list of words | nil) */
static int l_completer(lua_State *L)
{
    luaL_unref(L, LUA_REGISTRYINDEX, completer_ref);
    completer_ref = LUA_NOREF;
    if (lua_isnoneornil(L, 1))
        return 0;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    completer_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* --- a line ----------------------------------------------------------------------------------- */

static void stop_reading(struct line_op *op)
{
    if (reading != op)
        return;
    reading = NULL;
    ev_watch_stop(op->watch);
    op->watch = NULL;
    edit.rl_callback_handler_remove();
}

static void line_done(char *line)
{
    struct line_op *op = reading;

    if (!op) {
        free(line);
        return;
    }
    op->line = line;
    op->ended = true;
}

static void line_readable(void *ctx, int events)
{
    struct line_op *op = ctx;
    struct ev_task *t = op->task;

    (void)events;
    edit.rl_callback_read_char();
    if (!op->ended)
        return;
    stop_reading(op);
    ev_task_wake(t);
}

static void line_cancel(void *ctx)
{
    stop_reading(ctx);
}

static int line_gc(lua_State *L)
{
    struct line_op *op = lua_touserdata(L, 1);

    stop_reading(op);
    free(op->line);
    op->line = NULL;
    return 0;
}

static int line_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct line_op *op = (struct line_op *)ctx;

    (void)status;
    lua_pushstring(L, op->line);
    return 1;
}

/* line(prompt) → text | nil at the end of input | nil, err */
static int l_line(lua_State *L)
{
    const char *prompt = luaL_checkstring(L, 1);
    struct ev_task *t = ev_task_check(L);
    struct ev_err err = EV_ERR_INIT;
    struct line_op *op;

    if (reading)
        return luaL_error(L, "a line is being read already");
    if (open_library(&err) < 0)
        return ev_lua_fail(L, &err);
    op = lua_newuserdatauv(L, sizeof *op, 0);
    *op = (struct line_op){ .task = t };
    if (luaL_newmetatable(L, "ev.line_op")) {
        lua_pushcfunction(L, line_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    host = ev_lua_host(L);
    op->watch = ev_watch_start(ev_lua_rt(L), 0, EV_READABLE, line_readable, op);
    if (!op->watch) {
        ev_fail(&err, EV_EUNSUPPORTED, "standard input cannot be waited for");
        return ev_lua_fail(L, &err);
    }
    reading = op;
    fflush(stdout);
    edit.rl_callback_handler_install(prompt, line_done);
    ev_task_pend(t, line_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, line_finish);
}

/* --- history ---------------------------------------------------------------------------------- */

/* open(history file | nil) → true | nil, err */
static int l_open(lua_State *L)
{
    const char *path = luaL_optstring(L, 1, NULL);
    struct ev_err err = EV_ERR_INIT;

    host = ev_lua_host(L);
    if (open_library(&err) < 0)
        return ev_lua_fail(L, &err);
    if (path)
        edit.read_history(path);        /* none yet is fine */
    lua_pushboolean(L, true);
    return 1;
}

static int l_add(lua_State *L)
{
    const char *line = luaL_checkstring(L, 1);

    if (edit.lib)
        edit.add_history(line);
    return 0;
}

/* save(history file) → true | nil, err; only its owner can read it */
static int l_save(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct ev_err err = EV_ERR_INIT;
    mode_t old;
    int rc;

    if (!edit.lib)
        return 0;
    old = umask(0077);
    rc = edit.write_history(path);
    umask(old);
    if (rc != 0 || chmod(path, 0600) < 0) {
        ev_fail_errno(&err, "write %s", path);
        return ev_lua_fail(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

int luaopen_ev_repl(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "open", l_open }, { "line", l_line }, { "add", l_add }, { "save", l_save },
        { "completer", l_completer }, { NULL, NULL }
    };

    luaL_newlib(L, functions);
    return 1;
}
