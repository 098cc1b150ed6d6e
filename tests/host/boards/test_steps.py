"""What the steps make of a board's answers."""

import time
from dataclasses import replace

import pytest
from facts_kit import PICO
from warden_host.boards import steps
from warden_host.boards.records import BoardRecord
from warden_host.devices.provision import Order
from warden_host.errors import HostError
from warden_host.store.store import Device


class Board:
    """The connection to a board whose clock shows so many seconds more than this machine's."""

    def __init__(self, seconds=0, now=None):
        self.seconds, self.now = seconds, now

    def ask(self, _program):
        return {"now": self.now or list(time.gmtime(time.time() + self.seconds)[:6])}


class Progress:
    def __init__(self):
        self.text = ""

    def begin(self, step, text):
        """Nothing is shown here."""

    def at(self, done, total):
        """Nothing is shown here."""

    def end(self, text):
        self.text = text


def set_clock(board):
    shown = Progress()
    plan = steps.Plan(Order("D1", "relay"))
    steps.Provisioning(None, None, board, plan, shown, None, None)._set_clock()
    return shown.text


@pytest.mark.parametrize("zone", ["UTC", "XXX-1YYY,0/0,J365/25", "XXX9"])
def test_the_clock_is_compared_in_every_time_zone(zone, monkeypatch):
    """The second one has summer time all year."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert set_clock(Board()).endswith(" UTC")
    time.tzset()


@pytest.mark.parametrize(
    "board",
    [
        Board(-31),
        Board(31),
        Board(3600),
        Board(now="noon"),
        Board(now=[2026]),
        Board(now=[2026, 13, 1, 0, 0, 0]),
        Board(now=["2026", 1, 1, 0, 0, 0]),
        Board(now=[10**30, 1, 1, 0, 0, 0]),
        Board(now=[2000, 1, 1, 0, 0, 0] * 100),
        Board(now=7),
    ],
)
def test_a_clock_that_is_not_set_is_told(board, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(HostError) as caught:
        # Else a second that ends between the board's answer and the look at it counts as well.
        patch.setattr(time, "time", lambda: 1_800_000_000.0)
        set_clock(board)
    assert caught.value.code == "board-failed" and len(caught.value.text) < 100


class Store:
    def __init__(self, known):
        self.known = known

    def find(self, _device):
        return self.known


@pytest.mark.parametrize(
    ("changes", "live", "chip", "files", "proven", "whole"),
    [
        ({}, True, "aa", ("boot.py", "main.py", "lib"), True, True),
        ({"again": True}, True, "aa", ("boot.py", "main.py", "lib"), True, False),
        ({"networks": ("home",)}, True, "aa", ("boot.py", "main.py", "lib"), True, False),
        ({"app_source": "app.py"}, True, "aa", ("boot.py", "main.py", "lib"), True, False),
        ({}, False, "aa", ("boot.py", "main.py", "lib"), True, False),
        ({}, True, "bb", ("boot.py", "main.py", "lib"), True, False),
        ({}, True, "aa", ("boot.py", "lib"), True, False),
        ({}, True, "aa", ("main.py", "lib"), True, False),
        ({}, True, "aa", ("boot.py", "main.py"), True, False),
        ({}, True, "aa", ("boot.py", "main.py", "lib"), False, False),
    ],
)
def test_when_the_package_alone_is_replaced(
    changes, live, chip, files, proven, whole, monkeypatch
):
    """Never where that would leave out what the order asks for."""
    known = object()

    class State:
        def proves(self, device):
            return proven and device is known

    monkeypatch.setattr(steps.vault, "ask", lambda board, pin: State())
    plan = steps.Plan(Order("D1", "relay", **changes))
    record = BoardRecord("D1", "aa", "UNIX", live)
    facts = replace(PICO, unique_id=chip, files=files)
    found = steps.Provisioning(None, Store(known), None, plan, Progress(), None, None)
    assert (found._live_device(facts, record) is known) == whole
    assert found._live_device(facts, None) is None


class Connecting:
    """The connection to a board that says this of its own connection to the broker."""

    def __init__(self, session=("authority",), log=()):
        self.answer = {"session": list(session), "log": list(log)}
        self.asked = ""

    def run(self, _program):
        """Prepare the interpreter."""

    def restart(self):
        """Start the interpreter anew."""

    def ask(self, program, answer_s, secret):
        assert not secret
        self.asked = program
        return self.answer


class Boots:
    """The fleet's record of a device; boots: the proven start before and after the connection."""

    def __init__(self, *boots):
        self.boots = iter(boots)

    def find(self, _device):
        return replace(DEVICE, mark=replace(DEVICE.mark, boot=next(self.boots)))


DEVICE = Device("D1", "relay", "UNIX", "sealed", b"")


def connect(board, mode="sealed", boots=(6, 7)):
    shown = Progress()
    plan = steps.Plan(Order("D1", "relay"))
    made = steps.Provisioning(None, Boots(*boots), board, plan, shown, None, None)
    made._connect(replace(DEVICE, mode=mode))
    return shown.text


def test_a_connection_that_the_authority_saw():
    board = Connecting()
    assert connect(board) == "the authority has a session with it"
    assert "'authority'" in board.asked
    board = Connecting(["home"])
    connect(board, "plain", (6, 6))  # it proves nothing to the authority
    assert "'authority'" not in board.asked


def test_a_session_with_another_fleets_authority():
    """The broker of another fleet has the address, and keys that are the same by no chance."""
    with pytest.raises(HostError, match="no-session: the board has a session that this fleet"):
        connect(Connecting(), boots=(6, 6))


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ([["no-route", "dns"], ["link-wait", "2000"]], "it says: no-route: dns"),
        ([["link-wait", "2000"]], "it says: nothing"),
        ([], "it says: nothing"),
        ("noise", "it says: nothing"),
        ([7, ["\x1b[2J", "x" * 5000]], "it says: "),
    ],
)
def test_a_board_that_does_not_connect(log, shown):
    board = Connecting([])
    board.answer["log"] = log
    with pytest.raises(HostError) as caught:
        connect(board)
    assert caught.value.code == "no-session" and shown in caught.value.text
    assert "\x1b" not in caught.value.text and len(caught.value.text) < 300
