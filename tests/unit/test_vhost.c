/* test_vhost.c — the vhost-user protocol, guest memory and rings, with the NSM behind them, against front
 * ends and guests that mean well and others. */
#include "base/log.h"
#include "nitro/nsm.h"
#include "nitro/nsm_sim.h"
#include "tap.h"
#include "vhost_front.h"

#include <dirent.h>

static char dir[] = "/tmp/ev-vhost-XXXXXX", path[64];
static struct ev_rt *rt;
static struct ev_nsm_sim *sim;
static struct ev_vhost *dev;
static struct front f;

static void open_device(void)
{
    struct ev_err err = EV_ERR_INIT;

    if (ev_vhost_nsm_open(rt, path, sim, &dev, &err) < 0) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    front_init(&f, rt, path);
}

static void close_device(void)
{
    ev_vhost_close(dev);
    front_fini(&f);
    turns(&f, 3);
}

static void open_running(void)
{
    open_device();
    OK(front_hello(&f) == 0 && front_start_ring(&f, 0, 0) == 0, "a front end starts the queue");
}

static size_t open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* --- the NSM ---------------------------------------------------------------------------------------------- */

static const char describe[] = "\x6b" "DescribeNSM";
enum { REQ_AT = BUFFERS, RESP_AT = BUFFERS + 0x2000, RESP_LEN = EV_NSM_RESP_MAX };

static void queue_request(uint32_t resp_len)
{
    memcpy(f.guest + REQ_AT, describe, sizeof describe - 1);
    memset(f.guest + RESP_AT, 0, RESP_LEN);
    queue_chain(&f.ring[0], &(struct piece){ REQ_AT, sizeof describe - 1, false }, 1);
    queue_chain(&f.ring[0], &(struct piece){ RESP_AT, resp_len, true }, 1);
}

/* The two chains come back in order, the second with an answer. */
static bool answered(void)
{
    struct used a, b;

    return UNTIL(&f, used_index(&f.ring[0]) == (uint16_t)(f.ring[0].seen + 2)) && next_used(&f.ring[0], &a) &&
           next_used(&f.ring[0], &b) && a.len == 0 && b.len > 12 &&
           memcmp(f.guest + RESP_AT, "\xa1\x6b" "DescribeNSM", 13) == 0;
}

static bool serves(void)
{
    queue_request(RESP_LEN);
    kick(&f.ring[0]);
    return answered();
}

static void test_calls(void)
{
    struct used a, b;

    open_running();
    OK(serves(), "a request and a response chain: answered, request first with length 0");
    OK(event_count(f.ring[0].call) > 0, "the driver is signalled");
    f.ring[0].avail[0] = 1;
    event_count(f.ring[0].call);
    OK(serves() && event_count(f.ring[0].call) == 0, "not when it does not want that");
    f.ring[0].avail[0] = 0;
    for (int i = 0; i < 40 && serves(); i++)
        ;
    EQ_INT(used_index(&f.ring[0]), 2 * 42, "round the ring more than once");
    memcpy(f.guest + REQ_AT, describe, sizeof describe - 1);
    queue_chain(&f.ring[0], &(struct piece){ REQ_AT, sizeof describe - 1, false }, 1);
    kick(&f.ring[0]);
    turns(&f, 5);
    EQ_INT(used_index(&f.ring[0]), 2 * 42, "a request alone waits for its response's room");
    memset(f.guest + RESP_AT, 0, RESP_LEN);
    queue_chain(&f.ring[0], &(struct piece){ RESP_AT, RESP_LEN, true }, 1);
    kick(&f.ring[0]);
    OK(answered(), "and is answered when it comes");
    queue_request(20);
    kick(&f.ring[0]);
    OK(UNTIL(&f, next_used(&f.ring[0], &a)) && next_used(&f.ring[0], &b) && b.len == 0,
       "a response that does not fit is not given in part");
    close_device();
}

