-- kernel.lua — which kernel goes into an image: a named one, AWS's where it is new enough, else the
-- distribution's 6.12 cloud kernel, unpacked from its package into the cache. Nothing is installed.
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local identity = require "ev.identity"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {
  PACKAGE = "linux-image-6.12-cloud-amd64",
  BLOBS = "/usr/share/nitro_enclaves/blobs",
  -- NSM driver, zstd, openat2, cgroup v2 (DESIGN §5)
  MIN_MAJOR = 6, MIN_MINOR = 8,
  MAX_BYTES = 256 << 20,
}

-- The release in a bzImage's header ("6.12.117+deb12-cloud-amd64") | nil
function M.version(path)
  local image = fs.read(path, { max = M.MAX_BYTES })
  if not image or #image < 0x300 or image:sub(0x203, 0x206) ~= "HdrS" then return nil end
  local at = string.unpack("<I2", image, 0x20f)
  if at == 0 then return nil end
  return image:sub(at + 0x201, at + 0x300):match("^([%w%.%-+~_]+)")
end

local function new_enough(version)
  local major, minor = version:match("^(%d+)%.(%d+)")
  major, minor = tonumber(major), tonumber(minor)
  return major and (major > M.MIN_MAJOR or (major == M.MIN_MAJOR and minor >= M.MIN_MINOR))
end

-- Newer versions last.
local function by_version(a, b)
  local function padded(v) return (v:gsub("%d+", function(d) return ("%08d"):format(tonumber(d)) end)) end
  return padded(a.version) < padded(b.version)
end

local function cached()
  local list, dir = {}, identity.cache_dir()
  local root = dir and fs.join(dir, "kernel")
  for _, name in ipairs(root and fs.list(root) or {}) do
    local path = fs.join(root, name, "vmlinuz")
    if fs.exists(path) then list[#list + 1] = { path = path, version = name, source = "cache" } end
  end
  table.sort(list, by_version)
  return list
end

local function aws()
  local path = fs.join(sys.getenv("NITRO_CLI_BLOBS") or M.BLOBS, "bzImage")
  if not fs.exists(path) then return nil end
  local version = M.version(path)
  return version and { path = path, version = version, source = "aws", usable = new_enough(version) }
end

-- Everything found here, best last.
function M.list()
  local list = cached()
  for _, k in ipairs(list) do k.usable = new_enough(k.version) and true or false end
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

-- A kernel that is here → {path, version, source} | nil, err (EMISSING)
---@param pinned? string SHA-384 that is preferred to the newest
function M.find(path, say, pinned)
  if path then return named(path, say) end
  local blob, list = aws(), cached()
  local same = pinned_one(blob and { blob } or {}, pinned) or pinned_one(list, pinned)
  if same then return same end
  if blob and blob.usable then return blob end
  if #list > 0 then return list[#list] end
  return nil, err.new("EMISSING", "there is no kernel for the image yet",
    { hint = "ev-cage kernel fetch, or --kernel FILE" })
end

-- --- fetching -------------------------------------------------------------------------------------

local function run(argv, options)
  options = options or {}
  options.timeout = options.timeout or 60
  local r, e = proc.run(argv, options)
  if not r then
    if e.code == "EMISSING" then
      e = err.new("EMISSING", argv[1] .. " is not here: kernels are fetched from a Debian package",
        { hint = "name one with --kernel FILE" })
    end
    return nil, e
  end
  if r.code ~= 0 then
    return nil, err.new("EMISSING", ("%s failed: %s"):format(argv[1], text.trim(r.stderr or "")),
      { hint = "check the network and apt's sources (apt-get update), or name one with --kernel FILE" })
  end
  return r.stdout
end

-- The meta package's dependency: "linux-image-6.12.117+deb12-cloud-amd64"
local function resolve()
  local out, e = run { "apt-cache", "depends", "--no-recommends", "--no-suggests", M.PACKAGE }
  if not out then return nil, e end
  local package = out:match("Depends: (linux%-image%-[%w%.+~%-]+)")
  if package then return package end
  return nil, err.new("EMISSING", M.PACKAGE .. " is not among apt's packages",
    { hint = "apt-get update (Debian 12 with its security suite), or name one with --kernel FILE" })
end

local function unpack_package(dir, package, say)
  say("downloading " .. package)
  local out, e = run({ "apt-get", "download", "-qq", package }, { cwd = dir, timeout = 600 })
  if not out then return nil, e end
  local deb
  for _, name in ipairs(fs.list(dir)) do if name:match("%.deb$") then deb = name end end
  if not deb then return nil, err.new("EMISSING", "apt-get download brought no package") end
  say("unpacking its kernel")
  local release = package:gsub("^linux%-image%-", "")
  local script = 'dpkg-deb --fsys-tarfile "$1" | tar -x -O "./boot/vmlinuz-$2" > vmlinuz'
  out, e = run({ "/bin/sh", "-c", script, "sh", "./" .. deb, release }, { cwd = dir, timeout = 120 })
  if not out then return nil, e end
  local version = M.version(fs.join(dir, "vmlinuz"))
  if not version then return nil, err.new("EPARSE", package .. " holds no bzImage") end
  return version
end

-- Fetches the distribution's kernel → {path, version, source} | nil, err. `say` hears each step.
function M.fetch(say, force)
  local package, e = resolve()
  if not package then return nil, e end
  local release = package:gsub("^linux%-image%-", "")
  local cache, cache_err = identity.cache_dir()
  if not cache then return nil, cache_err end
  local root = fs.join(cache, "kernel")
  local target = fs.join(root, release)
  if fs.exists(fs.join(target, "vmlinuz")) and not force then
    return { path = fs.join(target, "vmlinuz"), version = release, source = "cache" }
  end
  local ok, dir_err = fs.mkdir_p(root, 448)
  if not ok then return nil, dir_err end
  local scratch <close> = fs.scratch()
  if sys.uid() == 0 then fs.chmod(scratch.path, 493) end            -- apt downloads as its own user
  local version, unpack_err = unpack_package(scratch.path, package, say)
  if not version then return nil, unpack_err:wrap("fetching a kernel") end
  ok, e = fs.mkdir_p(target, 448)
  local image = ok and fs.read(fs.join(scratch.path, "vmlinuz"), { max = M.MAX_BYTES })
  if ok and image then ok, e = fs.write(fs.join(target, "vmlinuz"), image, { mode = 420 }) end
  if not ok then return nil, e end
  return { path = fs.join(target, "vmlinuz"), version = version, source = "package" }
end

-- What `build` uses: found, else fetched.
function M.get(path, say, pinned)
  local kernel, e = M.find(path, say, pinned)
  if kernel or path then return kernel, e end
  return M.fetch(say)
end

return M
