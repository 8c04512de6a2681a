/* l_sys.c — ev.c.sys: environment, identity, clock, terminal, secrets typed at a prompt. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/version.h"
#include "script/state.h"

enum { LINE_MAX_BYTES = 65536, POLL_MS = 100, DEFAULT_WIDTH = 80, ERRNO_MAX = 200 };

static int l_getenv(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

/* setenv(name, value | nil) */
static int l_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    struct ev_err err = EV_ERR_INIT;
    int rc = lua_isnoneornil(L, 2) ? unsetenv(name) : setenv(name, luaL_checkstring(L, 2), 1);

    if (rc < 0) {
        ev_fail_errno(&err, "set %s", name);
        return ev_lua_fail(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* environ() → {NAME = value} */
static int l_environ(lua_State *L)
{
    lua_newtable(L);
    for (char **e = environ; *e; e++) {
        const char *eq = strchr(*e, '=');

        if (!eq)
            continue;
        lua_pushlstring(L, *e, (size_t)(eq - *e));
        lua_pushstring(L, eq + 1);
        lua_rawset(L, -3);
    }
    return 1;
}

static int l_hostname(lua_State *L)
{
    char name[256] = "";

    gethostname(name, sizeof name - 1);
    lua_pushstring(L, name);
    return 1;
}

static int l_uid(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)geteuid());
    return 1;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)getpid());
    return 1;
}

/* time() → seconds since 1970 with a fraction */
static int l_time(lua_State *L)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    lua_pushnumber(L, (lua_Number)ts.tv_sec + (lua_Number)ts.tv_nsec / 1e9);
    return 1;
}

