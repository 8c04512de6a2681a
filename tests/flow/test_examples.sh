#!/bin/bash
# The examples, from their Dockerfiles through a real container build: Node, Python, and FROM scratch.
. "$(dirname "$0")/lib.sh"
if ! command -v buildah >/dev/null || [ "$(id -u)" != 0 ]; then
    skip 1 'needs buildah and root'
    done_testing
fi
if [ $san = 1 ]; then
    skip 1 'container builds are not repeated under sanitizers'
    done_testing
fi
for base in node python; do
    BUILD=$top/build examples/base.sh $base >"$work/base.out" 2>&1 || { cat "$work/base.out" >&2; exit 1; }
done
export HOME=/root
make -s -C examples/static hello

try() {     # NAME PATH EXPECTED [init options]
    local name=$1 path=$2 want=$3
    shift 3
    cp -r "examples/$name" "$work/$name"
    rm -f "$work/$name/cage.toml"
    (cd "$work/$name" && ev init --name "$name" "$@") >"$work/o" 2>&1 || cat "$work/o" >&2
    run bash -c "cd '$work/$name' && '$EV_CAGE' build"
    check "$name: built from its Dockerfile" exits 0
    cp "$work/$name/enclave.eif" "$work/first.eif"
    start_dev "$work/$name"
    check "$name: healthy" kill -0 "$dev_pid"
    key=$(json "$XDG_STATE_HOME/ev-cage/dev/identity.json" 'd["api_key"]')
    curl -sk --max-time 20 -H "api-key: $key" "https://127.0.0.1:$port$path" >"$work/body"
    check "$name: $path answers" grep -qF "$want" "$work/body"
}
try hello-cage /hello "Hello! I'm writing to you from within an enclave" --healthcheck /health
key=$(json "$XDG_STATE_HOME/ev-cage/dev/identity.json" 'd["api_key"]')
g() { curl -sk --max-time 60 -H "api-key: $key" "$@"; }
g "https://127.0.0.1:$port/self" >"$work/self"
check 'hello-cage: USER www-data' test "$(json "$work/self" 'd["uid"]')" = 33
check 'hello-cage: WORKDIR /app' test "$(json "$work/self" 'd["cwd"]')" = /app
check 'hello-cage: exec form arguments' test "$(json "$work/self" 'd["argv"]')" = "['/app/index.js']"
g "https://127.0.0.1:$port/headers" >"$work/headers"
check 'hello-cage: the api key does not reach the app' test "$(json "$work/headers" '"api-key" in d')" = False
head -c 30000000 /dev/urandom >"$work/big"
g --data-binary @"$work/big" "https://127.0.0.1:$port/echo" >"$work/big.back"
check 'hello-cage: 30 MB up and down, unchanged' cmp "$work/big" "$work/big.back"
g -H 'transfer-encoding: chunked' --data-binary @"$work/big" "https://127.0.0.1:$port/echo" >"$work/big.back"
check 'hello-cage: the same in chunks' cmp "$work/big" "$work/big.back"
check 'hello-cage: answers stream' test "$(g -N "https://127.0.0.1:$port/ticks" | grep -c data)" = 3
stop_dev INT
(cd "$work/hello-cage" && rm -rf again && mkdir again && cp -r Dockerfile index.js package.json cage.toml cert.pem key.pem again/ && cd again && faketime '+1 day' "$EV_CAGE" build) >"$work/o" 2>&1 || cat "$work/o" >&2
check 'hello-cage: a second container build elsewhere, a day later, gives the same bytes' cmp "$work/first.eif" "$work/hello-cage/again/enclave.eif"
(cd "$work/hello-cage" && "$EV_CAGE" build --from-existing) >"$work/o" 2>&1 || cat "$work/o" >&2
check 'hello-cage: --from-existing gives the same bytes' cmp "$work/first.eif" "$work/hello-cage/enclave.eif"

