/* fuzz_vhost.c — the vhost-user back ends against any front end, any guest and any host. The bytes are a
 * play: messages, writes into guest memory, chains, packets, kicks, what hosts do; the first byte picks the
 * device and whether the queues run already. Whatever happens, everything can be closed, and is. */
#include "base/log.h"
#include "fuzz.h"
#include "vhost_front.h"

enum { HOSTS = 16, CID = 17, TX_AT = 0x60000, RX_AT = 0x20000 };

static struct ev_rt *rt;
static struct ev_nsm_sim *sim;
static char dir[] = "/tmp/ev-fuzz-vhost-XXXXXX", path[64], enclave[64], parent[64];
static int parent_fd = -1;

struct play {
    const uint8_t *p;
    size_t n;
    struct front f;
    int host[HOSTS];
    size_t n_host;
};

static struct play *now;        /* for the hook */

static void nothing(void *ctx) { (void)ctx; }

/* Turns that never block: there is always something to do. */
static void turn(int n)
{
    while (n-- > 0) {
        ev_defer(rt, nothing, NULL);
        ev_rt_run_once(rt);
    }
}

static unsigned u8(struct play *p)
{
    if (p->n == 0)
        return 0;
    p->n--;
    return *p->p++;
}

static unsigned u16(struct play *p)
{
    unsigned low = u8(p);

    return low | u8(p) << 8;
}

static size_t bytes(struct play *p, uint8_t *out, size_t n)
{
    n = n < p->n ? n : p->n;
    memcpy(out, p->p, n);
    p->p += n;
    p->n -= n;
    return n;
}

static void add_host(struct play *p, int fd)
{
    if (fd < 0)
        return;
    if (p->n_host == HOSTS)
        close(fd);
    else
        p->host[p->n_host++] = fd;
}

