"""Find which address each refused log-in came from, in mosquitto's log.

One sign holds an address in every version: `New connection from ADDRESS:PORT` without a later
`New client connected from ADDRESS:PORT as`. 2.0 says of a refused log-in neither address nor port,
and several connections may be open that have not logged in. Then it is ascribed to the newest of
them from an address where no client of the fleet is known: a guesser is fast, and a device on a
chip takes seconds. A connection that the kernel still has is passed over, as the broker closes
what it refuses. Where the chosen one logs in after all, the refusal is ascribed anew.

What a client calls itself stands in these lines, too. So an address counts only where the broker's
own words hold it: at the start of a line, or where it is that of an open connection.
"""

import itertools
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from warden_host.addresses import canonical_address
from warden_host.broker.mosquitto.stamps import seconds, split_stamp

MOST_OPEN = 20_000  # connections that are remembered
OPEN_S = 60.0  # a connection that has not logged in after so long is none of an honest client
_LOOKED_AT = 256  # connections among which a refused one is looked for
_MOST_LINE = 2000
_KEPT_HEAD, _KEPT_TAIL = 500, 300
_MOST_CLIENT = 256

_START = re.compile(r"mosquitto version \S+ starting\Z")
_NEW = re.compile(r"New connection from (\S+):(\d{1,5}) on port \d{1,5}\.\Z")
_IN = re.compile(r"New client connected from (\S+):(\d{1,5}) as (\S+) \(")
# 2.1 writes a colon and the address, 2.0 a comma and none: what looks like one is the client's.
_REFUSED = re.compile(
    r"Client (?P<client>.*?)"
    r"(?: \[(?P<host>\S+):(?P<port>\d{1,5})\] disconnected:| disconnected,)"
    r" not authorised\.\Z",
    re.DOTALL,
)
_CLOSED = re.compile(
    r"Client (?:<unknown>|\S+ \[(?P<host>\S+):(?P<port>\d{1,5})\]) (?:disconnected|closed)"
)
_UNKNOWN = "<unknown>"


class Kind(Enum):
    """LOGGED_IN: the connection became a client. REFUSED: its log-in was refused.

    CLEARED: an earlier REFUSED with this number was another connection's.
    """

    LOGGED_IN = "logged-in"
    REFUSED = "refused"
    CLEARED = "cleared"


@dataclass(frozen=True)
class Attempt:
    """What became of a connection.

    time: unix seconds. address: canonical text. client: what it calls itself, "" where the log
    does not say; of a refused one, any text. number: of the connection. sure: whether no other
    connection can be the one.
    """

    kind: Kind
    time: float
    address: str
    client: str
    number: int
    sure: bool = True


@dataclass
class _Connection:
    number: int
    time: float
    client: str = ""


_Key = tuple[str, int]


