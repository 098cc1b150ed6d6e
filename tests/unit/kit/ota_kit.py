"""A board with an ESP32's OTA partitions: application in files, firmware in partitions; and a
power supply that all its media hang on."""

import sys

from board_model import DictStore, PowerCut
from partition_model import Chip, app_image
from ramdisk_model import RamDisk
from update_kit import CLASS, MOUNT, VENDOR, Board, Installer, Key, envelope, image
from warden.ota.slots import SlotRecord

NAMES = ("app", "firmware")
ATTEMPTS = 2


class Power:
    """Operations until the cut; the one that it falls on is done by `torn` eighths."""

    def __init__(self):
        self.budget = None
        self.torn = 0
        self.used = 0
        self.dead = False

    def spend(self):
        if self.dead:
            raise PowerCut()
        self.used += 1
        if self.budget is not None:
            if self.budget == 0:
                self.dead = True
                return self.torn
            self.budget -= 1
        return 8

    def after(self):
        if self.dead:
            raise PowerCut()


class Store(DictStore):
    power = None

    def _change(self, what, name):
        if self.power is not None:
            # Old or new, nothing between: that is what a store promises.
            if self.power.spend() < 8:
                raise PowerCut()
        super()._change(what, name)


class Disk(RamDisk):
    power = None

    def _allowed(self, size):
        if self.dead or self.power.dead:
            self.dead = True
            return 0
        done = size * self.power.spend() // 8
        self.dead = self.power.dead
        return done

    def renewed(self):
        other = super().renewed()
        made = Disk(0, self.nor)
        made.data, made._view, made.violations = other.data, other._view, other.violations
        made.power = self.power
        return made


class OtaBoard(Board):
    """Flashed with esptool: the firmware `old` in ota_0, nothing confirmed yet."""

    def __init__(self, chip=None, blocks=160):
        self.power = Power()
        self.chip = chip or Chip()
        if chip is None:
            self.chip.flash("ota_0", app_image("old"))
        self.chip.power = self.power
        self.make_check = None
        super().__init__(NAMES, blocks)
        self.store.power = self.power
        self.restart()

    def make_disk(self, blocks):
        disk = Disk(blocks)
        disk.power = self.power
        return disk

    def make_store(self):
        if not isinstance(self.store, Store):
            self.store = Store()
        return self.store

    def slots(self):
        sys.modules["esp32"] = module = self.chip.module()
        from warden.hal import slots_partition

        slots_partition.esp32 = module
        slots = slots_partition.PartitionSlots(MOUNT + "/slots", self.names)
        slots.make_check = self.make_check
        return slots

    def restart(self, attempts=ATTEMPTS):
        """Bootloader and boot.py, as often as that takes. The outcome."""
        for _ in range(8):
            self.power_on()
            if self.chip.start() is None:
                raise RuntimeError("nothing starts any more")
            self.outcome = self.start(attempts)
            if self.outcome.mode != "switch":
                return self.outcome
        raise RuntimeError("it switches for ever")

    def pair(self):
        """(what the firmware says, what the application says): "factory" where the one that was
        provisioned runs."""
        return self.chip.mark(), self.mark() if self.mounts else self.outcome.mode

    def updater(self, chunk=1024):
        keys = (Key(),)
        return Installer(self.vault(), self.running, self.outcome.slot, keys, VENDOR, CLASS, chunk)

    def record(self):
        return SlotRecord(self.vault())

    def confirm(self):
        """As ota/service.py does."""
        self.record().confirm(self.outcome.slot)
        self.running.settle()

    def sector(self, label):
        _, at, size, _, _ = self.chip.part(label)
        return bytes(self.chip.data[at : at + size])


def release(sequence, mark, payload=5000):
    """(envelope, images)."""
    images = {"app": image(mark, 3000), "firmware": app_image(mark, payload)}
    return envelope(sequence, [images[name] for name in NAMES], names=NAMES), images


def feed(update, images, stop_at=None):
    """Answer every request; True when it ends in Testing. stop_at: bytes after which the
    connection goes."""
    total = 0
    while True:
        more = update.step()
        wanted = update.want()
        if wanted is not None:
            number, name, at, length = wanted
            if stop_at is not None and total >= stop_at:
                return False
            update.chunk(number, memoryview(images[name])[at : at + length], 0)
            total += length
        elif not more and update.state != "Downloading":
            return update.state == "Testing"


def install(board, sequence, mark, payload=5000):
    made, images = release(sequence, mark, payload)
    update = board.updater()
    update.start(made, 0)
    return feed(update, images), update


def update_to(board, sequence, mark):
    """All the way, to the confirmation."""
    done, _ = install(board, sequence, mark)
    if not done:
        raise RuntimeError("it was refused")
    board.restart()
    board.confirm()
