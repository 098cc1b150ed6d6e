"""The two inner loops of AES-CCM where there is no native emitter: the same results by big integers,
which run in C."""


def xor(target: memoryview, work: bytearray, start: int, n: int) -> None:
    """target[:n] ^= work[start:start + n], start + n at most 512. When that reached the end of the
    key stream, the counter blocks in work[512:1024] go on by 32 each."""
    if n:
        stream = int.from_bytes(memoryview(work)[start : start + n], "big")
        target[:n] = (int.from_bytes(target[:n], "big") ^ stream).to_bytes(n, "big")
    if start + n == 512:
        for i in range(526, 1024, 16):
            c = (work[i] << 8 | work[i + 1]) + 32
            work[i] = c >> 8 & 255
            work[i + 1] = c & 255


def count(work: bytearray, n: int) -> None:
    """Number the counter blocks in work[512:512 + n] from 0."""
    for i in range(0, n, 16):
        work[526 + i] = 0
        work[527 + i] = i >> 4
