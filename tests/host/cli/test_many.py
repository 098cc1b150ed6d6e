"""Test orders to many devices through the real command line, with a stand-in for `serve`."""

import errno
import json
import os
import signal
import threading

import pytest
from cli_kit import fails
from process_kit import PATIENCE_S
from warden_host.cli import exit_codes, main, many, targets
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service.control import Caller, ControlServer, Line
from warden_host.stopping import Stop
from warden_host.store.store import Store

DEVICES = [f"D{number}" for number in range(1, 9)]


class Serve:
    """Answers as `warden serve`; refuses the devices in `away`, and notes who was called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.away: set[str] = set()
        self.now = self.most = 0
        self.guard = threading.Lock()
        self.gate: threading.Barrier | None = None
        self.on_call = lambda device: None

    def answer(self, line: Line, caller: Caller) -> None:
        if "device" not in line or line["op"] in ("reload", "dropped"):
            caller.finish({"ok": True, "online": {}})
            return
        device = line["device"]
        with self.guard:
            self.called.append(device)
            self.now += 1
            self.most = max(self.most, self.now)
        if self.gate is not None:
            self.gate.wait(PATIENCE_S)
        self.on_call(device)
        with self.guard:
            self.now -= 1
        if device in self.away:
            caller.finish(HostError("no-session", f"{device} is away"))
        elif line["op"] == "end":
            caller.finish({"ok": True, "wiped": False})
        else:
            reply = {"ok": line.get("command") != "refuse", "error": "door-open"}
            caller.finish({"ok": reply["ok"], "device": device, "command": "x", "reply": reply})


@pytest.fixture
def serve(folder, capsys):
    """A fleet of eight devices that is served; D1 and D2 are in a group, D8 is of a type."""
    for device in DEVICES:
        type_ = "lamp" if device == "D8" else "lock"
        assert main.run(["provision", device, "--sim", "--type", type_]) == 0
    assert main.run(["group", "add", "ground", "D1", "D2"]) == 0
    capsys.readouterr()
    made = Serve()
    with ControlServer(Fleet(folder).control, made.answer):
        yield made


def rows(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        (["--group", "ground"], ["D1", "D2"]),
        (["--type=lamp"], ["D8"]),
        (["--all"], DEVICES),
    ],
)
def test_who_is_reached(serve, capsys, options, reached):
    assert main.run(["send", *options, "ping", "--json"]) == 0
    *lines, last = rows(capsys)
    assert sorted(serve.called) == reached
    assert sorted(line["device"] for line in lines) == reached
    assert {line["result"] for line in lines} == {"ok"}
    assert [line["n"] for line in lines] == list(range(1, len(reached) + 1))
    assert last == {
        "ok": True,
        "done": len(reached),
        "failed": {},
        "waiting": [],
        "left_out": {},
    }


def test_a_stop_and_the_rest_later(serve, folder, capsys):
    serve.away = {"D3"}
    call = ["send", "--all", "set_relay", '{"on": 1}', "--at-once", "1", "--max-failures", "0"]
    assert main.run([*call, "--json"]) == exit_codes.OFFLINE
    last = rows(capsys)[-1]
    assert (last["done"], last["failed"], last["waiting"]) == (
        2,
        {"D3": "no-session"},
        ["D4", "D5", "D6", "D7", "D8"],
    )
    assert last["error"]["code"] == "no-session"
    assert "--resume" in last["error"]["hint"]
    assert serve.called == ["D1", "D2", "D3"]
    serve.away = set()
    assert main.run([*call, "--resume"]) == 0
    assert serve.called == ["D1", "D2", "D3", *DEVICES[2:]]
    out = capsys.readouterr().out
    assert "✓ 3/8 D3\n" in out
    assert "✓ 8 of 8 devices are done" in out
    # It is finished: there is nothing to resume, and a new call begins anew.
    fails(capsys, "not-applicable", *call, "--resume")
    assert list((folder / many.FOLDER).iterdir()) == []
    assert main.run(call) == 0
    assert len(serve.called) == 3 + 6 + 8


def test_another_order_is_not_resumed(serve, capsys):
    serve.away = {"D2"}
    assert main.run(["send", "--group", "ground", "on"]) == exit_codes.OFFLINE
    fails(capsys, "not-applicable", "send", "--group", "ground", "off", "--resume")
    fails(capsys, "not-applicable", "send", "--all", "on", "--resume")


def test_waves_wait_for_each_other(serve, capsys):
    serve.away = {"D1", "D2"}
    call = ["send", "--all", "ping", "--wave", "25%,100%", "--max-failures", "1", "--json"]
    assert main.run(call) == exit_codes.OFFLINE
    assert sorted(serve.called) == ["D1", "D2"]
    assert rows(capsys)[-1]["waiting"] == DEVICES[2:]


def test_several_at_once(serve, capsys):
    serve.gate = threading.Barrier(4)  # passes only when four are there
    assert main.run(["send", "--all", "ping", "--at-once", "4"]) == 0
    assert serve.most == 4


def test_failures_of_several_kinds(serve, capsys):
    serve.away = {"D1"}
    assert main.run(["send", "--group", "ground", "refuse", "--max-failures", "9"]) == 1
    out = capsys.readouterr().out
    assert "D1  no-session: D1 is away" in out
    assert "D2  command-refused: D2 refused" in out
    assert "door-open" in out
    assert "failed: " in out


def test_a_bug_with_one_device_ends_no_other(serve, monkeypatch, capsys):
    from warden_host.cli import send

    real = send._refusal

    def broken(result):
        if result["device"] == "D1":
            raise RuntimeError("secret")
        return real(result)

    monkeypatch.setattr(send, "_refusal", broken)
    assert main.run(["send", "--group", "ground", "ping", "--max-failures", "2", "--json"]) == 1
    text = capsys.readouterr().out
    assert json.loads(text.splitlines()[-1])["failed"] == {"D1": "internal-error"}
    assert "secret" not in text


def test_a_run_that_can_not_be_noted_stops(serve, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(many.Journal, "add", full)
    assert main.run(["send", "--all", "x", "--at-once", "1", "--json"]) == exit_codes.FAILED
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out.splitlines()[-1])
    assert (result["error"]["code"], result["done"]) == ("filesystem", 1)
    assert sorted([*serve.called, *result["waiting"]]) == DEVICES


@pytest.fixture
def signals(monkeypatch):
    """Send this process signals of a number; each returns when the command has noted it."""
    noted = threading.Semaphore(0)
    request = Stop.request

    def noting(self) -> None:
        request(self)
        noted.release()

    def send(number: int, count: int = 1) -> None:
        for _ in range(count):
            os.kill(os.getpid(), number)
            assert noted.acquire(timeout=PATIENCE_S)

    monkeypatch.setattr(Stop, "request", noting)
    return send


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_names_what_is_left(serve, capsys, signals, number):
    serve.on_call = lambda device: signals(number)
    call = ["send", "--all", "ping", "--at-once", "1", "--json"]
    assert main.run(call) == exit_codes.INTERRUPTED
    last = rows(capsys)[-1]
    assert last["error"]["code"] == "interrupted"
    # The one under way was waited for, and no other one begun.
    assert (last["done"], len(last["waiting"])) == (1, 7)
    serve.on_call = lambda device: None
    assert main.run([*call, "--resume"]) == 0
    assert sorted(serve.called) == DEVICES


def test_a_second_ctrl_c_waits_for_none_under_way(serve, capsys, signals):
    answered = threading.Event()

    def stopped_twice(device: str) -> None:
        signals(signal.SIGINT, 2)
        answered.wait(PATIENCE_S)  # not before the command has ended

    serve.on_call = stopped_twice
    call = ["send", "--all", "ping", "--at-once", "1", "--json"]
    assert main.run(call) == exit_codes.INTERRUPTED
    answered.set()
    last = rows(capsys)[-1]
    assert (last["error"]["code"], last["done"], len(last["waiting"])) == ("interrupted", 0, 8)


def test_revoke_and_wipe_many(serve, folder, capsys):
    listed = folder / "stolen.txt"
    listed.write_text("# stolen on Friday\nD1\n\nD2 # the back door\n")
    call = ["revoke", "--file", str(listed), "--json"]
    assert main.run(call) == exit_codes.USAGE  # nobody to ask
    assert "--yes" in rows(capsys)[-1]["error"]["hint"]
    assert main.run([*call, "--yes"]) == 0
    lines = rows(capsys)
    assert [line["revoked"] for line in lines[:-1]] == [True, True]
    with Store(folder / "fleet.db") as store:
        assert [name for name, one in store.endings().items() if one.revoked] == ["D1", "D2"]
    assert main.run(["wipe", "--group", "ground", "--yes"]) == 0
    with Store(folder / "fleet.db") as store:
        assert all(one.wipe for one in store.endings().values())
    capsys.readouterr()
    # What has it already is left out; an order to all leaves revoked devices out.
    assert main.run(["wipe", "--group", "ground", "--yes", "--json"]) == 0
    assert rows(capsys)[-1]["left_out"] == {"to be wiped already": 2}
    assert main.run(["send", "--all", "ping", "--json"]) == 0
    last = rows(capsys)[-1]
    assert (last["done"], last["left_out"]) == (6, {"revoked": 2})
    assert main.run(["unlock", "--all"]) == 0
    assert "nothing to do" in (out := capsys.readouterr().out)
    assert "6 has no gate" in out


def test_rotate_many(serve, monkeypatch, capsys):
    from warden_host.devices import rotation

    given = []
    monkeypatch.setattr(rotation, "rotate", lambda *args: given.append((args[2], args[3])))
    assert main.run(["rotate", "--group", "ground", "--keys", "--password"]) == 0
    assert sorted(given) == [("D1", ("password", "keys")), ("D2", ("password", "keys"))]
    capsys.readouterr()
    fails(capsys, "bad-argument", "rotate", "--all")


def test_bad_input(serve, folder, capsys):
    for code, *arguments in (
        ("bad-argument", "rotate"),
        ("bad-argument", "rotate", "D1", "--all", "--keys"),
        ("bad-argument", "wipe", "--all", "--group", "ground"),
        ("bad-argument", "unlock", "D1", "--resume"),
        ("bad-argument", "send", "--all"),
        ("bad-argument", "send", "--all", "x", "--at-once", "99"),
        ("bad-argument", "send", "--all", "x", "--wave", "50%,10%"),
        ("bad-argument", "send", "--all", "x", "--max-failures", "some"),
        ("bad-argument", "send", "--all", "x", "--forge", "replay"),
        ("group-unknown", "revoke", "--group", "attic"),
        ("device-unknown", "unlock", "--type", "boat"),
        ("bad-name", "unlock", "--type", "a/b"),
        ("bad-list", "wipe", "--file", "nowhere"),
    ):
        fails(capsys, code, *arguments)
    listed = folder / "list"
    for data, words in (
        (b"", "names no device"),
        (b"D1\nD1\n", "line 2: D1 again"),
        (b"D9\n", "line 1: there is no device 'D9'"),
        (b"x\n" * 9, "6 more"),
        (b"\xff", "is no text"),
        (b"#" * (targets.MAX_FILE + 1), "more than"),
    ):
        listed.write_bytes(data)
        assert main.run(["wipe", "--file", str(listed), "--yes"]) == exit_codes.USAGE
        assert words in capsys.readouterr().err
    assert serve.called == []


def test_journals_are_bounded(folder):
    fleet = Fleet(folder)
    for number in range(many._MOST_JOURNALS + 5):
        many.Journal(fleet, [number]).start(set())
    assert len(list((folder / many.FOLDER).iterdir())) == many._MOST_JOURNALS
    # One that another run removes at its end, between being listed and looked at.
    (folder / many.FOLDER / "gone.jsonl").symlink_to(folder / "nothing")
    many.Journal(fleet, [number]).start(set())
    assert not (folder / many.FOLDER / "gone.jsonl").is_symlink()
    last = many.Journal(fleet, [number])
    last.add("D1")
    assert last.read() == {"D1"}
    assert (folder / many.FOLDER).stat().st_mode & 0o77 == 0