static int hook(void *ctx, uint32_t port)
{
    int pair[2];

    (void)ctx;
    if (port != 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    add_host(now, pair[0]);
    return pair[1];
}

static void message(struct play *p)
{
    uint8_t payload[256];
    unsigned request = u8(p) % 40, how = u8(p), n = u8(p);
    const struct driver_ring *r = &p->f.ring[how >> 4 & 1];
    int fds[] = { p->f.memory, r->kick, r->call, p->f.memory };
    size_t n_fd = (how & 3) == 3 ? how >> 6 : how & 3 ? 1 : 0;

    n = (unsigned)bytes(p, payload, n);
    front_send(&p->f, request, how & 8, payload, n, &fds[how >> 2 & 1], n_fd < 3 ? n_fd : 3);
}

static void memory(struct play *p)
{
    size_t at = (size_t)u16(p) << 4, n = u8(p);

    if (at + n <= GUEST_SIZE)
        bytes(p, p->f.guest + at, n);
}

static void chain(struct play *p)
{
    struct driver_ring *r = &p->f.ring[u8(p) % 3];
    struct piece pieces[16];
    size_t n = u8(p) % 16 + 1;

    for (size_t i = 0; i < n; i++) {
        pieces[i].at = u16(p) << 4;
        pieces[i].len = u16(p);
        pieces[i].write = u8(p) & 1;
    }
    queue_chain(r, pieces, n);
    kick(r);
}

static void packet(struct play *p)
{
    struct {
        uint64_t src, dst;
        uint32_t from, to, len;
        uint16_t type, op;
        uint32_t flags, alloc, fwd;
    } __attribute__((packed)) h = { .src = CID, .dst = 3, .type = 1 };
    uint8_t *at = p->f.guest + TX_AT + (p->f.ring[1].next_desc % RING_NUM) * 1024;
    unsigned n;

    h.op = (uint16_t)(u8(p) % 10);
    h.dst = 2 + u8(p) % 3;
    h.from = 1000 + u8(p) % 16;
    h.to = u8(p) == 255 ? 0x40000000 + u8(p) : u8(p) % 4;
    h.flags = u8(p);
    h.alloc = u16(p);
    h.fwd = u16(p);
    n = u16(p) % 900;
    h.len = n;
    memcpy(at, &h, sizeof h);
    queue_chain(&p->f.ring[1], &(struct piece){ (uint32_t)(at - p->f.guest), (uint32_t)(sizeof h + n), false }, 1);
    kick(&p->f.ring[1]);
}

static void host(struct play *p)
{
    unsigned what = u8(p), which = u8(p);
    static uint8_t noise[9000];
    int fd;

    if (what % 5 == 0) {
        add_host(p, front_connect(enclave));
    } else if (what % 5 == 1) {
        add_host(p, accept4(parent_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    } else if (p->n_host > 0) {
        fd = p->host[which % p->n_host];
        if (what % 5 == 2)
            (void)!send(fd, noise, which * 30, MSG_DONTWAIT | MSG_NOSIGNAL);
        else if (what % 5 == 3)
            (void)!recv(fd, noise, sizeof noise, MSG_DONTWAIT);
        else if (which & 1) {
            shutdown(fd, SHUT_WR);
        } else {
            size_t last = p->n_host - 1;

            close(fd);
            p->host[which % p->n_host] = p->host[last];
            p->n_host = last;
        }
    }
}

static void raw_avail(struct play *p)
{
    struct driver_ring *r = &p->f.ring[u8(p) % 3];
    unsigned how = u8(p);

    if (how & 1)
        avail_put(r, (uint16_t)u16(p));
    else
        r->avail[1] = (uint16_t)(r->avail[1] + how);
    kick(r);
}

static void step(struct play *p)
{
    unsigned op = u8(p);

    switch (op % 8) {
    case 0: message(p); break;
    case 1: memory(p); break;
    case 2: kick(&p->f.ring[u8(p) % 3]); break;
    case 3: chain(p); break;
    case 4: packet(p); break;
    case 5: host(p); break;
    case 6: raw_avail(p); break;
    default: turn(1); break;
    }
    if (op & 8)
        turn(1);
}

static void run_ring(struct front *f, uint32_t i)
{
    uint64_t n = i, at = FRONT_AT + i * RING_AREA;
    uint32_t num[2] = { i, RING_NUM }, base[2] = { i, 0 }, on[2] = { i, 1 };
    struct { uint32_t index, flags; uint64_t desc, used, avail, log; } a = { i, 0, at, at + USED_AT, at + AVAIL_AT, 0 };

    front_send(f, M_SET_NUM, 0, num, 8, NULL, 0);
    front_send(f, M_SET_BASE, 0, base, 8, NULL, 0);
    front_send(f, M_SET_ADDR, 0, &a, sizeof a, NULL, 0);
    front_send(f, M_SET_KICK, 0, &n, 8, &f->ring[i].kick, 1);
    front_send(f, M_SET_CALL, 0, &n, 8, &f->ring[i].call, 1);
    front_send(f, M_ENABLE, 0, on, 8, NULL, 0);
    turn(2);
}

static void run_device(struct front *f, bool vsock)
{
    struct { uint32_t n, pad; struct mem_region r; } table = { 1, 0, { GUEST_AT, GUEST_SIZE, FRONT_AT, 0 } };
    uint64_t features = 1ull << 30 | 1ull << 32;

    front_send(f, M_SET_FEATURES, 0, &features, 8, NULL, 0);
    front_send(f, M_SET_MEM_TABLE, 0, &table, sizeof table, &f->memory, 1);
    run_ring(f, 0);
    if (!vsock)
        return;
    run_ring(f, 1);
    for (unsigned i = 0; i < RING_NUM; i++)
        queue_chain(&f->ring[0], &(struct piece){ RX_AT + i * 4096, 4096, true }, 1);
    kick(&f->ring[0]);
}

static void once(void)
{
    struct ev_cert *root = NULL;
    struct ev_key *key = NULL;
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    if (rt)
        return;
    ev_log_set_level(EV_ERROR);
    demand(mkdtemp(dir) && ev_rt_new(&rt, NULL) == 0 && ev_nsm_sim_make_root(&root, &key, NULL) == 0, "a place");
    demand(ev_nsm_sim_new(&(struct ev_nsm_sim_conf){ .root = root, .root_key = key }, &sim, NULL) == 0, "an NSM");
    ev_cert_free(root);
    ev_key_free(key);
    snprintf(path, sizeof path, "%s/v.sock", dir);
    snprintf(enclave, sizeof enclave, "%s/enclave_1", dir);
    snprintf(parent, sizeof parent, "%s/parent_1", dir);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", parent);
    parent_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    demand(bind(parent_fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(parent_fd, 4) == 0, "a parent");
}

static void forget(void)
{
    if (parent_fd >= 0) {
        close(parent_fd);
        unlink(parent);
        rmdir(dir);
        ev_nsm_sim_free(sim);
        ev_rt_free(rt);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ev_vhost_vsock_conf conf = { CID, dir, hook, NULL };
    struct play p = { .p = data, .n = size };
    struct ev_vhost *dev = NULL;
    unsigned kind;
    int fd;

    if (!rt)
        atexit(forget);
    once();
    now = &p;
    kind = u8(&p);
    if (kind & 1)
        demand(ev_vhost_vsock_open(rt, path, &conf, &dev, NULL) == 0 &&
               ev_vhost_vsock_listen(dev, 5, enclave, NULL) == 0, "vsock");
    else
        demand(ev_vhost_nsm_open(rt, path, sim, &dev, NULL) == 0, "NSM");
    front_init(&p.f, rt, path);
    turn(1);
    if (kind & 2)
        run_device(&p.f, kind & 1);
    for (int i = 0; p.n > 0 && i < 300; i++)
        step(&p);
    turn(3);
    ev_vhost_close(dev);
    front_fini(&p.f);
    while (p.n_host > 0)
        close(p.host[--p.n_host]);
    while ((fd = accept(parent_fd, NULL, NULL)) >= 0)
        close(fd);
    turn(2);
    demand(ev_rt_open_handles(rt) == 0, "a handle stays open");
    return 0;
}
