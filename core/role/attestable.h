/* attestable.h — the certificate that carries the attestation document (spec evervault-api §6).
 *
 * A P-256 key made here, a document whose user_data is that key's SubjectPublicKeyInfo, and a
 * self-signed certificate with the document in hex in its SANs. Replaced, key and all, before the
 * document's signing certificate ends; connections in between keep working. */
#ifndef EV_ROLE_ATTESTABLE_H
#define EV_ROLE_ATTESTABLE_H

#include "net/loop.h"
#include "net/tls.h"
#include "nitro/nsm.h"

struct ev_attestable;

/* rt may be NULL: no renewal (tests). hosts: NULL-terminated, at least one; both borrowed. */
int ev_attestable_new(struct ev_rt *rt, struct ev_nsm *nsm, char *const *hosts, struct ev_attestable **out,
                      struct ev_err *err) EV_MUST_USE;
int ev_attestable_renew(struct ev_attestable *a, struct ev_err *err) EV_MUST_USE;
/* The shapes that ev_tls_server_conf and ev_ingress_conf want; ctx is the struct ev_attestable. */
int ev_attestable_select(void *ctx, const char *sni, struct ev_tls_pair *out);
int ev_attestable_document(void *ctx, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;  /* base64 */
/* When the current pair must be replaced, in ms from now at the time it was made. */
int64_t ev_attestable_lifetime_ms(const struct ev_attestable *a);
void ev_attestable_free(struct ev_attestable *a);

#endif
