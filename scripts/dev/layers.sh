#!/bin/bash
# The layer rule of core/: a file includes only its own folder and folders to the left, and each
# third-party header has its doors. TAP output.
set -u
cd "$(dirname "$0")/../.." || exit 1
n=0 bad=0
report() { n=$((n + 1)); if [ -z "$2" ]; then echo "ok $n - $1"; else bad=1; echo "not ok $n - $1"; echo "$2" | sed 's/^/# /'; fi; }

declare -A may=(
    [base]="base" [codec]="base codec" [crypto]="base codec crypto"
    [nitro]="base codec crypto nitro" [net]="base codec crypto net" [store]="base codec crypto store"
    [svc]="base codec crypto nitro net store svc"
    [role]="base codec crypto nitro net store svc role"
    [script]="base codec crypto nitro net store svc role script"
)
for layer in base codec crypto nitro net store svc role script; do
    [ -d core/$layer ] || continue
    wrong=$(grep -nHE '^ *# *include "' core/$layer/*.[ch] 2>/dev/null | while IFS= read -r line; do
        dir=$(sed -E 's/.*include "([^"\/]*)\/.*/\1/;t;s/.*/./' <<<"$line")
        case " ${may[$layer]} " in *" $dir "*) ;; *) echo "$line" ;; esac
    done)
    report "core/$layer includes only itself and what is left of it" "$wrong"
done

# header pattern → files that may include it
door() {
    local wrong
    wrong=$(grep -rnHE "^ *# *include <($1)" core | grep -vE "^($2):")
    report "<$1> only through its door" "$wrong"
}
door 'lua\.h|lauxlib\.h|lualib\.h' 'core/script/[a-z0-9_]+\.[ch]|core/main\.c'
door 'openssl/' 'core/crypto/[a-z0-9_]+\.[ch]|core/net/tls[a-z_]*\.[ch]'
door 'uv\.h' 'core/net/[a-z0-9_]+\.[ch]'
door 'cbor\.h|cbor/' 'core/codec/cbor\.c'
door 'jansson\.h' 'core/codec/json\.[ch]'
door 'llhttp\.h' 'core/codec/http1\.[ch]'
door 'archive\.h|archive_entry\.h' 'core/codec/archive\.c'
door 'curl/' 'core/net/httpc\.c'
door 'zlib\.h|brotli/' 'core/codec/inflate\.c'
door 'seccomp\.h' 'core/role/sandbox\.c'
door 'histedit\.h|editline/' 'core/script/l_repl\.c'
door 'sqlite3\.h' 'core/store/[a-z0-9_]+\.[ch]'
door 'nghttp2/' 'core/svc/h2conn\.c'
echo "1..$n"
exit $bad
