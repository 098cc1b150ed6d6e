"""What MicroPython's json.loads() accepts although it is no JSON, or too deep to be parsed."""

from micropython import const

_DEEPEST = const(8)  # as deep as wire/cbor.py reads


def is_refused(data: bytes) -> bool:
    """Return whether JSON is nested too deeply, or has brackets that MicroPython misreads.

    The parser would allocate memory for each level before it saw that the text is garbage. It
    accepts a list that ends in a brace, and up to 1.25 text that is cut short. It accepts any four
    characters behind \\u, a quotation mark too, and ends at a NUL.
    """
    opened = 1  # and a bit for each bracket: 1 for an object, 0 for a list
    text = escaped = False
    digits = 0  # of a \u, still to come
    for byte in data:
        if not byte:
            return True
        if digits:
            if byte not in b"0123456789ABCDEFabcdef":
                return True
            digits -= 1
        elif escaped:
            escaped = False
            digits = 4 if byte == 0x75 else 0
        elif text:
            escaped = byte == 0x5C  # a backslash
            text = byte != 0x22  # a quotation mark
        elif byte == 0x22:
            text = True
        elif byte in b"[{":
            opened = opened << 1 | (byte == 0x7B)
            if opened >> _DEEPEST > 1:
                return True
        elif byte in b"]}":
            if opened == 1 or opened & 1 != (byte == 0x7D):
                return True
            opened >>= 1
    return text or opened != 1
