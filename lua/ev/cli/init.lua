-- cli — words of the command line against a command table (form: see cli/spec.lua).
--
-- parse never prints and never exits: it returns what was asked for, or an error with a hint. The
-- third result of a failure says how far it came, so that the caller can name the command and knows
-- whether --json was given.
local err = require "ev.err"
local text = require "ev.text"

local M = {}

function M.key(option) return (option.long:gsub("-", "_")) end

--- Every spelling of an option as typed: --long, -s, --alias, -single-dash.
function M.spellings(option)
  local list = { "--" .. option.long }
  if option.short then list[#list + 1] = "-" .. option.short end
  for _, a in ipairs(option.aliases or {}) do
    if a:sub(1, 1) == "-" or #a == 1 then
      list[#list + 1] = "-" .. a:gsub("^%-", "")
    else
      list[#list + 1] = "--" .. a
    end
  end
  return list
end

--- The command at a path of names, or nil and how many of them were found.
function M.find(spec, path)
  local node = spec
  for i, name in ipairs(path) do
    local found
    for _, c in ipairs(node.commands or {}) do
      if c.name == name then found = c end
    end
    if not found then return nil, i - 1, node end
    node = found
  end
  return node
end

--- Names of the commands below this one, but for hidden ones.
function M.command_names(node)
  local list = {}
  for _, c in ipairs(node.commands or {}) do
    if not c.hidden then list[#list + 1] = c.name end
  end
  return list
end

-- --- the parser's state: one table, `p` ---------------------------------------------------------

local function add_options(p, node)
  for _, option in ipairs(node.options or {}) do
    for _, s in ipairs(M.spellings(option)) do p.by_spelling[s] = option end
    p.options[#p.options + 1] = option
  end
end

local function usage(p, message, hint)
  hint = hint or table.concat({ p.spec.name, "help", table.unpack(p.path) }, " ")
  return err.fail("EUSAGE", message, { hint = hint })
end

local function unknown_option(p, word)
  local known = {}
  for s, o in pairs(p.by_spelling) do
    if not o.hidden then known[#known + 1] = s end
  end
  table.sort(known)
  return usage(p, ("unknown option %s"):format(word), text.nearest(word, known))
end

-- A command of the original that this release does not have is no slip of the keyboard.
local function is_later(node, word)
  for _, name in ipairs(node.later or {}) do
    if name == word then return true end
  end
  return false
end

local function unknown_command(p, word)
  if is_later(p.node, word) then
    return err.fail("EUNSUPPORTED", ("this release has no %s yet"):format(word),
      { exit = 69, hint = p.spec.name .. " help, for what there is" })
  end
  local near = text.nearest(word, M.command_names(p.node))
  local hint = near and table.concat({ p.spec.name, table.unpack(p.path) }, " ") .. " " .. near
  return usage(p, ("unknown command '%s'"):format(word), hint)
end

local function check_choice(p, choices, value, what)
  if not choices then return value end
  for _, c in ipairs(choices) do
    if c == value then return value end
  end
  return usage(p, ("%s: '%s' is not one of %s"):format(what, value, table.concat(choices, ", ")),
    text.nearest(value, choices))
end

local RANGES = { port = { 0, 65535 } }

-- type = "integer" | "number" | "port", with min and max; everything else is text.
local function typed(p, form, word, what)
  local kind = form.type
  if not kind then return check_choice(p, form.choices, word, what) end
  local range = RANGES[kind] or {}
  local low, high = form.min or range[1], form.max or range[2]
  local n = word:match("^[+-]?%d") and tonumber(word)
  if n and kind ~= "number" then n = math.tointeger(n) end
  if not n then
    return usage(p, ("%s: '%s' is not %s"):format(what, word, kind == "number" and "a number" or "an integer"))
  end
  if low and n < low or high and n > high then
    return usage(p, ("%s: %s is not between %s and %s"):format(what, word, low or "anything", high or "anything"))
  end
  return n
end

local function store(p, option, spelling, word)
  local key = M.key(option)
  if not option.value then
    p.opts[key] = true
    return true
  end
  local value, e = typed(p, option, word, spelling)
  if value == nil then return nil, e end
  if option.many then
    p.opts[key] = p.opts[key] or {}
    table.insert(p.opts[key], value)
  else
    p.opts[key] = value
  end
  return true
end

-- The value that follows, unless it is itself a known option.
local function next_value(p, option, spelling)
  local word = p.argv[p.at + 1]
  if word == nil or (word ~= "-" and p.by_spelling[word]) or word == "--" then
    return usage(p, ("option %s needs a value (%s)"):format(spelling, option.value))
  end
  p.at = p.at + 1
  return word
end

local function take_option(p, option, spelling, attached)
  if attached and not option.value then return usage(p, ("option %s takes no value"):format(spelling)) end
  if option.value and not attached then
    local word, e = next_value(p, option, spelling)
    if not word then return nil, e end
    attached = word
  end
  return store(p, option, spelling, attached)
end

-- -vq, -ofile, -o=file
local function take_group(p, word)
  local i = 2
  while i <= #word do
    local spelling = "-" .. word:sub(i, i)
    local option = p.by_spelling[spelling]
    if not option then return unknown_option(p, i == 2 and word or spelling) end
    local rest = option.value and i < #word and word:sub(i + 1):gsub("^=", "") or nil
    local ok, e = take_option(p, option, spelling, rest)
    if not ok then return nil, e end
    if option.value then return true end
    i = i + 1
  end
  return true
end

local function take_word(p, word)
  local name, value = word:match("^(%-[^=]+)=(.*)$")
  name = name or word
  local option = p.by_spelling[name]
  if not option and not name:match("^%-%-") and #name > 2 then    -- -output is --output, but -vq is -v -q
    option = p.by_spelling["-" .. name]
  end
  if option then return take_option(p, option, name, value) end
  if name:match("^%-%-") then return unknown_option(p, name) end
  return take_group(p, word)
end

local function enter(p, word)
  local node = M.find(p.node, { word })
  if not node then return unknown_command(p, word) end
  p.node = node
  p.path[#p.path + 1] = word
  add_options(p, node)
  return true
end

local function rest_begins(p)
  local form = (p.node.args or {})[#p.words + 1]
  local last = p.node.args and p.node.args[#p.node.args]
  if form then return form.rest end
  return last and last.rest
end

local function take_plain(p, word)
  if p.node.commands and #p.words == 0 then return enter(p, word) end
  p.words[#p.words + 1] = word
  if rest_begins(p) then
    for i = p.at + 1, #p.argv do p.words[#p.words + 1] = p.argv[i] end
    p.at = #p.argv
  end
  return true
end

local function walk(p)
  local plain = false
  while p.at < #p.argv do
    p.at = p.at + 1
    local word, ok, e = p.argv[p.at], true, nil
    if not plain and word == "--" then
      plain = true
    elseif not plain and #word > 1 and word:sub(1, 1) == "-" then
      ok, e = take_word(p, word)
    else
      ok, e = take_plain(p, word)
    end
    if not ok then return nil, e end
  end
  return true
end

-- Positional words by number and by lower-case name; defaults filled in.
local function bind_args(p)
  local args, n = {}, 0
  for _, form in ipairs(p.node.args or {}) do
    local key = form.name:lower():gsub("-", "_")
    if form.many then
      args[key] = {}
      while n < #p.words do
        n = n + 1
        args[key][#args[key] + 1] = p.words[n]
        args[#args + 1] = p.words[n]
      end
      if #args[key] == 0 and not form.optional then return usage(p, ("%s is missing"):format(form.name)) end
    elseif n < #p.words or form.default ~= nil then
      n = n + 1
      local value, e = p.words[n], nil
      if value ~= nil then value, e = typed(p, form, value, form.name) else value = form.default end
      if value == nil then return nil, e end
      args[key], args[#args + 1] = value, value
    elseif not form.optional then
      return usage(p, ("%s is missing"):format(form.name))
    end
  end
  if n < #p.words then return usage(p, ("too many arguments: '%s'"):format(p.words[n + 1])) end
  return args
end

local function fill_defaults(p)
  for _, option in ipairs(p.options) do
    local key = M.key(option)
    if p.opts[key] == nil then
      if option.required then return usage(p, ("option --%s is missing"):format(option.long)) end
      if option.many then p.opts[key] = {} else p.opts[key] = option.default end
    else
      p.given[key] = true
    end
  end
  return true
end

local function finish(p)
  if p.opts.help then return { help = true, path = p.path, opts = p.opts, command = p.node } end
  if p.opts.version then return { version = true, path = p.path, opts = p.opts, command = p.node } end
  local ok, e = fill_defaults(p)
  if not ok then return nil, e end
  local args = {}
  if p.node.script then
    args, e = bind_args(p)
    if not args then return nil, e end
  end
  return { command = p.node, path = p.path, opts = p.opts, args = args, given = p.given }
end

---@param spec table the command table
---@param argv string[]
---@return table|nil parsed { command, path, opts, args, given, help, version }
---@return table|nil error
---@return table|nil partial { path, opts }
function M.parse(spec, argv)
  local p = { spec = spec, node = spec, argv = argv, at = 0, path = {}, words = {}, opts = {}, given = {},
    by_spelling = {}, options = {} }
  add_options(p, spec)
  local ok, e = walk(p)
  local parsed
  if ok then parsed, e = finish(p) end
  if not parsed then return nil, e, { path = p.path, opts = p.opts } end
  return parsed
end

return M
