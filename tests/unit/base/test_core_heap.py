"""The heap that the code of every device takes has a limit, so that a change shows what it costs.

On the interpreter of `make test-32`, whose words have 32 bits as a board's, with the build for
boards. docs/benchmarks.md says what lies in a board's heap.
"""

import gc
import sys


def in_use():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


loaded, before = "warden" in sys.modules, in_use()

from warden import Device  # noqa: E402, F401  (what it takes is measured)
from warden.hal import store_file  # noqa: E402, F401

TAKEN = in_use() - before

import harness  # noqa: E402

BUILT = "only"
# Bytes. Above it: make the change smaller, load it later, or raise this and say why. Below it by
# more than a kilobyte: lower this.
LIMIT = 57_984


def test_what_every_device_loads_stays_below_its_limit():
    version, words = sys.implementation[1][:2], sys.maxsize >> 31
    if version != (1, 25) or words:
        raise harness.Skipped("only the interpreter of make test-32 is measured")
    harness.check(not loaded, "something loaded the package before")
    print("core and store: %d of %d bytes" % (TAKEN, LIMIT))
    harness.check(TAKEN <= LIMIT, "%d bytes, limit %d" % (TAKEN, LIMIT))
    harness.check(TAKEN > LIMIT - 2048, "%d bytes: lower the limit" % TAKEN)
