-- keys.lua — signing certificates: made, and checked before any slow work.
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local sys = require "ev.sys"
local text = require "ev.text"

local M = { DEFAULT_DAYS = 364, DAY_MS = 86400000 }

-- The original's order of attributes; all six are needed.
local ORDER = { "CN", "C", "O", "OU", "L", "ST" }
M.default_subject = "/CN=cages.evervault.com/C=IE/O=ENG/OU=CAGES/L=DUB/ST=LEI"

-- "/CN=x/C=IE/…" → the same in canonical order | nil, err (exit 65)
function M.subject(dn)
  local found = {}
  local function bad(message)
    return nil, err.new("EPARSE", "--subj: " .. message, { hint = "/CN=EV/C=IE/ST=LEI/L=DUB/O=Evervault/OU=Eng" })
  end
  if dn:sub(1, 1) ~= "/" then return bad("must begin with /") end
  for piece in dn:sub(2):gmatch("[^/]+") do
    local key, value = piece:match("^%s*(%a+)%s*=%s*(.-)%s*$")
    if not key then return bad(("%q is not NAME=VALUE"):format(piece)) end
    key = key:upper()
    if found[key] then return bad(key .. " is there twice") end
    if value == "" or value:find("%c") or #value > 64 then return bad(key .. " needs a value of 1 to 64 characters") end
    found[key] = value
  end
  local out = {}
  for i, key in ipairs(ORDER) do
    if not found[key] then return bad(key .. " is missing; it needs " .. table.concat(ORDER, ", ")) end
    out[i] = "/" .. key .. "=" .. found[key]
    found[key] = nil
  end
  local extra = next(found)
  if extra then return bad(extra .. " is not one of " .. table.concat(ORDER, ", ")) end
  if #out[2] ~= 5 then return bad("C must be a country of two letters") end
  return table.concat(out)
end

-- Output that cannot be made leaves with EX_CANTCREAT, whatever the kernel's reason.
local function cannot_create(e, what)
  local wrapped = e:wrap(what)
  wrapped.exit = 73
  return wrapped
end

-- Writes cert.pem and key.pem into a folder → {cert_path, key_path, cert} | nil, err
---@param o table {dir, subject = DN, days, force}
function M.create(o)
  local cert_path, key_path = fs.join(o.dir, "cert.pem"), fs.join(o.dir, "key.pem")
  for _, path in ipairs { cert_path, key_path } do
    if fs.exists(path) and not o.force then
      return nil, err.new("EEXIST", path .. " is there already",
        { exit = 73, hint = "name another folder, or --force (whoever needs the old key loses it)" })
    end
  end
  local ok, e = fs.mkdir_p(o.dir, 493)
  if not ok then return nil, cannot_create(e, "making " .. o.dir) end
  local key, key_err = crypto.key_generate("p384")
  if not key then return nil, key_err end
  local from = sys.time() * 1000 // M.DAY_MS * M.DAY_MS              -- 00:00 UTC today
  local cert, cert_err = crypto.cert_make { subject = o.subject or M.default_subject, key = key, bare = true,
    not_before = math.tointeger(from), not_after = math.tointeger(from + (o.days or M.DEFAULT_DAYS) * M.DAY_MS) }
  if not cert then return nil, cert_err end
  ok, e = key:write_pem(key_path, 384)
  if ok then ok, e = fs.write(cert_path, cert:pem(), { mode = 420 }) end
  if not ok then return nil, cannot_create(e, "writing the signing pair") end
  return { cert_path = cert_path, key_path = key_path, cert = cert }
end

local function read(path, what, option)
  local source, e = fs.read(path, { max = 1 << 20 })
  if source then return source end
  if e.code ~= "ENOENT" then return nil, e:wrap(what) end
  return nil, err.new("ENOENT", ("%s: %s does not exist"):format(what, path),
    { exit = 66, hint = ("ev-cage cert new, or name it with %s"):format(option) })
end

local function in_validity(cert, path, now)
  local from, to = cert:validity()
  if now < from then
    return nil, err.new("ECONFIG", ("signing certificate: %s is not valid before %s"):format(path,
      text.time_format(from)), { reason = "cert-not-yet-valid", hint = "check the clock of this machine" })
  elseif now > to then
    return nil, err.new("ECONFIG", ("signing certificate: %s expired at %s"):format(path, text.time_format(to)),
      { reason = "cert-expired", hint = "ev-cage cert new makes another; it has another PCR8" })
  end
  return true
end

local SIGNING_CURVES = { p256 = true, p384 = true, p521 = true }

-- → {pem, cert, key, cert_path, key_path} | nil, err: both there, a pair, valid now.
function M.load_pair(cert_path, key_path)
  local pem, e = read(cert_path, "signing certificate", "--signing-cert")
  if not pem then return nil, e end
  local cert, cert_err = crypto.cert_from_pem(pem)
  if not cert then return nil, cert_err:wrap("signing certificate: " .. cert_path) end
  if not fs.exists(key_path) then return read(key_path, "signing key", "--private-key") end
  local key, key_err = crypto.key_from_pem_file(key_path)
  if not key then return nil, fs.of_input(key_err):wrap("signing key") end
  if not SIGNING_CURVES[key:curve()] then
    return nil, err.new("ECONFIG", "signing key: " .. key_path .. " is not a P-256, P-384 or P-521 key",
      { hint = "ev-cage cert new makes a P-384 pair" })
  end
  local public, public_err = cert:key()
  if not public then return nil, public_err:wrap("signing certificate: " .. cert_path) end
  if not (key:is_private() and key:same_public(public)) then
    return nil, err.new("ECONFIG", ("%s is not the private key of %s"):format(key_path, cert_path),
      { reason = "key-mismatch", hint = "check [signing] certPath and keyPath" })
  end
  local ok, when = in_validity(cert, cert_path, math.floor(sys.time() * 1000))
  if not ok then return nil, when end
  return { pem = pem, cert = cert, key = key, cert_path = cert_path, key_path = key_path }
end

-- PCR8 of a certificate, in hexadecimal.
function M.pcr8(cert)
  return text.hex(crypto.pcr_extend(crypto.sha384(cert:der())))
end

return M
