-- kernel_build.lua — a kernel of our own from the distribution's source package: one configuration
-- (kernel_options.lua), everything built in, no modules. Minutes of work, so the folder remembers what it was
-- built from (build.id) and the same is not built twice.
--
--     source package → allnoconfig + our options → every option checked → bzImage → <cache>/kernel/<release>/
--
-- The same source and compiler give the same bytes: no date, no user, no path of this machine goes in.
local crypto = require "ev.c.crypto"
local deb = require "ev.deb"
local err = require "ev.err"
local fs = require "ev.fs"
local kernel_config = require "ev.kernel_config"
local kernel_fetch = require "ev.kernel_fetch"
local options = require "ev.kernel_options"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"

local M = { PACKAGE = "linux-source-6.12" }

local CONFIG_S, BUILD_S, TAIL = 600, 14400, 1200
-- Program or header that the build needs → the packages that have it. They are unpacked where they are missing.
local TOOLS = {
  { program = "flex", packages = { "flex" } }, { program = "bison", packages = { "bison" } },
  { program = "m4", packages = { "m4" } }, { program = "bc", packages = { "bc" } },
  { header = "libelf.h", packages = { "libelf-dev" } },
}
-- Found or not, they end up in the configuration, and that is in the kernel: they are never found.
local NOT_USED = { "RUSTC=/nonexistent/rustc", "BINDGEN=/nonexistent/bindgen", "PAHOLE=/nonexistent/pahole" }
local LIBELF = "usr/lib/x86_64-linux-gnu/libelf.so"

