-- build.lua — cage.toml and a Dockerfile → enclave.eif, with everything that can be wrong found before
-- the slow work. `build`, `dev` (and later `deploy`) share it.
--
--     config → signing pair → kernel → pins → container image → config.json → EIF → records
local builder = require "ev.builder"
local config = require "ev.config"
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local ignore = require "ev.ignore"
local image = require "ev.image"
local json = require "ev.json"
local kernel = require "ev.kernel"
local keys = require "ev.keys"
local ramdisk = require "ev.c.ramdisk"
local record = require "ev.record"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {
  CMDLINE = "reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp "
    .. "i8042.dumbkbd random.trust_cpu=on",
  MODULES_DIR = "lib/modules/ev",   -- where PID 1 looks for them (core/role/modules.h)
  CMDLINE_MAX = 1536,       -- x86 kernels keep 2048 bytes, the hypervisor adds its devices
}

local STALE_S = 86400

-- The runtime ramdisk of this release: beside the binary, or in the library folder of its prefix.
function M.runtime_path()
  local exe = fs.self_exe() or ""
  local dir = fs.dirname((exe:gsub(" %(deleted%)$", "")))
  for _, path in ipairs { fs.join(dir, "runtime.cpio"), fs.join(fs.dirname(dir), "lib/ev-cage/runtime.cpio") } do
    if fs.exists(path) then return path end
  end
  return nil, err.new("EMISSING", "the runtime ramdisk (runtime.cpio) is not beside ev-cage",
    { hint = "make, or --runtime FILE" })
end

local function epoch()
  local value = sys.getenv("SOURCE_DATE_EPOCH")
  if not value or value == "" then return 0 end
  local n = value:match("^%d+$") and math.tointeger(tonumber(value))
  if not n or n > 4294967295 then
    return nil, err.new("ECONFIG", "SOURCE_DATE_EPOCH is not a number of seconds: " .. value)
  end
  return n
end

-- --- before the slow work ---------------------------------------------------------------------------

local function load_config(opts)
  local cfg, e = config.load(opts.config)
  if not cfg then return nil, e end
  local ok, id_err = config.require_ids(cfg)
  if not ok then return nil, id_err end
  local unlanded = config.unlanded(cfg, opts.forward_proxy_protocol)
  if unlanded then return nil, unlanded end
  local probe, measure_err = config.measured(cfg, { argv = { "x" }, env = {}, user = "", workdir = "/", port = 1 })
  if not probe then return nil, measure_err end
  return cfg
end

local function key_path(cfg, opts)
  return opts.private_key and fs.expand(opts.private_key) or cfg.key_path
end

local function signing_pair(cfg, opts)
  local cert = opts.signing_cert and fs.expand(opts.signing_cert) or cfg.cert_path
  local key = key_path(cfg, opts)
  if not cert or not key then
    return nil, err.new("ECONFIG", ("no signing %s: %s has no [signing] %s"):format(cert and "key" or "certificate",
      cfg.file, cert and "keyPath" or "certPath"), { hint = "ev-cage cert new, or --signing-cert and --private-key" })
  end
  return keys.load_pair(cert, key)
end

local function hash(path, what)
  local digest, e = crypto.sha384_file(path)
  if not digest then
    if e.code == "ENOENT" then
      return nil, err.new("ENOENT", ("%s: %s: there is no such file"):format(what, path), { exit = 66 })
    end
    return nil, fs.of_input(e):wrap(what)
  end
  return text.hex(digest)
end

