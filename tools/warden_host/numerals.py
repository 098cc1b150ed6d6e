"""Read the decimal numbers that come as text: in command lines, URLs, headers and files."""


def decimal(text: str | bytes, most: int, least: int = 0) -> int | None:
    """Return the number that ASCII digits write; None for other text and beyond the bounds.

    int() alone also takes signs, spaces, underscores and the digits of other scripts, and raises
    ValueError for thousands of digits.
    """
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)):
        return None
    number = int(text)
    return number if least <= number <= most else None
