"""The fleet's database: transactions, bounds, damage."""

import pytest
from host_kit import refused
from warden_client.protocol import strictcbor
from warden_client.protocol.freshness import NOTHING_PROVEN, DeviceMark, Proof
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store import events, incidents, key_triggers
from warden_host.store.alarm_backlog import AlarmBacklog
from warden_host.store.passkeys import Passkey
from warden_host.store.store import App, Device, Pair, Store
from warden_host.store.tokens import Token
from warden_host.store.web_logins import WebLogin

PAIR = Pair("authority", bytes(32), bytes(range(32)), ("set_relay",))
D1 = Device("D1", "relay", "UNIX", "sealed", policy.record(), pairs=(PAIR,))


@pytest.fixture
def known(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        opened.add_device(D1)
        yield opened


def test_stored_values_are_read_back(known, tmp_path):
    mark = DeviceMark(3, 2, 9)
    known.record_proof("D1", "authority", Proof(3, 1, 8), mark)
    known.quarantine("D1", "its flash was played back")
    known.set_diverged("D1", True)
    known.set_last_seen("D1", 5.0)
    known.write_events()
    with Store(tmp_path / "fleet.db") as again:
        device = again.device("D1")
        assert device.mark == DeviceMark(3, 2, 9, "its flash was played back")
        assert device.pairs[0].proven == Proof(3, 1, 8)
        assert (device.diverged, device.last_seen) == (True, 5.0)
        again.clear_quarantine("D1")
        cleared = again.device("D1")
        assert cleared.mark == DeviceMark()
        assert cleared.pairs[0].proven == NOTHING_PROVEN


def test_provisioning_again_resets_all_proofs(known):
    known.record_proof("D1", "authority", Proof(3, 1, 8), DeviceMark(3, 1, 8))
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
    monkeypatch.setattr(events, "MAX_EVENTS", 5)
    monkeypatch.setattr(incidents, "MAX_INCIDENTS", 5)
    for number in range(12):
        known.add_event("D1", "authority", "x", str(number))
        known.add_incident("D1", "device", "tampered", f"x{number}", 1)
    assert [event[3] for event in known.events("D1")] == ["7", "8", "9", "10", "11"]
    kept = [incident.at for incident in known.incidents("D1")]
    assert kept == ["x7", "x8", "x9", "x10", "x11"]


def test_one_device_pushes_out_nothing_of_another(known, monkeypatch):
    monkeypatch.setattr(events, "MAX_EVENTS", 5)
    monkeypatch.setattr(incidents, "MAX_INCIDENTS", 5)
    known.add_event("D2", "authority", "x", "{}")
    known.add_incident("D2", "device", "tampered", "x", 1)
    for number in range(30):
        known.add_event("D1", "authority", "x", str(number))
        known.add_incident("D1", "host", "bad-topic", f"x{number}", 1)
    assert len(known.events("D2")) == len(known.incidents("D2")) == 1
    assert len(known.events("D1")) == len(known.incidents("D1")) == 5


def test_repeats_of_an_incident_are_one_row(known, monkeypatch):
    known.add_incident("D1", "device", "tampered", "x", 2)
    known.add_incident("D1", "device", "replayed", "x", 1)
    for _ in range(1000):
        known.add_incident("D1", "device", "tampered", "x", 3)
    known.add_incident("D1", "host", "tampered", "x", 1 << 60)
    replayed, tampered, host = known.incidents("D1")
    assert (replayed.code, replayed.n, replayed.first) == ("replayed", 1, replayed.time)
    assert (tampered.code, tampered.at, tampered.n) == ("tampered", "x", 3002)
    assert tampered.first < replayed.time < tampered.time
    assert (host.source, host.n) == ("host", 1 << 60)
    known.add_incident("D1", "host", "tampered", "x", 1 << 60)
    assert known.incidents("D1")[-1].n == 1 << 53


OLD_INCIDENTS = """
DROP TABLE incidents;
DROP INDEX events_device;
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, device TEXT NOT NULL, source TEXT NOT NULL,
    code TEXT NOT NULL, at TEXT NOT NULL, n INTEGER NOT NULL) STRICT;
INSERT INTO incidents (time, device, source, code, at, n) VALUES
    (1.0, 'D1', 'device', 'tampered', 'x', 2), (2.0, 'D1', 'device', 'replayed', 'x', 1),
    (3.0, 'D1', 'device', 'tampered', 'x', 5);
"""


# What came with format 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5 and 4.
PASSKEYS = "DROP TABLE passkeys; DROP TABLE passkey_codes;"
KEY_LISTS = (
    PASSKEYS
    + "".join(f"DROP TRIGGER {script.split()[2]};" for script in key_triggers.SCRIPTS)
    + "DROP TABLE key_changes; DROP TABLE app_lists;"
)
LOGS = (
    KEY_LISTS
    + """
DROP TABLE reactions;
DROP TABLE incident_logs; DROP TABLE incident_records;
ALTER TABLE incidents RENAME TO incidents_19;
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, first REAL NOT NULL, time REAL NOT NULL, device TEXT NOT NULL,
    source TEXT NOT NULL, code TEXT NOT NULL, at TEXT NOT NULL, n INTEGER NOT NULL,
    UNIQUE (device, source, code, at)) STRICT;
INSERT INTO incidents SELECT id, first, time, device, source, code, at, n FROM incidents_19;
DROP TABLE incidents_19;
"""
)
WEB_LOGINS = LOGS + "DROP TABLE web_logins;"
BANS = WEB_LOGINS + "DROP TABLE bans; DROP TABLE address_lists; DROP TABLE good_logins;"
HELD = BANS + "DROP TABLE held_commands;"
OPERATORS = HELD + "DROP TABLE operators; DROP TABLE audit;"
APP_CHANGES = OPERATORS + "DROP TABLE app_changes; DROP TABLE app_renames; DROP INDEX pairs_appid;"
APP_EXPORTS = APP_CHANGES + "DROP TABLE app_exports;"
PINS = APP_EXPORTS + "DROP TABLE pins;"
APP_TOKENS = PINS + "DROP TABLE app_tokens;"
POLICY_CHANGES = APP_TOKENS + "DROP TABLE policy_changes;"
CERTIFICATES = POLICY_CHANGES + "DROP TABLE certificates;"
COLUMNS = CERTIFICATES + (
    "ALTER TABLE pairs DROP COLUMN event_number; ALTER TABLE devices DROP COLUMN asleep_until;"
)
GROUPS = COLUMNS + "DROP TABLE group_devices; DROP TABLE rollout_history;"
ENDINGS = GROUPS + "DROP TABLE endings;"
CODES = ENDINGS + (
    "DROP TABLE otp_codes; DROP TABLE otp_counts; DROP TABLE otp_contacts;"
    "DROP TABLE otp_deliveries; DROP TABLE otp_enrolments;"
)
RELEASES = (
    CODES
    + "DROP TABLE rollout_devices; DROP TABLE rollouts; DROP TABLE releases; DROP TABLE settings;"
)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_database_keeps_its_incidents(tmp_path, version):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened._db.executescript(RELEASES + OLD_INCIDENTS)
        opened._db.executescript("DROP TABLE rotations;" * (version == 1))
        opened._db.execute(f"PRAGMA user_version = {version}")
    for _ in range(2):
        with Store(path) as opened:
            assert opened.incidents("D1") == [
                (2.0, "device", "replayed", "x", 1, 2.0, ""),
                (3.0, "device", "tampered", "x", 7, 1.0, ""),
            ]
            assert opened.rotation("D1") is None
            assert opened.releases() == []


def test_a_database_from_before_logs_keeps_its_incidents(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.add_incident("D1", "device", "tampered", "x", 1)
        opened._db.executescript(LOGS + "PRAGMA user_version = 18;")
    for count in (1, 3):
        with Store(path) as opened:
            assert [(one.n, one.app) for one in opened.incidents("D1")] == [(count, "")]
            opened.add_incident("D1", "device", "tampered", "x", 2)
    with Store(path) as opened:
        opened.add_incident("D1", "device", "tampered", "x", 1, "lights")
        assert [(one.n, one.app) for one in opened.incidents("D1")] == [(5, ""), (1, "lights")]
        assert opened.log_head("D1") is None


def test_a_database_from_before_releases_gets_their_tables(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.add_incident("D1", "device", "tampered", "x", 1)
        opened._db.executescript(RELEASES + "PRAGMA user_version = 3;")
    with Store(path) as opened:
        assert opened.incidents("D1")[0].code == "tampered"
        assert opened.reserve_sequence("a-1", "a", "1", None, None).sequence == 1
        assert opened.code("D1") is None


def test_a_database_from_before_codes_gets_their_tables(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.reserve_sequence("a-1", "a", "1", None, None)
        opened._db.executescript(CODES + "PRAGMA user_version = 4;")
    with Store(path) as opened:
        assert opened.releases()[0].name == "a-1"
        assert opened.code("D1") is opened.enrolment("D1") is None
        assert opened.contacts("D1") == opened.deliveries("D1") == []


def test_a_full_disk_is_named_and_what_was_kept_stays(known):
    pages = known._db.execute("PRAGMA page_count").fetchone()[0]
    known._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(HostError) as caught:
        for _ in range(events.BATCH):
            known.add_event("D1", "authority", "x", "y" * 5000)
    assert caught.value.code == "database-damaged"
    assert caught.value.text.endswith(f"{events.BATCH} events are lost")
    assert known.device("D1").last_seen == 0.0
    known._db.execute("PRAGMA max_page_count = 100000")
    known.add_event("D1", "authority", "x", "{}")
    assert len(known.events("D1")) == 1


def test_events_are_committed_in_batches_and_at_the_end(known, tmp_path):
    def stored() -> int:
        with Store(tmp_path / "fleet.db") as other:
            return len(other.events("D1"))

    for number in range(events.BATCH + 1):
        assert stored() == (events.BATCH if number == events.BATCH else 0)
        known.add_event("D1", "authority", "x", str(number))
    assert stored() == events.BATCH
    assert known.device("D1").last_seen > 0.0
    known.close()
    assert stored() == events.BATCH + 1  # (closing twice does no harm)


def test_rows_of_a_device_are_bounded_in_the_file(known, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MAX_EVENTS", 5)

    def rows() -> int:
        return known._db.execute("SELECT count(*) FROM events").fetchone()[0]

    for number in range(3 * events.BATCH):
        known.add_event("D1", "authority", "x", str(number))
        known.write_events()
        assert rows() <= 5 + 65
    with Store(tmp_path / "fleet.db") as again:  # the slack of an earlier process goes, too
        again.add_event("D1", "authority", "x", "new")
        again.write_events()
        assert rows() == 5


def test_a_device_has_two_policies_while_it_tries_one(known):
    first, second = D1.policy, policy.record(stall_ms=9000)
    assert known.device("D1").next_policy is None
    for proved in (False, True):
        known.start_policy_change("D1", second)
        device = known.device("D1")
        assert (device.policy, device.next_policy) == (first, second)
        known.set_diverged("D1", True)
        known.end_policy_change("D1", proved)
        device = known.device("D1")
        assert (device.policy, device.next_policy) == (second if proved else first, None)
        assert device.diverged is not proved
    known.end_policy_change("D1", True)  # there is none
    assert known.device("D1").policy == second
    known.start_policy_change("D1", first)
    with known.transaction():
        known.add_device(D1)  # provisioned anew
    assert known.device("D1").next_policy is None


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


def test_a_database_from_before_endings_gets_their_table(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.reserve_sequence("a-1", "a", "1", None, None)
        opened._db.executescript(ENDINGS + "PRAGMA user_version = 5;")
    for _ in range(2):
        with Store(path) as opened:
            assert opened.releases()[0].name == "a-1"
            assert opened.endings() == {}


def test_a_database_from_before_groups_is_migrated(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.add_device(D1)
        number = opened.add_rollout("a-1", 1, {}, {"D1": 0, "D2": 0})
        opened.set_target(number, "D1", "Rejected", "tampered", True)
        changed = opened.rollout(number).targets[0].changed
        opened._db.executescript(GROUPS + "PRAGMA user_version = 6;")
    for _ in range(2):
        with Store(path) as opened:
            steps = opened.history(number)
            assert steps["D1"] == [(changed, "Rejected", "tampered")]
            assert [step.state for step in steps["D2"]] == ["Waiting"]
            assert opened.groups() in ({}, {"hall": ["D1"]})
            opened.add_to_group("hall", ["D1"])


def test_a_database_from_before_outboxes_gets_their_columns(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.add_device(D1)
        opened._db.executescript(COLUMNS + "PRAGMA user_version = 7;")
    for _ in range(2):
        with Store(path) as opened:
            assert [pair.event_number for pair in opened.device("D1").pairs] == [0] * len(D1.pairs)


def test_numbers_of_an_outbox_rise_with_their_events(known):
    """And belong to one provisioning: a device that was given new secrets counts from 0."""
    pair = known.device("D1").pairs[0]

    def number() -> int:
        return known.device("D1").pairs[0].event_number

    known.add_event("D1", pair.appid, "x", "{}", 7, pair.uid)
    assert number() == 0
    known.write_events()
    assert number() == 7
    known.add_event("D1", pair.appid, "x", "{}", 5, pair.uid)
    known.add_event("D1", pair.appid, "x", "{}")
    known.write_events()
    assert number() == 7
    known.add_event("D1", pair.appid, "x", "{}", 9, b"another")
    known.write_events()
    assert number() == 7
    known.clear_quarantine("D1")
    assert number() == 0


def test_a_database_from_before_certificates_gets_their_table(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.add_device(D1)
        opened._db.executescript(CERTIFICATES + "PRAGMA user_version = 8;")
    for _ in range(2):
        with Store(path) as opened:
            assert opened.certificates() == []
            assert opened.find("D1") is not None


def test_a_database_from_before_tokens_gets_their_table(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        opened._db.executescript(APP_TOKENS + "PRAGMA user_version = 10;")
    with Store(tmp_path / "fleet.db") as opened:
        assert opened.tokens() == []
        row = Token("1", "home", ("read:lock",), 1.0, 2.0)
        with opened.transaction():
            opened.add_token(row)
        assert opened.tokens() == [row]


def test_a_database_from_before_exports_gets_their_table(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        opened.add_app(App("home", ("lock",), ("open",)))
        opened._db.executescript(APP_EXPORTS + "PRAGMA user_version = 12;")
    with Store(tmp_path / "fleet.db") as opened:
        assert opened.exported() == frozenset()
        opened.set_exported("home", 1.0)
        assert opened.exported() == {"home"}
        opened._db.execute("DELETE FROM apps")
        assert opened.exported() == frozenset()


def test_a_database_from_before_pins_gets_their_table(tmp_path):
    path = tmp_path / "fleet.db"
    with Store(path) as opened:
        opened.add_device(D1)
        opened._db.executescript(PINS + "PRAGMA user_version = 11;")
    for _ in range(2):
        with Store(path) as opened:
            assert opened.pins("D1") in ([], [b"L" * 32, b"B" * 32])
            opened.set_pins("D1", [b"L" * 32, b"B" * 32])


def test_a_log_in_is_an_operators(known):
    with refused("operator-unknown"):
        known.put_web_login(WebLogin("nobody", "a hash", bytes(20)))
    with refused("operator-unknown"):
        known.put_passkey_code("nobody", bytes(32), 1.0)
    with refused("operator-unknown"):
        known.add_passkey(Passkey(b"id", "nobody", b"user", b"key", 0, "", 1.0))


def test_alarms_of_another_form_are_damage(tmp_path):
    with AlarmBacklog(tmp_path / "fleet.db") as backlog:
        backlog.set_alarm_backlog([1])  # type: ignore[arg-type]
        with refused("database-damaged"):
            backlog.alarm_backlog()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_others_can_read_is_not_opened(known, tmp_path, read_only):
    (tmp_path / "fleet.db").chmod(0o640)
    with refused("key-permissions"):
        Store(tmp_path / "fleet.db", read_only=read_only)


def test_a_rotation_of_another_form_is_damage(known):
    with known.transaction():
        known.add_rotation("D1", {"cmd": "rotate"})
    assert known.rotation("D1").body["cmd"] == "rotate"
    known._do("UPDATE rotations SET body = ?", strictcbor.encode([1]))
    with refused("database-damaged"):
        known.rotation("D1")


def test_a_copy_that_is_not_sound_is_no_backup(known, tmp_path):
    known.copy_to(tmp_path / "good")
    known._db.execute("CREATE TABLE more (a)")
    known._db.execute("INSERT INTO more VALUES (NULL)")
    known._db.execute("PRAGMA writable_schema = ON")
    known._db.execute(
        "UPDATE sqlite_master SET sql = 'CREATE TABLE more (a NOT NULL)' WHERE name = 'more'"
    )
    with refused("database-damaged"):
        known.copy_to(tmp_path / "bad")
