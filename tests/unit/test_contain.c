/* test_contain.c — the containment of the app (jail, sandbox, appinit, supervise) without an image:
 * a user namespace with a root in RAM stands for the enclave, this program is PID 1 there, the app's
 * init (executed afresh, as in the enclave) and the hostile app (tests/lib/probe.h). */
#include "role/init.h"
#include "role/mounts.h"
#include "role/rootfs.h"
#include "role/sandbox.h"
#include "role/supervise.h"

#include "probe.h"
#include "selffiles.h"
#include "tap.h"

#include <poll.h>

#include "base/file.h"

enum { OUT_MAX = 1 << 20, LIMIT_S = 60 };

/* --- the stand-in for an enclave's root --------------------------------------------------------- */

static void copy_to(int root, const char *from, const char *to)
{
    struct ev_buf data = EV_BUF_INIT(256 << 20);
    char dir[512];
    int parent, fd;

    snprintf(dir, sizeof(dir), "%s", to);
    *strrchr(dir, '/') = 0;
    if ((parent = ev_root_mkdir_p(root, dir[0] ? dir : "/", NULL)) < 0)
        return;
    close(parent);
    fd = ev_root_open(root, to, O_WRONLY | O_CREAT | O_EXCL, 0755, EV_ROOT_FOLLOW);
    if (fd >= 0 && ev_file_read(from, &data, NULL) == 0 && ev_write_all(fd, data.p, data.n) < 0)
        fprintf(stderr, "copy %s\n", from);
    if (fd >= 0)
        close(fd);
    ev_buf_fini(&data);
}

static void copy_lib(void *ctx, const char *path)
{
    char to[512];

    copy_to(*(int *)ctx, path, path);
    snprintf(to, sizeof(to), "/rootfs%s", path);
    copy_to(*(int *)ctx, path, to);
}

static int make_root(const char *conf, const char *break_it)
{
    static const struct ev_mount_option opt[] = { { "mode", "0755" }, { NULL, NULL } };
    int top = open("/", O_PATH | O_DIRECTORY), root, dev, fd;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || (root = ev_mount_new("tmpfs", opt, 0, NULL)) < 0 ||
        ev_mount_attach(root, top, "/", NULL) < 0)
        return -1;
    copy_to(root, "/proc/self/exe", "/init");
    copy_to(root, "/proc/self/exe", "/rootfs/bin/probe");
    self_files(copy_lib, &root);
    if ((fd = ev_root_open(root, "/rootfs/bin/script", O_WRONLY | O_CREAT, 0755, EV_ROOT_FOLLOW)) < 0 ||
        write(fd, "#!/proc/self/exe --exe\n", 23) != 23 || fchmod(fd, 0755) < 0 || close(fd) < 0)
        return -1;
    if ((fd = ev_root_mkdir_p(root, "/cage", NULL)) < 0 ||
        ev_root_write(fd, "config.json", ev_slice_str(conf), NULL) < 0)
        return -1;
    close(fd);
    for (const char *d = "/rootfs/tmp\0/rootfs/etc\0/rootfs/run\0"; *d; d += strlen(d) + 1)
        close(ev_root_mkdir_p(root, d, NULL));
    if (break_it) {                                 /* a link in place of a mount point */
        unlinkat(root, break_it, AT_REMOVEDIR);
        if (symlinkat("/cage", root, break_it) < 0)
            return -1;
    }
    if ((dev = ev_mount_on(root, "dev", "tmpfs", opt, 0, NULL)) < 0 || ev_mount_nodes(dev, NULL) < 0 ||
        ev_mount_on(root, "proc", "proc", NULL, 0, NULL) < 0 || ev_mount_on(root, "sys", "sysfs", NULL, 0, NULL) < 0)
        return -1;
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -1;
    return 0;
}

struct ended { struct ev_rt *rt; int code, signum; };

static void exited(void *ctx, int code, int signum)
{
    struct ended *e = ctx;

    e->code = code;
    e->signum = signum;
    ev_rt_stop(e->rt);
}

static void send_term(void *ctx)
{
    ev_app_stop(ctx);
}

/* As PID 1 of the namespaces; prints "prepare: …", "start: …" or "end: code signal" on `out`. */
static void play_enclave(const char *conf, const char *break_it, int out, bool stop)
{
    struct ev_err err = EV_ERR_INIT;
    struct ended e = { NULL, -1, -1 };
    struct ev_app *app = NULL;
    struct ev_timer *timer = NULL;

    if (make_root(conf, break_it) < 0) {
        dprintf(out, "root: %s\n", strerror(errno));
        _exit(1);
    }
    if (ev_init_mounts(&err) < 0 || ev_init_loopback(&err) < 0)
        dprintf(out, "init: %s\n", err.msg), _exit(1);
    if (ev_app_prepare(out, &app, &err) < 0)
        dprintf(out, "prepare: %s\n", err.msg), _exit(1);
    if (ev_rt_new(&e.rt, &err) < 0 || ev_app_start(app, e.rt, exited, &e, &err) < 0)
        dprintf(out, "start: %s\n", err.msg), _exit(1);
    if (stop)
        timer = ev_timer_start(e.rt, 300, false, send_term, app);
    ev_rt_run(e.rt);
    ev_timer_stop(timer);
    ev_app_close(app);
    dprintf(out, "end: %d %d\n", e.code, e.signum);
    _exit(0);
}

