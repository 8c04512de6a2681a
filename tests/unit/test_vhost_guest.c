/* test_vhost_guest.c — the vsock device against guests (and hosts) that mean harm. */
#include "vsock_guest.h"

static void test_strange_packets(void)
{
    struct packet p = header(REQUEST, 1024, 5000, 0, 0), q;
    int fd;

    begin();
    p.src_cid = 18;
    OK(send_raw(&p, NULL, 0) && silent(), "from another's CID: dropped");
    p.src_cid = CID, p.type = 2;
    OK(send_raw(&p, NULL, 0) && hear(&q) && q.op == RST && q.type == 2, "of another type: RST of that type");
    p = header(RW, 1024, 5000, 0, 500);
    fd = guest_opens(1024);
    OK(send_raw(&p, "x", 1) && hear_op(RST, 1024, 5000) && host_eof(fd), "a length that is not there: RST");
    close(fd);
    p.len = UINT32_MAX;
    fd = guest_opens(1024);
    OK(send_raw(&p, "x", 1) && hear_op(RST, 1024, 5000), "all of 32 bits of it");
    close(fd);
    fd = guest_opens(1024);
    OK(say(99, 1024, 5000, 0) && hear_op(RST, 1024, 5000), "an unknown operation: RST");
    close(fd);
    fd = guest_opens(1024);
    OK(say(REQUEST, 1024, 5000, 0) && hear_op(RST, 1024, 5000), "a second request: RST");
    close(fd);
    fd = guest_opens(1024);
    say(SHUTDOWN, 1024, 5000, 2);
    OK(say_data(1024, 5000, "x", 1) && hear_op(RST, 1024, 5000), "data after its end: RST");
    close(fd);
    fd = guest_opens(1024);
    say(SHUTDOWN, 1024, 5000, UINT32_MAX - 3);
    OK(say_data(1024, 5000, "x", 1) && host_reads(fd, "x"), "unknown shutdown flags mean nothing");
    say(SHUTDOWN, 1024, 5000, 1);
    turns(&f, 2);
    OK(send(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "a guest that receives no more: the host's send fails");
    close(fd);
    end();
}

static bool stopped(unsigned i)
{
    kick(&f.ring[i]);
    return UNTIL(&f, event_count(f.ring[i].error) > 0);
}

static void test_broken_rings(void)
{
    begin();
    queue_chain(&f.ring[TX], &(struct piece){ TX_AT, HEADER - 1, false }, 1);
    OK(stopped(TX), "a packet shorter than its header stops the queue");
    end();
    start();
    queue_chain(&f.ring[RX], &(struct piece){ BUFFERS, HEADER - 1, true }, 1);
    say(REQUEST, 1024, 5000, 0);
    OK(stopped(RX), "so does a buffer without room for one");
    end();
    start();
    queue_chain(&f.ring[RX], &(struct piece){ BUFFERS, 4096, false }, 1);
    say(REQUEST, 1024, 5000, 0);
    OK(stopped(RX), "or one that is not for writing");
    end();
    start();
    for (uint32_t i = 0; i < RING_NUM; i++)
        queue_chain(&f.ring[RX], &(struct piece){ BUFFERS + i * RX_LEN, HEADER, true }, 1);
    kick(&f.ring[RX]);
    int fd = guest_opens(1024);
    OK(send(fd, "x", 1, 0) == 1 && stopped(RX), "buffers that only hold headers stop it when data comes");
    close(fd);
    end();
}

/* Packets that each want an RST, from a guest that gives no buffers: they wait in the guest's own ring. */
static void test_reset_flood(void)
{
    struct packet p = header(RW, 0, 5000, 0, 0), q;
    unsigned queued = 0, resets = 0;
    bool in_order = true;

    start();
    for (int round = 0; round < 40; round++) {
        while ((uint16_t)(f.ring[TX].avail[1] - used_index(&f.ring[TX])) < RING_NUM) {
            p.src_port = queued;
            memcpy(f.guest + TX_AT + 64 * (queued % RING_NUM), &p, HEADER);
            queue_chain(&f.ring[TX], &(struct piece){ TX_AT + 64 * (queued++ % RING_NUM), HEADER, false }, 1);
        }
        kick(&f.ring[TX]);
        turns(&f, 2);
    }
    EQ_INT(used_index(&f.ring[TX]), 256, "no more are taken than answers are kept");
    fill_rx(RING_NUM);
    while (resets < queued && hear_for(&q, 50)) {
        in_order = in_order && q.op == RST && q.dst_port == resets;
        resets++;
    }
    OK(resets == queued && in_order, "with buffers all %u are answered, in order", queued);
    EQ_INT(used_index(&f.ring[TX]), queued, "and taken");
    end();
}

/* Host connections beyond what the guest's buffers and our bound take; nobody spins, nobody is lost. */
static void test_host_flood(void)
{
    static int fd[300];
    int n = 0, asked = 0;
    struct packet p;

    begin();
    refill = false;
    for (; n < 300; n++)
        if ((fd[n] = front_connect(enclave)) < 0)
            break;
    EQ_INT(n, 300, "300 hosts connect while the guest answers nobody");
    while (hear_for(&p, 6))
        asked += p.op == REQUEST;
    EQ_INT(asked, RING_NUM, "as many requests as there are buffers");
    refill = true;
    for (int i = 0; i < RING_NUM; i++)
        avail_put(&f.ring[RX], (uint16_t)i);
    kick(&f.ring[RX]);
    while (asked < 300 && hear_for(&p, 50)) {
        asked += p.op == REQUEST;
        say(RST, 7777, p.src_port, 0);
    }
    EQ_INT(asked, 300, "with new buffers the others get their turn");
    while (n-- > 0)
        close(fd[n]);
    end();
}

static int turns_of_a_second(void)
{
    uint64_t end_at = ev_rt_now_ms(rt) + 1000;
    int n = 0;

    while (ev_rt_now_ms(rt) < end_at && n < 100000) {
        ev_rt_run_once(rt);
        n++;
    }
    return n;
}

/* A guest whose TX queue stopped cannot answer; hosts that wait for it cost no time. */
static void test_no_spin(void)
{
    int fd;

    begin();
    queue_chain(&f.ring[TX], &(struct piece){ TX_AT, 1, false }, 1);
    OK(stopped(TX), "the guest's queue is stopped");
    fd = front_connect(enclave);
    turns(&f, 3);
    OK(fd >= 0 && silent(), "a host waits");
    EQ_INT(turns_of_a_second() < 2500, 1, "the loop only turns for the test's clock");
    close(fd);
    end();
}

int main(void)
{
    if (world_open() < 0)
        return 1;
    test_strange_packets();
    test_broken_rings();
    test_reset_flood();
    test_host_flood();
    test_no_spin();
    world_close();
    return tap_done();
}
