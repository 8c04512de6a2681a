/* test_launch.c — the simulator from end to end, without the CLI: an image is built, launched,
 * answers over TLS with its attestation verified, and ends. This program is everything in it: the
 * test, /init of ramdisk 1 and the app of ramdisk 2. */
#include "role/launch.h"

#include "net/tls.h"
#include "nitro/image.h"
#include "nitro/nsm_sim.h"
#include "nitro/ramdisk.h"
#include "role/enclave.h"

#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>

#include "attested.h"
#include "image_fixture.h"
#include "probe.h"
#include "selffiles.h"
#include "tap.h"

enum { PATHS = 128, TEXT_MAX = 1 << 20, LIMIT_MS = 60000 };

static uint64_t boot_ms = 50000;
static char work[] = "/tmp/ev-launch-XXXXXX";

/* --- the image ------------------------------------------------------------------------------------ */

struct paths { char *path[PATHS]; size_t n; };      /* absolute, each once, folders before their files */

static void add_path(struct paths *p, const char *path)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->path[i], path) == 0)
            return;
    if (p->n < PATHS)
        p->path[p->n++] = ev_strdup(path);
}

static void add_file(void *ctx, const char *path)
{
    char dir[512];

    for (const char *s = strchr(path + 1, '/'); s; s = strchr(s + 1, '/')) {
        snprintf(dir, sizeof(dir), "%.*s", (int)(s - path), path);
        add_path(ctx, dir);
    }
    add_path(ctx, path);
}

static bool is_dir(const struct paths *p, size_t i)
{
    size_t n = strlen(p->path[i]);

    for (size_t k = 0; k < p->n; k++)
        if (strncmp(p->path[k], p->path[i], n) == 0 && p->path[k][n] == '/')
            return true;
    return false;
}

static const char *in_work(const char *name)
{
    static char path[4][512];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", work, name);
    return path[turn];
}

static void make_runtime(const struct paths *p)
{
    static const char *const dirs[] = { "dev", "proc", "sys", "run", "tmp" };
    struct ev_ramdisk_entry e[PATHS + 8];
    size_t n = 0;

    e[n++] = (struct ev_ramdisk_entry){ "init", S_IFREG | 0755, "/proc/self/exe" };
    for (size_t i = 0; i < EV_COUNT(dirs); i++)
        e[n++] = (struct ev_ramdisk_entry){ dirs[i], S_IFDIR | 0755, NULL };
    for (size_t i = 0; i < p->n; i++)
        e[n++] = (struct ev_ramdisk_entry){ p->path[i] + 1, (is_dir(p, i) ? S_IFDIR : S_IFREG) | 0755, p->path[i] };
    MUST(ev_ramdisk_write(in_work("runtime.cpio"), e, n, NULL));
}

static void put_file(struct ev_buf *layer, const char *name, const char *from)
{
    struct ev_buf data = EV_BUF_INIT(256 << 20);

    MUST(ev_file_read(from, &data, NULL));
    tar_raw(layer, name, '0', NULL, 0755, 0, 0, data.n, 0, 0);
    tar_body(layer, data.p, data.n);
    ev_buf_fini(&data);
}

#define PASSWD "root:x:0:0::/root:/x\nnode:x:1000:1001::/home/node:/x\n"

/* links: an image that tries to be the runtime's neighbour. /etc, /dev ... as links are refused by
 * the build already; that PID 1 refuses them too is test_contain.c's. */
static void make_source(const struct paths *p, const char *name, bool links)
{
    struct ev_buf layer = EV_BUF_INIT(1 << 30);

    for (size_t i = 0; i < p->n; i++)
        if (is_dir(p, i))
            tar_raw(&layer, p->path[i] + 1, '5', NULL, 0755, 0, 0, 0, 0, 0);
        else
            put_file(&layer, p->path[i] + 1, p->path[i]);
    put_file(&layer, "bin/probe", "/proc/self/exe");
    if (links) {
        tar_put(&layer, &(struct tar_entry){ .name = "work", .type = '2', .link = "/../../cage" });
        tar_put(&layer, &(struct tar_entry){ .name = "init", .data = "#!/bin/sh\n", .mode = 0755 });
        tar_put(&layer, &(struct tar_entry){ .name = "cage", .type = '2', .link = "/cage" });
        tar_put(&layer, &(struct tar_entry){ .name = "rootfs", .type = '2', .link = "../../.." });
    }
    tar_put(&layer, &(struct tar_entry){ .name = "etc/passwd", .data = PASSWD });
    tar_put(&layer, &(struct tar_entry){ .name = "etc/group", .data = "video:x:44:node\n" });
    tar_end(&layer);
    docker_save(in_work(name), &layer, 1, "{\"Cmd\":[\"/bin/probe\"]}");
    ev_buf_fini(&layer);
}

