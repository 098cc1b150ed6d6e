"""Find the device whose connection floods the broker with what the authority never sees.

Such as messages to topics that it has no right to, refused subscriptions, pings: the broker drops
them, and they cost its processor all the same. The kernel knows what each connection received.
"""

import threading
import time
from collections.abc import Callable, Iterable

from warden_host import names, tcp_diag
from warden_host.errors import HostError
from warden_host.reactions.settings import Budget

PERIOD_S = 0.5
_Peer = tuple[str, int]


class TrafficMeter:
    """Leaky buckets of bytes, one a connection. Times are steady seconds."""

    def __init__(self, budget_of: Callable[[str], Budget]) -> None:
        self._budget_of = budget_of
        self._last = 0.0
        self._known: dict[_Peer, tuple[int, float]] = {}  # (bytes received, KiB in the bucket)

    def read(
        self, counts: dict[_Peer, int], client_at: Callable[[_Peer], str], now: float
    ) -> Iterable[tuple[str, str]]:
        """Yield (device, why) for each flooder. counts: bytes of all connections."""
        passed, self._last = max(0.0, now - self._last), now
        known: dict[_Peer, tuple[int, float]] = {}
        for peer, count in counts.items():
            before, level = self._known.get(peer, (0, 0.0))
            level += max(0, count - before) / 1024
            known[peer] = count, level
            device = _device(client_at(peer)) if level else ""
            if not device:
                continue  # before its log-in, and of applications: not counted here
            budget = self._budget_of(device)
            known[peer] = count, max(0.0, level - passed * budget.kib_s)
            if known[peer][1] > budget.kib_s * budget.tolerance_s:
                known[peer] = count, 0.0
                yield device, f"more than {budget.kib_s} KiB a second at the broker"
        self._known = known


class TrafficWatch:
    """Run while it is entered; where the kernel tells nothing, it ends by itself.

    ports: of the broker. client_at(address, port): the client that logged in from there, or "".
    found(device, why): called for each flooder.
    """

    def __init__(
        self,
        ports: Iterable[int],
        client_at: Callable[[_Peer], str],
        budget_of: Callable[[str], Budget],
        found: Callable[[str, str], None],
    ) -> None:
        self._ports = tuple(ports)
        self._client_at = client_at
        self._meter = TrafficMeter(budget_of)
        self._found = found
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warden-traffic", daemon=True)

    def __enter__(self) -> "TrafficWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            try:
                counts: dict[_Peer, int] = {}
                for port in self._ports:
                    counts |= tcp_diag.received(port)
            except (OSError, AttributeError):  # no Linux, or a kernel without it
                return
            for device, why in self._meter.read(counts, self._client_at, time.monotonic()):
                self._found(device, why)


def _device(client: str) -> str:
    if not names.is_device_client(client):
        return ""
    try:
        return names.parse_device_client(client)[1]
    except HostError:
        return ""
