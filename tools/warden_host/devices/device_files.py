"""The files of a simulated device: the package, boot.py and main.py, its board and application."""

import shutil
from pathlib import Path

from warden_host.errors import HostError
from warden_host.fleet import device_tree
from warden_host.fleet.board_file import BoardFile
from warden_host.release import image


def write_files(
    tree: device_tree.Tree, home: Path, board: BoardFile, app_source: Path | None, slots: bool
) -> None:
    """Write home/root, the device's "/", and home/fuses, its stand-in for eFuses, both new.

    app_source: app.py or a folder; None for the example. slots: whether it gets updates.
    """
    if home.exists():
        shutil.rmtree(home)
    root = home / "root"
    library = root / "lib"
    home.mkdir(mode=0o700, parents=True)
    (home / "fuses").mkdir(mode=0o700)
    library.mkdir(parents=True)
    _copy_package(tree.library, library / "warden")
    _copy_package(device_tree.umqtt(), library / "umqtt")
    (library / "board.py").write_text((board if slots else board.without_slots()).text)
    for name in ("boot.py", "main.py"):
        source = tree.firmware / name
        if not source.is_file():
            raise HostError("tree-missing", f"firmware/{name} is not there")
        shutil.copyfile(source, root / name)
    (root / "app").mkdir()
    if app_source is None:
        example = tree.root / "examples" / "relay" / "app.py"
        app_source = example if example.is_file() else None
    if app_source is not None:
        if app_source.is_dir():
            _copy_application(app_source, root / "app", "")
        elif app_source.is_file():
            (root / "app" / "app.py").write_bytes(image.content(app_source, app_source.name))
        else:
            raise HostError(
                "bad-argument",
                f"there is no application at {app_source}",
                "name app.py, or a folder with it",
            )


def _copy_package(source: Path, target: Path) -> None:
    """Copy a package of our own. Unlike shutil's copytree() it ends at the first OSError."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__":
                _copy_package(path, target / path.name)
        elif path.suffix != ".pyc":
            shutil.copyfile(path, target / path.name)


def _copy_application(source: Path, target: Path, inside: str) -> None:
    """Copy what a release of the same folder would hold. Raises image-failed."""
    for path, shown, is_folder in image.entries(source, inside):
        if is_folder:
            (target / path.name).mkdir()
            _copy_application(path, target / path.name, shown + "/")
        else:
            (target / path.name).write_bytes(image.content(path, shown))
