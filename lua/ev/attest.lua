-- attest.lua — expectations, documents and verdicts; the judging itself is C (core/nitro/attest.c).
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local json = require "ev.json"
local nitro = require "ev.c.nitro"
local sys = require "ev.sys"
local text = require "ev.text"

local M = { DOC_MAX = 65536 }

-- --- expected measurements ------------------------------------------------------------------------

local function put(set, index, value, where)
  local digest = text.digest384(value)
  if not digest then
    return nil, err.new("EUSAGE", ("%s: PCR%d is not 96 hexadecimal digits"):format(where, index))
  end
  if set[index] and set[index] ~= digest then
    return nil, err.new("EUSAGE", ("%s: PCR%d contradicts another expectation"):format(where, index))
  end
  set[index] = digest
  return true
end

-- {PCR0 = hex, …} into a set.
function M.add_named(set, pcrs, where)
  for index = 0, 31 do
    local value = pcrs["PCR" .. index]
    if value then
      local ok, e = put(set, index, value, where)
      if not ok then return nil, e end
    end
  end
  return true
end

-- The options --pcr0 … --pcr8 and --pcr N=HEX.
function M.add_options(set, opts)
  for _, index in ipairs { 0, 1, 2, 3, 4, 8 } do
    local value = opts["pcr" .. index]
    if value then
      local ok, e = put(set, index, value, "--pcr" .. index)
      if not ok then return nil, e end
    end
  end
  for _, entry in ipairs(opts.pcr or {}) do
    local index, value = entry:match("^(%d+)=(%x+)$")
    index = tonumber(index)
    if not index or index > 31 then
      return nil, err.new("EUSAGE", ("--pcr %s: expected N=HEX with N from 0 to 31"):format(entry))
    end
    local ok, e = put(set, index, value, "--pcr")
    if not ok then return nil, e end
  end
  return true
end

