-- run.lua — `ev-cage run FILE.lua [ARGS]`: a user's script as a task, with the whole library.
--
-- `arg` and `...` hold its arguments, `require` also finds modules beside the file. Its result is
-- the exit code: an integer itself, nil and true 0, false 1, `nil, err` the error's.
local err = require "ev.err"
local sys = require "ev.sys"
local fs = require "ev.fs"

local SCRIPT_MAX = 16 * 1024 * 1024

local function load_script(path)
  local text, e
  if path == "-" then text = io.read("a") else text, e = fs.read(path, { max = SCRIPT_MAX }) end
  if not text then return nil, e end
  text = text:gsub("^#[^\n]*", "", 1)      -- a script may begin with #!
  local name = path == "-" and "=stdin" or "@" .. path
  local chunk, message = load(text, name, "t")
  if not chunk then return err.fail("EPARSE", message) end
  return chunk
end

return function(ctx)
  local path = ctx.args.file
  local chunk, e = load_script(path)
  if not chunk then return nil, e end
  sys.script_dir(path == "-" and "." or fs.dirname(path))
  local args = { [0] = path, table.unpack(ctx.args.args) }
  rawset(_G, "arg", args)
  return chunk(table.unpack(ctx.args.args))
end
