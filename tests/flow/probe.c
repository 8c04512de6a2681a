/* probe.c — the hostile app (tests/lib/probe.h) as a web app: does all its checks first, then serves
 * what it found. Static, so that it runs in an image FROM scratch. */
#include "probe.h"

#include <netinet/in.h>

enum { PORT = 8008, TEXT_MAX = 65536 };

static char text[TEXT_MAX];
static size_t text_len;

/* The checks print to a file of the app's own /tmp; that is the answer to every request. */
static int collect(void)
{
    int fd;
    ssize_t n;

    if (!freopen("/tmp/probe.tap", "w", stdout))
        return -1;
    probe_main();
    fflush(stdout);
    fd = open("/tmp/probe.tap", O_RDONLY);
    while (fd >= 0 && text_len < sizeof(text) && (n = read(fd, text + text_len, sizeof(text) - text_len)) > 0)
        text_len += (size_t)n;
    return fd < 0 ? -1 : close(fd);
}

static void answer(int c)
{
    char head[128], request[4096];
    int n;

    if (recv(c, request, sizeof(request), 0) <= 0)
        return;
    n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", text_len);
    if (send(c, head, (size_t)n, MSG_NOSIGNAL) == n && send(c, text, text_len, MSG_NOSIGNAL) < 0)
        perror("send");
}

int main(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int l, c, one = 1;

    if (collect() < 0)
        return 3;
    l = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 16) < 0)
        return 4;
    while ((c = accept(l, NULL, NULL)) >= 0) {
        answer(c);
        close(c);
    }
    return 5;
}
