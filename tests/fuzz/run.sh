#!/usr/bin/env bash
# Coverage-guided fuzzing of the parsers that meet hostile bytes, FUZZ_S seconds each (60). The corpora that it starts from and leaves
# smaller and better are tests/fuzz/corpus/*.txt; a finding stays in build/fuzz/finding-*. Then, FUZZ_S seconds each: generated manifests,
# which host and device must judge alike, and a search for the message of each kind that costs the authority most.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=build/fuzz
pins=tools/setup/fuzz.txt
seconds=${FUZZ_S:-60}

if ! cmp -s "$pins" "$work/.stamp"; then
    rm -rf "$work"
    .venv/bin/python -m venv "$work"
    "$work/bin/python" -m pip --disable-pip-version-check --no-input install -q --require-hashes -r "$pins"
    cp "$pins" "$work/.stamp"
fi

for name in cbor cose x509; do
    all=$work/$name-all
    best=$work/$name-best
    rm -rf "$all" "$best"
    mkdir -p "$best"
    .venv/bin/python tests/fuzz/corpus.py unpack "$name" "$all"
    "$work/bin/python" tests/fuzz/fuzz.py "$name" "$all" -max_total_time="$seconds" -max_len=1024 \
        -artifact_prefix="$work/finding-$name-" -print_final_stats=1 -verbosity=0
    "$work/bin/python" tests/fuzz/fuzz.py "$name" -merge=1 "$best" "$all" -verbosity=0
    .venv/bin/python tests/fuzz/corpus.py pack "$name" "$best"
done

.venv/bin/python tests/fuzz/manifests.py "$seconds"
.venv/bin/python tests/fuzz/dearest.py "$seconds"
