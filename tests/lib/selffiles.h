/* selffiles.h — the files this very program needs to run: itself, its loader and its libraries, by
 * the names under which they were loaded. A test can so be /init of an image and the app in it, with
 * no other binary at hand, also when it was built with sanitizers. */
#ifndef TESTS_SELFFILES_H
#define TESTS_SELFFILES_H

#include <link.h>
#include <string.h>

typedef void (*self_fn)(void *ctx, const char *path);
struct self_walk { self_fn fn; void *ctx; };

static int self_each(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct self_walk *w = arg;

    (void)size;
    if (info->dlpi_name && info->dlpi_name[0] == '/')
        w->fn(w->ctx, info->dlpi_name);
    for (int i = 0; i < info->dlpi_phnum; i++)      /* the loader, by the name in the program itself */
        if (info->dlpi_phdr[i].p_type == PT_INTERP && !info->dlpi_name[0])
            w->fn(w->ctx, (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
    return 0;
}

/* Calls fn for the loader and each library; a path may come twice. */
__attribute__((unused)) static void self_files(self_fn fn, void *ctx)
{
    struct self_walk w = { fn, ctx };

    dl_iterate_phdr(self_each, &w);
}

#endif
