"""A program in a terminal of its own, as a person has it: what it writes becomes a screen, what is
typed goes through the line's own rules."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Sequence
from functools import partial

import process_kit
import pyte
from fleet_kit import PATIENCE_S, Journal

ROWS, COLUMNS = 30, 100


class Terminal:
    """environment: what the program has besides ours.

    It and what it started end with the block.
    """

    def __init__(self, argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._argv = argv
        self._environment = os.environ | {
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TERM": "xterm-256color",
            "LINES": str(ROWS),
            "COLUMNS": str(COLUMNS),
            **(environment or {}),
        }
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._changes = Journal()
        self._seen = ""
        self._said = b""

    def __enter__(self) -> "Terminal":
        self._file, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        try:
            # A session of its own, so that Ctrl-C is a signal, and all of it can be ended.
            self._process = subprocess.Popen(
                self._argv, env=self._environment, preexec_fn=partial(os.login_tty, far)
            )
        except BaseException:
            os.close(self._file)
            raise
        finally:
            os.close(far)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Whatever is left of it: the program's own end is the test's to see.
        process_kit.kill(self._process)
        self._reader.join(PATIENCE_S)
        os.close(self._file)
        assert not self._reader.is_alive()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(self._file, 4096):
                self._said += data
                self._stream.feed(data)
                self._changes.add("\n".join(self._screen.display))

    def sees(self, words: str) -> str:
        """The screen on which the words stand, at some time from the last such moment on.

        One screen may show two things at once.
        """
        if words not in self._seen:
            self._seen = self._changes.wait_item(lambda screen: words in screen, words)
        return self._seen

    def type(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """The exit status; all that it wrote was read then."""
        status = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive()
        return status

    def said(self) -> str:
        """All that it wrote so far."""
        return self._said.decode(errors="replace")
