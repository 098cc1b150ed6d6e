"""Test the command line: exit codes, errors without tracebacks, JSON for scripts."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cli_kit import fails, fake, said
from process_kit import PATIENCE_S
from warden_host.cli import main
from warden_host.errors import HostError
from warden_host.fleet import device_tree
from warden_host.store.store import Store

REPO = Path(__file__).resolve().parents[3]


def test_every_command_has_help_with_an_example(capsys):
    def visit(commands, path):
        for name, command in commands.items():
            if hasattr(command, "commands"):
                visit(command.commands, [*path, name])
                continue
            assert main.run([*path, name, "--help"]) == 0
            text = capsys.readouterr().out
            assert "Example" in text, name
            assert "warden " + " ".join([*path, name]) in text

    commands = {name: main.command(name) for name in main.COMMANDS}
    visit(commands, [])
    assert main.run(["--help"]) == 0
    listed = capsys.readouterr().out
    for name, command in commands.items():
        assert command.name == name
        summary = main.COMMANDS[name][1]
        assert command.get_short_help_str(99) == summary
        assert f"\n  {name} " in listed
        assert f" {summary}\n" in listed
    assert main.run(["--version"]) == 0


def test_wrong_usage_is_2(folder, capsys):
    assert main.run(["nosuch"]) == 2
    assert main.run(["provision", "D1"]) == 2
    assert "--port, --sim and --bundle" in capsys.readouterr().err
    assert main.run(["send"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_init_twice_and_no_fleet(folder, capsys, monkeypatch):
    fails(capsys, "fleet-exists", "init", str(folder))
    monkeypatch.setenv("WARDEN_FLEET", str(folder / "none"))
    fails(capsys, "fleet-missing", "devices")


def test_provision_writes_the_device_and_stores_no_password(folder, capsys):
    assert main.run(["app", "add", "lights", "--type", "relay", "--command", "set_relay"]) == 0
    assert main.run(["provision", "D1", "--sim", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["apps"] == ["authority", "lights"]
    root = folder / "sim" / "D1" / "root"
    for part in (
        "boot.py",
        "main.py",
        "lib/board.py",
        "lib/umqtt/simple.py",
        "lib/warden/errors.py",
    ):
        assert (root / part).is_file(), part
    import cbor2

    data = (root / "bundle").read_bytes()
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    bundle = cbor2.loads(data[4:])
    assert data[4:] == cbor2.dumps(bundle, canonical=True)
    assert bundle["v"] == 1
    assert bundle["identity"] == ["relay", "D1"]
    host, _port, user, password, client_id = bundle["broker"]
    assert (host, user, client_id) == ("127.0.0.1", b"d:relay:D1", "d:relay:D1")
    assert len(password.decode()) == 32
    cas, pins = bundle["trust"]
    assert len(cas) == 1
    assert len(set(pins)) == 2
    assert [(name, authority, commands) for name, _, authority, commands in bundle["apps"]] == [
        ("authority", True, ["set_relay", "get_relay"]),
        ("lights", False, ["set_relay"]),
    ]
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "bundle":
            assert password not in path.read_bytes(), path


def test_a_device_is_not_provisioned_twice_by_accident(folder, capsys):
    assert main.run(["provision", "D1", "--sim"]) == 0
    with Store(folder / "fleet.db") as store:
        before = store.device("D1")
    capsys.readouterr()
    fails(capsys, "device-exists", "provision", "D1", "--sim")
    with Store(folder / "fleet.db") as store:
        assert store.device("D1") == before
    assert main.run(["provision", "D1", "--sim", "--again", "--type", "lamp", "--plain"]) == 0
    with Store(folder / "fleet.db") as store:
        after = store.device("D1")
    assert (after.type, after.mode) == ("lamp", "plain")
    assert after.pairs[0].k != before.pairs[0].k
    assert after.pairs[0].uid != before.pairs[0].uid
    registry = (folder / "broker" / "dynamic-security.json").read_text()
    assert "d:lamp:D1" in registry
    assert "d:relay:D1" not in registry


@pytest.mark.parametrize(
    "answer",
    [
        'print(\'{"ok": false, "error": "bad-bundle"}\')',
        "print('garbage')",
        "print('[]')",
        "print('')",
        "print('{\"ok\": 1}')",
        "print('{\"ok\": true}'); sys.exit(1)",
        "raise SystemExit('no')",
    ],
)
def test_a_device_that_refuses_its_bundle_is_not_registered(folder, capsys, monkeypatch, answer):
    fake(folder.parent, monkeypatch, answer)
    fails(capsys, "provision-failed", "provision", "D1", "--sim")
    with Store(folder / "fleet.db") as store:
        assert store.devices() == []
    assert "d:relay:D1" not in (folder / "broker" / "dynamic-security.json").read_text()


def test_bad_input_is_named(folder, capsys, monkeypatch):
    for code, *arguments in (
        ("bad-name", "provision", "a/b", "--sim"),
        ("bad-name", "provision", "D1", "--sim", "--type", "+"),
        ("bad-name", "provision", "D1", "--sim", "--command", "X"),
        ("reserved-command", "provision", "D1", "--sim", "--command", "wipe"),
        ("bad-argument", "provision", "D1", "--sim", "--board", "../UNIX"),
        ("app-unknown", "provision", "D1", "--sim", "--app", "lights"),
        ("bad-name", "send", "a/b", "x"),
        ("bad-name", "send", "D1", "x/y"),
        ("bad-json", "send", "D1", "x", "[1]"),
        ("bad-json", "send", "D1", "x", "{"),
        ("not-serving", "send", "D1", "x"),
        ("not-serving", "watch"),
        ("device-unknown", "devices", "--clear", "D1"),
        ("device-unknown", "run", "D1"),
    ):
        fails(capsys, code, *arguments)
    monkeypatch.setenv("MICROPYTHON", "/nonexistent")
    fails(capsys, "micropython-missing", "provision", "D1", "--sim")
    monkeypatch.setenv("WARDEN_UMQTT", "/nonexistent")
    fails(capsys, "tree-missing", "provision", "D1", "--sim")
    (folder / "fleet.db").write_bytes(b"damaged" * 1000)
    for leftover in folder.glob("fleet.db-*"):
        leftover.unlink()
    fails(capsys, "database-damaged", "devices")
    (folder / "warden.toml").write_text("damaged")
    fails(capsys, "config-malformed", "devices")


def test_a_type_that_no_device_has_is_told_once_there_are_devices(folder, capsys):
    add = ("--type", "lamp", "--command", "x", "--json")
    assert main.run(["app", "add", "first", *add]) == 0
    assert json.loads(capsys.readouterr().out)["unused_types"] == []
    assert main.run(["provision", "D1", "--sim"]) == 0
    capsys.readouterr()
    assert main.run(["app", "add", "second", *add]) == 0
    assert json.loads(capsys.readouterr().out)["unused_types"] == ["lamp"]


def test_application_limits(folder, capsys):
    for number in range(8):
        name = f"app{number}"
        assert main.run(["app", "add", name, "--type", "relay", "--command", "x"]) == 0
    capsys.readouterr()
    fails(capsys, "bad-argument", "provision", "D1", "--sim")
    assert main.run(["provision", "D1", "--sim", "--app", "app1", "--app", "app1"]) == 0
    capsys.readouterr()
    assert main.run(["app", "list", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_devices_lists_and_clears(folder, capsys):
    assert main.run(["provision", "D1", "--sim"]) == 0
    with Store(folder / "fleet.db") as store:
        store.quarantine("D1", "its flash was played back")
        store.add_incident("D1", "device", "tampered", "x", 1)
    capsys.readouterr()
    assert main.run(["devices", "--json"]) == 0
    device = said(capsys)
    assert device["state"] == "quarantined"
    assert device["incidents"][0]["code"] == "tampered"
    assert device["serving"] is False
    assert main.run(["devices"]) == 0
    assert "quarantined" in capsys.readouterr().out
    assert main.run(["devices", "--clear", "D1"]) == 0
    capsys.readouterr()
    assert main.run(["devices", "--json"]) == 0
    assert said(capsys)["state"] == "provisioned"


def test_run_restarts_a_device_that_resets(folder, capsys, monkeypatch):
    from warden_host.sim import simulated

    assert main.run(["provision", "D1", "--sim"]) == 0
    count = folder / "count"
    answer = f"""
