#!/bin/bash
# idle.sh BUILD — resident memory of PID 1 of an idle cage in the simulator, from the host's /proc.
set -u
EV_BUILD=${1:-build} EV_CAGE=${1:-build}/ev-cage
. "$(dirname "$0")/../flow/lib.sh"
hello_archive "$work/app.tar" && project "$work/a" || exit 1
(cd "$work/a" && ev build --image "$work/app.tar") >/dev/null 2>"$work/err" || { cat "$work/err"; exit 1; }
start_dev "$work/a" || exit 1
sleep 2
for p in $(pgrep -x init); do
    # the first /init of the namespace is the runtime: its parent is the launcher
    case $(tr '\0' ' ' </proc/"$p"/cmdline 2>/dev/null) in
    /init*) awk -v p="$p" '/^VmRSS|^RssAnon/ { printf "runtime: PID 1 idle %s %.1f MiB\n", $1, $2 / 1024 }' /proc/"$p"/status ; break ;;
    esac
done
stop_dev TERM
