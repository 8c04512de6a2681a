-- build: a Dockerfile becomes a signed, measured enclave image.
local build = require "ev.build"
local image = require "ev.image"
local text = require "ev.text"

return function(ctx)
  local result, e = build.run { opts = ctx.opts, context = ctx.args.context_path, output = ctx.opts.output,
    ui = ctx.ui }
  if not result then return nil, e end
  if ctx.json then
    ctx.out(build.report(result))
    return 0
  end
  local ui, rows = ctx.ui, {}
  ui.ok(("%s (%s, %d files)"):format(result.eif, text.size(result.size), result.files))
  for _, name in ipairs(image.PCRS) do
    if result.pcrs[name] then rows[#rows + 1] = { name, result.pcrs[name] } end
  end
  ui.table(rows)
  ui.print("The measurements are in " .. result.cfg.path .. ".")
  if result.cfg.debug then
    ui.warn("debug = true: a debug enclave reports measurements of zero; nobody can attest it")
  end
  return 0
end
