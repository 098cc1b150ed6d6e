"""Renewals of certificates over the link: which rotation the device is asked to take."""

import contextlib
import time

import pytest
from host_kit import new_fleet, refused
from warden_host.devices import certificates, renewal, rotation
from warden_host.errors import HostError
from warden_host.fleet import client_pki
from warden_host.protocol import policy
from warden_host.store.store import Device, Store


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    client_pki.create(made)
    return made


@pytest.mark.parametrize("revoked", [False, True])
def test_one_that_was_revoked_before_its_proof_is_replaced(fleet, revoked):
    """The device, which has a password as well, would refuse all others as busy for ever."""
    ca = client_pki.load_issuer(fleet)
    key = client_pki.new_key("ec").public_key().public_numbers()
    point = (key.x.to_bytes(32, "big") + key.y.to_bytes(32, "big")).hex()
    record = policy.record(auth="certificate-or-password")
    sent: list[dict[str, object]] = []

    def ask(command, body):
        sent.append(body)
        return {"ok": True, "reply": {"result": {"pending": []}}}

    with Store(fleet.database) as store:
        device = Device("O1", "lock", "UNIX", "sealed", record, pairs=())
        issued = certificates.issue(ca, device, "ec")
        with store.transaction():
            store.add_device(device)
            store.add_certificate(issued.row)
            first = store.add_rotation("O1", {"certificate": issued.record()})
            store.confirm_rotation("O1", 1.0)
            if revoked:  # `warden cert revoke`
                store.revoke_certificates("O1", time.time())
        answer = {"ok": True, "reply": {"result": {"key": point}}}
        renewal.renew(fleet, store, ca, "O1", ask, lambda: answer, lambda _: None, 0.0)
        assert store.rotation("O1") is None
        valid = [row.serial for row in store.valid_certificates("O1")]
    assert len(valid) == 1 and (valid == [issued.row.serial]) is not revoked
    assert [body["id"] for body in sent] == [first.body["id"] + revoked]
    assert sent[0].get("instead", False) is revoked


@pytest.mark.parametrize(
    "result", [None, [], {}, {"key": 5}, {"key": "no hex"}, {"key": "00" * 63}]
)
def test_a_key_of_another_form_gets_no_certificate(fleet, result):
    answer = {"ok": True, "reply": {"result": result}}
    record = policy.record(auth="certificate")
    with Store(fleet.database) as store:
        store.add_device(Device("O1", "lock", "UNIX", "sealed", record, pairs=()))
        ca = client_pki.load_issuer(fleet)
        with refused("bad-body"):
            renewal.renew(fleet, store, ca, "O1", pytest.fail, lambda: answer, print, 0.0)
        assert store.valid_certificates("O1") == [] and store.rotation("O1") is None


def test_a_certificate_that_the_device_refused_is_revoked(fleet):
    record = policy.record(auth="certificate")

    def ask(command, body):
        return {"ok": False, "reply": {"error": "bad-body"}}

    with Store(fleet.database) as store:
        store.add_device(Device("O1", "lock", "UNIX", "sealed", record, pairs=()))
        ca = client_pki.load_issuer(fleet)
        with refused("command-refused"):
            renewal.renew(fleet, store, ca, "O1", ask, pytest.fail, print, 0.0, on_host=True)
        assert store.valid_certificates("O1") == [] and store.rotation("O1") is None
        assert len(store.certificates()) == 1


def test_an_unfinished_rotation_of_other_parts_comes_first(fleet, monkeypatch):
    order: list[dict] = []
    monkeypatch.setattr(
        rotation, "complete_rotation", lambda _, store, one, *rest: order.append(one.body)
    )
    record = policy.record(auth="certificate")
    with Store(fleet.database) as store:
        store.add_device(Device("O1", "lock", "UNIX", "sealed", record, pairs=()))
        with store.transaction():
            store.add_rotation("O1", {"password": "x"})
        ca = client_pki.load_issuer(fleet)
        with contextlib.suppress(HostError):  # the other one stands for a finished one
            renewal.renew(
                fleet, store, ca, "O1", pytest.fail, pytest.fail, print, 0.0, on_host=True
            )
    assert [sorted(body) for body in order][0] == ["id", "password"]


@pytest.mark.parametrize(
    ("changes", "ending", "code"),
    [
        ({"auth": "password"}, False, "not-applicable"),
        ({"mode": "plain"}, False, "not-applicable"),
        ({}, True, "revoked"),
    ],
)
def test_devices_whose_certificate_is_not_renewed_over_the_link(fleet, changes, ending, code):
    record = policy.record(**({"auth": "certificate"} | changes))
    mode = changes.get("mode", "sealed")
    with Store(fleet.database) as store:
        store.add_device(Device("O1", "lock", "UNIX", mode, record, pairs=()))
        if ending:
            with store.transaction():
                store.order_ending("O1", revoked=False, wipe=True, moment=1.0)
        ca = client_pki.load_issuer(fleet)
        with refused(code):
            renewal.renew(fleet, store, ca, "O1", pytest.fail, pytest.fail, print, 0.0)
        assert store.certificates() == []


@pytest.mark.parametrize(
    ("error", "code"), [("bad-body", "command-refused"), ("busy", "timed-out")]
)
def test_a_device_that_makes_no_key(fleet, error, code):
    record = policy.record(auth="certificate")
    answer = {"ok": False, "reply": {"error": error}}
    with Store(fleet.database) as store:
        store.add_device(Device("O1", "lock", "UNIX", "sealed", record, pairs=()))
        ca = client_pki.load_issuer(fleet)
        with refused(code):
            renewal.renew(fleet, store, ca, "O1", pytest.fail, lambda: answer, print, -1.0)
        assert store.certificates() == []
