/* test_vhost_vsock.c — the vsock device: connections both ways, credit, ends, many of them. */
#include "vsock_guest.h"

static void test_configuration(void)
{
    uint8_t out[64] = { 0 };
    uint32_t range[5] = { 0, 8, 0, 0, 0 };
    uint64_t v = 0;

    begin();
    front_send(&f, M_GET_CONFIG, 0, range, sizeof range, NULL, 0);
    EQ_INT(front_answer(&f, M_GET_CONFIG, out, sizeof out), 20, "the configuration space is answered");
    memcpy(&v, out + 12, 8);
    EQ_INT(v, CID, "it holds the guest's CID");
    range[0] = 4, range[1] = 8;
    front_send(&f, M_GET_CONFIG, 0, range, sizeof range, NULL, 0);
    EQ_INT(front_answer(&f, M_GET_CONFIG, out, sizeof out), 0, "nothing past its end");
    range[0] = UINT32_MAX, range[1] = 2;
    front_send(&f, M_GET_CONFIG, 0, range, sizeof range, NULL, 0);
    EQ_INT(front_answer(&f, M_GET_CONFIG, out, sizeof out), 0, "nor before its start");
    front_send(&f, M_GET_QUEUES, 0, NULL, 0, NULL, 0);
    OK(front_answer(&f, M_GET_QUEUES, &v, 8) == 8 && v == 3, "three queues");
    end();
}

static void test_nobody_listens(void)
{
    struct packet p = header(REQUEST, 1024, 5000, 0, 0), q;

    begin();
    OK(say(REQUEST, 1024, 5000, 0) && hear_op(RST, 1024, 5000), "nobody listens: RST at once");
    p.dst_cid = 2;
    OK(send_raw(&p, NULL, 0) && hear(&q) && q.op == RST && q.src_cid == 2 && q.src_port == 5000,
       "CID 2 answers as CID 2");
    p.dst_cid = 99;
    OK(send_raw(&p, NULL, 0) && hear(&q) && q.op == RST && q.src_cid == 99, "any other CID has nobody");
    OK(say_data(1024, 5000, "x", 1) && hear_op(RST, 1024, 5000), "data without a connection: RST");
    OK(say(RST, 1024, 5000, 0) && silent(), "an RST is not answered");
    end();
}

static void test_guest_connects(void)
{
    struct packet p;
    int fd;

    begin();
    fd = guest_opens(1024);
    OK(fd >= 0, "the guest connects");
    OK(say_data(1024, 5000, "hello", 5) && host_reads(fd, "hello"), "its bytes arrive");
    OK(send(fd, "answer", 6, 0) == 6 && hear(&p) && p.op == RW && p.len == 6 && !memcmp(body, "answer", 6),
       "the host's bytes arrive");
    EQ_INT(p.fwd_cnt, 5, "with the count of what the host took");
    EQ_INT(p.buf_alloc, CREDIT, "and the credit given");
    OK(say(CREDIT_REQUEST, 1024, 5000, 0) && hear_op(CREDIT_UPDATE, 1024, 5000), "credit is told when asked for");
    OK(say(SHUTDOWN, 1024, 5000, 2) && host_eof(fd), "the guest sends no more: the host sees the end");
    OK(send(fd, "late", 4, 0) == 4 && hear(&p) && p.op == RW && p.len == 4, "what the host sends after that arrives");
    shutdown(fd, SHUT_WR);
    OK(hear(&p) && p.op == SHUTDOWN && (p.flags & 2), "the host's end is told");
    OK(say(SHUTDOWN, 1024, 5000, 3) && hear_op(RST, 1024, 5000), "a full shutdown is answered with RST");
    OK(say_data(1024, 5000, "x", 1) && hear_op(RST, 1024, 5000), "and then there is no connection");
    close(fd);
    end();
}

