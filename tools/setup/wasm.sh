#!/usr/bin/env bash
# Runs the pure modules of tests/unit on MicroPython's WebAssembly port of the oldest version that Warden promises and of the newest one:
# 32-bit words. `WASM="1.24.1 1.27.0" tools/setup/wasm.sh` names others. The packages come from npm into build/wasm.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=build/wasm
name=@micropython/micropython-webassembly-pyscript
# Version and SHA-256 of its package.
known="1.23.0 7cff778a928496d936cf2c5b49b1dd3e18713a4a1894cd9ef851ee001b4a39b5
1.24.1 20684f51c966d23b107e1c74d4ccdd74ae56755f0450141ae8df8801b313de27
1.27.0 303919763c8ebfe5923b9da66226c20dce44ad72b604b225fb39338ea15367af
1.29.0-6 416fd43c3ff9c60c871e520cda90e725ad866339b5f59668ef79388330454444"

if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
    echo "test-wasm: left out, this machine has no Node with npm"
    exit 0
fi
# Not here: codes and machine want SHA-1, stores and stores_damage littlefs, which this port lacks; the last three take minutes.
modules=$(grep -l '^PURE' tests/unit/*/test_*.py | xargs -n 1 basename -s .py \
    | grep -vxE 'test_(codes|machine|stores|stores_damage|stores_wiped|vault_attacks|vault_killed)')

fetch() {
    local version=$1 wanted
    wanted=$(awk -v version="$version" '$1 == version { print $2 }' <<< "$known")
    [ -f "$place/$version/.stamp" ] && return
    rm -rf "${place:?}/$version"
    mkdir -p "$place/$version"
    (cd "$place/$version" && npm pack --silent "$name@$version" > /dev/null 2> npm.log) || return
    if [ -n "$wanted" ] && [ "$(sha256sum < "$place/$version"/*.tgz | cut -c1-64)" != "$wanted" ]; then
        echo "test-wasm: $name $version is not the package that was tried" >&2
        exit 1
    fi
    tar xzf "$place/$version"/*.tgz -C "$place/$version"
    touch "$place/$version/.stamp"
}

pids=
for version in ${WASM:-1.23.0 1.29.0-6}; do
    if ! fetch "$version"; then
        echo "test-wasm: left out, npm does not give $name $version"
        continue
    fi
    # shellcheck disable=SC2086  (a list of words)
    node tests/wasm/run.mjs "$place/$version/package" $modules > "$place/$version.log" 2>&1 &
    pids="$pids $!:$version"
done
status=0
for pair in $pids; do
    if wait "${pair%%:*}"; then
        echo "MicroPython ${pair#*:} (WebAssembly): $(grep -c '^ok' "$place/${pair#*:}.log") passed"
    else
        status=1
        echo "MicroPython ${pair#*:} (WebAssembly) failed; the whole log is $place/${pair#*:}.log"
        grep -A 12 '^FAIL' "$place/${pair#*:}.log" | head -60 || true
    fi
done
exit $status
