-- The prompt's parts: values as text, completion, unfinished statements; and whole sessions through a pipe.
local err = require "ev.err"
local fs = require "ev.fs"
local proc = require "ev.proc"
local repl = require "ev.repl"
local t = require "tap"

local cycle = {}
cycle.self = cycle
for _, c in ipairs {
  { nil, "nil" }, { 1, "1" }, { 1.5, "1.5" }, { true, "true" }, { "a\"b\n\0", [["a\"b\n\x00"]] }, { "é", '"é"' },
  { "\255", [["\xff"]] }, { {}, "{}" }, { { 1, 2, "x" }, '{ 1, 2, "x" }' },
  { { b = 1, a = 2, [10] = 3, [true] = 4 }, "{ [10] = 3, a = 2, b = 1, [true] = 4 }" },
  { { ["end"] = 1, ["a b"] = 2 }, '{ ["a b"] = 2, ["end"] = 1 }' }, { cycle, "{ self = <cycle> }" },
  { { { { { { 1 } } } } }, "{ { { { {…} } } } }" }, { err.new("EDENY", "no"), "error EDENY: no" },
  { setmetatable({}, { __tostring = function() return "me" end }), "me" },
} do t.is(repl.pretty(c[1]), c[2], "pretty " .. c[2]) end
t.ok(repl.pretty(("x"):rep(5000)):find("… %(5000 bytes%)$"), "long strings are cut")
local long = {}
for i = 1, 500 do long[i] = i end
t.ok(repl.pretty(long):find("400 more"), "long lists are cut")
local wide = repl.pretty { aaaaaaaaaaaaaaaaaaaaaaaaaaaaa = ("x"):rep(30), bbbbbbbbbbbbbbbbbbbbbbbb = ("y"):rep(30) }
t.ok(wide:find("\n  aaaa", 1, true), "wide tables take lines")
t.is(repl.pretty(wide), repl.pretty(wide), "the same twice")
local shared = { 1 }
t.is(repl.pretty { shared, shared }, "{ { 1 }, { 1 } }", "a shared table is no cycle")
t.ok(pcall(repl.pretty, setmetatable({}, { __index = error, __len = error, __pairs = error })),
  "metamethods do not disturb it")

local env = repl.environment()
rawset(env, "mine", { abc = 1, abd = 2, zzz = 3 })
t.is(repl.complete("mine.ab", env), { "mine.abc", "mine.abd" }, "fields of a name")
t.is(repl.complete("ev.fs.readl", env), { "ev.fs.readlink" }, "a module's functions, loading it")
t.is(repl.complete("ev.tas", env), { "ev.task" }, "modules that are not loaded yet")
t.is(repl.complete("string.forma", env), { "string.format" }, "globals")
t.is(repl.complete("min", env), { "mine" }, "names made at the prompt")
t.is(repl.complete("whil", env), { "while" }, "keywords")
t.is(repl.complete("nope.x.y", env), {}, "what is not there")
t.ok(#repl.complete("", env) > 20, "nothing typed: everything")
rawset(env, "s", setmetatable({}, { __index = { method = print } }))
t.is(repl.complete("s:me", env), { "s:method" }, "methods")

t.ok(repl.compile("1 + 1", env), "an expression")
t.ok(repl.compile("local x = 1", env), "a statement")
t.ok(select(3, repl.compile("for i = 1, 2 do", env)), "unfinished")
t.ok(select(3, repl.compile("x = {", env)), "unfinished table")
t.ok(not select(3, repl.compile("x = = 1", env)), "wrong, not unfinished")
local chunk = repl.compile("undefined_name", env)
t.is(chunk(), nil, "an undefined name is nil here")
repl.compile("fresh = 5", env)()
t.is({ rawget(env, "fresh"), rawget(_G, "fresh") }, { 5, nil }, "names do not get into the globals")

local dir <close> = assert(fs.scratch())
local function session(input)
  return assert(proc.run({ fs.self_exe(), "repl" }, { stdin = input, timeout = 20, env = { HOME = dir.path } }))
end
local r = session "1+1\nx = {b=1, a={2}}\nx\n_.b\n"
t.is({ r.code, r.stdout }, { 0, "2\n{ a = { 2 }, b = 1 }\n1\n" }, "a session through a pipe; its end leaves")
r = session "for i = 1, 2 do\nprint(i)\nend\n'done'\n"
t.is(r.stdout, '1\n2\n"done"\n', "a statement over three lines")
r = session "ev.task.sleep(0.01), ev.task.timeout(0.01, ev.task.sleep, 5)\n"
t.is(r.stdout, "true\tnil\terror ETIMEDOUT: the task did not end in time\n", "waiting works")
r = session "error('boom')\nnil + 1\n'alive'\n"
t.ok(r.code == 0 and r.stdout == '"alive"\n' and r.stderr:find("boom") and r.stderr:find("arithmetic"),
  "errors do not end it")
r = session ":help\n:help fs\n:help nope\n:nope\n:quit\n'not reached'\n"
t.ok(r.stdout:find("ev.fs.read()", 1, true) and r.stderr:find("no module ev.nope")
  and r.stderr:find("unknown command :nope"),
  ":help")
t.ok(not r.stdout:find("not reached"), ":quit")
r = session "x = {\n\n'next'\n"
t.ok(r.stdout == '"next"\n' and r.stderr:find("<eof>"), "an empty line gives up an unfinished statement")
t.ok(session("for i = 1, 2 do\n").stderr:find("<eof>"), "so does the end of input, aloud")
t.ok(not fs.exists(dir.path .. "/.local"), "no history without a terminal")
return t.done()
