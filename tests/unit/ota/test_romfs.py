"""ROMFS as a file system, and images that are none."""

import os

import vfs
from harness import check, equal, raises
from update_kit import Board, map_of, number, record, romfs, text
from warden.ota.romfs import Image, RomFS

HEAP = "6m"

TREE = {
    "app.py": b"x = 1\n",
    "empty": b"",
    "lib": {"one.py": b"1", "deep": {"two.txt": "zwei \u00e4\nlines\n".encode()}},
    "large.bin": bytes(range(256)) * 40,
}


class Bytes:
    """A file in memory that gives at most what is there."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.at = 0
        self.reads = 0
        self.closed = False

    def seek(self, at):
        self.at = at

    def readinto(self, view):
        self.reads += 1
        part = self.data[self.at : self.at + len(view)]
        view[: len(part)] = part
        self.at += len(part)
        return len(part)

    def close(self):
        self.closed = True


def opened(data, on_damage=None):
    hashes, root = map_of(data)
    file, map_file = Bytes(data), Bytes(hashes)
    return RomFS(Image(file, map_file, len(data), root, on_damage)), file, map_file


def test_a_tree():
    filesystem, file, map_file = opened(romfs(TREE))
    names = sorted([(name, kind, size) for name, kind, _, size in filesystem.ilistdir("/")])
    wanted = [("app.py", 32768, 6), ("empty", 32768, 0), ("large.bin", 32768, 10240)]
    equal(names, wanted + [("lib", 16384, 0)])
    equal(filesystem.stat("/lib/deep")[0], 16384)
    equal(filesystem.stat("")[0], 16384)
    equal(filesystem.stat("/lib/deep/two.txt")[6], 14)
    equal(filesystem.open("/large.bin", "rb").read(), TREE["large.bin"])
    equal(filesystem.open("/empty", "rb").read(), b"")
    filesystem.umount()
    check(file.closed and map_file.closed)


def test_as_the_firmware_sees_it():
    filesystem, _, _ = opened(romfs(TREE))
    vfs.mount(filesystem, "/rom")
    try:
        equal(sorted(os.listdir("/rom/lib")), ["deep", "one.py"])
        equal(os.stat("/rom/large.bin")[6], 10240)
        with open("/rom/lib/deep/two.txt") as file:
            equal(file.readline(), "zwei \u00e4\n")
            equal(list(file), ["lines\n"])
        with open("/rom/large.bin", "rb") as file:
            file.seek(5000)
            equal(file.read(3), TREE["large.bin"][5000:5003])
            equal((file.tell(), file.seek(-2, 2), file.read()), (5003, 10238, b"\xfe\xff"))
        os.chdir("/rom/lib")
        equal(open("one.py").read(), "1")
        equal(os.getcwd(), "/rom/lib")
        os.chdir("/")
        equal(os.statvfs("/rom")[2], 3)
        for path in ("/rom/none", "/rom/app.py/x", "/rom/lib/none"):
            wanted = 20 if "app.py" in path else 2
            equal(errno_of(os.stat, path), wanted)
            equal(errno_of(open, path), wanted)
        for mode in ("w", "a", "wb", "r+"):
            equal(errno_of(open, "/rom/app.py", mode), 30)
        equal(errno_of(open, "/rom/lib"), 21)
        equal(errno_of(os.listdir, "/rom/app.py"), 20)
    finally:
        os.chdir("/")
        vfs.umount("/rom")


def error_of(function, *args):
    try:
        function(*args)
    except Exception as error:
        return type(error)
    return None


def errno_of(function, *args):
    try:
        function(*args)
    except OSError as error:
        return error.errno
    return None


def test_the_data_pointer_and_the_padding():
    data = b"pointed at"
    shared = record(2, data)
    before = record(1, bytes(3)) + shared
    # It counts from the payload of the filesystem's record, behind the image's header.
    offset = len(before) - len(data)
    pointer = record(3, number(len(data)) + number(offset))
    body = before + record(5, text("a") + pointer) + record(5, text("b")) + record(5, text("c"))
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    equal(filesystem.open("/a", "rb").read(), data)
    # A file without data is not there, and ends the listing.
    equal(errno_of(filesystem.open, "/b", "rb"), 2)
    equal([entry[0] for entry in filesystem.ilistdir("/")], ["a"])
    # Numbers that reach beyond the pointer's record.
    for cut in (b"\x8a", b"\x0a", b"\x0a\x80"):
        body = record(5, text("a") + record(3, cut) + bytes(8)) + bytes(99)
        filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
        raises("slot-damaged", filesystem.open, "/a", "rb")
        raises("slot-damaged", list, filesystem.ilistdir("/"))


def test_the_kind_that_ends_a_directory():
    """Nothing behind a record of kind 0 is listed or found, whatever its length says."""
    end = b"\x00\x7f" + record(5, text("b") + record(2, b"2"))
    body = record(4, text("d") + record(5, text("a") + record(2, b"1")) + end)
    body += record(5, text("e") + end) + record(5, text("f") + record(2, b"3"))
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    equal([entry[0] for entry in filesystem.ilistdir("/d")], ["a"])
    equal(errno_of(filesystem.stat, "/d/b"), 2)
    equal(errno_of(filesystem.stat, "/e"), 2)
    equal(filesystem.open("/f", "rb").read(), b"3")


def test_every_byte_of_image_and_map():
    """With any one byte changed, the mount or the read fails, or the data read is still right."""
    data = romfs({"a.bin": bytes(range(250)) * 18})
    wanted = data[-4500:]
    served = 0
    for part in (0, 1):
        for at in range(0, 4500 if part == 0 else 64, 7 if part == 0 else 1):
            filesystem = None
            hashes, root = map_of(data)
            files = [Bytes(data), Bytes(hashes)]
            files[part].data[at] ^= 0x10
            try:
                filesystem = RomFS(Image(files[0], files[1], len(data), root, None))
                filesystem.open("/a.bin", "rb").read()
                served += 1
            except Exception as error:
                equal(getattr(error, "code", repr(error)), "slot-damaged")
    equal(served, 0)
    equal(opened(data)[0].open("/a.bin", "rb").read(), wanted)


def test_a_root_of_another_size_or_of_nothing():
    data = romfs(TREE)
    hashes, root = map_of(data)
    for size in (0, len(data) - 1, len(data) + 1, 1 << 31):
        raises("slot-damaged", Image, Bytes(data), Bytes(hashes), size, root)
    raises("slot-damaged", Image, Bytes(data), Bytes(hashes[:-1]), len(data), root)
    image = Image(Bytes(data[:-1]), Bytes(hashes), len(data), root)
    raises("slot-damaged", image.byte, len(data) - 1)
    raises("slot-damaged", image.byte, len(data))


def test_images_that_are_none():
    good = romfs({"a": b"1"})
    for data in (
        b"\xd2",
        b"\xd2\xcd\x32" + good[3:],
        b"\xd2\xcd\x31\x7f" + good[4:],
        b"\xd2\xcd\x31" + b"\xff" * 8,
    ):
        raises("slot-damaged", opened, data)
    inside = (
        b"\x05\x7f" + text("a"),
        record(5, number(300) + b"x" * 300),
        b"\xff" * 6,
        record(5, text("a") + b"\x02\x7f"),
        record(5, text("a") + record(3, number(50) + number(9000))),
    )
    for body in inside:
        filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
        raises("slot-damaged", read_all, filesystem)


def read_all(filesystem):
    for name, _, _, _ in filesystem.ilistdir("/"):
        filesystem.open("/" + name, "rb").read()


def test_a_large_image_holds_one_page_of_hashes():
    """Above 128 blocks the map has several pages; the same heap serves any size."""
    data = romfs({"large.bin": bytes(600000), "last": b"end"})
    hashes, root = map_of(data)
    filesystem, file, map_file = opened(data)
    equal(filesystem.open("/last", "rb").read(), b"end")
    equal(filesystem.open("/large.bin", "rb").read(10), bytes(10))
    image = filesystem._image
    equal((len(image._page), len(image._buffer), len(image._pages)), (4096, 4096, 2))
    file.data[599000] ^= 1
    with_page = filesystem.open("/large.bin", "rb")
    with_page.seek(598000)
    raises("slot-damaged", with_page.read, 2000)
    # A page of the map that was changed since.
    filesystem, file, map_file = opened(data)
    map_file.data[4096 + 5] ^= 1
    late = filesystem.open("/large.bin", "rb")
    equal(late.read(10), bytes(10))
    late.seek(560000)
    raises("slot-damaged", late.read, 10)


def test_slots_of_files():
    board = Board()
    slots = board.slots()
    equal(slots.size(0, "app"), 0)
    raises("slot-damaged", slots.read, 0, "app")
    slots.remove(0, "app")
    with slots.write(0, "app") as file:
        file.write(b"one")
    with slots.write(0, "app", True) as file:
        file.write(b"two")
    equal(slots.size(0, "app"), 6)
    check(slots.room("app") > 4096)
    board.off()
    from warden.hal.slots_file import FileSlots, full_or_broken

    equal(full_or_broken(OSError(28)).code, "slot-full")
    equal(full_or_broken(OSError(5)).code, "filesystem")
    raises("filesystem", FileSlots, "/none/slots", ("app",))


def test_a_filesystem_refuses_bad_paths():
    filesystem, _, _ = opened(romfs(TREE))
    equal(errno_of(filesystem.mount, True, True), 30)
    equal(errno_of(filesystem.chdir, "/app.py"), 2)


def test_slots_of_a_broken_flash():
    board = Board()
    slots = board.slots()
    with slots.write(0, "app") as file:
        file.write(bytes(3000))
    board.disk.dead = True
    raises("filesystem", slots.size, 0, "app")
    raises("filesystem", slots.read, 0, "app")
    raises("filesystem", slots.write, 0, "app")
    raises("filesystem", slots.remove, 0, "app")
    raises("filesystem", slots.room, "app")
    board.off()


class Unread(Bytes):
    """Nothing may be read before the size was judged."""

    def readinto(self, view):
        check(False, "it was read")


def test_sizes_that_can_not_be():
    """Refused before memory is taken for the hashes, and before a byte is read."""
    most = 64 * 128 * 4096
    for size in (0, -1, most + 1, 1 << 31, 1 << 40):
        raises("slot-damaged", Image, Unread(b""), Unread(b""), size, bytes(32))
    # The largest that can be is refused by its hashes only.
    raises("slot-damaged", Image, Bytes(b""), Bytes(bytes(64 * 4096)), most, bytes(32))


def test_the_root_of_whole_pages():
    """The formula of docs/update.md, worked out anew, around the ends of a page."""
    import hashlib

    from warden.ota.image_verify import Root

    for blocks in (1, 127, 128, 129, 256):
        root = Root(blocks * 4096)
        leaves = [hashlib.sha256(bytes((number & 255,))).digest() for number in range(blocks)]
        wanted = hashlib.sha256(b"warden slot 1" + (blocks * 4096).to_bytes(8, "big"))
        for at in range(0, blocks, 128):
            wanted.update(hashlib.sha256(b"".join(leaves[at : at + 128])).digest())
        for leaf in leaves:
            root.add(leaf)
        equal(root.digest(), wanted.digest(), str(blocks))


def test_beyond_the_image():
    """What a smaller block leaves in the buffer is never served as the image's."""
    for size in (4096 + 700, 8192):
        data = bytes(range(256)) * 32
        hashes, root = map_of(data[:size])
        image = Image(Bytes(data[:size]), Bytes(hashes), size, root)
        view = memoryview(bytearray(100))
        equal((image.byte(0), image.byte(size - 1)), (0, data[size - 1]))
        for at in (size, size + 1, size + 5000):
            raises("slot-damaged", image.byte, at)
            equal(image.readinto(at, view), 0)
        equal(image.readinto(size - 30, view), 30)
        equal(bytes(view[:30]), data[size - 30 : size])
        equal(image.readinto(10, view[:0]), 0)


