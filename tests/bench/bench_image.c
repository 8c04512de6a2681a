/* bench_image.c — build and describe of a 512 MiB image as ratios to one SHA-384 pass over the same
 * bytes in the same run; a gzip layer by itself; memory for each file of an image of 50,000.
 *
 *   kernel 16 MiB, runtime 16 MiB, one uncompressed layer of `docker save` with 480 MiB in 4,000 files
 *
 * Rounds are taken in turns. Others on the machine only ever add time, and they add more to what
 * wants two processors; so the best of each is compared, and the median shown beside it. Memory is
 * the peak of a child of its own. Replacing an output is shown by itself: there ext4 allocates the
 * new file's blocks and frees the old one's within the rename. */
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "image_fixture.h"
#include "nitro/image.h"

enum { ROUNDS = 5, MIB = 1 << 20, FILES = 4000, FILE_SIZE = 480 * (MIB / FILES), MANY = 50000 };

static char *dir;
static uint8_t block[MIB];

static char *in_dir(const char *name)
{
    return ev_asprintf("%s/%s", dir, name);         /* never freed: a bench ends soon */
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fill(void)
{
    uint64_t x = 88172645463325252u;

    for (size_t i = 0; i < sizeof block; i += 8) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(block + i, &x, 8);
    }
}

/* Streams to a file; the fixture's buffers would need a second copy of everything in memory. */
static void flush(int fd, struct ev_buf *b)
{
    MUST(ev_write_all(fd, b->p, b->n));
    ev_buf_clear(b);
}

static uint64_t padded(uint64_t n) { return (n + 511) & ~511ull; }

/* A docker-save archive of one layer with `files` files of `size` bytes. */
static void make_source(const char *name, unsigned files, size_t size)
{
    static const char manifest[] = "[{\"Config\":\"c.json\",\"Layers\":[\"l/layer.tar\"]}]";
    static const char config[] = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{}}";
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct ev_buf b = EV_BUF_INIT(8 * MIB);
    char path[64];

    MUST(fd);
    tar_put(&b, &(struct tar_entry){ .name = "manifest.json", .data = manifest });
    tar_put(&b, &(struct tar_entry){ .name = "c.json", .data = config });
    tar_raw(&b, "l/layer.tar", '0', NULL, 0644, 0, 0, files * (512 + padded(size)) + 1024, 0, 0);
    for (unsigned i = 0; i < files; i++) {
        snprintf(path, sizeof path, "usr/lib/dir%03u/file%06u.so", i / 100, i);
        tar_raw(&b, path, '0', NULL, 0644, 0, 0, size, 0, 0);
        tar_body(&b, block + i % 1000 * 8, size);
        flush(fd, &b);
    }
    tar_end(&b);
    tar_end(&b);
    flush(fd, &b);
    close(fd);
    ev_buf_fini(&b);
}

static void make_flat(const char *name, const struct ev_buf *head, size_t n)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    MUST(fd);
    if (head)
        MUST(ev_write_all(fd, head->p, head->n));
    for (; n > 0; n -= n < MIB ? n : MIB)
        MUST(ev_write_all(fd, block, n < MIB ? n : MIB));
    close(fd);
}

/* By hand: what is measured is not to make its own input. */
static void cpio_header(struct ev_buf *b, const char *name, unsigned mode, size_t size)
{
    MUST(ev_buf_printf(b, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x", 1u, mode, 0u, 0u, 1u, 0u, size, 0u, 0u,
                       0u, 0u));
    MUST(ev_buf_printf(b, "%08zx%08x%s", strlen(name) + 1, 0u, name));
    MUST(ev_buf_zero(b, 1));
    MUST(ev_buf_zero(b, (size_t)(-b->n & 3)));
}

static void make_runtime(void)
{
    struct ev_buf b = EV_BUF_INIT(MIB);
    size_t n = 16 * MIB;
    int fd;

    cpio_header(&b, "init", 0100755, n);
    make_flat("runtime", &b, n);
    ev_buf_clear(&b);
    cpio_header(&b, "TRAILER!!!", 0, 0);
    fd = open(in_dir("runtime"), O_WRONLY | O_APPEND);
    MUST(fd);
    flush(fd, &b);
    close(fd);
    ev_buf_fini(&b);
}

static void build(const char *source, const char *output)
{
    static const struct ev_image_file cage[] = { { "config.json", { (const uint8_t *)"{}", 2 } } };
    struct ev_image_build b = {
        .kernel = in_dir("kernel"), .cmdline = "console=ttyS0", .runtime = in_dir("runtime"),
        .source = in_dir(source), .cage = cage, .n_cage = 1, .output = in_dir(output),
        .metadata_json = "{\"ImageName\":\"b\",\"ImageVersion\":\"1\",\"BuildMetadata\":{\"BuildTime\":\"\","
                         "\"BuildTool\":\"\",\"BuildToolVersion\":\"\",\"OperatingSystem\":\"\","
                         "\"KernelVersion\":\"\"}}",
    };
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;

    if (ev_image_build(&b, NULL, &r, &err) < 0) {
        fprintf(stderr, "build: %s\n", err.msg);
        exit(1);
    }
}

