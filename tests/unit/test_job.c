/* test_job.c — jobs and tasks from C's side: results, progress, cancelling, fini exactly once, and
 * the arguments' helpers of state.c. */
#include <string.h>
#include <unistd.h>

#include "script/state.h"
#include "tap.h"

enum { WAIT_STEPS = 5000 };

static int fini_calls, finish_calls;

struct test_job {
    struct ev_job job;
    long n;
    bool fail, raise, endless;
};

static void test_work(struct ev_job *job)
{
    struct test_job *j = (struct test_job *)job;

    atomic_store(&job->step, "counting");
    atomic_store(&job->total, (unsigned long long)j->n);
    for (long i = 0; (i < j->n || j->endless) && !atomic_load(&job->cancelled); i++) {
        atomic_store(&job->done, (unsigned long long)(i + 1));
        if (j->endless)
            usleep(1000);
    }
    if (atomic_load(&job->cancelled))
        ev_fail(&job->err, EV_ECANCELLED, "cancelled");
    else if (j->fail)
        ev_fail_reason(&job->err, EV_EPARSE, "odd", "cannot count");
}

static int test_finish(lua_State *L, struct ev_job *job)
{
    struct test_job *j = (struct test_job *)job;

    finish_calls++;
    if (j->raise)
        return luaL_error(L, "raised in finish");
    if (job->err.code < 0)
        return ev_lua_fail(L, &job->err);
    lua_pushliteral(L, "counted");
    lua_pushinteger(L, j->n);
    return 2;
}

static void test_fini(struct ev_job *job)
{
    (void)job;
    fini_calls++;
}

/* count{n, fail, raise, endless, start} → job */
static int l_count(lua_State *L)
{
    struct test_job *j;
    long n = (long)ev_lua_field_int(L, 1, "n", 10);
    bool fail = ev_lua_field_bool(L, 1, "fail", false), raise = ev_lua_field_bool(L, 1, "raise", false);
    bool endless = ev_lua_field_bool(L, 1, "endless", false), begin = ev_lua_field_bool(L, 1, "start", true);

    j = ev_job_new(L, sizeof *j, test_work, test_finish, test_fini);
    j->n = n;
    j->fail = fail;
    j->raise = raise;
    j->endless = endless;
    return begin ? ev_job_start(L, &j->job) : 1;
}

static int l_fields(lua_State *L)
{
    lua_pushstring(L, ev_lua_field_str(L, 1, "s"));
    lua_pushinteger(L, (lua_Integer)ev_lua_field_slice(L, 1, "b").n);
    lua_pushinteger(L, ev_lua_field_int(L, 1, "i", -1));
    lua_pushboolean(L, ev_lua_field_bool(L, 1, "f", true));
    return 4;
}

static int load_text(lua_State *L)
{
    if (luaL_loadstring(L, lua_touserdata(L, 1)) != LUA_OK)
        return lua_error(L);
    return 1;
}

/* Runs the text as a task to its end; → its first result as text. */
static const char *run(struct ev_rt *rt, struct ev_lua *h, const char *text)
{
    static char answer[512];
    lua_State *L = h->L;
    struct ev_task *t;

    lua_settop(L, 0);
    lua_pushcfunction(L, load_text);
    lua_pushlightuserdata(L, (void *)(uintptr_t)text);
    if (ev_lua_call(L, 1, 1) != EV_LUA_OK)
        return luaL_tolstring(L, -1, NULL);
    t = ev_task_spawn(L, 0);
    for (int i = 0; i < WAIT_STEPS && !ev_task_done(t); i++)
        ev_rt_run_once(rt);
    if (!ev_task_done(t)) {
        ev_task_cancel(t);
        return "did not end";
    }
    lua_getfield(L, 1, "join");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 2);
    snprintf(answer, sizeof answer, "%s", luaL_tolstring(L, lua_isnil(L, -2) && !lua_isnil(L, -1) ? -1 : -2, NULL));
    lua_settop(L, 0);
    return answer;
}

static void collect(struct ev_lua *h)
{
    lua_gc(h->L, LUA_GCCOLLECT);
    lua_gc(h->L, LUA_GCCOLLECT);
}

