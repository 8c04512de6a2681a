/* l_nitro.c — ev.c.nitro: attestation documents and enclave images, as jobs and one waiting call.
 *
 * attest_connect judges the peer inside the TLS handshake: the document in the leaf certificate must
 * pass and carry exactly that certificate's key, before one byte of a request can leave.
 *
 *     op (heap) ◀── 1 reference each ── the task's userdata, the connection under way
 *
 * A cancelled task drops its reference; what the connection still brings is closed then. */
#include <time.h>

#include "codec/text.h"
#include "net/tls.h"
#include "nitro/attest.h"
#include "nitro/nsm_sim.h"
#include "script/box.h"

enum { SETS_MAX = 16 };

static const char TRUST_MT[] = "ev.trust";
static const char CONNECT_MT[] = "ev.attest.connect";

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- trust ------------------------------------------------------------------------------------- */

static struct ev_trust *box_trust(lua_State *L)
{
    struct ev_trust *t = lua_newuserdatauv(L, sizeof *t, 0);

    memset(t, 0, sizeof *t);
    luaL_setmetatable(L, TRUST_MT);
    return t;
}

static int trust_gc(lua_State *L)
{
    struct ev_trust *t = luaL_checkudata(L, 1, TRUST_MT);

    ev_trust_fini(t);
    memset(t, 0, sizeof *t);
    return 0;
}

