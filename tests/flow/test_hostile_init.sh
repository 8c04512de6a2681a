#!/bin/bash
# An image whose /init itself means harm (hostile_init.c), in the simulator: what of the host it sees,
# whose root it is, what it can make of the launcher's protocols, and what outlives the launcher.
. "$(dirname "$0")/lib.sh"

"${CC:-gcc}" -static -O1 -D_GNU_SOURCE -o "$work/init" tests/flow/hostile_init.c || exit 1
mkdir -p "$work/bin"
cp "$EV_CAGE" "$work/bin/ev-cage"
hello_archive "$work/app.tar" || exit 1

# image MODE — $work/MODE/enclave.eif, with that program as /init of ramdisk 1.
image() {
    python3 - "$work/init" "$1" "$work/bin/runtime.cpio" <<'PY' || exit 1
import sys
init, mode, out = open(sys.argv[1], "rb").read(), sys.argv[2].encode(), sys.argv[3]
data, ino = b"", 0
def put(name, perm, body=b""):
    global data, ino
    ino += 1
    head = "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x" % (ino, perm, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0)
    one = head.encode() + name.encode() + b"\0"
    one += b"\0" * (-len(one) % 4) + body
    data += one + b"\0" * (-len(one) % 4)
for d in ("dev", "proc", "sys", "run", "tmp"): put(d, 0o40755)
put("init", 0o100755, init)
put("mode", 0o100644, mode)
put("TRAILER!!!", 0)
open(out, "wb").write(data + b"\0" * (-len(data) % 512))
PY
    project "$work/$1" || exit 1
    (cd "$work/$1" && "$work/bin/ev-cage" build --image "$work/app.tar") >"$work/build.out" 2>&1 || { cat "$work/build.out" >&2; exit 1; }
}
image look
image stay

# With a key in the caller's session keyring: keyctl(JOIN_SESSION), add_key, then the command.
cat >"$work/with_key.py" <<'PY'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
machine = {"x86_64": (250, 248), "aarch64": (219, 217)}[os.uname().machine]
libc.syscall(machine[0], 1, None)
libc.syscall(machine[1], b"user", b"ev-cage-test", b"SECRET", 6, -3)
os.execvp(sys.argv[1], sys.argv[1:])
PY
export EV_TEST_SECRET=SECRET
exec 9<"$work/with_key.py"
(cd "$work/look" && timeout 60 python3 "$work/with_key.py" "$work/bin/ev-cage" dev --port 0 --eif-path enclave.eif --exec true) \
    >"$work/out" 2>"$work/err" </dev/null
rc=$?
exec 9<&-
unset EV_TEST_SECRET
saw() { grep -a "cage | $1" "$work/err" || { cat "$work/err"; return 1; }; }
never() { ! grep -aE "cage \| $1" "$work/err"; }
check 'it ran to its end' saw 'done'
check 'its environment is HOME and TERM' bash -c "[ \"\$(grep -a 'cage | env: ' '$work/err' | sort | tr '\n' ' ')\" = 'cage | env: HOME=/ cage | env: TERM=linux ' ]"
check 'five descriptors and no other' saw 'descriptors: 5$'
check "nothing of the caller's keyrings" saw 'keyring: nothing'
check 'no file of the host is open to it' never 'host: .*(OPEN|WORKED)'
check 'no path of the host among its mounts' bash -c "! grep -a 'cage | mounts' '$work/err' | grep -qF -e '$work' -e '$HOME'"
check 'at most 64 listeners' saw 'listeners: 64$'
check 'its processes are bounded' bash -c "n=\$(grep -a 'Max processes' '$work/err' | grep -oE '[0-9]+ +processes' | cut -d' ' -f1); [ -n \"\$n\" ] && [ \"\$n\" -le 16384 ]"
check 'an exit code of 256 is no success' bash -c "[ $rc != 0 ]"
check 'no control character of it reaches the terminal' bash -c "! LC_ALL=C grep -aq \$'[\\001-\\010\\013-\\032\\034-\\037]' '$work/err' && ! grep -aq \$'\\033]' '$work/err'"
check 'colours do' grep -aq $'\033\[31mred' "$work/err"
if [ "$(id -u)" = 0 ]; then
    check 'root inside is nobody outside' bash -c "grep -aq 'cage | ids' '$work/err' && ! grep -aE 'cage \| ids: +0 +0 ' '$work/err'"
    # root of a container whose user namespace has no high ids
    cat >"$work/small.py" <<'PY'
