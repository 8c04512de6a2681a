#!/bin/bash
# make fuzz: every target with libFuzzer for FUZZ_SECONDS (20) seconds, starting from its corpus.
# New inputs stay in BUILD/fuzz-corpus; a crash is kept there and makes this exit 1.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build} seconds=${FUZZ_SECONDS:-20} passed=0 failed=0
make --no-print-directory B="$build/fuzzer" CC=clang SAN=fuzzer-no-link,address,undefined "$build/fuzzer/san/libev.a" || exit 1
libs="$(pkg-config --libs lua5.4 openssl libuv jansson libseccomp zlib) -lcbor -ldl -lpthread -lm"
for src in tests/fuzz/fuzz_*.c; do
    name=$(basename "$src" .c)
    corpus=$build/fuzz-corpus/$name
    mkdir -p "$corpus"
    # shellcheck disable=SC2086
    clang -std=c11 -D_GNU_SOURCE -O1 -g -Icore -Itests/lib -fsanitize=fuzzer,address,undefined \
        "$src" "$build/fuzzer/san/libev.a" $libs -o "$build/fuzzer/$name" || exit 1
    if "$build/fuzzer/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$corpus/crash-" "$corpus" "tests/fuzz/corpus/${name#fuzz_}" >"$corpus.log" 2>&1; then
        passed=$((passed + 1))
        echo "$name: $(grep -oE 'stat::number_of_executed_units: *[0-9]+' "$corpus.log" | grep -oE '[0-9]+$') runs, no finding"
    else
        failed=$((failed + 1))
        echo "$name: FAILED, see $corpus.log"
        tail -30 "$corpus.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
