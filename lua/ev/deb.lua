-- deb.lua — packages of the distribution, downloaded by the machine's own client and unpacked into folders of
-- ours. Nothing is installed and no source is added.
local err = require "ev.err"
local fs = require "ev.fs"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {}

local DOWNLOAD_S, UNPACK_S = 600, 300
local HINT = "check the network and apt's sources (apt-get update)"

-- Runs a program → its output | nil, err (EMISSING)
---@param o? table of proc.run
function M.run(argv, o)
  o = o or {}
  o.timeout = o.timeout or 60
  local r, e = proc.run(argv, o)
  if not r then
    if e.code == "EMISSING" then
      e = err.new("EMISSING", argv[1] .. " is not here: this comes from a Debian package", { hint = o.hint })
    end
    return nil, e
  end
  if r.code ~= 0 then
    return nil, err.new("EMISSING", ("%s failed: %s"):format(argv[1], text.trim(r.stderr or "")),
      { hint = o.hint or HINT })
  end
  return r.stdout
end

-- A script of the shell with "$1", "$2", … in a folder.
function M.shell(dir, script, ...)
  return M.run({ "/bin/sh", "-ec", script, "sh", ... }, { cwd = dir, timeout = UNPACK_S })
end

-- A folder that goes away with its variable, where apt may write too: it downloads as its own user.
function M.scratch()
  local scratch, e = fs.scratch()
  if scratch and sys.uid() == 0 then fs.chmod(scratch.path, 493) end
  return scratch, e
end

-- A package's dependencies that match, in apt's order.
function M.depends(package, pattern)
  local out, e = M.run { "apt-cache", "depends", "--no-recommends", "--no-suggests", package }
  if not out then return nil, e end
  local list = {}
  for name in out:gmatch("Depends: (" .. pattern .. ")%f[\n\0]") do list[#list + 1] = name end
  return list
end

-- The version that apt would install
function M.version(package)
  local out, e = M.run { "apt-cache", "show", "--no-all-versions", package }
  if not out then return nil, e end
  local version = out:match("\nVersion: ([^\n]+)")
  if version then return version end
  return nil, err.new("EMISSING", package .. " is not among apt's packages", { hint = HINT })
end

-- Downloads into `dir` → names of the files there
function M.download(dir, packages)
  local argv = { "apt-get", "download", "-qq" }
  for _, name in ipairs(packages) do argv[#argv + 1] = name end
  local out, e = M.run(argv, { cwd = dir, timeout = DOWNLOAD_S })
  if not out then return nil, e end
  local found = {}
  for _, name in ipairs(fs.list(dir)) do if name:match("%.deb$") then found[#found + 1] = "./" .. name end end
  if #found == #packages then return found end
  return nil, err.new("EMISSING", "apt-get download brought no package", { hint = HINT })
end

-- Downloads packages and unpacks them into <dir>/root → that folder
function M.unpack(dir, packages)
  local debs, e = M.download(dir, packages)
  if not debs then return nil, e end
  local ok, unpack_err = M.shell(dir, 'for p in "$@"; do dpkg-deb -x "$p" root && rm -f "$p"; done', table.unpack(debs))
  if not ok then return nil, unpack_err end
  return fs.join(dir, "root")
end

-- The kernel's build tools are linked with libelf. → name of its package where that is not here | nil
function M.libelf()
  for _, dir in ipairs { "/usr/lib", "/lib" } do
    for _, name in ipairs(fs.list(dir) or {}) do
      if name:match("%-linux%-gnu$") and fs.is_file(fs.join(dir, name, "libelf.so.1")) then return nil end
    end
  end
  local list = M.depends("libelf-dev", "libelf1%w*")
  return list and list[1]
end

-- Where a library of a folder of unpacked packages is found when something of it runs.
function M.library_path(root)
  for _, name in ipairs(fs.list(fs.join(root, "usr/lib")) or {}) do
    if name:match("%-linux%-gnu$") then return fs.join(root, "usr/lib", name) end
  end
end

-- For compiling: nothing of the caller's make or compiler settings, which would change the bytes.
---@param more? table<string, string>
function M.clean_env(more)
  local env = { LC_ALL = "C", SOURCE_DATE_EPOCH = "0" }
  for name in pairs(sys.environ()) do
    if name ~= "PATH" and name ~= "HOME" and name ~= "TMPDIR" and not env[name] then env[name] = false end
  end
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

return M
