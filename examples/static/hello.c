/* hello.c — the smallest useful app of a cage: one static binary that answers every request.
 *
 *   GET /exit/N     ends with code N         GET /crash    ends by a signal
 *   GET /zombies    leaves 50 orphans behind GET /eat      eats memory until stopped
 *   anything else   {"response":"hello from a static binary","path":...,"uid":...,"pid":...} */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void answer(int fd, const char *path)
{
    char body[512], head[256];
    int n = snprintf(body, sizeof body,
                     "{\"response\":\"hello from a static binary\",\"path\":\"%.200s\",\"uid\":%d,\"pid\":%d}\n",
                     path, (int)getuid(), (int)getpid());
    int h = snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n", n);

    if (write(fd, head, (size_t)h) < 0 || write(fd, body, (size_t)n) < 0)
        return;
}

static void orphans(void)
{
    for (int i = 0; i < 50; i++)
        if (fork() == 0) {
            if (fork() == 0)
                usleep(20000);
            _exit(0);
        }
}

static void eat(void)
{
    for (;;) {
        char *p = malloc(1 << 20);

        if (p)
            memset(p, 1, 1 << 20);
    }
}

static void serve(int fd)
{
    char in[4096], path[201] = "";
    ssize_t n = read(fd, in, sizeof in - 1);

    if (n <= 0)
        return;
    in[n] = 0;
    if (sscanf(in, "%*s %200s", path) != 1)
        return;
    if (strcmp(path, "/zombies") == 0)
        orphans();
    answer(fd, path);
    if (strncmp(path, "/exit/", 6) == 0)
        exit(atoi(path + 6));
    if (strcmp(path, "/crash") == 0)
        abort();
    if (strcmp(path, "/eat") == 0)
        eat();
}

int main(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8008) };
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);       /* its own children; orphans are for PID 1 to collect */
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof at) < 0 || listen(s, 64) < 0) {
        perror("hello");
        return 1;
    }
    for (;;) {
        int c = accept(s, NULL, NULL);

        if (c < 0)
            continue;
        serve(c);
        close(c);
    }
}