def test_a_record_ends_in_its_directory():
    """One that reaches beyond it, into what stands behind: neither listed nor found."""
    secret = record(5, text("secret") + record(2, b"behind"))
    inner = number(5) + number(200) + text("a") + record(2, b"1")
    body = record(4, text("d") + inner) + secret + record(2, bytes(300))
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    raises("slot-damaged", list, filesystem.ilistdir("/d"))
    raises("slot-damaged", filesystem.stat, "/d/a")


def test_numbers_and_names():
    """A number may begin with zeros; a name has 255 bytes at most, and that many it may have."""
    name = "n" * 255
    body = b"\x05" + number(len(text(name)) + 4) + text(name) + b"\x02\x80\x01x"
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    equal(filesystem.open("/" + name, "rb").read(), b"x")
    body = record(5, number(256) + b"n" * 256 + record(2, b"x"))
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    raises("slot-damaged", list, filesystem.ilistdir("/"))


def test_paths():
    filesystem, _, _ = opened(romfs(TREE))
    filesystem.chdir("/lib")
    equal(filesystem.getcwd(), "/lib")
    filesystem.chdir("deep")
    equal(filesystem.getcwd(), "/lib/deep")
    equal(filesystem.stat("two.txt")[6], 14)
    equal(filesystem.stat("/app.py")[6], 6)
    equal(errno_of(filesystem.stat, "app.py"), 2)
    filesystem.chdir("/lib")
    equal(filesystem.getcwd(), "/lib")
    # Above the root, as littlefs 2.10 and later say it.
    equal(errno_of(filesystem.ilistdir, "/.."), 22)
    equal(errno_of(filesystem.stat, "../../app.py"), 22)
    equal(errno_of(filesystem.stat, "/app.py/"), 20)
    for mode in ("x", "rx", "w", "a", "r+"):
        equal(errno_of(filesystem.open, "/app.py", mode), 30)
    # What lies inside a file is no directory, whatever it looks like.
    body = record(5, text("a") + record(5, text("x") + record(2, b"1")) + record(2, b"data"))
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    equal(filesystem.open("/a", "rb").read(), b"data")
    equal(errno_of(filesystem.stat, "/a/x"), 20)
    # Records of another kind are skipped: not listed, not data.
    body = record(9, text("b") + record(2, b"1")) + record(
        5, text("a") + record(9, b"zz") + record(2, b"data")
    )
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    equal([entry[0] for entry in filesystem.ilistdir("/")], ["a"])
    equal(filesystem.open("/a", "rb").read(), b"data")
    equal(errno_of(filesystem.stat, "/b"), 2)


