-- kernel_fetch.lua — the distribution's cloud kernel, unpacked from its packages and never installed:
--
--     <folder>/vmlinuz  config  modules/NN-name.ko  modules.list
--
-- modules.list names each module with its SHA-384, in load order; it is written last, so a folder with it
-- is whole. The modules are those that the platform's devices need, decompressed, and our own small one
-- (scripts/dev/vmmio), built here against the distribution's headers.
local crypto = require "ev.c.crypto"
local deb = require "ev.deb"
local err = require "ev.err"
local fs = require "ev.fs"
local kernel_config = require "ev.kernel_config"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {
  PACKAGE = "linux-image-6.12-cloud-amd64",
  MODULES = { "virtio_mmio", "nsm", "vmw_vsock_virtio_transport" },
  OWN = "vmmio_cmdline",
  MAX_MODULES = 64, MODULE_BYTES = 16 << 20, KERNEL_BYTES = 256 << 20, TEXT_BYTES = 16 << 20,
}

local BUILD_S, STALE_S = 300, 86400
local HINT = "apt-get update (Debian 12 with its security suite), or name one with --kernel FILE"
local UNPACKERS = { [""] = { "cat" }, [".xz"] = { "xz", "-dc" }, [".zst"] = { "zstd", "-dcq" },
  [".gz"] = { "gzip", "-dc" } }

-- The release that the meta package stands for: "6.12.117+deb12-cloud-amd64"
function M.release()
  local list, e = deb.depends(M.PACKAGE, "linux%-image%-[%w%.+~%-]+")
  if not list then return nil, e end
  if list[1] then return (list[1]:gsub("^linux%-image%-", "")) end
  return nil, err.new("EMISSING", M.PACKAGE .. " is not among apt's packages",
    { hint = HINT })
end

-- --- the image's package ------------------------------------------------------------------------------

local function unpack_image(dir, release, say)
  local package = "linux-image-" .. release
  say("downloading " .. package)
  local debs, e = deb.download(dir, { package })
  if not debs then return nil, e end
  say("unpacking its kernel and modules")
  local ok, tar_err = deb.shell(dir, 'dpkg-deb --fsys-tarfile "$1" | tar -x --no-same-owner "./boot/vmlinuz-$2" '
    .. '"./boot/config-$2" "./lib/modules/$2"', debs[1], release)
  if not ok then return nil, tar_err end
  return fs.join(dir, "lib/modules", release)
end

-- "kernel/drivers/virtio/virtio.ko" by its name, and by what the kernel has built in.
local function names_of(path)
  local source, names = fs.read(path, { max = M.TEXT_BYTES }), {}
  for line in (source or ""):gmatch("[^\n]+") do
    names[(fs.basename(line):gsub("%.ko$", ""):gsub("-", "_"))] = line
  end
  return names
end

-- The module's bytes, unpacked into out.
local function unpack_module(tree, relative, out)
  for ending, argv in pairs(UNPACKERS) do
    local path = fs.join(tree, relative .. ending)
    if fs.exists(path) then
      local ok, e = deb.shell(".", 'out=$1; file=$2; shift 2; "$@" "$file" >"$out"', out, path, table.unpack(argv))
      if not ok then return nil, e end
      return fs.read(out, { max = M.MODULE_BYTES })
    end
  end
  return nil, err.new("EMISSING", "the package has no " .. relative)
end

