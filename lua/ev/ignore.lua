-- ignore.lua — what never enters a build context: the private key, cage.toml (each build writes its
-- registers there, so an image that held it could never be built again) and what a build writes. A list
-- of ours after the user's own; the context itself is not touched.
local fs = require "ev.fs"
local record = require "ev.record"

local M = {}

local IGNORE_MAX = 1 << 20

-- "/a/ctx/x/y" inside "/a/ctx" → "x/y"; nil when it is elsewhere.
local function inside(path, context)
  local dir = fs.realpath(fs.dirname(path))
  if not dir then return nil end
  local full, base = fs.join(dir, fs.basename(path)), context == "/" and "/" or context .. "/"
  if full:sub(1, #base) ~= base then return nil end
  return full:sub(#base + 1)
end

-- A name as a pattern: Go's characters escaped, and so the first one that would mean something else.
local function pattern(name)
  return (name:gsub("[*?%[%]\\]", "\\%0"):gsub("^[#!]", "\\%0"))
end

-- The user's own list, by the builders' order of search.
local function own(dockerfile, context)
  for _, path in ipairs { dockerfile .. ".dockerignore", dockerfile .. ".containerignore",
    fs.join(context, ".containerignore"), fs.join(context, ".dockerignore") } do
    if fs.is_file(path) then return fs.read(path, { max = IGNORE_MAX }) end
  end
  return ""
end

--- What is left out of a context.
---@param context string
---@param output string folder of the results
---@param place string private folder of the build
---@param secrets string[] paths of cage.toml and key
---@return string[] names relative to the context
function M.names(context, output, place, secrets)
  local names, seen = {}, {}
  local root = fs.realpath(context)
  local function add(path)
    local name = root and inside(path, root)
    if name and not name:find("[\r\n]") and not seen[name] then seen[name], names[#names + 1] = true, name end
  end
  for _, path in ipairs(secrets) do
    add(path)
    add(fs.realpath(path) or path)
  end
  for _, name in ipairs { "enclave.eif", record.NAME, record.ALIAS } do add(fs.join(output, name)) end
  add(place)
  return names
end

--- The whole list as the text of an ignore file | nil, err
function M.text(dockerfile, context, names)
  local lines, e = own(dockerfile, context)
  if not lines then return nil, e end
  if lines ~= "" and lines:sub(-1) ~= "\n" then lines = lines .. "\n" end
  for _, name in ipairs(names) do lines = lines .. pattern(name) .. "\n" end
  return lines
end

return M
