-- proc.lua — running programs. Each gets a session of its own and standard input from a string or
-- from nowhere; cancelling the task ends its whole process group.
local c = require "ev.c.proc"
local err = require "ev.err"
local fs = require "ev.fs"
local sys = require "ev.sys"
local task = require "ev.task"

local M = {}

local CAPTURE_MAX, LINE_MAX, END_S = 16 * 1024 * 1024, 1024 * 1024, 2
local SIGKILL = 9

-- Our environment with changes: { NAME = "value", GONE = false }.
local function environment(changes)
  if not changes then return nil end
  local all, list = sys.environ(), {}
  for name, value in pairs(changes) do all[name] = value or nil end
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. value end
  table.sort(list)
  return list
end

-- Whole lines to `fn`; what comes after the last newline at the end.
local function line_sink(fn)
  local held, size = {}, 0            -- pieces of the line that has no newline yet
  local sink = {}
  local function give(last)
    held[#held + 1] = last
    fn((table.concat(held):gsub("\r$", "")))
    held, size = {}, 0
  end
  function sink.take(data)
    local from = 1
    while true do
      local newline = data:find("\n", from, true)
      if not newline then break end
      give(data:sub(from, newline - 1))
      from = newline + 1
    end
    held[#held + 1], size = data:sub(from), size + #data - from + 1
    if size > LINE_MAX then give("") end
    return true
  end
  function sink.finish()
    if size > 0 then give("") end
  end
  return sink
end

local function capture_sink(max, what)
  local parts, size, sink = {}, 0, {}
  function sink.take(data)
    size = size + #data
    if size > max then return err.fail("ELIMIT", ("more than %d bytes on %s"):format(max, what)) end
    parts[#parts + 1] = data
    return true
  end
  function sink.finish() return table.concat(parts) end
  return sink
end

-- What the option says → how C opens it and who takes the bytes.
local function sink_for(option, max, what)
  if option == nil or option == "capture" then return "pipe", capture_sink(max, what) end
  if type(option) == "function" then return "pipe", line_sink(option) end
  assert(option == "inherit" or option == "null" or option == "stdout",
    "capture, inherit, null, stdout or a function expected")
  return option, { take = function() return true end, finish = function() end }
end

-- Gives the group a moment after TERM, then KILL; returns when it has been collected.
local function stop(child)
  child:kill()
  local deadline = task.now() + END_S
  while true do
    local kind, e = child:next(math.max(deadline - task.now(), 0.01))
    if kind == "exit" then return end
    if not kind and e.code ~= "ETIMEDOUT" then return end
    if task.now() >= deadline then
      child:kill(SIGKILL)
      deadline = math.huge
    end
  end
end

local function pump(child, sinks, deadline)
  while true do
    local kind, a, b = child:next(deadline and math.max(deadline - task.now(), 0))
    if kind == "exit" then return a, b end
    if not kind then return nil, a end
    local ok, e = sinks[kind].take(a)
    if not ok then return nil, e end
  end
end

--- Runs a program to its end.
---@param argv string[] argv[1] is searched in PATH
---@param opts? table cwd, env, stdin, stdout, stderr, timeout (s), max (bytes of each capture)
---@return table|nil result { code, signal, stdout, stderr }; signal is nil for an ordinary end
---@return table|nil err EMISSING: no such program; ETIMEDOUT; ELIMIT
function M.run(argv, opts)
  opts = opts or {}
  local max = opts.max or CAPTURE_MAX
  local out_kind, out = sink_for(opts.stdout, max, "standard output")
  local err_kind, errs = sink_for(opts.stderr, max, "standard error")
  local child <close>, e = c.start { argv = argv, env = environment(opts.env), cwd = opts.cwd, stdin = opts.stdin,
    stdout = out_kind, stderr = err_kind }
  if not child then return nil, e end
  local code, signal = pump(child, { stdout = out, stderr = errs }, opts.timeout and task.now() + opts.timeout)
  if not code then
    stop(child)
    if signal.code ~= "ETIMEDOUT" then return nil, signal:wrap(argv[1]) end
    return err.fail("ETIMEDOUT", ("%s did not end within %g s"):format(argv[1], opts.timeout))
  end
  return { code = code, signal = signal ~= 0 and signal or nil, stdout = out.finish(), stderr = errs.finish() }
end

--- Where PATH finds a program, or nil.
function M.which(name)
  if name:find("/", 1, true) then return fs.is_file(name) and fs.access(name, "x") and name or nil end
  for dir in ((sys.getenv("PATH") or "/usr/local/bin:/usr/bin:/bin") .. ":"):gmatch("([^:]*):") do
    local path = fs.join(dir == "" and "." or dir, name)
    if fs.is_file(path) and fs.access(path, "x") then return path end
  end
  return nil
end

return M
