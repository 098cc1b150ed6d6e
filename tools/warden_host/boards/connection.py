"""A board's REPL on a serial port, by the transport of mpremote.

Programs and data travel as text, in raw-paste mode with its flow control: no byte of them is a
Ctrl-C, on any port and at any speed. What the line carried is never part of an error: it may be a
secret. A board is believed nothing: what it may send, and how long, has a limit.
"""

import binascii
import contextlib
import hashlib
import re
import struct
import time
from collections.abc import Iterator
from typing import Any, Self

from mpremote import transport_serial  # type: ignore[import-untyped]
from mpremote.transport import TransportError  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from warden_host import jsontext
from warden_host.errors import HostError, PeerError

# Bytes of a file in one program: it stands there in base64, and three times on the board's heap.
CHUNK = 1536
_ANSWER_S = 10.0  # a board that computes prints nothing
_PROMPT_S = 4.0
_TRIES = 3
_MAX_ANSWER = 16384
_MAX_SAID = 65536  # bytes that a board sends in one conversation, its start's messages included
_MAX_TALK_S = 60.0  # beyond the time in which it may be silent: programs and files are written
_BACK_S = 20.0  # until a board's port is there again after a reset
_LOST = (OSError, TransportError, struct.error, IndexError)


def _discard(*_: object, **__: object) -> None:
    """Discard what mpremote prints of a line that it did not expect."""


# For mpremote alone: sys.stdout belongs to all boards that are provisioned at one time.
transport_serial.print = _discard


class BoardError(PeerError):
    """A program of ours raised an exception on the board. name: of the exception there."""

    name = ""