def test_a_failed_read_leaves_nothing_in_the_buffer():
    """After a refused block or page of hashes, neither is served or trusted from the buffer.

    An application may catch the error and read again.
    """
    data = bytearray(bytes(range(256)) * 32)
    hashes, root = map_of(data)
    file = Bytes(data)
    image = Image(file, Bytes(hashes), len(data), root)
    equal(image.byte(5), 5)
    # The changed block lies in the buffer, where the first one was.
    file.data[4096 + 5] ^= 0xFF
    raises("slot-damaged", image.byte, 4096 + 5)
    equal(image.byte(5), 5)
    raises("slot-damaged", image.byte, 4096 + 5)
    # Two pages of hashes: the second one is replaced by the hashes of another image.
    data = bytearray(129 * 4096)
    evil = bytearray(b"\xee" * len(data))
    hashes, root = map_of(data)
    file, map_file = Bytes(data), Bytes(hashes)
    image = Image(file, map_file, len(data), root)
    equal(image.byte(4096), 0)
    file.data[:4096] = evil[:4096]
    map_file.data[4096:] = map_of(evil[:4096])[0]
    raises("slot-damaged", image.byte, 128 * 4096)
    raises("slot-damaged", image.byte, 0)


def test_cut_short():
    """With equal blocks, the bytes in the buffer don't stand in for missing ones."""
    data = bytes(2 * 4096)
    hashes, root = map_of(data)
    for left in (4096, 4097, 8191):
        image = Image(Bytes(data[:left]), Bytes(hashes), len(data), root)
        equal(image.byte(0), 0)
        raises("slot-damaged", image.byte, 4096)
    # And of equal pages of hashes.
    data = bytes(256 * 4096)
    hashes, root = map_of(data)
    raises("slot-damaged", Image, Bytes(data), Bytes(hashes[:4096]), len(data), root)


