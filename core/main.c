/* main.c — argv → runtime → embedded ev.main → exit code; as /init of an enclave its PID 1 instead. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/version.h"
#include "role/enclave.h"
#include "script/script.h"

/* Answered before Lua starts: scripts ask for it often. */
static int print_version(void)
{
    return puts("ev-cage " EV_VERSION) < 0 || fflush(stdout) != 0 ? 74 : 0;
}

/* A closed 0, 1 or 2 would be given to the first file or socket that is opened: output would go into it,
 * and libuv aborts when it closes one. /dev/null the wrong way round instead, so using it still fails. */
static void hold_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    if (ev_enclave_is_init(argc, argv))
        return ev_enclave_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    hold_standard_fds();
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return print_version();
    ev_log_setup();
    return ev_script_main(argc, argv);
}
