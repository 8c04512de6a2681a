/* nsm_sim_pki.c — see nsm_sim_pki.h. Names, lives, extensions and sizes have the shape of the real
 * ones (spec nsm-attestation §5), with an organisation that nobody takes for AWS. */
#include "nitro/nsm_sim_pki.h"

#include <stdio.h>
#include <time.h>

#include "codec/text.h"
#include "crypto/digest.h"
#include "nitro/nsm_sim.h"

enum { ROOT, REGIONAL, ZONAL, INSTANCE, LEAF };
enum { HOUR_S = 3600, DAY_S = 24 * HOUR_S, LEAF_LIFE_S = 3 * HOUR_S, LEAF_LEFT_S = HOUR_S / 2 };
enum { ROOT_YEARS = 30, SUBJECT_MAX = 192, LABEL_BYTES = 8, INSTANCE_HEX_MAX = 32 };

#define ORGANISATION "/O=ev-cage/OU=SIM"
#define PLACE "/C=IE/ST=Dublin/L=Dublin" ORGANISATION
#define REGION "local-1"
#define SUFFIX REGION ".sim.nitro-enclaves"

static const struct {
    int64_t life_s, before_s;           /* how long; how much of it has passed when it is made */
    int path_len;
} shape[EV_SIM_CHAIN] = {
    [REGIONAL] = { 20 * DAY_S, HOUR_S, 2 },
    [ZONAL] = { 6 * DAY_S, HOUR_S, 1 },
    [INSTANCE] = { DAY_S, 60, 0 },
    [LEAF] = { LEAF_LIFE_S + 3, 3, -1 },
};

struct level {
    struct ev_cert *cert;
    struct ev_key *key;
};

struct ev_sim_pki {
    struct level level[EV_SIM_CHAIN];
    char module_id[EV_SIM_MODULE_ID_MAX + 1];
};

static void level_fini(struct level *l)
{
    ev_cert_free(l->cert);
    ev_key_free(l->key);
    *l = (struct level){0};
}

int ev_nsm_sim_make_root(struct ev_cert **cert, struct ev_key **key, struct ev_err *err)
{
    int64_t now_s = (int64_t)time(NULL);
    uint8_t serial[LABEL_BYTES] = {0};          /* short: clients expect a root of at most 536 bytes */
    struct ev_cert_conf conf = {
        .subject = "/C=IE" ORGANISATION "/CN=sim.nitro-enclaves", .ca = true, .path_len = -1,
        .serial = ev_slice_of(serial, sizeof serial),
        .not_before_ms = (now_s - DAY_S) * 1000,
        .not_after_ms = (now_s + ROOT_YEARS * INT64_C(365) * DAY_S) * 1000,
    };
    int rc;

    *cert = NULL;
    *key = NULL;
    EV_TRY(ev_random(serial, sizeof serial));
    serial[0] = (serial[0] & 0x7F) | 1;         /* neither negative nor zero */
    EV_TRY(ev_key_generate(EV_P384, key, err));
    EV_TRY(ev_cert_make(&conf, *key, NULL, *key, cert, err));
    if (ev_cert_der(*cert).n > EV_SIM_ROOT_MAX)
        rc = ev_fail(err, EV_EINTERNAL, "a root of %zu bytes", ev_cert_der(*cert).n);
out:
    if (rc < 0) {
        ev_err_wrap(err, "development root");
        ev_cert_free(*cert);
        ev_key_free(*key);
        *cert = NULL;
        *key = NULL;
    }
    return rc < 0 ? rc : 0;
}

static int subject(const struct ev_sim_pki *p, unsigned level, char out[SUBJECT_MAX], struct ev_err *err)
{
    uint8_t id[LABEL_BYTES];
    char label[2 * LABEL_BYTES + 1];
    int instance = (int)strcspn(p->module_id + 2, "-") + 2;     /* "i-HEX" of "i-HEX-encHEX" */

    if (ev_random(id, sizeof id) < 0)
        return ev_fail(err, EV_ECRYPTO, "no random bytes");
    for (unsigned i = 0; i < LABEL_BYTES; i++)
        snprintf(label + 2 * i, 3, "%02x", id[i]);
    switch (level) {
    case REGIONAL:
        snprintf(out, SUBJECT_MAX, "/C=IE" ORGANISATION "/CN=%s." SUFFIX, label);
        break;
    case ZONAL:
        snprintf(out, SUBJECT_MAX, "/CN=%s.zonal." SUFFIX "/OU=SIM/O=ev-cage/C=IE/ST=D/L=Dublin", label);
        break;
    case INSTANCE:
        snprintf(out, SUBJECT_MAX, PLACE "/CN=%.*s." SUFFIX, instance, p->module_id);
        break;
    default:
        snprintf(out, SUBJECT_MAX, PLACE "/CN=%s." REGION ".sim", p->module_id);
    }
    return 0;
}

