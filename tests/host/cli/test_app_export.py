"""`warden app export`: the file, and what `warden serve` no longer does in its name."""

import json

import pytest
from cli_kit import fails, said
from engine_kit import Stage
from host_kit import refused
from warden_host.cli import main
from warden_host.devices import app_export
from warden_host.engine import commands
from warden_host.engine.request import Request
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.store.store import App, Store


@pytest.fixture
def home(folder, capsys):
    """A fleet with an application and a device for it."""
    assert main.run(["app", "add", "home", "--type", "lock", "--command", "open"]) == 0
    assert main.run(["provision", "D1", "--sim", "--type", "lock"]) == 0
    capsys.readouterr()
    return folder


def test_the_file_has_what_a_program_needs(home, capsys):
    assert main.run(["app", "export", "home", "--json"]) == 0
    assert said(capsys)["devices"] == ["D1"]
    path = home.parent / "home.warden.json"
    assert path.stat().st_mode & 0o777 == 0o600
    content = json.loads(path.read_text())
    with Store(home / "fleet.db") as store:
        pair = next(one for one in store.device("D1").pairs if one.appid == "home")
        assert store.exported() == {"home"}
        assert app_export.served(store) == []
    (device,) = content.pop("devices")
    assert device["keys"] == [pair.k.hex()]
    assert (device["device"], device["type"], device["mode"]) == ("D1", "lock", "sealed")
    assert (device["proven"], device["commands"]) == ([-1, -1, 0], ["open"])
    broker = content["broker"]
    assert (broker["user"], broker["client_id"]) == ("a:home", "a:home")
    assert broker["password"] == (home / "keys" / "app-home.password").read_text()
    assert content["trust"]["pins"] == [pin.hex() for pin in pki.load_pins(home / "keys")]
    assert content["topics"]["subscribe"] == ["iot-2/type/lock/id/+/evt/#"]


def test_a_key_that_the_device_has_not_proved_is_in_the_file_too(home):
    with Store(home / "fleet.db") as store:
        with store.transaction():
            store.add_rotation("D1", {"apps": {"home": b"n" * 32, AUTHORITY: b"m" * 32}})
        ((entry),) = app_export.document(Fleet(home), store, "home")["devices"]
        assert entry["keys"][1:] == [(b"n" * 32).hex()]
        # A session under it would delete the old key, and a restored fleet would have that alone.
        store.begin_backup()
        with store.transaction():
            store.await_backup("D1")
        ((entry),) = app_export.document(Fleet(home), store, "home")["devices"]
        assert len(entry["keys"]) == 1


def test_a_device_that_was_cut_off_is_not_in_it(home, capsys):
    assert main.run(["revoke", "D1", "--yes"]) == 0
    capsys.readouterr()
    assert main.run(["app", "export", "home", "--json"]) == 0
    assert said(capsys)["devices"] == []


def test_only_an_older_export_of_the_application_is_replaced(home, capsys):
    for _ in range(2):
        assert main.run(["app", "export", "home"]) == 0
    assert main.run(["app", "add", "other", "--type", "lock", "--command", "open"]) == 0
    capsys.readouterr()
    for out in ("home.warden.json", "fleet/warden.toml"):
        fails(capsys, "bad-argument", "app", "export", "other", "--out", out)
    with Store(home / "fleet.db") as store:
        assert store.exported() == {"home"}


def test_a_device_that_comes_later_names_the_application(home, capsys):
    assert main.run(["app", "export", "home"]) == 0
    capsys.readouterr()
    assert main.run(["provision", "D2", "--sim", "--type", "lock"]) == 0
    assert "`warden app export home`" not in " ".join(capsys.readouterr().out.split())
    with Store(home / "fleet.db") as store:
        assert store.key_changes("home", 9) == ["D2"]  # it learns of it by a list
        store._do("DELETE FROM app_lists")  # as after an export of an older version
    assert main.run(["provision", "D3", "--sim", "--type", "lock"]) == 0
    assert "`warden app export home`" in " ".join(capsys.readouterr().out.split())


def test_applications_that_can_not_be_exported(home, capsys):
    fails(capsys, "app-unknown", "app", "export", "attic")
    fails(capsys, "not-applicable", "app", "export", "authority")


def test_the_authority_speaks_no_longer_in_its_name(tmp_path):
    stage = Stage(tmp_path)
    store = stage.engine.store
    store.add_app(App("lights", ("relay",), ("set_relay",)))
    assert commands.job(stage.engine, Request("D1", "set_relay", {}, app="lights"))
    store.set_exported("lights", 1.0)
    stage.engine.exported.cache_clear()
    with refused("not-applicable"):
        commands.job(stage.engine, Request("D1", "set_relay", {}, app="lights"))
