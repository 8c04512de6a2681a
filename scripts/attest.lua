-- attest: a running cage, a document or a certificate against expected measurements. Exit 0 only for
-- a document that passed, 76 for one that did not; nothing is sent to a cage before it passed. With
-- --get one request follows on that very connection; 69 when it fails.
local attest = require "ev.attest"
local config = require "ev.config"
local err = require "ev.err"
local fs = require "ev.fs"
local http = require "ev.http"
local image = require "ev.image"
local nitro = require "ev.c.nitro"
local sys = require "ev.sys"
local text = require "ev.text"

local FAILED, UNREACHABLE, PREFIX, PATH_MAX = 76, 69, "attestation: ", 8192
local DEVELOPMENT_HINT = "--root FILE, if this is a development cage: `ev-cage dev` prints the path"
local DEBUG_HINT = "--allow-debug --any-measurement, for a cage that gets nothing secret"
-- With --at-time any moment in which the chain is valid will do: the document may then be younger.
local AUDIT_SKEW_MS = 4 * 3600 * 1000

local function bytes(opts, name)
  local value = opts[name]
  if not value then return nil end
  local raw = text.unhex(value)
  if not raw or #raw > 1024 then
    return nil, err.new("EUSAGE", ("--%s: not hexadecimal (at most 1024 bytes)"):format(name:gsub("_", "-")))
  end
  return raw
end

-- cage.toml when it is there; one that was named must be.
local function read_config(opts)
  if not fs.exists(fs.expand(opts.config)) and opts.config == "./cage.toml" then return nil end
  return config.load(opts.config)
end

-- Options, else the image, else cage.toml → set, where it comes from | nil, err
local function expected(opts, cfg)
  local set, source = {}, nil
  local ok, e = attest.add_options(set, opts)
  if not ok then return nil, e end
  if next(set) then source = "options" end
  if opts.eif_path then
    if not fs.exists(opts.eif_path) then
      return nil, err.new("ENOENT", opts.eif_path .. ": there is no such file", { exit = 66 })
    end
    local info, info_err = image.describe(opts.eif_path)
    if not info then return nil, info_err end
    ok, e = attest.add_named(set, info.pcrs, opts.eif_path)
    if not ok then return nil, e end
    source = source and source .. " and " .. opts.eif_path or opts.eif_path
  end
  if not source and cfg and not opts.any_measurement then
    ok, e = attest.add_named(set, cfg.attestation, cfg.file .. ": [attestation]")
    if not ok then return nil, e end
    if next(set) then source = cfg.file end
  end
  return set, source
end

local function no_expectation(opts)
  if opts.any_measurement then return nil end
  return err.new("EUSAGE", "no expected measurement: a genuine enclave could be anybody's", { reason = "no-expectation",
    hint = "--pcr0 HEX, --eif-path FILE or a built cage.toml; --any-measurement checks everything else" })
end

-- What C is asked to demand | nil, err; and notes for people.
local function demands(opts, cfg)
  local set, source = expected(opts, cfg)
  if not set then return nil, source end
  local has = next(set) ~= nil
  if not has then
    local e = no_expectation(opts)
    if e then return nil, e end
  elseif opts.any_measurement then
    return nil, err.new("EUSAGE", "--any-measurement contradicts an expected one")
  end
  local expect = { sets = has and { set } or {}, any_measurement = not has, allow_debug = opts.allow_debug or false,
    at = attest.now() }
  for _, name in ipairs { "nonce", "user_data" } do
    local value, e = bytes(opts, name)
    if e then return nil, e end
    expect[name] = value
  end
  if opts.at_time then
    local at, e = text.time_parse(opts.at_time)
    if not at then return nil, err.new("EUSAGE", "--at-time: " .. e.message) end
    expect.at, expect.future_skew = at, AUDIT_SKEW_MS
  end
  local notes = {}
  if has then notes[1] = attest.weakness(set) else notes[1] = "no measurement was compared" end
  return expect, notes, source
end

-- --- what is judged ---------------------------------------------------------------------------------

local function judge_document(opts, trust, expect)
  local doc, e = attest.read_document(opts.document)
  if not doc then return nil, e end
  return attest.verify(doc, trust, expect)
end

local function judge_certificate(opts, trust, expect)
  local cert, e = attest.read_certificate(opts.certificate)
  if not cert then return nil, e end
  return attest.verify_certificate(cert, trust, expect)
end

local function well_known(stream, host, timeout)
  return http.get(stream, { host = host, path = "/.well-known/attestation", timeout = timeout,
    headers = { accept = "application/json" }, max = attest.DOC_MAX })
