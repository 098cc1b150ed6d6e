"""Connect one application to the broker, under its own account, over verified TLS."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from warden_host import names
from warden_host.broker.accounts import ANY_TYPE
from warden_host.broker.backend import MAX_PACKET
from warden_host.errors import HostError
from warden_host.fleet import tls
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY, Topic
from warden_host.service.publish_tap import PublishTap, tapped_socket

# (appid, topic, payload, retain flag), on paho's own thread; the payload is valid during the call.
Sink = Callable[[str, bytes, memoryview, bool], None]
# (appid, whether the link is up), on paho's thread: at a loss, and at its end.
Change = Callable[[str, bool], None]
_KEEPALIVE_S = 30
# Reconnects come sooner than the devices': the first message of a device is a hello to be
# answered.
_LEAST_DELAY_S, _MOST_DELAY_S = 0.1, 1.0


class AppLink:
    """A connection that is restored in the background. Raises key-…, unreachable."""

    def __init__(
        self, fleet: Fleet, appid: str, types: tuple[str, ...], sink: Sink, change: Change
    ) -> None:
        self.appid = appid
        self._types = (ANY_TYPE,) if appid == AUTHORITY else types
        self._sink = sink
        self._change = change
        self._lost = False
        self._up = threading.Event()
        self._refusal = ""
        self._awaited: set[int] = set()
        broker = fleet.settings.broker
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=names.app_client(appid), clean_session=True
        )
        client.username_pw_set(names.app_client(appid), fleet.app_password(appid).decode())
        context = tls.context(fleet)
        context.sslsocket_class = tapped_socket(lambda: PublishTap(self._on_publish, MAX_PACKET))
        client.tls_set_context(context)
        client.max_queued_messages_set(1000)
        # paho takes fractions of a second too.
        client.reconnect_delay_set(_LEAST_DELAY_S, _MOST_DELAY_S)  # type: ignore[arg-type]
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        self._client = client
        try:
            client.connect(broker.contact, broker.port, _KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise HostError(
                "unreachable",
                f"the broker at {broker.contact}:{broker.port} can't be reached ({error})",
                "does `warden serve` run?",
            ) from None
        client.loop_start()

    def wait(self, seconds: float) -> None:
        """Wait until every subscription is granted. Raises broker-refused or timed-out."""
        if not self._up.wait(seconds):
            code = "broker-refused" if self._refusal else "timed-out"
            why = self._refusal or "the broker does not answer"
            raise HostError(code, f"application {self.appid}: {why}")

    def publish(self, topic: Topic, data: bytes) -> None:
        """Publish with QoS 1, as every command: a broker may reorder between two levels."""
        self._client.publish(str(topic), data, qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            return
        for type_ in self._types:
            _result, number = client.subscribe(names.topic_base(type_, ANY_TYPE) + "/evt/#", qos=0)
            if number is not None:
                self._awaited.add(number)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, number: int, reasons: Any, _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refusal = "a subscription was refused"
            return
        self._awaited.discard(number)
        if not self._awaited:
            self._up.set()
            if self._lost:
                self._lost = False
                self._change(self.appid, True)

    def _on_disconnect(self, *_: Any) -> None:
        self._up.clear()
        self._awaited.clear()
        if not self._lost:
            self._lost = True
            self._change(self.appid, False)

    def _on_publish(self, topic: bytes, payload: memoryview, retain: bool) -> None:
        self._sink(self.appid, topic, payload, retain)


def _send_at_once(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    """Turn Nagle's algorithm off, which paho leaves on."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
