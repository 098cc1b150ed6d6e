"""One connection to the broker: MQTT over TLS, whose server key is pinned.

paho runs on a thread of its own; all that this class calls runs in the event loop. A connection
that was lost is never restored: the caller makes another one, so nothing of the old sessions is
sent again.
"""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from paho.mqtt.enums import CallbackAPIVersion

from warden_client.credentials import Credentials
from warden_client.errors import HostError
from warden_client.names import TOPIC_LIMIT
from warden_client.protocol.strictcbor import MAX_BYTES

KEEPALIVE_S = 30
_UP_S = 15.0  # for TCP, TLS, CONNACK and SUBACK
_INBOX = 1000  # messages that wait for the event loop
_BATCH = 64  # messages that are handled before the event loop has another turn


class Message(NamedTuple):
    topic: str
    payload: bytes
    retain: bool


class _PinMismatch(ssl.SSLError):
    """The server's key is none of the pinned ones."""


class Connection:
    """on_message: called with each message. on_lost: called once, at the end of a connection."""

    def __init__(
        self,
        credentials: Credentials,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._credentials = credentials
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._inbox: deque[Message] = deque()
        self._scheduled = False
        self._closed = False
        self.dropped = 0  # messages for which the inbox had no room
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=credentials.client_id,
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.username_pw_set(credentials.user, credentials.password)
        client.tls_set_context(tls_context(credentials))
        client.connect_timeout = _UP_S
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._receive
        self._client = client

    async def open(self) -> None:
        """Connect, log in and subscribe.

        Raises: unreachable, timed-out; certificate-untrusted, pin-mismatch, broker-refused.
        """
        host, port = self._credentials.host, self._credentials.port
        try:
            async with asyncio.timeout(_UP_S):
                await asyncio.to_thread(self._client.connect, host, port, KEEPALIVE_S)
                self._client.loop_start()
                await self._up
        except _PinMismatch:
            raise HostError(
                "pin-mismatch",
                f"the server at {host}:{port} has another key than the fleet's",
                "if the fleet's server key was renewed: `warden app export` again",
            ) from None
        except ssl.SSLCertVerificationError as error:
            text = f"the server at {host}:{port} is not trusted: {error.verify_message}"
            raise HostError("certificate-untrusted", text) from None
        except TimeoutError:
            text = f"the broker at {host}:{port} does not answer"
            raise HostError("timed-out", text, "does `warden serve` run?") from None
        except (OSError, ValueError) as error:
            text = f"the broker at {host}:{port} can't be reached ({error})"
            raise HostError("unreachable", text, "does `warden serve` run?") from None

    def publish(self, topic: str, data: bytes) -> bool:
        """Publish with QoS 1, as every command; return False where the connection is lost."""
        return not self._closed and self._client.publish(topic, data, qos=1).rc == 0

    async def close(self) -> None:
        """Disconnect, and end the thread."""
        self._closed = True
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    # On paho's thread

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            hint = "an owner may have changed it: `warden app export` again"
            self._call(self._fail, HostError("broker-refused", f"log-in refused: {reason}", hint))
            return
        # A list of keys that was lost would have to be asked for again.
        own = self._credentials.list_topic
        lists = [(own, 1)] if own else []
        client.subscribe([*lists, *((topic, 0) for topic in self._credentials.subscribe)])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _number: int, reasons: Any, _properties: Any
    ) -> None:
        # A broker without that right costs the lists alone.
        wanted = reasons[1:] if self._credentials.list_topic else reasons
        if any(reason.is_failure for reason in wanted):
            self._call(self._fail, HostError("broker-refused", "a subscription was refused"))
        else:
            self._call(self._succeed)

    def _on_disconnect(self, *_: Any) -> None:
        self._call(self._lose)

    def _receive(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if len(topic) > TOPIC_LIMIT or len(message.payload) > MAX_BYTES:
            return
        if len(self._inbox) >= _INBOX:
            self.dropped += 1
            return
        self._inbox.append(Message(topic, bytes(message.payload), message.retain))
        if not self._scheduled:
            self._scheduled = True
            self._call(self._drain)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the event loop

    def _drain(self) -> None:
        self._scheduled = False  # before: a message that comes now schedules another turn
        for _ in range(min(_BATCH, len(self._inbox))):
            self._on_message(self._inbox.popleft())
        if self._inbox and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _succeed(self) -> None:
        if not self._up.done():
            self._up.set_result(None)

    def _fail(self, error: HostError) -> None:
        if not self._up.done():
            self._up.set_exception(error)

    def _lose(self) -> None:
        text = "the broker closed the connection"
        self._fail(HostError("unreachable", text, "does `warden serve` run?"))
        if not self._closed:
            self._closed = True
            self._on_lost()


def tls_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context that trusts the fleet's CA alone, and of its servers those that are pinned.

    The pin is checked before the log-in is sent. Raises: key-damaged.
    """
    pins = credentials.pins

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            if spki_pin(self.getpeercert(binary_form=True) or b"") not in pins:
                self.close()  # else it stays open as long as the error does
                raise _PinMismatch("another key than the pinned ones")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = PinnedSocket
    try:
        context.load_verify_locations(cadata=credentials.ca)
    except (ssl.SSLError, ValueError):
        raise HostError("key-damaged", "the file's CA can't be read") from None
    return context


def spki_pin(certificate: bytes) -> bytes:
    """Return SHA-256 of a certificate's SubjectPublicKeyInfo. certificate: DER."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key.public_bytes(*form)).digest()


def _send_at_once(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    """Turn Nagle's algorithm off, which paho leaves on."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
