/* image.h — building, describing and unpacking enclave images (DESIGN §5, spec eif.md).
 *
 * Everything here blocks and is meant for a worker thread; progress and cancellation go through
 * struct ev_image_watch, whose function is called from that thread. */
#ifndef EV_NITRO_IMAGE_H
#define EV_NITRO_IMAGE_H

#include "base/buf.h"
#include "nitro/attest.h"

struct ev_image_watch {
    /* done/total bytes of the step ("expand", "verify", "index", "write"; "measure"); false cancels. */
    bool (*step)(void *ctx, const char *step, uint64_t done, uint64_t total);
    void *ctx;
};

/* What a container image says about running it (OCI config). Owned strings. */
struct ev_image_config {
    char **entrypoint, **cmd, **env;        /* NULL-terminated, or NULL */
    char *workdir, *user;
    uint16_t *ports;                        /* EXPOSE, tcp */
    size_t n_ports;
    char *architecture, *id;                /* "amd64"; digest of the config, hex */
};
void ev_image_config_fini(struct ev_image_config *c);
/* Reads only the configuration of an archive or OCI layout folder. */
int ev_image_read_config(const char *source, struct ev_image_config *out, struct ev_err *err) EV_MUST_USE;

struct ev_image_build {
    const char *kernel, *cmdline;           /* path; text */
    const char *runtime;                    /* ramdisk 1: path of a newc cpio */
    const char *source;                     /* docker-archive/OCI tar (maybe compressed) or OCI folder */
    const struct ev_image_file { const char *name; ev_slice data; } *cage;  /* files under cage/ */
    size_t n_cage;
    const char *metadata_json;              /* section data, exactly */
    ev_slice cert_pem;                      /* both empty: unsigned */
    const struct ev_key *key;
    int64_t mtime;                          /* of every entry, seconds (SOURCE_DATE_EPOCH or 0) */
    bool arm64;
    const char *output;                     /* replaced atomically when complete */
    int64_t now_ms;                         /* the signing certificate must be valid then; 0 = not looked at */
};

struct ev_image_result {
    struct ev_pcrs pcrs;                    /* 0, 1, 2 and, if signed, 8 */
    uint64_t size, files;
    uint8_t kernel_sha384[48], runtime_sha384[48], cmdline_sha384[48];
    char warning[512];                      /* what of the container image was changed, or "" */
};
/* Ramdisk 2 of the result: entries sorted bytewise by path, times `mtime`, inodes from 1; owners,
 * modes, links, devices and fifos as in the container image; dev proc sys run tmp are directories.
 *
 * newc has no extended attributes, so file capabilities go into cage/xattrs, which is there only if
 * there are any: one line a file, sorted by path,
 *     <hex of the path below rootfs/> TAB security.capability TAB <hex of the value> LF
 * PID 1 applies them: open the path beneath rootfs with RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS, it
 * must be a regular file, fsetxattr. Hard links of one file have a line each (the same value). */
int ev_image_build(const struct ev_image_build *b, const struct ev_image_watch *watch,
                   struct ev_image_result *out, struct ev_err *err) EV_MUST_USE;

struct ev_image_info {                      /* `describe` */
    uint16_t version, flags;
    bool crc_ok, is_signed, signature_ok;
    char signature_error[256];
    uint32_t crc;
    struct ev_pcrs pcrs;
    struct ev_cert *cert;                   /* signing certificate or NULL */
    struct ev_buf metadata;                 /* JSON text or empty */
    struct ev_buf cmdline;
    size_t n_sections;
    struct { uint16_t type; uint64_t offset, size; } section[32];   /* offset of the section header */
    char warning[256];
};
int ev_image_describe(const char *path, const struct ev_image_watch *watch, struct ev_image_info *out,
                      struct ev_err *err) EV_MUST_USE;
void ev_image_info_fini(struct ev_image_info *i);
/* DESIGN §5: ramdisk 2 only rootfs/ and cage/, no path through a link, no duplicate, nothing but
 * zeros after the trailer. err->reason: "layout-entry" "layout-link" "layout-duplicate" ... */
int ev_image_check_layout(const char *path, struct ev_err *err) EV_MUST_USE;
/* The boot of the simulator: unpacks both ramdisks under the directory `root_fd` exactly as the
 * kernel would, ramdisk 2 after the layout check and with openat2(RESOLVE_IN_ROOT | no links).
 * Device nodes are skipped when mknod is not permitted. */
int ev_image_unpack(const char *path, int root_fd, struct ev_err *err) EV_MUST_USE;

/* Signature section for a PCR0 (spec §3), and adding it to an existing file. */
int ev_image_signature(ev_slice cert_pem, const struct ev_key *key, const uint8_t pcr0[48],
                       struct ev_buf *out, struct ev_err *err) EV_MUST_USE;

#endif
