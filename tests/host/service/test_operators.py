"""Operators: roles at the operators' socket, and the audit log of both sockets."""

import os
import socket
import stat
import threading
import time
from types import SimpleNamespace

import pytest
from host_kit import new_fleet, refused
from process_kit import PATIENCE_S
from warden_host import control_client
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.names import AUTHORITY_COMMANDS
from warden_host.service import control, operators
from warden_host.service.control import Caller
from warden_host.service.operators import MOST_OF_A_USER, AuditedSockets, Rights
from warden_host.service.run import _Dispatcher, serving
from warden_host.store.operators import ROLES, Operator
from warden_host.store.store import Store

UID = 4711
# Operation → the roles of which one is enough; none: for the owner's socket alone.
ALLOWED = {
    "watch": ROLES,
    "online": ROLES,
    "devices": ROLES,
    "rollout-watch": ROLES,
    "bans": ROLES,
    "ban": ("command", "own"),
    "lift": ("command", "own"),
    "address-list": ("own",),
    "activate-list": ("own",),
    "send": ("command", "own"),
    "unlock": ("command", "own"),
    "clear": ("command", "own"),
    "codes": ("command", "own"),
    "rollout": ("update", "own"),
    "rollout-stop": ("update", "own"),
    "rollout-resume": ("update", "own"),
    "wifi": ("own",),
    "policy": ("own",),
    "develop": ("own",),
    "clock": ("own",),
    **dict.fromkeys(operators.PAGES, ROLES),
    "code": ("command", "own"),
    "group": ("update", "own"),
    "alarms-test": ("own",),
}


class Sockets(AuditedSockets):
    """With a store, and with requests that are kept instead of carried out."""

    def __init__(self, store: Store) -> None:
        self.done: list[str] = []
        self.shown: list[tuple[str, str]] = []
        super().__init__(self._keep, lambda *each: self.shown.append(each))
        engine = SimpleNamespace(store=store)
        ask = lambda question: question(engine)  # noqa: E731
        self.authority = SimpleNamespace(ask=ask, do=ask)  # type: ignore[assignment]

    def _keep(self, line: dict, caller: Caller) -> None:
        self.done.append(line["op"])
        caller.finish(line.get("result", {"ok": True}))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        yield opened


def rows(store) -> list[tuple[str, str, str]]:
    return [(row.who, row.action, row.outcome) for row in store.audit_rows()]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_allows_its_operations_and_no_other(store, role):
    sockets = Sockets(store)
    store.put_operator(Operator("alice", UID, "a", (role,)))
    for operation in _Dispatcher().operations.keys() | ALLOWED.keys() | {"unheard-of", ""}:
        del sockets.done[:]
        if role in ALLOWED.get(operation, ()):
            sockets.handle_operator({"op": operation}, Caller(UID))
            assert sockets.done == [operation]
            continue
        with refused("role-missing"):
            sockets.handle_operator({"op": operation}, Caller(UID))
        assert sockets.done == []


def test_a_forgery_is_for_those_who_own_the_fleet():
    for roles, allowed in ((("command", "update"), False), (("own",), True)):
        rights = Rights("alice", roles)
        rights.check("send", {"forge": ""}) if "command" in roles else None
        if allowed:
            rights.check("send", {"forge": "replay"})
            continue
        with refused("role-missing"):
            rights.check("send", {"forge": "replay"})


@pytest.mark.parametrize("forge", ["", "replay"])
def test_the_authoritys_own_commands_take_no_lesser_role_by_send(forge):
    own, lesser = {"wifi", "policy", "develop", "warden_clock"}, {"unlock", "warden_unlock"}
    for command in AUTHORITY_COMMANDS | own | lesser | {"warden_other", "warden_watch"}:
        for role in ROLES:
            line = {"command": command, "forge": forge}
            allowed = role == "own" and (command in own or command in lesser)
            if allowed or (role, forge) == ("command", "") and command in lesser:
                Rights("alice", (role,)).check("send", line)
                continue
            with refused("role-missing"):
                Rights("alice", (role,)).check("send", line)


def test_a_user_who_is_no_operator_reaches_nothing_and_fills_no_log(store):
    sockets = Sockets(store)
    for _ in range(200):
        with refused("operator-unknown"):
            sockets.handle_operator({"op": "online"}, Caller(UID))
    assert sockets.done == []
    assert 1 <= len(rows(store)) <= 25
    assert rows(store)[0] == (f"user {UID}", "?", "operator-unknown")
    assert sockets.shown[0] == ("operator-unknown", f"refused user {UID}")


