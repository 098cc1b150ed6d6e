"""An application of the client package without a broker: what its connection carries is seen."""

import asyncio
import json
from pathlib import Path
from typing import Any

from host_kit import DEVICE, TYPE, PeerDevice, topic
from warden_client import application
from warden_client.application import Application
from warden_client.connection import Message

K, NEW_K = b"h" * 32, b"n" * 32
POLICY = b"p" * 32


def content(*keys: bytes, **changes: Any) -> dict[str, Any]:
    """An application's file with one device. changes: of the device's entry."""
    entry = {
        "device": DEVICE,
        "type": TYPE,
        "mode": "sealed",
        "commands": ["set_relay"],
        "max_message": 2048,
        "policies": [POLICY.hex()],
        "keys": [key.hex() for key in keys or (K,)],
        "proven": [-1, -1, 0],
        "event_number": 0,
    } | changes
    user = {"user": "a:home", "password": "secret", "client_id": "a:home"}
    return {
        "kind": "warden application",
        "format": 1,
        "made": 1,
        "appid": "home",
        "types": [TYPE],
        "commands": ["set_relay"],
        "broker": {"host": "127.0.0.1", "port": 1, **user},
        "trust": {"ca": "", "pins": ["00" * 32]},
        "topics": {"subscribe": [f"iot-2/type/{TYPE}/id/+/evt/#"], "command": ""},
        "devices": [entry],
    }


def write(path: Path, made: dict[str, Any]) -> Path:
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(json.dumps(made))
    return path


class Line:
    """Stands for Connection: keeps what is published, and brings events."""

    made: "list[Line]" = []
    refusal: Exception | None = None

    def __init__(self, credentials, on_message, on_lost) -> None:
        self.credentials = credentials
        self._on_message = on_message
        self.lose = on_lost
        self.sent: list[tuple[str, bytes]] = []
        self.topics: list[str] = []
        self.up = True
        Line.made.append(self)

    async def open(self) -> None:
        if Line.refusal is not None:
            raise Line.refusal

    async def close(self) -> None:
        self.up = False

    def publish(self, where: str, data: bytes) -> bool:
        self.topics.append(where)
        self.sent.append((where.split("/")[6], data))
        return self.up

    def bring(self, event: str, data: bytes, fmt: str = "cose", retain: bool = False) -> None:
        self._on_message(Message(topic("evt", event, fmt), data, retain))

    def last(self, verb: str) -> bytes:
        return next(data for name, data in reversed(self.sent) if name == verb)

    def verbs(self) -> list[str]:
        return [name for name, _ in self.sent]

    async def until(self, verb: str, count: int = 1) -> bytes:
        """The count-th message of this verb, once it was published."""
        while self.verbs().count(verb) < count:
            await asyncio.sleep(0)
        return self.last(verb)


class Home:
    """An application and its one device. `async with` logs it in."""

    def __init__(self, folder: Path, monkeypatch, *keys: bytes, **changes: Any) -> None:
        Line.made, Line.refusal = [], None
        monkeypatch.setattr(application, "Connection", Line)
        self.file = write(folder / "home.json", content(*keys, **changes))
        self.peer = PeerDevice(keys[-1] if keys else K, POLICY, appid="home")

    async def __aenter__(self) -> "Home":
        self.app = Application(self.file)
        await self.app.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.__aexit__()

    @property
    def line(self) -> Line:
        return Line.made[-1]

    def begin_session(self) -> None:
        self.line.bring("hello", self.peer.hello())
        self.peer.take_welcome(self.line.last("welcome"))
        self.line.bring("ready", self.peer.ready())
        assert self.peer.open("ack", self.line.last("ack"))[0] == 0

    def reply(self, number: int, **body: Any) -> None:
        self.line.bring("reply", self.peer.seal("reply", [number, None, body]))
