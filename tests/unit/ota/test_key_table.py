"""The tables of release keys: used where they are authentic, and a wrong one is never asked."""

import sys

import vfs
from board_model import DictStore, RootKey
from harness import check, equal
from ramdisk_model import RamDisk
from warden.crypto import _p256_plain, p256
from warden.hal.slots_file import FileSlots
from warden.ota import key_table
from warden.vault import Vault
from warden.wire import cbor

HEAP = "8m"
SLOW = True
unhex = bytes.fromhex
MOUNT = "/ram"
PATH = MOUNT + "/slots"
FILE = PATH + "/table.2"

# RFC 6979 A.2.5: the key and its signature of "sample".
KEY = unhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
DIGEST = unhex("af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf")
SIGNATURE = unhex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)
# The base point: its private key is 1, so anybody signs with it. s = e + r for the nonce 1.
BASE = unhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
NONCE = 3


def forged():
    """A signature by the base point's private key, 1."""
    from warden.crypto._p256_curve import N, inverse

    point = _p256_plain.add(
        _p256_plain.double(
            (int.from_bytes(BASE[:32], "big"), int.from_bytes(BASE[32:], "big"), 1)
        ),
        (int.from_bytes(BASE[:32], "big"), int.from_bytes(BASE[32:], "big")),
    )
    r = _p256_plain.affine(point)[0] % N
    s = (int.from_bytes(DIGEST, "big") + r) * inverse(NONCE, N) % N
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def opened():
    vault = Vault(DictStore(), RootKey())
    vault.create()
    vault.put("a", b"a")
    return vault


class Place:
    """A littlefs with the slots of a board, and its vault."""

    def __init__(self):
        self.disk = RamDisk(64)
        vfs.VfsLfs2.mkfs(self.disk)
        self.mount()
        self.vault = opened()

    def mount(self):
        vfs.mount(vfs.VfsLfs2(self.disk), MOUNT)
        self.slots = FileSlots(PATH, ("app",))

    def off(self):
        vfs.umount(MOUNT)

    def keys(self, *encoded, vault=None):
        made = [p256.PublicKey(one) for one in encoded or (KEY,)]
        key_table.attach(vault or self.vault, self.slots, made)
        return made

    def keep(self, *encoded, spare=16384):
        """Verify with the first key, and keep its table."""
        made = self.keys(*encoded)
        check(made[0].verify(DIGEST, SIGNATURE))
        key_table.keep(self.vault, self.slots, made, spare)

    def is_slow(self, *encoded, vault=None):
        """Verify with the first key: the verdicts are right with a table or without."""
        key = self.keys(*encoded, vault=vault)[0]
        check(not key.verify(DIGEST, SIGNATURE[32:] + SIGNATURE[:32]))
        check(not key.verify(DIGEST, forged()))
        check(key.verify(DIGEST, SIGNATURE))
        return key.slow


def content():
    with open(FILE, "rb") as file:
        return file.read()


def write(data):
    with open(FILE, "wb") as file:
        file.write(data)


def test_made_once_and_used():
    place = Place()
    check(place.is_slow())
    place.keep()
    equal(len(content()), 2560 + 32)
    check(not place.is_slow())
    before = place.disk.operations
    place.keep()
    equal(place.disk.operations, before)
    place.off()


def test_it_takes_no_room_that_the_update_needs():
    place = Place()
    before = place.disk.operations
    place.keep(spare=16383)
    equal(place.disk.operations, before)
    check(place.is_slow())
    place.off()


def test_an_update_that_just_fits_is_not_left_without_room_by_a_table():
    """The whole verification of an update, by a key that has no table yet."""
    from warden.ota.update import Update

    kept = []

    class Plan:
        sequence = 1
        images = ()

    def verify(vault, slots, running, release, envelope):
        return Plan

    from warden.ota import manifest_verify

    place = Place()
    place.vault.put("release", cbor.encode(["v", "c", [KEY]]))
    real = manifest_verify.verify, key_table.keep, place.slots.room
    manifest_verify.verify = verify
    key_table.keep = lambda vault, slots, keys, spare: kept.append(spare)
    place.slots.room = lambda part: 30000
    try:
        sys.modules["warden.ota.manifest_verify"] = manifest_verify
        Update(bytes(1000), None, False)._verify(place.vault, place.slots, None)
    finally:
        manifest_verify.verify, key_table.keep, place.slots.room = real
    equal(kept, [29000])
    place.off()


