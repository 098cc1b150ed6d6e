"""Rotate one device's secrets: password, sealing keys, pins, release keys.

1. fleet.db holds the new secrets beside the old ones, durably.
2. The device does too, and confirms it.
3. The broker gets the new password, and drops the device's connection.
4. The device proves each part: it logs in, completes a handshake, and its session is up; then the
   old secrets are deleted.

A stop between two steps leaves a device that can log in and that has a session: it tries the new
secrets, then the old ones. The same call resumes the rotation. Release keys need no proof: they
are in force as soon as the device accepted the command.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

from warden_host import jsontext, names
from warden_host.broker.accounts import device_password
from warden_host.broker.backend import open_registry
from warden_host.errors import HostError, LinkError, class_of
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import strictcbor
from warden_host.release import signing_key
from warden_host.store.store import Device, Rotation, Store

MIN_DEADLINE_S, MAX_DEADLINE_S = 60, 30 * 24 * 3600
_KEYS = {"password": "password", "keys": "apps", "pins": "trust", "release": "release"}
PARTS = tuple(_KEYS)
_PAUSE_S = 1.0

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
Report = Callable[[str], None]


def rotate(
    fleet: Fleet,
    store: Store,
    device: str,
    parts: tuple[str, ...],
    ask: Ask,
    report: Report,
    timeout_s: float,
    deadline_s: int | None = None,
) -> None:
    """Rotate all of these parts, after the device's unfinished rotation, if any.

    ask: sends a command and returns the answer. report: shows progress. deadline_s: when the
    device drops its old secrets. Raises as start_rotation() and complete_rotation().
    """
    current = start_rotation(fleet, store, device, parts, deadline_s)
    if deadline_s is not None and current.body.get("deadline") != deadline_s:
        report("an unfinished rotation with another deadline comes first")
    complete_rotation(fleet, store, current, ask, report, timeout_s)
    left = tuple(part for part in parts if not _has(fleet, store, current, part))
    if left:
        report("that rotation was unfinished; now the parts that it left out: " + ", ".join(left))
        late = None if left == ("release",) else deadline_s
        complete_rotation(
            fleet, store, start_rotation(fleet, store, device, left, late), ask, report, timeout_s
        )


def _has(fleet: Fleet, store: Store, rotation: Rotation, part: str) -> bool:
    """Return whether the rotation has this part; of pins and release keys, the present ones."""
    key = _KEYS[part]
    if key not in rotation.body or part in ("password", "keys"):
        return key in rotation.body
    today = _body(fleet, store, store.device(rotation.device), (part,))[key]
    return strictcbor.encode(rotation.body[key]) == strictcbor.encode(today)


def start_rotation(
    fleet: Fleet, store: Store, device: str, parts: tuple[str, ...], deadline_s: int | None = None
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
        raise HostError("not-applicable", f"{device} was cut off, or is to be wiped")
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
    body = _body(fleet, store, known, parts)
    if deadline_s is not None:
        body["deadline"] = deadline_s
    with store.transaction():
        return store.add_rotation(device, body)


def complete_rotation(
    fleet: Fleet, store: Store, rotation: Rotation, ask: Ask, report: Report, timeout_s: float
) -> None:
    """Complete a rotation from where it stopped.

    ask: ask("rotate", body) sends the command and returns the device's answer.
    Raises: timed-out where the device does not prove all in time; command-refused.
    """
    end = time.monotonic() + timeout_s
    password_set = False
    away = ""
    waiting: list[str] | None = None
    while True:
        pending = _pending(store, rotation, ask)
        if isinstance(pending, str):
            away = pending
        else:
            if waiting is None:
                if "release" in rotation.body:
                    report("the device takes releases of the present keys alone")
                if rotation.body.keys() - {"id", "release"}:
                    report("the device holds the new secrets beside the old ones")
                store.confirm_rotation(rotation.device, time.time())
            if pending != waiting and pending:
                report("still to prove: " + ", ".join(pending))
            waiting = pending
            if "password" in pending and not password_set:
                _set_password(fleet, store.device(rotation.device), rotation)
                password_set = True
                report("the broker knows the new password")
            if not pending:
                store.end_rotation(rotation.device)
                if rotation.body.keys() - {"id", "release"}:
                    report("all parts are proven: the old secrets are deleted")
                return
        if time.monotonic() > end:
            raise HostError(
                "timed-out",
                f"{rotation.device} has not proved its new secrets in {timeout_s:g} s"
                + (f" ({', '.join(waiting)})" if waiting else f" (last: {away})"),
                "nothing is lost: give the same command again",
            )
        time.sleep(_PAUSE_S)


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


def _discard_unconfirmed(store: Store, rotation: Rotation) -> bool:
    """Delete a rotation that the device never confirmed, and return whether it was deleted.

    A device that confirmed it holds the new secrets, whatever it answers later, and would be
    locked out without them.
    """
    left = store.rotation(rotation.device)
    if left is None or left.taken is not None or left.body["id"] != rotation.body["id"]:
        return False
    store.end_rotation(rotation.device)
    return True


def _body(fleet: Fleet, store: Store, device: Device, parts: tuple[str, ...]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if "password" in parts:
        body["password"] = device_password().encode()
    if "keys" in parts:
        body["apps"] = {pair.appid: secrets.token_bytes(32) for pair in device.pairs}
    if "pins" in parts:
        ca = pki.load_ca(fleet.keys).der()
        body["trust"] = [[ca], list(pki.load_pins(fleet.keys))]
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
