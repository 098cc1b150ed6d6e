"""A stop between fleet.db and the broker leaves an account with less than it had, never with more,
and the same command goes on."""

import contextlib
from collections.abc import Iterator

import pytest
from host_kit import new_fleet, refused
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.devices import app_changes, app_tokens, gateways, revocation, rooms, setup
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.protocol.access_token import Scope
from warden_host.store.store import App, Device, Store

READ = Scope(("relay",), True, ())


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return new_fleet(tmp_path)


@pytest.fixture
def store(fleet) -> Iterator[Store]:
    with Store(fleet.database) as opened:
        setup.add_app(fleet, opened, App("home", ("relay", "meter"), ("set_relay",)))
        with opened.transaction():
            for name in ("D1", "D2", "D3"):
                opened.add_device(Device(name, "relay", "UNIX", "sealed", policy.record()))
        yield opened


@contextlib.contextmanager
def stopped(monkeypatch, owner: object, step: str) -> Iterator[None]:
    """Stop the process, as it were, where it would take this step."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, step, stop)
        yield


def users(fleet: Fleet) -> set[str]:
    return {one["username"] for one in dynsec.load(fleet.broker)["clients"]}


def named(fleet: Fleet, role: str, level: int) -> set[str]:
    """Return what stands at a level of the topics that a role may use."""
    roles = dynsec.load(fleet.broker)["roles"]
    (found,) = [one for one in roles if one["rolename"] == role]
    topics = [acl["topic"].split("/") for acl in found["acls"]]
    return {parts[level] for parts in topics if parts[0] == "iot-2"}


def test_devices_leave_a_room(fleet, store, monkeypatch):
    rooms.add(fleet, store, "weather", ("mast", "roof"))
    with stopped(monkeypatch, store, "set_room"):
        rooms.remove(fleet, store, "weather", ("mast",))
    assert "o:weather:mast" not in users(fleet) and "o:weather:roof" in users(fleet)
    assert rooms.remove(fleet, store, "weather", ("mast",)) == ("roof",)


def test_a_gateway_loses_a_device_and_gets_another(fleet, store, monkeypatch):
    gateways.add(fleet, store, "hall", ("D1", "D2"))
    with stopped(monkeypatch, store, "set_gateway"):
        gateways.change(fleet, store, "hall", ("D3",), ("D1",))
    assert named(fleet, "gateway:hall", 4) == {"D2"}
    assert gateways.change(fleet, store, "hall", ("D3",), ("D1",)) == ("D2", "D3")
    assert named(fleet, "gateway:hall", 4) == {"D2", "D3"}


def test_a_gateway_is_removed(fleet, store, monkeypatch):
    gateways.add(fleet, store, "hall", ("D1",))
    with stopped(monkeypatch, store, "remove_gateway"):
        gateways.remove(fleet, store, "hall")
    assert "g:hall" not in users(fleet)
    gateways.remove(fleet, store, "hall")
    assert store.gateways() == {}


def test_a_wiped_device_leaves_its_gateways(fleet, store, monkeypatch):
    gateways.add(fleet, store, "hall", ("D1", "D2"))
    revocation.order_ending(store, "D1", revoke=True, wipe=True)
    store.record_wipe_done("D1", 5.0)
    with stopped(monkeypatch, store, "remove_device"):
        revocation.remove_wiped(fleet, store, "D1")
    assert named(fleet, "gateway:hall", 4) == {"D2"}
    assert revocation.remove_wiped(fleet, store, "D1") and store.find("D1") is None


def test_an_application_is_removed_with_its_tokens(fleet, store, monkeypatch):
    made, _ = app_tokens.issue(fleet, store, "home", READ, 1)
    with stopped(monkeypatch, store, "remove_app"):
        app_changes.remove(fleet, store, "home")
    assert not {"a:home", f"t:home:{made.id}"} & users(fleet)
    app_changes.remove(fleet, store, "home")
    assert store.apps() == []


def test_an_application_serves_fewer_and_other_types(fleet, store, monkeypatch):
    wanted = App("home", ("relay", "lamp"), ("set_relay",))
    with stopped(monkeypatch, store, "set_app"):
        app_changes.grant(fleet, store, wanted)
    assert named(fleet, "app:home", 2) == {"relay"}
    app_changes.grant(fleet, store, wanted)
    assert named(fleet, "app:home", 2) == {"relay", "lamp"}


def test_a_token_is_known_before_it_opens_anything(fleet, store, monkeypatch):
    with stopped(monkeypatch, store, "add_token"):
        app_tokens.issue(fleet, store, "home", READ, 1)
    assert not any(user.startswith("t:") for user in users(fleet))


@pytest.mark.parametrize("taken", [True, False])
def test_a_token_that_the_broker_did_not_confirm_is_revoked(fleet, store, monkeypatch, taken):
    real = registry._Stopped.put

    def put(self, account) -> None:
        if taken:
            real(self, account)
        raise HostError("broker-refused", "no answer")

    monkeypatch.setattr(registry._Stopped, "put", put)
    with refused("broker-refused"):
        app_tokens.issue(fleet, store, "home", READ, 1)
    (token,) = store.tokens()
    assert token.revoked is not None
    app_tokens.enforce(fleet)
    assert not any(user.startswith("t:") for user in users(fleet))
