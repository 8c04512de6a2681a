/* auth.h — is this request allowed in? The `api-key` header against the digests of accepted keys. */
#ifndef EV_SVC_AUTH_H
#define EV_SVC_AUTH_H

#include "codec/http1.h"

enum ev_auth { EV_AUTH_OK, EV_AUTH_NO_KEY, EV_AUTH_WRONG_KEY };

/* SHA-512 of the header's value against every digest, always all of them, in constant time. Two
 * api-key headers are a wrong key: app and enclave could read two different ones. */
enum ev_auth ev_auth_check(const struct ev_http1_head *h, uint8_t (*digests)[64], size_t n);
const char *ev_auth_message(enum ev_auth verdict);

#endif
