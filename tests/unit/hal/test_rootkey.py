"""Root keys: a software key in a file, and a chip's ID with a salt."""

import os

import vfs
from harness import check, equal, raises
from ramdisk_model import RamDisk
from warden.crypto.kdf import hmac_sha256
from warden.crypto.rand import random_bytes
from warden.errors import StoreError
from warden.hal import rootkey_software
from warden.hal.rootkey_chip import ChipRootKey
from warden.hal.rootkey_software import SoftwareRootKey

MOUNT = "/ram"
PATH = MOUNT + "/rootkey"
CHIP = b"\x01\x02\x03\x04\x05\x06\x07\x08"


def on_littlefs(function):
    disk = RamDisk(24)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), MOUNT)
    try:
        function()
    finally:
        vfs.umount(MOUNT)


def software():
    return SoftwareRootKey(PATH, hmac_sha256, random_bytes)


def chip(unique_id=CHIP):
    return ChipRootKey(PATH, hmac_sha256, random_bytes, lambda: unique_id)


def content():
    with open(PATH, "rb") as file:
        return file.read()


def put(data):
    with open(PATH, "wb") as file:
        file.write(data)


def refused(function, *arguments):
    check(isinstance(raises("root-key", function, *arguments), StoreError))


def test_created_once():
    def run():
        for make in (software, chip):
            key = make()
            key.create()
            before = content()
            equal(len(before), 32)
            mac = key.mac(b"message")
            make().create()
            equal((content(), make().mac(b"message")), (before, mac))
            equal(sorted(os.listdir(MOUNT)), ["rootkey"])
            os.remove(PATH)
            make().create()
            check(content() != before)
            os.remove(PATH)

    on_littlefs(run)


def test_missing():
    def run():
        for make in (software, chip):
            check(not make().exists())
            refused(make().mac, b"message")

    on_littlefs(run)


def test_damaged():
    def run():
        for make in (software, chip):
            for data in (b"", bytes(31), bytes(33), bytes(64)):
                put(data)
                check(not make().exists())
                key = make()
                refused(key.mac, b"message")
                refused(key.mac, b"message")
                put(bytes(32))
                key.mac(b"message")  # what was damaged is not kept

    on_littlefs(run)


def test_an_interrupted_creation_leaves_no_key():
    def run():
        with open(PATH + "~", "wb") as file:
            file.write(bytes(32))
        refused(software().mac, b"message")
        software().create()
        check(content() != bytes(32))

    on_littlefs(run)


def test_a_folder_that_is_missing():
    refused(SoftwareRootKey("/no/such/rootkey", hmac_sha256, random_bytes).create)


def test_a_write_that_was_lost():
    def run():
        key = software()
        key._read = lambda: bytes(31)
        refused(key.create)
        # As long as it should be, and still another one.
        key.exists = lambda: False
        key._read = lambda: bytes(32)
        refused(key.create)

    on_littlefs(run)


def test_the_software_keys_mac():
    def run():
        put(bytes(range(32)))
        key = software()
        equal(key.mac(b"message"), hmac_sha256(bytes(range(32)), b"message"))
        check(key.mac(b"message") != key.mac(b"messagf"))
        put(bytes(32))
        equal(key.mac(b"message"), hmac_sha256(bytes(range(32)), b"message"))
        key.close()
        equal(key.mac(b"message"), hmac_sha256(bytes(32), b"message"))

    on_littlefs(run)


def test_the_chips_mac():
    def run():
        put(bytes(range(32)))
        bound = hmac_sha256(bytes(range(32)), CHIP)
        equal(chip().mac(b"message"), hmac_sha256(bound, b"message"))
        # Another chip with the same flash, and the same chip with another salt.
        check(chip(CHIP[:-1] + b"\x09").mac(b"message") != chip().mac(b"message"))
        before = chip().mac(b"message")
        put(bytes(32))
        check(chip().mac(b"message") != before)

    on_littlefs(run)


def test_a_chip_without_an_id():
    def run():
        put(bytes(range(32)))
        for nothing in (b"", bytes(8), b"\xff" * 8, bytes(6)):
            key = chip(nothing)
            refused(key.mac, b"message")
            refused(key.mac, b"message")

    on_littlefs(run)


def test_the_chips_key_is_not_kept_when_the_salt_is_gone():
    def run():
        put(bytes(range(32)))
        key = chip()
        key.mac(b"message")
        os.remove(PATH)
        refused(key.mac, b"message")

    on_littlefs(run)


def test_close_drops_the_key():
    def run():
        for make in (software, chip):
            put(bytes(range(32)))
            key = make()
            key.mac(b"message")
            check(key._key != b"")
            key.close()
            equal(key._key, b"")

    on_littlefs(run)


class Os:
    """An `os` whose remove() of the staged file fails with another error than ENOENT."""

    def remove(self, path):
        raise OSError(5)


def test_none_is_created_where_one_may_be_hidden():
    def run():
        for make in (software, chip):
            rootkey_software.os = Os()
            try:
                for call in (make().create, make().exists):
                    raises("filesystem", call)
                raises("filesystem", make().mac, b"message")
                equal(os.listdir(MOUNT), [])
                # One that is there is there.
                put(bytes(32))
                check(make().exists())
                make().mac(b"message")
            finally:
                rootkey_software.os = os
            equal(content(), bytes(32))
            os.remove(PATH)

    on_littlefs(run)


def test_none_is_created_where_the_flash_does_not_answer():
    """A key that can't be read is not one that is missing."""
    disk = RamDisk(24)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), MOUNT)
    try:
        software().create()
        before = content()
        disk.dead = True
        for call in (software().create, software().exists):
            raises("filesystem", call)
        raises("filesystem", software().mac, b"message")
        disk.power_up()
        equal(content(), before)
    finally:
        vfs.umount(MOUNT)
