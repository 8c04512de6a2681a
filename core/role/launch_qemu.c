/* launch_qemu.c — the launcher for QEMU (launch.h, launch_common.h, launch_qemu.h).
 *
 *   attempt with KVM ──no heartbeat, no report──▶ attempt with emulation ──▶ as every launch
 *
 * A /dev/kvm says little: on some machines a kernel dies in it. So KVM gets a time limit and one try.
 * Each attempt has back ends and an NSM of its own, as a guest may have changed PCRs. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/vsock.h"
#include "role/launch_common.h"
#include "role/launch_ports.h"
#include "role/launch_qemu.h"
#include "role/vhost.h"

enum { END_MS = 5000, KVM_MS = 20000, WORDS_MS = 300, CID = 16, PATH_LEN = 256, SHOWN_LINES = 6, SHOWN_BYTES = 500 };

struct qemu {
    struct ev_launch l;                             /* first (launch_common.h) */
    struct ev_qemu_parts parts;
    struct ev_qemu_spawn spawn;
    struct ev_nsm_sim *second_nsm;                  /* of the second attempt */
    struct ev_vhost *nsm, *vsock;
    struct ev_ports ports;
    struct ev_timer *kvm_timer, *words_timer;
    char **argv, **env;                             /* owned copies of what the caller said */
    char nsm_path[PATH_LEN], vsock_path[PATH_LEN];
};

static struct qemu *qemu_of(struct ev_launch *l) { return (struct qemu *)l; }

static const char *report(struct ev_launch *l) { return ev_ports_report(&qemu_of(l)->ports); }

static void stop_timers(struct qemu *q)
{
    ev_timer_stop(q->kvm_timer);
    ev_timer_stop(q->words_timer);
    q->kvm_timer = q->words_timer = NULL;
}

static char **copy_list(const char *const *list)
{
    size_t n = 0;
    char **copy;

    while (list && list[n])
        n++;
    copy = ev_alloc((n + 1) * sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        copy[i] = ev_strdup(list[i]);
    return copy;
}

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        ev_free(list[i]);
    ev_free(list);
}

/* --- one attempt -------------------------------------------------------------------------------- */

static void end_attempt(struct qemu *q)
{
    stop_timers(q);
    ev_vhost_close(q->vsock);
    ev_vhost_close(q->nsm);
    q->vsock = q->nsm = NULL;
    ev_ports_fini(&q->ports);
}

