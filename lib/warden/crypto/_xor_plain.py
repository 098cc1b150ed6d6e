"""The two inner loops of AES-CCM where there is no native emitter: the same results by big
integers, which run in C."""


def xor(target: memoryview, stream: bytearray, start: int, n: int) -> None:
    """target[:n] ^= stream[start:start + n]."""
    if n:
        a = int.from_bytes(target[:n], "big") ^ int.from_bytes(
            memoryview(stream)[start : start + n], "big"
        )
        target[:n] = a.to_bytes(n, "big")


def count(blocks: bytearray, n: int, c: int) -> None:
    """Write c, c + 1, … as big-endian 16-bit counters into the last two bytes of the blocks in
    blocks[:n]."""
    for i in range(14, n, 16):
        blocks[i] = c >> 8
        blocks[i + 1] = c & 255
        c += 1
