"""The inner loops without a native emitter: by big integers, which run in C."""


def xor(target: "bytearray | memoryview", work: bytearray, start: int, n: int) -> None:
    """target[:n] ^= work[start:start + n]; at the end of the key stream, count on.

    start + n: at most 512; when it is 512, the counter blocks in work[512:1024] go on by 32 each.
    """
    if n:
        stream = int.from_bytes(memoryview(work)[start : start + n], "big")
        target[:n] = (int.from_bytes(target[:n], "big") ^ stream).to_bytes(n, "big")
    if start + n == 512:
        for i in range(526, 1024, 16):
            c = (work[i] << 8 | work[i + 1]) + 32
            work[i] = c >> 8 & 255
            work[i + 1] = c & 255


def count(work: bytearray, nonce: bytes, n: int) -> None:
    """Write the counter blocks A0, A1, … (RFC 3610) of this nonce to work[512:512 + n]."""
    work[512 : 512 + n] = (b"\x01" + nonce + b"\0\0") * (n >> 4)
    for i in range(0, n, 16):
        work[527 + i] = i >> 4


def frame(work: bytearray, nonce: bytes, aad: "bytes | bytearray", sizes: int) -> int:
    """Write B0 and the blocks of the AAD (RFC 3610 §2.2) to work; return how many bytes.

    sizes: of tag, AAD and message in bytes, ten bits each. work: with room for them.
    """
    extra = sizes >> 10 & 1023
    work[0] = (64 if extra else 0) | ((sizes >> 20) - 2) << 2 | 1
    work[1:14] = nonce
    work[14] = sizes >> 8 & 3
    work[15] = sizes & 255
    if not extra:
        return 16
    work[16] = extra >> 8
    work[17] = extra & 255
    return append(work, aad, 18, extra)


def append(work: bytearray, source: "bytes | bytearray | memoryview", at: int, n: int) -> int:
    """Copy source[:n] to work[at:], fill its last block of 16 with zeros; return the new end."""
    end = at + n
    work[at:end] = source[:n]
    filled = (end + 15) & -16
    work[end:filled] = bytes(filled - end)
    return filled


def unequal(
    a: "bytes | bytearray | memoryview", b: "bytes | bytearray | memoryview", n: int
) -> int:
    """Return 0 when a[:n] and b[:n] are the same. No early exit: see ct.equal."""
    difference = 0
    for i in range(n):
        difference |= a[i] ^ b[i]
    return difference
