-- qemu.lua — which QEMU boots an image here: a named one, an installed one, or one that was unpacked into
-- the cache from the distribution's packages. Nothing is ever installed.
local crypto = require "ev.c.crypto"
local deb = require "ev.deb"
local err = require "ev.err"
local fs = require "ev.fs"
local identity = require "ev.identity"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {
  NAME = "qemu-system-x86_64",
  -- the first whose generic vhost-user device can be created (local-enclave.md §4)
  MIN_MAJOR = 11, DEVICE = "vhost-user-test-device",
  -- what is unpacked: of the distribution's suite that has it
  SUITE = "sid", PACKAGES = { "qemu-system-x86", "qemu-system-data", "seabios" },
  KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg",
}

local PROBE_S, UPDATE_S, DOWNLOAD_S, UNPACK_S = 20, 300, 900, 300
local HINT = "ev-cage doctor --fix unpacks one into the cache, or --qemu FILE"

-- --- finding ------------------------------------------------------------------------------------

local function ask(argv, env, ...)
  local all = { table.unpack(argv) }
  for _, word in ipairs { ... } do all[#all + 1] = word end
  local r, e = proc.run(all, { timeout = PROBE_S, env = env })
  if not r then return nil, e.message end
  if r.code ~= 0 then return nil, text.trim(r.stderr):match("[^\n]+") or "it failed" end
  return r.stdout
end

-- Does it run, is it new enough, has it the device → {argv, env, version, source, path} | nil, why
local function probe(path, source, argv, env)
  argv = argv or { path }
  local out, why = ask(argv, env, "-version")
  if not out then return nil, ("%s: %s"):format(path, why) end
  local version = out:match("version (%d[%w%.]*)")
  local major = version and math.tointeger(tonumber(version:match("^%d+")))
  if not major then return nil, path .. ": says no version" end
  if major < M.MIN_MAJOR then
    return nil, ("%s: version %s, and %d or newer is needed"):format(path, version, M.MIN_MAJOR)
  end
  out, why = ask(argv, env, "-device", "help")
  if not out then return nil, ("%s: %s"):format(path, why) end
  if not out:find('"' .. M.DEVICE .. '"', 1, true) then
    return nil, ("%s: version %s without the device %s"):format(path, version, M.DEVICE)
  end
  return { path = path, version = version, source = source, argv = argv, env = env }
end

-- A QEMU in a folder with its libraries, started by their loader.
local function unpacked(root)
  local path, loader = fs.join(root, "usr/bin", M.NAME), nil
  for _, dir in ipairs { "usr/lib64", "lib64", "usr/lib/x86_64-linux-gnu" } do
    local file = fs.join(root, dir, "ld-linux-x86-64.so.2")
    if not loader and fs.is_file(file) then loader = file end
  end
  if not loader or not fs.is_file(path) then return nil, root .. ": holds no QEMU" end
  local lib = fs.join(root, "usr/lib/x86_64-linux-gnu")
  -- Modules of the host's QEMU must not be loaded, and none is needed.
  return probe(path, "cache", { loader, "--library-path", lib .. ":" .. fs.join(root, "lib/x86_64-linux-gnu"), path,
    "-L", fs.join(root, "usr/share/qemu"), "-L", fs.join(root, "usr/share/seabios") },
    { QEMU_MODULE_DIR = fs.join(root, "none") })
end

local function cache_root()
  local dir, e = identity.cache_dir()
  if not dir then return nil, e end
  return fs.join(dir, "qemu", "root")
end

local function named(path)
  path = fs.expand(path)
  local file = path:find("/", 1, true) and fs.realpath(path) or proc.which(path)
  if not file then
    return nil, err.new("ENOENT", "QEMU: " .. path .. ": there is no such file", { exit = 66 })
  end
  local qemu, why
  if fs.is_dir(file) then qemu, why = unpacked(file) else qemu, why = probe(file, "option") end
  if not qemu then return nil, err.new("EMISSING", "QEMU: " .. why) end
  return qemu
end

--- A QEMU that can boot an image.
---@param path? string a program, or a folder with an unpacked one
---@return table|nil qemu {argv, env, version, source, path}
---@return table|nil err EMISSING with what was found instead
function M.find(path)
  if path then return named(path) end
  local found, reasons = proc.which(M.NAME), {}
  if found then
    local qemu, why = probe(found, "installed")
    if qemu then return qemu end
    reasons[#reasons + 1] = why
  end
  local root = cache_root()
  if root and fs.is_dir(root) then
    local qemu, why = unpacked(root)
    if qemu then return qemu end
    reasons[#reasons + 1] = why
  end
  local what = #reasons > 0 and table.concat(reasons, "; ") or M.NAME .. " is not here"
  return nil, err.new("EMISSING", what, { hint = HINT })
end

-- --- fetching -----------------------------------------------------------------------------------

-- Where this machine's apt gets Debian from.
local function mirror()
  local format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
  local out, e = deb.run({ "apt-get", "indextargets", "--format", format, "Created-By: Packages" }, { timeout = 60 })
  if not out then return nil, e end
  for line in out:gmatch("[^\n]+") do
    local uri = line:match("^Debian|Debian|(%S+)$")
    if uri then return uri end
  end
  return nil, err.new("EMISSING", "none of apt's sources is Debian's archive",
    { hint = "apt-get update, install QEMU 11 or newer, or --qemu FILE" })
end

-- An apt of its own below `dir`: own sources, lists and dpkg state; only the machine's proxy and keys.
local function private_apt(dir, uri)
  local keys = fs.is_file(M.KEYRING) and "[signed-by=" .. M.KEYRING .. "] " or ""
  local files = { ["etc/sources.list"] = ("deb %s%s %s main\n"):format(keys, uri, M.SUITE), ["dpkg/status"] = "" }
  for _, name in ipairs { "etc/parts", "lists/partial", "archives/partial", "dpkg" } do
    local ok, e = fs.mkdir_p(fs.join(dir, name), 448)
    if not ok then return nil, e end
  end
  for name, data in pairs(files) do
    local ok, e = fs.write(fs.join(dir, name), data)
    if not ok then return nil, e end
  end
  local apt = { "apt-get", "-q" }
  for name, value in pairs {
    ["Dir::Etc::SourceList"] = fs.join(dir, "etc/sources.list"), ["Dir::Etc::SourceParts"] = fs.join(dir, "etc/parts"),
    ["Dir::Etc::Preferences"] = fs.join(dir, "etc/none"), ["Dir::Etc::PreferencesParts"] = fs.join(dir, "etc/parts"),
    ["Dir::State::Lists"] = fs.join(dir, "lists"), ["Dir::State::status"] = fs.join(dir, "dpkg/status"),
    ["Dir::State::extended_states"] = fs.join(dir, "dpkg/extended_states"), ["Dir::Cache"] = dir,
    ["Dir::Cache::Archives"] = fs.join(dir, "archives"), ["Acquire::Languages"] = "none",
    ["Acquire::Check-Valid-Until"] = "false",                       -- a mirror may be a snapshot
    ["APT::Architecture"] = "amd64", ["APT::Architectures"] = "amd64", ["APT::Install-Recommends"] = "false",
    ["APT::Sandbox::User"] = "", ["Debug::NoLocking"] = "true", ["DPkg::Pre-Install-Pkgs"] = "",
  } do
    apt[#apt + 1] = "-o"
    apt[#apt + 1] = name .. "=" .. value
  end
  return apt
end

local function with(apt, words)
  local all = { table.unpack(apt) }
  for _, word in ipairs(words) do all[#all + 1] = word end
  return all
end

local function unpack_all(dir, root, say)
  local archives = fs.join(dir, "archives")
  local ok, e = fs.mkdir_p(root, 448)
  if not ok then return nil, e end
  local n = 0
  for _, name in ipairs(fs.list(archives) or {}) do
    if name:match("%.deb$") then
      n = n + 1
      ok, e = deb.run({ "dpkg-deb", "-x", fs.join(archives, name), root }, { timeout = UNPACK_S })
      if not ok then return nil, e end
    end
  end
  if n == 0 then return nil, err.new("EMISSING", "apt-get brought no package") end
  say(("unpacked %d packages"):format(n))
  return true
end

local function fetch_into(dir, root, say)
  local uri, e = mirror()
  if not uri then return nil, e end
  local apt, ok
  apt, e = private_apt(dir, uri)
  if not apt then return nil, e end
  say(("reading the package list of %s"):format(M.SUITE))
  ok, e = deb.run(with(apt, { "update" }), { timeout = UPDATE_S })
  if not ok then return nil, e end
  say("downloading " .. M.PACKAGES[1] .. " and the libraries it needs")
  ok, e = deb.run(with(apt, { "install", "-y", "--download-only", table.unpack(M.PACKAGES) }), { timeout = DOWNLOAD_S })
  if not ok then return nil, e end
  return unpack_all(dir, root, say)
end

--- Unpacks the distribution's QEMU into the cache and sees that it runs. `say` hears each step.
---@return table|nil qemu
---@return table|nil err
function M.fetch(say)
  local root, e = cache_root()
  if not root then return nil, e end
  local dir = fs.join(fs.dirname(root), "new-" .. text.hex(crypto.random(6)))
  local made, made_err = fs.mkdir_p(dir, 448)
  if not made then return nil, made_err end
  local _ <close> = setmetatable({}, { __close = function() fs.rmtree(dir) end })
  local ok, fetch_err = fetch_into(dir, fs.join(dir, "root"), say)
  if not ok then return nil, fetch_err:wrap("fetching QEMU") end
  local works, why = unpacked(fs.join(dir, "root"))
  if not works then return nil, err.new("EMISSING", "the QEMU that was fetched does not run: " .. why) end
  if fs.exists(root) then fs.rmtree(root) end
  ok, e = fs.rename(fs.join(dir, "root"), root)
  if not ok then return nil, e end
  works, why = unpacked(root)
  if not works then return nil, err.new("EMISSING", why) end
  return works
end

--- The environment of the process as a list, with the changes it needs.
function M.environ(qemu)
  if not qemu.env then return nil end
  local list, all = {}, sys.environ()
  for name, value in pairs(qemu.env) do all[name] = value end
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. value end
  table.sort(list)
  return list
end

return M