static void test_host_connects(void)
{
    struct packet p;
    uint32_t port;
    int early, fd;

    start();
    early = front_connect(enclave);
    OK(early >= 0 && send(early, "early", 5, 0) == 5, "the host connects before the guest is ready");
    shutdown(early, SHUT_WR);
    turns(&f, 5);
    OK(silent(), "it waits in the backlog");
    fill_rx(RING_NUM);
    OK(hear(&p) && p.op == REQUEST && p.dst_port == 7777 && p.src_cid == 3 && p.src_port >= 1024,
       "ready: the guest is asked");
    port = p.src_port;
    OK(silent(), "and nothing is sent before it answers");
    OK(say(RESPONSE, 7777, port, 0) && hear(&p) && p.op == RW && p.len == 5 && !memcmp(body, "early", 5),
       "then the early bytes come");
    OK(hear(&p) && p.op == SHUTDOWN && p.flags == 2, "and the half-close after them");
    OK(say_data(7777, port, "reply", 5) && host_reads(early, "reply"), "the guest's answer is not lost by it");
    OK(say(SHUTDOWN, 7777, port, 3) && hear_op(RST, 7777, port) && host_eof(early), "closed");
    close(early);
    fd = front_connect(enclave);
    OK(hear(&p) && p.op == REQUEST && p.src_port != port, "the next one has another port");
    OK(say(RST, 7777, p.src_port, 0) && host_eof(fd), "refused by the guest: the host sees the end");
    close(fd);
    fd = host_opens(&port);
    close(fd);
    OK(hear(&p) && p.op == SHUTDOWN, "the host is gone: the guest is told");
    if (p.flags != 3)
        OK(hear(&p) && p.op == SHUTDOWN && p.flags == 3, "both ways");
    OK(say_data(7777, port, "x", 1) && silent(), "what crosses that is dropped");
    OK(say(SHUTDOWN, 7777, port, 3) && hear_op(RST, 7777, port), "the guest's end is answered");
    end();
}

static void test_last_words(void)
{
    struct packet p;
    uint32_t port;
    int fd;

    begin();
    fd = host_opens(&port);
    send(fd, "last words", 10, 0);
    say_data(7777, port, "unread", 6);
    close(fd);                          /* with bytes unread: the socket is in error */
    OK(hear(&p), "a packet");
    if (p.op == SHUTDOWN)
        OK(!(p.flags & 2) && hear(&p), "not the end of the bytes yet");
    OK(p.op == RW && p.len == 10, "what the host sent before it went is delivered");
    end();
}

static void test_credit(void)
{
    struct packet p;
    char kilobyte[1024];
    int fd;

    begin();
    memset(kilobyte, 'k', sizeof kilobyte);
    guest_alloc = 100;
    fd = guest_opens(1024);
    OK(send(fd, kilobyte, sizeof kilobyte, 0) == 1024 && hear(&p) && p.op == RW && p.len == 100,
       "no more than the guest gave credit for");
    OK(hear_op(CREDIT_REQUEST, 1024, 5000) && silent(), "then it is asked, once");
    guest_fwd = 60;
    OK(say(CREDIT_UPDATE, 1024, 5000, 0) && hear(&p) && p.op == RW && p.len == 60, "new credit is used");
    OK(hear_op(CREDIT_REQUEST, 1024, 5000), "and used up");
    guest_alloc = 0;
    OK(say(CREDIT_UPDATE, 1024, 5000, 0) && silent(), "a buffer that shrinks");
    guest_fwd = 7000, guest_alloc = UINT32_MAX;
    OK(say(CREDIT_UPDATE, 1024, 5000, 0), "counts that cannot be");
    turns(&f, 5);
    close(fd);
    end();
}

