-- help.lua — help text of the command table at any level. Same input, same text; no dates, no colours.
local M = {}

local MIN_WIDTH, MAX_WIDTH, INDENT, MAX_LEFT = 40, 100, 2, 30

--- Lines of `text` no wider than `width`; words longer than that stay whole.
function M.wrap(text, width)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if line == "" then
      line = word
    elseif utf8.len(line .. " " .. word) <= width then
      line = line .. " " .. word
    else
      lines[#lines + 1], line = line, word
    end
  end
  if line ~= "" or #lines == 0 then lines[#lines + 1] = line end
  return lines
end

local function paragraph(out, text, width, indent)
  local pad = (" "):rep(indent or 0)
  for _, l in ipairs(M.wrap(text, width - #pad)) do out[#out + 1] = pad .. l end
end

-- Two columns: rows = { { left, right }, ... }
local function columns(out, rows, width)
  local left = 0
  for _, r in ipairs(rows) do
    if #r[1] <= MAX_LEFT then left = math.max(left, #r[1]) end
  end
  local pad = (" "):rep(INDENT + left + 2)
  for _, r in ipairs(rows) do
    local text = M.wrap(r[2], math.max(width - #pad, 20))
    local head = (" "):rep(INDENT) .. r[1]
    if #r[1] > left then
      out[#out + 1] = head
      head = pad:sub(3)
    end
    out[#out + 1] = head .. (" "):rep(INDENT + left + 2 - #head) .. text[1]
    for i = 2, #text do out[#out + 1] = pad .. text[i] end
  end
end

local function section(out, title, rows, width)
  if #rows == 0 then return end
  out[#out + 1] = ""
  out[#out + 1] = title .. ":"
  columns(out, rows, width)
end

local function arg_usage(arg)
  local s = arg.name .. (arg.many and "..." or "")
  return (arg.optional or arg.default ~= nil) and "[" .. s .. "]" or s
end

local function arg_help(arg)
  local s = arg.help or ""
  if arg.default ~= nil then s = s .. (" (default: %s)"):format(arg.default) end
  return s
end

local function option_left(o)
  local s = (o.short and "-" .. o.short .. ", " or "    ") .. "--" .. o.long
  return o.value and s .. " " .. o.value or s
end

local function option_right(o)
  local s = o.help or ""
  local function add(text) s = s .. (s == "" and "" or " ") .. text end
  if o.choices then add("[" .. table.concat(o.choices, ", ") .. "]") end
  if o.default ~= nil then add(("(default: %s)"):format(tostring(o.default))) end
  if o.many then add("(may be repeated)") end
  return s
end

local function option_rows(list)
  local rows = {}
  for _, o in ipairs(list or {}) do
    if not o.hidden then rows[#rows + 1] = { option_left(o), option_right(o) } end
  end
  return rows
end

-- Groups in order of first appearance.
local function command_sections(out, node, width)
  local order, groups = {}, {}
  for _, c in ipairs(node.commands or {}) do
    local g = c.group or "Commands"
    if not c.hidden then
      if not groups[g] then groups[g], order[#order + 1] = {}, g end
      table.insert(groups[g], { c.name, c.summary or "" })
    end
  end
  if #order == 1 then
    section(out, "Commands", groups[order[1]], width)
    return
  end
  for _, g in ipairs(order) do section(out, g, groups[g], width) end
end

local function usage_line(spec, node, path)
  local words = { spec.name, table.unpack(path) }
  if node.commands then words[#words + 1] = "COMMAND" end
  words[#words + 1] = "[OPTIONS]"
  for _, a in ipairs(node.args or {}) do words[#words + 1] = arg_usage(a) end
  return "Usage: " .. table.concat(words, " ")
end

local function arguments(node)
  local rows = {}
  for _, a in ipairs(node.args or {}) do rows[#rows + 1] = { a.name, arg_help(a) } end
  return rows
end

---@param spec table
---@param path string[] names of the command, {} for the top level
---@param width integer columns of the terminal
function M.text(spec, path, width)
  width = math.max(MIN_WIDTH, math.min(width, MAX_WIDTH))
  local node = require("ev.cli").find(spec, path)
  local out = {}
  paragraph(out, node.summary or "", width)
  out[#out + 1] = ""
  paragraph(out, usage_line(spec, node, path), width)
  section(out, "Arguments", arguments(node), width)
  command_sections(out, node, width)
  if node ~= spec then section(out, "Options", option_rows(node.options), width) end
  section(out, node == spec and "Options" or "Global options", option_rows(spec.options), width)
  if node.notes then
    out[#out + 1] = ""
    paragraph(out, node.notes, width)
  end
  if node.examples then
    out[#out + 1] = ""
    out[#out + 1] = "Examples:"
    for _, e in ipairs(node.examples) do out[#out + 1] = (" "):rep(INDENT) .. e end
  end
  if node.commands then
    out[#out + 1] = ""
    paragraph(out, ("More about a command: %s COMMAND"):format(
      table.concat({ spec.name, "help", table.unpack(path) }, " ")), width)
  end
  return table.concat(out, "\n") .. "\n"
end

return M
