"""An MQTT client for tests of the broker, which notes what the broker answers."""

import ssl
import time

import paho.mqtt.client as mqtt
from process_kit import PATIENCE_S
from warden_host.fleet import fleet


class Client:
    """A client that notes what the broker tells it.

    bare_port: of a listener without TLS, or 0. port, context: of another listener with TLS.
    """

    def __init__(
        self,
        made: fleet.Fleet,
        client_id: str,
        user: str,
        password: str,
        bare_port: int = 0,
        *,
        port: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.answer = ""
        self.granted: list[bool] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id)
        self.client.username_pw_set(user, password)
        if not bare_port:
            known = ssl.create_default_context(cafile=str(made.keys / "ca.crt"))
            self.client.tls_set_context(context or known)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = lambda _c, _d, m: self.heard.append((m.topic, m.payload))
        self.client.connect("127.0.0.1", bare_port or port or made.settings.broker.port)
        self.until(lambda: self.answer)

    def _on_connect(self, _client, _data, _flags, reason, _properties) -> None:
        self.answer = str(reason)

    def _on_subscribe(self, _client, _data, _mid, reasons, _properties) -> None:
        self.granted += [not reason.is_failure for reason in reasons]

    def until(self, done, seconds: float = PATIENCE_S) -> bool:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self.client.loop(0.05)
        return bool(done())

    def subscribe(self, pattern: str) -> bool:
        before = len(self.granted)
        self.client.subscribe(pattern, qos=1)
        self.until(lambda: len(self.granted) > before or not self.client.is_connected())
        assert len(self.granted) > before
        return self.granted[-1]

    def publish(self, topic: str, retain: bool = False, data: bytes = b"x") -> None:
        info = self.client.publish(topic, data, qos=1, retain=retain)
        # mosquitto 2.0.21 closes the connection for a retained message, and acknowledges nothing.
        self.until(lambda: info.is_published() or not self.client.is_connected())

    def close(self) -> None:
        self.client.disconnect()
