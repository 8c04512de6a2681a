-- build: the whole flow with builders of straw (scripts named docker and podman), what stops it before
-- the slow work, what a failing or cancelled builder leaves: nothing, and cage.toml as it was.
local build = require "ev.build"
local builder = require "ev.builder"
local crypto = require "ev.c.crypto"
local fs = require "ev.fs"
local ignore = require "ev.ignore"
local image = require "ev.image"
local json = require "ev.json"
local keys = require "ev.keys"
local proc = require "ev.proc"
local sys = require "ev.sys"
local task = require "ev.task"
local text = require "ev.text"
local t = require "tap"

local golden = fs.join(sys.script_dir and sys.script_dir() or "tests/lua", "../golden/eif")
local kernel = fs.realpath(fs.join(golden, "kernel.bin"))
local scratch <close> = fs.scratch()
local top = scratch.path
local runtime = fs.join(top, "runtime.cpio")

-- A newc archive with an init of straw.
local function newc(name, mode, data)
  local function padded(s) return s .. ("\0"):rep(-#s % 4) end
  local head = ("070701%08x%08x%08x%08x%08x%08x%08x%s%08x%08x"):format(0, mode, 0, 0, 1, 0, #data, ("0"):rep(32),
    #name + 1, 0)
  return padded(head .. name .. "\0") .. padded(data)
end
fs.write(runtime, newc("init", 33261, "init") .. newc("TRAILER!!!", 0, ""))
local real_path = sys.getenv "PATH"
sys.setenv("XDG_CACHE_HOME", fs.join(top, "cache"))
sys.setenv("SOURCE_DATE_EPOCH", nil)

local function sh(script, ...)
  local r = assert(proc.run({ "/bin/sh", "-ec", script, "sh", ... }, { cwd = top }))
  assert(r.code == 0, r.stderr)
end

-- A `docker save` archive of one layer.
local function archive(name, run_config)
  sh("rm -rf a && mkdir -p a/r/bin && echo app >a/r/bin/app && tar -C a/r -cf a/layer.tar .")
  local layer = fs.read(fs.join(top, "a/layer.tar"))
  local config = json.encode { architecture = "amd64", os = "linux", config = run_config,
    rootfs = { type = "layers", diff_ids = { "sha256:" .. text.hex(crypto.sha256(layer)) } } }
  fs.write(fs.join(top, "a/config.json"), config)
  fs.write(fs.join(top, "a/manifest.json"), json.encode { { Config = "config.json", Layers = { "layer.tar" } } })
  sh('tar -C a -cf "$1" manifest.json config.json layer.tar', fs.join(top, name))
end
archive("good.tar", { Entrypoint = { "/bin/app", "a b" }, Env = { "A=1" }, WorkingDir = "/bin" })
archive("ports.tar", { Cmd = { "/bin/app" }, ExposedPorts = { ["80/tcp"] = {}, ["81/tcp"] = {} } })
archive("badport.tar", { Cmd = { "/bin/app" }, ExposedPorts = { ["70000/tcp"] = {} } })
archive("empty.tar", {})

-- Builders of straw: `info`, `build` and `save` as told by files in `top`.
local STRAW = [[#!/bin/sh
echo "$0 $*" >>"TOP/log"
echo "$1 in TMPDIR=$TMPDIR" >>"TOP/log"
case $1 in
info) [ ! -e "TOP/down" ] ;;
build)
    echo "STEP of straw"
    [ -e "TOP/slow" ] && sleep 30
    [ -e "TOP/fail" ] && { echo "it breaks" >&2; exit 42; }
    while [ $# -gt 1 ]; do
        [ "$1" = --iidfile ] && echo sha256:abc >"$2"
        [ "$1" = --ignorefile ] && cp "$2" "TOP/ignored"
        [ "$1" = -f ] && [ -e "$2.dockerignore" ] && cp "$2.dockerignore" "TOP/ignored"
        shift
    done ;;
save) while [ $# -gt 1 ]; do [ "$1" = -o ] && cp "TOP/good.tar" "$2"; shift; done ;;
esac
]]
fs.mkdir_p(fs.join(top, "bin"))
local function straw(name)
  fs.write(fs.join(top, "bin", name), (STRAW:gsub("TOP", top)), { mode = 493 })
end
local function flag(name, on)
  if on then fs.write(fs.join(top, name), "") else fs.remove(fs.join(top, name)) end
end

-- A project of its own for each case.
local serial = 0
local function project(extra)
  serial = serial + 1
  local dir = fs.join(top, "p" .. serial)
  assert(keys.create { dir = dir })
  fs.write(fs.join(dir, "Dockerfile"), "FROM scratch\n")
  fs.write(fs.join(dir, "cage.toml"), 'name = "a" # mine\nuuid = "u"\napp_uuid = "app_1"\nteam_uuid = "t"\n'
    .. (extra or "") .. "\n[auth]\nkey_digests = [\"" .. ("A"):rep(86) .. "==\"]\n[signing]\n"
    .. 'certPath = "cert.pem"\nkeyPath = "key.pem"\n')
  return dir
end

local notes = {}
local ui = { note = function(line) notes[#notes + 1] = line end, warn = function() end, detail = function() end,
  progress = function(job) return job:wait() end }

local function run(dir, more)
  local opts = { config = fs.join(dir, "cage.toml"), kernel = kernel, runtime = runtime }
  for k, v in pairs(more or {}) do opts[k] = v end
  return build.run { opts = opts, context = dir, output = fs.join(dir, "out"), ui = ui }
end

local function untouched(dir, name, more, pattern, exit)
  local before = fs.read(fs.join(dir, "cage.toml"))
  local v, e = run(dir, more)
  t.fails(v, e, pattern, name)
  t.is(e and e:exit_code(), exit, name .. ": exit " .. exit)
  t.is(fs.read(fs.join(dir, "cage.toml")), before, name .. ": cage.toml as it was")
  t.is(#(fs.list(fs.join(dir, "out")) or {}), 0, name .. ": nothing is left")
end

-- no builder at all, then docker, then podman
sys.setenv("PATH", fs.join(top, "bin"))
untouched(project(), "no builder", nil, "no container builder works here", 69)
sys.setenv("PATH", fs.join(top, "bin") .. ":" .. real_path)
straw "docker"
straw "podman"
flag("down", true)
local ok, why = builder.works "docker"
t.is({ ok, why }, { false, "`docker info` fails" }, "docker without its daemon does not work")
flag("down", false)

local dir = project()
local result, e = run(dir, { build_arg = { "X=1" } })
if not t.ok(result, "through docker") then print("# " .. tostring(e)) end
local log = fs.read(fs.join(top, "log"))
t.ok(log:find("docker build %-f [^\n]+Dockerfile %-%-iidfile [^\n]+ %-%-platform linux/amd64 %-%-build%-arg X=1 "),
  "its build")
local ignored = fs.read(fs.join(top, "ignored"))
t.is((ignored:gsub("%.ev%-cage%-%x+", "PLACE")),
  "cage.toml\nkey.pem\nout/enclave.eif\nout/enclave.Dockerfile\nout/ev-user.Dockerfile\nout/PLACE\n",
  "what never enters the context")
t.ok(log:find("docker save %-o [^\n]+ sha256:abc"), "its save")
local info = image.describe(result.eif)
t.is(info.pcrs, result.pcrs, "the registers that were reported are the file's")
t.ok(info.crc_ok and info.signature_ok, "the file is whole and signed")
t.is(result.pcrs.PCR8, keys.pcr8(keys.load_pair(fs.join(dir, "cert.pem"), fs.join(dir, "key.pem")).cert), "PCR8")
t.is(fs.list(fs.join(dir, "out")), { "enclave.Dockerfile", "enclave.eif", "ev-user.Dockerfile" }, "what is written")
local toml = fs.read(fs.join(dir, "cage.toml"))
t.ok(toml:find('^name = "a" # mine\n') and toml:find(result.pcrs.PCR0, 1, true), "registers in cage.toml")
t.is(json.encode(build.report(result)):match('^{"status":"success","message":"EIF built successfully",'
  .. '"enclaveMeasurements":{"HashAlgorithm":"Sha384 { ... }","PCR0":"(%x+)"'), result.pcrs.PCR0, "the report")

local first = fs.read(result.eif)
t.is(run(dir, { builder = "podman" }).pcrs, result.pcrs, "through podman: the same")
t.is(fs.read(result.eif), first, "byte for byte")
t.ok(fs.read(fs.join(top, "log")):find("build in TMPDIR=" .. dir:gsub("%p", "%%%0") .. "/out/%.ev%-cage%-%x+/tmp\n"),
  "what it leaves when interrupted goes with our folder")
fs.write(fs.join(dir, ".dockerignore"), "*.md")
run(dir, { builder = "podman" })
t.is(fs.read(fs.join(top, "ignored")):match("^[^\n]*\n[^\n]*\n[^\n]*"), "*.md\ncage.toml\nkey.pem",
  "after the user's own")
t.is(ignore.text("/nowhere", dir, { "a[1]*", "!x", "#y" }),
  "*.md\na\\[1\\]\\*\n\\!x\n\\#y\n", "names as patterns")
t.is(ignore.names(dir, "/nowhere", "/tmp", { "/etc/passwd" }), {}, "nothing outside the context")
t.ok(fs.read(fs.join(top, "log")):find("podman build [^\n]+%-%-timestamp 0"), "with a fixed time")
t.is(run(dir, { image = fs.join(top, "good.tar") }).pcrs, result.pcrs, "--image: the same")
t.is(run(dir, { from_existing = true }).pcrs, result.pcrs, "--from-existing: the same")
t.is(fs.read(fs.join(dir, "cage.toml")), toml, "and cage.toml did not change")

-- a builder that fails, one that is interrupted
flag("fail", true)
untouched(project(), "a failing builder", nil, "docker: build failed: exit code 42", 42)
t.ok(table.concat(notes, "\n"):find("it breaks", 1, true), "its own words are shown")
flag("fail", false)
flag("slow", true)
local slow = project()
local before = fs.read(fs.join(slow, "cage.toml"))
local running = task.spawn(run, slow)
task.sleep(0.5)
t.is(#fs.list(fs.join(slow, "out")), 1, "a private folder while it runs")
running:cancel()
t.is(#fs.list(fs.join(slow, "out")), 0, "none after a cancel")
t.is(fs.read(fs.join(slow, "cage.toml")), before, "and cage.toml as it was")
flag("slow", false)

-- what stops it
untouched(project "egress = { enabled = true }", "egress", nil, "no egress.enabled yet", 65)
untouched(project "trx_logging = true", "logging", nil, "no trx_logging yet", 65)
untouched(project(), "several ports", { image = fs.join(top, "ports.tar") }, "several ports: 80, 81", 65)
untouched(project(), "no port", { image = fs.join(top, "badport.tar") }, 'exposes "70000/tcp", which is not a port', 65)
untouched(project(), "no entrypoint", { image = fs.join(top, "empty.tar") }, "neither ENTRYPOINT nor CMD", 65)
untouched(project(), "not an image", { image = kernel }, "image", 65)
untouched(project(), "no Dockerfile", { file = fs.join(top, "none") }, "no such file", 66)
untouched(project(), "no record", { from_existing = true }, "no such file", 66)
untouched(project(), "no certificate", { signing_cert = fs.join(top, "none") }, "does not exist", 66)
untouched(project(), "another key", { private_key = fs.join(dir, "key.pem") }, "is not the private key of", 65)
untouched(project(), "a long command line", { cmdline = ("x"):rep(4000) }, "at most 1536", 64)
untouched(project(), "PROXY protocol", { forward_proxy_protocol = true }, "no forward_proxy_protocol yet", 65)
local pin = '[runtime]\nkernel_sha384 = "' .. ("0"):rep(96) .. '"\n'
untouched(project(pin), "another kernel", nil, "pins another kernel", 65)
local pinned = project(pin)
t.ok(run(pinned, { update_runtime = true }), "--update-runtime accepts it")
sys.setenv("SOURCE_DATE_EPOCH", "soon")
untouched(project(), "a wrong SOURCE_DATE_EPOCH", nil, "SOURCE_DATE_EPOCH", 65)
sys.setenv("SOURCE_DATE_EPOCH", "86400")
result = run(project())
t.ok(image.describe(result.eif).metadata:find("1970-01-02T00:00:00+00:00", 1, true), "it is the build time")
sys.setenv("PATH", real_path)
return t.done()
