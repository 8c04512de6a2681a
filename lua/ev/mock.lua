-- mock.lua — `dev --crypto-api`: the crypto API of a cage (127.0.0.1:9999) for an app that runs outside
-- of one. Its key lives as long as the process; what it encrypts is marked as debug and is no secret.
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local json = require "ev.json"
local net = require "ev.net"
local sys = require "ev.sys"
local task = require "ev.task"
local text = require "ev.text"

local M = {}

local DEFAULT_PORT, HEAD_MAX, BODY_MAX, DEPTH_MAX = 9999, 32768, 32 << 20, 60
local REASONS = { [200] = "OK", [400] = "Bad Request", [404] = "Not Found", [405] = "Method Not Allowed",
  [413] = "Content Too Large", [500] = "Internal Server Error" }

-- --- values ------------------------------------------------------------------------------------------

local function fail(status, message) return nil, { status = status, message = message } end

-- Every leaf of a JSON value through `leaf`.
local function walk(value, leaf, depth)
  if type(value) ~= "table" then return leaf(value) end
  if (depth or 0) > DEPTH_MAX then return fail(400, "the value nests too deeply") end
  local out = {}
  for k, v in pairs(value) do
    local changed, e = walk(v, leaf, (depth or 0) + 1)
    if e then return nil, e end
    out[k] = changed
  end
  return getmetatable(value) and json.array(out) or out
end

local function encrypter(app, role)
  local how = { debug = true, role = role, origin = 5, time = math.floor(sys.time()) }
  return function(value)
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      return fail(400, "null cannot be encrypted")
    end
    local s, e = app:encrypt(kind, kind == "string" and value or json.encode(value), how)
    if not s then return fail(500, e.message) end
    return s
  end
end

local function decrypter(app)
  return function(value)
    if type(value) ~= "string" then return value end
    local plain, e = app:decrypt(value)
    if plain == nil then return fail(500, e.message) end
    if not plain then return value end
    local decoded, decode_err = json.parse("[" .. plain .. "]")
    if not decoded then return fail(500, decode_err.message) end
    return decoded[1]
  end
end

-- CBOR of a short text; all that the mock document needs.
local function cbor_text(s)
  return #s < 24 and string.char(0x60 + #s) .. s or string.char(0x78, #s) .. s
end

-- {Measurements: {PCR0, PCR1, PCR2, PCR8}} from the environment: not a document that anybody can verify.
local function mock_document()
  local out = { "\xa1", cbor_text "Measurements", "\xa4" }
  for _, name in ipairs { "PCR0", "PCR1", "PCR2", "PCR8" } do
    out[#out + 1] = cbor_text(name) .. cbor_text((sys.getenv(name) or "000"):sub(1, 255))
  end
  return table.concat(out)
end

-- --- HTTP ---------------------------------------------------------------------------------------------

local function read_chunked(stream)
  local pieces, size = {}, 0
  while true do
    local line = stream:read_until("\r\n", 256)
    local n = line and tonumber(line:match("^(%x+)"), 16)
    if not n or size + n > BODY_MAX then return fail(n and 413 or 400, "bad chunk") end
    if n == 0 then
      stream:read_until("\r\n", HEAD_MAX)
      return table.concat(pieces)
    end
    local piece = stream:read_exact(n + 2)
    if not piece then return fail(400, "the body ends early") end
    pieces[#pieces + 1], size = piece:sub(1, n), size + n
  end
end

-- → request | nil at the end, or nil, {status, message}
local function read_request(stream)
  local head = stream:read_until("\r\n\r\n", HEAD_MAX)
  if not head then return nil end
  local method, path = head:match("^(%u+) (%S+) HTTP/1%.%d\r\n")
  if not method then return fail(400, "not HTTP/1") end
  local r = { method = method, path = path:gsub("%?.*$", ""), headers = {} }
  for name, value in head:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do r.headers[name:lower()] = text.trim(value) end
  if (r.headers["transfer-encoding"] or ""):lower() == "chunked" then
    local body, e = read_chunked(stream)
    if not body then return nil, e end
    r.body = body
  else
    local n = tonumber(r.headers["content-length"] or "0")
    if not n or n > BODY_MAX then return fail(413, "the body is too large") end
    if r.headers.expect and n > 0 then stream:write("HTTP/1.1 100 Continue\r\n\r\n") end
    r.body = n == 0 and "" or stream:read_exact(math.tointeger(n))
    if not r.body then return fail(400, "the body ends early") end
  end
  return r
end

local function respond(stream, status, body, kind)
  return stream:write(("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"):format(status,
    REASONS[status] or "Error", kind or "text/plain", #body, body))
end

local routes = {}

routes["/encrypt"] = function(app, value, request)
  local role = request.headers["x-evervault-data-role"]
  if role and not role:match("^[a-z0-9-]+$") or role and #role > 20 then return fail(400, "not a data role") end
  local out, e = walk(value, encrypter(app, role))
  if e then return nil, e end
  return json.encode(out), "application/json"
end

routes["/decrypt"] = function(app, value)
  local out, e = walk(value, decrypter(app))
  if e then return nil, e end
  return json.encode(out), "application/json"
end

routes["/attestation-doc"] = function(_, value, request)
  for _, key in ipairs { "nonce", "challenge" } do
    local v = type(value) == "table" and value[key]
    if type(v) == "string" and #v > 512 then return fail(400, key .. " has more than 512 bytes") end
  end
  local accept = request.headers.accept or ""
  if accept:find("application/cbor", 1, true) or accept:find("application/octet-stream", 1, true) then
    return mock_document(), "application/cbor"
  end
  return text.base64(mock_document()), "text/plain"
end

local function answer(app, request)
  local route = routes[request.path]
  if not route then return fail(404, "Not Found") end
  if request.method ~= "POST" then return fail(405, "POST only") end
  local value, e = json.parse(request.body)
  if e then return fail(400, "Could not deserialize your payload") end
  return route(app, value, request)
end

local function serve(app, stream)
  local guard <close> = stream
  while true do
    local request, e = read_request(guard)
    if not request then
      if e then respond(guard, e.status, e.message) end
      return
    end
    local body, kind = answer(app, request)
    if body then respond(guard, 200, body, kind) else respond(guard, kind.status, kind.message) end
    if (request.headers.connection or ""):lower() == "close" then return end
  end
end

-- Listens → listener | nil, err. For tests and for the verb.
function M.listen(port)
  local key, e = crypto.key_generate("p256")
  if not key then return nil, e end
  local app, app_err = crypto.evapp { p256 = key, debug = true }
  if not app then return nil, app_err end
  return net.listen("127.0.0.1:" .. port, function(stream) serve(app, stream) end)
end

function M.run(ctx)
  local port = ctx.opts.port and math.tointeger(tonumber(ctx.opts.port)) or DEFAULT_PORT
  if ctx.opts.port and not math.tointeger(tonumber(ctx.opts.port)) then
    return nil, err.new("EUSAGE", "--port: a number from 0 to 65535")
  end
  local listener <close>, e = M.listen(port)
  if not listener then
    return nil, err.new(e.code, e.message, { exit = 69, hint = "choose another port with --port" })
  end
  local at = listener:addr():gsub("^tcp:", "")
  if ctx.json then
    ctx.out { status = "running", address = at }
    io.stdout:flush()
  else
    ctx.ui.ok("mock of the crypto API at http://" .. at)
    ctx.ui.print("POST /encrypt, /decrypt, /attestation-doc. Its key is temporary and its strings are marked debug.")
  end
  while true do task.sleep(3600) end
end

return M
