/* nsm_sim.c — see nsm_sim.h. Requests, limits, error words and the bytes of a document as the
 * hardware has them (spec nsm-attestation §2..§5).
 *
 *   request ──▶ name and arguments ──▶ one function of the table ──▶ answer, or {"Error": word} */
#include "nitro/nsm_sim.h"

#include <stdio.h>
#include <time.h>

#include "codec/cbor.h"
#include "crypto/digest.h"
#include "nitro/attest_decode.h"
#include "nitro/nsm.h"
#include "nitro/nsm_sim_pki.h"

enum {
    LOCKED_AT_BOOT = 0xFFFF,            /* PCR0..15 */
    RANDOM_LEN = 256,
    VERSION_MAJOR = 1, VERSION_MINOR = 0, VERSION_PATCH = 0,
};
static const uint8_t protected_header[] = { 0xA1, 0x01, 0x38, 0x22 };      /* {1: -35} */

struct ev_nsm_sim {
    struct ev_sim_pki *pki;
    char module_id[EV_SIM_MODULE_ID_MAX + 1];
    uint8_t pcr[EV_PCR_COUNT][EV_PCR_LEN];
    uint32_t locked;
    int64_t (*clock_ms)(void *arg);
    void *clock_arg;
};

/* ---- requests ---- */

enum arg { INDEX, RANGE, DATA, USER_DATA, NONCE, PUBLIC_KEY, N_ARGS };
#define BIT(a) (1u << (a))

static const char *const arg_names[N_ARGS] = { "index", "range", "data", "user_data", "nonce", "public_key" };

struct request {
    ev_slice name;
    bool bare;                          /* a name alone */
    unsigned given, null;               /* bits of enum arg; null ones are given too */
    uint64_t number[N_ARGS];            /* INDEX, RANGE */
    ev_slice bytes[N_ARGS];             /* the others */
};

static int parse_value(struct ev_cbor_reader *r, enum arg a, struct request *q)
{
    struct ev_cbor_item item;
    bool number = a == INDEX || a == RANGE, optional = a >= USER_DATA;

    if (ev_cbor_next(r, &item, NULL) < 0)
        return EV_EPARSE;
    if (number && item.type == EV_CBOR_UINT)
        q->number[a] = item.value;
    else if (!number && item.type == EV_CBOR_BYTES)
        q->bytes[a] = item.data;
    else if (optional && item.type == EV_CBOR_NULL)
        q->null |= BIT(a);
    else
        return EV_EPARSE;
    q->given |= BIT(a);
    return 0;
}

static int parse_arg(struct ev_cbor_reader *r, struct request *q)
{
    struct ev_cbor_item key;

    if (ev_cbor_expect(r, EV_CBOR_TEXT, &key, NULL) < 0)
        return EV_EPARSE;
    for (unsigned a = 0; a < N_ARGS; a++)
        if (ev_slice_eq(key.data, ev_slice_str(arg_names[a])))
            return q->given & BIT(a) ? EV_EPARSE : parse_value(r, (enum arg)a, q);
    return ev_cbor_skip(r, NULL);
}

static int parse_args(struct ev_cbor_reader *r, struct request *q)
{
    struct ev_cbor_item map;
    uint64_t n = 0;
    int rc;

    if (ev_cbor_expect(r, EV_CBOR_MAP, &map, NULL) < 0)
        return EV_EPARSE;
    while ((rc = ev_cbor_more(r, &map, n, NULL)) > 0) {
        if ((rc = parse_arg(r, q)) < 0)
            return rc;
        n++;
    }
    return rc;
}

/* → NULL or an error word. */
static const char *parse(ev_slice in, struct request *q)
{
    struct ev_cbor_reader r;
    struct ev_cbor_item top, name;

    ev_cbor_reader_init(&r, in);
    if (ev_cbor_next(&r, &top, NULL) < 0)
        return "InvalidOperation";
    if (top.type == EV_CBOR_TEXT) {
        q->name = top.data;
        q->bare = true;
        return ev_cbor_done(&r) ? NULL : "InvalidOperation";
    }
    if (top.type != EV_CBOR_MAP || ev_cbor_more(&r, &top, 0, NULL) <= 0 ||
        ev_cbor_expect(&r, EV_CBOR_TEXT, &name, NULL) < 0)
        return "InvalidOperation";
    q->name = name.data;
    if (parse_args(&r, q) < 0 || ev_cbor_more(&r, &top, 1, NULL) != 0 || !ev_cbor_done(&r))
        return "InvalidArgument";
    return NULL;
}

