"""A sheet of labels: a QR code with the device's type and ID, and both as text.

A PDF has A4 pages with 3 columns of 8 labels of 70 by 36 mm, the common sheet; a picture (PNG) has
the same labels in one column, for a printer of labels on a roll.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

from warden_host.errors import HostError

KINDS = (".pdf", ".png")
_COLUMNS, _ROWS = 3, 8
_WIDTH, _HEIGHT = 70, 36  # mm
_SIDE = 28  # of a code with its margin, mm
_PAGE_HEIGHT = 297
_DOTS = 12  # of a picture, per mm: 300 dpi
_MOST_PICTURE = 200  # labels of one picture


class Label(NamedTuple):
    """A device. note: a third line, such as the board's name."""

    type: str
    device: str
    note: str = ""

    @property
    def content(self) -> str:
        """Return what the code says: type and ID, as in the device's topics; no secret."""
        return f"{self.type}/{self.device}"


def check_kind(suffix: str, count: int = 0) -> None:
    """Raise bad-argument for a file that is neither PDF nor PNG, or takes fewer labels."""
    if suffix.lower() not in KINDS:
        raise HostError("bad-argument", f"labels are written as {' or '.join(KINDS)}")
    if suffix.lower() == ".png" and count > _MOST_PICTURE:
        raise HostError(
            "bad-argument", f"a picture has at most {_MOST_PICTURE} labels", "write a .pdf"
        )


def sheet(labels: Sequence[Label], suffix: str) -> bytes:
    """Return the file of the labels. suffix: one of KINDS. Raises bad-argument."""
    check_kind(suffix, len(labels))
    return _picture(labels) if suffix.lower() == ".png" else _pdf(labels)


def _pdf(labels: Sequence[Label]) -> bytes:
    from fpdf import FPDF  # only a batch with labels needs it

    made = FPDF(format="A4")
    made.set_auto_page_break(False)
    top = (_PAGE_HEIGHT - _ROWS * _HEIGHT) / 2
    for number, label in enumerate(labels):
        row, column = divmod(number % (_COLUMNS * _ROWS), _COLUMNS)
        if row == column == 0:
            made.add_page()
        x, y = column * _WIDTH + 2, top + row * _HEIGHT + 4
        made.image(io.BytesIO(_code(label)), x, y, _SIDE, _SIDE)
        for size, below, text in _lines(label):
            made.set_font("Helvetica", size=size)
            room = _WIDTH - _SIDE - 5
            made.set_font_size(min(size, size * room / max(made.get_string_width(text), 1)))
            made.text(x + _SIDE + 1, y + below, text)
    return bytes(made.output())


def _picture(labels: Sequence[Label]) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    made = Image.new("1", (_WIDTH * _DOTS, _HEIGHT * _DOTS * len(labels)), 1)
    draw = ImageDraw.Draw(made)
    for number, label in enumerate(labels):
        x, y = 2 * _DOTS, (number * _HEIGHT + 4) * _DOTS
        code = Image.open(io.BytesIO(_code(label)))
        scale = max(1, _SIDE * _DOTS // code.width)
        made.paste(code.resize((code.width * scale, code.height * scale), 0), (x, y))
        for size, below, text in _lines(label):
            dots = size * 25.4 / 72 * _DOTS
            room = (_WIDTH - _SIDE - 5) * _DOTS
            width = draw.textlength(text, ImageFont.load_default(dots))
            font = ImageFont.load_default(min(dots, dots * room / max(width, 1)))
            at = (x + (_SIDE + 1) * _DOTS, y + below * _DOTS)
            draw.text(at, text, 0, font, anchor="ls")
    file = io.BytesIO()
    made.save(file, "PNG", dpi=(_DOTS * 25.4, _DOTS * 25.4))
    return file.getvalue()


def _lines(label: Label) -> tuple[tuple[float, int, str], ...]:
    """Return size in points, millimetres below the label's top, and text of each line."""
    note = label.note.encode("ascii", "replace").decode()  # the fonts have no more
    return (12, 10, label.device), (8, 15, label.type), (6, 20, note)


def _code(label: Label) -> bytes:
    """Return the QR code as PNG, with the margin that readers need."""
    import segno

    file = io.BytesIO()
    segno.make(label.content, error="m", micro=False).save(file, "png", scale=8)
    return file.getvalue()