class AttemptReader:
    """Read the lines of a log in order."""

    def __init__(
        self,
        is_known: Callable[[str], bool] = lambda _: False,
        living: Callable[[], Collection[_Key]] = tuple,
    ) -> None:
        """is_known: returns whether clients of the fleet log in from an address.

        living: returns address and port of each connection that is open now, as far as is known.
        """
        self._is_known = is_known
        self._living = living
        self._open: OrderedDict[_Key, _Connection] = OrderedDict()
        self._of_address: Counter[str] = Counter()  # how many of the open ones
        self._ascribed: OrderedDict[_Key, _Connection] = OrderedDict()  # refused, unsure
        self._count = 0

    def read(self, lines: Iterable[str]) -> Iterator[Attempt]:
        """Yield what became of connections."""
        for line in lines:
            if len(line) > _MOST_LINE:
                line = line[:_KEPT_HEAD] + line[-_KEPT_TAIL:]
            stamp, text = split_stamp(line)
            if stamp:
                yield from self._line(stamp, text)

    def _line(self, stamp: str, text: str) -> Iterator[Attempt]:
        if text.startswith("New connection"):
            self._opened(stamp, _NEW.match(text))
        elif text.startswith("New client"):
            found = _IN.match(text)
            if found is not None:
                yield from self._logged_in(stamp, found)
        elif text.startswith("Client "):
            refused = _REFUSED.match(text)
            if refused is not None:
                client = refused["client"][:_MOST_CLIENT]
                client = "" if client == _UNKNOWN else client
                yield from self._refused(seconds(stamp), client, _key(refused))
            else:
                self._closed(_CLOSED.match(text))
        elif _START.match(text):
            self._open.clear()
            self._of_address.clear()
            self._ascribed.clear()

    def _opened(self, stamp: str, found: re.Match[str] | None) -> None:
        key = None if found is None else _key_of(found[1], found[2])
        if key is None:
            return
        now = seconds(stamp)
        self._drop_old(now)
        self._remove(key)
        self._ascribed.pop(key, None)
        self._count += 1
        self._open[key] = _Connection(self._count, now)
        self._of_address[key[0]] += 1
        if len(self._open) > MOST_OPEN:
            self._remove(next(iter(self._open)))

    def _logged_in(self, stamp: str, found: re.Match[str]) -> Iterator[Attempt]:
        key = _key_of(found[1], found[2])
        if key is None:
            return
        now, client = seconds(stamp), found[3][:_MOST_CLIENT]
        wronged = self._ascribed.pop(key, None)
        connection = self._remove(key) or wronged
        if wronged is not None:
            yield Attempt(Kind.CLEARED, now, key[0], wronged.client, wronged.number)
        number = connection.number if connection is not None else 0
        yield Attempt(Kind.LOGGED_IN, now, key[0], client, number)
        if wronged is not None:
            yield from self._refused(now, wronged.client, None)

    def _refused(self, now: float, client: str, named: _Key | None) -> Iterator[Attempt]:
        self._drop_old(now)
        key = named if named in self._open else None
        sure = key is not None or len(self._of_address) == 1
        if key is None:
            key = next(reversed(self._open), None) if sure else self._likeliest()
        if key is None:
            return  # the pipe lost its line
        connection = self._open[key]
        self._remove(key)
        if not sure:
            connection.client = client
            self._ascribed[key] = connection
            if len(self._ascribed) > MOST_OPEN:
                self._ascribed.popitem(last=False)
        yield Attempt(Kind.REFUSED, now, key[0], client, connection.number, sure)

    def _likeliest(self) -> _Key | None:
        """Return the newest connection from an address without clients, else the newest one.

        Choose among those that the kernel no longer has, where there are any.
        """
        newest = list(itertools.islice(reversed(self._open), _LOOKED_AT))
        living = self._living()
        newest = [key for key in newest if key not in living] or newest
        strange = (key for key in newest if not self._is_known(key[0]))
        return next(strange, newest[0] if newest else None)

    def _closed(self, found: re.Match[str] | None) -> None:
        """Drop a connection that ended without a log-in, where it is clear which one."""
        if found is None:
            return
        key = _key(found)
        if key is not None:
            self._remove(key)
        elif len(self._of_address) == 1:
            self._remove(next(iter(self._open)))

    def _drop_old(self, now: float) -> None:
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if now - oldest.time <= OPEN_S:
                break
            self._remove(key)
        while self._ascribed:
            key, oldest = next(iter(self._ascribed.items()))
            if now - oldest.time <= OPEN_S:
                break
            del self._ascribed[key]

    def _remove(self, key: _Key) -> _Connection | None:
        connection = self._open.pop(key, None)
        if connection is not None:
            self._of_address[key[0]] -= 1
            if not self._of_address[key[0]]:
                del self._of_address[key[0]]
        return connection


def _key(found: re.Match[str]) -> _Key | None:
    return None if found["host"] is None else _key_of(found["host"], found["port"])


def _key_of(host: str, port: str) -> _Key | None:
    """Return address and port, the address in its canonical form; None for no address."""
    address = canonical_address(host)
    return (address, int(port)) if address else None
