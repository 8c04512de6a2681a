/* l_image.c — the image half of ev.c.nitro: blocking work on the pool, seen by Lua as jobs.
 *
 * Every argument is copied before the work starts; the pool thread touches no Lua value. */
#include <sys/stat.h>

#include "nitro/image.h"
#include "script/box.h"

/* --- what the jobs share ----------------------------------------------------------------------- */

static bool watch_step(void *ctx, const char *step, uint64_t done, uint64_t total)
{
    struct ev_job *j = ctx;

    atomic_store(&j->step, step);
    atomic_store(&j->done, done);
    atomic_store(&j->total, total);
    return !atomic_load(&j->cancelled);
}

static void hex_field(lua_State *L, const char *name, const uint8_t *p, size_t n)
{
    ev_lua_push_hex(L, p, n);
    lua_setfield(L, -2, name);
}

/* pcrs = {PCR0 = "hex", ...} */
static void pcrs_field(lua_State *L, const struct ev_pcrs *pcrs)
{
    char name[8];

    lua_newtable(L);
    for (unsigned i = 0; i < EV_PCR_COUNT; i++) {
        if (!(pcrs->present >> i & 1)) continue;
        snprintf(name, sizeof name, "PCR%u", i);
        hex_field(L, name, pcrs->value[i], EV_PCR_LEN);
    }
    lua_setfield(L, -2, "pcrs");
}

static void list_field(lua_State *L, const char *name, char **list)
{
    if (!list) return;
    lua_newtable(L);
    for (size_t i = 0; list[i]; i++) {
        lua_pushstring(L, list[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, name);
}

/* --- image_config(source) ---------------------------------------------------------------------- */

struct config_job {
    struct ev_job job;
    char *source;
    struct ev_image_config conf;
    int rc;
};

static void config_work(struct ev_job *j)
{
    struct config_job *c = (struct config_job *)j;

    atomic_store(&j->step, "read");
    c->rc = ev_image_read_config(c->source, &c->conf, &j->err);
}

static int config_finish(lua_State *L, struct ev_job *j)
{
    struct config_job *c = (struct config_job *)j;
    const struct ev_image_config *i = &c->conf;

    if (c->rc < 0) return ev_lua_fail(L, &j->err);
    lua_newtable(L);
    list_field(L, "entrypoint", i->entrypoint);
    list_field(L, "cmd", i->cmd);
    list_field(L, "env", i->env);
    ev_lua_set_str(L, "workdir", i->workdir);
    ev_lua_set_str(L, "user", i->user);
    ev_lua_set_str(L, "architecture", i->architecture);
    ev_lua_set_str(L, "id", i->id);
    lua_newtable(L);
    for (size_t k = 0; k < i->n_ports; k++) {
        lua_pushinteger(L, i->ports[k]);
        lua_rawseti(L, -2, (lua_Integer)k + 1);
    }
    lua_setfield(L, -2, "ports");
    return 1;
}

static void config_fini(struct ev_job *j)
{
    struct config_job *c = (struct config_job *)j;

    ev_image_config_fini(&c->conf);
    ev_free(c->source);
}

static int l_image_config(lua_State *L)
{
    const char *source = luaL_checkstring(L, 1);
    struct config_job *c = ev_job_new(L, sizeof *c, config_work, config_finish, config_fini);

    c->source = ev_strdup(source);
    return ev_job_start(L, &c->job);
}

/* --- image_build{...} -------------------------------------------------------------------------- */

enum { CAGE_FILES = 64 };

struct build_job {
    struct ev_job job;
    struct ev_image_build b;            /* its strings are owned here */
    struct ev_image_file cage[CAGE_FILES];
    struct ev_key *key;
    struct ev_image_result result;
    int rc;
};

static void build_work(struct ev_job *j)
{
    struct build_job *b = (struct build_job *)j;
    struct ev_image_watch watch = { watch_step, j };

    b->rc = ev_image_build(&b->b, &watch, &b->result, &j->err);
}

static int build_finish(lua_State *L, struct ev_job *j)
{
    struct build_job *b = (struct build_job *)j;
    const struct ev_image_result *r = &b->result;

    if (b->rc < 0) return ev_lua_fail(L, &j->err);
    lua_newtable(L);
    pcrs_field(L, &r->pcrs);
    ev_lua_set_int(L, "size", (int64_t)r->size);
    ev_lua_set_int(L, "files", (int64_t)r->files);
    hex_field(L, "kernel_sha384", r->kernel_sha384, sizeof r->kernel_sha384);
    hex_field(L, "runtime_sha384", r->runtime_sha384, sizeof r->runtime_sha384);
    hex_field(L, "cmdline_sha384", r->cmdline_sha384, sizeof r->cmdline_sha384);
    return 1;
}

static void build_fini(struct ev_job *j)
{
    struct build_job *b = (struct build_job *)j;

    ev_free((void *)b->b.kernel);
    ev_free((void *)b->b.cmdline);
    ev_free((void *)b->b.runtime);
    ev_free((void *)b->b.source);
    ev_free((void *)b->b.metadata_json);
    ev_free((void *)b->b.output);
    ev_free((void *)b->b.cert_pem.p);
    for (size_t i = 0; i < b->b.n_cage; i++) {
        ev_free((void *)b->cage[i].name);
        ev_free((void *)b->cage[i].data.p);
    }
    ev_key_free(b->key);
}

static ev_slice copy_slice(ev_slice s)
{
    return ev_slice_of(s.n ? ev_strndup(s.p, s.n) : NULL, s.n);
}

/* cage = {["config.json"] = "bytes"}; sorted by ev_image_build */
static void copy_cage(lua_State *L, struct build_job *b)
{
    if (lua_getfield(L, 1, "cage") == LUA_TTABLE) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            size_t i = b->b.n_cage;
            if (i == CAGE_FILES) luaL_error(L, "more than %d files in cage/", CAGE_FILES);
            if (lua_type(L, -2) != LUA_TSTRING) luaL_error(L, "a file of cage/ has no name");
            ev_slice data = ev_lua_check_slice(L, lua_gettop(L));
            b->cage[i].name = ev_strdup(lua_tostring(L, -2));
            b->cage[i].data = copy_slice(data);
            b->b.n_cage++;
        }
    }
    lua_pop(L, 1);
    b->b.cage = b->cage;
}

