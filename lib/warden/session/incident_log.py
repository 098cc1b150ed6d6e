"""The incident log: numbered records, each chained to the one before. Sans-IO.

The chain is h(0) = SHA-256(CBOR(["warden incidents 1", type, device])) and
h(i) = SHA-256(h(i - 1) ‖ CBOR([i, time, code, place, application, count, reported])), 16 bytes of
each. The vault keeps the records that the authority may lack, with the hash before the first of
them, sealed in its record `incidents` (docs/formats.md): so the chain's head is bound to this
device, and to one commit. docs/protocol.md, The incident log, says how the authority reads it.
"""

import binascii
import hashlib

from micropython import const

from ..errors import PeerError, StoreError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Iterator

DROPPED = "incident-dropped"
_FORMAT = const(1)
_MOST = const(32)  # records
_SIZE = const(2048)  # bytes of the vault's record: what each write costs at most
_HASH = const(16)  # bytes
_N = const(4)  # where a record has its count


class IncidentLog:
    """Records that the authority may lack: [time, code, place, application, count, reported].

    reported: how many of the count were reported before. first: the number of the oldest one.
    budget: [writes left, the clock's mark then, boot] of the last write, or None.
    """

    def __init__(self, type: str, device: str, data: "bytes | None") -> None:
        """data: the vault's record, or None. StoreError vault-damaged for another form."""
        self.first = 1
        self.budget: "list[int] | None" = None
        self.records: "list[list[Any]]" = []
        self._before = _digest(cbor.encode(["warden incidents 1", type, device]))
        if data is None:
            return
        try:
            fields: "Any" = cbor.decode(data)
            form, self.first, self._before, self.records, self.budget = fields
        except (PeerError, TypeError, ValueError):
            form = 0
        # It authenticated, so another form means another version of Warden, not an attack.
        if form != _FORMAT:
            raise StoreError("vault-damaged", "the incident log has another version's form")

    @property
    def newest(self) -> int:
        return self.first + len(self.records) - 1

    def acknowledge(self, number: int) -> None:
        """Let go of all records up to this number: the authority has them."""
        while self.records and self.first <= number:
            self._remove()

    def _remove(self) -> "list[Any]":
        record = self.records.pop(0)
        self._before = _chain(self._before, self.first, record)
        self.first += 1
        return record

    def append(self, records: "list[list[Any]]", now: int) -> bytes:
        """Append records, and return what the vault has to keep.

        What has no room goes, the oldest first; a record of its own counts what went. now: unix
        seconds.
        """
        self.records.extend(records)
        data = self._encode()
        note: "list[Any] | None" = None
        while len(self.records) > _MOST or len(data) > _SIZE:
            gone = self._remove()
            if note is None:
                note = [now, DROPPED, "log", "", 0, 0]
                self.records.append(note)
            note[_N] += gone[_N] if gone[1] == DROPPED else 1
            data = self._encode()
        return data

    def _encode(self) -> bytes:
        return cbor.encode([_FORMAT, self.first, self._before, self.records, self.budget])

    def messages(self, after: int) -> "Iterator[tuple[int, dict[str, Any]]]":
        """Yield (number, body of its report) of each record above a number."""
        digest = self._before
        for i, record in enumerate(self.records):
            number = self.first + i
            digest = _chain(digest, number, record)
            if number > after:
                time, code, at, source, n, told = record
                body = {"code": code, "n": n, "at": at, "no": number, "old": self.first}
                body["t"], body["told"], body["hash"] = time, told, _text(digest)
                if source:
                    body["from"] = source
                yield number, body


def _chain(before: bytes, number: int, record: "list[Any]") -> bytes:
    return _digest(before, cbor.encode([number] + record))


def _digest(*parts: bytes) -> bytes:
    # 128 bits: another log with the head that the authority has must be found for a given one. A
    # collision of one's own choice gains nothing, since a record counts once the authority has it.
    return hashlib.sha256(b"".join(parts)).digest()[:_HASH]


def _text(digest: bytes) -> str:
    return str(binascii.hexlify(digest), "utf-8")  # plain mode has no bytes
