-- config.lua — cage.toml: its schema, reading, the measured configuration, and writing back.
--
-- Writing back goes through the TOML editor only: what the tool owns changes, every other byte stays.
local err = require "ev.err"
local fs = require "ev.fs"
local json = require "ev.json"
local schema = require "ev.schema"
local text = require "ev.text"
local toml = require "ev.toml"

local M = { DEFAULT_PORT = 8008, MAX_BYTES = 1 << 20, MAX_KEYS = 64, MAX_HOSTS = 64 }

-- Headers that carry credentials are never trusted (seed document, "HTTP Transaction Logging").
M.untrusted_headers = { ["api-key"] = true, authorization = true, ["proxy-authorization"] = true }

local function label(s)
  if not s:match("^[%w][%w%-_]*$") or #s > 63 or not s:sub(-1):match("%w") then
    return "a name has letters, digits and hyphens (and _), at most 63, and begins and ends with one of the first "
      .. "two: it becomes part of a host name"
  end
end

local function identifier(s)
  if not s:match("^[%w%-_%.]+$") or #s > 128 then return "not an identifier" end
end

local function path_of_app(s)
  if s:sub(1, 1) ~= "/" or s:find("[%s%c]") then return "must be a path like /health" end
end

local function key_digest(s)
  local raw = text.unbase64(s)
  if not raw or #raw ~= 64 then return "must be the base64 of the SHA-512 of an API key" end
end

local function domain(s)
  if not s:match("^[%w][%w%-%.]*$") then return "not a domain" end
end

local function destination(s)
  local name = s:match("^%*%.(.*)$") or s
  if s ~= "*" and (not name:match("^[%w_:][%w%-%._:]*$") or name:find("..", 1, true) or name:sub(-1) == ".") then
    return "must be a host name, *.name or *"
  end
end

local function digest384(s)
  if not text.digest384(s) then return "must be a SHA-384 in hexadecimal (96 digits)" end
end

local function header(s)
  if not s:match("^[%w!#$%%&'+%-%.%^_`|~]+%*?$") then return "not the name of a header" end
  if M.untrusted_headers[s:lower()] then return "carries credentials and cannot be trusted" end
end

local function positive(n)
  if n < 1 or n > 1000 then return "must be from 1 to 1000" end
end

local pin = { type = "string", check = digest384 }
local string = { type = "string" }

M.schema = {
  name = { type = "string", required = true, check = label },
  uuid = { type = "string", check = identifier },
  app_uuid = { type = "string", check = identifier },
  team_uuid = { type = "string", check = identifier },
  version = { type = "int" },
  debug = { type = "bool", default = false },
  dockerfile = { type = "path", default = "./Dockerfile" },
  api_key_auth = { type = "bool", default = true },
  trx_logging = { type = "bool" },
  disable_tls_termination = { type = "bool", default = false },
  tls_termination = { type = "bool" },
  forward_proxy_protocol = { type = "bool", default = false },
  trusted_headers = { type = "list", of = "string", item_check = header, default = {} },
  healthcheck = { type = "string", check = path_of_app },
  egress = { type = "table", fields = {
    enabled = { type = "bool", default = false },
    destinations = { type = "list", of = "string", item_check = destination, default = { "*" } },
    ports = { type = "list", of = "port", default = { 443 } },
  } },
  scaling = { type = "table", fields = { desired_replicas = { type = "int", check = positive } } },
  signing = { type = "table", fields = { certPath = { type = "path" }, keyPath = { type = "path" } } },
  service = { type = "table", fields = { port = { type = "port" } } },
  auth = { type = "table", fields = {
    key_digests = { type = "list", of = "string", item_check = key_digest, default = {} },
  } },
  platform = { type = "table", fields = {
    domain = { type = "string", default = "localhost", check = domain },
    ca_sha384 = pin,
    url = string,
  } },
  attestation = { type = "table", fields = {
    HashAlgorithm = string, PCR0 = string, PCR1 = string, PCR2 = string, PCR3 = string, PCR4 = string, PCR8 = string,
  } },
  runtime = { type = "table", fields = {
    runtime_sha384 = pin, kernel_sha384 = pin, cmdline_sha384 = pin, version = string,
    data_plane_version = string, installer_version = string,
  } },
  plugins = { type = "any", default = {} },
  limits = { type = "any", default = {} },
  acceptor = { type = "any", default = {} },
  attestation_cors = { type = "any", default = {} },
}

