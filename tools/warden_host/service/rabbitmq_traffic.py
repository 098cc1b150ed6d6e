"""Find who floods RabbitMQ, by the bytes that its HTTP API tells of each connection.

Where RabbitMQ takes passwords alone, a user is an account of the fleet, and is cut off as one.
With a token a client takes any user name and client ID, also those of another client: then the
connection is closed, and no account is cut off for it.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from warden_host import names
from warden_host.broker.rabbitmq import management, traffic
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.reactions.settings import ACCOUNT_FLOOD, Budget
from warden_host.service.background import background, round_guard
from warden_host.service.traffic_watch import TrafficMeter
from warden_host.tcp_diag import Connection

# RabbitMQ counts once in collect_statistics_interval, 5 s at most: what comes within the budget is
# within the default tolerance of 4 s then.
PERIOD_S = 2.0
_ANY_TOKEN = names.token_client("", "")  # has the budget of an account
_STRANGER = "connection "  # begins what stands for a connection of none of the users


class RabbitTraffic:
    """What was seen so far. Times are steady seconds."""

    def __init__(
        self,
        fleet: Fleet,
        budget_of: Callable[[str], Budget | None],
        found: Callable[[str, str], None],
        announce: Callable[[FleetEvent], None],
    ) -> None:
        """budget_of, found: as those of TrafficWatch. announce: shows an event."""
        self._fleet = fleet
        self._budget_of = budget_of
        self._found = found
        self._announce = announce
        self._users: frozenset[str] = frozenset()
        self._meter = TrafficMeter(self._budget)
        self._said = ""
        self._rounds = round_guard("what clients send is not counted", announce)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look while the context lasts, where the fleet's clients are at RabbitMQ."""
        if not management.is_used(self._fleet):
            yield
            return
        with background("warden-rabbitmq", self.run):
            yield

    def run(self, stop: threading.Event) -> None:
        """Look again and again until it is to stop; say once where the API does not answer."""
        while not stop.wait(PERIOD_S):
            self._rounds.attempt(self._look)

    def _look(self) -> None:
        try:
            self.look(time.monotonic)
            self._said = ""
        except HostError as error:
            if error.code != self._said:
                text = f"what clients send is not counted: {error.text}"
                self._announce(FleetEvent("notice", code=error.code, text=text))
            self._said = error.code

    def look(self, clock: Callable[[], float]) -> None:
        """Read what came, and cut off who sent too much. Raises what the API does.

        clock: asked once the API has answered: what came while it was slow had that long to come.
        """
        listed = traffic.received(self._fleet)
        now = clock()
        if any(one.user not in self._users for one in listed):
            self._users = traffic.proven_users(self._fleet)
        present = {(one.name, 0): Connection(one.began.encode(), one.size) for one in listed}
        users = {(one.name, 0): one.user for one in listed}

        def client_at(peer: tuple[str, int], _: float) -> str:
            return users[peer] if users[peer] in self._users else _STRANGER + peer[0]

        # All of it before anything is done: else a refusal would leave bytes to be counted twice.
        flooders = list(self._meter.read(present, client_at, now))
        management.each(flooders, lambda one: self._cut_off(*one))

    def _cut_off(self, client: str, why: str) -> None:
        if client.startswith(_STRANGER):
            self._close(client.removeprefix(_STRANGER), why)
        else:
            self._found(client, why)

    def _close(self, name: str, why: str) -> None:
        traffic.close(self._fleet, name)
        text = f"the connection {name} is closed: {why}"
        self._announce(FleetEvent("notice", code=ACCOUNT_FLOOD, text=text))

    def _budget(self, client: str) -> Budget | None:
        return self._budget_of(_ANY_TOKEN if client.startswith(_STRANGER) else client)
