/* launch_sim.c — the launcher of the simulator (launch.h, launch_common.h, launch_sim.h): the image in
 * namespaces of this kernel. The NSM simulator and the development keys stay in this process; the
 * enclave has descriptors. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nitro/nsm.h"
#include "role/launch_common.h"
#include "role/launch_sim.h"

enum { END_MS = 15000 };

struct sim {
    struct ev_launch l;                             /* first (launch_common.h) */
    struct ev_twin *twin;
    struct ev_watch *nsm_watch;
    int nsm_fd;
};

static struct sim *sim_of(struct ev_launch *l) { return (struct sim *)l; }

static void nsm_ready(void *ctx, int events)
{
    struct sim *m = ctx;
    uint8_t request[EV_NSM_REQ_MAX + 1];
    struct ev_buf response = EV_BUF_INIT(EV_NSM_RESP_MAX);
    ssize_t n = recv(m->nsm_fd, request, sizeof(request), MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        ev_nsm_sim_handle(m->l.nsm, ev_slice_of(request, (size_t)n), &response);
        n = send(m->nsm_fd, response.p, response.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    ev_buf_fini(&response);
    if (n <= 0) {                                   /* the enclave is gone or does not read */
        ev_watch_stop(m->nsm_watch);
        m->nsm_watch = NULL;
    }
}

static const char *report(struct ev_launch *l) { return ev_twin_report(sim_of(l)->twin); }

static bool ended(struct ev_launch *l)
{
    ev_watch_stop(sim_of(l)->nsm_watch);
    sim_of(l)->nsm_watch = NULL;
    return false;
}

static void end(struct ev_launch *l)
{
    struct sim *m = sim_of(l);

    ev_watch_stop(m->nsm_watch);
    ev_twin_close(m->twin);
    if (m->nsm_fd >= 0)
        close(m->nsm_fd);
}

static const struct ev_launch_kind kind = { .name = "simulator", .end_ms = END_MS, .report = report, .ended = ended,
                                            .close = end };

/* --- start -------------------------------------------------------------------------------------- */

/* Inside, the image is read by nobody in particular; one that others may not read is copied into
 * memory for that. *fd becomes the copy's. */
static int readable_inside(int *fd, const struct stat *st, struct ev_err *err)
{
    ssize_t n = 1;
    int copy;

    if ((st->st_mode & S_IROTH) || geteuid() != 0)
        return 0;
    copy = memfd_create("eif", MFD_CLOEXEC);
    while (copy >= 0 && n > 0)
        n = sendfile(copy, *fd, NULL, 1 << 20);
    if (copy < 0 || n < 0) {
        n = ev_fail_errno(err, "copy the image");
        if (copy >= 0)
            close(copy);
        return (int)n;
    }
    close(*fd);
    *fd = copy;
    return 0;
}

static uint64_t root_bytes(const struct ev_image_info *info)
{
    enum { RAMDISK = 3 };
    uint64_t sum = 0;

    for (size_t i = 0; i < info->n_sections && i < EV_COUNT(info->section); i++)
        if (info->section[i].type == RAMDISK)
            sum += info->section[i].size;
    return sum * 4 + (UINT64_C(1) << 30);           /* unpacked (maybe compressed), and room for the app */
}

struct ends { int nsm[2], vsock[2], console[2], eif; };

static int make_ends(struct ends *e, struct ev_err *err)
{
    int rc = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->nsm) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->vsock) < 0 || pipe2(e->console, O_CLOEXEC) < 0 ||
        fcntl(e->console[0], F_SETFL, O_NONBLOCK) < 0)
        rc = ev_fail_errno(err, "descriptors of the enclave");
    return rc;
}

static void close_ends(struct ends *e)
{
    int all[] = { e->nsm[0], e->nsm[1], e->vsock[0], e->vsock[1], e->console[0], e->console[1], e->eif };

    for (size_t i = 0; i < EV_COUNT(all); i++)
        if (all[i] >= 0)
            close(all[i]);
}

static int take(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static void watch_all(struct sim *m, struct ends *e)
{
    struct ev_twin_conf twin = { .rt = m->l.rt, .dir = m->l.dir, .take_fd = take(&e->vsock[0]),
                                 .heartbeat = ev_launch_heartbeat, .ctx = &m->l };

    m->nsm_fd = take(&e->nsm[0]);
    m->twin = ev_twin_open(&twin);
    m->nsm_watch = ev_watch_start(m->l.rt, m->nsm_fd, EV_READABLE, nsm_ready, m);
}

static int spawn(struct sim *m, int take_eif, uint64_t bytes, struct ev_err *err)
{
    struct ends e = { { -1, -1 }, { -1, -1 }, { -1, -1 }, take_eif };
    struct ev_sim_spawn s;
    int pid, rc;

    EV_TRY(make_ends(&e, err));
    s = (struct ev_sim_spawn){ .console = e.console[1], .nsm = e.nsm[1], .vsock = e.vsock[1], .eif = e.eif,
                               .root_bytes = bytes };
    EV_TRY(pid = ev_sim_spawn(&s, err));
    EV_TRY(ev_launch_watch(&m->l, pid, take(&e.console[0]), err));
    watch_all(m, &e);
out:
    close_ends(&e);
    return rc < 0 ? rc : 0;
}

int ev_launch_sim(const struct ev_launch_conf *conf, struct ev_launch **out, struct ev_err *err)
{
    struct sim *m = ev_alloc(sizeof(*m));
    struct ev_image_info info;
    int eif = -1, rc;

    memset(&info, 0, sizeof(info));
    m->nsm_fd = -1;
    EV_TRY(eif = ev_launch_open(&m->l, &kind, conf, &info, err));
    EV_TRY(readable_inside(&eif, &m->l.image, err));
    EV_TRY(ev_launch_unchanged(&m->l, conf->eif_path, err));
    EV_TRY(ev_launch_nsm(conf, &info, &m->l.nsm, err));
    EV_TRY(spawn(m, take(&eif), root_bytes(&info), err));
out:
    if (eif >= 0)
        close(eif);
    ev_image_info_fini(&info);
    if (rc < 0) {
        ev_err_wrap(err, "%s", kind.name);
        ev_launch_close(&m->l);
        return rc;
    }
    *out = &m->l;
    return 0;
}