/* The guest sends more than the host takes. */
static void test_host_does_not_read(void)
{
    static char chunk[32 * 1024];
    size_t given = 0, taken = 0, updates = 0;
    struct packet p = { 0 };
    int fd;

    begin();
    fd = guest_opens(1024);
    for (size_t i = 0; i < sizeof chunk; i++)
        chunk[i] = (char)i;
    while (given - p.fwd_cnt + sizeof chunk <= CREDIT && given < (8 << 20)) {
        say_data(1024, 5000, chunk, sizeof chunk);
        given += sizeof chunk;
        while (hear_for(&p, 2))
            updates += p.op == CREDIT_UPDATE;
    }
    OK(given >= CREDIT && given < (2 << 20), "%zu bytes fill the host's socket and our buffer", given);
    UNTIL(&f, ({ char b[8192]; ssize_t n = recv(fd, b, sizeof b, MSG_DONTWAIT); bool right = true;
                 for (ssize_t i = 0; i < n; i++) right = right && b[i] == (char)(taken + (size_t)i);
                 taken += n > 0 && right ? (size_t)n : 0; taken == given; }));
    EQ_INT(taken, given, "all of them arrive, in order");
    while (hear_for(&p, 6))
        updates += p.op == CREDIT_UPDATE;
    OK(updates > 0 && given - p.fwd_cnt <= CREDIT / 2, "the guest is told that there is room again");
    for (size_t i = 0; i < 40 && p.op != RST; i++) {
        say_data(1024, 5000, chunk, sizeof chunk);
        while (hear_for(&p, 2) && p.op != RST)
            ;
    }
    EQ_INT(p.op, RST, "a guest that does not keep to its credit is reset");
    close(fd);
    end();
}

static void test_many_descriptors(void)
{
    static uint8_t big[48 * 1024], got[sizeof big];
    struct piece pieces[40];
    struct packet p = header(RW, 1024, 5000, 0, sizeof big);
    size_t n = 0, at = 0, have = 0;
    int fd;

    begin();
    fd = guest_opens(1024);
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7 >> 3);
    p.buf_alloc = GUEST_CREDIT;
    memcpy(f.guest + TX_AT, &p, HEADER);
    memcpy(f.guest + TX_AT + HEADER, big, sizeof big);
    for (; at < HEADER + sizeof big; n++) {
        uint32_t len = n < 4 ? 10 : n == 7 ? 0 : 1500;          /* the header itself is in five pieces */

        len = len < HEADER + sizeof big - at ? len : (uint32_t)(HEADER + sizeof big - at);
        pieces[n] = (struct piece){ (uint32_t)(TX_AT + at), len, false };
        at += len;
    }
    queue_chain(&f.ring[TX], pieces, n);
    OK(sent(), "48 KiB in %zu descriptors", n);
    UNTIL(&f, ({ ssize_t r = recv(fd, got + have, sizeof got - have, MSG_DONTWAIT);
                 have += r > 0 ? (size_t)r : 0; have == sizeof got; }));
    OK(have == sizeof big && memcmp(big, got, have) == 0, "arrive whole");
    close(fd);
    end();
}

/* RX buffers of three pieces, the header across two of them. */
static void test_scattered_rx(void)
{
    struct packet p;
    struct used u;
    uint8_t flat[300];
    int fd = -1, l;

    start();
    for (uint32_t i = 0; i < 10; i++)
        queue_chain(&f.ring[RX], (struct piece[]){ { BUFFERS + i * RX_LEN, 30, true },
                                                   { BUFFERS + i * RX_LEN + 100, 30, true },
                                                   { BUFFERS + i * RX_LEN + 200, 40, true } }, 3);
    kick(&f.ring[RX]);
    l = host_listen(5000, 4);
    say(REQUEST, 1024, 5000, 0);
    OK(UNTIL(&f, next_used(&f.ring[RX], &u)) && u.len == HEADER, "a buffer in three pieces");
    fd = accept(l, NULL, NULL);
    host_unlisten(5000, l);
    send(fd, "0123456789012345678901234567890123456789012345678901234567890123456789", 70, 0);
    OK(UNTIL(&f, next_used(&f.ring[RX], &u)), "data comes");
    memcpy(flat, f.guest + BUFFERS + RX_LEN, 30);
    memcpy(flat + 30, f.guest + BUFFERS + RX_LEN + 100, 30);
    memcpy(flat + 60, f.guest + BUFFERS + RX_LEN + 200, 40);
    memcpy(&p, flat, HEADER);
    OK(u.len == 100 && p.op == RW && p.len == 56 && memcmp(flat + HEADER, "0123456789", 10) == 0, "as much as fits");
    OK(UNTIL(&f, next_used(&f.ring[RX], &u)) && u.len == HEADER + 14, "and the rest in the next");
    close(fd);
    end();
}