static int l_image_build(lua_State *L)
{
    struct build_job *b;
    struct ev_key *key;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    key = ev_lua_field_key(L, 1, "key");
    b = ev_job_new(L, sizeof *b, build_work, build_finish, build_fini);
    b->b.kernel = ev_strdup(ev_lua_field_str(L, 1, "kernel"));
    b->b.cmdline = ev_strdup(ev_lua_field_str(L, 1, "cmdline"));
    b->b.runtime = ev_strdup(ev_lua_field_str(L, 1, "runtime"));
    b->b.source = ev_strdup(ev_lua_field_str(L, 1, "source"));
    b->b.metadata_json = ev_strdup(ev_lua_field_str(L, 1, "metadata"));
    b->b.output = ev_strdup(ev_lua_field_str(L, 1, "output"));
    b->b.cert_pem = copy_slice(ev_lua_field_slice(L, 1, "cert"));
    b->b.mtime = ev_lua_field_int(L, 1, "mtime", 0);
    b->b.arm64 = ev_lua_field_bool(L, 1, "arm64", false);
    if (key) b->b.key = b->key = ev_key_ref(key);
    copy_cage(L, b);
    luaL_argcheck(L, b->b.kernel && b->b.cmdline && b->b.runtime && b->b.source && b->b.metadata_json && b->b.output,
                  1, "needs kernel, cmdline, runtime, source, metadata and output");
    return ev_job_start(L, &b->job);
}

/* --- image_describe(path), image_check_layout(path) -------------------------------------------- */

struct describe_job {
    struct ev_job job;
    char *path;
    struct ev_image_info info;
    int rc;
};

static void describe_work(struct ev_job *j)
{
    struct describe_job *d = (struct describe_job *)j;
    struct ev_image_watch watch = { watch_step, j };

    d->rc = ev_image_describe(d->path, &watch, &d->info, &j->err);
}

static void sections_field(lua_State *L, const struct ev_image_info *i)
{
    lua_newtable(L);
    for (size_t k = 0; k < i->n_sections && k < EV_COUNT(i->section); k++) {
        lua_newtable(L);
        ev_lua_set_int(L, "type", i->section[k].type);
        ev_lua_set_int(L, "offset", i->section[k].offset);
        ev_lua_set_int(L, "size", i->section[k].size);
        lua_rawseti(L, -2, (lua_Integer)k + 1);
    }
    lua_setfield(L, -2, "sections");
}

static int describe_finish(lua_State *L, struct ev_job *j)
{
    struct describe_job *d = (struct describe_job *)j;
    const struct ev_image_info *i = &d->info;

    if (d->rc < 0) return ev_lua_fail(L, &j->err);
    lua_newtable(L);
    ev_lua_set_int(L, "version", i->version);
    ev_lua_set_int(L, "flags", i->flags);
    ev_lua_set_int(L, "crc", i->crc);
    ev_lua_set_bool(L, "crc_ok", i->crc_ok);
    ev_lua_set_bool(L, "is_signed", i->is_signed);
    ev_lua_set_bool(L, "signature_ok", i->signature_ok);
    ev_lua_set_str(L, "signature_error", i->signature_error);
    ev_lua_set_str(L, "warning", i->warning);
    pcrs_field(L, &i->pcrs);
    ev_lua_set_buf(L, "metadata", &i->metadata);
    ev_lua_set_buf(L, "cmdline", &i->cmdline);
    sections_field(L, i);
    if (i->cert) {
        *ev_lua_box_cert(L) = ev_cert_ref(i->cert);
        lua_setfield(L, -2, "cert");
    }
    return 1;
}

static void describe_fini(struct ev_job *j)
{
    struct describe_job *d = (struct describe_job *)j;

    ev_image_info_fini(&d->info);
    ev_free(d->path);
}

/* A job about the image at this path. */
static int start_describe(lua_State *L, void (*work)(struct ev_job *), int (*finish)(lua_State *, struct ev_job *))
{
    const char *path = luaL_checkstring(L, 1);
    struct describe_job *d = ev_job_new(L, sizeof *d, work, finish, describe_fini);

    d->path = ev_strdup(path);
    return ev_job_start(L, &d->job);
}

static int l_image_describe(lua_State *L) { return start_describe(L, describe_work, describe_finish); }

static void layout_work(struct ev_job *j)
{
    struct describe_job *d = (struct describe_job *)j;

    atomic_store(&j->step, "layout");
    d->rc = ev_image_check_layout(d->path, &j->err);
}

static int layout_finish(lua_State *L, struct ev_job *j)
{
    struct describe_job *d = (struct describe_job *)j;

    if (d->rc < 0) return ev_lua_fail(L, &j->err);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_image_check_layout(lua_State *L) { return start_describe(L, layout_work, layout_finish); }

void ev_lua_add_image(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "image_config", l_image_config }, { "image_build", l_image_build },
        { "image_describe", l_image_describe }, { "image_check_layout", l_image_check_layout }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
