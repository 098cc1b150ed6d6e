"""The root key out of a passphrase or PIN, alone and with another root key."""

import os

import vfs
from board_model import RootKey
from harness import check, equal, raises
from ramdisk_model import RamDisk
from warden.crypto import kdf
from warden.crypto.pbkdf2 import pbkdf2_sha256
from warden.crypto.rand import random_bytes
from warden.errors import StoreError, UsageError
from warden.hal.rootkey_pin import PinRootKey

MOUNT = "/ram"
PATH = MOUNT + "/pin"
SALT = bytes(range(16))
FILE = b"\x01" + (1000).to_bytes(4, "big") + SALT


def on_littlefs(function):
    disk = RamDisk(24)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), MOUNT)
    try:
        function()
    finally:
        vfs.umount(MOUNT)


FUNCTIONS = (pbkdf2_sha256, kdf.hkdf, kdf.hmac_sha256)


def make(pin=b"123456", inner=None, iterations=1000):
    return PinRootKey(PATH, iterations, lambda: pin, inner, *FUNCTIONS, random_bytes)


def put(data):
    with open(PATH, "wb") as file:
        file.write(data)


def content():
    with open(PATH, "rb") as file:
        return file.read()


def refused(function, *arguments):
    check(isinstance(raises("root-key", function, *arguments), StoreError))


def test_created_once():
    def run():
        key = make(iterations=1234)
        check(not key.exists())
        refused(key.mac, b"m")
        key.create()
        before = content()
        equal((len(before), before[0], before[1:5]), (21, 1, (1234).to_bytes(4, "big")))
        mac = key.mac(b"m")
        again = make(iterations=2000)
        again.create()
        check(again.exists())
        # A salt that is there keeps its own count.
        equal((content(), again.mac(b"m")), (before, mac))
        equal(os.listdir(MOUNT), ["pin"])

    on_littlefs(run)


def test_the_key_alone():
    def run():
        put(FILE)
        stretched = pbkdf2_sha256(b"123456", SALT, 1000, 32)
        wanted = kdf.hkdf(stretched, b"warden root key pin 1", 32)
        equal(make().mac(b"m"), kdf.hmac_sha256(wanted, b"m"))

    on_littlefs(run)


def test_the_key_with_another():
    def run():
        put(FILE)
        inner = RootKey()
        stretched = pbkdf2_sha256(b"123456", SALT, 1000, 32)
        wanted = kdf.hkdf(
            stretched, b"warden root key pin 1", 32, inner.mac(b"warden pin 1" + SALT)
        )
        equal(make(inner=inner).mac(b"m"), kdf.hmac_sha256(wanted, b"m"))

    on_littlefs(run)


def test_everything_counts():
    """Another PIN, salt, count or chip is another key."""

    def run():
        put(FILE)
        macs = [
            make().mac(b"m"),
            make().mac(b"n"),
            make(b"123457").mac(b"m"),
            make(b"1").mac(b"m"),
        ]
        macs += [make(inner=RootKey()).mac(b"m"), make(inner=RootKey(b"s" * 32)).mac(b"m")]
        for data in (FILE[:4] + b"\xe9" + FILE[5:], FILE[:-1] + b"\x00"):
            put(data)
            macs += [make().mac(b"m"), make(inner=RootKey()).mac(b"m")]
        equal(len(set(macs)), len(macs))

    on_littlefs(run)


def test_a_pin_of_a_wrong_length():
    def run():
        put(FILE)
        for pin in (b"", bytes(129)):
            refused(make(pin).mac, b"m")
        make(bytes(128)).mac(b"m")

    on_littlefs(run)


def test_damaged():
    def run():
        for data in (b"", FILE[:-1], FILE + b"\x00", b"\x02" + FILE[1:]):
            put(data)
            refused(make().mac, b"m")

    on_littlefs(run)


def test_a_count_out_of_bounds():
    """A forged count in the file neither blocks the board for hours nor makes guessing cheap."""

    def run():
        for iterations in (0, 1, 999, 1000001, 0xFFFFFFFF):
            put(FILE[:1] + iterations.to_bytes(4, "big") + FILE[5:])
            refused(make().mac, b"m")
            check(isinstance(raises("bad-argument", make, b"1", None, iterations), UsageError))

    on_littlefs(run)


def test_asked_once_until_close():
    def run():
        put(FILE)
        asked = []
        inner = RootKey()

        def ask():
            asked.append(1)
            return b"123456"

        key = PinRootKey(PATH, 1000, ask, inner, *FUNCTIONS, random_bytes)
        key.mac(b"m")
        key.mac(b"n")
        equal(len(asked), 1)
        key.close()
        equal((key._key, inner.closed), (b"", 1))
        key.mac(b"m")
        equal(len(asked), 2)

    on_littlefs(run)


def test_the_other_key_is_made_too():
    def run():
        inner = RootKey()
        inner.exists = lambda: bool(inner.created)
        key = make(inner=inner)
        put(FILE)
        check(not key.exists())
        key.create()
        equal(inner.created, 1)
        check(key.exists())
        equal(content(), FILE)

    on_littlefs(run)


def test_a_file_that_can_not_be_written():
    key = PinRootKey("/no/such/pin", 1000, lambda: b"1", None, *FUNCTIONS, random_bytes)
    refused(key.create)


def test_a_write_that_was_lost():
    def run():
        lost = PinRootKey(PATH, 1000, lambda: b"1", None, *FUNCTIONS, lambda n: bytes(n - 1))
        lost._read = lambda: b""
        refused(lost.create)

    on_littlefs(run)
