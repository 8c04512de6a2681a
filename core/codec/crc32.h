/* crc32.h — CRC-32/ISO-HDLC (zlib's `crc32`; "123456789" → cbf43926), as the EIF header carries it. */
#ifndef EV_CODEC_CRC32_H
#define EV_CODEC_CRC32_H

#include "base/mem.h"

/* Continues from `crc`; start with 0. Takes the fastest way that this CPU has. */
uint32_t ev_crc32(uint32_t crc, const void *p, size_t n);
/* CRC of A followed by B from those of A and B alone: the header of an image is known last. */
uint32_t ev_crc32_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

/* The two ways by name, for the test that compares them. Without the instruction, _clmul is _table. */
uint32_t ev_crc32_table(uint32_t crc, const void *p, size_t n);
uint32_t ev_crc32_clmul(uint32_t crc, const void *p, size_t n);
bool ev_crc32_has_clmul(void);

#endif
