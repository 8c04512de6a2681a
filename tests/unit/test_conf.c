/* test_conf.c — the measured configuration: the good one, each key missing, wrong or unknown, and
 * the text cut at every byte. */
#include "role/conf.h"

#include "tap.h"

#include <stdio.h>

#define DIGEST "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="

static const char *const keys[] = { "api_key_auth", "app", "app_uuid", "debug", "healthcheck", "hosts", "key_digests",
                                    "name", "port", "team_uuid", "tls_termination", "uuid", "version" };
static const char *const good[] = {
    "true",
    "{\"argv\":[\"node\",\"a b\"],\"env\":[\"K=V\",\"E=\"],\"user\":\"node\",\"workdir\":\"/app\"}",
    "\"app_1\"", "false", "\"/health\"", "[\"hello.app_1.cages.localhost\"]", "[\"" DIGEST "\"]", "\"hello-cage\"",
    "8008", "\"team_1\"", "true", "\"u-1\"", "1" };

/* The good text with value `at` replaced (NULL: left out), plus `extra`. */
static const char *text_with(int at, const char *value, const char *extra)
{
    static char out[8192];
    size_t n = 0;

    n += (size_t)snprintf(out + n, sizeof(out) - n, "{");
    for (int i = 0; i < (int)EV_COUNT(keys); i++) {
        const char *v = i == at ? value : good[i];

        if (v)
            n += (size_t)snprintf(out + n, sizeof(out) - n, "%s\"%s\":%s", n > 1 ? "," : "", keys[i], v);
    }
    snprintf(out + n, sizeof(out) - n, "%s}", extra);
    return out;
}

static int parse(const char *text, struct ev_err *err)
{
    struct ev_conf c;
    int rc = ev_conf_parse(ev_slice_str(text), &c, err);

    ev_conf_fini(&c);
    return rc;
}

static void test_good(void)
{
    struct ev_conf c;
    struct ev_err err = EV_ERR_INIT;

    EQ_INT(ev_conf_parse(ev_slice_str(text_with(-1, NULL, "")), &c, &err), 0, "the documented form parses");
    EQ_STR(c.name, "hello-cage", "name");
    EQ_STR(c.argv[1], "a b", "argv is byte for byte");
    OK(!c.argv[2] && c.env[1] && !c.env[2] && !c.hosts[1], "lists end with NULL");
    EQ_STR(c.healthcheck, "/health", "healthcheck");
    EQ_INT(c.port, 8008, "port");
    EQ_INT(c.n_key_digests, 1, "digests");
    OK(c.api_key_auth && c.tls_termination && !c.debug, "booleans");
    ev_conf_fini(&c);
    ev_conf_fini(&c);
    OK(!c.name, "fini twice");
    EQ_INT(ev_conf_parse(ev_slice_str(text_with(4, "null", "")), &c, &err), 0, "no healthcheck path");
    OK(!c.healthcheck, "is NULL");
    ev_conf_fini(&c);
}

static void test_missing_and_wrong(void)
{
    static const char *const other[] = { "null", "[]", "{}", "\"x\\u0000y\"", "-1", "1.5", "[1]", "\"\"", "true" };
    int bad = 0;
    struct ev_err err;

    for (int i = 0; i < (int)EV_COUNT(keys); i++) {
        err = (struct ev_err)EV_ERR_INIT;
        OK(parse(text_with(i, NULL, ""), &err) == EV_ECONFIG && strstr(err.msg, keys[i]), "missing %s: %s", keys[i],
           err.msg);
        bad = 0;
        for (size_t k = 0; k < EV_COUNT(other); k++)
            bad += parse(text_with(i, other[k], ""), &err) < 0;
        OK(bad >= 6, "%s refuses values of other types (%d)", keys[i], bad);
    }
    err = (struct ev_err)EV_ERR_INIT;
    OK(parse(text_with(-1, NULL, ",\"egress\":{}"), &err) == EV_ECONFIG, "unknown key stops: %s", err.msg);
    OK(parse(text_with(-1, NULL, ",\"port\":1"), &err) < 0, "a key twice stops");
}

static void test_values(void)
{
    static const struct { int at; const char *value, *what; } bad[] = {
        { 1, "{\"argv\":[],\"env\":[],\"user\":\"\",\"workdir\":\"/\"}", "empty argv" },
        { 1, "{\"argv\":[\"\"],\"env\":[],\"user\":\"\",\"workdir\":\"/\"}", "empty program" },
        { 1, "{\"argv\":[\"a\"],\"env\":[\"NOVALUE\"],\"user\":\"\",\"workdir\":\"/\"}", "env without =" },
        { 1, "{\"argv\":[\"a\"],\"env\":[\"=x\"],\"user\":\"\",\"workdir\":\"/\"}", "env without a name" },
        { 1, "{\"argv\":[\"a\"],\"env\":[],\"user\":\"\",\"workdir\":\"rel\"}", "relative workdir" },
        { 1, "{\"argv\":[\"a\"],\"env\":[],\"user\":\"\",\"workdir\":\"/\",\"x\":1}", "unknown key of app" },
        { 4, "\"health\"", "healthcheck without /" }, { 5, "[]", "no host" }, { 5, "[\"a b\"]", "host with a blank" },
        { 6, "[]", "api_key_auth without a digest" }, { 6, "[\"AAAA\"]", "short digest" },
        { 6, "[\"!!\"]", "digest that is not base64" }, { 7, "\"../x\"", "name with a path" },
        { 8, "0", "port 0" }, { 8, "65536", "port 65536" },
        { 10, "false", "api_key_auth without TLS termination" }, { 12, "2", "version 2" } };

    for (size_t i = 0; i < EV_COUNT(bad); i++) {
        struct ev_err err = EV_ERR_INIT;

        OK(parse(text_with(bad[i].at, bad[i].value, ""), &err) == EV_ECONFIG, "%s: %s", bad[i].what, err.msg);
    }
}

static void test_truncated(void)
{
    const char *text = text_with(-1, NULL, "");
    size_t n = strlen(text), refused = 0;

    for (size_t i = 0; i < n; i++) {
        struct ev_conf c;

        refused += ev_conf_parse(ev_slice_of(text, i), &c, NULL) < 0;
        ev_conf_fini(&c);
    }
    EQ_INT(refused, n, "cut at every byte: always refused");
}

int main(void)
{
    test_good();
    test_missing_and_wrong();
    test_values();
    test_truncated();
    return tap_done();
}
