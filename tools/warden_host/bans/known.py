"""Remember from where the fleet's clients log in: honest devices may share such an address."""

from warden_host.addresses import network_of_client
from warden_host.store.store import Store

_DAY_S = 86_400
_NOTED_AGAIN_S = 3600.0  # a client's log-ins from one address are noted so often
_SAVED_AGAIN_S = 60.0
_MOST_KNOWN = 100_000


class KnownAddresses:
    """From where clients of the fleet logged in lately. For any thread."""

    def __init__(self, days: int) -> None:
        self._days = days
        self._clients: dict[str, dict[str, float]] = {}
        self._fresh: dict[tuple[str, str], float] = {}
        self._count = 0
        self._saved = float("-inf")

    def load(self, store: Store, now: float) -> None:
        """Read what fleet.db has."""
        for network, client, moment in store.good_logins(now - self._days * _DAY_S):
            self._clients.setdefault(network, {})[client] = moment
            self._count += 1

    def note(self, network: str, client: str, now: float) -> None:
        """Note a log-in."""
        if not self._days:
            return
        clients = self._clients.setdefault(network, {})
        before = clients.get(client)
        if before is None:
            if self._count >= _MOST_KNOWN:
                return
            self._count += 1
        if before is None or now - before > _NOTED_AGAIN_S:
            clients[client] = now
            self._fresh[network, client] = now

    def clients(self, network: str, now: float) -> list[str]:
        """Return the clients that logged in from a network lately."""
        oldest = now - self._days * _DAY_S
        return [one for one, moment in self._clients.get(network, {}).items() if moment >= oldest]

    def __contains__(self, address: str) -> bool:
        return network_of_client(address) in self._clients

    def save(self, store: Store, now: float, at_once: bool = False) -> None:
        """Write what is new to fleet.db, once a minute; drop what is too old."""
        if not at_once and 0 <= now - self._saved < _SAVED_AGAIN_S:
            return
        self._saved = now
        oldest = now - self._days * _DAY_S
        fresh, self._fresh = self._fresh, {}
        if fresh:
            store.note_logins([(*key, moment) for key, moment in fresh.items()], oldest)
        old = [
            (network, client)
            for network, clients in self._clients.items()
            for client, moment in clients.items()
            if moment < oldest
        ]
        for network, client in old:
            del self._clients[network][client]
            self._count -= 1
            if not self._clients[network]:
                del self._clients[network]
