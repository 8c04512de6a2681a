/* l_launch.c — ev.c.launch: an enclave that runs, as a Lua object.
 *
 *     sim{…}, qemu{…} ──▶ starting ──▶ booted ──▶ exited ──▶ closed
 *
 * The userdata owns the launch; closing it (also by `<close>` and by the collector) kills the enclave
 * and cleans up. One task waits at a time. */
#include <sys/socket.h>
#include <unistd.h>

#include "role/launch.h"
#include "script/box.h"

static const char LAUNCH_MT[] = "ev.launch";

struct launch {
    struct ev_launch *l;
    bool booted, exited;
    int code, signum;
    char why[1024];
    struct ev_task *task;               /* who waits for either event */
};

static void wake(struct launch *b)
{
    struct ev_task *t = b->task;

    b->task = NULL;
    if (t) ev_task_wake(t);
}

static void on_booted(void *ctx)
{
    struct launch *b = ctx;

    b->booted = true;
    wake(b);
}

static void on_exited(void *ctx, int code, int signum, const char *why)
{
    struct launch *b = ctx;

    b->exited = true;
    b->code = code;
    b->signum = signum;
    snprintf(b->why, sizeof b->why, "%s", why ? why : "");
    wake(b);
}

static void launch_close(struct launch *b)
{
    struct ev_launch *l = b->l;

    b->l = NULL;
    if (l) ev_launch_close(l);
    b->exited = true;
    wake(b);
}

/* The enclave's console as a stream of ours: our end becomes a stream on the stack, the other is put
 * into *theirs for the launcher (which dups it). */
static int console_pair(lua_State *L, int *theirs, struct ev_err *err)
{
    struct ev_stream *s = NULL;
    int fds[2], rc;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) return ev_fail_errno(err, "console");
    rc = ev_stream_from_fd(ev_lua_rt(L), fds[0], &s, err);
    if (rc < 0) {
        close(fds[1]);
        return rc;
    }
    *theirs = fds[1];
    return ev_lua_push_stream(L, s);
}

typedef int launcher(const struct ev_launch_conf *, struct ev_launch **, struct ev_err *);

static EV_MAY_RAISE int start(lua_State *L, struct ev_launch_conf c, launcher *run)
{
    struct ev_err err = EV_ERR_INIT;
    struct launch *b;
    int rc;

    c.rt = ev_lua_rt(L);
    c.eif_path = ev_lua_field_str(L, 1, "eif");
    c.dir = ev_lua_field_str(L, 1, "dir");
    c.root = ev_lua_field_cert(L, 1, "root_cert");
    c.root_key = ev_lua_field_key(L, 1, "root_key");
    c.debug = ev_lua_field_bool(L, 1, "debug", false);
    c.boot_timeout_ms = (uint64_t)ev_lua_field_int(L, 1, "timeout", 0) * 1000;
    luaL_argcheck(L, c.eif_path && c.dir && c.root && c.root_key, 1, "needs eif, dir, root_cert and root_key");
    b = lua_newuserdatauv(L, sizeof *b, 1);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, LAUNCH_MT);
    lua_pushvalue(L, 1);                                /* keeps root and key alive */
    lua_setiuservalue(L, -2, 1);
    c.booted = on_booted;
    c.exited = on_exited;
    c.ctx = b;
    if (console_pair(L, &c.console_fd, &err) < 0) return ev_lua_fail(L, &err);
    rc = run(&c, &b->l, &err);
    close(c.console_fd);
    return rc < 0 ? ev_lua_fail(L, &err) : 2;
}

/* sim{eif, dir, root_cert, root_key, debug, timeout (seconds)} → launch, console stream | nil, err */
static int l_sim(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    return start(L, (struct ev_launch_conf){ 0 }, ev_launch_sim);
}