end

-- The document of the well-known path must pass like the certificate's, for the same key.
local function judge_well_known(stream, host, timeout, trust, expect, report)
  local response, e = well_known(stream, host, timeout)
  if not response then return nil, e:wrap("/.well-known/attestation") end
  if response.status == 404 then return report, "the cage has no /.well-known/attestation" end
  if response.status ~= 200 then
    return nil, err.new("EHTTP", "/.well-known/attestation answered " .. response.status)
  end
  local doc, doc_err = attest.decode(response.body)
  if not doc then return nil, doc_err:wrap("/.well-known/attestation") end
  local again, why, partial = attest.verify(doc, trust, { sets = expect.sets, any_measurement = expect.any_measurement,
    allow_debug = expect.allow_debug, at = expect.at, future_skew = expect.future_skew, user_data = report.peer_spki })
  if not again then return nil, why:wrap("/.well-known/attestation"), partial end
  return report
end

local function default_target(cfg)
  if not cfg or not cfg.app_uuid then
    return nil, err.new("EUSAGE", "no target: name a URL, or have a cage.toml here",
      { hint = "ev-cage attest https://HOST, or --document FILE" })
  end
  return config.hosts(cfg)[1]
end

-- One request on the connection that has passed; the key is for nobody else.
local function get(stream, host, opts, timeout)
  local key = sys.getenv "EV_API_KEY"
  local response, e = http.get(stream, { host = host, path = opts.get, timeout = timeout,
    headers = { ["api-key"] = key ~= "" and key or nil, accept = "*/*" } })
  if not response then
    e = e:wrap("GET " .. opts.get)
    e.exit = UNREACHABLE
    return nil, e
  end
  if response.status < 400 then return response end
  return response, err.new("EHTTP", ("GET %s: the cage answered %d"):format(opts.get, response.status),
    { reason = "status", exit = UNREACHABLE,
      hint = response.status == 401 and "EV_API_KEY=KEY ev-cage attest …" or nil })
end

local function check_get(opts)
  local path = opts.get
  if not path then return nil end
  if opts.document or opts.certificate then
    return err.new("EUSAGE", "--get: a document or certificate answers no request; name a cage")
  end
  if path:sub(1, 1) ~= "/" or path:find("[%c%s\127]") or #path > PATH_MAX then
    return err.new("EUSAGE", "--get: a path begins with / and has no blanks", { hint = "--get /hello" })
  end
end

local function unreachable(e, addr, host, opts)
  if not e.message:find(addr, 1, true) then e = e:wrap(addr) end
  e.exit = UNREACHABLE
  if not opts.connect and host:match "%.localhost$" then
    e.hint = "ev-cage attest --connect 127.0.0.1:PORT --root FILE, as `ev-cage dev` prints it"
  end
  return e
end

local function judge_cage(ctx, cfg, trust, expect, verdict)
  local opts, word = ctx.opts, ctx.args.target
  if not word then
    local e
    word, e = default_target(cfg)
    if not word then return nil, e end
  end
  local host, port = attest.target(word)
  if not host then return nil, port end
  if expect.user_data then
    return nil, err.new("EUSAGE", "--user-data has no meaning for a running cage: its key is demanded")
  end
  local timeout = tonumber(opts.timeout)
  if not timeout or timeout <= 0 or timeout > 3600 then
    return nil, err.new("EUSAGE", "--timeout: seconds, more than 0 and at most 3600")
  end
  local addr = opts.connect or ("%s:%d"):format(host, port)
  verdict.target = ("https://%s:%d"):format(host, port)
  local stream, report, partial = nitro.attest_connect { addr = addr, sni = host, trust = trust, expect = expect,
    timeout = math.max(1, math.ceil(timeout)) }
  if not stream then
    if partial and partial.judged then return nil, report, partial end
    return nil, unreachable(report, addr, host, opts)
  end
  local guard <close> = stream
  local judged, note, more = judge_well_known(guard, host, timeout, trust, expect, report)
  if not judged then return nil, note, more or report end
  if opts.get then verdict.response, verdict.failure = get(guard, host, opts, timeout) end
  return judged, note
end

-- --- output -----------------------------------------------------------------------------------------

