"""Find out that another host serves this fleet: the original of a restored one, or a copy.

Both have the same keys, so a device takes either. Which one serves is decided by the address that
devices connect to. This host connects there as a device does, with a client ID that is drawn for
the purpose: a server with a certificate of the fleet's CA that is this host's broker writes the ID
into its log, and any other one is another host. Where nothing answers, nothing is known.
"""

import secrets
import socket
import ssl
import threading
from collections.abc import Callable

from warden_host.broker.backend import RefusedLogin, is_running
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet import tls
from warden_host.fleet.fleet import BrokerSettings, Fleet
from warden_host.names import PROBE
from warden_host.service.background import round_guard

CHECK_S = 60.0
SURE_AFTER = 2  # checks in a row: the broker's log may lose a line
_CONNECT_S = 4.0
_LOG_S = 10.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANSWER = 4  # bytes of a CONNACK


def is_watched(fleet: Fleet) -> bool:
    """Return whether the devices' address can lead to another host, and to one broker alone."""
    broker = fleet.settings.broker
    here = broker.host.lower() in _LOOPBACK and broker.device_port == broker.port
    several = bool(fleet.document.get("broker", {}).get("servers"))
    return not here and not several


def check_unserved(fleet: Fleet) -> None:
    """Raise fleet-served where a server of this fleet answers before this host's broker runs.

    One that runs already is refused at its start, by its own name.
    """
    if is_watched(fleet) and not is_running(fleet) and answers(fleet, _client_id()):
        raise _served(fleet.settings.broker)


def answers(fleet: Fleet, client_id: str) -> bool:
    """Return whether a broker with a certificate of the fleet's CA is at the devices' address.

    client_id: with which it is asked, without an account.
    """
    broker = fleet.settings.broker
    try:
        address = (broker.host, broker.device_port)
        with (
            socket.create_connection(address, _CONNECT_S) as plain,
            tls.context(fleet).wrap_socket(plain, server_hostname=broker.host) as link,
        ):
            link.sendall(_connect(client_id))
            return bool(link.recv(_ANSWER))
    except (OSError, ssl.SSLError, ValueError, HostError):
        return False  # HostError: the CA's file can't be read now


def _connect(client_id: str) -> bytes:
    """Return an MQTT 3.1.1 CONNECT without user name and password."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name
    return bytes([0x10, len(body)]) + body


def _client_id() -> str:
    return PROBE + secrets.token_hex(8)


def _served(broker: BrokerSettings) -> HostError:
    return HostError(
        "fleet-served",
        f"another host with this fleet's keys answers at {broker.host}:{broker.device_port}",
    )


class AddressWatch:
    """Look once a minute, on a thread of its own. before() goes between it and the broker."""

    def __init__(self, fleet: Fleet, announce: Callable[[FleetEvent], None]) -> None:
        self._fleet = fleet
        self._announce = announce
        self._name = _client_id()  # begins the IDs of this watch: another client can't draw it
        self._asked = 0
        self._seen = threading.Event()
        self._in_a_row = 0
        self._stop = threading.Event()
        self._rounds = round_guard("another host was not looked for", announce)
        self._thread = threading.Thread(target=self._run, name="warden-address", daemon=True)

    def __enter__(self) -> "AddressWatch":
        if is_watched(self._fleet):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._seen.set()
        if self._thread.is_alive():
            self._thread.join(_CONNECT_S)

    @property
    def _question(self) -> str:
        """Return the client ID of the last look."""
        return f"{self._name}-{self._asked}"

    def asks(self, client: str) -> bool:
        """Return whether a client ID is one of this watch's questions."""
        return client.startswith(self._name)

    def before(self, refused: Callable[[RefusedLogin], None]) -> Callable[[RefusedLogin], None]:
        """Return what takes log-ins that this host's own broker refused: all but ours go on."""

        def take(one: RefusedLogin) -> None:
            if one.client == self._question:
                self._seen.set()
            elif not self.asks(one.client):
                refused(one)

        return take

    def check(self) -> None:
        """Raise fleet-served once another host was found."""
        if self._in_a_row >= SURE_AFTER:
            raise _served(self._fleet.settings.broker)

    def look(self, log_s: float = _LOG_S) -> None:
        """Look once. log_s: how long this broker's log may take."""
        self._seen.clear()
        self._asked += 1
        if not answers(self._fleet, self._question) or self._seen.wait(log_s):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row == SURE_AFTER:
            text = _served(self._fleet.settings.broker).text
            self._announce(
                FleetEvent("notice", code="fleet-served", text=f"{text}: this one ends")
            )

    def _run(self) -> None:
        while not self._stop.wait(CHECK_S):
            self._rounds.attempt(self.look)
