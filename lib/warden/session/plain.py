"""Plain mode: JSON commands that carry the application's ID, which the device asks the server for.

It stops a holder of a broker account who does not know the ID. It does not stop the broker's
owner, and stops replay only as far as TLS does: sealed mode is for that. Sans-IO; rules:
docs/protocol.md, Plain mode.
"""

import binascii
import json

from micropython import const

from ..crypto.ct import equal
from ..crypto.rand import random_bytes
from ..errors import PeerError, UsageError, ensure
from ..wire.cbor import DEEPEST, encode
from ..wire.names import JSON
from ..wire.strict_json import is_refused

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import Vault
    from ..wire.names import Topics

_UID = const(32)
_REQUEST_MS = const(30000)
_ITEMS = const(2000)  # as in wire/cbor_reader.py
_ID_MAX = const((1 << 32) - 1)


class Plain:
    """The IDs of all applications, and the checks of their commands.

    names: the device's topics. appids: the applications of the vault. validate: commands must
    carry the ID. store: IDs are kept in the vault.
    """

    def __init__(
        self, names: "Topics", appids: "list[str]", vault: "Vault", validate: bool, store: bool
    ) -> None:
        self._names = names
        self._vault = vault
        self._validate = validate
        self._store = store
        self.appids = appids
        self._uids: "dict[str, bytes | None]" = {}
        for appid in appids:
            self._uids[appid] = vault.get("uid_" + appid) if store else None
        self._requests: "dict[str, tuple[bytes, int]]" = {}  # appid -> (req, when it ends)

    @property
    def ready(self) -> bool:
        """Whether commands can be verified: every application's ID is known, or none is needed."""
        return not self._validate or all(uid is not None for uid in self._uids.values())

    def requests(self, now_ms: int) -> "list[bytes]":
        """Return the ID requests to send now, one for each application without a known ID."""
        out = []
        for appid, uid in self._uids.items():
            if uid is not None or not self._validate:
                continue
            if appid in self._requests and now_ms < self._requests[appid][1]:
                continue
            req = random_bytes(16)
            self._requests[appid] = (req, now_ms + _REQUEST_MS)
            out.append(
                self.event(
                    "server_uid_request", {"appid": appid, "req": binascii.hexlify(req).decode()}
                )
            )
        return out

    def due_ms(self) -> "int | None":
        """Return when requests() has something to send, or None."""
        if self.ready:
            return None
        ends = [
            self._requests[appid][1] if appid in self._requests else 0
            for appid, uid in self._uids.items()
            if uid is None
        ]
        return min(ends)

    def on_response(self, fields: "dict[str, Any]", now_ms: int) -> None:
        """Accept the ID of an application that was asked for.

        PeerError unexpected, bad-body, wrong-application.
        """
        appid = fields.get("appid")
        if not isinstance(appid, str) or appid not in self._uids:
            raise PeerError("wrong-application")
        req, uid = _unhex(fields.get("req"), 16), _unhex(fields.get("uid"), _UID)
        request = self._requests.get(appid)
        if request is None or now_ms >= request[1] or req is None or not equal(req, request[0]):
            raise PeerError("unexpected")
        if uid is None:
            raise PeerError("bad-body")
        del self._requests[appid]
        if self._store:
            self._vault.put("uid_" + appid, uid)
        self._uids[appid] = uid

    def parse(self, payload: "memoryview | bytes") -> "dict[str, Any]":
        """Return the JSON object of a message. PeerError bad-body for anything else."""
        fields = None
        try:
            data = bytes(payload)
            if not is_refused(data):
                fields = json.loads(data)
        except (ValueError, UnicodeError, OverflowError, MemoryError):
            pass  # of memory: "[]," takes ten times its size
        if not isinstance(fields, dict):
            raise PeerError("bad-body")
        return fields

    def open(self, command: str, fields: "dict[str, Any]") -> "tuple[str, int, dict[str, Any]]":
        """Return (appid, id, args) of a command that carries the right ID.

        PeerError wrong-application, bad-body.
        """
        appid = self.prove(fields)
        if fields.get("cmd") != command:
            raise PeerError("bad-body")
        id, args = fields.get("id"), fields.get("args")
        if (
            id is True
            or id is False
            or not isinstance(id, int)
            or not 0 <= id <= _ID_MAX
            or not isinstance(args, dict)
        ):
            raise PeerError("bad-body")
        try:
            encode(args)  # JSON's 1e400 is an infinity here, "\ud800" no text
        except (UsageError, MemoryError):
            raise PeerError("bad-body")
        return appid, id, args

    def prove(self, fields: "dict[str, Any]") -> str:
        """Return the application of a message, by the ID that it carries.

        PeerError wrong-application.
        """
        appid = fields.get("appid")
        if not isinstance(appid, str) or appid not in self._uids:
            raise PeerError("wrong-application")
        if self._validate:
            uid, known = _unhex(fields.get("uid"), _UID), self._uids[appid]
            if uid is None or known is None or not equal(uid, known):
                raise PeerError("wrong-application")
        return appid

    def post(
        self, post: "Callable[[bytes, bytes], Any]", event: str, body: "dict[str, Any]"
    ) -> bool:
        """Post an application's event by post(topic, JSON), and return True."""
        post(self._names.event(event, JSON).encode(), self.event(event, {"body": body}))
        return True

    def event(self, event: str, fields: "dict[str, Any]") -> bytes:
        """Return an event as JSON bytes, with the device's own fields.

        UsageError bad-argument for a value that JSON has no form for.
        """
        whole = {"event": event, "deviceId": self._names.device}
        whole.update(fields)
        out = bytearray()
        ensure(_write(out, whole, DEEPEST) <= _ITEMS, "bad-argument", "more than 2,000 items")
        return bytes(out)


def _write(out: bytearray, value: "Any", depth: int) -> int:
    """Append the JSON of value and return the number of its items. UsageError bad-argument.

    MicroPython's json.dumps() writes text that no parser reads for NaN, infinities, sets, bytes
    that are no text, and named tuples.
    """
    if not isinstance(value, (dict, list, tuple)):
        ensure(
            not isinstance(value, (bytes, bytearray, memoryview)),
            "bad-argument",
            "bytes, which JSON has no form for",
        )
        encode(value)  # UsageError for a value that no message can carry
        out.extend(json.dumps(value).encode())
        return 1
    ensure(depth, "bad-argument", "nested too deeply")
    pairs = isinstance(value, dict)
    count = 1
    out.extend(b"{" if pairs else b"[")
    for item in value:
        if count > 1:
            out.extend(b",")
        if pairs:
            ensure(isinstance(item, str), "bad-argument", "a key that is no text")
            count += _write(out, item, 0)
            out.extend(b":")
            item = value[item]
        count += _write(out, item, depth - 1)
    out.extend(b"}" if pairs else b"]")
    return count


def _unhex(text: object, size: int) -> "bytes | None":
    """Return the bytes of 2 × size lower-case hex digits, or None."""
    if not isinstance(text, str) or len(text) != 2 * size:
        return None
    try:
        value = binascii.unhexlify(text)
    except (ValueError, UnicodeError):
        return None
    return value if binascii.hexlify(value).decode() == text else None
