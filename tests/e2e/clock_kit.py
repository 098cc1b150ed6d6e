"""A chip's clock that tests set: libfaketime stands for it."""

import os
import time
from pathlib import Path

import pytest

WOKE = "@2021-01-01 00:00:00\n"


def libfaketime() -> Path:
    for pattern in ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1"):
        for found in Path("/").glob(pattern[1:]):
            return found
    pytest.fail("there is no libfaketime: run `make setup`")


def false_clock() -> dict[str, str]:
    """What the device's process needs; the clock's file is its own (see boards/UNIX/board.py)."""
    return os.environ | {
        "LD_PRELOAD": str(libfaketime()),
        "FAKETIME_NO_CACHE": "1",
        # Only the calendar is false: a chip's ticks know nothing of it.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }


def is_today(moment: int) -> bool:
    return abs(moment - time.time()) < 3600
