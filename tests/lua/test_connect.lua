-- Attested connections that come to nothing: refused, silent, cancelled, not TLS. Nothing leaks (the
-- sanitizer build watches), nothing is sent before the peer has passed.
local attest = require "ev.attest"
local net = require "ev.net"
local nitro = require "ev.c.nitro"
local task = require "ev.task"
local t = require "tap"

local trust = assert(attest.trust())
local expect = { sets = {}, any_measurement = true }
local function connect(addr, timeout)
  return nitro.attest_connect { addr = addr, sni = "a.cages.localhost", trust = trust, expect = expect,
    timeout = timeout or 5 }
end

local s, e, report = connect "127.0.0.1:1"
t.is({ s, e.code, report.judged }, { nil, "ECONNREFUSED", false }, "refused")
s, e = connect "nonsense address"
t.ok(s == nil and e.message ~= "", "not an address")

local got = ""
local silent <close> = assert(net.listen("127.0.0.1:0", function(stream)
  while true do
    local data = stream:read()
    if not data then return end
    got = got .. data
  end
end))
s, e = connect(silent:addr(), 1)
t.ok(s == nil and e.message ~= "", "a peer that never answers: " .. e.message)
t.ok(#got > 0 and not got:find("HTTP", 1, true), "it saw a ClientHello and no request")

local started = task.now()
local waiting = task.spawn(function() return connect(silent:addr(), 30) end)
task.sleep(0.1)
waiting:cancel()
local _, why = waiting:join()
t.is(why.code, "ECANCELLED", "cancelled in the middle of the handshake")
t.ok(task.now() - started < 5, "at once")
local early = task.spawn(function() return connect("127.0.0.1:1", 30) end)
task.sleep(0)
early:cancel()
early:join()

local plain <close> = assert(net.listen("127.0.0.1:0", function(stream)
  stream:write("HTTP/1.1 400 Bad Request\r\n\r\n")
  stream:read()
end))
s, e = connect(plain:addr())
t.is({ s, e.code ~= "EVERIFY" }, { nil, true }, "a peer that does not speak TLS: " .. e.message)
collectgarbage()
return t.done()
