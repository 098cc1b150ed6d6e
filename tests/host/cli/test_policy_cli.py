"""`warden policy` before it reaches a device: keys, values, and what it shows."""

import dataclasses
import json

import pytest
from cli_kit import fails
from engine_kit import SEALED
from warden_host import control_client, filelock
from warden_host.cli import main, policies
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.service.request_fields import read_policy
from warden_host.store.store import Store


@pytest.fixture
def device(folder):
    assert main.run(["provision", "D1", "--sim", "--backoff-min-ms", "500"]) == 0
    return "D1"


def test_what_can_be_set(device, capsys):
    capsys.readouterr()
    for value in ("strict=true", "mode=plain", "tls=false", "auth=password", "outbox=65", "v=1"):
        fails(capsys, "bad-argument", "policy", "set", device, value)
    for value in ("outbox_keep=ever", "servers=", "servers=elsewhere.example", "servers=a:0"):
        fails(capsys, "bad-argument", "policy", "set", device, value)
    for value in ("stall_ms", "stall_ms=", "stall_ms=499", "stall_ms=30001", "stall_ms=1e3"):
        fails(capsys, "bad-argument", "policy", "set", device, value)
    for value in ("stall_ms=-5000", "stall_ms=5000.0", "stall_ms=0x1000", "stall_ms=0000005000"):
        fails(capsys, "bad-argument", "policy", "set", device, value)
    fails(capsys, "device-unknown", "policy", "set", "D9", "stall_ms=6000")
    fails(capsys, "bad-name", "policy", "show", "D/9")
    fails(capsys, "not-serving", "policy", "set", device, "stall_ms=6000")


def test_a_plain_device(folder, capsys):
    assert main.run(["provision", "D1", "--sim", "--plain"]) == 0
    fails(capsys, "not-applicable", "policy", "set", "D1", "stall_ms=6000")


def test_what_is_shown(device, capsys):
    capsys.readouterr()
    assert main.run(["policy", "show", device]) == 0
    text = capsys.readouterr().out
    assert "backoff_min_ms   500" in text and "mode             sealed" in text
    assert main.run(["policy", "show", device, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "device": device,
        "policy": policy.parse(made := policy.record(backoff_min_ms=500))
        | policy.connection(made)
        | {"incidents": policy.INCIDENT_DEFAULTS},
        "trying": None,
    }


def test_the_order_holds_no_record(device, monkeypatch):
    """It is in fleet.db, so that the authority expects it before the device has it."""
    requests = []

    def call(_path, request, _timeout=0):
        requests.append(request)
        known = policy.record(backoff_min_ms=500)
        changed = any("change" in one for one in requests)
        record = policy.changed(known, keepalive_s=25) if changed else known
        state = {"id": int(changed), "proved": int(changed), "pending": False}
        state["digest"] = policy.policy_hash(record).hex()
        return {"ok": True, "notice": "", "reply": {"ok": True, "result": state}}

    monkeypatch.setattr(control_client, "call", call)
    assert main.run(["policy", "set", device, "keepalive_s=25"]) == 0
    base = {"op": "policy", "device": device}
    asked, order, ended = requests
    assert asked == base | {"timeout": 10}
    assert order == base | {"timeout": 10, "change": 1}
    assert ended == base | {"ended": True}


def test_reactions_are_changed_one_by_one(device, folder, monkeypatch, capsys):
    found = policies._values(("incidents.writes=48", "incidents.apps=delay"))
    assert found == ({"incidents": {"writes": 48, "apps": "delay"}}, ())
    record = policy.changed(policy.record(), **found[0])
    assert policy.parse(record)["v"] == 5
    assert policy.incidents(record) == policy.INCIDENT_DEFAULTS | found[0]["incidents"]
    assert policy.changed(record, incidents={"writes": 48}) == record
    for text in ("writes=x", "writes=1001", "junk=wipe", "apps=wipe", "codes=ignore", "other=1"):
        fails(capsys, "bad-argument", "policy", "set", device, f"incidents.{text}")
    # The authority's codes wipe nothing: who holds back its verdicts would choose.
    with pytest.raises(HostError) as error:
        policy.changed(policy.record(otp=policy.otp()), incidents={"codes": "wipe"})
    assert error.value.code == "bad-policy"
    assert main.run(["policy", "show", device, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["policy"]
    assert shown["incidents"] == policy.INCIDENT_DEFAULTS


def test_provision_sets_reactions(folder, capsys):
    words = ["--incident-writes", "7", "--incident-tamper", "lock", "--incident-lock", "90"]
    assert main.run(["provision", "D9", "--sim", *words]) == 0
    with Store(folder / "fleet.db") as store:
        terms = policy.incidents(store.device("D9").policy)
    assert terms == policy.INCIDENT_DEFAULTS | {"writes": 7, "tamper": "lock", "lock_s": 90}


def test_one_change_at_a_time(device, folder, monkeypatch, capsys):
    """A question beside an order could end the change that the device is about to make."""
    opened = Fleet(folder)
    home = opened.simulated(device)
    with Store(opened.database) as store:
        store.start_policy_change(device, policy.record(keepalive_s=25))
    asked = []
    monkeypatch.setattr(control_client, "call", lambda *_: asked.append(1))
    lock = filelock.try_lock(home.with_name(f"{device}.policy.lock"))
    assert lock is not None
    with lock:
        fails(capsys, "not-applicable", "policy", "set", device, "stall_ms=6000")
        assert main.run(["policy", "show", device, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["trying"]["keepalive_s"] == 25
    assert not asked


def test_the_socket_takes_one_form():
    for change in (None, "1", True, [], {}):
        with pytest.raises(HostError) as error:
            read_policy({"change": change}, None)
        assert error.value.code == "control-malformed"
    known = dataclasses.replace(SEALED, next_policy=SEALED.policy)
    good = [["hub-1", 8883, 0], ["hub-2", 8883, 0, "password"]]
    found = read_policy({"change": 1, "brokers": good}, known)
    assert found == {"id": 1, "policy": SEALED.policy, "brokers": good}
    for brokers in (None, "hub", [None], [["hub-1", 8883]], [["hub-1", 8883, True]]):
        with pytest.raises(HostError) as error:
            read_policy({"change": 1, "brokers": brokers}, known)
        assert error.value.code == "control-malformed"
