-- repl.lua — the prompt: read, run in a task (so waiting works), print, again.
--
-- Names may be made freely here; they live in a table of their own above the strict globals.
local fs = require "ev.fs"
local err = require "ev.err"
local sys = require "ev.sys"
local task = require "ev.task"
local c = require "ev.c.repl"
local c_task = require "ev.c.task"

local M = {}

local DEPTH, ITEMS, STRING_MAX = 4, 100, 2000
local PROMPT, MORE = "ev> ", "  > "
local MODULES = { "attest", "build", "config", "err", "fs", "http", "identity", "image", "json", "keys", "log",
  "net", "proc", "sys", "task", "text", "toml", "ui" }

-- --- values as text ------------------------------------------------------------------------------

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

local function quoted(s)
  local cut = #s > STRING_MAX
  local text = (cut and s:sub(1, STRING_MAX) or s):gsub('[%c\\"]', function(ch)
    return ESCAPES[ch] or ("\\x%02x"):format(ch:byte())
  end)
  if not utf8.len(text) then
    text = text:gsub("[\128-\255]", function(ch) return ("\\x%02x"):format(ch:byte()) end)
  end
  return '"' .. text .. '"' .. (cut and (" … (%d bytes)"):format(#s) or "")
end

local TYPE_ORDER = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local x, y = TYPE_ORDER[type(a)] or 9, TYPE_ORDER[type(b)] or 9
  if x ~= y then return x < y end
  if x <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

local KEYWORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then "
  .. "true until while"):gmatch("%a+") do KEYWORDS[word] = true end

local show

local function show_key(k, depth, seen)
  if type(k) == "string" and k:match("^[%a_][%w_]*$") and not KEYWORDS[k] then return k end
  return "[" .. show(k, depth, seen) .. "]"
end

local function show_table(t, depth, seen)
  if seen[t] then return "<cycle>" end
  if next(t) == nil then return "{}" end
  if depth >= DEPTH then return "{…}" end
  seen[t] = true
  local keys, parts, pad = {}, {}, ("  "):rep(depth + 1)
  for k in next, t do
    if not (math.type(k) == "integer" and k >= 1 and k <= #t) then keys[#keys + 1] = k end
  end
  table.sort(keys, before)
  for i = 1, math.min(#t, ITEMS) do parts[#parts + 1] = show(rawget(t, i), depth + 1, seen) end
  if #t > ITEMS then parts[#parts + 1] = ("… %d more"):format(#t - ITEMS) end
  for i = 1, math.min(#keys, ITEMS) do
    parts[#parts + 1] = show_key(keys[i], depth + 1, seen) .. " = " .. show(rawget(t, keys[i]), depth + 1, seen)
  end
  if #keys > ITEMS then parts[#parts + 1] = ("… %d more"):format(#keys - ITEMS) end
  seen[t] = nil
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #line + #pad <= 78 and not line:find("\n", 1, true) then return line end
  return "{\n" .. pad .. table.concat(parts, ",\n" .. pad) .. "\n" .. pad:sub(3) .. "}"
end

function show(v, depth, seen)
  if type(v) == "string" then return quoted(v) end
  if type(v) ~= "table" then return tostring(v) end
  if err.is(v) then return ("error %s: %s"):format(tostring(v.code), tostring(v.message)) end
  local mt = getmetatable(v)
  if type(mt) == "table" and rawget(mt, "__tostring") then return tostring(v) end
  return show_table(v, depth, seen)
end

--- A value as people read it: sorted keys, limited depth, cycles marked. Never raises for odd keys.
function M.pretty(v) return show(v, 0, {}) end

-- --- completion ----------------------------------------------------------------------------------

-- Reads a field without raising; `ev.x` loads the module.
local function field(t, k)
  local ok, v = pcall(function() return t[k] end)
  return ok and v or nil
end

local function names_of(value)
  local set, level = {}, value
  for _ = 1, 8 do
    if type(level) == "table" then
      for k in next, level do
        if type(k) == "string" then set[k] = true end
      end
    end
    local mt = getmetatable(level)
    level = type(mt) == "table" and rawget(mt, "__index") or nil
    if type(level) ~= "table" then break end
  end
  return set
end

--- Words that may stand where `word` ("ev.fs.re", "s:rea") is being typed; sorted.
function M.complete(word, env)
  local path, sep, last = word:match("^(.-)([.:])([%w_]*)$")
  if not path then path, sep, last = "", "", word end
  local value, set = env, {}
  for name in path:gmatch("[^.:]+") do value = field(value, name) end
  if value == nil then return {} end
  if path == "" then
    for k in pairs(names_of(_G)) do set[k] = true end
    for k in pairs(KEYWORDS) do set[k] = true end
  end
  if value == rawget(_G, "ev") then
    for _, name in ipairs(MODULES) do set[name] = true end
  end
  for k in pairs(names_of(value)) do set[k] = true end
  local out = {}
  for k in pairs(set) do
    if k:sub(1, #last) == last and k:match("^[%a_][%w_]*$") and (last ~= "" or k:sub(1, 1) ~= "_") then
      out[#out + 1] = path .. sep .. k
    end
  end
  table.sort(out)
  return out
end

-- --- running -------------------------------------------------------------------------------------

--- A table in which scripts may make names freely; what it lacks comes from the globals.
function M.environment()
  local env = {}
  return setmetatable(env, { __index = function(_, k) return rawget(_G, k) end })
end

--- Compiles what was typed: first as an expression, then as statements.
---@return function|nil chunk, string|nil message, boolean|nil unfinished: more lines are needed
function M.compile(text, env)
  local chunk = load("return " .. text, "=prompt", "t", env)
  if chunk then return chunk end
  local statements, message = load(text, "=prompt", "t", env)
  if statements then return statements end
  return nil, message, message:find("<eof>", -8, true) ~= nil
end

local function print_results(ui, results)
  if results.n == 0 then return end
  local parts = {}
  for i = 1, results.n do parts[i] = M.pretty(results[i]) end
  ui.write(table.concat(parts, "\t") .. "\n")
end

-- Ctrl-C ends this task and not the prompt.
local function in_foreground(fn, ...)
  local t <close> = task.spawn(fn, ...)
  c_task.foreground(t)
  local results = table.pack(t:join())
  c_task.foreground(nil)
  return t:status(), results
end

local function run_chunk(ui, chunk, env)
  local status, results = in_foreground(chunk)
  if status == "done" then
    print_results(ui, results)
    if results.n > 0 then rawset(env, "_", results[1]) end
    return
  end
  local e = results[2]
  if status == "cancelled" then
    ui.note("interrupted")
  else
    ui.note(ui.colour("red", tostring(e.message), 2) .. (e.crash and e.traceback and "\n" .. e.traceback or ""))
  end
end

-- --- commands ------------------------------------------------------------------------------------

local HELP = [[
Type Lua; an expression prints its value, which is then in _. Everything of the library is below ev:
ev.fs.list("."), ev.proc.run{"uname"}, ev.http.request{url="…"}. Waiting works: ev.task.sleep(1).

  :help [MODULE]   this text, or what ev.MODULE has
  :quit            leave (so does Ctrl-D)
An unfinished statement continues on the next line; an empty line there gives it up.
]]

local function module_help(ui, name)
  local ok, module = pcall(require, "ev." .. name)
  if not ok or type(module) ~= "table" then
    ui.note(("no module ev.%s; there are: %s"):format(name, table.concat(MODULES, ", ")))
    return
  end
  local names = {}
  for k, v in pairs(module) do
    names[#names + 1] = ("  ev.%s.%s%s"):format(name, k, type(v) == "function" and "()" or "")
  end
  table.sort(names)
  ui.write(table.concat(names, "\n") .. "\n")
end

-- `::label::` is Lua.
local function is_command(line) return line:match("^%s*:[^:]") ~= nil or line:match("^%s*:$") ~= nil end

local function command(ui, line)
  local name, rest = line:match("^%s*:(%a*)%s*(.-)%s*$")
  if name == "quit" or name == "q" then return "quit" end
  if name == "help" and rest ~= "" then
    module_help(ui, (rest:gsub("^ev%.", "")))
  elseif name == "help" then
    ui.write(HELP)
  else
    ui.note(("unknown command :%s (:help lists them)"):format(name))
  end
end

-- --- the loop ------------------------------------------------------------------------------------

local function history_path()
  local base = sys.getenv("XDG_STATE_HOME")
  if not base or base:sub(1, 1) ~= "/" then
    local home = sys.getenv("HOME")
    if not home or home == "" then return nil end
    base = fs.join(home, ".local/state")
  end
  local dir = fs.join(base, "ev-cage")
  if not fs.mkdir_p(dir, tonumber("700", 8)) then return nil end
  return fs.join(dir, "repl_history")
end

-- How lines are read: with libedit on a terminal, else plainly and without a prompt.
local function line_reader(ui, env)
  if not (sys.isatty(0) and sys.isatty(1)) then
    return function() return sys.read_line() end, function() end, function() end
  end
  local path = history_path()
  local ok, e = c.open(path)
  if not ok then
    ui.note(e.message)
    return function(prompt)
      io.stdout:write(prompt)
      io.stdout:flush()
      return sys.read_line()
    end, function() end, function() end
  end
  c.completer(function(word) return M.complete(word, env) end)
  local function read(prompt) return c.line(prompt) end
  local function done()
    c.completer(nil)
    if path then c.save(path) end
  end
  return read, c.add, done
end

-- The next statement, over as many lines as it needs: chunk, or nil at the end of input.
local function next_statement(ui, read, remember, env)
  local text
  while true do
    local status, results = in_foreground(read, text and MORE or PROMPT)
    local line = results[1]
    if status == "cancelled" then
      ui.note("")
      text = nil
    elseif line == nil then
      if text then ui.note((select(2, M.compile(text, env)))) end
      return nil
    elseif not text and is_command(line) then
      remember(line)
      if command(ui, line) == "quit" then return nil end
    elseif not (text == nil and line:match("^%s*$")) then
      local whole = text and text .. "\n" .. line or line
      local chunk, message, unfinished = M.compile(whole, env)
      if chunk or not unfinished or (text and line == "") then
        remember((whole:gsub("%s+$", "")))
        if chunk then return chunk end
        ui.note(message)
        text = nil
      else
        text = whole
      end
    end
  end
end

--- Runs the prompt until :quit or the end of input.
function M.run(ui)
  local env = M.environment()
  local read, remember, done = line_reader(ui, env)
  local cleanup <close> = setmetatable({}, { __close = done })
  if sys.isatty(0) then ui.note(("ev-cage %s, %s. :help helps, :quit leaves."):format(sys.version, _VERSION)) end
  while cleanup do
    local chunk = next_statement(ui, read, remember, env)
    if not chunk then return 0 end
    run_chunk(ui, chunk, env)
  end
end

return M
