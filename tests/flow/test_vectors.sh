#!/bin/bash
# Every document of tests/golden/attestation and tests/golden/nitro-docs through `ev-cage attest`, with
# the results that the indexes of the two collections state.
. "$(dirname "$0")/lib.sh"
gold=tests/golden/attestation

iso() { python3 -c 'import sys,datetime as d; print(d.datetime.fromtimestamp(int(sys.argv[1])/1000, d.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))' "$1"; }
reason() { json - 'd.get("reason") or d.get("error",{}).get("reason")' <<<"$out"; }

accepted() {    # FILE TIME PCR0 [options]
    local file=$1 at=$2 pcr0=$3
    shift 3
    run ev attest --json --document "$file" --at-time "$at" --pcr0 "$pcr0" "$@"
    exits 0 && [ "$(json - 'd["pcrs"]["PCR0"]' <<<"$out")" = "$pcr0" ]
}
refused() {     # REASON FILE options...
    local want=$1 file=$2
    shift 2
    run ev attest --json --document "$file" "$@"
    exits 76 && { [ "$(reason)" = "$want" ] || { echo "reason $(reason), want $want"; echo "$out"; return 1; }; }
}

while read -r name ms pcr0 debug; do
    at=$(iso "$ms")
    if [ "$debug" = debug ]; then
        check "$name: debug document refused" refused debug $gold/$name --at-time "$at" --pcr0 "$pcr0"
        check "$name: debug document accepted when allowed" accepted $gold/$name "$at" "$pcr0" --allow-debug
    else
        check "$name: accepted at its own time" accepted $gold/$name "$at" "$pcr0"
        check "$name: another PCR0 is refused" refused pcr-mismatch $gold/$name --at-time "$at" --pcr0 "${pcr0:0:94}$([ "${pcr0:94}" = 00 ] && echo 11 || echo 00)"
    fi
    check "$name: expired now" refused cert-expired $gold/$name --any-measurement --allow-debug
done < <(python3 - $gold <<'PY'
import json, sys
d = json.load(open(sys.argv[1] + "/expected.json"))
for x in d:
    pcr0 = x["pcrs"]["0"]
    print(x["name"], x["timestamp_ms"], pcr0, "debug" if x["debug"] else "production")
PY
)

# The five of nitro-docs: form, file, a time inside the window, PCR0, debug or production.
nitro=tests/golden/nitro-docs
while read -r option file inside after pcr0 kind; do
    more=(); [ "$kind" = debug ] && more=(--allow-debug)
    run ev attest --json "--$option" "$nitro/$file" --at-time "$inside" --pcr0 "$pcr0" "${more[@]+"${more[@]}"}"
    check "$file: accepted inside its window" exits 0
    run ev attest --json "--$option" "$nitro/$file" --at-time "$after" --pcr0 "$pcr0" "${more[@]+"${more[@]}"}"
    check "$file: after its window refused because of the certificates" test "$rc:$(reason)" = 76:cert-expired
    run ev attest --json "--$option" "$nitro/$file" --at-time "$inside" --pcr0 "$(tr 0-9a-f 1-9a-f0 <<<"$pcr0")" "${more[@]+"${more[@]}"}"
    check "$file: another PCR0 refused because of that PCR" test "$rc:$(reason)" = 76:pcr-mismatch
    run ev attest --json "--$option" "$nitro/$file" --at-time "$inside" --pcr0 "$pcr0" --user-data 3076301006072a8648ce3d02 "${more[@]+"${more[@]}"}"
    check "$file: another key refused because of the binding" test "$rc:$(reason)" = 76:user-data
done < <(python3 - $nitro/docs.json <<'PY'
import json, sys, datetime as dt
for x in json.load(open(sys.argv[1]))["documents"]:
    start, end = (dt.datetime.strptime(x[k], "%Y-%m-%dT%H:%M:%S.%fZ") for k in ("validFrom", "validTo"))
    inside, after = start + dt.timedelta(seconds=1), end + dt.timedelta(minutes=1)
    option = "certificate" if x["file"].startswith("cage-cert") else "document"
    pcr0 = x["pcrs"]["PCR0"]
    print(option, x["file"], *(t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in (inside, after)), pcr0,
          "debug" if set(pcr0) == {"0"} else "production")
PY
)
run ev attest --json --certificate $gold/evervault-nondebug-cert.der --at-time 2023-01-18T14:00:00Z --any-measurement
check 'evervault-nondebug-cert.der: document found, bound to the key' exits 0
for i in 40 700 2000 4000 4700; do
    python3 -c 'import sys; b=bytearray(open(sys.argv[1],"rb").read()); b[int(sys.argv[2])%len(b)]^=1; open(sys.argv[3],"wb").write(b)' $gold/a72552688ab6.cbor $i "$work/flip"
    run ev attest --json --document "$work/flip" --at-time 2022-10-13T09:30:00Z --any-measurement
    check "a72552688ab6.cbor with byte $i changed is refused" exits 76
done

b64=tests/golden/nitro-docs/document-2023-09-18.base64
run ev attest --json --document "$b64" --at-time 2023-09-18T00:00:00Z --any-measurement
check 'base64 document outside its window is refused' exits 76
run bash -c "'$EV_CAGE' attest --json --document - --any-measurement < '$b64'"
check 'document from standard input' exits 76
run ev attest --document "$b64"
check 'without an expectation it refuses to judge' fails_with 64 'any-measurement'
run ev attest --document "$b64" --pcr0 00
check 'a PCR of the wrong length is an error, not a match' exits 64
head -c 1000 $gold/a72552688ab6.cbor >"$work/cut"
run ev attest --json --document "$work/cut" --any-measurement
check 'a cut document is refused' exits 76
done_testing
