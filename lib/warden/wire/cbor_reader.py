"""A reader of CBOR, item by item and as strict as cbor.py, for parts too large to copy."""

from micropython import const

from ..errors import PeerError, ensure
from . import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]

UINT = 0
NINT = 1
BYTES = 2
TEXT = 3
ARRAY = 4
MAP = 5
OTHER = 7

# Values of head() for major type 7. The floats' bits stand in Reader.bits.
FALSE = 20
TRUE = 21
NULL = 22

# The most items of an event or a reply (docs/protocol.md, Limits of a value).
ITEMS = const(2000)


class Reader(cbor.Cursor):
    """Reads typed items; byte strings are views into the buffer.

    Each typed method raises PeerError(code) for an item of another type; a format's own reader
    sets another code.
    """

    code = "cbor-malformed"

    def _want(self, wanted: int) -> int:
        major, value = self.head()
        if major != wanted:
            raise PeerError(self.code, "another type was wanted here")
        return value

    def uint(self) -> int:
        return self._want(UINT)

    def integer(self) -> int:
        major, value = self.head()
        if major > NINT:
            raise PeerError(self.code, "an integer was wanted here")
        return -1 - value if major else value

    def byte_string(self) -> memoryview:
        return self.read(self._want(BYTES))

    def text(self) -> str:
        return cbor.text(self.read(self._want(TEXT)))

    def array(self) -> int:
        """Return the number of elements that follow."""
        return self._want(ARRAY)

    def mapping(self) -> int:
        """Return the number of pairs that follow; the caller checks key_order() of each."""
        return self._want(MAP)

    def boolean(self) -> bool:
        value = self._want(OTHER)
        if value not in (FALSE, TRUE):
            raise PeerError(self.code, "true or false was wanted here")
        return value == TRUE

    def null(self) -> None:
        if self._want(OTHER) != NULL:
            raise PeerError(self.code, "null was wanted here")

    def peek(self) -> int:
        """Return the major type of the next item, without reading it; -1 at the end."""
        return self.view[self.at] >> 5 if self.at < len(self.view) else -1

    def is_null(self) -> bool:
        """Return whether the next item is null, without reading it."""
        return self.at < len(self.view) and self.view[self.at] == 0xF6

    def skip(self, max_depth: int = 8) -> memoryview:
        """Check the next item as strictly as item() does; return a view of its bytes."""
        start = self.at
        self.item(max_depth, False)
        return self.view[start : self.at]


def check_items(body: "Buffer") -> None:
    """Raise UsageError bad-argument if an encoded body has more items than the host reads."""
    cursor = cbor.Cursor(body)
    left = ITEMS
    while cursor.at < len(body):
        major, value = cursor.head()
        if major == BYTES or major == TEXT:
            cursor.read(value)
        left -= 1
        ensure(left >= 0, "bad-argument", "more than 2,000 items")
