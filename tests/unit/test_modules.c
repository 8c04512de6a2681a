/* test_modules.c — the folder of kernel modules that PID 1 loads: order, bounds, what is refused. Loading
 * itself is a function of straw here; the real one runs in tests/flow/long_kernel.sh. */
#include "role/modules.h"

#include "tap.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[] = "/tmp/ev-modules-XXXXXX";

struct straw {
    size_t calls;
    int answer[4];                              /* of each call; what the kernel would say */
    char seen[4][32];                           /* first bytes of each file */
};

static int straw_load(void *ctx, int fd)
{
    struct straw *s = ctx;
    size_t i = s->calls++;

    if (i >= EV_COUNT(s->answer) || pread(fd, s->seen[i], sizeof(s->seen[i]) - 1, 0) < 0)
        return -EIO;
    return s->answer[i];
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st; (void)type; (void)ftw;
    return remove(path);
}

static void clean(void)
{
    nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (mkdir(base, 0755) < 0)
        perror(base);
}

static void put(const char *name, const char *text)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", base, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        perror(path);
    close(fd);
}

static void in_base(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", base, name);
}

static void test_order(void)
{
    struct ev_modules m;
    struct ev_err err = EV_ERR_INIT;
    struct straw s = { .answer = { 0, -EEXIST, 0 } };
    char path[256];

    in_base(path, "none");
    OK(ev_modules_list(path, &m, &err) == 0 && m.n == 0 && m.dir < 0, "no folder: nothing to load");
    EQ_INT(ev_modules_each(&m, straw_load, &s, &err), 0, "and loading that is fine");
    ev_modules_fini(&m);
    OK(ev_modules_list(base, &m, &err) == 0 && m.n == 0 && m.dir >= 0, "an empty folder");
    ev_modules_fini(&m);
    put("10-last.ko", "c");
    put("00-first.ko", "a");
    put("01-next.ko", "b");
    OK(ev_modules_list(base, &m, &err) == 0 && m.n == 3, "three modules: %s", err.msg);
    OK(ev_modules_each(&m, straw_load, &s, &err) == 0 && s.calls == 3, "one that is loaded already is no error");
    OK(strcmp(s.seen[0], "a") == 0 && strcmp(s.seen[1], "b") == 0 && strcmp(s.seen[2], "c") == 0,
       "in the order of their names");
    ev_modules_fini(&m);
    ev_modules_fini(&m);
}

static void test_refusals(void)
{
    static const struct { int answer; const char *text; } fails[] = {
        { -ENOEXEC, "01-next.ko: the kernel does not take it" }, { -EKEYREJECTED, "01-next.ko" },
        { -EPERM, "01-next.ko" }, { -ENODEV, "01-next.ko" },
    };
    struct ev_modules m;

    EQ_INT(ev_modules_list(base, &m, NULL), 0, "the same folder");
    for (size_t i = 0; i < EV_COUNT(fails); i++) {
        struct straw s = { .answer = { 0, fails[i].answer, 0 } };
        struct ev_err err = EV_ERR_INIT;

        EQ_INT(ev_modules_each(&m, straw_load, &s, &err), fails[i].answer, "the kernel's reason is the error");
        OK(strstr(err.msg, fails[i].text) && s.calls == 2, "it names the module and stops there: %s", err.msg);
    }
    ev_modules_fini(&m);
}

static void test_one_bad(const char *name, const char *text, bool listed, const char *why)
{
    struct ev_modules m;
    struct straw s = { .answer = { 0 } };
    struct ev_err err = EV_ERR_INIT;
    int rc;

    clean();
    put(name, text);
    rc = ev_modules_list(base, &m, &err);
    OK((rc == 0) == listed, "%s: %s: %s", name, why, err.msg);
    if (rc == 0) {
        OK(ev_modules_each(&m, straw_load, &s, &err) < 0 && s.calls == 0 && strstr(err.msg, name),
           "%s: never loaded: %s", why, err.msg);
        ev_modules_fini(&m);
    }
}

static void test_entries(void)
{
    char path[256], far[200], name[32];
    struct ev_modules m;
    struct straw s = { .answer = { 0 } };
    struct ev_err err = EV_ERR_INIT;

    test_one_bad("00-empty.ko", "", true, "an empty file");
    test_one_bad("modules.dep", "x", false, "not a module");
    test_one_bad(".ko", "x", false, "no name");
    test_one_bad(".hidden.ko", "x", false, "hidden");
    memset(far, 'a', sizeof(far));
    memcpy(far + EV_MODULE_NAME - 3, ".ko", 4);
    test_one_bad(far, "x", false, "a long name");

    clean();
    in_base(path, "00-big.ko");
    put("00-big.ko", "x");
    OK(truncate(path, (off_t)EV_MODULE_BYTES + 1) == 0 && ev_modules_list(base, &m, &err) == 0, "a large file");
    OK(ev_modules_each(&m, straw_load, &s, &err) == EV_ELIMIT && s.calls == 0, "is never loaded: %s", err.msg);
    ev_modules_fini(&m);

    clean();
    in_base(path, "00-link.ko");
    OK(symlink("/etc/passwd", path) == 0 && ev_modules_list(base, &m, &err) == 0, "a link");
    OK(ev_modules_each(&m, straw_load, &s, &err) < 0 && s.calls == 0, "is never followed: %s", err.msg);
    ev_modules_fini(&m);
    clean();
    OK(mkfifo(path, 0600) == 0 && ev_modules_list(base, &m, &err) == 0, "a pipe");
    OK(ev_modules_each(&m, straw_load, &s, &err) < 0 && s.calls == 0, "is never waited for: %s", err.msg);
    ev_modules_fini(&m);

    clean();
    for (int i = 0; i < EV_MODULES_MAX; i++) {
        snprintf(name, sizeof(name), "%02d-m.ko", i);
        put(name, "x");
    }
    OK(ev_modules_list(base, &m, &err) == 0 && m.n == EV_MODULES_MAX, "as many as there may be");
    ev_modules_fini(&m);
    put("99-m.ko", "x");
    EQ_INT(ev_modules_list(base, &m, &err), EV_ELIMIT, "and one more");
    clean();
    in_base(path, "file");
    put("file", "x");
    OK(ev_modules_list(path, &m, &err) < 0 && m.dir < 0, "a file where the folder should be: %s", err.msg);
}

int main(void)
{
    if (!mkdtemp(base))
        return 1;
    test_order();
    test_refusals();
    test_entries();
    nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return tap_done();
}
