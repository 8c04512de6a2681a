-- schema.lua — checks a TOML tree against a schema that is data, and says file, line and key of
-- every mistake.
--
-- A field: {type = "string" | "bool" | "int" | "port" | "path" | "list" | "table" | "map" | "any",
--   of = type of a list's items or a map's values, fields = of a table, default = value,
--   required = true, check = function(value) → nil | text of what is wrong, words = {allowed…}}
local err = require "ev.err"
local text = require "ev.text"

local M = {}

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys)
  return keys
end

local function wrong(ctx, node, path, message, hint)
  return nil, err.new("ECONFIG", ("%s:%d: %s: %s"):format(ctx.file, node.line or 1, path, message), { hint = hint })
end

local function expected(ctx, node, path, what)
  return wrong(ctx, node, path, ("expected %s, found %s"):format(what, node.type))
end

local scalar = {}

function scalar.string(ctx, node, path)
  if node.type ~= "string" then return expected(ctx, node, path, "a string") end
  if node.value:find("\0", 1, true) then return wrong(ctx, node, path, "holds a NUL character") end
  return node.value
end

scalar.path = scalar.string

function scalar.bool(ctx, node, path)
  if node.type ~= "boolean" then return expected(ctx, node, path, "true or false") end
  return node.value
end

function scalar.int(ctx, node, path)
  if node.type ~= "integer" then return expected(ctx, node, path, "a whole number") end
  return node.value
end

-- 443 or "443"
function scalar.port(ctx, node, path)
  local n = node.value
  if node.type == "string" then n = node.value:match("^%d+$") and tonumber(node.value) end
  if node.type ~= "string" and node.type ~= "integer" then return expected(ctx, node, path, "a port") end
  if not n or n < 1 or n > 65535 then
    return wrong(ctx, node, path, ("%q is not a port"):format(tostring(node.value)), "a number from 1 to 65535")
  end
  return math.tointeger(n)
end

local convert

local function plain(node)
  if node.fields then
    local t = {}
    for _, k in ipairs(node.keys) do t[k] = plain(node.fields[k]) end
    return t
  elseif node.items then
    local t = {}
    for i, item in ipairs(node.items) do t[i] = plain(item) end
    return t
  end
  return node.value
end

local function convert_list(ctx, node, field, path)
  if node.type ~= "array" then return expected(ctx, node, path, "a list") end
  local list = {}
  for i, item in ipairs(node.items) do
    local v, e = convert(ctx, item, { type = field.of, check = field.item_check }, ("%s[%d]"):format(path, i))
    if e then return nil, e end
    list[i] = v
  end
  return list
end

local function convert_map(ctx, node, field, path)
  if node.type ~= "table" then return expected(ctx, node, path, "a table") end
  local map = {}
  for _, k in ipairs(node.keys) do
    local v, e = convert(ctx, node.fields[k], { type = field.of }, path .. "." .. k)
    if e then return nil, e end
    map[k] = v
  end
  return map
end

local function unknown(ctx, node, path, key, fields)
  local near = text.nearest(key, sorted_keys(fields))
  ctx.warnings[#ctx.warnings + 1] = ("%s:%d: unknown key `%s`%s"):format(ctx.file, node.line or 1,
    path .. key, near and (" — did you mean `%s`?"):format(path .. near) or "")
end

local function missing(ctx, node, path, key, field)
  if field.required then
    local near
    for _, k in ipairs(node.keys) do
      if not ctx.known[k] and text.nearest(k, { key }) then near = k end
    end
    return nil, err.new("ECONFIG", ("%s:%d: `%s` is missing"):format(ctx.file, node.line or 1, path .. key),
      { hint = near and ("line %d has `%s`: rename it to `%s`"):format(node.fields[near].line, near, key)
        or ("add a line %s = …"):format(key) })
  end
  local v = field.default
  if type(v) == "table" then v = table.move(v, 1, #v, 1, {}) end
  if v == nil and field.type == "table" then
    local empty = { type = "table", keys = {}, fields = {}, line = node.line }
    return M.table_of(ctx, empty, field.fields, path .. key .. ".")
  end
  return v
end

-- A table node against fields → plain table | nil, err. `path` ends with a dot or is empty.
function M.table_of(ctx, node, fields, path)
  local out = {}
  for _, key in ipairs(node.keys) do
    local field, child = fields[key], node.fields[key]
    if not field then
      unknown(ctx, child, path, key, fields)
    else
      local v, e = convert(ctx, child, field, path .. key)
      if e then return nil, e end
      out[key] = v
      ctx.given[path .. key] = child.line
    end
  end
  for _, key in ipairs(sorted_keys(fields)) do
    if out[key] == nil then
      local v, e = missing(ctx, node, path, key, fields[key])
      if e then return nil, e end
      out[key] = v
    end
  end
  return out
end

function convert(ctx, node, field, path)
  local v, e
  if field.type == "any" then
    v = plain(node)
  elseif field.type == "table" then
    if node.type ~= "table" then return expected(ctx, node, path, "a table") end
    return M.table_of(ctx, node, field.fields, path .. ".")
  elseif field.type == "list" then
    v, e = convert_list(ctx, node, field, path)
  elseif field.type == "map" then
    v, e = convert_map(ctx, node, field, path)
  else
    v, e = scalar[field.type](ctx, node, path)
  end
  if e then return nil, e end
  local complaint = field.check and field.check(v)
  if complaint then return wrong(ctx, node, path, complaint) end
  return v
end

-- → values, given (path → line), warnings | nil, err
---@param root table a node of ev.toml
---@param fields table
---@param file string the name shown in messages
function M.check(root, fields, file)
  local ctx = { file = file, warnings = {}, given = {}, known = fields }
  local values, e = M.table_of(ctx, root, fields, "")
  if not values then return nil, e end
  return values, ctx.given, ctx.warnings
end

return M
