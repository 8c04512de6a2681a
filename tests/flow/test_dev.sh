#!/bin/bash
# A cage in the simulator, from the built image: answers, authentication, attestation, supervision, and
# nothing left behind however it ends. As root, and as an ordinary user.
. "$(dirname "$0")/lib.sh"
hello_archive "$work/app.tar" || exit 1
project "$work/a" --healthcheck /health || exit 1
(cd "$work/a" && ev build --image "$work/app.tar") >"$work/build.out" 2>&1 || { cat "$work/build.out" >&2; exit 1; }
key=$(json "$XDG_STATE_HOME/ev-cage/dev/identity.json" 'd["api_key"]')
root=$XDG_STATE_HOME/ev-cage/dev/nsm-root.pem
host=$(cd "$work/a" && python3 -c 'import re; t=open("cage.toml").read(); g=lambda k: re.search(r"(?m)^%s = \"(.*?)\"" % k, t)[1]; print("%s.%s.cages.localhost" % (g("name"), g("app_uuid")))')
c() { curl -sk --max-time 20 --connect-to "$host:443:127.0.0.1:$port" "$@"; }
code() { c -o "$work/body" -w '%{http_code}' "$@"; }

# What a cage could leave on the machine besides processes.
state() { findmnt -rn | grep -F "$work" | sort; find "$TMPDIR" "$work/a" "$XDG_STATE_HOME" | sort; }
state >"$work/state.before"

start_dev "$work/a"
check 'dev becomes healthy' test -n "$port"
check 'it says that it is a simulator' grep -qi simulat "$work/dev.out" "$work/dev.err"
check 'no api key: 401' test "$(code "https://$host/hello")" = 401
check 'with the reason' grep -q 'No api-key header present on request' "$work/body"
check 'a wrong key: 401' test "$(code -H 'api-key: ev:key:1:wrong' "https://$host/hello")" = 401
check 'with its reason' grep -q 'Invalid api key provided' "$work/body"
check 'the right key: 200' test "$(code -H "api-key: $key" "https://$host/hello")" = 200
check "the app's answer" grep -q 'hello from a static binary' "$work/body"
check 'TLS 1.2 too' test "$(code --tls-max 1.2 -H "api-key: $key" "https://$host/hello")" = 200
check 'TLS 1.1 is refused' bash -c "! openssl s_client -connect 127.0.0.1:$port -tls1_1 </dev/null 2>/dev/null | grep -q 'Cipher is [A-Z]'"
check 'well-known document without a key' test "$(code "https://$host/.well-known/attestation")" = 200
json "$work/body" 'd["attestation_doc"]' >"$work/doc.b64"
check 'sessions are not resumed' bash -c "! openssl s_client -connect 127.0.0.1:$port -servername $host -reconnect </dev/null 2>/dev/null | grep -q '^Reused'"

attest() { (cd "$work/a" && "$EV_CAGE" attest --connect "127.0.0.1:$port" "$@") >"$work/att.out" 2>"$work/att.err"; rc=$?; out=$(cat "$work/att.out"); err=$(cat "$work/att.err"); }
attest --root "$root"
check 'attest against cage.toml and the development root' exits 0
check 'attestation: verified' prints 'attestation: verified'
check 'it says that the root is a development root' bash -c "grep -qi 'development' '$work/att.out' '$work/att.err'"
attest
check 'without --root: refused' exits 76
attest --root "$root" --eif-path enclave.eif --json
check 'attest against the image' exits 0
check 'json: verdict and PCRs' bash -c "python3 -c 'import json,sys; d=json.load(sys.stdin); assert d[\"verdict\"] == \"verified\" and len(d[\"pcrs\"][\"PCR0\"]) == 96' <'$work/att.out'"
run ev attest --json --document "$work/doc.b64" --root "$root" --any-measurement
check 'the well-known document alone' exits 0
check 'carries PCR16, locked before the app started' test "$(json - '"PCR16" in d["pcrs"] and set(d["pcrs"]["PCR16"]) != {"0"}' <<<"$out")" = True

