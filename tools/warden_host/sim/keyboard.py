"""Feed key presses to the standard input of a simulated device, across its restarts."""

import contextlib
import os
import subprocess
import sys
import threading

_CHUNK = 256


class Keyboard:
    """Write keys to the device's current process. Every method may be called from any thread.

    Keys pressed while no process runs are lost, as on a real keypad.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def attach(self, process: "subprocess.Popen[bytes] | None") -> None:
        """Send keys to this process from now on; None: to no process.

        process: a device that was started with a pipe as its standard input.
        """
        with self._guard:
            self._process = process
            if self._ended:
                self._close()

    def feed(self, keys: bytes) -> None:
        """Write keys to the device. A key is lost when the device has ended or its pipe is full.

        keys: characters of the keypad, one byte each.
        """
        with self._guard:
            stdin = self._process.stdin if self._process is not None else None
            if stdin is not None and not stdin.closed:
                with contextlib.suppress(OSError):
                    os.set_blocking(stdin.fileno(), False)
                    os.write(stdin.fileno(), keys)

    def end(self) -> None:
        """Close the device's standard input, now and at each later start."""
        with self._guard:
            self._ended = True
            self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def pump_stdin(self) -> None:
        """Copy standard input to the device until it ends, on a daemon thread."""

        def carry() -> None:
            with contextlib.suppress(OSError):
                while data := os.read(sys.stdin.fileno(), _CHUNK):
                    self.feed(data)
            self.end()

        threading.Thread(target=carry, name="warden-keyboard", daemon=True).start()
