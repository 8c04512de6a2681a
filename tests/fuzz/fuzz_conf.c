/* fuzz_conf.c — what PID 1 reads before anything else: the measured configuration, and the image's
 * own passwd and group. First byte: which. */
#include "fuzz.h"
#include "role/conf.h"
#include "role/rootfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ev_user user;
    struct ev_conf conf;
    size_t half;

    if (size == 0)
        return 0;
    if (data[0] != 'U') {
        if (ev_conf_parse(ev_slice_of(data + 1, size - 1), &conf, NULL) == 0 && (!conf.argv[0] || !conf.hosts[0]))
            __builtin_trap();
        ev_conf_fini(&conf);
        return 0;
    }
    half = 1 + (size - 1) / 2;
    if (ev_user_find("node", ev_slice_of(data + 1, half - 1), ev_slice_of(data + half, size - half), &user,
                     NULL) == 0 &&
        (user.n_groups > EV_USER_GROUPS || strlen(user.home) >= sizeof(user.home)))
        __builtin_trap();
    return 0;
}
