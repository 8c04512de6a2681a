/* l_proc.c — ev.c.proc: a child process in its own session, its output read as it comes.
 *
 *     running ──▶ exited ──▶ pipes at their end (or GRACE_MS later) ──▶ "exit" event
 *        └── released (closed, collected, cancelled): TERM to the group, KILL_MS later KILL; freed
 *            when it has been collected, so that nothing is left behind
 *
 * The struct is heap, because it outlives the userdata while a child that was told to end ends. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "script/state.h"

enum { PIPE_MAX = 256 * 1024, PIPE_STEP = 32 * 1024, GRACE_MS = 500, KILL_MS = 2000, ARGV_MAX = 65536 };
#define CHILD_CLASS "ev.child"

struct child;

struct pipe_end {
    struct child *owner;
    int fd;                         /* -1: not a pipe, or at its end */
    struct ev_watch *watch;
    struct ev_buf buf;              /* read, not yet fetched */
};

struct child {
    struct ev_rt *rt;
    struct ev_process *process;
    int pid;
    struct pipe_end out[2];         /* stdout, stderr */
    int in_fd;
    struct ev_watch *in_watch;
    struct ev_buf in;               /* still to be written */
    struct ev_timer *grace, *killer;
    bool exited, given_up, released;
    int status, signum;
    struct ev_task *waiter;
    struct ev_timer *limit;
    bool late;
};

struct child_box { struct child *c; };

static void wake(struct child *c)
{
    struct ev_task *t = c->waiter;

    ev_timer_stop(c->limit);
    c->limit = NULL;
    c->waiter = NULL;
    if (t)
        ev_task_wake(t);
}

/* --- pipes ------------------------------------------------------------------------------------ */

static void pipe_close(struct pipe_end *p)
{
    ev_watch_stop(p->watch);
    p->watch = NULL;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static void pipe_readable(void *ctx, int events)
{
    struct pipe_end *p = ctx;
    size_t room = p->buf.max - p->buf.n;
    ssize_t n;

    (void)events;
    if (room == 0) {                /* the script is slower: the child waits */
        ev_watch_stop(p->watch);
        p->watch = NULL;
        return;
    }
    if (room > PIPE_STEP)
        room = PIPE_STEP;
    if (ev_buf_reserve(&p->buf, room) < 0)
        return;
    n = read(p->fd, p->buf.p + p->buf.n, room);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0)
        pipe_close(p);
    else
        p->buf.n += (size_t)n;
    wake(p->owner);
}

static void pipe_resume(struct pipe_end *p)
{
    if (p->fd >= 0 && !p->watch && p->buf.n < p->buf.max)
        p->watch = ev_watch_start(p->owner->rt, p->fd, EV_READABLE, pipe_readable, p);
}

static void input_close(struct child *c)
{
    ev_watch_stop(c->in_watch);
    c->in_watch = NULL;
    if (c->in_fd >= 0)
        close(c->in_fd);
    c->in_fd = -1;
    ev_buf_fini(&c->in);
}

static void input_writable(void *ctx, int events)
{
    struct child *c = ctx;
    ssize_t n = write(c->in_fd, c->in.p, c->in.n);

    (void)events;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0)
        ev_buf_consume(&c->in, (size_t)n);
    if (n < 0 || c->in.n == 0)      /* a child that does not read its input is no error */
        input_close(c);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void child_free(struct child *c)
{
    ev_timer_stop(c->grace);
    ev_timer_stop(c->killer);
    ev_timer_stop(c->limit);
    for (int i = 0; i < 2; i++) {
        pipe_close(&c->out[i]);
        ev_buf_fini(&c->out[i].buf);
    }
    input_close(c);
    ev_process_close(c->process);
    ev_free(c);
}

static void grace_over(void *ctx)
{
    struct child *c = ctx;

    ev_timer_stop(c->grace);
    c->grace = NULL;
    c->given_up = true;             /* somebody further down still holds the pipes */
    wake(c);
}

static void child_exited(void *ctx, int status, int signum)
{
    struct child *c = ctx;

    c->exited = true;
    c->status = status;
    c->signum = signum;
    if (c->released) {
        child_free(c);
        return;
    }
    c->grace = ev_timer_start(c->rt, GRACE_MS, false, grace_over, c);
    wake(c);
}

static void kill_group(struct child *c, int signum)
{
    if (!c->exited)
        kill(-c->pid, signum);
}

static void kill_now(void *ctx)
{
    struct child *c = ctx;

    ev_timer_stop(c->killer);
    c->killer = NULL;
    kill_group(c, SIGKILL);
}

static void child_release(struct child *c)
{
    c->waiter = NULL;
    ev_timer_stop(c->limit);
    c->limit = NULL;
    if (c->exited || !c->process) {
        child_free(c);
        return;
    }
    c->released = true;
    for (int i = 0; i < 2; i++)
        pipe_close(&c->out[i]);
    input_close(c);
    kill_group(c, SIGTERM);
    if (!c->killer)
        c->killer = ev_timer_start(c->rt, KILL_MS, false, kill_now, c);
}

