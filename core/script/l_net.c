/* l_net.c — ev.c.net: streams and listeners that tasks wait for, relays done in C.
 *
 * A stream reads only while a task waits for bytes, so it can be handed on (TLS, relay) with nothing
 * lost: what was read and not fetched is given back first. One task reads and one writes at a time. */
#include <stdio.h>

#include "net/tls.h"
#include "script/state.h"

enum { READ_STEP = 64 * 1024, HOLD_MAX = 64 << 20, WRITE_STEP = 1 << 20, CONNECT_MS = 30000 };
enum { ACCEPT_MAX = 256 };
#define STREAM_CLASS "ev.stream"
#define LISTENER_CLASS "ev.listener"
#define OPEN_CLASS "ev.opening"

struct net_stream {
    struct ev_stream *s;                /* NULL: closed or handed on */
    struct ev_buf in;                   /* read, not fetched */
    size_t want;                        /* bytes the reader needs; reading stops above */
    size_t scanned;                     /* of `in`: has no delimiter */
    size_t written;                     /* of the string being written */
    bool eof, late;
    struct ev_err fail;
    struct ev_task *reader, *writer;
    struct ev_timer *limit;             /* of the reader */
    uint64_t limit_ms;                  /* 0: none */
};

static struct net_stream *to_stream(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, STREAM_CLASS);
}

static struct net_stream *open_stream(lua_State *L, int arg)
{
    struct net_stream *st = to_stream(L, arg);

    if (!st->s)
        luaL_error(L, "the stream was closed");
    return st;
}

struct ev_stream *ev_lua_check_stream(lua_State *L, int arg)
{
    return open_stream(L, arg)->s;
}

static void wake(struct ev_task **who)
{
    struct ev_task *t = *who;

    *who = NULL;
    if (t)
        ev_task_wake(t);
}

static void end_limit(struct net_stream *st)
{
    ev_timer_stop(st->limit);
    st->limit = NULL;
}

static void wake_reader(struct net_stream *st)
{
    end_limit(st);
    wake(&st->reader);
}

/* --- callbacks of the stream ------------------------------------------------------------------ */

static void on_data(void *ctx, ev_slice bytes)
{
    struct net_stream *st = ctx;

    if (ev_buf_put_slice(&st->in, bytes) < 0)
        ev_fail(&st->fail, -ENOBUFS, "more than %d bytes held back", (int)HOLD_MAX);
    if (st->in.n >= st->want || st->fail.code < 0)
        ev_stream_read_stop(st->s);
    wake_reader(st);
}

static void on_eof(void *ctx)
{
    struct net_stream *st = ctx;

    st->eof = true;
    wake_reader(st);
}

static void on_fail(void *ctx, const struct ev_err *err)
{
    struct net_stream *st = ctx;

    st->fail = *err;
    wake_reader(st);
    wake(&st->writer);
}

static void on_drained(void *ctx)
{
    struct net_stream *st = ctx;

    wake(&st->writer);
}

int ev_lua_push_stream(lua_State *L, struct ev_stream *take)
{
    static const struct ev_stream_cb cb = { on_data, on_eof, on_fail, on_drained };
    struct net_stream *st = lua_newuserdatauv(L, sizeof *st, 0);

    memset(st, 0, sizeof *st);
    ev_buf_init(&st->in, HOLD_MAX);
    luaL_setmetatable(L, STREAM_CLASS);
    st->s = take;
    ev_stream_set_cb(take, &cb, st);
    return 1;
}

/* --- reading ---------------------------------------------------------------------------------- */

enum read_kind { READ_SOME, READ_EXACT, READ_UNTIL };

static int give(lua_State *L, struct net_stream *st, size_t n, size_t drop)
{
    lua_pushlstring(L, ev_buf_str(&st->in), n);
    ev_buf_consume(&st->in, n + drop);
    st->scanned = 0;
    return 1;
}