static void test_linger(void)
{
    static char chunk[32 * 1024];
    size_t given = 0, taken = 0;
    struct packet p = { 0 };
    bool ended = false;
    int fd;

    begin();
    fd = guest_opens(1024);
    while (given < 6 * sizeof chunk) {
        say_data(1024, 5000, chunk, sizeof chunk);
        given += sizeof chunk;
    }
    while (given - p.fwd_cnt + sizeof chunk <= CREDIT && given < (1 << 20)) {
        say_data(1024, 5000, chunk, sizeof chunk);
        given += sizeof chunk;
        while (hear_for(&p, 2))
            ;
    }
    say(SHUTDOWN, 1024, 5000, 3);
    OK(hear(&p) && p.op == RST, "the guest closes: answered at once");
    OK(say_data(1024, 5000, "x", 1) && hear(&p) && p.op == RST, "its connection is gone");
    OK(say(REQUEST, 1024, 5000, 0) && hear(&p) && p.op == RST, "and its port is free");
    UNTIL(&f, ({ char b[8192]; ssize_t n = recv(fd, b, sizeof b, MSG_DONTWAIT); taken += n > 0 ? (size_t)n : 0;
                 ended = n == 0; ended; }));
    EQ_INT(taken, given, "the host gets all of it");
    OK(ended, "and then the end");
    close(fd);
    end();
}

/* Two hosts with much to send share the guest's buffers. */
static void test_fairness(void)
{
    static char much[128 * 1024];
    uint32_t ports[2] = { 0 }, last = 0, changes = 0, count[2] = { 0 };
    struct packet p;
    int fd[2];

    begin();
    for (int i = 0; i < 2; i++)
        fd[i] = host_opens(&ports[i]);
    for (int i = 0; i < 2; i++)
        if (send(fd[i], much, sizeof much, MSG_DONTWAIT) <= 0)
            OK(false, "the host sends");
    for (int i = 0; i < 60 && hear_for(&p, 20); i++) {
        if (p.op == RW) {
            changes += p.src_port != last;
            last = p.src_port;
            count[p.src_port == ports[1]] += p.len;
        }
        if (p.op == CREDIT_REQUEST)
            break;
    }
    OK(changes >= 3 && count[0] > 16384 && count[1] > 16384, "both get on: %u and %u bytes", count[0], count[1]);
    close(fd[0]);
    close(fd[1]);
    end();
}

static void test_many_connections(void)
{
    static int host[1100];
    int l, n = 0;
    struct packet p;

    begin();
    l = host_listen(5000, 2000);
    for (uint32_t i = 0; i < 1024; i++) {
        if (!say(REQUEST, 1024 + i, 5000, 0) || !hear(&p) || p.op != RESPONSE)
            break;
        host[n++] = accept(l, NULL, NULL);
    }
    EQ_INT(n, 1024, "1024 connections at once");
    OK(say(REQUEST, 9999, 5000, 0) && hear_op(RST, 9999, 5000), "not one more");
    OK(say_data(1024 + 700, 5000, "x", 1) && host_reads(host[700], "x"), "each is itself");
    OK(say(SHUTDOWN, 1024 + 700, 5000, 3) && hear_op(RST, 1024 + 700, 5000), "one ends");
    OK(say(REQUEST, 9999, 5000, 0) && hear_op(RESPONSE, 9999, 5000), "and makes room");
    for (int i = 0; i < n; i++)
        close(host[i]);
    host_unlisten(5000, l);
    end();
}

