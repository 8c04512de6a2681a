#!/bin/bash
# Images that mean harm: a ramdisk 2 that carries more than rootfs/ and cage/, names through links,
# mount points that are links. Each is refused or harmless, and nothing outside changes.
. "$(dirname "$0")/lib.sh"
hello_archive "$work/app.tar" || exit 1
project "$work/a" || exit 1
(cd "$work/a" && ev build --image "$work/app.tar") >"$work/o" 2>&1 || { cat "$work/o" >&2; exit 1; }
eif=$work/a/enclave.eif
mkdir "$work/outside"; echo keep >"$work/outside/file"
witness() { find "$work/outside" /etc/passwd /init /proc/sys/kernel/core_pattern -printf '%p %i %s %T@ %l\n' 2>/dev/null; cat "$work/outside/file"; }
witness >"$work/before"

python3 tests/lib/eif.py graft "$eif" "$work/same.eif" '[]'
run ev describe "$work/same.eif" --check-layout
check 'an unchanged copy passes the layout check' exits 0

refuse() {      # NAME SPEC
    python3 tests/lib/eif.py graft "$eif" "$work/bad.eif" "$2" || exit 1
    run ev describe "$work/bad.eif" --check-layout
    check "$1: the layout check refuses it" exits 65
    check "$1: and says what" says 'layout|ramdisk'
    run bash -c "cd '$work/a' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path '$work/bad.eif' --exec 'echo started'"
    check "$1: the simulator does not start it" bash -c "[ $rc != 0 ] && ! grep -q started <<<'$out'"
    witness >"$work/after"
    check "$1: nothing outside changed" cmp "$work/before" "$work/after"
}
refuse 'init in ramdisk 2' '[{"name": "init", "mode": "100755", "data": "#!/bin/sh\nid\n"}]'
refuse 'a library in ramdisk 2' '[{"name": "lib", "mode": "40755"}, {"name": "lib/x.so", "mode": "100755", "data": "x"}]'
refuse 'rootfs is a link' '[{"name": "rootfs", "mode": "120777", "data": "/"}]'
refuse 'cage is a link' '[{"name": "cage", "mode": "120777", "data": "rootfs"}]'
refuse 'a path through a link' "[{\"name\": \"rootfs/x\", \"mode\": \"120777\", \"data\": \"$work/outside\"}, {\"name\": \"rootfs/x/file\", \"mode\": \"100644\", \"data\": \"evil\"}]"
refuse 'an absolute name' "[{\"name\": \"$work/outside/file\", \"mode\": \"100644\", \"data\": \"evil\"}]"
refuse 'dot dot' '[{"name": "rootfs/../../../../../../../tmp/evil", "mode": "100644", "data": "evil"}]'
refuse 'a name twice' '[{"name": "cage/config.json", "mode": "100644", "data": "{}", "twice": true}]'
refuse 'bytes after the trailer' '[{"tail": "070701 more"}]'
for spec in '{"name": "cage/config.json", "remove": true}' '{"name": "cage/config.json", "mode": "100644", "data": "{}"}' \
            '{"name": "cage/config.json", "mode": "120777", "data": "../rootfs/config.json"}'; do
    python3 tests/lib/eif.py graft "$eif" "$work/bad.eif" "[$spec]"
    run bash -c "cd '$work/a' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path '$work/bad.eif' --exec 'echo started'"
    check "configuration missing, empty or a link ($spec): nothing starts" bash -c "[ $rc != 0 ] && [ $rc != 124 ] && ! grep -q started <<<'$out'"
done

# mount points of the app's root that are links: refused, or started without following them
for name in dev proc sys tmp run etc; do
    python3 tests/lib/eif.py graft "$eif" "$work/bad.eif" "[{\"name\": \"rootfs/$name\", \"mode\": \"120777\", \"data\": \"$work/outside\"}]"
    run bash -c "cd '$work/a' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path '$work/bad.eif' --exec 'echo started'"
    witness >"$work/after"
    check "rootfs/$name is a link: harmless" cmp "$work/before" "$work/after"
    check "rootfs/$name is a link: refused or ran" bash -c "[ $rc != 0 ] || grep -q started <<<'$out'"
    python3 tests/lib/eif.py graft "$eif" "$work/bad.eif" "[{\"name\": \"rootfs/$name\", \"mode\": \"100644\", \"data\": \"a file\"}]"
    run bash -c "cd '$work/a' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path '$work/bad.eif' --exec 'echo started'"
    check "rootfs/$name is a file: ends, one way or the other" bash -c "[ $rc != 124 ]"
done
for link in 'dev:/' 'proc:/' 'tmp:../../..' 'etc:/etc' 'cage:/'; do
    hello_archive "$work/l.tar" "{\"name\": \"${link%%:*}\", \"type\": \"link\", \"target\": \"${link#*:}\"}"
    project "$work/l-${link%%:*}"
    run bash -c "cd '$work/l-${link%%:*}' && '$EV_CAGE' build --image '$work/l.tar' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path enclave.eif --exec 'echo started'"
    witness >"$work/after"
    check "an image with ${link/:/ -> }: refused, or harmless as it runs" cmp "$work/before" "$work/after"
    check "an image with ${link/:/ -> }: ends" bash -c "[ $rc != 124 ]"
done

# names are a stranger's bytes, and error messages name them
no_escape() { ! LC_ALL=C grep -q $'[\001-\010\013-\037]' "$work/run.out" "$work/run.err" || { cat -v "$work/run.err"; return 1; }; }
python3 tests/lib/eif.py graft "$eif" "$work/bad.eif" '[{"name": "x\u001b]0;owned\u0007", "mode": "100644", "data": ""}]'
run ev describe "$work/bad.eif" --check-layout
check 'a name with an escape sequence in ramdisk 2: refused' exits 65
check 'and the terminal is not spoken to' no_escape
run bash -c "cd '$work/a' && timeout 60 '$EV_CAGE' dev --port 0 --eif-path '$work/bad.eif' --exec 'echo started'"
check 'nor by the simulator' no_escape
hello_archive "$work/esc.tar" '{"name": "../x\u001b]0;owned\u0007", "data": "x"}'
run bash -c "cd '$work/a' && '$EV_CAGE' build --image '$work/esc.tar'"
check 'a name with an escape sequence in a layer: refused' exits '65|77'
check 'and the terminal is not spoken to either' no_escape
done_testing
