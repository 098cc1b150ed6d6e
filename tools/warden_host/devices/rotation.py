"""Rotate one device's secrets: password, sealing keys, pins, release keys.

1. fleet.db holds the new secrets beside the old ones, durably.
2. The device does too, and confirms it.
3. The broker gets the new password, and drops the device's connection.
4. The device proves each part: it logs in, completes a handshake, and its session is up; then the
   old secrets are deleted.

Where the fleet has backups, password and keys wait between 2 and 3 until a backup has the new ones
and that the device holds them: it keeps both meanwhile, so a fleet that is restored, from that
backup or the one before it, has a secret that works. A deadline, after a compromise, waits for
none.

A stop between two steps leaves a device that can log in and that has a session: it tries the new
secrets, then the old ones. The same call resumes the rotation. Release keys need no proof: they
are in force as soon as the device accepted the command.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

from warden_client.protocol import strictcbor

from warden_host import jsontext, names
from warden_host.broker import connection
from warden_host.broker.accounts import device_password
from warden_host.broker.backend import open_registry
from warden_host.broker.rabbitmq import management
from warden_host.devices import certificates, pins, revocation
from warden_host.devices.stage import Report, Stage
from warden_host.errors import HostError, LinkError, class_of
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.release import signing_key
from warden_host.store.store import Device, Rotation, Store

MIN_DEADLINE_S, MAX_DEADLINE_S = 60, 30 * 24 * 3600
_KEYS = {"password": "password", "keys": "apps", "pins": "trust", "release": "release"}
PARTS = tuple(_KEYS)
_PAUSE_S = 1.0

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


def rotate(
    fleet: Fleet,
    store: Store,
    device: str,
    parts: tuple[str, ...],
    ask: Ask,
    report: Report,
    timeout_s: float,
    deadline_s: int | None = None,
    live_ends_s: int | None = None,
) -> bool:
    """Rotate all of these parts, after the device's unfinished rotation, if any.

    Returns: False where the rotation waits for a backup; the same call continues it then.

    ask: sends a command and returns the answer. report: shows progress. deadline_s: when the
    device drops its old secrets. live_ends_s: when it refuses the server's present key. Raises
    as start_rotation() and complete_rotation().
    """
    current = start_rotation(fleet, store, device, parts, deadline_s, live_ends_s)
    if deadline_s is not None and current.body.get("deadline") != deadline_s:
        report(Stage("unfinished", "an unfinished rotation with another deadline comes first"))
    if not complete_rotation(fleet, store, current, ask, report, timeout_s):
        return False
    left = tuple(part for part in parts if not _has(fleet, store, current, part, live_ends_s))
    if left:
        text = "that rotation was unfinished; now the parts that it left out: " + ", ".join(left)
        report(Stage("left-out", text))
        late = None if left == ("release",) else deadline_s
        following = start_rotation(fleet, store, device, left, late, live_ends_s)
        return complete_rotation(fleet, store, following, ask, report, timeout_s)
    return True


def _has(
    fleet: Fleet, store: Store, rotation: Rotation, part: str, live_ends_s: int | None
) -> bool:
    """Return whether the rotation has this part; of pins and release keys, the present ones."""
    key = _KEYS[part]
    if key not in rotation.body or part in ("password", "keys"):
        return key in rotation.body
    today = _body(fleet, store, store.device(rotation.device), (part,), live_ends_s)[key]
    if part == "pins":
        return pins.alike(rotation.body[key], today)
    return strictcbor.encode(rotation.body[key]) == strictcbor.encode(today)


def start_rotation(
    fleet: Fleet,
    store: Store,
    device: str,
    parts: tuple[str, ...],
    deadline_s: int | None = None,
    live_ends_s: int | None = None,
) -> Rotation:
    """Return the device's unfinished rotation, or a new one of these parts.

    Raises: device-unknown, not-applicable, bad-argument.
    """
    known = store.device(device)
    if known.mode != "sealed":
        raise HostError(
            "not-applicable",
            f"{device} is plain: only its owner at the bench may give it new secrets",
            "provision it again",
        )
    if known.ending is not None:
        raise HostError("revoked", f"{device} was cut off, or is to be wiped")
    pending = store.rotation(device)
    if pending is not None:
        return pending
    if not parts:
        raise HostError(
            "bad-argument",
            "nothing to rotate is named",
            "name its password, keys, pins or release keys",
        )
    if deadline_s is not None and parts == ("release",):
        raise HostError("bad-argument", "release keys are in force at once, without a deadline")
    if deadline_s is not None and not MIN_DEADLINE_S <= deadline_s <= MAX_DEADLINE_S:
        raise HostError(
            "bad-argument",
            f"the deadline is not between {MIN_DEADLINE_S} and {MAX_DEADLINE_S} seconds",
        )
    pins.check_end(live_ends_s)
    if "password" in parts:
        _check_password(known)
    if "pins" in parts and deadline_s is None:
        _check_pins_backed_up(fleet, store)
    body = _body(fleet, store, known, parts, live_ends_s)
    if deadline_s is not None:
        body["deadline"] = deadline_s
    if store.epoch():  # what the device has pending is of the host that was lost
        body["instead"] = True
    with store.transaction():
        made = store.add_rotation(device, body)
        _await_backup(store, made)
    return made


def _check_password(known: Device) -> None:
    """Raise not-applicable for a device whose policy has no password."""
    terms = connection.of_record(known.policy)
    if terms.uses("password"):
        return
    with_token = f"`warden token {known.device}` shows how it gets its tokens"
    with_certificate = f"`warden cert renew {known.device}` gives it a new certificate"
    hints = {"token": with_token, "certificate": with_certificate}
    raise HostError(
        "not-applicable",
        f"{known.device} has no password: it logs in by {terms.words}",
        "; ".join(hint for part, hint in hints.items() if terms.uses(part)),
    )


def complete_rotation(
    fleet: Fleet, store: Store, rotation: Rotation, ask: Ask, report: Report, timeout_s: float
) -> bool:
    """Complete a rotation from where it stopped; return False where it waits for a backup.

    ask: ask("rotate", body) sends the command and returns the device's answer.
    Raises: timed-out where the device does not prove all in time; command-refused.
    """
    end = time.monotonic() + timeout_s
    password_set = False
    away = ""
    waiting: list[str] | None = None
    if _has_old_server_key(store, rotation):
        revocation.drop_connection(fleet, store, rotation.device)
        report(Stage("reconnecting", "the device connects anew, to the server's new key"))
    while True:
        pending = _pending(store, rotation, ask)
        if isinstance(pending, str):
            away = pending
        else:
            if waiting is None:
                if "release" in rotation.body:
                    report(
                        Stage(
                            "release-keys", "the device takes releases of the present keys alone"
                        )
                    )
                if rotation.body.keys() - {"id", "instead", "release"}:
                    report(Stage("taken", "the device holds the new secrets beside the old ones"))
                with store.transaction():
                    if rotation.taken is None:  # a backup from before does not know it
                        _await_backup(store, rotation)
                    store.confirm_rotation(rotation.device, time.time())
            if store.waits_for_backup(rotation.device):
                text = "it uses the old ones until a backup of the fleet has the new ones"
                report(Stage("waits-for-backup", text))
                return False
            if pending != waiting and pending:
                text = "still to prove: " + ", ".join(map(_part_name, pending))
                report(Stage("unproved", text))
                for appid in sorted(_without_lists(store) & rotation.apps.keys()):
                    text = f"the program of {appid} needs its new key: `warden app export {appid}`"
                    report(Stage("export-needed", text))
            waiting = pending
            if "password" in pending and not password_set:
                _set_password(fleet, store.device(rotation.device), rotation)
                password_set = True
                report(Stage("password-set", "the broker knows the new password"))
            if not pending:
                _record_certificate(store, rotation)
                if "trust" in rotation.body:
                    with store.transaction():
                        store.set_pins(rotation.device, pins.digests(rotation.body["trust"]))
                with store.transaction():  # the authority sees no session of an exported one
                    for appid, k in rotation.apps.items():
                        store.promote_key(rotation.device, appid, k)
                store.end_rotation(rotation.device)
                if rotation.body.keys() - {"id", "instead", "release"}:
                    report(Stage("proved", "all parts are proven: the old secrets are deleted"))
                return True
        if time.monotonic() > end:
            raise HostError(
                "timed-out",
                f"{rotation.device} has not proved its new secrets in {timeout_s:g} s"
                + (f" ({', '.join(map(_part_name, waiting))})" if waiting else f" (last: {away})"),
                "nothing is lost: give the same command again",
            )
        time.sleep(_PAUSE_S)


def _await_backup(store: Store, rotation: Rotation) -> None:
    """Let a rotation wait for a backup where a restored fleet would lack its new secrets."""
    if "deadline" not in rotation.body and {"password", "apps"} & rotation.body.keys():
        store.await_backup(rotation.device)


def _check_pins_backed_up(fleet: Fleet, store: Store) -> None:
    """Raise backup-due where the server's keys are in no backup, while the fleet has backups.

    A device that pins these alone would refuse a server that was restored.
    """
    backed_up = store.backed_up_pins()
    if backed_up and backed_up != b"".join(pki.load_pins(fleet.keys)):
        raise HostError(
            "backup-due", "the server's keys have changed since the fleet's last backup"
        )


def resume_restored(fleet: Fleet, store: Store) -> None:
    """Give the broker the new passwords of a restored fleet's rotations.

    Devices hold these, perhaps alone: the lost host may have completed the rotation.
    """
    for known in store.devices():
        rotation = store.rotation(known.device)
        if rotation is not None and rotation.taken is not None and "password" in rotation.body:
            _set_password(fleet, known, rotation)


def _has_old_server_key(store: Store, rotation: Rotation) -> bool:
    """Return whether the device's connection may be one with the server's former key.

    A device refuses pins without the key of the server at the other end of its connection.
    """
    known = store.pins(rotation.device)
    if "trust" not in rotation.body or rotation.taken is not None or not known:
        return False
    return known[0] != pins.digests(rotation.body["trust"])[0]


def _pending(store: Store, rotation: Rotation, ask: Ask) -> list[str] | str:
    """Return the parts that the device has not proved; a code where it can't be asked now."""
    try:
        answer = ask("rotate", rotation.body)
    except LinkError as error:
        return error.code
    except HostError as error:
        if error.code == "mqtt-too-large":
            _discard_unconfirmed(store, rotation)  # too large to be sent at all
        raise
    if answer.get("ok") is not True:
        code = jsontext.slug(answer.get("reply", {}).get("error"))
        if class_of(code) is LinkError:
            return code  # a bad moment; an earlier command may still wait and be executed
        dropped = _discard_unconfirmed(store, rotation)
        raise HostError(
            "command-refused",
            f"{rotation.device} refused its new secrets: {code}",
            "its old ones are valid; docs/protocol.md says what it takes"
            if dropped
            else "it took them before, and both are kept: provision it again",
        )
    result = answer["reply"].get("result")
    parts = result.get("pending") if isinstance(result, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise HostError("bad-body", f"{rotation.device} answered in another form")
    return sorted(parts)


def _part_name(part: str) -> str:
    """Return a part of a device's answer in the words of the options: pins, key of home."""
    if part.startswith("app_"):
        return "key of " + part.removeprefix("app_")
    return {"trust": "pins"}.get(part, part)


def _record_certificate(store: Store, rotation: Rotation) -> None:
    """Mark a new certificate as proven, and those before it as revoked."""
    if "certificate" not in rotation.body:
        return
    serial = certificates.serial_of(rotation.body["certificate"][0])
    now = time.time()
    with store.transaction():
        store.prove_certificate(serial, now)
        store.revoke_certificates(rotation.device, now, but=serial)


def _discard_unconfirmed(store: Store, rotation: Rotation) -> bool:
    """Delete a rotation that the device never confirmed, and return whether it was deleted.

    A device that confirmed it holds the new secrets, whatever it answers later, and would be
    locked out without them.
    """
    left = store.rotation(rotation.device)
    if left is None or left.taken is not None or left.body["id"] != rotation.body["id"]:
        return False
    if "certificate" in left.body:
        with store.transaction():
            serial = certificates.serial_of(left.body["certificate"][0])
            store.revoke_certificate(serial, time.time())
    store.end_rotation(rotation.device)
    return True


def _body(
    fleet: Fleet,
    store: Store,
    device: Device,
    parts: tuple[str, ...],
    live_ends_s: int | None = None,
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if "password" in parts:
        body["password"] = device_password().encode()
    if "keys" in parts:
        # Applications that the device does not know yet, or is about to lose.
        changes = store.app_changes(device.device)
        waiting = {change.appid for change in changes if change.kind != "grant"}
        body["apps"] = {
            pair.appid: secrets.token_bytes(32)
            for pair in device.pairs
            if pair.appid not in waiting
        }
    if "pins" in parts:
        ends = None if live_ends_s is None else time.time() + live_ends_s
        body["trust"] = pins.current(fleet, ends)
    if "release" in parts:
        body["release"] = signing_key.record(fleet, store.vendor(), device.type)
        if body["release"] is None:
            raise HostError(
                "release-key",
                "this fleet has no release keys",
                "`warden keys make release` makes one",
            )
    return body


def _set_password(fleet: Fleet, device: Device, rotation: Rotation) -> None:
    username = names.device_client(device.type, device.device)
    with open_registry(fleet) as accounts:
        accounts.set_password(username, rotation.body["password"].decode())
    management.set_password(fleet, username, rotation.body["password"].decode())


def _without_lists(store: Store) -> frozenset[str]:
    """Return the exported applications whose file has no secret for lists of keys."""
    return store.exported() - store.listed_apps()
