#!/bin/bash
# `describe` of images that AWS's own tool made: what nitro-cli prints for the same file, and nothing
# accepted that is damaged.
. "$(dirname "$0")/lib.sh"
gold=tests/golden/eif

for name in aws-unsigned aws-signed-p384 aws-one-ramdisk-arm64; do
    run ev describe $gold/$name.eif
    check "$name: accepted" exits 0
    python3 - "$gold/expected.json" "$name" "$work/run.out" >"$work/diff" <<'PY'
import json, sys
want = json.load(open(sys.argv[1]))
want = want.get(sys.argv[2] + ".eif") or want.get(sys.argv[2]) or next(x for x in want["images"] if sys.argv[2] in x.get("file", x.get("name", "")))
got = json.load(open(sys.argv[3]))
pcrs = {k.upper(): v for k, v in (want.get("pcrs") or want.get("Measurements")).items() if k.upper().startswith("PCR")}
for k, v in pcrs.items():
    assert got["Measurements"][k] == v, (k, got["Measurements"].get(k), v)
assert got["Measurements"]["HashAlgorithm"] == "Sha384 { ... }"
assert list(got)[:3] == ["EifVersion", "Measurements", "IsSigned"], list(got)
assert got["CheckCRC"] is True
assert got["IsSigned"] == ("signed" in sys.argv[2] and "unsigned" not in sys.argv[2])
if got["IsSigned"]:
    assert got["SignatureCheck"] is True and got["SigningCertificate"]["Algorithm"] == "ecdsa-with-SHA384"
assert got["ImageName"] and "BuildTool" in got["Metadata"]
PY
    check "$name: nitro-cli's names, order and values" test $? = 0
done

f=$gold/aws-signed-p384.eif
size=$(stat -c %s $f)
refused=0 tried=0
for n in $(seq 0 97 "$size") 547 548 559 560 $((size - 1)); do
    [ "$n" -lt "$size" ] || continue
    head -c "$n" $f >"$work/cut.eif"
    tried=$((tried + 1))
    ev describe "$work/cut.eif" >"$work/o" 2>"$work/e"; rc=$?
    [ $rc = 65 ] && [ -s "$work/e" ] && ! grep -q traceback "$work/e" && refused=$((refused + 1))
done
check "truncated at $tried places: always 65 and one error" test "$refused" = "$tried"
python3 -c 'import sys; b=bytearray(open(sys.argv[1],"rb").read()); b[2000]^=1; open(sys.argv[2],"wb").write(b)' $f "$work/crc.eif"
run ev describe "$work/crc.eif"
check 'a changed byte: CRC wrong, exit 65' exits 65
python3 tests/lib/eif.py flip $f "$work/flip.eif" 1
run ev describe "$work/flip.eif"
check 'a changed byte with the CRC repaired: the signature is another image'"'"'s' exits 65
check 'and describe says which check failed' prints '"SignatureCheck": false'
run ev describe "$work/none.eif"
check 'no such file' fails_with 66 'none.eif'
run ev describe "$work"
check 'a folder' exits '6[56]|74'
run ev describe --json $gold/aws-unsigned.eif
check '--json is one object' python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$work/run.out"
done_testing