-- Host paths: relative ones belong to the folder of cage.toml, ~ is the user's home.
local function resolve(cfg, path)
  if not path then return nil end
  path = fs.expand(path)
  if path:sub(1, 1) == "/" then return path end
  return fs.join(cfg.dir, path)
end

local function warn(cfg, key, message)
  local line = cfg.given[key]
  cfg.warnings[#cfg.warnings + 1] = line and ("%s:%d: %s: %s"):format(cfg.file, line, key, message)
    or ("%s: %s: %s"):format(cfg.file, key, message)
end

-- What follows from several keys at once.
local function combine(cfg)
  if cfg.given.tls_termination then
    if cfg.given.disable_tls_termination and cfg.tls_termination == cfg.disable_tls_termination then
      return nil, err.new("ECONFIG", ("%s:%d: tls_termination contradicts disable_tls_termination (line %d)"):format(
        cfg.file, cfg.given.tls_termination, cfg.given.disable_tls_termination))
    end
  else
    cfg.tls_termination = not cfg.disable_tls_termination
  end
  if not cfg.tls_termination and cfg.trx_logging then
    warn(cfg, "trx_logging", "needs TLS termination in the cage; logging is off")
    cfg.trx_logging = false
    cfg.logging_forced_off = true
  end
  if not cfg.tls_termination and cfg.api_key_auth then
    local line = cfg.given.api_key_auth
    if line then
      return nil, err.new("ECONFIG", ("%s:%d: api_key_auth needs TLS termination in the cage"):format(cfg.file, line),
        { hint = "api_key_auth = false, and the app checks its callers; or no disable_tls_termination" })
    end
    warn(cfg, "api_key_auth", "needs TLS termination in the cage; it is off, and the app must check its callers")
    cfg.api_key_auth = false
  end
  cfg.dockerfile_path = resolve(cfg, cfg.dockerfile)
  cfg.cert_path = resolve(cfg, cfg.signing.certPath)
  cfg.key_path = resolve(cfg, cfg.signing.keyPath)
  return cfg
end

-- Text → configuration | nil, err. `path` is where it is (or would be).
function M.parse(source, path)
  local file = fs.basename(path)
  local root, e, line = toml.parse(source)
  if not root then
    local message = e.message:gsub("^line %d+, ", "")
    return nil, err.new("ECONFIG", ("%s:%d: %s"):format(file, line or 1, message),
      { hint = "correct the text at that place" })
  end
  local values, given, warnings = schema.check(root, M.schema, file)
  if not values then return nil, given end
  values.file, values.path, values.dir = file, path, fs.dirname(path)
  values.given, values.warnings, values.text = given, warnings, source
  return combine(values)
end

-- Reads cage.toml → configuration | nil, err (exit 66 when there is none).
function M.load(path)
  path = fs.expand(path)
  local source, e = fs.read(path, { max = M.MAX_BYTES })
  if not source then
    if e.code == "ENOENT" then
      return nil, err.new("ENOENT", ("%s: there is no such file"):format(path),
        { exit = 66, hint = "ev-cage init --name NAME, or name it with --config" })
    end
    return nil, e:wrap(path)
  end
  return M.parse(source, path)
end

-- The ids without which nothing can be built.
function M.require_ids(cfg)
  for _, key in ipairs { "uuid", "app_uuid", "team_uuid" } do
    if not cfg[key] then
      return nil, err.new("ECONFIG", ("%s: %s is not set"):format(cfg.file, key),
        { hint = "`ev-cage init` writes it; an original's file has it too" })
    end
  end
  return true
end

-- Accepted options whose feature is not there yet, by name (DESIGN §4.9).
function M.unlanded(cfg, forward_proxy_protocol)
  local names = {}
  local function add(on, name) if on then names[#names + 1] = name end end
  add(cfg.egress.enabled, "egress.enabled")
  add(cfg.forward_proxy_protocol or forward_proxy_protocol, "forward_proxy_protocol")
  add(cfg.trx_logging == true and not cfg.logging_forced_off, "trx_logging")
  add(#cfg.trusted_headers > 0, "trusted_headers")
  add(cfg.platform.ca_sha384, "platform.ca_sha384")
  add(cfg.platform.url, "platform.url")
  for _, table_name in ipairs { "plugins", "limits", "acceptor", "attestation_cors" } do
    local given, keys = cfg[table_name], {}
    if type(given) ~= "table" then
      add(given ~= false, table_name)
      given = {}
    end
    for k in pairs(given) do keys[#keys + 1] = k end
    table.sort(keys)
    for _, k in ipairs(keys) do add(true, table_name .. "." .. k) end
  end
  if #names == 0 then return nil end
  local line = cfg.given[names[1]]
  return err.new("EUNSUPPORTED", ("%s%s: this release has no %s yet"):format(cfg.file, line and ":" .. line or "",
    table.concat(names, ", ")), { exit = 65, hint = "remove it from " .. cfg.file .. " (or set it to false)" })
end

-- The hosts of a cage, both spellings of the app id, both domains (contract of certificate and client).
function M.hosts(cfg)
  local list, seen = {}, {}
  for _, kind in ipairs { "cages", "cage" } do
    for _, app in ipairs { cfg.app_uuid, (cfg.app_uuid:gsub("_", "-")) } do
      local host = ("%s.%s.%s.%s"):format(cfg.name, app, kind, cfg.platform.domain):lower()
      if not seen[host] then list[#list + 1] = host end
      seen[host] = true
    end
  end
  return list
end

-- The port that requests go to: [service] port, else the one EXPOSEd, else 8008.
function M.app_port(cfg, exposed)
  local port = cfg.service.port
  if not port and #exposed > 1 then
    local list = {}
    for i, p in ipairs(exposed) do list[i] = tostring(p) end
    return nil, err.new("ECONFIG", "the image EXPOSEs several ports: " .. table.concat(list, ", "),
      { hint = ("say which one serves requests: [service] port = %d in %s"):format(exposed[1], cfg.file) })
  end
  port = port or exposed[1] or M.DEFAULT_PORT
  local reserved = port == 9999 and "the encryption API"
    or cfg.egress.enabled and (port == 53 and "egress DNS" or port == 443 and "egress traffic")
  if reserved then
    return nil, err.new("ECONFIG", ("port %d is reserved in a cage, for %s"):format(port, reserved),
      { hint = "let the app listen on another port and EXPOSE that" })
  end
  return port
end

-- The text of cage/config.json (core/role/conf.h): compact, sorted keys, no host path, no date.
---@param app table {argv, env, user, workdir, port}
function M.measured(cfg, app)
  if cfg.api_key_auth and #cfg.auth.key_digests == 0 then
    return nil, err.new("ECONFIG", cfg.file .. ": api_key_auth needs at least one digest in [auth] key_digests",
      { hint = "`ev-cage init` writes it, or set api_key_auth = false" })
  end
  if #cfg.auth.key_digests > M.MAX_KEYS then
    return nil, err.new("ECONFIG", ("%s: more than %d key digests"):format(cfg.file, M.MAX_KEYS))
  end
  return json.encode {
    api_key_auth = cfg.api_key_auth,
    app = { argv = json.array(app.argv), env = json.array(app.env), user = app.user, workdir = app.workdir },
    app_uuid = cfg.app_uuid, debug = cfg.debug, healthcheck = cfg.healthcheck or json.null,
    hosts = json.array(M.hosts(cfg)), key_digests = json.array(cfg.auth.key_digests), name = cfg.name,
    port = app.port, team_uuid = cfg.team_uuid, tls_termination = cfg.tls_termination, uuid = cfg.uuid, version = 1,
  }
end

-- Changes keys in the file as it is now; writes only when something changed → changed | nil, err.
---@param changes table list of {path = {…}, key = …, value = …}
function M.write_back(cfg, changes)
  local source, e = fs.read(cfg.path, { max = M.MAX_BYTES })
  if not source then return nil, e:wrap("updating " .. cfg.file) end
  local edited, edit_err = toml.edit(source, changes)
  if not edited then return nil, edit_err:wrap("updating " .. cfg.file) end
  if edited == source then return false end
  local path = fs.realpath(cfg.path) or cfg.path                    -- a link stays a link
  local stat = fs.stat(path)
  local ok, write_err = fs.write(path, edited, { mode = stat and stat.mode and stat.mode & 511 or 420 })
  if not ok then return nil, write_err:wrap("updating " .. cfg.file) end
  return true
end

-- [attestation] and [runtime] of a finished build.
function M.build_changes(pcrs, runtime)
  local changes = { { path = { "attestation" }, key = "HashAlgorithm", value = "Sha384 { ... }" } }
  for _, name in ipairs { "PCR0", "PCR1", "PCR2", "PCR8" } do
    changes[#changes + 1] = { path = { "attestation" }, key = name, value = pcrs[name] }
  end
  for _, name in ipairs { "version", "runtime_sha384", "kernel_sha384", "cmdline_sha384" } do
    changes[#changes + 1] = { path = { "runtime" }, key = name, value = runtime[name] }
  end
  return changes
end

return M
