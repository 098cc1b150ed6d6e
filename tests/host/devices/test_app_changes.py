"""Applications added, changed and removed on a fleet whose devices are away, by the real CLI."""

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from engine_kit import PLAIN, SEALED, UID, K
from host_kit import DEVICE, new_fleet
from warden_host.broker.mosquitto import dynsec
from warden_host.cli import main
from warden_host.devices import app_changes, app_export, app_tokens, provision, rotation, setup
from warden_host.names import AUTHORITY
from warden_host.protocol.access_token import Scope
from warden_host.store.store import App, Pair, Store

HOME = App("home", ("relay",), ("set_relay", "get_relay"))


def pair(appid: str, key: bytes = b"h" * 32, commands=HOME.commands) -> Pair:
    return Pair(appid, key, b"u" * 32, commands)


def device(name: str, *pairs: Pair, **fields):
    authority = Pair(AUTHORITY, K[AUTHORITY], UID[AUTHORITY], ())
    return dataclasses.replace(SEALED, device=name, pairs=(authority, *pairs), **fields)


class Rig:
    def __init__(self, folder, capsys) -> None:
        self.fleet = new_fleet(folder)
        self.store = Store(self.fleet.database)
        self._capsys = capsys
        setup.add_app(self.fleet, self.store, HOME)
        with self.store.transaction():
            self.store.add_device(device(DEVICE, pair("home")))
            self.store.add_device(device("D2", pair("home", b"2" * 32)))
            self.store.add_device(device("other", type="lamp"))

    def warden(self, *arguments: str, code: str = "") -> dict[str, Any]:
        """Run `warden app`; return its JSON, or what people see of a refusal."""
        self._capsys.readouterr()
        main.run(["--fleet", str(self.fleet.root), "app", *arguments, "--json"])
        line: dict[str, Any] = json.loads(self._capsys.readouterr().out.splitlines()[-1])
        assert line.get("error", {}).get("code", "") == code, line
        return line

    def text(self, *arguments: str) -> str:
        self._capsys.readouterr()
        assert main.run(["--fleet", str(self.fleet.root), "app", *arguments]) == 0
        out: str = self._capsys.readouterr().out
        return " ".join(out.split())

    def waits(self, device: str = DEVICE) -> list[tuple[str, str, tuple[str, ...] | None]]:
        return [(one.kind, one.appid, one.commands) for one in self.store.app_changes(device)]

    def keys(self, device: str = DEVICE) -> dict[str, bytes]:
        return {one.appid: one.k for one in self.store.device(device).pairs}

    def account(self, appid: str) -> dict[str, Any] | None:
        found = [
            entry
            for entry in dynsec.load(self.fleet.broker)["clients"]
            if entry["username"] == f"a:{appid}"
        ]
        return found[0] if found else None

    def rights(self, appid: str) -> str:
        """Return the topics of the account's role, as one text."""
        roles = dynsec.load(self.fleet.broker)["roles"]
        return " ".join(
            acl["topic"]
            for role in roles
            if role["rolename"] == f"app:{appid}"
            for acl in role["acls"]
        )

    def confirm(self, name: str) -> None:
        """Let a device take all that waits for it."""
        for change in self.store.app_changes(name):
            self.store.number_app_change(change, 7)
            assert self.store.confirm_app_change(dataclasses.replace(change, number=7))


@pytest.fixture
def rig(tmp_path, capsys):
    made = Rig(tmp_path, capsys)
    yield made
    made.store.close()


def test_added_to_all_devices_of_its_types(rig):
    rig.store.add_device(dataclasses.replace(PLAIN, device="plain"))
    eight = [pair(f"a{i}", bytes([i]) * 32) for i in range(7)]
    rig.store.add_device(device("full", *eight))
    said = rig.warden(
        "add", "dash", "--type", "relay", "--type", "relais", "--command", "get_relay"
    )
    assert said["waiting"] == [DEVICE, "D2"]
    assert (said["plain"], said["full"], said["unused_types"]) == (["plain"], ["full"], ["relais"])
    assert rig.waits() == [("add", "dash", ("get_relay",))]
    assert rig.keys()["dash"] != rig.keys("D2")["dash"] and len(rig.keys()["dash"]) == 32
    assert rig.waits("other") == rig.waits("full") == []
    text = rig.text("add", "dish", "--type", "relais", "--command", "get_relay")
    assert "no device has the type relais" in text


