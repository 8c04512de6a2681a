#!/bin/bash
# make lint: layers, luacheck, line length, file size, unsafe calls, leftovers. Prints each finding.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
finding() { [ -z "$2" ] || { bad=1; echo "lint: $1"; echo "$2" | sed 's/^/    /'; }; }

ours() { git ls-files -- "$@" | xargs -r ls -1d 2>/dev/null; }

finding 'layer rule' "$(scripts/dev/layers.sh | grep -A8 '^not ok')"
finding 'lines over 120 columns' "$(ours 'core/*.[ch]' 'core/**/*.[ch]' 'tests/*.[ch]' 'lua/**/*.lua' 'scripts/*.lua' |
    grep -v '^tests/golden' | xargs -r awk 'length($0) > 120 { print FILENAME ":" FNR }')"
finding 'files over 700 lines' "$(ours '*.c' '*.h' '*.lua' '*.sh' '*.py' | grep -v '^tests/golden' |
    xargs -r wc -l | awk '$2 != "total" && $1 > 700 { print $2 " (" $1 ")" }')"
finding 'tabs or trailing blanks' "$(ours '*.c' '*.h' '*.lua' '*.sh' | grep -v '^tests/golden' | xargs -r grep -nP '\t|[ ]+$' | head -20)"
finding 'functions that have no bound' "$(ours 'core/*.[ch]' 'core/**/*.[ch]' | xargs -r grep -nE '\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|system|popen)\(')"
finding 'unfinished work' "$(ours core lua scripts plugins examples | grep -v '^scripts/dev/lint.sh$' | xargs -r grep -nwE 'TODO|FIXME|XXX')"
finding 'absolute path of a machine' "$(git ls-files | grep -v '^scripts/dev/lint.sh$' | xargs -r grep -nIE '/work/(main|shared)|/tmp/wt' | head)"
finding 'headers without a guard' "$(ours 'core/**/*.h' | while read -r f; do grep -q '^#ifndef EV_' "$f" || echo "$f"; done)"
finding 'C files without a header comment' "$(ours 'core/**/*.[ch]' core/main.c | while read -r f; do head -1 "$f" | grep -q '^/\*' || echo "$f"; done)"
if command -v luacheck >/dev/null; then
    finding 'luacheck' "$(ours 'lua/**/*.lua' 'scripts/*.lua' 'scripts/dev/*.lua' 'plugins/*.lua' 'tests/lua/*.lua' |
        xargs -r luacheck --std lua54 --no-color --codes --max-line-length 120 --formatter plain -q 2>&1 | grep -E '\([WE][0-9]+\)' | head -40)"
else
    echo 'lint: luacheck is not installed (make deps)'
fi
if command -v sh >/dev/null; then
    finding 'shell syntax' "$(ours '*.sh' .ci/run | while read -r f; do bash -n "$f" 2>&1; done)"
fi
[ $bad = 0 ] && echo 'lint: clean'
exit $bad
