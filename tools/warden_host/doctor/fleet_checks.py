"""Checks of the fleet's folder: files, keys, certificates, backups, this host."""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from warden_host.alarms import settings as alarm_settings
from warden_host.broker.connection import ACCEPTED, TABLE
from warden_host.doctor.facts import DAY_S, FleetFacts
from warden_host.doctor.registry import Finding, check, serious, worth
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.release import signing_key
from warden_host.service import clock_guard
from warden_host.store.audit import find_break

BACKUP_DAYS = 7
AUDIT_ROWS = 20_000  # of the log's end that are verified
_MOST_FILES = 50_000
_MIB = 1 << 20


@check("fleet", "permissions", "who can read the fleet's folder")
def permissions(facts: FleetFacts) -> Iterator[Finding]:
    root = facts.fleet.root
    open_ones = list(islice(_open_files(root), 4))
    if open_ones:
        names = ", ".join(path.relative_to(root).as_posix() for path in open_ones[:3])
        more = " and more" if len(open_ones) > 3 else ""
        yield serious(
            f"others can use files of the fleet: {names}{more}",
            f"chmod -R go= {root}; ask who could read the keys until now",
        )


def _open_files(root: Path) -> Iterator[Path]:
    """Yield what a group or others may use, or another user owns; in bounded time."""
    seen = 0
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            seen += 1
            if seen > _MOST_FILES:
                return
            path = Path(folder, name)
            status = path.lstat()
            mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            if mode & 0o077 or status.st_uid != root.stat().st_uid:
                yield path


@check("fleet", "server-key", "the server's key, its reserve and its certificate")
def server_key(facts: FleetFacts) -> Iterator[Finding]:
    keys = facts.fleet.keys
    live, reserve = pki.load_pins(keys)
    if live == reserve:
        yield serious(
            "the server's reserve key is the key in use: there is no other one to change to",
            "`warden rotate --all --pins --new-backup`",
        )
    if pki.pin(pki.load_key(keys / "server.key")) != live:
        yield serious(
            "keys/server.key is not the key of keys/server.crt", "restore both from one backup"
        )
    yield from _ends(facts, keys / "server.crt", "`warden cert renew-server`")
    yield from _ends(facts, keys / "ca.crt", "make another fleet, and provision the devices anew")


def _ends(facts: FleetFacts, path: Path, mend: str) -> Iterator[Finding]:
    left = pki.load_certificate(path).not_valid_after_utc.timestamp() - facts.now
    if left < 0:
        yield serious(f"{path.name} has expired: devices refuse the server", mend)
    elif left < client_pki.WARN_S:
        yield serious(f"{path.name} ends in {int(left // DAY_S)} days", mend)


@check("fleet", "ca-passphrase", "whether the CAs' keys are under a passphrase")
def ca_passphrase(facts: FleetFacts) -> Iterator[Finding]:
    names = [name for name in ("ca", client_pki.ROOT) if _is_bare(facts.fleet.keys, name)]
    if names:
        shown = " and ".join(f"keys/{name}.key" for name in names)
        yield worth(
            f"{shown} without a passphrase: a thief of this folder can issue certificates for ever",
            "`warden cert protect`",
        )
    if _is_bare(facts.fleet.keys, client_pki.ISSUER):
        yield worth(
            f"keys/{client_pki.ISSUER}.key, which issues devices' certificates, has no passphrase",
            "`warden cert protect --issuer`, and start `warden serve` with the passphrase's file",
        )


def _is_bare(keys: Path, name: str) -> bool:
    path = keys / f"{name}.key"
    return path.exists() and not pki.is_sealed(path)


@check("fleet", "release-keys", "the keys that sign releases")
def release_keys(facts: FleetFacts) -> Iterator[Finding]:
    known = signing_key.listed(facts.fleet)
    for key in known:
        if key.here and not pki.is_sealed(facts.fleet.keys / "release" / f"{key.name}.key"):
            yield serious(
                f"the release key {key.name} has no passphrase: who reads it signs any firmware",
                f"`warden keys remove {key.name}`, `warden keys make NAME`, "
                "then `warden rotate --all --release-keys`",
            )
    if len(known) == 1:
        yield worth(
            "there is one release key: if it is lost, no device can be updated any more",
            "`warden keys make reserve`, keep its private part elsewhere, then "
            "`warden rotate --all --release-keys`",
        )


