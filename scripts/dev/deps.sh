#!/bin/sh
# Installs what building and testing needs, by Debian package name. Idempotent: asks dpkg first and
# calls apt only for what is missing. `deps.sh --runtime` leaves out what only tests and lint use.
set -eu

build="gcc make pkg-config libc6-dev liblua5.4-dev libssl-dev libcbor-dev libuv1-dev
libjansson-dev libseccomp-dev zlib1g-dev libcurl4-openssl-dev libarchive-dev libedit-dev
lua5.4 xz-utils ca-certificates"
demo="buildah crun mmdebstrap uidmap procps"
tests="clang libclang-rt-14-dev lua-check python3 python3-cbor2 python3-cryptography openssl
faketime cpio curl strace iproute2 util-linux zstd binutils"

want="$build $demo"
[ "${1:-}" = --runtime ] || want="$want $tests"

missing=
for p in $want; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done

if [ -n "$missing" ]; then
    echo "deps: installing$missing"
    if [ "$(id -u)" != 0 ]; then
        echo "deps: not root: run once as root: apt-get install --no-install-recommends$missing" >&2
        exit 77
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

# The HTTP/1 parser's C sources come in a package whose dependencies (Node.js) nobody needs for
# them, so it is unpacked and not installed.
dir=${EV_THIRD_PARTY:-build/third}
if [ ! -f "$dir/llhttp/llhttp.c" ]; then
    echo "deps: unpacking the llhttp sources of node-llhttp"
    tmp=$(mktemp -d)
    trap 'rm -rf "$tmp"' EXIT
    chmod 755 "$tmp"
    (cd "$tmp" && { apt-get download -qq node-llhttp 2>/dev/null ||
        { apt-get update -qq && apt-get download -qq node-llhttp; } } && dpkg-deb -x ./*.deb x)
    mkdir -p "$dir/llhttp"
    cp "$tmp"/x/usr/share/llhttp/*.c "$tmp"/x/usr/share/include/llhttp/llhttp.h "$dir/llhttp/"
fi
echo "deps: ready"
