-- attest: every golden document through the library, expectations, inputs, verdicts.
local attest = require "ev.attest"
local fs = require "ev.fs"
local json = require "ev.json"
local sys = require "ev.sys"
local text = require "ev.text"
local t = require "tap"

local golden = fs.join(sys.script_dir and sys.script_dir() or "tests/lua", "../golden")
local trust = assert(attest.trust())
t.is(attest.is_development(trust), false, "AWS's root is compiled in")

local function at(time) return assert(text.time_parse(time)) end
local function any(time) return { sets = {}, any_measurement = true, at = at(time) } end
local function refused(doc, expect, reason, name)
  local report, e, partial = attest.verify(doc, trust, expect)
  t.is({ report == nil, e and e.code, e and e.reason }, { true, "EVERIFY", reason }, name)
  return partial
end

for _, d in ipairs(json.parse(fs.read(fs.join(golden, "attestation/expected.json")))) do
  local doc = attest.read_document(fs.join(golden, "attestation", d.name))
  local expect = any(d.valid_from)
  expect.at, expect.allow_debug = d.timestamp_ms, d.debug
  local report, e = attest.verify(doc, trust, expect)
  if t.ok(report, d.name .. " is accepted at its own time") then
    local pcrs = {}
    for i, v in pairs(report.pcrs) do pcrs[tostring(i)] = v end
    t.is(pcrs, d.pcrs, d.name .. ": its registers")
    t.is(report.timestamp, d.timestamp_ms, d.name .. ": its time")
  else
    print("# " .. tostring(e))
  end
  expect.at = at "2026-11-24T00:00:00Z"
  refused(doc, expect, "cert-expired", d.name .. " is refused today")
  if not d.debug then
    local wrong = (d.pcrs["0"]:sub(1, 1) == "0" and "1" or "0") .. d.pcrs["0"]:sub(2)
    local own = { sets = { { [0] = d.pcrs["0"] } }, at = d.timestamp_ms }
    t.ok(attest.verify(doc, trust, own), d.name .. ": its own PCR0")
    own.sets = { { [0] = wrong } }
    local partial = refused(doc, own, "pcr-mismatch", d.name .. ": another PCR0")
    t.is(partial and partial.pcrs[0], d.pcrs["0"], d.name .. ": the report of a refusal has the registers")
    own.sets = { { [0] = wrong }, { [0] = d.pcrs["0"], [1] = d.pcrs["1"] } }
    t.ok(attest.verify(doc, trust, own), d.name .. ": one whole set of two")
  else
    expect.at, expect.allow_debug = d.timestamp_ms, false
    refused(doc, expect, "debug", d.name .. ": debug needs to be allowed")
  end
end

-- certificates that carry a document
local cert_path = fs.join(golden, "attestation/evervault-nondebug-cert.der")
local cert = attest.read_certificate(cert_path)
local when = "2023-01-18T14:00:00Z"
local report = attest.verify_certificate(cert, trust, any(when))
t.ok(report, "a document inside a certificate, bound to its key")
local bound = any(when)
bound.user_data = ("x"):rep(120)
t.is(select(2, attest.verify_certificate(cert, trust, bound)).reason, "user-data", "and to no other")
local doc = attest.read_document(fs.join(golden, "attestation/061b9b75a3a6.cbor"))
local other = any(when)
other.user_data = ("x"):rep(120)
refused(doc, other, "user-data", "bound to another key")
other = any(when)
other.nonce = "no"
refused(doc, other, "nonce", "another nonce")
local pem_dir <close> = fs.scratch()
fs.write(fs.join(pem_dir.path, "c.pem"), cert:pem())
t.is(attest.read_certificate(fs.join(pem_dir.path, "c.pem")):der(), cert:der(), "PEM and DER are the same")

-- forms of a document
t.is(attest.decode(doc), doc, "CBOR")
t.is(attest.decode(text.base64(doc):gsub(("."):rep(76), "%0\n")), doc, "base64 in lines")
t.is(attest.decode(json.encode { attestation_doc = text.base64(doc) }), doc, "the well-known endpoint's JSON")
for _, bad in ipairs { "", "{", "{}", "***", '{"attestation_doc":3}' } do
  local v, e = attest.decode(bad)
  t.fails(v, e, "neither CBOR nor base64", ("no document: %q"):format(bad))
end
for _, n in ipairs { 1, 2, 40, #doc // 2, #doc - 1 } do
  local v, e = attest.verify(doc:sub(1, n), trust, any(when))
  t.is({ v, e.code }, { nil, "EVERIFY" }, ("a document cut at %d"):format(n))
end

-- expectations
local zero = ("0"):rep(96)
local set = {}
t.ok(attest.add_options(set, { pcr0 = zero:upper(), pcr = { "8=" .. zero, "0=" .. zero } }), "options")
t.is(set, { [0] = zero, [8] = zero }, "as a set")
local v, e = attest.add_options({ [0] = zero }, { pcr0 = ("1"):rep(96) })
t.fails(v, e, "contradicts", "contradicting expectations")
for _, bad in ipairs { "x", "32=" .. zero, "0=zz", "=" .. zero, "0=00" } do
  v, e = attest.add_options({}, { pcr = { bad } })
  t.ok(v == nil and e.code == "EUSAGE", "refused: --pcr " .. bad:sub(1, 12))
end
t.is(attest.weakness { [0] = zero }, nil, "PCR0 names the image")
t.is(attest.weakness { [1] = zero, [2] = zero }, nil, "so do PCR1 and PCR2")
t.ok(attest.weakness { [2] = zero }, "PCR2 alone does not")
t.ok(attest.weakness({ [8] = zero }):find "PCR8", "nor PCR8, and it is named")
v, e = attest.verify(doc, trust, { sets = {}, at = at(when) })
t.is({ v, e.reason }, { nil, "no-expectation" }, "no expectation is no match")

-- targets
t.is({ attest.target "https://a.b_c.cages.x:8443/p?q" }, { "a.b_c.cages.x", 8443 }, "a URL")
t.is({ attest.target "host" }, { "host", 443 }, "a host")
for _, bad in ipairs { "http://x", "a b", "x:99999", "", "https://" } do
  v, e = attest.target(bad)
  t.ok(v == nil and e.code == "EUSAGE", ("no target: %q"):format(bad))
end

-- verdicts
local good = attest.verdict(report, nil, { target = "x" })
t.is({ good.verdict, good.reason, good.target, good.debug }, { "verified", json.null, "x", false }, "a verdict")
t.is(#good.user_data, 240, "user data in hexadecimal")
t.ok(json.encode(good), "fits JSON")
return t.done()
