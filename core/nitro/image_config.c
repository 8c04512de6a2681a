/* image_config.c — what a container image says about itself: the OCI image configuration. */
#include <stdlib.h>

#include "codec/json.h"
#include "codec/text.h"
#include "crypto/digest.h"
#include "nitro/image_int.h"

enum { STRINGS_MAX = 4096, PORTS_MAX = 1024 };

static void free_strings(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        ev_free(list[i]);
    ev_free(list);
}

void ev_image_config_fini(struct ev_image_config *c)
{
    free_strings(c->entrypoint);
    free_strings(c->cmd);
    free_strings(c->env);
    ev_free(c->workdir);
    ev_free(c->user);
    ev_free(c->ports);
    ev_free(c->architecture);
    ev_free(c->id);
    *c = (struct ev_image_config){0};
}

static char *string_of(const struct ev_json *object, const char *key)
{
    ev_slice s = ev_json_str(ev_json_get(object, key));

    return ev_strndup(s.p, s.n);
}

/* A list of strings, or NULL when the key is absent or null. */
static int strings_of(const struct ev_json *object, const char *key, char ***out, struct ev_err *err)
{
    const struct ev_json *list = ev_json_get(object, key);
    size_t n = ev_json_count(list);

    if (ev_json_type(list) == EV_JSON_NULL)
        return 0;
    if (ev_json_type(list) != EV_JSON_ARRAY || n > STRINGS_MAX)
        return ev_fail_reason(err, EV_EPARSE, "image-config", "%s of the image is not a list of strings", key);
    *out = ev_alloc(sizeof **out * (n + 1));
    for (size_t i = 0; i < n; i++) {
        const struct ev_json *item = ev_json_item(list, i);

        if (ev_json_type(item) != EV_JSON_STRING)
            return ev_fail_reason(err, EV_EPARSE, "image-config", "%s of the image is not a list of strings", key);
        (*out)[i] = ev_strndup(ev_json_str(item).p, ev_json_str(item).n);
    }
    return 0;
}

static int compare_ports(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* {"8008/tcp": {}, "53/udp": {}}: the TCP ones, sorted. */
static int ports_of(const struct ev_json *set, struct ev_image_config *c, struct ev_err *err)
{
    const struct ev_json *value;
    const char *key;
    void *iter = NULL;

    if (ev_json_type(set) != EV_JSON_OBJECT)
        return 0;
    if (ev_json_count(set) > PORTS_MAX)
        return ev_fail_reason(err, EV_ELIMIT, "image-config", "the image exposes more than %d ports", PORTS_MAX);
    c->ports = ev_alloc(sizeof *c->ports * (ev_json_count(set) + 1));
    while (ev_json_next(set, &iter, &key, &value)) {
        char *end;
        unsigned long port = strtoul(key, &end, 10);

        if (end == key || port < 1 || port > UINT16_MAX || (*end && *end != '/'))
            return ev_fail_reason(err, EV_EPARSE, "image-config", "the image exposes \"%.32s\", which is not a port",
                                  key);
        if (*end && strcmp(end, "/tcp") != 0)
            continue;
        c->ports[c->n_ports++] = (uint16_t)port;
    }
    qsort(c->ports, c->n_ports, sizeof *c->ports, compare_ports);
    return 0;
}

/* rootfs.diff_ids, one for each layer: the digests of the plain tars. */
static int diff_ids(const struct ev_json *rootfs, struct ev_oci *o, struct ev_err *err)
{
    const struct ev_json *list = ev_json_get(rootfs, "diff_ids");

    if (ev_json_type(list) != EV_JSON_ARRAY)
        return 0;
    if (ev_json_count(list) != o->n_layers)
        return ev_fail_reason(err, EV_EPARSE, "image-layers", "the configuration names %zu layers, the manifest %zu",
                              ev_json_count(list), o->n_layers);
    for (size_t i = 0; i < o->n_layers; i++) {
        ev_slice s = ev_json_str(ev_json_item(list, i));

        if (s.n != 7 + 64 || memcmp(s.p, "sha256:", 7) != 0)
            continue;
        o->layer[i].has_diff = ev_hex_decode(ev_slice_of(s.p + 7, 64), o->layer[i].diff, 32) == 32;
    }
    return 0;
}

static void set_id(struct ev_image_config *c, ev_slice json)
{
    struct ev_buf hex = EV_BUF_INIT(128);
    uint8_t digest[EV_DIGEST_MAX];

    ev_digest_once(EV_SHA256, json, digest);
    if (ev_hex_put(&hex, ev_slice_of(digest, 32)) == 0)
        c->id = ev_strdup(ev_buf_str(&hex));
    ev_buf_fini(&hex);
}

int ev_oci_parse_config(ev_slice text, struct ev_oci *o, struct ev_err *err)
{
    struct ev_image_config *c = &o->config;
    const struct ev_json *run;
    struct ev_json *j = NULL;
    int rc;

    EV_TRY(ev_json_parse(text, &j, err));
    if (ev_json_type(j) != EV_JSON_OBJECT)
        EV_TRY(ev_fail_reason(err, EV_EPARSE, "image-config", "not an object"));
    run = ev_json_get(j, "config");
    set_id(c, text);
    c->architecture = string_of(j, "architecture");
    c->workdir = string_of(run, "WorkingDir");
    c->user = string_of(run, "User");
    EV_TRY(strings_of(run, "Entrypoint", &c->entrypoint, err));
    EV_TRY(strings_of(run, "Cmd", &c->cmd, err));
    EV_TRY(strings_of(run, "Env", &c->env, err));
    EV_TRY(ports_of(ev_json_get(run, "ExposedPorts"), c, err));
    EV_TRY(diff_ids(ev_json_get(j, "rootfs"), o, err));
out:
    if (rc < 0)
        ev_err_wrap(err, "image configuration");
    ev_json_free(j);
    return rc;
}
