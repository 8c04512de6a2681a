-- dev: builds the cage and runs it here, in the simulator or in QEMU, with the development identity. The
-- plain TCP front moves bytes; TLS ends inside. `dev --crypto-api` is a mock of the crypto API instead.
local attest = require "ev.attest"
local build = require "ev.build"
local config = require "ev.config"
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local http = require "ev.http"
local identity = require "ev.identity"
local launch = require "ev.c.launch"
local net = require "ev.net"
local nitro = require "ev.c.nitro"
local proc = require "ev.proc"
local qemu = require "ev.qemu"
local sys = require "ev.sys"
local task = require "ev.task"
local text = require "ev.text"

local LINE_MAX = 65536
local DEFAULT_PORT, INGRESS, HEALTH, SIGTERM, STOP_S, APP_S = 8443, 7777, 7779, 15, 10, 15
local ASK_S = { sim = 3, qemu = 10 }                  -- one question; an emulated machine may be slow
local ACCEL = { kvm = "with KVM", tcg = "by emulation",
  ["tcg-after-kvm"] = "by emulation (KVM was tried and did not boot it)" }

-- The image to run → path, configuration | nil, err
local function image_of(ctx)
  local opts = ctx.opts
  if opts.eif_path or opts.no_build then
    local cfg, e = config.load(opts.config)
    if not cfg then return nil, e end
    local path = fs.expand(opts.eif_path or fs.join(opts.output, "enclave.eif"))
    if fs.exists(path) then return path, cfg end
    return nil, err.new("ENOENT", path .. ": there is no such file", { exit = 66, hint = "ev-cage build makes one" })
  end
  local result, e = build.run { opts = opts, context = ctx.args.context_path, output = opts.output, ui = ctx.ui }
  if not result then return nil, e end
  return result.eif, result.cfg
end

local function port_of(opts)
  if not opts.port then return DEFAULT_PORT end
  local port = math.tointeger(tonumber(opts.port))
  if port and port >= 0 and port <= 65535 then return port end
  return nil, err.new("EUSAGE", "--port: a number from 0 to 65535")
end

local function taken(e)
  return err.new(e.code, e.message, { exit = 69, hint = "choose another port with --port" })
end

-- A port that is taken is said before the slow work. Whoever takes it meanwhile is met later.
local function port_is_free(port)
  local listener, e = net.listen("127.0.0.1:" .. port, function() end)
  if not listener then return nil, taken(e) end
  listener:close()
  return true
end

-- Each line of the enclave's console, with a prefix, on standard error.
local function follow_console(ctx, console)
  local held = ""
  while true do
    local data = console:read(4096)
    if not data or data == "" then break end
    held = held .. data
    local from = 1
    for line, after in held:gmatch("([^\n]*)\n()") do
      io.stderr:write(ctx.ui.colour("cyan", "cage | ", 2), text.printable((line:gsub("\r$", ""))), "\n")
      from = after
    end
    held = held:sub(from)
    if #held > LINE_MAX then held = "" end
  end
  if held ~= "" then io.stderr:write("cage | ", text.printable(held), "\n") end
end

-- One question to the in-enclave health agent.
local function healthy(addr)
  local s <close> = net.connect(addr, { timeout = 2 })
  if not s then return false end
  if not s:write("GET / HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n") then return false end
  local answer = http.parse_response(s, { max = 65536 })
  return answer ~= nil and answer.status == 200, answer and answer.body
end

local function wait_healthy(run, addr, seconds, launcher)
  local deadline, last = task.now() + seconds, nil
  while task.now() < deadline do
    if run:exited() then
      local exit = run:wait_exit()
      return nil, err.new("EAPP", "the cage ended: " .. exit.why,
        { exit = exit.code ~= 0 and exit.code or 70, hint = "its console is above; app output needs debug = true" })
    end
    local results = table.pack(task.timeout(ASK_S[launcher], healthy, addr))
    if results[1] == true then return true end
    if type(results[2]) == "string" then last = results[2] end
    task.sleep(0.1)
  end
  return nil, err.new("ETIMEDOUT", ("the cage was not healthy within %g s%s"):format(seconds,
    last and ": " .. text.printable(text.trim(last)) or ""), { exit = 75,
    hint = "does the app listen on its port, and does its healthcheck path answer 2xx?" })
