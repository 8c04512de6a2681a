-- builder.lua — Dockerfile → docker archive, through docker, podman or buildah, whichever works.
--
-- The archive lands in a private folder of the caller's. Untagged layers stay in the builder's store:
-- they are its cache. What a cancelled build leaves there (buildah keeps its working container) is
-- found by a mark of ours and removed.
local crypto = require "ev.c.crypto"
local err = require "ev.err"
local fs = require "ev.fs"
local identity = require "ev.identity"
local proc = require "ev.proc"
local sys = require "ev.sys"
local text = require "ev.text"

local M = { ORDER = { "docker", "podman", "buildah" } }

local PROBE_S, TAIL_LINES = 20, 30

-- podman and buildah of an ordinary user want a run-time folder of the session; where nobody logged in
-- (ssh without PAM, CI, su) there is none, so they get one of ours.
local function give_runtime_dir()
  if sys.uid() == 0 or (sys.getenv("XDG_RUNTIME_DIR") or "") ~= "" then return end
  local dir = identity.state_dir()
  local path = dir and fs.join(dir, "run")
  if path and fs.mkdir_p(path, 448) then sys.setenv("XDG_RUNTIME_DIR", path) end
end

-- The last line a program complained with; of logrus' form only the message.
local function complaint(stderr)
  local line = text.trim(stderr):match("([^\n]*)$")
  return (line:match('msg="(.*)"$') or line):gsub('\\"', '"')
end

-- Does it answer? docker without its daemon does not.
function M.works(name)
  if not proc.which(name) then return false, "not installed" end
  if name ~= "docker" then give_runtime_dir() end
  local r, e = proc.run({ name, "info" }, { timeout = PROBE_S })
  if not r then return false, e.message end
  if r.code == 0 then return true end
  local line = complaint(r.stderr)
  return false, line ~= "" and line or "`" .. name .. " info` fails"
end