def test_a_file_that_is_not_authentic_is_not_used():
    place = Place()
    place.keep()
    good = content()
    bent = [
        good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
        for at in (0, 79, 1300, 2559, 2560, 2591)
    ]
    for bad in bent + [b"", good[:-1], good + b"\0", bytes(2592), good[:2560] + bytes(32)]:
        write(bad)
        check(place.is_slow(), "%d bytes" % len(bad))
    write(good)
    check(not place.is_slow())
    # Of another vault, and of another key in the same one.
    check(place.is_slow(vault=opened()))
    write(bytes(_p256_plain.make_table(*_numbers(BASE))) + good[2560:])
    check(place.is_slow())
    place.keep()
    equal(content(), good)
    place.off()


def _numbers(key):
    return int.from_bytes(key[:32], "big"), int.from_bytes(key[32:], "big")


def test_a_forged_table():
    """With a forged table of a key an attacker would sign releases."""
    place = Place()
    attacker = bytes(_p256_plain.make_table(*_numbers(BASE)))
    key = p256.PublicKey(KEY)
    key.load_table = lambda: attacker
    check(key.verify(DIGEST, forged()))
    # Authentic, but made for another key: a place of the list that a rotation gave to another one.
    write(attacker + place.vault.mac(b"table", BASE, attacker))
    check(place.is_slow())
    check(p256.PublicKey(BASE).verify(DIGEST, forged()))
    place.off()


def test_a_file_that_can_not_be_read():
    """A heap without room for the table in one piece, or a flash that fails: the slow way."""
    place = Place()
    place.keep()
    closed = []
    for error in (MemoryError(), OSError(5)):

        class File:
            def read(self, count):
                raise error  # noqa: B023  (used at once)

            def close(self):
                closed.append(1)

        class Slots:
            def read(self, slot, part):
                return File()  # noqa: B023

        key = p256.PublicKey(KEY)
        key_table.attach(place.vault, Slots(), [key])
        check(key.verify(DIGEST, SIGNATURE) and key.slow)
    equal(len(closed), 2)
    place.off()


def test_a_rotation_of_release_keys():
    place = Place()
    place.keep()
    old = content()
    # The place of the key is another one's, and back.
    check(place.is_slow(KEY, BASE) is False)
    made = place.keys(BASE, KEY)
    check(not made[0].verify(DIGEST, SIGNATURE) and made[1].verify(DIGEST, SIGNATURE))
    equal([key.slow for key in made], [False, True])
    key_table.keep(place.vault, place.slots, made, 16384)
    equal(content(), old)
    made = place.keys(BASE, KEY)
    check(made[1].verify(DIGEST, SIGNATURE) and not made[1].slow)
    check(made[0].verify(DIGEST, forged()) and made[0].slow)
    key_table.keep(place.vault, place.slots, made, 16384)
    check(content() != old)
    check(place.is_slow(KEY, BASE))
    place.off()


def test_a_cut_at_every_operation():
    """Old, new or none: never a wrong verdict, and the next signature makes it anew."""
    place = Place()
    place.keep()
    new = content()
    slow = 0
    for torn in (0, 4):
        for old in (None, bytes(_p256_plain.make_table(*_numbers(BASE))) + bytes(32)):
            cut = 0
            while True:
                if old is None:
                    place.slots.remove(2, "table")
                else:
                    write(old)
                place.disk.budget, place.disk.torn = cut, torn
                place.keep()
                ended = place.disk.budget > 0
                place.disk.power_up()
                place.off()
                place.mount()
                slow += place.is_slow()
                place.keep()
                equal(content(), new)
                if ended:
                    break
                cut += 1
            check(cut > 3)
    check(slow > 6)
    place.off()


def test_no_room_and_other_keys():
    """A table that can't be made or kept leaves everything as it is."""
    place = Place()
    made = place.keys()
    check(made[0].verify(DIGEST, SIGNATURE))

    class Full:
        def write(self, slot, part):
            raise OSError(28)

    key_table.keep(place.vault, Full(), made, 16384)

    def fails():
        raise MemoryError()

    made[0].make_table = fails
    key_table.keep(place.vault, place.slots, made, 16384)
    check(place.is_slow())

    class Rsa:
        algorithms = (-37,)

    key_table.attach(place.vault, place.slots, [Rsa()])
    key_table.keep(place.vault, place.slots, [Rsa()], 16384)
    place.off()