end

-- One request through TLS; false while the data plane cannot reach the app, or when the cage is gone.
local function app_answers(c, trust)
  local s <close> = nitro.attest_connect { addr = c.addr, sni = c.host, trust = trust, timeout = 5,
    expect = { sets = {}, any_measurement = true, allow_debug = true } }
  if not s then return false end
  local ok = s:write(("GET / HTTP/1.1\r\nHost: %s\r\napi-key: %s\r\nUser-Agent: Evervault-Healthcheck-Agent\r\n"
    .. "Connection: close\r\n\r\n"):format(c.host, c.api_key))
  local answer = ok and http.parse_response(s, { max = 1 << 20 })
  return answer ~= nil and not (answer.status >= 500 and answer.body:find("Error requesting user process", 1, true))
end

-- Without a healthcheck path "healthy" does not mean that the app listens yet. Waits for that, a while.
local function wait_app(ctx, run, cfg, c, launcher)
  if cfg.healthcheck or not cfg.tls_termination then return end
  local patience = ASK_S[launcher]
  local trust, deadline = attest.trust(c.root), task.now() + APP_S * patience / ASK_S.sim
  while trust and task.now() < deadline and not run:exited() do
    if task.timeout(2 + patience, app_answers, c, trust) then return end
    task.sleep(0.1)
  end
  if not run:exited() then ctx.ui.warn("the app does not answer on its port yet") end
end

-- What somebody needs to call and to verify it.
local function coordinates(cfg, id, addr)
  local host, port = config.hosts(cfg)[1], addr:match(":(%d+)$")
  local c = { host = host, addr = addr, url = ("https://%s:%s"):format(host, port), root = id.root_pem,
    api_key = id.api_key, config = cfg.path }
  local q = text.shell_quote
  c.curl = ("curl -k --connect-to ::%s %s/%s"):format(addr, c.url,
    cfg.api_key_auth and ' -H "api-key: ' .. id.api_key .. '"' or "")
  c.attest = ("ev-cage attest %s --connect %s --root %s %s"):format(c.url, addr, q(c.root),
    cfg.debug and "--allow-debug --any-measurement" or "-c " .. q(c.config))
  return c
end

local function announce(ctx, cfg, c)
  if ctx.json then
    ctx.out { status = "running", url = c.url, address = c.addr, root = c.root, apiKey = c.api_key, host = c.host,
      attest = c.attest }
    io.stdout:flush()
    return
  end
  ctx.ui.ok("the cage is healthy at " .. c.addr)
  ctx.ui.print("  call it:   " .. c.curl)
  ctx.ui.print("  verify it: " .. c.attest)
  if not cfg.debug then ctx.ui.note("debug = false: what the app prints stays inside") end
end

local function stop(run)
  run:signal(SIGTERM)
  task.timeout(STOP_S, function() return run:wait_exit() end)
end

local function exec(ctx, run, c)
  local r, e = proc.run({ "/bin/sh", "-c", ctx.opts.exec }, { stdout = ctx.json and "null" or "inherit",
    stderr = "inherit", env = { EV_CAGE_ADDR = c.addr, EV_CAGE_URL = c.url, EV_CAGE_ROOT = c.root,
      EV_CAGE_HOST = c.host, EV_API_KEY = c.api_key } })
  stop(run)
  if not r then return nil, e end
  local code = r.signal and 128 + r.signal or r.code
  ctx.out { status = "exited", exitCode = code, url = c.url }
  return code
end

local function ended(ctx, exit)
  local how = exit.signal ~= 0 and "signal " .. exit.signal or "exit code " .. exit.code
  ctx.ui.note(("the cage ended: %s%s"):format(how, exit.why ~= "" and " (" .. exit.why .. ")" or ""))
  return exit.signal ~= 0 and 128 + exit.signal or exit.code
end

-- Which launcher → "sim" | "qemu", its QEMU | nil, err
local function choose(opts)
  if opts.launcher == "sim" then return "sim" end
  local found, e = qemu.find(opts.qemu)
  if found then return "qemu", found end
  if opts.launcher == "auto" and not opts.qemu then return "sim" end
  return nil, e:wrap("--launcher qemu")
