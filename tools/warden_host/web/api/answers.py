"""What a command's request holds and what its answer tells, over HTTP and in a WebSocket."""

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.web.authority import Line

_FIELDS = {"command", "args", "ttl", "timeout"}


def command_fields(given: Line) -> Line:
    """Return a command's fields. Raises bad-argument."""
    if not given.keys() <= _FIELDS or "command" not in given:
        raise HostError("bad-argument", "a command has: command, and args, ttl, timeout")
    return given


def command_answer(found: Line) -> Line:
    """Return the device's answer as the API tells it: what came sealed, and for what."""
    reply = found.get("reply")
    body = reply if isinstance(reply, dict) else {}
    head = {"device": found["device"], "command": found["command"], "number": found["id"]}
    if "error" in body:
        return head | {"ok": False, "error": jsontext.slug(body["error"])}
    return head | {"ok": True, "result": body.get("result")}
