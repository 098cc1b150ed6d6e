"""What compressing images would save on the wire, and what it would cost a device: the figures
behind the decision in docs/update.md.

Deflate with windows that a device can hold, over a whole image and over pieces of it that stand
alone, which is what going on after a cut wants.
"""

import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tools")]

from measure_kit import row  # noqa: E402
from warden_host.fleet import device_tree  # noqa: E402  (the path must be set first)
from warden_host.release import image  # noqa: E402

# Name → (bits of the window, bytes of a piece, 0 for all in one).
WAYS = {
    "whole, 32 KB window": (15, 0),
    "whole, 4 KB window": (12, 0),
    "whole, 1 KB window": (10, 0),
    "pieces of 4 KB": (12, 4096),
    "pieces of 1 KB": (10, 1008),
}
_HEAD = 4  # bytes that each piece would need besides: where it ends

_MEASURE = """\
import deflate, gc, io
gc.collect()
before = gc.mem_alloc()
stream = deflate.DeflateIO(io.BytesIO(%r), deflate.RAW, %d)
stream.read(1)
gc.collect()
print(gc.mem_alloc() - before)
"""


def packed(data: bytes, bits: int, piece: int) -> int:
    """Bytes on the wire. A piece that does not get smaller travels as it is."""
    step = piece or len(data)
    total = 0
    for at in range(0, len(data), step):
        plain = data[at : at + step]
        work = zlib.compressobj(9, zlib.DEFLATED, -bits)
        total += min(len(plain), len(work.compress(plain) + work.flush()))
        total += _HEAD if piece else 0
    return total


def images(folder: Path) -> dict[str, bytes]:
    """Name → image: the example, and a large application that brings its own copy of the
    library."""
    relay = REPO / "examples" / "relay"
    large = folder / "large"
    shutil.copytree(relay, large)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPO / "lib" / "warden", large / "warden", ignore=ignore)
    return {
        f"{name}, {kind}": image.build(source, True, march)
        for name, source in (("relay", relay), ("relay with the library", large))
        for kind, march in ((".py", None), (".mpy", "armv6m"))
    }


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    with tempfile.TemporaryDirectory() as folder:
        made = images(Path(folder))
    for name, data in made.items():
        for way, (bits, piece) in WAYS.items():
            saved = 100 * (1 - packed(data, bits, piece) / len(data))
            size = f"{len(data) / 1024:.0f} KB"
            yield row(f"deflate, {name} ({size}), {way}", saved, "% saved")
    for bits in (10, 12, 15):
        yield row(f"deflate, the device's state and window, {bits} bits", heap(bits), "bytes")


def heap(bits: int) -> int:
    """Bytes of the heap, 64-bit words, that the firmware's own decompressor takes."""
    work = zlib.compressobj(9, zlib.DEFLATED, -bits)
    data = work.compress(bytes(range(256))) + work.flush()
    argv = [device_tree.micropython(), "-c", _MEASURE % (data, bits)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout) - len(data)
