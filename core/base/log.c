/* log.c — see log.h. The only process-wide state in base: level, descriptor, colour. */
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

static const char *const names[] = { "error", "warn", "info", "debug" };
static const char *const colours[] = { "\033[31m", "\033[33m", "", "\033[2m" };
static enum ev_level threshold = EV_INFO;
static int log_fd = 2;
static bool colour;

void ev_log_setup(void)
{
    const char *want = getenv("EV_LOG");
    const char *no = getenv("NO_COLOR");

    for (int i = EV_ERROR; want && i <= EV_DEBUG; i++)
        if (strcasecmp(want, names[i]) == 0)
            threshold = (enum ev_level)i;
    colour = isatty(log_fd) && !(no && *no);
}

void ev_log_set_level(enum ev_level level)
{
    threshold = level;
}

void ev_log_set_fd(int fd)
{
    log_fd = fd;
    colour = false;
}

/* Control bytes in a line could forge a second line or drive a terminal. */
static void make_printable(char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            s[i] = '?';
}

void ev_log(enum ev_level level, const char *area, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
    va_list ap;
    int n;
    ssize_t unused;

    if (level > threshold)
        return;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    make_printable(text, strlen(text));
    n = snprintf(line, sizeof line, "%s%s%s %s: %s\n", colour ? colours[level] : "", names[level],
                 colour && *colours[level] ? "\033[0m" : "", area, text);
    if (n >= (int)sizeof line)
        n = (int)sizeof line - 1;
    unused = write(log_fd, line, (size_t)n);
    (void)unused;
}
