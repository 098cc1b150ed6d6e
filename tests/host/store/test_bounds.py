"""No file of the fleet grows for ever: each kind has a bound, or moves to files that have one."""

import json
import sqlite3
import time

import pytest
from host_kit import new_fleet, refused
from warden_host.backup import age, backup
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.service.housekeeping import housekeeping, keep_house
from warden_host.store import audit_export, database, retention
from warden_host.store.audit import find_break
from warden_host.store.schema import SCRIPTS
from warden_host.store.store import Device, Store

DAY_S = 86400
NOW = 2_000_000_000.0


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as made:
        with made.transaction():
            made.add_device(Device("D1", "relay", "UNIX", "sealed", b"policy"))
        yield made


def count(store: Store, table: str) -> int:
    return store._do(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


@pytest.mark.parametrize(
    ("kind", "table", "row"),
    [
        ("events", "events", "(NULL, {time}, '{device}', 'a', 'e', '{{}}')"),
        ("incidents", "incidents", "(NULL, 1, {time}, '{device}', 'host', 'c', '', 1, '')"),
        (
            "incident records",
            "incident_records",
            "(NULL, '{device}', 1, 1, {time}, 'c', '', '', 1, x'')",
        ),
        ("deliveries", "otp_deliveries", "('{device}', 'mail', 'code', {time}, '')"),
    ],
)
def test_what_a_removed_device_left_has_an_end(store, kind, table, row):
    insert = f"INSERT INTO {table} VALUES "
    moments = {"D1": NOW - 999 * DAY_S, "GONE": NOW - 91 * DAY_S, "NEW": NOW - 89 * DAY_S}
    for device, moment in moments.items():
        store._do(insert + row.format(time=moment, device=device))
    assert store.remove_past(NOW)[kind] == 1
    kept = {name for (name,) in store._do(f"SELECT device FROM {table}")}  # noqa: S608
    assert kept == {"D1", "NEW"}


def test_counts_of_limits_that_nobody_asks_for_again(store):
    for moment in (NOW - 3 * DAY_S, NOW - DAY_S):
        store.add_count("device/once", int(moment), 10**6)
    assert store.remove_past(NOW)["counts"] == 1
    assert count(store, "otp_counts") == 1


def test_rollouts_that_ended(store, monkeypatch):
    monkeypatch.setattr(retention, "MOST_ROLLOUTS", 2)
    for _ in range(5):
        number = store.add_rollout("relay-1", 1, {}, {"D1": 0})
        store.set_target(number, "D1", "Accepted", "", True)
    for number in (2, 3, 4, 5):
        store.set_rollout(number, "done")
    assert store.remove_past(time.time() + 1)["rollouts"] == 2
    assert [one.id for one in store.rollouts()] == [1, 4, 5]  # the first one is active
    assert (count(store, "rollout_devices"), count(store, "rollout_history")) == (3, 6)


def test_the_databases_log_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "MAX_WAL", 64 << 10)
    path = tmp_path / "fleet.db"
    wal = tmp_path / "fleet.db-wal"
    with Store(path) as store:
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()  # keeps the log from being emptied
        for number in range(1500):
            store.add_incident(f"D{number}", "host", "c", "x" * 1000, 1)
        grown = wal.stat().st_size
        reader.close()
        assert grown > 1 << 20
        for number in range(2500):  # the next checkpoint, and the next round of the log
            store.add_incident(f"E{number % 3}", "host", "c", "", 1)
        assert wal.stat().st_size <= 5 << 20
        assert store._do("PRAGMA journal_size_limit").fetchone()[0] == 64 << 10


def test_the_audit_log_moves_into_files_and_its_chain_goes_on(store, tmp_path):
    assert audit_export.rotate(store, tmp_path, 10) is None
    paths = []
    for _ in range(2):
        for _ in range(12):
            store.add_audit("owner", "app add home")
        path = audit_export.rotate(store, tmp_path, 10)
        paths.append(path)
        assert count(store, "audit") <= 10
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    before, id_ = bytes(32).hex(), 0
    for path in paths:
        first, *rows = map(json.loads, path.read_text().splitlines())
        assert (first["after"], first["hash"]) == (id_, before)
        id_, before = rows[-1]["id"], rows[-1]["hash"]
    assert store.audit_base() == (id_, bytes.fromhex(before))
    assert find_break(store.audit_rows(), store.audit_base())[1] is None
    assert id_ + count(store, "audit") == 24
    store._do("DELETE FROM audit WHERE id = ?", id_ + 3)
    with refused("audit-broken"):
        audit_export.rotate(store, tmp_path, 1)


