/* conf.c — see conf.h. Reads like a schema: one row a key, checked in one pass; then the values
 * that must be possible together. */
#include "role/conf.h"

#include "codec/json.h"
#include "codec/text.h"

enum { NAME_MAX_LEN = 128, PATH_LEN = 4095 };

enum kind { STRING, STRING_OR_NULL, BOOL, PORT, LIST, DIGESTS, APP, VERSION };

struct row {
    const char *key;
    enum kind kind;
    size_t offset;          /* of the field in struct ev_conf */
    size_t max;             /* bytes of a string, items of a list */
};

#define FIELD(name) offsetof(struct ev_conf, name)
static const struct row top_rows[] = {
    { "api_key_auth", BOOL, FIELD(api_key_auth), 0 },
    { "app", APP, 0, 0 },
    { "app_uuid", STRING, FIELD(app_uuid), NAME_MAX_LEN },
    { "debug", BOOL, FIELD(debug), 0 },
    { "healthcheck", STRING_OR_NULL, FIELD(healthcheck), PATH_LEN },
    { "hosts", LIST, FIELD(hosts), EV_CONF_HOSTS },
    { "key_digests", DIGESTS, FIELD(key_digests), EV_CONF_KEYS },
    { "name", STRING, FIELD(name), NAME_MAX_LEN },
    { "port", PORT, FIELD(port), 0 },
    { "team_uuid", STRING, FIELD(team_uuid), NAME_MAX_LEN },
    { "tls_termination", BOOL, FIELD(tls_termination), 0 },
    { "uuid", STRING, FIELD(uuid), NAME_MAX_LEN },
    { "version", VERSION, 0, 0 },
};
static const struct row app_rows[] = {
    { "argv", LIST, FIELD(argv), EV_CONF_ITEMS },
    { "env", LIST, FIELD(env), EV_CONF_ITEMS },
    { "user", STRING, FIELD(user), NAME_MAX_LEN },
    { "workdir", STRING, FIELD(workdir), PATH_LEN },
};

static int read_object(const struct ev_json *j, const struct row *rows, size_t n, const char *where,
                       struct ev_conf *out, struct ev_err *err);

static int wrong(struct ev_err *err, const char *key, const char *want)
{
    return ev_fail_reason(err, EV_ECONFIG, "conf-value", "%s: must be %s", key, want);
}

/* A C string: jansson's NUL check is repeated here, because execve would cut silently. */
static int read_string(const struct ev_json *v, const char *key, size_t max, char **out, struct ev_err *err)
{
    ev_slice s = ev_json_str(v);

    if (ev_json_type(v) != EV_JSON_STRING)
        return wrong(err, key, "a string");
    if (s.n > max || (s.n > 0 && memchr(s.p, 0, s.n)))
        return ev_fail_reason(err, EV_ECONFIG, "conf-value", "%s: at most %zu bytes and no NUL", key, max);
    *out = ev_strndup(s.n > 0 ? (const void *)s.p : "", s.n);
    return 0;
}

static int read_list(const struct ev_json *v, const struct row *row, char ***out, struct ev_err *err)
{
    size_t n = ev_json_count(v);
    int rc;

    if (ev_json_type(v) != EV_JSON_ARRAY || n > row->max)
        return ev_fail_reason(err, EV_ECONFIG, "conf-value", "%s: must be a list of at most %zu strings", row->key,
                              row->max);
    *out = ev_alloc((n + 1) * sizeof(char *));
    for (size_t i = 0; i < n; i++)
        if ((rc = read_string(ev_json_item(v, i), row->key, EV_CONF_MAX, &(*out)[i], err)) < 0)
            return rc;
    return 0;
}

static int read_digests(const struct ev_json *v, const struct row *row, struct ev_conf *out, struct ev_err *err)
{
    size_t n = ev_json_count(v);

    if (ev_json_type(v) != EV_JSON_ARRAY || n > row->max)
        return wrong(err, row->key, "a list of at most 64 digests");
    out->key_digests = ev_alloc((n + 1) * sizeof(*out->key_digests));
    for (size_t i = 0; i < n; i++) {
        struct ev_buf bytes = EV_BUF_INIT(EV_CONF_MAX);
        int bad = ev_json_type(ev_json_item(v, i)) != EV_JSON_STRING ||
                  ev_base64_decode(&bytes, ev_json_str(ev_json_item(v, i)), false) < 0 || bytes.n != 64;

        if (!bad)
            memcpy(out->key_digests[out->n_key_digests++], bytes.p, 64);
        ev_buf_fini(&bytes);
        if (bad)
            return wrong(err, row->key, "base64 of 64 bytes each");
    }
    return 0;
}

