"""What did not change since the release that runs is copied from its slot rather than fetched: a firmware of megabytes beside a new application, for one.
The manifest's digest judges the copy as it judges a download.
"""

from micropython import const

from .slots import scratch

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Generator

_ENOSPC = const(28)


def copy(
    source: "Any", at: int, size: int, file: "Any", sha: "Any"
) -> "Generator[None, None, bool]":
    """Bytes `at` to `size` of a component into the hash, and into the open file where there is one. Closes the source. Yields after each piece. False when
    it is shorter, or can't be read. OSError: can't be written."""
    buffer = scratch()
    try:
        while at < size:
            view = buffer[: min(size - at, len(buffer))]
            try:
                source.seek(at)
                if source.readinto(view) != len(view):
                    return False
            except OSError:
                # As if it ended there: it is fetched instead, or no update without a change to this part would ever be taken again.
                return False
            if file is not None and file.write(view) != len(view):
                raise OSError(_ENOSPC)
            sha.update(view)
            at += len(view)
            yield
        return True
    finally:
        source.close()
