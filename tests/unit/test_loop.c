/* test_loop.c — timers, signals, descriptors, work, deferred calls, processes; closing each of them
 * at every moment leaves nothing open. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/log.h"
#include "net.h"

static struct ev_rt *rt;

struct count {
    int n, at_stop;
    struct ev_timer *t;
    int last, last2;
    pthread_t thread;
};

static void bump(void *ctx)
{
    ((struct count *)ctx)->n++;
}

static void stop_self(void *ctx)
{
    struct count *c = ctx;

    if (++c->n == 3)
        ev_timer_stop(c->t);
    c->at_stop = c->n >= 3;
}

static void timers(void)
{
    struct count once = { 0 }, many = { 0 }, never = { 0 };
    struct ev_timer *a = ev_timer_start(rt, 0, false, bump, &once);
    struct ev_timer *b = ev_timer_start(rt, 1, false, bump, &never);
    uint64_t before = ev_rt_now_ms(rt);

    EQ_INT(once.n, 0, "a timer does not fire inside start");
    many.t = ev_timer_start(rt, 5, true, stop_self, &many);
    ev_timer_stop(b);
    OK(turn_until(rt, &many.at_stop), "a repeating timer fires and stops itself");
    OK(ev_rt_now_ms(rt) - before >= 15, "three times 5 ms take 15 ms");
    EQ_INT(once.n, 1, "a single timer fires once");
    EQ_INT(never.n, 0, "a stopped timer does not fire");
    ev_timer_stop(a);
    ev_timer_stop(NULL);
    expect_closed(rt, "timers: open handles");
}

static void on_signal(void *ctx, int signum)
{
    struct count *c = ctx;

    c->n++;
    c->last = signum;
}

static void signals(void)
{
    struct count c = { 0 };
    struct ev_signal *s = ev_signal_start(rt, SIGUSR1, on_signal, &c);

    raise(SIGUSR1);
    EQ_INT(c.n, 0, "a signal waits for the loop");
    OK(turn_until(rt, &c.n), "a signal arrives");
    EQ_INT(c.last, SIGUSR1, "its number");
    ev_signal_stop(s);
    ev_signal_stop(NULL);
    OK(ev_signal_start(rt, SIGKILL, on_signal, &c) == NULL, "SIGKILL cannot be watched");
    expect_closed(rt, "signals: open handles");
}

static void on_ready(void *ctx, int events)
{
    struct count *c = ctx;

    c->n++;
    c->last |= events;
}

static void watches(void)
{
    struct count r = { 0 }, w = { 0 };
    struct ev_watch *a, *b;
    int fd[2], file = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
        abort();
    a = ev_watch_start(rt, fd[0], EV_READABLE, on_ready, &r);
    b = ev_watch_start(rt, fd[1], EV_WRITABLE, on_ready, &w);
    OK(turn_until(rt, &w.n), "an empty pipe is writable");
    EQ_INT(w.last, EV_WRITABLE, "and says so");
    EQ_INT(r.n, 0, "and not readable");
    ev_watch_stop(b);
    if (write(fd[1], "x", 1) != 1)
        abort();
    OK(turn_until(rt, &r.n), "readable after a write");
    ev_watch_stop(a);
    ev_watch_stop(NULL);
    OK(ev_watch_start(rt, 9999, EV_READABLE, on_ready, &r) == NULL, "a closed descriptor cannot be watched");
    close(fd[0]);
    w.n = 0;
    b = ev_watch_start(rt, fd[1], EV_WRITABLE, on_ready, &w);
    turn_for(rt, 20);
    OK(w.n >= 3, "a broken pipe goes on being reported (%d)", w.n);
    ev_watch_stop(b);
    close(fd[1]);
    close(file);
    expect_closed(rt, "watches: open handles");
}

static void work_here(void *ctx)
{
    struct count *c = ctx;

    c->thread = pthread_self();
    c->last = 1;
}

static void work_end(void *ctx)
{
    struct count *c = ctx;

    c->n++;
    c->last2 = pthread_equal(c->thread, pthread_self());
}

struct chain { int n, depth_at_first; };

static void chained(void *ctx)
{
    struct chain *c = ctx;

    if (++c->n < 3)
        ev_defer(rt, chained, c);
    if (c->n == 1)
        c->depth_at_first = 1;
}

static void work_and_defer(void)
{
    struct count c = { 0 };
    struct chain ch = { 0 };

    ev_work_start(rt, work_here, work_end, &c);
    EQ_INT(ev_rt_open_handles(rt), 1, "work counts as open");
    OK(turn_until(rt, &c.n), "work ends on the loop");
    EQ_INT(c.last, 1, "work ran");
    EQ_INT(c.last2, 0, "on another thread");
    ev_defer(rt, chained, &ch);
    EQ_INT(ch.n, 0, "a deferred call waits");
    ev_rt_run_once(rt);
    EQ_INT(ch.n, 1, "one turn runs it, and not what it deferred itself");
    ev_rt_run(rt);
    EQ_INT(ch.n, 3, "run goes on until nothing is left");
    expect_closed(rt, "work: open handles");
}

struct proc { int ended, status, signum; struct ev_process *p; };

static void on_exit_cb(void *ctx, int status, int signum)
{
    struct proc *x = ctx;

    x->ended = 1;
    x->status = status;
    x->signum = signum;
}

static int start(struct proc *x, const char *const *argv, int out, const char *const *env, const char *cwd,
                 bool session)
{
    struct ev_process_conf conf = { argv, env, cwd, -1, out, -1, session };

    memset(x, 0, sizeof *x);
    return ev_process_start(rt, &conf, on_exit_cb, x, &x->p, NULL);
}

static void output_of(const char *script, const char *const *env, const char *cwd, const char *want)
{
    const char *argv[] = { "sh", "-c", script, NULL };
    struct proc x;
    char got[256] = "";
    int fd[2];
    ssize_t n;

    if (pipe2(fd, O_CLOEXEC) < 0)
        abort();
    if (!OK(start(&x, argv, fd[1], env, cwd, false) == 0, "start: %s", script))
        return;
    close(fd[1]);
    OK(turn_until(rt, &x.ended), "it ends");
    n = read(fd[0], got, sizeof got - 1);
    got[n > 0 ? n : 0] = 0;
    OK(strcmp(got, want) == 0, "%s", script);
    ev_process_close(x.p);
    close(fd[0]);
}

static void processes(void)
{
    static const char *const seven[] = { "sh", "-c", "exit 7", NULL }, *const sleeper[] = { "sleep", "600", NULL };
    static const char *const missing[] = { "ev-no-such-program", NULL };
    static const char *const env[] = { "A=1", "PATH=/usr/bin:/bin", NULL };
    struct proc x;
    int pid;

    OK(start(&x, seven, -1, NULL, NULL, false) == 0, "start");
    EQ_INT(x.ended, 0, "exit is never reported inside start");
    OK(turn_until(rt, &x.ended), "a process ends");
    EQ_INT(x.status, 7, "its status");
    ev_process_close(x.p);
    EQ_INT(start(&x, missing, -1, NULL, NULL, false), -ENOENT, "a missing program");
    EQ_INT(start(&x, seven, -1, NULL, "/no/such/folder", false), -ENOENT, "a missing folder");
    OK(start(&x, sleeper, -1, NULL, NULL, true) == 0, "start in a new session");
    EQ_INT(getsid(ev_process_pid(x.p)), ev_process_pid(x.p), "it leads its session");
    ev_process_kill(x.p, SIGTERM);
    OK(turn_until(rt, &x.ended), "killed");
    EQ_INT(x.signum, SIGTERM, "by that signal");
    ev_process_kill(x.p, SIGTERM);
    ev_process_close(x.p);
    ev_process_close(NULL);
    output_of("echo $A$B", env, NULL, "1\n");
    output_of("pwd", NULL, "/", "/\n");
    output_of("cat; for f in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$f ] && echo $f; done; echo end", NULL, NULL,
              "end\n");
    OK(start(&x, sleeper, -1, NULL, NULL, false) == 0, "start one to forget");
    pid = ev_process_pid(x.p);
    ev_process_close(x.p);
    expect_closed(rt, "a forgotten process is no open handle");
    kill(pid, SIGKILL);
    for (int i = 0; i < 200 && kill(pid, 0) == 0; i++)
        turn_for(rt, 10);
    OK(kill(pid, 0) < 0, "it is collected all the same: no zombie");
    EQ_INT(x.ended, 0, "and its owner hears nothing");
    expect_closed(rt, "processes: open handles");
}

static void freed_early(void)
{
    static const char *const sleeper[] = { "sleep", "600", NULL };
    struct count c = { 0 };
    struct ev_rt *main_rt = rt;
    struct proc x;
    int pid;

    EQ_INT(ev_rt_new(&rt, NULL), 0, "a second loop");
    ev_defer(rt, bump, &c);
    OK(start(&x, sleeper, -1, NULL, NULL, false) == 0, "with a process");
    pid = ev_process_pid(x.p);
    ev_process_close(x.p);
    ev_rt_free(rt);
    EQ_INT(c.n, 0, "a deferred call is dropped with its loop");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    rt = main_rt;
    ev_rt_free(NULL);
}

int main(void)
{
    int log[2];
    char c;

    close_range(3, ~0U, 0);             /* what our own parent left open would reach the children */
    if (ev_rt_new(&rt, NULL) < 0)
        return 1;
    timers();
    signals();
    watches();
    work_and_defer();
    processes();
    freed_early();
    if (pipe2(log, O_CLOEXEC | O_NONBLOCK) < 0)
        abort();
    ev_log_set_fd(log[1]);
    ev_rt_free(rt);
    EQ_INT(read(log[0], &c, 1), -1, "a loop with nothing left is freed without complaint");
    return tap_done();
}