static void write_map(int pid, const char *file, const char *text)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* Runs it all in new namespaces; what was printed on `out`. NULL: no namespaces here. */
static const char *run(const char *conf, const char *break_it, bool stop)
{
    static char text[OUT_MAX];
    int out[2], go[2], pid, n = 0;
    char map[64], byte = 'g';
    ssize_t r;

    if (pipe(out) < 0 || pipe(go) < 0)
        return NULL;
    pid = (int)syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                       CLONE_NEWUTS | CLONE_NEWCGROUP, 0, 0, 0, 0);
    if (pid == 0) {
        close(out[0]);
        close(go[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(go[0], &byte, 1) == 1)
            play_enclave(conf, break_it, out[1], stop);
        _exit(1);
    }
    close(out[1]);
    close(go[0]);
    if (pid > 0) {
        write_map(pid, "setgroups", "deny");
        snprintf(map, sizeof(map), "0 %u 1", (unsigned)geteuid());
        write_map(pid, "uid_map", map);
        snprintf(map, sizeof(map), "0 %u 1", (unsigned)getegid());
        write_map(pid, "gid_map", map);
        if (write(go[1], &byte, 1) != 1)
            kill(pid, SIGKILL);
    }
    while (n < OUT_MAX - 1) {
        struct pollfd p = { out[0], POLLIN, 0 };

        if (poll(&p, 1, LIMIT_S * 1000) <= 0 || (r = read(out[0], text + n, (size_t)(OUT_MAX - 1 - n))) <= 0)
            break;
        n += (int)r;
    }
    text[n] = 0;
    close(out[0]);
    close(go[1]);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return pid > 0 ? text : NULL;
}

#define CONF(argv, workdir, user, env) \
    "{\"api_key_auth\":false,\"app\":{\"argv\":" argv ",\"env\":" env ",\"user\":\"" user "\"," \
    "\"workdir\":\"" workdir "\"},\"app_uuid\":\"a\",\"debug\":true,\"healthcheck\":null,\"hosts\":[\"h\"]," \
    "\"key_digests\":[],\"name\":\"probe-cage\",\"port\":8008,\"team_uuid\":\"t\"," \
    "\"tls_termination\":true,\"uuid\":\"u\",\"version\":1}"

#define EXIT_7 "[\"/bin/probe\",\"--exit\",\"7\"]"

/* --- tests --------------------------------------------------------------------------------------- */

/* The probe's own TAP lines become ours. */
static void test_probe(void)
{
    const char *out = run(CONF("[\"probe\",\"--probe\"]", "/work/deep", "", "[\"PATH=/nowhere:/bin\",\"A=b c\"]"), NULL,
                          false);
    int n = 0;

    if (!out) {
        SKIP(1, "this kernel allows no user namespaces");
        return;
    }
    for (const char *line = out; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        int len = (int)strcspn(line, "\n");

        if (strncmp(line, "ok ", 3) == 0 || strncmp(line, "not ok ", 7) == 0) {
            n++;
            OK(line[0] == 'o', "%.*s", len - (int)(strstr(line, "probe:") - line), strstr(line, "probe:"));
        }
    }
    if (!OK(n > 90 && strstr(out, "\n1.."), "the probe ran to its end: %d checks", n))
        printf("# %s\n", out);
    OK(strstr(out, "cwd=/work/deep\n"), "WORKDIR was made and entered");
    OK(strstr(out, "env=PATH=/nowhere:/bin\nenv=A=b c\nenv=HOME=/\nenv.\n"), "environment: the image's and HOME");
    OK(strstr(out, "end: 0 0\n"), "exit code 0 arrives");
}

static void expect_line(const char *conf, const char *break_it, bool stop, const char *want, const char *what)
{
    const char *out = run(conf, break_it, stop);

    if (!out)
        SKIP(1, "this kernel allows no user namespaces");
    else if (!OK(strstr(out, want), "%s", what))
        printf("# got: %s\n", out);
}

