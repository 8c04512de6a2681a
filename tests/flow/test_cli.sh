#!/bin/bash
# The command line as a stranger meets it: help, suggestions, completion, scripts, tracebacks, overlay.
. "$(dirname "$0")/lib.sh"

run ev --version
check '--version' exits 0
check 'prints name and number' prints '^ev-cage [0-9]+\.[0-9]+\.[0-9]+'
run ev --help
check '--help' exits 0
for verb in init cert build describe pcr attest dev doctor run repl completion; do
    check "--help names $verb" prints "^ +$verb "
    "$EV_CAGE" $verb --help >"$work/help" 2>&1
    check "$verb --help" test -s "$work/help"
done
"$EV_CAGE" build --help >"$work/help1"; "$EV_CAGE" help build >"$work/help2"
check 'help build is build --help' cmp "$work/help1" "$work/help2"
for option in --config --file --output --private-key --signing-cert --build-arg --from-existing --reproducible --image --kernel; do
    check "build --help has $option" grep -q -- "$option" "$work/help1"
done
run ev biuld
check 'unknown command: exit 64 and the nearest one' fails_with 64 'build'
run ev deploy --quiet
check "a command of the original that is to come says so" fails_with 69 'this release has no deploy yet'
run ev cert lock
check 'so does a sub-command' fails_with 69 'this release has no lock yet'
run ev build --congif x
check 'unknown option: exit 64 and the nearest one' fails_with 64 'config'
run ev build --config
check 'option without its value' fails_with 64 'config'
run ev
check 'no command at all: usage' exits 64

for words in '--json' '--json cert' '--json nosuch'; do
    run ev $words
    check "$words: one JSON object that is an error" test "$(json - 'list(d)' <<<"$out")" = "['error']"
    check "$words: exit 64" exits 64
done
run ev --json --version
check '--json --version' test "$(json - 'd["name"]' <<<"$out")" = ev-cage

# standard output that is closed or full
for words in '--version' '--help' 'doctor' 'completion bash'; do
    run bash -c "exec '$EV_CAGE' $words >&-"
    check "$words with standard output closed: exit 74" exits 74
    run bash -c "exec '$EV_CAGE' $words >/dev/full"
    check "$words on a full device: exit 74" exits 74
done
run bash -c "'$EV_CAGE' run <(echo 'print(io.open(\"$work/f\", \"w\"):write(\"x\")); io.stderr:write(\"y\")') 2>&-; cat '$work/f'"
check 'with standard error closed a file does not take its place' test "$(cat "$work/f")" = x

for shell in bash zsh fish; do
    run ev completion $shell
    check "completion $shell" exits 0
    check "completion $shell knows describe" prints describe
done
run bash -c "source <('$EV_CAGE' completion bash) && COMP_WORDS=(ev-cage de) COMP_CWORD=1 && f=\$(complete -p ev-cage | sed 's/.*-F \([^ ]*\).*/\1/') && \$f && printf '%s\n' \"\${COMPREPLY[@]}\""
check 'bash completes de to describe' prints '^describe'