---@param name? string demanded by --builder
function M.pick(name)
  local reasons = {}
  for _, candidate in ipairs(name and { name } or M.ORDER) do
    local ok, why = M.works(candidate)
    if ok then return candidate end
    reasons[#reasons + 1] = candidate .. ": " .. why
  end
  return nil, err.new("EMISSING", "no container builder works here (" .. table.concat(reasons, "; ") .. ")",
    { hint = M.advice() .. ", or give --image FILE" })
end

-- What to do when none works.
function M.advice()
  if proc.which "buildah" then return "mend buildah, or start Docker" end
  return "apt-get install buildah, or start Docker"
end

-- --- running it -----------------------------------------------------------------------------------

-- Shows the builder's lines unless quiet; the last of them are kept for a failure.
local function follower(ui, quiet)
  local tail = {}
  local function take(line)
    tail[#tail + 1] = line
    if #tail > TAIL_LINES then table.remove(tail, 1) end
    if not quiet then ui.note("  " .. line) end
  end
  return take, tail
end

local function run(argv, o, what)
  local take, tail = follower(o.ui, o.quiet)
  local r, e = proc.run(argv, { stdout = take, stderr = take, env = o.env, cwd = o.cwd })
  if not r then return nil, e end
  if r.code == 0 then return true end
  if o.quiet then
    for _, line in ipairs(tail) do io.stderr:write("  ", line, "\n") end
  end
  local how = r.signal and ("ended by signal %d"):format(r.signal) or ("exit code %d"):format(r.code)
  return nil, err.new("EBUILDER", ("%s: %s failed: %s"):format(argv[1], what, how),
    { exit = r.code ~= 0 and r.code or 70, hint = "read its messages above" })
end

local function add_common(argv, o)
  for _, pair in ipairs(o.build_args or {}) do
    argv[#argv + 1] = "--build-arg"
    argv[#argv + 1] = pair
  end
  if o.no_cache then argv[#argv + 1] = "--no-cache" end
  argv[#argv + 1] = o.context
  return argv
end

local function image_id(path)
  local id, e = fs.read(path, { max = 4096 })
  if not id then return nil, e:wrap("the builder named no image") end
  return text.trim(id)
end

local adapters = {}

-- docker has no option for it: it looks for a list beside the Dockerfile, so both are copied.
function adapters.docker(o, archive, iid)
  o.env = { SOURCE_DATE_EPOCH = tostring(o.epoch) }
  local copy = fs.join(o.dir, "Dockerfile")
  local ok, e = fs.write(copy, o.source)
  if ok then ok, e = fs.write(copy .. ".dockerignore", o.ignore) end
  if not ok then return nil, e end
  ok, e = run(add_common({ "docker", "build", "-f", copy, "--iidfile", iid,
    "--platform", "linux/amd64" }, o), o, "build")
  if not ok then return nil, e end
  local id, id_err = image_id(iid)
  if not id then return nil, id_err end
  return run({ "docker", "save", "-o", archive, id }, o, "save")
end

-- podman and buildah take the list as an option, and what they leave in TMPDIR when they are interrupted
-- (the whole image, twice) is to go with our folder → path of the list | nil, err
local function prepare(o)
  local path, tmp = fs.join(o.dir, "ignore"), fs.realpath(o.dir) .. "/tmp"
  local ok, e = fs.write(path, o.ignore)
  if ok then ok, e = fs.mkdir_p(tmp, 448) end
  if not ok then return nil, e end
  o.env = { TMPDIR = tmp }
  return path
end

function adapters.podman(o, archive, iid)
  local ignore, ignore_err = prepare(o)
  if not ignore then return nil, ignore_err end
  local ok, e = run(add_common({ "podman", "build", "-f", o.dockerfile, "--iidfile", iid, "--layers",
    "--ignorefile", ignore, "--timestamp", tostring(o.epoch) }, o), o, "build")
  if not ok then return nil, e end
  local id, id_err = image_id(iid)
  if not id then return nil, id_err end
  return run({ "podman", "save", "--format", "docker-archive", "-o", archive, id }, o, "save")
end

-- A cancelled buildah keeps its working container. --cgroup-parent means nothing under chroot
-- isolation but is recorded with the container, so it marks ours. Runs in a <close> variable of a
-- cancelled task, where nothing can wait: hence a shell, in a session of its own that a second
-- interrupt does not reach.
local SWEEP = [[
root=$(buildah info --format '{{.store.GraphRoot}}') || exit 0
for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
    sleep 0.25
    found=$(grep -l "$1" "$root"/*-containers/*/userdata/buildah.json 2>/dev/null)
    [ -n "$found" ] || { [ $try -gt 2 ] && exit 0; continue; }
    for f in $found; do
        c=${f%/userdata/buildah.json}
        buildah rm "${c##*/}"
    done
done
]]

local function sweep(mark)
  os.execute(("setsid -w sh -c %s sh %s >/dev/null 2>&1"):format(text.shell_quote(SWEEP), mark))
end

function adapters.buildah(o, archive, iid)
  local mark, finished = "ev-cage-" .. text.hex(crypto.random(8)), false
  local _ <close> = setmetatable({}, { __close = function() if not finished then sweep(mark) end end })
  local ignore, ignore_err = prepare(o)
  if not ignore then return nil, ignore_err end
  local ok, e = run(add_common({ "buildah", "bud", "--isolation", "chroot", "--layers", "--ignorefile", ignore,
    "--timestamp", tostring(o.epoch), "--cgroup-parent", mark, "--iidfile", iid, "-f", o.dockerfile }, o), o, "build")
  finished = ok or e.code == "EBUILDER"  -- it came to its end and cleaned up itself
  if not ok then return nil, e end
  local id, id_err = image_id(iid)
  if not id then return nil, id_err end
  -- From inside the folder: a colon in its path would be read as the beginning of a name.
  local quiet = { ui = o.ui, quiet = true, env = o.env, cwd = o.dir }
  return run({ "buildah", "push", "--quiet", id, "docker-archive:" .. fs.basename(archive) }, quiet, "push")
end

-- Builds → path of a docker archive inside o.dir | nil, err
---@param name string docker, podman or buildah
---@param o table {dir, dockerfile, source (its text), ignore (text), context, build_args, no_cache, epoch, ui, quiet}
function M.build(name, o)
  local archive = fs.join(o.dir, "image.tar")
  local ok, e = adapters[name](o, archive, fs.join(o.dir, "iid"))
  if not ok then return nil, e end
  return archive
end

return M
