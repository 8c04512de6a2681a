#!/bin/bash
# base.sh node|python — makes the image localhost/ev-cage-NAME:12 from Debian packages, for machines
# where no container registry can be reached. Idempotent: the tar is kept in BUILD/base and the image
# in the container store of whoever runs this. Same packages, same bytes.
#   BUILD=DIR   where the tar is kept (default: build beside this folder)
set -euo pipefail
name=${1:?usage: base.sh node|python}
case $name in
node) packages=nodejs,ca-certificates ;;
python) packages=python3,ca-certificates ;;
*) echo "base.sh: unknown base $name (node, python)" >&2; exit 64 ;;
esac
build=${BUILD:-$(cd "$(dirname "$0")/.." && pwd)/build}
image=localhost/ev-cage-$name:12
tar=$build/base/$name.tar
export SOURCE_DATE_EPOCH=0

if buildah inspect --type image "$image" >/dev/null 2>&1; then
    echo "base: $image is there"
    exit 0
fi
mkdir -p "$build/base"
if [ ! -s "$tar" ]; then
    echo "base: making $image from Debian packages (about a minute)"
    mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        bookworm "$tar.part"
    mv "$tar.part" "$tar"
fi
c=$(buildah from scratch)
trap 'buildah rm "$c" >/dev/null 2>&1 || true' EXIT
buildah add -q "$c" "$tar" / >/dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$c"
buildah commit -q --timestamp 0 "$c" "$image" >/dev/null
echo "base: $image is ready"
