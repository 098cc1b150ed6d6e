"""An address has one form wherever it is a key: on `::`, IPv4 ones come as ::ffff:a.b.c.d."""

import asyncio
import re
import socket
from pathlib import Path

import pytest
from host_kit import refused
from warden_host import addresses, tcp_diag
from warden_host.addresses import canonical_address, is_loopback, network_of_client
from warden_host.bans import geo, listed, open_ports
from warden_host.bans.index import NetworkIndex
from warden_host.bans.networks import contains, parse_network
from warden_host.bans.settings import BanSettings
from warden_host.bans.strikes import Strikes
from warden_host.broker.backend import Attempt, AttemptKind
from warden_host.broker.mosquitto.logins import LoginReader
from warden_host.broker.mosquitto.places import Places
from warden_host.service.login_limits import LoginLimits
from warden_host.service.wrong_logins import WrongLogins
from warden_host.web.admission import AddressGate
from warden_host.web.places import MOST_OF_AN_ADDRESS
from warden_host.web.places import Places as WebPlaces

A, B = "203.0.113.7", "198.51.100.7"
HOST = Path(addresses.__file__).parent


@pytest.mark.parametrize(
    ("text", "canonical", "network"),
    [
        (A, A, f"{A}/32"),
        (f"::ffff:{A}", A, f"{A}/32"),
        ("::FFFF:cb00:7107", A, f"{A}/32"),
        ("0:0:0:0:0:ffff:203.0.113.7", A, f"{A}/32"),
        ("2001:DB8:0:0::7", "2001:db8::7", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::1/128"),
        ("64:ff9b::203.0.113.7", "64:ff9b::cb00:7107", "64:ff9b::cb00:7107/128"),
        ("64:ff9b:1:2::203.0.113.7", "64:ff9b:1:2::cb00:7107", "64:ff9b:1:2::cb00:7107/128"),
        ("2002:cb00:7107:9::7", "2002:cb00:7107:9::7", "2002:cb00:7107::/48"),
        ("64:ff9b:0:1::7", "64:ff9b:0:1::7", "64:ff9b:0:1::/64"),
        *((text, "", text) for text in ("", "?", "localhost", "203.0.113", f"{A}/32", f"{A} ")),
    ],
)
def test_an_address_has_one_form(text, canonical, network):
    assert canonical_address(text) == canonical
    assert network_of_client(text) == network
    assert network_of_client(canonical or text) == network


@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_loopback_is_loopback_in_each_form(text):
    assert is_loopback(text)


def test_what_is_no_loopback():
    assert not any(map(is_loopback, (A, f"::ffff:{A}", "::", "::127.0.0.1", "", "localhost")))


def test_no_other_module_has_a_form_of_its_own():
    """networks.py turns networks, and addresses.py single addresses."""
    own = {
        path.relative_to(HOST).as_posix()
        for path in HOST.rglob("*.py")
        if re.search(r"ipv4_mapped|::ffff|client\.host\b", path.read_text())
    }
    assert own == {"addresses.py", "bans/networks.py"}


# Each place where an address is a key


def test_one_guesser_bans_no_other_ipv4_address():
    watch = Strikes(BanSettings(), lambda _: 0, lambda _: False)

    def refuse(address: str, number: int):
        return watch.refused(Attempt(AttemptKind.REFUSED, 1e9, address, "", number))

    bans = [refuse(f"::ffff:{A}", n) for n in (1, 2)] + [refuse(A, 3)]
    assert [one and one.network for one in bans] == [None, None, f"{A}/32"]
    assert watch.count(f"::ffff:{B}") == 0
    assert refuse(f"::ffff:{B}", 4) is None


def test_exempt_and_own_addresses_are_exempt_in_each_form():
    terms = BanSettings(attempts=1, exempt=(parse_network("203.0.113.0/24"),))
    watch = Strikes(terms, lambda _: 0, {"10.0.0.1"}.__contains__)
    for address in (A, f"::ffff:{A}", "::ffff:127.0.0.1", "::1", "10.0.0.1"):
        assert watch.is_exempt(address), address
    assert not watch.is_exempt(f"::ffff:{B}")
    assert contains(parse_network("203.0.113.0/24"), f"::ffff:{A}")
    assert not contains(parse_network("203.0.113.0/24"), "no address")


def test_lists_hold_for_mapped_addresses():
    index = NetworkIndex([parse_network("::ffff:203.0.113.0/120")])
    assert listed.refuses("block", index, parse_network(canonical_address(f"::ffff:{A}")))
    assert not listed.refuses("block", index, parse_network(canonical_address(f"::ffff:{B}")))


def test_a_countrys_file_may_have_mapped_networks(tmp_path):
    import mmdb_kit

    mmdb_kit.write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "DE"}})
    found = geo.networks_of(tmp_path / "c.mmdb", frozenset({"DE"}))
    assert [str(one) for one in found] == ["203.0.113.0/24"]


