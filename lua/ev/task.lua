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

--- Runs every function at once and waits for all: a list of { results... } in their order, or the
--- first failure, with the others cancelled.
---@param fns function[]
function M.all(fns)
  local tasks <close> = setmetatable({}, { __close = function(list)
    for _, t in ipairs(list) do t:cancel() end
  end })
  for i, fn in ipairs(fns) do tasks[i] = c.spawn(fn) end
  local out = {}
  for i, t in ipairs(tasks) do
    local results = table.pack(t:join())
    if results[1] == nil and results[2] ~= nil then return nil, results[2] end
    out[i] = results
  end
  return out
end

return M
