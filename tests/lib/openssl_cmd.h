/* openssl_cmd.h — runs the openssl command in a folder of its own, to cross-check what we write. */
#ifndef TESTS_OPENSSL_CMD_H
#define TESTS_OPENSSL_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

/* Runs argv quietly in `dir`; → exit code, -1 when it could not be started. */
static inline int cmd_run(const char *dir, const char *const *argv)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (chdir(dir) < 0 || !freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(126);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#define RUN(dir, ...) cmd_run(dir, (const char *const[]){ __VA_ARGS__, NULL })

/* Writes dir/name. */
static inline bool cmd_save(const char *dir, const char *name, ev_slice data)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return ev_file_write(path, data, 0600, NULL) == 0;
}

#endif
