"""What the tests of slots, updates and starts share: images, envelopes that a test key signs,
slots on littlefs in memory.

The envelopes are made with the device's own CBOR, for brevity; tests/host/release/test_suit.py
judges manifests from another encoder.
"""

import hashlib
import sys

import vfs
from board_model import DictStore, RootKey
from ramdisk_model import RamDisk
from warden.errors import LinkError, WardenError
from warden.hal import slots_file, store_file
from warden.hal.slots_file import FileSlots
from warden.ota.image_verify import Root
from warden.ota.manifest_verify import check_room, content_key, verify
from warden.ota.romfs import BLOCK
from warden.ota.slots import CONFIRMED, EMPTY, FAILED, STAGED, TRIAL, Slot, SlotRecord
from warden.ota.update import Update
from warden.vault import Vault
from warden.wire import cbor

MOUNT = "/ram"
VENDOR = bytes(range(16))
CLASS = bytes(range(16, 32))
ATTEMPTS = 2


def sha256(data):
    return hashlib.sha256(data).digest()


# -- ROMFS ------------------------------------------------------------------------------------


def number(value):
    digits = bytes((value & 127,))
    value >>= 7
    while value:
        digits = bytes((value & 127 | 128,)) + digits
        value >>= 7
    return digits


def record(kind, payload):
    return number(kind) + number(len(payload)) + payload


def text(name):
    return number(len(name)) + name.encode()


def folder(content):
    """{name: bytes, or another such dict} → the records of a directory."""
    made = b""
    for name in sorted(content):
        inside = content[name]
        if isinstance(inside, dict):
            made += record(4, text(name) + folder(inside))
        else:
            made += record(5, text(name) + record(2, inside))
    return made


def romfs(content):
    records = folder(content)
    return b"\xd2\xcd\x31" + number(len(records)) + records


