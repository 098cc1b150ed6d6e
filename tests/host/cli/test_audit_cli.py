"""`warden audit` and `warden operator`: what is recorded, verified, exported and trimmed."""

import errno
import getpass
import json
import re
import time

import click
import pytest
from cli_kit import fails, said
from warden_host import folders
from warden_host.cli import main, recording
from warden_host.service.passkeys import CODE_LIFE_S, code_hash
from warden_host.store.passkeys import Passkey
from warden_host.store.store import Store


def run(*arguments: str) -> None:
    assert main.run(list(arguments)) == 0


def actions(folder) -> list[tuple[str, str]]:
    with Store(folder / "fleet.db") as store:
        return [(row.action, row.outcome) for row in store.audit_rows()]


# Words of commands that only look.
LOOKING = re.compile(r"(.* )?(list|show|status|check|watch)|log|inspect|verify|releases|.*tokens")


def paths() -> set[str]:
    """The words of every command."""
    found = set()
    for name in main.COMMANDS:
        command = main.command(name)
        parts = command.commands if isinstance(command, click.Group) else None
        found |= {name} if parts is None else {f"{name} {part}" for part in parts}
    return found


def test_commands_that_only_look_exist():
    assert recording.LOOKS.keys() <= paths()
    assert {name for name in paths() if LOOKING.fullmatch(name)} <= recording.LOOKS.keys()


def test_what_changes_something_is_recorded_with_its_outcome(folder, capsys):
    run("app", "add", "home", "--type", "lock", "--command", "set_relay", "--command", "get_relay")
    assert main.run(["app", "add", "home", "--type", "lock", "--command", "set_relay"]) == 1
    assert main.run(["group", "add", "hall", "D1"]) == 5
    for look in (["app", "list"], ["devices"], ["audit", "list"], ["operator", "list"]):
        run(*look)
    add = "app add home --type=lock --command="
    assert actions(folder) == [
        (add + "set_relay,get_relay", ""),
        (add + "set_relay,get_relay", "ok"),
        (add + "set_relay", ""),
        (add + "set_relay", "app-exists"),
        ("group add hall D1", ""),
        ("group add hall D1", "device-unknown"),
    ]
    capsys.readouterr()
    run("audit", "list", "--last", "1", "--json")
    (row,) = [said(capsys)]
    assert row["who"] == f"owner {getpass.getuser()}"
    assert (row["id"], row["started"]) == (6, 5)
    run("audit", "list")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in lines if line and line[0] in "135"][-1] == "device-unknown"
    assert not [line for line in lines if line and line[0] in ("2", "4", "6")]


def test_private_values_are_not_recorded(folder, capsys):
    for option, value in (
        ("--mail", "owner@example.org"),
        ("--mail", "owner"),
        ("--alarm-mail", "owner"),
        ("--webhook", "https://hooks.example/T1/secret"),
        ("--alarm-webhook", "hooks.example/T1/secret"),
    ):
        assert main.run(["otp", "owner", "D1", option, value]) != 0
        assert actions(folder)[-2][0] == f"otp owner D1 {option}"
    url = "https://login.example/secret"
    assert main.run(["token", "D1", "--token-url", url, "--client-id", "x"]) != 0
    assert actions(folder)[-2][0] == "token D1 --token-url --client-id=x"


def test_nothing_is_done_that_can_not_be_recorded(folder, capsys):
    with Store(folder / "fleet.db") as store:
        store._db.execute("DROP TABLE audit")
    fails(capsys, "database-damaged", "operator", "add", getpass.getuser(), "--role", "look")
    with Store(folder / "fleet.db") as store:
        assert store.operators() == []


def test_operators(folder, capsys):
    user = getpass.getuser()
    run("operator", "add", "me", "--user", user, "--role", "update", "--role", "look")
    capsys.readouterr()
    run("operator", "list", "--json")
    record = said(capsys)
    assert (record["name"], record["user"]) == ("me", user)
    assert record["roles"] == ["look", "update"]
    run("operator", "list")
    assert "look, update" in capsys.readouterr().out
    fails(capsys, "operator-exists", "operator", "add", "i", "--user", user, "--role", "look")
    fails(capsys, "operator-unknown", "operator", "add", "no-such-user-here", "--role", "look")
    fails(capsys, "bad-name", "operator", "add", "a b", "--user", user, "--role", "look")
    run("operator", "add", "far", "--web-only", "--role", "look")
    run("operator", "list")
    assert "at the console" in capsys.readouterr().out
    fails(
        *(capsys, "bad-argument", "operator", "add", "far", "--web-only"),
        *("--user", user, "--role", "look"),
    )
    run("operator", "remove", "far")
    run("operator", "remove", "me")
    fails(capsys, "operator-unknown", "operator", "remove", "me")


