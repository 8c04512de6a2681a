-- Streams, listeners, forwards: over TCP and Unix sockets.
local fs = require "ev.fs"
local net = require "ev.net"
local task = require "ev.task"
local t = require "tap"

local dir <close> = assert(fs.scratch())
local function at(name) return "unix:" .. dir.path .. "/" .. name end

local function echo(s)
  while true do
    local data = s:read()
    if not data then return s:shutdown() end
    if not s:write(data) then return end
  end
end

for _, addr in ipairs { "127.0.0.1:0", at("echo") } do
  local l <close> = assert(net.listen(addr, echo))
  local s <close> = assert(net.connect(l:addr(), { timeout = 5 }))
  t.ok(s:write("hello\nworld\n"), addr .. ": write")
  t.is({ s:read_until("\n", 10), s:read_exact(3), s:read(2), (s:read_until("\n", 10)) }, { "hello", "wor", "ld", "" },
    addr .. ": until, exact, some")
  s:write("half")
  s:shutdown()
  local all = {}
  while true do
    local d, e = s:read()
    if not d then t.is(e, nil, addr .. ": the end is no error") break end
    all[#all + 1] = d
  end
  t.is(table.concat(all), "half", addr .. ": what was written before the half close came back")
  t.is({ s:read() }, { nil }, addr .. ": the end stays the end")
end

local l <close> = assert(net.listen("127.0.0.1:0", echo))
do
  local s <close> = assert(net.connect(l:addr()))
  t.ok(s:peer():find("127.0.0.1", 1, true), "peer")
  s:write("0123456789")
  t.is(select(2, s:read_until("\n", 5)).code, "ELIMIT", "a delimiter that does not come in time")
  t.is(s:read_exact(10), "0123456789", "and nothing was lost")
  s:write("ab--cd-")
  t.is(s:read_until("--", 10), "ab", "a delimiter of two bytes")
  task.spawn(function() task.sleep(0.02) s:write("-ef") end)
  t.is(s:read_until("--", 10), "cd", "that comes in two pieces")
  s:set_timeout(0.03)
  t.is(s:read_exact(2), "ef", "set_timeout")
  t.is(select(2, s:read()).code, "ETIMEDOUT", "nothing came in time")
  s:set_timeout(nil)
  s:write("more")
  t.is(s:read(), "more", "and the stream still works")
  s:write("xy")
  s:shutdown()
  t.is(select(2, s:read_exact(5)).code, "EEOF", "an end too early")
  local waiting = task.spawn(function() return s:read_exact(100) end)
  task.sleep(0)
  s:close()
  t.ok(select(2, waiting:join()) ~= nil, "closing wakes the reader with an error")
  t.ok(not pcall(s.read, s) and pcall(s.close, s), "a closed stream raises; closing again is fine")
end

do  -- back-pressure and size
  local total = 0
  local slow <close> = assert(net.listen(at("slow"), function(s)
    while true do
      local d = s:read(1 << 20)
      if not d then break end
      total = total + #d
    end
    s:write("done")
  end))
  local s <close> = assert(net.connect(at("slow")))
  t.ok(s:write(("z"):rep(20 * 1024 * 1024)), "20 MiB in one write")
  s:shutdown()
  t.is({ s:read(), total }, { "done", 20 * 1024 * 1024 }, "all of it arrived")
  t.ok(slow:addr():find("slow"), "address of a listener")
end
t.ok(not fs.exists(dir.path .. "/slow"), "a closed listener leaves no socket file")

local _, e = net.connect("127.0.0.1:1")
t.is(e.code, "ECONNREFUSED", "refused")
_, e = net.connect(at("nobody"))
t.is(e.code, "ENOENT", "no such socket")
t.fails(nil, select(2, pcall(net.connect, "nonsense")), "address", "a malformed address is the caller's mistake")
_, e = net.listen(l:addr(), echo)
t.is(e.code, "EADDRINUSE", "address in use")

do  -- a peer that dies
  local rude <close> = assert(net.listen(at("rude"), function(s) s:read_exact(1) end))
  local s <close> = assert(net.connect(at("rude")))
  s:write("x")
  local d = s:read()
  local failed
  for _ = 1, 100 do
    local ok, why = s:write(("y"):rep(100000))
    if not ok then failed = why break end
  end
  t.ok(d == nil and failed, "writing to a peer that went away fails")
  t.ok(rude:addr(), "and the listener lives")
end

do  -- an error in the function of a connection
  local hits = 0
  local bad <close> = assert(net.listen(at("bad"), function() hits = hits + 1 return nil end))
  for _ = 1, 3 do
    local s <close> = assert(net.connect(at("bad")))
    t.is({ s:read() }, { nil }, "a function that returns closes its stream")
  end
  t.is({ hits, bad:addr() ~= nil }, { 3, true }, "three connections")
end

do  -- forward
  local f <close> = assert(net.forward(at("front"), l:addr()))
  local s <close> = assert(net.connect(at("front")))
  s:write("through")
  t.is(s:read_exact(7), "through", "a forward passes bytes")
  t.is({ f:stats() }, { 1, 1, 0 }, "and counts")
  s:shutdown()
  t.is({ s:read() }, { nil }, "half close passes")
  local dead <close> = assert(net.forward("127.0.0.1:0", at("nobody")))
  local d <close> = assert(net.connect(dead:addr()))
  t.is({ d:read() }, { nil }, "nobody behind it: the connection ends")
  t.is({ dead:stats() }, { 0, 1, 1 }, "and that is counted")
  local open <close> = assert(net.connect(at("front")))
  open:write("x")
  open:read()
  f:close()
  t.is({ open:read() }, { nil }, "closing a forward closes its connections")
end

do  -- TLS that is none
  local plain <close> = assert(net.listen(at("plain"), function(s) s:read() s:write("HTTP/1.1 400 no\r\n\r\n") end))
  local s <close> = assert(net.connect(at("plain")))
  local tls, why = net.tls(s, { sni = "a.test", timeout = 5 })
  t.ok(tls == nil and why.code == "ETLS", "a handshake with something that is no TLS fails")
  t.ok(not pcall(s.read, s), "and the stream was used up")
  t.ok(plain:addr(), "listener")
end

local raw <close> = assert(require("ev.c.net").listen(at("raw")))
local acceptor = task.spawn(function() return raw:accept() end)
task.sleep(0)
raw:close()
t.is({ acceptor:join() }, { nil }, "closing a listener ends accept")
return t.done()
