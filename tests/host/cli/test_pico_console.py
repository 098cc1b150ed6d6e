"""What `warden run --pico` shows of the board's console."""

import pytest
from warden_host.sim.pico_console import Console

RAW = b"\r\nraw REPL; CTRL-B to exit\r\n>OK"
WORK = b"\x04R\x01\xff\x00{'blocks': 212}\r\n\x04\x04>"
FRIENDLY = b"\r\nMicroPython v1.28.0 on 2026-04-06; Raspberry Pi Pico W with RP2040\r\n"


@pytest.fixture
def shown() -> list[str]:
    return []


@pytest.fixture
def console(shown: list[str]) -> Console:
    return Console(shown.append)


def test_whole_lines(console: Console, shown: list[str]) -> None:
    console.take(b"log link")
    assert shown == []
    console.take(b"-up\r\n\x1b[2Jx\r\nhalf")
    assert shown[0] == "log link-up"
    assert len(shown) == 2 and "\x1b" not in shown[1]


def test_a_line_without_an_end_is_cut(console: Console, shown: list[str]) -> None:
    console.take(b"x" * 100_000)
    assert shown and sum(map(len, shown)) <= 100_000


def test_what_a_program_does_at_the_port_is_one_line(console: Console, shown: list[str]) -> None:
    console.take(b"hello\r\n" + RAW + WORK + RAW + WORK)
    assert shown == ["hello", "", "-- a program at its serial port works on it --"]
    console.take(FRIENDLY)
    assert shown[3].startswith("MicroPython v1.28.0")


def test_a_reset_ends_it(console: Console, shown: list[str]) -> None:
    console.take(RAW + WORK + b"half a line")
    console.reset()
    console.take(b"log link-up\r\n")
    assert shown[-2:] == ["-- it reset --", "log link-up"]
