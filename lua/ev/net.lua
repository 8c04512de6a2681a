-- net.lua — streams over TCP, Unix sockets and vsock, TLS on top, relays.
--
-- Addresses: "127.0.0.1:8443", "[::1]:80", "unix:/run/x.sock", "vsock:16:7777". Streams are <close>
-- variables; read() gives nil at the end, nil and an error when something broke.
local c = require "ev.c.net"
local task = require "ev.task"

local M = { forward = c.forward }

---@param addr string
---@param opts? { timeout?: number } seconds until it must be open (30)
---@return userdata|nil stream, table|nil err
function M.connect(addr, opts) return c.connect(addr, opts and opts.timeout) end

--- TLS over an open stream, which is used up by it.
---@param stream userdata
---@param opts { sni?: string, ca_file?: string, timeout?: number, alpn?: string }
function M.tls(stream, opts)
  opts = opts or {}
  local ms = opts.timeout and math.ceil(opts.timeout * 1000) or nil
  return c.tls(stream, { sni = opts.sni, ca_file = opts.ca_file, timeout_ms = ms, alpn = opts.alpn })
end

local Listener = {}
Listener.__index = Listener

function Listener:addr() return self.raw:addr() end
function Listener:close() self.raw:close() end
Listener.__close = Listener.close

local function serve(fn, stream)
  local s <close> = stream
  fn(s)
end

--- Listens, and runs fn(stream) in a task of its own for each connection; the stream is closed when
--- fn ends. An error in fn ends that connection and is printed.
---@param addr string
---@param fn fun(stream: userdata)
function M.listen(addr, fn)
  local raw, e = c.listen(addr)
  if not raw then return nil, e end
  task.spawn(function()
    while true do
      local stream = raw:accept()
      if not stream then return end
      task.spawn(serve, fn, stream)
    end
  end)
  return setmetatable({ raw = raw }, Listener)
end

return M
