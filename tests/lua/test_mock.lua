-- mock: the crypto API as an app sees it, over real connections.
local http = require "ev.http"
local json = require "ev.json"
local mock = require "ev.mock"
local net = require "ev.net"
local sys = require "ev.sys"
local text = require "ev.text"
local t = require "tap"

local listener <close> = assert(mock.listen(0))
local addr = listener:addr()

local function call(method, path, body, headers)
  local s <close> = assert(net.connect(addr, { timeout = 5 }))
  local head = { ("%s %s HTTP/1.1"):format(method, path), "Host: 127.0.0.1", "Connection: close" }
  for k, v in pairs(headers or {}) do head[#head + 1] = k .. ": " .. v end
  if body and not (headers and headers["Transfer-Encoding"]) then head[#head + 1] = "Content-Length: " .. #body end
  assert(s:write(table.concat(head, "\r\n") .. "\r\n\r\n" .. (body or "")))
  return assert(http.parse_response(s, { max = 1 << 20 }))
end

local value = { name = "Ada", age = 36, half = 0.5, yes = true, deep = { { "x" }, {} }, empty = "" }
local sent = json.encode(value)
local answer = call("POST", "/encrypt", sent)
t.is(answer.status, 200, "encrypt")
local hidden = json.parse(answer.body)
t.ok(hidden.name:match("^ev:debug:Tk9D:[%w+/=]+:[%w+/=]+:[%w+/=]+:%$$"), "a debug string: " .. hidden.name:sub(1, 24))
t.ok(hidden.age:match("^ev:debug:Tk9D:number:"), "a number")
t.ok(hidden.yes:match("^ev:debug:Tk9D:boolean:"), "a boolean")
t.is(#hidden.deep, 2, "lists stay lists")
t.is(json.encode(json.parse(call("POST", "/decrypt", answer.body).body)), sent, "decrypt gives the value back")
local plain = '{"a":"ev:not one","b":[1,null,"x"]}'
t.is(call("POST", "/decrypt", plain).body, plain, "what is no encrypted string stays")
local role = json.parse(call("POST", "/encrypt", '"x"', { ["X-Evervault-Data-Role"] = "cards" }).body
  and '{"v":' .. call("POST", "/encrypt", '"x"', { ["X-Evervault-Data-Role"] = "cards" }).body .. "}").v
t.ok(role:match("^ev:debug:TENZ:"), "a data role travels inside")
t.is(call("POST", "/decrypt", json.encode { v = role }).body, '{"v":"x"}', "and is decrypted")
local chunked = call("POST", "/encrypt", '5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n', { ["Transfer-Encoding"] = "chunked" })
t.ok(json.parse(chunked.body).a, "a chunked body")

local cut = hidden.name:sub(1, -8) .. "AAAA" .. hidden.name:sub(-3)
t.is(call("POST", "/decrypt", json.encode { v = cut }).status, 500, "a damaged string is an error")
t.is(call("POST", "/encrypt", "{").body, "Could not deserialize your payload", "bad JSON, the original's text")
t.is(call("POST", "/encrypt", "{").status, 400, "is 400")
t.is(call("POST", "/encrypt", '{"a":null}').status, 400, "null cannot be encrypted")
t.is(call("POST", "/encrypt", "1", { ["X-Evervault-Data-Role"] = "No!" }).status, 400, "not a role")
t.is(call("POST", "/nope", "{}").status, 404, "another path is 404")
t.is(call("GET", "/encrypt").status, 405, "POST only")
t.is(call("POST", "/encrypt", ("["):rep(80) .. ("]"):rep(80)).status, 400, "nesting has a bound")

sys.setenv("PCR0", "abc")
local doc = call("POST", "/attestation-doc", '{"nonce":"1"}')
t.is(text.unbase64(doc.body), "\xa1\x6cMeasurements\xa4\x64PCR0\x63abc\x64PCR1\x63000\x64PCR2\x63000\x64PCR8\x63000",
  "the mock document in base64")
local raw = call("POST", "/attestation-doc", "{}", { Accept = "application/cbor" })
t.is(raw.body:sub(1, 14), "\xa1\x6cMeasurements", "and raw")
t.is(call("POST", "/attestation-doc", json.encode { nonce = ("x"):rep(513) }).status, 400,
  "a nonce has at most 512 bytes")
return t.done()
