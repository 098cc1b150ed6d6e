"""Runs one target under atheris: `build/fuzz/bin/python tests/fuzz/fuzz.py cbor FOLDER
libFuzzer-options…`; see run.sh."""

import sys

import atheris

with atheris.instrument_imports(include=["warden"]):
    import targets

if __name__ == "__main__":
    script, name, *options = sys.argv
    # The fuzzer starts itself again to merge, by what it takes for its own name.
    sys.argv = [f"{sys.executable} {script} {name}", *options]
    atheris.Setup(sys.argv, targets.CHECKS[name])
    atheris.Fuzz()
