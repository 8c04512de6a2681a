/* l_fs.c — ev.c.fs: files and folders. Short local work, so it blocks; nothing here follows a link
 * while it deletes. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "script/state.h"

enum { READ_MAX = 256 << 20, TREE_DEPTH = 256 };

static int done(lua_State *L, int rc, const char *what, const char *path)
{
    struct ev_err err = EV_ERR_INIT;

    if (rc < 0) {
        ev_fail_errno(&err, "%s %s", what, path);
        return ev_lua_fail(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* A path with a zero byte inside would be cut silently. */
static const char *check_path(lua_State *L, int arg)
{
    ev_slice s = ev_lua_check_slice(L, arg);

    luaL_argcheck(L, !memchr(s.p, 0, s.n), arg, "a zero byte inside a path");
    return (const char *)s.p;
}

/* --- whole files ------------------------------------------------------------------------------ */

struct held_buf { struct ev_buf b; };

static int held_gc(lua_State *L)
{
    ev_buf_fini(&((struct held_buf *)lua_touserdata(L, 1))->b);
    return 0;
}

/* A buffer that is freed whatever raises. */
static struct ev_buf *hold_buf(lua_State *L, size_t max)
{
    struct held_buf *h = lua_newuserdatauv(L, sizeof *h, 0);

