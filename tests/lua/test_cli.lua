-- The command line against a small table: every way to write an option, and each mistake's hint.
local cli = require "ev.cli"
local complete = require "ev.cli.complete"
local fs = require "ev.fs"
local help = require "ev.cli.help"
local proc = require "ev.proc"
local t = require "tap"

local SPEC = {
  name = "tool", summary = "A tool for tests",
  options = { { long = "verbose", short = "v" }, { long = "json" }, { long = "help", short = "h" },
    { long = "version" } },
  commands = {
    { name = "build", summary = "Build it", group = "One", script = "x", args = { { name = "PATH", default = "." } },
      options = {
        { long = "config", short = "c", value = "FILE", default = "./cage.toml", help = "Where it is",
          complete = "file" },
        { long = "build-arg", value = "K=V", many = true, help = "A value" },
        { long = "quiet", short = "q" },
        { long = "port", short = "p", value = "N", type = "port" },
        { long = "level", value = "N", type = "integer", min = 1, max = 3 },
        { long = "ratio", value = "X", type = "number" },
        { long = "curve", value = "NAME", choices = { "nist", "koblitz" } },
        { long = "trusted-headers", value = "LIST", aliases = { "trusted_headers" } },
        { long = "generate-signing", aliases = { "-generate-signing" } },
        { long = "secret", hidden = true },
      },
      notes = "Some notes.", examples = { "tool build ." } },
    { name = "cert", summary = "Certificates", group = "One", commands = {
      { name = "new", script = "y", summary = "A new one", options = { { long = "name", value = "N",
        required = true } } },
      { name = "lock", script = "z", args = { { name = "ID" } } } } },
    { name = "run", group = "Two", script = "r", summary = "Run", args = { { name = "FILE" },
      { name = "ARGS", many = true, optional = true, rest = true } } },
    { name = "copy", group = "Two", script = "c", summary = "Copy", args = { { name = "FROM" }, { name = "MORE",
      many = true } } },
  },
}

