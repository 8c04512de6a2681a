/* l_crypto.c — ev.c.crypto: digests, random bytes, keys, certificates.
 *
 * A private key is a userdata: made here, read from a file here, written to a file here. Its bytes
 * never become a Lua string (DESIGN §4.11). */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "crypto/digest.h"
#include "script/box.h"

enum { PEM_MAX = 1 << 20, NAMES_MAX = 32, RANDOM_MAX = 4096, READ_CHUNK = 1 << 16 };

static const char CERT_MT[] = "ev.cert";
static const char KEY_MT[] = "ev.key";

/* --- digests ----------------------------------------------------------------------------------- */

static int digest(lua_State *L, enum ev_digest_alg alg)
{
    uint8_t out[EV_DIGEST_MAX];
    size_t n = ev_digest_once(alg, ev_lua_check_slice(L, 1), out);

    lua_pushlstring(L, (const char *)out, n);
    return 1;
}
static int l_sha256(lua_State *L) { return digest(L, EV_SHA256); }
static int l_sha384(lua_State *L) { return digest(L, EV_SHA384); }
static int l_sha512(lua_State *L) { return digest(L, EV_SHA512); }

static int hash_fd(int fd, uint8_t out[EV_SHA384_LEN])
{
    uint8_t *chunk = ev_alloc(READ_CHUNK);
    struct ev_digest *d = ev_digest_new(EV_SHA384);
    ssize_t n;

    while ((n = read(fd, chunk, READ_CHUNK)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        ev_digest_update(d, chunk, (size_t)n);
    }
    n = n < 0 ? -errno : 0;
    if (n == 0) ev_digest_final(d, out);
    ev_digest_free(d);
    ev_free(chunk);
    return (int)n;
}

/* sha384_file(path) → 48 bytes | nil, err */
static int l_sha384_file(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    const char *path = luaL_checkstring(L, 1);
    uint8_t out[EV_SHA384_LEN];
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        ev_fail_errno(&err, "open %s", path);
        return ev_lua_fail(L, &err);
    }
    rc = hash_fd(fd, out);
    close(fd);
    if (rc < 0) {
        ev_fail(&err, rc, "read %s: %s", path, ev_err_text(rc));
        return ev_lua_fail(L, &err);
    }
    lua_pushlstring(L, (const char *)out, sizeof out);
    return 1;
}

/* pcr_extend(digest...) → register value: extend of 48 zero bytes by each argument in turn */
static int l_pcr_extend(lua_State *L)
{
    uint8_t pcr[EV_SHA384_LEN] = {0};

    for (int i = 1; i <= lua_gettop(L); i++) ev_pcr_extend(pcr, ev_lua_check_slice(L, i));
    lua_pushlstring(L, (const char *)pcr, sizeof pcr);
    return 1;
}

static int l_random(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    uint8_t out[RANDOM_MAX];
    lua_Integer n = luaL_checkinteger(L, 1);
    int rc;

    luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "between 0 and 4096");
    rc = ev_random(out, (size_t)n);
    if (rc < 0) {
        ev_fail(&err, rc, "no random bytes");
        return ev_lua_fail(L, &err);
    }
    lua_pushlstring(L, (const char *)out, (size_t)n);
    ev_wipe(out, sizeof out);
    return 1;
}

/* --- boxes ------------------------------------------------------------------------------------- */

struct ev_cert **ev_lua_box_cert(lua_State *L)
{
    struct ev_cert **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    luaL_setmetatable(L, CERT_MT);
    return box;
}

struct ev_key **ev_lua_box_key(lua_State *L)
{
    struct ev_key **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    luaL_setmetatable(L, KEY_MT);
    return box;
}

struct ev_cert *ev_lua_check_cert(lua_State *L, int arg)
{
    struct ev_cert **box = luaL_checkudata(L, arg, CERT_MT);

    luaL_argcheck(L, *box, arg, "empty certificate");
    return *box;
}

struct ev_key *ev_lua_check_key(lua_State *L, int arg)
{
    struct ev_key **box = luaL_checkudata(L, arg, KEY_MT);

    luaL_argcheck(L, *box, arg, "empty key");
    return *box;
}

struct ev_cert *ev_lua_field_cert(lua_State *L, int table, const char *name)
{
    struct ev_cert *c = NULL;

    if (lua_getfield(L, table, name) != LUA_TNIL) c = ev_lua_check_cert(L, lua_gettop(L));
    lua_pop(L, 1);
    return c;
}

struct ev_key *ev_lua_field_key(lua_State *L, int table, const char *name)
{
    struct ev_key *k = NULL;

    if (lua_getfield(L, table, name) != LUA_TNIL) k = ev_lua_check_key(L, lua_gettop(L));
    lua_pop(L, 1);
    return k;
}

