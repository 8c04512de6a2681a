/* enclave.c — `ev-cage enclave`, PID 1: the boot order of DESIGN §6, then the loop.
 *
 *   mounts → console → modules → NSM → entropy → lo → measured configuration → app contained
 *   (not started) → certificate, listeners → heartbeat → PCR16 extended and locked → app starts → watch
 *
 * The app's containment is set up before the heartbeat, so that an image that cannot run fails the
 * launch instead of seeming to run. Any failure prints one line, reports to the parent and ends. */
#include "role/enclave.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/vsock.h"
#include "role/attestable.h"
#include "role/init.h"
#include "role/launch_sim.h"
#include "role/modules.h"
#include "role/supervise.h"
#include "svc/health.h"
#include "svc/ingress.h"

enum { PCR_APP_PHASE = 16, OUTPUT_CHUNK = 4096 };

struct enclave {
    struct ev_conf conf;
    struct ev_nsm *nsm;
    struct ev_rt *rt;
    struct ev_app *app;
    struct ev_attestable *cert;
    struct ev_tls_ctx *tls;
    struct ev_ingress *ingress;
    struct ev_health *health;
    struct ev_signal *signals[3];
    struct ev_watch *output;
    int out_read, out_write;            /* the app's output; read end only in debug */
    int code, signum;
    char reason[256];
};

static void set_end(struct enclave *e, int code, int signum, const char *reason)
{
    e->code = code;
    e->signum = signum;
    snprintf(e->reason, sizeof(e->reason), "%s", reason);
    ev_rt_stop(e->rt);
}

/* --- steps ------------------------------------------------------------------------------------ */

static int step_nsm(struct enclave *e, struct ev_err *err)
{
    struct ev_nsm_info info;
    int rc;

    EV_TRY(ev_nsm_open(&e->nsm, err));
    EV_TRY(ev_nsm_describe(e->nsm, &info, err));
    if (info.max_pcrs <= PCR_APP_PHASE || strcmp(info.digest, "SHA384") != 0)
        rc = ev_fail(err, EV_EUNSUPPORTED, "NSM: %u PCRs of %s, want more than %d of SHA384", info.max_pcrs,
                     info.digest, PCR_APP_PHASE);
    else if (info.locked >> PCR_APP_PHASE & 1)
        rc = ev_fail(err, EV_EDENY, "NSM: PCR%d is locked already: the app phase has begun before", PCR_APP_PHASE);
out:
    return rc < 0 ? rc : 0;
}

/* In debug the app writes into a pipe that we copy to the console; it never holds the console. */
static int step_output(struct enclave *e, struct ev_err *err)
{
    int fd[2];

    if (!e->conf.debug) {
        e->out_write = open("/dev/null", O_WRONLY | O_CLOEXEC);
        return e->out_write < 0 ? ev_fail_errno(err, "open /dev/null") : 0;
    }
    if (pipe2(fd, O_CLOEXEC) < 0)
        return ev_fail_errno(err, "pipe");
    e->out_read = fd[0];
    e->out_write = fd[1];
    if (fcntl(fd[0], F_SETFL, O_NONBLOCK) < 0)
        return ev_fail_errno(err, "pipe");
    return 0;
}

static int step_contain(struct enclave *e, struct ev_err *err)
{
    int rc;

    EV_TRY(step_output(e, err));
    EV_TRY(ev_app_prepare(e->out_write, &e->app, err));
out:
    if (e->out_write >= 0)
        close(e->out_write);
    e->out_write = -1;
    return rc;
}

static struct ev_addr app_addr(const struct enclave *e)
{
    struct ev_addr a = { .kind = EV_ADDR_TCP, .host = "127.0.0.1", .port = e->conf.port };

    return a;
}

static int step_certificate(struct enclave *e, struct ev_err *err)
{
    struct ev_tls_server_conf tls = { .select = ev_attestable_select };
    int rc;

    EV_TRY(ev_rt_new(&e->rt, err));
    EV_TRY(ev_attestable_new(e->rt, e->nsm, e->conf.hosts, &e->cert, err));
    tls.ctx = e->cert;
    if (e->conf.tls_termination)
        EV_TRY(ev_tls_server_new(&tls, &e->tls, err));
out:
    return rc;
}

