/* image_int.h — what the files of core/nitro/image_*.c share. Not for others.
 *
 *   image_oci     a container image's manifest and layers          ┐
 *   image_config  what it says about itself                        │
 *   image_tree    a tree of files in memory                        │
 *   image_merge   layers → tree → the entries of ramdisk 2         ├─ image_build
 *   image_pump    reads once, hashes on two threads, CRC, writes   │
 *   image_sign    the signature section                            │
 *   image_pack    sections into a file, whole or not at all        ┘
 *   image_describe, image_layout, image_unpack: the way back
 */
#ifndef EV_NITRO_IMAGE_INT_H
#define EV_NITRO_IMAGE_INT_H

#include "codec/archive.h"
#include "codec/cpio.h"
#include "codec/eif.h"
#include "nitro/image.h"
#include "nitro/image_tree.h"

enum { EV_IMAGE_LAYERS = 256, EV_IMAGE_JSON_MAX = 8 << 20, EV_IMAGE_STEP = 1 << 20 };
static const uint64_t EV_IMAGE_TOTAL_MAX = 64ull << 30;     /* contents of all files; a layer expanded */

/* Calls the watch; EV_ECANCELLED when it says so. */
int ev_image_step(const struct ev_image_watch *w, const char *step, uint64_t done, uint64_t total,
                  struct ev_err *err) EV_MUST_USE;

/* ---- image_oci.c: where a container image comes from ---- */

struct ev_oci_member { char *path, *link; struct ev_region region; };
struct ev_oci_layer {
    struct ev_region blob;                      /* as stored */
    int own_fd;                                 /* to close, or -1 */
    bool has_digest, has_diff, plain_checked;   /* plain_checked: hash it even when not compressed */
    uint8_t digest[32], diff[32];               /* SHA-256 of the blob; of the tar in it */
};
struct ev_oci {
    int fd;                                     /* archive or folder */
    bool folder;
    struct ev_oci_member *member;               /* of an archive */
    size_t n_members, members_cap;
    struct ev_image_config config;
    struct ev_oci_layer layer[EV_IMAGE_LAYERS];
    size_t n_layers;
    const struct ev_image_watch *watch;
};
enum ev_oci_arch { EV_OCI_ANY, EV_OCI_AMD64, EV_OCI_ARM64 };
/* Reads manifests and configuration, opens the layers. Close even after a failure. */
int ev_oci_open(struct ev_oci *o, const char *source, enum ev_oci_arch arch, const struct ev_image_watch *watch,
                struct ev_err *err) EV_MUST_USE;
/* The i-th layer as a plain tar, its digest checked. The region lives until ev_oci_close. */
int ev_oci_layer(struct ev_oci *o, size_t i, struct ev_region *tar, struct ev_err *err) EV_MUST_USE;
void ev_oci_close(struct ev_oci *o);
int ev_oci_parse_config(ev_slice json, struct ev_oci *o, struct ev_err *err) EV_MUST_USE;   /* image_config.c */

/* ---- image_merge.c: layers on the archive stream only ---- */

enum { EV_MERGE_MEMORY = UINT16_MAX };          /* node.source of contents that lie in memory */
struct ev_merge {
    struct ev_tree tree;
    uint32_t rootfs;
    uint16_t layer;                             /* being merged, from 1 */
    uint32_t groups;                            /* sets of hard links so far */
    struct ev_merge_xattr { uint8_t n, value[63]; } *xattr;
    size_t n_xattrs, xattrs_cap;
    ev_slice *memory;                           /* borrowed contents */
    size_t n_memory, memory_cap;
    struct ev_buf xattr_list;
    char warning[512];
};
int ev_merge_init(struct ev_merge *m, struct ev_err *err) EV_MUST_USE;
void ev_merge_fini(struct ev_merge *m);
/* Lower layers first; `source` is stored in each file's node. */
int ev_merge_layer(struct ev_merge *m, const struct ev_region *tar, uint16_t source, struct ev_err *err) EV_MUST_USE;
/* A file of ours under cage/, contents borrowed. */
int ev_merge_cage(struct ev_merge *m, const char *name, ev_slice data, struct ev_err *err) EV_MUST_USE;
/* After the last layer: mount points, cage/xattrs. */
int ev_merge_finish(struct ev_merge *m, struct ev_err *err) EV_MUST_USE;

