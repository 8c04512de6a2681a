-- kernel list | path | fetch
local kernel = require "ev.kernel"

local verbs = {}

function verbs.list(ctx)
  local list = kernel.list()
  local best = kernel.find()
  if ctx.json then
    local out = {}
    for i, k in ipairs(list) do
      out[i] = { path = k.path, version = k.version, source = k.source, usable = k.usable,
        chosen = best ~= nil and best.path == k.path }
    end
    ctx.out { kernels = require("ev.json").array(out) }
    return 0
  end
  if #list == 0 then
    ctx.ui.print("No kernel here yet; `build` fetches one, or: ev-cage kernel fetch")
    return 0
  end
  local rows = {}
  for i, k in ipairs(list) do
    local note = not k.usable and "too old" or best and best.path == k.path and "used" or ""
    rows[i] = { k.version, k.source, note, k.path }
  end
  ctx.ui.table(rows, { "VERSION", "FROM", "", "PATH" })
  return 0
end

local function show(ctx, k)
  if ctx.json then ctx.out { path = k.path, version = k.version, source = k.source }
  else ctx.ui.print(k.path) end
  return 0
end

function verbs.path(ctx)
  local k, e = kernel.find(ctx.opts.kernel)
  if not k then return nil, e end
  return show(ctx, k)
end

function verbs.fetch(ctx)
  local k, e = kernel.fetch(ctx.ui.note, ctx.opts.force)
  if not k then return nil, e end
  return show(ctx, k)
end

return function(ctx)
  return verbs[ctx.command.name](ctx)
end