local function words(line)
  local list = {}
  for w in line:gmatch("%S+") do list[#list + 1] = w end
  return list
end
local function parse(line) return cli.parse(SPEC, type(line) == "table" and line or words(line)) end

-- every spelling of a value
for _, line in ipairs { "build --config x", "build --config=x", "build -c x", "build -cx", "build -c=x",
  "-v build -c x",
  "build -vqc x", "build -config x", "build -config=x" } do
  t.is(parse(line).opts.config, "x", line)
end
local p = parse "build"
t.is({ p.opts.config, p.opts.build_arg, p.opts.quiet, p.args[1], p.args.path }, { "./cage.toml", {}, nil, ".", "." },
  "defaults")
t.ok(p.given.config == nil and parse("build -c x").given.config, "given tells a default from a choice")
p = parse "build --build-arg A=1 dir --build-arg=B=2"
t.is({ p.opts.build_arg, p.args.path }, { { "A=1", "B=2" }, "dir" }, "a repeated option and a word between")
p = parse "-v build -q --json"
t.is({ p.opts.verbose, p.opts.quiet, p.opts.json }, { true, true, true }, "global options before and after the command")
t.is(parse("build -vq").opts.quiet, true, "grouped switches")
t.is(parse("build -generate-signing").opts.generate_signing, true, "a long name with one dash")
t.is(parse("build --trusted_headers=a,b").opts.trusted_headers, "a,b", "an alias")
t.is(parse("build -c a -c b").opts.config, "b", "the last one wins")
t.is(parse("build --config=").opts.config, "", "an empty value")
t.is(parse("build -- -c").args.path, "-c", "-- ends options")
t.is(parse("build -").args.path, "-", "a lone dash is a word")
t.is(parse("build -c -").opts.config, "-", "and a value")
t.is({ parse("build -p 0").opts.port, parse("build --level 2").opts.level, parse("build --ratio 0.5").opts.ratio },
  { 0, 2, 0.5 }, "typed numbers")
t.is(math.type(parse("build -p 80").opts.port), "integer", "a port is an integer")

p = parse "cert new --name n"
t.is({ p.path, p.command.script }, { { "cert", "new" }, "y" }, "a command of a command")
p = parse "run a.lua -c --help x -- -v"
t.is({ p.args.file, p.args.args, p.opts.help }, { "a.lua", { "-c", "--help", "x", "--", "-v" }, nil },
  "rest is not parsed")
t.is(parse("run -v a.lua").opts.verbose, true, "options before it are")
t.is(parse("copy a b c").args.more, { "b", "c" }, "many words")
t.is({ #parse("copy a b c").args, parse("copy a b c").args[3] }, { 3, "c" }, "all words by number")
t.ok(parse("build --help").help and parse("--help").help and parse("cert -h").help, "help anywhere")
t.ok(parse("cert new --help").help, "help before a required option is missed")
t.ok(parse("--version").version and parse("build --version").version and not parse("run x --version").version,
  "version anywhere, but not among a script's arguments")
t.ok(not parse("cert").command.script, "a command with sub-commands alone is no script")

-- mistakes
for _, c in ipairs {
  { "bild", "unknown command 'bild'", "tool build" },
  { "xyzzy", "unknown command 'xyzzy'", "tool help" },
  { "cert nwe", "unknown command 'nwe'", "tool cert new" },
  { "build --confg x", "unknown option --confg", "--config" },
  { "build --trusted-header x", "unknown option --trusted-header", "--trusted-headers" },
  { "build --zzzzzzzz", "unknown option --zzzzzzzz", "tool help build" },
  { "build -x", "unknown option -x", nil },
  { "build -qx", "unknown option -x", nil },
  { "build --secre", "unknown option --secre", "tool help build" },
  { "build --config", "option --config needs a value (FILE)", "tool help build" },
  { "build --config --quiet", "option --config needs a value (FILE)", nil },
  { "build -c", "option -c needs a value (FILE)", nil },
  { "build --quiet=yes", "option --quiet takes no value", nil },
  { "build --curve nits", "--curve: 'nits' is not one of nist, koblitz", "nist" },
  { "build -p 70000", "-p: 70000 is not between 0 and 65535", nil },
  { "build -p http", "-p: 'http' is not an integer", nil },
  { "build -p 0x", "-p: '0x' is not an integer", nil },
  { "build --level 4", "--level: 4 is not between 1 and 3", nil },
  { "build --level 1.5", "--level: '1.5' is not an integer", nil },
  { "build --ratio nan", "--ratio: 'nan' is not a number", nil },
  { "build a b", "too many arguments: 'b'", nil },
  { "cert new", "option --name is missing", "tool help cert new" },
  { "cert lock", "ID is missing", nil },
  { "copy a", "MORE is missing", nil },
  { "run", "FILE is missing", nil },
} do
  local parsed, e, partial = parse(c[1])
  t.ok(parsed == nil and e.code == "EUSAGE" and e:exit_code() == 64 and e.message == c[2], c[1] .. ": " .. c[2])
  if e and e.message ~= c[2] then print("# " .. e.message) end
  if c[3] then t.is(e.hint, c[3], c[1] .. ": hint") end
  t.ok(partial and partial.opts, c[1] .. ": how far it came")
end
t.is(select(3, parse "build --json --nope").opts.json, true, "--json is known even when parsing fails after it")

-- help
local text = help.text(SPEC, { "build" }, 80)
t.ok(text:find("Usage: tool build [OPTIONS] [PATH]", 1, true), "usage line")
t.ok(text:find("-c, --config FILE", 1, true) and text:find("(default: ./cage.toml)", 1, true),
  "an option with its default")
t.ok(text:find("[nist, koblitz]", 1, true) and text:find("(may be repeated)", 1, true), "choices, repetition")
t.ok(not text:find("secret"), "hidden options are hidden")
t.ok(text:find("Some notes.", 1, true) and text:find("  tool build .", 1, true), "notes and examples")
t.is(help.text(SPEC, { "build" }, 80), text, "the same twice")
for _, width in ipairs { 1, 40, 61, 80, 300 } do
  local longest = 0
  for line in help.text(SPEC, { "build" }, width):gmatch("[^\n]+") do longest = math.max(longest, #line) end
  t.ok(longest <= math.max(40, math.min(width, 100)) + 22, ("wrapped at %d columns (%d)"):format(width, longest))
end
local top = help.text(SPEC, {}, 80)
t.ok(top:find("One:\n.*build.*cert.*Two:\n.*run"), "groups in order")
t.ok(help.text(SPEC, { "cert" }, 80):find("new +A new one"), "sub-commands")
t.is(help.wrap("a bb ccc", 4), { "a bb", "ccc" }, "wrap")
t.is(help.wrap("averylongword b", 4), { "averylongword", "b" }, "a long word stays whole")

-- the real table: every script is there, each help can be printed
local real = require "ev.cli.spec"
local missing, seen = {}, 0
local function walk(node, path)
  seen = seen + 1
  local ok, page = pcall(help.text, real, path, 80)
  if not ok or #page < 40 then missing[#missing + 1] = table.concat(path, " ") end
  if node.script and not pcall(require, node.script) then missing[#missing + 1] = node.script end
  for _, c in ipairs(node.commands or {}) do
    local deeper = table.move(path, 1, #path, 1, {})
    deeper[#deeper + 1] = c.name
    walk(c, deeper)
  end
end
walk(real, {})
t.is(missing, {}, ("all %d commands have help and a script"):format(seen))

-- completion: bash runs what was generated
local dir <close> = assert(fs.scratch())
local bash_file = dir.path .. "/bash"
assert(fs.write(bash_file, complete.text(SPEC, "bash")))
if proc.which "bash" then
  t.is(proc.run({ "bash", "-n", bash_file }).code, 0, "bash accepts its script")
  local driver = [[. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _ev_cage; echo "${COMPREPLY[*]}"]]
  local function completes(want, ...)
    local r = proc.run { "bash", "-c", driver, "bash", bash_file, "tool", ... }
    t.is(r.stdout:gsub("\n", ""), want, "completes " .. table.concat({ ... }, " "))
  end
  completes("build cert run copy", "")
  completes("build", "b")
  completes("new lock", "cert", "")
  completes("nist koblitz", "build", "--curve", "")
  completes("koblitz", "build", "-q", "--curve", "k")
  completes("nist koblitz", "build", "--curve", "=")
  completes("koblitz", "build", "--curve", "=", "k")
  completes("--config --curve", "build", "--c")
  completes("--verbose --version", "--ver")
  completes("new", "-v", "cert", "n")
  completes("", "build", "--port", "")
else
  t.skip("bash completion", "bash is not installed")
end
local fish = complete.text(SPEC, "fish")
t.ok(fish:find("complete -c tool -n '__fish_seen_subcommand_from build' -l curve -x -a 'nist koblitz'", 1, true),
  "fish: choices")
t.ok(fish:find("-n '__fish_seen_subcommand_from cert; and not __fish_seen_subcommand_from new lock' -a new", 1, true),
  "fish: sub-commands")
t.ok(complete.text(SPEC, "zsh"):find("^#compdef tool\n") ~= nil, "zsh: first line")
t.ok(not complete.text(SPEC, "zsh"):find("secret") and not fish:find("secret"), "hidden options are not offered")
return t.done()
