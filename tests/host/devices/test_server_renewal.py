"""A renewal of the server's key that stops between two files is completed by the next start."""

import pytest
from host_kit import new_fleet, refused
from warden_client import secretfile
from warden_host.devices import server_renewal
from warden_host.fleet import pki
from warden_host.protocol import policy
from warden_host.store.store import Device, Store


class Stop(Exception):
    """The power goes."""


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_stop_between_the_files(tmp_path, monkeypatch, files):
    fleet = new_fleet(tmp_path)
    keys = fleet.keys
    old, backup = pki.load_pins(keys)
    left = [files]
    real = secretfile.write

    def write(path, data):
        if not left[0]:
            raise Stop
        left[0] -= 1
        real(path, data)

    def renew():
        ca = pki.load_ca(keys)
        server_renewal.renew(fleet, store(), ca, None, new_key=True)

    class store:
        def devices(self):
            return []

    monkeypatch.setattr(secretfile, "write", write)
    if files < 3:
        with pytest.raises(Stop):
            renew()
    else:
        renew()
    # Devices pin both: whatever is there is accepted.
    live = pki.pin(pki.load_certificate(keys / "server.crt"))
    assert live == (old if files == 0 else backup)
    monkeypatch.undo()
    server_renewal.finish(fleet)
    assert pki.pin(pki.load_key(keys / "server.key")) == live
    after = pki.load_pins(keys)
    assert after[0] == live
    assert (after[1] == backup) == (files == 0)
    # Once: the next start changes nothing.
    server_renewal.finish(fleet)
    assert pki.load_pins(keys) == after


def renew(fleet, store, **options):
    return server_renewal.renew(
        fleet, store, pki.load_ca(fleet.keys), **({"reload": None, "new_key": False} | options)
    )


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"new_key": True}, "not-applicable"),  # D1 does not pin the backup key
        ({"drop": ("127.0.0.1",)}, "certificate-name"),  # warden.toml names it
    ],
)
def test_a_certificate_that_devices_would_refuse_is_not_made(tmp_path, options, code):
    fleet = new_fleet(tmp_path)
    before = {path.name: path.read_bytes() for path in fleet.keys.iterdir()}
    with Store(fleet.database) as store:
        store.add_device(Device("D1", "relay", "UNIX", "sealed", policy.record()))
        with refused(code):
            renew(fleet, store, **options)
    assert {path.name: path.read_bytes() for path in fleet.keys.iterdir()} == before


def test_a_broker_that_shows_the_old_certificate_is_named(tmp_path, monkeypatch):
    fleet = new_fleet(tmp_path)
    monkeypatch.setattr(server_renewal, "_APPLIED_S", 0.05)
    monkeypatch.setattr(server_renewal, "_served", lambda _: b"the old one")
    with Store(fleet.database) as store, refused("broker-failed"):
        renew(fleet, store, reload=lambda: None)


def test_a_certificate_without_names(tmp_path):
    assert server_renewal.names(pki.load_ca(new_fleet(tmp_path).keys).certificate) == []


def test_a_name_that_the_certificate_lacks(tmp_path):
    fleet = new_fleet(tmp_path)
    server_renewal.check_names(fleet)
    path = fleet.keys / "server.crt"
    leaf = pki.load_ca(fleet.keys).issue(
        ("other.example",), key=pki.load_key(fleet.keys / "server.key")
    )
    path.write_bytes(leaf.certificate_pem())
    with refused("certificate-name"):
        server_renewal.check_names(fleet)
