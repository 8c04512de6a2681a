#!/bin/bash
# Somebody between client and cage who has the cage's genuine document, but not its key: what `attest`
# says, and that not one byte of a request (or of the API key) reaches him.
. "$(dirname "$0")/lib.sh"
hello_archive "$work/app.tar" || exit 1
project "$work/a" || exit 1
(cd "$work/a" && ev build --image "$work/app.tar") >"$work/build.out" 2>&1 || { cat "$work/build.out" >&2; exit 1; }
start_dev "$work/a" || exit 1
key=$(json "$XDG_STATE_HOME/ev-cage/dev/identity.json" 'd["api_key"]')
root=$XDG_STATE_HOME/ev-cage/dev/nsm-root.pem
host=$(cd "$work/a" && python3 -c 'import re; t=open("cage.toml").read(); g=lambda k: re.search(r"(?m)^%s = \"(.*?)\"" % k, t)[1]; print("%s.%s.cages.localhost" % (g("name"), g("app_uuid")))')
openssl s_client -connect "127.0.0.1:$port" -servername "$host" </dev/null 2>/dev/null | openssl x509 >"$work/genuine.pem"
san=$(openssl x509 -in "$work/genuine.pem" -noout -ext subjectAltName | tail -1 | tr -d ' ')
check 'the genuine certificate carries a document' test "${#san}" -gt 5000

# certificate NAME SAN — of a key of his own
certificate() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"
    printf '[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=%s\n[ext]\nsubjectAltName=%s\n' \
        hello "$2" >"$work/$1.cnf"
    openssl req -x509 -new -key "$work/$1.key" -config "$work/$1.cnf" -days 2 -out "$work/$1.pem"
}
certificate copied "$san"
certificate bare "DNS:$host"
certificate half "$(sed -E 's/DNS:([0-9a-f]{400})[0-9a-f]*/DNS:\1/g' <<<"$san")"

cat >"$work/mitm.py" <<'PY'
import socket, ssl, sys, time
cert, key, port_file, log, version = sys.argv[1:6]
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(cert, key)
v = getattr(ssl.TLSVersion, version)
c.minimum_version = c.maximum_version = v
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(8)
open(port_file, "w").write(str(s.getsockname()[1]))
s.settimeout(30)
conn, _ = s.accept()
conn.settimeout(5)
try:
    t = c.wrap_socket(conn, server_side=True)
    with open(log, "a") as f: f.write("handshake\n")
    with open(log, "a") as f: f.write("got %d bytes\n" % len(t.recv(65536)))
except OSError as e:
    with open(log, "a") as f: f.write("refused\n")
PY
# meet NAME VERSION — one connection to him
meet() {
    local i
    rm -f "$work/port" "$work/log"; : >"$work/log"
    python3 "$work/mitm.py" "$work/$1.pem" "$work/$1.key" "$work/port" "$work/log" "$2" &
    local him=$!
    for ((i = 0; i < 50; i++)); do [ -s "$work/port" ] && break; sleep 0.1; done
    run env EV_API_KEY="$key" bash -c "cd '$work/a' && '$EV_CAGE' attest --connect '127.0.0.1:$(cat "$work/port")' --root '$root' --get /hello"
    wait "$him"
}
nothing_sent() { ! grep -qE 'got [1-9]' "$work/log" || { cat "$work/log"; return 1; }; }
for version in TLSv1_2 TLSv1_3; do
    meet copied $version
    check "$version, the genuine document under another key: refused" exits 76
    check "$version: it says why" tells 'user.data'
    check "$version: nothing was sent" nothing_sent
    for name in bare half; do
        meet $name $version
        check "$version, $name document: refused" exits 76
        check "$version, $name document: nothing was sent" nothing_sent
    done
done
run env EV_API_KEY="$key" bash -c "cd '$work/a' && '$EV_CAGE' attest --connect '127.0.0.1:$port' --root '$root' --get /hello"
check 'the cage itself: verified' exits 0
check 'and then the request is made' prints 'hello from'
stop_dev
done_testing
