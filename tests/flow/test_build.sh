#!/bin/bash
# `ev-cage build`: the same bytes everywhere, measured right, signed right; and every kind of bad input
# gives one clear error, the right exit code, no debris and an untouched cage.toml.
. "$(dirname "$0")/lib.sh"

hello_archive "$work/app.tar" || exit 1
project "$work/a" || exit 1
sum() { sha256sum "$1" | cut -d' ' -f1; }
same() { [ "$(sum "$1")" = "$(sum "$2")" ]; }

run bash -c "cd '$work/a' && '$EV_CAGE' build --image '$work/app.tar' --json"
check 'build --image ends with 0' exits 0
check 'its result is one JSON object with four PCRs' prints '"PCR8"'
cp "$work/run.out" "$work/built.json"
eif=$work/a/enclave.eif

# --- the same bytes
project "$work/b"; cp "$work/a/cage.toml" "$work/b/cage.toml"; cp "$work/a"/*.pem "$work/b/"
sed -i '/^\[attestation\]/,$d' "$work/b/cage.toml"
run bash -c "cd '$work/b' && umask 077 && TZ=Asia/Tokyo LC_ALL=C faketime '+1 day' '$EV_CAGE' build --image '$work/app.tar'"
check 'a second build, a day later in another folder' exits 0
check 'gives the same image, byte for byte' same "$eif" "$work/b/enclave.eif"
if [ "$(id -u)" = 0 ]; then
    for_user 1000 "$work/a"/{cage.toml,cert.pem,key.pem} "$work/app.tar"
    run as_user 1000 '"$1" build --image app.tar'
    check 'another user builds' exits 0
    check 'another user gets the same bytes' same "$eif" "$theirs/project/enclave.eif"
else
    skip 2 'needs root to become another user'
fi
mkdir "$work/e"; cp "$work/a"/cage.toml "$work/a"/*.pem "$work/e/"
run bash -c "cd '$work/e' && '$EV_CAGE' build --image '$work/app.tar'"
check 'a build over its own written cage.toml' exits 0
check 'changes nothing in it' same "$work/a/cage.toml" "$work/e/cage.toml"
check 'and gives the same bytes' same "$eif" "$work/e/enclave.eif"

# --- measured and signed
python3 tests/lib/eif.py pcrs "$eif" >"$work/pcrs.json"
for n in 0 1 2 8; do
    want=$(json "$work/pcrs.json" "d['PCR$n']")
    check "PCR$n of the result equals an independent calculation" \
        test "$(json "$work/built.json" "d['enclaveMeasurements']['PCR$n']")" = "$want"
    check "PCR$n is in cage.toml" grep -q "^PCR$n = \"$want\"" "$work/a/cage.toml"
done
check 'CRC is right for an independent reader' test "$(json "$work/pcrs.json" 'd["crc_ok"]')" = True
mkdir "$work/sig"; python3 tests/lib/eif.py signature "$eif" "$work/sig"
openssl x509 -in "$work/sig/cert.pem" -pubkey -noout >"$work/sig/pub.pem"
check 'the signature verifies with openssl' openssl dgst -sha384 -verify "$work/sig/pub.pem" -signature "$work/sig/sig.der" "$work/sig/tbs"
check 'and covers PCR0' test "$(cat "$work/sig/payload_pcr0")" = "$(json "$work/pcrs.json" 'd["PCR0"]')"
run ev describe "$eif" --check-layout
check 'describe finds nothing wrong' exits 0
check 'describe prints the same PCR0' prints "$(json "$work/pcrs.json" 'd["PCR0"]')"
check 'ramdisk 2 has only rootfs/ and cage/' bash -c "! python3 tests/lib/eif.py names '$eif' 1 | grep -vE '^(rootfs|cage)(/|\$)'"

# --- the kernel's modules, behind the runtime in ramdisk 1
kernel=$(ev kernel path)
modules=$(dirname "$kernel")/modules.list
if [ -s "$modules" ]; then
    python3 tests/lib/eif.py names "$eif" 0 | grep '^lib/modules/ev/' | sed 's,.*/,,' >"$work/modules"
    check 'ramdisk 1 has the modules of its kernel, in order' diff "$work/modules" <(cut -d' ' -f1 "$modules")
    first=$(dirname "$kernel")/modules/$(head -1 "$work/modules")
    python3 tests/lib/eif.py boot "$eif" "$work/sig"
    check 'as they are' python3 -c 'import sys; sys.exit(open(sys.argv[1],"rb").read() not in open(sys.argv[2],"rb").read())' "$first" "$work/sig/initrd"
    mkdir "$work/m"; cp "$work/a"/cage.toml "$work/a"/*.pem "$work/m/"; cp "$kernel" "$work/m/bzImage"
    run bash -c "cd '$work/m' && '$EV_CAGE' build --image '$work/app.tar' --kernel bzImage"
    check 'the same kernel without its modules is another runtime' fails_with 65 'pins another runtime'
    run bash -c "cd '$work/m' && '$EV_CAGE' build --image '$work/app.tar' --kernel bzImage --update-runtime && '$EV_CAGE' describe enclave.eif"
    check 'a kernel given by name has none' bash -c "! python3 tests/lib/eif.py names '$work/m/enclave.eif' 0 | grep -q modules"
    check 'the metadata names the kernel' grep -qF "\"KernelVersion\": \"$(basename "$(dirname "$kernel")")\"" <<<"$out"
    check 'and has its digest' prints "\"KernelSHA384\": \"$(sha384sum <"$kernel" | cut -d' ' -f1)\""
else
    skip 6 'the kernel here has no modules'
fi
mkdir "$work/k"; python3 - "$work/k" <<'PY'
import struct, sys
head = bytes(0x202) + b"HdrS" + bytes(8) + struct.pack("<H", 0x200)
for name, version in (("old", b"6.1.0-9-amd64"), ("new", b"6.12.3")):
    open(f"{sys.argv[1]}/{name}", "wb").write(head + bytes(0x400 - len(head)) + version + b" x" + bytes(512))
open(f"{sys.argv[1]}/new.config", "w").write("CONFIG_NSM=y\n")
PY
cp "$work/a"/*.pem "$work/a/cage.toml" "$work/k/"
run bash -c "cd '$work/k' && '$EV_CAGE' build --image '$work/app.tar' --kernel old --update-runtime"
check 'a kernel that is too old' fails_with 65 '6.1.0-9-amd64; an enclave.s needs 6.8'
run bash -c "cd '$work/k' && '$EV_CAGE' build --image '$work/app.tar' --kernel new --update-runtime"
check 'a kernel without what is needed: the options are named' fails_with 65 'CONFIG_DEVTMPFS=y.*CONFIG_SECCOMP=y.*CONFIG_VSOCKETS'

# --- sources in other forms give the same measurement
python3 tests/lib/mkimage.py "$work/oci/" "$work/spec.json"
sed 's/"layers"/"compress": "gz", "layers"/' "$work/spec.json" >"$work/gz.json"
python3 tests/lib/mkimage.py "$work/gz.tar" "$work/gz.json"
for source in oci gz.tar; do
    mkdir -p "$work/f-$source"; cp "$work/a"/cage.toml "$work/a"/*.pem "$work/f-$source/"
    run bash -c "cd '$work/f-$source' && '$EV_CAGE' build --image '$work/$source'"
    check "build from $source" exits 0
    check "build from $source: same bytes" same "$eif" "$work/f-$source/enclave.eif"
done

# --- bad input: one error, right code, cage.toml and the old image untouched
cp "$work/a/cage.toml" "$work/toml.before"
before=$(sum "$eif")
untouched() { same "$work/toml.before" "$work/a/cage.toml" && [ "$(sum "$eif")" = "$before" ] &&
    [ -z "$(find "$work/a" -newer "$work/stamp" -type f ! -name '*.Dockerfile')" ]; }
bad_build() {   # NAME CODE MESSAGE ARGS...
    local name=$1 code=$2 message=$3
    shift 3
    touch "$work/stamp"; sleep 0.02
    run bash -c 'cd "$1" && shift && "$@"' bash "$work/a" "$EV_CAGE" build "$@"
    check "$name" fails_with "$code" "$message"
    check "$name: nothing changed" untouched
}
bad_build 'missing archive' 66 'nosuch.tar' --image "$work/nosuch.tar"
head -c 100000 "$work/app.tar" >"$work/cut.tar"
bad_build 'cut archive' 65 '.' --image "$work/cut.tar"
echo hello >"$work/text.tar"
bad_build 'a text file as archive' 65 '.' --image "$work/text.tar"
bad_build 'missing Dockerfile' 66 'Dockerfile' -f nosuch.Dockerfile
bad_build 'unknown option' 64 '--image' --imgae x
bad_build 'no kernel there' 66 'nokernel' --image "$work/app.tar" --kernel "$work/nokernel"
(cd "$work" && ev cert new -o "$work/other" >/dev/null 2>&1)
bad_build 'key of another certificate' 65 'not the private key' --image "$work/app.tar" --signing-cert "$work/a/cert.pem" --private-key "$work/other/key.pem"
bad_build 'missing certificate' 66 'nocert' --image "$work/app.tar" --signing-cert "$work/nocert.pem" --private-key "$work/a/key.pem"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/rsa.key" -out "$work/rsa.pem" -days 1 -subj /CN=x 2>/dev/null
bad_build 'RSA certificate' 65 '.' --image "$work/app.tar" --signing-cert "$work/rsa.pem" --private-key "$work/rsa.key"
touch "$work/stamp"; sleep 0.02
run bash -c "cd '$work/a' && faketime '+400 days' '$EV_CAGE' build --image '$work/app.tar'"
check 'expired certificate' fails_with 65 'expired'
check 'expired certificate: nothing changed' untouched
for entry in '{"name": "../evil", "data": "x"}' '{"name": "a/../../evil", "data": "x"}' \
             '{"name": "etc", "type": "link", "target": "/tmp"}'; do
    hello_archive "$work/evil.tar" "$entry"
    bad_build "archive with $entry" '65|77' '.' --image "$work/evil.tar"
done
check 'nothing was written outside' bash -c "! ls '$work'/evil '$work'/../evil 2>/dev/null"

# options of later issues stop the build with their names
for line in 'trx_logging = true' 'forward_proxy_protocol = true' 'trusted_headers = ["X-A"]'; do
    mkdir -p "$work/o"; { echo "$line"; cat "$work/toml.before"; } >"$work/o/cage.toml"; cp "$work/a"/*.pem "$work/o/"
    run bash -c "cd '$work/o' && '$EV_CAGE' build --image '$work/app.tar'"
    check "$line stops with its name" fails_with '6[0-9]|70' "${line%% *}"
done

# disk full
if unshare -rm true 2>/dev/null; then
    mkdir "$work/full"
    run unshare -rm bash -c "mount -t tmpfs -o size=4m tmpfs '$work/full' && cp '$work/a'/*.pem '$work/a/cage.toml' '$work/full/' &&
        cd '$work/full' && '$EV_CAGE' build --image '$work/app.tar'; rc=\$?; ls -A '$work/full'; exit \$rc"
    check 'disk full' fails_with 74 'space'
    check 'disk full: nothing is left' bash -c "! grep -qE 'eif|tmp' <<<'$out'"
else
    skip 2 'no user namespaces'
fi
done_testing
