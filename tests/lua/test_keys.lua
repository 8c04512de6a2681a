-- keys and identity: subjects, signing pairs and what can be wrong with them, the development identity.
local crypto = require "ev.c.crypto"
local fs = require "ev.fs"
local identity = require "ev.identity"
local keys = require "ev.keys"
local sys = require "ev.sys"
local text = require "ev.text"
local t = require "tap"

t.is(keys.subject "/C=IE/CN=EV/ST=LEI/L=DUB/O=Evervault/OU=Eng", "/CN=EV/C=IE/O=Evervault/OU=Eng/L=DUB/ST=LEI",
  "the original's order")
for dn, words in pairs {
  ["CN=EV"] = "begin with /", ["/CN=EV/C=IE"] = "O is missing", ["/CN=EV/CN=x"] = "CN is there twice",
  ["/CN=/C=IE"] = "needs a value", ["/x"] = "not NAME=VALUE",
  ["/CN=EV/C=IRL/ST=LEI/L=DUB/O=E/OU=Eng"] = "two letters",
  ["/CN=EV/C=IE/ST=LEI/L=DUB/O=E/OU=Eng/X=1"] = "X is not one of",
} do
  local v, e = keys.subject(dn)
  t.fails(v, e, words, "refused: " .. dn)
  t.is(e:exit_code(), 65, "exit 65")
end

local dir <close> = fs.scratch()
local pair = keys.create { dir = dir.path }
t.ok(pair, "a pair is made")
t.is(fs.stat(pair.key_path).mode & 511, 384, "the key is for its owner alone")
local from, to = pair.cert:validity()
t.is({ from % keys.DAY_MS, to - from }, { 0, 364 * keys.DAY_MS }, "52 weeks from 00:00 UTC")
t.is(pair.cert:sig_alg(), "ecdsa-with-SHA384", "P-384")
t.is(pair.cert:issuer()[1], { "commonName", "cages.evervault.com" }, "the original's subject")
local loaded = keys.load_pair(pair.cert_path, pair.key_path)
t.ok(loaded and loaded.key:is_private(), "and is read back")
t.is(keys.pcr8(pair.cert), text.hex(crypto.sha384(("\0"):rep(48) .. crypto.sha384(pair.cert:der()))), "PCR8")
local again, e = keys.create { dir = dir.path }
t.fails(again, e, "is there already", "no pair is replaced silently")
t.is(e:exit_code(), 73, "exit 73")

local other <close> = fs.scratch()
local second = keys.create { dir = other.path, days = 1, subject = keys.subject "/CN=a/C=IE/ST=b/L=c/O=d/OU=e" }
local v
v, e = keys.load_pair(pair.cert_path, second.key_path)
t.is({ v, e.reason }, { nil, "key-mismatch" }, "a key of another certificate")
v, e = keys.load_pair(pair.cert_path, other.path .. "/none.pem")
t.is({ v, e:exit_code() }, { nil, 66 }, "no key")
v, e = keys.load_pair(other.path .. "/none.pem", pair.key_path)
t.is({ v, e:exit_code() }, { nil, 66 }, "no certificate")
v, e = keys.load_pair(pair.key_path, pair.key_path)
t.is({ v, e:exit_code() }, { nil, 65 }, "a key in place of the certificate")
v, e = keys.load_pair(pair.cert_path, pair.cert_path)
t.is({ v, e:exit_code() }, { nil, 65 }, "a certificate in place of the key")
local k1 = crypto.key_generate "secp256k1"
k1:write_pem(other.path .. "/k1.pem")
v, e = keys.load_pair(pair.cert_path, other.path .. "/k1.pem")
t.fails(v, e, "not a P%-256, P%-384 or P%-521 key", "a curve that cannot sign images")
local key = crypto.key_generate "p384"
key:write_pem(other.path .. "/old.key")
local function dated(name, not_before, not_after)
  local cert = crypto.cert_make { subject = "/CN=x", key = key, bare = true, not_before = not_before,
    not_after = not_after }
  fs.write(fs.join(other.path, name), cert:pem())
  local _, why = keys.load_pair(fs.join(other.path, name), other.path .. "/old.key")
  return why and why.reason
end
local day = keys.DAY_MS
local now = math.floor(sys.time()) * 1000
t.is(dated("old.pem", now - 3 * day, now - day), "cert-expired", "an expired certificate")
t.is(dated("new.pem", now + day, now + 2 * day), "cert-not-yet-valid", "one of tomorrow")

-- identity
local x4 = ("%x"):rep(4)
t.ok(identity.new_uuid():match("^" .. x4 .. x4 .. "%-" .. x4 .. "%-4%x%x%x%-[89ab]%x%x%x%-" .. x4 .. x4 .. x4 .. "$"),
  "a v4 UUID")
local api_key = identity.new_api_key "app_8022cc5a3073"
local body, h, c = api_key:match("^ev:key:1:(%w+):(......):(......)$")
t.is({ body and #body, h, c and #c }, { 65, "cRhR9o", 6 }, "an API key of that application")
t.is(#text.unbase64(identity.key_digest(api_key)), 64, "its digest")
local state <close> = fs.scratch()
sys.setenv("XDG_STATE_HOME", state.path)
local id = identity.load()
t.ok(id and id.created, "an identity is made on first use")
t.is(fs.stat(id.dir).mode & 511, 448, "in a folder of one's own")
for _, name in ipairs { "identity.json", "nsm-root.key", "ca.key" } do
  t.is(fs.stat(fs.join(id.dir, name)).mode & 511, 384, name .. " is for its owner alone")
end
local same = identity.load()
t.is({ same.created, same.app_uuid, same.api_key }, { false, id.app_uuid, id.api_key }, "and kept")
local root, root_key = identity.root(id)
t.ok(root_key:same_public(root:key()), "the simulator's root and its key")
t.is(#fs.list(fs.join(state.path, "ev-cage")), 1, "nothing else is left there")
fs.write(fs.join(id.dir, "identity.json"), "{")
v, e = identity.load()
t.fails(v, e, "damaged", "a damaged identity is said")
return t.done()
