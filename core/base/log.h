/* log.h — one line per event on standard error (or any descriptor), never a secret.
 *
 * Form: "LEVEL area: text". Colour only on a terminal and without NO_COLOR. Level from EV_LOG
 * (error, warn, info, debug), default info. Thread-safe: one write(2) a line. */
#ifndef EV_BASE_LOG_H
#define EV_BASE_LOG_H

enum ev_level { EV_ERROR, EV_WARN, EV_INFO, EV_DEBUG };

void ev_log_setup(void);                        /* reads EV_LOG and NO_COLOR; optional */
void ev_log_set_level(enum ev_level level);
void ev_log_set_fd(int fd);
void ev_log(enum ev_level level, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
