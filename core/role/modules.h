/* modules.h — the kernel modules that ramdisk 1 brings (DESIGN §6, spec local-enclave §2).
 *
 *   /lib/modules/ev/00-vmmio_cmdline.ko, 01-virtio.ko, …      loaded in the order of their names
 *
 * A kernel that has everything built in comes without that folder, and then there is nothing to do. */
#ifndef EV_ROLE_MODULES_H
#define EV_ROLE_MODULES_H

#include "base/err.h"
#include "base/mem.h"

enum { EV_MODULES_MAX = 64, EV_MODULE_BYTES = 16 << 20, EV_MODULE_NAME = 64 };
#define EV_MODULES_DIR "/lib/modules/ev"

struct ev_modules {
    int dir;                                    /* -1: there is no such folder */
    size_t n;
    char name[EV_MODULES_MAX][EV_MODULE_NAME];  /* sorted bytewise */
};

/* The *.ko of a folder. One that is not there gives n = 0; another kind of entry, too many of them or
 * too long a name is an error: the folder is measured and holds nothing else. */
int ev_modules_list(const char *path, struct ev_modules *out, struct ev_err *err) EV_MUST_USE;
void ev_modules_fini(struct ev_modules *m);
/* Gives each to `load` (0 or -errno), in order. -EEXIST is fine: it is there already. An error names
 * the module and is the last one. */
int ev_modules_each(const struct ev_modules *m, int (*load)(void *ctx, int fd), void *ctx,
                    struct ev_err *err) EV_MUST_USE;
/* All of EV_MODULES_DIR into the kernel; after that it takes no more, whoever asks. → how many */
int ev_modules_load(struct ev_err *err) EV_MUST_USE;

#endif
