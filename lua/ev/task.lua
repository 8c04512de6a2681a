-- task.lua — tasks: functions that wait on the event loop while others go on.
--
--     local t <close> = task.spawn(fn, ...)      -- starts at the next turn; leaving the block cancels it
--     local a, b = t:join(5)                     -- its results, or nil, err (ETIMEDOUT, ECANCELLED, ...)
local c = require "ev.c.task"

local M = { spawn = c.spawn, sleep = c.sleep, now = c.now, waitable = c.waitable }

local function join(t, seconds) return t:join(seconds) end

--- Runs fn(...) for at most `seconds`; its results, or nil and an ETIMEDOUT error after it was
--- cancelled and its <close> variables have run. An error it raises is raised here.
function M.timeout(seconds, fn, ...)
  local t <close> = c.spawn(fn, ...)
  local results = table.pack(join(t, seconds))
  if t:status() == "failed" then error(results[2], 0) end
  return table.unpack(results, 1, results.n)
end

local function cancel_all(tasks)
  for _, t in ipairs(tasks) do t:cancel() end
end

--- Runs every function at once and waits for all: a list of { results... } in their order, or what
--- failed first, at once and with the others cancelled.
---@param fns function[]
function M.all(fns)
  local tasks <close> = setmetatable({}, { __close = cancel_all })
  local failure
  local function guarded(fn)
    local results = table.pack(pcall(fn))
    if not results[1] or (results[2] == nil and results[3] ~= nil) then
      failure = failure or { results[1] and results[3] or results[2] }
      cancel_all(tasks)
    end
    return table.unpack(results, 2, results.n)
  end
  for i, fn in ipairs(fns) do tasks[i] = c.spawn(guarded, fn) end
  local out = {}
  for i, t in ipairs(tasks) do
    out[i] = table.pack(t:join())
    if failure then return nil, failure[1] end
  end
  return out
end

return M
