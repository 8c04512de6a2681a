#!/bin/bash
# demo.sh [BUILD] — the whole tour on a machine with nothing of ours: base image, init, build, run, an
# attested HTTPS answer. Works in BUILD/demo; run it again and it starts afresh.
#   LAUNCHER=sim|qemu   in the simulator (default), or really booted in QEMU, which is fetched when missing
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:-$top/build}")
demo=$build/demo
launcher=${LAUNCHER:-sim}
case $launcher in
sim) where='the simulator; nothing of it stays when the command ends' ;;
qemu) where='the kernel of the image boots; nothing of it stays when the command ends' ;;
*) echo "demo.sh: unknown LAUNCHER $launcher (sim, qemu)" >&2; exit 64 ;;
esac
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
[ "$launcher" = sim ] || step ev-cage doctor --fix
say "\$ ev-cage dev --launcher $launcher --port 0 --eif-path enclave.eif --exec …    # $where"
ev-cage dev --launcher "$launcher" --timeout 300 --port 0 --eif-path enclave.eif --exec '
    echo
    echo "\$ ev-cage attest --root DEV_ROOT --get /hello   # verifies first, then asks on that very connection"
    ev-cage attest --connect "$EV_CAGE_ADDR" --root "$EV_CAGE_ROOT" --get /hello
'
