"""Decide which address is banned for refused log-ins; no clock, no file, no thread of its own.

A device never sends a wrong password, so one refused log-in is suspicious. `attempts` of them
within `window_hours` ban the address. People mistype: three wrong log-ins at the console in a
browser, whose numbers are below zero, count as one. While many addresses guess at once, the first
refused one does, where it is sure which address it came from.

An address from where a client of the fleet logged in lately may be a home or a mobile network with
honest devices behind the same NAT. Each of its clients adds one to `attempts`; then it is slowed
for a time, and never banned without a person: its open connections stay, and devices come back.

Where the log does not hold which address a refused log-in came from, it may be an honest one whose
connection timed out. An address with too few sure ones that did not come within a minute, as a
program's do, is slowed first, and banned after UNSURE times as many: it is charged once a
connection, and no longer where that one logs in after all.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection

from warden_host.addresses import canonical_address, is_loopback, network_of_client
from warden_host.bans.networks import parse_network
from warden_host.bans.settings import BanSettings
from warden_host.broker.backend import Attempt
from warden_host.store.bans import BAN, SLOW, Ban

MISTYPED = 3  # wrong log-ins of people, at the console, that count as one of a device
MOST_NETWORKS = 50_000  # whose refused log-ins are counted
UNSURE = 3
MANY = 20  # networks with a refused log-in within a minute: an attack from many addresses
_MINUTE_S = 60.0
_HOUR_S = 3600
_MOST_ATTEMPTS = 1000  # remembered of one network
SOURCE = "watch"


class Strikes:
    """Count refused log-ins a network.

    clients: returns how many clients that still belong to the fleet logged in from a network
    lately. is_own: returns whether an address is this host's own.
    """

    def __init__(
        self,
        settings: BanSettings,
        clients: Callable[[str], int],
        is_own: Callable[[str], bool],
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._is_own = is_own
        # Network → number of the connection → unix seconds, and whether it is sure. One that is in
        # force has records only where it is slowed for unsure ones.
        self._records: OrderedDict[str, OrderedDict[int, tuple[float, bool]]] = OrderedDict()
        self._minute: deque[tuple[float, str]] = deque()
        self._in_force: dict[str, float | None] = {}

    def set_in_force(self, bans: list[Ban]) -> None:
        """Set the bans that there are: their networks are not banned again."""
        self._in_force = {ban.network: ban.until for ban in bans}

    def in_force(self) -> list[str]:
        """Return the networks that are banned or slowed."""
        return list(self._in_force)

    @property
    def count_in_force(self) -> int:
        return len(self._in_force)

    def is_exempt(self, address: str) -> bool:
        """Return whether an address is never banned by itself."""
        return (
            is_loopback(address) or self._settings.exempts(address) or bool(self._is_own(address))
        )

    def count(self, address: str) -> int:
        """Return how many refused log-ins count against an address."""
        return _weigh(self._records.get(self._network(address), ()))

    def refused(self, attempt: Attempt) -> Ban | None:
        """Count a refused log-in; return the ban that follows from it."""
        network, now = self._network(attempt.address), attempt.time
        if self.is_exempt(attempt.address):
            return None
        if self._is_in_force(network, now) and network not in self._records:
            return None
        strikes = self._records.pop(network, None) or OrderedDict()
        self._records[network] = strikes
        if len(self._records) > MOST_NETWORKS:
            self._records.popitem(last=False)
        oldest = now - self._settings.window_hours * _HOUR_S
        while strikes and next(iter(strikes.values()))[0] < oldest:
            strikes.popitem(last=False)
        strikes[attempt.number] = now, attempt.sure
        if len(strikes) > _MOST_ATTEMPTS:
            strikes.popitem(last=False)
        many = self._many(now, network)
        if not self._settings.enabled:
            return None
        sure = _weigh([number for number, (_, sure) in strikes.items() if sure])
        at_once = many and attempt.sure and attempt.number >= 0
        return self._verdict(network, _weigh(strikes), sure, now, at_once)

    def cleared(self, attempt: Attempt) -> None:
        """Take back a refused log-in that was another address's."""
        strikes = self._records.get(self._network(attempt.address))
        if strikes is not None:
            strikes.pop(attempt.number, None)

    def lifted(self, network: str) -> None:
        """Begin anew with a network whose ban was lifted."""
        self._in_force.pop(network, None)
        self._records.pop(network, None)

    def _network(self, address: str) -> str:
        """Return what is banned for an address: of IPv6 itself where its /64 has an exempt one."""
        network = network_of_client(address)
        if self._settings.exempts_part(parse_network(network)):
            return str(parse_network(canonical_address(address)))
        return network

    def _verdict(
        self, network: str, strikes: int, sure: int, now: float, at_once: bool
    ) -> Ban | None:
        limit = self._settings.attempts
        if strikes < limit and not at_once:
            return None
        known = self._clients(network_of_client(network.partition("/")[0]))
        if known and strikes < limit + known:  # each of them may have one, such as by a rotation
            return None
        unsure = not known and not at_once and sure < limit and strikes < UNSURE * limit
        if unsure:
            times = [at for number, (at, _) in self._records[network].items() if number >= 0]
            unsure = len(times) < limit or now - times[-limit] > _MINUTE_S
        if unsure and self._is_in_force(network, now):
            return None  # slowed already, and counted on
        if not unsure:
            self._records.pop(network, None)
        what = "log-in" if strikes == 1 else "log-ins"
        why = f"{strikes} refused {what}"
        if strikes < limit:
            why += ", while many addresses guess"
        until = None
        if known or unsure:
            until = now + self._settings.slow_hours * _HOUR_S
        if known:
            why += "; clients of the fleet log in from there, too"
        elif unsure:
            why += f", {strikes - sure} of which may be another address's"
        self._in_force[network] = until
        return Ban(network, BAN if until is None else SLOW, now, until, SOURCE, why, strikes)

    def _is_in_force(self, network: str, now: float) -> bool:
        if network not in self._in_force:
            return False
        until = self._in_force[network]
        if until is not None and until <= now:
            del self._in_force[network]
            return False
        return True

    def _many(self, now: float, network: str) -> bool:
        """Note a network of this minute; return whether there are many of them."""
        while self._minute and now - self._minute[0][0] > _MINUTE_S:
            self._minute.popleft()
        if not any(network == seen for _, seen in self._minute):
            self._minute.append((now, network))
            if len(self._minute) > MANY:
                self._minute.popleft()
        return len(self._minute) >= MANY


def _weigh(numbers: Collection[int]) -> int:
    """Return how many refused log-ins of a device some are; below zero are those of people."""
    mistyped = sum(number < 0 for number in numbers)
    return len(numbers) - mistyped + mistyped // MISTYPED
