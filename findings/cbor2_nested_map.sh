#!/usr/bin/env bash
# cbor2 6.0.0 (Python) decodes a map inside a list as a read-only frozendict, which is no dict; 6.0.1 gives a dict. The input is valid CBOR, made
# by the same library. Whoever admits `cbor2>=6` and asks isinstance(item, dict) fails on 6.0.0 alone. Seen:
#
#   6.0.0 frozendict
#   6.0.1 dict
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
seen=
for version in 6.0.0 6.0.1; do
    "$place/venv/bin/python" -m pip --disable-pip-version-check -q install "cbor2==$version" 2> "$place/pip.log"
    kind=$("$place/venv/bin/python" -c 'import cbor2; print(type(cbor2.loads(cbor2.dumps({"a": [1, {"b": 2}]}))["a"][1]).__name__)')
    echo "$version $kind"
    seen="$seen $version $kind"
done
[ "$seen" = " 6.0.0 frozendict 6.0.1 dict" ]
