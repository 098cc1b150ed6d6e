"""Sessions at the console: what begins, ends and lists them."""

import pytest
from host_kit import refused
from warden_host.service import kept_sessions, web_sessions
from warden_host.service.control import Caller
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_account_kit import Account
from web_kit import HASH, SECRET


@pytest.fixture
def account(tmp_path):
    with Store(tmp_path / "fleet.db") as store:
        yield Account(store)


def test_sessions_end_by_age(account):
    sessions = account.sessions
    idle, used = account.begin(), account.begin()
    while account.now <= web_sessions.LIFE_S:
        assert sessions.rights(used)[0].name == "alice"
        if account.now <= web_sessions.IDLE_S:  # what an open page asks for is no click
            assert sessions.rights(idle, passive=True)[0].name == "alice"
        else:
            assert sessions.is_over(idle, "alice")
        account.now += web_sessions.IDLE_S / 2
    for token in (used, idle, None, 7, ""):
        assert sessions.is_over(token, "alice")
        with refused("session-ended"):
            sessions.rights(token)


def test_sessions_are_bounded_and_one_operator_takes_a_part(account, monkeypatch):
    monkeypatch.setattr(web_sessions, "MOST", 6)
    monkeypatch.setattr(web_sessions, "MOST_OF_AN_OPERATOR", 4)
    other, *own = account.begin("bob"), *(account.begin() for _ in range(9))
    over = [account.sessions.is_over(token, "alice") for token in own]
    assert over == [True] * 5 + [False] * 4
    assert not account.sessions.is_over(other, "bob")
    monkeypatch.setattr(web_sessions, "MOST_OF_AN_OPERATOR", 100)
    for _ in range(6):
        account.begin()
    assert account.sessions.is_over(other, "bob")


@pytest.mark.parametrize(
    "after", [None, WebLogin("alice", "another", SECRET), WebLogin("alice", HASH, bytes(20))]
)
def test_a_session_ends_with_the_log_in_that_it_began_with(account, after):
    """Also where no message of the change comes, or it came while the log-in was looked at."""
    token = account.begin()
    account.store.put_web_login(WebLogin("alice", HASH, SECRET, step=7))
    assert account.sessions.rights(token)[0].name == "alice"
    account.store.put_web_login(after) if after else account.store.remove_web_login("alice")
    with refused("session-ended"):
        account.sessions.rights(token)
    assert account.sessions.is_over(token, "alice")


def test_a_session_is_its_operators_alone(account):
    token = account.begin()
    assert not account.sessions.is_over(token, "alice")
    assert account.sessions.is_over(token, "bob")


def test_what_is_no_session_is_not_fresh(account):
    assert account.sessions.is_fresh(account.begin())
    for token in ("x", "", None, 7):
        assert not account.sessions.is_fresh(token)


def test_a_session_ends_with_its_operator(account):
    token = account.begin()
    account.store.remove_operator("alice")
    with refused("session-ended"):
        account.sessions.rights(token)


def test_an_operator_lists_and_ends_sessions(account):
    first, second, third = (account.log_in()["session"] for _ in range(3))
    other = account.log_in("bob")["session"]
    shown = account.ask("account", session=second)["sessions"]
    assert [(one["own"], one["how"], one["address"]) for one in shown] == [
        (False, "password", "192.0.2.7"),
        (True, "password", "192.0.2.7"),
        (False, "password", "192.0.2.7"),
    ]
    (of_bob,) = account.ask("account", session=other)["sessions"]
    assert account.ask("sessions-end", session=second, id=of_bob["id"])["ended"] == 0
    assert account.ask("sessions-end", session=second, id=shown[0]["id"])["ended"] == 1
    assert account.fails("whoami", session=third) == "session-ended"
    assert account.ask("sessions-end", session=second)["ended"] == 1
    assert account.fails("whoami", session=first) == "session-ended"
    assert account.ask("whoami", session=second)["operator"] == "alice"
    assert account.ask("whoami", session=other)["operator"] == "bob"
    last = account.store.latest_audit_rows(1)[0]
    assert (last.who, last.action, last.outcome) == ("alice console", "sessions end 1", "ok")


def test_a_live_page_ends_with_the_roles_that_it_began_with(account):
    token = account.begin()
    caller = Caller()
    account.requests.handle({"op": "watch", "session": token}, caller)
    account.sessions.note_roles(account.store.operators())
    assert caller.ends_with is not None and not caller.ends_with()
    account.store.put_operator(Operator("alice", None, "", ("command",)))
    account.sessions.note_roles(account.store.operators())
    assert caller.ends_with()
    assert not account.sessions.is_over(token, "alice")  # the session itself goes on
    assert caller.who == "alice console"


def test_one_operator_takes_a_part_of_the_streams(account):
    line = {"op": "watch", "session": account.begin()}
    callers = [Caller() for _ in range(16)]
    for caller in callers:
        account.requests.handle(dict(line), caller)
    with refused("not-serving"):
        account.requests.handle(dict(line), Caller())
    callers[3].gone.set()
    account.requests.handle(dict(line), Caller())


def test_sessions_stand_over_a_restart(account, tmp_path, monkeypatch):
    token, ended = account.begin(), account.begin()
    account.sessions.log_out(ended)
    kept_sessions.put(tmp_path, account.sessions.export())
    path = tmp_path / kept_sessions.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.read_bytes()
    assert token.encode() not in written

    def restart():
        account.sessions.end("alice")
        account.sessions.restore(kept_sessions.pop(tmp_path))

    restart()
    assert account.sessions.rights(token)[0].name == "alice"
    with refused("session-ended"):
        account.sessions.rights(ended)
    restart()  # what was taken is gone: a session that ended since does not come back
    with refused("session-ended"):
        account.sessions.rights(token)

    for wrong in (
        b"",
        b"[" * 99,
        b'{"boot": 1, "sessions": 2}',
        written.replace(b'"boot"', b'"b"'),
    ):
        path.write_bytes(wrong)
        assert kept_sessions.pop(tmp_path) == []
    path.write_bytes(written + b" " * kept_sessions.MOST_BYTES)
    assert kept_sessions.pop(tmp_path) == []
    (tmp_path / "other").write_bytes(written)
    path.symlink_to(tmp_path / "other")
    assert kept_sessions.pop(tmp_path) == []
    path.unlink()
    monkeypatch.setattr(kept_sessions, "_BOOT", tmp_path / "none")  # a machine that does not tell
    path.write_bytes(written)
    assert kept_sessions.pop(tmp_path) == []


def test_a_kept_session_does_not_outlast_its_log_in(account):
    token = account.begin()
    rows = account.sessions.export()
    account.sessions.end("alice")
    account.sessions.restore([[], None, 7, [*rows[0][:8], "x"], *rows])
    assert account.sessions.rights(token)[0].name == "alice"
    account.sessions.end("alice")
    account.store.put_web_login(WebLogin("alice", "another", SECRET))
    account.sessions.restore(rows)
    with refused("session-ended"):
        account.sessions.rights(token)