def test_a_rotation_of_the_audit_log_that_was_cut_off(store, tmp_path, monkeypatch):
    for _ in range(12):
        store.add_audit("owner", "app add home")
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "trim_audit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            audit_export.rotate(store, tmp_path, 10)
    assert count(store, "audit") == 12
    path = audit_export.rotate(store, tmp_path, 10)
    assert len(path.read_text().splitlines()) == 1 + 6
    assert count(store, "audit") == 6


def test_the_house_is_kept_while_the_fleet_is_served(tmp_path, monkeypatch, capsys):
    fleet = new_fleet(tmp_path)
    with Store(fleet.database) as store:
        for _ in range(8):
            store.add_audit("owner", "app add home")
    monkeypatch.setattr(audit_export.rotate, "__defaults__", (4,))
    notices: list[FleetEvent] = []
    with housekeeping(fleet, notices.append):
        pass
    assert [one.text for one in notices if "audit/000000001-000000004.jsonl" in one.text]
    exported = fleet.root / "audit" / "000000001-000000004.jsonl"
    monkeypatch.setenv("WARDEN_FLEET", str(fleet.root))
    assert main.run(["audit", "verify", str(exported)]) == 0
    # What fails is said, and the rest is done.
    notices.clear()
    with Store(fleet.database) as store:
        store._do("DELETE FROM audit WHERE id = 6")
        for _ in range(8):
            store.add_audit("owner", "app add home")
    keep_house(fleet, notices.append, NOW)
    assert [one.code for one in notices] == ["audit-broken"]
    capsys.readouterr()


def test_a_part_of_the_housekeeping_that_fails_is_told_and_the_rest_is_done(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    fleet, notices = new_fleet(tmp_path), []
    monkeypatch.setattr(audit_export, "rotate", full)
    monkeypatch.setattr(Store, "remove_past", full)
    keep_house(fleet, notices.append, NOW)
    assert [(one.code, one.text.partition(":")[0]) for one in notices] == [
        ("filesystem", "old rows were not removed"),
        ("filesystem", "the audit log was not rotated"),
    ]


def test_a_backup_that_was_killed_leaves_no_copy_of_the_database(tmp_path):
    fleet = new_fleet(tmp_path)
    left = fleet.root / ".backup.0a0b0c0d.db"
    left.write_bytes(b"a copy")
    recipient = age.read_recipient(age.new_identity()[1])
    backup.make(fleet, tmp_path / "fleet.age", backup.Lock([recipient]))
    assert not left.exists()


# Table → what bounds it. A new table needs a line here, and a row in docs/operations.md.
BOUNDED = {
    "apps": "the owner adds them",
    "devices": "the owner adds them",
    "pairs": "devices × 8",
    "events": "MAX_EVENTS a device; remove_past()",
    "incidents": "MAX_INCIDENTS a device; remove_past()",
    "rotations": "one a device",
    "settings": "names of the program; a wait for a backup is one a device",
    "releases": "the owner makes them",
    "rollouts": "remove_past()",
    "rollout_devices": "go with their rollout",
    "rollout_history": "MAX_HISTORY a device of a rollout",
    "otp_codes": "one a device",
    "otp_counts": "the window of each limit; remove_past()",
    "otp_contacts": "the owner adds them",
    "otp_deliveries": "one a device and way; remove_past()",
    "otp_enrolments": "one a device",
    "endings": "one a device",
    "group_devices": "the owner adds them",
    "certificates": "remove_expired_certificates()",
    "policy_changes": "one a device",
    "app_tokens": "swept once they have ended",
    "pins": "one a device",
    "app_exports": "one an application",
    "app_changes": "one a device and application",
    "app_renames": "one an application",
    "operators": "the owner adds them",
    "audit": "rotate()",
    "held_commands": "16 a device",
    "bans": "50,000",
    "address_lists": "the owner adds them",
    "web_logins": "one an operator",
    "passkeys": "8 an operator",
    "passkey_codes": "one an operator",
    "incident_logs": "one a device",
    "incident_records": "MAX_RECORDS a device; remove_past()",
    "good_logins": "100,000, for known_days",
    "reactions": "one a device",
    "app_lists": "one an application",
    "key_changes": "one a device and application",
}


def test_each_table_has_a_bound():
    database = sqlite3.connect(":memory:")
    database.executescript(SCRIPTS[0])
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {name for (name,) in rows} == set(BOUNDED)
