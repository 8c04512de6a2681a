-- cert new: a signing certificate and its key, in the original's form (P-384, no extension).
local err = require "ev.err"
local fs = require "ev.fs"
local keys = require "ev.keys"

return function(ctx)
  local subject, days
  if ctx.opts.subj then
    local e
    subject, e = keys.subject(ctx.opts.subj)
    if not subject then return nil, e end
  end
  if ctx.opts.expiry_days then
    days = math.tointeger(tonumber(ctx.opts.expiry_days))
    if not days or days < 1 or days > 36500 then
      return nil, err.new("EUSAGE", "--expiry-days: a number from 1 to 36500")
    end
  end
  local pair, e = keys.create { dir = fs.expand(ctx.opts.output or "."), subject = subject, days = days,
    force = ctx.opts.force }
  if not pair then return nil, e end
  if ctx.json then
    ctx.out { status = "success", output = { certificate = pair.cert_path, privateKey = pair.key_path } }
  else
    ctx.ui.ok(("certificate %s, private key %s"):format(pair.cert_path, pair.key_path))
    ctx.ui.print("PCR8 " .. keys.pcr8(pair.cert))
  end
  return 0
end
