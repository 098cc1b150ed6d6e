"""Folders on the disk."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Let the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