EV_API_KEY=$key attest --root "$root" --get /hello
check 'attest --get' exits 0
check 'prints the verdict, then the body' bash -c "head -1 '$work/att.out' | grep -q '^attestation: verified' && tail -1 '$work/att.out' | grep -q 'hello from a static binary'"
EV_API_KEY=$key attest --root "$root" --get /hello --json
check 'attest --get --json: the answer is in the object' test "$(json "$work/att.out" '(d["verdict"], d["response"]["status"], "hello from" in d["response"]["body"])')" = "('verified', 200, True)"
attest --root "$root" --get /hello
check 'attest --get without a key: 69' fails_with 69 'GET /hello: the cage answered 401'
check 'and what to try' says '^try: EV_API_KEY='
attest --root "$root" --get hello
check 'attest --get of no path' fails_with 64 '--get'
attest --document "$work/doc.b64" --root "$root" --any-measurement --get /hello
check 'attest --get of a document' fails_with 64 '--get'

# one PCR changed: 76, and not a byte of a request has left
python3 - "$port" "$work/proxy.port" "$work/proxy.log" <<'PY' &
import socket, sys, threading
up, out, log = int(sys.argv[1]), sys.argv[2], sys.argv[3]
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(8)
open(out, "w").write(str(s.getsockname()[1]))
s.settimeout(60)
def pump(a, b, name):
    try:
        while True:
            d = a.recv(65536)
            if not d: break
            if name == "up":
                i = 0
                while i + 5 <= len(d):
                    with open(log, "a") as f: f.write("%d\n" % d[i])
                    i += 5 + int.from_bytes(d[i+3:i+5], "big")
            b.sendall(d)
    except OSError: pass
    finally:
        try: b.shutdown(socket.SHUT_WR)
        except OSError: pass
try:
    while True:
        c, _ = s.accept(); u = socket.create_connection(("127.0.0.1", up))
        for x in ((c, u, "up"), (u, c, "down")): threading.Thread(target=pump, args=x, daemon=True).start()
except TimeoutError: pass
PY
pids+=("$!")
for _ in $(seq 50); do [ -s "$work/proxy.port" ] && break; sleep 0.1; done
pport=$(cat "$work/proxy.port")
cp "$work/a/cage.toml" "$work/toml"
for n in 0 1 2 8; do
    python3 - "$work/toml" "$work/a/cage.toml" $n <<'PY'
import re, sys
t = open(sys.argv[1]).read()
t = re.sub(r'(?m)^(PCR%s = ")(.)' % sys.argv[3], lambda m: m[1] + ("0" if m[2] != "0" else "1"), t)
open(sys.argv[2], "w").write(t)
PY
    : >"$work/proxy.log"
    (cd "$work/a" && EV_API_KEY=$key ev attest --connect "127.0.0.1:$pport" --root "$root" --get /hello --json) >"$work/att.out" 2>"$work/att.err"; rc=$?; out=$(cat "$work/att.out")
    check "PCR$n of cage.toml changed: exit 76" exits 76
    check "PCR$n: with that reason" test "$(json "$work/att.out" 'd.get("reason") or d["error"]["reason"]')" = pcr-mismatch
    # The ClientHello and nothing else: even the Finished (type 23 on the wire) waits for the verdict.
    check "PCR$n: no request was sent, the handshake not even finished" test "$(sort -u "$work/proxy.log")" = 22
done
cp "$work/toml" "$work/a/cage.toml"
: >"$work/proxy.log"
(cd "$work/a" && ev attest --connect "127.0.0.1:$pport" --root "$root") >"$work/att.out" 2>"$work/att.err"
check 'with the right PCRs the same witness does see a request' test "$(grep -c '^23' "$work/proxy.log")" -ge 2

# streaming and size
head -c 30000000 /dev/urandom >"$work/big"
check 'zombies are reaped' test "$(code -H "api-key: $key" "https://$host/zombies")" = 200
sleep 0.3
check 'no zombie is left' bash -c "! ps -eo stat=,comm= | grep -q '^Z.*hello'"

members=$(family "$dev_pid")
stop_dev INT
check 'Ctrl-C ends dev with 130' exits 130
check 'no process is left' gone $members
state >"$work/state.after"
check 'nothing is left: mounts, folders, sockets' diff "$work/state.before" "$work/state.after"

# how the app ends
for how in exit/0:0 exit/7:7 crash:134; do
    start_dev "$work/a"
    code -H "api-key: $key" "https://$host/${how%:*}" >/dev/null
    for _ in $(seq 100); do kill -0 "$dev_pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$dev_pid" 2>/dev/null; wait "$dev_pid"; rc=$?
    check "the app ends by /${how%:*}: dev leaves with ${how#*:}" exits "${how#*:}"
