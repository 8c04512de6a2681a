-- The program as users meet it: exit codes, where output goes, signals, overlay, leaks.
local fs = require "ev.fs"
local json = require "ev.json"
local proc = require "ev.proc"
local sys = require "ev.sys"
local task = require "ev.task"
local t = require "tap"

local exe = fs.self_exe()
local dir <close> = assert(fs.scratch())
local n = 0

local function ev(argv, opts)
  opts = opts or {}
  opts.timeout = opts.timeout or 30
  return assert(proc.run({ exe, table.unpack(argv) }, opts))
end
local function script(text)
  n = n + 1
  local path = ("%s/s%d.lua"):format(dir.path, n)
  assert(fs.write(path, text))
  return path
end
local function run(text, opts, ...) return ev({ "run", script(text), ... }, opts) end

-- version and help
t.is({ ev({ "--version" }).stdout, ev({ "--version" }).code }, { "ev-cage " .. sys.version .. "\n", 0 }, "--version")
t.is(ev({ "-v", "--version" }).stdout, "ev-cage " .. sys.version .. "\n", "--version the long way")
local top = ev { "--help" }
t.ok(top.code == 0 and top.stderr == "" and top.stdout:find("Usage: ev%-cage"), "--help on standard output")
t.is(ev({ "help" }).stdout, top.stdout, "help is the same")
t.is(ev({ "help", "cert", "new" }).stdout, ev({ "cert", "new", "--help" }).stdout, "so is help of a command")
local none = ev {}
t.ok(none.code == 64 and none.stdout == "" and none.stderr:find("Usage:"), "no command: help on standard error, 64")
t.is(ev({ "cert" }).code, 64, "half a command")
local wrong = ev { "bild" }
t.is({ wrong.code, wrong.stderr }, { 64, "ev-cage: unknown command 'bild'\ntry: ev-cage build\n" }, "a typing mistake")
t.is(ev({ "help", "bild" }).code, 64, "help of nothing")
local fine = ev { "completion", "bash" }
t.ok(fine.code == 0 and fine.stdout:find("complete %-F"), "completion")
t.is(ev({ "completion", "tcsh" }).code, 64, "completion for a shell we do not know")

-- results of a script
for _, c in ipairs { { "", 0 }, { "return nil", 0 }, { "return true", 0 }, { "return false", 1 }, { "return 7", 7 },
  { "return nil, require('ev.err').new('EDENY', 'no')", 77 }, { "return nil, 'text'", 70 },
  { "return nil, require('ev.err').new('X', 'no', { exit = 9 })", 9 },
    { "error(require('ev.err').new('EVERIFY', 'v'))", 76 },
  { "error('crash')", 70 }, { "local x <close> = 1", 70 }, { "return 2.0", 2 }, { "os.exit(5)", 5 },
} do t.is(run(c[1]).code, c[2], ("exit code of: %s"):format(c[1])) end
local r = run("return nil, require('ev.err').new('EDENY', 'not you', { hint = 'ask' })")
t.is(r.stderr, "ev-cage run: not you\ntry: ask\n", "an expected failure is two lines")
r = run("local function inner() error('crash here') end\ninner()\nreturn 1")
t.ok(r.stderr:find("s%d+%.lua:1: crash here\nstack traceback:\n.*s%d+%.lua:2: in main chunk"),
  "a crash has its traceback")
r = run("error(require('ev.err').new('EDENY', 'no'))")
t.ok(not r.stderr:find("traceback"), "a raised error object has none")
t.ok(ev({ "-v", "run", script "error(require('ev.err').new('EDENY', 'no'))" }).stderr:find("traceback"), "unless asked")
r = ev({ "--json", "run", script "return nil, require('ev.err').new('EDENY', 'no', { reason = 'r', hint = 'h' })" })
t.is(json.parse(r.stdout), { error = { code = "EDENY", message = "no", reason = "r", hint = "h" } },
  "--json: the failure as an object")
r = run("syntax error here")
t.ok(r.code == 65 and r.stderr:find("s%d+%.lua:1:"), "a script that does not parse names its place")
t.is(ev({ "run", "/nonexistent.lua" }).code, 66, "no such script")
t.is(ev({ "run" }).code, 64, "no script at all")
t.is(run("return #arg + #{...} * 10, print(arg[0]:match('s%d') ~= nil, arg[2])", nil, "-a", "--help").stdout,
  "true\t--help\n",
  "arguments are the script's own")
t.is(run("#!/usr/bin/env -S ev-cage run\nreturn 4").code, 4, "a first line for the shell")
t.is(ev({ "run", "-" }, { stdin = "return 6" }).code, 6, "a script from standard input")
assert(fs.write(dir.path .. "/beside.lua", "return { v = 8 }"))
t.is(run("return require('beside').v").code, 8, "require finds a module beside the script")
t.is(run("return pcall(require, 'no.such') and 1 or 0").code, 0, "and fails for what is not there")
t.is(run("return pcall(require, '../beside') and 1 or 0").code, 0, "no way out by a name")

