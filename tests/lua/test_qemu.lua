-- ev.qemu: which QEMU is taken, which is refused and why, and fetching one from packages of straw (QEMU,
-- apt-get, dpkg-deb and the loader are scripts).
local fs = require "ev.fs"
local qemu = require "ev.qemu"
local sys = require "ev.sys"
local t = require "tap"

local scratch <close> = fs.scratch()
local top = scratch.path
local bin, real_path = fs.join(top, "bin"), sys.getenv "PATH"
sys.setenv("XDG_CACHE_HOME", fs.join(top, "cache"))
sys.setenv("PATH", bin)
fs.mkdir_p(bin)

local GOOD = [[case "$*" in
*-version) echo "QEMU emulator version VERSION (Debian 1:1)" ;;
*"-device help") echo 'name "DEVICE", bus virtio-bus' ;;
*) exit 1 ;;
esac
]]

local function script(path, text)
  fs.mkdir_p(fs.dirname(path))
  assert(fs.write(path, "#!/bin/sh\n" .. text, { mode = 493 }))
  return path
end
local function fake(path, version, device)
  return script(path, (GOOD:gsub("VERSION", version):gsub("DEVICE", device or "vhost-user-test-device")))
end

-- finding
t.fails(qemu.find(), select(2, qemu.find()), "is not here", "none: said")
t.ok(select(2, qemu.find()).hint:find("doctor %-%-fix"), "with what to do")
local path = fake(fs.join(bin, qemu.NAME), "11.1.3")
t.is(qemu.find(), { path = path, version = "11.1.3", source = "installed", argv = { path } }, "an installed one")
t.is(qemu.environ(qemu.find()), nil, "with our environment")
fake(path, "10.0.2")
t.fails(qemu.find(), select(2, qemu.find()), "version 10%.0%.2, and 11 or newer is needed", "too old")
fake(path, "12.0", "vhost-user-device")
t.fails(qemu.find(), select(2, qemu.find()), "without the device vhost%-user%-test%-device", "without the device")
script(path, "echo nonsense")
t.fails(qemu.find(), select(2, qemu.find()), "says no version", "no QEMU at all")
script(path, "echo 'it broke' >&2; exit 1")
t.fails(qemu.find(), select(2, qemu.find()), "it broke", "one that fails")
local own = fake(fs.join(top, "own/qemu"), "11.0.0")
t.is(qemu.find(own).version, "11.0.0", "a named one")
t.is(qemu.find(own).source, "option", "is not looked for")
t.is(select(2, qemu.find(fs.join(top, "nosuch"))).exit, 66, "no such file")
t.fails(qemu.find(top), select(2, qemu.find(top)), "holds no QEMU", "a folder without one")

-- fetching: where it comes from is what apt says, and apt's own folders are not ours
script(fs.join(bin, "dpkg-deb"), ([[
/bin/mkdir -p "$3/usr/bin" "$3/usr/lib64"
printf '#!/bin/sh\nshift 2; p=$1; shift; exec "$p" "$@"\n' >"$3/usr/lib64/ld-linux-x86-64.so.2"
/bin/cp "%s" "$3/usr/bin/qemu-system-x86_64"
/bin/chmod 755 "$3/usr/lib64/ld-linux-x86-64.so.2"
]]):format(own))
local function apt(origin, install)
  script(fs.join(bin, "apt-get"), ([[
case "$1" in indextargets) echo "%s"; exit ;; esac
echo "$*" >>"%s/apt.log"
for a; do case $a in Dir::Cache::Archives=*) archives=${a#*=} ;;
  Dir::Etc::SourceList=*) /bin/cat "${a#*=}" >"%s/sources" ;;
  Dir::*=/etc/* | Dir::*=/var/*) exit 9 ;; esac; done
case "$*" in *" update") ;; *) %s ;; esac
]]):format(origin, top, top, install))
end
local function nothing() end
local fetched, e = qemu.fetch(nothing)
t.fails(fetched, e, "apt%-get is not here", "no apt")
apt("Ubuntu|Ubuntu|http://mirror.test/ubuntu/", "exit 1")
fetched, e = qemu.fetch(nothing)
t.fails(fetched, e, "none of apt's sources is Debian's", "no Debian among its sources")
apt("Debian|Debian|http://mirror.test/debian/", "echo 'E: no network' >&2; exit 100")
fetched, e = qemu.fetch(nothing)
t.fails(fetched, e, "fetching QEMU: apt%-get failed: E: no network", "no network")
t.ok(not fs.exists(fs.join(top, "cache/ev-cage/qemu/root")), "nothing is kept then")
apt("Debian|Debian|http://mirror.test/debian/", 'echo >"$archives/a.deb"')
local said = {}
fetched = qemu.fetch(function(line) said[#said + 1] = line end)
t.ok(fetched and fetched.version == "11.0.0" and fetched.source == "cache", "fetched, and it runs")
t.ok(fs.read(fs.join(top, "sources")):find("http://mirror.test/debian/ sid main", 1, true), "from the machine's mirror")
t.ok(#said >= 2, "each step was said")
t.is(fs.list(fs.join(top, "cache/ev-cage/qemu")), { "root" }, "and nothing else lies there")
fs.remove(path)
t.is(qemu.find().source, "cache", "found again")
local list = table.concat(qemu.environ(qemu.find()), "\n")
t.ok(list:find("QEMU_MODULE_DIR=" .. top, 1, true) and list:find("PATH=" .. bin, 1, true),
  "modules of the host are not its")
t.is(qemu.find(fs.join(top, "cache/ev-cage/qemu/root")).source, "cache", "a folder may be named")
script(own, "exit 1")
fetched, e = qemu.fetch(nothing)
t.fails(fetched, e, "does not run", "one that does not run is refused")
t.is(qemu.find().version, "11.0.0", "and the one that was there stays")
sys.setenv("PATH", real_path)
return t.done()
