"""Changes of applications in fleet.db that devices have yet to take, and renamed applications.

A row is what one device is to have of one application; a later change replaces it. The pair of
device and application holds the key from the moment of the order, so that both sides can speak as
soon as the device has it, and goes when the device has confirmed that its own is gone.
"""

import json
from dataclasses import dataclass, field

from warden_host.store.database import Database, guard


@dataclass(frozen=True, slots=True)
class AppChange:
    """What a device is to have of an application.

    key: a new sealing key, or None. commands: those that it may give, or None: it is removed.
    after: the application that must have a session with the device before this one is removed, or
    "". ordered: unix seconds. number: under which the order was last given, or None. error: the
    code with which the device refused it, or "".
    """

    device: str
    appid: str
    key: bytes | None = field(repr=False)
    commands: tuple[str, ...] | None
    after: str = ""
    ordered: float = 0.0
    number: int | None = None
    error: str = ""

    @property
    def kind(self) -> str:
        """Return "remove", "add" or "grant"."""
        if self.commands is None:
            return "remove"
        return "grant" if self.key is None else "add"

    def order(self, number: int) -> dict[str, object]:
        """Return the body of the command `apps` under this number."""
        commands = None if self.commands is None else list(self.commands)
        return {"id": number, "app": self.appid, "key": self.key, "commands": commands}


class AppChanges(Database):
    """The rows of the changes, and what they change of applications and pairs."""

    def order_app_change(self, change: AppChange, uid: bytes = b"") -> None:
        """Add a change, in the place of an earlier one of this application. In a transaction.

        uid: of a new pair, 32 bytes. A grant keeps the key of an addition that still waits.
        """
        device, appid, key = change.device, change.appid, change.key
        if change.commands is not None:
            commands = json.dumps(change.commands)
            if key is not None:
                self._do("DELETE FROM pairs WHERE device = ? AND appid = ?", device, appid)
                self._do(
                    "INSERT INTO pairs (device, appid, k, uid, commands) VALUES (?, ?, ?, ?, ?)",
                    device,
                    appid,
                    key,
                    uid,
                    commands,
                )
            else:
                self._do(
                    "UPDATE pairs SET commands = ? WHERE device = ? AND appid = ?",
                    commands,
                    device,
                    appid,
                )
                row = self._do(
                    "SELECT k FROM app_changes WHERE device = ? AND appid = ?", device, appid
                ).fetchone()
                key = None if row is None else row[0]
        self._do(
            "INSERT OR REPLACE INTO app_changes (device, appid, k, commands, after, ordered) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            device,
            appid,
            key,
            None if change.commands is None else json.dumps(change.commands),
            change.after,
            change.ordered,
        )

    def app_changes(self, device: str = "", appid: str = "") -> list[AppChange]:
        """Return the changes of a device, of an application, or of all."""
        given = {"device": device, "appid": appid}
        where = " AND ".join(f"{column} = ?" for column, value in given.items() if value)
        rows = self._do(
            "SELECT device, appid, k, commands, after, ordered, number, error "  # noqa: S608
            f"FROM app_changes WHERE {where or 'TRUE'} ORDER BY ordered, appid, device",
            *filter(None, given.values()),
        ).fetchall()
        with guard():
            return [AppChange(row[0], row[1], row[2], _commands(row[3]), *row[4:]) for row in rows]

    def has_app_changes(self, device: str) -> bool:
        """Return whether a device has yet to take changes."""
        row = self._do("SELECT 1 FROM app_changes WHERE device = ? LIMIT 1", device).fetchone()
        return row is not None

    def number_app_change(self, change: AppChange, number: int | None) -> None:
        """Store the number under which a change is given, before it is sent. Durable."""
        with self.transaction():
            self._update(change, "number = ?, error = ''", number)

    def refuse_app_change(self, change: AppChange, error: str) -> None:
        """Store the code with which a device refused a change."""
        with self.transaction():
            self._update(change, "error = ?", error)

    def confirm_app_change(self, change: AppChange) -> bool:
        """End a change that the device has; False where another one replaced it meanwhile.

        The pair of an application that was removed goes with it. Durable.
        """
        with self.transaction():
            done = self._do(
                "DELETE FROM app_changes WHERE device = ? AND appid = ? AND number = ?",
                change.device,
                change.appid,
                change.number,
            )
            if done.rowcount and change.commands is None:
                self._do(
                    "DELETE FROM pairs WHERE device = ? AND appid = ?", change.device, change.appid
                )
        return bool(done.rowcount)

    def _update(self, change: AppChange, what: str, value: object) -> None:
        self._do(
            f"UPDATE app_changes SET {what} WHERE device = ? AND appid = ? "  # noqa: S608
            "AND number IS ?",
            value,
            change.device,
            change.appid,
            change.number,
        )

    # Applications

    def set_app(self, appid: str, types: tuple[str, ...], commands: tuple[str, ...]) -> None:
        """Replace what a registered application serves and may do. Call it in a transaction."""
        self._do(
            "UPDATE apps SET types = ?, commands = ? WHERE appid = ?",
            json.dumps(types),
            json.dumps(commands),
            appid,
        )

    def remove_app(self, appid: str) -> None:
        """Remove an application; devices that have it keep their pair. In a transaction."""
        self._do("DELETE FROM apps WHERE appid = ?", appid)
        self._do("DELETE FROM app_renames WHERE old = ?1 OR new = ?1", appid)

    def keep_predecessor(self, appid: str) -> None:
        """Let devices keep the application that this one was to follow. In a transaction."""
        self._do("DELETE FROM app_changes WHERE after = ?", appid)

    def devices_of(self, appid: str) -> list[str]:
        """Return the devices that have a pair with an application, by ID."""
        rows = self._do("SELECT device FROM pairs WHERE appid = ? ORDER BY device", appid)
        return [row[0] for row in rows]

    def add_rename(self, old: str, new: str) -> None:
        """Let an application follow another one, which goes when no device has it any more.

        Call it inside a transaction.
        """
        self._do("INSERT INTO app_renames VALUES (?, ?)", old, new)

    def renames(self) -> dict[str, str]:
        """Return old → new application ID."""
        return dict(self._do("SELECT old, new FROM app_renames ORDER BY old").fetchall())


def _commands(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(str(item) for item in json.loads(text))
