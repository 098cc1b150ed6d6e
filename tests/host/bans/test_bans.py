"""Bans: which address is banned or slowed, what is kept, what the lists hold, what fail2ban
reads."""

import shutil
import subprocess
import sys
import time

import mmdb_kit
import pytest
from host_kit import new_fleet, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from warden_host.addresses import network_of_client
from warden_host.bans import ban_log, changes, fail2ban, listed
from warden_host.bans import settings as ban_settings
from warden_host.bans.ban_log import BanLog, escaped
from warden_host.bans.enforcement import Enforcement
from warden_host.bans.index import NetworkIndex
from warden_host.bans.known import KnownAddresses
from warden_host.bans.networks import (
    collapse,
    parse_ban,
    parse_entry,
    parse_network,
    short,
)
from warden_host.bans.settings import BanSettings
from warden_host.bans.strikes import MANY, Strikes
from warden_host.broker.backend import Attempt, AttemptKind
from warden_host.fleet.fleet import Fleet
from warden_host.store import bans as store_bans
from warden_host.store.bans import BAN, SLOW, Ban
from warden_host.store.store import Store

NOW = 1_800_000_000.0
A, B = "203.0.113.7", "2001:db8::7"


def attempt(address: str = A, number: int = 1, moment: float = NOW, sure: bool = True) -> Attempt:
    return Attempt(AttemptKind.REFUSED, moment, address, "", number, sure)


def strikes(known=(), own=(), **more) -> Strikes:
    return Strikes(BanSettings(**more), list(known).count, set(own).__contains__)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        yield opened


# Decisions


def test_the_third_is_banned_until_it_is_lifted():
    watch = strikes()
    assert [watch.refused(attempt(number=n)) for n in (1, 2)] == [None, None]
    assert watch.count(A) == 2
    ban = watch.refused(attempt(number=3))
    assert ban == Ban(f"{A}/32", BAN, NOW, None, "watch", "3 refused log-ins", 3)
    assert [watch.refused(attempt(number=n)) for n in range(4, 20)] == [None] * 16
    watch.lifted(f"{A}/32")
    assert [watch.refused(attempt(number=n)) is None for n in (20, 21, 22)] == [True, True, False]


def test_of_ipv6_a_whole_network_is_banned():
    watch = strikes(attempts=2)
    watch.refused(attempt("2001:db8::1", 1))
    assert watch.refused(attempt("2001:db8::2", 2)).network == "2001:db8::/64"


def test_a_neighbour_of_an_exempt_address_gets_none_but_itself_banned():
    watch = strikes(attempts=1, exempt=(parse_network("2001:db8::7"),))
    assert watch.refused(attempt("2001:db8::8")).network == "2001:db8::8/128"
    assert watch.refused(attempt("2001:db8:0:1::8")).network == "2001:db8:0:1::/64"
    assert watch.refused(attempt("fe80::8")).network == "fe80::8/128"  # all neighbours' network
    slowed = strikes(["2001:db8::/64"], attempts=1, exempt=(parse_network("2001:db8::7"),))
    assert slowed.refused(attempt("2001:db8::8", 1)) is None
    assert slowed.refused(attempt("2001:db8::8", 2)).kind == SLOW


def test_refusals_age_and_can_be_taken_back():
    watch = strikes(window_hours=1)
    watch.refused(attempt(number=1))
    watch.refused(attempt(number=2))
    watch.cleared(attempt(number=2))
    assert watch.refused(attempt(number=3)) is None
    assert watch.refused(attempt(number=4, moment=NOW + 3601)) is None
    assert watch.count(A) == 1


def test_a_known_address_is_slowed_for_a_time():
    watch = strikes(known=[f"{A}/32"] * 2)  # two clients: each may have one refusal
    for number in range(4):
        assert watch.refused(attempt(number=number)) is None
    ban = watch.refused(attempt(number=4))
    assert (ban.kind, ban.until) == (SLOW, NOW + 3600)
    assert watch.refused(attempt(number=5)) is None  # it is slowed
    later = [watch.refused(attempt(number=n, moment=NOW + 3601)) for n in range(6, 11)]
    assert [one is None for one in later] == [True] * 4 + [False]


def test_while_many_guess_the_first_is_banned_where_it_is_sure():
    watch = strikes(known=["10.0.9.1/32"])
    found = [watch.refused(attempt(f"10.0.0.{n}")) for n in range(MANY - 1)]
    assert found == [None] * (MANY - 1)
    assert watch.refused(attempt("10.0.1.1", sure=False)) is None
    assert watch.refused(attempt("10.0.1.2")).attempts == 1
    assert watch.refused(attempt("10.0.9.1")) is None  # known
    assert watch.refused(attempt("10.0.1.3", moment=NOW + 61)) is None  # the minute is over


