/* err.h — error codes and the error object.
 *
 * Functions return int: >= 0 fine, negative failed. -1..-4095 are -errno (libuv's results pass as
 * they are); <= -5000 are ours, listed once below with the name that Lua and --json show and the
 * sysexits code that the CLI leaves with. `struct ev_err *err` is always the last parameter and may
 * be NULL; each level on the way up prepends what it was doing with ev_err_wrap. */
#ifndef EV_BASE_ERR_H
#define EV_BASE_ERR_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

/* X(symbol, number, name, exit code, text) */
#define EV_ERRORS(X)                                                                              \
    X(EV_EPARSE,      -5000, "EPARSE",      65, "malformed input")                                \
    X(EV_ELIMIT,      -5001, "ELIMIT",      65, "a limit was exceeded")                           \
    X(EV_EUSAGE,      -5002, "EUSAGE",      64, "wrong usage")                                    \
    X(EV_ECONFIG,     -5003, "ECONFIG",     65, "wrong configuration")                            \
    X(EV_EVERIFY,     -5004, "EVERIFY",     76, "verification failed")                            \
    X(EV_EDENY,       -5005, "EDENY",       77, "refused by policy")                              \
    X(EV_ECRYPTO,     -5006, "ECRYPTO",     70, "cryptographic operation failed")                 \
    X(EV_ETLS,        -5007, "ETLS",        69, "TLS failed")                                     \
    X(EV_EHTTP,       -5008, "EHTTP",       69, "HTTP failed")                                    \
    X(EV_EEOF,        -5009, "EEOF",        65, "unexpected end of input")                        \
    X(EV_EMISSING,    -5010, "EMISSING",    69, "something needed is not installed")              \
    X(EV_EUNSUPPORTED,-5011, "EUNSUPPORTED",70, "not supported by this release")                  \
    X(EV_ECANCELLED,  -5012, "ECANCELLED",  75, "cancelled")                                      \
    X(EV_EBUDGET,     -5013, "EBUDGET",     70, "the script used up its budget")                  \
    X(EV_EINTERNAL,   -5014, "EINTERNAL",   70, "internal error")

enum ev_code {
#define X(sym, num, name, exit, text) sym = num,
    EV_ERRORS(X)
#undef X
};

enum { EV_ERR_MSG = 1024 };

struct ev_err {
    int code;               /* the negative code of the innermost failure */
    char reason[48];        /* machine-readable reason within the code, e.g. "pcr-mismatch"; or "" */
    char msg[EV_ERR_MSG];   /* for people: "outer: inner", no trailing newline */
};

#define EV_ERR_INIT { 0, "", "" }

#define EV_MUST_USE __attribute__((warn_unused_result))
#define EV_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Sets code and text; returns code, so that a caller can `return ev_fail(...)`. */
int ev_fail(struct ev_err *err, int code, const char *fmt, ...) EV_PRINTF(3, 4);
/* The same with a reason word ("crc-mismatch"), kept through every wrap. */
int ev_fail_reason(struct ev_err *err, int code, const char *reason, const char *fmt, ...)
    EV_PRINTF(4, 5);
/* -errno with the call's name: ev_fail_errno(err, "open %s", path). Uses the current errno. */
int ev_fail_errno(struct ev_err *err, const char *fmt, ...) EV_PRINTF(2, 3);
/* Prepends "text: ". Does nothing when err is NULL. */
void ev_err_wrap(struct ev_err *err, const char *fmt, ...) EV_PRINTF(2, 3);

/* Names that scripts compare: "EPARSE", "ENOENT", ... Never NULL. */
const char *ev_err_name(int code);
/* Text of a code alone. Never NULL. */
const char *ev_err_text(int code);
/* sysexits code for a failure (spec cages-original §2.4; 76 attestation, 77 policy). */
int ev_err_exit_code(int code);

/* In a function with `int rc` and a label `out`. */
#define EV_TRY(expr) do { if ((rc = (expr)) < 0) goto out; } while (0)

#endif
