"""Paths of the device's own files: beside this package in a checkout, inside it in a wheel."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from warden_host.errors import HostError


@dataclass(frozen=True)
class Tree:
    """The folder that holds lib, firmware and boards."""

    root: Path

    @property
    def library(self) -> Path:
        return self.root / "lib" / "warden"

    @property
    def firmware(self) -> Path:
        return self.root / "firmware"

    def board(self, name: str) -> Path:
        """Return a board's folder; raises bad-argument for an unknown board."""
        boards = self.root / "boards"
        known = sorted(path.parent.name for path in boards.glob("*/board.py"))
        if name not in known:
            raise HostError(
                "bad-argument", f"there is no board {name!r}", "known boards: " + ", ".join(known)
            )
        return boards / name

    @property
    def start(self) -> Path:
        """Return the simulated device's start program, for a chip's ROM and first boot stage."""
        return self.root / "boards" / "UNIX" / "_boot.py"


def tree() -> Tree:
    """Return the device's files; raises tree-missing."""
    here = Path(__file__).resolve().parents[1]
    for root in (here / "_device", here.parents[1]):
        if (root / "lib" / "warden" / "errors.py").is_file() and (root / "firmware").is_dir():
            return Tree(root)
    raise HostError(
        "tree-missing", "the device's files are not there", "install warden again, from its wheel"
    )


def umqtt() -> Path:
    """Return the folder that holds simple.py; raises tree-missing."""
    given = os.environ.get("WARDEN_UMQTT")
    root = tree().root
    candidates = [Path(given)] if given else [root / "umqtt", root / "build" / "umqtt"]
    for folder in candidates:
        for found in (folder, folder / "umqtt"):
            if (found / "simple.py").is_file():
                return found
    raise HostError(
        "tree-missing",
        "umqtt.simple is not there",
        "run `make setup`, or name the folder that holds simple.py in WARDEN_UMQTT",
    )


def micropython() -> str:
    """Return the path of MicroPython's unix port; raises micropython-missing."""
    given = os.environ.get("MICROPYTHON")
    if given:
        found = shutil.which(given)
    else:
        beside = Path(sys.executable).parent
        found = shutil.which("micropython", path=str(beside)) or shutil.which("micropython")
    if found is None:
        raise HostError(
            "micropython-missing",
            f"{given or 'micropython'} can't be run",
            "run `make setup`, or name the unix port's binary in MICROPYTHON",
        )
    return found
