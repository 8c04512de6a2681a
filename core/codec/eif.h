/* eif.h — the container of an enclave image: header, section table, section headers (spec eif.md §1).
 *
 * The reader is strict: the table and the section headers must agree and lead to the last byte of
 * the file, so that a tool that follows one and a tool that follows the other measure the same
 * bytes. It reads the headers only; contents are for the caller to stream. */
#ifndef EV_CODEC_EIF_H
#define EV_CODEC_EIF_H

#include "base/buf.h"

enum {
    EV_EIF_HEADER = 548, EV_EIF_SECTION_HEADER = 12, EV_EIF_SECTIONS = 32, EV_EIF_VERSION = 4,
    EV_EIF_CRC_OFFSET = 544,
    EV_EIF_SIGNATURE_MAX = 32768, EV_EIF_CMDLINE_MAX = 65536, EV_EIF_METADATA_MAX = 1 << 20
};
enum ev_eif_type { EV_EIF_KERNEL = 1, EV_EIF_CMDLINE, EV_EIF_RAMDISK, EV_EIF_SIGNATURE, EV_EIF_METADATA };
enum { EV_EIF_ARM64 = 1 };                              /* header flag; the others: eif.md §1.5 */

struct ev_eif_section {
    uint16_t type;
    uint64_t offset, size;                              /* of the section header; of the data */
};

struct ev_eif {
    uint16_t version, flags;
    uint64_t default_mem, default_cpus;
    size_t n;
    struct ev_eif_section section[EV_EIF_SECTIONS];
    uint32_t crc;                                       /* as the header says; not checked here */
    uint64_t length;                                    /* of the file */
    char warning[256];                                  /* what was tolerated, or "" */
};

/* err->reason: "eif-truncated" "eif-magic" "eif-version" "eif-table" "eif-section" "eif-trailing"
 * "eif-count" "eif-order" "eif-signature". */
int ev_eif_read(int fd, struct ev_eif *out, struct ev_err *err) EV_MUST_USE;
/* The i-th section of a type, or NULL. */
const struct ev_eif_section *ev_eif_find(const struct ev_eif *e, enum ev_eif_type type, size_t i);
size_t ev_eif_count(const struct ev_eif *e, enum ev_eif_type type);
static inline uint64_t ev_eif_data(const struct ev_eif_section *s) { return s->offset + EV_EIF_SECTION_HEADER; }
/* Reads one section's data into `out`, whose max is the limit. */
int ev_eif_load(int fd, const struct ev_eif_section *s, struct ev_buf *out, struct ev_err *err) EV_MUST_USE;
/* JSON of the shape of eif.md §4; err->reason "eif-metadata". */
int ev_eif_check_metadata(ev_slice json, struct ev_err *err) EV_MUST_USE;

/* Writing: both build exactly the bytes of the file; ev_eif_header with the CRC that e->crc says. */
void ev_eif_header(const struct ev_eif *e, uint8_t out[EV_EIF_HEADER]);
void ev_eif_section_header(const struct ev_eif_section *s, uint8_t out[EV_EIF_SECTION_HEADER]);
/* Appends a section behind the others: sets its offset, moves e->length. EV_ELIMIT past 32. */
int ev_eif_add(struct ev_eif *e, enum ev_eif_type type, uint64_t size, struct ev_err *err) EV_MUST_USE;

#endif