static int connect_own(void *ctx, uint32_t port)
{
    struct qemu *q = ctx;
    int fd = ev_ports_connect(&q->ports, port);

    if (fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int twin_listen(struct qemu *q, uint32_t port, struct ev_err *err)
{
    char path[PATH_LEN];

    snprintf(path, sizeof(path), "%s/enclave_%u", q->l.dir, port);
    return ev_vhost_vsock_listen(q->vsock, port, path, err);
}

static int open_back_ends(struct qemu *q, struct ev_err *err)
{
    struct ev_vhost_vsock_conf vsock = { .guest_cid = CID, .dir = q->l.dir, .connect = connect_own, .ctx = q };
    int rc;

    ev_ports_init(&q->ports, q->l.rt, ev_launch_heartbeat, &q->l);
    EV_TRY(ev_vhost_nsm_open(q->l.rt, q->nsm_path, q->l.nsm, &q->nsm, err));
    EV_TRY(ev_vhost_vsock_open(q->l.rt, q->vsock_path, &vsock, &q->vsock, err));
    EV_TRY(twin_listen(q, EV_PORT_INGRESS, err));
    EV_TRY(twin_listen(q, EV_PORT_HEALTH, err));
out:
    return rc < 0 ? rc : 0;
}

static void kvm_late(void *ctx)
{
    ev_launch_kill(ctx, "no heartbeat in time with KVM");
}

static int start_attempt(struct qemu *q, bool kvm, struct ev_err *err)
{
    int console[2] = { -1, -1 }, pid, rc;

    EV_TRY(open_back_ends(q, err));
    if (pipe2(console, O_CLOEXEC) < 0 || fcntl(console[0], F_SETFL, O_NONBLOCK) < 0)
        rc = ev_fail_errno(err, "console");
    EV_TRY(rc);
    q->spawn.kvm = kvm;
    q->spawn.console = console[1];
    EV_TRY(pid = ev_qemu_spawn(&q->spawn, err));
    rc = ev_launch_watch(&q->l, pid, console[0], err);
    console[0] = -1;
    EV_TRY(rc);
    if (kvm)
        q->kvm_timer = ev_timer_start(q->l.rt, KVM_MS, false, kvm_late, &q->l);
out:
    for (size_t i = 0; i < EV_COUNT(console); i++)
        if (console[i] >= 0)
            close(console[i]);
    return rc < 0 ? rc : 0;
}

static bool emulate_instead(struct qemu *q)
{
    struct ev_launch *l = &q->l;
    struct ev_err err = EV_ERR_INIT;

    end_attempt(q);
    ev_nsm_sim_free(l->nsm);
    l->nsm = q->second_nsm;
    q->second_nsm = NULL;
    l->killed_why[0] = l->tail[0] = 0;
    l->n_tail = 0;
    l->accel = "tcg-after-kvm";
    if (start_attempt(q, false, &err) == 0)
        return true;
    ev_launch_kill(l, err.msg);
    return false;
}

/* --- the end ------------------------------------------------------------------------------------ */

static void words_over(void *ctx)
{
    struct qemu *q = ctx;

    stop_timers(q);
    ev_launch_finish(&q->l);
}

/* What the guest sent last may still lie in its rings, which the loop serves after us. */
static bool ended(struct ev_launch *l)
{
    struct qemu *q = qemu_of(l);
    bool reported = strchr(report(l), '\n') != NULL;

    stop_timers(q);
    if (q->spawn.kvm && !l->booted && !l->signalled && !reported)
        return emulate_instead(q);
    if (reported || l->killed_why[0])
        return false;
    q->words_timer = ev_timer_start(l->rt, WORDS_MS, false, words_over, q);
    return true;
}

static void heard(struct ev_launch *l)
{
    struct qemu *q = qemu_of(l);

    if (q->spawn.kvm && !l->booted && !l->killed_why[0] && strstr(l->tail, "KVM internal error"))
        ev_launch_kill(l, "KVM internal error");
}

/* The last lines of the console, one behind the other. */
static void add_tail(const struct ev_launch *l, struct ev_launch_end *end)
{
    size_t n = l->n_tail, lines = 0, at = strlen(end->why), shown;

    while (n > 0 && strchr("\r\n ", l->tail[n - 1]))
        n--;
    for (shown = n; shown > 0 && n - shown < SHOWN_BYTES; shown--)
        if (l->tail[shown - 1] == '\n' && ++lines == SHOWN_LINES)
            break;
    if (shown == n)
        return;
    at += (size_t)snprintf(end->why + at, sizeof(end->why) - at, "; its console said last: ");
    for (; shown < n && at + 4 < sizeof(end->why); shown++)
        if (l->tail[shown] == '\n')
            memcpy(end->why + at, " | ", 4), at += 3;
        else if ((unsigned char)l->tail[shown] >= ' ')
            end->why[at++] = l->tail[shown], end->why[at] = 0;
}

static void explain(struct ev_launch *l, int status, struct ev_launch_end *end)
{
    if (end->reported)
        return;
    if (l->signalled) {
        end->signum = l->signalled;
        end->code = 128 + l->signalled;
        if (!l->killed_why[0])
            snprintf(end->why, sizeof(end->why), "QEMU was stopped by signal %d", l->signalled);
        return;
    }
    if (!l->killed_why[0]) {
        end->code = ev_err_exit_code(EV_EINTERNAL);
        end->signum = 0;
        snprintf(end->why, sizeof(end->why), WIFSIGNALED(status) ? "QEMU was killed by signal %d"
                 : "QEMU ended with code %d, and the enclave had reported no end",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    add_tail(l, end);
}

static void end(struct ev_launch *l)
{
    struct qemu *q = qemu_of(l);

    end_attempt(q);
    ev_nsm_sim_free(q->second_nsm);
    ev_qemu_parts_fini(&q->parts);
    free_list(q->argv);
    free_list(q->env);
}

static const struct ev_launch_kind kind = { .name = "QEMU", .end_ms = END_MS, .report = report, .ended = ended,
                                            .explain = explain, .heard = heard, .close = end };

/* --- start -------------------------------------------------------------------------------------- */

static int choose(struct qemu *q, const struct ev_launch_conf *conf, struct ev_err *err)
{
    uint64_t mib = (q->parts.memory + (1 << 20) - 1) >> 20;

    q->argv = copy_list(conf->qemu);
    q->env = conf->qemu_env ? copy_list(conf->qemu_env) : NULL;
    q->spawn = (struct ev_qemu_spawn){ .qemu = q->argv, .env = q->env, .parts = &q->parts,
                                       .nsm_path = q->nsm_path, .vsock_path = q->vsock_path,
                                       .cpus = conf->cpus ? conf->cpus : 1 };
    snprintf(q->nsm_path, sizeof(q->nsm_path), "%s/vhost_nsm", q->l.dir);
    snprintf(q->vsock_path, sizeof(q->vsock_path), "%s/vhost_vsock", q->l.dir);
    if (conf->memory_mib)
        mib = conf->memory_mib;
    else if (mib < EV_QEMU_MEMORY_MIN)
        mib = EV_QEMU_MEMORY_MIN;
    if (mib > EV_QEMU_MEMORY_MAX || q->spawn.cpus > EV_QEMU_CPUS_MAX)
        return ev_fail(err, EV_ELIMIT, "at most %d MiB and %d processors", EV_QEMU_MEMORY_MAX, EV_QEMU_CPUS_MAX);
    q->spawn.memory_mib = (uint32_t)mib;
    return 0;
}

int ev_launch_qemu(const struct ev_launch_conf *conf, struct ev_launch **out, struct ev_err *err)
{
    struct qemu *q = ev_alloc(sizeof(*q));
    bool kvm = !conf->no_kvm && access("/dev/kvm", R_OK | W_OK) == 0;
    struct ev_image_info info;
    int eif = -1, rc;

    memset(&info, 0, sizeof(info));
    ev_ports_init(&q->ports, conf->rt, ev_launch_heartbeat, &q->l);
    q->parts.kernel = q->parts.ramdisks = -1;
    EV_TRY(eif = ev_launch_open(&q->l, &kind, conf, &info, err));
    q->l.accel = kvm ? "kvm" : "tcg";
    EV_TRY(ev_launch_nsm(conf, &info, &q->l.nsm, err));
    if (kvm)
        EV_TRY(ev_launch_nsm(conf, &info, &q->second_nsm, err));
    EV_TRY(ev_qemu_split(eif, q->l.dir_fd, &q->parts, err));
    EV_TRY(ev_launch_unchanged(&q->l, conf->eif_path, err));
    EV_TRY(choose(q, conf, err));
    EV_TRY(start_attempt(q, kvm, err));
out:
    if (eif >= 0)
        close(eif);
    ev_image_info_fini(&info);
    if (rc < 0) {
        ev_err_wrap(err, "%s", kind.name);
        ev_launch_close(&q->l);
        return rc;
    }
    *out = &q->l;
    return 0;
}
