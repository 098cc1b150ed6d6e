"""What a board is, asked over its REPL, and whether Warden can run on it."""

import re
from dataclasses import dataclass
from typing import Any

from warden_host.boards.connection import Board
from warden_host.chips import chip
from warden_host.errors import HostError
from warden_host.fleet import device_tree

MIN_VERSION = (1, 23)
# Bytes of heap that an empty interpreter has: the agent, its session and a hand-shake take 110 KB.
MIN_HEAP = 120 * 1024
# sys.implementation._mpy: the format's version, of native code, and the processor.
_MPY_VERSION, _MPY_NATIVE = 6, 3
_ARCHITECTURES = (
    "",
    "x86",
    "x64",
    "armv6",
    "armv6m",
    "armv7m",
    "armv7em",
    "armv7emsp",
    "armv7emdp",
    "xtensa",
    "xtensawin",
    "rv32imc",
    "rv64imc",
)
_CHIP_ID = re.compile(r"(?:[0-9a-f]{2}){0,32}")


@dataclass(frozen=True)
class Facts:
    """What a board says of itself. heap, block: bytes. free: blocks. folded: FAT ignores case."""

    version: tuple[int, int, int]
    platform: str
    machine: str
    build: str
    mpy: int
    unique_id: str
    heap: int
    mounted: str
    folded: bool
    block: int
    blocks: int
    free: int
    files: tuple[str, ...]
    modules: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """Return the name that mpy-cross has for the processor, empty where it has none."""
        number = self.mpy >> 10
        return _ARCHITECTURES[number] if number < len(_ARCHITECTURES) else ""


# MODULES: what Warden may use of the firmware, and what replaces umqtt if it is not there.
_FACTS = """
import gc, json, os, sys
from binascii import hexlify
gc.collect()
heap = gc.mem_free()
name = sys.implementation
try:
    from machine import unique_id
    chip = hexlify(unique_id()).decode()
except ImportError:
    chip = ""
mounted = ""
try:
    import vfs
    mounted = type([fs for fs, path in vfs.mount() if path == "/"][0]).__name__
except (ImportError, TypeError, IndexError):
    pass
folded = False
try:
    open("/warden~", "w").close()
    os.stat("/WARDEN~")
    folded = True
except OSError:
    pass
try:
    os.remove("/warden~")
except OSError:
    pass
modules = []
path = sys.path[:]
sys.path[:] = [".frozen"]
for module in MODULES:
    try:
        __import__(module)
        modules.append(module)
    except ImportError:
        pass
sys.path[:] = path
status = os.statvfs("/")
print(json.dumps({
    "version": list(name.version[:3]), "platform": sys.platform,
    "machine": getattr(name, "_machine", ""), "build": getattr(name, "_build", ""),
    "mpy": getattr(name, "_mpy", 0), "unique_id": chip, "heap": heap, "mounted": mounted,
    "folded": folded, "block": status[0], "blocks": status[2], "free": status[3],
    "files": [entry[0] for entry in os.ilistdir("/")], "modules": modules}))
"""
_SHOWN = 80  # characters of a text of the board
_MOST = 2**32 - 1
_NEEDED = ("asyncio", "cryptolib", "hashlib", "tls", "vfs")


def ask(board: Board) -> Facts:
    """Return the facts of a board. Raises board-failed, board-lost."""
    return _read(board.ask(_FACTS.replace("MODULES", repr((*_NEEDED, "umqtt.simple")))))


