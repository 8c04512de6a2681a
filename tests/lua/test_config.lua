-- cage.toml: every key of the original, mistakes with their place, writing back byte for byte.
local config = require "ev.config"
local fs = require "ev.fs"
local json = require "ev.json"
local t = require "tap"

local SEED = [[
# The name of your Cage
name = "hello-cage"
uuid = "0b2a4c1e-1111-4222-8333-444455556666"
app_uuid = "app_8022cc5a3073"
team_uuid = "team_0123456789ab"
debug = true
api_key_auth = false
trusted_headers = ["X-Error-*", "X-Trace-Id"]
disable_tls_termination = true
trx_logging = true
dockerfile = "Dockerfile"
healthcheck = "/health"

[egress]
enabled = true
destinations = ["*.evervault.com"]
ports = ["443", 465]

[scaling]
desired_replicas=2

# The path to the signing key and certificate for your Cage
[signing]
certPath = "~/.ev/cages/cert.pem"
keyPath = "keys/key.pem"
]]

local function parse(text) return config.parse(text, "/x/y/cage.toml") end
local function minimal(extra) return 'name = "a"\n' .. extra end

local cfg, e = parse(SEED)
if not t.ok(cfg, "the seed's file is read") then print("# " .. tostring(e)) end
t.is(cfg.egress.ports, { 443, 465 }, "ports as strings and numbers")
t.is(cfg.scaling.desired_replicas, 2, "replicas")
t.is(cfg.key_path, "/x/y/keys/key.pem", "a relative path belongs to the folder of cage.toml")
t.is(cfg.cert_path, fs.expand("~/.ev/cages/cert.pem"), "~ is expanded")
t.is(cfg.dockerfile_path, "/x/y/Dockerfile", "the Dockerfile too")
t.is(#cfg.warnings, 1, "TLS off and logging on: one warning")
t.ok(cfg.warnings[1]:find("cage.toml:10: trx_logging", 1, true), "it names file, line and key")
t.is(cfg.trx_logging, false, "logging is off then")
t.is(cfg.tls_termination, false, "TLS termination is off")
t.is(config.unlanded(cfg).message, "cage.toml:15: this release has no egress.enabled, trusted_headers yet",
  "what has not landed is named")

cfg = parse(minimal "")
t.is({ cfg.debug, cfg.api_key_auth, cfg.tls_termination, cfg.egress.enabled, cfg.platform.domain },
  { false, true, true, false, "localhost" }, "defaults")
t.is(cfg.trx_logging, nil, "logging that was not asked for is nil")
t.is(config.unlanded(cfg), nil, "and stops nothing")
t.is(config.unlanded(parse(minimal "trx_logging = true")).message, "cage.toml:2: this release has no trx_logging yet",
  "logging that was asked for stops the build")
t.is(config.unlanded(parse(minimal '[plugins]\negress = "p.lua"')).message,
  "cage.toml: this release has no plugins.egress yet", "plugins too")
local ZERO = ("0"):rep(96)
t.is(config.unlanded(parse(minimal('[platform]\nca_sha384 = "' .. ZERO .. '"\nurl = "https://x"'))).message,
  "cage.toml:3: this release has no platform.ca_sha384, platform.url yet", "nor is a CA pinned that nobody asks for")
t.is(config.unlanded(parse(minimal 'plugins = true\nlimits = 5\nacceptor = false')).message,
  "cage.toml:2: this release has no plugins, limits yet", "also where they are no tables")
t.is(config.unlanded(parse(minimal "trx_logging = false")), nil, "logging that is off stops nothing")

cfg = parse(minimal 'helthcheck = "/x"\n[egress]\nenabld = true\n')
t.is(cfg.warnings, { "cage.toml:2: unknown key `helthcheck` — did you mean `healthcheck`?",
  "cage.toml:4: unknown key `egress.enabld` — did you mean `egress.enabled`?" }, "unknown keys warn with the nearest")

local wrong = {
  { 'name = 3', "cage.toml:1: name: expected a string, found integer" },
  { 'nam = "a"', "cage.toml:1: `name` is missing" },
  { minimal 'debug = "yes"', "cage.toml:2: debug: expected true or false, found string" },
  { minimal '[egress]\nports = ["x"]', 'cage.toml:3: egress.ports%[1%]: "x" is not a port' },
  { minimal '[egress]\nports = [70000]', "egress.ports%[1%]" },
  { minimal '[egress]\nports = 443', "cage.toml:3: egress.ports: expected a list, found integer" },
  { minimal 'egress = 1', "egress: expected a table" },
  { minimal 'healthcheck = "health"', "must be a path" },
  { minimal 'trusted_headers = ["Api-Key"]', "carries credentials" },
  { minimal '[auth]\nkey_digests = ["abc"]', "base64 of the SHA%-512" },
  { minimal '[runtime]\nkernel_sha384 = "12"', "96 digits" },
  { minimal '[scaling]\ndesired_replicas = 0', "from 1 to 1000" },
  { minimal 'disable_tls_termination = true\ntls_termination = true', "contradicts" },
  { minimal 'api_key_auth = true\ndisable_tls_termination = true', "cage.toml:2: api_key_auth needs TLS termination" },
  { 'name = "a b"', "letters, digits and hyphens" },
  { 'name = "a_"', "letters, digits and hyphens" },
  { minimal '[egress]\ndestinations = ["a..b"]', "must be a host name" },
  { minimal '[egress]\ndestinations = ["*a.b"]', "must be a host name" },
  { minimal '[egress]\ndestinations = ["*", "*.a.b", "a-b.c", "10.0.0.1", ".a"]', "destinations%[5%]: must be a host" },
  { 'name = "a"\nname = "b"', "cage.toml:2: " },
  { 'name = "a"\n\ndebug = ', "cage.toml:3: " },
}
for _, case in ipairs(wrong) do
  local v, why = parse(case[1])
  t.fails(v, why, case[2], "refused: " .. case[1]:gsub("\n", " / "))
  t.is(why and why.code, "ECONFIG", "with ECONFIG")
end

cfg = parse(minimal "disable_tls_termination = true")
t.is(cfg.api_key_auth, false, "nobody can ask for a key inside somebody else's TLS: off by default then")
t.ok(#cfg.warnings == 1 and cfg.warnings[1]:find "api_key_auth", "and said")

-- ports
cfg = parse(minimal "")
t.is(config.app_port(cfg, {}), 8008, "8008 by default")
t.is(config.app_port(cfg, { 8080 }), 8080, "the one that is EXPOSEd")
t.is(config.app_port(cfg, { 443 }), 443, "443 without egress")
local p, why = config.app_port(cfg, { 9999 })
t.fails(p, why, "9999 is reserved", "9999 never")
p, why = config.app_port(cfg, { 80, 81 })
t.fails(p, why, "several ports: 80, 81", "several need advice")
t.is(config.app_port(parse(minimal "[service]\nport = 81"), { 80, 81 }), 81, "[service] port decides")
p, why = config.app_port(parse(minimal "[egress]\nenabled = true"), { 443 })
t.fails(p, why, "443 is reserved", "443 is egress's")

-- the measured configuration
local full = 'name = "a"\nuuid = "u"\napp_uuid = "app_1"\nteam_uuid = "team_1"\n[auth]\nkey_digests = ["'
  .. ("A"):rep(86) .. '=="]\n'
cfg = parse(full)
local app = { argv = { "/x" }, env = {}, user = "", workdir = "/", port = 8008 }
local measured = config.measured(cfg, app)
t.is(measured, '{"api_key_auth":true,"app":{"argv":["/x"],"env":[],"user":"","workdir":"/"},"app_uuid":"app_1",'
  .. '"debug":false,"healthcheck":null,"hosts":["a.app_1.cages.localhost","a.app-1.cages.localhost",'
  .. '"a.app_1.cage.localhost","a.app-1.cage.localhost"],"key_digests":["' .. ("A"):rep(86) .. '=="],"name":"a",'
  .. '"port":8008,"team_uuid":"team_1","tls_termination":true,"uuid":"u","version":1}', "compact, sorted, complete")
t.ok(json.parse(measured), "and JSON")
local none, no_digest = config.measured(parse(minimal ""), app)
t.fails(none, no_digest, "at least one digest", "api_key_auth without a digest stops")

-- writing back
local dir <close> = fs.scratch()
local path = fs.join(dir.path, "cage.toml")
local before = '# top\nname="a"   # kept\n\n[odd]\nx = 1\n\n[attestation]\nPCR0 = "old" # was\n'
fs.write(path, before)
cfg = config.load(path)
local pcrs = { PCR0 = ("0"):rep(96), PCR1 = ("1"):rep(96), PCR2 = ("2"):rep(96), PCR8 = ("8"):rep(96) }
t.is(config.write_back(cfg, config.build_changes(pcrs, { version = "1" })), true, "changed")
local after = fs.read(path)
t.ok(after:find('# top\nname="a"   # kept\n\n[odd]\nx = 1\n\n', 1, true) == 1, "everything else is as it was")
t.ok(after:find('PCR0 = "' .. pcrs.PCR0 .. '" # was', 1, true), "a comment after the value survives")
t.ok(after:find('HashAlgorithm = "Sha384 { ... }"', 1, true), "the original's HashAlgorithm")
t.is(config.write_back(cfg, config.build_changes(pcrs, { version = "1" })), false, "the same again changes nothing")
local again = config.load(path)
t.is({ again.attestation.PCR8, again.runtime.version }, { pcrs.PCR8, "1" }, "and is read back")
t.is(config.write_back(cfg, config.build_changes({ PCR0 = pcrs.PCR0, PCR1 = pcrs.PCR1, PCR2 = pcrs.PCR2 },
  { version = "1" })), true, "unsigned: PCR8 goes away")
t.is(config.load(path).attestation.PCR8, nil, "it is gone")

local missing, gone = config.load(fs.join(dir.path, "none.toml"))
t.fails(missing, gone, "no such file", "a missing file")
t.is(gone.exit, 66, "exit 66")
return t.done()
