#!/bin/bash
# make bench — figures as ratios to a peer or a floor measured in the same run. Not a timed test.
#   tests/bench/run.sh BUILD [NAME...]     names: image start runtime (default: all)
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$(realpath "${1:-build}")
shift || true
names=${*:-image start runtime}
ev=$build/ev-cage

image() {       # building and describing a 512 MiB image against one SHA-384 pass
    make --no-print-directory B="$build" "$build/bench/bench_image" >/dev/null || return 1
    "$build/bench/bench_image"
}
start() {       # ms a start, the best and the median of 40
    python3 - "$ev" <<'PY'
import subprocess, sys, time
def runs(argv):
    t = []
    for _ in range(40):
        a = time.perf_counter(); subprocess.run(argv, stdout=subprocess.DEVNULL); t.append((time.perf_counter() - a) * 1000)
    return sorted(t)
ours, peer = runs([sys.argv[1], "--version"]), runs(["openssl", "version"])
print(f"start: ev-cage --version {ours[0]:.1f} ms best, {ours[20]:.1f} ms median; {ours[20] / peer[20]:.2f} of `openssl version` ({peer[20]:.1f} ms)")
PY
}
runtime() {     # what the runtime adds to an image, and its memory when idle
    printf 'runtime: ramdisk 1 is %s MiB (limit 12)\n' "$(awk "BEGIN { printf \"%.2f\", $(stat -c %s "$build/runtime.cpio") / 1048576 }")"
    bash tests/bench/idle.sh "$build"
}
for n in $names; do $n || echo "$n: failed"; done
