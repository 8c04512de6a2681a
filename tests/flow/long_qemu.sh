#!/bin/bash
# A cage really booted: QEMU, the kernel of the image, real vsock and a real /dev/nsm in front of our back
# ends. Answers, attestation against cage.toml, how it ends, what a changed byte does, nothing left behind.
# By emulation, so that it runs everywhere; limits are generous, a busy machine is slow.
#   EV_QEMU=FILE-OR-FOLDER   a QEMU to use instead of the one that is fetched once into build/qemu-cache
. "$(dirname "$0")/lib.sh"
[ "$san" = 0 ] || { skip 1 'sanitizer build: too slow without acceleration'; done_testing; }

qemu=${EV_QEMU:-}
if [ -z "$qemu" ]; then
    qemu_cache=$top/build/qemu-cache
    mkdir -p "$qemu_cache"
    XDG_CACHE_HOME=$qemu_cache timeout 400 "$EV_CAGE" doctor --fix >"$work/fix.out" 2>&1
    qemu=$qemu_cache/ev-cage/qemu/root
    [ -d "$qemu" ] || qemu=$(command -v qemu-system-x86_64)
fi
run ev dev --launcher qemu --qemu "${qemu:-/nonexistent}" --eif-path "$work/none.eif"
if grep -q QEMU <<<"$err"; then
    skip 1 "no QEMU 11 can be had: $(head -1 <<<"$err")"
    done_testing
