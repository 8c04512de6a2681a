#!/bin/bash
# demo.sh [BUILD] — the whole tour on a machine with nothing of ours: base image, init, build, run in the
# simulator, an attested HTTPS answer. Works in BUILD/demo; run it again and it starts afresh.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:-$top/build}")
demo=$build/demo
PATH=$build:$PATH
export XDG_STATE_HOME=$demo/state

say() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
step() { say "\$ $*"; "$@"; }

rm -rf "$demo/hello-cage"
mkdir -p "$demo"
say 'The base image: Node.js from Debian packages (a registry would do as well)'
BUILD=$build "$top/examples/base.sh" node

cp -r "$top/examples/hello-cage" "$demo/hello-cage"
cd "$demo/hello-cage"
step ev-cage init --name hello-cage --file ./Dockerfile --healthcheck /health
step ev-cage build
step ev-cage describe --check-layout enclave.eif | head -12
say '$ ev-cage dev --port 0 --eif-path enclave.eif --exec …    # the simulator; nothing of it stays when the command ends'
ev-cage dev --port 0 --eif-path enclave.eif --exec '
    echo
    echo "\$ ev-cage attest --root DEV_ROOT --get /hello   # verifies first, then asks on that very connection"
    ev-cage attest --connect "$EV_CAGE_ADDR" --root "$EV_CAGE_ROOT" --get /hello
'
