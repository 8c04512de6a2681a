/* l_forward.c — net.forward: every connection to one address becomes one to another, in C.
 *
 *     accepted ──▶ connecting ──▶ relay ──▶ done; closing the forward closes all of them */
#include "script/state.h"

enum { CONNS_MAX = 4096, CONNECT_MS = 10000 };
#define FORWARD_CLASS "ev.forward"

struct conn {
    struct forward *f;
    struct ev_stream *client, *pending;
    struct ev_relay *relay;
    struct conn *next, *prev;
};

struct forward {
    struct ev_rt *rt;
    struct ev_listener *listener;       /* NULL: closed */
    struct ev_addr to;
    struct conn *conns;
    size_t n;
    uint64_t total, failed;
};

static void conn_free(struct conn *c)
{
    struct forward *f = c->f;

    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        f->conns = c->next;
    f->n--;
    ev_free(c);
}

static void relayed(void *ctx)
{
    conn_free(ctx);
}

static void connected(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct conn *c = ctx;

    (void)err;
    c->pending = NULL;
    if (!s) {
        c->f->failed++;
        ev_stream_close(c->client);
        conn_free(c);
        return;
    }
    c->relay = ev_relay_start(c->f->rt, c->client, s, relayed, c);
    c->client = NULL;
}

static void accepted(void *ctx, struct ev_stream *s)
{
    struct forward *f = ctx;
    struct conn *c;

    if (f->n >= CONNS_MAX) {
        ev_stream_close(s);
        return;
    }
    c = ev_alloc(sizeof *c);
    c->f = f;
    c->client = s;
    c->next = f->conns;
    if (c->next)
        c->next->prev = c;
    f->conns = c;
    f->n++;
    f->total++;
    if (ev_stream_connect(f->rt, &f->to, CONNECT_MS, connected, c, &c->pending, NULL) < 0) {
        f->failed++;
        ev_stream_close(c->client);
        conn_free(c);
    }
}

static struct forward *check_forward(lua_State *L)
{
    return luaL_checkudata(L, 1, FORWARD_CLASS);
}

static int l_close(lua_State *L)
{
    struct forward *f = check_forward(L);

    ev_listener_close(f->listener);
    f->listener = NULL;
    while (f->conns) {
        struct conn *c = f->conns;

        ev_relay_close(c->relay);
        ev_stream_close(c->pending);
        ev_stream_close(c->client);
        conn_free(c);
    }
    return 0;
}

static int l_addr(lua_State *L)
{
    struct forward *f = check_forward(L);
    struct ev_addr a;
    char text[300];

    if (!f->listener || ev_listener_addr(f->listener, &a) < 0)
        return luaL_error(L, "the forward was closed");
    ev_addr_text(&a, text, sizeof text);
    lua_pushstring(L, text);
    return 1;
}

/* forward:stats() → open, total, failed */
static int l_stats(lua_State *L)
{
    struct forward *f = check_forward(L);

    lua_pushinteger(L, (lua_Integer)f->n);
    lua_pushinteger(L, (lua_Integer)f->total);
    lua_pushinteger(L, (lua_Integer)f->failed);
    return 3;
}

void ev_net_open_forward(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "addr", l_addr }, { "close", l_close }, { "stats", l_stats }, { NULL, NULL }
    };

    ev_lua_class(L, FORWARD_CLASS, methods, l_close, l_close);
}

/* forward(listen_addr, connect_addr) → forward | nil, err */
int ev_net_forward(lua_State *L)
{
    struct ev_addr at, to;
    struct ev_err err = EV_ERR_INIT;
    struct forward *f;

    if (ev_addr_parse(luaL_checkstring(L, 1), &at, &err) < 0 || ev_addr_parse(luaL_checkstring(L, 2), &to, &err) < 0)
        return luaL_error(L, "%s", err.msg);
    f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct forward){ .rt = ev_lua_rt(L), .to = to };
    luaL_setmetatable(L, FORWARD_CLASS);
    if (ev_listen(f->rt, &at, accepted, f, &f->listener, &err) < 0)
        return ev_lua_fail(L, &err);
    return 1;
}
