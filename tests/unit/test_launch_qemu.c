/* test_launch_qemu.c — QEMU's launcher without QEMU: a shell script stands in for it, so what it is
 * given, how its end is explained and what is left behind are seen in milliseconds. A real boot is
 * tests/flow/long_qemu.sh's. */
#include "role/launch_qemu.h"

#include "codec/eif.h"
#include "nitro/image.h"
#include "nitro/nsm_sim.h"
#include "nitro/ramdisk.h"
#include "role/launch.h"

#include <dirent.h>
#include <signal.h>

#include "image_fixture.h"
#include "tap.h"

enum { TEXT_MAX = 65536, LIMIT_MS = 20000, SMALL_MIB = 256 };

static char work[] = "/tmp/ev-qemu,test-XXXXXX";            /* with a comma, which QEMU's options double */
static struct ev_pcrs pcrs;
static struct ev_cert *root;
static struct ev_key *root_key;

static const char *in_work(const char *name)
{
    static char path[4][512];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", work, name);
    return path[turn];
}

#define METADATA \
    "{\"ImageName\":\"hello\",\"ImageVersion\":\"1.0\",\"BuildMetadata\":{" \
    "\"BuildTime\":\"1970-01-01T00:00:00+00:00\"," \
    "\"BuildTool\":\"test\",\"BuildToolVersion\":\"1\",\"OperatingSystem\":\"Linux\",\"KernelVersion\":\"6.12\"}," \
    "\"DockerInfo\":null,\"CustomMetadata\":null}"

static void make_image(void)
{
    struct ev_ramdisk_entry init = { "init", S_IFREG | 0755, "/proc/self/exe" };
    struct ev_image_file conf = { "config.json", EV_LIT("{}") };
    struct ev_image_build b = { .cmdline = "console=ttyS0 quiet", .cage = &conf, .n_cage = 1,
                                .metadata_json = METADATA };
    struct ev_buf layer = EV_BUF_INIT(1 << 20);
    struct ev_image_result result;
    struct ev_err err = EV_ERR_INIT;
    char kernel[512], runtime[512], source[512], eif[512];

    snprintf(kernel, sizeof(kernel), "%s/kernel", work);
    snprintf(runtime, sizeof(runtime), "%s/runtime.cpio", work);
    snprintf(source, sizeof(source), "%s/app.tar", work);
    snprintf(eif, sizeof(eif), "%s/a.eif", work);
    b.kernel = kernel, b.runtime = runtime, b.source = source, b.output = eif;
    MUST(ev_file_write(kernel, EV_LIT("not a kernel, but one that is given on"), 0644, NULL));
    MUST(ev_ramdisk_write(runtime, &init, 1, NULL));
    tar_put(&layer, &(struct tar_entry){ .name = "hello", .data = "#!/bin/sh\n", .mode = 0755 });
    tar_end(&layer);
    docker_save(source, &layer, 1, "{\"Cmd\":[\"/hello\"]}");
    ev_buf_fini(&layer);
    if (ev_image_build(&b, NULL, &result, &err) < 0)
        fprintf(stderr, "build: %s\n", err.msg), abort();
    pcrs = result.pcrs;
}

/* --- the parts ------------------------------------------------------------------------------------ */

static void add_file(struct ev_digest *d, int fd)
{
    uint8_t chunk[4096];
    ssize_t n;

    lseek(fd, 0, SEEK_SET);
    while ((n = read(fd, chunk, sizeof(chunk))) > 0)
        ev_digest_update(d, chunk, (size_t)n);
}

/* Kernel, command line and ramdisks, as the guest gets them, are what PCR0 measures. */
static void test_parts(void)
{
    struct ev_digest *d = ev_digest_new(EV_SHA384);
    uint8_t digest[48], pcr[48] = { 0 };
    struct ev_qemu_parts p;
    struct ev_err err = EV_ERR_INIT;
    struct stat k, r;
    int dir = open(work, O_RDONLY | O_DIRECTORY), eif = open(in_work("a.eif"), O_RDONLY),
        other = open(in_work("app.tar"), O_RDONLY);

    OK(ev_qemu_split(eif, dir, &p, &err) == 0, "split: %s", err.msg);
    add_file(d, p.kernel);
    ev_digest_update(d, p.cmdline.p, p.cmdline.n);
    add_file(d, p.ramdisks);
    ev_digest_final(d, digest);
    ev_pcr_extend(pcr, ev_slice_of(digest, sizeof(digest)));
    OK(memcmp(pcr, pcrs.value[0], sizeof(pcr)) == 0, "the parts measure to PCR0");
    OK(fstat(p.kernel, &k) == 0 && fstat(p.ramdisks, &r) == 0 && k.st_nlink == 0 && r.st_nlink == 0,
       "in files without a name");
    OK(p.memory == (UINT64_C(150) << 20) + 3 * (uint64_t)r.st_size, "memory: packed, twice unpacked, 150 MiB");
    ev_qemu_parts_fini(&p);
    ev_qemu_parts_fini(&p);
    OK(ev_qemu_split(-1, dir, &p, NULL) < 0, "no image");
    ev_qemu_parts_fini(&p);
    OK(ev_qemu_split(other, dir, &p, NULL) == EV_EPARSE, "not an image");
    ev_qemu_parts_fini(&p);
    ev_digest_free(d);
    close(dir);
    close(eif);
    close(other);
}

