-- describe: what nitro-cli's describe-eif prints for the same file, in its shape and order.
local err = require "ev.err"
local fs = require "ev.fs"
local image = require "ev.image"
local json = require "ev.json"

local function explain(info, layout)
  if not info.crc_ok then return "the CRC does not fit: the file is damaged" end
  if info.is_signed and not info.signature_ok then
    return "the signature does not fit: " .. (info.signature_error ~= "" and info.signature_error or "wrong")
  end
  if layout then return "layout: " .. layout.message end
end

return function(ctx)
  local path = ctx.args.EIF_PATH or ctx.args[1] or "./enclave.eif"
  if not fs.exists(path) then
    return nil, err.new("ENOENT", path .. ": there is no such file", { exit = 66, hint = "ev-cage build makes one" })
  end
  local info, e = image.describe(path, not ctx.opts.quiet and ctx.ui or nil)
  if not info then return nil, e end
  local fields, layout_err = image.description(info)
  if ctx.opts.check_layout then
    local ok
    ok, layout_err = image.check_layout(path)
    fields[#fields + 1] = { "LayoutCheck", ok and true or false }
  end
  io.stdout:write(json.pretty(json.ordered(fields)), "\n")
  if info.warning and info.warning ~= "" then ctx.ui.warn(path .. ": " .. info.warning) end
  local wrong = explain(info, layout_err)
  if not wrong then return 0 end
  io.stderr:write("ev-cage describe: ", path, ": ", wrong, "\n")
  return 65
end
