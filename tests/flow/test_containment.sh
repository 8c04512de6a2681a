#!/bin/bash
# A hostile app, uid 0 in a cage, tries every way out (tests/lib/probe.h) and answers with what it
# found, through the attested front. Its TAP lines are this test's.
. "$(dirname "$0")/lib.sh"

"${CC:-gcc}" -static -O1 -D_GNU_SOURCE -Itests/lib -o "$work/probe" tests/flow/probe.c || exit 1
cat >"$work/spec.json" <<SPEC
{"config": {"Entrypoint": ["/probe"], "ExposedPorts": {"8008/tcp": {}}},
 "layers": [[{"name": "probe", "from": "$work/probe", "mode": 493}]]}
SPEC
python3 tests/lib/mkimage.py "$work/probe.tar" "$work/spec.json" || exit 1

# the app listens only when its checks are done
question='for i in $(seq 100); do
    curl -sfk --max-time 30 --connect-to "::$EV_CAGE_ADDR" "$EV_CAGE_URL/" && exit 0
    sleep 0.2
done
exit 1'

# cage FOLDER [init options] — builds it and keeps the app's answer.
cage() {
    local dir=$1
    shift
    project "$dir" --disable-api-key-auth "$@" || exit 1
    (cd "$dir" && ev build --image "$work/probe.tar") >"$work/build.out" 2>&1 || { cat "$work/build.out" >&2; exit 1; }
    (cd "$dir" && timeout 120 "$EV_CAGE" dev --port 0 --eif-path enclave.eif --exec \
        "$question") >"$work/probe.tap" 2>"$work/dev.err" </dev/null
    rc=$?
}

# take LABEL — the probe's lines become ours, one for one.
take() {
    local line n=0
    while IFS= read -r line; do
        case $line in
        'ok '*'probe:'*) check "$1, ${line#*probe: }" true; n=$((n + 1)) ;;
        'not ok '*'probe:'*) check "$1, ${line#*probe: }" false; n=$((n + 1)) ;;
        esac
    done <"$work/probe.tap"
    check "$1: all $n checks were made" grep -qx "1\.\.$n" "$work/probe.tap"
    check "$1: more than ninety of them" test "$n" -gt 90
    check "$1: dev ends well" test "$rc" = 0
    [ "$rc" = 0 ] || cat "$work/dev.err" >&2
}

cage "$work/a"
take 'cage'
cage "$work/b" --debug
take 'debug cage'

# as an ordinary user, with the one id that the kernel gives without further set-up
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    chown -R 65534:65534 "$work/a" "$XDG_STATE_HOME" "$HOME"
    (cd "$work/a" && timeout 120 setpriv --reuid 65534 --regid 65534 --clear-groups \
        "$EV_CAGE" dev --port 0 --eif-path enclave.eif --exec \
        "$question") >"$work/probe.tap" 2>"$work/dev.err" </dev/null
    rc=$?
    take 'ordinary user'
else
    skip 1 'not root: the checks above ran as an ordinary user'
fi
done_testing
