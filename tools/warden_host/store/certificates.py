"""Certificates that this fleet issued to devices, until they expire."""

from dataclasses import dataclass

from warden_host.store.database import Database


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate. Times are unix seconds.

    serial: hex. device: its ID, "" for a type's. made_on: "host" or "device", where the private
    key was made. proven: when a whole connection was made with it. revoked: when it was put on the
    revocation list.
    """

    serial: str
    device: str
    type: str
    name: str
    kind: str
    made_on: str
    issued: float
    expires: float
    der: bytes
    proven: float | None = None
    revoked: float | None = None


_COLUMNS = "serial, device, type, name, kind, made_on, issued, expires, der, proven, revoked"


class Certificates(Database):
    """The rows stay after their device is gone: the revocation list needs them."""

    def add_certificate(self, made: Certificate) -> None:
        """Add a certificate. Call it inside a transaction."""
        self._do(
            f"INSERT INTO certificates ({_COLUMNS}) "  # noqa: S608
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            made.serial,
            made.device,
            made.type,
            made.name,
            made.kind,
            made.made_on,
            made.issued,
            made.expires,
            made.der,
            made.proven,
            made.revoked,
        )

    def certificates(self, device: str | None = None) -> list[Certificate]:
        """Return all certificates, or those of one device, the newest last."""
        where, values = ("", ()) if device is None else ("WHERE device = ? ", (device,))
        rows = self._do(
            f"SELECT {_COLUMNS} FROM certificates {where}ORDER BY device, issued, rowid",  # noqa: S608
            *values,
        )
        return [Certificate(*row) for row in rows]

    def valid_certificates(self, device: str) -> list[Certificate]:
        """Return the device's certificates that are not revoked, the newest last."""
        return [one for one in self.certificates(device) if one.revoked is None]

    def first_certificate_end(self) -> float | None:
        """Return when the first of the devices' valid certificates ends, unix seconds.

        Of each device its newest one counts. None where there is none.
        """
        row = self._do(
            "SELECT min(last) FROM (SELECT max(expires) AS last FROM certificates "
            "WHERE revoked IS NULL AND device IN (SELECT device FROM devices) GROUP BY device)"
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def prove_certificate(self, serial: str, moment: float) -> None:
        """Record that a whole connection was made with it."""
        self._do(
            "UPDATE certificates SET proven = ? WHERE serial = ? AND proven IS NULL",
            moment,
            serial,
        )

    def revoke_certificates(self, device: str, moment: float, but: str = "") -> int:
        """Mark the device's certificates as revoked, except for the serial `but`.

        Returns: how many were marked now.
        """
        return self._do(
            "UPDATE certificates SET revoked = ? "
            "WHERE device = ? AND serial <> ? AND revoked IS NULL",
            moment,
            device,
            but,
        ).rowcount

    def revoke_certificate(self, serial: str, moment: float) -> None:
        """Mark one certificate as revoked."""
        self._do(
            "UPDATE certificates SET revoked = ? WHERE serial = ? AND revoked IS NULL",
            moment,
            serial,
        )

    def set_pins(self, device: str, pins: list[bytes]) -> None:
        """Record the server keys that the device pins, SHA-256 each."""
        self._do("INSERT OR REPLACE INTO pins VALUES (?, ?)", device, b"".join(pins))

    def pins(self, device: str) -> list[bytes]:
        """Return the server keys that the device pins; none where that is not known."""
        row = self._do("SELECT pins FROM pins WHERE device = ?", device).fetchone()
        data = b"" if row is None else row[0]
        return [data[i : i + 32] for i in range(0, len(data), 32)]

    def remove_expired_certificates(self, moment: float) -> None:
        """Remove those that expired before: the broker refuses them without the list."""
        self._do("DELETE FROM certificates WHERE expires < ?", moment)
