-- main.lua — argv → command → script → exit code. Everything unexpected is caught here and nowhere
-- else: an error object becomes one line (and a hint), anything else a traceback and exit 70.
local err = require "ev.err"
local sys = require "ev.c.sys"
local cli = require "ev.cli"
local spec = require "ev.cli.spec"

local EXIT_CRASH = 70

-- Known from the start, so that setting it is no new global.
rawset(_G, "arg", {})

-- `ev.x` without require, for the prompt and for scripts of `run`.
rawset(_G, "ev", setmetatable({}, {
  __index = function(t, name)
    local module = require("ev." .. tostring(name))
    rawset(t, name, module)
    return module
  end,
  __name = "ev",
}))

local function print_json(value)
  local json = require "ev.json"
  io.stdout:write(json.encode(value, { pretty = true, sorted = true }), "\n")
end

local function keep_traceback(e)
  if not err.is(e) then
    e = err.new("EINTERNAL", type(e) == "string" and e or ("error value: " .. tostring(e)))
    e.crash = true
  end
  if not e.traceback then e.traceback = debug.traceback(nil, 2) end
  return e
end

--- Prints a failure and says which exit code it asks for.
local function report(e, who, opts)
  if e.code == "ECANCELLED" and e.reason == "interrupt" then return e:exit_code() end
  if e.code == "EPIPE" and e.message:find("^standard output") then return 0 end
  io.stdout:flush()
  io.stderr:write(who, ": ", e.message, "\n")
  if e.hint then io.stderr:write("try: ", e.hint, "\n") end
  if e.traceback and (e.crash or opts.verbose) then io.stderr:write(e.traceback, "\n") end
  if opts.json then
    print_json { error = { code = e.code, message = e.message, reason = e.reason, hint = e.hint } }
  end
  return e.crash and EXIT_CRASH or e:exit_code()
end

--- What a script returned, as an exit code: nil and true 0, false 1, an integer itself.
local function exit_code(result, e, who, opts)
  if err.is(e) then return report(e, who, opts) end
  if result == nil and e ~= nil then
    return report(err.new("EINTERNAL", tostring(e)), who, opts)
  end
  if result == nil or result == true then return 0 end
  if result == false then return 1 end
  return math.tointeger(result) or 0
end

local function context(parsed)
  local ui = require "ev.ui"
  ui.setup { json = parsed.opts.json, verbose = parsed.opts.verbose, quiet = parsed.opts.quiet }
  local ctx = {
    opts = parsed.opts, args = parsed.args, spec = spec, path = parsed.path, command = parsed.command,
    json = parsed.opts.json or false, verbose = parsed.opts.verbose or false, ui = ui,
  }
  function ctx.out(value) if ctx.json then print_json(value) end end
  return ctx
end

local function run_command(parsed)
  return require(parsed.command.script)(context(parsed))
end

local function show_help(path)
  io.stdout:write(require("ev.cli.help").text(spec, path, sys.term_width()))
  return 0
end

return function(argv)
  io.stdout:setvbuf("line")     -- a long-running verb is read by others while it runs
  local parsed, e, partial = cli.parse(spec, argv)
  local opts = parsed and parsed.opts or partial.opts
  local path = parsed and parsed.path or partial.path
  local who = table.concat({ spec.name, table.unpack(path) }, " ")
  if not parsed then return report(e, who, opts) end
  if parsed.help then return show_help(path) end
  if parsed.version then
    if opts.json then print_json { name = spec.name, version = sys.version }
    else io.stdout:write(spec.name, " ", sys.version, "\n") end
    return 0
  end
  if not parsed.command.script then
    io.stderr:write(require("ev.cli.help").text(spec, path, sys.term_width()), "\n")
    return report(err.new("EUSAGE", "no command"), who, opts)
  end
  local results = table.pack(xpcall(run_command, keep_traceback, parsed))
  if not results[1] then return report(results[2], who, opts) end
  return exit_code(results[2], results[3], who, opts)
end
