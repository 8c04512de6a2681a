/* run.c — the process of the CLI: loop, state, root task, signals, the end.
 *
 *     ev.main in the root task ─▶ turns of the loop ─▶ root ended ─▶ others cancelled ─▶ drained
 *
 * The first SIGINT, SIGTERM or SIGHUP cancels the foreground task (the root, unless the prompt put another
 * one there), a second one ends the process at once. A root that waits while nothing is left that
 * could wake it is an error. With EV_LEAK_CHECK=1 whatever a script left behind is one too. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "script/state.h"

enum { EXIT_USAGE = 64, EXIT_NO_INPUT = 66, EXIT_SOFTWARE = 70, EXIT_IO = 74 };
enum { DRAIN_MS = 5000, DRAIN_STEP_MS = 20, LEAK_WAIT_MS = 500, HOOK_STEPS = 1000 };

struct run {
    struct ev_rt *rt;
    struct ev_lua *h;
    struct ev_watch *watch;
    size_t idle_handles;            /* open before any script ran */
    int ended_by;                   /* signal that cancelled the root */
};

/* --- signals: the handler's side ------------------------------------------------------------- */

static volatile sig_atomic_t pending;       /* a first signal that has not been dealt with */
static int wake_pipe[2] = { -1, -1 };
static struct ev_lua *signal_host;

/* A script that computes without waiting never comes back to the loop, so it is stopped here. */
static void interrupt_hook(lua_State *L, lua_Debug *ar)
{
    struct ev_err err = EV_ERR_INIT;

    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    ev_fail_reason(&err, EV_ECANCELLED, "interrupt", "interrupted");
    ev_lua_push_err(L, &err);
    lua_error(L);
}

static void on_signal(int signum)
{
    int saved = errno;
    ssize_t unused;

    if (pending) {
        ev_sys_restore_terminal();
        _exit(128 + signum);
    }
    pending = signum;
    unused = write(wake_pipe[1], "", 1);
    (void)unused;
    if (signal_host && signal_host->current)
        lua_sethook(ev_task_thread(signal_host->current), interrupt_hook, LUA_MASKCOUNT, HOOK_STEPS);
    errno = saved;
}

/* --- signals: the loop's side ---------------------------------------------------------------- */

static void on_wake(void *ctx, int events)
{
    struct run *r = ctx;
    char drop[16];
    ssize_t n = read(wake_pipe[0], drop, sizeof drop);

    (void)events;
    if (n <= 0 || !pending)
        return;
    if (r->h->foreground) {
        struct ev_task *t = r->h->foreground;

        pending = 0;
        ev_task_cancel(t);
        return;
    }
    r->ended_by = pending;
    ev_task_cancel(r->h->root);
}

static int start_signals(struct run *r, struct ev_err *err)
{
    struct sigaction sa = { .sa_handler = on_signal }, old;

    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return ev_fail_errno(err, "pipe");
    r->watch = ev_watch_start(r->rt, wake_pipe[0], EV_READABLE, on_wake, r);
    if (!r->watch)
        return ev_fail(err, EV_EINTERNAL, "cannot watch for signals");
    signal_host = r->h;
    sigfillset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN)    /* nohup stays nohup */
        sigaction(SIGHUP, &sa, NULL);
    return 0;
}

static void stop_signals(struct run *r)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_IGN);        /* the end is near; nothing is left to interrupt */
    signal_host = NULL;
    ev_watch_stop(r->watch);
    r->watch = NULL;
    for (int i = 0; i < 2; i++)
        if (wake_pipe[i] >= 0)
            close(wake_pipe[i]);
    wake_pipe[0] = wake_pipe[1] = -1;
}

/* --- what a script left behind ---------------------------------------------------------------- */

static const char globals_key;

static int note_globals(lua_State *L)
{
    lua_newtable(L);
    lua_pushglobaltable(L);
    for (lua_pushnil(L); lua_next(L, -2);) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushboolean(L, true);
        lua_rawset(L, -5);
    }
    lua_pop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &globals_key);
    return 0;
}

