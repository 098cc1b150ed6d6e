"""Which address a refused log-in came from, in the logs of three versions of mosquitto, and that
no client can put another one in its place."""

import pytest
from broker_log_kit import SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from warden_host.broker.mosquitto import attempts
from warden_host.broker.mosquitto.attempts import Attempt, AttemptReader, Kind
from warden_host.broker.mosquitto.living_peers import LivingPeers
from warden_host.broker.mosquitto.logins import LoginReader

REFUSED = "Client <unknown> disconnected, not authorised."


def new(host: str, port: int) -> str:
    return f"New connection from {host}:{port} on port 8883."


def came(host: str, port: int, client: str = "d:lock:D1") -> str:
    return f"New client connected from {host}:{port} as {client} (p2, c1, k60, u'{client}')."


def read(
    *lines: str, reader: AttemptReader | None = None, time: str = "22:12:07"
) -> list[Attempt]:
    stamped = [f"2026-11-29T{time}: {line}" for line in lines]
    return list((reader or AttemptReader()).read(stamped))


def kinds(found: list[Attempt]) -> list[tuple[Kind, str]]:
    return [(one.kind, one.address) for one in found]


@pytest.mark.parametrize("version", SAMPLES)
def test_each_versions_words(version):
    text, client = SAMPLES[version]
    (one,) = read(*text.splitlines())  # the second is a hand-shake: no password was tried
    assert (one.kind, one.address, one.client, one.sure) == (
        Kind.REFUSED,
        "10.0.0.7",
        client,
        True,
    )


def test_a_log_in_is_told_with_its_address():
    found = read(new("::ffff:10.0.0.7", 5), came("::ffff:10.0.0.7", 5), new("fe80::1%eth0", 6))
    assert kinds(found) == [(Kind.LOGGED_IN, "10.0.0.7")]
    assert found[0].client == "d:lock:D1"


def test_of_several_it_is_the_newest_stranger():
    reader = AttemptReader({"10.0.0.9"}.__contains__)
    found = read(
        new("10.0.0.7", 1), new("10.0.0.8", 2), new("10.0.0.9", 3), REFUSED, reader=reader
    )
    assert kinds(found) == [(Kind.REFUSED, "10.0.0.8")]
    assert not found[0].sure
    # It was a slow device after all: taken back, and ascribed anew.
    found = read(came("10.0.0.8", 2), reader=reader)
    assert kinds(found) == [
        (Kind.CLEARED, "10.0.0.8"),
        (Kind.LOGGED_IN, "10.0.0.8"),
        (Kind.REFUSED, "10.0.0.7"),
    ]
    assert found[0].number == found[1].number != found[2].number
    # Among known ones alone, the newest.
    found = read(new("10.0.0.9", 4), new("10.0.0.10", 5), came("10.0.0.10", 5), reader=reader)
    found = read(REFUSED, reader=reader)
    assert kinds(found) == [(Kind.REFUSED, "10.0.0.9")]


def test_a_connection_that_is_still_open_was_not_refused():
    """A board's hand-shake goes on while a guesser, who came before it, is refused."""
    living: set[tuple[str, int]] = {("10.0.0.8", 2)}
    reader = AttemptReader(living=lambda: living)
    lines = [new("10.0.0.7", 1), new("10.0.0.8", 2), REFUSED]
    assert kinds(read(*lines, reader=reader)) == [(Kind.REFUSED, "10.0.0.7")]
    # Of those that are over, the newest stranger, as ever; where none is, of all of them.
    read(new("10.0.0.9", 3), new("10.0.0.7", 4), reader=reader)
    assert kinds(read(REFUSED, reader=reader)) == [(Kind.REFUSED, "10.0.0.7")]
    living |= {("10.0.0.9", 3)}
    assert kinds(read(REFUSED, reader=reader)) == [(Kind.REFUSED, "10.0.0.9")]


def test_a_board_beside_a_guesser_is_charged_nothing():
    """Three of its connections, unfinished within a minute, while the other one guesses."""
    living: set[tuple[str, int]] = set()
    reader = AttemptReader(living=lambda: living)
    charged: list[str] = []
    for turn in range(3):
        lines = [new("10.0.0.7", 10 + turn), new("10.0.0.8", 20 + turn)]
        living.add(("10.0.0.8", 20 + turn))
        found = read(*lines, REFUSED, reader=reader, time=f"22:12:{10 + 10 * turn}")
        charged += [one.address for one in found]
        assert not found[0].sure
    assert charged == ["10.0.0.7"] * 3


def test_the_kernel_is_asked_seldom(monkeypatch):
    now, asked = [0.0], []

    def received(port: int) -> dict[tuple[str, int], object]:
        asked.append(port)
        return {("10.0.0.8", port): None}

    monkeypatch.setattr("warden_host.tcp_diag.received", received)
    peers = LivingPeers(lambda: (1, 2), lambda: now[0])
    assert peers.look() == {("10.0.0.8", 1), ("10.0.0.8", 2)}
    assert (peers.look(), asked) == ((), [1, 2])
    now[0] += 0.05
    assert len(peers.look()) == 2

    def fails(_: int) -> None:
        raise OSError

    monkeypatch.setattr("warden_host.tcp_diag.received", fails)
    now[0] += 1
    assert peers.look() == ()


