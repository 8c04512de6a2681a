/* vsock_guest.h — a guest's vsock driver and the programs of its host, played by the test (vhost_front.h). */
#ifndef TESTS_VSOCK_GUEST_H
#define TESTS_VSOCK_GUEST_H

#include <dirent.h>

#include "base/log.h"
#include "tap.h"
#include "vhost_front.h"

enum { CID = 17, RX = 0, TX = 1, RX_LEN = 4096, TX_AT = 0x60000, HEADER = 44, CREDIT = 256 * 1024,
       GUEST_CREDIT = 1 << 18 };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static char dir[] = "/tmp/ev-vvsock-XXXXXX", path[64], enclave[64];
static struct ev_rt *rt;
static struct ev_vhost *dev;
static struct front f;
static uint8_t body[RX_LEN];            /* of the packet that came last */
static uint32_t guest_alloc, guest_fwd; /* what the guest says in its packets */
static int hooked_fd = -1, hooked;
static bool refill;

__attribute__((unused)) static int hook(void *ctx, uint32_t port)
{
    int pair[2];

    (void)ctx;
    if (port != 9000)
        return -1;
    hooked++;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    hooked_fd = pair[0];
    return pair[1];
}

/* --- the guest ------------------------------------------------------------------------------------------ */

__attribute__((unused)) static void fill_rx(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        queue_chain(&f.ring[RX], &(struct piece){ BUFFERS + (f.ring[RX].next_desc % RING_NUM) * RX_LEN, RX_LEN, true },
                    1);
    kick(&f.ring[RX]);
}

__attribute__((unused)) static void start(void)
{
    struct ev_vhost_vsock_conf conf = { CID, dir, hook, NULL };
    struct ev_err err = EV_ERR_INIT;

    guest_alloc = GUEST_CREDIT;
    guest_fwd = 0;
    refill = true;
    if (ev_vhost_vsock_open(rt, path, &conf, &dev, &err) < 0 || ev_vhost_vsock_listen(dev, 7777, enclave, &err) < 0) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    front_init(&f, rt, path);
    if (front_hello(&f) != 0 || front_start_ring(&f, RX, 0) != 0 || front_start_ring(&f, TX, 0) != 0)
        OK(false, "the queues start");
}

__attribute__((unused)) static void begin(void)
{
    start();
    fill_rx(RING_NUM);
}

__attribute__((unused)) static void end(void)
{
    ev_vhost_close(dev);
    front_fini(&f);
    turns(&f, 3);
}

__attribute__((unused))
static struct packet header(uint16_t op, uint32_t guest_port, uint32_t host_port, uint32_t flags, uint32_t len)
{
    return (struct packet){ CID, 3, guest_port, host_port, len, 1, op, flags, guest_alloc, guest_fwd };
}

__attribute__((unused)) static bool sent(void)
{
    struct used u;

    kick(&f.ring[TX]);
    return UNTIL(&f, next_used(&f.ring[TX], &u));
}

__attribute__((unused)) static bool send_raw(const struct packet *p, const void *data, size_t len)
{
    memcpy(f.guest + TX_AT, p, HEADER);
    if (len > 0)
        memcpy(f.guest + TX_AT + HEADER, data, len);
    queue_chain(&f.ring[TX], &(struct piece){ TX_AT, (uint32_t)(HEADER + len), false }, 1);
    return sent();
}

__attribute__((unused)) static bool say(uint16_t op, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
    struct packet p = header(op, guest_port, host_port, flags, 0);

    return send_raw(&p, NULL, 0);
}

__attribute__((unused)) static bool say_data(uint32_t guest_port, uint32_t host_port, const void *data, size_t len)
{
    struct packet p = header(RW, guest_port, host_port, 0, (uint32_t)len);

    return send_raw(&p, data, len);
}