def test_added_to_chosen_devices(rig):
    options = ("--type", "relay", "--command", "get_relay")
    assert rig.warden("add", "dash", *options, "--device", "D2")["waiting"] == ["D2"]
    rig.warden("add", "dish", *options, "--device", "stranger", code="device-unknown")
    rig.warden("add", "dish", *options, "--device", "other", code="bad-argument")
    assert rig.account("dish") is None


def test_a_device_that_is_to_end_gets_nothing(rig):
    with rig.store.transaction():
        rig.store.order_ending("D2", True, False, 1.0)
    said = rig.warden("add", "dash", "--type", "relay", "--command", "get_relay")
    assert said["waiting"] == [DEVICE]


def test_removed_with_account_tokens_and_keys(rig):
    token, _ = app_tokens.issue(rig.fleet, rig.store, "home", Scope(("relay",), True, ()), 1)
    assert rig.account("home") and rig.fleet.app_password("home")
    rig.warden("remove", "home", "--yes")
    assert rig.account("home") is None and rig.rights("home") == ""
    assert rig.store.token(token.id).revoked is not None
    assert not (rig.fleet.keys / "app-home.password").exists()
    assert rig.waits() == [("remove", "home", None)]
    shown = rig.warden("show", "home")
    assert (shown["registered"], shown["confirmed"]) == (False, [])
    assert [one["device"] for one in shown["waiting"]] == [DEVICE, "D2"]
    assert "application home was removed" in rig.text("show", "home")
    rig.confirm("D2")
    assert rig.keys("D2").keys() == {AUTHORITY} and "home" in rig.keys()
    rig.confirm(DEVICE)
    rig.warden("show", "home", code="app-unknown")
    rig.warden("remove", "home", "--yes", code="app-unknown")


def test_cut_off_at_the_broker_before_anything_else(rig, monkeypatch):
    """So that it is off within the time of one message, however many devices the fleet has."""
    seen: list[tuple[str, int, int]] = []

    class Accounts:
        def __getattr__(self, what):
            return lambda *_: seen.append(
                (what, len(rig.store.app_changes()), len(rig.store.apps()))
            )

    monkeypatch.setattr(app_changes, "open_registry", lambda _: contextlib.nullcontext(Accounts()))
    app_changes.remove(rig.fleet, rig.store, "home")
    assert seen == [("disable", 0, 1), ("remove", 0, 1)]
    assert len(rig.store.app_changes()) == 2 and rig.store.apps() == []


def test_registered_again_with_new_keys_while_devices_are_away(rig):
    before = rig.keys()["home"]
    rig.warden("remove", "home", "--yes")
    rig.warden("add", "home", "--type", "relay", "--command", "set_relay", "--device", DEVICE)
    assert rig.waits() == [("add", "home", ("set_relay",))]
    assert rig.keys()["home"] != before
    # The other device loses it all the same.
    assert rig.waits("D2") == [("remove", "home", None)]


def test_the_authority_is_no_subject(rig):
    for arguments in (
        ("remove", AUTHORITY, "--yes"),
        ("rename", AUTHORITY, "boss"),
        ("grant", AUTHORITY, "--command", "set_relay"),
        ("passwd", AUTHORITY),
        ("show", AUTHORITY),
    ):
        rig.warden(*arguments, code="not-applicable")
    assert rig.store.app_changes() == []


def test_rights_are_widened_and_narrowed(rig):
    said = rig.warden("grant", "home", "--command", "probe", "--type", "lamp")
    assert said["commands"] == ["set_relay", "get_relay", "probe"]
    assert rig.waits() == [("grant", "home", ("set_relay", "get_relay", "probe"))]
    assert [one[0] for one in rig.waits("other")] == ["add"]
    assert "type/lamp/" in rig.rights("home")
    for name in (DEVICE, "D2", "other"):
        rig.confirm(name)
    rig.warden("grant", "home", "--no-command", "probe", "--no-type", "relay")
    assert "type/relay/" not in rig.rights("home")
    assert rig.waits() == [("remove", "home", None)]
    assert rig.waits("other") == [("grant", "home", ("set_relay", "get_relay"))]
    # And back, before the device was there: it gets new keys, as for a new one.
    old = rig.keys()["home"]
    rig.warden("grant", "home", "--type", "relay")
    assert [one[0] for one in rig.waits()] == ["add"] and rig.keys()["home"] != old


