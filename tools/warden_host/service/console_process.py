"""The process that talks to browsers: started, and started again where it ended.

It says on its standard output where it listens. The first start waits for that; a later one does
not, since `warden serve` looks after other things on the same thread.
"""

import os
import subprocess
import time
from collections.abc import Callable

from warden_host import childprocess
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, filesystem_error
from warden_host.numerals import decimal
from warden_host.stopping import readable

START_S = 30.0  # until it must listen
LEAST_PAUSE_S, MOST_PAUSE_S = 5.0, 60.0  # between starts; doubled at each until one listens
_READY = 32  # bytes of the line that tells the port


class ConsoleProcess:
    """The process. Call all on the main thread, which owns the child. port: where it listens.

    Each start takes the port that the first one had.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        port: int,
        announce: Callable[[FleetEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start it, and wait until it listens. Raises web-failed.

        command: returns the command for a port, of which 0 is any. clock: steady seconds.
        """
        self._command = command
        self._announce = announce
        self._clock = clock
        self._pause_s = LEAST_PAUSE_S
        self.port = port
        self._started, self._is_starting = clock(), False
        self._start()
        if not self._read_port(START_S):
            self.close()
            raise HostError("web-failed", f"the console does not listen on port {port}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Start the process again if it ended, after a pause. Waits for nothing."""
        if self._is_starting and self._read_port(0.0):
            self._pause_s = LEAST_PAUSE_S
        elif self._is_starting and self._clock() >= self._started + START_S:
            self._process.kill()
            return  # a later check starts it, however soon this one is gone
        if self._process.poll() is None or self._clock() < self._started + self._pause_s:
            return
        self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
        self._announce(
            FleetEvent("notice", code="web-failed", text="the console is started again")
        )
        self._close_output()
        try:
            self._start()
        except OSError as error:  # no memory, no file: `warden serve` goes on without a console
            self._started = self._clock()
            text = f"the console can't be started ({filesystem_error(error).text})"
            self._announce(FleetEvent("notice", code="web-failed", text=text))

    def close(self) -> None:
        """End the process."""
        childprocess.terminate(self._process)
        self._close_output()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            childprocess.tie_to_us(self._command(self.port)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: we end it
        )
        self._started = self._clock()
        self._is_starting = True

    def _read_port(self, wait_s: float) -> bool:
        """Return whether it listens, once its line is there, or its output has ended."""
        output = self._process.stdout
        if output is None or not readable([output.fileno()], wait_s):
            return False
        port = decimal(os.read(output.fileno(), _READY).strip(), 65535, 1)
        self._close_output()
        self.port = port or self.port
        return port is not None

    def _close_output(self) -> None:
        """Take no more of its output: it writes one line."""
        self._is_starting = False
        if self._process.stdout is not None:
            self._process.stdout.close()
