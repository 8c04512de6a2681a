/* httpc.h — the CLI's HTTP client: one blocking request, for a job thread. libcurl is opened when the
 * first request is made, so that the enclave runtime does not need it. */
#ifndef EV_NET_HTTPC_H
#define EV_NET_HTTPC_H

#include <stdatomic.h>

#include "base/buf.h"

enum { EV_HTTPC_HEADERS_MAX = 256, EV_HTTPC_HEAD_BYTES = 64 * 1024 };

struct ev_httpc_request {
    const char *method;                 /* NULL = GET */
    const char *url;                    /* http or https only */
    const char *const *headers;         /* "Name: value" */
    size_t n_headers;
    ev_slice body;                      /* sent when not empty, or for POST, PUT, PATCH */
    uint64_t timeout_ms;                /* for all of it; 0 = 60 s */
    size_t max_body;                    /* of the answer; 0 = 16 MiB */
    const char *ca_file;                /* PEM bundle that alone is trusted; NULL = system's */
    const char *unix_socket;            /* connect there instead; no proxy then */
    /* How many to follow, for GET and HEAD; 0 = none, the 3xx is the answer. The headers go to the new
     * place, too, so none may be a secret. */
    unsigned redirects;
    const atomic_bool *cancelled;       /* looked at twice a second at least, or NULL */
};

struct ev_httpc_header { char *name, *value; };     /* name in lower case */

struct ev_httpc_response {
    int status;
    struct ev_httpc_header *headers;    /* of the last answer, in its order; no trailers */
    size_t n_headers;
    struct ev_buf body;
};

/* Fills `out` on success (any status); on failure `out` is empty. err->code: EV_EMISSING without
 * libcurl, EV_EUSAGE for what cannot be sent, EV_ECANCELLED, -ETIMEDOUT, -ECONNREFUSED ("connect"),
 * -ENOENT ("resolve"), EV_ETLS, -ENOBUFS, EV_EHTTP for everything else. */
int ev_httpc_request(const struct ev_httpc_request *rq, struct ev_httpc_response *out, struct ev_err *err) EV_MUST_USE;
/* First one of that (lower-case) name, or NULL. */
const char *ev_httpc_header(const struct ev_httpc_response *r, const char *name);
void ev_httpc_response_fini(struct ev_httpc_response *r);       /* idempotent */

#endif