/* Up to, and without, the delimiter. Looks only at what is new. */
static int give_until(lua_State *L, struct net_stream *st)
{
    ev_slice delim = ev_lua_check_slice(L, 2);
    size_t max = (size_t)lua_tointeger(L, 3);
    size_t from = st->scanned >= delim.n ? st->scanned - delim.n + 1 : 0;
    const uint8_t *at = st->in.n ? memmem(st->in.p + from, st->in.n - from, delim.p, delim.n) : NULL;
    struct ev_err err = EV_ERR_INIT;

    st->scanned = st->in.n;
    if (at && (size_t)(at - st->in.p) <= max)
        return give(L, st, (size_t)(at - st->in.p), delim.n);
    if (at || st->in.n >= max + delim.n) {
        ev_fail(&err, EV_ELIMIT, "more than %zu bytes before the delimiter", max);
        return ev_lua_fail(L, &err);
    }
    return 0;
}

static int give_bytes(lua_State *L, struct net_stream *st, enum read_kind kind)
{
    size_t n = kind == READ_UNTIL ? 0 : (size_t)lua_tointeger(L, 2);

    if (kind == READ_UNTIL)
        return give_until(L, st);
    if (kind == READ_EXACT)
        return st->in.n >= n ? give(L, st, n, 0) : 0;
    return st->in.n > 0 ? give(L, st, st->in.n < n ? st->in.n : n, 0) : 0;
}

/* What can be said without waiting, else 0. */
static int read_result(lua_State *L, struct net_stream *st, enum read_kind kind)
{
    struct ev_err err = EV_ERR_INIT;
    int n = give_bytes(L, st, kind);

    if (n > 0)
        return n;
    if (st->fail.code < 0)
        return ev_lua_fail(L, &st->fail);
    if (st->eof && (kind == READ_SOME || (kind == READ_UNTIL && st->in.n == 0))) {
        lua_pushnil(L);
        return 1;
    }
    if (!st->eof && !st->late)
        return 0;
    if (st->eof)
        ev_fail(&err, EV_EEOF, "the stream ended after %zu bytes of what was expected", st->in.n);
    else
        ev_fail(&err, -ETIMEDOUT, "nothing came in time");
    return ev_lua_fail(L, &err);
}

static void read_cancel(void *ctx)
{
    struct net_stream *st = ctx;

    end_limit(st);
    st->reader = NULL;
    if (st->s)
        ev_stream_read_stop(st->s);
}

static void read_late(void *ctx)
{
    struct net_stream *st = ctx;

    st->late = true;
    ev_stream_read_stop(st->s);
    wake_reader(st);
}

static int read_on(lua_State *L, int status, lua_KContext ctx);

static int read_wait(lua_State *L, struct net_stream *st, enum read_kind kind)
{
    struct ev_task *t = ev_task_check(L);

    st->reader = t;
    if (st->limit_ms && !st->limit)
        st->limit = ev_timer_start(ev_lua_rt(L), st->limit_ms, false, read_late, st);
    ev_stream_read_start(st->s);
    ev_task_pend(t, read_cancel, st);
    return lua_yieldk(L, 0, (lua_KContext)kind, read_on);
}

static int read_on(lua_State *L, int status, lua_KContext ctx)
{
    struct net_stream *st = to_stream(L, 1);
    struct ev_err err = EV_ERR_INIT;
    int n;

    (void)status;
    if (!st->s) {
        ev_fail(&err, EV_ECANCELLED, "the stream was closed");
        return ev_lua_fail(L, &err);
    }
    n = read_result(L, st, (enum read_kind)ctx);
    if (n == 0)
        return read_wait(L, st, (enum read_kind)ctx);
    ev_stream_read_stop(st->s);
    return n;
}

static int read_begin(lua_State *L, enum read_kind kind, size_t want)
{
    struct net_stream *st = open_stream(L, 1);
    int n;

    luaL_argcheck(L, !st->reader, 1, "another task reads this stream");
    st->want = want;
    st->scanned = 0;
    st->late = false;
    n = read_result(L, st, kind);
    return n > 0 ? n : read_wait(L, st, kind);
}

