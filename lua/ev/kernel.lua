-- kernel.lua — which kernel goes into an image, and the modules that go with it: a named one, the one that
-- an earlier build was pinned to, the preferred one (`kernel use`), AWS's where it is new enough, else the
-- distribution's cloud kernel from the cache (kernel_fetch.lua).
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local identity = require "ev.identity"
local kernel_config = require "ev.kernel_config"
local kernel_fetch = require "ev.kernel_fetch"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {
  PACKAGE = kernel_fetch.PACKAGE,
  BLOBS = "/usr/share/nitro_enclaves/blobs",
  MAX_BYTES = 256 << 20,
}

local LIST_BYTES = 65536

-- The release in a bzImage's header ("6.12.117+deb12-cloud-amd64") | nil
function M.version(path)
  local image = fs.read(path, { max = M.MAX_BYTES })
  if not image or #image < 0x300 or image:sub(0x203, 0x206) ~= "HdrS" then return nil end
  local at = string.unpack("<I2", image, 0x20f)
  if at == 0 then return nil end
  return image:sub(at + 0x201, at + 0x300):match("^([%w%.%-+~_]+)")
end

-- --- one kernel -----------------------------------------------------------------------------------------

-- Where the configuration of a kernel lies, by the three customs there are.
local function config_path(path)
  local dir, name = fs.dirname(path), fs.basename(path)
  for _, candidate in ipairs { name == "vmlinuz" and "config" or "", name .. ".config",
    (name:gsub("^vmlinuz%-", "config-")) } do
    local file = fs.join(dir, candidate)
    if candidate ~= "" and candidate ~= name and fs.is_file(file) then return file end
  end
end

-- The options it was built with | nil where nobody says
function M.options(k)
  local path = config_path(k.path)
  local source = path and fs.read(path, { max = kernel_config.MAX_BYTES })
  return source and kernel_config.parse(source) or nil
end