def test_people_mistype():
    """Wrong log-ins at the console, whose numbers are below zero: three are as one of a device."""
    watch = strikes()
    assert [watch.refused(attempt(number=-n)) for n in range(1, 9)] == [None] * 8
    ban = watch.refused(attempt(number=-9))
    assert (ban.kind, ban.attempts, ban.until) == (BAN, 3, None)
    watch = strikes()
    for number in (1, 2, -1, -2):
        assert watch.refused(attempt(number=number)) is None
    assert watch.refused(attempt(number=-3)).attempts == 3
    # Nobody is banned for one, however many others guess.
    watch = strikes()
    assert not any(watch.refused(attempt(f"10.0.0.{n}", -n)) for n in range(1, MANY + 10))


def test_one_that_may_be_another_is_slowed_first():
    watch = strikes()

    def later(number: int, sure: bool = False) -> Attempt:
        return attempt(number=number, moment=NOW + 31 * number, sure=sure)

    found = [watch.refused(later(n)) for n in range(9)]
    assert [one and one.kind for one in found] == [None, None, SLOW, *[None] * 5, BAN]
    assert found[2].until == NOW + 62 + 3600
    assert found[2].why == "3 refused log-ins, 3 of which may be another address's"
    assert (found[8].until, found[8].attempts) == (None, 9)
    # Each that logs in after all is taken back; sure ones ban as they always do.
    watch = strikes()
    for number in range(12):
        slowed = watch.refused(attempt(number=number, sure=False))
        assert slowed is None
        watch.cleared(attempt(number=number))
    found = [watch.refused(later(n, n > 21)) for n in range(20, 25)]
    assert [one and one.kind for one in found] == [None, None, SLOW, None, BAN]
    # A program that guesses is fast.
    watch = strikes()
    found = [watch.refused(attempt(number=n, moment=NOW + n, sure=False)) for n in range(3)]
    assert [one and one.kind for one in found] == [None, None, BAN]


def test_who_mistypes_is_no_program():
    watch = strikes()
    unsure = [watch.refused(attempt(number=n, sure=False)) for n in (1, 2)]
    typed = [watch.refused(attempt(number=-n, moment=NOW + 7200 + n)) for n in (1, 2, 3)]
    assert [one and one.kind for one in (*unsure, *typed)] == [None] * 4 + [SLOW]


def test_exempt_addresses_are_never_banned():
    exempt = (parse_network("192.168.0.0/16"),)
    watch = strikes(own=["10.0.0.1"], exempt=exempt, attempts=1)
    for address in ("127.0.0.1", "::1", "10.0.0.1", "192.168.7.7"):
        assert watch.refused(attempt(address)) is None
        assert watch.is_exempt(address)
    assert watch.refused(attempt()) is not None
    assert strikes(enabled=False, attempts=1).refused(attempt()) is None


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("warden_host.bans.strikes.MOST_NETWORKS", 20)
    watch = strikes(attempts=1000)
    for number in range(100):
        watch.refused(attempt(f"10.0.0.{number}", number, sure=False))
    assert len(watch._records) == 20


def test_known_addresses_are_kept_and_end(store):
    known = KnownAddresses(7)
    known.note(f"{A}/32", "d:lock:D1", NOW)
    known.note("2001:db8::/64", "a:home", NOW + 1)
    known.save(store, NOW, at_once=True)
    again = KnownAddresses(7)
    again.load(store, NOW)
    assert A in again
    assert "2001:db8::99" in again
    assert "203.0.113.8" not in again
    assert again.clients(f"{A}/32", NOW) == ["d:lock:D1"]
    assert again.clients(f"{A}/32", NOW + 8 * 86_400) == []
    again.save(store, NOW + 8 * 86_400)
    assert A not in again
    never = KnownAddresses(0)
    never.note(f"{A}/32", "d:lock:D1", NOW)
    assert A not in never


def test_so_many_addresses_are_known_and_no_more(monkeypatch):
    monkeypatch.setattr("warden_host.bans.known._MOST_KNOWN", 2)
    known = KnownAddresses(7)
    for client in ("d:lock:D1", "d:lock:D2", "d:lock:D3"):
        known.note(f"{A}/32", client, NOW)
    assert known.clients(f"{A}/32", NOW) == ["d:lock:D1", "d:lock:D2"]
    known.note(f"{A}/32", "d:lock:D1", NOW + 86_400)  # one that is known is noted again
    assert known.clients(f"{A}/32", NOW + 7.5 * 86_400) == ["d:lock:D1"]


