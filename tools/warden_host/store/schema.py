"""The tables of fleet.db, and the scripts that migrate an older database."""

FORMAT = 7
# Since format 2. body: the command's CBOR with the new secrets while the rotation runs, then NULL:
# the number alone is kept.
_ROTATIONS = """
CREATE TABLE rotations (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, number INTEGER NOT NULL,
    body BLOB, taken REAL) STRICT;
"""
# Since format 3. One row of each kind: first and time are when it came first and last.
_INCIDENTS = """
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, first REAL NOT NULL, time REAL NOT NULL, device TEXT NOT NULL,
    source TEXT NOT NULL, code TEXT NOT NULL, at TEXT NOT NULL, n INTEGER NOT NULL,
    UNIQUE (device, source, code, at)) STRICT;
CREATE INDEX events_device ON events (device);
"""
# Since format 4. releases.cek: the key that encrypts its images, NULL where they are plain. Rows
# stay when their folder is deleted, so that no sequence number is used twice.
_RELEASES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE releases (
    sequence INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
    version TEXT NOT NULL, made REAL NOT NULL, cek BLOB) STRICT;
CREATE TABLE rollouts (
    id INTEGER PRIMARY KEY, release TEXT NOT NULL, sequence INTEGER NOT NULL, plan TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', began REAL NOT NULL,
    forgiven INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE rollout_devices (
    rollout INTEGER NOT NULL REFERENCES rollouts ON DELETE CASCADE, device TEXT NOT NULL,
    wave INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL, PRIMARY KEY (rollout, device)) STRICT;
CREATE INDEX rollout_devices_device ON rollout_devices (device);
"""
# Since format 5. Codes at the keypad (store/otp.py). An enrolment has no device before its
# provisioning.
_CODES = """
CREATE TABLE otp_codes (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, req TEXT NOT NULL,
    digest BLOB, duress BLOB, made INTEGER NOT NULL, validity INTEGER NOT NULL,
    tries INTEGER NOT NULL, past TEXT NOT NULL) STRICT;
CREATE TABLE otp_counts (key TEXT NOT NULL, time INTEGER NOT NULL) STRICT;
CREATE INDEX otp_counts_key ON otp_counts (key, time);
CREATE TABLE otp_contacts (
    device TEXT NOT NULL, purpose TEXT NOT NULL, way TEXT NOT NULL, address TEXT NOT NULL,
    PRIMARY KEY (device, purpose, way, address)) STRICT;
CREATE TABLE otp_deliveries (
    device TEXT NOT NULL, way TEXT NOT NULL, purpose TEXT NOT NULL, time REAL NOT NULL,
    error TEXT NOT NULL, PRIMARY KEY (device, way)) STRICT;
CREATE TABLE otp_enrolments (
    device TEXT PRIMARY KEY, source TEXT NOT NULL, digits INTEGER NOT NULL,
    step_s INTEGER NOT NULL,
    first INTEGER NOT NULL, secret BLOB NOT NULL, duress BLOB) STRICT;
"""
# Since format 6. Devices to revoke or wipe (store/endings.py).
_ENDINGS = """
CREATE TABLE endings (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, revoked INTEGER NOT NULL,
    wipe INTEGER NOT NULL, ordered REAL NOT NULL, sent REAL, wiped REAL) STRICT;
"""
# Since format 7. Groups of devices (store/groups.py), and the history of each device of a rollout.
_GROUPS = """
CREATE TABLE group_devices (
    name TEXT NOT NULL, device TEXT NOT NULL, PRIMARY KEY (name, device)) STRICT;
CREATE INDEX group_devices_device ON group_devices (device);
"""
_HISTORY = """
CREATE TABLE rollout_history (
    id INTEGER PRIMARY KEY, rollout INTEGER NOT NULL REFERENCES rollouts ON DELETE CASCADE,
    device TEXT NOT NULL, time REAL NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE INDEX rollout_history_device ON rollout_history (rollout, device);
"""
_SCHEMA = f"""
BEGIN;
CREATE TABLE apps (appid TEXT PRIMARY KEY, types TEXT NOT NULL, commands TEXT NOT NULL) STRICT;
CREATE TABLE devices (
    device TEXT PRIMARY KEY, type TEXT NOT NULL, board TEXT NOT NULL, mode TEXT NOT NULL,
    policy BLOB NOT NULL, quarantine TEXT NOT NULL DEFAULT '', diverged INTEGER NOT NULL DEFAULT 0,
    boot INTEGER NOT NULL DEFAULT 0, connect INTEGER NOT NULL DEFAULT 0,
    vault_gen INTEGER NOT NULL DEFAULT 0, last_seen REAL NOT NULL DEFAULT 0) STRICT;
CREATE TABLE pairs (
    device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE, appid TEXT NOT NULL,
    k BLOB NOT NULL, uid BLOB NOT NULL, commands TEXT NOT NULL,
    boot INTEGER NOT NULL DEFAULT -1, connect INTEGER NOT NULL DEFAULT -1,
    vault_gen INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (device, appid)) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, device TEXT NOT NULL, appid TEXT NOT NULL,
    name TEXT NOT NULL, body TEXT NOT NULL) STRICT;
{_INCIDENTS}
{_ROTATIONS}
{_RELEASES}
{_CODES}
{_ENDINGS}
{_GROUPS}
{_HISTORY}
PRAGMA user_version = {FORMAT};
COMMIT;
"""
_TO_3 = f"""
ALTER TABLE incidents RENAME TO incidents_2;
{_INCIDENTS}
INSERT INTO incidents (first, time, device, source, code, at, n)
    SELECT min(time), max(time), device, source, code, at, sum(n) FROM incidents_2
    GROUP BY device, source, code, at ORDER BY max(id);
DROP TABLE incidents_2;
"""  # noqa: S608  nothing but our own constants
# Of older rollouts only the present state of each device is known.
_TO_7 = f"""
{_GROUPS}
{_HISTORY}
INSERT INTO rollout_history (rollout, device, time, state, reason)
    SELECT rollout, device, changed, state, reason FROM rollout_devices;
PRAGMA user_version = {FORMAT};
"""  # noqa: S608
_TO_6 = f"{_ENDINGS} {_TO_7}"
_TO_5 = f"{_CODES} {_TO_6}"
# Format of a database → the script that migrates it to FORMAT, in one transaction.
SCRIPTS = {
    0: _SCHEMA,
    1: f"BEGIN; {_ROTATIONS} {_TO_3} {_RELEASES} {_TO_5} COMMIT;",
    2: f"BEGIN; {_TO_3} {_RELEASES} {_TO_5} COMMIT;",
    3: f"BEGIN; {_RELEASES} {_TO_5} COMMIT;",
    4: f"BEGIN; {_TO_5} COMMIT;",
    5: f"BEGIN; {_TO_6} COMMIT;",
    6: f"BEGIN; {_TO_7} COMMIT;",
}
