-- Processes: output, limits, deadlines, and that nothing of them is left behind.
local fs = require "ev.fs"
local proc = require "ev.proc"
local task = require "ev.task"
local t = require "tap"

local function sh(script, opts) return proc.run({ "sh", "-c", script }, opts) end

local r = sh "echo out; echo err >&2; exit 3"
t.is({ r.code, r.signal, r.stdout, r.stderr }, { 3, nil, "out\n", "err\n" }, "both outputs and the exit code")
r = sh "kill -9 $$"
t.is({ r.code, r.signal }, { 0, 9 }, "death by a signal")
t.is(select(2, proc.run { "ev-no-such-program" }).code, "EMISSING", "a program that is not there")
t.is(select(2, proc.run({ "true" }, { cwd = "/nonexistent" })).code, "ENOENT", "a folder that is not there")
t.is(select(2, proc.run { "/etc/passwd" }).code, "EACCES", "a file that is no program")
t.ok(not pcall(proc.run, {}) and not pcall(proc.run, { 1, {} }), "argv is checked")

t.is(sh("pwd", { cwd = "/" }).stdout, "/\n", "cwd")
r = sh("echo $EV_A-$EV_B-$PATH", { env = { EV_A = "1", PATH = "/usr/bin:/bin", EV_B = false } })
t.is(r.stdout, "1--/usr/bin:/bin\n", "changes of the environment")
t.is(sh("cat; echo").stdout, "\n", "without input there is none")
local big = ("0123456789abcde\n"):rep(65536)
t.ok(proc.run({ "cat" }, { stdin = big }).stdout == big, "a megabyte through cat")
t.is(sh("head -c 1 >/dev/null", { stdin = big }).code, 0, "a child that does not read its input is no error")

local lines = {}
r = sh("printf 'a\\nbb\\r\\n\\nrest'", { stdout = function(l) lines[#lines + 1] = l end })
t.is(lines, { "a", "bb", "", "rest" }, "lines as they come, the last without a newline")
t.is(r.stdout, nil, "and nothing captured")
local n, longest = 0, 0
sh("yes 12345678 | head -100000", { stdout = function(l) n, longest = n + 1, math.max(longest, #l) end })
t.is({ n, longest }, { 100000, 8 }, "a hundred thousand lines")
n = 0
sh("yes 1234567 | head -200000", { stdout = function()
  n = n + 1
  if n % 20000 == 1 then task.sleep(0.05) end
end })
t.is(n, 200000, "a reader that waits makes the child wait, and loses nothing")
r = sh("echo a; echo b >&2", { stderr = "stdout" })
t.ok(r.stdout == "a\nb\n" and r.stderr == nil, "errors into the output")
r = sh("echo a; echo b >&2", { stdout = "null", stderr = "null" })
t.is({ r.code, r.stdout, r.stderr }, { 0, nil, nil }, "thrown away")
t.is(select(2, sh("yes", { max = 1000 })).code, "ELIMIT", "too much output ends it")

local started = task.now()
t.is(select(2, sh("sleep 20", { timeout = 0.1 })).code, "ETIMEDOUT", "a deadline")
t.ok(task.now() - started < 2, "which is kept")
started = task.now()
t.is(select(2, sh("trap '' TERM; while :; do sleep 0.05; done", { timeout = 0.1 })).code, "ETIMEDOUT", "TERM ignored")
t.ok(task.now() - started < 8, "then it is killed")
r = sh "sleep 20 >/dev/null 2>&1 & echo $!"
t.ok(r.code == 0, "a child left in the background does not hold us")
require("ev.sys").kill(tonumber(r.stdout), 9)
started = task.now()
r = sh "sleep 5 & echo $!"
t.ok(task.now() - started < 4, "not even when it holds the pipes")
require("ev.sys").kill(tonumber((r.stdout:gsub("\n", ""))), 9)

-- cancelled: the whole group is gone
local dir <close> = assert(fs.scratch())
local pids = dir.path .. "/pids"
local victim = task.spawn(sh, ("sleep 30 & echo $$ $! > %s; wait"):format(pids))
for _ = 1, 200 do
  if fs.exists(pids) and #fs.read(pids) > 0 then break end
  task.sleep(0.01)
end
victim:cancel()
local function alive(pid)
  local stat = fs.read(("/proc/%d/stat"):format(pid))
  return stat ~= nil and not stat:match("%) Z ")
end
local shell, sleeper = fs.read(pids):match("(%d+) (%d+)")
for _ = 1, 200 do
  if not alive(shell) and not alive(sleeper) then break end
  task.sleep(0.01)
end
t.ok(not alive(shell) and not alive(sleeper), "cancelling ends the whole process group")

local results = {}
for i = 1, 8 do results[i] = task.spawn(sh, "sleep 0.05; echo " .. i) end
for i = 1, 8 do results[i] = results[i]:join().stdout end
t.is(table.concat(results), "1\n2\n3\n4\n5\n6\n7\n8\n", "eight at once")
t.ok(proc.which("sh"):match("/sh$") and proc.which("ev-no-such-program") == nil, "which")
t.is(proc.which("/bin/sh"), "/bin/sh", "which of a path")
return t.done()
