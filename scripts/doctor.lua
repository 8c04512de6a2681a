-- doctor: what this machine can do for cages, what is missing, and what to do about it.
local build = require "ev.build"
local builder = require "ev.builder"
local fs = require "ev.fs"
local identity = require "ev.identity"
local json = require "ev.json"
local kernel = require "ev.kernel"
local proc = require "ev.proc"
local qemu = require "ev.qemu"
local sys = require "ev.sys"

local LIB_DIRS = { "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/usr/local/lib" }

-- Opened at run time, each by its door (DESIGN §10).
local LIBRARIES = {
  { "libarchive.so.13", "reads container images", "libarchive13", true },
  { "libcurl.so.4", "HTTP client", "libcurl4", false },
  { "libedit.so.2", "line editing of the prompt", "libedit2", false },
}

local checks = {}

function checks.builder()
  local working, states = nil, {}
  for _, name in ipairs(builder.ORDER) do
    local ok, why = builder.works(name)
    if ok and not working then working = name end
    states[#states + 1] = name .. (ok and " works" or ": " .. why)
  end
  return working and "ok" or "missing", table.concat(states, "; "),
    not working and builder.advice() or nil
end

function checks.kernel()
  local k = kernel.find()
  if k then
    local modules = kernel.modules(k)
    return "ok", ("%s%s (%s)"):format(k.version, modules and #modules > 0 and ", " .. #modules .. " modules" or "",
      k.path)
  end
  if proc.which("apt-get") and proc.which("dpkg-deb") then
    return "ok", "none yet; `build` fetches " .. kernel.PACKAGE
  end
  return "missing", "none, and no apt to fetch one", "ev-cage build --kernel FILE"
end

function checks.runtime()
  local path, e = build.runtime_path()
  if path then return "ok", path end
  return "missing", e.message, e.hint
end

function checks.namespaces()
  if not proc.which("unshare") then
    return "missing", "unshare is not here, cannot tell", "apt-get install util-linux"
  end
  local r, e = proc.run({ "unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts",
    "--fork", "true" }, { timeout = 10 })
  if r and r.code == 0 then return "ok", "user, mount, pid, net, ipc, uts" end
  local why = r and r.stderr:match("[^\n]+") or e and e.message
  return "missing", why or "refused",
    "the simulator needs them: sysctl kernel.unprivileged_userns_clone=1, or run as root"
end

function checks.newuidmap()
  if sys.uid() == 0 then return "ok", "not needed by root" end
  if not proc.which("newuidmap") then
    return "info", "not installed: the simulator maps one user only", "apt-get install uidmap"
  end
  local user = sys.getenv "USER" or sys.getenv "LOGNAME" or tostring(sys.uid())
  local ranges = "\n" .. (fs.read("/etc/subuid", { max = 1 << 20 }) or "")
  if ranges:find("\n" .. user .. ":", 1, true) or ranges:find("\n" .. sys.uid() .. ":", 1, true) then
    return "ok", proc.which("newuidmap")
  end
  return "info", ("/etc/subuid has no range for %s: rootless builds and the simulator map one user only"):format(user),
    "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " .. user
end

local function find_library(name)
  for _, dir in ipairs(LIB_DIRS) do
    if fs.exists(fs.join(dir, name)) then return fs.join(dir, name) end
  end
end

function checks.libraries()
  local missing, needed, packages = {}, false, {}
  for _, lib in ipairs(LIBRARIES) do
    if not find_library(lib[1]) then
      missing[#missing + 1] = ("%s (%s)"):format(lib[1], lib[2])
      packages[#packages + 1] = lib[3]
      needed = needed or lib[4]
    end
  end
  if #missing == 0 then return "ok", "libarchive, libcurl, libedit" end
  return needed and "missing" or "info", table.concat(missing, ", "), "apt-get install " .. table.concat(packages, " ")
end

function checks.qemu()
  local found, e = qemu.find()
  if found then return "ok", ("%s (%s)"):format(found.version, found.path) end
  return "info", e.message, "ev-cage doctor --fix, for dev --launcher qemu"
end

function checks.vsock()
  if fs.exists("/dev/vsock") then return "ok", "/dev/vsock" end
  return "info", "no /dev/vsock: enclaves run in the simulator here"
end

function checks.nitro()
  if fs.exists("/dev/nitro_enclaves") then return "ok", "/dev/nitro_enclaves: an EC2 parent instance" end
  if fs.exists("/dev/nsm") then return "ok", "/dev/nsm: inside an enclave" end
  return "info", "no /dev/nsm, no /dev/nitro_enclaves: not Nitro hardware"
end

-- The folder is the user's alone, and so is every key in it.
function checks.state()
  local dir, e = identity.state_dir()
  if not dir then return "missing", e.message, e.hint end
  local st = fs.stat(dir)
  if st.uid ~= sys.uid() or st.mode & 63 ~= 0 then
    return "missing", ("%s is open to others (mode %o)"):format(dir, st.mode & 511), "chmod 700 " .. dir
  end
  for _, name in ipairs { "identity.json", "nsm-root.key", "ca.key" } do
    local file = fs.join(dir, "dev", name)
    local key = fs.stat(file)
    if key and key.mode & 63 ~= 0 then return "missing", file .. " is open to others", "chmod 600 " .. file end
  end
  return "ok", dir
end

local ORDER = {
  { "builder", "container builder" }, { "kernel", "kernel for images" }, { "runtime", "runtime ramdisk" },
  { "namespaces", "namespaces" }, { "newuidmap", "newuidmap" }, { "libraries", "libraries" },
  { "qemu", "QEMU" }, { "vsock", "vsock" }, { "nitro", "Nitro" }, { "state", "state folder" },
}
local COLOUR = { ok = "green", info = "dim", missing = "red" }

-- What can be had without touching the system.
local function fix(ctx)
  if qemu.find() then return true end
  local found, e = qemu.fetch(ctx.ui.note)
  if not found then return nil, e end
  ctx.ui.note(("QEMU %s works (%s)"):format(found.version, found.path))
  return true
end

return function(ctx)
  if ctx.opts.fix then
    local ok, e = fix(ctx)
    if not ok then return nil, e end
  end
  local list, rows, good = {}, {}, true
  for i, entry in ipairs(ORDER) do
    local status, detail, hint = checks[entry[1]]()
    good = good and status ~= "missing"
    list[i] = { name = entry[1], status = status, detail = detail, hint = hint }
    rows[#rows + 1] = { ctx.ui.colour(COLOUR[status], ("%-7s"):format(status)), entry[2], detail }
    if hint then rows[#rows + 1] = { "       ", "", "try: " .. hint } end
  end
  if ctx.json then ctx.out { ok = good, checks = json.array(list), version = sys.version }
  else ctx.ui.table(rows) end
  return good and 0 or 69
end
