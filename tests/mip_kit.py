"""What mip installs from, and a stand-in for a device that mpremote's installer writes to."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve a folder's files by HTTP on this machine; the port."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Files, directory=folder)
    ) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made.server_port
        finally:
            made.shutdown()
            thread.join()


class Installed:
    """files: path on the device → bytes that were written."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def fs_exists(self, path: str) -> bool:
        return True

    def fs_writefile(self, path: str, data: bytes, progress_callback: object = None) -> None:
        self.files[path] = data
