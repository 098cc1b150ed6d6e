"""A mounted slot behaves like a folder: the same operations on littlefs, POSIX and our ROMFS.

An application that was written in a folder must behave the same as a release. A board's folder is
on littlefs.
"""

import os

from harness import check, equal, need
from ramdisk_model import RamDisk
from test_romfs import opened
from update_kit import romfs

HEAP = "6m"

# Other tests change the folder.
TOP = os.getcwd()

LINES = "zwei \u00e4\nlines \u20ac\n\nlast \U0001f511".encode()
TREE = {
    "app.py": b"x = 1\n",
    "empty": b"",
    "lib": {"one.py": b"1", "deep": {"two.txt": LINES}},
    "long.txt": "\u00e4b".encode() * 4000,
}
PATHS = ("/app.py", "/lib", "/none", "/app.py/x", "/lib/", "/lib/none/x", "", "/.")
PATHS += ("/lib/./one.py", "//lib//one.py", "/lib/deep/../../app.py", "/lib/..", "/lib/deep/..")


def fill(root, tree):
    for name, content in tree.items():
        if isinstance(content, dict):
            os.mkdir(root + "/" + name)
            fill(root + "/" + name, content)
        else:
            with open(root + "/" + name, "wb") as file:
                file.write(content)


def mounted(check_one):
    """Call check_one(littlefs, ours) with the folders of both."""
    import vfs

    need("vfs.VfsLfs2")
    disk = RamDisk(128)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), "/lfs")
    vfs.mount(opened(romfs(TREE))[0], "/ours")
    try:
        fill("/lfs", TREE)
        check_one("/lfs", "/ours")
    finally:
        os.chdir("/")
        vfs.umount("/lfs")
        vfs.umount("/ours")


def outcome(function, *args):
    """What came, or the kind of error and its number."""
    try:
        return function(*args)
    except Exception as error:
        # littlefs of MicroPython 1.25 says -2 where later ones say 2.
        return type(error), abs(error.errno) if isinstance(error, OSError) else None


def step(file, operation):
    name = operation[0]
    if name == "iterate":
        return list(file)
    if name == "next":
        return next(file)
    if name == "memoryview":
        return memoryview(file)
    if name == "readinto":
        buffer = bytearray(6)
        return file.readinto(buffer, *operation[1:]), bytes(buffer)
    return getattr(file, name)(*operation[1:])


def run(path, mode, operations):
    with open(path, mode) as file:
        return [outcome(step, file, operation) for operation in operations]


SEQUENCES = (
    (
        ("readline", 3),
        ("readline", 20),
        ("readline", 0),
        ("readline", -1),
        ("readline",),
        ("next",),
    ),
    (("readlines",), ("readlines",), ("iterate",), ("next",), ("readline",)),
    (("readline",), ("readlines",), ("seek", 0), ("next",), ("iterate",)),
    (("read", 6), ("read", 0), ("read", 3), ("read", 100), ("read",), ("read", -1), ("read", 5)),
    (("read", 1),) * 30,
    (
        ("readinto", 2),
        ("readinto",),
        ("readinto", -1),
        ("readinto", 100),
        ("readinto", 0),
        ("tell",),
    ),
    (
        ("seek", -1),
        ("tell",),
        ("seek", 2),
        ("seek", -3, 1),
        ("tell",),
        ("seek", -100, 2),
        ("tell",),
    ),
    (
        ("seek", 100),
        ("tell",),
        ("read",),
        ("read", 3),
        ("readline",),
        ("readlines",),
        ("readinto",),
    ),
    (
        ("seek", -4, 2),
        ("read",),
        ("seek", 0, 2),
        ("seek", 0),
        ("read", 2),
        ("seek", -1, 1),
        ("tell",),
    ),
    (("seek", 5, 2), ("iterate",), ("tell",), ("seek", -9, 1), ("tell",), ("seek", 1), ("read",)),
    (("flush",), ("memoryview",), ("read", None), ("tell",)),
    (("close",), ("close",), ("read",), ("readline",), ("tell",), ("seek", 0), ("flush",)),
    (("close",), ("readlines",), ("readinto",), ("iterate",), ("next",), ("read", 1)),
)


