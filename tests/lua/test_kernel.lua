-- kernel: fetching from packages of straw (apt-get, dpkg-deb and the compiler are scripts), load order,
-- what is refused and by which option, which kernel is chosen, what a damaged folder says.
local build = require "ev.build"
local crypto = require "ev.c.crypto"
local fs = require "ev.fs"
local kernel = require "ev.kernel"
local kernel_build = require "ev.kernel_build"
local kernel_config = require "ev.kernel_config"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"
local t = require "tap"

local scratch <close> = fs.scratch()
local top = scratch.path
local real_path = sys.getenv "PATH"
sys.setenv("XDG_CACHE_HOME", fs.join(top, "cache"))
sys.setenv("NITRO_CLI_BLOBS", fs.join(top, "blobs"))
local root = fs.join(top, "cache/ev-cage/kernel")

local function sh(script, ...)
  local r = assert(proc.run({ "/bin/sh", "-ec", script, "sh", ... }, { cwd = top }))
  assert(r.code == 0, r.stderr)
end

-- A file with the header of a bzImage, as far as anybody looks.
local function bz_image(version)
  local head = ("\0"):rep(0x202) .. "HdrS" .. ("\0"):rep(8) .. string.pack("<I2", 0x200)
  return head .. ("\0"):rep(0x400 - #head) .. version .. " (somebody)\0" .. ("\0"):rep(512)
end

-- --- the configuration ----------------------------------------------------------------------------------

local function options_of(drivers, more)
  local lines = { "# Linux/x86 6.12.1 Kernel Configuration", "CONFIG_MODULES=y", "# CONFIG_ACPI is not set" }
  for _, name in ipairs(kernel_config.BUILT_IN) do lines[#lines + 1] = "CONFIG_" .. name .. "=y" end
  for _, name in ipairs(kernel_config.DRIVERS) do lines[#lines + 1] = "CONFIG_" .. name .. "=" .. drivers end
  return table.concat(lines, "\n") .. "\n" .. (more or "")
end
local good = options_of("m")
t.ok(kernel_config.check("k", kernel_config.parse(good)), "everything is there")
t.is(kernel_config.wanted_modules(kernel_config.parse(good)), kernel_config.DRIVERS, "drivers as modules")
t.is(kernel_config.wanted_modules(kernel_config.parse(options_of("y"))), {}, "drivers built in")
for _, name in ipairs { "NSM", "VIRTIO_MMIO", "VSOCKETS", "BLK_DEV_INITRD", "DEVTMPFS", "SECCOMP", "USER_NS" } do
  local without = good:gsub("CONFIG_" .. name .. "=%a\n", "")
  local ok, e = kernel_config.check("k", kernel_config.parse(without))
  t.fails(ok, e, "without what an enclave needs: CONFIG_" .. name .. "%f[^%w_]", name .. " is named")
  t.is(e and e:exit_code(), 65, name .. ": exit 65")
end
local none, why = kernel_config.check("k", kernel_config.parse((good:gsub("CONFIG_DEVTMPFS=y", "CONFIG_DEVTMPFS=m"))))
t.fails(none, why, "CONFIG_DEVTMPFS=y", "as a module it is not there in time")
none, why = kernel_config.check("k", kernel_config.parse((options_of("y"):gsub("CONFIG_MODULES=y\n", ""))))
t.fails(none, why, "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y", "no devices of the command line, and no module for them")
t.ok(kernel_config.check("k", kernel_config.parse((options_of("y", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y\n")
  :gsub("CONFIG_MODULES=y\n", "")))), "everything built in, no modules")
for version, fine in pairs { ["6.8.0"] = true, ["6.12.117+x"] = true, ["7.0"] = true, ["6.7.9"] = false,
  ["4.14.256"] = false, ["10.1"] = true, ["x"] = false } do
  t.is(kernel_config.new_enough(version), fine, version)
end

-- --- fetching ---------------------------------------------------------------------------------------------

-- Packages are tars here. `fetched` counts downloads.
local RELEASE = "6.12.9-straw-amd64"
local SCRIPTS = {
  ["apt-cache"] = [[case $4 in
linux-image-6.12-cloud-amd64) echo "  Depends: linux-image-]] .. RELEASE .. [[" ;;
linux-headers-*) printf '  Depends: linux-headers-6.12.9-common\n |Depends: linux-image-x\n'
  printf '  Depends: linux-kbuild-6.12.9\n  Depends: gcc-12\n' ;;
esac]],
  ["apt-get"] = [[[ -e "TOP/offline" ] && { echo "E: no network" >&2; exit 100; }
shift 2
for p in "$@"; do cp "TOP/packages/$p.tar" "$p.deb"; echo "$p" >>"TOP/fetched"; done]],
  ["dpkg-deb"] = [[case $1 in
--fsys-tarfile) cat "$2" ;;
-x) mkdir -p "$3" && tar -xf "$2" -C "$3" ;;
esac]],
  make = [[for w in "$@"; do case $w in -C) c=1 ;; M=*) m=${w#M=} ;; *) [ "$c" = 1 ] && { dir=$w; c=; } ;; esac; done
grep -q "^include /.*root/usr/src/common" "$dir/Makefile" || { echo "wrong include" >&2; exit 2; }
[ -e "$dir/vmlinux" ] && { echo "pahole" >&2; exit 2; }
[ -n "$MAKEFLAGS$CFLAGS$CC" ] && { echo "the caller's settings" >&2; exit 2; }
[ -e "TOP/broken" ] && { echo "vmmio_cmdline.c:1: error" >&2; exit 2; }
{ echo built; cat "$m/vmmio_cmdline.c"; } >"$m/vmmio_cmdline.ko"]],
  strip = "exit 0", gcc = "exit 0",
}
sh "mkdir -p bin nocc packages"
for name, script in pairs(SCRIPTS) do
  local body = "#!/bin/sh\n" .. script:gsub("TOP", top) .. "\n"
  fs.write(fs.join(top, "bin", name), body, { mode = 493 })
  if name ~= "make" and name ~= "gcc" then fs.write(fs.join(top, "nocc", name), body, { mode = 493 }) end
