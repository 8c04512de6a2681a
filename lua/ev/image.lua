-- image.lua — enclave images: describing them, and what a container image says about its app.
local err = require "ev.err"
local fs = require "ev.fs"
local json = require "ev.json"
local nitro = require "ev.c.nitro"
local text = require "ev.text"

local M = { HASH = "Sha384 { ... }", PCRS = { "PCR0", "PCR1", "PCR2", "PCR8" } }

-- Waits for a job, with a bar where there is somebody to see it.
local function wait(job, ui, label)
  if ui then return ui.progress(job, label) end
  return job:wait()
end

function M.describe(path, ui)
  local info, e = wait(nitro.image_describe(path), ui, "describe")
  if not info then return nil, fs.of_input(e) end
  return info
end

function M.check_layout(path)
  return nitro.image_check_layout(path):wait()
end

function M.build(spec, ui)
  return wait(nitro.image_build(spec), ui, "build image")
end

-- {HashAlgorithm, PCR0, PCR1, PCR2 [, PCR8]} in nitro-cli's order.
function M.measurements(pcrs)
  local fields = { { "HashAlgorithm", M.HASH } }
  for _, name in ipairs(M.PCRS) do
    if pcrs[name] then fields[#fields + 1] = { name, pcrs[name] } end
  end
  return json.ordered(fields)
end

local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

-- OpenSSL's form: "Nov 23 01:41:25 2026 GMT"
function M.openssl_time(ms)
  local y, mo, d, clock = text.time_format(ms, 0):match("^(%d+)-(%d+)-(%d+)T([%d:]+)")
  return ("%s %2d %s %s GMT"):format(MONTHS[tonumber(mo)], tonumber(d), clock, y)
end

local function signing_certificate(cert)
  local issuer = {}
  for _, attribute in ipairs(cert:issuer()) do issuer[attribute[1]] = attribute[2] end
  local from, to = cert:validity()
  local signature = text.hex(cert:signature()):upper():gsub("%x%x", "%0:"):sub(1, -2)
  return json.ordered { { "IssuerName", issuer }, { "Algorithm", cert:sig_alg() },
    { "NotBefore", M.openssl_time(from) }, { "NotAfter", M.openssl_time(to) }, { "Signature", signature } }
end

local function metadata(source)
  local value = source ~= "" and json.parse(source)
  return type(value) == "table" and value or nil
end

local function add_metadata(fields, meta)
  local build = type(meta.BuildMetadata) == "table" and meta.BuildMetadata or {}
  local shown = {}
  for _, key in ipairs { "BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion" } do
    if build[key] ~= nil then shown[#shown + 1] = { key, build[key] } end
  end
  shown[#shown + 1] = { "DockerInfo", meta.DockerInfo or json.null }
  if type(meta.CustomMetadata) == "table" then
    local keys = {}
    for k in pairs(meta.CustomMetadata) do keys[#keys + 1] = k end
    table.sort(keys)
    for _, k in ipairs(keys) do shown[#shown + 1] = { k, meta.CustomMetadata[k] } end
  end
  if meta.ImageName ~= nil then fields[#fields + 1] = { "ImageName", meta.ImageName } end
  if meta.ImageVersion ~= nil then fields[#fields + 1] = { "ImageVersion", meta.ImageVersion } end
  fields[#fields + 1] = { "Metadata", json.ordered(shown) }
end

-- nitro-cli's description as ordered fields (spec eif.md §9).
function M.description(info)
  local fields = {
    { "EifVersion", info.version }, { "Measurements", M.measurements(info.pcrs) }, { "IsSigned", info.is_signed },
  }
  if info.cert then fields[#fields + 1] = { "SigningCertificate", signing_certificate(info.cert) } end
  fields[#fields + 1] = { "CheckCRC", info.crc_ok }
  if info.is_signed then fields[#fields + 1] = { "SignatureCheck", info.signature_ok } end
  local meta = metadata(info.metadata)
  if meta then add_metadata(fields, meta) end
  return fields
end

-- ENTRYPOINT and CMD of a container image, as it would run → {argv, env, user, workdir, ports} | nil, err
function M.app(conf)
  local argv = {}
  for _, list in ipairs { conf.entrypoint or {}, conf.cmd or {} } do
    for _, word in ipairs(list) do argv[#argv + 1] = word end
  end
  if #argv == 0 then
    return nil, err.new("ECONFIG", "the image has neither ENTRYPOINT nor CMD",
      { reason = "no-entrypoint", hint = 'end the Dockerfile with ENTRYPOINT ["/path/of/app"]' })
  end
  if conf.architecture and conf.architecture ~= "" and conf.architecture ~= "amd64" then
    return nil, err.new("EUNSUPPORTED", ("the image is for %s; cages run on amd64"):format(conf.architecture),
      { exit = 65, hint = "build it with --platform linux/amd64" })
  end
  local workdir = conf.workdir
  if not workdir or workdir == "" then workdir = "/" end
  return { argv = argv, env = conf.env or {}, user = conf.user or "", workdir = workdir, ports = conf.ports or {} }
end

-- The metadata section (spec eif.md §4): compact, this order, deterministic.
---@param o table {name, version (of the tool), kernel_version, epoch, digests = {name = SHA-384 in hex} | nil}
function M.metadata(o)
  local time = text.time_format(o.epoch * 1000, 0):gsub("Z$", "+00:00")
  return json.encode(json.ordered {
    { "ImageName", o.name }, { "ImageVersion", "1.0" },
    { "BuildMetadata", json.ordered { { "BuildTime", time }, { "BuildTool", "ev-cage" },
      { "BuildToolVersion", o.version }, { "OperatingSystem", "Linux" }, { "KernelVersion", o.kernel_version } } },
    { "DockerInfo", json.null }, { "CustomMetadata", o.digests or json.null },
  })
end

return M
