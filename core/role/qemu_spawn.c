/* qemu_spawn.c — QEMU's arguments (local-enclave.md §4) and its process.
 *
 * Behind the measured command line come words that are not measured: reboot=t, as there is no other
 * way out of this machine, and panic=-1, so that a crash is seen at once. QEMU adds its devices. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "role/launch_qemu.h"

extern char **environ;

enum { SAFE_FD = 20, KERNEL_FD = 3, RAMDISKS_FD = 4, TEXT = 512, TEXTS = 8, NSM_ID = 33 };

struct args {
    const char *v[EV_QEMU_ARGS + 1];
    size_t n;
    char text[TEXTS][TEXT];
    size_t n_text;
    struct ev_buf cmdline;
};

static void add(struct args *a, const char *one, const char *two)
{
    if (a->n + 2 > EV_QEMU_ARGS)
        return;
    a->v[a->n++] = one;
    if (two)
        a->v[a->n++] = two;
}

static const char *text(struct args *a, const char *fmt, ...) EV_PRINTF(2, 3);
static const char *text(struct args *a, const char *fmt, ...)
{
    char *t = a->text[a->n_text++ % TEXTS];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(t, TEXT, fmt, ap);
    va_end(ap);
    return t;
}

/* In QEMU's options a comma is written twice. */
static const char *socket_option(struct args *a, const char *id, const char *path)
{
    char twice[TEXT / 2];
    size_t n = 0;

    for (; *path && n + 2 < sizeof(twice); path++) {
        if (*path == ',')
            twice[n++] = ',';
        twice[n++] = *path;
    }
    twice[n] = 0;
    return text(a, "socket,id=%s,path=%s", id, twice);
}

static int make_args(const struct ev_qemu_spawn *s, struct args *a, struct ev_err *err)
{
    static const char *const fixed[] = { "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-chardev",
                                         "stdio,id=console,signal=off", "-serial", "chardev:console" };

    ev_buf_init(&a->cmdline, (1 << 17));
    for (size_t i = 0; s->qemu[i]; i++)
        add(a, s->qemu[i], NULL);
    for (size_t i = 0; i < EV_COUNT(fixed); i++)
        add(a, fixed[i], NULL);
    add(a, "-M", "microvm,acpi=off,memory-backend=memory");
    add(a, "-accel", s->kvm ? "kvm" : "tcg");
    add(a, "-cpu", s->kvm ? "host" : "max");
    add(a, "-m", text(a, "%u", s->memory_mib));
    add(a, "-smp", text(a, "%u", s->cpus));
    add(a, "-object", text(a, "memory-backend-memfd,id=memory,size=%uM,share=on", s->memory_mib));
    add(a, "-kernel", text(a, "/proc/self/fd/%d", KERNEL_FD));
    add(a, "-initrd", text(a, "/proc/self/fd/%d", RAMDISKS_FD));
    add(a, "-chardev", socket_option(a, "vsock", s->vsock_path));
    add(a, "-device", "vhost-user-vsock-device,chardev=vsock");
    add(a, "-chardev", socket_option(a, "nsm", s->nsm_path));
    add(a, "-device", text(a, "vhost-user-test-device,chardev=nsm,virtio-id=%d,num_vqs=1,vq_size=64", NSM_ID));
    if (ev_buf_printf(&a->cmdline, "%s reboot=t panic=-1", ev_buf_str(&s->parts->cmdline)) < 0)
        return ev_fail(err, EV_ELIMIT, "the command line is too long");
    add(a, "-append", ev_buf_str(&a->cmdline));
    return a->n + 2 > EV_QEMU_ARGS ? ev_fail(err, EV_ELIMIT, "too many arguments for QEMU") : 0;
}

/* In the child: system calls only. */
static void child(const struct ev_qemu_spawn *s, char *const *argv, char *const *env, pid_t parent)
{
    static const char lost[] = "ev-cage: QEMU could not be started\n";
    int from[] = { open("/dev/null", O_RDWR | O_CLOEXEC), s->console, s->console, s->parts->kernel,
                   s->parts->ramdisks };
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(70);
    for (size_t i = 0; i < EV_COUNT(from); i++)
        if ((from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, SAFE_FD)) < 0)
            _exit(72);
    for (size_t i = 0; i < EV_COUNT(from); i++)
        if (dup2(from[i], (int)i) < 0)
            _exit(72);
    close_range(EV_COUNT(from), ~0U, 0);
    setsid();                                       /* Ctrl-C is the launcher's to handle */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(argv[0], argv, env);
    if (ev_write_all(STDERR_FILENO, lost, sizeof(lost) - 1) < 0)
        _exit(71);
    _exit(73);
}

int ev_qemu_spawn(const struct ev_qemu_spawn *s, struct ev_err *err)
{
    struct args a;
    pid_t parent = getpid();
    int pid = -1, rc;

    memset(&a, 0, sizeof(a));
    EV_TRY(make_args(s, &a, err));
    pid = (int)fork();
    if (pid == 0)
        child(s, (char *const *)(uintptr_t)a.v, s->env ? s->env : environ, parent);
    if (pid < 0)
        rc = ev_fail_errno(err, "start QEMU");
out:
    ev_buf_fini(&a.cmdline);
    return rc < 0 ? rc : pid;
}
