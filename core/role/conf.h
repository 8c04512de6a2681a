/* conf.h — the measured configuration, cage/config.json of ramdisk 2, as PID 1 reads it.
 *
 * Written by `build` (lua/ev/build), compact JSON with sorted keys:
 *   {"api_key_auth":true, "app":{"argv":["node","/app/index.js"],"env":["K=V"],"user":"node","workdir":"/app"},
 *    "app_uuid":"app_…", "debug":false, "healthcheck":"/health" | null, "hosts":["hello.app_….cages.localhost"],
 *    "key_digests":["<standard base64 of the SHA-512 of an API key>"], "name":"hello-cage", "port":8008,
 *    "team_uuid":"team_…", "tls_termination":true, "uuid":"…", "version":1}
 * Every key is required; an unknown key, a wrong type or an impossible value stops the start
 * (DESIGN §4.9). Strings may not hold NUL. */
#ifndef EV_ROLE_CONF_H
#define EV_ROLE_CONF_H

#include "base/buf.h"

enum { EV_CONF_MAX = 1 << 20, EV_CONF_ITEMS = 4096, EV_CONF_KEYS = 64, EV_CONF_HOSTS = 64 };

struct ev_conf {
    char *name, *uuid, *app_uuid, *team_uuid;
    char *healthcheck;                      /* NULL = shallow */
    bool api_key_auth, tls_termination, debug;
    uint16_t port;
    char **hosts;                           /* NULL-terminated, at least one */
    uint8_t (*key_digests)[64];
    size_t n_key_digests;
    char **argv, **env;                     /* NULL-terminated; argv has at least one */
    char *workdir, *user;                   /* user "" = root */
};

int ev_conf_parse(ev_slice json, struct ev_conf *out, struct ev_err *err) EV_MUST_USE;
void ev_conf_fini(struct ev_conf *c);       /* idempotent */

#endif
