"""The tables of fleet.db, and the scripts that migrate an older database."""

from warden_host.store import key_triggers

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
# Since format 9. Certificates of devices (store/certificates.py), whose rows outlive their device:
# the revocation list is made of them.
_CERTIFICATES = """
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, device TEXT NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL,
    kind TEXT NOT NULL, made_on TEXT NOT NULL, issued REAL NOT NULL, expires REAL NOT NULL,
    der BLOB NOT NULL, proven REAL, revoked REAL) STRICT;
CREATE INDEX certificates_device ON certificates (device);
"""
# Since format 10. A policy that a device tries (store/policies.py).
_POLICY_CHANGES = """
CREATE TABLE policy_changes (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, record BLOB NOT NULL) STRICT;
"""
# Since format 11. Tokens of applications (store/tokens.py).
_APP_TOKENS = """
CREATE TABLE app_tokens (
    id TEXT PRIMARY KEY, appid TEXT NOT NULL, scope TEXT NOT NULL, made REAL NOT NULL,
    expires REAL NOT NULL, revoked REAL) STRICT;
"""
# Since format 12. The server keys that each device pins, SHA-256, one after the other.
_PINS = """
CREATE TABLE pins (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, pins BLOB NOT NULL) STRICT;
"""
# Since format 13. Applications that are parties of their own (store/exports.py).
_APP_EXPORTS = """
CREATE TABLE app_exports (
    appid TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE, since REAL NOT NULL) STRICT;
"""
# Since format 14. Changes of applications that devices have yet to take (store/app_changes.py).
_APP_CHANGES = """
CREATE TABLE app_changes (
    device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE, appid TEXT NOT NULL, k BLOB,
    commands TEXT, after TEXT NOT NULL, ordered REAL NOT NULL, number INTEGER,
    error TEXT NOT NULL DEFAULT '', PRIMARY KEY (device, appid)) STRICT;
CREATE INDEX app_changes_appid ON app_changes (appid);
CREATE TABLE app_renames (old TEXT PRIMARY KEY, new TEXT NOT NULL) STRICT;
CREATE INDEX pairs_appid ON pairs (appid);
"""
# Since format 15. Operators (store/operators.py) and the audit log (store/audit.py), whose rows
# nothing changes; a trim removes those before its base.
_OPERATORS = """
CREATE TABLE operators (
    name TEXT PRIMARY KEY, uid INTEGER NOT NULL UNIQUE, user TEXT NOT NULL, roles TEXT NOT NULL)
    STRICT;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
    outcome TEXT NOT NULL, started INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;
"""
# Since format 16. Commands for devices that sleep (store/held.py).
_HELD = """
CREATE TABLE held_commands (
    id INTEGER PRIMARY KEY, number INTEGER NOT NULL,
    device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE, appid TEXT NOT NULL,
    command TEXT NOT NULL, args BLOB NOT NULL, expires REAL NOT NULL, sent INTEGER NOT NULL) STRICT;
"""
# Since format 17. Addresses that may not connect, or seldom (store/bans.py), the owner's lists,
# and from where clients logged in.
_BANS = """
CREATE TABLE bans (
    network TEXT PRIMARY KEY, kind TEXT NOT NULL, since REAL NOT NULL, until REAL,
    source TEXT NOT NULL, why TEXT NOT NULL, attempts INTEGER NOT NULL) STRICT;
CREATE TABLE address_lists (
    list TEXT NOT NULL, entry TEXT NOT NULL, added REAL NOT NULL,
    PRIMARY KEY (list, entry)) STRICT;
CREATE TABLE good_logins (
    network TEXT NOT NULL, client TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (network, client)) STRICT;
CREATE INDEX good_logins_time ON good_logins (time);
"""
# Since format 18. Log-ins at the console in a browser (store/web_logins.py).
_WEB_LOGINS = """
CREATE TABLE web_logins (
    name TEXT PRIMARY KEY REFERENCES operators ON DELETE CASCADE, password TEXT NOT NULL,
    secret BLOB NOT NULL, step INTEGER NOT NULL) STRICT;
"""
# Since format 19. The devices' own logs, and how far each is here (store/incidents.py). app of
# incidents: the application that caused them.
_INCIDENT_LOGS = """
ALTER TABLE incidents RENAME TO incidents_18;
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, first REAL NOT NULL, time REAL NOT NULL, device TEXT NOT NULL,
    source TEXT NOT NULL, code TEXT NOT NULL, at TEXT NOT NULL, n INTEGER NOT NULL,
    app TEXT NOT NULL DEFAULT '', UNIQUE (device, source, code, at, app)) STRICT;
INSERT INTO incidents (id, first, time, device, source, code, at, n)
    SELECT id, first, time, device, source, code, at, n FROM incidents_18;
DROP TABLE incidents_18;
CREATE TABLE incident_logs (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, number INTEGER NOT NULL,
    digest BLOB NOT NULL, missing INTEGER NOT NULL) STRICT;
CREATE TABLE incident_records (
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL,
    received REAL NOT NULL, code TEXT NOT NULL, at TEXT NOT NULL, app TEXT NOT NULL,
    n INTEGER NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE INDEX incident_records_device ON incident_records (device, number);
"""
# Since format 20. What the fleet did with a device by itself (store/reactions.py).
_REACTIONS = """
CREATE TABLE reactions (
    device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, kind TEXT NOT NULL,
    code TEXT NOT NULL, text TEXT NOT NULL, since REAL NOT NULL, readmitting INTEGER NOT NULL)
    STRICT;
"""
# Since format 21. The secrets of the lists of keys, and what an application has yet to learn
# (store/exports.py); "" for a device: its scopes.
_KEY_LISTS = """
CREATE TABLE app_lists (
    appid TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE, secret BLOB NOT NULL,
    number INTEGER NOT NULL) STRICT;
CREATE TABLE key_changes (
    appid TEXT NOT NULL REFERENCES app_lists ON DELETE CASCADE, device TEXT NOT NULL,
    PRIMARY KEY (appid, device)) STRICT;
""" + "".join(key_triggers.SCRIPTS)
# Since format 22. Passkeys of operators, and the codes that register one (store/passkeys.py).
_PASSKEYS = """
CREATE TABLE passkeys (
    credential BLOB PRIMARY KEY, name TEXT NOT NULL REFERENCES operators ON DELETE CASCADE,
    user BLOB NOT NULL, key BLOB NOT NULL, count INTEGER NOT NULL, label TEXT NOT NULL,
    made REAL NOT NULL, used REAL NOT NULL, cloned INTEGER NOT NULL) STRICT;
CREATE INDEX passkeys_name ON passkeys (name);
CREATE TABLE passkey_codes (
    name TEXT PRIMARY KEY REFERENCES operators ON DELETE CASCADE, code BLOB NOT NULL,
    until REAL NOT NULL) STRICT;
"""
# Of format 17, 18, …: each adds to the one before, and a new one is added at the end.
_ADDED = (_BANS, _WEB_LOGINS, _INCIDENT_LOGS, _REACTIONS, _KEY_LISTS, _PASSKEYS)
FORMAT = 16 + len(_ADDED)
_LATER = "".join(_ADDED)
_SCHEMA = f"""
BEGIN;
CREATE TABLE apps (appid TEXT PRIMARY KEY, types TEXT NOT NULL, commands TEXT NOT NULL) STRICT;
CREATE TABLE devices (
    device TEXT PRIMARY KEY, type TEXT NOT NULL, board TEXT NOT NULL, mode TEXT NOT NULL,
    policy BLOB NOT NULL, quarantine TEXT NOT NULL DEFAULT '', diverged INTEGER NOT NULL DEFAULT 0,
    boot INTEGER NOT NULL DEFAULT 0, connect INTEGER NOT NULL DEFAULT 0,
    vault_gen INTEGER NOT NULL DEFAULT 0, last_seen REAL NOT NULL DEFAULT 0,
    asleep_until REAL NOT NULL DEFAULT 0) STRICT;
CREATE TABLE pairs (
    device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE, appid TEXT NOT NULL,
    k BLOB NOT NULL, uid BLOB NOT NULL, commands TEXT NOT NULL,
    boot INTEGER NOT NULL DEFAULT -1, connect INTEGER NOT NULL DEFAULT -1,
    vault_gen INTEGER NOT NULL DEFAULT 0, event_number INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, appid)) STRICT;
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
{_CERTIFICATES}
{_POLICY_CHANGES}
{_APP_TOKENS}
{_PINS}
{_APP_EXPORTS}
{_APP_CHANGES}
{_OPERATORS}
{_HELD}
{_LATER}
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
_TO_17 = f"{_LATER} PRAGMA user_version = {FORMAT};"
_TO_16 = f"{_HELD} {_TO_17}"
_TO_15 = f"{_OPERATORS} {_TO_16}"
_TO_14 = f"{_APP_CHANGES} {_TO_15}"
_TO_13 = f"{_APP_EXPORTS} {_TO_14}"
_TO_12 = f"{_PINS} {_TO_13}"
_TO_11 = f"{_APP_TOKENS} {_TO_12}"
_TO_10 = f"{_POLICY_CHANGES} {_TO_11}"
_TO_9 = f"{_CERTIFICATES} {_TO_10}"
# Numbers of the events of an outbox, and when a sleeping device means to be back.
_TO_8 = f"""
ALTER TABLE pairs ADD COLUMN event_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN asleep_until REAL NOT NULL DEFAULT 0;
{_TO_9}
"""
# Of older rollouts only the present state of each device is known.
_TO_7 = f"""
{_GROUPS}
{_HISTORY}
INSERT INTO rollout_history (rollout, device, time, state, reason)
    SELECT rollout, device, changed, state, reason FROM rollout_devices;
{_TO_8}
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
    7: f"BEGIN; {_TO_8} COMMIT;",
    8: f"BEGIN; {_TO_9} COMMIT;",
    9: f"BEGIN; {_TO_10} COMMIT;",
    10: f"BEGIN; {_TO_11} COMMIT;",
    11: f"BEGIN; {_TO_12} COMMIT;",
    12: f"BEGIN; {_TO_13} COMMIT;",
    13: f"BEGIN; {_TO_14} COMMIT;",
    14: f"BEGIN; {_TO_15} COMMIT;",
    15: f"BEGIN; {_TO_16} COMMIT;",
}
SCRIPTS |= {
    16 + done: f"BEGIN; {''.join(_ADDED[done:])} PRAGMA user_version = {FORMAT}; COMMIT;"
    for done in range(len(_ADDED))
}
