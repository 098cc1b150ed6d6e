"""An order that sets a device's clock: signed by a release key, for one device and one session.

Whoever may command a device can't give it: a stolen session of the control socket, or an operator
without the key, sets no clock. Its form: docs/protocol.md, warden_clock.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from warden_client.protocol import strictcbor

from warden_host import jsontext
from warden_host.errors import HostError, LinkError, class_of
from warden_host.fleet.sealed_pem import PrivateKey
from warden_host.release import signing_key

_LABEL, _FORMAT = "warden clock", 1
_SID = re.compile(r"[0-9a-f]{16}\Z", re.ASCII)

# ask(fields): gives the command and returns the device's answer; {}: ask for the state.
Ask = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class State:
    """What a device says of its clock, unix seconds.

    session: the ID of its session, in hex. mark: the highest time that was proved to it, which its
    clock never goes below. floor: the day of its firmware, the same.
    """

    session: str
    mark: int
    now: int
    floor: int


def state(device: str, ask: Ask) -> State:
    """Ask a device for its clock. Raises: what `ask` raises, not-applicable, bad-body, …"""
    found = _result(device, ask({}))
    numbers = [found.get(key) for key in ("mark", "now", "floor")]
    session = found.get("session")
    if not isinstance(session, str) or not _SID.match(session):
        raise _malformed(device)
    if not all(type(number) is int and 0 <= number < 1 << 40 for number in numbers):
        raise _malformed(device)
    return State(session, *map(int, numbers))  # type: ignore[arg-type]


def give(
    device: str, ask: Ask, known: State, vendor: bytes, private: PrivateKey, unix_time: int
) -> int:
    """Set a device's clock; return from when on its keypad takes codes by time, unix seconds.

    known: what the device said in its present session. vendor: of the fleet.
    Raises: what `ask` raises, bad-argument, command-refused, timed-out, not-applicable.
    """
    if unix_time < known.floor:
        raise HostError(
            "bad-argument",
            f"this time is before the firmware of {device} was made",
            "set this host's clock",
        )
    order = strictcbor.encode(
        [_LABEL, _FORMAT, vendor, device, bytes.fromhex(known.session), unix_time]
    )
    signature = signing_key.sign_payload(private, order)
    found = _result(
        device,
        ask(
            {
                "order": {"hex": order.hex()},
                "signature": {"hex": signature.hex()},
                "time": unix_time,
            }
        ),
    )
    codes = found.get("codes")
    if found.get("time") != unix_time or type(codes) is not int or not 0 <= codes < 1 << 40:
        raise _malformed(device)
    return codes


def _result(device: str, answer: dict[str, Any]) -> dict[str, Any]:
    reply = answer.get("reply")
    if answer.get("ok") is not True or not isinstance(reply, dict):
        code = jsontext.slug(reply.get("error") if isinstance(reply, dict) else None)
        if class_of(code) is LinkError:
            raise HostError("timed-out", f"{device} answered {code}", "try again")
        raise HostError(
            "command-refused",
            f"{device} refused the order for its clock: {code}",
            "does it know this release key, and its firmware this order? `warden rotate` can give "
            "it the fleet's release keys",
        )
    found = reply.get("result")
    if not isinstance(found, dict):
        raise _malformed(device)
    return found


def _malformed(device: str) -> HostError:
    return HostError("bad-body", f"{device} answered in another form")