static int read_value(const struct ev_json *v, const struct row *row, struct ev_conf *out, struct ev_err *err)
{
    void *field = (char *)out + row->offset;
    int64_t number = ev_json_int(v);

    switch (row->kind) {
    case STRING_OR_NULL:
        if (ev_json_type(v) == EV_JSON_NULL)
            return 0;
        return read_string(v, row->key, row->max, field, err);
    case STRING:
        return read_string(v, row->key, row->max, field, err);
    case BOOL:
        if (ev_json_type(v) != EV_JSON_BOOL)
            return wrong(err, row->key, "true or false");
        *(bool *)field = ev_json_bool(v);
        return 0;
    case PORT:
        if (ev_json_type(v) != EV_JSON_INT || number < 1 || number > 65535)
            return wrong(err, row->key, "a port, 1 to 65535");
        *(uint16_t *)field = (uint16_t)number;
        return 0;
    case VERSION:
        if (ev_json_type(v) != EV_JSON_INT || number != 1)
            return wrong(err, row->key, "1, the only version that this runtime knows");
        return 0;
    case LIST:
        return read_list(v, row, field, err);
    case DIGESTS:
        return read_digests(v, row, out, err);
    default:
        return read_object(v, app_rows, EV_COUNT(app_rows), "app", out, err);
    }
}

static const struct row *find_row(const struct row *rows, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

static int read_object(const struct ev_json *j, const struct row *rows, size_t n, const char *where,
                       struct ev_conf *out, struct ev_err *err)
{
    const struct ev_json *v;
    const char *key;
    void *iter = NULL;
    int rc;

    if (ev_json_type(j) != EV_JSON_OBJECT)
        return wrong(err, where, "an object");
    while (ev_json_next(j, &iter, &key, &v))
        if (!find_row(rows, n, key))
            return ev_fail_reason(err, EV_ECONFIG, "conf-unknown", "%s: unknown key \"%.60s\"", where, key);
    for (size_t i = 0; i < n; i++) {
        if (!(v = ev_json_get(j, rows[i].key)))
            return ev_fail_reason(err, EV_ECONFIG, "conf-missing", "%s: \"%s\" is missing", where, rows[i].key);
        if ((rc = read_value(v, &rows[i], out, err)) < 0)
            return rc;
    }
    return 0;
}

static bool host_ok(const char *h)
{
    size_t n = strlen(h);

    if (n == 0 || n > 253 || h[0] == '.' || h[0] == '-')
        return false;
    for (; *h; h++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", *h))
            return false;
    return true;
}

static int check(const struct ev_conf *c, struct ev_err *err)
{
    if (!host_ok(c->name) || strchr(c->name, '.'))
        return wrong(err, "name", "letters, digits, - and _");
    if (!c->hosts[0])
        return wrong(err, "hosts", "at least one host");
    for (size_t i = 0; c->hosts[i]; i++)
        if (!host_ok(c->hosts[i]))
            return wrong(err, "hosts", "host names");
    if (!c->argv[0] || !c->argv[0][0])
        return wrong(err, "app.argv", "at least the program's name");
    for (size_t i = 0; c->env[i]; i++)
        if (!strchr(c->env[i], '=') || c->env[i][0] == '=')
            return wrong(err, "app.env", "NAME=value each");
    if (c->workdir[0] && c->workdir[0] != '/')
        return wrong(err, "app.workdir", "an absolute path");
    if (c->healthcheck && c->healthcheck[0] != '/')
        return wrong(err, "healthcheck", "a path that begins with / or null");
    if (c->api_key_auth && c->n_key_digests == 0)
        return wrong(err, "key_digests", "at least one digest, since api_key_auth is on");
    if (c->api_key_auth && !c->tls_termination)     /* what is relayed raw is not judged */
        return wrong(err, "api_key_auth", "false, since TLS is not terminated here");
    return 0;
}

int ev_conf_parse(ev_slice text, struct ev_conf *out, struct ev_err *err)
{
    struct ev_json *j = NULL;
    int rc;

    memset(out, 0, sizeof(*out));
    if (text.n > EV_CONF_MAX)
        return ev_fail_reason(err, EV_ECONFIG, "conf-size", "configuration: larger than %d bytes", EV_CONF_MAX);
    EV_TRY(ev_json_parse(text, &j, err));
    EV_TRY(read_object(j, top_rows, EV_COUNT(top_rows), "configuration", out, err));
    EV_TRY(check(out, err));
out:
    ev_json_free(j);
    if (rc < 0) {
        ev_err_wrap(err, "cage/config.json");
        ev_conf_fini(out);
    }
    return rc < 0 ? rc : 0;
}

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        ev_free(list[i]);
    ev_free(list);
}

void ev_conf_fini(struct ev_conf *c)
{
    char *strings[] = { c->name, c->uuid, c->app_uuid, c->team_uuid, c->healthcheck, c->workdir, c->user };

    for (size_t i = 0; i < EV_COUNT(strings); i++)
        ev_free(strings[i]);
    free_list(c->hosts);
    free_list(c->argv);
    free_list(c->env);
    ev_free(c->key_digests);
    memset(c, 0, sizeof(*c));
}
