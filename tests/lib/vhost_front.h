/* vhost_front.h — a front end and a driver in the test's own process: what QEMU and a guest would do to
 * our vhost-user back ends, well or badly. Guest memory is a sealed memfd of GUEST_SIZE bytes, mapped
 * here and handed over; ring i lies at i * RING_AREA, buffers from BUFFERS on. */
#ifndef TESTS_VHOST_FRONT_H
#define TESTS_VHOST_FRONT_H

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "role/vhost.h"

enum { GUEST_SIZE = 1 << 20, RING_AREA = 0x4000, AVAIL_AT = 0x1000, USED_AT = 0x2000, BUFFERS = 0x10000, RING_NUM = 64,
       VERSION_1 = 1, NEED_REPLY = 8, REPLY = 4 };
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };
enum { M_GET_FEATURES = 1, M_SET_FEATURES, M_SET_OWNER, M_SET_MEM_TABLE = 5, M_SET_NUM = 8, M_SET_ADDR, M_SET_BASE,
       M_GET_BASE, M_SET_KICK, M_SET_CALL, M_SET_ERR, M_GET_PROTOCOL, M_SET_PROTOCOL, M_GET_QUEUES, M_ENABLE,
       M_GET_CONFIG = 24 };
#define GUEST_AT UINT64_C(0x40000000)           /* guest-physical */
#define FRONT_AT UINT64_C(0x7f1200000000)       /* in "QEMU" */

struct desc { uint64_t address; uint32_t len; uint16_t flags, next; };
struct used { uint32_t id, len; };

struct driver_ring {
    unsigned index, num;
    struct desc *desc;
    uint16_t *avail;            /* flags, idx, ring */
    uint8_t *used;              /* flags, idx, entries */
    uint16_t seen;              /* used entries that were looked at */
    unsigned next_desc;
    int kick, call, error;
};

struct front {
    struct ev_rt *rt;
    int fd, memory;
    uint8_t *guest;
    struct driver_ring ring[3];
};

/* Turns of the loop never block for long: this timer ends them. */
__attribute__((unused)) static void front_tick(void *ctx) { (void)ctx; }

#define UNTIL(f, cond) \
    ({ bool ok_ = false; for (int i_ = 0; i_ < 3000 && !(ok_ = (cond)); i_++) ev_rt_run_once((f)->rt); ok_; })

__attribute__((unused)) static void turns(struct front *f, int n)
{
    while (n-- > 0)
        ev_rt_run_once(f->rt);
}

