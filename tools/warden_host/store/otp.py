"""What fleet.db knows of codes at the keypad: the one that is out, how often was asked and tried, whom to tell, secrets on their way.

No code lies here, only a keyed hash of it; the key is a file of its own (otp.py).
"""

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from warden_host.store.database import Database, guard

# Requests of a device that are remembered after a newer one, so that none of them comes back to life.
PAST = 16


@dataclass(frozen=True)
class Code:
    """The code that is out for a device. digest None: it was used. made: unix seconds. tries: attempts begun."""

    device: str
    req: str
    digest: bytes | None = field(repr=False)
    duress: bytes | None = field(repr=False)
    made: int
    validity: int
    tries: int
    past: tuple[str, ...]


class Contact(NamedTuple):
    """Where to reach a device's owner. purpose: "code" or "alarm"; way: a delivery's name; address: its own."""

    purpose: str
    way: str
    address: str


@dataclass(frozen=True)
class Enrolment:
    """A secret that an authenticator has and the device not yet. first: the lowest counter or step that may still open."""

    device: str
    source: str
    digits: int
    step_s: int
    first: int
    secret: bytes = field(repr=False)
    duress: bytes | None = field(default=None, repr=False)


class Delivered(NamedTuple):
    """How the last message by this way fared. error: "" for well."""

    device: str
    way: str
    purpose: str
    time: float
    error: str


class Codes(Database):
    def code(self, device: str) -> Code | None:
        """The newest one, used or not."""
        columns = "device, req, digest, duress, made, validity, tries, past"
        row = self._do(f"SELECT {columns} FROM otp_codes WHERE device = ?", device).fetchone()  # noqa: S608
        if row is None:
            return None
        with guard():
            return Code(*(*row[:-1], tuple(json.loads(row[-1]))))

    def put_code(self, made: Code) -> None:
        """Takes the place of the one before, which counts no more."""
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
        """One attempt more; the code as it stands now, or None when another request is the current one."""
        self._do(
            "UPDATE otp_codes SET tries = tries + 1 WHERE device = ? AND req = ?", device, req
        )
        found = self.code(device)
        return found if found is not None and found.req == req else None

    def spend_code(self, device: str, req: str) -> None:
        """It was used: its hash goes, the row says that it was."""
        self._do(
            "UPDATE otp_codes SET digest = NULL, duress = NULL WHERE device = ? AND req = ?",
            device,
            req,
        )

    # How often: rows of (key, unix seconds)

    def count_otp(self, key: str, now: int, window_s: int) -> int:
        """How many within the window. What lies in the future counts as well: a clock set back forgives nothing."""
        row = self._do(
            "SELECT count(*) FROM otp_counts WHERE key = ? AND time > ?", key, now - window_s
        )
        return int(row.fetchone()[0])

    def add_count(self, key: str, now: int, window_s: int) -> None:
        self._do("DELETE FROM otp_counts WHERE key = ? AND time <= ?", key, now - window_s)
        self._do("INSERT INTO otp_counts VALUES (?, ?)", key, now)

    def clear_counts(self, key: str) -> None:
        self._do("DELETE FROM otp_counts WHERE key = ?", key)

    # Whom to tell

    def contacts(self, device: str) -> list[Contact]:
        rows = self._do(
            "SELECT purpose, way, address FROM otp_contacts WHERE device = ? ORDER BY purpose DESC, way, address",
            device,
        )
        return [Contact(*row) for row in rows]

    def set_contacts(self, device: str, contacts: list[Contact]) -> None:
        """These and no others. Inside a transaction."""
        self._do("DELETE FROM otp_contacts WHERE device = ?", device)
        for contact in contacts:
            self._do("INSERT INTO otp_contacts VALUES (?, ?, ?, ?)", device, *contact)

    def record_delivery(self, report: Delivered) -> None:
        self._do("INSERT OR REPLACE INTO otp_deliveries VALUES (?, ?, ?, ?, ?)", *report)

    def deliveries(self, device: str) -> list[Delivered]:
        rows = self._do("SELECT * FROM otp_deliveries WHERE device = ? ORDER BY way", device)
        return [Delivered(*row) for row in rows]

    # Secrets between an authenticator and a device

    def enrolment(self, device: str) -> Enrolment | None:
        columns = "device, source, digits, step_s, first, secret, duress"
        row = self._do(f"SELECT {columns} FROM otp_enrolments WHERE device = ?", device).fetchone()  # noqa: S608
        return None if row is None else Enrolment(*row)

    def put_enrolment(self, made: Enrolment) -> None:
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
        """The device has it, or nobody shall: we keep no copy."""
        self._do("DELETE FROM otp_enrolments WHERE device = ?", device)
