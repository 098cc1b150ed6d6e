"""Test `init`, `app` and `devices`: the folder they find, their output, the files they leave."""

import json

import pytest
from cli_kit import fails, said
from rich.console import Console
from warden_host.cli import main, screen
from warden_host.store.store import Store


def test_help_leads_through_a_first_fleet(capsys):
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    for line in (
        "warden app add home --type lock --command set_relay",
        "warden provision front-door --type lock --sim",
        "In a second one:",
    ):
        assert line in text
    assert main.run(["app", "--help"]) == 0
    assert "warden app add home" in capsys.readouterr().out


def test_hints_are_as_seen_from_here(folder, capsys, monkeypatch):
    assert main.run(["init", "fleet2"]) == 0
    out = capsys.readouterr().out
    assert "fleet2/keys/backup.key" in out
    assert "warden --fleet fleet2 app add home" in out
    assert main.run(["app", "add", "home", "--type", "lock", "--command", "set_relay"]) == 0
    assert "in fleet/keys/app-home.password" in capsys.readouterr().out
    monkeypatch.chdir(folder)
    assert main.run(["app", "add", "home2", "--type", "lock", "--command", "set_relay"]) == 0
    assert "in keys/app-home2.password" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "a b"], "--host"),
        (["--listen", "\n"], "--listen"),
        (["--listen", "0.0.0.0"], "--host NAME"),
        (["--listen", "192.0.2.1", "--host", "localhost"], "--host NAME"),
        (["--listen", "0.0.0.0", "--host", "0.0.0.0"], "--host 0.0.0.0"),
        (["--name", "ok", "--name", "x/y"], "--name"),
        (["--port", "8000", "--admin-port", "8000"], "--admin-port"),
    ],
)
def test_init_names_the_option(folder, capsys, options, words):
    assert main.run(["init", "other", *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "warden.toml" not in err
    assert not (folder.parent / "other").exists()


def test_no_fleet_names_the_folders_searched(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WARDEN_FLEET", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main.run(["devices"]) == 5
    err = capsys.readouterr().err
    assert "fleet-missing" in err
    assert f"{tmp_path} or any folder above it" in err


def test_an_application_that_is_there_already(folder, capsys):
    for name in ("authority", "home"):
        add = ["app", "add", name, "--type", "lock", "--command", "set_relay"]
        main.run(add)
        capsys.readouterr()
        fails(capsys, "app-exists", *add)
        main.run(add)
        assert "→ choose another ID" in capsys.readouterr().err


def test_only_a_quarantine_is_cleared(folder, capsys):
    assert main.run(["provision", "D1", "--sim"]) == 0
    with Store(folder / "fleet.db") as store:
        store._do("UPDATE devices SET boot = 7, connect = 3, vault_gen = 9")
        before = store.device("D1")
    capsys.readouterr()
    assert main.run(["devices", "--clear", "D1"]) == 0
    assert "not in quarantine; nothing changed" in capsys.readouterr().out
    assert main.run(["devices", "--clear", "D1", "--json"]) == 0
    assert said(capsys) == {"ok": True, "device": "D1", "cleared": False}
    with Store(folder / "fleet.db") as store:
        assert store.device("D1") == before
        store.quarantine("D1", "its boot went back")
    assert main.run(["devices", "--clear", "D1", "--json"]) == 0
    assert said(capsys)["cleared"] is True
    with Store(folder / "fleet.db") as store:
        assert store.device("D1").mark.boot == 0


def test_states_and_incidents_for_scripts(folder, capsys):
    for name in ("D1", "D2"):
        assert main.run(["provision", name, "--sim"]) == 0
    with Store(folder / "fleet.db") as store:
        store.set_last_seen("D2", 5.0)
        for number in range(7):
            store.add_incident("D2", "device", "tampered", f"x{number}", 2)
    capsys.readouterr()
    assert main.run(["devices", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["state"], second["state"]) == ("provisioned", "offline")
    assert (first["incident_count"], first["incidents_since"]) == (0, 0.0)
    assert second["incident_count"] == 14
    assert second["incidents_since"] > 0
    assert [each["at"] for each in second["incidents"]] == ["x2", "x3", "x4", "x5", "x6"]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_table_breaks_no_word(folder, capsys, monkeypatch, width):
    assert main.run(["app", "add", "home", "--type", "relay", "--command", "x"]) == 0
    assert main.run(["provision", "front-door", "--sim"]) == 0
    with Store(folder / "fleet.db") as store:
        store.quarantine("front-door", "its boot went back")
        store.add_incident("front-door", "device", "certificate-not-yet-valid", "", 1)
    console = Console(width=width, highlight=False)
    monkeypatch.setattr(screen, "out", console)
    monkeypatch.setattr(screen, "columns", lambda: width)
    capsys.readouterr()
    assert main.run(["devices"]) == 0
    out = capsys.readouterr().out
    assert "front-door" in out
    assert "quarantined" in out
    assert ("sealed" in out) == (width >= 92)
    known = {"certificate-not-yet-valid", "authority,", "home", "incidents"}
    for word in out.split():
        assert not any(full != word and full.startswith(word) and len(word) > 4 for full in known)
    assert "`warden serve` is not running" in out
