"""The fleet's database: one SQLite file, 0600.

Sealing keys K and uids are rows here and not files in keys/, because they must come and go with
their device in one transaction: after a power cut a device never has half of its new keys.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from warden_client.protocol import strictcbor
from warden_client.protocol.freshness import NOTHING_PROVEN, DeviceMark, Proof

from warden_host.errors import HostError
from warden_host.store.app_changes import AppChanges
from warden_host.store.audit import Audit
from warden_host.store.bans import Bans
from warden_host.store.certificates import Certificates
from warden_host.store.clock import Clocks
from warden_host.store.database import guard
from warden_host.store.devices import Device, Devices, Pair, texts
from warden_host.store.events import Events
from warden_host.store.exports import Exports
from warden_host.store.gateways import Gateways
from warden_host.store.groups import Groups
from warden_host.store.held import HeldCommands
from warden_host.store.history import History
from warden_host.store.incidents import Incidents
from warden_host.store.operators import Operators
from warden_host.store.otp import Codes
from warden_host.store.passkeys import Passkeys
from warden_host.store.policies import Policies
from warden_host.store.releases import Releases
from warden_host.store.retention import Retention
from warden_host.store.rooms import Rooms
from warden_host.store.tokens import Tokens
from warden_host.store.web_logins import WebLogins


@dataclass(frozen=True)
class App:
    """A registered application: the types that it serves, the commands that it may give."""

    appid: str
    types: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Rotation:
    """New secrets on their way to a device: the command's body.

    taken: when the device first confirmed that it holds them, unix seconds, or None.
    """

    device: str
    body: dict[str, Any] = field(repr=False)
    taken: float | None = None

    @property
    def apps(self) -> dict[str, bytes]:
        """Return application → new sealing key."""
        apps: dict[str, bytes] = self.body.get("apps", {})
        return apps

    @property
    def expires(self) -> float | None:
        """Return when the device drops its old secrets, proven or not; None without a deadline."""
        deadline = self.body.get("deadline")
        return None if deadline is None or self.taken is None else self.taken + deadline


# Device and Pair are what most modules know of a store.
__all__ = ["App", "Device", "Pair", "Rotation", "Store"]


class Store(
    Releases,
    Codes,
    Devices,
    Policies,
    Groups,
    Gateways,
    Rooms,
    Clocks,
    Events,
    History,
    Incidents,
    Certificates,
    Tokens,
    Exports,
    AppChanges,
    Operators,
    Audit,
    HeldCommands,
    Bans,
    Retention,
    WebLogins,
    Passkeys,
):
    """All tables of an open fleet.db, for one thread. Raises database-damaged, key-permissions."""

    # Applications

    def add_app(self, app: App) -> None:
        """Add an application; raises app-exists."""
        if app.appid in {known.appid for known in self.apps()}:
            raise HostError(
                "app-exists",
                f"application {app.appid} is registered already",
                "choose another ID; `warden app list` tells what this one may do",
            )
        self._do(
            "INSERT INTO apps VALUES (?, ?, ?)",
            app.appid,
            json.dumps(app.types),
            json.dumps(app.commands),
        )

    def apps(self) -> list[App]:
        """Return all applications."""
        rows = self._do("SELECT appid, types, commands FROM apps ORDER BY appid")
        with guard():
            return [App(row[0], texts(row[1]), texts(row[2])) for row in rows]

    def app(self, appid: str) -> App:
        """Return an application; raises app-unknown."""
        for app in self.apps():
            if app.appid == appid:
                return app
        raise HostError("app-unknown", f"no application {appid} in this fleet")

    # Devices

    def add_device(self, device: Device) -> None:
        """Add a device, or replace it with its keys and proofs. Call it inside a transaction."""
        self._do("DELETE FROM devices WHERE device = ?", device.device)
        self._do(
            "INSERT INTO devices (device, type, board, mode, policy) VALUES (?, ?, ?, ?, ?)",
            device.device,
            device.type,
            device.board,
            device.mode,
            device.policy,
        )
        for pair in device.pairs:
            self._do(
                "INSERT INTO pairs (device, appid, k, uid, commands) VALUES (?, ?, ?, ?, ?)",
                device.device,
                pair.appid,
                pair.k,
                pair.uid,
                json.dumps(pair.commands),
            )

    def policies(self) -> list[bytes]:
        """Return the different policy records of all devices that may still connect."""
        rows = self._do(
            "SELECT DISTINCT policy FROM devices WHERE device NOT IN (SELECT device FROM endings "
            "WHERE (revoked AND NOT wipe) OR wiped IS NOT NULL)"
        )
        return [row[0] for row in rows]

    def record_proof(
        self,
        device: str,
        appid: str,
        proof: Proof,
        mark: DeviceMark,
        new_key: bytes | None = None,
    ) -> None:
        """Store what a ready proved, and a new key, durably, before the answer is sent."""
        with self.transaction():
            if new_key is not None:
                self.promote_key(device, appid, new_key)
            self._do(
                "UPDATE pairs SET boot = ?, connect = ?, vault_gen = ? "
                "WHERE device = ? AND appid = ?",
                *proof,
                device,
                appid,
            )
            self._do(
                "UPDATE devices SET boot = ?, connect = ?, vault_gen = ? WHERE device = ?",
                mark.boot,
                mark.connect,
                mark.vault_gen,
                device,
            )

    def quarantine(self, device: str, reason: str) -> None:
        """Set the reason of a device's quarantine."""
        with self.transaction():
            self._do("UPDATE devices SET quarantine = ? WHERE device = ?", reason, device)

    def clear_quarantine(self, device: str) -> None:
        """Lift a quarantine and reset the proofs: the owner vouches for the device as it is."""
        with self.transaction():
            self.reset_proofs(device)

    def reset_proofs(self, device: str) -> None:
        """Reset the counters that a device proved. Call it inside a transaction."""
        self._do(
            "UPDATE devices SET quarantine = '', boot = 0, connect = 0, vault_gen = 0 "
            "WHERE device = ?",
            device,
        )
        self._do(
            "UPDATE pairs SET boot = ?, connect = ?, vault_gen = ?, event_number = 0 "
            "WHERE device = ?",
            *NOTHING_PROVEN,
            device,
        )
        self.take_log_anew(device)

    def set_diverged(self, device: str, diverged: bool) -> None:
        """Set whether the device's policy differs from the fleet's."""
        self._do("UPDATE devices SET diverged = ? WHERE device = ?", int(diverged), device)

    def set_asleep(self, device: str, until: float) -> None:
        """Keep when a device means to be back from its sleep, unix seconds; 0: it does not."""
        self._do("UPDATE devices SET asleep_until = ? WHERE device = ?", until, device)

    def remove_device(self, device: str) -> None:
        """Remove a device with its keys, proofs and contacts; its events and incidents stay."""
        self._do("DELETE FROM devices WHERE device = ?", device)
        self.set_contacts(device, [])
        self.end_enrolment(device)
        self.remove_from_all_groups(device)

    # Rotations

    def rotation(self, device: str) -> Rotation | None:
        """Return the device's unfinished rotation, or None."""
        row = self._do("SELECT body, taken FROM rotations WHERE device = ?", device).fetchone()
        if row is None or row[0] is None:
            return None
        body = strictcbor.decode(row[0])
        if not isinstance(body, dict):
            raise HostError("database-damaged", "fleet.db: a rotation that is none")
        return Rotation(device, body, row[1])

    def add_rotation(self, device: str, body: dict[str, Any]) -> Rotation:
        """Add a rotation under the device's next number. Call it inside a transaction."""
        row = self._do("SELECT number FROM rotations WHERE device = ?", device).fetchone()
        number = max(0 if row is None else row[0], self.rotation_floor()) + 1
        made = Rotation(device, body | {"id": number})
        self._do(
            "INSERT OR REPLACE INTO rotations VALUES (?, ?, ?, NULL)",
            device,
            number,
            strictcbor.encode(made.body),
        )
        return made

    def usable_keys(self, rotation: Rotation) -> dict[str, bytes]:
        """Return a rotation's new keys, application → key; none while it waits for a backup.

        A session under a new key would prove it, and the device would drop the old one.
        """
        return {} if self.waits_for_backup(rotation.device) else rotation.apps

    def confirm_rotation(self, device: str, moment: float) -> None:
        """Record when the device first confirmed that it holds the new secrets."""
        self._do(
            "UPDATE rotations SET taken = ? WHERE device = ? AND taken IS NULL", moment, device
        )

    def end_rotation(self, device: str) -> None:
        """Delete the rotation's secrets; its number stays."""
        with self.transaction():
            self._do("UPDATE rotations SET body = NULL, taken = NULL WHERE device = ?", device)
            self.end_wait(device)

    def promote_key(self, device: str, appid: str, k: bytes) -> None:
        """Replace the pair's sealing key by the new one."""
        self._do("UPDATE pairs SET k = ? WHERE device = ? AND appid = ?", k, device, appid)