-- Its modules in load order → list of {name, path} | nil: nobody has said which | nil, err: damaged
function M.modules(k)
  local dir = fs.dirname(k.path)
  local source = fs.basename(k.path) == "vmlinuz" and fs.read(fs.join(dir, "modules.list"), { max = LIST_BYTES })
  if not source then return nil end
  local list = {}
  for name, digest in source:gmatch("(%d%d%-[%w_%-]+%.ko) (%x+)\n") do
    local path = fs.join(dir, "modules", name)
    local got = crypto.sha384_file(path)
    if not got or text.hex(got) ~= digest then
      return nil, err.new("EVERIFY", ("kernel %s: %s is damaged"):format(k.version, path),
        { exit = 65, hint = "ev-cage kernel fetch --force" })
    end
    list[#list + 1] = { name = name, path = path }
  end
  if #list > kernel_fetch.MAX_MODULES then return nil, err.new("ELIMIT", "too many modules") end
  return list
end

-- A folder of the cache whose drivers are modules that are not there: fetched by an older release, or
-- without a compiler.
local function is_whole(k)
  if k.source ~= "cache" then return true end
  if fs.exists(fs.join(fs.dirname(k.path), "modules.list")) then return true end
  local options = M.options(k)
  return options ~= nil and #kernel_config.wanted_modules(options) == 0
    and options[kernel_config.CMDLINE_DEVICES] ~= nil
end

-- Fit for an enclave, as far as it can be told → modules | nil, err
---@param warn? fun(line: string)
function M.check(k, warn)
  if k.version ~= "unknown" then
    local ok, e = kernel_config.check_version(k.name or k.path, k.version)
    if not ok then return nil, e end
  end
  local options = M.options(k)
  if options then
    local ok, e = kernel_config.check(k.name or k.path, options)
    if not ok then return nil, e end
  end
  local modules, e = M.modules(k)
  if e then return nil, e end
  local wanted = options and kernel_config.wanted_modules(options) or {}
  if warn and #wanted > 0 and #(modules or {}) == 0 then
    warn(("kernel %s has its drivers (%s) as modules, which are not here: the image runs in the simulator only")
      :format(k.version, table.concat(wanted, ", ")))
  end
  return modules or {}
end

-- --- which one --------------------------------------------------------------------------------------------

-- Newer versions last.
local function by_version(a, b)
  local function padded(v) return (v:gsub("%d+", function(d) return ("%08d"):format(tonumber(d)) end)) end
  return padded(a.version) < padded(b.version)
end

local function root_dir()
  local dir, e = identity.cache_dir()
  if not dir then return nil, e end
  return fs.join(dir, "kernel")
end

local function cached()
  local list, root = {}, root_dir()
  for _, name in ipairs(root and fs.list(root) or {}) do
    local path = fs.join(root, name, "vmlinuz")
    if name:sub(1, 1) ~= "." and fs.exists(path) then
      list[#list + 1] = { path = path, version = name, source = "cache", name = name }
    end
  end
  table.sort(list, by_version)
  return list
end

local function aws()
  local path = fs.join(sys.getenv("NITRO_CLI_BLOBS") or M.BLOBS, "bzImage")
  if not fs.exists(path) then return nil end
  local version = M.version(path)
  return version and { path = path, version = version, source = "aws", usable = kernel_config.new_enough(version) }
end

-- Everything found here, best last.
function M.list()
  local list = cached()
  for _, k in ipairs(list) do k.usable = kernel_config.new_enough(k.version) end
  local blob = aws()
  if blob then list[#list + 1] = blob end
  return list
end

local function named(path, say)
  path = fs.expand(path)
  if not fs.exists(path) then
    return nil, err.new("ENOENT", "kernel: " .. path .. ": there is no such file", { exit = 66 })
  end
  local version = M.version(path)
  if not version and say then say("kernel: " .. path .. " is not a bzImage; it goes into the image as it is") end
  return { path = path, version = version or "unknown", source = "option" }
end

-- Of several kernels the one that an earlier build was pinned to.
local function pinned_one(list, sha384)
  for _, k in ipairs(sha384 and list or {}) do
    local digest = crypto.sha384_file(k.path)
    if digest and text.hex(digest) == sha384:lower() then return k end
  end
end

local function preference()
  local root = root_dir()
  return root and fs.join(root, "preferred")
end

-- The version that `kernel use` named | nil
function M.preferred()
  local path = preference()
  local name = path and fs.read(path, { max = 256 })
  return name and text.trim(name) or nil
end

local function of_version(list, version)
  for _, k in ipairs(list) do if k.version == version then return k end end
end

-- Prefers a version; "auto" forgets the preference → kernel or true | nil, err
function M.use(version)
  local path, e = preference()
  if not path then return nil, e or err.new("EMISSING", "there is no cache folder") end
  if version == "auto" then
    if fs.exists(path) then return fs.remove(path) end
    return true
  end
  local k = of_version(M.list(), version)
  if not k then
    return nil, err.new("ENOENT", "there is no kernel " .. version, { exit = 66, hint = "ev-cage kernel list" })
  end
  local ok, check_err = M.check(k)
  if not ok then return nil, check_err end
  ok, e = fs.write(path, version .. "\n", { mode = 420 })
  if not ok then return nil, e end
  return k
end

-- A kernel that is here → {path, version, source} | nil, err (EMISSING)
---@param pinned? string SHA-384 that is preferred to the newest
function M.find(path, say, pinned)
  if path then return named(path, say) end
  local blob, list = aws(), cached()
  local same = pinned_one(blob and { blob } or {}, pinned) or pinned_one(list, pinned)
  if same then return same end
  local wanted = M.preferred()
  same = wanted and (blob and blob.version == wanted and blob or of_version(list, wanted))
  if same then return same end
  if blob and blob.usable and M.check(blob) then return blob end
  if #list > 0 then return list[#list] end
  return nil, err.new("EMISSING", "there is no kernel for the image yet",
    { hint = "ev-cage kernel fetch, or --kernel FILE" })
end

-- --- fetching -------------------------------------------------------------------------------------------

local function fetch_release(release, say, force)
  local root, e = root_dir()
  if not root then return nil, e end
  local k = { path = fs.join(root, release, "vmlinuz"), version = release, source = "cache", name = release }
  if fs.exists(k.path) and is_whole(k) and not force then return k end
  local ok, fetch_err = kernel_fetch.fetch(root, release, say)
  if not ok then return nil, fetch_err end
  k.source = "package"
  return k
end

-- Fetches the distribution's kernel → {path, version, source} | nil, err. `say` hears each step.
---@param say {note: fun(line: string), warn: fun(line: string)}
function M.fetch(say, force)
  local release, e = kernel_fetch.release()
  if not release then return nil, e end
  return fetch_release(release, say, force)
end

-- Builds a kernel of our own → {path, version, source} | nil, err (kernel_build.lua)
---@param o {force?: boolean, jobs: integer}
function M.build(say, o)
  local root, e = root_dir()
  if not root then return nil, e end
  local release, source = require("ev.kernel_build").build(root, say, o, M.version)
  if not release then return nil, source end
  return { path = fs.join(root, release, "vmlinuz"), version = release, source = source, name = release }
end

-- Modules that a kernel of the cache lacks are fetched where they can be.
local function complete(k, say)
  if is_whole(k) then return k end
  local whole, e = fetch_release(k.version, say)
  if whole then return whole end
  say.warn(("kernel %s has no modules here and none could be fetched (%s): the image runs in the simulator only")
    :format(k.version, e.message))
  return k
end

-- What `build` uses: found, else fetched; fit for an enclave → kernel with `modules` | nil, err
---@param say {note: fun(line: string), warn: fun(line: string)}
function M.get(path, say, pinned)
  local k, e = M.find(path, say.note, pinned)
  if k then k = complete(k, say)
  elseif path then return nil, e
  else k, e = M.fetch(say) end
  if not k then return nil, e end
  local modules, check_err = M.check(k, say.warn)
  if not modules then return nil, check_err end
  k.modules = modules
  return k
end

return M