static void build_plain(void) { build("docker.tar", "out.eif"); }
static void build_gzip(void) { build("docker.tar.gz", "gz.eif"); }
static void build_many(void) { build("many.tar", "many.eif"); }

static void describe(void)
{
    struct ev_image_info info;
    struct ev_err err = EV_ERR_INIT;

    if (ev_image_describe(in_dir("out.eif"), NULL, &info, &err) < 0 || !info.crc_ok) {
        fprintf(stderr, "describe: %s\n", err.msg);
        exit(1);
    }
    ev_image_info_fini(&info);
}

/* The measure of all things: the bytes of the image once through SHA-384, 1 MiB at a time. */
static void one_pass(void)
{
    struct ev_digest *d = ev_digest_new(EV_SHA384);
    static uint8_t buffer[MIB];
    uint8_t out[EV_DIGEST_MAX];
    int fd = open(in_dir("out.eif"), O_RDONLY);
    ssize_t n;

    MUST(fd);
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        ev_digest_update(d, buffer, (size_t)n);
    ev_digest_final(d, out);
    ev_digest_free(d);
    close(fd);
}

static double seconds(void (*fn)(void))
{
    double start = now();

    fn();
    return now() - start;
}

static int by_value(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;

    return d < 0 ? -1 : d > 0;
}

static void sort(double *v)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
}

/* Peak memory in KiB of a process that does only this. */
static long peak(void (*fn)(void))
{
    struct rusage u;
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        fn();
        _exit(0);
    }
    if (pid < 0 || wait4(pid, &status, 0, &u) != pid || status != 0)
        exit(1);
    return u.ru_maxrss;
}

static void nothing(void) { }

/* Both sorted. */
static void row(const char *what, const double *s, const double *base, double limit)
{
    printf("%-34s best %5.2f s %5.2f x   median %5.2f s %5.2f x", what, s[0], s[0] / base[0], s[ROUNDS / 2],
           s[ROUNDS / 2] / base[ROUNDS / 2]);
    if (limit > 0)
        printf("   at most %.2f: %s", limit, s[0] / base[0] <= limit ? "yes" : "NO");
    printf("\n");
}

int main(void)
{
    char template[] = "/tmp/ev-bench-XXXXXX", cmd[512];
    double pass[ROUNDS], made[ROUNDS], replaced[ROUNDS], described[ROUNDS];
    long empty, plain, described_peak, many;

    dir = mkdtemp(template);
    if (!dir)
        return 1;
    fill();
    make_flat("kernel", NULL, 16 * MIB);
    make_runtime();
    make_source("docker.tar", FILES, FILE_SIZE);
    make_source("many.tar", MANY, 100);
    empty = peak(nothing);
    plain = peak(build_plain);
    many = peak(build_many);
    build_plain();
    described_peak = peak(describe);
    for (int i = 0; i < ROUNDS; i++) {
        pass[i] = seconds(one_pass);
        unlink(in_dir("out.eif"));
        made[i] = seconds(build_plain);
        replaced[i] = seconds(build_plain);
        described[i] = seconds(describe);
    }
    sort(pass);
    sort(made);
    sort(replaced);
    sort(described);
    printf("image of 512 MiB, %ld processors, %d rounds\n", sysconf(_SC_NPROCESSORS_ONLN), ROUNDS);
    row("one SHA-384 pass", pass, pass, 0);
    row("build, docker save, warm cache", made, pass, 1.40);
    row("the same over an older output", replaced, pass, 0);
    row("describe", described, pass, 1.25);
    snprintf(cmd, sizeof cmd, "gzip -1 -k %s/docker.tar", dir);
    if (system(cmd) == 0)
        printf("%-34s      %5.2f s\n", "build from a gzip archive", seconds(build_gzip));
    printf("peak memory: build %.1f MiB, describe %.1f MiB (at most 32 + 200 B a file: %s)\n", (double)plain / 1024,
           (double)described_peak / 1024, plain * 1024 <= 32l * MIB + 200l * FILES ? "yes" : "NO");
    printf("an image of %d files: %.1f MiB, %.0f bytes a file (over %.1f MiB for the 4,000)\n", MANY,
           (double)many / 1024,
           (double)(many - plain) * 1024 / (MANY - FILES), (double)plain / 1024);
    printf("(a process of this program that does nothing: %.1f MiB)\n", (double)empty / 1024);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd) == 0 ? 0 : 1;
}
