-- init: cage.toml in the shape of the original's documentation, with comments, and a signing pair.
-- Works offline with the development identity.
local config = require "ev.config"
local err = require "ev.err"
local fs = require "ev.fs"
local identity = require "ev.identity"
local keys = require "ev.keys"
local text = require "ev.text"
local toml = require "ev.toml"

local DEFAULT_DOCKERFILE = "./Dockerfile"         -- beside cage.toml, wherever that is

local function add(lines, comment, key, value)
  lines[#lines + 1] = ""
  for _, line in ipairs(text.lines(comment)) do lines[#lines + 1] = "# " .. line end
  lines[#lines + 1] = ("%s = %s"):format(key, toml.literal(value))
end

local function add_table(lines, comment, name, pairs_of)
  lines[#lines + 1] = ""
  for _, line in ipairs(text.lines(comment)) do lines[#lines + 1] = "# " .. line end
  lines[#lines + 1] = "[" .. name .. "]"
  for _, p in ipairs(pairs_of) do lines[#lines + 1] = ("%s = %s"):format(p[1], toml.literal(p[2])) end
end

local function main_keys(lines, v)
  lines[1] = "# The name of your cage"
  lines[2] = "name = " .. toml.literal(v.name)
  add(lines, "The id of your cage", "uuid", v.uuid)
  add(lines, "The id of the app that the cage belongs to", "app_uuid", v.app_uuid)
  add(lines, "The id of the team that owns the app", "team_uuid", v.team_uuid)
  add(lines, "Debug mode: console output is available, measurements are zero and prove nothing", "debug", v.debug)
  add(lines, "Whether requests need an API key in the api-key header", "api_key_auth", v.api_key_auth)
  if v.trx_logging ~= nil then add(lines, "Whether transactions are logged", "trx_logging", v.trx_logging) end
  if #v.trusted_headers > 0 then
    add(lines, "Headers that transaction logs do not obfuscate", "trusted_headers", v.trusted_headers)
  end
  if v.disable_tls_termination then
    add(lines, "The app terminates TLS itself", "disable_tls_termination", true)
  end
  if v.forward_proxy_protocol then
    add(lines, "The app gets the PROXY protocol header of a connection", "forward_proxy_protocol", true)
  end
  add(lines, "The path to the Dockerfile", "dockerfile", v.dockerfile)
  if v.healthcheck then
    add(lines, "A path of the app that is asked once a second; 2xx means healthy", "healthcheck", v.healthcheck)
  end
end

local function file_text(v)
  local lines = {}
  main_keys(lines, v)
  local egress = { { "enabled", v.egress } }
  if v.egress then
    egress[2], egress[3] = { "destinations", v.destinations }, { "ports", v.ports }
  end
  add_table(lines, "Outbound connections from the cage", "egress", egress)
  if v.desired_replicas then
    add_table(lines, "Replicas to run", "scaling", { { "desired_replicas", v.desired_replicas } })
  end
  add_table(lines, "Digests (base64 of SHA-512) of the API keys that the cage accepts", "auth",
    { { "key_digests", v.key_digests } })
  add_table(lines, "The certificate and key that sign the image: PCR8 is the certificate's measurement", "signing",
    { { "certPath", v.cert_path }, { "keyPath", v.key_path } })
  return table.concat(lines, "\n") .. "\n"
end

local function list(value, default)
  return value and text.split(value) or default
end

-- The options as values of cage.toml | nil, err
local function values(opts, id)
  local replicas
  if opts.desired_replicas then
    replicas = math.tointeger(tonumber(opts.desired_replicas))
    if not replicas then return nil, err.new("EUSAGE", "--desired-replicas: not a number") end
  end
  local trx
  if opts.disable_trx_logging then trx = false end
  return {
    name = opts.name, uuid = identity.new_uuid(), app_uuid = id.app_uuid, team_uuid = id.team_uuid,
    debug = opts.debug or false, trx_logging = trx,
    api_key_auth = not opts.disable_api_key_auth and not opts.disable_tls_termination,
    trusted_headers = list(opts.trusted_headers, {}), disable_tls_termination = opts.disable_tls_termination,
    forward_proxy_protocol = opts.forward_proxy_protocol, dockerfile = opts.file or DEFAULT_DOCKERFILE,
    healthcheck = opts.healthcheck, desired_replicas = replicas,
    egress = opts.egress or opts.egress_ports ~= nil or opts.egress_destinations ~= nil,
    ports = list(opts.egress_ports, { "443" }), destinations = list(opts.egress_destinations, { "*" }),
    key_digests = { identity.key_digest(id.api_key) },
  }
end

local function usage(opts)
  if opts.self_destruct then
    return err.new("EMISSING", "--self-destruct needs a platform, and none is configured",
      { exit = 69, hint = "leave it out: without a platform a cage runs only where you start it" })
  end
  for _, name in ipairs { "egress_ports", "egress_destinations", "trusted_headers" } do
    if opts[name] and #text.split(opts[name]) == 0 then
      return err.new("EUSAGE", ("--%s: the list is empty"):format(name:gsub("_", "-")))
    end
  end
  if not opts.name then return err.new("EUSAGE", "--name is missing", { hint = "ev-cage init --name hello-cage" }) end
  if (opts.signing_cert == nil) ~= (opts.private_key == nil) then
    return err.new("EUSAGE", "--signing-cert and --private-key need each other")
  end
end

-- A pair that is named, or one that is there and good, or a new one → {cert_path, key_path, made} | nil, err
local function signing(opts, dir)
  if opts.signing_cert and not opts.generate_signing then
    local pair, e = keys.load_pair(fs.expand(opts.signing_cert), fs.expand(opts.private_key))
    if not pair then return nil, e end
    return { cert_path = opts.signing_cert, key_path = opts.private_key }
  end
  local cert, key = fs.join(dir, "cert.pem"), fs.join(dir, "key.pem")
  if fs.exists(cert) and fs.exists(key) then
    local pair, e = keys.load_pair(cert, key)
    if pair then return { cert_path = "cert.pem", key_path = "key.pem", kept = true } end
    return nil, err.new(e.code, "the signing pair that is there: " .. e.message,
      { exit = e.exit, reason = e.reason, hint = "move it away, or ev-cage cert new --force" })
  end
  local pair, e = keys.create { dir = dir }
  if not pair then return nil, e end
  return { cert_path = "cert.pem", key_path = "key.pem", made = true }
end

local function pieces(path)
  local out = {}
  for piece in path:gmatch("[^/]+") do if piece ~= "." then out[#out + 1] = piece end end
  return out
end

-- A path that was given relative to here, as cage.toml's folder sees it.
local function from_dir(path, dir)
  if path:sub(1, 1) == "/" or path:sub(1, 1) == "~" then return path end
  local here, there = fs.cwd(), fs.realpath(dir)
  if not there or here == there then return path end
  local target, base, same = pieces(fs.join(here, path)), pieces(there), 0
  while target[same + 1] and target[same + 1] == base[same + 1] do same = same + 1 end
  return (("../"):rep(#base - same) .. table.concat(target, "/", same + 1))
end

local function report(ctx, v, path, id, pair)
  if ctx.json then
    ctx.out { status = "success", config = path, name = v.name, uuid = v.uuid, appUuid = v.app_uuid,
      teamUuid = v.team_uuid, apiKey = id.api_key, identityCreated = id.created or false }
    return
  end
  ctx.ui.ok("wrote " .. path)
  if id.created then ctx.ui.print("Made a development identity in " .. id.dir .. " (no platform is configured).")
  else ctx.ui.print("Using the development identity of " .. id.dir .. ".") end
  if pair.made then ctx.ui.print("Made a signing certificate and key: cert.pem, key.pem. Keep key.pem secret.")
  elseif pair.kept then ctx.ui.print("Kept the signing pair that was there: cert.pem, key.pem.") end
  if v.api_key_auth then
    ctx.ui.print("Its API key:")
    ctx.ui.print("")
    ctx.ui.print("    export EV_API_KEY=" .. id.api_key)
    ctx.ui.print("")
  end
  ctx.ui.print("Next: ev-cage build")
end

return function(ctx)
  local opts = ctx.opts
  local wrong = usage(opts)
  if wrong then return nil, wrong end
  local dir = fs.expand(opts.output or "./")
  local path = fs.join(dir, "cage.toml")
  if fs.exists(path) and not opts.force then
    return nil, err.new("EEXIST", path .. " is there already",
      { exit = 73, hint = "edit it, or --force to replace it" })
  end
  local id, e = identity.load()
  if not id then return nil, e end
  local v, value_err = values(opts, id)
  if not v then return nil, value_err end
  v.cert_path, v.key_path = "cert.pem", "key.pem"
  local checked, check_err = config.parse(file_text(v), path)      -- before anything is written
  if not checked then
    return nil, err.new("EUSAGE", (check_err.message:gsub("^cage%.toml:%d+: ", "")), { hint = check_err.hint })
  end
  local ok, dir_err = fs.mkdir_p(dir, 493)
  if not ok then return nil, err.new(dir_err.code, "--output: " .. dir_err.message, { exit = 73 }) end
  local pair, pair_err = signing(opts, dir)
  if not pair then return nil, pair_err end
  if opts.file then v.dockerfile = from_dir(opts.file, dir) end
  v.cert_path, v.key_path = from_dir(pair.cert_path, dir), from_dir(pair.key_path, dir)
  if pair.made or pair.kept then v.cert_path, v.key_path = "cert.pem", "key.pem" end
  local written, write_err = fs.write(path, file_text(v), { mode = 420 })
  if not written then return nil, err.new(write_err.code, write_err.message, { exit = 73 }) end
  if opts.disable_tls_termination and not opts.disable_api_key_auth then
    ctx.ui.warn("without TLS termination the cage cannot ask for API keys: api_key_auth = false, and the app must "
      .. "check its callers")
  end
  local unlanded = config.unlanded(checked)
  if unlanded then ctx.ui.warn((unlanded.message:gsub("^.-: ", "")) .. ": `ev-cage build` will refuse it") end
  report(ctx, v, path, id, pair)
  return 0
end
