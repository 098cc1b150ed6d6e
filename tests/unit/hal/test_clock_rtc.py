"""The chip's clock, with the firmware's two modules replaced; the unix port's."""

import os
import sys

import vfs
from harness import check, equal
from ramdisk_model import RamDisk
from warden.hal import clock_rtc as module
from warden.hal.clock_rtc import ChipClock
from warden.hal.clock_system import SystemClock

NOW = 1_800_000_000
# What a firmware says to a time that its integers can't hold, or its chip can't.
TROUBLES = (OverflowError, ValueError, OSError)


class Board:
    """time and machine of a board whose clock counts from `epoch`."""

    def __init__(self, epoch, trouble=None, stuck=False):
        self.epoch, self.trouble, self.stuck = epoch, trouble, stuck
        self.seconds = NOW - epoch
        self.written = []

    def time(self):
        return self.seconds

    def gmtime(self, seconds):
        if self.trouble is not None:
            raise self.trouble("overflow")
        import time

        return time.gmtime(seconds + self.epoch)

    def RTC(self):  # noqa: N802  (MicroPython's name)
        return self

    def datetime(self, fields):
        self.written.append(fields)
        if not self.stuck:
            import time

            year, month, day, weekday, hour, minute, second, _ = fields
            self.seconds = (
                time.mktime((year, month, day, hour, minute, second, weekday, 0)) - self.epoch
            )


def on_board(board, function):
    saved = module.time, module._EPOCH
    module.time, module._EPOCH = board, board.epoch
    sys.modules["machine"] = board
    try:
        return function()
    finally:
        module.time, module._EPOCH = saved
        del sys.modules["machine"]


def test_unix_seconds_whatever_the_board_counts_from():
    for epoch in (0, 946684800):
        board = Board(epoch)
        equal(on_board(board, ChipClock().now), NOW)
        check(on_board(board, lambda: ChipClock().set(NOW + 3600)))
        equal(on_board(board, ChipClock().now), NOW + 3600)
        equal(board.written, [(2027, 1, 15, 4, 9, 0, 0, 0)])  # a Friday


def test_a_clock_that_does_not_take_the_time():
    check(not on_board(Board(0, stuck=True), lambda: ChipClock().set(NOW + 3600)))


def test_a_time_that_the_firmware_can_not_hold_is_no_reason_to_start_over():
    for trouble in TROUBLES:
        board = Board(0, trouble)
        check(on_board(board, lambda: ChipClock().set(253402300800)) is False)
        equal(board.written, [])


def test_the_unix_ports_clock_is_its_hosts():
    check(not SystemClock().set(NOW))
    check(not SystemClock("/no/such/file").set(NOW))
    check(SystemClock().now() > 1_700_000_000)


def test_the_control_file_gets_the_time():
    disk = RamDisk(24)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), "/ram")
    try:
        open("/ram/clock", "w").close()
        # Nothing reads the file here, so the clock does not move, and says so.
        check(not SystemClock("/ram/clock").set(NOW))
        with open("/ram/clock") as file:
            equal(file.read(), "@2027-01-15 08:00:00\n")
        os.remove("/ram/clock")
    finally:
        vfs.umount("/ram")
