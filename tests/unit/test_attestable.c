/* test_attestable.c — the certificate that carries the document: bound to its key, found by clients,
 * renewed with a fresh key, and still served when the NSM fails. A child plays the NSM. */
#include "role/attestable.h"

#include "attested.h"
#include "codec/text.h"
#include "nitro/nsm_sim.h"
#include "role/init.h"
#include "tap.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct ev_cert *root;
static struct ev_key *root_key;

static void serve_nsm(int fd)
{
    struct ev_nsm_sim_conf conf = { .root = root, .root_key = root_key };
    struct ev_nsm_sim *sim;
    uint8_t request[EV_NSM_REQ_MAX];
    ssize_t n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    conf.pcrs.present = 0x1f;
    memset(conf.pcrs.value, 7, 5 * EV_PCR_LEN);
    if (ev_nsm_sim_new(&conf, &sim, NULL) < 0)
        _exit(1);
    while ((n = recv(fd, request, sizeof(request), 0)) > 0) {
        struct ev_buf response = EV_BUF_INIT(EV_NSM_RESP_MAX);

        ev_nsm_sim_handle(sim, ev_slice_of(request, (size_t)n), &response);
        if (send(fd, response.p, response.n, MSG_NOSIGNAL) < 0)
            _exit(1);
        ev_buf_fini(&response);
    }
    _exit(0);
}

static struct ev_nsm *start_nsm(pid_t *pid)
{
    struct ev_nsm *nsm = NULL;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    fflush(stdout);
    if ((*pid = fork()) == 0) {
        close(pair[0]);
        serve_nsm(pair[1]);
    }
    close(pair[1]);
    return ev_nsm_from_fd(pair[0], &nsm, NULL) < 0 ? NULL : nsm;
}

/* What a client does, and what only the enclave's side promises: a nonce. */
static int verify(const struct ev_cert *cert, struct ev_err *err)
{
    struct ev_expect want = { .any_measurement = true, .at_ms = (int64_t)time(NULL) * 1000 };
    struct ev_attest got;
    int rc = attested_leaf(cert, root, want, &got, err);

    if (rc >= 0 && (!got.has_nonce || got.nonce.n != 32))
        rc = ev_fail(err, EV_EVERIFY, "nonce");
    ev_attest_fini(&got);
    return rc;
}

static void test_names(const struct ev_cert *cert, char *const *hosts)
{
    ev_slice name;
    size_t n = 0, hex = 0, plain = 0;

    while (ev_cert_dns_name(cert, n, &name)) {
        const uint8_t *dot = memchr(name.p, '.', name.n);

        hex += dot && dot - name.p > 4000;
        for (size_t i = 0; hosts[i]; i++)
            plain += ev_slice_eq(name, ev_slice_str(hosts[i]));
        n++;
    }
    EQ_INT(plain, 3, "every host is a name of the certificate");
    EQ_INT(hex, 2, "and HEX.host of the first two");
    EQ_INT(n, 5, "nothing else");
}

static void test_document(struct ev_attestable *a, const struct ev_cert *cert)
{
    struct ev_buf text = EV_BUF_INIT(65536), doc = EV_BUF_INIT(65536), in_cert = EV_BUF_INIT(65536);

    OK(ev_attestable_document(a, &text, NULL) == 0 && ev_base64_decode(&doc, ev_buf_slice(&text), false) >= 0,
       "the well-known document is base64");
    OK(ev_attest_from_cert(cert, &in_cert, NULL) == 0 && ev_slice_eq(ev_buf_slice(&doc), ev_buf_slice(&in_cert)),
       "and the one of the certificate");
    ev_buf_fini(&text);
    ev_buf_fini(&doc);
    ev_buf_fini(&in_cert);
    text = (struct ev_buf)EV_BUF_INIT(100);
    OK(ev_attestable_document(a, &text, NULL) < 0, "a buffer that is too small is an error");
    ev_buf_fini(&text);
}

static void test_life(struct ev_nsm *nsm, pid_t nsm_pid)
{
    static char first[] = "hello.app_1.cages.localhost", second[] = "hello.app-1.cages.localhost";
    static char third[] = "x.localhost";
    char *hosts[] = { first, second, third, NULL };
    struct ev_attestable *a = NULL;
    struct ev_tls_pair old, now;
    struct ev_err err = EV_ERR_INIT;
    int64_t life;

    if (!OK(ev_attestable_new(NULL, nsm, hosts, &a, &err) == 0, "made: %s", err.msg))
        return;
    life = ev_attestable_lifetime_ms(a);
    OK(life > 60 * 60 * 1000 && life <= 150 * 60 * 1000, "to be replaced in %lld minutes", (long long)life / 60000);
    OK(ev_attestable_select(a, "anything", &old) == 0 && old.cert && old.key, "any name gets it");
    OK(verify(old.cert, &err) == 0, "verifies: %s", err.msg);
    test_names(old.cert, hosts);
    test_document(a, old.cert);
    OK(ev_attestable_renew(a, &err) == 0, "renewed: %s", err.msg);
    ev_attestable_select(a, "", &now);
    OK(now.cert != old.cert && !ev_key_same_public(now.key, old.key), "with another key");
    OK(verify(now.cert, &err) == 0 && verify(old.cert, &err) == 0, "the one before lives until the next");
    kill(nsm_pid, SIGKILL);
    waitpid(nsm_pid, NULL, 0);
    err = (struct ev_err)EV_ERR_INIT;
    OK(ev_attestable_renew(a, &err) < 0 && err.msg[0], "no NSM, no renewal: %s", err.msg);
    ev_attestable_select(a, "", &old);
    OK(old.cert == now.cert && verify(now.cert, &err) == 0, "what there is is served on");
    ev_attestable_free(a);
    OK(ev_attestable_new(NULL, nsm, hosts, &a, &err) < 0, "and none is made");
}

static void test_entropy(struct ev_nsm *nsm)
{
    struct ev_err err = EV_ERR_INIT;

    OK(ev_init_entropy(nsm, &err) == 0, "64 bytes of the NSM go into the kernel's pool: %s", err.msg);
}

int main(void)
{
    struct ev_nsm *nsm;
    pid_t pid = -1;

    signal(SIGPIPE, SIG_IGN);
    if (!OK(ev_nsm_sim_make_root(&root, &root_key, NULL) == 0, "a root") ||
        !OK((nsm = start_nsm(&pid)) != NULL, "an NSM"))
        return tap_done();
    test_entropy(nsm);
    test_life(nsm, pid);
    ev_nsm_close(nsm);
    ev_attestable_free(NULL);
    ev_cert_free(root);
    ev_key_free(root_key);
    return tap_done();
}