def test_an_action_is_recorded_before_it_is_done_and_its_outcome_after(store):
    sockets = Sockets(store)
    store.put_operator(Operator("alice", UID, "a", ("own",)))
    seen = []
    sockets._handle = lambda _, caller: (seen.append(rows(store)), caller.finish({"ok": True}))
    line = {"op": "send", "device": "D1", "command": "set_code", "args": {"pin": 290871}}
    sockets.handle_operator(line, Caller(UID))
    action = "send device=D1 command=set_code args=pin"
    assert seen == [[(f"alice {UID}", action, "")]]
    assert rows(store) == [(f"alice {UID}", action, ""), (f"alice {UID}", action, "ok")]
    # A password passes on, and is in no row.
    secret = {"op": "wifi", "device": "D1", "change": {"add": ["garden", "correct horse"]}}
    sockets.handle_operator(secret, Caller(UID))
    assert "correct horse" not in str(rows(store))


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (HostError("no-session"), "no-session"),
        ({"ok": False, "reply": {"error": "not-allowed"}}, "not-allowed"),
        ({"ok": False, "verdict": "obeyed"}, "obeyed"),
        ({"ok": False, "reply": {"error": "a\nb"}}, "unreadable"),
    ],
)
def test_the_outcome_is_a_code(store, result, outcome):
    sockets = Sockets(store)
    sockets.handle_owner({"op": "send", "result": result}, Caller(os.getuid()))
    who = f"owner {operators.user_name(os.getuid())}"
    assert [row[::2] for row in rows(store)] == [(who, ""), (who, outcome)]


def test_nothing_is_done_that_can_not_be_recorded(store):
    sockets = Sockets(store)
    store._db.execute("DROP TABLE audit")
    with refused("database-damaged"):
        sockets.handle_owner({"op": "unlock", "device": "D1"}, Caller(0))
    assert sockets.done == []


def test_every_operation_has_a_name_in_the_log():
    for operation in _Dispatcher().operations.keys() | ALLOWED.keys():
        assert operators.describe(operation, {}) == operation.replace("_", "-")


def test_a_look_is_not_recorded(store):
    sockets = Sockets(store)
    for operation in ("watch", "online"):
        sockets.handle_owner({"op": operation}, Caller(0))
    assert rows(store) == []


def test_both_sockets_of_a_served_fleet(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "_READ_S", PATIENCE_S)  # of calls that are held and say nothing
    before = set(threading.enumerate())
    fleet = new_fleet(tmp_path)
    path = tmp_path / "open" / "home.sock"
    path.parent.mkdir()
    with serving(fleet, operators=path) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with refused("operator-unknown"):
            control_client.call(path, {"op": "online"})
        with Store(fleet.database) as store:
            store.put_operator(Operator("me", os.getuid(), "me", ("look",)))
        assert control_client.call(path, {"op": "online"})["online"] == {}
        with refused("role-missing"):
            control_client.call(path, {"op": "unlock", "device": "D1"})
        watching = control_client.stream(path, {"op": "watch"}, PATIENCE_S)
        assert next(watching)["text"] == "watching"
        wait_for_callers(1, before)  # those of the answered calls would take places below
        held = [_connected(path) for _ in range(MOST_OF_A_USER - 1)]
        with refused("not-serving"):
            control_client.call(path, {"op": "online"})  # too many of one user
        assert control_client.call(fleet.control, {"op": "online"})["online"] == {}
        for each in held:
            each.close()
        service.authority._announce(FleetEvent("notice", text="for both"))
        assert next(line for line in watching if line["text"] == "for both")
        # Who is no operator any more hears nothing any more.
        assert main.run(["--fleet", str(fleet.root), "operator", "remove", "me"]) == 0
        service.authority._announce(FleetEvent("notice", text="for the others"))
        assert "for the others" not in [line["text"] for line in watching]
        with refused("bad-argument"):
            control.check_path(path)  # it is in use
    assert not path.exists()
    with Store(fleet.database) as store:
        assert ("me", "role-missing") in [(row[0].split()[0], row[2]) for row in rows(store)]


def wait_for_callers(most: int, before: set[threading.Thread]) -> None:
    """Wait until so many calls are open: one outlasts its answer by a moment.

    before: threads that are none of this test's.
    """
    end = time.monotonic() + PATIENCE_S
    while sum(one.name == "warden-caller" for one in set(threading.enumerate()) - before) > most:
        assert time.monotonic() < end
        time.sleep(0.01)


def _connected(path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))
    return made


def test_an_operator_who_calls_without_a_pause_is_told_so(store):
    sockets = Sockets(store)
    store.put_operator(Operator("alice", UID, "a", ("command",)))
    with refused("not-serving"):
        for _ in range(5000):
            sockets.handle_operator({"op": "send"}, Caller(UID))
    assert len(rows(store)) == 2 * len(sockets.done) <= 2 * 1000
    sockets.handle_owner({"op": "send"}, Caller(0))


def test_a_call_that_lasts_has_an_outcome(store):
    sockets = Sockets(store)
    sockets._handle = lambda _, caller: (caller.note("ok"), caller.finish({"ok": False}))
    sockets.handle_owner({"op": "codes"}, Caller(0))
    assert [row[2] for row in rows(store)] == ["", "ok"]


def test_a_path_that_can_be_no_socket(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("kept")
    for path in (file, tmp_path / "missing" / "x.sock"):
        with refused("bad-argument"):
            control.check_path(path)
    assert file.read_text() == "kept"