static size_t check_size(lua_State *L, int arg, lua_Integer fallback)
{
    lua_Integer n = luaL_optinteger(L, arg, fallback);

    luaL_argcheck(L, n > 0 && n <= HOLD_MAX / 2, arg, "out of range");
    return (size_t)n;
}

/* stream:read([max]) → bytes | nil at the end | nil, err */
static int l_read(lua_State *L)
{
    size_t max = check_size(L, 2, READ_STEP);

    lua_settop(L, 1);
    lua_pushinteger(L, (lua_Integer)max);
    return read_begin(L, READ_SOME, 1);
}

static int l_read_exact(lua_State *L)
{
    size_t n = check_size(L, 2, 0);

    lua_settop(L, 2);
    return read_begin(L, READ_EXACT, n);
}

/* stream:read_until(delimiter, max) → what is before it; the delimiter is eaten */
static int l_read_until(lua_State *L)
{
    ev_slice delim = ev_lua_check_slice(L, 2);
    size_t max = check_size(L, 3, READ_STEP);

    luaL_argcheck(L, delim.n > 0 && delim.n <= 64, 2, "a delimiter of 1 to 64 bytes expected");
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)max);
    return read_begin(L, READ_UNTIL, max + delim.n);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void write_cancel(void *ctx)
{
    ((struct net_stream *)ctx)->writer = NULL;
}

/* Hands the kernel a piece at a time and waits until it has taken it: true | nil, err */
static int write_on(lua_State *L, int status, lua_KContext ctx)
{
    struct net_stream *st = to_stream(L, 1);
    ev_slice all = ev_lua_check_slice(L, 2);
    struct ev_err err = EV_ERR_INIT;
    int rc;

    (void)status;
    (void)ctx;
    if (!st->s) {
        ev_fail(&err, EV_ECANCELLED, "the stream was closed");
        return ev_lua_fail(L, &err);
    }
    while (st->fail.code == 0 && ev_stream_queued(st->s) == 0 && st->written < all.n) {
        size_t n = all.n - st->written < WRITE_STEP ? all.n - st->written : WRITE_STEP;

        if ((rc = ev_stream_write(st->s, ev_slice_of(all.p + st->written, n))) < 0) {
            ev_fail(&err, rc, "write: %s", ev_err_text(rc));
            return ev_lua_fail(L, &err);
        }
        st->written += n;
    }
    if (st->fail.code < 0)
        return ev_lua_fail(L, &st->fail);
    if (ev_stream_queued(st->s) > 0) {
        st->writer = ev_task_check(L);
        ev_task_pend(st->writer, write_cancel, st);
        return lua_yieldk(L, 0, 0, write_on);
    }
    lua_pushboolean(L, true);
    return 1;
}

static int l_write(lua_State *L)
{
    struct net_stream *st = open_stream(L, 1);

    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    luaL_argcheck(L, !st->writer, 1, "another task writes to this stream");
    st->written = 0;
    return write_on(L, LUA_OK, 0);
}

/* --- the rest of a stream --------------------------------------------------------------------- */

static int l_shutdown(lua_State *L)
{
    ev_stream_shutdown(open_stream(L, 1)->s);
    return 0;
}

static int l_close(lua_State *L)
{
    struct net_stream *st = to_stream(L, 1);
    struct ev_stream *s = st->s;

    st->s = NULL;
    ev_stream_close(s);
    ev_buf_fini(&st->in);
    wake_reader(st);
    wake(&st->writer);
    return 0;
}

/* stream:set_timeout(seconds | nil): of each wait for bytes */
static int l_set_timeout(lua_State *L)
{
    struct net_stream *st = open_stream(L, 1);

    st->limit_ms = lua_isnoneornil(L, 2) ? 0 : ev_lua_ms(L, luaL_checknumber(L, 2));
    return 0;
}

static int push_addr(lua_State *L, const struct ev_addr *a)
{
    char text[300];

    ev_addr_text(a, text, sizeof text);
    lua_pushstring(L, text);
    return 1;
}

