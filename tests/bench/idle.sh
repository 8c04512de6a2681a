#!/bin/bash
# idle.sh BUILD — memory of the runtime of an idle cage in the simulator, read from the host's /proc:
# PID 1 and the small init inside the app's container, and what both hold together (shared pages once).
EV_BUILD=${1:-build} EV_CAGE=${1:-build}/ev-cage
. "$(dirname "$0")/../flow/lib.sh"
hello_archive "$work/app.tar" && project "$work/a" || exit 1
(cd "$work/a" && ev build --image "$work/app.tar") >/dev/null 2>"$work/err" || { cat "$work/err"; exit 1; }
start_dev "$work/a" || exit 1
for _ in 1 2 3; do curl -sk "https://127.0.0.1:$port/.well-known/attestation" >/dev/null; done
sleep 1
mib() { awk -v k="$2" '$1 == k":" { printf "%.1f", $2 / 1024 }' "$1"; }
total=0
for p in $(family "$dev_pid"); do
    case $(tr "\0" " " <"/proc/$p/cmdline" 2>/dev/null) in /init*) ;; *) continue ;; esac
    what=$([ "$(tr '\0' ' ' <"/proc/$p/cmdline")" = '/init ' ] && echo 'PID 1' || echo "the app's init")
    echo "runtime: $what idle: $(mib "/proc/$p/status" VmRSS) MiB resident (limit 12), $(mib "/proc/$p/status" RssAnon) of it its own"
    total=$(awk -v t="$total" -v p="$(mib "/proc/$p/smaps_rollup" Pss)" 'BEGIN { print t + p }')
done
echo "runtime: both together, shared pages counted once: $total MiB"
stop_dev TERM