/* ---- answers: each writes one, or names an error ---- */

/* For functions that return an error word: a failed write has no other cause than its size. */
#define PUT(expr) do { if ((expr) < 0) return "BufferTooSmall"; } while (0)

static const char *put_head(struct ev_buf *out, const char *name, uint64_t pairs)
{
    PUT(ev_cbor_put_map(out, 1));
    PUT(ev_cbor_put_text(out, name));
    PUT(ev_cbor_put_map(out, pairs));
    return NULL;
}

static const char *put_key_uint(struct ev_buf *out, const char *key, uint64_t v)
{
    PUT(ev_cbor_put_text(out, key));
    PUT(ev_cbor_put_uint(out, v));
    return NULL;
}

static const char *put_key_text(struct ev_buf *out, const char *key, const char *v)
{
    PUT(ev_cbor_put_text(out, key));
    PUT(ev_cbor_put_text(out, v));
    return NULL;
}

static const char *put_key_bytes(struct ev_buf *out, const char *key, ev_slice v)
{
    PUT(ev_cbor_put_text(out, key));
    PUT(ev_cbor_put_bytes(out, v));
    return NULL;
}

#define WORD(expr) do { const char *word_ = (expr); if (word_) return word_; } while (0)

static unsigned count_locked(const struct ev_nsm_sim *s) { return (unsigned)__builtin_popcount(s->locked); }

static bool is_locked(const struct ev_nsm_sim *s, uint64_t index) { return s->locked & UINT32_C(1) << index; }

static ev_slice pcr(const struct ev_nsm_sim *s, uint64_t index) { return ev_slice_of(s->pcr[index], EV_PCR_LEN); }

static const char *describe_nsm(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    (void)q;
    WORD(put_head(out, "DescribeNSM", 7));
    WORD(put_key_uint(out, "version_major", VERSION_MAJOR));
    WORD(put_key_uint(out, "version_minor", VERSION_MINOR));
    WORD(put_key_uint(out, "version_patch", VERSION_PATCH));
    WORD(put_key_text(out, "module_id", s->module_id));
    WORD(put_key_uint(out, "max_pcrs", EV_PCR_COUNT));
    PUT(ev_cbor_put_text(out, "locked_pcrs"));
    PUT(ev_cbor_put_array(out, count_locked(s)));
    for (unsigned i = 0; i < EV_PCR_COUNT; i++)
        if (is_locked(s, i))
            PUT(ev_cbor_put_uint(out, i));
    return put_key_text(out, "digest", "SHA384");
}

static const char *get_random(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    uint8_t bytes[RANDOM_LEN];
    const char *word;

    (void)s, (void)q;
    if (ev_random(bytes, sizeof bytes) < 0)
        return "InternalError";
    word = put_head(out, "GetRandom", 1);
    if (!word)
        word = put_key_bytes(out, "random", ev_slice_of(bytes, sizeof bytes));
    ev_wipe(bytes, sizeof bytes);
    return word;
}

static const char *describe_pcr(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    if (q->number[INDEX] >= EV_PCR_COUNT)
        return "InvalidIndex";
    WORD(put_head(out, "DescribePCR", 2));
    PUT(ev_cbor_put_text(out, "lock"));
    PUT(ev_cbor_put_bool(out, is_locked(s, q->number[INDEX])));
    return put_key_bytes(out, "data", pcr(s, q->number[INDEX]));
}

static const char *extend_pcr(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    uint64_t i = q->number[INDEX];

    if (i >= EV_PCR_COUNT)
        return "InvalidIndex";
    if (is_locked(s, i))
        return "ReadOnlyIndex";
    ev_pcr_extend(s->pcr[i], q->bytes[DATA]);
    WORD(put_head(out, "ExtendPCR", 1));
    return put_key_bytes(out, "data", pcr(s, i));
}

static const char *lock_pcr(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    if (q->number[INDEX] >= EV_PCR_COUNT)
        return "InvalidIndex";
    if (is_locked(s, q->number[INDEX]))
        return "ReadOnlyIndex";
    s->locked |= UINT32_C(1) << q->number[INDEX];
    PUT(ev_cbor_put_text(out, "LockPCR"));
    return NULL;
}

