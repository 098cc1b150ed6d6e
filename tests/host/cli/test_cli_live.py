"""Test `serve`, `run`, `send` and `watch` as processes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import process_kit
import pytest
from cli_kit import fake
from warden_host import childprocess, filelock, jsontext
from warden_host.cli import main, screen, send
from warden_host.engine.events import FleetEvent

REPO = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "warden_host.cli"]


def start(*arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    environment = os.environ | {"PYTHONPATH": str(REPO / "tools")}
    return process_kit.child([*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE)


def gone(pid: int) -> bool:
    end = time.monotonic() + process_kit.PATIENCE_S
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":  # ended, and only its new parent has not asked yet
            return True
        time.sleep(0.05)
    return False


def test_a_device_runs_once(folder, capsys):
    assert main.run(["provision", "D1", "--sim"]) == 0
    capsys.readouterr()
    lock = filelock.try_lock(folder / "sim" / "D1.lock")
    with lock:
        lock.file.write("4711")
        lock.file.flush()
        assert main.run(["run", "D1"]) == 1
        err = capsys.readouterr().err
        assert "device-running" in err
        assert "pid 4711" in err
        assert "stop the other" in err
    assert main.run(["run", "D1", "--once"]) == 0
    assert main.run(["run", "D1", "--once"]) == 0  # it was given back


def test_run_shows_lines_for_people_and_for_scripts(folder, capsys, monkeypatch):
    assert main.run(["provision", "D1", "--sim"]) == 0
    fake(folder.parent, monkeypatch, "print('relay 1  '); print(); sys.exit(1)")
    capsys.readouterr()
    assert main.run(["run", "D1", "--once"]) == 1
    assert capsys.readouterr().out == "D1 relay 1\nD1\n"
    assert main.run(["run", "D1", "--once", "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"device": "D1", "line": "relay 1"}, {"device": "D1", "line": ""}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_run_in_order(folder, capsys, monkeypatch, number):
    assert main.run(["provision", "D1", "--sim"]) == 0
    answer = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    fake(folder.parent, monkeypatch, answer)
    with start("run", "D1") as running:
        pid = int(running.stdout.readline().split()[1])
        running.send_signal(number)
        assert running.stdout.read().endswith("✓ stopped\n")
        assert running.wait(process_kit.PATIENCE_S) == 0
    assert gone(pid)


needs_setpriv = pytest.mark.skipif(childprocess.tie_to_us(["x"]) == ["x"], reason="needs setpriv")


@needs_setpriv
def test_a_killed_run_leaves_no_device(folder, capsys, monkeypatch):
    assert main.run(["provision", "D1", "--sim"]) == 0
    answer = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    fake(folder.parent, monkeypatch, answer)
    with start("run", "D1") as running:
        pid = int(running.stdout.readline().split()[1])
        running.kill()
        assert gone(pid)


@needs_setpriv
def test_a_killed_serve_leaves_no_broker(folder):
    with start("serve", "--json") as server:
        first = json.loads(server.stdout.readline())
        assert (first["text"], first["kind"]) == ("serving", "notice")
        assert first["time"] > 0
        pid = int((folder / "broker" / "lock").read_text())
        with start("watch", "--json") as watcher:
            assert json.loads(watcher.stdout.readline())["time"] > 0
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(process_kit.PATIENCE_S) == 0
        server.kill()
        assert gone(pid)
    with start("serve", "--json") as server:
        assert json.loads(server.stdout.readline())["text"] == "serving"


def test_only_the_main_thread_ties_a_child():
    import threading

    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(childprocess.tie_to_us(["x"])))
    thread.start()
    thread.join()
    assert found == [["x"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "a list where an object"),
        ("1", "a number where an object"),
        ("true", "true or false where"),
        ("{on: 1}", "not valid JSON"),
    ],
)
def test_bad_json_shows_how_to_write_it(folder, capsys, text, words):
    assert main.run(["send", "D1", "x", text]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert """'{"on": 1}'""" in err


def test_json_that_the_shell_took_apart(folder, capsys):
    assert main.run(["send", "D1", "x", "{on:", "1}"]) == 2
    err = capsys.readouterr().err
    assert "single quotes" in err
    assert main.run(["send"]) == 2
    assert "single quotes" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--timeout", "--ttl"])
@pytest.mark.parametrize("value", ["0", "9999999"])
def test_bounds_name_their_option(folder, capsys, option, value):
    assert main.run(["send", "D1", "x", option, value]) == 2
    err = capsys.readouterr().err
    assert option in err
    assert "range" in err


def answered(error: str, **more) -> str:
    result = {"ok": False, "device": "D1", "command": "x", "reply": {"error": error}}
    return send.outcome(result | more).plain


def test_a_refusal_explains_itself_and_hints():
    first, second = answered("command-failed").split("\n")
    assert first.startswith("✗ D1 refused x: command-failed  the command's handler raised")
    assert "  → look at the device's application" in second
    may = answered("not-allowed", app="home", allowed=["set_relay", "get_relay"])
    assert "home may: set_relay, get_relay" in may
    assert "`warden unlock DEVICE`" in answered("gate-shut")
    assert "not of the form" in answered("bad-body", command="wipe")
    assert "\x1b" not in answered("\x1b[31m")


@pytest.mark.parametrize("code", ["door-open", "bad-body", "wrong-application", "vault-damaged"])
def test_a_reason_of_the_application_is_not_taken_for_wardens(code):
    """Warden answers an application's command with eight codes; no other is explained as its
    own."""
    first, second = answered(code).split("\n")
    assert first == (
        f"✗ D1 refused x: {code}  a reason of the device's application, from the command's handler"
    )
    assert "the application's own documentation" in second


def test_people_see_no_float_noise():
    assert jsontext.brief({"c": [22.240000000000002, 1700000000.25, 1e-7, True, 3]}) == (
        '{"c": [22.24, 1700000000.25, 1e-07, true, 3]}'
    )
    assert jsontext.brief({"c": float("nan")}) == '{"c": "nan"}'
    assert jsontext.dump(22.240000000000002) == "22.240000000000002"


def test_a_command_and_its_reply_are_one_story():
    given = FleetEvent("command", "D1", "home", "set_relay", id=7, body={"on": 1})
    answer = FleetEvent("reply", "D1", "home", "set_relay", id=7, body={"ok": True})
    assert 'set_relay 7 {"on": 1}  home' in screen.line(given).plain
    assert 'reply to set_relay 7 {"ok": true}' in screen.line(answer).plain
