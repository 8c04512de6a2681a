-- kernel list | path | fetch | build | use
local err = require "ev.err"
local json = require "ev.json"
local kernel = require "ev.kernel"
local proc = require "ev.proc"

local verbs = {}

-- Names in load order; what is damaged is found when it is used.
local function module_names(k)
  local names = {}
  for i, m in ipairs(kernel.modules(k) or {}) do names[i] = m.name end
  return names
end

function verbs.list(ctx)
  local list = kernel.list()
  local best = kernel.find()
  if ctx.json then
    local out = {}
    for i, k in ipairs(list) do
      out[i] = { path = k.path, version = k.version, source = k.source, usable = k.usable,
        chosen = best ~= nil and best.path == k.path, modules = json.array(module_names(k)) }
    end
    ctx.out { kernels = json.array(out) }
    return 0
  end
  if #list == 0 then
    ctx.ui.print("No kernel here yet; `build` fetches one, or: ev-cage kernel fetch")
    return 0
  end
  local rows = {}
  for i, k in ipairs(list) do
    local note = not k.usable and "too old" or best and best.path == k.path and "used" or ""
    local modules = kernel.modules(k)
    rows[i] = { k.version, k.source, modules and tostring(#modules) or "-", note, k.path }
  end
  ctx.ui.table(rows, { "VERSION", "FROM", "MODULES", "", "PATH" })
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

function verbs.use(ctx)
  local version = ctx.args.version
  local k, e = kernel.use(version)
  if not k then return nil, e end
  k = kernel.find()
  if ctx.json then ctx.out { preferred = kernel.preferred() or json.null, version = k and k.version or json.null }
  elseif version == "auto" then ctx.ui.print("`build` uses " .. (k and k.version or "the kernel it fetches"))
  else ctx.ui.print("`build` uses " .. k.version .. " (a kernel that cage.toml pins comes first)") end
  return 0
end

function verbs.fetch(ctx)
  local k, e = kernel.fetch(ctx.ui, ctx.opts.force)
  if not k then return nil, e end
  return show(ctx, k)
end

-- As many compilers at once as there are processors, or as told.
local function jobs_of(opts)
  local given = opts.jobs or (proc.run({ "nproc" }, { timeout = 10 }) or {}).stdout or "1"
  local n = math.tointeger(tonumber(given))
  if n and n >= 1 and n <= 1024 then return n end
  return nil, err.new("EUSAGE", "--jobs: a number from 1 to 1024")
end

function verbs.build(ctx)
  local jobs, jobs_err = jobs_of(ctx.opts)
  if not jobs then return nil, jobs_err end
  local k, e = kernel.build(ctx.ui, { force = ctx.opts.force, jobs = jobs })
  if not k then return nil, e end
  local best = kernel.find()
  if best and best.path == k.path then ctx.ui.note("`ev-cage build` uses it from now on, where cage.toml pins no other")
  else ctx.ui.note("`ev-cage build` uses it after: ev-cage kernel use " .. k.version) end
  return show(ctx, k)
end

return function(ctx)
  return verbs[ctx.command.name](ctx)
end
