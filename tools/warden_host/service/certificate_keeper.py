"""Renew devices' certificates before they end, and tell what ends soon, while the fleet is served.

A certificate is due `renew_days` of warden.toml before its end, or in the last third of its life
where that is later. The renewal is that of `warden cert renew`: the old certificate is valid until
the new one has proved itself. One device after the other, and only those that are online; after a
failure a device has a pause, which doubles.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from warden_host.broker import connection
from warden_host.devices import certificates, renewal
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.service.authority import Authority
from warden_host.service.background import round_guard
from warden_host.service.crl_keeper import ending_soon
from warden_host.store.certificates import Certificate
from warden_host.store.store import Device, Store

MOST_AT_ONCE = 10  # devices of one look
_DAY_S = 86400.0
_LOOK_S = 3600.0
_LEAST_PAUSE_S, _MOST_PAUSE_S = 3600.0, 24 * 3600.0
_RENEWAL_S = 120.0
_ASK_S = 5.0  # for one answer of a device
_JOIN_S = 10.0


class _Stopping(Exception):
    """`warden serve` ends: an unfinished renewal goes on at its next start."""


class CertificateKeeper:
    """Run while it is entered.

    reload: lets the broker read the revocation list. announce: shows a notice. passphrase: of the
    devices' CA, or None. clock: unix seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        authority: Authority,
        reload: Callable[[], None],
        announce: Callable[[FleetEvent], None],
        passphrase: bytes | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._authority = authority
        self._reload = reload
        self._announce = announce
        self._passphrase = passphrase
        self._clock = clock
        self._told = 0.0  # when it was told last what ends soon
        self._due: set[str] = set()  # devices, for on_device_event()
        self._pauses: dict[str, tuple[float, float]] = {}  # device → its length, and its end
        self._wakeup = threading.Event()
        self._stopping = False
        self._rounds = round_guard("certificates were not looked at", announce)
        self._thread = threading.Thread(target=self._run, name="warden-renewal", daemon=True)

    def __enter__(self) -> "CertificateKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Begin nothing more; the thread ends with what it waits for."""
        self._stopping = True
        self._wakeup.set()

    def join(self) -> None:
        """Wait until the thread has ended; call it once the authority has.

        There is none yet where a later part of `warden serve` could not start.
        """
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def on_device_event(self, fleet_event: FleetEvent) -> None:
        """Look soon where a device whose certificate is due is there: it may sleep again."""
        if fleet_event.device in self._due:
            self._wakeup.set()

    def wake(self) -> None:
        """Look at all certificates soon."""
        self._wakeup.set()

    def _run(self) -> None:
        while not self._stopping:
            self._rounds.attempt(self._look)
            self._wakeup.wait(_LOOK_S)
            self._wakeup.clear()

    def _look(self) -> None:
        try:
            self.check()
        except _Stopping:
            self._stopping = True
            self._wakeup.set()
        except HostError as error:
            self._notice(error.code, f"certificates were not looked at: {error.text}")
        except OSError as error:
            self._notice("", f"certificates were not looked at ({error.strerror})")

    def check(self) -> None:
        """Renew what is due of the devices that are online, and tell once a day what ends soon.

        Raises what the store, the CA's key and the revocation list raise.
        """
        now = self._clock()
        with Store(self._fleet.database) as store:
            due = due_renewals(self._fleet, store, now)
            self._due = {known.device for known, _ in due}
            if due and self._can_issue():
                self._renew(store, due, now)
            if now - self._told > _DAY_S:
                self._told = now
                for text in ending_soon(self._fleet, store, now):
                    self._notice("", text)

    def _can_issue(self) -> bool:
        path = self._fleet.keys / f"{client_pki.ISSUER}.key"
        return self._passphrase is not None or not pki.is_sealed(path)

    def _renew(self, store: Store, due: list[tuple[Device, Certificate]], now: float) -> None:
        online = self._authority.ask(lambda engine: set(engine.online()))
        ready = [
            (known, row)
            for known, row in due
            if known.device in online and self._pauses.get(known.device, (0, 0))[1] <= now
        ]
        if not ready:
            return
        ca = client_pki.load_issuer(self._fleet, self._passphrase)
        for known, row in ready[:MOST_AT_ONCE]:
            device, life_s = known.device, row.expires - row.issued
            days = min(max(round(life_s / _DAY_S), client_pki.MIN_DAYS), client_pki.MAX_DAYS)
            try:
                renewal.renew(
                    self._fleet,
                    store,
                    ca,
                    device,
                    self._asker(device),
                    partial(self._ask, device, "rotate", {"certificate": "key"}),
                    lambda _: None,
                    _RENEWAL_S,
                    days=days,
                )
            except HostError as error:
                length = min(2 * self._pauses.get(device, (0, 0))[0], _MOST_PAUSE_S)
                length = max(length, _LEAST_PAUSE_S)
                self._pauses[device] = (length, self._clock() + length)
                self._notice(
                    error.code,
                    f"the certificate of {device} was not renewed, tried again in "
                    f"{length / 3600:g} h: {error.text}",
                )
            else:
                self._pauses.pop(device, None)
                self._notice("", f"the certificate of {device} was renewed, for {days} days")
        certificates.update_crl(self._fleet, store, ca, self._reload)
        if len(ready) > MOST_AT_ONCE:
            self._wakeup.set()

    def _asker(self, device: str) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
        def ask(command: str, _: dict[str, Any]) -> dict[str, Any]:
            self._check_stopping()
            body = self._authority.ask(lambda engine: engine.start_rotation(device))
            return self._ask(device, command, body)

        return ask

    def _ask(self, device: str, command: str, body: dict[str, Any]) -> dict[str, Any]:
        self._check_stopping()
        return self._authority.command(
            Request(device, command, body, app=AUTHORITY, timeout_s=_ASK_S)
        )

    def _check_stopping(self) -> None:
        if self._stopping:
            raise _Stopping

    def _notice(self, code: str, text: str) -> None:
        self._announce(FleetEvent("notice", code=code, text=text))


def due_renewals(fleet: Fleet, store: Store, now: float) -> list[tuple[Device, Certificate]]:
    """Return the devices whose certificate is to be renewed now, with it, the first end first.

    A device whose renewal began and was not completed is one of them. One without an end by a
    certificate, a plain one, one that is cut off, and one whose certificate has ended are not: the
    last can't be reached.
    """
    days = connection.load(fleet).renew_days
    found = []
    for known in store.devices() if days else ():
        uses = connection.of_record(known.policy).uses("certificate")
        if not uses or known.mode != "sealed" or known.ending is not None:
            continue
        pending = store.rotation(known.device)
        tried = None if pending is None else pending.body.get("certificate")
        serial = "" if tried is None else certificates.serial_of(tried[0])
        rows = [row for row in store.valid_certificates(known.device) if row.serial != serial]
        if not rows or rows[-1].expires < now:
            continue
        row = rows[-1]
        before_s = min(days * _DAY_S, (row.expires - row.issued) / 3)
        if tried is not None or row.expires - now < before_s:
            found.append((known, row))
    return sorted(found, key=lambda one: one[1].expires)