static int step_listeners(struct enclave *e, struct ev_err *err)
{
    struct ev_ingress_conf in = { .rt = e->rt, .tls = e->tls, .app = app_addr(e), .api_key_auth = e->conf.api_key_auth,
                                  .key_digests = e->conf.key_digests, .n_key_digests = e->conf.n_key_digests,
                                  .attestation = ev_attestable_document, .ctx = e->cert };
    struct ev_health_conf health = { .rt = e->rt, .app = app_addr(e), .path = e->conf.healthcheck };
    int rc;

    EV_TRY(in.take_listen_fd = ev_vsock_listen(EV_PORT_INGRESS, err));
    EV_TRY(ev_ingress_open(&in, &e->ingress, err));
    EV_TRY(health.take_listen_fd = ev_vsock_listen(EV_PORT_HEALTH, err));
    EV_TRY(ev_health_open(&health, &e->health, err));
out:
    return rc;
}

static int step_heartbeat(struct enclave *e, struct ev_err *err)
{
    (void)e;
    return ev_init_heartbeat(err);
}

/* DESIGN §4.4: nothing that the app can obtain may provision. Checked, not assumed. */
static int step_app_phase(struct enclave *e, struct ev_err *err)
{
    uint8_t value[48];
    bool locked = false;
    int rc;

    EV_TRY(ev_nsm_extend(e->nsm, PCR_APP_PHASE, EV_LIT("app-phase"), err));
    EV_TRY(ev_nsm_lock(e->nsm, PCR_APP_PHASE, err));
    EV_TRY(ev_nsm_pcr(e->nsm, PCR_APP_PHASE, &locked, value, err));
    if (!locked)
        rc = ev_fail(err, EV_EVERIFY, "NSM: PCR%d did not lock", PCR_APP_PHASE);
    /* The document of before the app phase must not be served after it. */
    EV_TRY(rc);
    EV_TRY(ev_attestable_renew(e->cert, err));
out:
    return rc;
}

static void app_exited(void *ctx, int code, int signum)
{
    char reason[64];

    if (signum)
        snprintf(reason, sizeof(reason), "the app was ended by signal %d", signum);
    else
        snprintf(reason, sizeof(reason), "the app exited with code %d", code);
    set_end(ctx, code, signum, reason);
}

static void copy_output(void *ctx, int events)
{
    struct enclave *e = ctx;
    char chunk[OUTPUT_CHUNK];
    ssize_t n = read(e->out_read, chunk, sizeof(chunk));

    (void)events;
    if (n > 0 && ev_write_all(STDOUT_FILENO, chunk, (size_t)n) == 0)
        return;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ev_watch_stop(e->output);
    e->output = NULL;
}

static int step_start(struct enclave *e, struct ev_err *err)
{
    if (e->out_read >= 0)
        e->output = ev_watch_start(e->rt, e->out_read, EV_READABLE, copy_output, e);
    return ev_app_start(e->app, e->rt, app_exited, e, err);
}

/* --- signals ----------------------------------------------------------------------------------- */

static void on_term(void *ctx, int signum)
{
    struct enclave *e = ctx;

    (void)signum;
    ev_app_stop(e->app);                            /* app_exited follows within the grace */
}