def test_so_many_attempts_of_a_network_are_remembered(monkeypatch):
    monkeypatch.setattr("warden_host.bans.strikes._MOST_ATTEMPTS", 5)
    watch = strikes(enabled=False)
    for number in range(20):
        assert watch.refused(attempt(number=number)) is None
    (remembered,) = watch._records.values()
    assert list(remembered) == [15, 16, 17, 18, 19]


# Text of networks


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_networks(text, network):
    assert str(parse_network(text)) == network
    assert parse_network(short(network)) == parse_network(text)


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "1.2.3.4/33", "127.0.0.1", "0.0.0.0/0", "::1", "::/0", "1.2.3.4;"]
)
def test_what_is_no_network_to_ban(text):
    with refused("bad-argument"):
        parse_ban(text)


def test_entries():
    assert parse_entry("country:de") == "country:DE"
    assert parse_entry("COUNTRY:at") == "country:AT"
    assert parse_entry("10.1.2.3/8") == "10.0.0.0/8"
    for text in ("country:D", "country:DEU", "country:1\n", "DE"):
        with refused("bad-argument"):
            parse_entry(text)
    assert network_of_client("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"


_NETWORKS = st.builds(
    lambda number, bits: parse_network(f"10.0.{number // 256}.{number % 256}/{bits}"),
    st.integers(0, 4095),
    st.integers(16, 32),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_NETWORKS, max_size=12), _NETWORKS)
def test_an_index_finds_what_holds_a_network(networks, wanted):
    holds = any(wanted.subnet_of(one) for one in collapse(networks))
    assert (wanted in NetworkIndex(networks)) is holds
    assert parse_network("::a00:0") not in NetworkIndex(networks)


# The database


def test_bans_and_lists_are_kept(store, tmp_path):
    changes.add(store, ["203.0.113.7", "2001:db8::/48"], "owner me", "a scan")
    with Store(tmp_path / "fleet.db") as again:
        (first, second) = again.bans(NOW)
        assert {first.network, second.network} == {"203.0.113.7/32", "2001:db8::/48"}
        assert (first.kind, first.until, first.source, first.why) == (
            BAN,
            None,
            "owner me",
            "a scan",
        )
        assert changes.lift(again, ["203.0.113.7"]) == ["203.0.113.7/32"]
        with refused("bad-argument"):
            changes.lift(again, ["203.0.113.7"])
        assert again.lift_all_bans() == 1
    for texts in (["8.0.0.0/7"], ["10.0.0.1", "nonsense"]):
        with refused("bad-argument"):
            changes.add(store, texts, "me", "")
    with refused("bad-argument"):
        changes.add(store, [A], "me", "two\nlines")
    assert store.bans(NOW) == []


def test_slowed_ones_end(store):
    store.put_ban(Ban(f"{A}/32", SLOW, NOW, NOW + 10, "watch", "", 3))
    assert len(store.bans(NOW)) == 1
    assert store.bans(NOW + 10) == []
    assert (store.drop_past_bans(NOW), store.drop_past_bans(NOW + 10)) == (0, 1)


def test_more_clients_at_an_address_have_more_connections(store, tmp_path):
    made = Enforcement(new_fleet(tmp_path / "x"), BanSettings())
    store.note_logins([("10.0.0.1/32", f"d:lock:D{n}", NOW) for n in range(7)], 0)
    for network in ("10.0.0.1/32", "10.0.0.2/32"):
        store.put_ban(Ban(network, SLOW, NOW, NOW + 10, "watch", "", 3))
    slowed = made.wanted(store, NOW + 1).slowed
    assert slowed == {12: (parse_network("10.0.0.2"),), 120: (parse_network("10.0.0.1"),)}


def test_the_watchs_own_make_room_and_a_persons_never_do(store, monkeypatch):
    monkeypatch.setattr(store_bans, "MAX_BANS", 3)
    for number in range(5):
        store.put_ban(Ban(f"10.0.0.{number}/32", BAN, NOW + number, None, "watch", "", 3))
    assert [ban.network for ban in store.bans(NOW)] == [f"10.0.0.{n}/32" for n in (2, 3, 4)]
    changes.add(store, ["10.1.0.1", "10.1.0.2", "10.1.0.3"], "me", "")
    with refused("not-applicable"):
        changes.add(store, ["10.1.0.4"], "me", "")
    monkeypatch.setattr(store_bans, "MAX_ENTRIES", 1)
    changes.change_list(store, "block", ["10.0.0.0/8"])
    with refused("not-applicable"):
        changes.change_list(store, "block", ["11.0.0.0/8"])