def test_passkeys_by_code(folder, capsys):
    run("operator", "add", "far", "--web-only", "--role", "look")
    fails(capsys, "operator-unknown", "operator", "login", "nobody", "--passkey")
    none = ("--password-file", str(folder / "none"))  # known to be needless before it is read
    fails(capsys, "operator-unknown", "operator", "login", "nobody", *none)
    fails(capsys, "operator-unknown", "operator", "passkeys", "nobody")
    fails(capsys, "operator-unknown", "operator", "login", "far", "--remove")
    capsys.readouterr()
    run("operator", "login", "far", "--passkey", "--json")
    code = said(capsys)["code"]
    assert re.fullmatch(r"([A-Z2-7]{4}-){3}[A-Z2-7]{4}", code)
    with Store(folder / "fleet.db") as store:
        assert store.is_passkey_code("far", code_hash(code), time.time())
        assert not store.is_passkey_code("far", code_hash(code), time.time() + CODE_LIFE_S)
        store.add_passkey(Passkey(b"abc", "far", b"u", b"k", 0, "phone", 1.0))
        store.add_passkey(Passkey(b"abd", "far", b"u", b"k", 0, "laptop", 2.0, cloned=True))
    run("operator", "passkeys", "far")
    assert "blocked" in capsys.readouterr().out
    fails(capsys, "bad-argument", "operator", "passkeys", "far", "--remove", "6162")
    run("operator", "passkeys", "far", "--remove", "616263")
    capsys.readouterr()
    run("operator", "passkeys", "far", "--json")
    assert said(capsys)["label"] == "laptop"
    run("operator", "login", "far", "--remove")
    with Store(folder / "fleet.db") as store:
        assert store.passkeys("far") == []
        assert not store.is_passkey_code("far", code_hash(code), 1.0)
    told = " ".join(action for action, _ in actions(folder))
    assert "operator login far --passkey" in told and code not in told


def test_an_operator_has_no_fleet_folder(folder, capsys, tmp_path):
    assert main.run(["--socket", str(tmp_path / "x.sock"), "app", "list"]) == 4
    assert "owner-only" in capsys.readouterr().err
    assert main.run(["--socket", str(tmp_path / "x.sock"), "devices", "--limit", "5"]) == 2
    assert main.run(["--socket", str(tmp_path / "x.sock"), "devices"]) == 3
    assert main.run(["--socket", str(tmp_path / "x.sock"), "send", "D1", "set_relay"]) == 3
    assert "not-serving" in capsys.readouterr().err


def test_nothing_is_trimmed_before_the_exports_name_is_on_the_disk(folder, monkeypatch, tmp_path):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folders, "sync_folder", fail)
    run("app", "add", "home", "--type", "lock", "--command", "x")
    assert main.run(["audit", "export", str(tmp_path / "1.jsonl"), "--trim"]) != 0
    assert actions(folder)[0] == ("app add home --type=lock --command=x", "")


def test_exports(folder, capsys, tmp_path):
    for name in ("one", "two", "three"):
        run("app", "add", name, "--type", "lock", "--command", "x")
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    run("audit", "export", str(first), "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 6
    assert first.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line).get("id") for line in first.open()] == [None, 1, 2, 3, 4, 5, 6]
    fails(capsys, "bad-argument", "audit", "export", str(first))
    run("app", "add", "four", "--type", "lock", "--command", "x")
    run("audit", "verify", str(first))
    assert "8 rows hold" in capsys.readouterr().out
    run("audit", "export", str(second), "--trim")
    assert actions(folder)[0] == (f"audit export {second} --trim", "ok")
    for file in (first, second):
        run("audit", "verify", str(file))
    assert "1 rows hold, after 9 that were trimmed" in capsys.readouterr().out
    # What an older export holds and the log does not.
    with Store(folder / "fleet.db") as store:
        store._do("DELETE FROM audit")
        store._do("DELETE FROM settings WHERE name = 'audit_base'")
        store.add_audit("owner root", "nothing happened")
    capsys.readouterr()
    run("audit", "verify")
    fails(capsys, "audit-broken", "audit", "verify", str(first))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        '{"format": 1, "after": 0}\n',
        '{"format": 1, "after": 0, "hash": "xx"}\n',
        '{"format": 2, "after": 0, "hash": "%s"}\n' % ("00" * 32),
        '{"format": 1, "after": 0, "hash": ""}\n{"id": 1}\n',
        '{"format": 1, "after": 0, "hash": ""}\n{"id": [], "hash": ""}\n',
        "x" * 10000,
    ],
)
def test_a_file_that_is_no_export(folder, capsys, tmp_path, text):
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    fails(capsys, "audit-broken", "audit", "verify", str(file))


def test_a_broken_chain(folder, capsys, tmp_path):
    run("app", "add", "one", "--type", "lock", "--command", "x")
    with Store(folder / "fleet.db") as store:
        store._db.execute("DROP TRIGGER audit_unchanged")
        store._do("UPDATE audit SET who = 'owner bob' WHERE id = 1")
    fails(capsys, "audit-broken", "audit", "verify")
    fails(capsys, "audit-broken", "audit", "export", str(tmp_path / "x"))
