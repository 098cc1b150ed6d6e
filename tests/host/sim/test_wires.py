"""What a board tells over its wires, and what is no word of it."""

import pytest
from warden_host.sim.wires import Incident, Lookup, Operation, Output, Written, parse


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"i2c 39 0c08", Written(39, b"\x0c\x08")),
        (b"pin LED 1", Output("LED", 1)),
        (b"pin 15 0", Output("15", 0)),
        (b"flash 7 rename /a /b", Operation(7, "rename", "/a /b")),
        (b"incident tampered 1 set_relay", Incident("tampered", 1, "set_relay")),
        (b"incident flooded 3 ", Incident("flooded", 3, "")),
        (b"cut 7", Operation(7, "", "", cut=True)),
        (b"net broker.example.net 8883", Lookup("broker.example.net", 8883)),
    ],
)
def test_known_lines(line: bytes, event: object) -> None:
    assert parse(line) == event


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"i2c",
        b"i2c 39",
        b"i2c 39 0",
        b"i2c x 00",
        b"i2c -1 00",
        b"pin",
        b"pin 1",
        b"flash 1",
        b"flash 1234567890 open /a",
        b"flash \xc2\xb2 open /a",
        b"net host",
        b"net host port",
        b"reset 1",
        b"incident tampered",
        b"incident tampered x set_relay",
        b"pin \xff 1",
    ],
)
def test_lines_that_are_none(line: bytes) -> None:
    assert parse(line) is None


def test_words_are_cut() -> None:
    found = parse(b"flash 1 open /" + b"a" * 9999)
    assert isinstance(found, Operation) and len(found.path) == 255
