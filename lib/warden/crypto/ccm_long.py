"""AES-CCM over messages longer than a workspace. ccm.py loads it with the first of them."""

from micropython import const

from ._xor import count, xor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .ccm import Buffer

_CHUNK = const(512)
_ZERO = const(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")


def crypt_long(
    ciphers: "tuple[Any, Any, int]",
    work: bytearray,
    tag: bytearray,
    nonce: "Buffer",
    view: memoryview,
    aad: "Buffer",
    decrypt: bool,
    chain: bytearray,
) -> None:
    """Work over a message of any length in either direction.

    ciphers: the key's ECB and CBC, and the bytes of a tag. work: ccm.py's workspaces, 1,024 bytes.
    tag: gets key-stream block 0, which hides the tag. view: the message, without its tag. chain:
    the CBC object's; that of this message afterwards.
    """
    ecb, cbc, tag_len = ciphers
    stream = memoryview(work)[:_CHUNK]
    all_blocks = memoryview(work)[_CHUNK:]
    n = len(view)
    extra = len(aad)
    head = memoryview(bytearray((extra + 33) & -16 if extra else 16))
    head[0] = (64 if extra else 0) | (tag_len - 2) << 2 | 1
    head[1:14] = nonce
    head[14] = n >> 8
    head[15] = n & 255
    if extra:
        head[16] = extra >> 8
        head[17] = extra & 255
        head[18 : 18 + extra] = aad
    xor(head, chain, 0, 16)
    cbc(head, head)
    chain[:] = head[-16:]

    # The first chunk carries key-stream block 0, which hides the tag, before those of the message.
    size = min((n + 31) & -16, _CHUNK)
    count(work, nonce, size)
    blocks = all_blocks[:size]
    at = 0
    skip = 16
    k = min(size - 16, n)
    while True:
        window = view[at : at + k]
        if decrypt:
            ecb(blocks, stream)
            if skip:
                tag[:] = stream[:16]
            xor(window, work, skip, k)
        # The CBC's output goes where the key stream stood, or will stand.
        rest = k & 15
        if k > rest:
            cbc(window[: k - rest] if rest else window, stream)
        if at + k == n:
            if rest:
                chain[:] = _ZERO
                chain[:rest] = window[k - rest :]
                cbc(chain, chain)
            elif k:
                chain[:] = stream[k - 16 : k]
        if not decrypt:
            ecb(blocks, stream)
            if skip:
                tag[:] = stream[:16]
            xor(window, work, skip, k)
        at += k
        if at == n:
            return
        skip = 0
        # What lies between the first chunk and the last.
        while n - at > _CHUNK:
            window = view[at : at + _CHUNK]
            if not decrypt:
                cbc(window, stream)
            ecb(blocks, stream)
            xor(window, work, 0, _CHUNK)
            if decrypt:
                cbc(window, stream)
            at += _CHUNK
        k = n - at
        blocks = all_blocks[: (k + 15) & -16]
