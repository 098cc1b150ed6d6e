"""Media for the three stores under CPython, each with a power that can be cut:
test_stores_model.py lets hypothesis do it.

What a cut leaves: on flash any part of the bits of one program or erase, in any order; in NVS any
of the keys that were not committed yet; of a file any part of what was written to it. FileStore on
littlefs is cut at each flash operation in tests/faults/.
"""

import builtins
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tests" / part) for part in ("cpython", "unit/kit")] + [
    str(REPO / "lib")
]

from board_model import PowerCut, RootKey  # noqa: E402  (the path must be set first)
from nor_model import Dice, Nor  # noqa: E402
from nvs_model import Nvs  # noqa: E402
from warden.hal import store_file  # noqa: E402
from warden.hal.store_flash import FlashStore  # noqa: E402
from warden.hal.store_nvs import NvsStore  # noqa: E402
from warden.vault import Vault  # noqa: E402

__all__ = ["MEDIA", "Medium", "PowerCut", "RootKey", "Vault"]


class Medium:
    """atomic: whether a change of several records is one. part: what counts operations and cuts
    the power."""

    atomic = False
    part: Any

    def store(self) -> Any:
        """The store of a board that has just been switched on."""
        raise NotImplementedError

    def cut_after(self, operations: int, torn: int, seed: int) -> None:
        self.part.operations, self.part.budget, self.part.torn = 0, operations, torn
        self.part.dice = Dice(seed)

    def close(self) -> None:
        pass


class FlashMedium(Medium):
    atomic = True

    def __init__(self, unit: int, sectors: int, sector: int, banks: int) -> None:
        self.unit, self.banks = unit, banks
        self.part = Nor(sectors, sector, unit)

    def store(self) -> FlashStore:
        self.part.power_up()
        return FlashStore(self.part, self.unit, self.banks)


class NvsMedium(Medium):
    def __init__(self) -> None:
        self.part = Nvs(space=1 << 20)

    def store(self) -> NvsStore:
        self.part.power_up()
        return NvsStore("warden", self.part)


class FilePart:
    """Stands between FileStore and the host's files."""

    def __init__(self) -> None:
        self.operations = 0
        self.budget: int | None = None
        self.torn = 0
        self.dice = Dice()
        self.dead = False

    def count_operation(self) -> None:
        if self.dead:
            raise PowerCut
        if self.budget is not None and self.operations >= self.budget:
            self.dead = True
        self.operations += 1

    def step(self, work: Any, *arguments: Any) -> Any:
        """One that happens or doesn't."""
        self.count_operation()
        if self.dead and self.torn < 8:
            raise PowerCut
        result = work(*arguments)
        if self.dead:
            raise PowerCut
        return result

    def rename(self, one: str, two: str) -> None:
        self.step(os.rename, one, two)

    def remove(self, path: str) -> None:
        self.step(os.remove, path)

    def open(self, path: str, mode: str = "r") -> Any:
        if "w" not in mode:
            return builtins.open(path, mode)
        return FileHandle(self, self.step(builtins.open, path, mode))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class FileHandle:
    def __init__(self, part: FilePart, file: Any) -> None:
        self.part, self.file = part, file

    def __enter__(self) -> "FileHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def close(self) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        self.part.count_operation()
        if self.part.dead:
            self.file.write(data[: len(data) * abs(self.part.torn) // 8])
            raise PowerCut
        self.file.write(data)


class FileMedium(Medium):
    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.part = FilePart()

    def store(self) -> store_file.FileStore:
        # MicroPython's `vfs` as on firmware that can't list its mounts.
        sys.modules["vfs"] = types.ModuleType("vfs")
        sys.modules["vfs"].mount = self.mount  # type: ignore[attr-defined]
        self.part.budget, self.part.dead = None, False
        store_file.os, store_file.open = self.part, self.part.open  # type: ignore[attr-defined]
        return store_file.FileStore(self.folder + "/vault")

    @staticmethod
    def mount() -> None:
        raise TypeError

    def close(self) -> None:
        store_file.os = os  # type: ignore[attr-defined]
        del store_file.open  # type: ignore[attr-defined]
        del sys.modules["vfs"]
        shutil.rmtree(self.folder)


MEDIA = {
    "flash": lambda: FlashMedium(16, 4, 1024, 2),
    "flash, rp2": lambda: FlashMedium(256, 12, 2048, 3),
    "nvs": NvsMedium,
    "file": FileMedium,
}
