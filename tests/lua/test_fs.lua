-- Files, folders, paths; environment and clock.
local fs = require "ev.fs"
local sys = require "ev.sys"
local t = require "tap"

local dir <close> = assert(fs.scratch())
local function at(name) return fs.join(dir.path, name) end
local function mode(path) return ("%o"):format(fs.stat(path).mode) end

t.is(mode(dir.path), "700", "a temporary folder is private")
t.ok(fs.write(at("a"), "one\0two"), "write")
t.is(fs.read(at("a")), "one\0two", "and read, zero bytes too")
t.is(mode(at("a")), "644", "default mode")
t.ok(fs.write(at("a"), "new", { mode = tonumber("600", 8) }), "write again")
t.is({ fs.read(at("a")), mode(at("a")) }, { "new", "600" }, "content and mode replaced")
t.fails(nil, select(2, fs.read(at("a"), { max = 2 })), "larger than 2", "a limit of bytes")
t.is(fs.read(at("a"), { max = 3 }), "new", "exactly at the limit")
t.fails(nil, select(2, fs.write(at("no/such"), "x")), "No such file", "no folder to write into")
t.is(#fs.list(dir.path), 1, "no temporary file is left behind")
t.ok(fs.append(at("log"), "1") and fs.append(at("log"), "2"), "append")
t.is(fs.read(at("log")), "12", "appended")
t.is(select(2, fs.read(dir.path)).code, "EISDIR", "a folder is no file")
t.ok(not pcall(fs.read, "a\0b"), "a zero byte in a path is refused")

t.ok(fs.mkdir_p(at("x/y/z"), tonumber("700", 8)), "mkdir_p")
t.ok(fs.mkdir_p(at("x/y/z")), "again is fine")
t.is(mode(at("x/y")), "700", "its mode")
t.is(select(2, fs.mkdir_p(at("a/b"))).code, "ENOTDIR", "a file is in the way")
for _, n in ipairs { "q", "B", "a10", "a9" } do assert(fs.write(at("x/" .. n), "")) end
t.is(fs.list(at("x")), { "B", "a10", "a9", "q", "y" }, "list is sorted")
t.is(select(2, fs.list(at("nope"))).code, "ENOENT", "nothing to list")

t.ok(fs.symlink("a", at("link")) and fs.symlink("nowhere", at("dangling")), "symlink")
t.is({ fs.readlink(at("link")), fs.stat(at("link")).type, fs.stat(at("link"), true).type }, { "a", "file", "link" },
  "stat follows unless told")
t.ok(fs.exists(at("dangling")) and not fs.is_file(at("dangling")), "a dangling link exists and is no file")
t.is(fs.realpath(at("x/../link")), fs.realpath(at("a")), "realpath")
t.ok(fs.rename(at("log"), at("log2")) and not fs.exists(at("log")) and fs.exists(at("log2")), "rename")
t.ok(fs.chmod(at("log2"), tonumber("400", 8)) and mode(at("log2")) == "400", "chmod")
t.ok(fs.access(at("log2"), "r") and not fs.access(at("nope"), "r"), "access")

local outside <close> = assert(fs.scratch())
assert(fs.write(outside.path .. "/keep", "k"))
assert(fs.symlink(outside.path, at("x/way-out")))
t.ok(fs.rmtree(at("x")), "rmtree")
t.ok(not fs.exists(at("x")) and fs.exists(outside.path .. "/keep"), "it deletes links and not what they point to")
t.ok(fs.rmtree(at("x")), "what is not there is fine")
t.ok(fs.remove(at("a")) and select(2, fs.remove(at("a"))).code == "ENOENT", "remove")

for _, c in ipairs { { "/a/b", "/a", "b" }, { "/a", "/", "a" }, { "a", ".", "a" }, { "a/", ".", "a" },
  { "/", "/", "/" }, { "a/b/", "a", "b" }, { "a//b", "a", "b" }, { "./a", ".", "a" } } do
  t.is({ fs.dirname(c[1]), fs.basename(c[1]) }, { c[2], c[3] }, "parts of " .. c[1])
end
for _, c in ipairs { { "a/b", "a", "b" }, { "a/b", "a/", "b" }, { "/b", "a", "/b" }, { "a", "a", "" }, { "b", "",
  "b" } } do
  t.is(fs.join(c[2], c[3]), c[1], ("join %q %q"):format(c[2], c[3]))
end
t.is({ fs.expand("~/x"), fs.expand("~x"), fs.expand("a") }, { sys.getenv("HOME") .. "/x", "~x", "a" }, "expand ~")

t.ok(fs.cwd():sub(1, 1) == "/" and fs.is_file(fs.self_exe()), "cwd, self_exe")
t.ok(sys.setenv("EV_TEST_X", "1") and sys.getenv("EV_TEST_X") == "1" and sys.environ().EV_TEST_X == "1", "setenv")
sys.setenv("EV_TEST_X", nil)
t.is(sys.getenv("EV_TEST_X"), nil, "unset")
t.ok(math.abs(sys.time() - os.time()) < 2, "time")
t.ok(sys.term_width() > 0 and not sys.isatty(99), "terminal")
t.ok(sys.version:match("^%d+%.%d+%.%d+$"), "version")
return t.done()