-- What is wrong with pinning only this much; nil when it is enough (DESIGN §5).
function M.weakness(set)
  if set[0] or (set[1] and set[2]) then return nil end
  local names = {}
  for i = 0, 31 do if set[i] then names[#names + 1] = "PCR" .. i end end
  return ("only %s was compared: that does not name the whole image; give PCR0, or PCR1 and PCR2"):format(
    table.concat(names, ", "))
end

-- --- documents -------------------------------------------------------------------------------------

-- CBOR, base64, or the JSON of the well-known endpoint → document bytes | nil, err
function M.decode(bytes)
  local first = bytes:byte(1)
  if first == 0x84 or first == 0xd2 then return bytes end
  if bytes:match("^%s*{") then
    local value = json.parse(bytes)
    bytes = type(value) == "table" and type(value.attestation_doc) == "string" and value.attestation_doc or ""
  end
  local doc = text.unbase64(bytes, true)
  if doc and #doc > 0 then return doc end
  return nil, err.new("EVERIFY", "the document is neither CBOR nor base64", { reason = "doc-cbor" })
end

local function read_input(path)
  if path ~= "-" then
    local data, e = fs.read(path, { max = 1 << 20 })
    if data then return data end
    if e.code == "ENOENT" then e = err.new("ENOENT", path .. ": there is no such file", { exit = 66 }) end
    return nil, e
  end
  local pieces, size = {}, 0
  while size <= M.DOC_MAX * 2 do
    local piece = io.stdin:read(4096)
    if not piece then break end
    pieces[#pieces + 1], size = piece, size + #piece
  end
  return table.concat(pieces)
end

-- A certificate file, PEM or DER.
function M.read_certificate(path)
  local data, e = read_input(path)
  if not data then return nil, e end
  local cert, cert_err
  if data:find("-----BEGIN", 1, true) then cert, cert_err = crypto.cert_from_pem(data)
  else cert, cert_err = crypto.cert_from_der(data) end
  if not cert then return nil, cert_err:wrap(path) end
  return cert
end

function M.read_document(path)
  local data, e = read_input(path)
  if not data then return nil, e end
  return M.decode(data)
end

-- --- trust -----------------------------------------------------------------------------------------

-- → trust, development (a root that the user named) | nil, err
function M.trust(root_path)
  if not root_path then return nitro.trust_default() end
  local pem, e = fs.read(root_path, { max = 1 << 20 })
  if not pem then
    if e.code == "ENOENT" then
      return nil, err.new("ENOENT", root_path .. ": there is no such file", { exit = 66 })
    end
    return nil, e:wrap("--root")
  end
  if not pem:find("-----BEGIN", 1, true) then
    local cert = crypto.cert_from_der(pem)
    pem = cert and cert:pem() or pem
  end
  local trust, trust_err = nitro.trust_from_pem(pem)
  if not trust then return nil, trust_err:wrap("--root " .. root_path) end
  return trust
end

-- Is this root somebody's own? AWS's, even when named by --root, is not.
function M.is_development(trust)
  return nitro.trust_development(trust)
end

-- --- verdicts ---------------------------------------------------------------------------------------

local function hex_or_null(bytes) return bytes and text.hex(bytes) or json.null end
local function time_or_null(ms)
  if not ms or ms <= 0 then return json.null end
  return text.time_format(ms, ms % 1000 ~= 0 and 3 or 0)
end

-- A report of C as the JSON of `attest`.
---@param report table|nil
---@param e table|nil the error when it failed
function M.verdict(report, e, extra)
  local out = { verdict = e and "failed" or "verified", reason = e and e.reason or json.null,
    message = e and e.message or json.null }
  if report and report.module_id and report.module_id ~= "" then
    out.pcrs = {}
    for i = 0, 31 do if report.pcrs[i] then out.pcrs["PCR" .. i] = report.pcrs[i] end end
    out.module_id, out.digest, out.debug = report.module_id, report.digest, report.debug
    out.timestamp = time_or_null(report.timestamp)
    out.valid_from, out.valid_to = time_or_null(report.not_before), time_or_null(report.not_after)
    out.user_data, out.nonce = hex_or_null(report.user_data), hex_or_null(report.nonce)
    out.public_key = hex_or_null(report.public_key)
  end
  for k, v in pairs(extra or {}) do out[k] = v end
  return out
end

-- Judges one document → report | nil, err, report
---@param expect table {sets, any_measurement, allow_debug, at (ms), user_data, nonce}
function M.verify(doc, trust, expect)
  return nitro.attest_verify(doc, trust, expect)
end

-- User data that were asked for besides those that bind a document to a key.
local function also(report, user_data)
  if not user_data or report.user_data == user_data then return report end
  return nil, err.new("EVERIFY", "the user data are the certificate's key, not what was expected",
    { reason = "user-data" }), report
end

-- The document of a certificate, bound to the certificate's key.
function M.verify_certificate(cert, trust, expect)
  local doc, e = nitro.attest_from_cert(cert)
  if not doc then return nil, e end
  local key, key_err = cert:key()
  if not key then return nil, key_err end
  local copy = {}
  for k, v in pairs(expect) do copy[k] = v end
  copy.user_data = key:spki()
  local report, why, partial = M.verify(doc, trust, copy)
  if not report then return nil, why, partial end
  return also(report, expect.user_data)
end

function M.now() return math.floor(sys.time() * 1000) end

-- "https://host:8443/path" or "host[:port]" → host, port | nil, err
function M.target(word)
  local rest = word:gsub("^https://", "")
  if rest:match("^%a+://") then
    return nil, err.new("EUSAGE", word .. ": only https can be attested")
  end
  rest = rest:gsub("[/?#].*$", "")
  local host, port = rest:match("^([^:]+):(%d+)$")
  if not host then host, port = rest, "443" end
  if not host:match("^[%w%.%-_]+$") or tonumber(port) > 65535 then
    return nil, err.new("EUSAGE", ("%s: not a URL and not HOST[:PORT]"):format(word))
  end
  return host, math.tointeger(tonumber(port))
end

return M
