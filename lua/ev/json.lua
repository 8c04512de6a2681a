-- json.lua — JSON values as Lua tables. Keys come out sorted, so output is the same twice;
-- `ordered` keeps a given order, `array` makes an empty table an array.
local codec = require "ev.c.codec"

local M = { parse = codec.json_parse, null = codec.null, array = codec.array, ordered = codec.ordered }

---@param options? table {pretty = true}
function M.encode(value, options)
  return codec.json_encode(value, options)
end

function M.pretty(value)
  return codec.json_encode(value, { pretty = true })
end

return M
