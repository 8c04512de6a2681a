/* l_http.c — ev.c.http: one request over libcurl, as a job. */
#include "net/httpc.h"
#include "script/state.h"

enum { SENT_MAX = 256 << 20, HEADERS_MAX = 128 };

struct http_job {
    struct ev_job job;
    struct ev_httpc_request rq;         /* points to what follows */
    char *method, *url, *ca_file, *unix_socket;
    char *headers[HEADERS_MAX];
    struct ev_buf body;
    struct ev_httpc_response out;
};

static void http_work(struct ev_job *job)
{
    struct http_job *j = (struct http_job *)job;

    atomic_store(&job->step, "waiting for the answer");
    if (ev_httpc_request(&j->rq, &j->out, &job->err) >= 0)
        job->err.code = 0;
}

/* Repeated fields are joined with a comma, as ev.http does on streams. */
static void push_headers(lua_State *L, const struct ev_httpc_response *r)
{
    lua_newtable(L);
    for (size_t i = 0; i < r->n_headers; i++) {
        const char *name = r->headers[i].name, *value = r->headers[i].value;

        if (lua_getfield(L, -1, name) == LUA_TSTRING)
            lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
        else
            lua_pushstring(L, value);
        lua_setfield(L, -3, name);
        lua_pop(L, 1);
    }
}

static int http_finish(lua_State *L, struct ev_job *job)
{
    struct http_job *j = (struct http_job *)job;

    if (job->err.code < 0)
        return ev_lua_fail(L, &job->err);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, j->out.status);
    lua_setfield(L, -2, "status");
    push_headers(L, &j->out);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, ev_buf_str(&j->out.body), j->out.body.n);
    lua_setfield(L, -2, "body");
    return 1;
}

static void http_fini(struct ev_job *job)
{
    struct http_job *j = (struct http_job *)job;

    ev_free(j->method);
    ev_free(j->url);
    ev_free(j->ca_file);
    ev_free(j->unix_socket);
    for (size_t i = 0; i < HEADERS_MAX; i++)
        ev_free(j->headers[i]);
    ev_buf_wipe(&j->body);              /* may hold a token, like the headers */
    ev_httpc_response_fini(&j->out);
}

/* { ["Name"] = "value" } → "Name: value" each. */
static EV_MAY_RAISE void copy_headers(lua_State *L, struct http_job *j)
{
    if (lua_getfield(L, 1, "headers") != LUA_TNIL) {
        luaL_checktype(L, -1, LUA_TTABLE);
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
                luaL_error(L, "field 'headers': names and values are strings");
            if (j->rq.n_headers == HEADERS_MAX)
                luaL_error(L, "field 'headers': more than %d", (int)HEADERS_MAX);
            j->headers[j->rq.n_headers++] = ev_asprintf("%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
        }
    }
    lua_pop(L, 1);
}

static EV_MAY_RAISE uint64_t field_ms(lua_State *L, const char *name)
{
    uint64_t ms = 0;

    if (lua_getfield(L, 1, name) != LUA_TNIL)
        ms = ev_lua_ms(L, luaL_checknumber(L, -1));
    lua_pop(L, 1);
    return ms;
}

/* request{url, method, headers, body, timeout, max, ca_file, unix, redirects} → job; its results:
 * {status, headers, body} | nil, err */
static int l_request(lua_State *L)
{
    struct http_job *j;
    ev_slice body;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    j = ev_job_new(L, sizeof *j, http_work, http_finish, http_fini);
    j->url = ev_strdup(ev_lua_field_str(L, 1, "url"));
    if (!j->url)
        return luaL_error(L, "field 'url' is missing");
    j->method = ev_strdup(ev_lua_field_str(L, 1, "method"));
    j->ca_file = ev_strdup(ev_lua_field_str(L, 1, "ca_file"));
    j->unix_socket = ev_strdup(ev_lua_field_str(L, 1, "unix"));
    body = ev_lua_field_slice(L, 1, "body");
    ev_buf_init(&j->body, SENT_MAX);
    if (ev_buf_put_slice(&j->body, body) < 0)
        return luaL_error(L, "field 'body': more than %d bytes", (int)SENT_MAX);
    copy_headers(L, j);
    j->rq.url = j->url;
    j->rq.method = j->method;
    j->rq.ca_file = j->ca_file;
    j->rq.unix_socket = j->unix_socket;
    j->rq.headers = (const char *const *)j->headers;
    j->rq.body = ev_buf_slice(&j->body);
    j->rq.timeout_ms = field_ms(L, "timeout");
    j->rq.max_body = (size_t)ev_lua_field_int(L, 1, "max", 0);
    j->rq.redirects = (unsigned)ev_lua_field_int(L, 1, "redirects", 0);
    j->rq.cancelled = &j->job.cancelled;
    return ev_job_start(L, &j->job);
}

int luaopen_ev_http(lua_State *L)
{
    static const luaL_Reg functions[] = { { "request", l_request }, { NULL, NULL } };

    luaL_newlib(L, functions);
    return 1;
}
