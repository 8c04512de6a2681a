/* test_base.c — err, mem, buf, log, file: the layer under everything. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "tap.h"

static void test_err(void)
{
    struct ev_err err = EV_ERR_INIT;
    char longer[3 * EV_ERR_MSG];

    EQ_INT(ev_fail(NULL, EV_EPARSE, "x"), EV_EPARSE, "a NULL error object still gives the code");
    EQ_INT(ev_fail_reason(&err, EV_EVERIFY, "pcr-mismatch", "PCR%d differs", 0), EV_EVERIFY, "code");
    ev_err_wrap(&err, "document %s", "a.cbor");
    EQ_STR(err.msg, "document a.cbor: PCR0 differs", "wrap prepends");
    EQ_STR(err.reason, "pcr-mismatch", "the reason survives a wrap");
    ev_fail(&err, EV_ECONFIG, "again");
    EQ_STR(err.reason, "", "a new failure has no old reason");
    errno = ENOENT;
    EQ_INT(ev_fail_errno(&err, "open %s", "x"), -ENOENT, "errno becomes the code");
    EQ_STR(err.msg, "open x: No such file or directory", "errno's text is appended");
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    ev_fail(&err, EV_EPARSE, "%s", longer);
    ev_err_wrap(&err, "%s", longer);
    EQ_INT(strlen(err.msg), EV_ERR_MSG - 1, "a long text is cut, not overrun");
    ev_fail(&err, EV_EPARSE, "entry %s", "a\033]0;x\007\177\xc2\x9b" "31m\tz\xc3\x9c\n");
    EQ_STR(err.msg, "entry a?]0;x????31m\tz\xc3\x9c?", "names of strangers bring no control characters");
    ev_err_wrap(&err, "b\033c");
    OK(strncmp(err.msg, "b?c: ", 5) == 0, "nor do those that are wrapped around it");
    EQ_STR(ev_err_name(EV_EVERIFY), "EVERIFY", "our name");
    EQ_STR(ev_err_name(-ENOENT), "ENOENT", "errno's name");
    EQ_STR(ev_err_name(-999999), "EUNKNOWN", "no name");
    EQ_INT(ev_err_exit_code(EV_EVERIFY), 76, "exit code of a failed attestation");
    EQ_INT(ev_err_exit_code(EV_EDENY), 77, "exit code of a refusal");
    EQ_INT(ev_err_exit_code(-ENOENT), 66, "exit code of a missing input");
    EQ_INT(ev_err_exit_code(-ENOSPC), 74, "exit code of a full disk");
}

static void test_mem(void)
{
    struct ev_secret s;
    char *t = ev_asprintf("%s-%d", "a", 7);

    EQ_STR(t, "a-7", "asprintf");
    ev_free(t);
    OK(ev_slice_eq(EV_LIT("ab"), ev_slice_str("ab")), "equal slices");
    OK(!ev_slice_eq(EV_LIT("ab"), EV_LIT("abc")), "another length");
    OK(ev_slice_eq_ct(EV_LIT("ab"), EV_LIT("ab")) && !ev_slice_eq_ct(EV_LIT("ab"), EV_LIT("ac")),
       "constant-time comparison agrees");
    OK(ev_slice_eq_ct(EV_LIT(""), ev_slice_str(NULL)), "empty equals empty");
    ev_secret_copy(&s, "key", 3);
    OK(s.n == 3 && memcmp(s.p, "key", 3) == 0, "secret copied");
    ev_secret_fini(&s);
    ev_secret_fini(&s);
    OK(s.p == NULL && s.n == 0, "fini twice is harmless");
}

static void test_buf(void)
{
    struct ev_buf b = EV_BUF_INIT(10);

    EQ_STR(ev_buf_str(&b), "", "an empty buffer reads as text");
    EQ_INT(ev_buf_puts(&b, "0123456789"), 0, "fills to its maximum");
    EQ_INT(ev_buf_putc(&b, 'x'), -ENOBUFS, "one more is refused");
    EQ_STR(ev_buf_str(&b), "0123456789", "and the content is as it was");
    ev_buf_consume(&b, 4);
    EQ_STR(ev_buf_str(&b), "456789", "consume drops from the front");
    EQ_INT(ev_buf_printf(&b, "%03d", 7), 0, "printf");
    EQ_STR(ev_buf_str(&b), "456789007", "printf appended");
    EQ_INT(ev_buf_printf(&b, "%s", "too long"), -ENOBUFS, "printf is bounded too");
    ev_buf_consume(&b, 100);
    EQ_INT(b.n, 0, "consuming more than there is empties it");
    EQ_INT(ev_buf_put_u64be(&b, 0x0102030405060708u), 0, "u64");
    EQ_INT(ev_get_u64be(b.p), 0x0102030405060708, "big-endian there and back");
    EQ_INT(ev_buf_reserve(&b, SIZE_MAX), -ENOBUFS, "a size that would wrap is refused");
    ev_buf_wipe(&b);
    ev_buf_fini(&b);
}

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    while (d && readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void test_file(void)
{
    char dir[] = "/tmp/ev-test-base-XXXXXX";
    char *path, *missing;
    struct ev_buf b = EV_BUF_INIT(5);
    struct ev_err err = EV_ERR_INIT;
    struct stat st;

    OK(mkdtemp(dir) != NULL, "temporary folder");
    path = ev_asprintf("%s/f", dir);
    missing = ev_asprintf("%s/no/f", dir);
    EQ_INT(ev_file_write(path, EV_LIT("hello"), 0600, &err), 0, "write");
    OK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "mode as asked");
    EQ_INT(ev_file_read(path, &b, &err), 0, "read, exactly as large as the limit");
    EQ_STR(ev_buf_str(&b), "hello", "content");
    ev_buf_clear(&b);
    EQ_INT(ev_file_write(path, EV_LIT("hello!"), 0600, &err), 0, "replace");
    EQ_INT(ev_file_read(path, &b, &err), -ENOBUFS, "one byte over the limit is refused");
    EQ_INT(ev_file_read(missing, &b, &err), -ENOENT, "missing file");
    EQ_INT(ev_file_write(missing, EV_LIT("x"), 0600, &err), -ENOENT, "missing folder");
    EQ_INT(entries(dir), 1, "no temporary file is left");
    ev_buf_fini(&b);
    unlink(path);
    rmdir(dir);
    ev_free(path);
    ev_free(missing);
}

static void test_log(void)
{
    int p[2];
    char line[256];
    ssize_t n;

    OK(pipe(p) == 0, "pipe");
    ev_log_set_fd(p[1]);
    ev_log_set_level(EV_INFO);
    ev_log(EV_DEBUG, "test", "not shown");
    ev_log(EV_WARN, "test", "a\nb\033[31m%d", 7);
    n = read(p[0], line, sizeof line - 1);
    line[n > 0 ? n : 0] = '\0';
    OK(strcmp(line, "warn test: a?b?[31m7\n") == 0, "one line, control bytes made harmless");
    ev_log_set_fd(2);
    close(p[0]);
    close(p[1]);
}

int main(void)
{
    test_err();
    test_mem();
    test_buf();
    test_file();
    test_log();
    return tap_done();
}
