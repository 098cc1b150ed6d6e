"""Connect one application to the broker, under its own account, over verified TLS.

paho connects, subscribes and keeps alive, and this module runs its loop. The messages of devices
(publish_tap.py) and those to them (publish_queue.py) pass it by on the same connection: the
thread that publishes writes there itself.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from warden_client import secretfile
from warden_client.protocol import key_lists

from warden_host import names
from warden_host.broker.accounts import ANY_TYPE
from warden_host.broker.backend import MAX_PACKET
from warden_host.errors import HostError
from warden_host.fleet import client_pki, tls
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY, Topic
from warden_host.round_guard import RoundGuard, Tell
from warden_host.service.publish_queue import PublishQueue
from warden_host.service.publish_tap import PublishTap, tapped_socket
from warden_host.store.store import App

# (appid, topic, payload, retain flag), on the link's thread; the payload is valid during the call.
Sink = Callable[[str, bytes, memoryview, bool], None]
# Called on the link's thread when messages were received, without the link's guard.
Received = Callable[[], None]
# (appid, whether the link is up), at a loss, and at its end; on any thread that uses the link.
Change = Callable[[str, bool], None]
_KEEPALIVE_S = 30
# Reconnects come sooner than the devices': the first message of a device is a hello to be
# answered.
LEAST_DELAY_S, MOST_DELAY_S = 0.1, 1.0
_MISC_S = 1.0  # how often keepalives are looked at
_CLOSE_S = 5.0
_MAX_WAITING = 1000  # messages that wait while the broker is away
# Bytes that wake the thread: more than a TLS record with a PUBACK, which may wait for what follows
# or for _MISC_S, and less than one with a message. To wake up costs as much as to read a message.
_WAKING_BYTES = 34


class AppLink:
    """A connection that is restored in the background. Raises key-…, unreachable.

    tell: called for an unforeseen exception.
    """

    def __init__(
        self,
        fleet: Fleet,
        appid: str,
        types: tuple[str, ...],
        sink: Sink,
        received: Received,
        change: Change,
        tell: Tell,
    ) -> None:
        self.appid = appid
        self._types = (ANY_TYPE,) if appid == AUTHORITY else types
        self._password = fleet.app_password(appid).decode()
        self._received = received
        self._change = change
        self._lost = False
        self._up = threading.Event()
        self._refusal = ""
        self._awaited: set[int] = set()
        broker = fleet.settings.broker
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=names.app_client(appid), clean_session=True
        )
        client.username_pw_set(names.app_client(appid), self._password)
        context = tls.context(fleet)
        if client_pki.has_own(fleet):
            secretfile.read(fleet.keys / client_pki.OWN)  # refuses a key that others can read
            context.load_cert_chain(fleet.keys / client_pki.OWN)
        self._queue = PublishQueue(_MAX_WAITING)
        context.sslsocket_class = tapped_socket(
            lambda: PublishTap(partial(sink, appid), MAX_PACKET, self._queue.acknowledge)
        )
        client.tls_set_context(context)
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        self._client = client
        # paho, the queue and the TLS connection are for one thread at a time. No thread waits for
        # the guard: one that can't have it leaves its message in _waiting, where the holder finds
        # it.
        self._guard = threading.Lock()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._accepted = False  # the broker has answered our CONNECT
        self._unwritten = bytearray()  # packets of the queue for which the connection has no room
        self._written = time.monotonic()  # when some of it was written, or nothing was left
        self._delay_s = LEAST_DELAY_S
        self._rounds = RoundGuard(f"the link of {appid} is connected anew", tell)
        self._misc = time.monotonic()  # when paho is to look at the keepalive
        self._closing = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._wake_file = self._wake.fileno()
        self._poll = select.poll()
        self._polled: tuple[Any, bool] = None, False  # what _poll waits for: to read, to write
        for end in (self._wake, self._waker):
            end.setblocking(False)
        try:
            client.connect(broker.contact, broker.port, _KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._close_wake()
            raise HostError(
                "unreachable",
                f"the broker at {broker.contact}:{broker.port} can't be reached ({error})",
                "does `warden serve` run?",
            ) from None
        self._thread = threading.Thread(target=self._run, name=f"warden-link-{appid}", daemon=True)
        self._thread.start()

    def is_of(self, types: tuple[str, ...], password: str) -> bool:
        """Return whether the link serves exactly these types, under this password."""
        return (self._types, self._password) == (types, password)

    def wait(self, seconds: float) -> None:
        """Wait until every subscription is granted. Raises broker-refused or timed-out."""
        if not self._up.wait(seconds):
            code = "broker-refused" if self._refusal else "timed-out"
            why = self._refusal or "the broker does not answer"
            raise HostError(code, f"application {self.appid}: {why}")

    def publish(self, topic: Topic | str, data: bytes) -> None:
        """Publish with QoS 1, as every command: a broker may reorder between two levels.

        It does not wait: messages that the connection does not take now are sent later, in their
        order. While the broker is away so many wait; those above are lost.
        """
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append((str(topic), data))
        self._send_waiting()

    def close(self) -> None:
        """Send what waits, disconnect and end the thread."""
        self._closing.set()
        self._wake_thread()
        self._thread.join(_CLOSE_S)
        self._close_wake()

    def _send_waiting(self) -> None:
        """Send the messages that wait, unless another thread holds the guard: it will do so."""
        while self._waiting and self._guard.acquire(blocking=False):
            try:
                self._send_all()
            finally:
                self._guard.release()

    def _send_all(self) -> None:
        """Write the messages that wait, as far as there is room. The caller holds the guard."""
        while self._waiting:
            topic, data = self._waiting.popleft()
            self._queue.add(topic, data)
        self._write()
        if self._unwritten:
            self._wake_thread()  # for it to write the rest, or to see that the connection is lost

    def _write(self) -> None:
        """Write packets of the queue, unless a packet of paho's is half written."""
        nothing = not self._unwritten and not self._queue.unsent
        if nothing or not self._accepted or self._client.want_write():
            return
        self._unwritten += self._queue.take()
        connection: Any = self._client.socket()
        try:
            while self._unwritten:
                # TLS takes all of it or asks for the same bytes again, to which more may be added.
                del self._unwritten[: connection.send(self._unwritten)]
                self._written = time.monotonic()
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass  # no room
        except OSError:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # paho reads its end, and reconnects

    def _wake_thread(self) -> None:
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(OSError):  # it is awake: so much was written before
                self._waker.send(b"\0")

    def _close_wake(self) -> None:
        self._wake.close()
        self._waker.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            if not self._rounds.attempt(self._turn):
                self._rounds.attempt(self._received)
                self._rounds.attempt(self._connect_anew)
        with self._guard:
            self._send_all()
            self._client.disconnect()

    def _turn(self) -> None:
        connection = self._client.socket()
        if connection is None:
            self._reconnect()
        else:
            self._wait_for(connection)
            misc_due = time.monotonic() >= self._misc
            try:
                with self._guard:
                    self._handle(misc_due)
            except OSError:  # it is lost, which is no bug
                self._connect_anew()
            self._received()
            if misc_due:
                self._misc = time.monotonic() + _MISC_S
        self._send_waiting()

    def _connect_anew(self) -> None:
        """Give the connection up: a bug costs one, not the link."""
        with self._guard:
            self._on_disconnect()
        self._reconnect()

    def _wait_for(self, connection: Any) -> None:
        """Wait until there is something to read or, if something waits, room to write."""
        writing = bool(self._unwritten) or self._client.want_write()
        if self._polled != (connection, writing):
            # A new object for another connection: its file's number may be that of the old one.
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            try:
                poll.register(connection, select.POLLIN | (select.POLLOUT if writing else 0))
            except ValueError:
                return  # another thread closed the connection in the meantime
            self._poll, self._polled = poll, (connection, writing)
        if (self._wake_file, select.POLLIN) in self._poll.poll(1000 * _MISC_S):
            self._wake.recv(4096)

    def _handle(self, misc_due: bool) -> None:
        """Read, write and, every second, have paho look at the keepalive."""
        client = self._client
        connection: Any = client.socket()
        if connection.fill():
            while client.loop_read() == mqtt.MQTT_ERR_SUCCESS and connection.pending():
                pass
        self._write()
        if client.want_write():
            client.loop_write()
            self._write()
        now = time.monotonic()
        if not self._unwritten:
            self._written = now
        # paho must not write in the middle of a packet, unless the connection is as good as lost.
        if misc_due and (not self._unwritten or now - self._written > _KEEPALIVE_S):
            client.loop_misc()

    def _reconnect(self) -> None:
        if self._closing.wait(self._delay_s):
            return
        self._delay_s = next_delay(self._delay_s)
        with self._guard, contextlib.suppress(OSError, ValueError):
            self._client.reconnect()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            return
        self._delay_s = LEAST_DELAY_S
        self._accepted = True
        self._queue.restart()
        for type_ in self._types:
            _result, number = client.subscribe(names.topic_base(type_, ANY_TYPE) + "/evt/#", qos=0)
            if number is not None:
                self._awaited.add(number)
        if self.appid == AUTHORITY:  # nothing waits for it: an older registry has no such right
            client.subscribe(key_lists.ask_topic(ANY_TYPE), qos=0)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, number: int, reasons: Any, _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            if number in self._awaited:
                self._refusal = "a subscription was refused"
            return
        self._awaited.discard(number)
        if not self._awaited:
            connection: Any = self._client.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _WAKING_BYTES)
            self._up.set()
            if self._lost:
                self._lost = False
                self._change(self.appid, True)

    def _on_disconnect(self, *_: Any) -> None:
        self._up.clear()
        self._awaited.clear()
        self._accepted = False
        self._unwritten.clear()
        if not self._lost:
            self._lost = True
            self._change(self.appid, False)


def outdated(fleet: Fleet, links: Mapping[str, AppLink], served: list[App]) -> list[str]:
    """Return the applications whose link must end: all but those served as their link is."""
    apps = {app.appid: app for app in served}
    found = []
    for appid, link in links.items():
        app = apps.get(appid)
        if appid != AUTHORITY and (
            app is None or not link.is_of(app.types, fleet.app_password(appid).decode())
        ):
            found.append(appid)
    return found


def next_delay(seconds: float) -> float:
    """Return how long to wait before the next attempt, after one that failed."""
    return min(2 * seconds, MOST_DELAY_S)


def _send_at_once(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    """Turn Nagle's algorithm off, which paho leaves on."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
