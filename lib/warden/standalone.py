"""A link to a broker of one's own, without Warden's authority: docs/standalone.md.

    connection = Connection.from_board(on_message)
    running = asyncio.create_task(connection.run())
    await connection.publish("porch/temperature", b"21.5", qos=1)

Server, account and trust anchors lie in the vault, where store() puts them. Topics and payloads
are the program's own; nothing is sealed above TLS. No other module of the package loads this one.
"""

import asyncio
import gc

from micropython import const

from . import unload
from .errors import LinkError, PeerError, StoreError, ensure
from .net.backoff import Backoff
from .net.clock import Clock
from .net.link import Link
from .net.mqtt import Client
from .net.verifier import TrustAnchors
from .wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from .net.clock import Rtc
    from .vault import Vault

_MAX_RECORD = const(4096)  # bytes, as the vault takes them


def create_vault(ask: "Callable[[], bytes] | None" = None) -> "Vault":
    """Make the vault that board.py describes, and return it open.

    ask(): returns the PIN where the root key needs one.
    UsageError no-board; StoreError already-provisioned and others.
    """
    from .board.load import board_vault

    vault = board_vault(ask)[1]
    vault.create()
    return vault


def store(
    vault: "Vault",
    server: "tuple[str, int]",
    client_id: str,
    user: "bytes | None",
    password: "bytes | None",
    cas: "list[bytes]",
    pins: "list[bytes]",
    networks: "list[tuple[str, bytes]] | None" = None,
) -> None:
    """Put what a connection needs into an open vault, by one commit.

    server: (host, port). user, password: any bytes, or both None. cas: DER. pins: SHA-256 of the
    server key's SubjectPublicKeyInfo, two at least. networks: of a board with Wi-Fi, (name,
    password) of each, the preferred one first. UsageError bad-argument; StoreError.
    """
    from .vault.records import are_networks

    TrustAnchors(cas, pins)
    known = None if networks is None else [list(network) for network in networks]
    ensure(known is None or are_networks(known), "bad-argument", "1 to 8 Wi-Fi networks")
    host, port = server
    ensure(
        0 < len(host) <= 253 and 0 < port < 65536 and 0 < len(client_id) <= 128,
        "bad-argument",
        "a server is a name or address and a port, a client ID has 1 to 128 characters",
    )
    ensure((user is None) == (password is None), "bad-argument", "a user name needs a password")
    records: "dict[str, bytes | None]" = {
        "broker": cbor.encode([host, port, user, password, client_id]),
        "trust": cbor.encode([list(cas), list(pins)]),
        "network": cbor.encode(known),
    }
    for data in records.values():
        ensure(
            len(data or b"") <= _MAX_RECORD, "bad-argument", "the account or the CAs are too large"
        )
    vault.commit(records)


