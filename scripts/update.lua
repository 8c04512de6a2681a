-- update: says how to upgrade. The original ran a downloaded shell script; a tool that is part of what
-- enclaves measure does not replace itself.
local sys = require "ev.sys"

return function(ctx)
  local text = "ev-cage is upgraded like any program built from source: fetch the new release, check its "
    .. "signature, and run `make install` in it. Then `ev-cage build --update-runtime` accepts the new runtime."
  if ctx.json then ctx.out { version = sys.version, message = text } else
    ctx.ui.print("This is ev-cage " .. sys.version .. ".")
    ctx.ui.print(text)
  end
  return 0
end
