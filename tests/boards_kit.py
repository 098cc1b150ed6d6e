"""Read what builds of firmware take from boards/: frozen manifests and partition tables."""

from pathlib import Path
from typing import NamedTuple

SECTOR = 0x1000
APP_ALIGN = 0x10000
FIRST = 0x9000  # behind the table and its own sector
_DATA = ("ota", "phy", "nvs", "coredump", "nvs_keys", "efuse", "undefined", "fat", "spiffs")
MAX_OTA = 16
# Paths that MicroPython's build gives a manifest, and what micropython-lib has.
VARIABLES = ("$(MPY_DIR)", "$(MPY_LIB_DIR)", "$(PORT_DIR)", "$(BOARD_DIR)")
LIBRARY = ("umqtt.simple",)


class Partition(NamedTuple):
    name: str
    kind: str
    subtype: str
    offset: int
    size: int


class Bad(Exception):
    """What the build would refuse, or what would not start."""


def partitions(text: str, flash: int) -> list[Partition]:
    """The rows of a CSV, checked by the rules of ESP-IDF's chapter Partition Tables.

    Offsets are written out. Raises Bad.
    """
    rows: list[Partition] = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.partition("#")[0].split(",")]
        if fields == [""]:
            continue
        if len(fields) not in (5, 6):
            raise Bad(f"not five or six fields: {line}")
        row = Partition(*fields[:3], int(fields[3], 0), int(fields[4], 0))
        _check_row(row)
        end = rows[-1].offset + rows[-1].size if rows else FIRST
        if row.offset < end:
            raise Bad(f"{row.name} begins before {end:#x}")
        if row.name in [one.name for one in rows]:
            raise Bad(f"two partitions {row.name}")
        if row.offset + row.size > flash:
            raise Bad(f"{row.name} ends behind the flash")
        rows.append(row)
    slots = [row.subtype for row in rows if row.kind == "app" and row.subtype != "factory"]
    if slots != [f"ota_{number}" for number in range(len(slots))] or len(slots) > MAX_OTA:
        raise Bad("OTA slots are numbered from ota_0")
    if slots and [row.size for row in rows if row.subtype == "ota"] != [2 * SECTOR]:
        raise Bad("slots need one otadata of two sectors")
    return rows


def _check_row(row: Partition) -> None:
    if not 0 < len(row.name.encode()) <= 15:
        raise Bad(f"{row.name!r} is no name of 1 to 15 bytes")
    if row.kind not in ("app", "data"):
        raise Bad(f"{row.name} has the type {row.kind}")
    if row.kind == "app" and row.subtype != "factory" and not row.subtype.startswith("ota_"):
        raise Bad(f"{row.name} has the subtype {row.subtype}")
    if row.kind == "data" and row.subtype not in _DATA:
        raise Bad(f"{row.name} has the subtype {row.subtype}")
    align = APP_ALIGN if row.kind == "app" else SECTOR
    if row.offset % align or row.size % SECTOR or row.size <= 0:
        raise Bad(f"{row.name} is not aligned")
    if row.subtype == "nvs" and row.size < 3 * SECTOR:
        raise Bad("NVS needs three pages")


def frozen_files(manifest: Path) -> dict[str, Path]:
    """Path in the firmware → file, of what a manifest adds to the board's own modules.

    Runs the manifest as MicroPython's build does (its documentation: Manifest files), except that
    what the build itself brings is only checked for the form. Raises Bad.
    """
    found: dict[str, Path] = {}
    included: list[str] = []

    def include(path: str) -> None:
        if not path.startswith(VARIABLES) or not path.endswith("/manifest.py"):
            raise Bad(f"includes {path}")
        included.append(path)

    def require(name: str) -> None:
        if name not in LIBRARY:
            raise Bad(f"requires {name}")
        found[name.replace(".", "/") + ".py"] = Path()

    def package(name: str, base_path: str = ".", opt: int | None = None) -> None:
        base = (manifest.parent / base_path).resolve()
        for file in sorted((base / name).rglob("*.py")):
            found[file.relative_to(base).as_posix()] = file

    names = {"include": include, "require": require, "package": package}
    try:
        exec(manifest.read_text(), names)
    except (NameError, TypeError) as error:
        raise Bad(f"{manifest}: {error}") from None
    if len(included) != 1:
        raise Bad("the board's own modules are not included, or twice")
    return found