def test_good_log_ins_are_bounded(store, monkeypatch):
    monkeypatch.setattr(store_bans, "MAX_LOGINS", 3)
    store.note_logins([(f"10.0.0.{n}/32", "d:lock:D1", NOW + n) for n in range(6)], NOW + 1)
    assert [row[2] - NOW for row in store.good_logins(0)] == [3, 4, 5]


def test_one_list_is_in_force_and_never_both(store):
    none = BanSettings()
    with refused("not-applicable"):
        changes.activate(store, none, "allow")  # empty: it would keep all out
    changes.change_list(store, "allow", ["10.0.0.0/8"])
    changes.change_list(store, "block", ["10.9.0.0/16", "203.0.113.0/24"])
    changes.activate(store, none, "allow")
    assert store.active_list() == "allow"
    with refused("not-applicable"):
        changes.change_list(store, "allow", [], ["10.0.0.0/8"])
    changes.activate(store, none, "block")
    assert store.active_list() == "block"
    changes.change_list(store, "allow", [], ["10.0.0.0/8"])
    for name in ("both", "allow; block"):
        with refused("bad-argument"):
            changes.activate(store, none, name)
    with refused("bad-argument"):
        changes.change_list(store, "block", [], ["10.0.0.0/8"])
    now = time.time()
    store.note_logins(
        [("203.0.113.7/32", "d:lock:D1", now - 9), ("10.1.1.1/32", "d:lock:D1", now)], 0
    )
    assert changes.refused_clients(store, none, "block") == []
    store.note_logins([("203.0.113.9/32", "d:lock:D2", now)], 0)
    assert changes.refused_clients(store, none, "block") == ["d:lock:D2"]
    changes.activate(store, none, "")
    assert store.active_list() == ""


# Countries


def test_countries_come_from_the_owners_file(store, tmp_path, monkeypatch):
    path = tmp_path / "countries.mmdb"
    mmdb_kit.write(
        path,
        {
            "203.0.113.0/24": {"country": {"iso_code": "DE"}},
            "198.51.100.0/25": {"country_code": "AT"},
            "192.0.2.0/24": {"country": "DE"},
            "2001:db8::/32": {"country": {"iso_code": "DE"}},
            "10.0.0.0/8": {"country": ["DE"]},
        },
    )
    terms = BanSettings(countries=path)
    changes.change_list(store, "allow", ["country:DE", "10.0.0.1"])
    found = listed.networks_of(terms, store.list_entries("allow"))
    expected = ["10.0.0.1/32", "192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"]
    assert [str(one) for one in found] == expected
    index = NetworkIndex(found)
    assert listed.refuses("allow", index, parse_network("198.51.100.1"))
    assert not listed.refuses("block", index, parse_network("198.51.100.1"))
    changes.activate(store, terms, "allow")
    changes.change_list(store, "block", ["country:FR"])
    with refused("geo-damaged"):
        changes.activate(store, terms, "block")  # no network of it is known
    monkeypatch.setattr("warden_host.bans.geo.MOST_NETWORKS", 2)
    with refused("geo-damaged"):
        changes.activate(store, terms, "allow")
    path.write_bytes(path.read_bytes()[:40])
    with refused("geo-damaged"):
        changes.activate(store, terms, "allow")
    for missing in (None, tmp_path / "none.mmdb"):
        with refused("geo-missing"):
            changes.activate(store, BanSettings(countries=missing), "allow")
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with refused("geo-missing") as error:
        changes.activate(store, terms, "allow")
    assert "warden[geo]" in str(error)


# Settings


def with_table(fleet: Fleet, table: object) -> Fleet:
    fleet.document["bans"] = table
    return fleet


def test_settings(tmp_path):
    fleet = new_fleet(tmp_path)
    assert ban_settings.load(fleet) == BanSettings()
    table = {"attempts": 5, "exempt": ["10.0.0.0/8"], "countries": "c.mmdb", "enabled": False}
    found = ban_settings.load(with_table(fleet, table))
    assert (found.attempts, found.enabled) == (5, False)
    assert found.exempts("10.1.2.3")
    assert not found.exempts("11.1.2.3")
    assert found.countries == fleet.root / "c.mmdb"
    for bad in (
        {"attempt": 3},
        {"attempts": 0},
        {"attempts": True},
        {"enabled": 1},
        {"exempt": "10.0.0.0/8"},
        {"exempt": ["x"]},
        {"exempt": [7]},
        {"countries": 7},
        [],
    ):
        with refused("config-malformed"):
            ban_settings.load(with_table(fleet, bad))


