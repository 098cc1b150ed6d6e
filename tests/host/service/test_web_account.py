"""Log-ins and sessions at the console, on the authority's side: limits, bans, what ends what."""

import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
from host_kit import refused
from process_kit import PATIENCE_S
from warden_host.addresses import network_of_client
from warden_host.errors import HostError
from warden_host.service import login_limits, web_passwords
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_account_kit import Account
from web_kit import HASH, PASSWORD

WRONG = "a wrong long phrase"


@pytest.fixture
def account(tmp_path):
    with Store(tmp_path / "fleet.db") as store:
        yield Account(store)


@pytest.fixture
def cheap(account, monkeypatch):
    """Compare passwords without argon2."""
    monkeypatch.setattr(
        account.account._passwords, "_is_password", lambda login, password: password == PASSWORD
    )
    return account


def test_a_right_log_in_counts_for_nothing(cheap):
    for _ in range(30):
        cheap.log_in()


def test_guesses_at_the_same_moment_are_counted(account, monkeypatch):
    seen: list[str] = []

    def meanwhile(login: WebLogin, password: str) -> bool:
        """Stand for a password's check, in which the next log-in comes."""
        seen.append(password)
        account.fails("login", password=f"guess {len(seen)}")
        return False

    monkeypatch.setattr(account.account._passwords, "_is_password", meanwhile)
    monkeypatch.setattr(account.account._passwords._strangers, "enter", nullcontext)
    account.fails("login", password="guess 0")  # noqa: S106
    assert len(seen) == 5


def test_a_stranger_pauses_nobodys_log_in(cheap):
    browser = cheap.log_in()["browser"]
    assert len(browser) <= login_limits.MAX_COOKIE
    codes = [cheap.fails("login", password=WRONG) for _ in range(7)]
    assert codes == ["login-refused"] * 5 + ["login-paused"] * 2
    assert cheap.fails("login") == "login-paused"  # of this address, the right one too
    assert cheap.fails("login", browser=browser) == ""  # the browser that was here before
    assert cheap.fails("login", address="192.0.2.8") == ""  # another address
    assert cheap.fails("login", name="bob") == ""
    # Many addresses: the name is paused for browsers that are not known, and for those alone.
    paused = [cheap.fails("login", password=WRONG, address=f"198.51.100.{n}") for n in range(60)]
    assert paused.count("login-paused") == 15
    assert cheap.fails("login", address="192.0.2.8") == "login-paused"
    assert cheap.fails("login", address="192.0.2.8", browser=browser) == ""
    assert cheap.fails("login", address="192.0.2.8", name="bob") == ""
    cheap.now = 60.0
    assert cheap.fails("login", address="192.0.2.8") == ""


def test_a_known_browser_has_a_count_of_its_own(cheap):
    browser = cheap.log_in()["browser"]
    codes = [cheap.fails("login", password=WRONG, browser=browser) for _ in range(6)]
    assert codes == ["login-refused"] * 5 + ["login-paused"]
    assert cheap.fails("login", browser=browser) == "login-paused"
    assert cheap.fails("login") == ""


@pytest.mark.parametrize("change", ["another's", "garbage", "cut", "password"])
def test_a_browsers_cookie_is_one_operators_and_ends_with_the_password(account, change):
    login = account.store.web_login("alice")
    cookie = login_limits.browser_cookie(login)
    assert login_limits.known_browser(login, cookie) == login_limits.known_browser(login, cookie)
    assert login_limits.known_browser(login, cookie)
    if change == "another's":
        login = account.store.web_login("bob")
    elif change == "password":
        login = replace(login, password="another")  # noqa: S106
    else:
        cookie = "é=" if change == "garbage" else cookie[:-8]
    assert login_limits.known_browser(login, cookie) == ""


def test_one_address_with_many_names_is_paused(cheap):
    names = [f"n{number}" for number in range(22)]
    codes = [cheap.fails("login", name=name) for name in names]
    assert codes == ["login-refused"] * 20 + ["login-paused"] * 2


def test_all_addresses_together_are_limited(cheap):
    codes = [
        cheap.fails("login", name=f"n{number}", address=f"198.51.100.{number}")
        for number in range(102)
    ]
    assert codes == ["login-refused"] * 100 + ["login-paused"] * 2


