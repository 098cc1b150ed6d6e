"""Run simulated devices with a page that shows them, until a stop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from warden_host import filelock
from warden_host.errors import HostError
from warden_host.sim import simulated
from warden_host.sim.web import app
from warden_host.sim.web.device import SimulatedBoard
from warden_host.sim.web.sessions import Sessions
from warden_host.stopping import Stop, run_async
from warden_host.web.acceptor import Server
from warden_host.web.server import listen, settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MOST = 8  # devices


@dataclass(frozen=True)
class Choice:
    """A device to run. pin: typed at each start. gated: whether its policy asks for a code."""

    home: Path
    pin: bytes
    gated: bool


@dataclass(frozen=True)
class Shown:
    """Where the terminal's texts go. link(url, port), line(device, text)."""

    link: Callable[[str, int], None]
    line: Callable[[str, str], None]


class _Server(Server):
    """Leaves signals to us, so that boards and server end in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(
    choices: Sequence[Choice], host: str, port: int, heapsize: str, shown: Shown, stop: Stop
) -> None:
    """Run the devices until a stop.

    Raises: bad-argument for an address that is not this machine's own, or more than MOST devices;
    device-running, device-unknown; web-failed where the port can't be had.
    """
    if host not in LOOPBACK:
        raise HostError(
            "bad-argument",
            f"the simulator is shown on this machine alone, not at {host}",
            "from elsewhere: ssh -L 8081:127.0.0.1:8081 HOST",
        )
    if not 0 < len(choices) <= MOST:
        raise HostError("bad-argument", f"a page shows 1 to {MOST} devices")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        listener = listen(host, port)
    except OSError as error:
        text = f"the simulator can't listen on {host}:{port}: {error.strerror}"
        raise HostError("web-failed", text, "take another port, or none") from None
    with contextlib.closing(listener), contextlib.ExitStack() as locks:
        for choice in choices:
            simulated.check(choice.home)
        held = [locks.enter_context(simulated.alone(choice.home)) for choice in choices]
        run_async(_run(list(zip(choices, held, strict=True)), listener, heapsize, shown), stop)


async def _run(
    choices: list[tuple[Choice, filelock.Lock]],
    listener: socket.socket,
    heapsize: str,
    shown: Shown,
) -> None:
    news = app.News()
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    boards = [
        SimulatedBoard(
            choice.home, lock, heapsize, choice.pin, choice.gated, news.tell, shown.line
        )
        for choice, lock in choices
    ]
    try:
        sessions = Sessions(lambda key: shown.link(f"{url}#{key}", port))
        server = _Server(settings(app.build(boards, sessions, news, host, port)))
        serving = asyncio.create_task(server.serve([listener]))
        for board in boards:
            board.switch_on()
        try:
            await asyncio.shield(serving)
        finally:
            news.ended = server.should_exit = True
            news.tell()
            await serving
    finally:
        await asyncio.gather(*(board.close() for board in boards))