/* --- keys -------------------------------------------------------------------------------------- */

static const char *const curve_names[] = { "p256", "p384", "p521", "secp256k1", "other", NULL };

static int l_key_generate(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    int curve = luaL_checkoption(L, 1, "p384", curve_names);
    struct ev_key **box = ev_lua_box_key(L);

    if (ev_key_generate((enum ev_curve)curve, box, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

/* key_from_pem_file(path) → key | nil, err */
static int l_key_from_pem_file(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    const char *path = luaL_checkstring(L, 1);
    struct ev_key **box = ev_lua_box_key(L);
    struct ev_buf text = EV_BUF_INIT(PEM_MAX);
    int rc = ev_file_read(path, &text, &err);

    if (rc >= 0) {
        rc = ev_key_from_pem(ev_buf_slice(&text), box, &err);
        if (rc < 0) ev_err_wrap(&err, "%s", path);
    }
    ev_buf_wipe(&text);
    return rc < 0 ? ev_lua_fail(L, &err) : 1;
}

/* key:write_pem(path [, mode]) → true | nil, err */
static int l_key_write_pem(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_key *key = ev_lua_check_key(L, 1);
    const char *path = luaL_checkstring(L, 2);
    mode_t mode = (mode_t)luaL_optinteger(L, 3, 0600);
    struct ev_secret pem = { NULL, 0 };
    int rc = ev_key_pem(key, &pem, &err);

    if (rc >= 0) rc = ev_file_write(path, ev_slice_of(pem.p, pem.n), mode, &err);
    ev_secret_fini(&pem);
    if (rc < 0) return ev_lua_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_key_curve(lua_State *L)
{
    lua_pushstring(L, curve_names[ev_key_curve(ev_lua_check_key(L, 1))]);
    return 1;
}

static int l_key_is_private(lua_State *L)
{
    lua_pushboolean(L, ev_key_is_private(ev_lua_check_key(L, 1)));
    return 1;
}

static int l_key_spki(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_key *key = ev_lua_check_key(L, 1);
    struct ev_buf *out = ev_lua_push_buf(L, PEM_MAX);

    if (ev_key_spki(key, out, &err) < 0) return ev_lua_fail(L, &err);
    return ev_lua_return_buf(L, out);
}

static int l_key_same_public(lua_State *L)
{
    lua_pushboolean(L, ev_key_same_public(ev_lua_check_key(L, 1), ev_lua_check_key(L, 2)));
    return 1;
}

static int key_gc(lua_State *L)
{
    struct ev_key **box = luaL_checkudata(L, 1, KEY_MT);

    ev_key_free(*box);
    *box = NULL;
    return 0;
}

/* --- certificates ------------------------------------------------------------------------------ */

/* The dns list: strings stay anchored in their table. */
static size_t dns_names(lua_State *L, int t, const char **names)
{
    size_t n = 0;

    if (lua_getfield(L, t, "dns") == LUA_TTABLE) {
        n = lua_rawlen(L, -1);
        if (n > NAMES_MAX) luaL_error(L, "more than %d DNS names", NAMES_MAX);
        for (size_t i = 0; i < n; i++) {
            lua_rawgeti(L, -1, (lua_Integer)i + 1);
            names[i] = luaL_checkstring(L, -1);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return n;
}

/* cert_make{subject, not_before, not_after, dns, ca, path_len, bare, key, issuer, issuer_key, serial}
 * → cert | nil, err. Times in milliseconds. */
static int l_cert_make(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    const char *names[NAMES_MAX];
    struct ev_cert_conf c = { 0 };
    struct ev_key *key, *issuer_key;
    struct ev_cert *issuer, **box;

    luaL_checktype(L, 1, LUA_TTABLE);
    c.subject = ev_lua_field_str(L, 1, "subject");
    c.not_before_ms = ev_lua_field_int(L, 1, "not_before", 0);
    c.not_after_ms = ev_lua_field_int(L, 1, "not_after", 0);
    c.n_dns = dns_names(L, 1, names);
    c.dns = c.n_dns ? names : NULL;
    c.ca = ev_lua_field_bool(L, 1, "ca", false);
    c.path_len = (int)ev_lua_field_int(L, 1, "path_len", -1);
    c.bare = ev_lua_field_bool(L, 1, "bare", false);
    c.serial = ev_lua_field_slice(L, 1, "serial");
    key = ev_lua_field_key(L, 1, "key");
    issuer = ev_lua_field_cert(L, 1, "issuer");
    issuer_key = ev_lua_field_key(L, 1, "issuer_key");
    luaL_argcheck(L, key && c.subject, 1, "needs subject and key");
    box = ev_lua_box_cert(L);
    if (ev_cert_make(&c, key, issuer, issuer_key ? issuer_key : key, box, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

static int l_cert_from_pem(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    ev_slice pem = ev_lua_check_slice(L, 1);
    struct ev_cert **box = ev_lua_box_cert(L);

    if (ev_cert_from_pem(pem, box, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

static int l_cert_from_der(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    ev_slice der = ev_lua_check_slice(L, 1);
    struct ev_cert **box = ev_lua_box_cert(L);

    if (ev_cert_from_der(der, box, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

static int l_cert_pem(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_cert *cert = ev_lua_check_cert(L, 1);
    struct ev_buf *out = ev_lua_push_buf(L, PEM_MAX);

    if (ev_cert_pem(cert, out, &err) < 0) return ev_lua_fail(L, &err);
    return ev_lua_return_buf(L, out);
}

static int l_cert_der(lua_State *L)
{
    ev_slice der = ev_cert_der(ev_lua_check_cert(L, 1));

    lua_pushlstring(L, (const char *)der.p, der.n);
    return 1;
}

/* cert:validity() → not_before, not_after in milliseconds */
static int l_cert_validity(lua_State *L)
{
    int64_t from, to;

    ev_cert_validity(ev_lua_check_cert(L, 1), &from, &to);
    lua_pushinteger(L, from);
    lua_pushinteger(L, to);
    return 2;
}

static int l_cert_dns_names(lua_State *L)
{
    struct ev_cert *cert = ev_lua_check_cert(L, 1);
    ev_slice name;

    lua_newtable(L);
    for (size_t i = 0; ev_cert_dns_name(cert, i, &name); i++) {
        lua_pushlstring(L, (const char *)name.p, name.n);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* cert:issuer() → { {"commonName", "x"}, ... } in the certificate's order */
static int l_cert_issuer(lua_State *L)
{
    enum { ATTRS = 64 };
    struct ev_cert *cert = ev_lua_check_cert(L, 1);
    char name[128], value[512];

    lua_newtable(L);
    for (size_t i = 0; i < ATTRS && ev_cert_issuer_attr(cert, i, name, sizeof name, value, sizeof value); i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, name);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, value);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int l_cert_sig_alg(lua_State *L)
{
    lua_pushstring(L, ev_cert_sig_alg(ev_lua_check_cert(L, 1)));
    return 1;
}

static int l_cert_signature(lua_State *L)
{
    ev_slice s = ev_cert_signature(ev_lua_check_cert(L, 1));

    lua_pushlstring(L, (const char *)s.p, s.n);
    return 1;
}

static int l_cert_key(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_cert *cert = ev_lua_check_cert(L, 1);
    struct ev_key **box = ev_lua_box_key(L);

    if (ev_cert_key(cert, box, &err) < 0) return ev_lua_fail(L, &err);
    return 1;
}

static int cert_gc(lua_State *L)
{
    struct ev_cert **box = luaL_checkudata(L, 1, CERT_MT);

    ev_cert_free(*box);
    *box = NULL;
    return 0;
}

void ev_lua_crypto_classes(lua_State *L)
{
    static const luaL_Reg key_methods[] = {
        { "write_pem", l_key_write_pem }, { "curve", l_key_curve }, { "is_private", l_key_is_private },
        { "spki", l_key_spki }, { "same_public", l_key_same_public }, { "__gc", key_gc }, { NULL, NULL },
    };
    static const luaL_Reg cert_methods[] = {
        { "pem", l_cert_pem }, { "der", l_cert_der }, { "validity", l_cert_validity },
        { "dns_names", l_cert_dns_names }, { "issuer", l_cert_issuer }, { "sig_alg", l_cert_sig_alg },
        { "signature", l_cert_signature }, { "key", l_cert_key }, { "__gc", cert_gc }, { NULL, NULL },
    };

    ev_lua_type(L, KEY_MT, key_methods);
    ev_lua_type(L, CERT_MT, cert_methods);
}

int luaopen_ev_crypto(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "sha256", l_sha256 }, { "sha384", l_sha384 }, { "sha512", l_sha512 },
        { "sha384_file", l_sha384_file }, { "pcr_extend", l_pcr_extend }, { "random", l_random },
        { "key_generate", l_key_generate }, { "key_from_pem_file", l_key_from_pem_file },
        { "cert_make", l_cert_make }, { "cert_from_pem", l_cert_from_pem },
        { "cert_from_der", l_cert_from_der }, { NULL, NULL },
    };

    ev_lua_crypto_classes(L);
    luaL_newlib(L, functions);
    ev_lua_add_evstr(L);
    return 1;
}