/* qemu{… as sim, argv, env, memory (MiB), cpus, no_kvm} → launch, console stream | nil, err */
static int l_qemu(lua_State *L)
{
    struct ev_launch_conf c = { 0 };

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    c.qemu = ev_lua_field_strings(L, 1, "argv");
    luaL_argcheck(L, c.qemu && c.qemu[0], 1, "argv is empty");
    c.qemu_env = ev_lua_field_strings(L, 1, "env");
    c.memory_mib = (uint32_t)ev_lua_field_int(L, 1, "memory", 0);
    c.cpus = (uint32_t)ev_lua_field_int(L, 1, "cpus", 0);
    c.no_kvm = ev_lua_field_bool(L, 1, "no_kvm", false);
    return start(L, c, ev_launch_qemu);
}

static struct launch *check(lua_State *L) { return luaL_checkudata(L, 1, LAUNCH_MT); }

static int push_exit(lua_State *L, const struct launch *b)
{
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, b->code);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, b->signum);
    lua_setfield(L, -2, "signal");
    lua_pushstring(L, b->why);
    lua_setfield(L, -2, "why");
    return 1;
}

static void wait_cancel(void *ctx)
{
    ((struct launch *)ctx)->task = NULL;
}

static int wait_for(lua_State *L, struct launch *b, lua_KFunction k)
{
    struct ev_task *t = ev_task_check(L);

    if (b->task) return luaL_error(L, "another task waits for this enclave");
    b->task = t;
    ev_task_pend(t, wait_cancel, b);
    return lua_yieldk(L, 0, (lua_KContext)b, k);
}

static int booted_continue(lua_State *L, int status, lua_KContext ctx)
{
    struct ev_err err = EV_ERR_INIT;
    struct launch *b = (struct launch *)ctx;

    (void)status;
    if (b->booted) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (b->exited) {
        ev_fail(&err, EV_EUNSUPPORTED, "the enclave ended before it was up: %s",
                b->why[0] ? b->why : "no reason given");
        ev_lua_fail(L, &err);
        push_exit(L, b);
        return 3;
    }
    return wait_for(L, b, booted_continue);
}

/* launch:wait_booted() → true | nil, err, exit */
static int l_wait_booted(lua_State *L)
{
    return booted_continue(L, LUA_OK, (lua_KContext)check(L));
}

static int exit_continue(lua_State *L, int status, lua_KContext ctx)
{
    struct launch *b = (struct launch *)ctx;

    (void)status;
    return b->exited ? push_exit(L, b) : wait_for(L, b, exit_continue);
}

/* launch:wait_exit() → {code, signal, why} */
static int l_wait_exit(lua_State *L)
{
    return exit_continue(L, LUA_OK, (lua_KContext)check(L));
}

static int l_signal(lua_State *L)
{
    struct launch *b = check(L);

    if (b->l && !b->exited) ev_launch_signal(b->l, (int)luaL_checkinteger(L, 2));
    return 0;
}

static int l_exited(lua_State *L)
{
    lua_pushboolean(L, check(L)->exited);
    return 1;
}

/* launch:accel() → "sim" | "kvm" | "tcg" | "tcg-after-kvm" | nil when closed */
static int l_accel(lua_State *L)
{
    struct launch *b = check(L);

    if (b->l) lua_pushstring(L, ev_launch_accel(b->l));
    else lua_pushnil(L);
    return 1;
}

static int l_close(lua_State *L)
{
    launch_close(check(L));
    return 0;
}

int luaopen_ev_launch(lua_State *L)
{
    static const luaL_Reg functions[] = { { "sim", l_sim }, { "qemu", l_qemu }, { NULL, NULL } };
    static const luaL_Reg methods[] = {
        { "wait_booted", l_wait_booted }, { "wait_exit", l_wait_exit }, { "signal", l_signal },
        { "exited", l_exited }, { "accel", l_accel },
        { "close", l_close }, { "__close", l_close }, { "__gc", l_close }, { NULL, NULL },
    };

    ev_lua_crypto_classes(L);
    ev_lua_type(L, LAUNCH_MT, methods);
    luaL_newlib(L, functions);
    return 1;
}