static void test_scattered(void)
{
    struct piece req[12], resp[40];
    struct used u;

    open_running();
    memcpy(f.guest + REQ_AT, describe, sizeof describe - 1);
    for (uint32_t i = 0; i < 12; i++)
        req[i] = (struct piece){ REQ_AT + i, 1, false };
    for (uint32_t i = 0; i < 40; i++)
        resp[i] = (struct piece){ RESP_AT + 8 * i, 8, true };
    queue_chain(&f.ring[0], req, 12);
    queue_chain(&f.ring[0], resp, 40);
    kick(&f.ring[0]);
    OK(answered(), "request and response in many pieces");
    memcpy(resp, req, sizeof req);
    resp[12] = (struct piece){ RESP_AT, RESP_LEN, true };
    memset(f.guest + RESP_AT, 0, RESP_LEN);
    queue_chain(&f.ring[0], resp, 13);
    kick(&f.ring[0]);
    OK(UNTIL(&f, next_used(&f.ring[0], &u)) && u.len > 12 && f.guest[RESP_AT] == 0xa1, "one chain with both");
    close_device();
}

/* --- the protocol ------------------------------------------------------------------------------------------- */

static void test_features(void)
{
    uint64_t v = 0;

    open_device();
    OK(access(path, F_OK) == 0, "the socket is there");
    front_send(&f, M_GET_FEATURES, 0, NULL, 0, NULL, 0);
    EQ_INT(front_answer(&f, M_GET_FEATURES, &v, 8), 8, "features are answered");
    EQ_INT(v, 1ll << 30 | 1ll << 32, "they are protocol features and virtio 1");
    OK(access(path, F_OK) < 0 && front_connect(path) < 0, "a second front end finds no socket");
    EQ_INT(front_ask_u64(&f, M_SET_FEATURES, v | 1ull << 26), 1, "a feature that was not offered is refused");
    EQ_INT(front_ask_u64(&f, M_SET_FEATURES, v), 0, "those that were are taken");
    front_send(&f, M_GET_PROTOCOL, 0, NULL, 0, NULL, 0);
    EQ_INT(front_answer(&f, M_GET_PROTOCOL, &v, 8), 8, "protocol features are answered");
    EQ_INT(v, 1 | 1 << 3, "they are MQ and REPLY_ACK");
    EQ_INT(front_ask_u64(&f, M_SET_PROTOCOL, v | 4), 1, "others are refused");
    EQ_INT(front_ask_u64(&f, M_SET_PROTOCOL, v), 0, "those are taken");
    front_send(&f, M_GET_QUEUES, 0, NULL, 0, NULL, 0);
    OK(front_answer(&f, M_GET_QUEUES, &v, 8) == 8 && v == 1, "one queue");
    EQ_INT(front_ask(&f, 6, &v, 8, NULL, 0), 1, "an unknown request is answered with a failure");
    OK(front_send(&f, 77, 0, "x", 1, &f.memory, 1), "an unknown one that wants no answer, with a descriptor");
    EQ_INT(front_ask(&f, M_SET_OWNER, NULL, 0, NULL, 0), 0, "does no harm");
    front_send(&f, M_GET_CONFIG, 0, "\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, NULL, 0);
    EQ_INT(front_answer(&f, M_GET_CONFIG, &v, 8), 0, "there is no configuration space");
    close_device();
}

static void test_ring_messages(void)
{
    uint32_t s[2] = { 0, 0 };
    uint64_t i = 0;

    open_device();
    EQ_INT(front_hello(&f), 0, "memory is taken");
    EQ_INT(front_state(&f, M_SET_NUM, 1, 64), 1, "a queue that is not there");
    EQ_INT(front_state(&f, M_SET_NUM, 0, 0), 1, "no entries");
    EQ_INT(front_state(&f, M_SET_NUM, 0, 48), 1, "not a power of two");
    EQ_INT(front_state(&f, M_SET_NUM, 0, 32768), 1, "too many");
    EQ_INT(front_state(&f, M_SET_BASE, 0, 65536), 1, "a base past 16 bits");
    EQ_INT(front_state(&f, M_ENABLE, 0, 2), 1, "neither on nor off");
    EQ_INT(front_state(&f, M_SET_NUM, 0, 64), 0, "64 entries");
    EQ_INT(front_addr(&f, 0, FRONT_AT, FRONT_AT + GUEST_SIZE - 64, FRONT_AT + USED_AT), 1,
           "a ring half outside the memory");
    EQ_INT(front_addr(&f, 0, GUEST_AT, GUEST_AT + AVAIL_AT, GUEST_AT + USED_AT), 1,
           "guest addresses where QEMU's belong");
    EQ_INT(front_addr(&f, 0, FRONT_AT + 8, FRONT_AT + AVAIL_AT, FRONT_AT + USED_AT), 1, "descriptors out of line");
    EQ_INT(front_addr(&f, 0, FRONT_AT, FRONT_AT + AVAIL_AT + 1, FRONT_AT + USED_AT), 1, "avail out of line");
    EQ_INT(front_addr(&f, 0, FRONT_AT, FRONT_AT + AVAIL_AT, FRONT_AT + USED_AT + 2), 1, "used out of line");
    EQ_INT(front_addr(&f, 0, UINT64_MAX - 15, FRONT_AT + AVAIL_AT, FRONT_AT + USED_AT), 1, "an address that wraps");
    EQ_INT(front_ask(&f, M_SET_KICK, &i, 8, NULL, 0), 1, "a kick without its descriptor");
    i = 0x100;
    EQ_INT(front_ask(&f, M_SET_KICK, &i, 8, NULL, 0), 1, "a kick that says it has none");
    EQ_INT(front_ask(&f, M_SET_CALL, &i, 8, NULL, 0), 0, "a call may have none");
    EQ_INT(front_ask(&f, M_SET_CALL, &i, 8, &f.memory, 1), 1, "but not one it says it has not");
    EQ_INT(front_ring_fd(&f, M_SET_KICK, 0, f.memory), 1, "a kick that cannot be waited for");
    EQ_INT(front_ring_fd(&f, M_SET_KICK, 5, f.ring[0].kick), 1, "a kick of no queue");
    EQ_INT(front_ask(&f, M_SET_NUM, s, 4, NULL, 0), 1, "a payload that is too short");
    EQ_INT(front_start_ring(&f, 0, 0), 0, "after all that the queue starts");
    OK(serves(), "and works");
    EQ_INT(front_state(&f, M_SET_NUM, 0, 32), 1, "a running queue keeps its size");
    EQ_INT(front_state(&f, M_SET_BASE, 0, 0), 1, "and its base");
    front_send(&f, M_GET_BASE, 0, s, 8, NULL, 0);
    OK(front_answer(&f, M_GET_BASE, s, 8) == 8 && s[0] == 0 && s[1] == 2, "stopped: it says where");
    queue_request(RESP_LEN);
    kick(&f.ring[0]);
    turns(&f, 5);
    EQ_INT(used_index(&f.ring[0]), 2, "a stopped queue does nothing");
    EQ_INT(front_start_ring(&f, 0, 2), 0, "started where it was");
    OK(answered(), "it goes on without a kick");
    EQ_INT(front_state(&f, M_ENABLE, 0, 0), 0, "disabled");
    queue_request(RESP_LEN);
    kick(&f.ring[0]);
    turns(&f, 5);
    EQ_INT(used_index(&f.ring[0]), 4, "a disabled queue does nothing");
    EQ_INT(front_state(&f, M_ENABLE, 0, 1), 0, "enabled");
    OK(answered(), "it goes on");
    event_count(f.ring[0].call);
    EQ_INT(front_ring_fd(&f, M_SET_CALL, 0, f.ring[0].call), 0, "a new call descriptor");
    turns(&f, 3);
    OK(event_count(f.ring[0].call) > 0, "is signalled for what was answered before");
    close_device();
}

static void test_memory(void)
{
    struct mem_region r = { GUEST_AT, GUEST_SIZE, FRONT_AT, 0 }, two[2], many[9];
    int unsealed = front_memory(GUEST_SIZE, F_SEAL_GROW), fds[9];

    open_device();
    front_hello(&f);
    EQ_INT(front_table(&f, &r, 1, NULL, 0), 1, "a region without its descriptor");
    EQ_INT(front_table(&f, &r, 1, (int[]){ f.memory, f.memory }, 2), 1, "a descriptor too many");
    EQ_INT(front_table(&f, &r, 1, &unsealed, 1), 1, "memory that could be cut short under us");
    EQ_INT(front_table(&f, &r, 1, &f.ring[0].kick, 1), 1, "what is no memory");
    r.size = GUEST_SIZE + 4096;
    EQ_INT(front_table(&f, &r, 1, &f.memory, 1), 1, "more than the file has");
    r.offset = 4096, r.size = GUEST_SIZE;
    EQ_INT(front_table(&f, &r, 1, &f.memory, 1), 1, "an offset that leads past its end");
    r.offset = UINT64_MAX - 4095;
    EQ_INT(front_table(&f, &r, 1, &f.memory, 1), 1, "an offset that wraps");
    r.offset = 0, r.size = 0;
    EQ_INT(front_table(&f, &r, 1, &f.memory, 1), 1, "an empty region");
    r.size = UINT64_MAX - 4096;
    EQ_INT(front_table(&f, &r, 1, &f.memory, 1), 1, "a size that wraps");
    r.size = GUEST_SIZE, r.guest = UINT64_MAX - 4096;
    EQ_INT(front_table(&f, &r, 1, &f.memory, 1), 1, "a place that wraps");
    for (int i = 0; i < 9; i++) {
        many[i] = (struct mem_region){ GUEST_AT, GUEST_SIZE, FRONT_AT, 0 };
        fds[i] = f.memory;
    }
    EQ_INT(front_table(&f, many, 8, fds, 8), 0, "eight regions");
    EQ_INT(front_table(&f, &(struct mem_region){ 0 }, 0, NULL, 0), 0, "none at all");
    EQ_INT(front_default_table(&f), 0, "one");
    EQ_INT(front_start_ring(&f, 0, 0), 0, "start");
    OK(serves(), "it works");
    EQ_INT(front_table(&f, &(struct mem_region){ 0 }, 0, NULL, 0), 0, "the memory is taken away");
    queue_request(RESP_LEN);
    kick(&f.ring[0]);
    turns(&f, 5);
    EQ_INT(used_index(&f.ring[0]), 2, "nothing happens without memory");
    EQ_INT(front_default_table(&f), 0, "it is given back");
    OK(answered(), "and the queue goes on");
    two[0] = (struct mem_region){ GUEST_AT, BUFFERS + 5, FRONT_AT, 0 };
    two[1] = (struct mem_region){ GUEST_AT + BUFFERS + 5, GUEST_SIZE - BUFFERS - 5, FRONT_AT + (1 << 24), BUFFERS + 5 };
    EQ_INT(front_table(&f, two, 2, (int[]){ f.memory, f.memory }, 2), 0, "memory in two regions that are neighbours");
    OK(serves(), "a descriptor across both");
    close_device();
    open_device();
    front_hello(&f);
    EQ_INT(front_table(&f, many, 9, fds, 9), -1, "nine descriptors: hung up");
    close_device();
    close(unsealed);
}

static void test_hang_ups(void)
{
    uint32_t head[3] = { 1, VERSION_1, 513 };
    uint8_t table[8] = { 1 };
    char noise[64];

    open_device();
    send(f.fd, head, 12, 0);
    OK(front_hung_up(&f), "a payload past every bound");
    close_device();
    open_device();
    head[1] = 2, head[2] = 0;
    send(f.fd, head, 12, 0);
    OK(front_hung_up(&f), "another version");
    close_device();
    open_device();
    head[1] = VERSION_1 | REPLY;
    send(f.fd, head, 12, 0);
    OK(front_hung_up(&f), "an answer to no question");
    close_device();
    open_device();
    memset(noise, 0xff, sizeof noise);
    send(f.fd, noise, sizeof noise, 0);
    OK(front_hung_up(&f), "noise");
    close_device();
    open_device();
    front_send(&f, M_SET_MEM_TABLE, 0, table, 8, NULL, 0);
    OK(front_hung_up(&f), "a memory table that cannot be, and no answer asked for");
    close_device();
}

/* As QEMU would die: at every byte of every message, and after it. */
static void test_disconnects(void)
{
    struct { uint32_t request; uint64_t payload[5]; size_t n; int fd; } m[] = {
        { M_GET_FEATURES, { 0 }, 0, -1 }, { M_SET_FEATURES, { 1ull << 30 | 1ull << 32 }, 8, -1 },
        { M_SET_OWNER, { 0 }, 0, -1 },
        { M_SET_MEM_TABLE, { 1, GUEST_AT, GUEST_SIZE, FRONT_AT, 0 }, 40, 0 }, { M_SET_NUM, { 64ull << 32 }, 8, -1 },
        { M_SET_BASE, { 0 }, 8, -1 },
        { M_SET_ADDR, { 0, FRONT_AT, FRONT_AT + USED_AT, FRONT_AT + AVAIL_AT, 0 }, 40, -1 },
        { M_SET_KICK, { 0 }, 8, 1 }, { M_SET_CALL, { 0 }, 8, 2 }, { M_ENABLE, { 1ull << 32 }, 8, -1 },
        { M_GET_BASE, { 0 }, 8, -1 },
    };
    size_t before = open_fds(), done = 0;

    for (size_t last = 0; last < EV_COUNT(m); last++)
        for (size_t cut = 0; cut <= 12 + m[last].n; cut += cut < 12 ? 3 : 7) {
            uint8_t bytes[64];
            uint32_t head[3] = { m[last].request, VERSION_1, (uint32_t)m[last].n };

            open_device();
            for (size_t i = 0; i < last; i++) {
                int fd = m[i].fd == 0 ? f.memory : m[i].fd == 1 ? f.ring[0].kick : f.ring[0].call;

                front_send(&f, m[i].request, 0, m[i].payload, m[i].n, &fd, m[i].fd >= 0);
            }
            memcpy(bytes, head, 12);
            memcpy(bytes + 12, m[last].payload, m[last].n);
            if (cut > 0)
                done += send(f.fd, bytes, cut, MSG_NOSIGNAL) == (ssize_t)cut;
            turns(&f, 2);
            shutdown(f.fd, SHUT_RDWR);
            turns(&f, 2);
            close_device();
        }
    OK(done > 50, "disconnected at %zu places", done);
    EQ_INT(open_fds(), before, "no descriptor is left");
}

/* --- hostile guests ---------------------------------------------------------------------------------------------- */

/* The queue stops, the error descriptor says so, and the device lives: restarted, it serves. */
static void stops(const char *what)
{
    uint32_t s[2] = { 0, 0 };

    kick(&f.ring[0]);
    OK(UNTIL(&f, event_count(f.ring[0].error) > 0) && used_index(&f.ring[0]) == 0, "%s: the queue stops", what);
    front_send(&f, M_GET_BASE, 0, s, 8, NULL, 0);
    front_answer(&f, M_GET_BASE, s, 8);
    memset(f.guest, 0, RING_AREA);
    f.ring[0].next_desc = f.ring[0].seen = 0;
    OK(front_start_ring(&f, 0, 0) == 0 && serves(), "%s: started anew it serves", what);
    close_device();
}

static void raw_chain(struct desc d)
{
    f.ring[0].desc[0] = d;
    avail_put(&f.ring[0], 0);
    avail_put(&f.ring[0], 0);
}

static void test_hostile_descriptors(void)
{
    static const struct { const char *what; struct desc d; } bad[] = {
        { "an address outside the memory", { GUEST_AT + GUEST_SIZE, 8, 0, 0 } },
        { "an address below the memory", { GUEST_AT - 1, 8, 0, 0 } },
        { "a length past the end", { GUEST_AT + GUEST_SIZE - 8, 9, 0, 0 } },
        { "an address that wraps", { UINT64_MAX - 3, 8, 0, 0 } },
        { "all of 32 bits of length", { GUEST_AT, UINT32_MAX, 0, 0 } },
        { "a next out of the table", { GUEST_AT + BUFFERS, 8, D_NEXT, 64 } },
        { "a chain that bites its tail", { GUEST_AT + BUFFERS, 8, D_NEXT, 0 } },
        { "such a chain of nothing", { GUEST_AT + BUFFERS, 0, D_NEXT, 0 } },
        { "an indirect table", { GUEST_AT + BUFFERS, 64, D_INDIRECT, 0 } },
        { "an unknown flag", { GUEST_AT + BUFFERS, 64, 0x8000, 0 } },
        { "a response without a request", { GUEST_AT + BUFFERS, 64, D_WRITE, 0 } },
        { "two requests", { GUEST_AT + BUFFERS, 4, 0, 0 } },
        { "QEMU's address where the guest's belongs", { FRONT_AT + BUFFERS, 8, 0, 0 } },
    };

    for (size_t i = 0; i < EV_COUNT(bad); i++) {
        open_running();
        raw_chain(bad[i].d);
        stops(bad[i].what);
    }
}

static void test_hostile_rings(void)
{
    open_running();
    avail_put(&f.ring[0], 64);
    stops("a head out of the table");
    open_running();
    avail_put(&f.ring[0], UINT16_MAX);
    stops("the last head there could be");
    open_running();
    f.ring[0].avail[1] = RING_NUM + 1;
    stops("an index past the ring's size");
    open_running();
    f.ring[0].avail[1] = UINT16_MAX;
    stops("an index from before");
    open_running();
    f.ring[0].desc[0] = (struct desc){ GUEST_AT + BUFFERS, 8, D_WRITE | D_NEXT, 1 };
    f.ring[0].desc[1] = (struct desc){ GUEST_AT + BUFFERS, 8, 0, 0 };
    avail_put(&f.ring[0], 0);
    stops("readable after writable");
    open_running();
    for (uint16_t i = 0; i < RING_NUM; i++)
        f.ring[0].desc[i] = (struct desc){ GUEST_AT, GUEST_SIZE, i + 1 < RING_NUM ? D_NEXT : 0, (uint16_t)(i + 1) };
    avail_put(&f.ring[0], 0);
    stops("64 MiB in one chain");
}

static void test_empty_pieces(void)
{
    struct used u;
    struct piece p[4] = { { REQ_AT, 0, false }, { REQ_AT, 12, false }, { RESP_AT, 0, true },
                          { RESP_AT, RESP_LEN, true } };

    open_running();
    memcpy(f.guest + REQ_AT, describe, sizeof describe - 1);
    queue_chain(&f.ring[0], p, 4);
    kick(&f.ring[0]);
    OK(UNTIL(&f, next_used(&f.ring[0], &u)) && u.len > 12, "empty descriptors count for nothing");
    close_device();
}

static void test_open_fails(void)
{
    struct ev_err err = EV_ERR_INIT;
    char longer[300];
    struct ev_vhost *none = NULL;

    memset(longer, 'a', sizeof longer);
    longer[0] = '/', longer[299] = 0;
    EQ_INT(ev_vhost_nsm_open(rt, longer, sim, &none, &err), -ENAMETOOLONG, "a path that is too long");
    EQ_INT(ev_vhost_nsm_open(rt, "/nonexistent/x", sim, &none, &err), -ENOENT, "a folder that is not there");
    OK(strstr(err.msg, "/nonexistent/x"), "the error names it");
    open_device();
    turns(&f, 3);
    EQ_INT(ev_vhost_nsm_open(rt, path, sim, &none, &err), 0, "the first was taken by its front end already");
    ev_vhost_close(none);
    close_device();
    ev_vhost_close(NULL);
}

int main(void)
{
    struct ev_cert *root = NULL;
    struct ev_key *key = NULL;
    struct ev_timer *ticks;
    size_t fds;

    if (!mkdtemp(dir) || ev_rt_new(&rt, NULL) < 0 || ev_nsm_sim_make_root(&root, &key, NULL) < 0 ||
        ev_nsm_sim_new(&(struct ev_nsm_sim_conf){ .root = root, .root_key = key }, &sim, NULL) < 0)
        return 1;
    snprintf(path, sizeof path, "%s/nsm.sock", dir);
    ev_log_set_level(EV_ERROR);
    ticks = ev_timer_start(rt, 1, true, front_tick, NULL);
    fds = open_fds();
    test_calls();
    test_scattered();
    test_features();
    test_ring_messages();
    test_memory();
    test_hang_ups();
    test_disconnects();
    test_hostile_descriptors();
    test_hostile_rings();
    test_empty_pieces();
    test_open_fails();
    turns(&f, 3);
    EQ_INT(open_fds(), fds, "every descriptor was closed");
    EQ_INT(ev_rt_open_handles(rt), 1, "every handle was closed");
    ev_timer_stop(ticks);
    turns(&f, 1);
    ev_rt_free(rt);
    ev_nsm_sim_free(sim);
    ev_cert_free(root);
    ev_key_free(key);
    rmdir(dir);
    return tap_done();
}
