"""Runs pure unit test modules under CPython: `python tests/cpython/run.py test_cbor test_cose`,
from the top of the repository."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "unit", "kit"), os.path.join(ROOT, "lib"), HERE]

import harness  # noqa: E402  (the path must be set first)

if __name__ == "__main__":
    sys.exit(1 if sum(harness.run(name) for name in sys.argv[1:]) else 0)