/* --- a run ------------------------------------------------------------------------------------------ */

struct run {
    struct ev_rt *rt;
    struct ev_launch *l;
    int pipe[2], code, signum, ends, stop;
    char why[2048], text[TEXT_MAX], accel[32];
    size_t n_text;
};

static void exited(void *ctx, int code, int signum, const char *why)
{
    struct run *r = ctx;

    r->ends++;
    r->code = code;
    r->signum = signum;
    snprintf(r->why, sizeof(r->why), "%s", why);
    ev_rt_stop(r->rt);
}

static void too_long(void *ctx)
{
    ev_rt_stop(((struct run *)ctx)->rt);
}

static void stop_it(void *ctx)
{
    ev_launch_signal(((struct run *)ctx)->l, SIGTERM);
}

static void wait_for_end(struct run *r)
{
    struct ev_timer *limit = ev_timer_start(r->rt, LIMIT_MS, false, too_long, r);
    struct ev_timer *stop = r->stop ? ev_timer_start(r->rt, (uint64_t)r->stop, false, stop_it, r) : NULL;

    ev_rt_run(r->rt);
    ev_timer_stop(limit);
    ev_timer_stop(stop);
    snprintf(r->accel, sizeof(r->accel), "%s", ev_launch_accel(r->l));
}

/* Runs `script` as QEMU, with QEMU's arguments in "$@"; 0 or the error of the start. */
static int run(struct run *r, const char *script, struct ev_launch_conf c, int stop_ms, struct ev_err *err)
{
    const char *qemu[] = { "/bin/sh", "-c", script, "qemu", NULL };
    const char *env[] = { "PATH=/usr/bin:/bin", "ONLY=this", NULL };
    char eif[512], dir[512];
    ssize_t n;
    int rc;

    memset(r, 0, sizeof(*r));
    r->stop = stop_ms;
    snprintf(eif, sizeof(eif), "%s/a.eif", work);
    snprintf(dir, sizeof(dir), "%s/run", work);
    MUST(pipe2(r->pipe, O_CLOEXEC | O_NONBLOCK));
    fcntl(r->pipe[1], F_SETPIPE_SZ, TEXT_MAX);
    MUST(ev_rt_new(&r->rt, err));
    c.rt = r->rt, c.root = root, c.root_key = root_key, c.console_fd = r->pipe[1], c.eif_path = eif, c.dir = dir;
    c.exited = exited, c.ctx = r, c.qemu = qemu, c.qemu_env = env;
    if ((rc = ev_launch_qemu(&c, &r->l, err)) == 0) {
        memset(qemu, 0, sizeof(qemu));              /* a later attempt has copies */
        wait_for_end(r);
        ev_launch_close(r->l);
    }
    while ((n = read(r->pipe[0], r->text + r->n_text, sizeof(r->text) - 1 - r->n_text)) > 0)
        r->n_text += (size_t)n;
    while (ev_rt_open_handles(r->rt) > 0 && ev_rt_run_once(r->rt) > 0)
        ;
    ev_rt_free(r->rt);
    close(r->pipe[0]);
    close(r->pipe[1]);
    if (access(dir, F_OK) == 0)
        OK(0, "a folder is left behind");
    return rc;
}

static struct ev_launch_conf emulated(void)
{
    return (struct ev_launch_conf){ .no_kvm = true };
}

