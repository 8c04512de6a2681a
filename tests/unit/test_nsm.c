/* Tests of nitro/nsm.c: what goes out, what is accepted, over packets and over a fake driver. */
#include "nitro/nsm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attest_kit.h"
#include "tap.h"

static struct ev_nsm *nsm;
static int peer = -1;

static void up(void)
{
    int fd[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
        abort();
    MUST(ev_nsm_from_fd(fd[0], &nsm, &kit_err));
    peer = fd[1];
}

static void down(void)
{
    ev_nsm_close(nsm);
    if (peer >= 0)
        close(peer);
    nsm = NULL;
    peer = -1;
}

/* Throws away requests that nobody looks at, so that the socket never fills. */
static void drain(void)
{
    uint8_t byte;

    while (recv(peer, &byte, 1, MSG_DONTWAIT) >= 0)
        ;
}

/* The answer lies ready before the call; the request is read afterwards. */
static void ready(ev_slice answer)
{
    if (send(peer, answer.p, answer.n, MSG_NOSIGNAL) != (ssize_t)answer.n)
        abort();
}

static void sent(ev_slice want, const char *what)
{
    static uint8_t got[8192];
    ssize_t n = recv(peer, got, sizeof got, MSG_DONTWAIT);

    OK(n >= 0 && ev_slice_eq(ev_slice_of(got, (size_t)n), want), "request: %s", what);
}

#define SHA_ZERO "\x58\x30" "0123456789abcdef0123456789abcdef0123456789abcdef"
#define DESCRIBED "\xA1\x6B" "DescribeNSM" "\xA7\x6D" "version_major" "\x01\x6D" "version_minor" "\x02" \
    "\x6D" "version_patch" "\x18\xFF" "\x69" "module_id" "\x68" "i-0-enc0" "\x68" "max_pcrs" "\x18\x20" \
    "\x6B" "locked_pcrs" "\x83\x00\x01\x10" "\x66" "digest" "\x66" "SHA384"

static void test_describe(void)
{
    struct ev_nsm_info info;
    struct ev_err err = EV_ERR_INIT;
    static const char whole[] = DESCRIBED;
    int bad = 0;

    up();
    ready(EV_LIT(DESCRIBED));
    EQ_INT(ev_nsm_describe(nsm, &info, &err), 0, "DescribeNSM");
    sent(EV_LIT("\x6B" "DescribeNSM"), "DescribeNSM");
    EQ_STR(info.module_id, "i-0-enc0", "module_id");
    EQ_STR(info.digest, "SHA384", "digest");
    OK(info.version[0] == 1 && info.version[1] == 2 && info.version[2] == 255, "version");
    OK(info.max_pcrs == 32 && info.locked == 0x10003, "registers");
    OK(ev_nsm_simulated(nsm), "a socket is the simulator");
    for (size_t n = 1; n < sizeof whole - 1; n++) {
        drain();
        ready(ev_slice_of(whole, n));
        bad += ev_nsm_describe(nsm, &info, &err) != EV_EPARSE;
    }
    EQ_INT(bad, 0, "an answer cut at any byte is malformed");
    ready(EV_LIT(DESCRIBED "\x00"));
    EQ_INT(ev_nsm_describe(nsm, &info, &err), EV_EPARSE, "a byte more too");
    ready(EV_LIT(DESCRIBED));
    EQ_INT(ev_nsm_describe(nsm, &info, NULL), 0, "the client lives on after malformed answers");
    down();
}

static void malformed(ev_slice answer, const char *what)
{
    struct ev_nsm_info info;
    struct ev_err err = EV_ERR_INIT;

    up();
    ready(answer);
    OK(ev_nsm_describe(nsm, &info, &err) == EV_EPARSE && err.code == EV_EPARSE && strstr(err.msg, "DescribeNSM"),
       "malformed: %s (%s)", what, err.msg);
    down();
}

static void test_malformed(void)
{
    malformed(EV_LIT("\x6B" "DescribeNSM"), "a bare name where a map belongs");
    malformed(EV_LIT("\xA1\x69" "GetRandom" "\xA1\x66" "random" "\x41" "a"), "another request's");
    malformed(EV_LIT("\xA0"), "an empty map");
    malformed(EV_LIT("\x80"), "an array");
    malformed(EV_LIT("\xA1\x6B" "DescribeNSM" "\xA0"), "no arguments");
    malformed(EV_LIT("\xA1\x6B" "DescribeNSM" "\xF6"), "null");
    malformed(EV_LIT("\xA1\x6B" "DescribeNSM" "\xA2\x66" "digest" "\x66" "SHA384" "\x66" "digest" "\x66" "SHA384"),
              "a key twice");
    malformed(EV_LIT("\xA1\x6B" "DescribeNSM" "\xA1\x6D" "version_major" "\x1A\x00\x01\x00\x00"), "a large version");
    malformed(EV_LIT("\xA1\x6B" "DescribeNSM" "\xA1\x6B" "locked_pcrs" "\x81\x18\x40"), "PCR64");
    malformed(EV_LIT("\xA1\x6B" "DescribeNSM" "\xA1\x6B" "locked_pcrs" "\x81\x61" "1"), "a text as PCR");
    malformed(EV_LIT("\xA1\x65" "Error" "\x01"), "an error that is a number");
    malformed(EV_LIT("\xA1\x65" "Error" "\x6C" "InvalidIndex" "\x00"), "a byte after an error");
    malformed(EV_LIT("\xA2\x65" "Error" "\x6C" "InvalidIndex" "\x61" "a\x00"), "a pair after an error");
}

static void refused(const char *word, int code, const char *reason)
{
    struct ev_buf b = EV_BUF_INIT(256);
    struct ev_err err = EV_ERR_INIT;

    up();
    MUST(ev_cbor_put_map(&b, 1));
    MUST(ev_cbor_put_text(&b, "Error"));
    MUST(ev_cbor_put_text(&b, word));
    ready(ev_buf_slice(&b));
    EQ_INT(ev_nsm_lock(nsm, 3, &err), code, word);
    EQ_STR(err.reason, reason, "reason");
    ev_buf_fini(&b);
    down();
}

static void test_refused(void)
{
    refused("InvalidIndex", -EINVAL, "InvalidIndex");
    refused("InvalidArgument", -EINVAL, "InvalidArgument");
    refused("ReadOnlyIndex", -EPERM, "ReadOnlyIndex");
    refused("InputTooLarge", -EMSGSIZE, "InputTooLarge");
    refused("InvalidOperation", -EIO, "InvalidOperation");
    refused("InternalError", -EIO, "InternalError");
    refused("Whatever\x1B", -EIO, "unknown");
}

static void test_random(void)
{
    struct ev_buf b = EV_BUF_INIT(1024);
    uint8_t out[300], block[257];
    struct ev_err err = EV_ERR_INIT;

    up();
    for (int i = 0; i < 2; i++) {
        memset(block, 'A' + i, 256);
        ev_buf_clear(&b);
        MUST(ev_buf_put_slice(&b, EV_LIT("\xA1\x69" "GetRandom" "\xA1\x66" "random")));
        MUST(ev_cbor_put_bytes(&b, ev_slice_of(block, 256)));
        ready(ev_buf_slice(&b));
    }
    EQ_INT(ev_nsm_random(nsm, out, sizeof out, &err), 0, "300 random bytes in two calls");
    OK(out[0] == 'A' && out[255] == 'A' && out[256] == 'B' && out[299] == 'B', "in their places");
    sent(EV_LIT("\x69" "GetRandom"), "GetRandom");
    sent(EV_LIT("\x69" "GetRandom"), "GetRandom again");
    ready(EV_LIT("\xA1\x69" "GetRandom" "\xA1\x66" "random" "\x40"));
    EQ_INT(ev_nsm_random(nsm, out, 1, &err), EV_EPARSE, "no random bytes are an error");
    ev_buf_clear(&b);
    MUST(ev_buf_put_slice(&b, EV_LIT("\xA1\x69" "GetRandom" "\xA1\x66" "random")));
    MUST(ev_cbor_put_bytes(&b, ev_slice_of(block, 257)));
    ready(ev_buf_slice(&b));
    EQ_INT(ev_nsm_random(nsm, out, 1, &err), EV_EPARSE, "257 of them too");
    ready(EV_LIT("\xA1\x69" "GetRandom" "\xA2\x66" "random" "\x41" "a\x66" "random" "\x41" "b"));
    EQ_INT(ev_nsm_random(nsm, out, 1, &err), EV_EPARSE, "twice the key");
    EQ_INT(ev_nsm_random(nsm, out, 0, &err), 0, "none are fine without a call");
    ev_buf_fini(&b);
    down();
}

static void test_registers(void)
{
    uint8_t value[48] = {0};
    bool locked = false;
    struct ev_err err = EV_ERR_INIT;

    up();
    ready(EV_LIT("\xA1\x6B" "DescribePCR" "\xA2\x64" "lock" "\xF5\x64" "data" SHA_ZERO));
    EQ_INT(ev_nsm_pcr(nsm, 16, &locked, value, &err), 0, "DescribePCR");
    OK(locked && memcmp(value, "0123456789abcdef", 16) == 0, "lock and value");
    sent(EV_LIT("\xA1\x6B" "DescribePCR" "\xA1\x65" "index" "\x10"), "DescribePCR 16");
    ready(EV_LIT("\xA1\x6B" "DescribePCR" "\xBF\x64" "data" SHA_ZERO "\x64" "lock" "\xF4\x63" "new" "\x81\x01\xFF"));
    EQ_INT(ev_nsm_pcr(nsm, 255, NULL, value, &err), 0, "in another order, with a new key");
    sent(EV_LIT("\xA1\x6B" "DescribePCR" "\xA1\x65" "index" "\x18\xFF"), "DescribePCR 255");
    ready(EV_LIT("\xA1\x6B" "DescribePCR" "\xA2\x64" "lock" "\xF5\x64" "data" "\x43" "abc"));
    EQ_INT(ev_nsm_pcr(nsm, 0, &locked, value, &err), EV_EPARSE, "a value of 3 bytes");
    ready(EV_LIT("\xA1\x6B" "DescribePCR" "\xA1\x64" "data" SHA_ZERO));
    EQ_INT(ev_nsm_pcr(nsm, 0, &locked, value, &err), EV_EPARSE, "no lock");
    down();
    up();
    ready(EV_LIT("\xA1\x69" "ExtendPCR" "\xA1\x64" "data" SHA_ZERO));
    EQ_INT(ev_nsm_extend(nsm, 16, EV_LIT("app-phase"), &err), 0, "ExtendPCR");
    sent(EV_LIT("\xA1\x69" "ExtendPCR" "\xA2\x65" "index" "\x10\x64" "data" "\x49" "app-phase"), "ExtendPCR 16");
    ready(EV_LIT("\x67" "LockPCR"));
    EQ_INT(ev_nsm_lock(nsm, 16, &err), 0, "LockPCR");
    sent(EV_LIT("\xA1\x67" "LockPCR" "\xA1\x65" "index" "\x10"), "LockPCR 16");
    ready(EV_LIT("\x68" "LockPCRs"));
    EQ_INT(ev_nsm_lock(nsm, 16, &err), EV_EPARSE, "LockPCRs is no answer to LockPCR");
    down();
}

static void test_attest(void)
{
    static uint8_t big[1025], large[4097];
    struct ev_buf doc = EV_BUF_INIT(16384), tiny = EV_BUF_INIT(2);
    struct ev_err err = EV_ERR_INIT;
    ev_slice null = {0};

    up();
    ready(EV_LIT("\xA1\x6B" "Attestation" "\xA1\x68" "document" "\x43" "doc"));
    EQ_INT(ev_nsm_attest(nsm, EV_LIT("u"), null, EV_LIT(""), &doc, &err), 0, "Attestation");
    OK(ev_slice_eq(ev_buf_slice(&doc), EV_LIT("doc")), "the document");
    sent(EV_LIT("\xA1\x6B" "Attestation" "\xA3\x69" "user_data" "\x41" "u\x65" "nonce" "\xF6\x6A" "public_key" "\x40"),
         "Attestation: bytes, null, empty");
    ready(EV_LIT("\xA1\x6B" "Attestation" "\xA1\x68" "document" "\x40"));
    EQ_INT(ev_nsm_attest(nsm, null, null, null, &doc, &err), EV_EPARSE, "an empty document");
    ready(EV_LIT("\xA1\x6B" "Attestation" "\xA1\x68" "document" "\x43" "doc"));
    EQ_INT(ev_nsm_attest(nsm, null, null, null, &tiny, &err), -ENOBUFS, "no room for it");
    EQ_INT(ev_nsm_attest(nsm, ev_slice_of(big, 1025), null, null, &doc, &err), EV_ELIMIT, "user_data of 1025 bytes");
    EQ_STR(err.reason, "InputTooLarge", "reason");
    EQ_INT(ev_nsm_extend(nsm, 16, ev_slice_of(large, 4097), &err), EV_ELIMIT, "a request over 4096 bytes");
    ev_buf_fini(&doc);
    ev_buf_fini(&tiny);
    down();
}

/* ---- transport ---- */

static void test_silence(void)
{
    struct ev_nsm_info info;
    struct ev_err err = EV_ERR_INIT;

    up();
    ev_nsm_set_timeout(nsm, 50);
    EQ_INT(ev_nsm_describe(nsm, &info, &err), -ETIMEDOUT, "a silent NSM");
    ready(EV_LIT(DESCRIBED));
    EQ_INT(ev_nsm_describe(nsm, &info, &err), -EPIPE, "its late answer is nobody's");
    down();
    up();
    close(peer);
    peer = -1;
    OK(ev_nsm_describe(nsm, &info, &err) < 0, "an NSM that is gone (%s)", err.msg);
    down();
}

static void test_large(void)
{
    static uint8_t big[EV_NSM_RESP_MAX + 1];
    struct ev_buf doc = EV_BUF_INIT(16384), b = EV_BUF_INIT(16384);
    struct ev_err err = EV_ERR_INIT;

    up();
    MUST(ev_buf_put_slice(&b, EV_LIT("\xA1\x6B" "Attestation" "\xA1\x68" "document")));
    MUST(ev_cbor_put_bytes(&b, ev_slice_of(big, EV_NSM_RESP_MAX - b.n - 3)));
    EQ_INT(b.n, EV_NSM_RESP_MAX, "an answer of exactly 12288 bytes");
    ready(ev_buf_slice(&b));
    EQ_INT(ev_nsm_attest(nsm, (ev_slice){0}, (ev_slice){0}, (ev_slice){0}, &doc, &err), 0, "is taken");
    ready(ev_slice_of(big, sizeof big));
    EQ_INT(ev_nsm_attest(nsm, (ev_slice){0}, (ev_slice){0}, (ev_slice){0}, &doc, &err), EV_EPARSE, "one more is not");
    ev_buf_fini(&doc);
    ev_buf_fini(&b);
    down();
}

/* ---- the driver ---- */

/* Takes the place of the C library's: our fake driver. */
static struct {
    unsigned long number;
    unsigned interrupts;
    int error;
    uint64_t offered;
    uint8_t request[4096];
    size_t n_request;
    ev_slice answer;
    uint64_t claim;                     /* length to report, if not 0 */
} driver;

int ioctl(int fd, unsigned long number, ...)
{
    uint64_t m[4], *arg;
    va_list ap;

    (void)fd;
    va_start(ap, number);
    arg = va_arg(ap, uint64_t *);
    va_end(ap);
    memcpy(m, arg, sizeof m);
    driver.number = number;
    if (driver.interrupts > 0)
        return driver.interrupts--, errno = EINTR, -1;
    if (driver.error)
        return errno = driver.error, -1;
    driver.offered = m[3];
    driver.n_request = (size_t)m[1];
    memcpy(driver.request, (const void *)(uintptr_t)m[0], driver.n_request);
    memcpy((void *)(uintptr_t)m[2], driver.answer.p, driver.answer.n);
    arg[3] = driver.claim ? driver.claim : driver.answer.n;
    return 0;
}

static void test_driver(void)
{
    struct ev_nsm_info info;
    struct ev_nsm *n = NULL;
    struct ev_err err = EV_ERR_INIT;

    MUST(ev_nsm_from_device(open("/dev/null", O_RDWR | O_CLOEXEC), &n, &kit_err));
    OK(!ev_nsm_simulated(n), "a device is not the simulator");
    driver.interrupts = 3;
    driver.answer = EV_LIT(DESCRIBED);
    EQ_INT(ev_nsm_describe(n, &info, &err), 0, "DescribeNSM through the driver, interrupted three times");
    OK(driver.number == 0xC0200A00 && driver.offered == 0x3000, "number and size of the answer's buffer");
    OK(ev_slice_eq(ev_slice_of(driver.request, driver.n_request), EV_LIT("\x6B" "DescribeNSM")), "its request");
    EQ_INT(info.locked, 0x10003, "its answer");
    driver.error = ETIMEDOUT;
    EQ_INT(ev_nsm_describe(n, &info, &err), -ETIMEDOUT, "a silent device");
    driver.error = EMSGSIZE;
    EQ_INT(ev_nsm_describe(n, &info, &err), -EMSGSIZE, "its refusal of the size");
    driver.error = 0;
    EQ_INT(ev_nsm_describe(n, &info, &err), 0, "and alive again");
    driver.claim = 0x3001;
    EQ_INT(ev_nsm_describe(n, &info, &err), EV_EPARSE, "more bytes than the buffer holds");
    driver.claim = 5;
    EQ_INT(ev_nsm_describe(n, &info, &err), EV_EPARSE, "five of them");
    ev_nsm_close(n);
}

/* ---- opening ---- */

static int opened_with(int fd3)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        struct ev_nsm *n = NULL;
        int rc;

        close(EV_SIM_NSM_FD);
        if (fd3 >= 0)
            dup2(fd3, EV_SIM_NSM_FD);
        rc = ev_nsm_open(&n, NULL);
        if (rc == 0 && !(fcntl(EV_SIM_NSM_FD, F_GETFD) & FD_CLOEXEC))
            _exit(99);
        _exit(rc == 0 ? ev_nsm_simulated(n) ? 0 : 1 : -rc & 0xFF);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_open(void)
{
    int packets[2], stream[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;
    struct ev_nsm *n = NULL;
    struct ev_err err = EV_ERR_INIT;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, stream) < 0)
        abort();
    if (access("/dev/nsm", F_OK) == 0) {
        SKIP(4, "this machine has an NSM");
    } else {
        EQ_INT(opened_with(packets[0]), 0, "no device: the simulator's packet socket, closed on exec");
        EQ_INT(opened_with(stream[0]), ENODEV, "a stream socket is not it");
        EQ_INT(opened_with(null), ENODEV, "nor another descriptor");
        EQ_INT(opened_with(-1), ENODEV, "nor none");
    }
    EQ_INT(ev_nsm_from_fd(stream[0], &n, &err), -ENOTSOCK, "from_fd refuses a stream socket");
    OK(fcntl(stream[0], F_GETFD) < 0, "and has closed it");
    fd = open("tests/unit/test_nsm.c", O_RDONLY | O_CLOEXEC);
    EQ_INT(ev_nsm_from_device(fd, &n, &err), -ENOTTY, "from_device refuses a file");
    OK(fcntl(fd, F_GETFD) < 0, "and has closed it");
    ev_nsm_close(NULL);
    close(packets[0]);
    close(packets[1]);
    close(stream[1]);
    close(null);
}

int main(void)
{
    test_describe();
    test_malformed();
    test_refused();
    test_random();
    test_registers();
    test_attest();
    test_silence();
    test_large();
    test_driver();
    test_open();
    return tap_done();
}
