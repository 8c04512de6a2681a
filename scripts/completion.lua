-- completion.lua — `ev-cage completion SHELL`: a script made from the command table.
local complete = require "ev.cli.complete"

return function(ctx)
  local text = complete.text(ctx.spec, ctx.args.shell)
  ctx.out { shell = ctx.args.shell, script = text }
  if not ctx.json then ctx.ui.write(text) end
  return 0
end