-- strictness
t.fails(nil, run("x = 1").stderr, "assignment to undefined global 'x'", "a new global is an error")
t.fails(nil, run("return y").stderr, "undefined global 'y'", "so is reading one")
t.is(run("return load(string.dump(function() end)) == nil and 3 or 0").code, 3, "no bytecode")
t.is(run("return load('\\27Lua', 'x', 'b') == nil and 3 or 0").code, 3, "whatever mode is asked for")
t.is(run("local f = load('return ...', 'x', 't', {}) return f(3)").code, 3, "load with an environment")
t.is(run("return load('return x', 'x', 't', { x = 4 })()").code, 4, "which is used")
t.ok(run("return package.loadlib == nil and package.cpath == '' and true").code == 0, "no shared objects")

-- waiting
r = run("require('ev.task').spawn(function() end):join()\n"
  .. "local t t = ev.task.spawn(function() ev.task.sleep(0) t2 = nil end)")
t.is(r.code, 0, "a task left behind does not hold the end")
r = run("local a, b\na = ev.task.spawn(function() return b:join() end)\n"
  .. "b = ev.task.spawn(function() return a:join() end)\na:join()")
t.ok(r.code == 70 and r.stderr:find("deadlock") and r.stderr:find("s%d+%.lua:4"),
  "a deadlock is an error with its place")

-- signals
local function interrupted(text, signal)
  local marker = dir.path .. "/started"
  fs.remove(marker)
  local victim <close> = task.spawn(run, ("require('ev.fs').write(%q, '')\n"):format(marker) .. text, nil)
  for _ = 1, 500 do
    if fs.exists(marker) then break end
    task.sleep(0.01)
  end
  local found = proc.run { "pgrep", "-f", ("run .*/s%d.lua"):format(n) }
  for pid in found.stdout:gmatch("%d+") do sys.kill(tonumber(pid), signal) end
  return victim:join(20)
end
if proc.which "pgrep" then
  local closing = "local x <close> = setmetatable({}, { __close = function() print('closed') end })\n"
  r = interrupted(closing .. "ev.task.sleep(20)", 2)
  t.is({ r.code, r.stdout, r.stderr }, { 130, "closed\n", "" }, "SIGINT closes what is open, 130")
  r = interrupted(closing .. "ev.task.sleep(20)", 15)
  t.is({ r.code, r.stdout }, { 143, "closed\n" }, "SIGTERM, 143")
  r = interrupted(closing .. "while true do end", 2)
  t.is({ r.code, r.stdout }, { 130, "closed\n" }, "a script that computes is stopped too")
  r = interrupted(closing .. "ev.proc.run { 'sleep', '20' }", 2)
  t.is(r.code, 130, "while a program runs")
else
  t.skip("signals", "pgrep is not installed")
end

-- standard output that does not take it
if fs.exists "/dev/full" then
  r = assert(proc.run { "sh", "-c", '"$1" --help >/dev/full', "sh", exe })
  t.ok(r.code == 74 and r.stderr:find("No space left"), "a full device is an error")
end
r = assert(proc.run { "bash", "-c", [["$1" run "$2" | head -1; exit "${PIPESTATUS[0]}"]], "bash", exe,
  script "for i = 1, 1e6 do print(i) end" })
t.is({ r.code, r.stdout, r.stderr }, { 0, "1\n", "" }, "a reader that leaves ends it quietly")

-- overlay
local over = dir.path .. "/over"
assert(fs.mkdir_p(over .. "/scripts") and fs.mkdir_p(over .. "/lua/ev/cli"))
assert(fs.write(over .. "/scripts/update.lua", "return function() print((require('ev.extra'))) return 5 end"))
assert(fs.write(over .. "/lua/ev/extra.lua", "return 'from above'"))
assert(fs.write(over .. "/lua/ev/main.lua", "error('must not load')"))
assert(fs.write(over .. "/lua/ev/cli/spec.lua", "error('must not load')"))
r = ev { "--lua-dir", over, "update" }
t.is({ r.code, r.stdout }, { 5, "from above\n" }, "the overlay lies above, ev.main and the table do not")
local _, times = r.stderr:gsub(over:gsub("%p", "%%%0"), "")
t.is(times, 1, "and is named once")
t.is(ev({ "update", "--lua-dir=" .. over }).code, 5, "after the command, with =")
t.is(ev({ "--lua-dir", "over", "update" }, { cwd = dir.path }).code, 64, "a relative path is refused")
t.is(ev({ "--lua-dir", over .. "/nope", "update" }).code, 66, "a folder that is not there")
t.is(ev({ "run", script "return #arg", "--lua-dir", over }).stderr, "", "after `run FILE` it is the script's")

-- what a script leaves behind
local leaky = { EV_LEAK_CHECK = "1" }
for _, c in ipairs {
  { "rawset(_G, 'left', 1)", "global left" },
  { "ev.task.spawn(ev.task.sleep, 9)", "a task that has not ended" },
  { "LISTEN = 1", "undefined global" },
  { "package.loaded.keep = ev.net.listen('127.0.0.1:0', print)", "open handles" },
} do
  r = run(c[1], { env = leaky })
  t.ok(r.code == 70 and r.stderr:find(c[2], 1, true), "found: " .. c[2])
end
t.is(run("local l <close> = ev.net.listen('127.0.0.1:0', print)\nev.task.sleep(0)", { env = leaky }).code, 0,
  "nothing left")

-- speed
local best = math.huge
for _ = 1, 5 do
  local from = task.now()
  ev { "--version" }
  best = math.min(best, task.now() - from)
end
t.ok(best < 0.25, ("--version is fast (%.0f ms with the start of a process)"):format(best * 1000))
return t.done()
