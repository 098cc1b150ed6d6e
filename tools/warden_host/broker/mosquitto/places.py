"""Remember from which addresses each client logged in, by mosquitto's log.

The broker names a client here after its log-in, so that no stranger can write such a line. An
address is that of the connection: behind a NAT many devices share one.
"""

import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from warden_host.addresses import canonical_address

WINDOW_S = 600.0
TURNS = 4  # log-ins by turns that each ended the other's connection
_KEPT = 16  # log-ins of one client
_MOST_CLIENTS = 20_000

_IN = re.compile(r"\S+: New client connected from (\S+):(\d{1,5}) as (\S+) \(")
_DROPPED = re.compile(r"\S+: Outgoing messages are being dropped for client (\S+)\.\Z")
_TAKEN = re.compile(r"\S+: Client (\S+) already connected, closing old connection\.\Z")


class _LogIn(NamedTuple):
    time: float  # steady seconds
    host: str
    took: bool  # it ended another connection of the client


class Places:
    """Thread-safe. clock: steady seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._known: OrderedDict[str, deque[_LogIn]] = OrderedDict()
        # (address, port) → the client that logged in from there last, and when.
        self._peers: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()
        self._taken: set[str] = set()
        # Called on the log's thread with a client that two addresses use by turns, and these.
        self.on_shared: Callable[[str, tuple[str, str]], None] | None = None
        # Called there with a client to which the broker drops messages: its queue is full.
        self.on_dropped: Callable[[str], None] = lambda _: None

    def read(self, lines: Iterable[str]) -> None:
        """Read whole lines of the log, in their order."""
        for line in lines:
            dropped = _DROPPED.match(line)
            if dropped is not None:
                self.on_dropped(dropped[1])
            if " connected" not in line:
                continue
            taken = _TAKEN.match(line)
            if taken is not None:
                self._taken.add(taken[1])
                continue
            found = _IN.match(line)
            if found is not None:
                peer = canonical_address(found[1]) or found[1], int(found[2])
                self._add(found[3], peer[0])
                with self._guard:
                    self._peers[peer] = found[3], self._clock()
                    self._peers.move_to_end(peer)
                    if len(self._peers) > _MOST_CLIENTS:
                        self._peers.popitem(last=False)

    def client_at(self, peer: tuple[str, int], since: float) -> str:
        """Return the client that logged in last from an address and a port, or "".

        since: steady seconds; log-ins before that don't count.
        """
        with self._guard:
            client, when = self._peers.get(peer, ("", since))
        return client if when >= since else ""

    def changed(self, client: str, since: float) -> bool:
        """Return whether it logged in from one address, another, and the first again.

        since: steady seconds; the last log-in before that is the first one.
        """
        with self._guard:
            all_ = list(self._known.get(client, ()))
        earlier = [one for one in all_ if one.time <= since]
        hosts = [one.host for one in (*earlier[-1:], *all_[len(earlier) :])]
        return len(hosts) > 2 and hosts[0] == hosts[-1] and len(set(hosts)) > 1

    def _add(self, client: str, host: str) -> None:
        took = client in self._taken
        self._taken.discard(client)
        with self._guard:
            known = self._known.pop(client, None) or deque(maxlen=_KEPT)
            known.append(_LogIn(self._clock(), host, took))
            self._known[client] = known
            if len(self._known) > _MOST_CLIENTS:
                self._known.popitem(last=False)
            pair = self._turns(known)
        if pair is not None and self.on_shared is not None:
            self.on_shared(client, pair)

    def _turns(self, known: "deque[_LogIn]") -> tuple[str, str] | None:
        """Return the two addresses that end each other's connections by turns, if they do."""
        latest = list(known)[-TURNS - 1 :]
        if len(latest) <= TURNS or self._clock() - latest[0].time > WINDOW_S:
            return None
        one, other = latest[0].host, latest[1].host
        by_turns = all(each.host == (one, other)[n % 2] for n, each in enumerate(latest))
        if one == other or not by_turns or not all(each.took for each in latest[1:]):
            return None
        return one, other