fi
if ! ls "$kernel_cache"/ev-cage/kernel/*/modules/*.ko >/dev/null 2>&1; then
    ev kernel fetch --force >"$work/kernel.out" 2>&1
    ls "$kernel_cache"/ev-cage/kernel/*/modules/*.ko >/dev/null 2>&1 || { skip 1 'no kernel with modules could be fetched'; done_testing; }
fi

hello_archive "$work/app.tar" || exit 1
project "$work/a" --healthcheck /health || exit 1
(cd "$work/a" && ev build --image "$work/app.tar") >"$work/build.out" 2>&1 || { cat "$work/build.out" >&2; exit 1; }
key=$(json "$XDG_STATE_HOME/ev-cage/dev/identity.json" 'd["api_key"]')
root=$XDG_STATE_HOME/ev-cage/dev/nsm-root.pem
host_of() { python3 -c 'import re,sys; t=open(sys.argv[1]).read(); g=lambda k: re.search(r"(?m)^%s = \"(.*?)\"" % k, t)[1]; print("%s.%s.cages.localhost" % (g("name"), g("app_uuid")))' "$1/cage.toml"; }
host=$(host_of "$work/a")

# boot NAME DIR ARGS... — `dev` in QEMU in the background; sets pid, port. wait_up NAME waits for its answer.
boot() {
    local name=$1 dir=$2
    shift 2
    port=$(free_port)
    (cd "$dir" && exec "$EV_CAGE" dev --launcher qemu --no-kvm --qemu "$qemu" --timeout 150 --port "$port" "$@") \
        >"$work/$name.out" 2>"$work/$name.err" </dev/null &
    pid=$!
    pids+=("$pid")
}
wait_up() {
    local i
    for ((i = 0; i < 1800; i++)); do
        grep -q healthy "$work/$1.out" "$work/$1.err" && return 0
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    tail -30 "$work/$1.out" "$work/$1.err" >&2
    return 1
}
# ended PID — waits for it, its code in $rc
ended() {
    local i
    for ((i = 0; i < 600; i++)); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$1" 2>/dev/null
    wait "$1"
    rc=$?
}
ask() { curl -sk --max-time 60 --connect-to "$host:443:127.0.0.1:$1" -H "api-key: $key" "https://$host$2"; }
code() { curl -sk --max-time 60 --connect-to "$host:443:127.0.0.1:$port" -o "$work/body" -w '%{http_code}' "$@"; }
attest() { (cd "$work/a" && "$EV_CAGE" attest --connect "127.0.0.1:$port" --root "$root" "$@") >"$work/att.out" 2>"$work/att.err"; rc=$?; out=$(cat "$work/att.out"); err=$(cat "$work/att.err"); }
state() { findmnt -rn | grep -F "$work" | sort; find "$TMPDIR" "$work/a" "$XDG_STATE_HOME" | sort; }
state >"$work/state.before"

boot a "$work/a" --eif-path enclave.eif
a=$pid
check 'the image boots and becomes healthy' wait_up a "$a"
check 'it says by which QEMU, and how' grep -q 'Booted in [0-9.]* s, QEMU [0-9.]* by emulation' "$work/a.err"
check 'its NSM is said to be simulated' grep -qi simulated "$work/a.err"
check 'the kernel speaks on its console' grep -q 'cage | .*Linux version' "$work/a.err"
check 'no api key: 401' test "$(code "https://$host/hello")" = 401
check 'the right key: 200' test "$(code -H "api-key: $key" "https://$host/hello")" = 200
check "the app's answer" grep -q 'hello from a static binary' "$work/body"
check 'zombies are reaped' test "$(code -H "api-key: $key" "https://$host/zombies")" = 200
EV_API_KEY=$key attest --get /hello
check 'attested against cage.toml, then asked' exits 0
check 'verdict and answer' bash -c "grep -q '^attestation: verified' '$work/att.out' && grep -q 'hello from a static binary' '$work/att.out'"
attest --eif-path enclave.eif --json
check 'attested against the image' exits 0
check 'by a document with PCR16' test "$(json - '"PCR16" in d["pcrs"] and d["verdict"]' <<<"$out")" = verified
(cd "$work/a" && ev attest --connect "127.0.0.1:$port") >"$work/att.out" 2>&1
rc=$?
check 'without the development root: refused' exits 76
members=$(family "$a")
kill -INT "$a"
ended "$a"
check 'Ctrl-C ends dev with 130' exits 130
check 'no process is left' gone $members
state >"$work/state.after"
check 'nothing is left: mounts, folders, sockets' diff "$work/state.before" "$work/state.after"

# several at once, each ends in its own way
boot zero "$work/a" --eif-path enclave.eif --memory 300
zero=$pid zero_port=$port
boot seven "$work/a" --eif-path enclave.eif --cpus 2
seven=$pid seven_port=$port
boot crash "$work/a" --eif-path enclave.eif
crash=$pid crash_port=$port
check 'three at once' eval "wait_up zero $zero && wait_up seven $seven && wait_up crash $crash"
ask "$zero_port" /exit/0 >"$work/o" 2>&1
ask "$seven_port" /exit/7 >"$work/o" 2>&1
ask "$crash_port" /crash >"$work/o" 2>&1
ended "$zero"; check 'the app exits with 0: dev, too' exits 0
ended "$seven"; check 'with 7' exits 7
ended "$crash"; check 'by a signal: 134' exits 134
check "in PID 1's own words" grep -q 'the cage ended: exit code 7 (the app exited with code 7)' "$work/seven.err"

boot eat "$work/a" --eif-path enclave.eif
check 'one that will eat all memory' wait_up eat "$pid"
ask "$port" /eat >"$work/o" 2>&1
ended "$pid"; check 'the kernel ends the app, and PID 1 says so: 137' exits 137
check 'in words' grep -q 'the cage ended: signal 9 (the app was ended by signal 9)' "$work/eat.err"

# killed: QEMU goes too, and the janitor cleans up
boot kill "$work/a" --eif-path enclave.eif
check 'one to be killed' wait_up kill "$pid"
members=$(family "$pid")
kill -KILL "$pid"; wait "$pid" 2>/dev/null
check 'dev killed with SIGKILL: no process is left' gone $members
sleep 0.5
state >"$work/state.after"
check 'and no folder or socket' diff "$work/state.before" "$work/state.after"

# one byte of the app changed, CRC and signature made again with the same key
python3 tests/lib/resign.py "$work/a/enclave.eif" "$work/other.eif" "$work/a/key.pem" 'hello from a static' 'hullo from a static' ||
    exit 1
run ev describe --json "$work/other.eif"
check 'a changed image, signed again, is an image' exits 0
boot other "$work/a" --eif-path "$work/other.eif"
check 'it boots' wait_up other "$pid"
EV_API_KEY=$key attest --get /hello --json
check 'and is refused' exits 76
check 'because of its PCRs' test "$(json "$work/att.out" 'd.get("reason") or d["error"]["reason"]')" = pcr-mismatch
check 'PCR0 is named' grep -qE 'PCR0 is [0-9a-f]{96}, expected [0-9a-f]{96}' "$work/att.err"
check 'nothing was asked' bash -c "! grep -q 'hullo' '$work/att.out'"
kill -INT "$pid"; ended "$pid"

# the guest crashes: too little memory for its ramdisks
boot small "$work/a" --eif-path enclave.eif --memory 48
ended "$pid"
check 'a guest that crashes: dev fails' exits '70|75'
check "with its console's last lines in the error" grep -qE '^ev-cage dev: .*console said last: ' "$work/small.err"

# debug: zero PCRs, refused unless allowed
project "$work/d" --debug && (cd "$work/d" && ev build --image "$work/app.tar") >"$work/build.out" 2>&1
boot debug "$work/d" --eif-path enclave.eif
check 'a debug cage boots' wait_up debug "$pid"
(cd "$work/d" && ev attest --connect "127.0.0.1:$port" --root "$root" --json) >"$work/att.out" 2>"$work/att.err"; rc=$?
check 'is refused' exits 76
(cd "$work/d" && ev attest --connect "127.0.0.1:$port" --root "$root" --json --allow-debug --any-measurement) >"$work/att.out" 2>"$work/att.err"; rc=$?; out=$(cat "$work/att.out")
check 'unless that is allowed' exits 0
check 'its PCRs 0, 1, 2, 8 are zero' test "$(json "$work/att.out" 'all(set(d["pcrs"].get("PCR%d" % i, "0")) == {"0"} for i in (0, 1, 2, 8))')" = True
kill -TERM "$pid"; ended "$pid"
check 'SIGTERM ends dev with 143' exits 143

# usage
run ev dev --launcher qemu --qemu /bin/true --eif-path "$work/a/enclave.eif"
check 'what is no QEMU' fails_with 69 'says no version'
run ev dev --launcher qemu --qemu "$work/nosuch" --eif-path "$work/a/enclave.eif"
check 'no such QEMU' fails_with 66 'no such file'
run ev dev --launcher qemu --qemu "$qemu" --memory 0x
check 'memory that is no number' fails_with 64 '--memory'
done_testing
