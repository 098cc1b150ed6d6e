"""Seal and open the lists by which the authority gives an application its devices' keys.

Both ends hold the secret of the application's file (docs/protocol.md, Keys of an application).
Each list has keys of its own, from a random ID in its header: a database that was restored from a
backup may use a number again, and no key and nonce with it.
"""

import functools
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from warden_client.errors import HostError
from warden_client.protocol import cose, strictcbor
from warden_client.protocol.keyschedule import VERSION

SECRET, LIST_ID = 32, 8  # bytes
MAX_ASK = 128  # an ask takes some 70 bytes
PREFIX = "warden/app/"
_LIST, _ASK = "keys", "ask"


class Scopes(NamedTuple):
    """What the application serves, and which commands it may give."""

    types: tuple[str, ...]
    commands: tuple[str, ...]


class Page(NamedTuple):
    """A page of a list.

    number: of the list; it rises.
    previous: the number of the list that this one continues; None where it has all devices.
    position: of the page, from 0. last: whether no page follows.
    scopes: None where they stay.
    devices: entries as docs/formats.md has them, with bytes for hex digits; a name alone: the
    device is gone.
    """

    number: int
    previous: int | None
    position: int
    last: bool
    scopes: Scopes | None
    devices: list[dict[str, Any] | str]


def list_topic(appid: str) -> str:
    """Return the topic of the lists for an application; "+" for any."""
    return f"{PREFIX}{appid}/{_LIST}"


def ask_topic(appid: str) -> str:
    """Return the topic on which an application asks for a list; "+" for any."""
    return f"{PREFIX}{appid}/{_ASK}"


@functools.lru_cache(64)
def key_id(appid: str, secret: bytes) -> bytes:
    """Return the ID of the secret, 8 bytes, which is no secret."""
    return _derive(appid, secret, "list kid", 8)


def seal_page(appid: str, secret: bytes, list_id: bytes, page: Page) -> bytes:
    """Return a sealed page. list_id: 8 random bytes, the same for all pages of a list alone."""
    scopes = None if page.scopes is None else list(page.scopes)
    payload = [VERSION, page.number, page.previous, page.last, scopes, page.devices]
    kid = key_id(appid, secret)
    key, iv = _list_keys(appid, secret, list_id)
    aad, data = _aad(_LIST, list_topic(appid)), strictcbor.encode(payload)
    return cose.seal_encrypt0(key, iv, kid, list_id, page.position, aad, data)


def open_page(appid: str, secret: bytes, data: bytes) -> tuple[bytes, Page]:
    """Return the list's ID and an authentic page. The entries of its devices are not checked.

    Raises, in this order of gates: cbor-…, cose-…, wrong-application, tampered, bad-body.
    """
    message = cose.parse_encrypt0(data)
    if message.kid != key_id(appid, secret):
        raise HostError("wrong-application", "the list is sealed under another secret")
    key, iv = _list_keys(appid, secret, message.sid)
    plain = cose.open_encrypt0(key, iv, message, _aad(_LIST, list_topic(appid)))
    fields = strictcbor.decode(plain)
    if not isinstance(fields, list) or len(fields) != 6 or not _is_version(fields[0]):
        raise HostError("bad-body", "not a list of version 1")
    _version, number, previous, last, scopes, devices = fields
    if not strictcbor.is_u32(number) or not (previous is None or strictcbor.is_u32(previous)):
        raise HostError("bad-body", "a number of the list is out of range")
    if previous is not None and (message.counter or last is not True or previous >= number):
        raise HostError("bad-body", "a list that continues another one is no single page")
    good = isinstance(devices, list) and all(isinstance(one, (dict, str)) for one in devices)
    if type(last) is not bool or not good:
        raise HostError("bad-body", "the list has another form")
    return message.sid, Page(number, previous, message.counter, last, _scopes(scopes), devices)


def seal_ask(appid: str, secret: bytes, number: int) -> bytes:
    """Return an ask. number: of the last list that the application has."""
    payload = strictcbor.encode([VERSION, number])
    aad = _aad(_ASK, ask_topic(appid))
    key = _derive(appid, secret, "list ask", 32)
    return cose.seal_mac0(key, key_id(appid, secret), aad, payload)


def open_ask(appid: str, secret: bytes, data: bytes) -> int:
    """Return the number in an authentic ask.

    Raises, in this order of gates: mqtt-too-large, cbor-…, cose-…, wrong-application, tampered,
    bad-body.
    """
    if len(data) > MAX_ASK:
        raise HostError("mqtt-too-large", f"an ask of {len(data)} bytes")
    message = cose.parse_mac0(data)
    if message.kid != key_id(appid, secret):
        raise HostError("wrong-application", "it asks under another secret: of an older export?")
    key = _derive(appid, secret, "list ask", 32)
    fields = strictcbor.decode(cose.verify_mac0(key, message, _aad(_ASK, ask_topic(appid))))
    if not isinstance(fields, list) or len(fields) != 2 or not _is_version(fields[0]):
        raise HostError("bad-body", "not an ask of version 1")
    number = fields[1]
    if not strictcbor.is_u32(number):
        raise HostError("bad-body", "the number in the ask is out of range")
    return number


def _scopes(value: Any) -> Scopes | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2:
        types, commands = value
        if _are_texts(types) and _are_texts(commands):
            return Scopes(tuple(types), tuple(commands))
    raise HostError("bad-body", "the scopes in the list have another form")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_version(value: Any) -> bool:
    return type(value) is int and value == VERSION


def _list_keys(appid: str, secret: bytes, list_id: bytes) -> tuple[bytes, bytes]:
    both = _derive(appid, secret, "list key", 45, list_id)
    return both[:32], both[32:]


def _derive(appid: str, secret: bytes, purpose: str, length: int, salt: bytes = b"") -> bytes:
    info = strictcbor.encode(["warden1", purpose, VERSION, appid])
    return HKDF(SHA256(), length, salt=salt or None, info=info).derive(secret)


def _aad(kind: str, topic: str) -> bytes:
    return strictcbor.encode([kind, topic])
