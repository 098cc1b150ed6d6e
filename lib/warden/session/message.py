"""What a sealed message to the device holds: the list [id, expiry, body] (docs/protocol.md)."""

from micropython import const

from ..errors import PeerError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

COUNTER_MAX = (1 << 32) - 1
# Major types of CBOR, and its null.
_UINT = const(0)
_ARRAY = const(4)
_OTHER = const(7)
_NULL = const(22)


class Message:
    """A sealed message that opened.

    counter: its number in the session. body: None of a duplicate of the last message, whose answer
    is `reply`, or None. gap: number of messages missing before it. expired: it came too late to
    run. refused: the code of a body that this device can't hold, or "". deadline_ms: end of its
    validity, or None.
    """

    counter = 0
    gap = 0
    expired = False
    refused = ""
    reply: "bytes | None" = None
    deadline_ms: "int | None" = None

    def __init__(self, id: int, body: "Any") -> None:
        self.id = id
        self.body = body


def parse(payload: memoryview, hello_ms: int, now_ms: int) -> Message:
    """Return the message of a payload. hello_ms: when the session's hello was sent.

    PeerError bad-body, cbor-malformed, cbor-not-canonical, cbor-limit.
    """
    # Item by item: a list of three would take as much memory as a command's body.
    cursor = cbor.Cursor(payload)
    id = refused = None
    body: "Any" = {}
    try:
        if cursor.major() != _ARRAY or cursor.value != 3:
            cbor.decode(payload)
            raise PeerError("bad-body")
        id = _read_number(cursor)
        expiry = _read_number(cursor)
        cursor.left -= 1  # the list itself counts
        body = cursor.item(7)
        cursor.end()
    except PeerError as error:
        # The sender is authenticated, and gets an answer if the message has a number.
        if error.code != "cbor-limit" or id is None:
            raise
        refused = error.code
    if id is None or not isinstance(body, dict):
        raise PeerError("bad-body")
    for key in body:
        if not isinstance(key, str):
            raise PeerError("bad-body")
    message = Message(id, body)
    if refused is not None:
        message.refused = refused
    elif expiry is not None:
        # Counted from when the hello was sent: a welcome that is held back lengthens nothing.
        message.deadline_ms = hello_ms + expiry * 1000
        message.expired = now_ms > message.deadline_ms
    return message


def _read_number(cursor: "cbor.Cursor") -> "int | None":
    """Return the next item, a number below 2^32 or null. PeerError bad-body for all else."""
    major, value = cursor.major(), cursor.value
    if major == _OTHER and value == _NULL:
        return None
    if major != _UINT or value > COUNTER_MAX:
        raise PeerError("bad-body")
    return value


def is_number(value: object) -> bool:
    """Return whether this is a number that the protocol has a place for: 0 to 2^32 - 1."""
    return type(value) is int and 0 <= value <= COUNTER_MAX