static int leak(const char *what, size_t n, const char *detail)
{
    fprintf(stderr, "ev-cage: leak: %s%s%s", what, detail ? " " : "", detail ? detail : "");
    fprintf(stderr, n ? ": %zu\n" : "\n", n);
    return 1;
}

static int leaked_globals(lua_State *L)
{
    int bad = 0;

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &globals_key) != LUA_TTABLE)
        return 0;
    lua_pushglobaltable(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        if (lua_rawget(L, -5) == LUA_TNIL)
            bad += leak("global", 0, lua_type(L, -3) == LUA_TSTRING ? lua_tostring(L, -3) : "(no name)");
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    return bad;
}

/* luaL_ref's integers; those that were given back hold a number. */
static size_t registry_refs(lua_State *L)
{
    size_t n = 0;

    lua_pushvalue(L, LUA_REGISTRYINDEX);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        if (lua_isinteger(L, -2) && lua_tointeger(L, -2) > LUA_RIDX_LAST && lua_type(L, -1) != LUA_TNUMBER)
            n++;
    lua_pop(L, 1);
    return n;
}

static void tick(void *ctx)
{
    (void)ctx;
}

/* Turns the loop until only `want` handles are open, at most ms. */
static void drain(struct run *r, size_t want, uint64_t ms)
{
    uint64_t end = ev_rt_now_ms(r->rt) + ms;
    struct ev_timer *t;

    if (ev_rt_open_handles(r->rt) <= want)
        return;
    t = ev_timer_start(r->rt, DRAIN_STEP_MS, true, tick, NULL);
    while (ev_rt_open_handles(r->rt) > want + 1 && ev_rt_now_ms(r->rt) < end)
        ev_rt_run_once(r->rt);
    ev_timer_stop(t);
    ev_rt_run_once(r->rt);
}

static int leak_check(struct run *r)
{
    lua_State *L = r->h->L;
    size_t refs, open;
    int bad = 0;

    lua_gc(L, LUA_GCCOLLECT);
    lua_gc(L, LUA_GCCOLLECT);
    drain(r, r->idle_handles, LEAK_WAIT_MS);
    if (r->h->tasks)
        bad += leak("a task that has not ended", 0, NULL);
    if (r->h->jobs)
        bad += leak("a job that has not ended", 0, NULL);
    if ((open = ev_rt_open_handles(r->rt)) > r->idle_handles)
        bad += leak("open handles", open - r->idle_handles, NULL);
    if ((refs = registry_refs(L)) > 0)
        bad += leak("registry references", refs, NULL);
    return bad + leaked_globals(L);
}

/* --- the run ---------------------------------------------------------------------------------- */

static int say(int code, const char *text)
{
    fprintf(stderr, "ev-cage: %s\n", text);
    return code;
}

static void report_deadlock(struct run *r)
{
    lua_State *L = r->h->L;

    say(EXIT_SOFTWARE, "deadlock: every task waits, and nothing is left that could wake one");
    luaL_traceback(L, ev_task_thread(r->h->root), NULL, 0);
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* The root's userdata is on the top of the main thread's stack. */
static int root_result(struct run *r)
{
    lua_State *L = r->h->L;
    int code;

    if (!r->ended_by)
        r->ended_by = pending;          /* it stopped a computation, and the loop has not seen it yet */
    if (r->ended_by)
        return 128 + r->ended_by;
    lua_getfield(L, -1, "join");
    lua_pushvalue(L, -2);
    lua_call(L, 1, 2);
    if (lua_isinteger(L, -2)) {
        code = (int)lua_tointeger(L, -2);
        lua_pop(L, 2);
        return code;
    }
    ev_lua_push_report(L, -1);
    fprintf(stderr, "ev-cage: %s\n", lua_tostring(L, -1));
    lua_pop(L, 3);
    return EXIT_SOFTWARE;
}

static int run_root(struct run *r)
{
    struct ev_lua *h = r->h;

    while (!ev_task_done(h->root)) {
        if (!h->ready && ev_rt_open_handles(r->rt) <= r->idle_handles) {
            report_deadlock(r);
            return EXIT_SOFTWARE;
        }
        ev_rt_run_once(r->rt);
    }
    return root_result(r);
}

/* Pushes ev.main's function and argv, and makes the root task of them; its userdata stays. */
static int spawn_root(lua_State *L)
{
    struct ev_lua *h = ev_lua_host(L);
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);

    lua_settop(L, 0);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ev.main");
    lua_call(L, 1, 1);
    note_globals(L);
    lua_createtable(L, argc, 0);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    h->root = ev_task_spawn(L, 1);
    return 1;
}