static void test_full_backlog(void)
{
    int l, fd, blockers[8], n = 0;
    struct packet p;

    begin();
    l = host_listen(5000, 0);
    for (int i = 0; i < 8; i++) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };

        blockers[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        snprintf(a.sun_path, sizeof a.sun_path, "%s/parent_5000", dir);
        if (connect(blockers[n++], (struct sockaddr *)&a, sizeof a) < 0)
            break;
    }
    OK(say(REQUEST, 1024, 5000, 0) && silent(), "the host's backlog is full: no answer yet");
    while ((fd = accept(l, NULL, NULL)) >= 0)
        close(fd);
    OK(hear(&p) && p.op == RESPONSE && p.dst_port == 1024, "it has room: connected");
    while (n-- > 0)
        close(blockers[n]);
    host_unlisten(5000, l);
    end();
}

static void test_hook(void)
{
    begin();
    hooked = 0;
    OK(say(REQUEST, 1024, 9000, 0) && hear_op(RESPONSE, 1024, 9000) && hooked == 1,
       "a port that is served in this process");
    OK(say_data(1024, 9000, "\xb7", 1) && host_reads(hooked_fd, "\xb7"), "its bytes arrive there");
    close(hooked_fd);
    end();
}

static void test_restart(void)
{
    uint32_t s[2] = { 0, 0 };
    int fd;

    begin();
    fd = guest_opens(1024);
    for (uint32_t i = 0; i < 2; i++) {
        s[0] = i;
        front_send(&f, M_GET_BASE, 0, s, 8, NULL, 0);
        front_answer(&f, M_GET_BASE, s, 8);
        memset(f.guest + i * RING_AREA, 0, RING_AREA);
        f.ring[i].next_desc = f.ring[i].seen = 0;
    }
    OK(front_start_ring(&f, RX, 0) == 0 && front_start_ring(&f, TX, 0) == 0, "the driver starts anew");
    fill_rx(RING_NUM);
    OK(host_eof(fd), "the connections of the old one are gone");
    close(fd);
    fd = guest_opens(1024);
    OK(fd >= 0, "new ones work");
    close(fd);
    end();
}

static void test_front_leaves(void)
{
    uint32_t port;
    int fd, waiting;

    begin();
    fd = host_opens(&port);
    refill = false;
    waiting = front_connect(enclave);
    shutdown(f.fd, SHUT_RDWR);
    OK(host_eof(fd), "QEMU is gone: connections end");
    OK(access(enclave, F_OK) < 0 && front_connect(enclave) < 0, "and nobody can connect");
    close(fd);
    close(waiting);
    end();
}

static void test_open(void)
{
    struct ev_vhost_vsock_conf conf = { CID, dir, NULL, NULL };
    struct ev_err err = EV_ERR_INIT;
    struct ev_vhost *v = NULL;
    char longer[200];
    int n = 0;

    memset(longer, 'a', sizeof longer);
    longer[0] = '/', longer[120] = 0;
    conf.dir = longer;
    EQ_INT(ev_vhost_vsock_open(rt, path, &conf, &v, &err), -ENAMETOOLONG, "a folder too long for sockets");
    conf.dir = dir;
    EQ_INT(ev_vhost_vsock_open(rt, path, &conf, &v, &err), 0, "opened");
    for (; n < 100; n++) {
        char at[64];

        snprintf(at, sizeof at, "%s/l%d", dir, n);
        if (ev_vhost_vsock_listen(v, 1, at, &err) < 0)
            break;
    }
    EQ_INT(n, 64, "64 listeners, and no more");
    EQ_INT(ev_vhost_vsock_listen(v, 1, path, NULL), -ENOBUFS, "it says so");
    ev_vhost_close(v);
    n = 0;
    for (DIR *d = opendir(dir); d; closedir(d), d = NULL)
        while (readdir(d))
            n++;
    EQ_INT(n, 2, "closed: nothing is left in the folder");
}

int main(void)
{
    if (world_open() < 0)
        return 1;
    test_configuration();
    test_nobody_listens();
    test_guest_connects();
    test_host_connects();
    test_last_words();
    test_credit();
    test_host_does_not_read();
    test_many_descriptors();
    test_scattered_rx();
    test_linger();
    test_fairness();
    test_many_connections();
    test_full_backlog();
    test_hook();
    test_restart();
    test_front_leaves();
    test_open();
    world_close();
    return tap_done();
}