end

local function number(opts, name, max)
  if not opts[name] then return 0 end
  local n = math.tointeger(tonumber(opts[name]))
  if n and n > 0 and n <= max then return n end
  return nil, err.new("EUSAGE", ("--%s: a whole number from 1 to %d"):format(name, max))
end

local function start(eif, cfg, id, dir, how)
  local cert, key = identity.root(id)
  if not cert then return nil, key end
  local conf = { eif = eif, dir = dir, root_cert = cert, root_key = key, debug = cfg.debug,
    timeout = math.ceil(how.seconds) }
  if how.launcher == "sim" then return launch.sim(conf) end
  conf.argv, conf.env = how.qemu.argv, qemu.environ(how.qemu)
  conf.memory, conf.cpus, conf.no_kvm = how.memory, how.cpus, how.no_kvm
  return launch.qemu(conf)
end

local function run_cage(ctx, eif, cfg, id, port, how)
  -- Made by the launcher, whose janitor removes it even when we are killed: so nothing of ours around it.
  local dir = fs.join(sys.getenv("TMPDIR") or "/tmp", "ev-cage-" .. text.hex(crypto.random(8)))
  local began = task.now()
  local run <close>, console = start(eif, cfg, id, dir, how)
  if not run then return nil, console end
  local out <close> = console
  local _ <close> = task.spawn(follow_console, ctx, out)
  local ok, boot_err = run:wait_booted()
  if not ok then
    task.sleep(0.2)                     -- what the console still has to say
    return nil, boot_err
  end
  if how.launcher == "qemu" then
    ctx.ui.note(("Booted in %.1f s, QEMU %s %s"):format(task.now() - began, how.qemu.version, ACCEL[run:accel()]))
  end
  local front <close>, front_err = net.forward("127.0.0.1:" .. port, ("unix:%s/enclave_%d"):format(dir, INGRESS))
  if not front then return nil, taken(front_err) end
  local up, health_err = wait_healthy(run, ("unix:%s/enclave_%d"):format(dir, HEALTH), how.seconds, how.launcher)
  if not up then return nil, health_err end
  local c = coordinates(cfg, id, (front:addr():gsub("^tcp:", "")))
  wait_app(ctx, run, cfg, c, how.launcher)
  if run:exited() then return ended(ctx, run:wait_exit()) end
  if ctx.opts.exec then return exec(ctx, run, c) end
  announce(ctx, cfg, c)
  return ended(ctx, run:wait_exit())
end

-- How to run, from the options → {launcher, qemu, memory, cpus, seconds} | nil, err
local function plan(opts)
  local how = { seconds = tonumber(opts.timeout), no_kvm = opts.no_kvm }
  if not how.seconds or how.seconds <= 0 or how.seconds > 3600 then
    return nil, err.new("EUSAGE", "--timeout: seconds, more than 0 and at most 3600")
  end
  for name, max in pairs { memory = 1 << 20, cpus = 64 } do
    local n, e = number(opts, name, max)
    if not n then return nil, e end
    how[name] = n
  end
  how.launcher, how.qemu = choose(opts)
  if not how.launcher then return nil, how.qemu end
  return how
end

return function(ctx)
  if ctx.opts.crypto_api then return require("ev.mock").run(ctx) end
  local port, port_err = port_of(ctx.opts)
  if not port then return nil, port_err end
  local how, how_err = plan(ctx.opts)
  if not how then return nil, how_err end
  local free, free_err = port_is_free(port)
  if not free then return nil, free_err end
  local id, id_err = identity.load()
  if not id then return nil, id_err end
  if id.created then ctx.ui.note("Made a development identity in " .. id.dir) end
  local eif, cfg = image_of(ctx)
  if not eif then return nil, cfg end
  ctx.ui.note(how.launcher == "sim" and "Starting the cage in the simulator (development root, not AWS's)"
    or "Starting the cage in QEMU, its NSM simulated (development root, not AWS's)")
  return run_cage(ctx, eif, cfg, id, port, how)
end
