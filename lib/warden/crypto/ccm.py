"""AES-CCM with 13-byte nonces (RFC 3610 with L = 2), in place, as COSE names it AES-CCM-16-* (RFC
9053 §4.2).

Stock firmware has AES in ECB and CBC only. The tag is the last block of a native CBC over the
formatted message, and the key stream one bulk ECB call over prepared counter blocks, so the only
work left for Python is one XOR.

A CBC object keeps its chain from call to call, and making a new one costs a key schedule a
message. Instead, one object lives as long as the key, and the first block of each message is XORed
with the chain value that the last one left: they cancel out, and the chain is zero where
RFC 3610 wants it.

One pair of 512-byte workspaces serves all instances. So seal() and open() are not re-entrant: call
them from one thread, never from an interrupt. A message that fits into them, as nearly all of a
session do, is formatted there by native code: one CBC call, and next to nothing is allocated. Code
for longer ones is loaded with the first of them: ccm_long.py.
"""

import cryptolib
from micropython import const

from ..errors import PeerError, UsageError, ensure
from . import ct
from ._xor import append, count, frame, unequal, xor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Union

    Buffer = Union[bytes, bytearray, memoryview]

_NONCE = const(13)
_CHUNK = const(512)
_ZERO = const(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

# Counter blocks, and what the ciphers write: key stream, or CBC output of which only the last
# block matters.
_work = bytearray(2 * _CHUNK)
_stream = memoryview(_work)[:_CHUNK]
_blocks = memoryview(_work)[_CHUNK:]
_first = _stream[:16]  # key-stream block 0, which hides the tag
_tag = bytearray(16)  # of the last message


class CCM:
    """AES-CCM under one key, of which only the two AES objects are kept.

    key: 16 or 32 bytes. tag_len: 8 to 16 bytes, even.
    """

    def __init__(self, key: "Buffer", tag_len: int = 16) -> None:
        ensure(len(key) in (16, 32), "bad-argument", "an AES key has 16 or 32 bytes")
        ensure(tag_len in (8, 10, 12, 14, 16), "bad-argument", "a tag has 8 to 16 bytes")
        self.key_len = len(key)
        self.tag_len = tag_len
        self._ecb: Any = cryptolib.aes(key, 1).encrypt
        self._cbc: Any = cryptolib.aes(key, 2, _ZERO).encrypt
        # The last CBC block; None while a message is under way. Made here: xor() reads it by
        # words, and a constant of frozen code lies on any address, a hard fault on a Cortex-M0+.
        self._chain: bytearray | None = bytearray(16)

    def seal(self, nonce: "Buffer", buf: "bytearray | memoryview", n: int, aad: "Buffer") -> None:
        """Encrypt buf[:n] in place and write the tag behind it.

        nonce: 13 bytes, never twice under one key: that gives the plaintexts and the
        authentication key stream away. buf: writable, with room for the tag. n: at most 65,535.
        aad: at most 65,279 bytes.
        """
        self._crypt(nonce, buf, n, aad)

    def open(self, nonce: "Buffer", buf: "bytearray | memoryview", n: int, aad: "Buffer") -> None:
        """Decrypt buf[:n] in place; the tag is behind it.

        Raises PeerError tampered, and leaves zeros, when the tag does not match.
        """
        self._crypt(nonce, buf, n, aad, True)
        view = memoryview(buf)
        if unequal(_tag, view[n:], self.tag_len):
            ct.wipe(view[:n])
            raise PeerError("tampered", "the tag does not match")

    def close(self) -> None:
        """Drop the key.

        The interpreter can't overwrite an AES object's memory: what is left of it is garbage on
        the heap.
        """
        self._ecb = self._cbc = None
        wipe()

    wipe = close

    # Few functions, and small ones: one whose locals and stack take more than eleven words has its
    # frame on the heap, which costs a board as much as four AES blocks.
    def _crypt(
        self,
        nonce: "Buffer",
        buf: "bytearray | memoryview",
        n: int,
        aad: "Buffer",
        decrypt: bool = False,
    ) -> None:
        """Work over buf[:n] in either direction, and leave the message's tag of 16 bytes in _tag.

        Not decrypt: write the tag behind the message, too.
        """
        extra = len(aad)
        tag_len = self.tag_len
        # 16 bits count the blocks and the bytes: a longer message would meet its own key stream
        # again. Longer AAD has another length format (RFC 3610 §2.2) that nothing here needs.
        if len(nonce) != _NONCE or not 0 <= n <= 65535 or extra >= 65280 or len(buf) < n + tag_len:
            raise UsageError(
                "bad-argument",
                "a nonce has 13 bytes, a message at most 65535 and room for its tag, AAD at most"
                " 65279",
            )
        if self._cbc is None:
            raise UsageError("closed", "this key was wiped")
        try:
            # Viper would write through a read-only view: into a constant, or into flash.
            buf[n] = buf[n]
        except TypeError:
            raise UsageError("bad-argument", "the buffer must be writable")
        is_long = (extra + 33 & -16) + n > _CHUNK - 15
        if is_long:
            # Loaded first: where memory is too short for it, nothing was changed.
            from .ccm_long import crypt_long
        # A message that was cut short by an exception left the CBC object somewhere unknown;
        # encrypting any block shows its progress.
        chain = self._chain or bytearray(self._cbc(_ZERO))
        self._chain = None
        if is_long:
            ciphers = self._ecb, self._cbc, tag_len
            view = memoryview(buf)[:n]
            crypt_long(ciphers, _work, _tag, nonce, view, aad, decrypt, chain)
        else:
            # AAD and message fit into the workspace together.
            if decrypt:
                self._apply_stream(nonce, buf, n)
            size = frame(_work, nonce, aad, tag_len << 20 | extra << 10 | n)
            size = append(_work, buf, size, n)
            xor(_work, chain, 0, 16)
            text = _stream[:size]
            self._cbc(text, text)
            chain[:] = text[size - 16 :]
            if not decrypt:
                self._apply_stream(nonce, buf, n)
        xor(_tag, chain, 0, 16)
        self._chain = chain
        if not decrypt:
            buf[n : n + tag_len] = _tag if tag_len == 16 else _tag[:tag_len]

    def _apply_stream(self, nonce: "Buffer", buf: "bytearray | memoryview", n: int) -> None:
        """XOR buf[:n] with its key stream, n at most 481; leave key-stream block 0 in _tag."""
        size = (n + 31) & -16
        count(_work, nonce, size)
        self._ecb(_blocks[:size], _stream)
        _tag[:] = _first
        xor(buf, _work, 16, n)


def wipe() -> None:
    """Overwrite the shared workspaces, which hold key stream of the last message."""
    ct.wipe(_work)
    ct.wipe(_tag)
