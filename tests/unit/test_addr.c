/* test_addr.c — one notation for every place. */
#include "net/addr.h"
#include "tap.h"

static void round_trip(const char *in, const char *out)
{
    struct ev_addr a;
    struct ev_err err = EV_ERR_INIT;
    char text[320];

    if (!OK(ev_addr_parse(in, &a, &err) == 0, "parse %s (%s)", in, err.msg))
        return;
    ev_addr_text(&a, text, sizeof text);
    EQ_STR(text, out, in);
}

static void refuse(const char *in)
{
    struct ev_addr a;
    struct ev_err err = EV_ERR_INIT;
    int rc = ev_addr_parse(in, &a, &err);

    OK(rc < 0 && err.code == rc && err.msg[0], "refuse \"%.60s\" (%s)", in, ev_err_name(rc));
}

int main(void)
{
    static const char *const bad[] = {
        "", ":", "80", "host", "host:", ":80", "host:65536", "host:-1", "host:8x", "host: 80", "::1:80", "[::1]",
        "[::1]80", "[::1:80", "[]:80", "[host]:80", "tcp:", "tcp:host", "a b:80", "a/b:80", "unix:", "vsock:",
        "vsock:3", "vsock::7", "vsock:3:", "vsock:4294967296:1", "vsock:3:4294967296", "vsock:x:1",
        "vsock:99999999999999999999:1", "host:99999999999999999999",
    };
    char path[300] = "unix:/";
    struct ev_addr a;

    round_trip("127.0.0.1:8443", "tcp:127.0.0.1:8443");
    round_trip("tcp:localhost:0", "tcp:localhost:0");
    round_trip("my_app.cages.localhost:443", "tcp:my_app.cages.localhost:443");
    round_trip("[::1]:80", "tcp:[::1]:80");
    round_trip("tcp:[fe80::1%lo]:80", "tcp:[fe80::1%lo]:80");
    round_trip("unix:/run/x.sock", "unix:/run/x.sock");
    round_trip("unix:rel/a:b", "unix:rel/a:b");
    round_trip("vsock:16:7777", "vsock:16:7777");
    round_trip("vsock:any:4294967295", "vsock:any:4294967295");
    for (size_t i = 0; i < EV_COUNT(bad); i++)
        refuse(bad[i]);
    memset(path + 6, 'p', 106);
    path[112] = 0;
    OK(ev_addr_parse(path, &a, NULL) == 0, "a socket path of 107 bytes");
    memset(path + 6, 'p', 107);
    path[113] = 0;
    refuse(path);
    memset(path, 'h', 254);
    memcpy(path + 254, ":80", 4);
    refuse(path);
    return tap_done();
}