def test_each_block_is_read_once():
    """As long as what is read lies in it, and the page of its hashes as well."""
    data = bytes(range(256)) * 16 * 130
    hashes, root = map_of(data)
    file, map_file = Bytes(data), Bytes(hashes)
    image = Image(file, map_file, len(data), root)
    equal((file.reads, map_file.reads), (0, 2))
    view = memoryview(bytearray(100))
    for at in range(128 * 4096, 129 * 4096, 100):
        image.byte(at)
        image.readinto(at, view)
    # The second page is the one that was read last.
    equal((file.reads, map_file.reads), (1, 2))
    equal(image.readinto(0, view[:0]), 0)
    equal(file.reads, 1)
    for block in (0, 1, 2):
        image.byte(block * 4096)
    equal((file.reads, map_file.reads), (4, 3))


def test_sizes_and_their_buffers():
    """What an image of this size needs, and no more; up to 32 MB."""
    for size, page, block in (
        (1, 32, 1),
        (4096, 32, 4096),
        (4097, 64, 4096),
        (700000, 4096, 4096),
    ):
        data = bytes((1,)) * size
        hashes, root = map_of(data)
        image = Image(Bytes(data), Bytes(hashes), size, root)
        equal((len(image._page), len(image._buffer)), (page, block))
        equal((image.byte(0), image.byte(size - 1)), (1, 1))
    # Of the largest, all hashes are looked at; of one block more, none.
    hashes = Bytes(bytes(64 * 4096))
    raises("slot-damaged", Image, Bytes(b""), hashes, 64 * 128 * 4096, bytes(32))
    equal(hashes.reads, 64)
    # Nothing at all, even under the root of nothing.
    raises("slot-damaged", Image, Bytes(b""), Bytes(b""), 0, map_of(b"")[1])