def test_an_unknown_name_costs_what_a_known_one_costs(account, monkeypatch):
    looked: list[str] = []
    right = account.account._passwords._hasher.verify

    class Hasher:
        def verify(self, hashed: str, password: str) -> bool:
            looked.append(hashed)
            return right(hashed, password)

    monkeypatch.setattr(account.account._passwords, "_hasher", Hasher())
    assert account.fails("login", name="mallory") == account.fails("login", password=WRONG)
    assert [hashed.split("$")[1:4] for hashed in looked][0] == HASH.split("$")[1:4]
    assert len(looked) == 2


def test_a_flood_of_log_ins_takes_bounded_memory():
    room = web_passwords.HashRoom()
    inside, most, turned = [0], [0], [0]
    ready, go_on = threading.Barrier(2), threading.Event()

    def log_in(first: bool) -> None:
        try:
            with room.enter():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                if first:
                    ready.wait(PATIENCE_S)
                    go_on.wait(PATIENCE_S)
                inside[0] -= 1
        except HostError as error:
            assert error.code == "login-paused"
            turned[0] += 1

    threads = [threading.Thread(target=log_in, args=(True,))]
    threads[0].start()
    ready.wait(PATIENCE_S)
    for _ in range(20):
        threads.append(threading.Thread(target=log_in, args=(False,)))
        threads[-1].start()
    while turned[0] < 12:
        threading.Event().wait(0.001)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (most[0], turned[0]) == (1, 12)


def test_nobody_waits_for_ever_for_a_check(monkeypatch):
    monkeypatch.setattr(web_passwords, "_WAIT_S", 0.0)
    room = web_passwords.HashRoom()
    with room.enter():
        with refused("login-paused"), room.enter():
            pass
    with room.enter():
        pass


def test_a_wrong_log_in_counts_against_its_address(cheap):
    cheap.fails("login", password=WRONG, address="::ffff:192.0.2.9")
    cheap.fails("login", password=WRONG, address="fe80::1%eth0")
    cheap.fails("login", password=WRONG, address="?")
    cheap.log_in(address="192.0.2.10")
    told = [(one.kind.value, one.address, one.client, one.sure) for one in cheap.bans.attempts]
    assert told == [
        ("refused", "192.0.2.9", "console", True),
        ("refused", "fe80::1", "console", True),
        ("logged-in", "192.0.2.10", "operator:alice", True),
    ]
    assert all(one.number < 0 for one in cheap.bans.attempts)
    assert [one.code for one in cheap.shown] == ["login-refused"] * 3


def test_a_paused_log_in_counts_against_nobody(cheap):
    for _ in range(9):
        cheap.fails("login", password=WRONG)
    assert len(cheap.bans.attempts) == 5


def test_a_banned_address_is_refused_before_a_password_is_looked_at(cheap, monkeypatch):
    monkeypatch.setattr(cheap.account._passwords, "check", None)
    cheap.bans.out.add("192.0.2.7")
    for op in ("passkey-ask", "passkey-login", "passkey-code", "passkey-add-by-code"):
        assert cheap.fails(op) == "address-refused"
    assert cheap.fails("login") == "address-refused"
    assert cheap.ask("admit") == {"admitted": False}
    assert cheap.ask("admit", address="192.0.2.8") == {"admitted": True}
    assert cheap.ask("admit", address="::ffff:192.0.2.7") == {"admitted": False}
    assert cheap.bans.attempts == []


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::7%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("?", "?"),
    ],
)
def test_one_ipv6_network_counts_as_one_address(address, counted):
    assert network_of_client(address, neighbours_apart=False) == counted


def test_guessing_is_paused_and_goes_on():
    now = [0.0]
    attempts = login_limits.Attempts(2, 0.5)
    for _ in range(2):
        assert attempts.allows("alice", now[0])
        attempts.spend("alice", now[0])
    assert not attempts.allows("alice", now[0]) and attempts.allows("bob", now[0])
    now[0] = 2.0
    assert attempts.allows("alice", now[0])
    for number in range(5000):
        attempts.spend(f"{number}", now[0])
    assert len(attempts._left) <= 1024
