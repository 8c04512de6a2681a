/* process.c — child processes of the loop. See loop.h.
 *
 *     start ──▶ running ──▶ exited callback ──▶ ev_process_close
 *                   └── ev_process_close: forgotten; we still collect it, so no zombie is left
 *
 * A forgotten child neither keeps the loop alive nor counts as an open handle. */
#include "net/rt_internal.h"

#include <signal.h>

struct ev_process {
    uv_process_t h;
    struct ev_rt *rt;
    void (*exited)(void *, int status, int signum);
    void *ctx;
    bool ended, closed;
    struct ev_process *prev, *next;     /* in rt->forgotten */
};

static void freed(uv_handle_t *h)
{
    struct ev_process *p = h->data;

    ev_free(p);
}

static void closed_cb(uv_handle_t *h)
{
    struct ev_process *p = h->data;

    ev_rt_closed(p->rt);
    ev_free(p);
}

static void unlink_forgotten(struct ev_process *p)
{
    if (p->prev)
        p->prev->next = p->next;
    else
        p->rt->forgotten = p->next;
    if (p->next)
        p->next->prev = p->prev;
}

static void exit_cb(uv_process_t *h, int64_t status, int signum)
{
    struct ev_process *p = h->data;

    p->ended = true;
    if (p->closed) {
        unlink_forgotten(p);
        uv_close((uv_handle_t *)h, freed);
        return;
    }
    if (p->exited)
        p->exited(p->ctx, (int)status, signum);
}

static uv_stdio_container_t stdio_of(int fd)
{
    uv_stdio_container_t c = { .flags = UV_IGNORE };        /* libuv opens /dev/null for 0, 1, 2 */

    if (fd >= 0) {
        c.flags = UV_INHERIT_FD;
        c.data.fd = fd;
    }
    return c;
}

int ev_process_start(struct ev_rt *rt, const struct ev_process_conf *conf,
                     void (*exited)(void *, int status, int signum), void *ctx,
                     struct ev_process **out, struct ev_err *err)
{
    struct ev_process *p = ev_alloc(sizeof *p);
    uv_stdio_container_t io[3] = { stdio_of(conf->fd_in), stdio_of(conf->fd_out), stdio_of(conf->fd_err) };
    uv_process_options_t o = { .exit_cb = exit_cb, .file = conf->argv[0], .stdio = io, .stdio_count = 3 };
    int rc;

    o.args = (char **)(uintptr_t)conf->argv;        /* libuv does not write to them */
    o.env = (char **)(uintptr_t)conf->env;
    o.cwd = conf->cwd;
    o.flags = conf->new_session ? UV_PROCESS_DETACHED : 0;
    p->rt = rt;
    p->exited = exited;
    p->ctx = ctx;
    p->h.data = p;
    ev_rt_opened(rt);
    rc = uv_spawn(&rt->uv, &p->h, &o);
    if (rc < 0) {
        uv_close((uv_handle_t *)&p->h, closed_cb);
        return ev_fail(err, rc, "start %s: %s", conf->argv[0], uv_strerror(rc));
    }
    *out = p;
    return 0;
}

int ev_process_pid(const struct ev_process *p)
{
    return uv_process_get_pid(&p->h);
}

void ev_process_kill(struct ev_process *p, int signum)
{
    if (p && !p->ended)
        uv_process_kill(&p->h, signum);
}

void ev_process_close(struct ev_process *p)
{
    if (!p || p->closed)
        return;
    p->closed = true;
    if (p->ended) {
        uv_close((uv_handle_t *)&p->h, closed_cb);
        return;
    }
    ev_rt_closed(p->rt);
    uv_unref((uv_handle_t *)&p->h);
    p->next = p->rt->forgotten;
    if (p->next)
        p->next->prev = p;
    p->rt->forgotten = p;
}

/* At the loop's end. */
void ev_process_forget_all(struct ev_rt *rt)
{
    while (rt->forgotten) {
        struct ev_process *p = rt->forgotten;

        unlink_forgotten(p);
        uv_close((uv_handle_t *)&p->h, freed);
    }
}