def image(mark, filler=9000):
    """An application that says `mark`; several blocks long."""
    noise = b"".join([sha256(mark.encode() + bytes((n & 255,))) for n in range(filler // 32)])
    return romfs({"app.py": b"MARK = %r\n" % mark, "filler.bin": noise})


def map_of(data):
    """(the hashes of the blocks, the root over them)."""
    root = Root(len(data))
    hashes = b""
    for at in range(0, len(data), BLOCK):
        leaf = sha256(data[at : at + BLOCK])
        root.add(leaf)
        hashes += leaf
    return hashes, root.digest()


# -- manifests --------------------------------------------------------------------------------


class Key:
    """Not a key at all: what it "signed" carries the digest itself."""

    algorithms = (-7,)

    def __init__(self):
        self.asked = 0

    def verify(self, digest, signature):
        self.asked += 1
        return bytes(signature) == digest + digest


def digest_of(data):
    return cbor.encode([-16, sha256(data)])


def envelope(
    sequence,
    images,
    floor=None,
    names=("app",),
    vendor=VENDOR,
    class_id=CLASS,
    encryption=(),
    uri="mqtt:",
):
    """images: the bytes of each component, or (size, digest) for one that nobody has to make.
    encryption: {component: parameter 19}."""
    at = uri if isinstance(uri, tuple) else [uri] * len(names)
    common = [12, True, 20, {1: vendor, 2: class_id}, 1, 15, 2, 15]
    install = []
    for index, data in enumerate(images):
        size, digest = data if isinstance(data, tuple) else (len(data), sha256(data))
        parameters = {3: cbor.encode([-16, digest]), 14: size, 21: at[index] + names[index]}
        if floor is not None:
            parameters[-1] = floor
        if names[index] in encryption:
            parameters[19] = encryption[names[index]]
        install += [12, index, 20, parameters, 21, 2, 3, 15]
    components = [[name.encode()] for name in names]
    manifest = {
        1: 1,
        2: sequence,
        3: cbor.encode({2: components, 4: cbor.encode(common)}),
        20: cbor.encode(install),
    }
    body = cbor.encode(cbor.encode(manifest))
    signed = digest_of(body)
    protected = cbor.encode({1: -7})
    to_sign = sha256(cbor.encode(["Signature1", protected, b"", signed]))
    block = b"\xd2" + cbor.encode([protected, {}, None, to_sign + to_sign])
    wrapper = cbor.encode([signed, block])
    return b"\xd8\x6b\xa2\x02" + cbor.encode(wrapper) + b"\x03" + body


# -- what judges ------------------------------------------------------------------------------

_JUDGES = ("warden.ota.manifest_verify", "warden.wire.suit", "warden.wire.suit_commands")
_JUDGES += ("warden.wire.suit_labels", "warden.wire.cose", "warden.wire.cbor_reader")
_JUDGES += ("warden.crypto.p256", "warden.crypto.rsa")


def loaded():
    """Which of the modules are in memory that only a judgement needs."""
    names = {name for name in sys.modules if "_p256" in name}
    # In the build for boards one of them is part of the core, which stays.
    return sorted(names | {name for name in _JUDGES if name in sys.modules and name != "warden"})


def unload():
    """As on a board that has judged nothing yet: the tests have them at hand."""
    for name in loaded():
        del sys.modules[name]
        package, _, module = name.rpartition(".")
        # Not by dir() or hasattr(): a package that loads its modules lazily would load it again.
        try:
            delattr(sys.modules[package], module)
        except (AttributeError, KeyError):
            pass


# -- an installation --------------------------------------------------------------------------


class Installer:
    """Installs one update after the other, verified by keys that the test gives: update.Update
    takes those of the vault."""

    def __init__(
        self, vault, slots, running, keys=None, vendor=VENDOR, class_id=CLASS, chunk=1024
    ):
        self._board = (vault, slots, running)
        self._chunk = chunk
        self.release = (vendor, class_id, keys or (Key(),))
        self.update = Update(b"", None, False)

    def start(self, envelope, now_ms, key=None, grant=False):
        if self.update.plan is not None:
            raise LinkError("update-state")
        vault, slots, running = self._board
        self.update = update = Update(envelope, key, grant)
        try:
            plan = verify(vault, slots, running, self.release, envelope)
            update.sequence = plan.sequence
            check_room(slots, plan, len(envelope))
            update.key = content_key(vault, plan, key)
        except WardenError as error:
            update.end("Rejected", error.code)
            raise
        update.plan, update.state = plan, "Downloading"
        update.start(vault, slots, running, self._chunk, now_ms)

    def step(self):
        return self.update.step()

    def abort(self):
        self.update.abort()

    @property
    def download(self):
        return self.update.download

    @property
    def state(self):
        return self.update.state or "Idle"

    @property
    def reason(self):
        return self.update.reason

    @property
    def sequence(self):
        return self.update.sequence

    def want(self):
        return None if self.download is None else self.download.want()

    def chunk(self, number, data, now_ms):
        if self.download is None:
            raise LinkError("update-state")
        self.download.chunk(number, data, now_ms)

    def tick(self, now_ms):
        return self.download is not None and self.download.tick(now_ms)


# -- a board ----------------------------------------------------------------------------------


_opened = []


def _open(path, mode):
    file = open(path, mode)
    _opened.append(file)
    return file


slots_file.open = store_file.open = _open


def close_all():
    """Close what code that lost its power left open.

    The collector would do it at a time of its own, with the heap locked: a block device in Python
    can't run then, and littlefs is left with a list of files that are no more.
    """
    while _opened:
        try:
            _opened.pop().close()
        except OSError:
            pass  # the power is gone


class Board:
    """A flash with littlefs, slots on it, and a vault. store: the vault's own flash, one that
    keeps its promises; a test of power cuts puts both on one."""

    present = None  # a test that failed leaves its board mounted

    def __init__(self, names=("app",), blocks=256):
        if Board.present is not None:
            Board.present.off()
        Board.present = self
        self.disk = self.make_disk(blocks)
        vfs.VfsLfs2.mkfs(self.disk)
        self.mounted = False
        self.names = names
        self.store = DictStore()
        self.power_on()
        vault = Vault(self.make_store(), RootKey())
        vault.create()
        vault.commit({"identity": b"x"})
        vault.close()

    def make_disk(self, blocks):
        return RamDisk(blocks)

    def make_store(self):
        return self.store

    def power_on(self):
        """The board starts: everything in RAM is gone."""
        if self.mounted:
            self.disk.dead = True
            close_all()
            vfs.umount(MOUNT)
        self.disk = self.disk.renewed()
        vfs.mount(vfs.VfsLfs2(self.disk), MOUNT)
        self.mounted = True
        self.mounts = {}

    def off(self):
        if self.mounted:
            self.disk.dead = True
            close_all()
            vfs.umount(MOUNT)
            self.mounted = False

    def vault(self):
        vault = Vault(self.make_store(), RootKey())
        vault.open()
        return vault

    def slots(self):
        return FileSlots(MOUNT + "/slots", self.names)

    def put(self, slot, data, name="app"):
        """Write an image and its map into a slot, whatever the record says; its entry for the
        record."""
        hashes, root = map_of(data)
        slots = self.slots()
        for part, content in ((name, data), (name + ".map", hashes)):
            file = slots.write(slot, part)
            file.write(content)
            file.close()
        return [len(data), sha256(data), root]

    def damage(self, slot, at, part="app"):
        path = "%s/slots/%s.%d" % (MOUNT, part, slot)
        with open(path, "rb") as file:
            data = bytearray(file.read())
        data[at] ^= 1
        with open(path, "wb") as file:
            file.write(data)

    def start(self, attempts=ATTEMPTS, on_damage=None):
        """What boot.py of the board does; the outcome. The file systems are in `mounts`."""
        from warden.ota.boot import boot

        self.running = self.slots()
        return boot(
            self.vault(),
            self.running,
            attempts,
            on_damage,
            lambda filesystem, path: self.mounts.__setitem__(path, filesystem),
        )

    def mark(self, path="/app"):
        """The mark of the application that is mounted."""
        with self.mounts[path].open("/app.py", "r") as file:
            line = file.read()
        return line.split("'")[1]


# -- the table of docs/update.md ----------------------------------------------------------------

# Letter: (state, attempts, below the floor, damaged).
LETTERS = {
    "E": (EMPTY, 0, False, False),
    "S": (STAGED, 0, False, False),
    "SD": (STAGED, 0, False, True),
    "T": (TRIAL, ATTEMPTS - 1, False, False),
    "TU": (TRIAL, ATTEMPTS, False, False),
    "C": (CONFIRMED, 1, False, False),
    "CB": (CONFIRMED, 1, True, False),
    "CD": (CONFIRMED, 1, False, True),
    "F": (FAILED, 1, False, False),
}
FLOOR = 5


def set_state(board, vault, record, slot, letter):
    """Bring one slot into a state; slot 1 is the newer one."""
    state, attempts, below, damaged = LETTERS[letter]
    sequence = (1 if below else 10) + slot
    if state == EMPTY:
        record._set(slot, Slot())
        return
    entry = board.put(slot, image("slot %d" % slot))
    if damaged:
        board.damage(slot, 3, "app.map")
    record._set(slot, Slot((state, attempts, sequence, 0, [entry])))


def outcome_of(first, second):
    """What a start does: "0", "1" or "recovery", proven by what the application says."""
    board = Board()
    vault = board.vault()
    record = SlotRecord(vault)
    set_state(board, vault, record, 0, first)
    set_state(board, vault, record, 1, second)
    record._commit({"sequence": 11, "floor": FLOOR})
    outcome = board.start()
    result = outcome.mode
    if outcome.slot is not None:
        result = str(outcome.slot)
        if board.mark() != "slot " + result:
            result = "the application of another slot"
    board.off()
    return result


def print_table():
    for first in LETTERS:
        for second in LETTERS:
            print(first, second, outcome_of(first, second))