static int l_peer(lua_State *L)
{
    struct ev_addr a;

    if (ev_stream_peer(open_stream(L, 1)->s, &a) < 0) {
        lua_pushnil(L);
        return 1;
    }
    return push_addr(L, &a);
}

/* --- opening: connect and TLS ----------------------------------------------------------------- */

struct opening {
    struct ev_task *task;
    struct ev_stream *s;                /* pending, then the result; closed by the finalizer */
    struct ev_err err;
};

static int opening_gc(lua_State *L)
{
    struct opening *op = lua_touserdata(L, 1);

    ev_stream_close(op->s);
    op->s = NULL;
    return 0;
}

static void opened(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct opening *op = ctx;

    op->s = s;
    if (!s)
        op->err = *err;
    ev_task_wake(op->task);
}

static void opening_cancel(void *ctx)
{
    struct opening *op = ctx;

    ev_stream_close(op->s);
    op->s = NULL;
}

static int opening_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct opening *op = (struct opening *)ctx;

    (void)status;
    if (!op->s)
        return ev_lua_fail(L, &op->err);
    ev_lua_push_stream(L, op->s);
    op->s = NULL;
    return 1;
}

static struct opening *opening_new(lua_State *L)
{
    struct opening *op = lua_newuserdatauv(L, sizeof *op, 0);

    memset(op, 0, sizeof *op);
    luaL_setmetatable(L, OPEN_CLASS);
    op->task = ev_task_check(L);
    return op;
}

static EV_MAY_RAISE struct ev_addr check_addr(lua_State *L, int arg)
{
    struct ev_addr a;
    struct ev_err err = EV_ERR_INIT;

    if (ev_addr_parse(luaL_checkstring(L, arg), &a, &err) < 0)
        luaL_argerror(L, arg, lua_pushfstring(L, "%s", err.msg));
    return a;
}

/* connect(addr, seconds) → stream | nil, err */
static int l_connect(lua_State *L)
{
    struct ev_addr to = check_addr(L, 1);
    uint64_t ms = lua_isnoneornil(L, 2) ? CONNECT_MS : ev_lua_ms(L, luaL_checknumber(L, 2));
    struct opening *op = opening_new(L);

    if (ev_stream_connect(ev_lua_rt(L), &to, ms, opened, op, &op->s, &op->err) < 0)
        return ev_lua_fail(L, &op->err);
    ev_task_pend(op->task, opening_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, opening_finish);
}

/* tls(stream, {sni, ca_file, timeout_ms, alpn}) → stream | nil, err; takes the stream */
static int l_tls(lua_State *L)
{
    struct net_stream *st = open_stream(L, 1);
    struct ev_tls_client_conf conf = { 0 };
    struct opening *op;
    struct ev_stream *plain;

    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_argcheck(L, !st->reader && !st->writer, 1, "the stream is in use");
    conf.sni = ev_lua_field_str(L, 2, "sni");
    conf.ca_file = ev_lua_field_str(L, 2, "ca_file");
    conf.alpn = ev_lua_field_str(L, 2, "alpn");
    conf.timeout_ms = (uint64_t)ev_lua_field_int(L, 2, "timeout_ms", 0);
    op = opening_new(L);
    plain = st->s;
    st->s = NULL;
    ev_stream_read_stop(plain);
    ev_stream_set_cb(plain, NULL, NULL);
    ev_stream_unread(plain, ev_buf_slice(&st->in));
    ev_buf_fini(&st->in);
    op->s = ev_tls_connect(ev_lua_rt(L), &conf, plain, opened, op);
    ev_task_pend(op->task, opening_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, opening_finish);
}

/* --- listeners -------------------------------------------------------------------------------- */

struct net_listener {
    struct ev_listener *l;
    struct ev_stream *queue[ACCEPT_MAX];
    size_t first, n;
    struct ev_task *acceptor;
};

