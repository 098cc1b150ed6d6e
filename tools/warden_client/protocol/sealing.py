"""Keys and counters of one session at the application's end: seals commands, opens events.

No other module uses a session's keys on data. A counter is spent before its message is sealed, so
no path, a raised exception included, uses one key and nonce for two plaintexts.
"""

import hmac
from typing import Any

from warden_client.errors import HostError
from warden_client.names import Topic
from warden_client.protocol import cose, strictcbor
from warden_client.protocol.keyschedule import SessionKeys, external_aad
from warden_client.protocol.replay import ReplayWindow

_MESSAGE = "msg"
_TEXT = frozenset((str,))


class Channel:
    """The keys, counters and replay window of one session.

    reply: the last one that opened, while a copy of it may come; else b"".
    """

    __slots__ = ("_keys", "_kid", "_next_down", "_repeats", "_window", "reply", "sid")

    def __init__(self, kid: bytes, keys: SessionKeys) -> None:
        self.sid = keys.sid
        self._kid = kid
        self._keys = keys
        self._window = ReplayWindow()
        self._next_down = 0
        self._repeats = 0
        self.reply = b""

    @property
    def next_down(self) -> int:
        return self._next_down

    def expect_repeat(self) -> None:
        """Note that the last command is sent once more: its reply may come twice, byte for byte.

        A device answers a copy of the last command with its stored reply (docs/protocol.md).
        """
        self._repeats += 1

    def is_repeat(self, data: bytes) -> bool:
        """Return whether a message is the last reply again, as it was said to be possible."""
        if not self._repeats or not hmac.compare_digest(data, self.reply):
            return False
        self._repeats -= 1
        if not self._repeats:
            self.reply = b""
        return True

    def note_reply(self, data: bytes) -> None:
        """Keep a reply that opened where its copy may come: a fleet's would take memory."""
        self.reply = data if self._repeats else b""

    def seal(self, topic: Topic, number: int, expiry: int | None, body: dict[str, Any]) -> bytes:
        """Return a sealed command. number: its ID. expiry: seconds of the session, or None.

        Raises: counter-exhausted: the session is over; bad-argument, cbor-limit: the body.
        """
        # May raise: before a counter is spent.
        payload = strictcbor.encode_for_device([number, expiry, body])
        counter = self._next_down
        if counter >= cose.MAX_COUNTER:
            raise HostError("counter-exhausted", "the session's commands are used up")
        self._next_down = counter + 1
        return cose.seal_encrypt0(
            self._keys.down_key,
            self._keys.down_iv,
            self._kid,
            self.sid,
            counter,
            external_aad(_MESSAGE, topic),
            payload,
        )

    def open(self, topic: Topic, message: cose.Encrypt0) -> tuple[int, int | None, dict[str, Any]]:
        """Return (id, expiry, body) of an event; raises replayed, tampered, cbor-…, bad-body."""
        if not self._window.is_new(message.counter):
            raise HostError("replayed", "its counter was seen before, or is far behind")
        payload = cose.open_encrypt0(
            self._keys.up_key, self._keys.up_iv, message, external_aad(_MESSAGE, topic)
        )
        self._window.mark_seen(message.counter)
        return _fields(strictcbor.decode(payload))


def _fields(payload: Any) -> tuple[int, int | None, dict[str, Any]]:
    if not isinstance(payload, list) or len(payload) != 3:
        raise HostError("bad-body", "the payload is not [id, expiry, body]")
    number, expiry, body = payload
    if not strictcbor.is_u32(number) or not (expiry is None or strictcbor.is_u32(expiry)):
        raise HostError("bad-body", "id or expiry is not an unsigned integer")
    if not isinstance(body, dict) or not _TEXT.issuperset(map(type, body)):
        raise HostError("bad-body", "the body is not a map with text keys")
    return number, expiry, body