def test_given_to_a_further_device(rig):
    options = ("--type", "relay", "--command", "get_relay", "--device", DEVICE)
    rig.warden("add", "dash", *options)
    assert rig.waits("D2") == []
    assert rig.warden("grant", "dash", "--device", "D2")["waiting"] == ["D2"]
    assert rig.waits("D2") == [("add", "dash", ("get_relay",))]
    rig.warden("grant", "dash", "--device", "D2", code="bad-argument")
    rig.warden("grant", "dash", "--device", "other", code="bad-argument")
    # With its type, it counts once.
    both = ("--device", "other", "--type", "lamp")
    assert rig.warden("grant", "dash", *both)["waiting"] == ["other"]


def test_no_other_key_while_a_rotation_has_one(rig):
    """Which of both the device has would depend on the order in which it got them."""
    rotation.start_rotation(rig.fleet, rig.store, DEVICE, ("keys",))
    rig.warden("remove", "home", "--yes")
    assert rig.waits() == [("remove", "home", None)]
    options = ("--type", "relay", "--command", "get_relay")
    said = rig.warden("add", "home", *options)
    assert (said["waiting"], said["rotating"]) == (["D2"], [DEVICE])
    assert rig.waits() == [("remove", "home", None)]
    rig.store.end_rotation(DEVICE)
    assert rig.warden("grant", "home", "--device", DEVICE)["waiting"] == [DEVICE]
    assert rig.waits() == [("add", "home", ("get_relay",))]


def test_tokens_that_allow_more_than_is_left_are_revoked(rig):
    more, _ = app_tokens.issue(
        rig.fleet, rig.store, "home", Scope(("relay",), False, ("get_relay",)), 1
    )
    less, _ = app_tokens.issue(rig.fleet, rig.store, "home", Scope(("relay",), True, ()), 1)
    assert rig.warden("grant", "home", "--no-command", "get_relay")["revoked"] == [more.id]
    assert rig.store.token(less.id).revoked is None


def test_grants_that_are_refused(rig):
    for arguments, code in (
        ((), "bad-argument"),
        (("--command", "set_relay"), "bad-argument"),
        (("--no-command", "probe"), "bad-argument"),
        (("--command", "probe", "--no-command", "other"), "bad-argument"),
        (("--command", "probe", "--command", "w", "--no-command", "w"), "bad-argument"),
        (("--no-type", "lamp"), "bad-argument"),
        (("--no-type", "relay"), "bad-argument"),
        (("--no-command", "set_relay", "--no-command", "get_relay"), "bad-argument"),
        (("--command", "apps"), "reserved-command"),
        (("--command", "UPPER"), "bad-name"),
        (("--type", "a/b"), "bad-name"),
    ):
        rig.warden("grant", "home", *arguments, code=code)
    rig.warden("grant", "stranger", "--command", "probe", code="app-unknown")
    assert rig.store.app_changes() == [] and "lamp" not in rig.rights("home")


def test_renamed_and_both_are_there_until_the_new_one_proved_itself(rig):
    rig.warden("rename", "home", "house")
    assert rig.waits() == [("add", "house", HOME.commands), ("remove", "home", None)]
    assert [one.after for one in rig.store.app_changes(DEVICE)] == ["", "house"]
    assert rig.account("home") and rig.account("house")
    assert rig.warden("show", "home")["becomes"] == "house"
    rig.warden("rename", "home", "hut", code="not-applicable")
    rig.warden("rename", "house", "hut", code="not-applicable")
    # What is provisioned meanwhile gets the new one alone.
    order = provision.Order("D3", "relay")
    made = provision._new_device(rig.fleet, rig.store, order, TERMS)
    assert [one.appid for one in made.pairs] == [AUTHORITY, "house"]
    rig.confirm("D2")
    app_changes.enforce(rig.fleet)
    assert rig.account("home")
    rig.confirm(DEVICE)
    app_changes.enforce(rig.fleet)
    assert rig.account("home") is None and rig.store.renames() == {}
    assert [app.appid for app in rig.store.apps()] == ["house"]