class Connection:
    """One connection after the other to the server in the vault.

    vault: open, as store() left it. rtc: the clock chip (hal/clock_rtc.py). on_message(topic,
    payload): called with a memoryview of each, valid until it returns. floor: unix seconds that
    the clock is at least set to, such as the build's date. keepalive_s, max_message, stall_ms,
    handshake_ms, backoff_ms (least, most): as in a policy, docs/networks.md. will: (topic,
    payload) or None. network: None where the board is online, else as WiFi of hal/network_wifi.py.
    log(code, text): called with all that happens; printed without it.

    up: an asyncio.Event, set while the broker has accepted the log-in.
    Raises StoreError not-provisioned, UsageError.
    """

    def __init__(
        self,
        vault: "Vault",
        rtc: "Rtc",
        on_message: "Callable[[memoryview, memoryview], None]",
        floor: int = 0,
        keepalive_s: int = 60,
        max_message: int = 2048,
        stall_ms: int = 5000,
        handshake_ms: int = 20000,
        backoff_ms: "tuple[int, int]" = (1000, 60000),
        will: "tuple[str, bytes] | None" = None,
        network: "Any" = None,
        log: "Callable[[str, str], None]" = print,
    ) -> None:
        host, port, user, password, client_id = _load(vault, "broker")
        self._server: "tuple[str, int]" = (host, port)
        self._trust = TrustAnchors(*_load(vault, "trust"))
        self._clock = Clock(rtc, vault, floor)
        self._clock.start()
        self._stall_ms = stall_ms
        self._handshake_ms = handshake_ms
        self._max_message = max_message
        self._network = network
        self._log = log
        self._backoff = Backoff(*backoff_ms)
        self._on_message = on_message
        self._client = Client(
            client_id,
            user,
            password,
            self._deliver,
            keepalive_s,
            max_message,
            stall_ms,
            self._skipped,
        )
        if will is not None:
            self._client.set_last_will(*will)
        self.up = asyncio.Event()

    @staticmethod
    def from_board(
        on_message: "Callable[[memoryview, memoryview], None]",
        ask: "Callable[[], bytes] | None" = None,
        **options: "Any",
    ) -> "Connection":
        """Return the connection of a board that board.py describes: vault, clock and network.

        ask(): returns the PIN where the root key needs one. options: the others of Connection.
        UsageError no-board, no-network; StoreError not-provisioned and others.
        """
        from .board.load import parts

        vault, rtc, network, floor, _, _ = parts(ask)
        unload("board")
        unload("warden.board.load")
        return Connection(vault, rtc, on_message, floor, network=network, **options)

    def _deliver(self, topic: memoryview, payload: memoryview, retained: bool) -> None:
        self._on_message(topic, payload)

    def _skipped(self, topic: bytes, head: bytes) -> None:
        self._log("mqtt-too-large", "a message above %d bytes was dropped" % self._max_message)

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe now if connected, and again after each reconnect.

        topic: 1 to 120 bytes. PeerError mqtt-refused; LinkError; UsageError bad-argument.
        """
        await self._client.subscribe(topic, qos)

    async def publish(self, topic: str, payload: "bytes | memoryview", qos: int = 0) -> None:
        """Wait for a connection, and send a message; with QoS 1 until the broker acknowledged it.

        A message of QoS 1 goes again on each new connection until then, so that it may arrive
        twice. UsageError bad-argument above max_message.
        """
        size = len(topic.encode()) + len(payload) + 5 + 2 * qos
        ensure(size <= self._max_message, "bad-argument", "the message is above max_message")
        while True:
            await self.up.wait()
            try:
                await self._client.publish(topic, payload, qos)
                return
            except LinkError as error:  # run() makes another connection
                self._log(error.code, error.text)
                await asyncio.sleep_ms(100)

    async def run(self) -> None:
        """Keep connected, for ever: connect, receive, wait, and connect again."""
        while True:
            gc.collect()  # a hand-shake needs its buffers in one piece
            try:
                if self._network is not None:
                    await self._network.up(self._handshake_ms)
                link = Link(self._trust, self._clock, self._stall_ms)
                await self._client.connect(link, *self._server, self._handshake_ms)
                self._backoff.reset()
                self._log("link-up", "%s:%d" % self._server)
                self.up.set()
                # A task of its own has the C stack that a message needs.
                await asyncio.create_task(self._client.pump())
            except PeerError as error:
                self._log(error.code, error.text)
                if error.code == "mqtt-refused":
                    self._backoff.slow_down()  # a wrong password does not get better by trying
            except MemoryError:
                self._log("out-of-memory", "not enough memory for the connection")
            self.up.clear()
            self._clock.undo()  # a tentative time ends with its connection
            await asyncio.sleep_ms(self._backoff.next_ms())

    async def stop(self) -> None:
        """Disconnect from the broker; cancel the task of run() before."""
        self.up.clear()
        await self._client.disconnect()


def _load(vault: "Vault", name: str) -> "Any":
    data = vault.get(name)
    if data is None:
        raise StoreError("not-provisioned", "the vault has no record " + name)
    return cbor.decode(data)
