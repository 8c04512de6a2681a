-- http.lua — one HTTP exchange at a time: over libcurl (request), or the answer that comes on a
-- stream of ours (parse_response), which is how an attested connection is used.
local err = require "ev.err"

local M = {}

local HEAD_MAX, BODY_MAX, CHUNK_LINE_MAX, HEADERS_MAX = 64 * 1024, 16 * 1024 * 1024, 1024, 256
local STEP = 64 * 1024

local function broken(reason, message) return err.fail("EHTTP", message, { reason = reason }) end

local function ended(what) return broken("cut", "the answer ended inside its " .. what) end

-- "Name: value" lines → lower-case names; repeated fields are joined with a comma.
local function parse_fields(text)
  local headers, n = {}, 0
  for line in (text .. "\r\n"):gmatch("(.-)\r?\n") do
    local name, value = line:match("^([!#$%%&'*+%-.^_`|~%w]+):[ \t]*(.-)[ \t]*$")
    if line ~= "" then
      n = n + 1
      if not name then return broken("header", "malformed header line") end
      if n > HEADERS_MAX then return broken("header", "too many headers") end
      name = name:lower()
      headers[name] = headers[name] and headers[name] .. ", " .. value or value
    end
  end
  return headers
end

local function read_head(stream)
  local text, e = stream:read_until("\r\n\r\n", HEAD_MAX)
  if not text then
    if e then return nil, e:wrap("response head") end
    return broken("cut", "no answer: the connection was closed")
  end
  local status, rest = text:match("^HTTP/1%.[01] (%d%d%d)[^\r\n]*(.*)$")
  if not status then return broken("status", "the answer is not HTTP/1.1") end
  local headers, e2 = parse_fields(rest:gsub("^\r?\n", ""))
  if not headers then return nil, e2 end
  return tonumber(status), headers
end

local function too_large(max) return err.fail("ELIMIT", ("the body is larger than %d bytes"):format(max)) end

local function read_counted(stream, n, parts)
  while n > 0 do
    local data, e = stream:read(math.min(n, STEP))
    if not data then
      if e then return nil, e end
      return ended("body")
    end
    parts[#parts + 1] = data
    n = n - #data
  end
  return true
end

local function read_to_end(stream, max, parts)
  local size = 0
  while true do
    local data, e = stream:read(STEP)
    if not data then
      if e then return nil, e end
      return true
    end
    size = size + #data
    if size > max then return too_large(max) end
    parts[#parts + 1] = data
  end
end

local function read_trailers(stream)
  for _ = 1, HEADERS_MAX do
    local line, e = stream:read_until("\r\n", CHUNK_LINE_MAX)
    if line == "" then return true end
    if not line then
      if e then return nil, e end
      return ended("trailers")
    end
  end
  return broken("header", "too many trailers")
end

local function read_chunked(stream, max, parts)
  local size = 0
  while true do
    local line, e = stream:read_until("\r\n", CHUNK_LINE_MAX)
    if not line then
      if e then return nil, e end
      return ended("body")
    end
    local hex = line:match("^(%x+)[ \t]*$") or line:match("^(%x+)[ \t]*;")
    local n = hex and #hex <= 8 and tonumber(hex, 16)
    if not n then return broken("chunk", "malformed chunk size") end
    if n == 0 then return read_trailers(stream) end
    size = size + n
    if size > max then return too_large(max) end
    local ok, e2 = read_counted(stream, n, parts)
    if not ok then return nil, e2 end
    local newline = stream:read_exact(2)
    if newline ~= "\r\n" then return broken("chunk", "malformed chunk") end
  end
end

local function read_body(stream, status, headers, opts, max)
  local parts, ok, e = {}
  local coding, length = headers["transfer-encoding"], headers["content-length"]
  if opts.head or status == 204 or status == 304 then return "" end
  if coding then
    if length or coding:lower() ~= "chunked" then return broken("framing", "ambiguous length of the body") end
    ok, e = read_chunked(stream, max, parts)
  elseif length then
    local n = length:match("^%d+$") and #length <= 15 and tonumber(length)
    if not n then return broken("framing", "malformed Content-Length") end
    if n > max then return too_large(max) end
    ok, e = read_counted(stream, n, parts)
  else
    ok, e = read_to_end(stream, max, parts)
  end
  if not ok then return nil, e end
  return table.concat(parts)
end

--- Reads one answer from a stream; 1xx answers before it are skipped.
---@param stream userdata
---@param opts? { max?: integer, head?: boolean } bytes of the body (16 MiB); head: it has none
---@return table|nil { status, headers, body }
---@return table|nil err
function M.parse_response(stream, opts)
  opts = opts or {}
  local status, headers
  repeat
    status, headers = read_head(stream)
    if not status then return nil, headers end
  until status >= 200 or status == 101
  local body, e = read_body(stream, status, headers, opts, opts.max or BODY_MAX)
  if not body then return nil, e end
  return { status = status, headers = headers, body = body }
end

--- One GET on a stream of ours, which stays open for the next one (how an attested connection is used).
---@param stream userdata
---@param request table host, path (with its "/"), headers { Name = value }, timeout (s; 60), max (bytes; 16 MiB)
---@return table|nil { status, headers, body }
---@return table|nil err
function M.get(stream, request)
  local lines = { ("GET %s HTTP/1.1"):format(request.path), "host: " .. request.host }
  local headers = request.headers or {}
  local names = {}
  for name in pairs(headers) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do lines[#lines + 1] = ("%s: %s"):format(name, headers[name]) end
  for i, line in ipairs(lines) do
    if line:find("[%c\127]") or (i == 1 and not line:match "^GET /%S* HTTP/1%.1$") then
      return err.fail("EUSAGE", ("%s: not a request line or header"):format((line:gsub("%c", "?"))))
    end
  end
  return require("ev.task").timeout(request.timeout or 60, function()
    local ok, e = stream:write(table.concat(lines, "\r\n") .. "\r\n\r\n")
    if not ok then return nil, e end
    return M.parse_response(stream, { max = request.max })
  end)
end

--- One request over libcurl.
---@param request table url, method, headers { Name = value }, body, timeout (s; 60), max (bytes; 16 MiB), ca_file
--- (PEM that alone is trusted), unix (path of a socket), redirects (how many to follow; 0)
---@return table|nil { status, headers, body }
---@return table|nil err
function M.request(request)
  local job <close> = require("ev.c.http").request(request)
  return job:wait()
end

return M