static int l_trust_default(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;

    if (ev_trust_default(box_trust(L), &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

static int l_trust_from_pem(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    ev_slice pem = ev_lua_check_slice(L, 1);

    if (ev_trust_from_pem(box_trust(L), pem, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

static int l_trust_development(lua_State *L)
{
    struct ev_trust *t = luaL_checkudata(L, 1, TRUST_MT);

    lua_pushboolean(L, t->development);
    return 1;
}

/* --- expectations ------------------------------------------------------------------------------ */

/* {[0] = "hex", ...} on the top of the stack */
static void read_set(lua_State *L, struct ev_pcrs *out)
{
    memset(out, 0, sizeof *out);
    luaL_checktype(L, -1, LUA_TTABLE);
    for (lua_Integer i = 0; i < EV_PCR_COUNT; i++) {
        if (lua_rawgeti(L, -1, i) != LUA_TNIL) {
            ev_slice hex = ev_lua_check_slice(L, lua_gettop(L));
            if (ev_hex_decode(hex, out->value[i], EV_PCR_LEN) != EV_PCR_LEN)
                luaL_error(L, "PCR%d is not 48 bytes in hexadecimal", (int)i);
            out->present |= UINT32_C(1) << i;
        }
        lua_pop(L, 1);
    }
}

static bool field_bytes(lua_State *L, int t, const char *name, ev_slice *out)
{
    *out = ev_lua_field_slice(L, t, name);
    return out->p != NULL;
}

/* Fills from the table at `t`; the sets live in a userdata that stays on the stack, and the other
 * bytes are borrowed from the table. Pushes one value. */
static void read_expect(lua_State *L, int t, struct ev_expect *e)
{
    struct ev_pcrs *sets;
    lua_Unsigned n = 0;

    memset(e, 0, sizeof *e);
    luaL_checktype(L, t, LUA_TTABLE);
    sets = lua_newuserdatauv(L, SETS_MAX * sizeof *sets, 0);
    if (lua_getfield(L, t, "sets") == LUA_TTABLE) n = lua_rawlen(L, -1);
    if (n > SETS_MAX) luaL_error(L, "more than %d sets of measurements", SETS_MAX);
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        read_set(L, &sets[i]);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    e->sets = sets;
    e->n_sets = n;
    e->any_measurement = ev_lua_field_bool(L, t, "any_measurement", false);
    e->allow_debug = ev_lua_field_bool(L, t, "allow_debug", false);
    e->has_user_data = field_bytes(L, t, "user_data", &e->user_data);
    e->has_nonce = field_bytes(L, t, "nonce", &e->nonce);
    e->has_public_key = field_bytes(L, t, "public_key", &e->public_key);
    e->at_ms = ev_lua_field_int(L, t, "at", now_ms());
    e->max_age_ms = ev_lua_field_int(L, t, "max_age", 0);
    e->future_skew_ms = ev_lua_field_int(L, t, "future_skew", 0);
}

/* --- reports ----------------------------------------------------------------------------------- */

/* → {[0] = "hex", ...} */
static void push_pcrs(lua_State *L, const struct ev_pcrs *pcrs)
{
    lua_newtable(L);
    for (int i = 0; i < EV_PCR_COUNT; i++) {
        if (!(pcrs->present >> i & 1)) continue;
        ev_lua_push_hex(L, pcrs->value[i], EV_PCR_LEN);
        lua_rawseti(L, -2, i);
    }
}

static void push_report(lua_State *L, const struct ev_attest *a)
{
    lua_newtable(L);
    ev_lua_set_str(L, "module_id", a->module_id);
    ev_lua_set_str(L, "digest", a->digest);
    ev_lua_set_int(L, "timestamp", a->timestamp_ms);
    push_pcrs(L, &a->pcrs);
    lua_setfield(L, -2, "pcrs");
    if (a->has_user_data) ev_lua_set_buf(L, "user_data", &a->user_data);
    if (a->has_nonce) ev_lua_set_buf(L, "nonce", &a->nonce);
    if (a->has_public_key) ev_lua_set_buf(L, "public_key", &a->public_key);
    ev_lua_set_bool(L, "debug", a->debug);
    ev_lua_set_int(L, "not_before", a->not_before_ms);
    ev_lua_set_int(L, "not_after", a->not_after_ms);
}

struct attest_box { struct ev_attest a; };

static int attest_gc(lua_State *L)
{
    struct attest_box *b = luaL_checkudata(L, 1, "ev.attest");

    ev_attest_fini(&b->a);
    memset(b, 0, sizeof *b);
    return 0;
}

static struct attest_box *box_attest(lua_State *L)
{
    struct attest_box *b = lua_newuserdatauv(L, sizeof *b, 0);

    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, "ev.attest");
    return b;
}

/* attest_verify(doc, trust, expect) → report | nil, err, report */
static int l_attest_verify(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_expect expect;
    ev_slice doc = ev_lua_check_slice(L, 1);
    struct ev_trust *trust = luaL_checkudata(L, 2, TRUST_MT);
    struct attest_box *box;
    int rc;

    lua_settop(L, 3);
    read_expect(L, 3, &expect);
    box = box_attest(L);
    rc = ev_attest_verify(doc, trust, &expect, &box->a, &err);
    if (rc < 0) ev_lua_fail(L, &err);
    push_report(L, &box->a);
    return rc < 0 ? 3 : 1;
}

/* attest_from_cert(cert) → document | nil, err */
static int l_attest_from_cert(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_cert *cert = ev_lua_check_cert(L, 1);
    struct ev_buf *doc = ev_lua_push_buf(L, EV_ATTEST_DOC_MAX);

    if (ev_attest_from_cert(cert, doc, &err) < 0) return ev_lua_fail(L, &err);
    return ev_lua_return_buf(L, doc);
}

/* --- attested connections ---------------------------------------------------------------------- */

struct connect_op {
    unsigned refs;
    struct ev_rt *rt;
    struct ev_task *task;               /* NULL once woken or cancelled */
    struct ev_stream *pending, *stream; /* TCP under way; the attested stream */
    struct ev_trust trust;
    struct ev_expect expect;            /* sets, nonce owned here */
    struct ev_attest report;
    struct ev_buf spki, doc;
    char sni[256];
    uint64_t timeout_ms;
    bool judged, cancelled;
    struct ev_err verdict, err;
    int rc;
};

static void connect_unref(struct connect_op *op)
{
    if (--op->refs > 0) return;
    if (op->stream) ev_stream_close(op->stream);
    ev_trust_fini(&op->trust);
    ev_attest_fini(&op->report);
    ev_buf_fini(&op->spki);
    ev_buf_fini(&op->doc);
    ev_free((void *)op->expect.sets);
    ev_free((void *)op->expect.nonce.p);
    ev_free(op);
}

static void connect_finish(struct connect_op *op, const struct ev_err *err)
{
    struct ev_task *t = op->task;

    if (err) op->err = *err;
    op->rc = err ? (err->code ? err->code : EV_ETLS) : 0;
    op->task = NULL;
    if (t) ev_task_wake(t);
    connect_unref(op);                                  /* the connection's reference */
}

static int judge(void *ctx, const struct ev_cert *leaf, struct ev_err *err)
{
    struct connect_op *op = ctx;
    struct ev_key *key = NULL;
    int rc;

    op->judged = true;
    EV_TRY(ev_cert_key(leaf, &key, err));
    EV_TRY(ev_key_spki(key, &op->spki, err));
    EV_TRY(ev_attest_from_cert(leaf, &op->doc, err));
    op->expect.has_user_data = true;
    op->expect.user_data = ev_buf_slice(&op->spki);
    EV_TRY(ev_attest_verify(ev_buf_slice(&op->doc), &op->trust, &op->expect, &op->report, err));
out:
    ev_key_free(key);
    if (rc < 0 && err) op->verdict = *err;
    return rc;
}

static void tls_done(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct connect_op *op = ctx;

    op->pending = NULL;
    if (s && op->cancelled) {
        ev_stream_close(s);
        s = NULL;
    }
    op->stream = s;
    connect_finish(op, s ? NULL : err);
}

static void tcp_done(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct connect_op *op = ctx;
    struct ev_tls_client_conf conf = { .sni = op->sni, .accept_peer = judge, .ctx = op, .timeout_ms = op->timeout_ms };

    op->pending = NULL;
    if (!s) {
        connect_finish(op, err);
    } else {
        op->pending = ev_tls_connect(op->rt, &conf, s, tls_done, op);
    }
}

static void connect_cancel(void *ctx)
{
    struct connect_op *op = ctx;
    struct ev_stream *pending = op->pending;

    op->cancelled = true;
    op->task = NULL;
    op->pending = NULL;
    if (pending) {
        ev_stream_close(pending);
        connect_unref(op);
    }
}

static int connect_gc(lua_State *L)
{
    struct connect_op **box = luaL_checkudata(L, 1, CONNECT_MT);

    if (*box) connect_unref(*box);
    *box = NULL;
    return 0;
}

static void copy_trust(struct ev_trust *to, const struct ev_trust *from)
{
    to->roots = ev_alloc((from->n_roots + 1) * sizeof(to->roots[0]));
    for (size_t i = 0; i < from->n_roots; i++) to->roots[i] = ev_cert_ref(from->roots[i]);
    to->n_roots = from->n_roots;
    to->development = from->development;
}

static void copy_expect(struct ev_expect *to, const struct ev_expect *from)
{
    struct ev_pcrs *sets = ev_alloc((from->n_sets + 1) * sizeof *sets);

    *to = *from;
    if (from->n_sets) memcpy(sets, from->sets, from->n_sets * sizeof *sets);
    to->sets = sets;
    to->nonce = ev_slice_of(from->has_nonce ? ev_strndup(from->nonce.p, from->nonce.n) : NULL, from->nonce.n);
    to->has_public_key = false;
}

/* After the wake: stream, report | nil, err, report */
static int connect_continue(lua_State *L, int status, lua_KContext ctx)
{
    struct connect_op *op = (struct connect_op *)ctx;
    struct ev_stream *s = op->stream;

    (void)status;
    if (op->rc < 0) {
        ev_lua_fail(L, op->verdict.code < 0 ? &op->verdict : &op->err);
        push_report(L, &op->report);
        ev_lua_set_bool(L, "judged", op->judged);
        return 3;
    }
    op->stream = NULL;
    ev_lua_push_stream(L, s);
    push_report(L, &op->report);
    ev_lua_set_buf(L, "peer_spki", &op->spki);
    ev_lua_set_buf(L, "document", &op->doc);
    return 2;
}

static struct connect_op *box_connect(lua_State *L)
{
    struct connect_op **box = lua_newuserdatauv(L, sizeof *box, 0), *op;

    *box = NULL;
    luaL_setmetatable(L, CONNECT_MT);
    op = ev_alloc(sizeof *op);
    op->refs = 1;
    ev_buf_init(&op->spki, 4096);
    ev_buf_init(&op->doc, EV_ATTEST_DOC_MAX);
    *box = op;
    return op;
}

/* attest_connect{addr, sni, trust, expect, timeout (seconds)} → stream, report | nil, err, report */
static int l_attest_connect(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_addr to;
    struct ev_expect expect;
    struct ev_task *task;
    struct connect_op *op;
    const char *addr, *sni;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    addr = ev_lua_field_str(L, 1, "addr");
    sni = ev_lua_field_str(L, 1, "sni");
    luaL_argcheck(L, addr && sni && strlen(sni) < sizeof op->sni, 1, "needs addr and sni");
    lua_getfield(L, 1, "trust");                        /* 2 */
    luaL_checkudata(L, 2, TRUST_MT);
    lua_getfield(L, 1, "expect");                       /* 3 */
    read_expect(L, 3, &expect);
    task = ev_task_check(L);
    if (ev_addr_parse(addr, &to, &err) < 0) return ev_lua_fail(L, &err);
    op = box_connect(L);
    op->rt = ev_lua_rt(L);
    op->timeout_ms = (uint64_t)ev_lua_field_int(L, 1, "timeout", 15) * 1000;
    memcpy(op->sni, sni, strlen(sni) + 1);
    copy_trust(&op->trust, lua_touserdata(L, 2));
    copy_expect(&op->expect, &expect);
    op->refs = 2;
    if (ev_stream_connect(op->rt, &to, op->timeout_ms, tcp_done, op, &op->pending, &err) < 0) {
        op->refs = 1;
        return ev_lua_fail(L, &err);
    }
    op->task = task;
    ev_task_pend(task, connect_cancel, op);
    return lua_yieldk(L, 0, (lua_KContext)op, connect_continue);
}

/* nsm_root() → cert, key | nil, err: a development root for the simulator */
static int l_nsm_root(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_cert **cert = ev_lua_box_cert(L);
    struct ev_key **key = ev_lua_box_key(L);

    if (ev_nsm_sim_make_root(cert, key, &err) < 0) return ev_lua_fail(L, &err);
    return 2;
}

static void make_type(lua_State *L, const char *name, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

int luaopen_ev_nitro(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "trust_default", l_trust_default }, { "trust_from_pem", l_trust_from_pem },
        { "trust_development", l_trust_development }, { "attest_verify", l_attest_verify },
        { "attest_from_cert", l_attest_from_cert }, { "attest_connect", l_attest_connect },
        { "nsm_root", l_nsm_root }, { NULL, NULL },
    };

    ev_lua_crypto_classes(L);
    make_type(L, TRUST_MT, trust_gc);
    make_type(L, CONNECT_MT, connect_gc);
    make_type(L, "ev.attest", attest_gc);
    luaL_newlib(L, functions);
    ev_lua_add_image(L);
    return 1;
}
