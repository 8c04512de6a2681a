#!/bin/bash
# `init` and `cert new`: what they write, and that a stranger's cage.toml survives being written to.
. "$(dirname "$0")/lib.sh"
mkdir "$work/p"; cd "$work/p" || exit 1

run ev init --name hello-cage -f ./Dockerfile --healthcheck /health
check 'init works offline' exits 0
check 'it says that the identity is the development one' tells 'development identity'
check 'debug = false unless asked' grep -qE '^debug = false' cage.toml
check 'name, uuid, app, team' bash -c 'for k in name uuid app_uuid team_uuid; do grep -qE "^$k = \"[^\"]+\"" cage.toml || exit 1; done'
check 'healthcheck is written' grep -q '^healthcheck = "/health"' cage.toml
check 'a digest of the key, not the key' bash -c '! grep -q "ev:key" cage.toml && grep -q key_digests cage.toml'
check 'signing pair is there' test -s cert.pem -a -s key.pem
check 'the private key is for its owner only' test "$(stat -c %a key.pem)" = 600
check 'the state folder too' test "$(stat -c %a "$XDG_STATE_HOME/ev-cage")" = 700
check 'identity keys too' bash -c '! find "$XDG_STATE_HOME/ev-cage" -name "*.key" ! -perm 600 | grep .'
check 'P-384 certificate' bash -c 'openssl x509 -in cert.pem -noout -text | grep -q secp384r1'
check 'signed with ECDSA-SHA384' bash -c 'openssl x509 -in cert.pem -noout -text | grep -q ecdsa-with-SHA384'
check '52 weeks' bash -c 'openssl x509 -in cert.pem -noout -checkend $((360*86400))'
check 'subject in the order of the original' bash -c 'openssl x509 -in cert.pem -noout -subject -nameopt RFC2253,sep_comma_plus_space | grep -q "ST=LEI, L=DUB, OU=CAGES, O=ENG, C=IE, CN=cages.evervault.com"'
check 'key and certificate belong together' bash -c 'cmp <(openssl x509 -in cert.pem -pubkey -noout) <(openssl pkey -in key.pem -pubout)'
cp cage.toml before
run ev init --name other
check 'an existing cage.toml is not overwritten' fails_with 73 'cage.toml'
check 'and is as it was' cmp before cage.toml

mkdir "$work/q"; cd "$work/q" || exit 1
run ev init --name full --debug --egress --egress-ports 443,465,5432 --egress-destinations 'a.com,*.b.com' \
    -generate-signing --disable-api-key-auth --disable-tls-termination --disable-trx-logging --forward-proxy-protocol \
    --trusted_headers X-A,X-B --healthcheck /h --desired_replicas 3 -o .
check 'every option of the original is taken' exits 0
check 'they are in the file' bash -c 'grep -q "^debug = true" cage.toml && grep -q "5432" cage.toml && grep -q "b.com" cage.toml && grep -q "^api_key_auth = false" cage.toml && grep -q "desired_replicas" cage.toml'
check 'and what this release lacks is said at once' says '^warning: this release has no egress.enabled'
mkdir tls; run ev init --name tls --disable-tls-termination -o tls
check 'without TLS in the cage no API key is asked for' grep -q '^api_key_auth = false' tls/cage.toml
check 'and that is said' says '^warning: .*api_key_auth'
mkdir sub; run ev init --name x -f ./Dockerfile -o sub
check 'a Dockerfile that is named is found from the folder of cage.toml' grep -q '^dockerfile = "../Dockerfile"' sub/cage.toml
run ev init --name x -o sub2
check 'the default one is beside it' grep -q '^dockerfile = "./Dockerfile"' sub2/cage.toml
run ev init --name x -o sub3 --egress-destinations ,
check 'an empty list' fails_with 64 'egress-destinations'
run ev init
check 'init without a name' fails_with 64 'name'

mkdir "$work/c"; cd "$work/c" || exit 1
run ev cert new --subj /CN=EV/C=IE/ST=LEI/L=DUB/O=Evervault/OU=Eng --json
check 'cert new --subj' exits 0
check 'one JSON object with both paths' bash -c "python3 -c 'import json,sys; d=json.load(sys.stdin); assert d[\"output\"][\"certificate\"] and d[\"output\"][\"privateKey\"]' <<<'$out'"
check 'the subject asked for' bash -c 'openssl x509 -in cert.pem -noout -subject | grep -q "CN = EV"'
run ev cert new --subj /CN=EV -o "$work/c2"
check 'a subject with attributes missing' fails_with 65 'subj|attribute'
run ev pcr --signing-certificate cert.pem
want=$(python3 -c 'import hashlib,ssl; d=ssl.PEM_cert_to_DER_cert(open("cert.pem").read()); print(hashlib.sha384(bytes(48)+hashlib.sha384(d).digest()).hexdigest())')
check 'pcr --signing-certificate' prints "$want"
printf abc >"$work/abc"
run ev pcr --input "$work/abc"
check 'pcr --input' prints "$(python3 -c 'import hashlib; print(hashlib.sha384(bytes(48)+hashlib.sha384(b"abc").digest()).hexdigest())')"

run ev cert new -o /proc/nowhere
check 'an output that cannot be made' fails_with 73 'nowhere'
if [ "$(id -u)" = 0 ]; then
    chmod 600 key.pem; chmod 755 .; cp "$work/p/cage.toml" .; printf x >secret; chmod 600 secret
    user() { setpriv --reuid 1000 --regid 1000 --clear-groups env HOME="$work/uh" XDG_STATE_HOME="$work/uh" "$EV_CAGE" "$@"; }
    run user pcr --input secret
    check 'an input that may not be read' fails_with 66 'secret'
    run user build --image secret
    check 'a signing key that may not be read' fails_with 66 'key.pem'
    run user describe secret
    check 'an image that may not be read' fails_with 66 'secret'
    run user cert new
    check 'a folder that may not be written: the files are there' fails_with 73 'there already'
else
    skip 4 'needs root to become another user'
fi

# errors in cage.toml name file, line and key
cd "$work/p" || exit 1
bad_toml() {    # NAME SED CODE MESSAGE
    sed -E "$2" before >cage.toml; cp cage.toml was
    run ev build --image nosuch.tar
    check "$1" fails_with "$3" "$4"
    check "$1: file untouched" cmp was cage.toml
}
bad_toml 'wrong type' 's/^debug = .*/debug = "yes"/' 65 'cage.toml:[0-9]+.*debug'
bad_toml 'syntax error' 's/^debug = .*/debug = = 1/' 65 'cage.toml:[0-9]+'
bad_toml 'name missing' '/^name/d' 65 'name'
bad_toml 'unknown key warns with the nearest' 's/^healthcheck/helthcheck/' 66 'healthcheck'
bad_toml 'digest of the wrong length' 's/key_digests = .*/key_digests = ["AAAA"]/' 65 'key_digests'
run ev build -c nosuch.toml
check 'no such cage.toml' fails_with 66 'nosuch.toml'
done_testing
