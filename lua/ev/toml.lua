-- toml.lua — TOML with source positions, and an editor that leaves every other byte alone.
local codec = require "ev.c.codec"

local M = { parse = codec.toml_parse, string = codec.toml_string }

-- The TOML text of a value: string, integer, boolean or a list of them.
function M.literal(value)
  if type(value) == "string" then return codec.toml_string(value) end
  if type(value) == "table" then
    local items = {}
    for i, v in ipairs(value) do items[i] = M.literal(v) end
    return "[" .. table.concat(items, ", ") .. "]"
  end
  return tostring(value)
end

-- changes: list of {path = {"table"}, key = "k", value = v}; a nil value removes the key.
function M.edit(text, changes)
  local edits = {}
  for i, c in ipairs(changes) do
    edits[i] = { path = c.path, key = c.key, literal = c.value ~= nil and M.literal(c.value) or "" }
  end
  return codec.toml_edit(text, edits)
end

return M
