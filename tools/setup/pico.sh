#!/usr/bin/env bash
# Runs tests/pico on an emulated Pico W: `make test-pico FIRMWARE=file.uf2`, where the file is MicroPython's RPI_PICO_W firmware.
#
#   PICO_PYTHON=…   an interpreter that has what tools/setup/pico.txt names, instead of build/pico/venv
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${FIRMWARE:-}" ]; then
    echo "test-pico: left out, no firmware: FIRMWARE=file.uf2 names an RPI_PICO_W build of MicroPython"
    exit 0
fi
if [ -z "${PICO_PYTHON:-}" ]; then
    place=build/pico/venv
    PICO_PYTHON=$PWD/$place/bin/python
    if ! cmp -s tools/setup/pico.txt $place/stamp; then
        rm -rf $place
        "${PYTHON:-python3}" -m venv $place
        "$PICO_PYTHON" -m pip --disable-pip-version-check -q install --require-hashes -r tools/setup/pico.txt
        cp tools/setup/pico.txt $place/stamp
    fi
fi
export FIRMWARE PICO_PYTHON
exec .venv/bin/python -m pytest -n 0 -rA tests/pico "$@"