/* kill(pid, signal): a negative pid is a process group */
static int l_kill(lua_State *L)
{
    struct ev_err err = EV_ERR_INIT;

    if (kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2)) < 0) {
        ev_fail_errno(&err, "kill");
        return ev_lua_fail(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* exit_code("EPARSE") → 65; an unknown code is an internal error */
static int l_exit_code(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, "");
    int code = EV_EINTERNAL;

#define X(sym, num, str, exit, text) if (strcmp(name, str) == 0) code = num;
    EV_ERRORS(X)
#undef X
    for (int i = 1; i < ERRNO_MAX; i++)
        if (strcmp(name, ev_err_name(-i)) == 0)
            code = -i;
    lua_pushinteger(L, ev_err_exit_code(code));
    return 1;
}

/* --- terminal --------------------------------------------------------------------------------- */

static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* term_width() → columns: COLUMNS, else the terminal's, else 80 */
static int l_term_width(lua_State *L)
{
    const char *columns = getenv("COLUMNS");
    struct winsize ws;
    long width = columns ? strtol(columns, NULL, 10) : 0;

    for (int fd = 1; width <= 0 && fd <= 2; fd++)
        if (isatty(fd) && ioctl(fd, TIOCGWINSZ, &ws) == 0)
            width = ws.ws_col;
    lua_pushinteger(L, width > 0 && width < 10000 ? width : DEFAULT_WIDTH);
    return 1;
}

static int l_flush(lua_State *L)
{
    lua_pushboolean(L, fflush(stdout) == 0);
    return 1;
}

/* One line from a descriptor, read on the pool so that the loop goes on. With `secret` the
 * terminal's echo is off meanwhile. */
struct line_job {
    struct ev_job job;
    int fd;
    bool secret, got, eof;
    struct ev_buf line;
};

static struct termios saved_tty;
static volatile sig_atomic_t tty_changed;
static int tty_fd = -1;

void ev_sys_restore_terminal(void)
{
    if (tty_changed)
        tcsetattr(tty_fd, TCSANOW, &saved_tty);
    tty_changed = 0;
}

void ev_sys_save_terminal(int fd)
{
    if (tcgetattr(fd, &saved_tty) < 0)
        return;
    tty_fd = fd;
    tty_changed = 1;
}

static void echo_off(int fd)
{
    struct termios t;

    ev_sys_save_terminal(fd);
    if (!tty_changed)
        return;
    t = saved_tty;
    t.c_lflag &= ~(tcflag_t)ECHO;
    t.c_lflag |= ECHONL;
    tcsetattr(fd, TCSAFLUSH, &t);
}

static void read_line(struct line_job *j)
{
    while (!atomic_load(&j->job.cancelled)) {
        struct pollfd p = { .fd = j->fd, .events = POLLIN };
        int rc = poll(&p, 1, POLL_MS);
        char c;
        ssize_t n;

        if (rc == 0 || (rc < 0 && errno == EINTR))
            continue;
        n = read(j->fd, &c, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0) {
            ev_fail_errno(&j->job.err, "read a line");
            return;
        }
        j->eof = n == 0;
        if (n == 0 || c == '\n') {
            j->got = n == 1 || j->line.n > 0;
            return;
        }
        if (ev_buf_putc(&j->line, (uint8_t)c) < 0) {
            ev_fail(&j->job.err, EV_ELIMIT, "a line of more than %d bytes", (int)LINE_MAX_BYTES);
            return;
        }
    }
    ev_fail(&j->job.err, EV_ECANCELLED, "cancelled");
}

static void line_work(struct ev_job *job)
{
    struct line_job *j = (struct line_job *)job;

    read_line(j);
    if (j->secret)
        ev_sys_restore_terminal();
}

static int line_finish(lua_State *L, struct ev_job *job)
{
    struct line_job *j = (struct line_job *)job;

    if (job->err.code < 0)
        return ev_lua_fail(L, &job->err);
    if (j->got)
        lua_pushlstring(L, ev_buf_str(&j->line), j->line.n);
    else
        lua_pushnil(L);
    return 1;
}

static void line_fini(struct ev_job *job)
{
    struct line_job *j = (struct line_job *)job;

    if (j->secret)
        ev_sys_restore_terminal();
    ev_buf_wipe(&j->line);
    if (j->fd > 2)
        close(j->fd);
}

static struct line_job *line_new(lua_State *L)
{
    struct line_job *j = ev_job_new(L, sizeof *j, line_work, line_finish, line_fini);

    ev_buf_init(&j->line, LINE_MAX_BYTES);
    return j;
}

/* read_line() → job; its results: the line without newline, nil at the end | nil, err */
static int l_read_line(lua_State *L)
{
    return ev_job_start(L, &line_new(L)->job);
}

/* read_secret(prompt) → job: from the terminal itself, so that stdin may be a pipe; else stdin */
static int l_read_secret(lua_State *L)
{
    const char *prompt = luaL_optstring(L, 1, "");
    struct line_job *j = line_new(L);
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    ssize_t unused;

    if (fd >= 0) {
        j->fd = fd;
        j->secret = true;
        echo_off(fd);                   /* before the prompt: who answers at once must not be seen */
        unused = write(fd, prompt, strlen(prompt));
        (void)unused;
    }
    return ev_job_start(L, &j->job);
}

/* script_dir(dir | nil): `require` finds modules there too */
static int l_script_dir(lua_State *L)
{
    struct ev_lua *h = ev_lua_host(L);
    const char *dir = luaL_optstring(L, 1, NULL);

    ev_free(h->script_dir);
    h->script_dir = ev_strdup(dir);
    return 0;
}

int luaopen_ev_sys(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "getenv", l_getenv }, { "setenv", l_setenv }, { "environ", l_environ }, { "hostname", l_hostname },
        { "uid", l_uid }, { "pid", l_pid }, { "time", l_time }, { "kill", l_kill },
        { "exit_code", l_exit_code }, { "isatty", l_isatty }, { "term_width", l_term_width },
        { "flush", l_flush }, { "read_line", l_read_line }, { "read_secret", l_read_secret },
        { "script_dir", l_script_dir }, { NULL, NULL }
    };

    luaL_newlib(L, functions);
    lua_pushliteral(L, EV_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