end

local function package(name, files)
  sh "rm -rf pack && mkdir pack"
  for path, data in pairs(files) do
    local full = fs.join(top, "pack", path)
    assert(fs.mkdir_p(fs.dirname(full), 493))
    assert(fs.write(full, data, { mode = 420 }))
  end
  sh('tar -C pack -cf "packages/$1.tar" .', name)
end

local function module(name, needs)
  return ("ELF %s\0license=GPL\0depends=%s\0name=%s\0"):format(name, needs, name)
end
local tree = "lib/modules/" .. RELEASE
local function image_package(config, less)
  local files = {
    ["boot/vmlinuz-" .. RELEASE] = bz_image(RELEASE), ["boot/config-" .. RELEASE] = config,
    [tree .. "/modules.builtin"] = "kernel/drivers/virtio/virtio_ring.ko\n",
    [tree .. "/modules.order"] = "kernel/a/vmw_vsock_virtio_transport.ko\n"
      .. "kernel/a/vmw_vsock_virtio_transport_common.ko\nkernel/b/vsock.ko\nkernel/c/virtio-mmio.ko\n"
      .. "kernel/c/virtio.ko\nkernel/d/nsm.ko\nkernel/d/rng-core.ko\n",
    [tree .. "/kernel/a/vmw_vsock_virtio_transport.ko"] = module("vmw_vsock_virtio_transport",
      "vmw_vsock_virtio_transport_common,virtio_ring,vsock"),
    [tree .. "/kernel/a/vmw_vsock_virtio_transport_common.ko"] = module("common", "vsock"),
    [tree .. "/kernel/b/vsock.ko"] = module("vsock", ""),
    [tree .. "/kernel/c/virtio-mmio.ko"] = module("mmio", "virtio"),
    [tree .. "/kernel/c/virtio.ko"] = module("virtio", ""),
    [tree .. "/kernel/d/nsm.ko"] = module("nsm", "rng-core"),
    [tree .. "/kernel/d/rng-core.ko"] = module("rng_core", ""),
  }
  if less then files[tree .. less] = nil end
  package("linux-image-" .. RELEASE, files)
  sh('cd packages && mkdir x && tar -xf "$1" -C x; find x -name vsock.ko -exec xz -f {} +\n'
    .. 'tar -C x -cf "$1" . && rm -r x',
    "linux-image-" .. RELEASE .. ".tar")
