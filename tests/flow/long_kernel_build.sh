#!/bin/bash
# `ev-cage kernel build`: our own kernel from the distribution's source package. Minutes of work, so the shared
# kernel cache keeps it, by what it was built from; EV_KERNEL_AGAIN=1 builds it a second time and compares.
. "$(dirname "$0")/lib.sh"
[ "$san" = 0 ] || { skip 1 'sanitizer build: the same kernel again'; done_testing; }
apt-cache show linux-source-6.12 >/dev/null 2>&1 || { skip 1 'no linux-source-6.12 among the packages'; done_testing; }

# What is built must not become every other test's kernel: it stays in a cache of its own.
own_cache=$top/build/kernel-own
mkdir -p "$own_cache"
XDG_CACHE_HOME=$own_cache run ev kernel build
check 'kernel build ends with 0' exits 0
kernel=$(tail -1 <<<"$out")
[ "$rc" = 0 ] || done_testing
dir=$(dirname "$kernel")
check 'it prints the path of a bzImage' bash -c "head -c 0x206 '$kernel' | tail -c 4 | grep -q HdrS || file '$kernel' | grep -q bzImage"
check 'it has no modules' bash -c "[ -e '$dir/modules.list' ] && [ ! -s '$dir/modules.list' ]"
check "it is small ($(stat -c %s "$kernel") bytes)" test "$(stat -c %s "$kernel")" -lt 6000000
for option in NSM VIRTIO_MMIO_CMDLINE_DEVICES VIRTIO_VSOCKETS SECCOMP_FILTER USER_NS STACKPROTECTOR_STRONG RANDOMIZE_BASE \
              LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY; do
    check "$option is built in" grep -qx "CONFIG_$option=y" "$dir/config"
done
for option in MODULES PCI ACPI BLOCK BPF_SYSCALL IO_URING DEVMEM KEXEC NETFILTER; do
    check "$option is not" bash -c "! grep -q '^CONFIG_$option=' '$dir/config'"
done
start=$SECONDS
XDG_CACHE_HOME=$own_cache run ev kernel build
check 'the same is not built twice' test "$rc" = 0 -a $((SECONDS - start)) -lt 20
if [ -n "${EV_KERNEL_AGAIN:-}" ]; then
    sum=$(sha256sum <"$kernel")
    XDG_CACHE_HOME=$own_cache run ev kernel build --force
    check 'built again, the same bytes' test "$(sha256sum <"$kernel")" = "$sum"
fi

hello_archive "$work/app.tar" && project "$work/p"
run bash -c "cd '$work/p' && '$EV_CAGE' build --image '$work/app.tar' --kernel '$kernel'"
check 'an image with it' exits 0
check 'without a warning' bash -c "! grep -q warning <<<'$err'"
check "under 16 MiB ($(stat -c %s "$work/p/enclave.eif") bytes)" test "$(stat -c %s "$work/p/enclave.eif")" -lt $((16 << 20))
start_dev "$work/p"
check 'the image runs in the simulator' kill -0 "$dev_pid"
stop_dev

# --- really booted, where there is a QEMU for it (tests/flow/long_qemu.sh fetches one)
qemu=${EV_QEMU:-$top/build/qemu-cache/ev-cage/qemu/root}
if [ -e "$qemu" ] && ev dev --help | grep -q -- --launcher; then
    run bash -c "cd '$work/p' && timeout 300 '$EV_CAGE' dev --launcher qemu --no-kvm --qemu '$qemu' --eif-path enclave.eif \
        --timeout 200 --port $(free_port) --exec 'curl -sk --connect-to ::\$EV_CAGE_ADDR -H \"api-key: \$EV_API_KEY\" \$EV_CAGE_URL/hello'"
    check 'it boots, with NSM and vsock' exits 0
    check 'and the app answers' prints 'hello from a static binary'
    check 'no module is loaded' bash -c "! grep -q 'modules loaded' '$work/run.err'"
    grep -E '^Booted' "$work/run.err" | sed 's/^/# /'
else
    skip 3 'no QEMU 11 here'
fi
done_testing
