#!/bin/bash
# A machine without our packages: a minimal Debian 12 tree made with mmdebstrap from this machine's own
# apt sources, entered with fresh mount, pid, ipc and uts namespaces (a plain chroot cannot make user
# namespaces, which a real machine can). In it, on a clone of HEAD: `make demo`, then `make test`.
#   FRESH_TREE=DIR  keeps and reuses the tree   FRESH_RUN="make demo"  runs something else
set -u
cd "$(dirname "$0")/../.." || exit 1
n=0
check() { n=$((n + 1)); if [ "$2" = 0 ]; then echo "ok $n - $1"; else echo "not ok $n - $1"; fi; }
if [ "$(id -u)" != 0 ]; then echo "1..0 # SKIP needs root to make a Debian tree"; exit 0; fi
if ! command -v mmdebstrap >/dev/null; then echo "1..0 # SKIP mmdebstrap is not installed"; exit 0; fi

tree=${FRESH_TREE:-}
if [ -z "$tree" ]; then
    tree=$(mktemp -d)
    trap 'rm -rf --one-file-system "$tree"' EXIT
fi
if [ ! -x "$tree/usr/bin/apt-get" ]; then
    mmdebstrap --variant=minbase --include=make,ca-certificates,git bookworm "$tree" >&2 || { check 'minimal Debian tree' 1; echo "1..$n"; exit 1; }
    rm -rf "$tree/etc/apt"
    cp -a /etc/apt "$tree/etc/apt"
fi
cp /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null
cp /etc/hosts "$tree/etc/hosts" 2>/dev/null
rm -rf "$tree/root/ev-cage"
git clone -q --no-local . "$tree/root/ev-cage" >&2 || exit 1
[ -d ../shared ] && rm -rf "$tree/root/shared" && cp -a ../shared "$tree/root/shared"

inside() {      # COMMAND — as a fresh machine's root would run it
    unshare --mount --pid --ipc --uts --fork --kill-child --propagation private bash -euc '
        tree=$1
        mount --bind "$tree" "$tree"
        mount -t proc proc "$tree/proc"
        mount --rbind /sys "$tree/sys"
        mount --rbind /dev "$tree/dev"
        mount -t tmpfs tmpfs "$tree/tmp"
        mount -t tmpfs tmpfs "$tree/run"
        mkdir -p "$tree/.old"
        cd "$tree"
        pivot_root . .old
        umount -l /.old
        cd /root/ev-cage
        env -i HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CI="${CI:-}" bash -c "$2"
    ' bash "$tree" "$1"
}

if [ -n "${FRESH_RUN:-}" ]; then
    inside "$FRESH_RUN"
    exit
fi
inside 'make demo' >"$tree/demo.log" 2>&1
rc=$?
tail -25 "$tree/demo.log" >&2
check 'make demo ends with exit 0' $rc
grep -q "Hello! I'm writing to you from within an enclave" "$tree/demo.log"; check "the app's answer is on the terminal" $?
grep -q 'attestation: verified' "$tree/demo.log"; check 'attestation: verified' $?
inside 'make test' >"$tree/test.log" 2>&1
rc=$?
tail -60 "$tree/test.log" >&2
check 'make test passes' $rc
echo "1..$n"
