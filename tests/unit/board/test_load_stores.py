"""The stores that board.py can name, found on chips that are models."""

import sys

from harness import check, equal, raises
from nor_model import Nor
from nvs_model import Nvs
from warden.board import load
from warden.errors import StoreError

PURE = True


class Partition:
    TYPE_DATA = 1
    parts = {"vault": Nor(8, 1024, 16)}

    @staticmethod
    def find(kind, label):
        equal(kind, 1)
        return [Partition.parts[label]] if label in Partition.parts else []


class Esp32:
    spaces = {}

    def NVS(self, namespace):  # noqa: N802  (MicroPython's name)
        return self.spaces.setdefault(namespace, Nvs())


class Rp2:
    def Flash(self, start, len):  # noqa: N802
        equal((start, len), (0x100000, 65536))
        return Nor(16, 4096, 256)


def on_chip(function):
    esp32 = Esp32()
    esp32.Partition = Partition
    sys.modules["esp32"], sys.modules["rp2"] = esp32, Rp2()
    try:
        function()
    finally:
        del sys.modules["esp32"], sys.modules["rp2"]


def works(args):
    load.store(args).write("a", b"A")


def test_partition():
    def run():
        works(("flash", 16, 2, "partition", "vault"))
        equal(load.store(("flash", 16, 2, "partition", "vault")).read("a", 9), b"A")
        error = raises("filesystem", load.store, ("flash", 16, 2, "partition", "other"))
        check(isinstance(error, StoreError))

    on_chip(run)


def test_rp2():
    on_chip(lambda: works(("flash", 256, 2, "rp2", 0x100000, 65536)))
    raises("no-board", load.store, ("flash", 256, 2, "tea"))


def test_nvs():
    def run():
        works(("nvs", "warden"))
        equal(load.store(("nvs", "warden")).read("a", 9), b"A")
        equal(load.store(("nvs", "other")).names(), [])

    on_chip(run)