@check("fleet", "revocation-list", "the list of revoked certificates")
def revocation_list(facts: FleetFacts) -> Iterator[Finding]:
    if not client_pki.exists(facts.fleet):
        return
    left = client_pki.crl_ends(facts.fleet).timestamp() - facts.now
    if left < 0:
        yield serious(
            "the revocation list has ended: the broker refuses every certificate",
            "`warden cert crl`",
        )
    elif left < 7 * DAY_S:
        yield worth(f"the revocation list ends in {int(left // DAY_S)} days", "`warden cert crl`")


@check("fleet", "backup", "whether a backup has what the fleet needs")
def backup(facts: FleetFacts) -> Iterator[Finding]:
    state = facts.store.backup_state()
    make = "`warden backup make FILE --to age1…`, on another disk"
    if not state.done:
        yield serious("there is no backup: a lost disk is a lost fleet", make)
        return
    waiting = facts.store.waiting_for_backup()
    if waiting:
        yield serious(
            f"no backup since the rotation of {_few(waiting)}: a restored fleet can't reach them",
            f"{make}; then `warden rotate` again for these devices",
        )
    if facts.store.backed_up_pins() != b"".join(pki.load_pins(facts.fleet.keys)):
        yield serious("the last backup lacks the server's present keys", make)
    days = int((facts.now - state.made) // DAY_S)
    if days >= BACKUP_DAYS:
        yield worth(f"the last backup is {days} days old", make)


@check("fleet", "clock", "this host's clock")
def clock(facts: FleetFacts) -> Iterator[Finding]:
    now, mark = facts.clocks().mark, facts.store.clock_mark()
    why = "" if mark is None else clock_guard.doubt(mark, now)
    if why:
        yield serious(
            f"{why}: devices get no time from it",
            "set the clock; if it is right, `warden serve --accept-clock`",
        )
    if facts.unset():
        yield worth(
            "no time server sets this host's clock: commands expire by it, and certificates end",
            "`timedatectl set-ntp true`",
        )


@check("fleet", "disk", "room on the disk")
def disk(facts: FleetFacts) -> Iterator[Finding]:
    limit = alarm_settings.load(facts.fleet)[0].disk_mib
    free = facts.free(facts.fleet) // _MIB
    if free < limit:
        yield serious(
            f"{free} MiB are left for the fleet's folder: a full disk loses events and rotations",
            "free some space; `disk_mib` of [alarms] is the limit",
        )


@check("fleet", "tls-optional", "whether a link without TLS is allowed")
def tls_optional(facts: FleetFacts) -> Iterator[Finding]:
    if facts.connection.accepts_bare and not facts.connection.asks_for_bare:
        yield worth(
            "warden.toml allows links without TLS, and asks for none",
            f"remove {ACCEPTED} from [{TABLE}], once no device has such a link",
        )
    elif facts.connection.asks_for_bare:
        yield worth(
            "devices may be provisioned without TLS: the network reads their topics and passwords",
            f"remove tls = false from [{TABLE}] where the link can have TLS",
        )


@check("fleet", "alarms", "whether alarms reach anybody")
def alarms(facts: FleetFacts) -> Iterator[Finding]:
    if facts.devices and not alarm_settings.load(facts.fleet)[0].wanted:
        yield worth(
            "no alarm goes anywhere: a quarantine or a wrong password is seen by chance",
            "name mail or webhook in [alarms] of warden.toml, then `warden alarms test`",
        )


@check("fleet", "audit", "the log of who did what")
def audit(facts: FleetFacts) -> Iterator[Finding]:
    rows = facts.store.latest_audit_rows(AUDIT_ROWS + 1)
    base = facts.store.audit_base()
    if len(rows) > AUDIT_ROWS:
        base, rows = (rows[0].id, rows[0].hash), rows[1:]
    _, broken = find_break(iter(rows), base)
    if broken is not None:
        yield serious(
            f"the audit log is broken at row {broken.id}: {broken.why}",
            "`warden audit verify` against an older export; find out who can write fleet.db",
        )


@check("fleet", "applications", "what applications may do, and for how long")
def applications(facts: FleetFacts) -> Iterator[Finding]:
    types = {one.type for one in facts.devices}
    for app in facts.store.apps():
        if types and not types & set(app.types):
            yield worth(
                f"application {app.appid} has an account, and no device of its types is left",
                f"`warden app remove {app.appid}`",
            )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def unreadable(error: HostError) -> Finding:
    """Return the finding for a fleet that can't be opened at all."""
    return serious(f"{error.code}: {error.text}", error.hint or f"`warden explain {error.code}`")
