"""Accounts that are let in again, a gateway's devices, and bounds of exports and certificates."""

import pytest
from host_kit import new_fleet, refused
from warden_host.devices import account_access, app_export, certificates, gateways, rooms
from warden_host.devices.setup import add_app
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.store.store import App, Device, Store


@pytest.fixture
def fleet(tmp_path):
    return new_fleet(tmp_path)


@pytest.fixture
def store(fleet):
    with Store(fleet.database) as opened:
        add_app(fleet, opened, App("home", ("relay",), ("set_relay",)))
        rooms.add(fleet, opened, "weather", ("mast",))
        yield opened


def test_accounts_that_are_let_in_again(fleet, store):
    for username in ("a:home", "o:weather:mast"):
        account_access.enable(fleet, store, username)
    for username, code in (
        ("d:relay:D1", "bad-name"),  # a device takes `warden readmit DEVICE`
        ("admin", "bad-name"),
        ("a:garden", "app-unknown"),
        ("g:hall", "gateway-unknown"),
        ("o:weather:roof", "bad-argument"),
        ("o:attic:mast", "bad-argument"),
    ):
        with refused(code):
            account_access.enable(fleet, store, username)


def test_a_gateway_relays_for_so_many_devices(fleet, store, monkeypatch):
    with store.transaction():
        for name in ("D1", "D2", "D3"):
            store.add_device(Device(name, "relay", "UNIX", "sealed", policy.record()))
    gateways.add(fleet, store, "hall", ("D1", "D2"))
    with refused("gateway-exists"):
        gateways.add(fleet, store, "hall", ())
    monkeypatch.setattr(gateways, "MOST_DEVICES", 2)
    with refused("bad-argument"):
        gateways.change(fleet, store, "hall", ("D3",))
    assert store.gateway("hall") == ("D1", "D2")


def test_the_authority_can_not_be_exported(store):
    with refused("not-applicable"):
        app_export.mark(store, AUTHORITY)


@pytest.mark.parametrize("text", ["{}", "x", '{"kind": "warden application", "appid": "other"}'])
def test_an_export_replaces_no_other_file(tmp_path, text):
    path = tmp_path / "home.json"
    app_export.check(path, "home")  # a new file
    path.write_text(text)
    path.chmod(0o600)
    with refused("bad-argument"):
        app_export.check(path, "home")


@pytest.mark.parametrize("days", [0, 3651])
def test_a_certificates_days(days):
    device = Device("D1", "relay", "UNIX", "sealed", policy.record())
    with refused("bad-argument"):
        certificates.issue(None, device, "ec", days)  # type: ignore[arg-type]