cat >"$work/ok.lua" <<'LUA'
print("args", ...)
return 3
LUA
run ev run "$work/ok.lua" one two
check "run: the script's return is the exit code" exits 3
check 'run: arguments arrive' prints 'args.*one.*two'
cat >"$work/crash.lua" <<'LUA'
local function deep() error("broken on purpose") end
deep()
LUA
run ev run "$work/crash.lua"
check 'run: a crash leaves with 70' exits 70
check 'run: a crash prints a traceback' says 'stack traceback'
check 'run: with file and line' says 'crash.lua:1: broken on purpose'
run ev run "$work/none.lua"
check 'run: no such file' fails_with 66 'none.lua'
echo 'x = = 1' >"$work/syntax.lua"
run ev run "$work/syntax.lua"
check 'run: a syntax error names the line' says 'syntax.lua:1'
printf '\033Lua' >"$work/byte.lua"
run ev run "$work/byte.lua"
check 'run: bytecode is refused' exits '6[0-9]|70'
cat >"$work/tasks.lua" <<'LUA'
local task, proc, net, fs = require "ev.task", require "ev.proc", require "ev.net", require "ev.fs"
local t = task.spawn(function() task.sleep(0.01) return "slept" end)
assert(t:join() == "slept")
local _, err = task.timeout(0.05, function() task.sleep(10) end)
assert(err and err.code == "ETIMEDOUT", tostring(err))
local r = assert(proc.run({ "sh", "-c", "cat; echo oops >&2; exit 7" }, { stdin = "in", stdout = "capture", stderr = "capture" }))
assert(r.code == 7 and r.stdout == "in" and r.stderr == "oops\n")
local l = assert(net.listen("tcp:127.0.0.1:0", function(s) s:write(assert(s:read_until("\n", 100)) .. "\n") s:close() end))
local s <close> = assert(net.connect(l:addr()))
s:write("ping\n")
assert(s:read_until("\n", 100) == "ping")
l:close()
local dir = assert(fs.tmpdir())
assert(fs.write(dir .. "/x", "data"))
assert(fs.read(dir .. "/x") == "data")
fs.rmtree(dir)
print("all fine")
LUA
run ev run "$work/tasks.lua"
check 'run: sleep, spawn, timeout, process, stream, file' prints 'all fine'
mkdir -p "$work/overlay/lua/ev"; echo 'return { marker = "from the overlay" }' >"$work/overlay/lua/ev/marker.lua"
echo 'print(require("ev.marker").marker)' >"$work/over.lua"
run ev --lua-dir "$work/overlay" run "$work/over.lua"
check '--lua-dir lays a folder above the embedded scripts' prints 'from the overlay'
check '--lua-dir is announced' says 'overlay'
run bash -c "cd '$work' && '$EV_CAGE' --lua-dir overlay run over.lua"
check '--lua-dir wants an absolute path' exits 64
run bash -c "printf '1 + 1\nfor i = 1, 2 do\nprint(i)\nend\n{ b = 2, a = 1 }\n:help\n' | '$EV_CAGE' repl"
check 'repl: an expression' prints '^2$'
check 'repl: several lines' prints '^1$'
check 'repl: tables are printed' prints 'a = 1'
run bash -c "'$EV_CAGE' describe /dev/null | head -1; exit \${PIPESTATUS[0]}"
check 'describe of an empty file' exits 65
run bash -c "'$EV_CAGE' run - </dev/null; true"
# an interrupt ends a script, and its resources are closed
cat >"$work/wait.lua" <<'LUA'
local task = require "ev.task"
local guard <close> = setmetatable({}, { __close = function() io.stderr:write("closed\n") end })
io.stderr:write("waiting\n")
task.sleep(30)
LUA
"$EV_CAGE" run "$work/wait.lua" 2>"$work/wait.err" & pid=$!
pids+=("$pid")
for _ in $(seq 100); do grep -q waiting "$work/wait.err" && break; sleep 0.05; done
kill -INT $pid; wait $pid; rc=$?
check 'Ctrl-C leaves with 130' exits 130
check 'and closes what is open' grep -q closed "$work/wait.err"

# what the binary needs, and nothing else (DESIGN §5)
needed=$(readelf -d "$EV_CAGE" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
allowed='^(libasan\.so\.8|libubsan\.so\.1|libc\.so\.6|libm\.so\.6|ld-linux-x86-64\.so\.2|libcrypto\.so\.3|libssl\.so\.3|libuv\.so\.1|liblua5\.4\.so\.0|libcbor\.so\.0\.8|libjansson\.so\.4|libnghttp2\.so\.14|libseccomp\.so\.2|libz\.so\.1|libbrotlidec\.so\.1)$'
other() { ! grep -vE "$allowed" <<<"$needed"; }
check 'the binary needs no other library' other
check 'curl, archive, sqlite and edit are opened at run time only' bash -c "! grep -qE 'curl|archive|sqlite|edit' <<<'$needed'"
done_testing
