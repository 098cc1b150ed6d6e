"""Commands in fleet.db that wait until their device is awake."""

from dataclasses import dataclass
from typing import Any

from warden_client.protocol import strictcbor

from warden_host.store.database import Database


@dataclass(frozen=True)
class HeldCommand:
    """number: the command's own. expires: unix seconds. sent: it left, and may be executed."""

    number: int
    device: str
    appid: str
    command: str
    args: dict[str, Any]
    expires: float
    sent: bool = False


class HeldCommands(Database):
    """The rows of these commands, in the order in which they were given."""

    def held_commands(self) -> list[HeldCommand]:
        """Return all of them."""
        rows = self._do(
            "SELECT number, device, appid, command, args, expires, sent FROM held_commands "
            "ORDER BY id"
        ).fetchall()
        return [
            HeldCommand(number, device, appid, command, strictcbor.decode(args), expires, sent > 0)
            for number, device, appid, command, args, expires, sent in rows
        ]

    def add_held_command(self, one: HeldCommand) -> None:
        """Add a command. Durable: its sender is told that it waits."""
        with self.transaction():
            self._do(
                "INSERT INTO held_commands (number, device, appid, command, args, expires, sent) "
                "VALUES (?, ?, ?, ?, ?, ?, 0)",
                one.number,
                one.device,
                one.appid,
                one.command,
                strictcbor.encode(one.args),
                one.expires,
            )

    def mark_held_sent(self, one: HeldCommand) -> bool:
        """Record that the command leaves now. Durable, before it does: it must not leave twice.

        Returns: False where it is dropped: its device was removed, or provisioned anew.
        """
        with self.transaction():
            marked = self._do(
                "UPDATE held_commands SET sent = 1 WHERE device = ? AND number = ?",
                one.device,
                one.number,
            )
        return marked.rowcount > 0

    def remove_held_command(self, one: HeldCommand) -> None:
        """Remove a command that was answered or has expired."""
        self._do(
            "DELETE FROM held_commands WHERE device = ? AND number = ?", one.device, one.number
        )