def test_numbers_of_five_digits():
    """And none of six, not even with zeros in front."""
    for zeros, good in ((3, True), (4, False)):
        body = record(5, text("a") + b"\x02" + b"\x80" * zeros + b"\x81\x00" + bytes(128))
        filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
        if good:
            equal(filesystem.open("/a", "rb").read(), bytes(128))
        else:
            raises("slot-damaged", filesystem.open, "/a", "rb")


def test_the_ioctl_answers():
    """MicroPython gives each number of these answers a meaning."""
    filesystem, _, _ = opened(romfs(TREE))
    zeros = (0,) * 9
    equal(filesystem.stat("/lib"), (0x4000,) + zeros)
    equal(filesystem.stat("/app.py"), (0x8000, 0, 0, 0, 0, 0, 6, 0, 0, 0))
    # Of a filesystem that can't be written: no free block.
    equal(filesystem.statvfs("/"), (4096, 4096, 3, 0, 0, 0, 0, 0, 1, 255))
    equal(sorted(filesystem.ilistdir("/"))[0], ("app.py", 0x8000, 0, 6))
    equal(list(filesystem.ilistdir("/lib"))[1], ("one.py", 0x8000, 0, 1))
    check(("lib", 0x4000, 0, 0) in list(filesystem.ilistdir("/")))
    equal(filesystem.getcwd(), "/")
    file = filesystem.open("/app.py", "rb")
    # The size of an import's buffer; closing; anything else is not known here.
    equal((file.ioctl(11, 0), file.ioctl(4, 0), file.ioctl(10, 0)), (256, 0, -22))


def test_a_file_has_its_bounds():
    """Whatever is asked for, nothing but the file's own bytes come, and no more than there are."""
    body = record(5, text("a") + record(2, b"before")) + record(
        5, text("b") + record(2, b"12\n45")
    )
    body += record(5, text("c") + record(2, b"behind"))
    filesystem, _, _ = opened(b"\xd2\xcd\x31" + number(len(body)) + body)
    file = filesystem.open("/b", "rb")
    equal((file.read(0), file.read(2), file.read(0), file.read(100)), (b"", b"12", b"", b"\n45"))
    equal((errno_of(file.seek, -100), errno_of(file.seek, -100, 2), file.tell()), (22, 22, 5))
    equal((file.seek(0), file.read()), (0, b"12\n45"))
    equal((file.seek(100), file.read(), file.tell()), (100, b"", 100))
    equal((file.seek(1), file.seek(1), file.seek(2, 1), file.seek(-2, 1)), (1, 1, 3, 1))
    equal((file.seek(-5, 2), file.seek(100, 1), file.seek(3)), (0, 100, 3))
    equal(file.read(), b"45")
    file.seek(0)
    # Lines are bytes where bytes were asked for.
    equal((file.readline(), list(file)), (b"12\n", [b"45"]))
    file.seek(0)
    file.close()
    equal(error_of(file.read), ValueError)
    with filesystem.open("/b", "r") as file:
        equal((file.readline(), file.read()), ("12\n", "45"))
        file.seek(0)
    equal(error_of(file.read), ValueError)
