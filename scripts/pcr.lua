-- pcr: the register value of one file, or PCR8 of a signing certificate (as nitro-cli pcr).
local crypto = require "ev.c.crypto"
local attest = require "ev.attest"
local err = require "ev.err"
local fs = require "ev.fs"
local json = require "ev.json"
local keys = require "ev.keys"
local text = require "ev.text"

return function(ctx)
  local input, certificate = ctx.opts.input, ctx.opts.signing_certificate
  if (input and certificate) or not (input or certificate) then
    return nil, err.new("EUSAGE", "give one of --input FILE and --signing-certificate FILE")
  end
  local path = input or certificate
  if not fs.exists(path) then return nil, err.new("ENOENT", path .. ": there is no such file", { exit = 66 }) end
  local result
  if input then
    local digest, e = crypto.sha384_file(input)
    if not digest then return nil, fs.of_input(e) end
    result = { PCR = text.hex(crypto.pcr_extend(digest)) }
  else
    local cert, e = attest.read_certificate(certificate)
    if not cert then return nil, e end
    result = { PCR8 = keys.pcr8(cert) }
  end
  io.stdout:write(json.pretty(result), "\n")
  return 0
end