static void test_results(struct ev_rt *rt, struct ev_lua *h)
{
    fini_calls = finish_calls = 0;
    EQ_STR(run(rt, h, "local j = count{n = 7} local a, b = j:wait() return a .. b"), "counted7", "results of a job");
    EQ_STR(run(rt, h, "local j = count{} j:wait() return select('#', j:wait())"), "2", "waiting twice");
    EQ_INT(finish_calls, 2, "finish runs once a job");
    collect(h);
    EQ_INT(fini_calls, 2, "fini runs once a job");
    EQ_STR(run(rt, h, "local _, e = count{fail = true}:wait() return e.code .. e.reason .. e.message"),
           "EPARSEoddcannot count", "a failure with code and reason");
    EQ_STR(run(rt, h, "local j = count{n = 3} j:wait() local s, d, t = j:progress() return s .. d .. t"),
           "counting33", "progress");
    EQ_STR(run(rt, h, "local j = count{n = 2} local n = 0\n"
               "for i = 1, 3 do spawn(function() j:wait() n = n + 1 end) end\n"
               "j:wait() sleep(0) sleep(0) return n"), "3", "three tasks wait for one job");
    EQ_STR(run(rt, h, "return tostring(select(2, pcall(count{start = false}.wait, count{start = false})))"
               ":match('not started') or '?'"), "not started", "a job that was not started");
    collect(h);
    fini_calls = 0;
    EQ_STR(run(rt, h, "local j = count{raise = true} local ok, m = pcall(j.wait, j)\n"
               "return tostring(ok) .. tostring(m):match('raised in finish')"),
           "falseraised in finish", "finish may raise");
    collect(h);
    EQ_INT(fini_calls, 1, "fini all the same");
}

static void test_cancel(struct ev_rt *rt, struct ev_lua *h)
{
    fini_calls = 0;
    EQ_STR(run(rt, h, "local j = count{endless = true} spawn(function() sleep(0.02) j:cancel() end)\n"
               "local _, e = j:wait() return e.code"), "ECANCELLED", "job:cancel is seen by the work");
    EQ_STR(run(rt, h, "local j = count{endless = true} local t = spawn(function() j:wait() end)\n"
               "sleep(0.02) t:cancel() for i = 1, 1000 do if j:ended() then return 'ended' end sleep(0.002) end"),
           "ended", "cancelling the waiter cancels the job");
    EQ_STR(run(rt, h, "local j do local k <close> = count{endless = true} j = k end\n"
               "for i = 1, 1000 do if j:ended() then return 'ended' end sleep(0.002) end"), "ended", "so does <close>");
    EQ_STR(run(rt, h, "count{endless = true}:cancel() collectgarbage() return 'gone'"), "gone", "a job nobody holds");
    for (int i = 0; i < WAIT_STEPS && h->jobs; i++)
        ev_rt_run_once(rt);
    OK(!h->jobs, "no job is left");
    collect(h);
    EQ_INT(fini_calls, 4, "fini of each");
}

static void test_arguments(struct ev_rt *rt, struct ev_lua *h)
{
    EQ_STR(run(rt, h, "local s, b, i, f = fields{s = 'x', b = 'a\\0b', i = 5, f = false}\n"
               "return s .. b .. i .. tostring(f)"), "x35false", "fields of a table");
    EQ_STR(run(rt, h, "local s, b, i, f = fields{} return tostring(s) .. b .. i .. tostring(f)"),
           "nil0-1true", "defaults");
    EQ_STR(run(rt, h, "return select(2, pcall(fields, {s = 1})):match(\"field 's': string expected, got number\")"),
           "field 's': string expected, got number", "a wrong type names its field");
    OK(strstr(run(rt, h, "return select(2, pcall(fields, {i = 1.5}))"), "field 'i'"), "no integer");
    OK(strstr(run(rt, h, "return select(2, pcall(fields, {i = '5'}))"), "field 'i'"), "a string is no integer");
    OK(strstr(run(rt, h, "return select(2, pcall(fields, {f = 0}))"), "field 'f'"), "a number is no boolean");
    OK(strstr(run(rt, h, "return select(2, pcall(fields, {s = 'a\\0b'}))"), "zero byte"), "a zero byte in a C string");
}

int main(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_rt *rt;
    struct ev_lua *h;

    if (ev_rt_new(&rt, &err) < 0 || ev_lua_new(rt, &h, &err) < 0) {
        OK(0, "a state: %s", err.msg);
        return tap_done();
    }
    luaL_requiref(h->L, "ev.c.task", luaopen_ev_task, 0);
    lua_pushglobaltable(h->L);
    lua_pushliteral(h->L, "sleep");
    lua_getfield(h->L, 1, "sleep");
    lua_rawset(h->L, -3);
    lua_pushliteral(h->L, "spawn");
    lua_getfield(h->L, 1, "spawn");
    lua_rawset(h->L, -3);
    lua_pushliteral(h->L, "count");
    lua_pushcfunction(h->L, l_count);
    lua_rawset(h->L, -3);
    lua_pushliteral(h->L, "fields");
    lua_pushcfunction(h->L, l_fields);
    lua_rawset(h->L, -3);
    test_results(rt, h);
    test_cancel(rt, h);
    test_arguments(rt, h);
    collect(h);
    OK(!h->tasks, "no task is left");
    EQ_INT(ev_rt_open_handles(rt), 0, "no handle is left");
    ev_lua_free(h);
    ev_rt_free(rt);
    return tap_done();
}