static const char *lock_pcrs(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    if (q->number[RANGE] > EV_PCR_COUNT)
        return "InvalidIndex";
    s->locked |= (uint32_t)((UINT64_C(1) << q->number[RANGE]) - 1);
    PUT(ev_cbor_put_text(out, "LockPCRs"));
    return NULL;
}

/* ---- documents ---- */

static const char *put_pcrs(const struct ev_nsm_sim *s, struct ev_buf *out)
{
    PUT(ev_cbor_put_text(out, "pcrs"));
    PUT(ev_cbor_put_map(out, count_locked(s)));
    for (unsigned i = 0; i < EV_PCR_COUNT; i++) {
        if (!is_locked(s, i))
            continue;
        PUT(ev_cbor_put_uint(out, i));
        PUT(ev_cbor_put_bytes(out, pcr(s, i)));
    }
    return NULL;
}

static const char *put_certificates(const struct ev_nsm_sim *s, struct ev_buf *out)
{
    WORD(put_key_bytes(out, "certificate", ev_cert_der(ev_sim_pki_cert(s->pki, EV_SIM_CHAIN - 1))));
    PUT(ev_cbor_put_text(out, "cabundle"));
    PUT(ev_cbor_put_array(out, EV_SIM_CHAIN - 1));
    for (unsigned i = 0; i < EV_SIM_CHAIN - 1; i++)
        PUT(ev_cbor_put_bytes(out, ev_cert_der(ev_sim_pki_cert(s->pki, i))));
    return NULL;
}

/* Null stays null and empty stays empty, but for an empty public key, which no document has. */
static const char *put_optional(const struct request *q, enum arg a, struct ev_buf *out)
{
    bool null = (q->null & BIT(a)) || (a == PUBLIC_KEY && q->bytes[a].n == 0);

    PUT(ev_cbor_put_text(out, arg_names[a]));
    PUT(null ? ev_cbor_put_null(out) : ev_cbor_put_bytes(out, q->bytes[a]));
    return NULL;
}

static const char *put_payload(const struct ev_nsm_sim *s, const struct request *q, int64_t now_ms,
                               struct ev_buf *out)
{
    PUT(ev_cbor_put_map(out, 9));
    WORD(put_key_text(out, "module_id", s->module_id));
    WORD(put_key_text(out, "digest", "SHA384"));
    WORD(put_key_uint(out, "timestamp", (uint64_t)now_ms));
    WORD(put_pcrs(s, out));
    WORD(put_certificates(s, out));
    WORD(put_optional(q, PUBLIC_KEY, out));
    WORD(put_optional(q, USER_DATA, out));
    return put_optional(q, NONCE, out);
}

/* COSE_Sign1, untagged, into the answer. */
static const char *put_document(const struct ev_nsm_sim *s, ev_slice payload, struct ev_buf *doc)
{
    ev_slice header = ev_slice_of(protected_header, sizeof protected_header);
    struct ev_buf tbs = EV_BUF_INIT(EV_ATTEST_TBS_MAX);
    uint8_t sig[EV_ATTEST_SIG_LEN];
    int rc = ev_attest_put_tbs(&tbs, header, payload);

    if (rc >= 0)
        rc = ev_key_sign(ev_sim_pki_key(s->pki), ev_buf_slice(&tbs), sig, NULL);
    ev_buf_fini(&tbs);
    if (rc < 0)
        return "InternalError";
    PUT(ev_cbor_put_array(doc, 4));
    PUT(ev_cbor_put_bytes(doc, header));
    PUT(ev_cbor_put_map(doc, 0));
    PUT(ev_cbor_put_bytes(doc, payload));
    PUT(ev_cbor_put_bytes(doc, ev_slice_of(sig, sizeof sig)));
    return NULL;
}

static const char *attestation(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out)
{
    struct ev_buf payload = EV_BUF_INIT(EV_ATTEST_PAYLOAD_MAX), doc = EV_BUF_INIT(EV_NSM_RESP_MAX);
    int64_t now_ms = s->clock_ms(s->clock_arg);
    const char *word = NULL;

    for (unsigned a = USER_DATA; a <= PUBLIC_KEY; a++)
        if (q->bytes[a].n > EV_NSM_FIELD_MAX)
            return "InputTooLarge";
    if (now_ms <= 0 || ev_sim_pki_refresh(s->pki, now_ms, NULL) < 0)
        return "InternalError";
    word = put_payload(s, q, now_ms, &payload);
    if (!word)
        word = put_document(s, ev_buf_slice(&payload), &doc);
    if (!word)
        word = put_head(out, "Attestation", 1);
    if (!word)
        word = put_key_bytes(out, "document", ev_buf_slice(&doc));
    ev_buf_fini(&payload);
    ev_buf_fini(&doc);
    return word;
}