static void test_arguments(void)
{
    struct ev_launch_conf c = emulated();
    struct run *r = ev_alloc(sizeof(*r));
    char want[256];

    c.cpus = 3;
    run(r, "for a; do echo \"<$a>\"; done; echo \"ONLY=$ONLY\"; ls /proc/self/fd | tr '\\n' ' '; cat /proc/self/fd/3",
        c, 0, NULL);
    OK(strstr(r->text, "<console=ttyS0 quiet reboot=t panic=-1>"), "the measured command line, and more behind it");
    OK(strstr(r->text, "<-accel>\n<tcg>\n<-cpu>\n<max>"), "emulation");
    OK(strstr(r->text, "<-m>\n<256>") && strstr(r->text, "size=256M,share=on>"), "a small image gets 256 MiB");
    OK(strstr(r->text, "<-smp>\n<3>"), "processors");
    OK(strstr(r->text, "<-kernel>\n</proc/self/fd/3>") && strstr(r->text, "not a kernel, but one"), "the kernel");
    snprintf(want, sizeof(want), "<socket,id=vsock,path=/tmp/ev-qemu,,test-%s/run/vhost_vsock>", work + 18);
    OK(strstr(r->text, want), "a comma in the folder's name is doubled");
    OK(strstr(r->text, "ONLY=this") && strstr(r->text, "0 1 2 3 4 "), "environment and descriptors");
    OK(!strstr(r->text, " 6 "), "no other descriptor of ours");
    c.memory_mib = 700;
    run(r, "for a; do echo \"<$a>\"; done", c, 0, NULL);
    OK(strstr(r->text, "<-m>\n<700>") && strstr(r->text, "size=700M"), "memory as asked for");
    ev_free(r);
}

static void test_ends(void)
{
    struct run *r = ev_alloc(sizeof(*r));
    struct ev_launch_conf late = emulated();

    run(r, "echo one; printf 'Kernel panic\\r\\n'; exit 3", emulated(), 0, NULL);
    OK(r->ends == 1 && r->code == 70 && strstr(r->why, "QEMU ended with code 3, and the enclave had reported no end"),
       "a crash: %s", r->why);
    OK(strstr(r->why, "one | Kernel panic"), "with the last lines of the console");
    run(r, "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; exit 1", emulated(), 0, NULL);
    OK(strstr(r->why, "line 3999") && !strstr(r->why, "line 3990") && strlen(r->why) < 700, "of many the last few");
    run(r, "kill -9 $$", emulated(), 0, NULL);
    OK(r->ends == 1 && r->code == 70 && strstr(r->why, "QEMU was killed by signal 9"), "killed: %s", r->why);
    late.boot_timeout_ms = 300;
    run(r, "echo stuck; exec sleep 60", late, 0, NULL);
    OK(r->ends == 1 && strstr(r->why, "no heartbeat in time") && strstr(r->why, "stuck"), "no boot: %s", r->why);
    run(r, "exec sleep 60", emulated(), 100, NULL);
    OK(r->ends == 1 && r->code == 143 && r->signum == 15, "stopped before it was up: %s", r->why);
    ev_free(r);
}

static void test_no_start(void)
{
    struct run *r = ev_alloc(sizeof(*r));
    struct ev_launch_conf big = emulated();
    struct ev_err err = EV_ERR_INIT;

    big.cpus = EV_QEMU_CPUS_MAX + 1;
    OK(run(r, "exit 0", big, 0, &err) == EV_ELIMIT, "too many processors: %s", err.msg);
    ev_free(r);
}

static void test_kvm(void)
{
    struct run *r = ev_alloc(sizeof(*r));

    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        SKIP(3, "no /dev/kvm");
        ev_free(r);
        return;
    }
    run(r, "case \"$*\" in *'-accel kvm'*) echo 'KVM internal error. Suberror: 1'; exec sleep 60;; esac; exit 4",
        (struct ev_launch_conf){ 0 }, 0, NULL);
    OK(r->ends == 1 && strstr(r->why, "code 4") && strcmp(r->accel, "tcg-after-kvm") == 0,
       "a KVM that fails: emulated then: %s", r->why);
    run(r, "case \"$*\" in *'-accel kvm'*) exit 9;; esac; exit 4", (struct ev_launch_conf){ 0 }, 0, NULL);
    OK(r->ends == 1 && strstr(r->why, "code 4"), "a QEMU that refuses KVM: %s", r->why);
    run(r, "exec sleep 60", (struct ev_launch_conf){ 0 }, 100, NULL);
    OK(r->ends == 1 && r->code == 143 && strcmp(r->accel, "kvm") == 0, "stopped: no second attempt: %s", r->why);
    ev_free(r);
}

int main(void)
{
    if (!mkdtemp(work))
        return 1;
    make_image();
    MUST(ev_nsm_sim_make_root(&root, &root_key, NULL));
    test_parts();
    test_arguments();
    test_ends();
    test_no_start();
    test_kvm();
    ev_cert_free(root);
    ev_key_free(root_key);
    for (const char *const *f = (const char *const[]){ "kernel", "runtime.cpio", "app.tar", "a.eif", NULL }; *f; f++)
        unlink(in_work(*f));
    OK(rmdir(work) == 0, "nothing is left");
    return tap_done();
}
