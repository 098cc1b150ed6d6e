"""Give a device a change that it tries by itself, and ask it until it says what became of it.

Of a change of the Wi-Fi networks and of the policy. The device has the old and the new, proves the
new on a connection of its own, and goes back to the old otherwise, whatever happens here.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from warden_host import jsontext
from warden_host.devices.stage import Report, Stage
from warden_host.errors import HostError, LinkError, class_of

_PAUSE_S = 2.0
MAX_ID = (1 << 32) - 1

# ask(change): gives the command and returns the device's answer; None: ask for the state.
Ask = Callable[[dict[str, Any] | None], dict[str, Any]]


class State(Protocol):
    """What a device says of its changes."""

    @property
    def id(self) -> int:
        """The number of the last change that the device took."""

    @property
    def proved(self) -> int:
        """The number of the last change that worked."""

    @property
    def is_pending(self) -> bool:
        """Return whether a change is not proved yet."""


S = TypeVar("S", bound=State)


def complete(
    device: str,
    ask: Ask,
    read: Callable[[dict[str, Any]], S],
    order: dict[str, Any],
    taken_text: Callable[[S], str],
    report: Report,
    timeout_s: float,
) -> S:
    """Give the order until the device took it, then ask until the change ended; return its state.

    order: its "id" is above all earlier ones. taken_text: for `report`, once the device took it.
    Where the result's `proved` is not that id, the device went back.
    Raises: not-applicable, timed-out, and what `ask` and `read` raise.
    """
    end = time.monotonic() + timeout_s
    number = order["id"]
    away = ""
    taken = False
    while time.monotonic() < end:
        try:
            now = read(ask(None if taken else order))
        except LinkError as error:
            away = error.text or error.code
            # The order may have arrived and its reply not: ask before giving it again.
            taken = True
        else:
            if now.id > number:
                raise HostError("not-applicable", f"{device} took another change meanwhile")
            if now.id == number and not now.is_pending:
                return now
            if now.id == number and not taken:
                report(Stage("taken", taken_text(now)))
            taken = now.id == number
        time.sleep(_PAUSE_S)
    raise HostError(
        "timed-out",
        f"{device} has not said in {timeout_s:g} s what became of the change"
        f" (last: {away or '-'})",
        "it ends the change by itself; the command without options shows the result",
    )


def result(device: str, answer: dict[str, Any], lacking: str, what: str) -> dict[str, Any]:
    """Return what a device's reply holds, with whole numbers as `id` and `proved`.

    lacking: what a device that does not know the command is. what: was to be changed.
    Raises: not-applicable, timed-out, command-refused, bad-body.
    """
    if answer.get("ok") is not True:
        code = jsontext.slug(answer.get("reply", {}).get("error"))
        if code == "unknown-command":
            raise HostError("not-applicable", f"{device} {lacking}")
        if class_of(code) is LinkError:
            raise HostError("timed-out", f"{device} answered {code}")  # a bad moment
        raise HostError("command-refused", f"{device} refused the change of {what}: {code}")
    found = answer["reply"].get("result")
    if not isinstance(found, dict) or not all(
        type(found.get(key)) is int and 0 <= found[key] < MAX_ID for key in ("id", "proved")
    ):
        raise malformed(device)
    return found


def malformed(device: str) -> HostError:
    """Return the error for an answer in another form."""
    return HostError("bad-body", f"{device} answered in another form")
