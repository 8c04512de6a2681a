/* version.h — the release's number; the only place that has it. */
#ifndef EV_BASE_VERSION_H
#define EV_BASE_VERSION_H

#define EV_VERSION "0.1.0"

#endif