count = pathlib.Path({str(count)!r})
number = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (number + 1))
print("start", number, "\\x1b[31m", sys.argv[1:2])
sys.exit([0, 3, 1][number])
"""
    fake(folder.parent, monkeypatch, answer)
    monkeypatch.setattr(simulated, "_BACKOFF_S", (0.0,))
    capsys.readouterr()
    assert main.run(["run", "D1"]) == 1
    out = capsys.readouterr().out
    assert [f"start {number}" in out for number in range(3)] == [True] * 3
    assert "\x1b" not in out
    count.unlink()
    assert main.run(["run", "D1", "--once"]) == 0
    capsys.readouterr()
    fails(capsys, "bad-argument", "run", "D1", "--heapsize", "a; b")


def test_run_ends_with_a_device_that_was_wiped(folder, capsys, monkeypatch):
    from warden_host.sim import simulated

    assert main.run(["provision", "D1", "--sim"]) == 0
    vault = folder / "sim" / "D1" / "root" / "data"
    vault.mkdir(exist_ok=True)
    (vault / "key").touch()
    answer = f"""
left = pathlib.Path({str(vault / "key")!r})
left.unlink() if root.joinpath("cut").exists() else root.joinpath("cut").touch()
sys.exit(3)
"""
    # Its first start is cut: what is left of the key wants another one.
    program = folder.parent / "micropython"
    fake(folder.parent, monkeypatch, answer)
    program.write_text(program.read_text().replace("data = sys.stdin.buffer.read()\n", ""))
    program.write_text(program.read_text().replace('(root / "bundle").write_bytes(data)\n', ""))
    monkeypatch.setattr(simulated, "_BACKOFF_S", (0.0,))
    capsys.readouterr()
    fails(capsys, "device-unknown", "run", "D1")
    assert (folder / "sim" / "D1" / "root" / "cut").exists()


def test_serve_starts_answers_and_stops(folder):
    environment = os.environ | {"PYTHONPATH": str(REPO / "tools")}
    command = [sys.executable, "-m", "warden_host.cli"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    with subprocess.Popen(
        [*command, "serve", "--log-format", "json", "--metrics", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            port = json.loads(server.stdout.readline())["port"]
            assert json.loads(server.stdout.readline())["text"] == "serving"
            pid = int((folder / "broker" / "lock").read_text())
            assert call("provision", "D1", "--sim").returncode == 0  # over $CONTROL
            registry = (folder / "broker" / "dynamic-security.json").read_text()
            assert "d:relay:D1" in registry
            assert call("devices", "--clear", "D1").returncode == 0
            assert "broker-running" in call("serve").stderr
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                assert b"warden_serve_up 1.0" in page.read()
            refused = call("send", "D1", "set_relay", "--timeout", "0.2", "--json")
            assert json.loads(refused.stdout)["error"]["code"] == "no-session"
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE_S) == 0
        rest = [json.loads(line) for line in server.stdout]
    assert rest[-1]["text"] == "stopped"
    end = time.monotonic() + PATIENCE_S
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)
    assert not (folder / "control.sock").exists()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_device_tree_is_found():
    tree = device_tree.tree()
    assert tree.start.is_file()
    assert tree.board("UNIX").is_dir()


def test_an_unregistered_error_code_is_a_bug():
    with pytest.raises(ValueError, match="unregistered"):
        HostError("no-such-code")