static int issue(const struct ev_sim_pki *p, unsigned level, const struct level *issuer, int64_t now_ms,
                 struct level *out, struct ev_err *err)
{
    int64_t from_s = now_ms / 1000 - shape[level].before_s;
    char name[SUBJECT_MAX];
    struct ev_cert_conf conf = {
        .subject = name, .ca = level != LEAF, .leaf_usage = level == LEAF, .path_len = shape[level].path_len,
        .not_before_ms = from_s * 1000, .not_after_ms = (from_s + shape[level].life_s) * 1000,
    };
    int rc;

    EV_TRY(subject(p, level, name, err));
    EV_TRY(ev_key_generate(EV_P384, &out->key, err));
    EV_TRY(ev_cert_make(&conf, out->key, issuer->cert, issuer->key, &out->cert, err));
    if (ev_cert_der(out->cert).n > EV_SIM_CERT_MAX)
        rc = ev_fail(err, EV_EINTERNAL, "a certificate of %zu bytes", ev_cert_der(out->cert).n);
out:
    return rc < 0 ? rc : 0;
}

/* Valid now and for `left_s` more. */
static bool lasts(const struct ev_cert *cert, int64_t now_ms, int64_t left_s)
{
    int64_t from, to;

    if (!cert)
        return false;
    ev_cert_validity(cert, &from, &to);
    return from <= now_ms && to - now_ms >= left_s * 1000;
}

int ev_sim_pki_refresh(struct ev_sim_pki *p, int64_t now_ms, struct ev_err *err)
{
    struct level fresh[EV_SIM_CHAIN] = {{0}};
    bool remake = false;
    int rc = 0;

    if (lasts(p->level[LEAF].cert, now_ms, LEAF_LEFT_S))
        return 0;
    for (unsigned i = REGIONAL; i <= LEAF; i++) {
        const struct level *issuer = fresh[i - 1].cert ? &fresh[i - 1] : &p->level[i - 1];

        /* Below a new authority everything is new. */
        remake |= i == LEAF || !lasts(p->level[i].cert, now_ms, LEAF_LIFE_S);
        if (remake)
            EV_TRY(issue(p, i, issuer, now_ms, &fresh[i], err));
    }
    for (unsigned i = REGIONAL; i <= LEAF; i++)
        if (fresh[i].cert) {
            struct level old = p->level[i];

            p->level[i] = fresh[i];
            fresh[i] = old;
        }
out:
    if (rc < 0)
        ev_err_wrap(err, "certificates of the simulated NSM");
    for (unsigned i = REGIONAL; i <= LEAF; i++)
        level_fini(&fresh[i]);
    return rc;
}

/* "i-HEX-encHEX": it becomes a part of names, so nothing else may be in it. */
static bool is_module_id(const char *s)
{
    static const char hex[] = "0123456789abcdef";
    size_t n;

    if (strlen(s) > EV_SIM_MODULE_ID_MAX || strncmp(s, "i-", 2) != 0)
        return false;
    n = strspn(s + 2, hex);
    s += 2 + n;
    if (n == 0 || n > INSTANCE_HEX_MAX || strncmp(s, "-enc", 4) != 0)
        return false;
    n = strspn(s + 4, hex);
    return n > 0 && s[4 + n] == 0;
}

int ev_sim_pki_new(const struct ev_cert *root, const struct ev_key *root_key, const char *module_id,
                   int64_t now_ms, struct ev_sim_pki **out, struct ev_err *err)
{
    struct ev_sim_pki *p = ev_alloc(sizeof *p);
    struct ev_key *key = NULL;
    int rc;

    if (!is_module_id(module_id)) {
        rc = ev_fail(err, EV_EUSAGE, "\"%.64s\" is no module id", module_id);
        goto out;
    }
    memcpy(p->module_id, module_id, strlen(module_id));
    /* Counting a reference is no change that anyone can see. */
    p->level[ROOT] = (struct level){ ev_cert_ref((struct ev_cert *)root), ev_key_ref((struct ev_key *)root_key) };
    EV_TRY(ev_cert_key(root, &key, err));
    if (ev_key_curve(key) != EV_P384 || !ev_key_is_private(root_key) || !ev_key_same_public(key, root_key) ||
        ev_cert_der(root).n > EV_SIM_CERT_MAX) {
        rc = ev_fail(err, EV_ECONFIG, "the development root and its key do not fit (P-384 is asked for)");
        goto out;
    }
    EV_TRY(ev_sim_pki_refresh(p, now_ms, err));
out:
    ev_key_free(key);
    if (rc < 0) {
        ev_sim_pki_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void ev_sim_pki_free(struct ev_sim_pki *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < EV_SIM_CHAIN; i++)
        level_fini(&p->level[i]);
    ev_free(p);
}

const struct ev_cert *ev_sim_pki_cert(const struct ev_sim_pki *p, unsigned level) { return p->level[level].cert; }

const struct ev_key *ev_sim_pki_key(const struct ev_sim_pki *p) { return p->level[LEAF].key; }
