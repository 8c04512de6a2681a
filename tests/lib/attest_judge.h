/* attest_judge.h — judges kit documents under a kit PKI and says which reason was expected. Every
 * document is judged twice, out of an exact-size copy, and both answers must agree. */
#ifndef TESTS_ATTEST_JUDGE_H
#define TESTS_ATTEST_JUDGE_H

#include "attest_kit.h"
#include "tap.h"

static struct kit_pki pki;
static struct ev_buf doc = EV_BUF_INIT(1 << 20);
static struct ev_attest got;

static inline struct ev_expect any(void)
{
    return (struct ev_expect){ .any_measurement = true, .at_ms = KIT_NOW };
}

/* → "" or the reason. `got` holds what was reported. */
static inline const char *judge_with(const struct kit_pki *trusted, ev_slice d, const struct ev_expect *e)
{
    struct ev_cert *roots[1] = { trusted->cert[0] };
    struct ev_trust trust = { roots, 1, true };
    struct ev_attest again;
    uint8_t *exact = malloc(d.n ? d.n : 1);
    int rc, rc2;

    memcpy(exact, d.p, d.n);
    ev_attest_fini(&got);
    kit_err = (struct ev_err)EV_ERR_INIT;
    rc = ev_attest_verify(ev_slice_of(exact, d.n), &trust, e, &got, &kit_err);
    rc2 = ev_attest_verify(ev_slice_of(exact, d.n), &trust, e, &again, NULL);
    ev_attest_fini(&again);
    free(exact);
    if (rc != rc2 || rc > 0 || (rc < 0 && rc != EV_EVERIFY && rc != EV_ECONFIG) || (rc < 0 && kit_err.code != rc))
        return "an inconsistent answer";
    return rc == 0 ? "" : kit_err.reason;
}

static inline void is(const struct kit_doc *d, const struct ev_expect *e, const char *reason, const char *what)
{
    const char *r;

    kit_make(d, &doc);
    r = judge_with(&pki, ev_buf_slice(&doc), e);
    OK(strcmp(r, reason) == 0, "%s: %s (\"%s\" %s)", what, *reason ? reason : "accepted", r, kit_err.msg);
}

static inline void any_is(const struct kit_doc *d, const char *reason, const char *what)
{
    struct ev_expect e = any();

    is(d, &e, reason, what);
}

#endif
