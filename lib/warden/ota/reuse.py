"""Hash and copy what the flash holds of an image: what a cut download left, and what did not
change since the release that runs, such as a firmware of megabytes beside a new application.

The manifest's digest decides on a copy as on a download.
"""

from micropython import const

from .slots import make_buffer

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Generator

_ENOSPC = const(28)


def copy(
    source: "Any", at: int, size: int, file: "Any", sha: "Any"
) -> "Generator[bool, None, bool]":
    """Hash bytes `at` to `size` of an open file, and write them to `file` unless that is None.

    source: is closed at the end
    Yields: True after each piece
    Returns: False where the source is shorter, or can't be read; the image is then fetched, or no
      update without a change to this part could ever be installed again
    Raises: OSError: can't be written.
    """
    buffer = make_buffer()
    try:
        while at < size:
            view = buffer[: min(size - at, len(buffer))]
            try:
                source.seek(at)
                if source.readinto(view) != len(view):
                    return False
            except OSError:
                return False
            if file is not None and file.write(view) != len(view):
                raise OSError(_ENOSPC)
            sha.update(view)
            at += len(view)
            yield True
        return True
    finally:
        source.close()