static void make_inputs(void)
{
    struct paths p = { { NULL }, 0 };

    self_files(add_file, &p);
    make_runtime(&p);
    make_source(&p, "app.tar", false);
    make_source(&p, "links.tar", true);
    MUST(ev_file_write(in_work("kernel"), EV_LIT("not a kernel, but measured all the same"), 0644, NULL));
    for (size_t i = 0; i < p.n; i++)
        ev_free(p.path[i]);
}

#define METADATA \
    "{\"ImageName\":\"hello\",\"ImageVersion\":\"1.0\",\"BuildMetadata\":{" \
    "\"BuildTime\":\"1970-01-01T00:00:00+00:00\"," \
    "\"BuildTool\":\"test\",\"BuildToolVersion\":\"1\",\"OperatingSystem\":\"Linux\",\"KernelVersion\":\"6.12\"}," \
    "\"DockerInfo\":null,\"CustomMetadata\":null}"

static struct ev_pcrs pcrs;

static const char *source = "app.tar";

static void build(const char *eif, const char *argv, const char *user, bool debug)
{
    struct ev_buf conf = EV_BUF_INIT(65536);
    struct ev_image_result result;
    struct ev_image_file file = { "config.json", { NULL, 0 } };
    struct ev_image_build b = { .kernel = ev_strdup(in_work("kernel")), .cmdline = "console=ttyS0",
                                .runtime = ev_strdup(in_work("runtime.cpio")), .source = ev_strdup(in_work(source)),
                                .cage = &file, .n_cage = 1, .metadata_json = METADATA,
                                .output = ev_strdup(in_work(eif)) };
    struct ev_err err = EV_ERR_INIT;

    MUST(ev_buf_printf(&conf, "{\"api_key_auth\":false,\"app\":{\"argv\":%s,\"env\":[],\"user\":\"%s\","
                       "\"workdir\":\"/\"},\"app_uuid\":\"app_1\",\"debug\":%s,\"healthcheck\":null,"
                       "\"hosts\":[\"hello.app_1.cages.localhost\",\"hello.app-1.cages.localhost\"],"
                       "\"key_digests\":[],\"name\":\"hello\",\"port\":8008,\"team_uuid\":\"t\","
                       "\"tls_termination\":true,\"uuid\":\"u\",\"version\":1}", argv, user, debug ? "true" : "false"));
    file.data = ev_buf_slice(&conf);
    if (ev_image_build(&b, NULL, &result, &err) < 0)
        fprintf(stderr, "build: %s\n", err.msg), abort();
    pcrs = result.pcrs;
    ev_buf_fini(&conf);
    ev_free((char *)(uintptr_t)b.kernel);
    ev_free((char *)(uintptr_t)b.runtime);
    ev_free((char *)(uintptr_t)b.source);
    ev_free((char *)(uintptr_t)b.output);
}

/* --- one run ----------------------------------------------------------------------------------------- */

struct run {
    struct ev_rt *rt;
    struct ev_launch *l;
    struct ev_cert *root;
    struct ev_key *root_key;
    struct ev_timer *limit;
    struct ev_watch *console;
    int pipe[2];
    bool booted, exited, ask, stop_at_boot;
    int code, signum;
    char why[512], text[TEXT_MAX], answer[4096], verdict[256];
    size_t n_text, n_answer;
    struct ev_stream *stream;
};

static void data(void *ctx, ev_slice b)
{
    struct run *r = ctx;

    if (r->n_answer + b.n < sizeof(r->answer))
        memcpy(r->answer + r->n_answer, b.p, b.n), r->n_answer += b.n;
    if (strstr(r->answer, "hello from"))
        ev_launch_signal(r->l, SIGTERM);
}

static void fail(void *ctx, const struct ev_err *err)
{
    struct run *r = ctx;

    snprintf(r->answer, sizeof(r->answer), "failed: %s", err->msg);
    ev_launch_signal(r->l, SIGTERM);
}

static void eof(void *ctx)
{
    ev_launch_signal(((struct run *)ctx)->l, SIGTERM);
}

