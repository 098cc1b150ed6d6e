"""Passkeys at the console, by the requests of a browser: registered, used, removed."""

import pytest
from host_kit import refused
from passkey_kit import Authenticator
from warden_host.service import web_sessions
from warden_host.service.passkeys import code_hash
from warden_host.store.store import Store
from web_account_kit import CODE, ORIGIN, Account
from web_kit import PASSWORD


@pytest.fixture
def account(tmp_path):
    with Store(tmp_path / "fleet.db") as store:
        yield Account(store)


def register(account, own: Authenticator, token: str) -> None:
    options = account.ask("passkey-new", session=token)["options"]
    credential = own.create(options, ORIGIN)
    account.ask("passkey-add", session=token, label="phone", credential=credential)


def by_passkey(account, own: Authenticator, **lies) -> dict:
    options = account.ask("passkey-ask", bound="x")["options"]
    return account.ask("passkey-login", bound="x", credential=own.get(options, ORIGIN, **lies))


def test_a_passkey_from_registration_to_removal(account):
    own, token = Authenticator(), account.begin()
    register(account, own, token)
    session = by_passkey(account, own)["session"]
    assert account.ask("whoami", session=session)["operator"] == "alice"
    account.log_in("bob")
    (shown,) = account.ask("account", session=session)["passkeys"]
    assert (shown["label"], shown["cloned"]) == ("phone", False)
    of_bob = account.begin("bob")
    assert account.fails("passkey-remove", session=of_bob, id=shown["id"]) == "not-applicable"
    account.ask("passkey-remove", session=token, id=shown["id"])
    assert account.fails("whoami", session=session) == "session-ended"
    assert account.ask("whoami", session=token)["operator"] == "alice"
    assert account.fails("passkey-remove", session=token, id="xyz") == "control-malformed"
    actions = [row.action for row in account.store.audit_rows() if row.who == "alice console"]
    assert actions[:2] == ["passkey add phone", "login by passkey phone from 192.0.2.7"]
    assert actions[-1].startswith("passkey remove ")


def test_a_change_of_the_own_log_in_takes_a_log_in_of_late(account):
    """Each that there is: a browser that was left open adds no way in, and takes none away."""
    own, token, other = Authenticator(), account.begin(), account.begin()
    register(account, own, token)
    options = account.ask("passkey-new", session=token)["options"]
    account.now = 100.0
    credential = Authenticator().create(options, ORIGIN)
    account.now = web_sessions.FRESH_S
    shown = account.ask("account", session=token)
    assert shown["fresh"]
    account.now += 1
    line = {"session": token, "credential": credential, "id": shown["passkeys"][0]["id"]}
    changes = set(account.account.own) - {"account"}
    assert {account.fails(operation, **line) for operation in changes} == {"login-stale"}
    assert {"passkey-remove", "passkey-add", "sessions-end"} < changes
    now = account.ask("account", session=token)
    assert not now["fresh"] and len(now["sessions"]) == len(shown["sessions"]) == 2
    assert now["passkeys"] == shown["passkeys"]
    assert account.fails("passkey-remove", **line | {"session": account.begin()}) == ""
    assert account.ask("whoami", session=other)["operator"] == "alice"


def test_a_cloned_passkey_ends_its_sessions_and_is_an_alarm(account):
    own, token = Authenticator(), account.begin()
    register(account, own, token)
    session = by_passkey(account, own, count=9)["session"]
    with refused("passkey-cloned"):
        by_passkey(account, own, count=3)
    assert account.fails("whoami", session=session) == "session-ended"
    assert [one.code for one in account.shown] == ["passkey-cloned"]
    assert account.store.latest_audit_rows(1)[0].outcome == "passkey-cloned"


def test_passkeys_are_not_paused_by_wrong_passwords(account):
    own = Authenticator()
    register(account, own, account.begin())
    for _ in range(9):
        account.fails("login", password="a wrong long phrase")
    assert by_passkey(account, own)["ok"]


def test_guessing_at_passkeys_is_paused_for_the_address(account):
    codes = [account.fails("passkey-code", name="alice", code="A" * 16) for _ in range(31)]
    assert codes == ["login-refused"] * 30 + ["login-paused"]
    assert account.fails("passkey-login", bound="x", credential={}) == "login-paused"
    other = "192.0.2.8"
    assert account.fails("passkey-login", bound="x", credential={}, address=other) == (
        "login-refused"
    )
    assert len(account.bans.attempts) == 31


def test_an_operator_without_a_password_registers_by_code(account):
    account.store.remove_web_login("alice")
    account.store.put_passkey_code("alice", code_hash("AAAABBBBCCCCDDDD"), 1000.0)
    own, line = Authenticator(), {"name": "alice", "code": "aaaa-bbbb-cccc-dddd"}
    options = account.ask("passkey-code", **line)["options"]
    credential = own.create(options, ORIGIN)
    assert account.fails("passkey-add-by-code", **line | {"name": "bob"}) == "login-refused"
    account.ask("passkey-add-by-code", **line, label="key", credential=credential)
    assert account.fails("passkey-code", **line) == "login-refused"
    assert by_passkey(account, own)["ok"]
    with refused("login-refused"):
        account.ask("login", name="alice", password=PASSWORD, code=CODE)
