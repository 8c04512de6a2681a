-- tap.lua — TAP for Lua tests: `local t = require "tap"`, checks, `return t.done()`.
local M = {}
local n, failed = 0, 0

local function show(v)
  if type(v) ~= "table" then return ("%q"):format(tostring(v)) end
  local parts, keys = {}, {}
  for k in pairs(v) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, k in ipairs(keys) do parts[i] = tostring(k) .. "=" .. show(v[k]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

function M.ok(value, name)
  n = n + 1
  if not value then failed = failed + 1 end
  print(("%s %d - %s"):format(value and "ok" or "not ok", n, name))
  return value
end

-- Deep equality, told apart in the report.
function M.is(got, want, name)
  local same = show(got) == show(want)
  M.ok(same, name)
  if not same then print("# got  " .. show(got) .. "\n# want " .. show(want)) end
end

-- The message of an expected failure holds these words.
function M.fails(value, e, pattern, name)
  local hit = value == nil and e ~= nil and tostring(e.message or e):find(pattern) ~= nil
  M.ok(hit, name)
  if not hit then print("# value " .. show(value) .. ", error " .. tostring(e and e.message or e)) end
end

function M.skip(name, why)
  n = n + 1
  print(("ok %d - %s # SKIP %s"):format(n, name, why))
end

function M.done()
  print("1.." .. n)
  return failed == 0 and 0 or 1
end

return M