static const struct ev_stream_cb stream_cb = { data, eof, fail, NULL };

static void tls_done(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct run *r = ctx;

    if (!s) {
        fail(r, err);
        return;
    }
    r->stream = s;
    ev_stream_set_cb(s, &stream_cb, r);
    ev_stream_read_start(s);
    if (ev_stream_write(s, EV_LIT("GET /x HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")) < 0)
        ev_launch_signal(r->l, SIGTERM);
}

/* Before a byte of the request leaves: the document in the certificate, against the built PCRs. */
static int accept_peer(void *ctx, const struct ev_cert *leaf, struct ev_err *err)
{
    struct run *r = ctx;
    struct ev_expect want = { .sets = &pcrs, .n_sets = 1, .at_ms = (int64_t)time(NULL) * 1000 };
    struct ev_attest got;
    int rc = attested_leaf(leaf, r->root, want, &got, err);

    if (rc >= 0)
        snprintf(r->verdict, sizeof(r->verdict), "verified, PCR16 %s",
                 got.pcrs.present >> 16 & 1 ? "present" : "absent");
    ev_attest_fini(&got);
    return rc;
}

static void connected(void *ctx, struct ev_stream *s, const struct ev_err *err)
{
    struct run *r = ctx;
    struct ev_tls_client_conf conf = { .sni = "hello.app_1.cages.localhost", .accept_peer = accept_peer, .ctx = r };

    if (s)
        ev_tls_connect(r->rt, &conf, s, tls_done, r);
    else
        fail(r, err);
}

static void ask(void *ctx)
{
    struct run *r = ctx;
    struct ev_addr a = { .kind = EV_ADDR_UNIX };
    struct ev_err err = EV_ERR_INIT;

    snprintf(a.host, sizeof(a.host), "%s", in_work("run/enclave_7777"));
    if (ev_stream_connect(r->rt, &a, 5000, connected, r, NULL, &err) < 0)
        fail(r, &err);
}

static void started(void *ctx, int events)
{
    struct run *r = ctx;
    bool before = strstr(r->text, "enclave: started") != NULL;
    ssize_t n = read(r->pipe[0], r->text + r->n_text, sizeof(r->text) - 1 - r->n_text);

    (void)events;
    if (n > 0)
        r->n_text += (size_t)n;
    if (!before && strstr(r->text, "enclave: started") && r->ask)
        ask(r);
    if (!before && strstr(r->text, "enclave: started") && r->stop_at_boot)
        ev_launch_signal(r->l, SIGTERM);
}

static void booted(void *ctx)
{
    ((struct run *)ctx)->booted = true;
}

static void exited(void *ctx, int code, int signum, const char *why)
{
    struct run *r = ctx;

    r->exited = true;
    r->code = code;
    r->signum = signum;
    snprintf(r->why, sizeof(r->why), "%s", why);
    ev_rt_stop(r->rt);
}

static void too_long(void *ctx)
{
    ev_rt_stop(((struct run *)ctx)->rt);
}

/* → the run, closed; static, so that its texts can be read. */
static struct run *launch(const char *eif, bool debug, bool ask_it, bool stop, struct ev_err *err)
{
    static struct run r;
    struct ev_launch_conf c = { .dir = ev_strdup(in_work("run")), .eif_path = ev_strdup(in_work(eif)), .debug = debug,
                                .booted = booted, .exited = exited, .ctx = &r, .boot_timeout_ms = boot_ms };
    ssize_t n;

    memset(&r, 0, sizeof(r));
    r.ask = ask_it;
    r.stop_at_boot = stop;
    MUST(pipe2(r.pipe, O_CLOEXEC | O_NONBLOCK));
    MUST(ev_rt_new(&r.rt, err));
    MUST(ev_nsm_sim_make_root(&r.root, &r.root_key, err));
    c.rt = r.rt;
    c.root = r.root;
    c.root_key = r.root_key;
    c.console_fd = r.pipe[1];
    if (ev_launch_sim(&c, &r.l, err) == 0) {
        r.console = ev_watch_start(r.rt, r.pipe[0], EV_READABLE, started, &r);
        r.limit = ev_timer_start(r.rt, LIMIT_MS, false, too_long, &r);
        ev_rt_run(r.rt);
        ev_timer_stop(r.limit);
        ev_watch_stop(r.console);
        if (r.stream)
            ev_stream_close(r.stream);
        ev_launch_close(r.l);
    }
    while ((n = read(r.pipe[0], r.text + r.n_text, sizeof(r.text) - 1 - r.n_text)) > 0)
        r.n_text += (size_t)n;
    while (ev_rt_open_handles(r.rt) > 0 && ev_rt_run_once(r.rt) > 0)
        ;
    ev_rt_free(r.rt);
    ev_cert_free(r.root);
    ev_key_free(r.root_key);
    close(r.pipe[0]);
    close(r.pipe[1]);
    ev_free((char *)(uintptr_t)c.dir);
    ev_free((char *)(uintptr_t)c.eif_path);
    return &r;
}

