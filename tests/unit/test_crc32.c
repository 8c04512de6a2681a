/* test_crc32.c — the fast way against the table, at all lengths and alignments. */
#include "codec/crc32.h"
#include "tap.h"

/* Bit by bit, from the definition. */
static uint32_t slow(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int b = 0; b < 8; b++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

int main(void)
{
    static uint8_t data[4096];
    size_t wrong_table = 0, wrong_clmul = 0, wrong_split = 0, wrong_combine = 0;
    uint32_t x = 1;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
    EQ_INT(ev_crc32(0, "123456789", 9), 0xcbf43926, "check value");
    EQ_INT(ev_crc32(0, "", 0), 0, "of nothing");
    for (size_t at = 0; at < 17; at++)
        for (size_t n = 0; n < 600; n++) {
            uint32_t want = slow(0x12345678, data + at, n);

            wrong_table += ev_crc32_table(0x12345678, data + at, n) != want;
            wrong_clmul += ev_crc32_clmul(0x12345678, data + at, n) != want;
        }
    EQ_INT(wrong_table, 0, "table");
    if (ev_crc32_has_clmul())
        EQ_INT(wrong_clmul, 0, "carry-less multiply");
    else
        SKIP(1, "this CPU has no PCLMULQDQ");
    for (size_t n = 0; n < sizeof data; n += 61) {
        uint32_t a = ev_crc32(0, data, n), b = ev_crc32(0, data + n, sizeof data - n);
        uint32_t whole = slow(0, data, sizeof data);

        wrong_split += ev_crc32(a, data + n, sizeof data - n) != whole;
        wrong_combine += ev_crc32_combine(a, b, sizeof data - n) != whole;
    }
    EQ_INT(wrong_split, 0, "in two steps");
    EQ_INT(wrong_combine, 0, "combined from two halves");
    memset(data, 0, sizeof data);
    x = 0;
    for (size_t i = 0; i < (1 << 20); i += sizeof data)
        x = ev_crc32(x, data, sizeof data);
    EQ_INT(ev_crc32_combine(0xdeadbeef, x, 1 << 20) ^ ev_crc32_combine(0, x, 1 << 20) ^
           ev_crc32_combine(0xdeadbeef, 0, 1 << 20), 0, "combine is linear");
    return tap_done();
}