# COPY . . takes neither the signing key nor what the build itself writes
mkdir "$work/all"; cp examples/hello-cage/index.js examples/hello-cage/package.json "$work/all/"; cp "$work/hello-cage"/{cage.toml,cert.pem,key.pem} "$work/all/"
printf 'FROM localhost/ev-cage-node:12\nCOPY . /app\nENTRYPOINT ["node", "/app/index.js"]\n' >"$work/all/Dockerfile"
run bash -c "cd '$work/all' && mkdir 'o: u' && '$EV_CAGE' build -o 'o: u' && rm -r 'o: u'"
check 'an output folder with a colon and a blank' exits 0
run bash -c "cd '$work/all' && '$EV_CAGE' build && cp enclave.eif '$work/first.eif' && '$EV_CAGE' build"
check 'COPY . .: built twice' exits 0
check 'COPY . .: the second build gives the same bytes' cmp "$work/first.eif" "$work/all/enclave.eif"
python3 tests/lib/eif.py names "$work/all/enclave.eif" 1 | grep '^rootfs/app/' | sort >"$work/names"
check 'COPY . .: no key, no cage.toml, no image in it' test "$(tr '\n' ' ' <"$work/names")" = \
    'rootfs/app/Dockerfile rootfs/app/cert.pem rootfs/app/index.js rootfs/app/package.json '

try python / 'hello from Python'
check 'python: WORKDIR' grep -q '"/srv"' "$work/body"
stop_dev INT
try static / 'hello from a static binary'
stop_dev INT

# an ordinary user without a session, as far as buildah itself can serve one
user() { setpriv --reuid 1000 --regid 1000 --clear-groups env -u XDG_RUNTIME_DIR HOME="$work/u" XDG_STATE_HOME="$work/u/state" XDG_CACHE_HOME="$work/u/cache" "$@"; }
mkdir -p "$work/u/run"; cp -r "$work/static" "$work/u/p"; rm -f "$work/u/p"/*.eif; cp -r "$kernel_cache" "$work/u/cache"; chown -R 1000:1000 "$work/u"; chmod 700 "$work/u/run"
if user env XDG_RUNTIME_DIR="$work/u/run" buildah bud --isolation chroot -q "$work/u/p" >"$work/o" 2>&1; then
    run user bash -c "cd '$work/u/p' && '$EV_CAGE' build"
    check 'an ordinary user without XDG_RUNTIME_DIR builds' exits 0
    check 'the same bytes as root' cmp "$work/static/enclave.eif" "$work/u/p/enclave.eif"
else
    skip 2 "buildah does not build for an ordinary user here: $(tail -1 "$work/o")"
fi

# a broken Dockerfile: the builder's own words and code
mkdir "$work/broken"; cp "$work/static"/{cage.toml,cert.pem,key.pem} "$work/broken/"; cp "$work/broken/cage.toml" "$work/toml"
printf 'FROM scratch\nCOPY nothing-here /x\nENTRYPOINT ["/x"]\n' >"$work/broken/Dockerfile"
run bash -c "cd '$work/broken' && '$EV_CAGE' build"
check 'broken Dockerfile: not zero, and the builder is heard' bash -c "[ $rc != 0 ] && grep -q nothing-here '$work/run.err'"
check 'broken Dockerfile: cage.toml untouched' cmp "$work/toml" "$work/broken/cage.toml"
printf 'FROM scratch\nCOPY Dockerfile /x\n' >"$work/broken/Dockerfile"
run bash -c "cd '$work/broken' && '$EV_CAGE' build"
check 'no ENTRYPOINT or CMD' fails_with 65 'ENTRYPOINT'
# no builder at all
mkdir "$work/nopath"; for t in sh bash env; do ln -s "$(command -v $t)" "$work/nopath/"; done
run env PATH="$work/nopath" bash -c "cd '$work/static' && '$EV_CAGE' build"
check 'no docker, podman or buildah' fails_with 69 'docker|buildah'
# Ctrl-C in the middle of a build
images=$(buildah images -q | sort | md5sum; buildah containers -q | sort | md5sum)
printf 'FROM localhost/ev-cage-node:12\nRUN sleep 30\nCMD ["node"]\n' >"$work/broken/Dockerfile"
(cd "$work/broken" && exec "$EV_CAGE" build) >"$work/o" 2>&1 & pid=$!
pids+=("$pid")
sleep 4; kill -INT $pid; wait $pid; rc=$?
check 'Ctrl-C in a build: 130' exits 130
check 'Ctrl-C in a build: no containers or images of it' test "$(buildah images -q | sort | md5sum; buildah containers -q | sort | md5sum)" = "$images"
check 'Ctrl-C in a build: cage.toml untouched, no files' bash -c "cmp '$work/toml' '$work/broken/cage.toml' && [ -z \"\$(ls -A '$work/broken' | grep -vE '^(Dockerfile|cage.toml|cert.pem|key.pem)$')\" ]"
done_testing