/* --- start ------------------------------------------------------------------------------------ */

const char *const *ev_lua_field_strings(lua_State *L, int table, const char *field)
{
    const char **v;
    lua_Integer n;

    if (lua_getfield(L, table, field) == LUA_TNIL)
        return NULL;
    luaL_argcheck(L, lua_istable(L, -1), table, "a list of strings expected");
    n = luaL_len(L, -1);
    luaL_argcheck(L, n >= 0 && n <= ARGV_MAX, table, "too many strings");
    v = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *v, 0);
    for (lua_Integer i = 0; i < n; i++) {
        size_t len;

        if (lua_rawgeti(L, -2, i + 1) != LUA_TSTRING)
            luaL_error(L, "field '%s': string expected at %d", field, (int)i + 1);
        v[i] = lua_tolstring(L, -1, &len);
        if (strlen(v[i]) != len)
            luaL_error(L, "field '%s': a zero byte inside", field);
        lua_pop(L, 1);
    }
    v[n] = NULL;
    return v;
}

enum out_kind { OUT_NULL, OUT_INHERIT, OUT_PIPE, OUT_STDOUT };

static EV_MAY_RAISE enum out_kind check_kind(lua_State *L, const char *field)
{
    static const char *const names[] = { "null", "inherit", "pipe", "stdout" };
    const char *name = ev_lua_field_str(L, 1, field);

    for (size_t i = 0; name && i < EV_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum out_kind)i;
    if (name)
        luaL_error(L, "field '%s': unknown kind '%s'", field, name);
    return OUT_PIPE;
}

/* Our end stays in *ours, not blocking; the result is the child's end, to be closed after the start. */
static int open_pipe(int *ours, bool to_child)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    *ours = fds[to_child];
    fcntl(*ours, F_SETFL, O_NONBLOCK);
    return fds[!to_child];
}

static int give_output(struct child *c, int i, enum out_kind kind, int stdout_fd)
{
    switch (kind) {
    case OUT_INHERIT: return i + 1;
    case OUT_STDOUT: return stdout_fd;
    case OUT_PIPE: return open_pipe(&c->out[i].fd, false);
    default: return -1;
    }
}

static bool missing_dir(const char *dir, struct ev_err *err)
{
    struct stat st;

    if (!dir || (stat(dir, &st) == 0 && S_ISDIR(st.st_mode)))
        return false;
    ev_fail(err, -ENOENT, "no folder %s to start in", dir);
    return true;
}

static int start(struct child *c, struct ev_process_conf *conf, const enum out_kind kind[2], struct ev_err *err)
{
    int rc = 0, close_after[3] = { -1, -1, -1 };

    if (missing_dir(conf->cwd, err))
        return err->code;
    conf->fd_in = -1;
    if (c->in.n > 0)
        conf->fd_in = close_after[0] = open_pipe(&c->in_fd, true);
    conf->fd_out = give_output(c, 0, kind[0], -1);
    conf->fd_err = give_output(c, 1, kind[1], conf->fd_out);
    if (kind[0] == OUT_PIPE)
        close_after[1] = conf->fd_out;
    if (kind[1] == OUT_PIPE)
        close_after[2] = conf->fd_err;
    fflush(stdout);                 /* its output comes after what we have printed */
    rc = ev_process_start(c->rt, conf, child_exited, c, &c->process, err);
    for (int i = 0; i < 3; i++)
        if (close_after[i] >= 0)
            close(close_after[i]);
    if (rc == -ENOENT)
        rc = ev_fail(err, EV_EMISSING, "%s: no such program", conf->argv[0]);
    if (rc < 0)
        return rc;
    c->pid = ev_process_pid(c->process);
    pipe_resume(&c->out[0]);
    pipe_resume(&c->out[1]);
    if (c->in_fd >= 0)
        c->in_watch = ev_watch_start(c->rt, c->in_fd, EV_WRITABLE, input_writable, c);
    return 0;
}

static struct child *child_new(lua_State *L, ev_slice input)
{
    struct child *c = ev_alloc(sizeof *c);

    c->rt = ev_lua_rt(L);
    c->in_fd = -1;
    for (int i = 0; i < 2; i++) {
        c->out[i].owner = c;
        c->out[i].fd = -1;
        ev_buf_init(&c->out[i].buf, PIPE_MAX);
    }
    ev_buf_init(&c->in, input.n);
    if (input.n > 0 && ev_buf_put_slice(&c->in, input) < 0)
        c->in.n = 0;
    return c;
}

