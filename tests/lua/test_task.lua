-- Tasks: results, waiting, cancelling at every wait, errors that nobody joins.
local err = require "ev.err"
local task = require "ev.task"
local proc = require "ev.proc"
local fs = require "ev.fs"
local t = require "tap"

local function closer(list, name)
  return setmetatable({}, { __close = function(_, e) list[#list + 1] = name .. (e and "!" or "") end })
end

-- results
t.is({ task.spawn(function(...) return select("#", ...), ... end, 1, nil, 3):join() }, { 3, 1, nil, 3 },
  "arguments and results pass, nils too")
local twice = task.spawn(function() return "r" end)
t.is({ twice:join(), twice:join() }, { "r", "r" }, "a task can be joined twice")
t.is(twice:status(), "done", "status of a task that ended")
local joiners, slow = {}, task.spawn(function() task.sleep(0.02) return 7 end)
for i = 1, 3 do joiners[i] = task.spawn(function() return slow:join() end) end
t.is({ (joiners[1]:join()), (joiners[2]:join()), (joiners[3]:join()) }, { 7, 7, 7 }, "three tasks join one")
local many = {}
for i = 1, 200 do many[i] = i end
t.is(select("#", task.spawn(function() return table.unpack(many) end):join()), 200, "two hundred results")

-- order and time
local order = {}
local a = task.spawn(function() order[#order + 1] = "a1" task.sleep(0) order[#order + 1] = "a2" end)
local b = task.spawn(function() order[#order + 1] = "b1" task.sleep(0) order[#order + 1] = "b2" end)
order[#order + 1] = "main"
a:join()
b:join()
t.is(order, { "main", "a1", "b1", "a2", "b2" }, "a task starts at the next turn, and turns are taken")
local before = task.now()
task.sleep(0.05)
local slept = task.now() - before
t.ok(slept >= 0.049 and slept < 2, "sleep sleeps")
t.fails(nil, select(2, pcall(task.sleep, -1)), "negative", "a negative time is refused")
t.fails(nil, select(2, pcall(task.sleep, 0 / 0)), "negative", "so is NaN")

-- errors
local _, e
_, e = task.spawn(function() error("boom") end):join()
t.ok(err.is(e) and e.message:find("boom") and e.traceback:find("test_task"),
  "a raised text becomes an error with traceback")
local own = err.new("EDENY", "no")
_, e = task.spawn(function() error(own) end):join()
t.ok(e == own, "a raised error object stays itself")
_, e = task.spawn(function() error({ 1 }) end):join()
t.ok(err.is(e), "any raised value becomes an error object")
t.is({ task.spawn(function() return nil, "x" end):join() }, { nil, "x" }, "nil, err is an ordinary result")
_, e = task.spawn(function() local f f = function() return 1 + f() end return f() end):join()
t.fails(nil, e, "stack overflow", "a stack overflow is an error of the task")
_, e = task.spawn(function() coroutine.yield(1) end):join()
t.fails(nil, e, "outside a coroutine", "a bare yield is an error and not a hang")

-- join with a limit
local long = task.spawn(task.sleep, 10)
_, e = long:join(0.02)
t.is(e.code, "ETIMEDOUT", "join gives up in time")
t.is(long:status(), "waiting", "and the task goes on")
long:cancel()
_, e = long:join()
t.is(e.code, "ECANCELLED", "joining a cancelled task says so")
t.is(long:status(), "cancelled", "status of a cancelled task")
long:cancel()
t.ok(true, "cancelling twice is fine")
local narcissus
narcissus = task.spawn(function() return narcissus:join() end)
t.fails(nil, select(2, narcissus:join()),
  "join itself", "a task cannot join itself")

-- cancel at every wait: <close> variables run in order, with everything stopped
local scratch <close> = assert(fs.scratch())
local waits = {
  sleep = function() task.sleep(10) end,
  join = function() local inner <close> = task.spawn(task.sleep, 10) inner:join() end,
  ["join with a limit"] = function() local inner <close> = task.spawn(task.sleep, 10) inner:join(5) end,
  process = function() proc.run { "sleep", "10" } end,
  accept = function()
    local l <close> = assert(require("ev.c.net").listen("unix:" .. scratch.path .. "/a"))
    l:accept()
  end,
  timeout = function() task.timeout(10, task.sleep, 10) end,
  line = function() require("ev.sys").read_line() task.sleep(10) end,
  all = function() task.all { function() task.sleep(10) end, function() task.sleep(10) end } end,
}
local names = {}
for name in pairs(waits) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
  local closed = {}
  local victim = task.spawn(function()
    local one <close> = closer(closed, "one")
    local two <close> = closer(closed, "two")
    waits[name]()
    return one, two
  end)
  task.sleep(0.01)
  victim:cancel()
  t.is(closed, { "two", "one" }, "cancel during " .. name .. " closes what was open")
end

-- what a closing task may and may not do
local said
local stubborn = task.spawn(function()
  local guard <close> = setmetatable({}, { __close = function() said = select(2, pcall(task.sleep, 0.01)) end })
  task.sleep(10)
  return guard
end)
task.sleep(0)
stubborn:cancel()
t.fails(nil, said, "cannot wait: the task was cancelled", "__close of a cancelled task cannot wait")
local waited
task.spawn(function()
  local guard <close> = setmetatable({}, { __close = function() task.sleep(0.01) waited = true end })
  return guard and nil
end):join()
t.ok(waited, "__close at an ordinary end may wait")
local never = task.spawn(function() t.ok(false, "must not run") end)
never:cancel()
t.is(never:status(), "cancelled", "a task cancelled before its start does not run")
local trail = {}
local suicide
suicide = task.spawn(function()
  local guard <close> = closer(trail, "closed")
  suicide:cancel()
  trail[#trail + 1] = "still here"
  task.sleep(0)
  trail[#trail + 1] = "not reached"
  return guard
end)
suicide:join()
t.is(trail, { "still here", "closed" }, "a task that cancels itself ends at its next wait")

-- coroutines inside a task
local inside = coroutine.wrap(function() local ok, m = pcall(task.sleep, 0) coroutine.yield(ok, m) return "end" end)
local ok, message = inside()
t.ok(not ok and tostring(message):find("coroutine"), "waiting inside a script's own coroutine raises")
t.is(inside(), "end", "and the coroutine itself works")
t.ok(task.waitable() and not coroutine.wrap(task.waitable)(), "waitable tells where")
t.ok(pcall(task.sleep, 0), "waiting inside pcall works")
local sorted = pcall(table.sort, { 2, 1, 3 }, function(x, y) task.sleep(0) return x < y end)
t.ok(not sorted, "waiting below a C function that cannot be left raises")

-- timeout and all
t.is({ task.timeout(1, function(x) task.sleep(0.01) return x, 2 end, 1) }, { 1, 2 }, "timeout passes results")
local closed = {}
_, e = task.timeout(0.02, function() local x <close> = closer(closed, "x") task.sleep(10) return x end)
t.is({ e.code, closed[1] }, { "ETIMEDOUT", "x" }, "timeout cancels and says so")
t.fails(nil, select(2, pcall(task.timeout, 1, error, "inner")), "inner", "timeout raises what was raised")
local all = task.all { function() task.sleep(0.01) return 1 end, function() return 2, 3 end }
t.is({ all[1][1], all[2][1], all[2][2] }, { 1, 2, 3 }, "all gives every result")
for _, order_of in ipairs { { 1, 2 }, { 2, 1 } } do
  local fns, started = {}, task.now()
  fns[order_of[1]] = function() task.sleep(0.01) return nil, own end
  fns[order_of[2]] = function() task.sleep(10) end
  _, e = task.all(fns)
  t.ok(e == own and task.now() - started < 2, "a failure ends the others, whichever comes first")
end
_, e = task.all { function() task.sleep(10) end, function() error(own) end }
t.ok(e == own, "so does an error that is raised")

-- a task nobody joins
local exe = fs.self_exe()
local script = scratch.path .. "/lost.lua"
assert(fs.write(script, [[
ev.task.spawn(function() error("lost and found") end)
ev.task.sleep(0.05)
print("went on")
]]))
local r = assert(proc.run { exe, "run", script })
t.ok(r.code == 0 and r.stdout == "went on\n", "the script goes on")
t.ok(r.stderr:find("nobody joined.*lost and found.*traceback"), "and the failure is printed with a traceback")
return t.done()