static void show(const struct run *r)
{
    printf("# code %d signal %d why %s\n# %s\n", r->code, r->signum, r->why, r->answer);
    for (const char *s = r->text; *s; s += strcspn(s, "\n"), s += *s == '\n')
        printf("# | %.*s\n", (int)strcspn(s, "\n"), s);
}

/* --- tests -------------------------------------------------------------------------------------------- */

static void test_answer(const char *who)
{
    struct ev_err err = EV_ERR_INIT;
    struct run *r = launch("serve.eif", false, true, false, &err);

    OK(r->booted, "%s: the heartbeat arrived (%s)", who, err.msg);
    EQ_STR(r->verdict, "verified, PCR16 present", "attestation in the certificate, of the app phase");
    OK(strstr(r->answer, "HTTP/1.1 200") && strstr(r->answer, "hello from /x"), "%s: the app answered over TLS", who);
    if (!OK(r->exited && r->code == 143 && r->signum == 15 && strstr(r->why, "the app was ended by signal 15"),
            "%s: SIGTERM ends it in order, and its end is reported: %s", who, r->why))
        show(r);
    OK(access(in_work("run"), F_OK) < 0, "%s: the twin's folder is gone", who);
    OK(!strstr(r->text, "secret of the app"), "%s: without debug the app's output goes nowhere", who);
}

static void test_probe(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct run *r;
    int n = 0, bad = 0;

    build("probe.eif", "[\"/bin/probe\",\"--probe\"]", "", true);
    r = launch("probe.eif", true, false, false, &err);
    for (const char *s = r->text; *s; s += strcspn(s, "\n"), s += *s == '\n') {
        n += strncmp(s, "ok ", 3) == 0;
        if (strncmp(s, "not ok ", 7) == 0)
            bad++, printf("# %.*s\n", (int)strcspn(s, "\n"), s);
    }
    if (!OK(n > 90 && bad == 0 && r->code == 0 && strstr(r->why, "exited with code 0"),
            "the hostile app, uid 0 in the simulator: %d ways refused or as they should be", n))
        show(r);
}

static void expect_end(const char *argv, const char *user, int code, const char *why, const char *console)
{
    struct ev_err err = EV_ERR_INIT;
    struct run *r;

    build("end.eif", argv, user, true);
    r = launch("end.eif", true, false, false, &err);
    if (!OK(r->exited && r->code == code && strstr(r->why, why) && strstr(r->text, console), "%s: code %d, %s", argv,
            r->code, r->why))
        show(r);
}

static void test_ends(void)
{
    expect_end("[\"/bin/probe\",\"--exit\",\"7\"]", "", 7, "the app exited with code 7", "end: ");
    expect_end("[\"probe\",\"--id\"]", "", 0, "code 0", "uid 0 gid 0 groups 0 home /root, stdout open");
    if (geteuid() == 0)
        expect_end("[\"probe\",\"--id\"]", "node", 0, "code 0",
                   "uid 1000 gid 1001 groups 1 home /home/node, stdout open");
    expect_end("[\"missing\"]", "", 66, "app start: start missing", "app start: start missing");
    expect_end("[\"probe\"]", "ghost", 65, "USER: \"ghost\" is not in", "app containment");
}

static void test_refused(void)
{
    struct ev_buf eif = EV_BUF_INIT(1 << 30);
    struct ev_err err = EV_ERR_INIT;
    struct run *r;

    MUST(ev_file_read(in_work("serve.eif"), &eif, NULL));
    eif.p[eif.n / 2] ^= 1;
    MUST(ev_file_write(in_work("bad.eif"), ev_buf_slice(&eif), 0644, NULL));
    r = launch("bad.eif", false, false, false, &err);
    OK(!r->l && err.code == EV_EVERIFY, "a flipped bit is refused: %s", err.msg);
    OK(access(in_work("run"), F_OK) < 0, "and nothing is left");
    ev_buf_fini(&eif);
    err = (struct ev_err)EV_ERR_INIT;
    r = launch("missing.eif", false, false, false, &err);
    OK(!r->l, "no such image: %s", err.msg);
}

