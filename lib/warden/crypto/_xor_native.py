"""The two inner loops of AES-CCM for the native emitter. Where the firmware has none, importing
this fails and `ccm` takes its fallback.

ptr32 on an address that is not a multiple of 4 is a hard fault on a Cortex-M0+, and message bodies
begin anywhere: so bytes go one at a time until the target stands on a word, and key-stream words
that straddle are put together from two aligned loads.
"""

# mypy: ignore-errors

import micropython


@micropython.viper
def xor(target: ptr8, stream: ptr8, start: int, n: int):  # noqa: F821  (viper's own type names)
    """target[:n] ^= stream[start:start + n]. The stream itself must stand on a word: a bytearray's
    start does. Reads at most the word that holds the last byte, so the stream's length must be a
    multiple of 4."""
    i = 0
    while i < n and (int(target) + i) & 3:
        target[i] = target[i] ^ stream[start + i]
        i += 1
    words = ptr32(int(target) + i)  # noqa: F821
    s = start + i
    keys = ptr32(int(stream) + (s & -4))  # noqa: F821
    m = (n - i) >> 2
    j = 0
    right = (s & 3) << 3
    if right == 0:
        k = m - 3
        while j < k:
            words[j] = words[j] ^ keys[j]
            words[j + 1] = words[j + 1] ^ keys[j + 1]
            words[j + 2] = words[j + 2] ^ keys[j + 2]
            words[j + 3] = words[j + 3] ^ keys[j + 3]
            j += 4
        while j < m:
            words[j] = words[j] ^ keys[j]
            j += 1
    elif m:
        # Little-endian, as every chip that we run on. uint shifts in zeros.
        left = 32 - right
        low = uint(keys[0])  # noqa: F821
        while j < m:
            high = uint(keys[j + 1])  # noqa: F821
            words[j] = words[j] ^ int(low >> right | high << left)
            low = high
            j += 1
    i += m << 2
    while i < n:
        target[i] = target[i] ^ stream[start + i]
        i += 1


@micropython.viper
def count(blocks: ptr8, n: int, c: int):  # noqa: F821
    """Write c, c + 1, … as big-endian 16-bit counters into the last two bytes of the blocks in
    blocks[:n]."""
    i = 14
    while i < n:
        blocks[i] = c >> 8
        blocks[i + 1] = c
        c += 1
        i += 16
