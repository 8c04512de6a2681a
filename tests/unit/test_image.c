/* test_image.c — build, describe, sign, check the layout, unpack: whole images. */
#include <dirent.h>
#include <sys/wait.h>

#include "codec/archive.h"
#include "image_fixture.h"
#include "nitro/image_int.h"
#include "tap.h"

#define GOLDEN "tests/golden/eif/"
#define META "{\"ImageName\":\"t\",\"ImageVersion\":\"1.0\",\"BuildMetadata\":{" \
             "\"BuildTime\":\"1970-01-01T00:00:00+00:00\",\"BuildTool\":\"ev-cage\",\"BuildToolVersion\":\"0\"," \
             "\"OperatingSystem\":\"Linux\",\"KernelVersion\":\"6\"}," \
             "\"DockerInfo\":null,\"CustomMetadata\":null}"

static char *dir;

static const char *in_dir(const char *name) { return fixture_path(dir, name); }

static void write_file(const char *name, const void *p, size_t n)
{
    MUST(ev_file_write(in_dir(name), ev_slice_of(p, n), 0644, NULL));
}

static void shell(const char *command)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
        fprintf(stderr, "failed: %s\n", command);
        abort();
    }
}

/* Runs a command in the folder; its exit code. */
static int try(const char *command)
{
    char *line = ev_asprintf("cd '%s' && %s", dir, command);
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    ev_free(line);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void cpio_put(struct ev_buf *b, const char *name, uint32_t mode, uint32_t ino, uint32_t nlink, const char *body)
{
    struct ev_cpio_entry e = { .name = name, .name_len = strlen(name), .ino = ino, .mode = mode, .nlink = nlink,
                               .size = (uint32_t)strlen(body) };

    MUST(ev_cpio_put_head(b, &e));
    MUST(ev_buf_puts(b, body));
    MUST(ev_buf_zero(b, ev_cpio_pad(e.size)));
}

static void make_runtime(void)
{
    struct ev_buf b = EV_BUF_INIT(1 << 20);

    cpio_put(&b, "dev", S_IFDIR | 0755, 1, 2, "");
    cpio_put(&b, "init", S_IFREG | 0755, 2, 1, "#!/bin/true\n");
    cpio_put(&b, "usr", S_IFDIR | 0755, 3, 2, "");
    cpio_put(&b, "usr/lib", S_IFDIR | 0755, 4, 2, "");
    cpio_put(&b, "lib", S_IFLNK | 0777, 5, 1, "usr/lib");
    cpio_put(&b, "lib/libc.so", S_IFREG | 0644, 6, 1, "libc");
    MUST(ev_cpio_put_trailer(&b));
    MUST(ev_buf_putc(&b, 0));                    /* not a multiple of four */
    write_file("runtime.cpio", b.p, b.n);
    ev_buf_fini(&b);
}

static const struct tar_entry base_layer[] = {
    { .name = "./", .type = '5' }, { .name = "bin/", .type = '5' },
    { .name = "bin/app", .data = "#!/bin/sh\necho app\n", .mode = 04755 },
    { .name = "bin/alias", .type = '1', .link = "bin/app" },
    { .name = "bin-x", .data = "1" },
    { .name = "lib", .type = '2', .link = "usr/lib", .mode = 0777 },
    { .name = "usr/lib/", .type = '5' },
    { .name = "data/", .type = '5', .mode = 0500, .uid = 1000, .gid = 1000 },
    { .name = "data/old", .data = "old" },
    { .name = "run", .type = '2', .link = "/etc", .mode = 0777 },
    { .name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3 },
    { .name = "pipe", .type = '6' },
};
static const struct tar_entry top_layer[] = {
    { .name = "lib/libx.so", .data = "x" }, { .name = "data/.wh.old" }, { .name = "data/new", .data = "new" },
};

#define RUN "{\"Entrypoint\":[\"/bin/app\"],\"Cmd\":[\"a\",\"b c\"],\"Env\":[\"K=V\"],\"WorkingDir\":\"/data\"," \
            "\"User\":\"1000\",\"ExposedPorts\":{\"8008/tcp\":{},\"53/udp\":{},\"80\":{}}}"

static void make_layers(struct ev_buf layer[2])
{
    ev_buf_init(&layer[0], 1 << 20);
    ev_buf_init(&layer[1], 1 << 20);
    tar_all(&layer[0], base_layer, EV_COUNT(base_layer));
    tar_all(&layer[1], top_layer, EV_COUNT(top_layer));
}

static void put_blob(const char *layout, ev_slice data, char **digest)
{
    char *hex = sha256_hex(data), name[256];

    snprintf(name, sizeof name, "%s/blobs/sha256/%s", layout, hex);
    write_file(name, data.p, data.n);
    *digest = hex;
}

/* An OCI layout folder with two platforms; layers as they are in the folder (maybe compressed). */
static void make_oci(const char *layout, const char *const *file, const struct ev_buf layer[2])
{
    struct ev_buf b = EV_BUF_INIT(1 << 20), blob = EV_BUF_INIT(1 << 20);
    char *hex[2], *config, *manifest, *diff[2];
    char cmd[512];

    snprintf(cmd, sizeof cmd, "mkdir -p '%s/%s/blobs/sha256'", dir, layout);
    shell(cmd);
    for (int i = 0; i < 2; i++) {
        ev_buf_clear(&blob);
        MUST(ev_file_read(in_dir(file[i]), &blob, NULL));
        put_blob(layout, ev_buf_slice(&blob), &hex[i]);
        diff[i] = sha256_hex(ev_buf_slice(&layer[i]));
    }
    MUST(ev_buf_printf(&b, "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":" RUN
                       ",\"rootfs\":{\"type\":\"layers\","
                       "\"diff_ids\":[\"sha256:%s\",\"sha256:%s\"]}}", diff[0], diff[1]));
    put_blob(layout, ev_buf_slice(&b), &config);
    ev_buf_clear(&b);
    MUST(ev_buf_printf(&b, "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:%s\"},\"layers\":["
                       "{\"digest\":\"sha256:%s\"},{\"digest\":\"sha256:%s\"}]}", config, hex[0], hex[1]));
    put_blob(layout, ev_buf_slice(&b), &manifest);
    ev_buf_clear(&b);
    MUST(ev_buf_printf(&b, "{\"manifests\":[{\"digest\":\"sha256:%s\","
                       "\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
                       "{\"digest\":\"sha256:%s\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
                       "{\"digest\":\"sha256:%s\",\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}}]}",
                       config, manifest, config));
    snprintf(cmd, sizeof cmd, "%s/index.json", layout);
    write_file(cmd, b.p, b.n);
    snprintf(cmd, sizeof cmd, "%s/oci-layout", layout);
    write_file(cmd, "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
    for (int i = 0; i < 2; i++) {
        ev_free(hex[i]);
        ev_free(diff[i]);
    }
    ev_free(config);
    ev_free(manifest);
    ev_buf_fini(&b);
    ev_buf_fini(&blob);
}

static void make_inputs(void)
{
    static const char *const plain[] = { "layer0.tar", "layer1.tar" };
    static const char *const packed[] = { "layer0.tar.gz", "layer1.tar.zst" };
    struct ev_buf layer[2];
    uint8_t kernel[70001];

    memset(kernel, 0xa5, sizeof kernel);
    write_file("kernel", kernel, sizeof kernel);
    make_runtime();
    make_layers(layer);
    docker_save(in_dir("docker.tar"), layer, 2, RUN);
    write_file("layer0.tar", layer[0].p, layer[0].n);
    write_file("layer1.tar", layer[1].p, layer[1].n);
    MUST(-try("gzip -kn layer0.tar && zstd -qk layer1.tar && gzip -kn docker.tar && xz -k docker.tar"));
    make_oci("oci", plain, layer);
    make_oci("ocz", packed, layer);
    MUST(-try("tar -C ocz -cf ocz.tar . && tar -C oci -czf oci.tar.gz oci-layout index.json blobs"));
    ev_buf_fini(&layer[0]);
    ev_buf_fini(&layer[1]);
}

static struct ev_image_build plan(const char *source, const char *output)
{
    static const struct ev_image_file cage[] = {
        { "config.json", { (const uint8_t *)"{}", 2 } }, { "plugins/a.lua", { (const uint8_t *)"return 1", 8 } },
    };

    return (struct ev_image_build){
        .kernel = in_dir("kernel"), .cmdline = "console=ttyS0", .runtime = in_dir("runtime.cpio"),
        .source = in_dir(source),
        .cage = cage, .n_cage = EV_COUNT(cage), .metadata_json = META, .output = in_dir(output),
    };
}

static bool same_file(const char *a, const char *b)
{
    struct ev_buf x = EV_BUF_INIT(1 << 26), y = EV_BUF_INIT(1 << 26);
    bool same;

    MUST(ev_file_read(in_dir(a), &x, NULL));
    MUST(ev_file_read(in_dir(b), &y, NULL));
    same = ev_slice_eq(ev_buf_slice(&x), ev_buf_slice(&y));
    ev_buf_fini(&x);
    ev_buf_fini(&y);
    return same;
}

static void test_sources(void)
{
    static const char *const source[] = { "docker.tar.gz", "docker.tar.xz", "oci", "ocz", "ocz.tar", "oci.tar.gz" };
    struct ev_image_result r, first;
    struct ev_err err = EV_ERR_INIT;
    struct ev_image_build b = plan("docker.tar", "a.eif");
    struct ev_image_info info;

    OK(ev_image_build(&b, NULL, &first, &err) == 0, "an archive of docker save is built %s", err.msg);
    OK(strstr(first.warning, "/run of the image is a link"), "with a warning: %s", first.warning);
    for (size_t i = 0; i < EV_COUNT(source); i++) {
        b = plan(source[i], "b.eif");
        OK(ev_image_build(&b, NULL, &r, &err) == 0 && same_file("a.eif", "b.eif"), "the same from %s %s", source[i],
           err.msg);
    }
    OK(ev_image_describe(in_dir("a.eif"), NULL, &info, &err) == 0, "described %s", err.msg);
    OK(info.crc_ok && !info.is_signed && info.n_sections == 5 && info.version == 4 && !info.warning[0],
       "as it was built");
    OK(info.pcrs.present == 7 && first.pcrs.present == 7 && memcmp(&info.pcrs, &first.pcrs, sizeof info.pcrs) == 0,
       "both count the same PCRs");
    OK(first.size == (uint64_t)info.section[4].offset + 12 + info.section[4].size, "and the same size");
    EQ_STR(ev_buf_str(&info.metadata), META, "metadata");
    ev_image_info_fini(&info);
    EQ_INT(ev_image_check_layout(in_dir("a.eif"), &err), 0, "the layout is a cage's");
}

static void test_against_openssl(void)
{
    EQ_INT(try("sz() { dd if=a.eif bs=1 skip=$1 count=8 2>/dev/null | od -An -tu8 --endian=big | tr -d ' '; }\n"
               "at() { sz $((28 + 8 * $1)); }; n() { sz $((284 + 8 * $1)); }\n"
               "sec() { tail -c +$(($(at $1) + 13)) a.eif | head -c $(n $1); }\n"
               "ext() { (head -c 48 /dev/zero; openssl dgst -sha384 -binary) | "
               "openssl dgst -sha384 -r | cut -c1-96; }\n"
               "(sec 0; sec 1; sec 3; sec 4) | ext >p0; (sec 0; sec 1; sec 3) | ext >p1\n"
               "sec 4 | ext >p2; sec 4 >app.cpio\n"
               "sec 3 | head -c -3 | cmp - runtime.cpio"), 0, "sections as their table says");
    for (int i = 0; i < 3; i++) {
        struct ev_buf want = EV_BUF_INIT(256), got = EV_BUF_INIT(256);
        struct ev_image_info info;
        char name[16];

        snprintf(name, sizeof name, "p%d", i);
        MUST(ev_file_read(in_dir(name), &want, NULL));
        MUST(ev_image_describe(in_dir("a.eif"), NULL, &info, NULL));
        MUST(ev_hex_put(&got, ev_slice_of(info.pcrs.value[i], 48)));
        OK(want.n >= 96 && got.n == 96 && memcmp(want.p, got.p, 96) == 0, "PCR%d by shell and openssl", i);
        ev_image_info_fini(&info);
        ev_buf_fini(&want);
        ev_buf_fini(&got);
    }
}

static void test_ramdisk(void)
{
    static const char want[] =
        "drwxr-xr-x 2 0 0 cage\n-rw-r--r-- 1 0 0 cage/config.json\ndrwxr-xr-x 2 0 0 cage/plugins\n"
        "-rw-r--r-- 1 0 0 cage/plugins/a.lua\ndrwxr-xr-x 2 0 0 rootfs\ndrwxr-xr-x 2 0 0 rootfs/bin\n"
        "-rw-r--r-- 1 0 0 rootfs/bin-x\n-rwsr-xr-x 2 0 0 rootfs/bin/alias\n-rwsr-xr-x 2 0 0 rootfs/bin/app\n"
        "dr-x------ 2 1000 1000 rootfs/data\n-rw-r--r-- 1 0 0 rootfs/data/new\ndrwxr-xr-x 2 0 0 rootfs/dev\n"
        "crw-rw-rw- 1 0 0 rootfs/dev/null\nlrwxrwxrwx 1 0 0 rootfs/lib\nprw-r--r-- 1 0 0 rootfs/pipe\n"
        "drwxr-xr-x 2 0 0 rootfs/proc\ndrwxr-xr-x 2 0 0 rootfs/run\ndrwxr-xr-x 2 0 0 rootfs/sys\n"
        "drwxrwxrwt 2 0 0 rootfs/tmp\ndrwxr-xr-x 2 0 0 rootfs/usr\ndrwxr-xr-x 2 0 0 rootfs/usr/lib\n"
        "-rw-r--r-- 1 0 0 rootfs/usr/lib/libx.so\n";
    struct ev_buf got = EV_BUF_INIT(1 << 16);

    if (try("command -v cpio >/dev/null") != 0) {
        SKIP(1, "no cpio to compare with");
        return;
    }
    MUST(-try("cpio -itnv --quiet <app.cpio 2>/dev/null | "
              "sed -E 's/^([^ ]+ +[0-9]+ +[0-9]+ +[0-9]+) .* 1970 ([^ ]*).*/\\1 \\2/' "
              "| tr -s ' ' >listing"));
    MUST(ev_file_read(in_dir("listing"), &got, NULL));
    OK(strcmp(ev_buf_str(&got), want) == 0, "GNU cpio reads ramdisk 2");
    ev_buf_fini(&got);
}

static void test_unpack(void)
{
    struct ev_err err = EV_ERR_INIT;
    int root;

    MUST(-try("rm -rf root && mkdir root"));
    root = open(in_dir("root"), O_PATH | O_DIRECTORY);
    OK(ev_image_unpack(in_dir("a.eif"), root, &err) == 0, "unpacked %s", err.msg);
    close(root);
    EQ_INT(try("cd root && test -x init && test \"$(cat usr/lib/libc.so)\" = libc && test -L rootfs/lib && "
               "test \"$(cat rootfs/usr/lib/libx.so)\" = x && test \"$(readlink rootfs/lib)\" = usr/lib && "
               "test rootfs/bin/app -ef rootfs/bin/alias && grep -q 'echo app' rootfs/bin/alias && "
               "test -u rootfs/bin/app && "
               "test \"$(stat -c %a rootfs/data)\" = 500 && test ! -e rootfs/data/old && test -p rootfs/pipe && "
               "test -d rootfs/run && test ! -L rootfs/run && test \"$(cat cage/config.json)\" = '{}' && "
               "test \"$(stat -c %Y rootfs/bin-x)\" = 0"), 0, "files, links, modes, times are there");
    if (geteuid() == 0)
        EQ_INT(try("cd root && test \"$(stat -c %u:%g rootfs/data)\" = 1000:1000"), 0, "owners");
    else
        SKIP(1, "owners need root");
    root = open(in_dir("root"), O_PATH | O_DIRECTORY);
    OK(ev_image_unpack(in_dir("a.eif"), root, &err) < 0, "a second time ramdisk 2 finds its place taken: %s", err.msg);
    close(root);
    MUST(-try("chmod -R u+w root; rm -rf root"));
}

static void test_config(void)
{
    static const char *const source[] = { "docker.tar", "docker.tar.gz", "oci", "ocz.tar" };
    struct ev_image_config c;
    struct ev_err err = EV_ERR_INIT;

    for (size_t i = 0; i < EV_COUNT(source); i++) {
        OK(ev_image_read_config(in_dir(source[i]), &c, &err) == 0, "configuration of %s %s", source[i], err.msg);
        OK(c.entrypoint && strcmp(c.entrypoint[0], "/bin/app") == 0 && !c.entrypoint[1] &&
           strcmp(c.cmd[1], "b c") == 0 &&
           strcmp(c.env[0], "K=V") == 0 && strcmp(c.workdir, "/data") == 0 && strcmp(c.user, "1000") == 0 &&
           c.n_ports == 2 && c.ports[0] == 80 && c.ports[1] == 8008 && strcmp(c.architecture, "amd64") == 0 &&
           strlen(c.id) == 64, "what it says");
        ev_image_config_fini(&c);
    }
    EQ_INT(ev_image_read_config(in_dir("nothing"), &c, &err), -ENOENT, "a missing one");
    OK(ev_image_read_config(in_dir("kernel"), &c, &err) < 0, "something else: %s", err.msg);
    OK(ev_image_read_config(in_dir("layer0.tar"), &c, &err) < 0 && strcmp(err.reason, "image-archive") == 0,
       "a tar that is no image: %s", err.msg);
}

/* ---- AWS's samples ---- */

static void demand_pcr(const struct ev_pcrs *p, int i, const char *hex, const char *what)
{
    struct ev_buf got = EV_BUF_INIT(256);

    MUST(ev_hex_put(&got, ev_slice_of(p->value[i], 48)));
    OK((p->present >> i & 1) && strcmp(ev_buf_str(&got), hex) == 0, "%s: PCR%d", what, i);
    ev_buf_fini(&got);
}

#define PCR0 "df9a0e1771823a1bf4608acdccc7b207de68c44b514e7a44e02a7baa65c49a7c319bda25c0fb0385c1858f09f9925cad"
#define PCR1 "ac928d6b0241b2a3fdb3643c6d5c2728d809136f94bb4b5cdf1128f4c67b7d3da589bd41b66122efec2aa3ab89db4e6d"
#define PCR2 "068b80805231f416b2a5ffbe8f07bcfe07e50ac2ac4226dd2a67a32b7921c8a64b87654ee59081b02072931e40000efe"
#define PCR2_NONE "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
#define PCR8 "8db346da37365ce61ecb077794c378c148bea77429c5309d2161931e26daa247cd4dc1068ab2081ae7ea27de206ed216"

static void test_samples(void)
{
    static const struct { const char *file, *pcr[9]; bool is_signed; } s[] = {
        { GOLDEN "aws-unsigned.eif", { PCR0, PCR1, PCR2 }, false },
        { GOLDEN "aws-signed-p384.eif", { PCR0, PCR1, PCR2, [8] = PCR8 }, true },
        { GOLDEN "aws-one-ramdisk-arm64.eif", { PCR1, PCR1, PCR2_NONE }, false },
    };
    struct ev_image_info info;
    struct ev_err err = EV_ERR_INIT;

    for (size_t i = 0; i < EV_COUNT(s); i++) {
        OK(ev_image_describe(s[i].file, NULL, &info, &err) == 0 && info.crc_ok && info.is_signed == s[i].is_signed &&
           info.signature_ok == s[i].is_signed, "%s %s%s", s[i].file, err.msg, info.signature_error);
        for (int k = 0; k < 9; k++)
            if (s[i].pcr[k])
                demand_pcr(&info.pcrs, k, s[i].pcr[k], s[i].file);
        ev_image_info_fini(&info);
        OK(ev_image_check_layout(s[i].file, &err) < 0, "and is no cage: %s", err.reason);
    }
}

struct bytes_of { const char *path; uint64_t n; };

static int emit_file(void *ctx, struct ev_pump *p, int how, struct ev_err *err)
{
    const struct bytes_of *b = ctx;
    int fd = open(b->path, O_RDONLY), rc = ev_pump_file(p, how, fd, 0, b->n, err);

    close(fd);
    return rc;
}

static uint64_t size_of(const char *path)
{
    struct stat st;

    MUST(stat(path, &st));
    return (uint64_t)st.st_size;
}

static void test_rebuild_sample(void)
{
    struct bytes_of disk[2] = { { GOLDEN "ramdisk0.bin", 0 }, { GOLDEN "ramdisk1.bin", 0 } };
    struct ev_pack_ramdisk ramdisk[2];
    struct ev_buf cmdline = EV_BUF_INIT(4096), want = EV_BUF_INIT(1 << 20), got = EV_BUF_INIT(1 << 20);
    struct ev_image_info info;
    struct ev_pack k = { .kernel_fd = open(GOLDEN "kernel.bin", O_RDONLY), .kernel_size = size_of(GOLDEN "kernel.bin"),
                         .ramdisk = ramdisk, .n_ramdisks = 2, .output = in_dir("sample.eif") };
    struct ev_pcrs pcrs = {0};
    struct ev_err err = EV_ERR_INIT;
    uint64_t size;

    for (int i = 0; i < 2; i++) {
        disk[i].n = size_of(disk[i].path);
        ramdisk[i] = (struct ev_pack_ramdisk){ disk[i].n, emit_file, &disk[i] };
    }
    MUST(ev_file_read(GOLDEN "cmdline.txt", &cmdline, NULL));
    MUST(ev_image_describe(GOLDEN "aws-unsigned.eif", NULL, &info, NULL));
    k.cmdline = ev_buf_slice(&cmdline);
    k.metadata = ev_buf_slice(&info.metadata);
    OK(ev_pack_write(&k, NULL, &pcrs, &size, &err) == 0, "our writer with AWS's inputs %s", err.msg);
    MUST(ev_file_read(in_dir("sample.eif"), &got, NULL));
    MUST(ev_file_read(GOLDEN "aws-unsigned.eif", &want, NULL));
    OK(ev_slice_eq(ev_buf_slice(&got), ev_buf_slice(&want)), "gives aws-unsigned.eif byte for byte");
    demand_pcr(&pcrs, 0, PCR0, "ours");
    close(k.kernel_fd);
    ev_image_info_fini(&info);
    ev_buf_fini(&cmdline);
    ev_buf_fini(&want);
    ev_buf_fini(&got);
}

/* ---- signatures ---- */

static void load_pair(const char *curve, struct ev_buf *cert, struct ev_key **key)
{
    char cmd[512];
    struct ev_buf pem = EV_BUF_INIT(65536);

    snprintf(cmd, sizeof cmd, "openssl ecparam -name %s -genkey -noout -out %s.key && "
             "openssl req -x509 -new -key %s.key "
             "-subj /CN=t -days 10 -out %s.pem 2>/dev/null", curve, curve, curve, curve);
    MUST(-try(cmd));
    snprintf(cmd, sizeof cmd, "%s.pem", curve);
    MUST(ev_file_read(in_dir(cmd), cert, NULL));
    snprintf(cmd, sizeof cmd, "%s.key", curve);
    MUST(ev_file_read(in_dir(cmd), &pem, NULL));
    MUST(ev_key_from_pem(ev_buf_slice(&pem), key, NULL));
    ev_buf_wipe(&pem);
}

/* r || s → DER, Sig_structure → file; `openssl dgst -verify` judges. Works on the golden layout of eif.md §3. */
static const char split_signature[] =
    "import sys, struct\n"
    "d = open('s.eif','rb').read(); n = struct.unpack('>H', d[26:28])[0]\n"
    "off = struct.unpack('>Q', d[28+8*(n-1):36+8*(n-1)])[0]\n"
    "size = struct.unpack('>Q', d[off+4:off+12])[0]; assert off + 12 + size == len(d)\n"
    "s = d[off+12:]; pos = 0\n"
    "def head():\n"
    "    global pos\n"
    "    b = s[pos]; pos += 1; t, v = b >> 5, b & 31\n"
    "    if v >= 24:\n"
    "        k = 1 << (v - 24); v = int.from_bytes(s[pos:pos+k], 'big'); pos += k\n"
    "    return t, v\n"
    "def item():\n"
    "    global pos\n"
    "    t, v = head()\n"
    "    if t == 0: return v\n"
    "    if t == 1: return -1 - v\n"
    "    if t in (2, 3): pos += v; return s[pos-v:pos]\n"
    "    if t == 4: return [item() for _ in range(v)]\n"
    "    if t == 5: return {item(): item() for _ in range(v)}\n"
    "top = item()[0]; assert pos == len(s)\n"
    "open('s.pem','wb').write(bytes(top[b'signing_certificate']))\n"
    "s = bytes(top[b'signature']); pos = 0; prot, unp, payload, sig = item(); assert unp == {} and pos == len(s)\n"
    "def bstr(x): return (bytes([0x40 | len(x)]) if len(x) < 24 else bytes([0x58, len(x)])) + x\n"
    "open('tbs','wb').write(b'\\x84\\x6aSignature1' + bstr(prot) + b'\\x40' + bstr(payload))\n"
    "def i(b):\n"
    "    b = b.lstrip(b'\\0'); b = b'\\0' + b if b[0] & 128 else b\n"
    "    return bytes([2, len(b)]) + b\n"
    "h = len(sig) // 2; body = i(sig[:h]) + i(sig[h:])\n"
    "head = bytes([0x30, len(body)]) if len(body) < 128 else bytes([0x30, 0x81, len(body)])\n"
    "open('sig','wb').write(head + body)\n";

static void test_signature(const char *curve, const char *digest)
{
    struct ev_image_build b = plan("docker.tar", "s.eif");
    struct ev_buf cert = EV_BUF_INIT(65536);
    struct ev_key *key = NULL;
    struct ev_image_result r, plain;
    struct ev_image_info info;
    struct ev_err err = EV_ERR_INIT;
    char cmd[512];

    load_pair(curve, &cert, &key);
    b.cert_pem = ev_buf_slice(&cert);
    b.key = key;
    OK(ev_image_build(&b, NULL, &r, &err) == 0, "%s: signed %s", curve, err.msg);
    OK(ev_image_describe(in_dir("s.eif"), NULL, &info, &err) == 0 && info.is_signed && info.signature_ok &&
       info.crc_ok &&
       memcmp(&info.pcrs, &r.pcrs, sizeof r.pcrs) == 0 && r.pcrs.present == 0x107, "%s: verified by us %s", curve,
       info.signature_error);
    ev_image_info_fini(&info);
    b.output = in_dir("s2.eif");
    OK(ev_image_build(&b, NULL, &r, &err) == 0 && same_file("s.eif", "s2.eif"), "%s: the same bytes a second time",
       curve);
    b.cert_pem = (ev_slice){0};
    b.key = NULL;
    OK(ev_image_build(&b, NULL, &plain, &err) == 0 && memcmp(plain.pcrs.value, r.pcrs.value, 3 * 48) == 0,
       "%s: signing changes no measurement", curve);
    write_file("split.py", split_signature, sizeof split_signature - 1);
    snprintf(cmd, sizeof cmd, "python3 split.py && cmp s.pem %s.pem && openssl x509 -in s.pem -noout -pubkey >s.pub && "
             "openssl dgst -%s -verify s.pub -signature sig tbs >/dev/null", curve, digest);
    if (try("command -v python3 >/dev/null") == 0)
        EQ_INT(try(cmd), 0, "openssl verifies it");
    else
        SKIP(1, "no python3 to take the signature apart");
    ev_key_free(key);
    ev_buf_fini(&cert);
}

static void sign_fails(const struct ev_buf *cert, const struct ev_key *key, int64_t now, const char *reason)
{
    struct ev_image_build b = plan("docker.tar", "x.eif");
    struct ev_image_result r;
    struct ev_err err = EV_ERR_INIT;

    b.cert_pem = ev_buf_slice(cert);
    b.key = key;
    b.now_ms = now;
    OK(ev_image_build(&b, NULL, &r, &err) < 0 && strcmp(err.reason, reason) == 0, "refused: %s (%s)", reason, err.msg);
    OK(access(in_dir("x.eif"), F_OK) < 0, "and nothing is left");
}

static void test_signer(void)
{
    struct ev_buf cert = EV_BUF_INIT(65536), other = EV_BUF_INIT(65536), rsa = EV_BUF_INIT(65536),
        pem = EV_BUF_INIT(65536);
    struct ev_buf none = EV_BUF_INIT(1);
    struct ev_key *key = NULL, *other_key = NULL, *rsa_key = NULL;

    load_pair("prime256v1", &cert, &key);
    load_pair("secp384r1", &other, &other_key);
    sign_fails(&other, key, 0, "sign-mismatch");
    sign_fails(&cert, key, 4102444800000, "cert-expired");
    sign_fails(&cert, key, 1000, "cert-not-yet-valid");
    sign_fails(&none, key, 0, "sign-pair");
    MUST(-try("openssl genrsa -out rsa.key 2048 2>/dev/null && "
              "openssl req -x509 -new -key rsa.key -subj /CN=t -out rsa.pem 2>/dev/null"));
    MUST(ev_file_read(in_dir("rsa.pem"), &rsa, NULL));
    MUST(ev_file_read(in_dir("rsa.key"), &pem, NULL));
    MUST(ev_key_from_pem(ev_buf_slice(&pem), &rsa_key, NULL));
    sign_fails(&rsa, rsa_key, 0, "sign-curve");
    ev_key_free(key);
    ev_key_free(other_key);
    ev_key_free(rsa_key);
    ev_buf_fini(&cert);
    ev_buf_fini(&other);
    ev_buf_fini(&rsa);
    ev_buf_fini(&pem);
}

/* The signature of one image in another: the attack of eif.md §3. */
static void test_stale_signature(void)
{
    struct ev_buf section = EV_BUF_INIT(EV_EIF_SIGNATURE_MAX);
    struct ev_err err = EV_ERR_INIT;
    struct ev_cert *cert = NULL;
    struct ev_eif e;
    uint8_t pcr0[48] = { 1 };
    int fd = open(GOLDEN "aws-signed-p384.eif", O_RDONLY);
    size_t accepted = 0, n;

    MUST(ev_eif_read(fd, &e, NULL));
    MUST(ev_eif_load(fd, ev_eif_find(&e, EV_EIF_SIGNATURE, 0), &section, NULL));
    OK(ev_image_check_signature(ev_buf_slice(&section), pcr0, &cert, &err) == EV_EVERIFY &&
       strcmp(err.reason, "sign-pcr0") == 0 && cert, "a signature over another PCR0: %s", err.msg);
    ev_cert_free(cert);
    MUST(ev_hex_decode(EV_LIT(PCR0), pcr0, 48));
    for (n = 0; n < section.n; n += 7) {
        accepted += ev_image_check_signature(ev_slice_of(section.p, n), pcr0, &cert, NULL) >= 0;
        ev_cert_free(cert);
    }
    EQ_INT(accepted, 0, "truncated signatures");
    for (n = section.n - 150; n < section.n; n += 3) {
        section.p[n] ^= 1;
        accepted += ev_image_check_signature(ev_buf_slice(&section), pcr0, &cert, NULL) >= 0;
        ev_cert_free(cert);
        section.p[n] ^= 1;
    }
    EQ_INT(accepted, 0, "changed signatures");
    ev_buf_fini(&section);
    close(fd);
}

int main(void)
{
    char template[] = "/tmp/ev-image-XXXXXX";

    dir = mkdtemp(template);
    if (!dir)
        return 1;
    test_samples();
    make_inputs();
    test_rebuild_sample();
    test_sources();
    test_against_openssl();
    test_ramdisk();
    test_unpack();
    test_config();
    test_signature("prime256v1", "sha256");
    test_signature("secp384r1", "sha384");
    test_signature("secp521r1", "sha512");
    test_signer();
    test_stale_signature();
    MUST(-try("cd / && rm -rf \"$OLDPWD\""));
    return tap_done();
}
