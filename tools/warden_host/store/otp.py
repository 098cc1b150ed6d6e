"""Codes at the keypad in fleet.db: codes, rate limits, contacts, and secrets being enrolled.

It holds no code, only a keyed hash of it; the key is a file of its own (otp/otp.py).
"""

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from warden_host.store.database import Database, guard

# Earlier requests of a device that stay known, so that none can be replayed.
PAST = 16


@dataclass(frozen=True)
class Code:
    """The latest code of a device. made: unix seconds. validity: seconds. tries: attempts so far.

    digest: None once the code was used. past: earlier requests.
    """

    device: str
    req: str
    digest: bytes | None = field(repr=False)
    duress: bytes | None = field(repr=False)
    made: int
    validity: int
    tries: int
    past: tuple[str, ...]


class Contact(NamedTuple):
    """An address of a device's owner. purpose: "code" or "alarm"; way: a delivery's name."""

    purpose: str
    way: str
    address: str


@dataclass(frozen=True)
class Enrolment:
    """A secret that an authenticator has and the device not yet.

    first: the lowest counter or time step that may still open.
    """

    device: str
    source: str
    digits: int
    step_s: int
    first: int
    secret: bytes = field(repr=False)
    duress: bytes | None = field(default=None, repr=False)


class Delivered(NamedTuple):
    """The result of the last message by this way. error: "" for success."""

    device: str
    way: str
    purpose: str
    time: float
    error: str


class Codes(Database):
    """The rows of codes, limits, contacts and enrolments."""

    def code(self, device: str) -> Code | None:
        """Return the device's latest code, used or not."""
        columns = "device, req, digest, duress, made, validity, tries, past"
        query = f"SELECT {columns} FROM otp_codes WHERE device = ?"  # noqa: S608
        row = self._do(query, device).fetchone()
        if row is None:
            return None
        with guard():
            return Code(*(*row[:-1], tuple(json.loads(row[-1]))))

    def put_code(self, made: Code) -> None:
        """Replace the device's code; the one before is void."""
        self._do(
            "INSERT OR REPLACE INTO otp_codes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            made.device,
            made.req,
            made.digest,
            made.duress,
            made.made,
            made.validity,
            made.tries,
            json.dumps(made.past[-PAST:]),
        )

    def count_try(self, device: str, req: str) -> Code | None:
        """Count one attempt and return the code; None where another request is the current one."""
        self._do(
            "UPDATE otp_codes SET tries = tries + 1 WHERE device = ? AND req = ?", device, req
        )
        found = self.code(device)
        return found if found is not None and found.req == req else None

    def spend_code(self, device: str, req: str) -> None:
        """Mark the code as used and delete its hash."""
        self._do(
            "UPDATE otp_codes SET digest = NULL, duress = NULL WHERE device = ? AND req = ?",
            device,
            req,
        )

    # Rate limits: rows of (key, unix seconds)

    def count_otp(self, key: str, now: int, window_s: int) -> int:
        """Return how many rows of this key lie within the window.

        Times in the future count as well, so that a clock set back lifts no limit.
        """
        row = self._do(
            "SELECT count(*) FROM otp_counts WHERE key = ? AND time > ?", key, now - window_s
        )
        return int(row.fetchone()[0])

    def add_count(self, key: str, now: int, window_s: int) -> None:
        """Add a row to this key and drop those before the window."""
        self._do("DELETE FROM otp_counts WHERE key = ? AND time <= ?", key, now - window_s)
        self._do("INSERT INTO otp_counts VALUES (?, ?)", key, now)

    def clear_counts(self, key: str) -> None:
        """Delete all rows of this key."""
        self._do("DELETE FROM otp_counts WHERE key = ?", key)

    # Contacts

    def contacts(self, device: str) -> list[Contact]:
        """Return where the device's codes and alarms go."""
        rows = self._do(
            "SELECT purpose, way, address FROM otp_contacts WHERE device = ? "
            "ORDER BY purpose DESC, way, address",
            device,
        )
        return [Contact(*row) for row in rows]

    def set_contacts(self, device: str, contacts: list[Contact]) -> None:
        """Replace the device's contacts. Call it inside a transaction."""
        self._do("DELETE FROM otp_contacts WHERE device = ?", device)
        for contact in contacts:
            self._do("INSERT INTO otp_contacts VALUES (?, ?, ?, ?)", device, *contact)

    def record_delivery(self, report: Delivered) -> None:
        """Record the result of a message."""
        self._do("INSERT OR REPLACE INTO otp_deliveries VALUES (?, ?, ?, ?, ?)", *report)

    def deliveries(self, device: str) -> list[Delivered]:
        """Return the last result by each way."""
        rows = self._do("SELECT * FROM otp_deliveries WHERE device = ? ORDER BY way", device)
        return [Delivered(*row) for row in rows]

    # Secrets between an authenticator and a device

    def enrolment(self, device: str) -> Enrolment | None:
        """Return the secret that waits for the device, or None."""
        columns = "device, source, digits, step_s, first, secret, duress"
        query = f"SELECT {columns} FROM otp_enrolments WHERE device = ?"  # noqa: S608
        row = self._do(query, device).fetchone()
        return None if row is None else Enrolment(*row)

    def put_enrolment(self, made: Enrolment) -> None:
        """Replace the secret that waits for the device."""
        self._do(
            "INSERT OR REPLACE INTO otp_enrolments VALUES (?, ?, ?, ?, ?, ?, ?)",
            made.device,
            made.source,
            made.digits,
            made.step_s,
            made.first,
            made.secret,
            made.duress,
        )

    def end_enrolment(self, device: str) -> None:
        """Delete the secret: the device has it, or the enrolment is cancelled."""
        self._do("DELETE FROM otp_enrolments WHERE device = ?", device)