-- The options as the file that kconfig reads.
function M.fragment()
  local lines = {}
  for _, name in ipairs(options.on) do lines[#lines + 1] = "CONFIG_" .. name .. "=y" end
  for _, name in ipairs(options.off) do lines[#lines + 1] = "# CONFIG_" .. name .. " is not set" end
  for _, v in ipairs(options.values) do lines[#lines + 1] = ("CONFIG_%s=%s"):format(v[1], v[2]) end
  return table.concat(lines, "\n") .. "\n"
end

-- kconfig drops what it cannot satisfy without a word. → true | nil, err naming each
function M.check_options(source)
  local got, wrong = kernel_config.parse(source), {}
  for _, name in ipairs(options.on) do
    if got[name] ~= "y" then wrong[#wrong + 1] = "CONFIG_" .. name .. "=y" end
  end
  for _, name in ipairs(options.off) do
    if got[name] then wrong[#wrong + 1] = "no CONFIG_" .. name end
  end
  for _, v in ipairs(options.values) do
    if got[v[1]] ~= v[2] then wrong[#wrong + 1] = ("CONFIG_%s=%s"):format(v[1], v[2]) end
  end
  if #wrong == 0 then return true end
  return nil, err.new("EUNSUPPORTED", "this kernel source cannot be configured: it does not keep "
    .. table.concat(wrong, ", "), { reason = "kernel-config" })
end

-- What the result depends on.
local function build_id()
  local version, e = deb.version(M.PACKAGE)
  if not version then return nil, e end
  for _, tool in ipairs { "gcc", "make" } do
    if not proc.which(tool) then
      return nil, err.new("EMISSING", tool .. " is not here: a kernel cannot be built",
        { hint = "apt-get install gcc make" })
    end
  end
  local compiler, run_err = deb.run { "gcc", "--version" }
  if not compiler then return nil, run_err end
  return text.hex(crypto.sha384(table.concat({ version, compiler:match("[^\n]*"), M.fragment() }, "\n")))
end

-- Tools that are not here, unpacked into `dir` → environment and arguments for make
local function tools(dir, say)
  local missing = {}
  for _, tool in ipairs(TOOLS) do
    local here = tool.program and proc.which(tool.program) or tool.header and fs.exists("/usr/include/" .. tool.header)
    if not here then for _, name in ipairs(tool.packages) do missing[#missing + 1] = name end end
  end
  local libelf = deb.libelf()
  if libelf then missing[#missing + 1] = libelf end
  if #missing == 0 then return {}, {} end
  say.note("downloading " .. table.concat(missing, ", "))
  local root, e = deb.unpack(dir, missing)
  if not root then return nil, e end
  -- The development package's link points at a library that another package has installed.
  local ok, link_err = deb.shell(root, '[ ! -h "$1" ] || [ -e "$1" ] || ln -sf /usr/lib/*/libelf.so.1 "$1"', LIBELF)
  if not ok then return nil, link_err end
  local bin = fs.join(root, "usr/bin")
  local env = { PATH = bin .. ":" .. (sys.getenv("PATH") or "/usr/bin:/bin") }
  if libelf then env.LD_LIBRARY_PATH = deb.library_path(root) end
  if fs.exists(fs.join(bin, "m4")) then env.M4 = fs.join(bin, "m4") end
  if fs.exists(fs.join(bin, "bison")) then env.BISON_PKGDATADIR = fs.join(root, "usr/share/bison") end
  return env, { "HOSTCFLAGS=-I" .. fs.join(root, "usr/include"),
    "HOSTLDFLAGS=-L" .. fs.join(root, fs.dirname(LIBELF)) }
end

local function make(source, target, o)
  local argv = { "make", "-s", "-j" .. o.jobs, "-C", source }
  for _, word in ipairs(o.arguments) do argv[#argv + 1] = word end
  for _, word in ipairs(NOT_USED) do argv[#argv + 1] = word end
  argv[#argv + 1] = target
  local env = deb.clean_env(o.env)
  env.KBUILD_BUILD_TIMESTAMP, env.KBUILD_BUILD_VERSION = "1970-01-01T00:00:00Z", "1"
  env.KBUILD_BUILD_USER, env.KBUILD_BUILD_HOST, env.KCONFIG_ALLCONFIG = "ev-cage", "ev-cage", o.fragment
  local r, e = proc.run(argv, { env = env, timeout = o.seconds })
  if not r then return nil, e end
  if r.code == 0 then return true end
  return nil, err.new("EINTERNAL", ("make %s failed: %s"):format(target, text.trim(r.stderr):sub(-TAIL)))
end

local function unpack_source(dir, say)
  say.note("downloading " .. M.PACKAGE)
  local root, e = deb.unpack(dir, { M.PACKAGE })
  if not root then return nil, e end
  say.note("unpacking it")
  local ok, tar_err = deb.shell(root, "tar -xf usr/src/linux-source-*.tar.* --no-same-owner\n"
    .. "rm -rf usr\nmv linux-source-* source")
  if not ok then return nil, tar_err end
  return fs.join(root, "source")
end

local function configure(source, o)
  o.fragment = fs.join(source, "ev-cage.fragment")
  local ok, e = fs.write(o.fragment, M.fragment(), { mode = 420 })
  if not ok then return nil, e end
  o.seconds = CONFIG_S
  ok, e = make(source, "allnoconfig", o)
  if not ok then return nil, e end
  local config, read_err = fs.read(fs.join(source, ".config"), { max = kernel_config.MAX_BYTES })
  if not config then return nil, read_err end
  ok, e = M.check_options(config)
  if not ok then return nil, e end
  return config
end

-- → bytes of the kernel, its configuration | nil, err
local function compile(say, jobs)
  local scratch <close>, e = deb.scratch()
  if not scratch then return nil, e end
  local source, source_err = unpack_source(scratch.path, say)
  if not source then return nil, source_err end
  local extra = fs.join(scratch.path, "tools")
  local ok, dir_err = fs.mkdir_p(extra, 493)
  if not ok then return nil, dir_err end
  local env, arguments = tools(extra, say)
  if not env then return nil, arguments end
  local o = { env = env, arguments = arguments, jobs = jobs }
  local config, config_err = configure(source, o)
  if not config then return nil, config_err end
  say.note(("compiling with %d at once: minutes"):format(jobs))
  o.seconds = BUILD_S
  ok, e = make(source, "bzImage", o)
  if not ok then return nil, e end
  local image, read_err = fs.read(fs.join(source, "arch/x86/boot/bzImage"), { max = kernel_fetch.KERNEL_BYTES })
  if not image then return nil, read_err end
  return image, config
end

-- One that was built from the same → its release | nil
local function built(root, id)
  for _, name in ipairs(fs.list(root) or {}) do
    if fs.read(fs.join(root, name, "build.id"), { max = 256 }) == id .. "\n" then return name end
  end
end

-- Builds into <root>/<release> → release, "cache" or "built" | nil, err
---@param release_of fun(path: string): string|nil
function M.build(root, say, o, release_of)
  local id, e = build_id()
  if not id then return nil, e end
  local have = built(root, id)
  if have and not o.force then return have, "cache" end
  local image, config = compile(say, o.jobs)
  if not image then return nil, config:wrap("building a kernel") end
  local name, place_err = kernel_fetch.place(root, function(dir)
    local ok, write_err = fs.write(fs.join(dir, "vmlinuz"), image, { mode = 420 })
    if ok then ok, write_err = fs.write(fs.join(dir, "config"), config, { mode = 420 }) end
    if ok then ok, write_err = fs.write(fs.join(dir, "build.id"), id .. "\n", { mode = 420 }) end
    if ok then ok, write_err = kernel_fetch.write_modules(dir, {}) end
    if not ok then return nil, write_err end
    return release_of(fs.join(dir, "vmlinuz"))
  end)
  return name, name and "built" or place_err
end

return M
