/* crc32.c — see crc32.h.
 *
 * All arithmetic is on reflected polynomials over GF(2): bit 31 of a word is the coefficient of x^0.
 * The fast way folds: a block of 128 bits that lies d bits before another one is worth
 * block * x^d mod P there, and a carry-less multiplication of each half by a constant moves it. The
 * last 128 bits, which now stand for everything before them, go through the table. */
#include "codec/crc32.h"

#include <pthread.h>

enum { SLICES = 8 };

static const uint32_t POLY = 0xedb88320;            /* x^32 + x^26 + ... + 1, reflected */
static uint32_t table[SLICES][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* table[k][b]: the register after byte b and k zero bytes. */
static void make_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t r = b;

        for (int bit = 0; bit < 8; bit++)
            r = r >> 1 ^ (r & 1 ? POLY : 0);
        table[0][b] = r;
    }
    for (int k = 1; k < SLICES; k++)
        for (uint32_t b = 0; b < 256; b++)
            table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 255];
}

static uint32_t get_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* On the register itself, which is the inverted CRC. */
static uint32_t slice(uint32_t r, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint32_t a = r ^ get_u32le(p), b = get_u32le(p + 4);

        r = table[7][a & 255] ^ table[6][a >> 8 & 255] ^ table[5][a >> 16 & 255] ^ table[4][a >> 24] ^
            table[3][b & 255] ^ table[2][b >> 8 & 255] ^ table[1][b >> 16 & 255] ^ table[0][b >> 24];
    }
    while (n-- > 0)
        r = r >> 8 ^ table[0][(r ^ *p++) & 255];
    return r;
}

uint32_t ev_crc32_table(uint32_t crc, const void *p, size_t n)
{
    pthread_once(&table_once, make_table);
    return ~slice(~crc, p, n);
}

#if defined __x86_64__
#include <immintrin.h>

#define CLMUL __attribute__((target("pclmul,sse2")))

bool ev_crc32_has_clmul(void)
{
    return __builtin_cpu_supports("pclmul");
}

CLMUL static __m128i fold(__m128i block, __m128i next, __m128i by)
{
    __m128i low = _mm_clmulepi64_si128(block, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(block, by, 0x11);

    return _mm_xor_si128(next, _mm_xor_si128(low, high));
}

CLMUL static __m128i load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* n >= 64. Constants: x^(512+32), x^(512-32), x^(128+32), x^(128-32) mod P, reflected, times x. */
CLMUL static uint32_t fold_all(uint32_t r, const uint8_t *p, size_t n)
{
    const __m128i by512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
    const __m128i by128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i a = _mm_xor_si128(load(p), _mm_cvtsi32_si128((int)r));
    __m128i b = load(p + 16), c = load(p + 32), d = load(p + 48);
    uint8_t last[16];

    for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
        a = fold(a, load(p), by512);
        b = fold(b, load(p + 16), by512);
        c = fold(c, load(p + 32), by512);
        d = fold(d, load(p + 48), by512);
    }
    a = fold(fold(fold(a, b, by128), c, by128), d, by128);
    for (; n >= 16; p += 16, n -= 16)
        a = fold(a, load(p), by128);
    _mm_storeu_si128((__m128i *)(void *)last, a);
    return slice(slice(0, last, sizeof last), p, n);
}

uint32_t ev_crc32_clmul(uint32_t crc, const void *p, size_t n)
{
    if (n < 64 || !ev_crc32_has_clmul())
        return ev_crc32_table(crc, p, n);
    pthread_once(&table_once, make_table);
    return ~fold_all(~crc, p, n);
}
#else
bool ev_crc32_has_clmul(void)
{
    return false;
}

uint32_t ev_crc32_clmul(uint32_t crc, const void *p, size_t n)
{
    return ev_crc32_table(crc, p, n);
}
#endif

uint32_t ev_crc32(uint32_t crc, const void *p, size_t n)
{
    return ev_crc32_clmul(crc, p, n);
}

/* a * b mod P */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = b >> 1 ^ (b & 1 ? POLY : 0);
    }
    return product;
}

/* crc(A B) = crc(A) * x^(8 |B|) + crc(B): the inversions at both ends cancel. */
uint32_t ev_crc32_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    uint32_t power = 1u << 23, shift = 1u << 31;    /* x^8 and 1 */

    for (; len_b; len_b >>= 1) {
        if (len_b & 1)
            shift = multiply(shift, power);
        power = multiply(power, power);
    }
    return multiply(crc_a, shift) ^ crc_b;
}