local function people(ctx, v, notes)
  local ui, rows = ctx.ui, {}
  local verified = v.verdict == "verified"
  ui.print(PREFIX .. ui.colour(verified and "green" or "red", v.verdict)
    .. (verified and v.development_root and " against the development root" or ""))
  -- What a refused document says is anybody's text: no control characters of it reach a terminal.
  local function row(name, value)
    if type(value) == "string" then rows[#rows + 1] = { "  " .. name, (value:gsub("[%c\127-\255]", "?")) } end
  end
  row("target", v.target)
  row("trusting", v.development_root and "development root, not AWS's" or "AWS Nitro Enclaves root G1")
  row("module", v.module_id)
  row("document of", v.timestamp)
  row("valid", v.valid_from and type(v.valid_from) == "string" and v.valid_from .. " to " .. v.valid_to)
  row("expected from", v.expected_from)
  for i = 0, 31 do
    local value = v.pcrs and v.pcrs["PCR" .. i]
    if value and (i < 3 or value ~= ("0"):rep(96)) then row("PCR" .. i, value) end
  end
  if v.debug then row("debug", "yes: measurements are zero and prove nothing") end
  row("reason", v.reason)
  ui.table(rows)
  for _, note in ipairs(notes) do ui.warn(note) end
end

-- The body as it came, but on a terminal without control characters: an app is not trusted with those.
local function show_body(ui, body)
  if sys.isatty(1) then body = body:gsub("[%z\1-\8\11-\31\127]", "?") end
  ui.write(body)
  if body ~= "" and body:sub(-1) ~= "\n" then ui.write "\n" end
end

local function say(e, hint)
  io.stdout:flush()
  io.stderr:write("ev-cage attest: ", e.message, "\n")
  if hint then io.stderr:write("try: ", hint, "\n") end
end

-- What --get brought, as JSON: text, or base64 where the body is none.
local function response_json(response)
  local plain = utf8.len(response.body) and not response.body:find("%z")
  return { status = response.status, body = plain and response.body or nil,
    body_base64 = not plain and text.base64(response.body) or nil }
end

local function answered(ctx, v, response, failure, notes)
  if ctx.json then
    v.response = response and response_json(response)
    v.error = failure and { code = failure.code, reason = failure.reason, message = failure.message,
      hint = failure.hint }
    ctx.out(v)
  else
    people(ctx, v, notes)
    if response then show_body(ctx.ui, response.body) end
  end
  if not failure then return 0 end
  say(failure, failure.hint)
  return UNREACHABLE
end

-- A debug cage never has the measurements of its cage.toml: allowing it alone does not help.
local function advice(e, report, opts)
  if e.reason == "cert-root" and not opts.root then return DEVELOPMENT_HINT end
  if e.reason == "debug" or (e.reason == "pcr-mismatch" and report and report.debug) then return DEBUG_HINT end
end

local function finish(ctx, report, e, verdict, notes)
  local response, failure = verdict.response, verdict.failure
  verdict.response, verdict.failure = nil, nil
  if e and e.code ~= "EVERIFY" and not report then return nil, e end
  if e and e:exit_code() ~= FAILED then return nil, e end
  local v = attest.verdict(report, e, verdict)
  v.notes = #notes > 0 and notes or nil
  if not e then return answered(ctx, v, response, failure, notes) end
  if ctx.json then ctx.out(v) else people(ctx, v, notes) end
  say(e, e.hint or advice(e, report, ctx.opts))
  return FAILED
end

local function modes(ctx)
  local n = 0
  for _, given in ipairs { ctx.opts.document or false, ctx.opts.certificate or false, ctx.args.target or false } do
    if given then n = n + 1 end
  end
  if n > 1 then return err.new("EUSAGE", "give one of a target, --document and --certificate") end
end

return function(ctx)
  local opts = ctx.opts
  local wrong = modes(ctx) or check_get(opts)
  if wrong then return nil, wrong end
  local cfg, cfg_err = read_config(opts)
  if cfg_err then return nil, cfg_err end
  local expect, notes, source = demands(opts, cfg)
  if not expect then return nil, notes end
  local trust, trust_err = attest.trust(opts.root)
  if not trust then return nil, trust_err end
  local verdict = { development_root = attest.is_development(trust), expected_from = source,
    checked_at = text.time_format(expect.at, 0) }
  local report, e, partial
  if opts.document then report, e, partial = judge_document(opts, trust, expect)
  elseif opts.certificate then report, e, partial = judge_certificate(opts, trust, expect)
  else report, e, partial = judge_cage(ctx, cfg, trust, expect, verdict) end
  if report then
    if type(e) == "string" then notes[#notes + 1] = e end
    return finish(ctx, report, nil, verdict, notes)
  end
  return finish(ctx, partial, e, verdict, notes)
end