class TERMS:
    tls, auth = True, "password"


def test_a_party_of_its_own_stays_one_under_its_new_id(rig):
    rig.warden("add", "hut", "--type", "ghost", "--command", "set_relay")
    for appid in ("home", "hut"):
        rig.warden("export", appid, "--out", str(rig.fleet.root.parent / f"{appid}.json"))
    assert rig.warden("rename", "home", "house")["exported"] is True
    assert "`warden app export lodge`" in rig.text("rename", "hut", "lodge")
    # Else `warden serve` proved the new keys, and the program lost the old ones in the meantime.
    assert app_export.served(rig.store) == []
    assert rig.store.exported() == {"home", "house", "lodge"}


@pytest.mark.parametrize("order", [("add", "house"), ("rename", "home", "house")])
def test_an_order_that_was_cut_short_can_be_given_again(rig, monkeypatch, order):
    rights = () if order[0] == "rename" else ("--type", "relay", "--command", "set_relay")
    with monkeypatch.context() as patch:
        patch.setattr(app_changes, "_give", lambda *_, **__: 1 / 0)
        with contextlib.suppress(ZeroDivisionError, AssertionError):
            rig.warden(*order, *rights)
    assert [app.appid for app in rig.store.apps()] == ["home"]
    assert rig.account("house") is None
    assert rig.warden(*order, *rights)["waiting"]


def test_a_device_without_room_for_both(rig):
    rig.store.add_device(
        device("full", pair("home"), *(pair(f"a{i}", bytes([i]) * 32) for i in range(6)))
    )
    assert rig.warden("rename", "home", "house")["full"] == ["full"]
    changes = {one.appid: one for one in rig.store.app_changes("full")}
    assert changes["home"].after == "" and changes["house"].kind == "add"


def test_the_new_one_is_removed_again_and_the_old_one_stays(rig):
    rig.warden("rename", "home", "house")
    rig.warden("remove", "house", "--yes")
    assert rig.waits() == [("remove", "house", None)] and rig.store.renames() == {}
    rig.confirm(DEVICE)
    assert rig.keys().keys() == {AUTHORITY, "home"} and rig.account("home")


def test_the_old_one_is_removed_before_the_new_one_proved_itself(rig):
    rig.warden("rename", "home", "house")
    rig.warden("remove", "home", "--yes")
    assert [one.after for one in rig.store.app_changes(appid="home")] == ["", ""]
    assert rig.account("home") is None and rig.account("house")


def test_renamed_where_no_device_has_it(rig):
    setup.add_app(rig.fleet, rig.store, App("lone", ("ghost",), ("probe",)))
    rig.warden("rename", "lone", "only")
    assert [app.appid for app in rig.store.apps()] == ["home", "only"]
    rig.warden("rename", "only", "home", code="app-exists")


def test_a_new_password(rig):
    before, password = rig.account("home"), rig.fleet.app_password("home")
    rig.warden("passwd", "home")
    assert rig.account("home")["password"] != before["password"]
    assert rig.fleet.app_password("home") != password
    rig.warden("passwd", "stranger", code="app-unknown")


def test_a_rotation_leaves_out_what_the_device_has_yet_to_take(rig):
    rig.warden("add", "dash", "--type", "relay", "--command", "get_relay")
    rig.warden("grant", "home", "--command", "probe")
    made = rotation.start_rotation(rig.fleet, rig.store, DEVICE, ("keys",))
    assert sorted(made.apps) == [AUTHORITY, "home"]


def test_shown_to_people(rig):
    rig.warden("grant", "home", "--command", "probe")
    (change, _) = rig.store.app_changes(appid="home")
    rig.store.refuse_app_change(change, "vault-limit")
    text = rig.text("show", "home")
    assert f"{DEVICE}: grant, refused: vault-limit" in text
    assert "confirmed by 0 devices" in text
