"""Read generated ROMFS images with warden.ota.romfs and with MicroPython's VfsRom.

The images keep within VfsRom's bounds, which it does not check; test_romfs.py has records that
reach beyond.
"""

import random

from harness import check, equal, need
from test_romfs import opened
from update_kit import number, record, romfs, text

HEAP = "6m"

# What a reader has to skip: padding, and kinds that have no meaning yet.
SKIPPED = (1, 6, 7, 9, 127, 128, 20000)
POOL = 600


def reader(image):
    import vfs

    return vfs.VfsRom(image)


class Generator:
    """Images by chance, the same for the same seed. seen: what they held."""

    def __init__(self, seed):
        random.seed(seed)
        self.seen = {}

    def chance(self, n):
        return random.getrandbits(16) % n

    def note(self, what):
        self.seen[what] = self.seen.get(what, 0) + 1

    def noise(self):
        """A record that is skipped; one in a directory may be of the data's kinds."""
        self.note("skipped")
        return record(SKIPPED[self.chance(len(SKIPPED))], bytes(self.chance(9)))

    def data(self):
        what = self.chance(12)
        if what < 6:
            self.note("data")
            return record(2, bytes([self.chance(256) for _ in range(self.chance(40))]))
        if what < 10:
            self.note("pointer")
            size = self.chance(POOL)
            # What stands behind the two numbers is no matter.
            return record(
                3, number(size) + number(self.chance(POOL - size)) + bytes(self.chance(3))
            )
        if what == 10:
            self.note("end in a file")
            return b"\x00" * (2 + self.chance(3)) + record(2, b"behind the end")
        self.note("no data")
        return b""

    def file(self, name):
        before = b"".join([self.noise() for _ in range(self.chance(3))])
        after = record(2, b"a second one") if self.chance(3) == 0 else b""
        return record(5, text(name) + before + self.data() + after)

    def directory(self, depth):
        made = b""
        for place in range(self.chance(7)):
            what = self.chance(10)
            # Some names come twice: the first one counts.
            name = "n%d" % (place - self.chance(2))
            if what == 0:
                made += self.noise()
            elif what == 1:
                self.note("data in a directory")
                made += record(2, b"lost") + record(3, number(1) + number(0))
            elif what == 2 and self.chance(3) == 0:
                self.note("end in a directory")
                made += b"\x00" * (2 + self.chance(2))
            elif what < 6 and depth:
                self.note("directory")
                made += record(4, text(name) + self.directory(depth - 1))
            else:
                made += self.file(name)
        return made

    def image(self):
        # The pool comes first, so that a pointer's offset is known beforehand. It counts from
        # here, not from the image's start.
        pool = bytes([self.chance(256) for _ in range(POOL)])
        body = record(1, pool) + self.directory(3)
        return b"\xd2\xcd\x31" + number(len(body)) + body


def outcome(function, *args):
    try:
        return function(*args)
    except OSError as error:
        return error.errno


def read(filesystem, path):
    return filesystem.open(path, "rb").read()


def compare(theirs, ours, path):
    """Compare a directory and everything in it. Returns how many files were read."""
    entries = list(theirs.ilistdir(path))
    named = [(entry[0], entry[1], entry[3] if entry[1] == 0x8000 else 0) for entry in entries]
    equal([(name, kind, size) for name, kind, _, size in ours.ilistdir(path)], named, path)
    files = 0
    # Also the names that a directory may hold behind its end.
    for name in ["n%d" % at for at in range(-1, 7)]:
        inner = path + "/" + name
        found = outcome(theirs.stat, inner)
        stat = outcome(ours.stat, inner)
        if isinstance(found, tuple) and found[0] == 0x4000:
            equal(stat[0], 0x4000, inner)
            files += compare(theirs, ours, inner)
            continue
        equal(stat, found, inner)
        equal(outcome(read, ours, inner), outcome(read, theirs, inner), inner)
        files += isinstance(found, tuple)
    return files


def test_generated_images():
    need("vfs.VfsRom")
    seen = {}
    files = 0
    for seed in range(150):
        generator = Generator(seed)
        image = generator.image()
        files += compare(reader(image), opened(image)[0], "")
        for what, count in generator.seen.items():
            seen[what] = seen.get(what, 0) + count
    wanted = ("skipped", "data", "pointer", "end in a file", "no data", "data in a directory")
    for what in wanted + ("end in a directory", "directory"):
        check(seen.get(what, 0) >= 10, "%s: %s" % (what, seen))
    check(files > 200, str(files))


def test_a_pointer_counts_from_the_payload():
    """Whatever the length of the header is: one digit of the length, two, or three."""
    need("vfs.VfsRom")
    for filler in (0, 200, 20000):
        data = b"pointed at"
        start = record(2, data)
        body = start + record(5, text("a") + record(3, number(10) + number(len(start) - 10)))
        body += record(1, bytes(filler))
        image = b"\xd2\xcd\x31" + number(len(body)) + body
        equal(read(reader(image), "/a"), data)
        equal(read(opened(image)[0], "/a"), data)


def test_a_tree():
    need("vfs.VfsRom")
    image = romfs({"n0": b"", "n1": {"n2": b"x", "n3": {}}, "n4": bytes(5000)})
    equal(compare(reader(image), opened(image)[0], ""), 3)


def test_bytes_behind_the_filesystem():
    """Bytes behind an image's filesystem are not listed, but a pointer may refer to them."""
    need("vfs.VfsRom")
    body = record(5, text("n0") + record(3, number(4) + number(13)))
    equal(len(body), 9)
    image = b"\xd2\xcd\x31" + number(len(body)) + body + b"...." + b"here" + record(5, text("n1"))
    equal(read(reader(image), "/n0"), b"here")
    equal(compare(reader(image), opened(image)[0], ""), 1)
