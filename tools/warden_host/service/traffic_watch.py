"""Find the account whose connection floods the broker with what the authority never sees.

Such as messages to topics that it has no right to, refused subscriptions, pings: the broker drops
them, and they cost its processor all the same. And all that applications and gateways send. The
kernel knows what each connection received.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from warden_host import tcp_diag
from warden_host.reactions.settings import Budget
from warden_host.round_guard import RoundGuard, Tell
from warden_host.tcp_diag import Connection

PERIOD_S = 0.5
_Peer = tuple[str, int]
# (address, port), steady seconds → the client that logged in from there since, or "".
_ClientAt = Callable[[_Peer, float], str]
# A client → what it may send, or None for one that is not counted.
_BudgetOf = Callable[[str], Budget | None]


class _Seen(NamedTuple):
    """absent: steady seconds of the last look at which the connection was not there yet.

    received: bytes. waiting: of them, before its log-in was seen. client: "" until then.
    """

    cookie: bytes
    absent: float
    received: int = 0
    waiting: int = 0
    client: str = ""


class TrafficMeter:
    """Leaky buckets of bytes, one a client: a new connection gives it no new one. Times are
    steady seconds.

    A log-in counts for connections that were not there before it: else a stranger's connection
    from an address and a port that a device had would be the device's.
    """

    def __init__(self, budget_of: _BudgetOf) -> None:
        self._budget_of = budget_of
        self._last = 0.0
        self._known: dict[_Peer, _Seen] = {}
        self._levels: dict[str, float] = {}  # client → KiB in its bucket

    def read(
        self, present: Mapping[_Peer, Connection], client_at: _ClientAt, now: float
    ) -> Iterable[tuple[str, str]]:
        """Yield (client, why) for each flooder. present: all connections."""
        before = self._last
        known: dict[_Peer, _Seen] = {}
        growth: Counter[str] = Counter(dict.fromkeys(self._levels, 0))  # bytes
        for peer, (cookie, received) in present.items():
            seen = self._seen(peer, cookie, client_at, before)
            waiting = seen.waiting + max(0, received - seen.received)
            if seen.client and waiting:
                growth[seen.client] += waiting
                waiting = 0
            if (received, waiting) != (seen.received, seen.waiting):  # most of a fleet rest
                seen = seen._replace(received=received, waiting=waiting)
            known[peer] = seen
        levels: dict[str, float] = {}
        for client, size in growth.items():
            budget = self._budget_of(client)
            if budget is None:
                continue  # of the authority itself: not counted here
            level = self._levels.get(client, 0.0) + size / 1024
            level = max(0.0, level - max(0.0, now - before) * budget.kib_s)
            if level > budget.kib_s * budget.tolerance_s:
                level = 0.0
                yield client, f"more than {budget.kib_s} KiB a second at the broker"
            if level:
                levels[client] = level
        # All at once: a read that fails is as none.
        self._known, self._levels, self._last = known, levels, now

    def busiest(
        self,
        present: Mapping[_Peer, Connection],
        client_at: _ClientAt,
        clients: Collection[str],
    ) -> str:
        """Return which of these clients sent most since the last read(); "" for none of them.

        It may run beside read(), on another thread.
        """
        growth: Counter[str] = Counter()
        for peer, (cookie, received) in present.items():
            seen = self._seen(peer, cookie, client_at, self._last)
            if seen.client in clients:
                growth[seen.client] += received - seen.received
        found = growth.most_common(1)
        return found[0][0] if found and found[0][1] > 0 else ""

    def _seen(self, peer: _Peer, cookie: bytes, client_at: _ClientAt, before: float) -> _Seen:
        seen = self._known.get(peer)
        if seen is None or seen.cookie != cookie:
            seen = _Seen(cookie, before)
        return seen if seen.client else seen._replace(client=client_at(peer, seen.absent))


class TrafficWatch:
    """Run while it is entered; on a system that is no Linux, it ends by itself.

    ports: of the broker. client_at: as Places.client_at().
    found(client, why): called for each flooder. tell: called for an unforeseen exception.
    """

    def __init__(
        self,
        ports: Iterable[int],
        client_at: _ClientAt,
        budget_of: _BudgetOf,
        found: Callable[[str, str], None],
        tell: Tell,
    ) -> None:
        self._ports = tuple(ports)
        self._client_at = client_at
        self._meter = TrafficMeter(budget_of)
        self._found = found
        self._stop = threading.Event()
        self._rounds = RoundGuard("what clients send is not counted", tell)
        self._thread = threading.Thread(target=self._run, name="warden-traffic", daemon=True)

    def __enter__(self) -> "TrafficWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def busiest(self, clients: Collection[str]) -> str:
        """Return which of these clients sends most now; "" where nothing tells."""
        try:
            return self._meter.busiest(self._look(), self._client_at, clients)
        except (OSError, AttributeError):
            return ""

    def _run(self) -> None:
        while hasattr(socket, "AF_NETLINK") and not self._stop.wait(PERIOD_S):
            self._rounds.attempt(self._count)

    def _count(self) -> None:
        try:
            present = self._look()
        except OSError:  # a kernel without it, or no file is left to open: the next look tells
            return
        for flooder in self._meter.read(present, self._client_at, time.monotonic()):
            self._rounds.attempt(self._found, *flooder)

    def _look(self) -> dict[_Peer, Connection]:
        present: dict[_Peer, Connection] = {}
        for port in self._ports:
            present |= tcp_diag.received(port)
        return present
