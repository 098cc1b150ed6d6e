"""The brokers that devices connect to, as options and warden.toml write them."""

import pytest
from host_kit import new_fleet, refused
from warden_host.fleet import servers
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.servers import Server


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("hub.example", Server("hub.example")),
        ("hub.example:8884", Server("hub.example", 8884)),
        ("10.0.0.7:8884=3", Server("10.0.0.7", 8884, 3)),
        ("hub.example=100", Server("hub.example", 0, 100)),
        ("[::1]", Server("::1")),
        ("[fd00::7]:8884=1", Server("fd00::7", 8884, 1)),
    ],
)
def test_written_forms(text: str, made: Server) -> None:
    assert servers.parse([f" {text} "]) == (made,)


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a:0", "a:65536", "a:x", "a=101", "a=-1", "::1", "[a]", "[::1", "a b", "a\nb"]
    + ["a:1:2"],
)
def test_what_is_no_server(text: str) -> None:
    with refused("bad-argument"):
        servers.parse([text])


def test_too_many() -> None:
    with refused("bad-argument"):
        servers.parse([f"h{number}" for number in range(9)])


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    """The broker's certificate is for localhost and 127.0.0.1."""
    return new_fleet(tmp_path)


def test_the_fleets_own(fleet) -> None:
    assert servers.chosen(fleet, (), 8883) == (Server("127.0.0.1", 8883),)
    assert servers.hosts(fleet, ()) == ["127.0.0.1"]


def test_those_of_the_settings(fleet) -> None:
    path = fleet.root / "warden.toml"
    text = path.read_text()
    table = '[broker]\nservers = ["localhost=2", "127.0.0.1:1"]\n'
    path.write_text(text.replace("[broker]\n", table))
    fleet = Fleet(fleet.root)
    wanted = (Server("localhost", 8883, 2), Server("127.0.0.1", 1))
    assert servers.chosen(fleet, (), 8883) == wanted
    given = (Server("localhost", 5),)
    assert servers.chosen(fleet, given, 8883) == given
    for wrong in ("3", "[3]", '["a b"]'):
        path.write_text(text.replace("[broker]\n", f"[broker]\nservers = {wrong}\n"))
        with refused("config-malformed"):
            servers.chosen(Fleet(fleet.root), (), 8883)


def test_a_host_that_the_certificate_is_not_for(fleet) -> None:
    with refused("bad-argument"):
        servers.chosen(fleet, (Server("hub.example"),), 8883)
    with refused("bad-argument"):
        servers.chosen(fleet, (Server("127.0.0.1"), Server("127.0.0.2")), 8883)


def test_one_named_twice(fleet) -> None:
    with refused("bad-argument"):
        servers.chosen(fleet, (Server("localhost"), Server("localhost", 8883)), 8883)


def test_another_listeners_port(fleet) -> None:
    """Without TLS, a device would show its log-in there to all, and never connect."""
    given = (Server("127.0.0.1", 8883), Server("127.0.0.1"))
    with refused("bad-argument"):
        servers.chosen(fleet, given, 1883, (8883, 8884, 1883))
    assert servers.chosen(fleet, given, 1883, (8884, 1883))[0].port == 8883


def test_brokers_of_a_device_with_a_choice_of_log_ins(fleet) -> None:
    ways = (("token", 8883), ("certificate", 8884))
    given = (Server("localhost"),)
    assert servers.for_ways(fleet, given, ways) == (
        Server("localhost", 8883, 0, "token"),
        Server("localhost", 8884, 0, "certificate"),
    )
    for wrong in (Server("localhost", 1), Server("localhost", 0, 2)):
        with refused("bad-argument"):
            servers.for_ways(fleet, (wrong,), ways)


def test_too_many_with_a_choice_of_log_ins(fleet, monkeypatch) -> None:
    monkeypatch.setattr(servers, "_check_certificate", lambda *_: None)
    most = [Server(f"h{number}") for number in range(servers.MAX_SERVERS // 2)]
    ways = (("token", 8883), ("certificate", 8884))
    assert len(servers.for_ways(fleet, tuple(most), ways)) == servers.MAX_SERVERS
    with refused("bad-argument"):
        servers.for_ways(fleet, (*most, Server("one-more")), ways)