class _Line:
    """A serial port that ends a conversation beyond its limits: mpremote reads without any."""

    def __init__(self, serial: Any) -> None:
        self._serial = serial
        self.begin(_MAX_TALK_S)

    def begin(self, seconds: float) -> None:
        """Begin a conversation that may last so long."""
        self._left = _MAX_SAID
        self._limit = time.monotonic() + seconds

    def read(self, size: int = 1) -> bytes:
        if self._left <= 0 or time.monotonic() > self._limit:
            raise TransportError("the board does not come to an end")
        data = bytes(self._serial.read(min(size, self._left)))
        self._left -= len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._serial, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set rts and dtr of the port itself."""
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._serial, name, value)


class Board:
    """The open REPL of a board.

    patience: factor on all time-outs, for a board that is emulated
    Raises: board-lost where the port vanishes or the board stops answering, board-failed where a
    program fails on it.
    """

    def __init__(self, port: str, patience: float = 1.0) -> None:
        self.port = port
        self._patience = patience
        self._transport: SerialTransport | None = None

    def __enter__(self) -> Self:
        self._open(0.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port; the board stays as it is."""
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(OSError):
                transport.close()
            with contextlib.suppress(OSError):  # where the port went, close() ends before this
                transport.serial.close()

    def _open(self, wait_s: float) -> None:
        """Open the port and enter the raw REPL with a new interpreter, without main.py."""
        limit = time.monotonic() + wait_s * self._patience
        while True:
            try:
                self._transport = SerialTransport(self.port, timeout=_ANSWER_S * self._patience)
                self._transport.serial.write_timeout = _ANSWER_S * self._patience
                self._transport.serial = _Line(self._transport.serial)
                break
            except (OSError, TransportError):
                if time.monotonic() > limit:
                    raise HostError(
                        "port-unknown",
                        f"{self.port} can't be opened",
                        "look whether the board is plugged in, whether another program has the "
                        "port, and whether this user may open it",
                    ) from None
                time.sleep(0.1)
        self.restart()

    def restart(self) -> None:
        """Start the interpreter anew, with an empty heap: boot.py runs, main.py does not."""
        for _ in range(_TRIES):  # a board that is starting up may miss the first one
            try:
                self._wire(3 * _PROMPT_S).enter_raw_repl(
                    soft_reset=True, timeout_overall=_PROMPT_S * self._patience
                )
                return
            except TransportError:
                continue
            except OSError:
                break
        self.close()
        raise HostError(
            "board-silent",
            f"no MicroPython answers at {self.port}",
            "flash MicroPython first; a board that runs Warden does not answer, by design: erase "
            "its flash to begin again",
        )

    def reset(self, reopen: bool) -> None:
        """Reset the chip. reopen: wait for its port, and enter the REPL again."""
        try:
            wire = self._wire()
            wire.exec_raw_no_follow("import machine\nmachine.reset()")
            time.sleep(0.1)  # a UART's bytes are on their way
        except _LOST:
            pass  # its port went with it
        self.close()
        if reopen:
            time.sleep(0.5)
            self._open(_BACK_S)

    def run(self, program: str, answer_s: float = _ANSWER_S, secret: bool = False) -> str:
        """Run a program; return what it printed.

        answer_s: seconds that the board may be silent. secret: the program holds a secret, so an
        exception is told without its text, which may quote the program
        Raises: board-lost, board-failed.
        """
        try:
            wire = self._wire(answer_s)
            output, failure = wire.exec_raw(program, timeout=answer_s * self._patience)
        except _LOST:
            self.close()
            raise HostError(
                "board-lost",
                f"the board at {self.port} was unplugged, reset itself or stopped answering",
            ) from None
        if failure:
            raise _failed(failure.decode(errors="replace"), secret)
        return bytes(output).decode(errors="replace")

    def ask(
        self, program: str, answer_s: float = _ANSWER_S, secret: bool = False
    ) -> dict[str, Any]:
        """Run a program as run() does; return the JSON object in the last line that it printed."""
        lines = self.run(program, answer_s, secret).strip().splitlines()
        return jsontext.parse_object((lines or [""])[-1].encode(), _MAX_ANSWER, "board-failed")

    def send(self, name: str, data: bytes) -> Iterator[int]:
        """Append bytes, perhaps secret, to a bytearray of the board; yield how many it has."""
        for at in range(0, len(data), CHUNK):
            text = binascii.b2a_base64(data[at : at + CHUNK], newline=False).decode()
            self.run(f"{name}.extend(a2b_base64('{text}'))", secret=True)
            yield min(at + CHUNK, len(data))

    def write(self, path: str, data: bytes) -> Iterator[int]:
        """Write a file, and verify it by its digest; yield how many bytes are written.

        Raises: board-full, board-failed.
        """
        try:
            self.run(f"f = open({path!r}, 'wb')\nfrom binascii import a2b_base64")
            for at in range(0, len(data), CHUNK):
                text = binascii.b2a_base64(data[at : at + CHUNK], newline=False).decode()
                self.run(f"n = f.write(a2b_base64('{text}'))")
                yield min(at + CHUNK, len(data))
            self.run("f.close()")
        except BoardError as error:
            if re.match(r"OSError: (\[Errno )?28\b", error.name):
                raise HostError(
                    "board-full",
                    f"the board's filesystem has no room for {path}",
                    "take a smaller application, or erase the board's filesystem",
                ) from None
            raise
        if self.digests([path]) != {path: hashlib.sha256(data).hexdigest()}:
            raise HostError("board-failed", f"the board's flash did not keep {path}")

    def digests(self, paths: list[str]) -> dict[str, str]:
        """Return the SHA-256 of those files that are there, by path."""
        found: dict[str, str] = {}
        for at in range(0, len(paths), 32):  # the answer has a limit
            program = _DIGESTS.replace("PATHS", repr(paths[at : at + 32]))
            found |= {str(path): str(value) for path, value in self.ask(program).items()}
        return found

    def _wire(self, silent_s: float = 0.0) -> SerialTransport:
        """Return the transport for a new conversation. silent_s: as answer_s of run()."""
        if self._transport is None:
            raise HostError("board-lost", f"the connection to {self.port} is closed")
        self._transport.serial.begin((silent_s + _MAX_TALK_S) * self._patience)
        return self._transport


_DIGESTS = """
import hashlib, json
from binascii import hexlify
found = {}
for path in PATHS:
    try:
        f = open(path, 'rb')
    except OSError:
        continue
    h, b = hashlib.sha256(), bytearray(1024)
    while True:
        n = f.readinto(b)
        if not n:
            break
        h.update(memoryview(b)[:n])
    f.close()
    found[path] = hexlify(h.digest()).decode()
print(json.dumps(found))
"""


def _failed(traceback: str, secret: bool) -> BoardError:
    """Return the error for a traceback: its last line, the exception without the program.

    secret: without the exception's text, too
    """
    lines = traceback.strip().splitlines()
    name = jsontext.printable(lines[-1][:200]) if lines else ""
    if secret:
        found = re.match(r"[A-Z][A-Za-z]{1,24}(Error|Exception|Interrupt)(?=:|$)", name)
        name = found.group() if found else "an exception"
    error = BoardError("board-failed", f"a step failed on the board: {name}")
    error.name = name
    return error
