-- text.lua — words and bytes: hex, base64, time, lists, the nearest word.
local codec = require "ev.c.codec"

local M = {
  hex = codec.hex, unhex = codec.unhex, base64 = codec.base64, unbase64 = codec.unbase64,
  time_parse = codec.time_parse, time_format = codec.time_format, nearest = codec.nearest,
  utf8_valid = codec.utf8_valid,
}

function M.trim(s)
  return (s:gsub("^%s+", ""):gsub("%s+$", ""))
end

-- A line of somebody else's for a terminal: colours pass and end with it, other control characters do not
-- (they could retitle it, write to its clipboard, or hide what follows).
function M.printable(s)
  local n
  s = s:gsub("\194[\128-\159]", "?"):gsub("[\0-\8\10-\26\28-\31\127]", "?")
  s, n = s:gsub("\27%[([%d;]*)m", "\0[%1m")
  s = s:gsub("\27", "?"):gsub("%z", "\27")
  return n > 0 and s .. "\27[0m" or s
end

-- "a, b,,c" → {"a", "b", "c"}
---@param s string
---@param separator? string one character, default ","
function M.split(s, separator)
  local list = {}
  for piece in s:gmatch("[^" .. (separator or ",") .. "]+") do
    piece = M.trim(piece)
    if piece ~= "" then list[#list + 1] = piece end
  end
  return list
end

function M.lines(s)
  local list = {}
  s = s:gsub("\r\n", "\n")
  if s:sub(-1) ~= "\n" then s = s .. "\n" end
  for line in s:gmatch("(.-)\n") do list[#list + 1] = line end
  return list
end

function M.starts(s, prefix)
  return s:sub(1, #prefix) == prefix
end

-- A word that a POSIX shell reads back as it is.
function M.shell_quote(s)
  if s:match("^[%w%-%._/:=@,+]+$") then return s end
  return "'" .. s:gsub("'", [['\'']]) .. "'"
end

-- 12345678 → "11.8 MiB"
function M.size(n)
  local units, i = { "B", "KiB", "MiB", "GiB" }, 1
  local v = n
  while v >= 1024 and i < #units do v, i = v / 1024, i + 1 end
  return i == 1 and ("%d B"):format(n) or ("%.1f %s"):format(v, units[i])
end

-- A SHA-384 (or PCR) in hexadecimal, lower case; nil when it is none.
function M.digest384(s)
  if type(s) == "string" and #s == 96 and s:match("^%x+$") then return s:lower() end
end

return M
