/* tap.h — the smallest TAP producer that our unit tests need. A test file: includes of what it
 * tests, static functions, `int main(void) { ...; return tap_done(); }`. */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 4, 5), unused))
static int tap_check(int ok, const char *file, int line, const char *fmt, ...)
{
    va_list ap;

    printf("%sok %d - ", ok ? "" : "not ", ++tap_count);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    if (!ok) {
        tap_failed++;
        printf("# failed at %s:%d\n", file, line);
    }
    fflush(stdout);
    return ok;
}

#define OK(cond, ...) tap_check(!!(cond), __FILE__, __LINE__, __VA_ARGS__)
/* One line for many checks: counts as one test, says which one failed. */
#define EQ_INT(a, b, what) \
    do { long long a_ = (long long)(a), b_ = (long long)(b); \
         tap_check(a_ == b_, __FILE__, __LINE__, "%s (%lld, want %lld)", what, a_, b_); } while (0)
#define EQ_STR(a, b, what) \
    do { const char *a_ = (a), *b_ = (b); \
         tap_check(a_ && b_ && strcmp(a_, b_) == 0, __FILE__, __LINE__, "%s (\"%s\", want \"%s\")", \
                   what, a_ ? a_ : "(null)", b_ ? b_ : "(null)"); } while (0)
#define SKIP(n, why) \
    do { for (int i_ = 0; i_ < (n); i_++) printf("ok %d # SKIP %s\n", ++tap_count, why); } while (0)

__attribute__((unused)) static int tap_done(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed ? 1 : 0;
}

#endif