-- Ramdisk 1: the runtime as it is, then the kernel's modules as an archive of their own. One with nothing
-- to add stays the file that it was.
local function compose(runtime, modules, dir)
  if #modules == 0 then return runtime end
  local folder, entries, path = tonumber("40755", 8), {}, ""
  for part in M.MODULES_DIR:gmatch("[^/]+") do
    path = path == "" and part or path .. "/" .. part
    entries[#entries + 1] = { name = path, mode = folder }
  end
  for _, m in ipairs(modules) do
    entries[#entries + 1] = { name = path .. "/" .. m.name, mode = tonumber("100644", 8), path = m.path }
  end
  local out = fs.join(dir, "ramdisk1.cpio")
  local ok, e = ramdisk.write(out, entries, runtime)
  if not ok then return nil, fs.of_input(e):wrap("runtime ramdisk") end
  return out
end

-- Kernel, command line and ramdisk 1 with their digests → base | nil, err
---@param dir string where a composed ramdisk may be put
local function base(cfg, opts, ui, dir)
  local k, e = kernel.get(opts.kernel, ui, not opts.update_runtime and cfg.runtime.kernel_sha384 or nil)
  if not k then return nil, e end
  local runtime = opts.runtime and fs.expand(opts.runtime)
  if not runtime then
    runtime, e = M.runtime_path()
    if not runtime then return nil, e end
  end
  local cmdline = opts.cmdline or M.CMDLINE
  if #cmdline > M.CMDLINE_MAX or cmdline:find("[%c]") then
    return nil, err.new("EUSAGE", ("--cmdline: one line of at most %d characters"):format(M.CMDLINE_MAX))
  end
  local out = { kernel = k, cmdline = cmdline, version = sys.version,
    cmdline_sha384 = text.hex(crypto.sha384(cmdline)) }
  out.kernel_sha384, e = hash(k.path, "kernel")
  if not out.kernel_sha384 then return nil, e end
  out.runtime, e = compose(runtime, k.modules, dir)
  if not out.runtime then return nil, e end
  out.runtime_sha384, e = hash(out.runtime, "runtime ramdisk")
  if not out.runtime_sha384 then return nil, e end
  return out
end

-- [runtime] in cage.toml pins what PCR1 measures; a silent change is refused (DESIGN §5).
local function check_pins(cfg, b, update)
  local changed = {}
  for _, what in ipairs { "runtime", "kernel", "cmdline" } do
    local pinned = cfg.runtime[what .. "_sha384"]
    if pinned and pinned:lower() ~= b[what .. "_sha384"] then changed[#changed + 1] = what end
  end
  if #changed == 0 or update then return true end
  return nil, err.new("ECONFIG", ("%s: [runtime] pins another %s: PCR0 and PCR1 would change"):format(cfg.file,
    table.concat(changed, ", ")), { reason = "runtime-changed", exit = 65,
    hint = "ev-cage build --update-runtime accepts it" .. (cfg.runtime.version and cfg.runtime.version ~= sys.version
      and (" (pinned by version %s, this is %s)"):format(cfg.runtime.version, sys.version) or "") })
end

-- What builds that were killed left behind.
local function sweep(output)
  for _, name in ipairs(fs.list(output) or {}) do
    local path = fs.join(output, name)
    local st = name:match("^%.ev%-cage%-%x+$") and fs.stat(path)
    if st and st.type == "dir" and st.uid == sys.uid() and sys.time() - st.mtime > STALE_S then fs.rmtree(path) end
  end
end

-- A private folder on the output's own file system, gone with its variable.
local function workplace(output)
  local ok, e = fs.mkdir_p(output, 493)
  sweep(output)
  local path = fs.join(output, ".ev-cage-" .. text.hex(crypto.random(8)))
  if ok then ok, e = fs.mkdir_p(path, 448) end
  if not ok then return nil, err.new(e.code, "--output: " .. e.message, { exit = 73 }) end
  return setmetatable({ path = path }, { __close = function() fs.rmtree(path) end })
end

-- --- the container image ------------------------------------------------------------------------------

local function dockerfile_path(cfg, opts, output)
  local path = cfg.dockerfile_path
  if opts.from_existing then path = fs.join(output, record.NAME)
  elseif opts.file then path = fs.expand(opts.file) end
  if fs.exists(path) then return path end
  return nil, err.new("ENOENT", ("Dockerfile: %s: there is no such file"):format(path), { exit = 66,
    hint = opts.from_existing and "an earlier `ev-cage build` writes it" or "name it with --file or in " .. cfg.file })
end

local function check_build_args(list)
  for _, pair in ipairs(list or {}) do
    if not pair:match("^[%a_][%w_]*") then
      return nil, err.new("EUSAGE", "--build-arg: expected NAME=VALUE, got " .. pair)
    end
  end
  return true
end

-- → source (archive or layout), dockerfile text or nil | nil, err
local function container_image(cfg, o, place, seconds)
  local opts = o.opts
  if opts.image then
    local path = fs.expand(opts.image)
    if fs.exists(path) then return path end
    return nil, err.new("ENOENT", "--image: " .. path .. ": there is no such file or folder", { exit = 66 })
  end
  local file, e = dockerfile_path(cfg, opts, o.output)
  if not file then return nil, e end
  local source, read_err = fs.read(file, { max = 1 << 20 })
  if not source then return nil, read_err end
  local ok, arg_err = check_build_args(opts.build_arg)
  if not ok then return nil, arg_err end
  local context = fs.expand(o.context)
  if not fs.is_dir(context) then
    return nil, err.new("ENOENT", "build context: " .. context .. ": there is no such folder", { exit = 66 })
  end
  local out = ignore.names(context, o.output, place.path, { cfg.path, key_path(cfg, opts) })
  local ignored, ignore_err = ignore.text(file, context, out)
  if not ignored then return nil, ignore_err end
  local name, pick_err = builder.pick(opts.builder)
  if not name then return nil, pick_err end
  o.ui.detail("Left out of the build context: " .. table.concat(out, ", "))
  o.ui.note("Building the container image with " .. name)
  local archive, build_err = builder.build(name, { dir = place.path, dockerfile = file, source = source,
    ignore = ignored, context = context, build_args = opts.build_arg, no_cache = opts.no_cache, epoch = seconds,
    ui = o.ui, quiet = opts.quiet })
  if not archive then return nil, build_err end
  return archive, source
end

local function read_app(cfg, source)
  local conf, e = require("ev.c.nitro").image_config(source):wait()
  if not conf then return nil, fs.of_input(e) end
  local app, app_err = image.app(conf)
  if not app then return nil, app_err end
  local port, port_err = config.app_port(cfg, app.ports)
  if not port then return nil, port_err end
  app.port = port
  return app
end

-- --- the whole ----------------------------------------------------------------------------------------

local function assemble(cfg, o, b, pair, source, seconds)
  local app, e = read_app(cfg, source)
  if not app then return nil, e end
  local measured, measure_err = config.measured(cfg, app)
  if not measured then return nil, measure_err end
  local eif = fs.join(o.output, "enclave.eif")
  o.ui.note("Building the enclave image")
  local result, build_err = image.build({
    kernel = b.kernel.path, cmdline = b.cmdline, runtime = b.runtime, source = source,
    cage = { ["config.json"] = measured }, cert = pair.pem, key = pair.key, mtime = seconds, output = eif,
    metadata = image.metadata { name = cfg.name, version = sys.version, kernel_version = b.kernel.version,
      epoch = seconds, digests = { CmdlineSHA384 = b.cmdline_sha384, KernelSHA384 = b.kernel_sha384,
        RuntimeSHA384 = b.runtime_sha384 } },
  }, o.ui)
  if not result then return nil, build_err:wrap("enclave image") end
  for _, what in ipairs { "runtime_sha384", "kernel_sha384", "cmdline_sha384" } do
    if result[what] ~= b[what] then
      return nil, err.new("EINTERNAL", what:gsub("_sha384", "") .. " changed while it was read", { exit = 75 })
    end
  end
  result.eif, result.app = eif, app
  return result
end

-- Everything → {eif, pcrs, size, files, cfg, app, runtime} | nil, err
---@param o table {opts = command line, context, output, ui}
function M.run(o)
  local cfg, e = load_config(o.opts)
  if not cfg then return nil, e end
  for _, warning in ipairs(cfg.warnings) do o.ui.warn(warning) end
  local seconds, epoch_err = epoch()
  if not seconds then return nil, epoch_err end
  local pair, pair_err = signing_pair(cfg, o.opts)
  if not pair then return nil, pair_err end
  local scratch <close> = fs.scratch()
  local b, base_err = base(cfg, o.opts, o.ui, scratch.path)
  if not b then return nil, base_err end
  local ok, pin_err = check_pins(cfg, b, o.opts.update_runtime)
  if not ok then return nil, pin_err end
  o.output = fs.expand(o.output or ".")
  local place <close>, place_err = workplace(o.output)
  if not place then return nil, place_err end
  local source, dockerfile = container_image(cfg, o, place, seconds)
  if not source then return nil, dockerfile end
  local result, build_err = assemble(cfg, o, b, pair, source, seconds)
  if not result then return nil, build_err end
  if dockerfile then
    ok, e = record.write(o.output, dockerfile, o.opts.build_arg)
    if not ok then return nil, e end
  end
  local changed, write_err = config.write_back(cfg, config.build_changes(result.pcrs, b))
  if changed == nil then return nil, write_err end
  result.cfg, result.runtime, result.kernel = cfg, b, b.kernel
  return result
end

-- The JSON of spec cages-original §2.5, and where the image is.
function M.report(result)
  return json.ordered {
    { "status", "success" }, { "message", "EIF built successfully" },
    { "enclaveMeasurements", image.measurements(result.pcrs) },
    { "eif", result.eif }, { "eifSizeBytes", result.size }, { "files", result.files },
  }
end

return M
