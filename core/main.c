/* main.c — argv → runtime → embedded ev.main → exit code; as /init of an enclave its PID 1 instead. */
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

int main(int argc, char **argv)
{
    if (ev_enclave_is_init(argc, argv))
        return ev_enclave_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return print_version();
    ev_log_setup();
    return ev_script_main(argc, argv);
}
