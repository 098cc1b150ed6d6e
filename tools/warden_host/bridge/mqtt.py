"""Publish the fleet's state to a plain MQTT broker, and take commands from it where allowed.

PREFIX/DEVICE/state     retained JSON: type, online, presence, quarantined, values
PREFIX/DEVICE/availability   retained: online or offline
PREFIX/DEVICE/event/NAME     an event's body as JSON
PREFIX/DEVICE/command/NAME   a command's arguments as JSON, from others
PREFIX/DEVICE/reply/NAME     what became of it, as JSON
"""

import json
import queue
import re
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from warden_host import control_client, jsontext, names, stopping
from warden_host.bridge import discovery
from warden_host.bridge.bridge import Bridge
from warden_host.errors import HostError, known_error
from warden_host.round_guard import RoundGuard, Tell

_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z", re.ASCII)
_MAX_COMMANDS = 100  # that wait
_LATEST_S = (
    30.0  # a command that waited longer is not given: its sender doesn't expect it any more
)
_MOST_UNCONFIRMED = 1000  # messages that the broker didn't confirm yet
_MAX_BODY = 16384
_TIMEOUT_S = 10.0
_GOODBYE_S = 10.0


@dataclass(frozen=True)
class MqttSettings:
    """url: mqtt://HOST:PORT or mqtts://HOST:PORT. ca: for mqtts, None for the system's.

    home_assistant: the prefix of its discovery, "" for none.
    """

    url: str
    user: str = ""
    password: bytes = b""
    ca: Path | None = None
    prefix: str = "warden"
    home_assistant: str = ""


class CommandTaker:
    """Send others' commands with the rights of one application token. One at a time, in order."""

    def __init__(
        self, socket: Path, token: str, reply: Callable[[str, str, Any], None], tell: Tell
    ) -> None:
        """reply: called with device, command and result, on this object's thread.

        tell: called for an unforeseen exception.
        """
        self._rounds = RoundGuard("a command was not given or not answered", tell)
        self._socket = socket
        self._token = token
        self._reply = reply
        self._waiting: queue.Queue[tuple[float, str, str, bytes]] = queue.Queue(_MAX_COMMANDS)
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, device: str, command: str, body: bytes) -> None:
        """Queue a command; answer `busy` where too many wait."""
        try:
            self._waiting.put_nowait((time.monotonic(), device, command, body))
        except queue.Full:
            self._reply(device, command, {"ok": False, "error": "busy"})

    def _run(self) -> None:
        while True:
            self._rounds.attempt(self._give, *self._waiting.get())

    def _give(self, came: float, device: str, command: str, body: bytes) -> None:
        try:
            if time.monotonic() - came > _LATEST_S:
                result: Any = {"ok": False, "error": "expired"}
            else:
                result = self._send(device, command, body)
        except Exception as error:  # noqa: BLE001  its sender needs an answer
            result = {"ok": False, "error": known_error(error).code}
            if not isinstance(error, HostError):
                self._rounds.note(error)
        self._reply(device, command, result)

    def _send(self, device: str, command: str, body: bytes) -> Any:
        names.check_id(device, "device ID")
        names.check_verb(command, "command")
        request = {
            "op": "send",
            "device": device,
            "command": command,
            "args": jsontext.parse_object(body or b"{}", _MAX_BODY),
            "timeout": _TIMEOUT_S,
            "token": self._token,
        }
        answer = control_client.call(self._socket, request, _TIMEOUT_S * 4)
        reply = answer.get("reply")
        return reply if isinstance(reply, dict) else {"ok": answer.get("ok") is True}


