"""Read an application's file, which `warden app export` wrote (docs/formats.md)."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from warden_client import jsontext, names, secretfile
from warden_client.errors import HostError
from warden_client.protocol import key_lists, strictcbor
from warden_client.protocol.freshness import NOTHING_PROVEN, Proof

FORMAT = 1
KIND = "warden application"
MAX_FILE = 32 << 20
_HEX = re.compile(r"([0-9a-f]{2})*\Z")


@dataclass(frozen=True)
class DeviceEntry:
    """A device of the application, and the secrets that both share."""

    device: str
    type: str
    sealed: bool
    commands: tuple[str, ...]
    max_message: int  # bytes of a packet
    policies: tuple[bytes, ...]
    keys: tuple[bytes, ...] = field(repr=False)  # K; while a rotation is under way, two of them
    proven: Proof = NOTHING_PROVEN
    event_number: int = 0
    uid: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Credentials:
    """Account, trust and devices of an application."""

    appid: str
    types: tuple[str, ...]
    commands: tuple[str, ...]
    host: str
    port: int
    user: str
    client_id: str
    ca: str  # PEM
    pins: frozenset[bytes]
    subscribe: tuple[str, ...]
    devices: dict[str, DeviceEntry] = field(repr=False)
    password: str = field(repr=False, default="")
    # Of the lists of keys (key_lists.py); "" and nothing in a file from before them.
    list_topic: str = ""
    ask_topic: str = ""
    list_secret: bytes = field(repr=False, default=b"")
    list_number: int = 0  # of the list that the file stands for

    @property
    def login(self) -> "Credentials":
        """Return what a connection depends on: all but devices and what they are told."""
        return replace(self, types=(), commands=(), devices={}, list_secret=b"", list_number=0)


def read(path: Path) -> Credentials:
    """Return the content of the file. Raises: key-missing, key-permissions, key-damaged."""
    data = secretfile.read(path, MAX_FILE)
    try:
        return parse(jsontext.parse_object(data, MAX_FILE, "key-damaged"))
    except HostError as error:
        hint = "write it anew with `warden app export`"
        raise HostError("key-damaged", f"{path.name}: {error.text}", hint) from None


def parse(content: dict[str, Any]) -> Credentials:
    """Return the content of a file. Raises: key-damaged, which quotes no value."""
    if content.get("kind") != KIND:
        raise _damaged("it is no application's file")
    if content.get("format") != FORMAT:
        raise _damaged(f"its format is none that this package reads: it knows {FORMAT}")
    broker, trust = _table(content, "broker"), _table(content, "trust")
    appid = names.check_id(_text(content, "appid"), "appid")
    entries = [device_entry(entry) for entry in _list(content, "devices", dict)]
    port = broker.get("port")
    if type(port) is not int or not 1 <= port <= 65535:
        raise _damaged("port is no TCP port")
    pins = frozenset(_bytes(pin, 32) for pin in _list(trust, "pins", str))
    if not pins:
        raise _damaged("it has no pins")
    return Credentials(
        appid=appid,
        types=tuple(_list(content, "types", str)),
        commands=tuple(_list(content, "commands", str)),
        host=_text(broker, "host"),
        port=port,
        user=_text(broker, "user"),
        client_id=_text(broker, "client_id"),
        password=_text(broker, "password"),
        ca=_text(trust, "ca"),
        pins=pins,
        subscribe=tuple(_list(_table(content, "topics"), "subscribe", str)),
        devices={entry.device: entry for entry in entries},
        **_lists(content, appid),
    )


def _lists(content: dict[str, Any], appid: str) -> dict[str, Any]:
    """Return the fields of Credentials for lists of keys; none where the file has none."""
    if "updates" not in content:
        return {}
    updates = _table(content, "updates")
    number = updates.get("number")
    if not strictcbor.is_u32(number):
        raise _damaged("the number of its lists is out of range")
    topics = (_text(updates, "topic"), _text(updates, "ask"))
    if topics != (key_lists.list_topic(appid), key_lists.ask_topic(appid)):
        raise _damaged("the topics of its lists are those of another application")
    return {
        "list_topic": topics[0],
        "ask_topic": topics[1],
        "list_secret": _bytes(_text(updates, "secret"), key_lists.SECRET),
        "list_number": number,
    }


def device_entry(entry: dict[str, Any]) -> DeviceEntry:
    """Return a device of a file, or of a list. Raises: key-damaged, bad-name."""
    mode, limit = _text(entry, "mode"), entry.get("max_message")
    if mode not in ("sealed", "plain"):
        raise _damaged("a device is neither sealed nor plain")
    if type(limit) is not int or not 0 < limit <= strictcbor.MAX_BYTES:
        raise _damaged("max_message is out of range")
    sealed = mode == "sealed"
    keys = tuple(_bytes(key, 32) for key in _list(entry, "keys", str)) if sealed else ()
    policies = tuple(_bytes(one, 32) for one in _list(entry, "policies", str))
    if not policies or (sealed and not keys):
        raise _damaged("a device without keys or policies")
    number = entry.get("event_number", 0)
    if not strictcbor.is_u32(number):
        raise _damaged("event_number is out of range")
    return DeviceEntry(
        device=names.check_id(_text(entry, "device"), "device ID"),
        type=names.check_id(_text(entry, "type"), "device type"),
        sealed=sealed,
        commands=tuple(_list(entry, "commands", str)),
        max_message=limit,
        policies=policies,
        keys=keys,
        proven=_proof(entry.get("proven", list(NOTHING_PROVEN))),
        event_number=number,
        uid=b"" if sealed else _bytes(_text(entry, "uid"), 32),
    )


def _proof(value: Any) -> Proof:
    if not isinstance(value, list) or [type(number) for number in value] != [int, int, int]:
        raise _damaged("proven is no list of three numbers")
    return Proof(*value)


def _bytes(text: str, length: int) -> bytes:
    if len(text) != 2 * length or not _HEX.match(text):
        raise _damaged(f"a value is not {length} bytes in lower-case hex digits")
    return bytes.fromhex(text)


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise _damaged(f"{key} is missing or no object")
    return value


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise _damaged(f"{key} is missing or no text")
    return value


def _list(content: dict[str, Any], key: str, kind: type) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise _damaged(f"{key} is missing or no list of that kind")
    return value


def _damaged(text: str) -> HostError:
    return HostError("key-damaged", text)
