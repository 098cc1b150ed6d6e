"""Which boards Warden runs on: the facts that a board tells, and every refusal."""

from dataclasses import asdict, replace

import pytest
from facts_kit import PICO
from warden_host.boards.checks import MIN_HEAP, ask, check, check_room
from warden_host.errors import HostError


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"version": (1, 23, 0), "build": "", "mounted": ""},
        {"build": "RPI_PICO_W-DEBUG"},
        {"modules": (*PICO.modules, "umqtt.simple")},
        {"heap": MIN_HEAP},
    ],
)
def test_good_boards(changes):
    check(replace(PICO, **changes), "RPI_PICO_W")


def test_each_processor_has_its_name():
    assert PICO.architecture == "armv6m"
    names = [replace(PICO, mpy=number << 10).architecture for number in (7, 10, 11, 15)]
    assert names == ["armv7emsp", "xtensawin", "rv32imc", ""]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": (1, 22, 2)}, "MicroPython 1.22.2 is too old"),
        ({"build": "RPI_PICO"}, "another board: RPI_PICO, not"),
        ({"build": "", "machine": "Generic ESP32 module with ESP32"}, "another board"),
        ({"mpy": 0}, "no compiled modules"),
        ({"mpy": PICO.mpy & ~0xFF | 5}, "it says 5.3"),
        ({"mpy": 6 | 2 << 8 | 4 << 10}, "it says 6.2"),
        ({"mpy": 6 | 3 << 8 | 20 << 10}, "processor 20"),
        ({"modules": ("asyncio",)}, "no module cryptolib, hashlib, tls, vfs"),
        ({"heap": MIN_HEAP - 1}, "bytes of heap"),
        ({"mounted": "VfsFat"}, "the filesystem is Fat"),
        ({"mounted": "", "folded": True}, "the filesystem is Fat"),
        ({"mounted": "VfsLfs2", "folded": True}, "the filesystem is Fat"),
        ({"mounted": "VfsLfs1"}, "Lfs1"),
    ],
)
def test_every_refusal(changes, said):
    with pytest.raises(HostError) as caught:
        check(replace(PICO, **changes), "RPI_PICO_W")
    assert caught.value.code == "board-unfit"
    assert said in caught.value.text
    assert caught.value.hint


def test_old_firmware_of_each_kind_of_board():
    """Before 1.25 it names its chip alone."""
    old = {"version": (1, 24, 1), "build": ""}
    check(replace(PICO, machine="Generic ESP32C3 module with ESP32C3", **old), "ESP32_GENERIC_C3")
    check(replace(PICO, machine="Raspberry Pi Pico 2 W with RP2350", **old), "RPI_PICO2_W")
    with pytest.raises(HostError):
        check(replace(PICO, machine="Raspberry Pi Pico W with RP2040", **old), "RPI_PICO2_W")


def test_room():
    check_room(PICO, [4096] * 100, 2, 32)
    check_room(PICO, [1] * 173, 2, 32)
    with pytest.raises(HostError) as caught:
        check_room(PICO, [1] * 174, 2, 32)
    assert "210 blocks of 4,096 bytes are needed, 209 of 212 are free" in caught.value.text


class Liar:
    """The connection to a board that answers what it likes."""

    def __init__(self, **lies):
        self.answer = {**asdict(PICO), "version": list(PICO.version)} | lies

    def ask(self, _program):
        return self.answer


def test_a_board_that_tells_the_truth():
    assert ask(Liar()) == PICO
    assert ask(Liar(unique_id="")).unique_id == ""


@pytest.mark.parametrize(
    "lie",
    [
        {"version": "abc"},
        {"version": [1] * 1000},
        {"version": None},
        {"mpy": -1},
        {"mpy": 1.5},
        {"mpy": True},
        {"block": 0},
        {"block": 2**70},
        {"blocks": -1},
        {"free": "many"},
        {"heap": [1]},
        {"files": 7},
        {"modules": None},
        {"unique_id": "../../etc"},
        {"unique_id": "AB"},
        {"unique_id": "ab" * 1000},
        {"unique_id": ["ab"]},
    ],
)
def test_an_answer_that_makes_no_sense(lie):
    with pytest.raises(HostError, match="board-failed"):
        ask(Liar(**lie))


def test_a_long_text_is_cut():
    facts = ask(Liar(machine="m" * 5000, build="b" * 5000, mounted="v" * 5000))
    with pytest.raises(HostError) as caught:
        check(facts, "RPI_PICO_W")
    assert len(caught.value.text) < 300
