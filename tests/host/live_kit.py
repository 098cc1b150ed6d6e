"""Build a device for tests of a live authority: the device's protocol over a real broker."""

import socket
import ssl

import paho.mqtt.client as mqtt
from engine_kit import POLICY, K
from host_kit import DEVICE, PeerDevice
from warden_host.protocol import policy


def send_at_once(_client, _data, connection) -> None:
    """Turn Nagle's algorithm off, as devices do and paho does not."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class LiveDevice(PeerDevice):
    """Answers welcomes and commands over a real connection, on paho's thread."""

    answered = b"", b""  # the last command, and its reply

    def __init__(self, fleet, password: str, device: str = DEVICE, record: bytes = POLICY) -> None:
        super().__init__(K["authority"], policy.policy_hash(record), device=device)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="d:relay:" + device)
        self.client.username_pw_set("d:relay:" + device, password)
        self.client.tls_set_context(ssl.create_default_context(cafile=str(fleet.keys / "ca.crt")))
        self.client.on_socket_open = send_at_once
        self.client.on_connect = lambda c, *_: c.subscribe(
            self.topic("cmd", "+").replace("+/fmt/cose", "#"), 1
        )
        self.client.on_subscribe = lambda *_: self.send_event("hello", self.hello())
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", fleet.settings.broker.port)
        self.client.loop_start()

    def send_event(self, event: str, data: bytes) -> None:
        self.client.publish(self.topic("evt", event), data, qos=0)

    def on_message(self, _client, _data, message) -> None:
        verb = message.topic.split("/")[6]
        if verb == "welcome":
            self.take_welcome(message.payload)
            self.send_event("ready", self.ready())
        elif verb == "wake":
            self.send_event("hello", self.hello(wake=self.wake_nonce(message.payload)))
        elif verb != "ack":
            if message.payload != self.answered[0]:  # else a copy of the last command
                _, (number, _, body) = self.open(verb, message.payload)
                answer = {"ok": True, "result": body}
                self.answered = message.payload, self.seal("reply", [number, None, answer])
            self.send_event("reply", self.answered[1])

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