end
image_package(good)
package("linux-headers-" .. RELEASE, {
  ["usr/src/linux-headers-" .. RELEASE .. "/Makefile"] = "include /usr/src/common\n",
  ["usr/src/linux-headers-" .. RELEASE .. "/vmlinux"] = "x" })
package("linux-headers-6.12.9-common", { ["usr/src/common"] = "" })
package("linux-kbuild-6.12.9", { ["usr/lib/x"] = "" })

local said, warned
local say = { note = function(line) said[#said + 1] = line end, warn = function(line) warned[#warned + 1] = line end,
  detail = function() end, progress = function(job) return job:wait() end }
local function quiet() said, warned = {}, {} end
local function fetched() return select(2, (fs.read(fs.join(top, "fetched")) or ""):gsub("\n", "")) end
local function flag(name, on)
  if on then fs.write(fs.join(top, name), "") else fs.remove(fs.join(top, name)) end
end

-- no compiler: the kernel, and a warning; nothing is downloaded for a module that cannot be built
quiet()
local tools = fs.join(top, "tools")
sh('mkdir -p tools; for p in sh tar sed rm cat xz mkdir cp echo env tr; do ln -s "$(command -v $p)" tools/; done')
sys.setenv("PATH", fs.join(top, "nocc") .. ":" .. tools)
local k, e = kernel.fetch(say)
if not t.ok(k, "without a compiler") then print("# " .. tostring(e)) end
t.is(kernel.version(k.path), RELEASE, "its version")
t.ok(table.concat(warned, "\n"):find("make is not here: vmmio_cmdline cannot be built: .*simulator only"),
  "is warned about")
t.is(fetched(), 1, "one package")
t.is(kernel.modules(k), nil, "no list of modules")
quiet()
flag("offline", true)
k = kernel.get(nil, say)
t.ok(k and #k.modules == 0 and #warned >= 1 and warned[1]:find("simulator only"), "a build goes on without, warned")
flag("offline", false)

-- with a compiler: the folder is completed
sys.setenv("PATH", fs.join(top, "bin") .. ":" .. real_path)
sys.setenv("MAKEFLAGS", "-j9")
sys.setenv("CC", "clang")
quiet()
k, e = kernel.get(nil, say)
if not t.ok(k, "with a compiler") then print("# " .. tostring(e)) end
t.is(warned, {}, "no warning")
local names = {}
for i, m in ipairs(k.modules) do names[i] = m.name end
t.is(table.concat(names, " "), "00-vmmio_cmdline.ko 01-virtio.ko 02-virtio_mmio.ko 03-rng_core.ko 04-nsm.ko "
  .. "05-vsock.ko 06-vmw_vsock_virtio_transport_common.ko 07-vmw_vsock_virtio_transport.ko",
  "load order: each after its needs")
t.is(fs.read(k.modules[6].path), module("vsock", ""), "unpacked")
t.ok(fs.read(k.modules[1].path):find("built\n/* vmmio_cmdline.c", 1, true), "ours, from the embedded source")
local list = fs.read(fs.join(root, RELEASE, "modules.list"))
t.is(list:match("^00%-vmmio_cmdline%.ko (%x+)\n"), text.hex(crypto.sha384(fs.read(k.modules[1].path))), "digests")
t.is(fs.list(root), { RELEASE }, "nothing else is left in the cache")
local before = fetched()
t.is(kernel.fetch(say).source, "cache", "fetched once")
t.is(fetched(), before, "and only once")
t.is(kernel.fetch(say, true).source, "package", "--force fetches again")
t.is(fs.read(fs.join(root, RELEASE, "modules.list")), list, "and gives the same")

-- failures leave what was there
quiet()
flag("broken", true)
assert(fs.mkdir_p(fs.join(root, ".new-0123456789abcdef/x"), 448))
sh('touch -d "2 days ago" "$1"', fs.join(root, ".new-0123456789abcdef"))
k = kernel.fetch(say, true)
t.ok(k and warned[1]:find("error") and warned[1]:find("simulator only"), "a module that does not compile is a warning")
flag("broken", false)
quiet()
kernel.fetch(say)
t.is(fs.read(fs.join(root, RELEASE, "modules.list")), list, "completed the next time")
image_package(good, "/kernel/b/vsock.ko")
none, why = kernel.fetch(say, true)
t.fails(none, why, "fetching a kernel: module vsock: the package has no kernel/b/vsock.ko", "a module is missing")
t.is(fs.read(fs.join(root, RELEASE, "modules.list")), list, "the old folder stays")
t.is(fs.list(root), { RELEASE }, "nothing of the new one")
flag("offline", true)
none, why = kernel.fetch(say, true)
t.fails(none, why, "no network", "offline")
t.is(why.hint:find("^check the network") ~= nil, true, "with a hint")
t.ok(kernel.fetch(say), "what is there needs none")

-- damaged
local victim = fs.join(root, RELEASE, "modules/04-nsm.ko")
local sound = fs.read(victim)
fs.write(victim, sound .. "x")
none, why = kernel.get(nil, say)
t.fails(none, why, "04%-nsm.ko is damaged", "a changed module")
fs.write(victim, sound)
t.ok(kernel.get(nil, say), "sound again")

-- --- what goes into an image --------------------------------------------------------------------------------

local old = fs.join(top, "old")
fs.write(old, bz_image("6.1.0-9-amd64"))
none, why = kernel.get(old, say)
t.fails(none, why, "is Linux 6.1.0%-9%-amd64; an enclave's needs 6.8 or newer", "an old kernel")
t.is(why:exit_code(), 65, "exit 65")
assert(fs.mkdir_p(fs.join(top, "own"), 493))
local own = fs.join(top, "own/bzImage")
fs.write(own, bz_image("6.12.3"))
t.is(#kernel.get(own, say).modules, 0, "a file of one's own has no modules")
fs.write(own .. ".config", (options_of("y"):gsub("CONFIG_NSM=y\n", "")))
none, why = kernel.get(own, say)
t.fails(none, why, "own/bzImage is built without what an enclave needs: CONFIG_NSM$", "its configuration is beside it")
quiet()
fs.write(own .. ".config", good)
t.ok(kernel.get(own, say) and warned[1]:find("NSM, VIRTIO_MMIO, VSOCKETS, VIRTIO_VSOCKETS"),
  "drivers that are not here")
t.is(#kernel.get(fs.join(root, RELEASE, "vmlinuz"), say).modules, 8, "--kernel of the cache brings its modules")

-- --- which one ----------------------------------------------------------------------------------------------

local function add(version)
  assert(fs.mkdir_p(fs.join(root, version), 448))
  fs.write(fs.join(root, version, "vmlinuz"), bz_image(version))
  fs.write(fs.join(root, version, "modules.list"), "")
end
add "6.12.10-straw"
add "6.2.0"
t.is(kernel.find().version, "6.12.10-straw", "the newest, by number")
none, why = kernel.use "6.99"
t.fails(none, why, "there is no kernel 6.99", "use: not here")
none, why = kernel.use "6.2.0"
t.fails(none, why, "6.8 or newer", "use: too old")
t.ok(kernel.use(RELEASE), "use")
t.is(kernel.find().version, RELEASE, "is preferred")
local pinned = text.hex(crypto.sha384_file(fs.join(root, "6.12.10-straw/vmlinuz")))
t.is(kernel.find(nil, nil, pinned).version, "6.12.10-straw", "a pin comes first")
t.is(kernel.find(own).path, own, "and an option before all")
t.ok(kernel.use "auto" and kernel.use "auto", "auto")
t.is(kernel.find().version, "6.12.10-straw", "the newest again")
assert(fs.mkdir_p(fs.join(top, "blobs"), 493))
fs.write(fs.join(top, "blobs/bzImage"), bz_image("6.6.79"))
t.is(kernel.find().version, "6.12.10-straw", "AWS's, too old")
fs.write(fs.join(top, "blobs/bzImage"), bz_image("6.9.1"))
fs.write(fs.join(top, "blobs/bzImage.config"), "CONFIG_NSM=y\n")
t.is(kernel.find().version, "6.12.10-straw", "AWS's, without what is needed")
fs.write(fs.join(top, "blobs/bzImage.config"), options_of("y"))
t.is(kernel.find().version, "6.9.1", "AWS's, fit")
t.is(kernel.find(nil, nil, pinned).version, "6.12.10-straw", "but a pin comes first")
sh "rm -r blobs"
fs.write(fs.join(root, "preferred"), "../../x\n")
t.is(kernel.find().version, "6.12.10-straw", "a preference that is not here does not count")

-- --- our own ------------------------------------------------------------------------------------------------

local fragment = kernel_build.fragment()
t.ok(kernel_build.check_options(fragment), "our options are what they ask for")
t.ok(kernel_config.check("own", kernel_config.parse(fragment)), "and all that an enclave needs, built in")
none, why = kernel_build.check_options((fragment:gsub("CONFIG_NSM=y\n", "")))
t.fails(none, why, "does not keep CONFIG_NSM=y$", "an option that kconfig dropped")
none, why = kernel_build.check_options(fragment .. "CONFIG_PCI=y\n")
t.fails(none, why, "does not keep no CONFIG_PCI$", "one that came in")
none, why = kernel_build.check_options((fragment:gsub('"%-ev%-cage"', '""')))
t.fails(none, why, "CONFIG_LOCALVERSION=", "a value")
flag("offline", false)
fs.write(fs.join(top, "bin/apt-cache"), "#!/bin/sh\nprintf 'Package: x\\nVersion: 6.12.9-1\\n'\n", { mode = 493 })
fs.write(fs.join(top, "bin/gcc"), "#!/bin/sh\necho gcc of straw 12\n", { mode = 493 })
local id = text.hex(crypto.sha384("6.12.9-1\ngcc of straw 12\n" .. fragment))
fs.write(fs.join(root, "6.12.10-straw/build.id"), id .. "\n")
k, e = kernel.build(say, { jobs = 1 })
t.is({ k and k.version or tostring(e), k and k.source }, { "6.12.10-straw", "cache" }, "the same is not built twice")
fs.write(fs.join(root, "6.12.10-straw/build.id"), "other\n")
none, why = kernel.build(say, { jobs = 1 })
t.fails(none, why, "building a kernel: ", "another is, from a package that straw does not have")
t.is(fs.list(root), { "6.12.10-straw", RELEASE, "6.2.0", "preferred" }, "and nothing of it is left")

t.is(build.MODULES_DIR, "lib/modules/ev", "where PID 1 looks")
sys.setenv("PATH", real_path)
sys.setenv("MAKEFLAGS", nil)
sys.setenv("CC", nil)
sys.setenv("NITRO_CLI_BLOBS", nil)
return t.done()