static int start_root(struct run *r, int argc, char **argv)
{
    lua_State *L = r->h->L;

    lua_pushcfunction(L, spawn_root);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    if (ev_lua_call(L, 2, 1) == EV_LUA_OK)
        return 0;
    ev_lua_push_report(L, -1);
    return say(EXIT_SOFTWARE, lua_tostring(L, -1));
}

/* A reader that went away is no failure of ours and gets no message. */
static int flush_output(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno == EPIPE)
        return code;
    fprintf(stderr, "ev-cage: standard output: %s\n", strerror(errno));
    return code ? code : EXIT_IO;
}

static void end_tasks(struct ev_lua *h)
{
    while (h->tasks)
        ev_task_cancel(h->tasks);
    ev_jobs_cancel(h);
}

static int run_all(struct run *r, int argc, char **argv)
{
    const char *check = getenv("EV_LEAK_CHECK");
    int code = start_root(r, argc, argv);

    if (code == 0)
        code = run_root(r);
    if (code == 0 && check && strcmp(check, "1") == 0 && leak_check(r) > 0)
        code = EXIT_SOFTWARE;
    end_tasks(r->h);
    return flush_output(code);
}

/* --lua-dir must be known before the first module is loaded. What follows `run FILE` is the
 * script's own business. */
static const char *find_overlay(int argc, char **argv)
{
    const char *name = "--lua-dir";
    size_t n = strlen(name);
    int words = 0;

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            return argv[i] + n + 1;
        if (strcmp(argv[i], name) == 0)
            return i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] == '-')
            continue;
        if (words++ == 0 && strcmp(argv[i], "run") != 0)
            words = -argc;
        if (words == 2)
            break;
    }
    return NULL;
}

static int set_overlay(struct ev_lua *h, const char *dir)
{
    struct stat st;

    if (!dir)
        return 0;
    if (dir[0] != '/')
        return say(EXIT_USAGE, "--lua-dir: an absolute path is needed");
    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return say(EXIT_NO_INPUT, "--lua-dir: no such folder");
    fprintf(stderr, "ev-cage: Lua from %s lies over the embedded scripts\n", dir);
    h->overlay = ev_strdup(dir);
    return 0;
}

int ev_script_main(int argc, char **argv)
{
    struct run r = { 0 };
    struct ev_err err = EV_ERR_INIT;
    int rc, code = EXIT_SOFTWARE;

    EV_TRY(ev_rt_new(&r.rt, &err));
    EV_TRY(ev_lua_new(r.rt, &r.h, &err));
    EV_TRY(start_signals(&r, &err));
    r.idle_handles = ev_rt_open_handles(r.rt);
    code = set_overlay(r.h, find_overlay(argc, argv));
    if (code == 0)
        code = run_all(&r, argc, argv);
out:
    if (rc < 0)
        say(code, err.msg);
    if (r.h && !r.h->jobs && r.watch) {
        lua_gc(r.h->L, LUA_GCCOLLECT);
        drain(&r, r.idle_handles, DRAIN_MS);
    }
    if (r.h && r.h->jobs)
        drain(&r, r.idle_handles, DRAIN_MS);
    stop_signals(&r);
    if (r.h && r.h->jobs)           /* the pool still works on memory of the state: leave it all */
        return code;
    ev_lua_free(r.h);
    if (r.rt)
        drain(&r, 0, DRAIN_MS);
    ev_rt_free(r.rt);
    return code;
}
