/* nsm.c — see nsm.h. Owns its descriptor.
 *
 *   encode request ──▶ ioctl(/dev/nsm)  or  one packet out, one packet in ──▶ decode strictly */
#include "nitro/nsm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/cbor.h"

enum { NSM_TIMEOUT_MS = 120000, NSM_RANDOM_MAX = 256, NSM_PCRS_MAX = 64, PCR_LEN = 48 };
static const char device_path[] = "/dev/nsm";

/* The driver's argument: two pairs of address and length. */
struct nsm_pair {
    uint64_t addr, len;
};
struct nsm_message {
    struct nsm_pair request, response;
};
#define NSM_IOCTL _IOWR(0x0A, 0, struct nsm_message)
_Static_assert(sizeof(struct nsm_message) == 32 && NSM_IOCTL == 0xC0200A00, "the driver's interface");

struct ev_nsm {
    int fd;
    bool device;            /* ioctl, else packets */
    bool dead;
    int timeout_ms;
};

/* ---- opening ---- */

static int make(int take_fd, bool device, struct ev_nsm **out)
{
    struct ev_nsm *n = ev_alloc(sizeof *n);

    n->fd = take_fd;
    n->device = device;
    n->timeout_ms = NSM_TIMEOUT_MS;
    *out = n;
    return 0;
}

static bool is_packet_socket(int fd)
{
    int type = 0;
    socklen_t len = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

int ev_nsm_from_fd(int take_fd, struct ev_nsm **out, struct ev_err *err)
{
    if (!is_packet_socket(take_fd)) {
        close(take_fd);
        return ev_fail(err, -ENOTSOCK, "descriptor %d is not a SOCK_SEQPACKET socket", take_fd);
    }
    if (fcntl(take_fd, F_SETFD, FD_CLOEXEC) < 0) {
        close(take_fd);
        return ev_fail_errno(err, "descriptor %d", take_fd);
    }
    return make(take_fd, false, out);
}

int ev_nsm_from_device(int take_fd, struct ev_nsm **out, struct ev_err *err)
{
    struct stat st;

    if (fstat(take_fd, &st) < 0 || !S_ISCHR(st.st_mode)) {
        close(take_fd);
        return ev_fail(err, -ENOTTY, "%s is not a character device", device_path);
    }
    return make(take_fd, true, out);
}

/* Only a device that is not there at all leads to the simulator's descriptor: one that cannot be
 * opened is a failure. */
int ev_nsm_open(struct ev_nsm **out, struct ev_err *err)
{
    int fd = open(device_path, O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        return ev_nsm_from_device(fd, out, err);
    if (errno != ENOENT)
        return ev_fail_errno(err, "open %s", device_path);
    if (is_packet_socket(EV_SIM_NSM_FD))
        return ev_nsm_from_fd(EV_SIM_NSM_FD, out, err);
    return ev_fail(err, -ENODEV, "there is no %s (nor the simulator's descriptor)", device_path);
}

void ev_nsm_close(struct ev_nsm *n)
{
    if (!n)
        return;
    close(n->fd);
    ev_free(n);
}

bool ev_nsm_simulated(const struct ev_nsm *n) { return !n->device; }

void ev_nsm_set_timeout(struct ev_nsm *n, int ms) { n->timeout_ms = ms > 0 ? ms : NSM_TIMEOUT_MS; }

/* ---- transport ---- */

static int call_device(struct ev_nsm *n, ev_slice request, struct ev_buf *response, struct ev_err *err)
{
    struct nsm_message m = {
        .request = { (uint64_t)(uintptr_t)request.p, request.n },
        .response = { (uint64_t)(uintptr_t)response->p, EV_NSM_RESP_MAX },
    };
    int rc;

    do
        rc = ioctl(n->fd, NSM_IOCTL, &m);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return ev_fail_errno(err, "%s", device_path);
    if (m.response.len > EV_NSM_RESP_MAX)
        return ev_fail(err, EV_EPARSE, "%s: an answer of %llu bytes", device_path,
                       (unsigned long long)m.response.len);
    response->n = (size_t)m.response.len;
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int wait_for(int fd, short events, int64_t deadline, struct ev_err *err)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = events };
        int64_t left = deadline - now_ms();
        int rc = left <= 0 ? 0 : poll(&p, 1, (int)left);

        if (rc > 0)
            return 0;
        if (rc == 0)
            return ev_fail(err, -ETIMEDOUT, "the simulated NSM is silent");
        if (errno != EINTR)
            return ev_fail_errno(err, "poll");
    }
}

