-- runtime.lua BINARY OUT.cpio — makes ramdisk 1: the binary as /init, its loader and the shared
-- libraries it needs (found by reading ELF, nothing is executed), and the folders that PID 1 mounts on.
-- Same files, same bytes.
local fs = require "ev.fs"
local ramdisk = require "ev.c.ramdisk"

local binary, out = ...
assert(binary and out, "usage: runtime.lua BINARY OUT.cpio")

local LIBRARY_FOLDERS = {
  "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
  "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib",
}
local MAX_ELF = 64 << 20
local PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
local DT_NEEDED, DT_STRTAB = 1, 5

-- Program headers of an ELF64 little-endian file: list of { kind, offset, address, size }.
local function segments(data, path)
  assert(data:sub(1, 6) == "\127ELF\2\1", path .. ": not a 64-bit little-endian ELF file")
  local table_at, entry_size, count = string.unpack("<I8", data, 33), string.unpack("<I2I2", data, 55)
  local list = {}
  for i = 0, count - 1 do
    local kind, _, offset, address, _, size = string.unpack("<I4I4I8I8I8I8", data, table_at + i * entry_size + 1)
    list[#list + 1] = { kind = kind, offset = offset, address = address, size = size }
  end
  return list
end

local function file_offset(list, address)
  for _, s in ipairs(list) do
    if s.kind == PT_LOAD and address >= s.address and address < s.address + s.size then
      return address - s.address + s.offset
    end
  end
end

-- → { "libc.so.6", ... }, interpreter or nil
local function needs(path)
  local data = assert(fs.read(path, { max = MAX_ELF }))
  local list, names, strings, interpreter = segments(data, path), {}, nil, nil
  for _, s in ipairs(list) do
    if s.kind == PT_INTERP then interpreter = string.unpack("z", data, s.offset + 1) end
    if s.kind == PT_DYNAMIC then
      for at = s.offset + 1, s.offset + s.size - 15, 16 do
        local tag, value = string.unpack("<I8I8", data, at)
        if tag == 0 then break end
        if tag == DT_STRTAB then strings = file_offset(list, value) end
        if tag == DT_NEEDED then names[#names + 1] = value end
      end
    end
  end
  for i, name in ipairs(names) do names[i] = string.unpack("z", data, strings + name + 1) end
  return names, interpreter
end

local function find(name)
  for _, folder in ipairs(LIBRARY_FOLDERS) do
    local path = folder .. "/" .. name
    if fs.exists(path) then return path end
  end
  error("runtime ramdisk: no library " .. name .. " on this machine")
end

local entries, seen = {}, {}

local function add_folders(path)
  local folder = ""
  for part in path:gmatch("([^/]+)/") do
    folder = folder == "" and part or folder .. "/" .. part
    if not seen[folder] then
      seen[folder] = true
      entries[#entries + 1] = { name = folder, mode = tonumber("40755", 8) }
    end
  end
end

local function add_file(name, path)
  if seen[name] then return false end
  seen[name] = true
  add_folders(name)
  entries[#entries + 1] = { name = name, mode = tonumber("100755", 8), path = assert(fs.realpath(path)) }
  return true
end

local function add_needs(path)
  local names, interpreter = needs(path)
  if interpreter then add_file(interpreter:sub(2), interpreter) end
  for _, name in ipairs(names) do
    -- The loader is named by some libraries too; it has its place already.
    if not (interpreter or ""):find(name, 1, true) and not name:match("^ld%-linux") then
      local library = find(name)
      if add_file(library:sub(2), library) then add_needs(library) end
    end
  end
end

add_file("init", binary)
add_needs(binary)
for _, folder in ipairs { "dev", "proc", "run", "sys", "tmp" } do add_folders(folder .. "/") end
assert(ramdisk.write(out, entries))
