"""What is typed at a simulated device's keypad, on its way to the device's standard input, whichever process of it runs now."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

_CHUNK = 256


class Typing:
    """feed() from any thread; each start of the device attaches its process. What is typed while none runs is lost, as at a real one."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def attach(self, process: "subprocess.Popen[bytes] | None") -> None:
        with self._guard:
            self._process = process
            if self._ended:
                self._close()

    def feed(self, keys: bytes) -> None:
        with self._guard:
            stdin = self._process.stdin if self._process is not None else None
            if stdin is not None and not stdin.closed:
                # It may have ended, or read nothing for so long that its pipe is full: a key is lost then.
                with contextlib.suppress(OSError):
                    os.set_blocking(stdin.fileno(), False)
                    os.write(stdin.fileno(), keys)

    def end(self) -> None:
        """Nobody types any more."""
        with self._guard:
            self._ended = True
            self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def pump(self) -> None:
        """Our own standard input, unchanged, to its end; on a thread of its own, which ends with us."""

        def carry() -> None:
            with contextlib.suppress(OSError):
                while data := os.read(sys.stdin.fileno(), _CHUNK):
                    self.feed(data)
            self.end()

        threading.Thread(target=carry, name="warden-typing", daemon=True).start()


@contextlib.contextmanager
def hands(gated: bool, as_json: bool) -> Iterator[tuple[Typing | None, Callable[[str], bool]]]:
    """Somebody at the keypad of a device that has a gate: at this terminal, or through a pipe.

    Yields what is typed, None where nobody can, and a take() that says whether a line was the display's.
    """
    if not gated:
        yield None, _nothing
    elif _drawable() and not as_json:
        from warden_host.sim.keypad_ui import drawn  # only who sees it pays for it

        typing = Typing()
        with drawn(typing) as panel:
            yield typing, panel.take
    elif not sys.stdin.isatty():
        typing = Typing()
        typing.pump()
        yield typing, _nothing
    else:
        yield None, _nothing


def _nothing(_: str) -> bool:
    return False


def _drawable() -> bool:
    """Whether there is a terminal to draw on, and it is ours to read."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return (
            os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        )  # in the background it would stop us
    except OSError:
        return False