static int send_packet(int fd, ev_slice request, int64_t deadline, struct ev_err *err)
{
    for (;;) {
        int rc = wait_for(fd, POLLOUT, deadline, err);
        ssize_t n;

        if (rc < 0)
            return rc;
        n = send(fd, request.p, request.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            return (size_t)n == request.n ? 0 : ev_fail(err, -EIO, "send: a part of the request only");
        if (errno != EINTR && errno != EAGAIN)
            return ev_fail_errno(err, "send to the simulated NSM");
    }
}

static int receive_packet(int fd, struct ev_buf *response, int64_t deadline, struct ev_err *err)
{
    for (;;) {
        int rc = wait_for(fd, POLLIN, deadline, err);
        ssize_t n;

        if (rc < 0)
            return rc;
        n = recv(fd, response->p, EV_NSM_RESP_MAX, MSG_DONTWAIT | MSG_TRUNC);      /* → its real length */
        if (n > EV_NSM_RESP_MAX)
            return ev_fail(err, EV_EPARSE, "the simulated NSM: an answer of %zd bytes", n);
        if (n == 0)
            return ev_fail(err, -ECONNRESET, "the simulated NSM is gone");
        if (n > 0)
            return response->n = (size_t)n, 0;
        if (errno != EINTR && errno != EAGAIN)
            return ev_fail_errno(err, "receive from the simulated NSM");
    }
}

static int call_socket(struct ev_nsm *n, ev_slice request, struct ev_buf *response, struct ev_err *err)
{
    int64_t deadline = now_ms() + n->timeout_ms;
    int rc;

    if (n->dead)
        return ev_fail(err, -EPIPE, "the simulated NSM failed before");
    rc = send_packet(n->fd, request, deadline, err);
    if (rc == 0)
        rc = receive_packet(n->fd, response, deadline, err);
    n->dead = rc < 0;
    return rc;
}

/* ---- requests and answers ---- */

struct call {
    const char *name;
    struct ev_buf request, response;
    struct ev_cbor_reader r;            /* in the answer: at its arguments */
    struct ev_cbor_item args;
    struct ev_err *err;
};

static void call_init(struct call *c, const char *name, struct ev_err *err)
{
    *c = (struct call){ .name = name, .err = err };
    ev_buf_init(&c->request, EV_NSM_REQ_MAX);
    ev_buf_init(&c->response, EV_NSM_RESP_MAX);
}

/* Ends a call: what was being done goes in front of the error. Requests and answers are wiped,
 * since random numbers become keys. */
static int call_fini(struct call *c, int rc)
{
    if (rc < 0)
        ev_err_wrap(c->err, "NSM %s", c->name);
    ev_buf_wipe(&c->request);
    ev_buf_wipe(&c->response);
    return rc < 0 ? rc : 0;
}

static int malformed(struct call *c, const char *what)
{
    return ev_fail(c->err, EV_EPARSE, "malformed answer: %s", what);
}

static const struct {
    const char *word;
    int code;
} refusals[] = {
    { "InvalidArgument", -EINVAL }, { "InvalidIndex", -EINVAL }, { "ReadOnlyIndex", -EPERM },
    { "InputTooLarge", -EMSGSIZE }, { "BufferTooSmall", -EIO }, { "InvalidOperation", -EIO },
    { "InvalidResponse", -EIO }, { "InternalError", -EIO },
};

static int refused(struct call *c)
{
    struct ev_cbor_item word;

    if (ev_cbor_expect(&c->r, EV_CBOR_TEXT, &word, NULL) < 0 || ev_cbor_more(&c->r, &c->args, 1, NULL) != 0 ||
        !ev_cbor_done(&c->r))
        return malformed(c, "an error that is no text");
    for (size_t i = 0; i < EV_COUNT(refusals); i++)
        if (ev_slice_eq(word.data, ev_slice_str(refusals[i].word)))
            return ev_fail_reason(c->err, refusals[i].code, refusals[i].word, "refused: %s", refusals[i].word);
    return ev_fail_reason(c->err, -EIO, "unknown", "refused with an unknown word");
}

/* Sends the request, takes the answer apart up to its arguments. `bare`: the answer is the name alone. */
static int exchange(struct ev_nsm *n, struct call *c, bool bare)
{
    struct ev_cbor_item item;
    int rc = ev_buf_reserve(&c->response, EV_NSM_RESP_MAX);

    if (rc < 0)
        return ev_fail(c->err, rc, "no memory for the answer");
    rc = (n->device ? call_device : call_socket)(n, ev_buf_slice(&c->request), &c->response, c->err);
    if (rc < 0)
        return rc;
    ev_cbor_reader_init(&c->r, ev_buf_slice(&c->response));
    if (ev_cbor_next(&c->r, &item, NULL) < 0)
        return malformed(c, "no CBOR");
    if (item.type == EV_CBOR_TEXT && bare && ev_slice_eq(item.data, ev_slice_str(c->name)))
        return ev_cbor_done(&c->r) ? 0 : malformed(c, "bytes after it");
    c->args = item;
    if (item.type != EV_CBOR_MAP || ev_cbor_more(&c->r, &item, 0, NULL) <= 0 ||
        ev_cbor_expect(&c->r, EV_CBOR_TEXT, &item, NULL) < 0)
        return malformed(c, "neither a name nor a map");
    if (ev_slice_eq(item.data, EV_LIT("Error")))
        return refused(c);
    if (bare || !ev_slice_eq(item.data, ev_slice_str(c->name)))
        return malformed(c, "of another request");
    return 0;
}

/* One field of the answer's arguments. `read` reads the value; each must be there exactly once. */
struct field {
    const char *name;
    int (*read)(struct ev_cbor_reader *r, void *to);
    void *to;
};

static int read_field(struct call *c, const struct field *fields, size_t n, unsigned *seen)
{
    struct ev_cbor_item key;

    if (ev_cbor_expect(&c->r, EV_CBOR_TEXT, &key, NULL) < 0)
        return malformed(c, "a key that is no text");
    for (size_t i = 0; i < n; i++) {
        if (!ev_slice_eq(key.data, ev_slice_str(fields[i].name)))
            continue;
        if (*seen & 1u << i)
            return malformed(c, "a key twice");
        *seen |= 1u << i;
        return fields[i].read(&c->r, fields[i].to) < 0 ? malformed(c, fields[i].name) : 0;
    }
    return ev_cbor_skip(&c->r, NULL) < 0 ? malformed(c, "an unknown key's value") : 0;
}

static int answer(struct call *c, const struct field *fields, size_t n)
{
    struct ev_cbor_item map;
    unsigned seen = 0;
    uint64_t i = 0;
    int rc;

    if (ev_cbor_expect(&c->r, EV_CBOR_MAP, &map, NULL) < 0)
        return malformed(c, "arguments that are no map");
    while ((rc = ev_cbor_more(&c->r, &map, i, NULL)) > 0) {
        if ((rc = read_field(c, fields, n, &seen)) < 0)
            return rc;
        i++;
    }
    if (rc < 0 || ev_cbor_more(&c->r, &c->args, 1, NULL) != 0 || !ev_cbor_done(&c->r))
        return malformed(c, "its end");
    if (seen != (1u << n) - 1)
        return malformed(c, "a key is missing");
    return 0;
}

static int read_text(struct ev_cbor_reader *r, void *to)
{
    ev_slice *s = to;
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(r, EV_CBOR_TEXT, &item, NULL);

    if (rc >= 0)
        *s = item.data;
    return rc;
}

static int read_bytes(struct ev_cbor_reader *r, void *to)
{
    ev_slice *s = to;
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(r, EV_CBOR_BYTES, &item, NULL);

    if (rc >= 0)
        *s = item.data;
    return rc;
}

static int read_uint16(struct ev_cbor_reader *r, void *to)
{
    uint16_t *v = to;
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(r, EV_CBOR_UINT, &item, NULL);

    if (rc < 0 || item.value > UINT16_MAX)
        return rc < 0 ? rc : EV_EPARSE;
    *v = (uint16_t)item.value;
    return 0;
}

static int read_bool(struct ev_cbor_reader *r, void *to)
{
    bool *v = to;
    struct ev_cbor_item item;
    int rc = ev_cbor_expect(r, EV_CBOR_BOOL, &item, NULL);

    if (rc >= 0)
        *v = item.value != 0;
    return rc;
}

/* An array of register numbers into a bit set. */
static int read_locked(struct ev_cbor_reader *r, void *to)
{
    uint64_t *bits = to, n = 0;
    struct ev_cbor_item list, item;
    int rc = ev_cbor_expect(r, EV_CBOR_ARRAY, &list, NULL);

    if (rc < 0)
        return rc;
    *bits = 0;
    while ((rc = ev_cbor_more(r, &list, n, NULL)) > 0) {
        rc = ev_cbor_expect(r, EV_CBOR_UINT, &item, NULL);
        if (rc < 0 || item.value >= NSM_PCRS_MAX)
            return EV_EPARSE;
        *bits |= UINT64_C(1) << item.value;
        n++;
    }
    return rc;
}

/* ---- the calls ---- */

/* Text of the answer into an array, NUL-terminated. */
static int copy_text(struct call *c, ev_slice s, char *out, size_t cap)
{
    if (s.n == 0 || s.n >= cap || memchr(s.p, 0, s.n))
        return malformed(c, "a text of unlikely length");
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return 0;
}

int ev_nsm_describe(struct ev_nsm *n, struct ev_nsm_info *out, struct ev_err *err)
{
    ev_slice id = {0}, digest = {0};
    uint16_t max = 0;
    const struct field fields[] = {
        { "version_major", read_uint16, &out->version[0] }, { "version_minor", read_uint16, &out->version[1] },
        { "version_patch", read_uint16, &out->version[2] }, { "module_id", read_text, &id },
        { "max_pcrs", read_uint16, &max }, { "locked_pcrs", read_locked, &out->locked },
        { "digest", read_text, &digest },
    };
    struct call c;
    int rc;

    *out = (struct ev_nsm_info){0};
    call_init(&c, "DescribeNSM", err);
    EV_TRY(ev_cbor_put_text(&c.request, c.name));
    EV_TRY(exchange(n, &c, false));
    EV_TRY(answer(&c, fields, EV_COUNT(fields)));
    EV_TRY(copy_text(&c, id, out->module_id, sizeof out->module_id));
    EV_TRY(copy_text(&c, digest, out->digest, sizeof out->digest));
    out->max_pcrs = max;
out:
    return call_fini(&c, rc);
}

static int random_once(struct ev_nsm *n, uint8_t *p, size_t len, struct ev_err *err)
{
    ev_slice random = {0};
    const struct field fields[] = { { "random", read_bytes, &random } };
    struct call c;
    int rc;

    call_init(&c, "GetRandom", err);
    EV_TRY(ev_cbor_put_text(&c.request, c.name));
    EV_TRY(exchange(n, &c, false));
    EV_TRY(answer(&c, fields, EV_COUNT(fields)));
    if (random.n == 0 || random.n > NSM_RANDOM_MAX) {
        rc = malformed(&c, "an unlikely number of random bytes");
        goto out;
    }
    len = len < random.n ? len : random.n;
    memcpy(p, random.p, len);
out:
    rc = call_fini(&c, rc);
    return rc < 0 ? rc : (int)len;
}

int ev_nsm_random(struct ev_nsm *n, void *p, size_t len, struct ev_err *err)
{
    uint8_t *to = p;

    while (len > 0) {
        int got = random_once(n, to, len, err);

        if (got < 0)
            return got;
        to += got;
        len -= (size_t)got;
    }
    return 0;
}

/* {name: {"index": index}} and, for an extension, its data. */
static int put_indexed(struct call *c, unsigned index, const ev_slice *data)
{
    struct ev_buf *b = &c->request;
    int rc;

    EV_TRY(ev_cbor_put_map(b, 1));
    EV_TRY(ev_cbor_put_text(b, c->name));
    EV_TRY(ev_cbor_put_map(b, data ? 2 : 1));
    EV_TRY(ev_cbor_put_text(b, "index"));
    EV_TRY(ev_cbor_put_uint(b, index));
    if (data) {
        EV_TRY(ev_cbor_put_text(b, "data"));
        EV_TRY(ev_cbor_put_bytes(b, *data));
    }
out:
    return rc < 0 ? ev_fail(c->err, EV_ELIMIT, "the request is larger than %d bytes", EV_NSM_REQ_MAX) : 0;
}

int ev_nsm_pcr(struct ev_nsm *n, unsigned index, bool *locked, uint8_t value[48], struct ev_err *err)
{
    bool lock = false;
    ev_slice data = {0};
    const struct field fields[] = { { "lock", read_bool, &lock }, { "data", read_bytes, &data } };
    struct call c;
    int rc;

    call_init(&c, "DescribePCR", err);
    EV_TRY(put_indexed(&c, index, NULL));
    EV_TRY(exchange(n, &c, false));
    EV_TRY(answer(&c, fields, EV_COUNT(fields)));
    if (data.n != PCR_LEN) {
        rc = malformed(&c, "a PCR of another length");
        goto out;
    }
    if (locked)
        *locked = lock;
    memcpy(value, data.p, PCR_LEN);
out:
    return call_fini(&c, rc);
}

int ev_nsm_extend(struct ev_nsm *n, unsigned index, ev_slice data, struct ev_err *err)
{
    ev_slice value = {0};
    const struct field fields[] = { { "data", read_bytes, &value } };
    struct call c;
    int rc;

    call_init(&c, "ExtendPCR", err);
    EV_TRY(put_indexed(&c, index, &data));
    EV_TRY(exchange(n, &c, false));
    EV_TRY(answer(&c, fields, EV_COUNT(fields)));
    if (value.n != PCR_LEN)
        rc = malformed(&c, "a PCR of another length");
out:
    return call_fini(&c, rc);
}

int ev_nsm_lock(struct ev_nsm *n, unsigned index, struct ev_err *err)
{
    struct call c;
    int rc;

    call_init(&c, "LockPCR", err);
    EV_TRY(put_indexed(&c, index, NULL));
    EV_TRY(exchange(n, &c, true));
out:
    return call_fini(&c, rc);
}

static int put_attestation(struct call *c, const ev_slice value[3])
{
    static const char *const names[] = { "user_data", "nonce", "public_key" };
    struct ev_buf *b = &c->request;
    int rc;

    EV_TRY(ev_cbor_put_map(b, 1));
    EV_TRY(ev_cbor_put_text(b, c->name));
    EV_TRY(ev_cbor_put_map(b, EV_COUNT(names)));
    for (size_t i = 0; i < EV_COUNT(names); i++) {
        if (value[i].n > EV_NSM_FIELD_MAX)
            return ev_fail_reason(c->err, EV_ELIMIT, "InputTooLarge", "%s of %zu bytes, more than %d", names[i],
                                  value[i].n, EV_NSM_FIELD_MAX);
        EV_TRY(ev_cbor_put_text(b, names[i]));
        EV_TRY(value[i].p ? ev_cbor_put_bytes(b, value[i]) : ev_cbor_put_null(b));
    }
out:
    return rc;
}

int ev_nsm_attest(struct ev_nsm *n, ev_slice user_data, ev_slice nonce, ev_slice public_key,
                  struct ev_buf *doc, struct ev_err *err)
{
    const ev_slice value[3] = { user_data, nonce, public_key };
    ev_slice document = {0};
    const struct field fields[] = { { "document", read_bytes, &document } };
    struct call c;
    int rc;

    call_init(&c, "Attestation", err);
    EV_TRY(put_attestation(&c, value));
    EV_TRY(exchange(n, &c, false));
    EV_TRY(answer(&c, fields, EV_COUNT(fields)));
    if (document.n == 0) {
        rc = malformed(&c, "an empty document");
        goto out;
    }
    if ((rc = ev_buf_put_slice(doc, document)) < 0)
        rc = ev_fail(err, rc, "the document does not fit");
out:
    return call_fini(&c, rc);
}