__attribute__((unused)) static int front_connect(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

__attribute__((unused)) static int front_memory(size_t size, int seals)
{
    int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
        abort();
    return fd;
}

__attribute__((unused)) static void front_init(struct front *f, struct ev_rt *rt, const char *path)
{
    memset(f, 0, sizeof *f);
    f->rt = rt;
    f->fd = path ? front_connect(path) : -1;
    f->memory = front_memory(GUEST_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);
    f->guest = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory, 0);
    for (unsigned i = 0; i < 3; i++) {
        struct driver_ring *r = &f->ring[i];

        r->index = i;
        r->num = RING_NUM;
        r->desc = (struct desc *)(void *)(f->guest + i * RING_AREA);
        r->avail = (uint16_t *)(void *)(f->guest + i * RING_AREA + AVAIL_AT);
        r->used = f->guest + i * RING_AREA + USED_AT;
        r->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r->error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
}

__attribute__((unused)) static void front_fini(struct front *f)
{
    for (int i = 0; i < 3; i++) {
        close(f->ring[i].kick);
        close(f->ring[i].call);
        close(f->ring[i].error);
    }
    munmap(f->guest, GUEST_SIZE);
    close(f->memory);
    if (f->fd >= 0)
        close(f->fd);
}

__attribute__((unused))
static bool front_send(struct front *f, uint32_t request, uint32_t flags, const void *payload, size_t n,
                       const int *fds, size_t n_fd)
{
    uint8_t bytes[12 + 1024];
    uint32_t head[3] = { request, flags | VERSION_1, (uint32_t)n };
    union { struct cmsghdr align; char room[CMSG_SPACE(16 * sizeof(int))]; } control = { 0 };
    struct iovec iov = { bytes, 12 + n };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    memcpy(bytes, head, 12);
    if (n > 0)
        memcpy(bytes + 12, payload, n);
    if (n_fd > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n_fd * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(n_fd * sizeof(int));
        memcpy(CMSG_DATA(&control.align), fds, n_fd * sizeof(int));
    }
    return sendmsg(f->fd, &m, MSG_NOSIGNAL) == (ssize_t)(12 + n);
}

/* The next answer's payload; its length, or -1 when the back end hung up or says nothing. */
__attribute__((unused)) static int front_answer(struct front *f, uint32_t request, void *out, size_t cap)
{
    uint32_t head[3];
    struct pollfd p = { f->fd, POLLIN, 0 };

    if (!UNTIL(f, poll(&p, 1, 0) == 1) || recv(f->fd, head, 12, MSG_WAITALL) != 12)
        return -1;
    if (head[0] != request || head[1] != (VERSION_1 | REPLY) || head[2] > cap)
        return -2;
    return head[2] == 0 || recv(f->fd, out, head[2], MSG_WAITALL) == (ssize_t)head[2] ? (int)head[2] : -1;
}

/* Sends with an answer asked for: 0 = done, 1 = refused, negative = hung up. */
__attribute__((unused))
static int front_ask(struct front *f, uint32_t request, const void *payload, size_t n, const int *fds, size_t n_fd)
{
    uint64_t v = 9;

    if (!front_send(f, request, NEED_REPLY, payload, n, fds, n_fd))
        return -1;
    return front_answer(f, request, &v, sizeof v) == 8 ? (int)v : -1;
}

__attribute__((unused)) static int front_ask_u64(struct front *f, uint32_t request, uint64_t v)
{
    return front_ask(f, request, &v, sizeof v, NULL, 0);
}

__attribute__((unused)) static bool front_hung_up(struct front *f)
{
    struct pollfd p = { f->fd, POLLIN, 0 };
    char c;

    return UNTIL(f, poll(&p, 1, 0) == 1) && recv(f->fd, &c, 1, MSG_DONTWAIT) <= 0;
}

struct mem_region { uint64_t guest, size, front, offset; };

__attribute__((unused))
static int front_table(struct front *f, const struct mem_region *r, uint32_t n, const int *fds, size_t n_fd)
{
    uint8_t bytes[8 + 10 * sizeof *r] = { 0 };

    memcpy(bytes, &n, sizeof n);
    memcpy(bytes + 8, r, n * sizeof *r);
    return front_ask(f, M_SET_MEM_TABLE, bytes, 8 + n * sizeof *r, fds, n_fd);
}

__attribute__((unused)) static int front_default_table(struct front *f)
{
    struct mem_region r = { GUEST_AT, GUEST_SIZE, FRONT_AT, 0 };

    return front_table(f, &r, 1, &f->memory, 1);
}

__attribute__((unused)) static int front_state(struct front *f, uint32_t request, uint32_t index, uint32_t num)
{
    uint32_t s[2] = { index, num };

    return front_ask(f, request, s, sizeof s, NULL, 0);
}

__attribute__((unused)) static int front_ring_fd(struct front *f, uint32_t request, uint64_t index, int fd)
{
    return front_ask(f, request, &index, sizeof index, &fd, 1);
}

__attribute__((unused)) static int front_addr(struct front *f, uint32_t index, uint64_t desc, uint64_t avail,
                                              uint64_t used)
{
    struct { uint32_t index, flags; uint64_t desc, used, avail, log; } a = { index, 0, desc, used, avail, 0 };

    return front_ask(f, M_SET_ADDR, &a, sizeof a, NULL, 0);
}

__attribute__((unused)) static int front_default_addr(struct front *f, unsigned i)
{
    uint64_t at = FRONT_AT + i * RING_AREA;

    return front_addr(f, i, at, at + AVAIL_AT, at + USED_AT);
}

/* The whole of it, as QEMU does. */
__attribute__((unused)) static int front_start_ring(struct front *f, unsigned i, uint32_t base)
{
    return front_state(f, M_SET_NUM, i, f->ring[i].num) || front_state(f, M_SET_BASE, i, base) ||
           front_default_addr(f, i) || front_ring_fd(f, M_SET_ERR, i, f->ring[i].error) ||
           front_ring_fd(f, M_SET_KICK, i, f->ring[i].kick) || front_ring_fd(f, M_SET_CALL, i, f->ring[i].call) ||
           front_state(f, M_ENABLE, i, 1);
}

__attribute__((unused)) static int front_hello(struct front *f)
{
    uint64_t v = 0;

    if (!front_send(f, M_GET_FEATURES, 0, NULL, 0, NULL, 0) || front_answer(f, M_GET_FEATURES, &v, 8) != 8)
        return -1;
    return front_ask_u64(f, M_SET_FEATURES, v) || front_ask(f, M_SET_OWNER, NULL, 0, NULL, 0) || front_default_table(f);
}

/* --- the driver ---------------------------------------------------------------------------------------- */

struct piece { uint32_t at, len; bool write; };         /* `at`: offset in the guest's memory */

__attribute__((unused)) static void avail_put(struct driver_ring *r, uint16_t head)
{
    uint16_t idx = r->avail[1];

    r->avail[2 + idx % r->num] = head;
    __atomic_store_n(&r->avail[1], (uint16_t)(idx + 1), __ATOMIC_RELEASE);
}

/* Queues a chain of pieces; its head. The descriptor table is used round and round. */
__attribute__((unused)) static uint16_t queue_chain(struct driver_ring *r, const struct piece *p, size_t n)
{
    uint16_t head = (uint16_t)(r->next_desc % r->num);

    for (size_t i = 0; i < n; i++) {
        struct desc *d = &r->desc[r->next_desc++ % r->num];

        *d = (struct desc){ GUEST_AT + p[i].at, p[i].len, (uint16_t)(p[i].write ? D_WRITE : 0), 0 };
        if (i + 1 < n) {
            d->flags |= D_NEXT;
            d->next = (uint16_t)(r->next_desc % r->num);
        }
    }
    avail_put(r, head);
    return head;
}

__attribute__((unused)) static void kick(struct driver_ring *r)
{
    uint64_t one = 1;

    if (write(r->kick, &one, sizeof one) != sizeof one)
        abort();
}

__attribute__((unused)) static uint16_t used_index(const struct driver_ring *r)
{
    uint16_t v;

    memcpy(&v, r->used + 2, sizeof v);
    return v;
}

__attribute__((unused)) static bool next_used(struct driver_ring *r, struct used *u)
{
    if (used_index(r) == r->seen)
        return false;
    memcpy(u, r->used + 4 + 8 * (r->seen++ % r->num), sizeof *u);
    return true;
}

__attribute__((unused)) static uint64_t event_count(int fd)
{
    uint64_t v = 0;

    return read(fd, &v, sizeof v) == sizeof v ? v : 0;
}

#endif
