-- image: nitro-cli's description, metadata bytes, what a container image says about its app; records.
local fs = require "ev.fs"
local image = require "ev.image"
local json = require "ev.json"
local record = require "ev.record"
local sys = require "ev.sys"
local t = require "tap"

local golden = fs.join(sys.script_dir and sys.script_dir() or "tests/lua", "../golden/eif")
local expected = json.parse(fs.read(fs.join(golden, "expected.json")))

local function text_of(info) return json.pretty(json.ordered(image.description(info))) end

for name, want in pairs(expected) do
  local info, e = image.describe(fs.join(golden, name))
  if t.ok(info, name .. " is read") then
    t.is(info.pcrs, want.pcrs, name .. ": registers")
    t.is({ info.crc_ok, info.is_signed, info.version }, { true, want.signed, want.version }, name .. ": header")
    local shown = json.parse(text_of(info))
    t.is(shown.ImageName, want.metadata.ImageName, name .. ": name")
    t.is(shown.Metadata.BuildTime, want.metadata.BuildMetadata.BuildTime, name .. ": build time")
    t.is(shown.SignatureCheck, want.signed and true or nil, name .. ": signature")
  else
    print("# " .. tostring(e))
  end
end

local order = {}
local signed = text_of(image.describe(fs.join(golden, "aws-signed-p384.eif")))
for key in signed:gmatch('\n  "(%w+)":') do order[#order + 1] = key end
t.is(order, { "EifVersion", "Measurements", "IsSigned", "SigningCertificate", "CheckCRC", "SignatureCheck",
  "ImageName", "ImageVersion", "Metadata" }, "nitro-cli's order of keys")
t.is(image.openssl_time(1795398085000), "Nov 23 01:41:25 2026 GMT", "OpenSSL's time")
t.is(image.openssl_time(0), "Jan  1 00:00:00 1970 GMT", "and its padding")

-- damaged files
local whole = fs.read(fs.join(golden, "aws-signed-p384.eif"))
local dir <close> = fs.scratch()
local path = fs.join(dir.path, "x.eif")
for _, n in ipairs { 0, 3, 100, 547, 548, 560, 5000, #whole - 1 } do
  fs.write(path, whole:sub(1, n))
  local info, e = image.describe(path)
  t.ok(info == nil and e.message ~= "", ("cut at %d bytes: one clear error"):format(n))
end
fs.write(path, whole:sub(1, 999) .. string.char(whole:byte(1000) ~ 1) .. whole:sub(1001))
local flipped = image.describe(path)
t.is({ flipped.crc_ok, flipped.signature_ok }, { false, false }, "a flipped bit: neither CRC nor signature fit")

t.is(image.metadata { name = "a", version = "0.1.0", kernel_version = "6.12", epoch = 0 },
  '{"ImageName":"a","ImageVersion":"1.0","BuildMetadata":{"BuildTime":"1970-01-01T00:00:00+00:00",'
  .. '"BuildTool":"ev-cage","BuildToolVersion":"0.1.0","OperatingSystem":"Linux","KernelVersion":"6.12"},'
  .. '"DockerInfo":null,"CustomMetadata":null}', "the metadata section")

-- apps
local app = image.app { entrypoint = { "node", "/a b.js" }, cmd = { "--x" }, env = { "A=1" }, user = "node",
  ports = { 80 } }
t.is(app, { argv = { "node", "/a b.js", "--x" }, env = { "A=1" }, user = "node", workdir = "/", ports = { 80 } },
  "ENTRYPOINT and CMD, blanks kept")
t.is(image.app({ cmd = { "/bin/sh", "-c", "x y" } }).argv, { "/bin/sh", "-c", "x y" }, "CMD in shell form")
local none, e = image.app {}
t.fails(none, e, "neither ENTRYPOINT nor CMD", "nothing to run")
none, e = image.app { cmd = { "x" }, architecture = "arm64" }
t.fails(none, e, "arm64", "another architecture")

-- the record of a build
local source = "# syntax=docker/dockerfile:1\n# escape=`\nFROM x\n# note = y\nRUN y"
local written = record.text(source, { "A=secret", "B" })
t.ok(written:find("^# syntax=docker/dockerfile:1\n# escape=`\n# ev%-cage: "), "parser directives stay first")
t.ok(written:find("\n# ev%-cage: build arguments: A B\nFROM x\n# note = y\nRUN y\n$"),
  "names of arguments, text as it was")
t.ok(not written:find("secret", 1, true), "no values")
t.is(record.text(written, { "A=secret", "B" }), written, "again: the same")
t.is(record.strip(written), source .. "\n", "and back")
return t.done()
