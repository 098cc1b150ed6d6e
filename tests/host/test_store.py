"""The fleet's database: transactions, bounds, damage."""

import pytest
from host_kit import refused
from warden_host import policy, store
from warden_host.proof import NOTHING_PROVEN, DeviceMark, Proof
from warden_host.store import Device, Pair, Store

PAIR = Pair("authority", bytes(32), bytes(range(32)), ("set_relay",))
D1 = Device("D1", "relay", "UNIX", "sealed", policy.record(), pairs=(PAIR,))


@pytest.fixture
def known(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        opened.add_device(D1)
        yield opened


def test_what_is_kept_comes_back(known, tmp_path):
    mark = DeviceMark(3, 2, 9)
    known.prove("D1", "authority", Proof(3, 1, 8), mark)
    known.quarantine("D1", "its flash was played back")
    known.set_diverged("D1", True)
    known.seen("D1", 5.0)
    with Store(tmp_path / "fleet.db") as again:
        device = again.device("D1")
        assert device.mark == DeviceMark(3, 2, 9, "its flash was played back")
        assert device.pairs[0].proven == Proof(3, 1, 8)
        assert (device.diverged, device.last_seen) == (True, 5.0)
        again.clear("D1")
        cleared = again.device("D1")
        assert cleared.mark == DeviceMark()
        assert cleared.pairs[0].proven == NOTHING_PROVEN


def test_provisioning_again_forgets_all_that_was_proven(known):
    known.prove("D1", "authority", Proof(3, 1, 8), DeviceMark(3, 1, 8))
    known.quarantine("D1", "x")
    fresh = Pair("authority", b"n" * 32, b"u" * 32, ())
    known.add_device(Device("D1", "lamp", "UNIX", "plain", policy.record(), pairs=(fresh,)))
    device = known.device("D1")
    assert device.mark == DeviceMark()
    assert device.pairs == (fresh,)


def test_a_failed_transaction_leaves_nothing(known):
    class Stop(Exception):
        pass

    with pytest.raises(Stop), known.transaction():
        known.add_device(Device("D2", "relay", "UNIX", "sealed", b"", pairs=(PAIR,)))
        raise Stop
    with refused("device-unknown"):
        known.device("D2")
    assert [device.device for device in known.devices()] == ["D1"]


def test_events_and_incidents_are_bounded(known, monkeypatch):
    monkeypatch.setattr(store, "MAX_EVENTS", 5)
    monkeypatch.setattr(store, "MAX_INCIDENTS", 5)
    for number in range(12):
        known.add_event("D1", "authority", "x", str(number))
        known.add_incident("D1", "device", "tampered", "x", number)
    assert [event[3] for event in known.events("D1")] == ["7", "8", "9", "10", "11"]
    assert [incident[4] for incident in known.incidents("D1")] == [7, 8, 9, 10, 11]


def test_secrets_are_not_in_any_text():
    assert repr(bytes(range(32))) not in repr(D1)


def test_damage_is_named(tmp_path):
    path = tmp_path / "fleet.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    path.chmod(0o600)
    with refused("database-damaged"):
        Store(path)
    path.chmod(0o644)
    with refused("key-permissions"):
        Store(path)


def test_a_database_of_the_future_is_left_alone(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened._db.execute("PRAGMA user_version = 99")
    with refused("database-damaged"):
        Store(path)
