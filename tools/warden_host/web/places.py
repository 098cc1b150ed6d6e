"""Count connections from the moment that they are accepted, so that half-open ones count too.

Where there is no place left, a connection that waits for its client gives way: in its TLS
handshake, in the middle of a request, or after an answer. One whose request is being answered
keeps its place. So any number of half-open connections leaves room for browsers, which send a
request at once.
"""

from collections.abc import Callable
from typing import Protocol

from warden_host.addresses import network_of_client

MOST = 256  # connections
MOST_OF_AN_ADDRESS = 192  # so that one address does not take them all


class Connection(Protocol):
    """What holds a place."""

    def is_waiting(self) -> bool:
        """Return whether the client has to send something."""

    def is_over(self) -> bool:
        """Return whether the connection is closed or closing."""

    def end(self) -> None:
        """End it at once."""


class Place:
    """A connection's place. since: when its wait began, by a count of all waits."""

    def __init__(self, address: str, connection: Connection, since: int) -> None:
        self.address = address
        self.connection = connection
        self.since = since


class Places:
    """The places of a server; one thread has them."""

    def __init__(self) -> None:
        self._places: set[Place] = set()
        self._waits = 0

    def enter(self, address: str, connection: Connection) -> Place | None:
        """Return a place, or None where all are taken by connections at work.

        A whole network of IPv6 counts as one address.
        """
        address = network_of_client(address)
        over = [one for one in self._places if one.connection.is_over()]
        self._places.difference_update(over)
        of_it = sum(one.address == address for one in self._places)
        if of_it >= MOST_OF_AN_ADDRESS and not self._free(lambda one: one.address == address):
            return None
        if len(self._places) >= MOST and not self._free(self._is_of_the_most()):
            return None
        self._waits += 1
        place = Place(address, connection, self._waits)
        self._places.add(place)
        return place

    def leave(self, place: Place) -> None:
        """Free a place."""
        self._places.discard(place)

    def wait(self, place: Place) -> None:
        """Note that a new wait for the client begins."""
        self._waits += 1
        place.since = self._waits

    def _free(self, which: Callable[[Place], bool]) -> bool:
        """End the connection that waits the longest; return whether there was one."""
        waiting = [one for one in self._places if which(one) and one.connection.is_waiting()]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: one.since)
        oldest.connection.end()
        self._places.discard(oldest)
        return True

    def _is_of_the_most(self) -> Callable[[Place], bool]:
        """Return whether a place is of the address with the most waiting connections."""
        counts: dict[str, int] = {}
        for one in self._places:
            counts[one.address] = counts.get(one.address, 0) + one.connection.is_waiting()
        most = max(counts.values())
        return lambda one: counts[one.address] == most
