/* hostile_init.c — /init of an image that means harm, in the simulator: PID 1 with every capability that
 * its user namespace has. Says on the console what of the host it can see or use; /mode of ramdisk 1
 * names what it does next. Static. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NSM = 3, TWIN = 4, FLOOD = 3000, KEY_READ = 11, KEY_SEARCH = 10, SESSION = -3,
       BEAT_PORT = 9000, EXIT_PORT = 7781 };

static void copy(const char *label, const char *path)
{
    char b[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof(b) - 1);

    if (fd >= 0) close(fd);
    b[n > 0 ? n : 0] = 0;
    for (char *s = strtok(b, "\n"); s; s = strtok(NULL, "\n")) printf("%s: %s\n", label, s);
}

static void environment(char **env)
{
    for (; *env; env++) printf("env: %s\n", *env);
}

static void descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 65536; fd++) n += fcntl(fd, F_GETFD) >= 0;
    printf("descriptors: %d\n", n);
}

/* The test put a key into its session keyring; nothing of it may be here. */
static void keyring(void)
{
    char b[64] = "";
    long key = syscall(SYS_keyctl, KEY_SEARCH, SESSION, "user", "ev-cage-test", 0);

    if (key > 0 && syscall(SYS_keyctl, KEY_READ, key, b, sizeof(b) - 1) > 0) printf("keyring: %s\n", b);
    else printf("keyring: nothing (%s)\n", strerror(errno));
}

/* The host's files that a user namespace does not divide. */
static void host_files(void)
{
    static const char *const paths[] = { "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
                                         "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper" };

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        int fd = open(paths[i], O_WRONLY);

        printf("host: %s %s\n", paths[i], fd < 0 ? "refused" : "OPEN");
        if (fd >= 0) close(fd);
    }
    printf("host: chmod of /dev/null %s\n", chmod("/dev/null", 0666) < 0 ? "refused" : "WORKED");
    printf("host: vsock %s\n", socket(40, SOCK_STREAM, 0) < 0 ? "refused" : "OPEN");
}

/* More requests than anybody reads answers: the launcher must go on. */
static void flood(int fd)
{
    char junk[20000];

    memset(junk, 0xff, sizeof(junk));
    for (int i = 0; i < FLOOD; i++)
        if (send(fd, junk, (size_t)(i * 7) % sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
            errno != EMSGSIZE)
            break;
}

static void listeners(void)
{
    int n = 0;

    for (unsigned port = 20000; port < 20300; port++) {
        unsigned char q[8] = { 2, 0, 0, 0, (unsigned char)port, (unsigned char)(port >> 8), 0, 0 }, a[4];

        if (send(TWIN, q, 8, 0) == 8 && recv(TWIN, a, 4, 0) == 4) n += !(a[0] | a[1] | a[2] | a[3]);
    }
    printf("listeners: %d\n", n);
}

static int say(unsigned port, const char *line)
{
    unsigned char q[8] = { 1, 0, 0, 0, (unsigned char)port, (unsigned char)(port >> 8), 0, 0 }, a[4];
    union { struct cmsghdr c; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct iovec iov = { a, 4 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
    int fd = -1;

    if (send(TWIN, q, 8, 0) != 8 || recvmsg(TWIN, &m, 0) != 4 || !CMSG_FIRSTHDR(&m)) return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
    return write(fd, line, strlen(line)) < 0 ? -1 : fd;
}

int main(int argc, char **argv, char **env)
{
    char mode[32] = "";
    int fd = open("/mode", O_RDONLY);

    (void)argc, (void)argv;
    if (fd < 0 || read(fd, mode, sizeof(mode) - 1) < 0) return 1;
    close(fd);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (strcmp(mode, "stay") == 0) {        /* outlives whoever started it, if it may */
        prctl(PR_SET_PDEATHSIG, 0);
        signal(SIGTERM, SIG_IGN);
        puts("staying");
        for (;;) pause();
    }
    environment(env);
    descriptors();
    copy("ids", "/proc/self/uid_map");
    copy("ids", "/proc/self/gid_map");
    printf("groups: %d\n", getgroups(0, NULL));
    copy("mounts", "/proc/self/mountinfo");
    copy("limits", "/proc/self/limits");
    keyring();
    host_files();
    listeners();
    puts("terminal: \033]0;owned\007\033[31mred\033[0m");
    flood(NSM);
    if (say(BEAT_PORT, "\xb7") < 0) puts("no heartbeat");
    sleep(1);                               /* booted, as far as anybody can tell */
    say(EXIT_PORT, "exit code=256 signal=-3 reason=bye\033]0;owned\007\n");
    flood(TWIN);
    puts("done");
    return 0;
}
