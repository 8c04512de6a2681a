#!/bin/bash
# The containment and PID 1 on a real kernel, in QEMU without acceleration: no user namespace, the
# kernel's own root, a real uid 0. First the hostile app, then our runtime ramdisk as it is, which finds
# no NSM there and must say so and end at once, then a built image with the kernel's modules in ramdisk 1.
# (A cage with its devices is the QEMU launcher's.)
. "$(dirname "$0")/lib.sh"
[ "$san" = 0 ] || { skip 1 'sanitizer build: too slow without acceleration'; done_testing; }

kernel=$(ev kernel fetch 2>"$work/kernel.err")
[ -n "$kernel" ] || { skip 1 'no kernel could be fetched'; done_testing; }

# Debian's QEMU, unpacked and not installed, through its own loader; or one that is installed.
if command -v qemu-system-x86_64 >/dev/null; then
    qemu=(qemu-system-x86_64)
elif timeout 600 mmdebstrap --variant=extract --include=qemu-system-x86,libc6 bookworm "$work/q" >"$work/q.log" 2>&1; then
    lib=$work/q/usr/lib/x86_64-linux-gnu
    export QEMU_MODULE_DIR=$lib/qemu
    qemu=("$work/q/lib64/ld-linux-x86-64.so.2" --library-path "$lib:$work/q/lib/x86_64-linux-gnu:$lib/pulseaudio"
        "$work/q/usr/bin/qemu-system-x86_64" -L "$work/q/usr/share/qemu" -L "$work/q/usr/share/seabios")
else
    skip 1 'no QEMU: none installed, none could be fetched'
    done_testing
fi

# boot RAMDISK [KERNEL OPTIONS] — the console's text to $work/console, the seconds it took to $took.
boot() {
    local start=$SECONDS
    rm -f "$work/console"
    timeout 300 "${qemu[@]}" -nodefaults -display none -no-reboot -accel tcg -cpu max -m 800 -smp 1 -M microvm,acpi=off \
        -device virtio-rng-device -kernel "$kernel" -initrd "$1" -serial "file:$work/console" -append 'reboot=t panic=120 console=ttyS0 random.trust_cpu=on '"${2:-}" \
        >"$work/qemu.out" 2>&1 </dev/null
    rc=$?
    took=$((SECONDS - start))
}

init=$EV_BUILD/unit/test_contain r=$work/root
mkdir -p "$r"/{dev,proc,sys,run,tmp,cage,rootfs/{bin,tmp,etc,run}}
cp "$init" "$r/init" && cp "$init" "$r/rootfs/bin/probe"
for f in $(ldd "$init" | grep -o '/[^ ]*'); do
    for d in "$r" "$r/rootfs"; do mkdir -p "$d$(dirname "$f")" && cp -L "$f" "$d$f"; done
done
cat >"$r/cage/config.json" <<'JSON'
{"api_key_auth":false,"app":{"argv":["probe","--probe"],"env":[],"user":"","workdir":"/work"},"app_uuid":"a","debug":true,
"healthcheck":null,"hosts":["h"],"key_digests":[],"name":"probe-cage","port":8008,"team_uuid":"t","tls_termination":true,
"uuid":"u","version":1}
JSON
printf '62696e2f70726f6265\tsecurity.capability\t0100000200040000000000000000000000000000\n' >"$r/cage/xattrs"
(cd "$r" && find . | sort | cpio -o -H newc --quiet) >"$work/ramdisk.cpio"

boot "$work/ramdisk.cpio"
n=0
while IFS= read -r line; do
    case $line in
    'ok '*'probe:'*) check "real kernel, ${line#*probe: }" true; n=$((n + 1)) ;;
    'not ok '*'probe:'*) check "real kernel, ${line#*probe: }" false; n=$((n + 1)) ;;
    esac
done < <(tr -d '\r' <"$work/console")
check 'more than ninety checks were made' test "$n" -gt 90
check 'the app ended with 0' grep -q 'end of the test: 0 0' "$work/console"
check 'the kernel did not panic' bash -c "! grep -qi 'panic - ' '$work/console'"
[ "$n" -gt 90 ] || tail -30 "$work/console" >&2

boot "$EV_BUILD/runtime.cpio"
check 'the runtime without an NSM says so' grep -q 'enclave: nsm: there is no /dev/nsm' "$work/console"
check 'and restarts at once, without a panic' bash -c "grep -q 'reboot: machine restart' '$work/console' && ! grep -qi 'panic - ' '$work/console'"
check "in seconds ($took)" test "$took" -lt 60

# --- modules
list=$(dirname "$kernel")/modules.list
check 'the kernel came with modules' grep -q '^00-vmmio_cmdline.ko' "$list"
hello_archive "$work/app.tar" && project "$work/p"
run bash -c "cd '$work/p' && '$EV_CAGE' build --image '$work/app.tar' --kernel '$kernel'"
check 'an image with them' exits 0
mkdir "$work/b" && python3 tests/lib/eif.py boot "$work/p/enclave.eif" "$work/b"
boot "$work/b/initrd" 'loglevel=8 dyndbg="file drivers/base/dd.c +p"'
check 'all modules are loaded' grep -q "enclave: $(wc -l <"$list") kernel modules loaded" "$work/console"
check 'the device of the command line has its driver' grep -q 'virtio-mmio.0: .*bound' "$work/console"
check 'vsock is there' grep -q 'Registered PF_VSOCK' "$work/console"
check 'only the NSM is missing' grep -q 'enclave: nsm: there is no /dev/nsm' "$work/console"
check 'and it restarts at once' grep -q 'reboot: machine restart' "$work/console"

mkdir -p "$work/k/modules" && cp "$(dirname "$kernel")/"{vmlinuz,config} "$work/k/"
head -c 5000 "$(dirname "$kernel")/modules/02-nsm.ko" >"$work/k/modules/00-nsm.ko"
echo "00-nsm.ko $(sha384sum "$work/k/modules/00-nsm.ko" | cut -d' ' -f1)" >"$work/k/modules.list"
run bash -c "cd '$work/p' && '$EV_CAGE' build --image '$work/app.tar' --kernel '$work/k/vmlinuz' --update-runtime"
check 'an image with a broken module' exits 0
python3 tests/lib/eif.py boot "$work/p/enclave.eif" "$work/b"
boot "$work/b/initrd"
check 'a module that the kernel refuses is named' grep -q 'enclave: modules: 00-nsm.ko: the kernel does not take it' "$work/console"
check 'and that is the end, without a panic' bash -c "grep -q 'reboot: machine restart' '$work/console' && ! grep -qi 'panic - ' '$work/console'"
done_testing