-- "depends=a,b" of .modinfo
local function depends_of(data)
  local list = {}
  for name in (data:match("%zdepends=([^%z]*)%z") or ""):gmatch("[^,]+") do list[#list + 1] = (name:gsub("-", "_")) end
  return list
end

-- Depth first, so that each comes after what it needs → list of {name, path} | nil, err
local function collect(tree, place)
  local modules, built_in = names_of(fs.join(tree, "modules.order")), names_of(fs.join(tree, "modules.builtin"))
  local order, seen = {}, {}
  local function add(name)
    if seen[name] or built_in[name] then return true end
    seen[name] = true
    if not modules[name] then return nil, err.new("EMISSING", "the package has no module " .. name) end
    local path = fs.join(place, name .. ".ko")
    local data, e = unpack_module(tree, modules[name], path)
    if not data then return nil, e:wrap("module " .. name) end
    for _, need in ipairs(depends_of(data)) do
      local ok, need_err = add(need)
      if not ok then return nil, need_err end
    end
    if #order >= M.MAX_MODULES - 1 then return nil, err.new("ELIMIT", "too many modules") end
    order[#order + 1] = { name = name, path = path }
    return true
  end
  for _, name in ipairs(M.MODULES) do
    local ok, e = add(name)
    if not ok then return nil, e end
  end
  return order
end

-- --- our module ---------------------------------------------------------------------------------------

-- Why no module can be built here, or nil.
local function no_compiler()
  for _, tool in ipairs { "make", "gcc", "strip" } do
    if not proc.which(tool) then return tool .. " is not here" end
  end
end

-- The header packages' folder, made to work where it lies: its Makefile names an absolute path, and a
-- vmlinux would ask for tools that the module does not need.
local function unpack_headers(dir, release, say)
  local package = "linux-headers-" .. release
  local packages, e = deb.depends(package, "linux%-[hk][eb][a-z]+%-[%w%.+~%-]+")
  if not packages then return nil, e end
  table.insert(packages, 1, package)
  local libelf = deb.libelf()
  if libelf then packages[#packages + 1] = libelf end
  say("downloading its headers, to build " .. M.OWN)
  local root, get_err = deb.unpack(dir, packages)
  if not root then return nil, get_err end
  local headers = fs.join(root, "usr/src", package)
  local ok, unpack_err = deb.shell(headers, 'rm -f vmlinux; sed -i "s,^include /usr/,include $1/usr/," Makefile', root)
  if not ok then return nil, unpack_err end
  return headers, libelf and { LD_LIBRARY_PATH = deb.library_path(root) } or {}
end

-- Debian's headers name the compiler that built the kernel ("gcc-12"). Where it is not here, another one.
local function compiler(headers)
  local named = (fs.read(fs.join(headers, ".kernelvariables")) or ""):match("CROSS_COMPILE%)(gcc%-%d+)")
  if named and proc.which(named) then return {} end
  return { "CC=gcc", "HOSTCC=gcc" }
end

local function build_own(headers, place, env)
  local source = require("ev.text.vmmio_cmdline")
  local ok, e = fs.write(fs.join(place, M.OWN .. ".c"), source, { mode = 420 })
  if ok then ok, e = fs.write(fs.join(place, "Makefile"), ("obj-m := %s.o\n"):format(M.OWN), { mode = 420 }) end
  if not ok then return nil, e end
  local argv = { "make", "-s", "-C", headers, "M=" .. place }
  for _, word in ipairs(compiler(headers)) do argv[#argv + 1] = word end
  argv[#argv + 1] = "modules"
  local r, run_err = proc.run(argv, { timeout = BUILD_S, env = deb.clean_env(env) })
  if not r then return nil, run_err end
  if r.code ~= 0 then
    return nil, err.new("EMISSING", ("building %s failed: %s"):format(M.OWN, text.trim(r.stderr):sub(-400)),
      { hint = "apt-get install gcc make binutils" })
  end
  local out = fs.join(place, M.OWN .. ".ko")
  -- No debug information and no build id: both depend on where it was built.
  ok, e = deb.run({ "strip", "-g", "-R", ".note.gnu.build-id", "-R", ".comment", out }, { env = deb.clean_env() })
  if not ok then return nil, e end
  return { name = M.OWN, path = out }
end

local function own_module(release, say)
  local why = no_compiler()
  if why then
    return nil, err.new("EMISSING", why .. ": " .. M.OWN .. " cannot be built", { hint = "apt-get install gcc make" })
  end
  local scratch <close> = deb.scratch()
  local headers, env = unpack_headers(scratch.path, release, say)
  if not headers then return nil, env end
  local place = fs.join(scratch.path, "build")
  local ok, dir_err = fs.mkdir_p(place, 448)
  if not ok then return nil, dir_err end
  local module, build_err = build_own(headers, place, env)
  if not module then return nil, build_err end
  return fs.read(module.path, { max = M.MODULE_BYTES })
end

-- --- the folder ----------------------------------------------------------------------------------------

-- modules/NN-name.ko and modules.list in a kernel's folder. `modules`: list of {name, data}
function M.write_modules(dir, modules)
  local ok, e = fs.mkdir_p(fs.join(dir, "modules"), 493)
  local lines = {}
  for i, m in ipairs(modules) do
    local name = ("%02d-%s.ko"):format(i - 1, m.name)
    if ok then ok, e = fs.write(fs.join(dir, "modules", name), m.data, { mode = 420 }) end
    lines[i] = ("%s %s\n"):format(name, text.hex(crypto.sha384(m.data)))
  end
  if ok then ok, e = fs.write(fs.join(dir, "modules.list"), table.concat(lines), { mode = 420 }) end
  return ok, e
end

-- Puts a finished folder where it belongs; one that is there is replaced, or comes back when that fails.
local function install(dir, target)
  local old = dir .. ".old"
  local had = fs.exists(target) and fs.rename(target, old)
  local ok, e = fs.rename(dir, target)
  if not ok and fs.exists(fs.join(target, "vmlinuz")) then ok = true end       -- another one was faster
  if not ok and had then fs.rename(old, target) end
  fs.rmtree(old)
  return ok, e
end

-- What was left behind by one that was killed.
local function sweep(root)
  for _, name in ipairs(fs.list(root) or {}) do
    local path = fs.join(root, name)
    local st = name:match("^%.new%-%x+") and fs.stat(path)
    if st and sys.time() - st.mtime > STALE_S then fs.rmtree(path) end
  end
end

local function copy(from, to, max)
  local data, e = fs.read(from, { max = max })
  if not data then return nil, e end
  return fs.write(to, data, { mode = 420 })
end

-- Fills `dir` with the release's kernel → true | nil, err. Where our module cannot be built there is no
-- modules.list, and `say.warn` hears why.
local function fill(dir, release, say)
  local scratch <close> = deb.scratch()
  local tree, e = unpack_image(scratch.path, release, say.note)
  if not tree then return nil, e end
  local function boot(name) return fs.join(scratch.path, "boot", name .. "-" .. release) end
  local ok
  ok, e = copy(boot "vmlinuz", fs.join(dir, "vmlinuz"), M.KERNEL_BYTES)
  if ok then ok, e = copy(boot "config", fs.join(dir, "config"), kernel_config.MAX_BYTES) end
  if not ok then return nil, e end
  local options = kernel_config.parse(fs.read(fs.join(dir, "config")))
  local order, order_err = collect(tree, scratch.path)
  if not order then return nil, order_err end
  local modules = {}
  if not options[kernel_config.CMDLINE_DEVICES] then
    local data, own_err = own_module(release, say.note)
    if not data then
      say.warn(("%s: images with this kernel have no modules and run in the simulator only"):format(own_err.message))
      return true
    end
    modules[1] = { name = M.OWN, data = data }
  end
  for _, m in ipairs(order) do modules[#modules + 1] = { name = m.name, data = assert(fs.read(m.path)) } end
  return M.write_modules(dir, modules)
end

-- A new folder below root, filled by `fill_in(dir)`, which says the name it then gets → name | nil, err
function M.place(root, fill_in)
  local ok, e = fs.mkdir_p(root, 448)
  sweep(root)
  local dir = fs.join(root, ".new-" .. text.hex(crypto.random(8)))
  if ok then ok, e = fs.mkdir_p(dir, 448) end
  if not ok then return nil, e end
  local _ <close> = setmetatable({}, { __close = function() fs.rmtree(dir) end })
  local name, fill_err = fill_in(dir)
  if not name then return nil, fill_err end
  ok, e = install(dir, fs.join(root, name))
  if not ok then return nil, e end
  return name
end

-- The release's kernel in <root>/<release> → true | nil, err
---@param say {note: fun(line: string), warn: fun(line: string)}
function M.fetch(root, release, say)
  local name, e = M.place(root, function(dir)
    local ok, fill_err = fill(dir, release, say)
    if not ok then return nil, fill_err end
    return release
  end)
  if not name then return nil, e:wrap("fetching a kernel") end
  return true
end

return M