static const struct {
    const char *name;
    unsigned needs;                     /* bits of enum arg; none: the request is a bare name */
    const char *(*answer)(struct ev_nsm_sim *s, const struct request *q, struct ev_buf *out);
} operations[] = {
    { "DescribeNSM", 0, describe_nsm },
    { "GetRandom", 0, get_random },
    { "DescribePCR", BIT(INDEX), describe_pcr },
    { "ExtendPCR", BIT(INDEX) | BIT(DATA), extend_pcr },
    { "LockPCR", BIT(INDEX), lock_pcr },
    { "LockPCRs", BIT(RANGE), lock_pcrs },
    { "Attestation", BIT(USER_DATA) | BIT(NONCE) | BIT(PUBLIC_KEY), attestation },
};

static const char *answer(struct ev_nsm_sim *s, ev_slice in, struct ev_buf *out)
{
    struct request q = {0};

    if (in.n > EV_NSM_REQ_MAX)
        return "InputTooLarge";
    WORD(parse(in, &q));
    for (size_t i = 0; i < EV_COUNT(operations); i++) {
        if (!ev_slice_eq(q.name, ev_slice_str(operations[i].name)))
            continue;
        if (q.bare != (operations[i].needs == 0))
            return "InvalidOperation";
        if ((q.given & operations[i].needs) != operations[i].needs)
            return "InvalidArgument";
        return operations[i].answer(s, &q, out);
    }
    return "InvalidOperation";
}

void ev_nsm_sim_handle(struct ev_nsm_sim *s, ev_slice request, struct ev_buf *response)
{
    const char *word;

    ev_buf_clear(response);
    word = answer(s, request, response);
    if (!word && response->n > EV_NSM_RESP_MAX)
        word = "BufferTooSmall";
    if (!word)
        return;
    ev_buf_clear(response);
    if (ev_cbor_put_map(response, 1) < 0 || ev_cbor_put_text(response, "Error") < 0 ||
        ev_cbor_put_text(response, word) < 0)
        ev_buf_clear(response);         /* a buffer that holds nothing gets nothing */
}

/* ---- life ---- */

static int64_t real_clock_ms(void *arg)
{
    struct timespec ts;

    (void)arg;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int random_module_id(char out[EV_SIM_MODULE_ID_MAX + 1])
{
    uint64_t r[3];

    if (ev_random(r, sizeof r) < 0)
        return EV_ECRYPTO;
    snprintf(out, EV_SIM_MODULE_ID_MAX + 1, "i-%016llx%llx-enc%016llx", (unsigned long long)r[0],
             (unsigned long long)(r[1] & 15), (unsigned long long)r[2]);
    return 0;
}

int ev_nsm_sim_new(const struct ev_nsm_sim_conf *conf, struct ev_nsm_sim **out, struct ev_err *err)
{
    struct ev_nsm_sim *s = ev_alloc(sizeof *s);
    int rc = 0;

    s->locked = LOCKED_AT_BOOT;
    s->clock_ms = conf->clock_ms ? conf->clock_ms : real_clock_ms;
    s->clock_arg = conf->clock_arg;
    for (unsigned i = 0; i < EV_PCR_COUNT; i++) {
        bool hidden = conf->debug && (i <= 2 || i == 8);

        if ((conf->pcrs.present & UINT32_C(1) << i) && !hidden)
            memcpy(s->pcr[i], conf->pcrs.value[i], EV_PCR_LEN);
    }
    if (conf->module_id)
        snprintf(s->module_id, sizeof s->module_id, "%s", conf->module_id);
    else
        EV_TRY(random_module_id(s->module_id));
    EV_TRY(ev_sim_pki_new(conf->root, conf->root_key, conf->module_id ? conf->module_id : s->module_id,
                          s->clock_ms(s->clock_arg), &s->pki, err));
out:
    if (rc < 0) {
        ev_err_wrap(err, "simulated NSM");
        ev_nsm_sim_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void ev_nsm_sim_free(struct ev_nsm_sim *s)
{
    if (!s)
        return;
    ev_sim_pki_free(s->pki);
    ev_free(s);
}
