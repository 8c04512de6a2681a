#!/bin/bash
# Runs groups of tests, prints one line a file and the closing "N passed, N failed".
#   tests/run.sh [--build DIR] [--san DIR] [--only PATTERN] GROUP...
# Groups: layers unit lua fuzz flow long. Everything speaks TAP; a file's exit code counts too.
set -u
cd "$(dirname "$0")/.." || exit 1
build=build san= only=
groups=()
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --san) san=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) groups+=("$1"); shift ;;
    esac
done
build=$(realpath "$build")
[ -n "$san" ] && san=$(realpath "$san")
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8 NO_COLOR=1 TZ=UTC
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1

# one NAME SECONDS COMMAND... — runs a TAP producer with a time limit.
one() {
    local name=$1 limit=$2 start=$SECONDS rc ok notok skip
    shift 2
    if [ -n "$only" ] && [[ $name != *$only* ]]; then return; fi
    timeout -k 10 "$limit" "$@" >"$work/out" 2>"$work/err" </dev/null
    rc=$?
    ok=$(grep -c '^ok ' "$work/out"); notok=$(grep -c '^not ok ' "$work/out")
    skip=$(grep -c '^ok .*# SKIP' "$work/out")
    ok=$((ok - skip))
    if [ $rc -ne 0 ] && [ "$notok" -eq 0 ]; then notok=1; fi
    if [ $rc -eq 0 ] && [ $((ok + skip + notok)) -eq 0 ]; then notok=1; echo "# no test ran" >>"$work/err"; fi
    if ! grep -q '^1\.\.' "$work/out" && [ "$notok" -eq 0 ]; then notok=1; echo "# no plan: it stopped early" >>"$work/err"; fi
    passed=$((passed + ok)); failed=$((failed + notok)); skipped=$((skipped + skip))
    printf '%-52s %4d ok %s%s(%ds)\n' "$name" "$ok" \
        "$([ "$notok" -gt 0 ] && echo "$notok FAILED ")" "$([ "$skip" -gt 0 ] && echo "$skip skipped ")" $((SECONDS - start))
    grep '^ok .*# SKIP' "$work/out" | sed 's/^ok [0-9]* *//; s/^/    /' | sort | uniq -c | sed 's/^ */    /'
    if [ "$notok" -gt 0 ]; then
        [ $rc -eq 124 ] && echo "    over its time limit of $limit s"
        grep -A6 '^not ok' "$work/out" | head -60 | sed 's/^/    /'
        echo "    exit $rc; last lines of its errors:"
        tail -40 "$work/err" | sed 's/^/    | /'
    fi
}

unit() {    # DIR LABEL
    local t
    for t in "$1"/unit/test_*; do
        [ -x "$t" ] && [ -f "$t" ] || continue
        case $t in *.d) continue ;; esac
        [ -f "tests/unit/$(basename "$t").c" ] || continue
        one "$2/$(basename "$t")" 120 "$t"
    done
}

lua() {     # DIR LABEL
    local t
    for t in tests/lua/test_*.lua; do
        [ -f "$t" ] && EV_LEAK_CHECK=1 one "$2/$(basename "$t")" 120 "$1/ev-cage" run "$t"
    done
}

fuzz() {    # DIR LABEL
    local t name
    for t in tests/fuzz/fuzz_*.c; do
        name=$(basename "$t" .c)
        [ -d "tests/fuzz/corpus/${name#fuzz_}" ] || continue
        one "$2/$name" 300 "$1/fuzz/$name" "tests/fuzz/corpus/${name#fuzz_}"
    done
}

flow() {    # DIR LABEL
    local t
    for t in tests/flow/test_*.sh; do
        [ -f "$t" ] && EV_BUILD=$1 EV_CAGE=$1/ev-cage one "$2/$(basename "$t")" 600 bash "$t"
    done
}

for g in "${groups[@]}"; do
    case $g in
    layers) one layers 60 scripts/dev/layers.sh ;;
    unit|lua|fuzz|flow)
        $g "$build" "$g"
        [ -n "$san" ] && $g "$san" "$g+san" ;;
    long)
        for t in tests/flow/long_*.sh; do
            [ -f "$t" ] && EV_BUILD=$build EV_CAGE=$build/ev-cage one "long/$(basename "$t")" 3000 bash "$t"
        done ;;
    *) echo "run.sh: unknown group $g" >&2; exit 64 ;;
    esac
done

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