def test_one_guesser_at_the_console_pauses_no_other_ipv4_address():
    limits = LoginLimits(lambda: 100.0)
    with refused("login-paused"):
        for _ in range(100):
            limits.count_passkey(f"::ffff:{A}")
    limits.count_passkey(f"::ffff:{B}")
    with refused("login-paused"):
        limits.count_passkey(A)


class Bans:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def keeps_out(self, address: str) -> bool:
        return address == A

    def attempt(self, attempt: Attempt) -> None:
        self.seen.append(attempt.address)


def test_wrong_log_ins_reach_the_watch_in_the_one_form():
    bans = Bans()
    wrong = WrongLogins(bans, lambda _: None)
    wrong.refused(f"::ffff:{A}")
    wrong.accepted("fe80::1%eth0", "t:home:1")
    wrong.refused("?")
    assert bans.seen == [A, "fe80::1"]
    assert wrong.is_refused(f"::ffff:{A}") and not wrong.is_refused("?")


def test_a_browsers_address_reaches_the_authority_in_the_one_form():
    asked: list[str] = []

    async def admits(address: str) -> bool:
        asked.append(address)
        return True

    async def app(*_: object) -> None:
        return None

    gate = AddressGate(app, admits)
    for client in ((f"::ffff:{A}", 1), ("2001:DB8::7", 2), None):
        asyncio.run(gate({"type": "http", "client": client}, None, None))  # type: ignore[arg-type]
    assert asked == [A, "2001:db8::7", "?"]


class Busy:
    def is_waiting(self) -> bool:
        return False

    def is_over(self) -> bool:
        return False

    def end(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("form", "others"), [("::ffff:10.0.0.1", "::ffff:10.0.0.2"), ("2001:db8::{}", "2001:db8:1::1")]
)
def test_one_client_takes_not_all_places_of_the_console(form, others):
    """Of IPv6, one client has a whole /64."""
    places = WebPlaces()
    for number in range(MOST_OF_AN_ADDRESS):
        assert places.enter(form.format(number), Busy()) is not None
    assert places.enter(form.format("ffff"), Busy()) is None
    assert places.enter(others, Busy()) is not None


def test_the_brokers_log_and_the_kernel_agree_on_a_peer():
    places = Places(lambda: 1.0)
    places.read([f"2026-11-29T22:12:07: New client connected from ::ffff:{A}:7 as d:l:D1 (p2)"])
    assert places.client_at((A, 7), 0.0) == "d:l:D1"
    mapped = socket.inet_pton(socket.AF_INET6, f"::ffff:{A}")
    assert tcp_diag._address(socket.AF_INET6, mapped) == A
    assert tcp_diag._address(socket.AF_INET, socket.inet_aton(A) + bytes(12)) == A
    assert open_ports._address("0000000000000000FFFF00000100007F:0016") == ("127.0.0.1", 22)


def test_refused_log_ins_are_told_with_the_one_form():
    stamp = "2026-11-29T22:12:07: "
    lines = [
        f"New connection from ::ffff:{A}:7 on port 8883.",
        f"Client x [::ffff:{A}:7] disconnected: not authorised.",
        f"Client connection from ::ffff:{B} failed: error:1408F10B:SSL routines:"
        "ssl3_get_record:wrong version number.",
    ]
    found = list(LoginReader().read(stamp + line for line in lines))
    assert [one.addresses for one in found] == [(A,), (B,)]
