"""Read the fields of a request on the control socket. Raises control-malformed."""

from collections.abc import Sequence
from typing import Any

from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.service.control import Line
from warden_host.store.store import Device

ROWS = 50  # of a page
MAX_PAGE = 1000


def read_networks(change: Any) -> dict[str, Any]:
    """Return the body of the command `wifi`; the device checks it. Raises control-malformed."""
    if not isinstance(change, dict) or change.keys() != {"id", "add", "keep"}:
        raise HostError("control-malformed", "the change of networks has another form")
    add = change["add"]
    if add is not None:
        if not isinstance(add, list) or [type(part) for part in add] != [str, str]:
            raise HostError("control-malformed", "the new network is no name and password")
        add = [add[0], add[1].encode()]
    return {"id": change["id"], "add": add, "keep": change["keep"]}


def read_bytes(value: Any) -> Any:
    """Return a value in which {"hex": …} stands for bytes. Raises control-malformed."""
    if isinstance(value, list):
        return [read_bytes(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"hex"}:
        return {key: read_bytes(one) for key, one in value.items()}
    try:
        return bytes.fromhex(value["hex"])
    except (TypeError, ValueError):
        raise HostError("control-malformed", "bytes that are no hex digits") from None


def read_text(line: Line, key: str, default: Any = None, limit: int = 256) -> str:
    """Return a field of text. Raises control-malformed."""
    value = line.get(key, default)
    if not isinstance(value, str) or len(value) > limit:
        raise HostError("control-malformed", f"{key} is missing or no text")
    return value


def authority_request(line: Line, command: str, args: dict[str, Any]) -> Request:
    """Return a command of the authority's own.

    args: secrets of the fleet come from the store. A Wi-Fi password is none of them: it passes the
    control socket, which only the fleet's owner can open, and is stored nowhere.
    """
    request = read_request(line | {"command": command, "app": AUTHORITY, "forge": ""})
    return request._replace(args=args)


def read_request(line: Line) -> Request:
    args = line.get("args", {})
    if not isinstance(args, dict):
        raise HostError("control-malformed", "args is not an object")
    ttl, timeout = line.get("ttl", 30), line.get("timeout", 10)
    if type(ttl) is not int or type(timeout) not in (int, float) or not 0 < timeout <= 600:
        raise HostError("control-malformed", "ttl or timeout is out of range")
    return Request(
        device=read_text(line, "device"),
        command=read_text(line, "command"),
        args=args,
        app=read_text(line, "app", ""),
        ttl_s=ttl,
        timeout_s=float(timeout),
        forge=read_text(line, "forge", ""),
        hold=line.get("hold") is True,
    )


def read_policy(line: Line, known: Device) -> dict[str, Any]:
    """Return the body of the command `policy`, from a line of the control socket.

    The new record is the one in fleet.db. Raises control-malformed, not-applicable.
    """
    if "change" not in line:
        return {}
    if type(line["change"]) is not int:
        raise HostError("control-malformed", "the change of the policy has no number")
    if known.next_policy is None:
        raise HostError("not-applicable", f"no change of {known.device}'s policy is due")
    found = {"id": line["change"], "policy": known.next_policy}
    if "brokers" in line:
        found["brokers"] = line["brokers"]
        # The device checks their bounds.
        kinds = ([str, int, int], [str, int, int, str])
        if not isinstance(found["brokers"], list) or not all(
            isinstance(one, list) and [type(part) for part in one] in kinds
            for one in found["brokers"]
        ):
            raise HostError("control-malformed", "the brokers have another form")
    return found


def read_number(line: Line, key: str = "page", most: int = MAX_PAGE) -> int:
    """Return a number from 0 on; 0 where it is missing. Raises control-malformed."""
    value = line.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise HostError("control-malformed", f"{key} is out of range: 0 to {most}")
    return value


def paged(line: Line, rows: Sequence[Any]) -> dict[str, Any]:
    """Return the page of rows that a request asks for, and of how many; "more": one follows."""
    start = read_number(line) * ROWS
    return page(line, rows[start : start + ROWS], len(rows))


def page(line: Line, rows: Sequence[Any], count: int) -> dict[str, Any]:
    """Return a page as an answer. rows: of it alone. count: of all pages."""
    number = read_number(line)
    return {"rows": rows, "page": number, "count": count, "more": count > (number + 1) * ROWS}