    ev_buf_init(&h->b, max);
    if (luaL_newmetatable(L, "ev.held_buf")) {
        lua_pushcfunction(L, held_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return &h->b;
}

/* read(path, max) → text | nil, err */
static int l_read(lua_State *L)
{
    const char *path = check_path(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, READ_MAX);
    struct ev_err err = EV_ERR_INIT;
    struct ev_buf *b;

    luaL_argcheck(L, max >= 0 && max <= READ_MAX, 2, "out of range");
    b = hold_buf(L, (size_t)max);
    if (ev_file_read(path, b, &err) < 0)
        return ev_lua_fail(L, &err);
    lua_pushlstring(L, ev_buf_str(b), b->n);
    ev_buf_fini(b);
    return 1;
}

/* write(path, data, mode) → true | nil, err; atomic */
static int l_write(lua_State *L)
{
    const char *path = check_path(L, 1);
    ev_slice data = ev_lua_check_slice(L, 2);
    mode_t mode = (mode_t)luaL_optinteger(L, 3, 0644);
    struct ev_err err = EV_ERR_INIT;

    if (ev_file_write(path, data, mode, &err) < 0)
        return ev_lua_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

/* append(path, data, mode) → true | nil, err */
static int l_append(lua_State *L)
{
    const char *path = check_path(L, 1);
    ev_slice data = ev_lua_check_slice(L, 2);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, (mode_t)luaL_optinteger(L, 3, 0644));
    int rc = fd < 0 ? -errno : ev_write_all(fd, data.p, data.n);

    if (fd >= 0)
        close(fd);
    errno = -rc;
    return done(L, rc, "append to", path);
}

/* --- what is there ---------------------------------------------------------------------------- */

static const char *type_name(mode_t m)
{
    switch (m & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "dir";
    case S_IFLNK: return "link";
    case S_IFSOCK: return "socket";
    case S_IFIFO: return "fifo";
    case S_IFCHR: return "char";
    case S_IFBLK: return "block";
    }
    return "unknown";
}

static void set_int(lua_State *L, const char *name, lua_Integer v)
{
    lua_pushinteger(L, v);
    lua_setfield(L, -2, name);
}

/* stat(path, nofollow) → {type, size, mode, mtime, uid, gid} | nil, err */
static int l_stat(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct stat st;

    if ((lua_toboolean(L, 2) ? lstat(path, &st) : stat(path, &st)) < 0)
        return done(L, -1, "stat", path);
    lua_createtable(L, 0, 6);
    lua_pushstring(L, type_name(st.st_mode));
    lua_setfield(L, -2, "type");
    set_int(L, "size", (lua_Integer)st.st_size);
    set_int(L, "mode", (lua_Integer)(st.st_mode & 07777));
    set_int(L, "uid", (lua_Integer)st.st_uid);
    set_int(L, "gid", (lua_Integer)st.st_gid);
    lua_pushnumber(L, (lua_Number)st.st_mtim.tv_sec + (lua_Number)st.st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    return 1;
}

struct held_dir { DIR *d; };

static int dir_gc(lua_State *L)
{
    struct held_dir *h = lua_touserdata(L, 1);

    if (h->d)
        closedir(h->d);
    h->d = NULL;
    return 0;
}

/* list(dir) → names, unsorted | nil, err */
static int l_list(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct held_dir *h = lua_newuserdatauv(L, sizeof *h, 0);
    struct dirent *e;
    lua_Integer n = 0;

    h->d = NULL;
    if (luaL_newmetatable(L, "ev.held_dir")) {
        lua_pushcfunction(L, dir_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    h->d = opendir(path);
    if (!h->d)
        return done(L, -1, "list", path);
    lua_newtable(L);
    while ((e = readdir(h->d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        lua_pushstring(L, e->d_name);
        lua_rawseti(L, -2, ++n);
    }
    closedir(h->d);
    h->d = NULL;
    return 1;
}

static int l_realpath(lua_State *L)
{
    const char *path = check_path(L, 1);
    char real[PATH_MAX];

    if (!realpath(path, real))
        return done(L, -1, "resolve", path);
    lua_pushstring(L, real);
    return 1;
}

static int l_readlink(lua_State *L)
{
    const char *path = check_path(L, 1);
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target);

    if (n < 0)
        return done(L, -1, "read link", path);
    lua_pushlstring(L, target, (size_t)n);
    return 1;
}

static int l_cwd(lua_State *L)
{
    char dir[PATH_MAX];

    if (!getcwd(dir, sizeof dir))
        return done(L, -1, "working directory", "");
    lua_pushstring(L, dir);
    return 1;
}

/* --- changes ---------------------------------------------------------------------------------- */

static int l_mkdir(lua_State *L)
{
    const char *path = check_path(L, 1);

    return done(L, mkdir(path, (mode_t)luaL_optinteger(L, 2, 0777)), "make folder", path);
}

/* remove(path): a file, a link or an empty folder */
static int l_remove(lua_State *L)
{
    const char *path = check_path(L, 1);
    int rc = unlink(path);

    if (rc < 0 && (errno == EISDIR || errno == EPERM))
        rc = rmdir(path);
    return done(L, rc, "remove", path);
}

static int remove_entries(int dir_fd, int depth);

static int remove_one(int at, const char *name, int depth)
{
    int fd, rc;

    if (unlinkat(at, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if ((rc = remove_entries(fd, depth + 1)) < 0)
        return rc;
    return unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Takes dir_fd. */
static int remove_entries(int dir_fd, int depth)
{
    DIR *d = fdopendir(dir_fd);
    struct dirent *e;
    int rc = 0;

    if (!d) {
        rc = -errno;
        close(dir_fd);
        return rc;
    }
    if (depth > TREE_DEPTH)
        rc = -ELOOP;
    while (rc == 0 && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        rc = remove_one(dirfd(d), e->d_name, depth);
    }
    closedir(d);
    return rc;
}

/* rmtree(path): all of it; what is not there is fine */
static int l_rmtree(lua_State *L)
{
    const char *path = check_path(L, 1);
    int rc = remove_one(AT_FDCWD, path, 0);

    if (rc == -ENOENT)
        rc = 0;
    errno = -rc;
    return done(L, rc, "remove", path);
}

/* tmpdir() → a new folder, mode 0700, below TMPDIR or /tmp */
static int l_tmpdir(lua_State *L)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/ev-cage-XXXXXX", base && base[0] == '/' ? base : "/tmp");
    if (!mkdtemp(path))
        return done(L, -1, "make folder", path);
    lua_pushstring(L, path);
    return 1;
}

static int l_rename(lua_State *L)
{
    const char *from = check_path(L, 1);

    return done(L, rename(from, check_path(L, 2)), "rename", from);
}

static int l_chmod(lua_State *L)
{
    const char *path = check_path(L, 1);

    return done(L, chmod(path, (mode_t)luaL_checkinteger(L, 2)), "chmod", path);
}

/* symlink(target, path) */
static int l_symlink(lua_State *L)
{
    const char *target = check_path(L, 1), *path = check_path(L, 2);

    return done(L, symlink(target, path), "link", path);
}

/* access(path, "r"|"w"|"x") → boolean */
static int l_access(lua_State *L)
{
    static const char *const names[] = { "r", "w", "x", NULL };
    static const int modes[] = { R_OK, W_OK, X_OK };
    const char *path = check_path(L, 1);

    lua_pushboolean(L, access(path, modes[luaL_checkoption(L, 2, "r", names)]) == 0);
    return 1;
}

int luaopen_ev_fs(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "read", l_read }, { "write", l_write }, { "append", l_append }, { "stat", l_stat },
        { "list", l_list }, { "realpath", l_realpath }, { "readlink", l_readlink }, { "cwd", l_cwd },
        { "mkdir", l_mkdir }, { "remove", l_remove }, { "rmtree", l_rmtree }, { "tmpdir", l_tmpdir },
        { "rename", l_rename }, { "chmod", l_chmod }, { "symlink", l_symlink }, { "access", l_access },
        { NULL, NULL }
    };

    luaL_newlib(L, functions);
    return 1;
}