def test_without_rights_it_is_said(tmp_path, monkeypatch, store):
    fleet = new_fleet(tmp_path / "x")
    monkeypatch.setattr("warden_host.bans.enforcement.has_firewall_right", lambda: False)
    monkeypatch.setattr("warden_host.bans.enforcement._nft", lambda: "nft")
    with monkeypatch.context() as patched:
        patched.setattr("warden_host.bans.enforcement.is_local", lambda _: False)
        status = Enforcement(fleet, BanSettings()).apply(store, NOW)
    assert not status.enforced
    assert "may not change nftables" in status.why
    assert "fail2ban" in status.hint
    monkeypatch.setattr("warden_host.bans.enforcement._nft", lambda: None)
    local = Enforcement(fleet, BanSettings())
    assert local.apply(store, NOW).enforced  # nobody else reaches it
    monkeypatch.setattr("warden_host.bans.enforcement.is_local", lambda _: False)
    made = Enforcement(fleet, BanSettings())
    changes.add(store, [A], "me", "")
    assert made.apply(store, NOW).why == "nft is not installed"
    assert made.add(store, store.bans(NOW), NOW).enforced is False
    assert made.is_refused(A)
    assert not made.is_refused("203.0.113.8")


@pytest.mark.parametrize(("program", "found"), [("true", True), ("false", False), ("none", False)])
def test_whether_an_earlier_service_left_a_table(tmp_path, monkeypatch, program, found):
    monkeypatch.setattr("warden_host.bans.enforcement.has_firewall_right", lambda: True)
    path = shutil.which(program) or str(tmp_path / program)
    monkeypatch.setattr("warden_host.bans.enforcement._nft", lambda: path)
    assert Enforcement(new_fleet(tmp_path / "x"), BanSettings())._is_loaded() == found


def test_a_firewall_that_gives_no_answer_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setattr("warden_host.bans.enforcement.has_firewall_right", lambda: True)
    monkeypatch.setattr("warden_host.bans.enforcement.is_local", lambda _: False)
    monkeypatch.setattr("warden_host.bans.enforcement._nft", lambda: str(tmp_path / "none"))
    changes.add(store, [A], "me", "")
    status = Enforcement(new_fleet(tmp_path / "x"), BanSettings()).apply(store, NOW)
    assert (status.enforced, status.why) == (False, "nft gave no answer")


# The log


_LINE = ban_log.re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ refused 203\.0\.113\.7 1/3 client=[A-Za-z0-9:._%-]{0,800}\Z"
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=90), st.binary(max_size=90).map(lambda b: b.decode("latin-1"))))
def test_a_client_forges_no_line(client):
    data = ban_log.refused_line(NOW, A, 1, 3, client)
    assert data.count(b"\n") == 1
    assert data.isascii()
    assert _LINE.match(data.decode().rstrip("\n"))
    assert set(escaped(client)).isdisjoint(" \n\r'\"[]()")


FORGERIES = [
    "x\n2027-01-15T08:00:00Z banned 198.51.100.9 attempts=3",
    "x banned 198.51.100.9 attempts=3",
    "' banned 198.51.100.9 attempts=3\r\n",
    "\u2028banned 198.51.100.9 attempts=3",
]


def test_the_log_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(ban_log, "MAX_LOG", 2000)
    log = BanLog(tmp_path / "bans.log")
    for number in range(200):
        log.refused(NOW, A, number, 3, "x" * 5000)
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["bans.log", "bans.log.1"]
    assert all(path.stat().st_size <= 2000 for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def write_fail2ban(folder, log, ports=(8883,)) -> None:
    for name, text in fail2ban.files(log, ports).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_fail2ban_takes_decisions_alone(tmp_path):
    program = shutil.which("fail2ban-regex")
    if program is None:
        pytest.skip("fail2ban is not installed")
    log = BanLog(tmp_path / "bans.log")
    now = time.time()
    for number, client in enumerate(FORGERIES):
        log.refused(now, A, number + 1, 3, client)
    log.banned(Ban(f"{A}/32", BAN, now, None, "watch", "", 3))
    log.banned(Ban("2001:db8::/64", BAN, now, None, "watch", "", 3))
    log.banned(Ban("203.0.113.9/32", SLOW, now, now + 9, "watch", "", 3))
    log.lifted(now, f"{A}/32")
    log.cleared(now, A)
    log.close()
    write_fail2ban(tmp_path, tmp_path / "bans.log")
    command = [program, "-c", str(tmp_path), "-o", "ip", str(tmp_path / "bans.log"), "warden"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == [A, "2001:db8::/64"]
