"""esptool's libraries without their output, which may name what is written.

They raise FatalError for everything: `guarded` makes it an error of this tool.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import esptool  # type: ignore[import-untyped]
import serial  # type: ignore[import-untyped]
from esptool.bin_image import LoadFirmwareImage  # type: ignore[import-untyped]
from esptool.logger import TemplateLogger, log  # type: ignore[import-untyped]

from warden_host.errors import HostError

DIGEST_BYTES = 32
_SEGMENT_HEAD = 8


class _Quiet(TemplateLogger):  # type: ignore[misc]  # esptool has no types
    """Discard messages; pass progress on."""

    progress: Callable[[int, int], None] | None = None
    installed = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Discard a message."""

    def note(self, message: str) -> None:
        """Discard a message."""

    def warning(self, message: str) -> None:
        """Discard a message."""

    def error(self, message: str) -> None:
        """Discard a message."""

    def stage(self, finish: bool = False) -> None:
        """Show no stages."""

    def progress_bar(self, cur_iter: int, total_iters: int, *_: Any, **__: Any) -> None:
        """Pass the bytes done so far and in all to the caller."""
        if self.progress is not None:
            self.progress(cur_iter, total_iters)

    def set_verbosity(self, verbosity: str) -> None:
        """Stay quiet."""


_QUIET = _Quiet()


@contextlib.contextmanager
def guarded(
    code: str, hint: str = "", progress: Callable[[int, int], None] | None = None
) -> Iterator[None]:
    """Run esptool in the block without output; raise what it raises as an error of this code."""
    if not _QUIET.installed:
        log.set_logger(_QUIET)
        _QUIET.installed = True
    before, _QUIET.progress = _QUIET.progress, progress or _QUIET.progress
    try:
        yield
    except esptool.FatalError as error:
        raise HostError(code, _first_line(error), hint) from None
    except (serial.SerialException, OSError) as error:
        raise HostError(
            "unreachable",
            f"the port does not answer: {_first_line(error)}",
            "look whether the cable holds and the board is in its boot loader, and try again",
        ) from None
    finally:
        _QUIET.progress = before


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def load_image(chip: str, data: bytes, what: str) -> int:
    """Check an image's checksum and digest; return its bytes. Raises bad-firmware."""
    hint = "download the firmware again"
    with guarded("bad-firmware", hint):
        try:
            image = LoadFirmwareImage(chip, data)
        except (struct.error, IndexError, TypeError, ValueError):
            raise HostError("bad-firmware", f"the {what} is no image", hint) from None
        whole = image.checksum == image.calculate_checksum()
        if image.append_digest:
            whole = whole and image.stored_digest == image.calc_digest
        if not whole:
            raise HostError("bad-firmware", f"the {what} is damaged", hint)
        last = max(
            segment.file_offs + _SEGMENT_HEAD + len(segment.data) for segment in image.segments
        )
        digest = DIGEST_BYTES if image.append_digest else 0
        return int((last // 16 + 1) * 16 + digest)
