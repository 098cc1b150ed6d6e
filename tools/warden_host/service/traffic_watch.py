"""Find the device whose connection floods the broker with what the authority never sees.

Such as messages to topics that it has no right to, refused subscriptions, pings: the broker drops
them, and they cost its processor all the same. The kernel knows what each connection received.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from warden_host import names, tcp_diag
from warden_host.errors import HostError
from warden_host.reactions.settings import Budget
from warden_host.tcp_diag import Connection

PERIOD_S = 0.5
_Peer = tuple[str, int]
# (address, port), steady seconds → the client that logged in from there since, or "".
_ClientAt = Callable[[_Peer, float], str]


class _Seen(NamedTuple):
    """absent: steady seconds of the last look at which the connection was not there yet.

    received: bytes. level: KiB in the bucket. device: "" before its log-in was seen.
    """

    cookie: bytes
    absent: float
    received: int = 0
    level: float = 0.0
    device: str = ""


class TrafficMeter:
    """Leaky buckets of bytes, one a connection. Times are steady seconds.

    A log-in counts for connections that were not there before it: else a stranger's connection
    from an address and a port that a device had would be the device's.
    """

    def __init__(self, budget_of: Callable[[str], Budget]) -> None:
        self._budget_of = budget_of
        self._last = 0.0
        self._known: dict[_Peer, _Seen] = {}

    def read(
        self, present: Mapping[_Peer, Connection], client_at: _ClientAt, now: float
    ) -> Iterable[tuple[str, str]]:
        """Yield (device, why) for each flooder. present: all connections."""
        before, self._last = self._last, now
        known: dict[_Peer, _Seen] = {}
        for peer, (cookie, received) in present.items():
            seen = self._known.get(peer)
            if seen is None or seen.cookie != cookie:
                seen = _Seen(cookie, before)
            level = seen.level + max(0, received - seen.received) / 1024
            device = seen.device or _device(client_at(peer, seen.absent))
            known[peer] = seen._replace(received=received, level=level, device=device)
            if not device:
                continue  # before its log-in, and of applications: not counted here
            budget = self._budget_of(device)
            level = max(0.0, level - max(0.0, now - before) * budget.kib_s)
            is_flood = level > budget.kib_s * budget.tolerance_s
            known[peer] = known[peer]._replace(level=0.0 if is_flood else level)
            if is_flood:
                yield device, f"more than {budget.kib_s} KiB a second at the broker"
        self._known = known


class TrafficWatch:
    """Run while it is entered; where the kernel tells nothing, it ends by itself.

    ports: of the broker. client_at: as Places.client_at().
    found(device, why): called for each flooder.
    """

    def __init__(
        self,
        ports: Iterable[int],
        client_at: _ClientAt,
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
                present: dict[_Peer, Connection] = {}
                for port in self._ports:
                    present |= tcp_diag.received(port)
            except (OSError, AttributeError):  # no Linux, or a kernel without it
                return
            for device, why in self._meter.read(present, self._client_at, time.monotonic()):
                self._found(device, why)


def _device(client: str) -> str:
    if not names.is_device_client(client):
        return ""
    try:
        return names.parse_device_client(client)[1]
    except HostError:
        return ""