/* Orphans of our own namespace, were there any: appinit reaps the app's. */
static void on_child(void *ctx, int signum)
{
    struct enclave *e = ctx;
    siginfo_t info;

    (void)signum;
    for (;;) {
        memset(&info, 0, sizeof(info));
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
            info.si_pid == ev_app_pid(e->app))
            return;                                 /* ev_app_close waits for its own */
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

static int step_signals(struct enclave *e, struct ev_err *err)
{
    (void)err;
    e->signals[0] = ev_signal_start(e->rt, SIGTERM, on_term, e);
    e->signals[1] = ev_signal_start(e->rt, SIGINT, on_term, e);
    e->signals[2] = ev_signal_start(e->rt, SIGCHLD, on_child, e);
    return 0;
}

/* --- boot -------------------------------------------------------------------------------------- */

static int step_mounts(struct enclave *e, struct ev_err *err)
{
    int rc = ev_init_mounts(err);

    (void)e;
    ev_init_console();
    return rc < 0 ? rc : ev_init_limits(err);
}

/* Drivers of the platform's devices, where the kernel has them as modules. The simulator has no kernel
 * of its own; its devices are descriptors. */
static int step_modules(struct enclave *e, struct ev_err *err)
{
    int n;

    (void)e;
    if (ev_init_simulated())
        return 0;
    n = ev_modules_load(err);
    if (n > 0)
        ev_init_say("%d kernel modules loaded", n);
    return n < 0 ? n : 0;
}

static int step_entropy(struct enclave *e, struct ev_err *err)
{
    return ev_init_entropy(e->nsm, err);
}

static int step_loopback(struct enclave *e, struct ev_err *err)
{
    (void)e;
    return ev_init_loopback(err);
}

static int step_conf(struct enclave *e, struct ev_err *err)
{
    int rc = ev_init_conf(&e->conf, err);

    return rc < 0 ? rc : ev_init_xattrs(err);
}

static const struct step {
    const char *name;
    int (*run)(struct enclave *e, struct ev_err *err);
} steps[] = {
    { "mounts", step_mounts }, { "modules", step_modules }, { "nsm", step_nsm }, { "entropy", step_entropy },
    { "loopback", step_loopback }, { "configuration", step_conf }, { "app containment", step_contain },
    { "certificate", step_certificate }, { "listeners", step_listeners }, { "signals", step_signals },
    { "heartbeat", step_heartbeat }, { "app phase", step_app_phase }, { "app start", step_start },
};

static int boot(struct enclave *e, struct ev_err *err)
{
    for (size_t i = 0; i < EV_COUNT(steps); i++) {
        int rc = steps[i].run(e, err);

        if (rc < 0) {
            ev_err_wrap(err, "%s", steps[i].name);
            return rc;
        }
    }
    return 0;
}

static void drain_output(struct enclave *e)
{
    for (int i = 0; i < 64 && e->output; i++) {     /* at most 256 KiB of last words */
        char chunk[OUTPUT_CHUNK];
        ssize_t n = read(e->out_read, chunk, sizeof(chunk));

        if (n <= 0 || ev_write_all(STDOUT_FILENO, chunk, (size_t)n) < 0)
            return;
    }
}

static void pid1(void)
{
    static struct enclave e = { .out_read = -1, .out_write = -1 };
    struct ev_err err = EV_ERR_INIT;
    int rc;

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    for (int fd = EV_SIM_NSM_FD; fd <= EV_SIM_VSOCK_FD; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            continue;                               /* real enclave: they do not exist */
    if ((rc = boot(&e, &err)) < 0) {
        ev_init_say("%s", err.msg);
        ev_app_close(e.app);
        ev_init_end(ev_err_exit_code(rc), 0, err.msg);
    }
    ev_health_set_initialized(e.health);
    ev_init_say("started %s%s%s", e.conf.name, e.conf.debug ? " (debug)" : "",
                ev_init_simulated() ? " (SIMULATED)" : "");
    ev_rt_run(e.rt);
    drain_output(&e);
    ev_app_close(e.app);
    ev_init_end(e.code, e.signum, e.reason);
}

int ev_enclave_is_init(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[0], EV_SIM_CHILD_NAME) == 0)
        return 1;
    return argc >= 1 && getpid() == 1 && (strcmp(argv[0], "/init") == 0 || strcmp(argv[0], "init") == 0);
}

int ev_enclave_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[0], EV_SIM_CHILD_NAME) == 0)
        ev_sim_child_main(argv[1]);
    if (getpid() != 1) {
        fprintf(stderr, "ev-cage enclave: this is PID 1 of an enclave; `ev-cage dev` starts one here\n");
        return 64;
    }
    if (argc == 2 && strcmp(argv[1], "app") == 0)
        ev_appinit_main();
    pid1();
    return 70;
}