/* Another image is put in its place once it was opened: it must not run as the first. */
static void test_swapped(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct ev_buf eif = EV_BUF_INIT(1 << 30);
    struct inotify_event event;
    char path[512], other[512];
    struct run *r;
    int watch;
    pid_t pid;

    build("end.eif", "[\"/bin/probe\",\"--exit\",\"7\"]", "", true);
    MUST(ev_file_read(in_work("serve.eif"), &eif, NULL));
    snprintf(path, sizeof(path), "%s", in_work("bad.eif"));
    snprintf(other, sizeof(other), "%s", in_work("end.eif"));
    MUST(ev_file_write(path, ev_buf_slice(&eif), 0644, NULL));
    MUST(watch = inotify_init1(IN_CLOEXEC));
    MUST(inotify_add_watch(watch, path, IN_OPEN));
    if ((pid = fork()) == 0) {
        struct pollfd p = { watch, POLLIN, 0 };

        _exit(poll(&p, 1, 20000) != 1 || read(watch, &event, sizeof(event)) < 0 || rename(other, path) < 0);
    }
    r = launch("bad.eif", true, false, true, &err);
    waitpid(pid, NULL, 0);
    close(watch);
    ev_buf_fini(&eif);
    if (!OK(r->code != 7, "an image exchanged meanwhile does not run as the one that was measured: %s", err.msg))
        show(r);
}

/* Names of the runtime in the image: nothing comes of them. */
static void test_links(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct run *r;

    source = "links.tar";
    build("end.eif", "[\"/bin/probe\",\"--exit\",\"7\"]", "", true);
    source = "app.tar";
    r = launch("end.eif", true, false, false, &err);
    if (!OK(r->exited && r->code == 7, "an image with its own /init, /cage and /rootfs: %s", r->why))
        show(r);
}

static void test_deadline(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct run *r;

    boot_ms = 1;
    r = launch("serve.eif", false, false, false, &err);
    boot_ms = 50000;
    OK(r->exited && !r->booted && strstr(r->why, "no heartbeat in time"), "an enclave that does not boot in time: %s",
       r->why);
    OK(access(in_work("run"), F_OK) < 0, "nothing is left of it");
    r = launch("serve.eif", false, false, true, &err);
    OK(r->exited && r->code == 143, "SIGTERM right after the start: %s", r->why);
}

/* A folder that a dead launcher left is taken over; one that is in use or not ours alone is not. */
static void test_folder(void)
{
    struct ev_err err = EV_ERR_INIT;
    struct run *r;
    int fd;

    MUST(mkdir(in_work("run"), 0700));
    MUST(mknod(in_work("run/enclave_7777"), S_IFSOCK | 0600, 0));
    r = launch("serve.eif", false, false, true, &err);
    OK(r->booted && r->code == 143, "a folder with a dead socket is taken over: %s", err.msg);
    MUST(mkdir(in_work("run"), 0700));
    MUST(fd = open(in_work("run"), O_RDONLY | O_DIRECTORY));
    MUST(flock(fd, LOCK_EX));
    r = launch("serve.eif", false, false, true, &err);
    OK(!r->l && strstr(err.msg, "another cage runs there"), "one in use is not: %s", err.msg);
    close(fd);
    MUST(chmod(in_work("run"), 0755));
    r = launch("serve.eif", false, false, true, &err);
    OK(!r->l && strstr(err.msg, "not a folder of ours alone"), "nor one that others may read: %s", err.msg);
    MUST(rmdir(in_work("run")));
}

static bool gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