/* start{argv, env, cwd, stdin, stdout, stderr} → child | nil, err */
static int l_start(lua_State *L)
{
    struct ev_process_conf conf = { .new_session = true };
    enum out_kind kind[2];
    struct child_box *box;
    struct ev_err err = EV_ERR_INIT;
    ev_slice input;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    conf.argv = ev_lua_field_strings(L, 1, "argv");
    luaL_argcheck(L, conf.argv && conf.argv[0], 1, "argv is empty");
    conf.env = ev_lua_field_strings(L, 1, "env");
    conf.cwd = ev_lua_field_str(L, 1, "cwd");
    input = ev_lua_field_slice(L, 1, "stdin");
    kind[0] = check_kind(L, "stdout");
    kind[1] = check_kind(L, "stderr");
    luaL_argcheck(L, kind[0] != OUT_STDOUT, 1, "stdout cannot go to stdout");
    box = lua_newuserdatauv(L, sizeof *box, 0);
    box->c = NULL;
    luaL_setmetatable(L, CHILD_CLASS);
    box->c = child_new(L, input);
    if (start(box->c, &conf, kind, &err) < 0) {
        child_free(box->c);
        box->c = NULL;
        return ev_lua_fail(L, &err);
    }
    return 1;
}

/* --- what scripts hold ------------------------------------------------------------------------ */

static struct child *check_child(lua_State *L)
{
    struct child_box *box = luaL_checkudata(L, 1, CHILD_CLASS);

    if (!box->c)
        luaL_error(L, "the process was closed");
    return box->c;
}

/* Pushes the next event, or returns 0 when there is none yet. */
static int event(lua_State *L, struct child *c)
{
    static const char *const names[] = { "stdout", "stderr" };

    for (int i = 0; i < 2; i++) {
        struct pipe_end *p = &c->out[i];

        if (p->buf.n == 0)
            continue;
        lua_pushstring(L, names[i]);
        lua_pushlstring(L, (const char *)p->buf.p, p->buf.n);
        p->buf.n = 0;
        pipe_resume(p);
        return 2;
    }
    if (!c->exited || (!c->given_up && (c->out[0].fd >= 0 || c->out[1].fd >= 0)))
        return 0;
    lua_pushliteral(L, "exit");
    lua_pushinteger(L, c->status);
    lua_pushinteger(L, c->signum);
    return 3;
}

static void next_cancel(void *ctx)
{
    struct child *c = ctx;

    c->waiter = NULL;
    ev_timer_stop(c->limit);
    c->limit = NULL;
}

static void next_late(void *ctx)
{
    struct child *c = ctx;

    c->late = true;
    wake(c);
}

static int wait_event(lua_State *L, struct child *c);

static int next_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct child_box *box = luaL_checkudata(L, 1, CHILD_CLASS);
    struct ev_err err = EV_ERR_INIT;
    int n;

    (void)status;
    (void)ctx;
    if (!box->c) {
        ev_fail(&err, EV_ECANCELLED, "the process was closed");
        return ev_lua_fail(L, &err);
    }
    if ((n = event(L, box->c)) > 0)
        return n;
    if (box->c->late) {
        ev_fail(&err, -ETIMEDOUT, "nothing happened in time");
        return ev_lua_fail(L, &err);
    }
    return wait_event(L, box->c);
}

static int wait_event(lua_State *L, struct child *c)
{
    struct ev_task *t = ev_task_check(L);

    c->waiter = t;
    if (!c->limit && !lua_isnoneornil(L, 2))
        c->limit = ev_timer_start(c->rt, ev_lua_ms(L, luaL_checknumber(L, 2)), false, next_late, c);
    ev_task_pend(t, next_cancel, c);
    return lua_yieldk(L, 0, 0, next_finish);
}

/* child:next([seconds]) → "stdout" | "stderr", bytes | "exit", code, signal | nil, err */
static int l_next(lua_State *L)
{
    struct child *c = check_child(L);
    int n;

    luaL_argcheck(L, !c->waiter, 1, "another task waits for this process");
    lua_settop(L, 2);
    c->late = false;
    n = event(L, c);
    return n > 0 ? n : wait_event(L, c);
}

/* child:kill([signal]): its whole process group; TERM */
static int l_kill(lua_State *L)
{
    kill_group(check_child(L), (int)luaL_optinteger(L, 2, SIGTERM));
    return 0;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, check_child(L)->pid);
    return 1;
}

static int l_close(lua_State *L)
{
    struct child_box *box = luaL_checkudata(L, 1, CHILD_CLASS);
    struct child *c = box->c;

    box->c = NULL;
    if (!c)
        return 0;
    if (c->waiter)
        wake(c);
    child_release(c);
    return 0;
}

int luaopen_ev_proc(lua_State *L)
{
    static const luaL_Reg functions[] = { { "start", l_start }, { NULL, NULL } };
    static const luaL_Reg methods[] = {
        { "next", l_next }, { "kill", l_kill }, { "pid", l_pid }, { "close", l_close }, { NULL, NULL }
    };

    ev_lua_class(L, CHILD_CLASS, methods, l_close, l_close);
    luaL_newlib(L, functions);
    return 1;
}