def same_operations(theirs, ours):
    for path in ("/lib/deep/two.txt", "/app.py", "/empty"):
        for mode in ("r", "rb", "rt"):
            for operations in SEQUENCES:
                wanted = run(theirs + path, mode, operations)
                equal(run(ours + path, mode, operations), wanted, "%s %s" % (path, mode))
    # Characters over the end of a block of the image.
    for size in (1365, 2731, 4095, 4096, 4097, 8000, 9000):
        operations = (("read", size), ("tell",), ("read", size), ("tell",), ("read",))
        wanted = run(theirs + "/long.txt", "r", operations)
        equal(run(ours + "/long.txt", "r", operations), wanted, str(size))


def test_operations_of_files():
    mounted(same_operations)


def same_on_the_host(theirs, ours):
    folder = TOP + "/build/romfs-" + os.urandom(8).hex()
    os.mkdir(folder)
    try:
        fill(folder, TREE)
        same_operations(folder, ours)
    finally:
        empty(folder)


def empty(folder):
    for entry in list(os.ilistdir(folder)):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            empty(path)
        else:
            os.remove(path)
    os.rmdir(folder)


def test_operations_of_files_on_the_host():
    """Where an application is tried in a folder of the unix port."""
    need("vfs.VfsPosix")
    mounted(same_on_the_host)


def walk(root, path):
    """What an application learns about one path."""

    def stat(whole):
        status = os.stat(whole)
        return status[0] & 0xF000, status[6] if status[0] & 0x8000 else 0

    def inside(whole):
        try:
            try:
                os.chdir(whole)
            except OSError as error:
                # littlefs says ENOENT of a path through a file too, the host's folders ENOTDIR.
                check(abs(error.errno) in (2, 20))
                return None
            where = os.getcwd()
            check(where.startswith(root), where)
            return where[len(root) :], sorted(os.listdir()), outcome(os.stat, "one.py")[:1]
        finally:
            os.chdir("/")

    whole = root + path
    return (
        outcome(stat, whole),
        outcome(stat, whole.encode()),
        outcome(lambda: sorted(os.listdir(whole))),
        outcome(lambda: sorted(os.listdir(whole.encode()))),
        outcome(lambda: open(whole).read()),
        outcome(lambda: open(whole.encode(), "rb").read()),
        outcome(inside, whole),
        # At once, and not when the first entry is asked for.
        outcome(lambda: os.ilistdir(whole) and None),
        outcome(lambda: sorted([entry[:2] for entry in os.ilistdir(whole)])),
    )


def same_paths(theirs, ours):
    for path in PATHS:
        found, wanted = walk(ours, path), walk(theirs, path)
        for place in range(len(wanted)):
            equal(found[place], wanted[place], "%s %d" % (path, place))


def test_paths():
    mounted(same_paths)


def steps(root):
    """Where an application is after each chdir(); one that fails changes nothing."""
    seen = []
    os.chdir(root + "/lib")
    for path in ("deep", "..", "./deep/..", "none", "one.py", "one.py/x", "..", "lib/deep", b".."):
        failed = outcome(os.chdir, path) is not None
        seen.append((path, failed, os.getcwd()[len(root) :]))
    seen.append(open("../app.py").read())
    os.chdir("/")
    return seen


def same_steps(theirs, ours):
    equal(steps(ours), steps(theirs))


def test_the_current_folder():
    mounted(same_steps)


def refused(theirs, ours):
    for function, args in (
        (os.remove, ("/app.py",)),
        (os.mkdir, ("/new",)),
        (os.rmdir, ("/lib/deep",)),
        (os.rename, ("/app.py", "/b.py")),
    ):
        equal(outcome(function, *[ours + path for path in args]), (OSError, 30), str(function))


def test_writing_raises_oserror():
    """Writing raises OSError, as on any read-only filesystem, and not AttributeError."""
    mounted(refused)


def imported(theirs, ours):
    import sys

    sys.path.append(ours + "/lib")
    try:
        check(__import__("one") is not None)
    finally:
        sys.path.remove(ours + "/lib")


def test_the_firmware_imports_from_it():
    mounted(imported)
