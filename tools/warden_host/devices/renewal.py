"""Renew a device's certificate over the link: the old one is revoked once the new one is proven.

The key of a new P-256 certificate is made on the device and never leaves it; fleet.db has a key
that was made here only until the device holds it.
"""

import time
from collections.abc import Callable
from typing import Any

from warden_host import jsontext
from warden_host.broker import connection
from warden_host.devices import certificates, rotation
from warden_host.devices.stage import Report, Stage
from warden_host.errors import HostError, LinkError, class_of
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.pki import CertificateAuthority
from warden_host.store.store import Device, Rotation, Store

_PAUSE_S = 1.0

AskKey = Callable[[], dict[str, Any]]


def renew(
    fleet: Fleet,
    store: Store,
    ca: CertificateAuthority,
    device: str,
    ask: rotation.Ask,
    ask_key: AskKey,
    report: Report,
    timeout_s: float,
    *,
    days: int = client_pki.DEFAULT_DAYS,
    on_host: bool = False,
) -> None:
    """Give a device a new certificate, after its unfinished rotation, if any.

    An unfinished one of a certificate that was revoked meanwhile is replaced: it would never end.

    ask, report: as rotation.rotate() has them. ask_key: asks the device for a new key, and returns
    the answer. on_host: make the key here. The caller updates the revocation list afterwards.
    Raises: device-unknown, not-applicable, bad-argument, timed-out, command-refused.
    """
    known = store.device(device)
    check(known)
    unfinished = store.rotation(device)
    revoked = unfinished is not None and _is_revoked(store, unfinished)
    if unfinished is not None and not revoked:
        report(Stage("unfinished", "an unfinished rotation comes first"))
        rotation.complete_rotation(fleet, store, unfinished, ask, report, timeout_s)
        if "certificate" in unfinished.body:
            return
    current = _start(store, ca, known, ask_key, timeout_s, days, on_host, revoked)
    rotation.complete_rotation(fleet, store, current, ask, report, timeout_s)


def check(known: Device) -> None:
    """Raise not-applicable for a device whose certificate can't be renewed over the link."""
    if not connection.of_record(known.policy).uses("certificate"):
        raise HostError(
            "not-applicable",
            f"{known.device} has no certificate",
            "docs/certificates.md says how a device gets one",
        )
    if known.mode != "sealed":
        raise HostError(
            "not-applicable",
            f"{known.device} is plain: only its owner at the bench may give it a new certificate",
            "provision it again",
        )
    if known.ending is not None:
        raise HostError("revoked", f"{known.device} was cut off, or is to be wiped")


def _is_revoked(store: Store, unfinished: Rotation) -> bool:
    """Return whether a rotation's certificate can't prove itself any more."""
    if "certificate" not in unfinished.body:
        return False
    valid = {row.serial for row in store.valid_certificates(unfinished.device)}
    return certificates.serial_of(unfinished.body["certificate"][0]) not in valid


def _start(
    store: Store,
    ca: CertificateAuthority,
    known: Device,
    ask_key: AskKey,
    timeout_s: float,
    days: int,
    on_host: bool,
    instead: bool,
) -> Rotation:
    """Issue the certificate, and store it with the rotation that brings it to the device.

    instead: the device may hold one that was revoked before it proved itself.
    """
    rows = store.valid_certificates(known.device)
    kind = rows[-1].kind if rows else "ec"
    point = None if on_host or kind != "ec" else _ask_point(ask_key, timeout_s, known.device)
    issued = certificates.issue(ca, known, kind, days, point)
    with store.transaction():
        store.add_certificate(issued.row)
        body: dict[str, Any] = {"certificate": issued.record()}
        if instead or store.epoch():  # what the device has pending is of the host that was lost
            body["instead"] = True
        return store.add_rotation(known.device, body)


def _ask_point(ask_key: AskKey, timeout_s: float, device: str) -> bytes:
    """Return the public key that the device made for its new certificate."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            answer = ask_key()
            code = jsontext.slug(answer.get("reply", {}).get("error"))
        except LinkError as error:
            answer, code = {}, error.code
        if answer.get("ok") is True:
            break
        if class_of(code) is not LinkError:
            raise HostError("command-refused", f"{device} makes no key: {code}")
        if time.monotonic() > end:
            raise HostError("timed-out", f"{device} has made no key in {timeout_s:g} s ({code})")
        time.sleep(_PAUSE_S)
    result = answer["reply"].get("result")
    try:
        return bytes.fromhex(result["key"])
    except (KeyError, TypeError, ValueError):
        raise HostError("bad-body", f"{device} answered in another form") from None
