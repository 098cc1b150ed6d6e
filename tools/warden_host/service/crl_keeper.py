"""Keep the broker's revocation list of devices' certificates fresh while the fleet is served.

A list that ended would refuse every certificate, so it is written anew a week after the last one.
Where the CA's key is under a passphrase that `warden serve` was not given, it warns instead.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from warden_host.broker import connection
from warden_host.broker.backend import wanted_listeners
from warden_host.devices import certificates
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import Fleet
from warden_host.round_guard import RoundGuard, Tell
from warden_host.store.store import Store

_INTERVAL_S = 3600.0


class CrlKeeper:
    """The list's keeper.

    reload: lets the broker read the list. tell: shows a notice. passphrase: of the devices' CA, or
    None.
    """

    def __init__(
        self,
        fleet: Fleet,
        reload: Callable[[], None],
        tell: Tell,
        passphrase: bytes | None,
    ) -> None:
        self._fleet = fleet
        self._reload = reload
        self._tell = tell
        self._passphrase = passphrase
        self._wakeup = threading.Event()
        self._stopping = False
        self._rounds = RoundGuard("the revocation list was not looked at", tell)
        self._thread = threading.Thread(target=self._run, name="warden-crl", daemon=True)

    def start(self) -> None:
        """Look at the list now, and once an hour."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the list soon: a certificate may have been revoked."""
        self._wakeup.set()

    def close(self) -> None:
        self._stopping = True
        self._wakeup.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._rounds.attempt(self._look)
            self._wakeup.wait(_INTERVAL_S)
            self._wakeup.clear()

    def _look(self) -> None:
        try:
            self.check()
        except HostError as error:
            self._tell("", str(error))
        except OSError as error:
            self._tell("", f"the revocation list was not written ({error.strerror})")

    def check(self) -> None:
        """Write the list if it is due."""
        with Store(self._fleet.database) as store:
            if certificates.crl_is_due(self._fleet, store):
                ca = client_pki.load_issuer(self._fleet, self._passphrase)
                certificates.update_crl(self._fleet, store, ca, self._reload)


def is_needed(fleet: Fleet) -> bool:
    """Return whether devices log in by certificates."""
    wanted = any(one.wants_certificate for one in wanted_listeners(fleet))
    return wanted and client_pki.exists(fleet)


def prepare(fleet: Fleet, passphrase: bytes | None) -> None:
    """Write the list before the broker starts, if it is due.

    Raises passphrase-missing where it is of no use any more and its key is under a passphrase;
    passphrase-wrong now, and not in the week in which the list is written anew.
    """
    with Store(fleet.database) as store:
        sealed = pki.is_sealed(fleet.keys / f"{client_pki.ISSUER}.key")
        if sealed and passphrase is not None:
            client_pki.load_issuer(fleet, passphrase)
        if not certificates.crl_is_due(fleet, store):
            return
        if sealed and passphrase is None and _is_usable(fleet):
            return  # the keeper says so
        ca = client_pki.load_issuer(fleet, passphrase)
        certificates.update_crl(fleet, store, ca, None)


def _is_usable(fleet: Fleet) -> bool:
    try:
        return client_pki.crl_ends(fleet) > datetime.now(UTC)
    except HostError:
        return False


def ending_soon(fleet: Fleet, store: Store, now: float) -> list[str]:
    """Return a sentence for each certificate in use that ends within 30 days."""
    found = []
    limit = now + client_pki.WARN_S
    end = pki.load_certificate(fleet.keys / "server.crt").not_valid_after_utc.timestamp()
    if end < limit:
        found.append(f"{_left('the server certificate', end, now)}: `warden cert renew-server`")
    for known in store.devices():
        rows = store.valid_certificates(known.device)
        if known.ending is None and rows and rows[-1].expires < limit:
            if connection.of_record(known.policy).uses("certificate"):
                text = _left(f"the certificate of {known.device}", rows[-1].expires, now)
                found.append(f"{text}: `warden cert renew {known.device}`")
    return found


def _left(what: str, end: float, now: float) -> str:
    if end < now:
        return f"{what} has expired"
    return f"{what} ends in {int((end - now) // 86400)} days"
