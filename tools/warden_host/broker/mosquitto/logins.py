"""Find refused log-ins in mosquitto's log.

mosquitto 2.0.21 and later name the client; 2.0.11 writes `<unknown>`. Its address stands in an
earlier line alone, of the connection, and lines of several connections are mixed: where more than
one connection is open that has not logged in, each of their addresses may be the one.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from warden_host import names
from warden_host.addresses import canonical_address
from warden_host.broker.mosquitto.stamps import seconds, split_stamp

_MOST_PENDING = 64
_MOST_KNOWN = 20_000  # clients whose address is remembered
_MOST_NAMED = 3
_PENDING_S = 60.0

_START = re.compile(r"mosquitto version \S+ starting\Z")
_NEW = re.compile(r"New connection from (\S+):(\d{1,5}) on port \d{1,5}\.\Z")
_IN = re.compile(r"New client connected from (\S+):(\d{1,5}) as (\S+) \(")
_REFUSED = re.compile(
    r"Client (?P<client>.+?)(?: \[(?P<host>\S+):(?P<port>\d+)\] disconnected:|"
    r" disconnected,) not authorised\.\Z"
)
_OUT = re.compile(
    r"Client (.+?)(?: \[[^]]+\])? (?:disconnected|closed its connection|has exceeded)"
)
_TLS = re.compile(r"OpenSSL Error.*?: (error:.*)\Z")
_TLS_AT_ONCE = re.compile(r"Client connection from (\S+) failed: (error:.*)\Z")
_UNKNOWN = "<unknown>"
# Code of docs/errors.md → what OpenSSL says of it.
_TLS_CODES = {
    "certificate-untrusted": re.compile(
        "alert (unknown ca|bad certificate|certificate expired|certificate unknown)"
    ),
    "no-tls": re.compile(
        "wrong version number|http request|unknown protocol|unsupported protocol"
    ),
    "own-certificate-refused": re.compile(
        "peer did not return a certificate|certificate verify failed|certificate revoked"
    ),
}
LOGIN = "mqtt-refused"


@dataclass(frozen=True)
class RefusedLogin:
    """A log-in or a hand-shake that the broker refused.

    time: unix seconds. code: of docs/errors.md. client: "" where the log does not name it.
    addresses: from which of these it came. absent: clients that were connected from there last,
    and are not now.
    """

    time: float
    code: str
    client: str
    addresses: tuple[str, ...]
    absent: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Return what repeats have in common."""
        return (self.code, self.client, *self.addresses, *self.absent)


class LoginReader:
    """Read the lines of a log in order."""

    def __init__(self) -> None:
        self._pending: OrderedDict[str, tuple[str, float]] = OrderedDict()  # port → host, when
        self._hosts: OrderedDict[str, str] = OrderedDict()  # client → its last address
        self._online: set[str] = set()

    def read(self, lines: Iterable[str]) -> Iterator[RefusedLogin]:
        """Yield what was refused."""
        for line in lines:
            stamp, text = split_stamp(line)
            if stamp:
                found = self._line(stamp, text)
                if found is not None:
                    yield found

    def _line(self, stamp: str, text: str) -> RefusedLogin | None:
        if text.startswith("New "):
            self._connected(stamp, text)
            return None
        if _START.match(text):
            self._pending.clear()
            self._online.clear()
            return None
        if text.startswith("OpenSSL Error"):
            tls = _TLS.match(text)
            return None if tls is None else self._refused_tls(stamp, tls[1], "")
        if not text.startswith("Client "):
            return None
        at_once = _TLS_AT_ONCE.match(text)
        if at_once is not None:
            return self._refused_tls(stamp, at_once[2], _host(at_once[1]))
        refused = _REFUSED.match(text)
        if refused is not None:
            client = "" if refused["client"] == _UNKNOWN else refused["client"]
            # A client can call itself so: an address counts where a connection has it.
            pending = self._pending.get(refused["port"] or "", ("",))
            host = _host(refused["host"] or "")
            addresses = self._addresses(stamp, host if host == pending[0] else "")
            return self._made(stamp, LOGIN, client, addresses)
        gone = _OUT.match(text)
        if gone is not None:
            self._online.discard(gone[1])
        return None

    def _connected(self, stamp: str, text: str) -> None:
        new = _NEW.match(text)
        if new is not None:
            self._pending[new[2]] = _host(new[1]), seconds(stamp)
            if len(self._pending) > _MOST_PENDING:
                self._pending.popitem(last=False)
            return
        logged_in = _IN.match(text)
        if logged_in is not None:
            host, port, client = logged_in.groups()
            self._pending.pop(port, None)
            self._hosts.pop(client, None)
            self._hosts[client] = _host(host)
            self._online.add(client)
            if len(self._hosts) > _MOST_KNOWN:
                self._online.discard(self._hosts.popitem(last=False)[0])

    def _refused_tls(self, stamp: str, error: str, host: str) -> RefusedLogin | None:
        for code, pattern in _TLS_CODES.items():
            if pattern.search(error):
                return self._made(stamp, code, "", self._addresses(stamp, host))
        return None  # such as a connection that was closed, as a check of the port does

    def _addresses(self, stamp: str, host: str) -> tuple[str, ...]:
        """Return from where it came; the oldest connection without a log-in is over."""
        if host:
            return (host,)
        now = seconds(stamp)
        while self._pending and now - next(iter(self._pending.values()))[1] > _PENDING_S:
            self._pending.popitem(last=False)
        found = dict.fromkeys(host for host, _ in self._pending.values())
        if self._pending:
            self._pending.popitem(last=False)
        return tuple(found)[:_MOST_NAMED]

    def _made(
        self, stamp: str, code: str, client: str, addresses: tuple[str, ...]
    ) -> RefusedLogin:
        absent = () if client or code == "no-tls" else self._absent(addresses)
        return RefusedLogin(seconds(stamp), code, client, addresses, absent)

    def _absent(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            client
            for client, host in self._hosts.items()
            if host in addresses and client not in self._online and client != names.ADMIN
        )


def _host(text: str) -> str:
    """Return a connection's address as it is shown: in its canonical form, where it is one."""
    return canonical_address(text) or text
