"""What this fleet remembers of the boards that it provisioned, beside fleet.db: no secret.

A record is written before a board gets secrets, and tells a call that was cut from a board that
belongs to a device already.
"""

import json
from dataclasses import asdict, dataclass

from warden_client import secretfile

from warden_host import jsontext, names
from warden_host.devices.provision import Order
from warden_host.errors import HostError
from warden_host.fleet import board_file
from warden_host.fleet.fleet import Fleet

_LIMIT = 1 << 19  # a board.py of 64 KB, each character as an escape


@dataclass(frozen=True)
class BoardRecord:
    """chip: its unique ID in hex. live: whether it was let go as a device.

    board_py: the text of its own board.py, "" for that of the board.
    """

    device: str
    chip: str
    board: str
    live: bool
    board_py: str = ""

    def is_chip(self, unique_id: str) -> bool:
        """Return whether this is the same chip; one without an ID is never known again."""
        return bool(unique_id) and unique_id == self.chip

    def own_board(self) -> board_file.BoardFile | None:
        """Return the board's own board.py, or None. Raises no-board: this version refuses it."""
        return board_file.parse(self.board_py, "board.py") if self.board_py else None

    def save(self, fleet: Fleet) -> None:
        """Write the record, in one step."""
        folder = fleet.root / "boards"
        folder.mkdir(mode=0o700, exist_ok=True)
        data = json.dumps(asdict(self), sort_keys=True).encode()
        secretfile.write(folder / f"{names.check_id(self.device, 'device ID')}.json", data)

    @classmethod
    def load(cls, fleet: Fleet, device: str) -> "BoardRecord | None":
        """Return the record of a device, or None. Raises database-damaged, key-permissions."""
        path = fleet.root / "boards" / f"{names.check_id(device, 'device ID')}.json"
        if not path.exists():
            return None
        found = jsontext.parse_object(secretfile.read(path, _LIMIT), _LIMIT, "database-damaged")
        try:
            return cls(
                str(found["device"]),
                str(found["chip"]),
                str(found["board"]),
                found["live"] is True,
                str(found.get("board_py", "")),
            )
        except KeyError:
            raise HostError("database-damaged", f"{path.name} is no record of a board") from None


def replaces_package(record: BoardRecord | None, order: Order) -> bool:
    """Return whether an order asks for nothing but the package of a board that is live."""
    more = order.again or order.networks or order.app_source is not None
    return record is not None and record.live and not more
