"""The sheet of labels: text and codes of the PDF and of the picture, read back here."""

import io
import re
import zlib

import pytest
import segno
from PIL import Image
from warden_host.boards.labels import Label, sheet
from warden_host.errors import HostError

LABELS = [Label("lock", f"door-{number}", "RPI_PICO_W") for number in range(30)]
LONG = Label("t" * 40, "d" * 40, "n" * 40)
DOTS = 12  # of a picture, per mm


def pages(data: bytes) -> list[str]:
    """The drawing operators of each page."""
    found = []
    for stream in re.findall(rb"stream\n(.*?)\nendstream", data, re.S):
        try:
            text = zlib.decompress(stream)
        except zlib.error:
            continue
        if b" Do" in text:
            found.append(text.decode("latin-1"))
    return found


def test_each_device_has_its_label_in_the_pdf():
    data = sheet(LABELS, ".pdf")
    assert data.startswith(b"%PDF-1.") and data.rstrip().endswith(b"%%EOF")
    first, second = pages(data)
    texts = re.findall(r"\((.*?)\) Tj", first + second)
    assert texts[:3] == ["door-0", "lock", "RPI_PICO_W"]
    assert texts[::3] == [label.device for label in LABELS]
    assert (first.count(" Do"), second.count(" Do")) == (24, 6)
    assert len(set(re.findall(r"/I\d+ Do", first + second))) == 30  # each has its own code


def test_every_label_lies_on_the_page():
    (page,) = pages(sheet([LONG] * 24, ".PDF"))
    for x, y in re.findall(r"BT (\S+) (\S+) Td", page):
        assert 0 <= float(x) and 0 <= float(y) < 842
    sizes = [float(size) for size in re.findall(r"/F1 (\S+) Tf", page)]
    assert min(sizes) < 5 <= max(sizes)  # those that are too wide are made smaller


def test_the_modules_are_those_of_the_code():
    for label in (Label("lock", "front-door", "X"), LONG):
        picture = Image.open(io.BytesIO(sheet([LABELS[0], label], ".png")))
        assert picture.size == (70 * DOTS, 2 * 36 * DOTS)
        matrix = segno.make(label.content, error="m", micro=False).matrix
        code = picture.crop((2 * DOTS, 40 * DOTS, 31 * DOTS, 72 * DOTS)).convert("L")
        left, top, right, _ = code.point(lambda value: 255 - value).getbbox()
        size = (right - left) / len(matrix) if right < 28 * DOTS else 0
        assert size == int(size) > 0
        assert left >= 4 * size and top >= 4 * size  # the quiet zone
        for row, line in enumerate(matrix):
            for column, dark in enumerate(line):
                at = (left + (column + 0.5) * size, top + (row + 0.5) * size)
                assert (code.getpixel((int(at[0]), int(at[1]))) == 0) == bool(dark)


def test_the_picture_has_each_text():
    """Beside the code, each in its line; a line without text stays empty."""

    def dots(label, line):
        top, bottom = ((9, 15), (15, 20), (21, 25))[line]  # mm
        picture = Image.open(io.BytesIO(sheet([label], ".png"))).convert("L")
        area = (31 * DOTS, top * DOTS, 70 * DOTS, bottom * DOTS)
        return picture.crop(area).histogram()[0]

    whole = Label("lock", "front-door", "RPI_PICO_W")
    for line, name in enumerate(("device", "type", "note")):
        assert dots(whole, line) > 100
        assert dots(whole._replace(**{name: ""}), line) == 0


@pytest.mark.parametrize("suffix", [".pdf", ".png"])
def test_text_stays_text(suffix):
    assert sheet([Label("a", "b", "(c) \\ \u00e9\u4e00")], suffix)


@pytest.mark.parametrize(("count", "suffix"), [(1, ".svg"), (1, ""), (201, ".png")])
def test_what_is_refused(count, suffix):
    with pytest.raises(HostError, match="bad-argument"):
        sheet([LABELS[0]] * count, suffix)