/* ---- image_pump.c: one pass over the bytes of an image, on two threads ---- */

enum { EV_PUMP_PCR0 = 1, EV_PUMP_PCR2 = 2, EV_PUMP_PART = 4 };   /* PART: also hashed on its own */
struct ev_pump;
/* fd -1: nothing is written. Bytes go to the file from `offset` on. */
struct ev_pump *ev_pump_new(int fd, uint64_t offset);
void ev_pump_watch(struct ev_pump *p, const struct ev_image_watch *w, const char *step, uint64_t total);
int ev_pump_put(struct ev_pump *p, int how, const void *data, size_t n, struct ev_err *err) EV_MUST_USE;
int ev_pump_file(struct ev_pump *p, int how, int fd, uint64_t offset, uint64_t n, struct ev_err *err) EV_MUST_USE;
/* Ends a part: everything put with EV_PUMP_PART since the last one; SHA-384 at ev_pump_finish. */
int ev_pump_part(struct ev_pump *p, uint8_t out[48], struct ev_err *err) EV_MUST_USE;
/* PCR1 is what PCR0 is now. */
int ev_pump_mark_pcr1(struct ev_pump *p, struct ev_err *err) EV_MUST_USE;
/* PCR0, final; more bytes may follow unmeasured. */
int ev_pump_pcr0(struct ev_pump *p, uint8_t out[48], struct ev_err *err) EV_MUST_USE;
/* Waits for the second thread. PCR1 and PCR2; CRC of all bytes and their number. */
int ev_pump_finish(struct ev_pump *p, struct ev_pcrs *out, uint32_t *crc, uint64_t *len,
                   struct ev_err *err) EV_MUST_USE;
void ev_pump_free(struct ev_pump *p);           /* also stops one that has not finished */

/* ---- image_pack.c: the sections of an image, in order, into a file ---- */

struct ev_pack_ramdisk {
    uint64_t size;                              /* exactly what `emit` pumps */
    int (*emit)(void *ctx, struct ev_pump *p, int how, struct ev_err *err);
    void *ctx;
};
struct ev_pack {
    int kernel_fd;
    uint64_t kernel_size;
    ev_slice cmdline, metadata;
    const struct ev_pack_ramdisk *ramdisk;
    size_t n_ramdisks;
    ev_slice cert_pem;
    const struct ev_key *key;                   /* NULL: unsigned */
    bool arm64;
    const char *output;
    uint8_t *kernel_sha384;                     /* or NULL */
};
int ev_pack_write(const struct ev_pack *k, const struct ev_image_watch *watch, struct ev_pcrs *pcrs, uint64_t *size,
                  struct ev_err *err) EV_MUST_USE;

/* ---- image_sign.c ---- */

/* Decodes a signature section and checks it against PCR0. The certificate is set as soon as it could
 * be read, also when the rest fails. */
int ev_image_check_signature(ev_slice section, const uint8_t pcr0[48], struct ev_cert **cert, struct ev_err *err)
    EV_MUST_USE;
/* Certificate, key and time fit together. now_ms 0: time is not looked at. */
int ev_image_check_signer(ev_slice cert_pem, const struct ev_key *key, int64_t now_ms, struct ev_err *err) EV_MUST_USE;

/* ---- image_layout.c ---- */

/* One ramdisk against DESIGN §5. */
int ev_layout_check(int fd, uint64_t offset, uint64_t len, struct ev_err *err) EV_MUST_USE;

#endif
