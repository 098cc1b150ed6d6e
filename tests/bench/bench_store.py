"""What the vault costs its flash: counts on a model of raw NOR flash that refuses what a chip
can't do, the device's own code running.

64 KB in 4 KB sectors, two banks, 50 records of 32 bytes; one of them is replaced again and again.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "cpython"), str(TESTS / "unit" / "kit"), str(TESTS.parent / "lib")]

from board_model import RootKey  # noqa: E402  (the path must be set first)
from measure_kit import row  # noqa: E402
from nor_model import Nor  # noqa: E402
from warden.hal.store_flash import FlashStore  # noqa: E402
from warden.vault import Vault  # noqa: E402

_WRITES = 30_000
_SECTORS, _SECTOR = 16, 4096
_RECORDS = 50


def provisioned(unit: int) -> tuple[Nor, Vault]:
    part = Nor(_SECTORS, _SECTOR, unit)
    vault = Vault(FlashStore(part, unit), RootKey())
    vault.create()
    records = {f"record-{number}": bytes(32) for number in range(_RECORDS)}
    vault.commit(records, {"boot": 1, "time": 1_800_000_000})
    return part, vault


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    for unit in (16, 256):
        part, vault = provisioned(unit)
        part.erases = [0] * _SECTORS
        most = 0
        total = -part.programs
        for number in range(_WRITES):
            programs, erases = part.programs, sum(part.erases)
            vault.put(f"record-{number % _RECORDS}", number.to_bytes(32, "big"))
            if sum(part.erases) == erases:
                most = max(most, part.programs - programs)
        total += part.programs
        erased = f"{unit}-byte units"
        yield row(
            f"flash programs of a 32-byte put, {erased}",
            most,
            "programs at most",
            most=3,
        )
        yield row(f"the same with all collecting, {erased}", total / _WRITES, "programs a put")
        yield row(
            f"erases in {_WRITES:,} puts of 32 bytes, {erased}", sum(part.erases), "sectors erased"
        )
        spread = max(part.erases) - min(part.erases)
        yield row(
            f"most and least worn sector, {erased}",
            f"{max(part.erases):,} and {min(part.erases):,}",
            "erases",
            target="≤ 1 apart",
            ok=spread <= 1,
        )
        part.reads = [0] * _SECTORS
        Vault(FlashStore(part, unit), RootKey()).open()
        yield row(
            f"opening a vault of {_RECORDS} records, {erased}",
            max(part.reads),
            "reads of a sector",
            target="once each",
            ok=set(part.reads) == {1},
        )
