/* embed.h — the embedded Lua text (made by scripts/dev/embed.lua), sorted by module name. */
#ifndef EV_SCRIPT_EMBED_H
#define EV_SCRIPT_EMBED_H

struct ev_embedded {
    const char *module;     /* "ev.task", "scripts.build" */
    const char *path;       /* "lua/ev/task.lua": chunk name in tracebacks */
    const char *text;
    unsigned long size;
};
extern const struct ev_embedded ev_embedded[];      /* ends with a zero entry */
extern const unsigned long ev_embedded_count;

#endif
