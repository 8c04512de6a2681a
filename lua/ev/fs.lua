-- fs.lua — files and folders. Failures are nil, err with errno's name as code ("ENOENT").
local c = require "ev.c.fs"
local err = require "ev.err"

local M = {
  append = c.append, stat = c.stat, realpath = c.realpath, readlink = c.readlink, cwd = c.cwd,
  remove = c.remove, rmtree = c.rmtree, tmpdir = c.tmpdir, rename = c.rename, chmod = c.chmod,
  symlink = c.symlink, access = c.access,
}

--- An error of an input: what may not be read leaves like what is not there (EX_NOINPUT), while the same
--- refusal of an output is EX_CANTCREAT.
---@param e table
function M.of_input(e)
  if e.code == "EACCES" or e.code == "EPERM" then e.exit = e.exit or 66 end
  return e
end

--- The whole file. More than `max` bytes (256 MiB) is an error.
---@param path string
---@param opts? { max?: integer }
function M.read(path, opts)
  local data, e = c.read(path, opts and opts.max)
  if not data then return nil, M.of_input(e) end
  return data
end

--- Replaces the file in one step: readers see the old text or the new.
---@param path string
---@param data string
---@param opts? { mode?: integer }
function M.write(path, data, opts) return c.write(path, data, opts and opts.mode) end

--- Something of any type is there (a dangling link too).
function M.exists(path) return c.stat(path, true) ~= nil end

function M.is_dir(path)
  local st = c.stat(path)
  return st ~= nil and st.type == "dir"
end

function M.is_file(path)
  local st = c.stat(path)
  return st ~= nil and st.type == "file"
end

--- Names in a folder, sorted.
function M.list(dir)
  local names, e = c.list(dir)
  if not names then return nil, e end
  table.sort(names)
  return names
end

function M.dirname(path)
  local trimmed = path:gsub("(.)/+$", "%1")
  local dir = trimmed:match("^(.*)/[^/]*$")
  if not dir then return "." end
  return dir == "" and "/" or (dir:gsub("(.)/+$", "%1"))
end

function M.basename(path)
  local trimmed = path:gsub("(.)/+$", "%1")
  return trimmed == "/" and "/" or trimmed:match("([^/]*)$")
end

--- Joins with one slash; an absolute part starts anew; empty parts do not count.
function M.join(...)
  local out = ""
  for i = 1, select("#", ...) do
    local part = select(i, ...)
    if part:sub(1, 1) == "/" or out == "" then
      out = part
    elseif part ~= "" then
      out = out:gsub("/+$", "") .. "/" .. part
    end
  end
  return out
end

--- "~" and "~/x" become the home folder's.
function M.expand(path)
  if path ~= "~" and path:sub(1, 2) ~= "~/" then return path end
  local home = require("ev.sys").getenv("HOME")
  if not home or home == "" then return path end
  return home .. path:sub(2)
end

--- Makes a folder and those above it; one that is there is fine.
---@param path string
---@param mode? integer of the folders that are made
function M.mkdir_p(path, mode)
  local st = c.stat(path)
  if st and st.type == "dir" then return true end
  if st then return err.fail("ENOTDIR", ("make folder %s: something else is there"):format(path)) end
  local parent = M.dirname(path)
  if parent ~= path and parent ~= "." then
    local ok, e = M.mkdir_p(parent, mode)
    if not ok then return nil, e end
  end
  local ok, e = c.mkdir(path, mode)
  if not ok and e.code ~= "EEXIST" then return nil, e end
  return true
end

--- The path of the running ev-cage.
function M.self_exe() return c.readlink("/proc/self/exe") end

--- A new folder that goes away with all its content when the variable does:
--- `local dir <close> = fs.scratch()`, then `dir.path`.
function M.scratch()
  local path, e = c.tmpdir()
  if not path then return nil, e end
  return setmetatable({ path = path }, { __close = function() c.rmtree(path) end })
end

return M
