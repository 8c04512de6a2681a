/* launch_qemu.h — the parts of QEMU's launcher, and how they share the work.
 *
 *   launch_qemu.c   struct qemu: back ends, KVM or emulation, the end and what is said of it
 *   qemu_parts.c    the EIF in its parts: kernel and ramdisks in files without a name, command line
 *   qemu_spawn.c    QEMU's arguments; the process */
#ifndef EV_ROLE_LAUNCH_QEMU_H
#define EV_ROLE_LAUNCH_QEMU_H

#include "base/buf.h"

enum { EV_QEMU_ARGS = 96, EV_QEMU_MEMORY_MIN = 256, EV_QEMU_MEMORY_MAX = 1 << 20, EV_QEMU_CPUS_MAX = 64 };

struct ev_qemu_parts {
    int kernel, ramdisks;                   /* owned; unlinked, so that nothing can be left behind */
    struct ev_buf cmdline;                  /* text */
    uint64_t memory;                        /* bytes that a guest of this image should have */
};
/* Streamed from the EIF into files on the file system of the folder. Ended by _fini in every case. */
int ev_qemu_split(int eif, int dir_fd, struct ev_qemu_parts *out, struct ev_err *err) EV_MUST_USE;
void ev_qemu_parts_fini(struct ev_qemu_parts *p);

struct ev_qemu_spawn {
    char *const *qemu, *const *env;         /* launch.h */
    const struct ev_qemu_parts *parts;
    const char *nsm_path, *vsock_path;      /* sockets of the back ends */
    uint32_t memory_mib, cpus;
    bool kvm;
    int console;                            /* borrowed; becomes 1 and 2 */
};
/* → pid. The process ends with ours, by whatever. */
int ev_qemu_spawn(const struct ev_qemu_spawn *s, struct ev_err *err) EV_MUST_USE;

#endif