static void test_ends(void)
{
    expect_line(CONF("[\"/bin/probe\",\"--exit\",\"7\"]", "/", "", "[]"), NULL, false, "end: 7 0", "exit code 7");
    expect_line(CONF("[\"/bin/probe\",\"--abort\"]", "/", "", "[]"), NULL, false, "end: 134 6", "death by a signal");
    expect_line(CONF("[\"/bin/probe\",\"--sleep\"]", "/", "", "[]"), NULL, true, "end: 143 15",
                "SIGTERM reaches an app without any signal set-up");
    expect_line(CONF("[\"/bin/probe\",\"--orphan\"]", "/", "", "[]"), NULL, false, "end: 3 0", "orphans are reaped");
    expect_line(CONF("[\"missing\"]", "/", "", "[]"), NULL, false, "start: start missing: No such file",
                "a program that is not there");
    expect_line(CONF("[\"/proc/self/exe\",\"--exit\",\"0\"]", "/", "", "[]"), NULL, false,
                "start: start /proc/self/exe", "the runtime's own file through a magic link is no program");
    expect_line(CONF("[\"/bin/script\"]", "/", "", "[]"), NULL, false, "exe: Read-only file system\nend: 11 0",
                "a script whose interpreter is that file cannot write it");
    expect_line(CONF("[\"/etc\"]", "/", "", "[]"), NULL, false, "start: start /etc: Permission denied", "a folder");
    expect_line(CONF("[\"probe\"]", "/", "nobody", "[]"), NULL, false, "prepare: USER: \"nobody\" is not in",
                "USER that is not there");
    expect_line(CONF("[\"probe\"]", "/", "1000", "[]"), NULL, false, "start: USER: this id does not exist",
                "USER in a namespace of one id");
    expect_line("{}", NULL, false, "prepare: cage/config.json", "no usable configuration");
}

static void test_links(void)
{
    static const char *const places[] = { "rootfs/dev", "rootfs/proc", "rootfs/sys", "rootfs/etc" };

    for (size_t i = 0; i < EV_COUNT(places); i++)
        expect_line(CONF("[\"probe\"]", "/", "", "[]"), places[i], false, "is not a real directory", places[i]);
    /* Not mount points of ours: the app sees its own image's link, which leads nowhere. */
    expect_line(CONF(EXIT_7, "/", "", "[]"), "rootfs/tmp", false, "end: 7 0", "rootfs/tmp");
    expect_line(CONF(EXIT_7, "/", "", "[]"), "rootfs/run", false, "end: 7 0", "rootfs/run");
    expect_line(CONF(EXIT_7, "/tmp/x", "", "[]"), "rootfs/tmp", false, "image: folder /tmp/x",
                "WORKDIR through a link that leads out");
}

/* --- as the app ----------------------------------------------------------------------------------- */

extern char **environ;

static int app_main(int argc, char **argv)
{
    char cwd[256];

    if (argc > 1 && strcmp(argv[1], "--exit") == 0)
        return atoi(argv[2]);
    if (argc > 1 && strcmp(argv[1], "--exe") == 0) {
        int fd = open("/proc/self/exe", O_WRONLY | O_TRUNC);    /* ETXTBSY alone would not do: 6.12 lacks it */

        printf("exe: %s\n", fd < 0 ? strerror(errno) : "WRITABLE");
        return 11;
    }
    if (argc > 1 && strcmp(argv[1], "--abort") == 0)
        abort();
    if (argc > 1 && strcmp(argv[1], "--sleep") == 0) {
        sleep(30);
        return 9;
    }
    if (argc > 1 && strcmp(argv[1], "--orphan") == 0) {
        char state[4096] = "";

        for (int i = 0; i < 20; i++)
            if (fork() == 0) {
                if (fork() == 0)
                    usleep(1000), _exit(0);
                _exit(0);
            }
        while (wait(NULL) > 0)
            ;
        usleep(300000);
        for (int pid = 3; pid < 60; pid++) {
            snprintf(state, sizeof(state), "/proc/%d/status", pid);
            if (access(state, F_OK) == 0)
                return 4;                           /* somebody was left as a zombie */
        }
        return 3;
    }
    printf("cwd=%s\n", getcwd(cwd, sizeof(cwd)));
    for (char **e = environ; *e; e++)
        printf("env=%s\n", *e);
    printf("env.\n");
    return probe_main();
}

/* Not exit: the leak checker would want to trace, which the cage forbids. */
static void leave(int code)
{
    fflush(stdout);
    _exit(code);
}

/* /init of a kernel of its own (tests/flow/long_kernel.sh): no user namespace, a real root. */
static void play_kernel(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct ended e = { NULL, -1, -1 };
    struct ev_app *app = NULL;
    int rc = ev_init_mounts(&err);

    ev_init_console();
    EV_TRY(rc);
    EV_TRY(ev_init_limits(&err));
    EV_TRY(ev_init_loopback(&err));
    EV_TRY(ev_init_xattrs(&err));
    EV_TRY(ev_app_prepare(STDOUT_FILENO, &app, &err));
    EV_TRY(ev_rt_new(&e.rt, &err));
    EV_TRY(ev_app_start(app, e.rt, exited, &e, &err));
    ev_rt_run(e.rt);
    ev_app_close(app);
out:
    ev_init_say("end of the test: %d %d %s", e.code, e.signum, err.msg);
    ev_init_end(0, 0, "done");
}

int main(int argc, char **argv)
{
    if (argc == 2 && getpid() == 1 && strcmp(argv[1], "app") == 0)
        ev_appinit_main();
    if (getpid() == 1 && strcmp(argv[0], "/init") == 0)
        play_kernel();
    if (argc > 1)
        leave(app_main(argc, argv));
    test_probe();
    test_ends();
    test_links();
    return tap_done();
}
