"""The inner loops for the native emitter; without one `_xor` takes `_xor_plain`.

ptr32 on an address that is not a multiple of 4 is a hard fault on a Cortex-M0+, and message bodies
begin anywhere: so bytes go one at a time until the target is on a word, and key-stream words that
straddle are put together from two aligned loads.
"""

# mypy: ignore-errors

import micropython


@micropython.viper
def xor(t: ptr32, k: ptr32, start: int, n: int):  # noqa: F821  (viper's own type names)
    """t[:n] ^= k[start:start + n] in bytes; at the end of the key stream, count on.

    start + n: at most 512; when it is 512, the counter blocks in k[512:1024] go on by 32 each. k:
    on a word, as an object of the heap is. The first two locals live in registers, for the inner
    loop.
    """
    target = ptr8(t)  # noqa: F821
    work = ptr8(k)  # noqa: F821
    head = (0 - int(target)) & 3
    i = 0
    while i < head and i < n:
        target[i] = target[i] ^ work[start + i]
        i += 1
    s = start + i
    m = (n - i) >> 2
    t = ptr32(int(target) + i)  # noqa: F821
    k = ptr32(int(work) + (s & -4))  # noqa: F821
    right = (s & 3) << 3
    i += m << 2
    if right == 0:
        while m >= 8:
            t[0] = t[0] ^ k[0]
            t[1] = t[1] ^ k[1]
            t[2] = t[2] ^ k[2]
            t[3] = t[3] ^ k[3]
            t[4] = t[4] ^ k[4]
            t[5] = t[5] ^ k[5]
            t[6] = t[6] ^ k[6]
            t[7] = t[7] ^ k[7]
            t = ptr32(int(t) + 32)  # noqa: F821
            k = ptr32(int(k) + 32)  # noqa: F821
            m -= 8
        while m > 0:
            t[0] = t[0] ^ k[0]
            t = ptr32(int(t) + 4)  # noqa: F821
            k = ptr32(int(k) + 4)  # noqa: F821
            m -= 1
    elif m > 0:
        # Little-endian, as every chip that we run on. uint shifts in zeros.
        left = 32 - right
        low = uint(k[0])  # noqa: F821
        while m > 0:
            high = uint(k[1])  # noqa: F821
            t[0] = t[0] ^ int(low >> right | high << left)
            low = high
            t = ptr32(int(t) + 4)  # noqa: F821
            k = ptr32(int(k) + 4)  # noqa: F821
            m -= 1
    while i < n:
        target[i] = target[i] ^ work[start + i]
        i += 1
    if start + n == 512:
        # The counter is big-endian in the upper half of a little-endian word. All 32 blocks carry
        # at once, when the first one does.
        step = 32 << 24
        if work[527] == 224:
            step += 1 << 16
        t = ptr32(int(work) + 524)  # noqa: F821
        m = 32
        while m:
            t[0] = t[0] + step
            t = ptr32(int(t) + 16)  # noqa: F821
            m -= 1


@micropython.viper
def count(work: ptr8, nonce: ptr8, n: int):  # noqa: F821
    """Write the counter blocks A0, A1, … (RFC 3610) of this nonce to work[512:512 + n]."""
    c = 0
    i = 512
    while c << 4 < n:
        work[i] = 1
        j = 0
        while j < 13:
            work[i + 1 + j] = nonce[j]
            j += 1
        work[i + 14] = 0
        work[i + 15] = c
        c += 1
        i += 16


@micropython.viper
def frame(work: ptr8, nonce: ptr8, aad: ptr8, sizes: int) -> int:  # noqa: F821
    """Write B0 and the blocks of the AAD (RFC 3610 §2.2) to work; return how many bytes.

    sizes: of tag, AAD and message in bytes, ten bits each. work: with room for them.
    """
    n = sizes & 1023
    extra = sizes >> 10 & 1023
    work[0] = ((sizes >> 20) - 2) << 2 | 1
    i = 0
    while i < 13:
        work[i + 1] = nonce[i]
        i += 1
    work[14] = n >> 8
    work[15] = n
    i = 16
    if extra:
        work[0] = work[0] | 64
        work[16] = extra >> 8
        work[17] = extra
        i = 18
        extra += i
        while i < extra:
            work[i] = aad[i - 18]
            i += 1
    while i & 15:
        work[i] = 0
        i += 1
    return i


@micropython.viper
def append(work: ptr8, source: ptr8, at: int, n: int) -> int:  # noqa: F821
    """Copy source[:n] to work[at:], fill its last block of 16 with zeros; return the new end."""
    i = 0
    while i < n:
        work[at + i] = source[i]
        i += 1
    i += at
    while i & 15:
        work[i] = 0
        i += 1
    return i


@micropython.viper
def unequal(a: ptr8, b: ptr8, n: int) -> int:  # noqa: F821
    """Return 0 when a[:n] and b[:n] are the same. No early exit: see ct.equal."""
    difference = 0
    i = 0
    while i < n:
        difference |= a[i] ^ b[i]
        i += 1
    return difference
