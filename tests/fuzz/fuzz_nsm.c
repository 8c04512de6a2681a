/* fuzz_nsm.c — any bytes as a request to the simulated NSM, and as an answer to its client. */
#include <sys/socket.h>
#include <unistd.h>

#include "codec/cbor.h"
#include "fuzz.h"
#include "nitro/nsm.h"
#include "nitro/nsm_sim.h"

static struct ev_nsm_sim *make(void)
{
    struct ev_nsm_sim_conf conf = {0};
    struct ev_nsm_sim *s = NULL;
    struct ev_cert *root = NULL;
    struct ev_key *key = NULL;

    demand(ev_nsm_sim_make_root(&root, &key, NULL) == 0, "a root");
    conf.root = root;
    conf.root_key = key;
    demand(ev_nsm_sim_new(&conf, &s, NULL) == 0, "a simulator");
    ev_cert_free(root);
    ev_key_free(key);
    return s;
}

/* The same simulator for all inputs: what one of them did to it must not harm the next. */
static void as_request(ev_slice in)
{
    static struct ev_nsm_sim *sim;
    static struct ev_buf answer = EV_BUF_INIT(EV_NSM_RESP_MAX);
    struct ev_cbor_reader r;

    if (!sim)
        sim = make();
    ev_nsm_sim_handle(sim, in, &answer);
    demand(answer.n > 0 && answer.n <= EV_NSM_RESP_MAX, "an answer of a permitted size");
    ev_cbor_reader_init(&r, ev_buf_slice(&answer));
    demand(ev_cbor_skip(&r, NULL) == 0 && ev_cbor_done(&r), "one CBOR item");
    if (in.n > EV_NSM_REQ_MAX)
        demand(memmem(answer.p, answer.n, "InputTooLarge", 13) != NULL, "too large is too large");
}

/* The first byte says whose answer the others are. */
static void as_answer(ev_slice in)
{
    struct ev_buf doc = EV_BUF_INIT(EV_NSM_RESP_MAX);
    struct ev_nsm_info info;
    struct ev_nsm *n = NULL;
    uint8_t value[48];
    bool locked;
    int fd[2], rc = 0;

    if (in.n < 2 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
        return;
    if (send(fd[1], in.p + 1, in.n - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 || ev_nsm_from_fd(fd[0], &n, NULL) < 0)
        goto out;
    switch (in.p[0] % 6) {
    case 0: rc = ev_nsm_describe(n, &info, NULL); break;
    case 1: rc = ev_nsm_random(n, value, 1, NULL); break;
    case 2: rc = ev_nsm_pcr(n, 16, &locked, value, NULL); break;
    case 3: rc = ev_nsm_extend(n, 16, EV_LIT("x"), NULL); break;
    case 4: rc = ev_nsm_lock(n, 16, NULL); break;
    default: rc = ev_nsm_attest(n, (ev_slice){0}, (ev_slice){0}, (ev_slice){0}, &doc, NULL);
    }
    demand(rc <= 0, "success is 0");
out:
    ev_nsm_close(n);
    close(fd[1]);
    ev_buf_fini(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_request(ev_slice_of(data, size));
    as_answer(ev_slice_of(data, size));
    return 0;
}