import ctypes, os, sys
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.setgroups([0, 4])
    ctypes.CDLL(None).unshare(0x10000000)
    os.write(w, b"x")
    while open("/proc/self/uid_map").read() == "" or open("/proc/self/gid_map").read() == "": pass
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(r, 1)
for kind in "uid", "gid": open("/proc/%d/%s_map" % (pid, kind), "w").write("0 0 65536")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
    (cd "$work/look" && timeout 60 python3 "$work/small.py" "$work/bin/ev-cage" dev --port 0 --eif-path enclave.eif --exec true) \
        >"$work/out" 2>"$work/err" </dev/null
    check 'in a container with few ids: it ran, or was refused' grep -aqE 'cage \| done|id map' "$work/err"
    check 'in a container with few ids: root inside is not its root' never 'ids: +0 +0 '
    check 'in a container with few ids: nor has it groups' saw 'groups: 0$'
    check 'in a container with few ids: nothing of the host is open to it' never 'host: .*(OPEN|WORKED)'
else
    skip 5 'needs root'
fi

python3 tests/lib/eif.py bomb "$work/look/enclave.eif" "$work/bomb.eif" 1536
run bash -c "cd '$work/look' && timeout 60 '$work/bin/ev-cage' dev --port 0 --eif-path '$work/bomb.eif' --exec true"
check 'a ramdisk that expands to more than the enclave has room for is not written anywhere' tells 'expands to more than'
check 'and nothing of it ran' bash -c "! grep -aq 'descriptors:' '$work/run.err'"

# in a cgroup of the caller's own, as a session of systemd has: nothing of the cage stays in it
for group in /sys/fs/cgroup /sys/fs/cgroup/unified; do
    [ "$(stat -fc %T "$group" 2>/dev/null)" = cgroup2fs ] && mkdir "$group/ev-test-$$" 2>/dev/null && break
done
group=$group/ev-test-$$
if [ -d "$group" ] && command -v setpriv >/dev/null; then
    project "$work/app" >/dev/null && cp -r "$EV_BUILD/runtime.cpio" "$work/bin/runtime.cpio"
    (cd "$work/app" && "$work/bin/ev-cage" build --image "$work/app.tar") >"$work/build.out" 2>&1 || cat "$work/build.out" >&2
    chown -R 65534:65534 "$group" "$work/app" "$XDG_STATE_HOME" "$HOME"
    (cd "$work/app" && echo "$BASHPID" >"$group/cgroup.procs" && exec timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups \
        "$work/bin/ev-cage" dev --port 0 --eif-path enclave.eif --exec 'echo started') >"$work/out" 2>"$work/err" </dev/null
    check 'it ran there' grep -q started "$work/out"
    check 'no cgroup is left' bash -c "! find '$group' -mindepth 1 -type d | grep ."
    find "$group" -depth -type d -exec rmdir {} +
else
    skip 2 'no cgroup of our own'
fi

# the launcher is killed outright; its /init does not want to go
(cd "$work/stay" && exec "$work/bin/ev-cage" dev --port 0 --eif-path enclave.eif) >"$work/out" 2>"$work/err" </dev/null &
launcher=$!
for _ in $(seq 100); do saw staying >/dev/null && break; sleep 0.1; done
victim=$(pgrep -x init -P "$launcher")
check 'it stays' test -n "$victim"
kill -KILL "$launcher"
wait "$launcher" 2>/dev/null
for _ in $(seq 50); do [ -d "/proc/${victim:-0}" ] || break; sleep 0.1; done
check 'it does not outlive the launcher' bash -c "! [ -d /proc/${victim:-0} ]"
[ -d "/proc/${victim:-x}" ] && kill -KILL "$victim"
for _ in $(seq 50); do [ -z "$(ls "$TMPDIR")" ] && break; sleep 0.1; done
check 'nor does the folder' test -z "$(ls "$TMPDIR")"
done_testing