static struct net_listener *to_listener(lua_State *L)
{
    return luaL_checkudata(L, 1, LISTENER_CLASS);
}

static void on_accept(void *ctx, struct ev_stream *s)
{
    struct net_listener *nl = ctx;

    if (nl->n == ACCEPT_MAX) {
        ev_stream_close(s);
        return;
    }
    nl->queue[(nl->first + nl->n++) % ACCEPT_MAX] = s;
    wake(&nl->acceptor);
}

/* listen(addr) → listener | nil, err */
static int l_listen(lua_State *L)
{
    struct ev_addr at = check_addr(L, 1);
    struct net_listener *nl = lua_newuserdatauv(L, sizeof *nl, 0);
    struct ev_err err = EV_ERR_INIT;

    memset(nl, 0, sizeof *nl);
    luaL_setmetatable(L, LISTENER_CLASS);
    if (ev_listen(ev_lua_rt(L), &at, on_accept, nl, &nl->l, &err) < 0)
        return ev_lua_fail(L, &err);
    return 1;
}

static void accept_cancel(void *ctx)
{
    ((struct net_listener *)ctx)->acceptor = NULL;
}

/* listener:accept() → stream | nil once it is closed */
static int accept_on(lua_State *L, int status, lua_KContext ctx)
{
    struct net_listener *nl = to_listener(L);

    (void)status;
    (void)ctx;
    if (nl->n > 0) {
        ev_lua_push_stream(L, nl->queue[nl->first]);
        nl->first = (nl->first + 1) % ACCEPT_MAX;
        nl->n--;
        return 1;
    }
    if (!nl->l) {
        lua_pushnil(L);
        return 1;
    }
    luaL_argcheck(L, !nl->acceptor, 1, "another task accepts here");
    nl->acceptor = ev_task_check(L);
    ev_task_pend(nl->acceptor, accept_cancel, nl);
    return lua_yieldk(L, 0, 0, accept_on);
}

static int l_accept(lua_State *L)
{
    lua_settop(L, 1);
    return accept_on(L, LUA_OK, 0);
}

static int l_listener_addr(lua_State *L)
{
    struct net_listener *nl = to_listener(L);
    struct ev_addr a;

    if (!nl->l || ev_listener_addr(nl->l, &a) < 0)
        return luaL_error(L, "the listener was closed");
    return push_addr(L, &a);
}

static int l_listener_close(lua_State *L)
{
    struct net_listener *nl = to_listener(L);

    ev_listener_close(nl->l);
    nl->l = NULL;
    for (; nl->n > 0; nl->n--) {
        ev_stream_close(nl->queue[nl->first]);
        nl->first = (nl->first + 1) % ACCEPT_MAX;
    }
    wake(&nl->acceptor);
    return 0;
}

/* --- the module ------------------------------------------------------------------------------- */

void ev_net_open_classes(lua_State *L)
{
    static const luaL_Reg stream[] = {
        { "read", l_read }, { "read_exact", l_read_exact }, { "read_until", l_read_until },
        { "write", l_write }, { "shutdown", l_shutdown }, { "close", l_close },
        { "set_timeout", l_set_timeout }, { "peer", l_peer }, { NULL, NULL }
    };
    static const luaL_Reg listener[] = {
        { "accept", l_accept }, { "addr", l_listener_addr }, { "close", l_listener_close }, { NULL, NULL }
    };
    static const luaL_Reg none[] = { { NULL, NULL } };

    ev_lua_class(L, STREAM_CLASS, stream, l_close, l_close);
    ev_lua_class(L, LISTENER_CLASS, listener, l_listener_close, l_listener_close);
    ev_lua_class(L, OPEN_CLASS, none, opening_gc, opening_gc);
    ev_net_open_forward(L);
}

int luaopen_ev_net(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "connect", l_connect }, { "tls", l_tls }, { "listen", l_listen }, { "forward", ev_net_forward },
        { NULL, NULL }
    };

    luaL_newlib(L, functions);
    return 1;
}
