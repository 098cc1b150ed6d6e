"""Slots as files: the one that runs is never touched, and what a filesystem says of its room."""

from harness import check, equal, has_text, raises
from update_kit import MOUNT, Board
from warden.hal import slots_file


def test_the_slot_that_runs_is_never_touched():
    board = Board()
    slots = board.slots()
    for slot in (0, 1):
        with slots.write(slot, "app") as file:
            file.write(b"one")
    slots.lock(1)
    for call in (slots.write, slots.remove):
        raises("bad-argument", call, 1, "app")
        raises("bad-argument", call, 1, "app.map")
    raises("bad-argument", slots.write, 1, "app", True)
    equal((slots.size(1, "app"), slots.read(1, "app").read()), (3, b"one"))
    slots.remove(0, "app")
    equal(slots.size(0, "app"), 0)
    board.off()


def test_errors_have_their_number():
    """Each is the flash's, by name, with the number that the owner will look for."""
    board = Board()
    slots = board.slots()
    with slots.write(0, "app") as file:
        file.write(bytes(3000))
    board.disk.dead = True
    for call in (slots.size, slots.read, slots.write, slots.remove):
        has_text(raises("filesystem", call, 0, "app"), "errno 5")
    has_text(raises("filesystem", slots.room, "app"), "errno 5")
    board.off()


class Os:
    """os whose statvfs() says what it was told to."""

    told = ()

    @staticmethod
    def statvfs(path):
        equal(path, MOUNT + "/slots")
        return Os.told


def test_room():
    board = Board()
    slots = board.slots()
    os, slots_file.os = slots_file.os, Os
    try:
        for free, wanted in (
            (0, 0),
            (1, 512),
            (99, 99 * 512),
            (100, 51200),
            (101, 0),
            (1 << 32, 0),
        ):
            # Size of a block, of a fragment, how many there are, free, free for others.
            Os.told = (512, 77, 100, free, 55, 0, 0, 0, 0, 255)
            equal(slots.room("app"), wanted, str(free))
    finally:
        slots_file.os = os
    before = slots.room("app")
    with slots.write(0, "app") as file:
        file.write(bytes(5000))
    check(4096 < before - slots.room("app") < 8192)
    board.off()


def test_as_a_board_says_it():
    board = Board()
    made = slots_file.make((MOUNT + "/other/", ("app", "web"), 3))
    equal((made.names, made.firmware, made.engaged), (("app", "web"), None, None))
    with made.write(1, "web") as file:
        file.write(b"one")
    with open(MOUNT + "/other/web.1", "rb") as file:
        equal(file.read(), b"one")
    board.off()
