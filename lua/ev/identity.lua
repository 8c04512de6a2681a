-- identity.lua — the development identity: app and team ids, one API key, a CA and the root of the NSM
-- simulator, in the user's state folder. Made on first use; nothing of it is trusted by default.
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local json = require "ev.json"
local nitro = require "ev.c.nitro"
local sys = require "ev.sys"
local text = require "ev.text"

local M = {}

local ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
local YEAR_MS = 365 * 86400 * 1000

local function user_dir(variable, fallback)
  local base = sys.getenv(variable)
  if not base or base:sub(1, 1) ~= "/" then
    local home = sys.getenv("HOME")
    if not home or home == "" then
      return nil, err.new("EMISSING", ("neither %s nor HOME is set"):format(variable), { hint = "export HOME" })
    end
    base = fs.join(home, fallback)
  end
  local dir = fs.join(base, "ev-cage")
  local ok, e = fs.mkdir_p(dir, 448)                                -- 0700
  if not ok then return nil, e:wrap("making " .. dir) end
  return dir
end

function M.state_dir() return user_dir("XDG_STATE_HOME", ".local/state") end
function M.cache_dir() return user_dir("XDG_CACHE_HOME", ".cache") end

-- n characters of the alphabet, each equally likely.
local function random_text(n)
  local out = {}
  while #out < n do
    for _, byte in ipairs { crypto.random(64):byte(1, 64) } do
      if byte < 248 and #out < n then out[#out + 1] = ALPHABET:sub(byte % 62 + 1, byte % 62 + 1) end
    end
  end
  return table.concat(out)
end

local function six(s) return text.base64(crypto.sha512(s)):sub(1, 6) end

-- ev:key:1:<65 characters>:<application's six>:<check of the rest> (spec evervault-api §2)
function M.new_api_key(app_uuid)
  local rest = ("ev:key:1:%s:%s"):format(random_text(65), six(app_uuid))
  return rest .. ":" .. six(rest)
end

function M.key_digest(api_key) return text.base64(crypto.sha512(api_key)) end

-- A random (version 4) UUID.
function M.new_uuid()
  local b = { crypto.random(16):byte(1, 16) }
  b[7], b[9] = b[7] & 15 | 64, b[9] & 63 | 128
  return (("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x"):format(table.unpack(b)))
end

local function write_pair(dir, name, cert, key)
  local ok, e = fs.write(fs.join(dir, name .. ".pem"), cert:pem(), { mode = 420 })
  if not ok then return nil, e end
  return key:write_pem(fs.join(dir, name .. ".key"), 384)
end

local function make_ca()
  local key, e = crypto.key_generate("p384")
  if not key then return nil, e end
  local now = sys.time() * 1000 // 86400000 * 86400000
  local cert, cert_err = crypto.cert_make { subject = "/CN=ev-cage development CA", key = key, ca = true,
    not_before = math.tointeger(now), not_after = math.tointeger(now + 10 * YEAR_MS) }
  return cert, cert and key or cert_err
end

local function fill(dir)
  local app = "app_" .. text.hex(crypto.random(6))
  local id = { app_uuid = app, team_uuid = "team_" .. text.hex(crypto.random(6)), api_key = M.new_api_key(app) }
  local ok, e = fs.write(fs.join(dir, "identity.json"), json.pretty(id) .. "\n", { mode = 384 })
  if not ok then return nil, e end
  local root, root_key = nitro.nsm_root()
  if not root then return nil, root_key end
  ok, e = write_pair(dir, "nsm-root", root, root_key)
  if not ok then return nil, e end
  local ca, ca_key = make_ca()
  if not ca then return nil, ca_key end
  return write_pair(dir, "ca", ca, ca_key)
end

-- Made whole under another name and renamed, so that two first users get the same one.
local function create(state, dir)
  local temporary = fs.join(state, "dev." .. text.hex(crypto.random(8)))
  local ok, e = fs.mkdir_p(temporary, 448)
  if ok then ok, e = fill(temporary) end
  if ok then
    ok = fs.rename(temporary, dir)
    if ok then return true end
    ok, e = fs.exists(fs.join(dir, "identity.json")), err.new("EINTERNAL", "cannot make " .. dir)
  end
  fs.rmtree(temporary)
  if not ok then return nil, e:wrap("making the development identity") end
  return false
end

-- → {app_uuid, team_uuid, api_key, dir, root_pem (path), created} | nil, err
function M.load()
  local state, e = M.state_dir()
  if not state then return nil, e end
  local dir = fs.join(state, "dev")
  local file, created = fs.join(dir, "identity.json"), false
  if not fs.exists(file) then
    created, e = create(state, dir)
    if created == nil then return nil, e end
  end
  local source, read_err = fs.read(file, { max = 65536 })
  if not source then return nil, read_err:wrap("the development identity") end
  local id, parse_err = json.parse(source)
  if type(id) ~= "table" or not (id.app_uuid and id.team_uuid and id.api_key) then
    return nil, err.new("EPARSE", file .. ": damaged" .. (parse_err and ": " .. parse_err.message or ""),
      { hint = "remove that folder; a new identity is made on the next use" })
  end
  id.dir, id.created, id.root_pem = dir, created, fs.join(dir, "nsm-root.pem")
  return id
end

-- The simulator's root: certificate and key objects.
function M.root(id)
  local pem, e = fs.read(id.root_pem, { max = 65536 })
  if not pem then return nil, e:wrap("the development root") end
  local cert, cert_err = crypto.cert_from_pem(pem)
  if not cert then return nil, cert_err:wrap("the development root") end
  local key, key_err = crypto.key_from_pem_file(fs.join(id.dir, "nsm-root.key"))
  if not key then return nil, key_err:wrap("the development root") end
  return cert, key
end

return M
