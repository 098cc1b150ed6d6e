"""The update of the package on a board's littlefs, with the power cut at every program and erase
of a flash in memory: while the host writes it, and in each start that installs it.

    micropython tests/faults/device/replace_power.py [early]     early: the host's rename comes
                                                                 before the files, wrongly

Runs the host's own programs and firmware/boot.py. After each cut the board starts until it stays
up, and has the old package or the new one, whole, with its boot.py and main.py. Prints `PHASE:
OPERATIONS operations, CUTS cuts, OLD old, NEW new`; ends with status 1 and the reason otherwise.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
REPO = HERE + "/../../.."
with open(REPO + "/firmware/boot.py") as source:
    BOOT = source.read()
with open(REPO + "/lib/warden/provisioning/replace.py") as source:
    REPLACE = source.read()
sys.path[:] = [HERE + "/../../unit/kit", ".frozen"]

import os  # noqa: E402  (the path must be set first)

import vfs  # noqa: E402
from ramdisk_model import RamDisk  # noqa: E402

BLOCKS = 128
TORN = (0, 3, 8)
STARTS = 6


class Wrong(Exception):
    """A promise is broken."""


class Restart(Exception):
    """machine.reset() of the board."""


class Machine:
    @staticmethod
    def reset():
        raise Restart()


def package(version):
    """Path → text; of the new one the folder that a release adds, of the old one that it drops."""
    mark = "VERSION = %r\n" % version
    return {
        "warden/__init__.py": mark,
        "warden/%s.py" % version: "#" * 1500 + mark,
        "warden/%s_folder/part.py" % version: mark,
        "warden/provisioning/__init__.py": mark,
        "warden/provisioning/replace.py": REPLACE + mark,
        "board.py": mark,
    }


def boot(version):
    return BOOT + "# " + version + "\n"


def write(path, text):
    made = ""
    for part in path.split("/")[1:-1]:
        made += "/" + part
        try:
            os.mkdir(made)
        except OSError:
            pass
    with open(path, "w") as file:
        file.write(text)


def host(early=False):
    """What tools/warden_host/boards/replace.py does over the port."""
    if early:
        os.mkdir("/lib~part")
        os.rename("/lib~part", "/lib~")
    for path, text in package("new").items():
        write(("/lib~/" if early else "/lib~part/") + path, text)
    for name in ("boot.py", "main.py"):
        write("/" + name + "~", boot("new"))
    if not early:
        os.rename("/lib~part", "/lib~")


class Board:
    def __init__(self):
        vfs.umount("/")
        self.disk = RamDisk(BLOCKS)
        vfs.VfsLfs2.mkfs(self.disk)
        self.mounted = False
        self.power_on()
        for path, text in package("old").items():
            write("/lib/" + path, text)
        for name in ("boot.py", "main.py"):
            write("/" + name, boot("old"))

    def power_on(self):
        if self.mounted:
            vfs.umount("/")
        self.disk.power_up()
        vfs.mount(vfs.VfsLfs2(self.disk), "/")
        self.mounted = True

    def start(self):
        """Run boot.py; return whether the board stays up."""
        for name in list(sys.modules):
            if name.startswith("warden") or name == "board":
                del sys.modules[name]
        sys.modules["machine"] = Machine
        with open("/boot.py") as file:
            text = file.read()
        try:
            exec(text, {"__name__": "boot"})
        except Restart:
            return False
        return True

    def attempt(self, work, budget, torn):
        """Do the work with the power cut at operation `budget`; (finished, operations)."""
        disk = self.disk
        disk.operations, disk.budget, disk.torn = 0, budget, torn
        try:
            work()
            finished = not disk.dead
        except OSError:
            if not disk.dead:
                raise
            finished = False
        return finished, disk.operations

    def settle(self):
        """Start until the board stays up; return the version that it has, whole."""
        for _ in range(STARTS):
            self.power_on()
            if self.start():
                return self.version()
        raise Wrong("it never stays up")

    def version(self):
        found = {}
        files("/lib", found)
        for version in ("old", "new"):
            if found == {"/lib/" + path: text for path, text in package(version).items()}:
                for name in ("boot.py", "main.py"):
                    with open("/" + name) as file:
                        if file.read() != boot(version):
                            raise Wrong("%s is not that of the %s package" % (name, version))
                return version
        raise Wrong("neither package is whole: " + " ".join(sorted(found)))


def files(folder, found):
    for entry in os.ilistdir(folder):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            files(path, found)
        else:
            with open(path) as file:
                found[path] = file.read()


def everywhere(board, phase, image, work, versions):
    """Cut the work at each operation. versions: that may be there afterwards."""
    disk = board.disk
    count = {"old": 0, "new": 0}
    budget, cuts = -1, 0
    finished = False
    while not finished:
        budget += 1
        for torn in TORN:
            disk.data[:] = image
            board.power_on()
            finished, operations = board.attempt(work, budget, torn)
            if finished:
                break
            cuts += 1
            version = board.settle()
            if version not in versions:
                raise Wrong("%s: the %s package at cut %d" % (phase, version, budget))
            count[version] += 1
    print(
        "%s: %d operations, %d cuts, %d old, %d new"
        % (phase, operations, cuts, count["old"], count["new"])
    )


def main(early):
    board = Board()
    before = bytes(board.disk.data)
    everywhere(board, "host writes", before, lambda: host(early), ("old", "new"))
    board.disk.data[:] = before
    board.power_on()
    host(early)
    after = bytes(board.disk.data)
    everywhere(board, "board installs", after, board.start, ("new",))
    if board.settle() != "new":
        raise Wrong("the new package was not installed")
    # One that does not load here: the old one goes on, and the board stays up.
    board.disk.data[:] = after
    board.power_on()
    write("/lib~/warden/provisioning/replace.py", "raise ValueError\n")
    if board.settle() != "old":
        raise Wrong("a package that does not load was installed")
    print("violations: %d" % board.disk.violations)


try:
    main("early" in sys.argv)
except Wrong as error:
    print("wrong:", error)
    sys.exit(1)
