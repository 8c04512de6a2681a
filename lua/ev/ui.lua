-- ui.lua — what people see: results on standard output, everything else on standard error.
--
-- With --json nothing but the one object goes to standard output, so print, table and ok are silent
-- there. Colours and bars only where a terminal is, and colours not with NO_COLOR.
local err = require "ev.err"
local sys = require "ev.sys"

local M = {}

local state = { json = false, verbose = false, quiet = false }
local COLOURS = { red = 31, green = 32, yellow = 33, blue = 34, magenta = 35, cyan = 36, bold = 1, dim = 2 }
local BAR_STEP_S, BAR_AFTER_S, BAR_CELLS = 0.1, 0.5, 24

--- For ev.main; a script has no need of it.
function M.setup(options)
  state.json, state.verbose, state.quiet = options.json or false, options.verbose or false, options.quiet or false
end

local function coloured(fd)
  local no = sys.getenv("NO_COLOR")
  return sys.isatty(fd) and not (no and no ~= "")
end

--- `text` in a colour for standard output (or another descriptor), plain where colours are not wanted.
function M.colour(name, text, fd)
  if not coloured(fd or 1) then return text end
  return ("\27[%dm%s\27[0m"):format(assert(COLOURS[name], "unknown colour"), text)
end

local function out(text)
  local ok, message = io.stdout:write(text)
  if not ok then error(err.new("EPIPE", "standard output: " .. tostring(message)), 0) end
end

--- Text as it is, without a newline of its own.
function M.write(text) if not state.json then out(text) end end

function M.print(...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = tostring(parts[i]) end
  M.write(table.concat(parts, "\t") .. "\n")
end

local function aside(prefix, text)
  io.stdout:flush()
  io.stderr:write(prefix, text, "\n")
end

function M.note(text) if not state.quiet then aside("", text) end end
function M.warn(text) aside(M.colour("yellow", "warning: ", 2), text) end
function M.detail(text) if state.verbose then aside("", text) end end
function M.ok(text)
  if not state.json then M.print(M.colour("green", "ok") .. " " .. text) end
end

local function width(text) return utf8.len(text) or #text end

--- Rows of cells in columns, with headers when given.
---@param rows string[][]
---@param headers? string[]
function M.table(rows, headers)
  local widths, lines = {}, {}
  local function measure(row)
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, width(tostring(cell))) end
  end
  local function line(row)
    local parts = {}
    for i, cell in ipairs(row) do
      cell = tostring(cell)
      parts[i] = i == #row and cell or cell .. (" "):rep(widths[i] - width(cell))
    end
    lines[#lines + 1] = table.concat(parts, "  ")
  end
  if headers then measure(headers) end
  for _, row in ipairs(rows) do measure(row) end
  if headers then line(headers) end
  for _, row in ipairs(rows) do line(row) end
  if #lines > 0 then M.write(table.concat(lines, "\n") .. "\n") end
end

-- --- progress ------------------------------------------------------------------------------------

local function bar(label, step, done, total)
  local text = label
  if step and step ~= "" then text = text .. ": " .. step end
  if total and total > 0 then
    local part = math.min(done / total, 1)
    local full = math.floor(part * BAR_CELLS)
    text = ("[%s%s] %3d%% %s"):format(("#"):rep(full), ("."):rep(BAR_CELLS - full), math.floor(part * 100), text)
  end
  local room = sys.term_width() - 1
  if width(text) > room then text = text:sub(1, room) end
  io.stderr:write("\r\27[K", text)
end

-- A bar that is wiped when its variable leaves, cancelled or not.
local function live_bar()
  local self = { shown = false }
  return setmetatable(self, { __close = function()
    if self.shown then io.stderr:write("\r\27[K") end
  end })
end

local function watch(job, label)
  local show, started, last = live_bar(), require("ev.task").now(), nil
  local line <close> = show
  while not job:ended() do
    local step, done, total = job:progress()
    if sys.isatty(2) and not state.quiet then
      if line.shown or require("ev.task").now() - started > BAR_AFTER_S then
        bar(label, step, done, total)
        line.shown = true
      end
    elseif step and step ~= last then
      M.detail(label .. ": " .. step)
      last = step
    end
    require("ev.task").sleep(BAR_STEP_S)
  end
end

--- Waits for a job and returns its results. On a terminal a bar on standard error for whatever takes
--- longer than half a second; elsewhere its steps as lines with -v. Cancelling cancels the job.
function M.progress(job, label)
  local guard <close> = job
  if (sys.isatty(2) and not state.quiet) or state.verbose then watch(guard, label or "working") end
  local results = table.pack(job:wait())
  return table.unpack(results, 1, results.n)
end

-- --- questions -----------------------------------------------------------------------------------

local function ask(prompt)
  io.stdout:flush()
  io.stderr:write(prompt)
  io.stderr:flush()
  return sys.read_line()
end

local function no_terminal(question)
  return err.fail("EUSAGE", question .. ": nobody can be asked, standard input is no terminal")
end

--- Yes or no. Without a terminal the default answers, and without a default it is an error.
---@param question string
---@param default? boolean
---@return boolean|nil, table|nil
function M.confirm(question, default)
  if not sys.isatty(0) then
    if default == nil then return no_terminal(question) end
    return default
  end
  local choice = default == nil and "y/n" or default and "Y/n" or "y/N"
  while true do
    local answer, e = ask(("%s [%s] "):format(question, choice))
    if answer == nil then return nil, e or err.new("ECANCELLED", question .. ": no answer") end
    answer = answer:lower():match("^%s*(.-)%s*$")
    if answer == "y" or answer == "yes" then return true end
    if answer == "n" or answer == "no" then return false end
    if answer == "" and default ~= nil then return default end
  end
end

--- One of a list; returns its index and itself.
---@param question string
---@param items string[]
function M.select(question, items)
  if #items == 0 then return err.fail("EUSAGE", question .. ": nothing to choose from") end
  if not sys.isatty(0) then return no_terminal(question) end
  for i, item in ipairs(items) do io.stderr:write(("%3d  %s\n"):format(i, item)) end
  while true do
    local answer, e = ask(("%s [1-%d] "):format(question, #items))
    if answer == nil then return nil, e or err.new("ECANCELLED", question .. ": no answer") end
    local i = math.tointeger(tonumber(answer))
    if i and items[i] then return i, items[i] end
  end
end

return M
