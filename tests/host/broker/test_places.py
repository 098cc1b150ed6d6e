"""Where clients log in from, by the lines of mosquitto's log."""

import pytest
from host_kit import SteppedClock
from warden_host.broker.mosquitto.places import TURNS, WINDOW_S, Places

D1 = "d:relay:D1"
STAMP = "2026-11-30T10:00:00: "


@pytest.fixture
def clock():
    return SteppedClock()


@pytest.fixture
def places(clock):
    made = Places(clock)
    made.shared = []
    made.on_shared = lambda client, hosts: made.shared.append((client, hosts))
    return made


def log_in(places: Places, host: str, took: bool = False, client: str = D1) -> None:
    lines = [f"{STAMP}New connection from {host}:50000 on port 8883."]
    if took:
        lines.append(f"{STAMP}Client {client} already connected, closing old connection.")
    # The form of 2.0 and of 2.1.
    lines.append(f"{STAMP}New client connected from {host}:50000 as {client} (p2, c1, k60).")
    places.read(lines)


def test_two_addresses_that_push_each_other_off_by_turns_share_the_account(places, clock):
    for number in range(TURNS + 1):
        assert places.shared == []
        clock.now += 30
        log_in(places, ("10.0.0.1", "10.0.0.2")[number % 2], took=number > 0)
    assert places.shared == [(D1, ("10.0.0.1", "10.0.0.2"))]


@pytest.mark.parametrize("case", ["one address", "nothing taken", "slow", "three addresses"])
def test_what_honest_devices_do_is_no_sharing(places, clock, case):
    hosts = {"one address": ["10.0.0.1"], "three addresses": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}
    chosen = hosts.get(case, ["10.0.0.1", "10.0.0.2"])
    for number in range(3 * TURNS):
        clock.now += WINDOW_S / 2 if case == "slow" else 10
        took = number > 0 and case != "nothing taken"
        log_in(places, chosen[number % len(chosen)], took)
    assert places.shared == []


def test_a_log_in_from_an_address_and_port_counts_since_a_time(places, clock):
    log_in(places, "10.0.0.1")
    then = clock.now
    assert places.client_at(("10.0.0.1", 50000), then) == D1
    assert places.client_at(("10.0.0.1", 50000), then + 1) == ""
    assert places.client_at(("10.0.0.1", 50001), then) == ""


def test_an_address_and_back_is_a_change_since_then(places, clock):
    log_in(places, "10.0.0.1")
    clock.now += 10
    since = clock.now
    assert not places.changed(D1, since)
    clock.now += 10
    log_in(places, "10.0.0.2", took=True)
    assert not places.changed(D1, since)
    clock.now += 10
    log_in(places, "10.0.0.1", took=True)
    assert places.changed(D1, since)
    assert not places.changed(D1, clock.now)
    assert not places.changed("d:relay:D2", since)


def test_a_client_writes_no_such_line(places):
    """Texts that a stranger can have mosquitto write begin otherwise."""
    places.read(
        [
            f"{STAMP}Client New client connected from 1.1.1.1:1 as {D1} ( disconnected.",
            f"{STAMP}Sending CONNACK to New client connected from 1.1.1.1:1 as {D1} (",
            "",
            f"{STAMP}Client  already connected, closing old connection.",
        ]
    )
    assert places._known == {}


def test_that_messages_are_dropped_is_told(places):
    told = []
    places.on_dropped = told.append
    line = "2026-01-01T00:00:00: Outgoing messages are being dropped for client a:authority."
    places.read([line, line.replace("Outgoing", "Client Outgoing"), line + " x"])
    assert told == ["a:authority"]


def test_memory_is_bounded(places, monkeypatch):
    monkeypatch.setattr("warden_host.broker.mosquitto.places._MOST_CLIENTS", 3)
    for number in range(10):
        log_in(places, "10.0.0.1", client=f"d:relay:D{number}")
    assert list(places._known) == ["d:relay:D7", "d:relay:D8", "d:relay:D9"]
    for port in range(10):
        places.read([f"{STAMP}New client connected from 10.0.0.1:{port} as {D1} (p2, c1, k60)."])
    assert [port for _, port in places._peers] == [7, 8, 9]
