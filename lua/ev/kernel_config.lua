-- kernel_config.lua — what an enclave needs of its kernel, told from the kernel's version and, where there is
-- one, from the configuration it was built with. Pure: text in, error objects out.
local err = require "ev.err"

local M = {
  -- NSM driver, zstd, openat2, cgroup v2 (DESIGN §5)
  MIN_MAJOR = 6, MIN_MINOR = 8, MAX_BYTES = 4 << 20,
}

-- Built in, or there is no boot.
M.BUILT_IN = {
  "64BIT", "PRINTK", "MULTIUSER", "FUTEX", "EPOLL", "SIGNALFD", "TIMERFD", "EVENTFD", "POSIX_TIMERS", "SHMEM",
  "FILE_LOCKING", "BLK_DEV_INITRD", "BINFMT_ELF", "BINFMT_SCRIPT", "DEVTMPFS", "TMPFS", "TMPFS_XATTR", "PROC_FS",
  "PROC_SYSCTL", "SYSFS", "NET", "UNIX", "INET", "CGROUPS", "CGROUP_PIDS", "MEMCG", "NAMESPACES", "USER_NS",
  "PID_NS", "NET_NS", "UTS_NS", "IPC_NS", "SECCOMP", "SECCOMP_FILTER", "SERIAL_8250_CONSOLE",
}
-- Built in, or brought by ramdisk 1.
M.DRIVERS = { "NSM", "VIRTIO_MMIO", "VSOCKETS", "VIRTIO_VSOCKETS" }
M.CMDLINE_DEVICES = "VIRTIO_MMIO_CMDLINE_DEVICES"

-- "CONFIG_NSM=m" … → { NSM = "m", … }
function M.parse(source)
  local options = {}
  for name, value in source:gmatch("CONFIG_([%w_]+)=([^\n]*)") do options[name] = value end
  return options
end

function M.new_enough(version)
  local major, minor = version:match("^(%d+)%.(%d+)")
  major, minor = tonumber(major), tonumber(minor)
  return major ~= nil and (major > M.MIN_MAJOR or (major == M.MIN_MAJOR and minor >= M.MIN_MINOR))
end

local function refuse(message, reason)
  return nil, err.new("EUNSUPPORTED", message, { exit = 65, reason = reason,
    hint = "ev-cage kernel fetch, and build with that one" })
end

function M.check_version(name, version)
  if M.new_enough(version) then return true end
  return refuse(("kernel %s is Linux %s; an enclave's needs %d.%d or newer (CONFIG_NSM)"):format(name, version,
    M.MIN_MAJOR, M.MIN_MINOR), "kernel-version")
end

-- Which of the drivers come as modules, by option.
function M.wanted_modules(options)
  local list = {}
  for _, name in ipairs(M.DRIVERS) do
    if options[name] == "m" then list[#list + 1] = name end
  end
  return list
end

-- Options that no ramdisk can make up for. Modules may add the devices of the command line.
function M.check(name, options)
  local missing = {}
  for _, option in ipairs(M.BUILT_IN) do
    if options[option] ~= "y" then missing[#missing + 1] = "CONFIG_" .. option .. "=y" end
  end
  for _, option in ipairs(M.DRIVERS) do
    if not options[option] then missing[#missing + 1] = "CONFIG_" .. option end
  end
  if not options[M.CMDLINE_DEVICES] and options.MODULES ~= "y" then
    missing[#missing + 1] = "CONFIG_" .. M.CMDLINE_DEVICES .. "=y"
  end
  if #missing == 0 then return true end
  return refuse(("kernel %s is built without what an enclave needs: %s"):format(name, table.concat(missing, ", ")),
    "kernel-config")
end

return M