def test_connections_that_ended_otherwise_are_none():
    reader = AttemptReader()
    ended = "Client <unknown> closed its connection."
    assert read(new("10.0.0.7", 1), ended, REFUSED, reader=reader) == []
    named = "Client 10.0.0.7 [10.0.0.7:2] disconnected: Protocol error."
    assert read(new("10.0.0.7", 2), new("10.0.0.8", 3), named, reader=reader) == []
    assert kinds(read(REFUSED, reader=reader)) == [(Kind.REFUSED, "10.0.0.8")]
    # One that is silent for a minute, and a broker that starts anew.
    assert read(new("10.0.0.7", 4), reader=reader) == []
    assert read(REFUSED, reader=reader, time="22:14:07") == []
    assert read(new("10.0.0.7", 5), "mosquitto version 2.0.11 starting", REFUSED) == []
    assert (
        read("Client ", "New client connected from x", "no stamp", new("name", 1), REFUSED) == []
    )
    assert list(AttemptReader().read([REFUSED])) == []
    assert read(came("name", 1)) == []


@pytest.mark.parametrize(
    "over",
    [
        ["mosquitto version 2.0.11 starting"],
        [new("10.0.0.7", 1), came("10.0.0.7", 1)],  # the port once more: the log lost its end
        ["Client 10.0.0.7 [10.0.0.7:1] disconnected: Protocol error."],
    ],
    ids=["a new start", "a log-in", "an end"],
)
def test_connections_that_are_over_make_no_refusal_unsure(over):
    *_, one = read(new("10.0.0.7", 1), *over, new("10.0.0.8", 2), REFUSED)
    assert (one.address, one.sure) == ("10.0.0.8", True)


@pytest.mark.parametrize(
    ("between", "cleared"),
    [
        ([new("10.0.0.9", 3)], True),
        ([new("10.0.0.8", 2)], False),  # another connection from that port
        (["mosquitto version 2.0.11 starting"], False),
    ],
    ids=["another connection", "the same port", "a new start"],
)
def test_a_refusal_is_taken_back_where_its_connection_logs_in(between, cleared):
    lines = [new("10.0.0.7", 1), new("10.0.0.8", 2), REFUSED]
    found = read(*lines, *between, came("10.0.0.8", 2))
    assert ((Kind.CLEARED, "10.0.0.8") in kinds(found)) is cleared


def test_a_refusal_is_taken_back_for_a_minute_only():
    reader = AttemptReader()
    lines = [new("10.0.0.7", 1), new("10.0.0.8", 2), REFUSED]
    assert kinds(read(*lines, reader=reader)) == [(Kind.REFUSED, "10.0.0.8")]
    read(new("10.0.0.9", 3), reader=reader, time="22:14:07")
    found = read(came("10.0.0.8", 2), reader=reader, time="22:14:07")
    assert kinds(found) == [(Kind.LOGGED_IN, "10.0.0.8")]


def test_what_strangers_cause_is_bounded(monkeypatch):
    monkeypatch.setattr(attempts, "MOST_OPEN", 50)
    reader = AttemptReader()
    for port in range(300):
        read(new(f"10.0.{port % 256}.9", port), reader=reader)
        if port % 2:
            assert len(read(REFUSED, reader=reader)) == 1
    assert len(reader._open) <= 50
    assert len(reader._ascribed) <= 50
    assert sum(reader._of_address.values()) == len(reader._open)


# What mosquitto lets a client call itself: any text without control characters; and, in case it
# lets more through, any text at all that is within one line.
_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\n"), max_size=60),
    st.sampled_from(
        [
            "x [198.51.100.9:7]",
            "<unknown>",
            "x disconnected, not authorised.",
            "x [198.51.100.9:7] disconnected: not authorised. x",
            "2026-11-29T22:12:07: New connection from 198.51.100.9:7 on port 8883.",
            "New client connected from 198.51.100.9:7 as d:lock:D1 (p2, c1, k60, u'x').",
            "x" * 70_000 + " [198.51.100.9:7]",
        ]
    ),
)


@settings(max_examples=150, deadline=None)
@given(_NAMES, st.booleans())
def test_no_name_of_a_clients_brings_another_address(name, is_newer):
    """198.51.100.9 has no connection that was refused; 10.0.0.7 calls itself anything."""
    own = " [10.0.0.7:55123] disconnected: not" if is_newer else " disconnected, not"
    line = f"Client {name}{own} authorised."
    lines = [
        new("198.51.100.9", 8),
        came("198.51.100.9", 8, "d:lock:D9"),
        new("10.0.0.7", 55123),
        line,
    ]
    _, one = read(*lines)
    assert (one.kind, one.address) == (Kind.REFUSED, "10.0.0.7")
    # Nor one that connects just now, by its address and port: the newest one is meant.
    (one,) = read(new("198.51.100.9", 7), new("10.0.0.7", 55123), line)
    assert one.address == "10.0.0.7"
    stamped = [f"2026-11-29T22:12:07: {text}" for text in lines]
    for shown in LoginReader().read(stamped):
        assert shown.addresses == ("10.0.0.7",)
