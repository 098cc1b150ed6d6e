"""Encode and decode the keys of age files: Bech32 (BIP 173) without its limit of length."""

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6  # characters


def encode(prefix: str, data: bytes) -> str:
    """Return prefix, "1", the data and a checksum, in lower case."""
    values = _regroup(data, 8, 5, pad=True)
    polymod = _polymod(_expand(prefix) + values + [0] * _CHECKSUM) ^ 1
    checksum = [polymod >> 5 * (_CHECKSUM - 1 - index) & 31 for index in range(_CHECKSUM)]
    return prefix + "1" + "".join(_CHARSET[value] for value in values + checksum)


def decode(prefix: str, text: str) -> bytes:
    """Return the data of a text with this prefix. Raises ValueError."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("upper and lower case mixed")
    found, _, rest = text.lower().rpartition("1")
    if found != prefix:
        raise ValueError("another prefix")
    values = [_CHARSET.index(character) for character in rest]
    if _polymod(_expand(prefix) + values) != 1:
        raise ValueError("the checksum does not match")
    return bytes(_regroup(values[:-_CHECKSUM], 5, 8, pad=False))


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode()
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for index, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> index & 1 else 0
    return checksum


def _regroup(values: bytes | list[int], width: int, wanted: int, pad: bool) -> list[int]:
    """Return values of `width` bits as values of `wanted` bits. Raises ValueError."""
    rest, bits, found = 0, 0, []
    for value in values:
        rest = rest << width | value
        bits += width
        while bits >= wanted:
            bits -= wanted
            found.append(rest >> bits & (1 << wanted) - 1)
        rest &= (1 << bits) - 1
    if pad and bits:
        found.append(rest << wanted - bits)
    elif not pad and (bits >= width or rest):
        raise ValueError("bits that belong to no byte")
    return found