class MqttOutlet:
    """Publish a bridge's view until close(). It connects, and reconnects, in the background.

    Where the broker is behind, each device's latest state is published later, and events are lost.
    """

    def __init__(
        self, bridge: Bridge, settings: MqttSettings, commands: Callable[..., CommandTaker] | None
    ) -> None:
        """commands: makes the taker of commands, given its reply; None to take none.

        A stop ends its wait for the broker: nothing is published then.
        Raises: bad-argument, unreachable.
        """
        if not _PREFIX.match(settings.prefix):
            raise HostError("bad-argument", f"{settings.prefix!r} can't begin a topic")
        self._bridge = bridge
        self._settings = settings
        self._announced: dict[str, str] = {}  # topic of a discovery → its device
        # Devices whose state is not published yet. Not a dict: its first key is slow to find
        # where many before it were removed.
        self._stale: OrderedDict[str, None] = OrderedDict()
        self._rounds = RoundGuard("a device's state was not published", bridge.tell)
        self._wake = threading.Event()
        self._closing = False
        self._taker = commands(self._reply) if commands is not None else None
        host, port, secure = parse_url(settings.url)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, clean_session=True)
        if settings.user:
            client.username_pw_set(settings.user, settings.password.decode())
        if secure:
            ca = None if settings.ca is None else str(settings.ca)
            client.tls_set_context(ssl.create_default_context(cafile=ca))
        client.max_queued_messages_set(_MOST_UNCONFIRMED)
        client.on_publish = self._on_publish
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.will_set(f"{settings.prefix}/availability", "offline", 1, retain=True)
        self._client = client
        try:
            connected = stopping.call(lambda: client.connect(host, port), bridge.stop)
        except (OSError, ValueError) as error:
            raise HostError("unreachable", f"{settings.url}: {type(error).__name__}") from None
        if not connected:
            return
        client.loop_start()
        threading.Thread(target=self._run, name="warden-mqtt", daemon=True).start()

    def on_change(self, name: str) -> None:
        """Publish a device's state soon, retained."""
        self._stale[name] = None
        self._wake.set()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            for _ in range(len(self._stale) + 1):  # one that fails holds no other one up
                if self._rounds.attempt(self._publish_stale):
                    break

    def _publish_stale(self) -> None:
        while self._client.is_connected():
            with self._bridge.guard:
                if not self._stale:
                    return
                name, _ = self._stale.popitem(last=False)
                if not self._publish_state(name):
                    self._stale[name] = None
                    self._stale.move_to_end(name, last=False)
                    return

    def _on_publish(self, *_: Any) -> None:
        """Go on: the broker confirmed a message. Not here: paho has its own guard meanwhile."""
        self._wake.set()

    def _publish_state(self, name: str) -> bool:
        """Publish a device's state; return False where the broker is behind."""
        device = self._bridge.view.devices.get(name)
        if device is None:
            return self._take_back(name)
        base = f"{self._settings.prefix}/{name}"
        state = {
            "type": device.type,
            "online": device.online,
            "presence": device.presence,
            "quarantined": device.quarantined,
            "values": device.values,
        }
        available = "online" if device.online or device.presence == "asleep" else "offline"
        return (
            self._announce(name)
            and self._publish(f"{base}/state", state, retain=True)
            and self._publish_text(f"{base}/availability", available, retain=True)
        )

    def _take_back(self, name: str) -> bool:
        """Clear what is retained of a device that left; False where the broker is behind."""
        base = f"{self._settings.prefix}/{name}"
        topics = [topic for topic, device in self._announced.items() if device == name]
        for topic in (*topics, f"{base}/state", f"{base}/availability"):
            if not self._publish_text(topic, "", retain=True):
                return False
            self._announced.pop(topic, None)
        return True

    def on_event(self, event: dict[str, Any]) -> None:
        """Publish a device's event."""
        name, device = event.get("name"), event.get("device")
        if event.get("kind") == "event" and isinstance(name, str) and self._client.is_connected():
            topic = f"{self._settings.prefix}/{device}/event/{jsontext.slug(name)}"
            self._publish(topic, event.get("body", {}))

    def close(self) -> None:
        """End, and say goodbye to the broker for a bounded time: it may not answer."""
        self._closing = True
        self._wake.set()
        goodbye = threading.Thread(
            target=self._publish_offline, name="warden-goodbye", daemon=True
        )
        goodbye.start()
        goodbye.join(_GOODBYE_S)

    def _publish_offline(self) -> None:
        """Publish the end by QoS 0, which waits for no other message, and wait for paho's end."""
        self._client.publish(f"{self._settings.prefix}/availability", "offline", 0, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _announce(self, name: str) -> bool:
        """Publish the discovery of new values; return False where the broker is behind."""
        prefix = self._settings.home_assistant
        device = self._bridge.view.devices[name]
        if not prefix or not device.type:
            return True
        base = f"{self._settings.prefix}/{name}"
        topics = (prefix, f"{base}/state", f"{base}/availability", name, device.type)
        found = [discovery.online_config(*topics)]
        found += [discovery.value_config(*topics, key, one) for key, one in device.values.items()]
        for topic, config in found:
            if topic not in self._announced:
                if not self._publish(topic, config, retain=True):
                    return False
                self._announced[topic] = name
        return True

    def _on_connect(self, client: mqtt.Client, _: Any, __: Any, code: Any, ___: Any) -> None:
        if code.is_failure:
            return
        client.publish(f"{self._settings.prefix}/availability", "online", 1, retain=True)
        if self._taker is not None:
            client.subscribe(f"{self._settings.prefix}/+/command/+", 1)
        with self._bridge.guard:
            self._announced.clear()
            self._stale |= dict.fromkeys(self._bridge.view.devices)
        self._wake.set()

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        """Take a command; a retained one is none: it would come again at each start."""
        parts = message.topic.removeprefix(self._settings.prefix + "/").split("/")
        if self._taker is None or message.retain or len(parts) != 3:
            return
        self._taker.put(parts[0], parts[2], bytes(message.payload[: _MAX_BODY + 1]))

    def _reply(self, device: str, command: str, result: Any) -> None:
        self._publish(f"{self._settings.prefix}/{device}/reply/{command}", result)

    def _publish(self, topic: str, value: Any, retain: bool = False) -> bool:
        return self._publish_text(topic, json.dumps(value), retain)

    def _publish_text(self, topic: str, text: str, retain: bool = False) -> bool:
        """Publish by QoS 1; return False, and leave it, where the broker is behind."""
        sent = self._client.publish(topic, text, 1, retain=retain)
        return sent.rc != mqtt.MQTT_ERR_QUEUE_SIZE


def parse_url(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is wanted. Raises bad-argument."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise HostError("bad-argument", "the broker's URL has no such port") from None
    secure = parts.scheme == "mqtts"
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise HostError(
            "bad-argument", "the broker's URL is no mqtt://HOST:PORT or mqtts://HOST:PORT"
        )
    if parts.username or parts.password:
        raise HostError("bad-argument", "a URL holds no password: everyone sees command lines")
    return parts.hostname, port or (8883 if secure else 1883), secure