def _read(answer: dict[str, Any]) -> Facts:
    try:
        facts = Facts(
            version=_version(answer["version"]),
            platform=str(answer["platform"]),
            machine=str(answer["machine"])[:_SHOWN],
            build=str(answer["build"])[:_SHOWN],
            mpy=_number(answer["mpy"], 0),
            unique_id=str(answer["unique_id"]),
            heap=_number(answer["heap"], 0),
            mounted=str(answer["mounted"])[:_SHOWN],
            folded=bool(answer["folded"]),
            block=_number(answer["block"], 1),
            blocks=_number(answer["blocks"], 0),
            free=_number(answer["free"], 0),
            files=tuple(map(str, answer["files"])),
            modules=tuple(map(str, answer["modules"])),
        )
    except (KeyError, TypeError, ValueError):
        raise HostError("board-failed", "the board's answer makes no sense") from None
    if not _CHIP_ID.fullmatch(facts.unique_id):
        raise HostError("board-failed", "the board's number of its chip makes no sense")
    return facts


def _version(value: Any) -> tuple[int, int, int]:
    major, minor, patch = value
    return _number(major, 0), _number(minor, 0), _number(patch, 0)


def _number(value: Any, least: int) -> int:
    if type(value) is not int or not least <= value <= _MOST:
        raise ValueError
    return value


def check(facts: Facts, name: str) -> None:
    """Raise board-unfit where Warden can't run there. name: of the folder in boards/."""
    version = ".".join(map(str, facts.version))
    if facts.version[:2] < MIN_VERSION:
        raise _unfit(
            f"MicroPython {version} is too old: {MIN_VERSION[0]}.{MIN_VERSION[1]} is the first "
            "that Warden runs on",
            "flash a newer MicroPython",
        )
    if not _is_board(facts, name):
        known = facts.build or facts.machine
        raise _unfit(
            f"the firmware is that of another board: {known}, not {name}",
            "name the board that it is, or flash the firmware of this one",
        )
    format_, native = facts.mpy & 0xFF, facts.mpy >> 8 & 3
    if not facts.architecture or (format_, native) != (_MPY_VERSION, _MPY_NATIVE):
        raise _unfit(
            f"the firmware loads no compiled modules of version {_MPY_VERSION}.{_MPY_NATIVE} "
            f"(it says {format_}.{native}, processor {facts.mpy >> 10})",
            "flash a MicroPython that loads .mpy files",
        )
    missing = [module for module in _NEEDED if module not in facts.modules]
    if missing:
        raise _unfit(
            f"the firmware has no module {', '.join(missing)}",
            "flash the full firmware of this board",
        )
    if facts.heap < MIN_HEAP:
        raise _unfit(
            f"{facts.heap:,} bytes of heap are free, and Warden needs {MIN_HEAP:,}",
            "take a board with more memory",
        )
    kind = "VfsFat" if facts.folded else facts.mounted or "VfsLfs2"
    if kind != "VfsLfs2":
        raise _unfit(
            f"the filesystem is {kind.removeprefix('Vfs')}: a power cut can destroy the vault "
            "there, so Warden takes littlefs alone",
            "format it as VfsLfs2 (docs/boards.md), which erases its files",
        )


def check_room(facts: Facts, sizes: list[int], folders: int, spare: int) -> None:
    """Raise board-unfit where files of these sizes don't fit.

    spare: blocks that stay free for the vault
    """
    needed = sum(-(-size // facts.block) for size in sizes) + 2 * folders + spare
    if needed > facts.free:
        raise _unfit(
            f"the filesystem is too small: {needed} blocks of {facts.block:,} bytes are needed, "
            f"{facts.free} of {facts.blocks} are free",
            "remove files of the board that it does not need, or take a board with more flash",
        )


def _is_board(facts: Facts, name: str) -> bool:
    if name.startswith("UNIX"):
        return facts.platform == "linux"
    if facts.build:
        # The build's name is the board's, and a variant after a hyphen.
        return facts.build.partition("-")[0] == name
    # Before 1.25 firmware names its processor alone, as the last word: ESP32C3 for an ESP32-C3.
    hardware = chip.board(device_tree.tree(), name).facts
    return facts.machine.split(" ")[-1] == hardware.label.replace("-", "")


def _unfit(text: str, hint: str) -> HostError:
    return HostError("board-unfit", text, hint)
