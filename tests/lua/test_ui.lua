-- What goes where: results on standard output, everything else on standard error, nothing under --json.
local fs = require "ev.fs"
local proc = require "ev.proc"
local t = require "tap"

local dir <close> = assert(fs.scratch())
local function run_with(option, text)
  local path = dir.path .. "/s.lua"
  assert(fs.write(path, "local ui = require 'ev.ui'\n" .. text))
  local argv = { fs.self_exe(), "run", path }
  if option then table.insert(argv, 2, option) end
  return assert(proc.run(argv, { timeout = 20, env = { NO_COLOR = "1" } }))
end
local function run(text) return run_with(nil, text) end

local ALL = "ui.print('p', 1) ui.ok('o') ui.note('n') ui.warn('w') ui.detail('d') ui.table({ { 'a' } }) ui.write('x')"
local r = run(ALL)
t.is({ r.stdout, r.stderr }, { "p\t1\nok o\na\nx", "n\nwarning: w\n" }, "people's output")
r = run_with("--json", ALL)
t.is({ r.stdout, r.stderr }, { "", "n\nwarning: w\n" }, "--json keeps standard output clean")
r = run_with("-v", ALL)
t.is(r.stderr, "n\nwarning: w\nd\n", "details with -v")
r = run("ui.table({ { 'a', 'bb', 'c' }, { 'aaa', 'é', 'd' } }, { 'X', 'Y', 'Z' })")
t.is(r.stdout, "X    Y   Z\na    bb  c\naaa  é   d\n", "a table lines up, also beyond ASCII")
t.is(run("ui.table({})").stdout, "", "an empty one is nothing")
t.is(run("ui.write(ui.colour('red', 'x'))").stdout, "x", "no colours without a terminal")
t.is(run("ui.colour('mauve', 'x')").stdout, "", "a colour without a terminal is not looked up")
r = run("return ui.confirm('really?', false) and 5 or 4")
t.is(r.code, 4, "without a terminal the default answers")
r = run("local ok, e = ui.confirm('really?') print(ok, e.code)\n"
  .. "local i, e2 = ui.select('which', { 'a' }) print(i, e2.code)")
t.is(r.stdout, "nil\tEUSAGE\nnil\tEUSAGE\n", "without a default nobody can be asked")

local JOB = [[
local job = { steps = { "one", "two" }, n = 0 }
setmetatable(job, { __close = function() end })
function job:ended() self.n = self.n + 1 return self.n > 3 end
function job:progress() return self.steps[math.min(self.n, 2)], self.n, 3 end
function job:wait() return "result", nil, 3 end
print(select("#", ui.progress(job, "work")), (ui.progress(job, "work")))
]]
r = run(JOB)
t.is({ r.stdout, r.stderr }, { "3\tresult\n", "" },
  "progress is silent without a terminal and returns the job's results")
t.is(run_with("-v", JOB).stderr, "work: one\nwork: two\n", "with -v its steps are lines")
return t.done()
