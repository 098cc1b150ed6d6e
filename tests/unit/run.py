"""Runs one test module on MicroPython: `micropython tests/unit/run.py test_cbor`, from the top of
the repository."""

import os
import sys

HERE = __file__.rsplit("/", 1)[0]
if not HERE.startswith("/"):
    HERE = os.getcwd() + "/" + HERE  # a test may change the folder
# umqtt.simple is no part of the repository: see tools/setup/umqtt.py.
sys.path[:] = [HERE + "/kit", HERE + "/../../lib", HERE + "/../../build/umqtt", ".frozen"]

import harness  # noqa: E402  (the path must be set first)

sys.exit(1 if harness.run(sys.argv[1]) else 0)
