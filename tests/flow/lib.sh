# lib.sh — what the flow tests share. Sourced; needs EV_CAGE (the binary) and EV_BUILD (its folder).
# Every test gets its own home, state and temporary folder and ends what it started, by id.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
top=$PWD
tap=0 bad=0 pids=()
EV_CAGE=$(realpath "${EV_CAGE:-build/ev-cage}")
EV_BUILD=$(realpath "${EV_BUILD:-build}")
kernel_cache=${EV_KERNEL_CACHE:-$top/build/kernel-cache}
work=$(mktemp -d "${TMPDIR:-/tmp}/ev-flow.XXXXXX") || exit 1
chmod 755 "$work"
# The checkout may lie where only its owner may look; what other users run lies here.
mkdir "$work/bin" && cp "$EV_CAGE" "$EV_BUILD/runtime.cpio" "$work/bin/" || exit 1
EV_CAGE=$work/bin/ev-cage
export HOME=$work/home XDG_STATE_HOME=$work/state XDG_CACHE_HOME=$kernel_cache NO_COLOR=1 LC_ALL=C.UTF-8 TZ=UTC
# the distribution's python3 has the packages that `make deps` installs
export PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin:$PATH PYTHONDONTWRITEBYTECODE=1
unset EV_API_KEY EV_DOMAIN EV_API_URL SOURCE_DATE_EPOCH EV_LOG
export TMPDIR=$work/tmp
mkdir -p "$HOME" "$XDG_CACHE_HOME" "$TMPDIR"
chmod 1777 "$TMPDIR"
san=0
case $EV_BUILD in */san) san=1 ;; esac
# faketime preloads a library of its own, ahead of the sanitizer's
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0

finish() {
    local p
    for p in "${pids[@]+"${pids[@]}"}"; do kill -TERM "$p" 2>/dev/null; done
    for p in "${pids[@]+"${pids[@]}"}"; do
        for _ in $(seq 100); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$p" 2>/dev/null
        wait "$p" 2>/dev/null
    done
    rm -rf --one-file-system "$work"
}
trap finish EXIT

# check NAME COMMAND... — the test passes when the command succeeds.
check() {
    local name=$1
    shift
    tap=$((tap + 1))
    if "$@" >"$work/check.out" 2>&1; then
        echo "ok $tap - $name"
    else
        echo "not ok $tap - $name"
        bad=$((bad + 1))
        { echo "failed: $name: $*"; tail -20 "$work/check.out"; } | sed 's/^/# /' >&2
    fi
}
skip() {    # COUNT REASON
    local i
    for ((i = 0; i < $1; i++)); do tap=$((tap + 1)); echo "ok $tap # SKIP $2"; done
}
done_testing() { echo "1..$tap"; [ "$bad" = 0 ]; exit; }

ev() { "$EV_CAGE" "$@"; }
# run NAME COMMAND... — runs, keeps stdout, stderr and the exit code in $out, $err, $rc.
run() {
    "$@" >"$work/run.out" 2>"$work/run.err" </dev/null
    rc=$?
    out=$(tr -d '\0' <"$work/run.out"); err=$(tr -d '\0' <"$work/run.err")
}
exits() { [[ $rc =~ ^($1)$ ]] || { echo "exit code $rc, want $1"; echo "$out"; echo "$err"; return 1; }; }
says() { grep -qE -- "$1" <<<"$err" || { echo "stderr does not say: $1"; echo "$err"; return 1; }; }
tells() { grep -qE -- "$1" <<<"$out$err" || { echo "neither stdout nor stderr says: $1"; echo "$out"; echo "$err"; return 1; }; }
prints() { grep -qE -- "$1" <<<"$out" || { echo "stdout does not say: $1"; echo "$out"; return 1; }; }
# one clear error: exit code, message, and no traceback
fails_with() { exits "$1" && says "$2" && ! grep -q 'stack traceback' <<<"$err"; }

# json FILE-OR-- EXPRESSION — prints a Python expression over the parsed document `d`.
json() { python3 -c 'import json,sys; d=json.load(sys.stdin if sys.argv[1]=="-" else open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; }

# for_user 1000 FILES... — a folder of that user with these files, our binary and its runtime beside it, and
# the kernels; sets $theirs. (The checkout may lie where only its owner may look.)
for_user() {
    local uid=$1
    shift
    theirs=$work/user-$uid
    mkdir -p "$theirs"/{bin,project,home,tmp} && cp "$EV_CAGE" "$EV_BUILD/runtime.cpio" "$theirs/bin/" &&
        cp -r "$kernel_cache" "$theirs/cache" && cp "$@" "$theirs/project/" && chown -R "$uid:$uid" "$theirs"
}
# as_user 1000 COMMAND — in that folder's project; $1 of the shell is the binary.
as_user() {
    setpriv --reuid "$1" --regid "$1" --clear-groups env HOME="$theirs/home" XDG_STATE_HOME="$theirs/home" TMPDIR="$theirs/tmp" \
        XDG_CACHE_HOME="$theirs/cache" bash -c 'cd "$0" && '"$2" "$theirs/project" "$theirs/bin/ev-cage"
}

# hello_archive OUT.tar [MORE JSON ENTRIES] — the static app as a docker-save archive.
hello_archive() {
    make -s -C examples/static hello CC="${CC:-gcc}" || return 1
    cat >"$work/spec.json" <<SPEC
{"config": {"Entrypoint": ["/hello"], "ExposedPorts": {"8008/tcp": {}}, "Env": ["GREETING=hello world"]},
 "layers": [[{"name": "hello", "from": "examples/static/hello", "mode": 493}${2:+, $2}]]}
SPEC
    python3 tests/lib/mkimage.py "$1" "$work/spec.json"
}

# project DIR [init options] — a folder with a cage.toml and a signing pair.
project() {
    local dir=$1
    shift
    mkdir -p "$dir" && (cd "$dir" && ev init --name hello "$@") >"$work/init.out" 2>&1 || { cat "$work/init.out" >&2; return 1; }
}

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# start_dev DIR ARGS... — `ev-cage dev` in the background; sets dev_pid, port; waits until it answers.
start_dev() {
    local dir=$1 i
    shift
    port=$(free_port)
    rm -f "$work/dev.out" "$work/dev.err"       # or the loop below reads what the last one said
    : >"$work/dev.out"; : >"$work/dev.err"
    (cd "$dir" && exec "$EV_CAGE" dev --port "$port" --eif-path enclave.eif "$@") >"$work/dev.out" 2>"$work/dev.err" </dev/null &
    dev_pid=$!
    pids+=("$dev_pid")
    for ((i = 0; i < 300; i++)); do
        kill -0 "$dev_pid" 2>/dev/null || { cat "$work/dev.out" "$work/dev.err" >&2; return 1; }
        grep -q 'healthy' "$work/dev.out" "$work/dev.err" && return 0
        sleep 0.1
    done
    cat "$work/dev.out" "$work/dev.err" >&2
    return 1
}
# family PID — it and every process below it, one a line
family() { echo "$1"; local c; for c in $(pgrep -P "$1"); do family "$c"; done; }
# gone PIDS... — none of them lives (a second's grace)
gone() {
    local i p
    for ((i = 0; i < 20; i++)); do
        p=$(ps -o pid=,stat=,args= -p "$(tr -s ' \n' ',' <<<"$*" | sed 's/,$//')" | grep -v ' Z') || return 0
        sleep 0.1
    done
    echo "still there: $p"
    return 1
}
stop_dev() { kill -"${1:-INT}" "$dev_pid"; wait "$dev_pid"; rc=$?; }