done
start_dev "$work/a"
members=$(family "$dev_pid")
kill -KILL "$dev_pid"; wait "$dev_pid" 2>/dev/null
check 'dev killed with SIGKILL: no process is left' gone $members
sleep 0.5
state >"$work/state.after"
check 'dev killed with SIGKILL: no folder or socket is left' diff "$work/state.before" "$work/state.after"

run bash -c "cd '$work/a' && '$EV_CAGE' dev --port 0 --eif-path enclave.eif --exec 'echo at \$EV_CAGE_ADDR; exit 5'"
check 'dev --exec runs a command against the cage and leaves with its code' exits 5
check 'and gives it the address' prints '^at 127.0.0.1:[0-9]+'
run bash -c "cd '$work/a' && python3 -c 'import socket, subprocess, sys
s = socket.socket(); s.bind((\"127.0.0.1\", 0)); s.listen()
sys.exit(subprocess.call([\"$EV_CAGE\", \"dev\", \"--image\", \"nosuch.tar\", \"-p\", str(s.getsockname()[1])]))'"
check 'a port that is taken is said before anything is built' fails_with 69 'Address already in use'
run bash -c "cd '$work/a' && '$EV_CAGE' dev --eif-path nosuch.eif"
check 'no such image' fails_with 66 'nosuch'
python3 tests/lib/eif.py flip "$work/a/enclave.eif" "$work/flip.eif" 1
run bash -c "cd '$work/a' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path '$work/flip.eif' --exec true"
check 'an image whose signature is for other bytes does not start' exits '65|76'

# debug: zero PCRs, refused unless allowed
project "$work/d" --debug && (cd "$work/d" && ev build --image "$work/app.tar") >"$work/build.out" 2>&1
host=$(cd "$work/d" && python3 -c 'import re; t=open("cage.toml").read(); g=lambda k: re.search(r"(?m)^%s = \"(.*?)\"" % k, t)[1]; print("%s.%s.cages.localhost" % (g("name"), g("app_uuid")))')
start_dev "$work/d"
(cd "$work/d" && ev attest --connect "127.0.0.1:$port" --root "$root" --json) >"$work/att.out" 2>"$work/att.err"; rc=$?
check 'a debug cage is refused' exits 76
check 'with what would accept it' grep -q '^try: --allow-debug --any-measurement' "$work/att.err"
(cd "$work/d" && ev attest --connect "127.0.0.1:$port" --root "$root" --json --allow-debug --any-measurement) >"$work/att.out" 2>"$work/att.err"; rc=$?; out=$(cat "$work/att.out")
check 'unless that is allowed' exits 0
check 'its PCR0 is zero' test "$(json "$work/att.out" 'set(d["pcrs"]["PCR0"]) == {"0"}')" = True
stop_dev TERM
check 'SIGTERM ends dev with 143' exits 143

# an ordinary user
if [ "$(id -u)" = 0 ]; then
    for_user 1000 "$work/a"/{cage.toml,enclave.eif,cert.pem,key.pem}
    run as_user 1000 'timeout 60 "$1" dev --port 0 --eif-path enclave.eif --exec "echo served"'
    check 'dev as an ordinary user' exits 0
    check 'serves' prints '^served'
else
    skip 2 'needs root to become another user'
fi

# the mock of the crypto API
p=$(free_port)
"$EV_CAGE" dev --crypto-api -p "$p" >"$work/api.out" 2>&1 & api=$!
pids+=("$api")
for _ in $(seq 50); do curl -s "http://127.0.0.1:$p/" >/dev/null && break; sleep 0.1; done
enc=$(curl -s -d '{"foo":"bar","n":5,"b":true}' "http://127.0.0.1:$p/encrypt")
check 'crypto API: encrypts to debug strings' grep -q '"ev:debug:' <<<"$enc"
check 'crypto API: decrypts to typed values' test "$(curl -s -d "$enc" "http://127.0.0.1:$p/decrypt" | json - 'd == {"foo":"bar","n":5,"b":True}')" = True
check 'crypto API: bad JSON is 400' test "$(curl -s -o /dev/null -w '%{http_code}' -d '{' "http://127.0.0.1:$p/encrypt")" = 400
check 'crypto API: unknown path is 404' test "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$p/x")" = 404
kill -INT $api; wait $api; rc=$?
check 'crypto API: Ctrl-C' exits 130
done_testing