/* The launcher is killed outright: the enclave and the folder go all the same. */
static void test_killed(void)
{
    int tell[2];
    pid_t launcher, janitor_or_init[64];
    size_t n = 0;
    char byte, path[64], line[4096] = "";

    MUST(pipe(tell));
    if ((launcher = fork()) == 0) {
        struct ev_err err = EV_ERR_INIT;

        close(tell[0]);
        dup2(tell[1], 100);                         /* never closed: its end tells of our end */
        launch("serve.eif", true, false, false, &err);
        _exit(0);
    }
    close(tell[1]);
    for (int i = 0; i < 200 && access(in_work("run/enclave_7779"), F_OK) < 0; i++)
        usleep(50000);
    OK(access(in_work("run/enclave_7779"), F_OK) == 0, "it listens");
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)launcher, (int)launcher);
    if (probe_file_has(path, "")) {
        FILE *f = fopen(path, "r");

        if (f && fgets(line, sizeof(line), f))
            for (char *s = strtok(line, " "); s && n < 64; s = strtok(NULL, " "))
                janitor_or_init[n++] = atoi(s);
        if (f)
            fclose(f);
    }
    OK(n == 2, "two children: the enclave and the janitor (%zu)", n);
    kill(launcher, SIGKILL);
    waitpid(launcher, NULL, 0);
    (void)!read(tell[0], &byte, 1);
    close(tell[0]);
    for (int i = 0; i < 100; i++) {
        size_t left = 0;

        for (size_t k = 0; k < n; k++)
            left += !gone(janitor_or_init[k]);
        if (left == 0 && access(in_work("run"), F_OK) < 0)
            break;
        usleep(50000);
    }
    OK(access(in_work("run"), F_OK) < 0, "the folder is gone");
    for (size_t k = 0; k < n; k++)
        OK(gone(janitor_or_init[k]), "process %zu is gone", k);
}

static void as_nobody(void)
{
    int status = 0;
    pid_t pid;

    if (geteuid() != 0) {
        SKIP(1, "already an ordinary user");
        return;
    }
    MUST(chmod(work, 0777));
    fflush(stdout);
    if ((pid = fork()) == 0) {
        tap_failed = 0;
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
            _exit(99);
        prctl(PR_SET_DUMPABLE, 1);
        test_answer("ordinary user");
        test_ends();
        _exit(tap_count % 64 + (tap_failed ? 64 : 0));
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status))
        tap_count = WEXITSTATUS(status) % 64;
    OK(WIFEXITED(status) && WEXITSTATUS(status) < 64, "all of it as an ordinary user");
}

/* --- the app ------------------------------------------------------------------------------------------- */

static int serve(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(8008), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int l = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 16) < 0)
        return 5;
    printf("secret of the app\n");
    fflush(stdout);
    for (;;) {
        char q[4096], path[256] = "", out[512];
        int c = accept(l, NULL, NULL);
        ssize_t n = recv(c, q, sizeof(q) - 1, 0);

        q[n > 0 ? n : 0] = 0;
        sscanf(q, "%*s %255s", path);
        snprintf(out, sizeof(out), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\nhello from %s", strlen(path) + 11,
                 path);
        (void)!send(c, out, strlen(out), MSG_NOSIGNAL);
        close(c);
    }
}

static int app_main(int argc, char **argv)
{
    gid_t groups[16];

    if (strcmp(argv[1], "--serve") == 0)
        return serve();
    if (strcmp(argv[1], "--exit") == 0 && argc > 2)
        return atoi(argv[2]);
    if (strcmp(argv[1], "--id") == 0)
        return printf("uid %d gid %d groups %d home %s, stdout %s\n", (int)getuid(), (int)getgid(),
                      getgroups(16, groups), getenv("HOME"), open("/dev/stdout", O_WRONLY) < 0 ? "shut" : "open") < 0;
    return probe_main();
}

static void clean_up(void)
{
    static const char *const names[] = { "kernel", "runtime.cpio", "app.tar", "links.tar", "serve.eif", "probe.eif",
                                         "end.eif", "bad.eif" };

    for (size_t i = 0; i < EV_COUNT(names); i++)
        unlink(in_work(names[i]));
    OK(rmdir(work) == 0, "nothing else is left in the test's folder");
}

/* Not exit: the leak checker would want to trace, which the cage forbids. */
static void leave(int code)
{
    fflush(stdout);
    _exit(code);
}

int main(int argc, char **argv)
{
    if (ev_enclave_is_init(argc, argv))
        return ev_enclave_main(argc, argv);
    if (argc > 1)
        leave(app_main(argc, argv));
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    MUST(mkdtemp(work) ? 0 : -1);
    make_inputs();
    build("serve.eif", "[\"probe\",\"--serve\"]", "", false);
    test_answer("root");
    test_refused();
    test_swapped();
    test_probe();
    test_ends();
    test_links();
    test_deadline();
    test_folder();
    test_killed();
    build("serve.eif", "[\"probe\",\"--serve\"]", "", false);
    as_nobody();
    clean_up();
    return tap_done();
}
