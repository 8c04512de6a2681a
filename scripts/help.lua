-- help.lua — `ev-cage help [COMMAND...]`: the same text as COMMAND --help.
local cli = require "ev.cli"
local err = require "ev.err"
local help = require "ev.cli.help"
local sys = require "ev.sys"
local text = require "ev.text"

return function(ctx)
  local path = ctx.args.command
  local node, known, parent = cli.find(ctx.spec, path)
  if not node then
    local names = {}
    for _, c in ipairs(parent.commands or {}) do names[#names + 1] = c.name end
    local near = text.nearest(path[known + 1], names)
    return err.fail("EUSAGE", ("unknown command '%s'"):format(path[known + 1]),
      { hint = table.concat({ ctx.spec.name, "help", table.unpack(path, 1, near and known or 0) }, " ")
        .. (near and " " .. near or "") })
  end
  local page = help.text(ctx.spec, path, sys.term_width())
  ctx.out { command = table.concat(path, " "), text = page }
  if not ctx.json then ctx.ui.write(page) end
  return 0
end
