-- Answers on a stream: framing, limits, nonsense.
local fs = require "ev.fs"
local http = require "ev.http"
local net = require "ev.net"
local t = require "tap"

local dir <close> = assert(fs.scratch())
local addr = "unix:" .. dir.path .. "/s"

-- Sends `answer`, in pieces of `step` bytes, to one connection and parses it there.
local function parse(answer, opts, step)
  local l <close> = assert(net.listen(addr, function(s)
    for i = 1, #answer, step or #answer do s:write(answer:sub(i, i + (step or #answer) - 1)) end
  end))
  local s <close> = assert(net.connect(addr))
  s:set_timeout(5)
  return http.parse_response(s, opts), l
end

local function parse_error(answer, opts)
  local l <close> = assert(net.listen(addr, function(s) s:write(answer) end))
  local s <close> = assert(net.connect(addr))
  s:set_timeout(5)
  local r, e = http.parse_response(s, opts)
  return r == nil and e and (e.reason or e.code) or (l and "accepted")
end

local counted = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a:  2 \r\n\r\nhello"
local chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
  .. "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
for _, step in ipairs { 1, 3, 1000 } do
  local r = parse(counted, nil, step)
  t.is({ r.status, r.body, r.headers["x-a"] }, { 200, "hello", "1, 2" }, "counted body in pieces of " .. step)
  r = parse(chunked, nil, step)
  t.is({ r.status, r.body }, { 201, "abc0123456789" }, "chunked body in pieces of " .. step)
end
t.is(parse("HTTP/1.0 200 OK\r\n\r\nto the end").body, "to the end", "until the end")
t.is(parse("HTTP/1.1 100 Continue\r\n\r\n" .. counted).status, 200, "1xx is skipped")
t.is(parse("HTTP/1.1 204 No Content\r\n\r\n").body, "", "204 has no body")
t.is(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", { head = true }).body, "", "neither has HEAD")

-- two requests on one connection
do
  local seen = {}
  local l <close> = assert(net.listen(addr, function(s)
    for i = 1, 2 do
      seen[i] = s:read_until("\r\n\r\n", 4096)
      s:write(i == 1 and counted or "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
    end
    while s:read() do end
  end))
  local s <close> = assert(net.connect(addr))
  local one = assert(http.get(s, { host = "h", path = "/a?b", timeout = 5,
    headers = { ["api-key"] = "k", accept = "*/*" } }))
  local two = assert(http.get(s, { host = "h", path = "/", timeout = 5 }))
  t.is({ one.status, one.body, two.status, two.body }, { 200, "hello", 404, "no" }, "two answers on one connection")
  t.is(seen, { "GET /a?b HTTP/1.1\r\nhost: h\r\naccept: */*\r\napi-key: k", "GET / HTTP/1.1\r\nhost: h" },
    "how they were asked, and that the connection stays")
  for _, bad in ipairs { { path = "/a b" }, { path = "/\r\nx: y" }, { path = "x" },
    { path = "/", headers = { ["api-key"] = "k\r\nx: y" } } } do
    local r, e = http.get(s, { host = "h", path = bad.path, headers = bad.headers })
    t.is({ r, e.code }, { nil, "EUSAGE" }, ("not sent: %q"):format(bad.path))
  end
  local r, e = http.get(s, { host = "h", path = "/", timeout = 0.1 })
  t.is({ r, e.code }, { nil, "ETIMEDOUT" }, "a third has no answer in time")
  l:close()
end

for _, c in ipairs {
  { "", "cut", "nothing" },
  { "HTTP/1.1 200 OK\r\nContent-Le", "EEOF", "cut inside the head" },
  { counted:sub(1, -3), "cut", "cut inside a counted body" },
  { chunked:sub(1, -20), "cut", "cut inside a chunk" },
  { chunked:sub(1, -5), "EEOF", "cut inside trailers" },
  { "SSH-2.0-x\r\n\r\n", "status", "another protocol" },
  { "HTTP/2 200\r\n\r\n", "status", "another version" },
  { "HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "header", "a header without a colon" },
  { "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n", "header", "a blank before the colon" },
  { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", "framing", "two lengths" },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "framing", "a coding we did not ask for" },
  { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "framing", "lengths that differ" },
  { "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "framing", "a negative length" },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk", "a chunk size that is none" },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", "chunk", "a chunk longer than it says" },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n123456789\r\n", "chunk", "a chunk of gigabytes" },
  { "HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(300) .. "\r\n", "header", "too many headers" },
  { "HTTP/1.1 200 OK\r\nA: " .. ("b"):rep(70000), "ELIMIT", "a head too long" },
} do t.is(parse_error(c[1]), c[2], c[3]) end
t.is(parse_error("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", { max = 10 }), "ELIMIT",
  "a body over the limit, counted")
t.is(parse_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF\r\n", { max = 10 }), "ELIMIT", "chunked")
t.is(parse_error("HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(100), { max = 10 }), "ELIMIT", "to the end")

-- over libcurl
if not pcall(http.request, { url = "http://127.0.0.1:1/", timeout = 1 }) then error("request raised") end
local _, absent = http.request { url = "http://127.0.0.1:1/", timeout = 5 }
if absent.code == "EMISSING" then
  t.skip("requests", "libcurl is not installed")
  return t.done()
end
t.is(absent.code, "ECONNREFUSED", "nobody there")
local seen
local server <close> = assert(net.listen("unix:" .. dir.path .. "/server", function(s)
  local head = s:read_until("\r\n\r\n", 8192)
  local n = head:lower():match("content%-length: (%d+)")
  seen = { head = head, body = n and s:read_exact(tonumber(n)) }
  if head:find("/slow") then return s:read() end
  s:write("HTTP/1.1 202 Accepted\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong")
end))
local unix = dir.path .. "/server"
local r = assert(http.request { url = "http://host.test/path?q=1", unix = unix, headers = { ["X-Token"] = "abc" } })
t.is({ r.status, r.body, r.headers["x-a"] }, { 202, "pong", "1, 2" }, "an answer")
t.ok(seen.head:find("^GET /path%?q=1 HTTP/1.1") and seen.head:find("X-Token: abc", 1, true)
  and seen.head:find("Host: host.test", 1, true),
  "what was asked")
assert(http.request { url = "http://host.test/", unix = unix, method = "POST", body = "a\0b" })
t.is({ seen.body, seen.head:match("^%u+") }, { "a\0b", "POST" }, "a body with a zero byte")
t.is(select(2, http.request { url = "http://host.test/", unix = unix, max = 2 }).code, "ENOBUFS",
  "an answer over the limit")
t.is(select(2, http.request { url = "http://host.test/slow", unix = unix, timeout = 0.2 }).code, "ETIMEDOUT",
  "a deadline")
local task = require "ev.task"
local victim = task.spawn(http.request, { url = "http://host.test/slow", unix = unix })
task.sleep(0.05)
victim:cancel()
t.is(select(2, victim:join()).code, "ECANCELLED", "cancelled")
task.sleep(1)
t.fails(nil, select(2, pcall(http.request, {})), "url", "no url")
t.is(select(2, http.request { url = "file:///etc/passwd" }).code, "EUSAGE", "only http and https")
t.is(select(2, http.request { url = "http://host.test/", unix = unix, headers = { X = "a\r\nY: b" } }).code, "EUSAGE",
  "a line break in a header")
t.ok(server:addr(), "server")
return t.done()