/* The next packet for the guest, if one comes; its data is in `body`. */
__attribute__((unused)) static bool hear_for(struct packet *p, int tries)
{
    struct used u;
    bool got = false;

    for (int i = 0; i < tries && !(got = next_used(&f.ring[RX], &u)); i++)
        ev_rt_run_once(rt);
    if (!got || u.id >= RING_NUM || u.len < HEADER)
        return false;
    memcpy(p, f.guest + BUFFERS + u.id * RX_LEN, HEADER);
    if (u.len != HEADER + p->len)
        return false;
    memcpy(body, f.guest + BUFFERS + u.id * RX_LEN + HEADER, p->len);
    if (refill) {
        avail_put(&f.ring[RX], (uint16_t)u.id);
        kick(&f.ring[RX]);
    }
    return true;
}

__attribute__((unused)) static bool hear(struct packet *p) { return hear_for(p, 3000); }
__attribute__((unused)) static bool silent(void) { struct packet p; return !hear_for(&p, 6); }

__attribute__((unused)) static bool hear_op(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    struct packet p;

    if (!hear(&p))
        return false;
    if (p.op == op && p.src_cid == 3 && p.dst_cid == CID && p.type == 1 && p.dst_port == guest_port &&
        p.src_port == host_port)
        return true;
    printf("# heard op %u from %u to %u\n", p.op, p.src_port, p.dst_port);
    return false;
}

/* --- the host -------------------------------------------------------------------------------------------- */

__attribute__((unused)) static int host_listen(uint32_t port, int backlog)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s/parent_%u", dir, port);
    unlink(a.sun_path);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, backlog) < 0)
        abort();
    return fd;
}

__attribute__((unused)) static void host_unlisten(uint32_t port, int fd)
{
    char name[64];

    snprintf(name, sizeof name, "%s/parent_%u", dir, port);
    unlink(name);
    close(fd);
}

/* The guest connects to port 5000 of its parent → the host's end. */
__attribute__((unused)) static int guest_opens(uint32_t guest_port)
{
    int l = host_listen(5000, 8), fd = -1;

    if (say(REQUEST, guest_port, 5000, 0) && hear_op(RESPONSE, guest_port, 5000))
        fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    host_unlisten(5000, l);
    return fd;
}

/* The host connects to the guest's port 7777 → its end; *port: the host's port as the guest sees it. */
__attribute__((unused)) static int host_opens(uint32_t *port)
{
    int fd = front_connect(enclave);
    struct packet p;

    if (fd < 0 || !hear(&p) || p.op != REQUEST || p.dst_port != 7777 || p.src_cid != 3)
        return -1;
    *port = p.src_port;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return say(RESPONSE, 7777, *port, 0) ? fd : -1;
}

__attribute__((unused)) static bool host_reads(int fd, const char *want)
{
    char got[256] = "";
    size_t n = 0;

    return UNTIL(&f, ({ ssize_t r = recv(fd, got + n, sizeof got - 1 - n, MSG_DONTWAIT); n += r > 0 ? (size_t)r : 0;
                        n >= strlen(want); })) && n == strlen(want) && strcmp(got, want) == 0;
}

__attribute__((unused)) static bool host_eof(int fd)
{
    char c;
    ssize_t n = -1;

    return UNTIL(&f, (n = recv(fd, &c, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN) && n == 0;
}

__attribute__((unused)) static size_t open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct ev_timer *world_ticks;
static size_t world_fds;

__attribute__((unused)) static int world_open(void)
{
    if (!mkdtemp(dir) || ev_rt_new(&rt, NULL) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/v.sock", dir);
    snprintf(enclave, sizeof enclave, "%s/enclave_7777", dir);
    ev_log_set_level(EV_ERROR);
    world_ticks = ev_timer_start(rt, 1, true, front_tick, NULL);
    world_fds = open_fds();
    return 0;
}

__attribute__((unused)) static void world_close(void)
{
    turns(&f, 3);
    EQ_INT(open_fds(), world_fds, "every descriptor was closed");
    EQ_INT(ev_rt_open_handles(rt), 1, "every handle was closed");
    ev_timer_stop(world_ticks);
    turns(&f, 1);
    ev_rt_free(rt);
    EQ_INT(rmdir(dir), 0, "the folder is empty");
}

#endif
