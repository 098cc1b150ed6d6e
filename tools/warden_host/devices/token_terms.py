"""Where a device fetches its access tokens, and how it is given other terms over the link.

1. The device says which change of its terms it took last.
2. It gets the new ones, sealed, beside the old ones, and closes its connection.
3. It fetches a token by them and logs in. Where its session comes up, they are the only ones;
   where the token server or the broker refuses them, the old ones are.
4. The device is asked until it says which.

This side stores nothing: the secret is the token server's, and the device's.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from warden_host import jsontext
from warden_host.devices.stage import Report, Stage
from warden_host.errors import HostError, LinkError, class_of

MAX_TEXT = 512  # bytes of the client ID, the secret and the scope each, and of the address
WAYS = ("basic", "body")
DEFAULT_USER = "token"
_ADDRESS = re.compile(
    r"https://[A-Za-z0-9.-]{1,253}(:[1-9][0-9]{0,4})?/[\x21-\x22\x24-\x7e]*\Z", re.ASCII
)
_FORMAT = 1
_PAUSE_S = 2.0

Ask = Callable[[dict[str, Any]], dict[str, Any]]
# CA certificates, DER, and pins.
Trust = tuple[list[bytes], list[bytes]]


@dataclass(frozen=True)
class TokenTerms:
    """url: of the token server. way: where the proof goes, of WAYS. user: of the log-in.

    trust: the CAs and pins of the token server, None for the broker's.
    """

    url: str
    client_id: str
    secret: bytes = field(repr=False)
    scope: str = ""
    way: str = "basic"
    user: str = DEFAULT_USER
    trust: Trust | None = None

    def terms(self) -> list[object]:
        """Return the terms as an order of the authority holds them."""
        trust = None if self.trust is None else [list(part) for part in self.trust]
        return [
            self.url.encode(),
            self.client_id.encode(),
            self.secret,
            self.scope.encode(),
            self.way,
            trust,
        ]

    def record(self) -> list[object]:
        """Return the terms as a bundle holds them."""
        return [_FORMAT, 0, *self.terms()]


def check(terms: TokenTerms) -> None:
    """Raise bad-argument for what no device takes. No secret is in the text."""
    if not _ADDRESS.match(terms.url) or len(terms.url) > MAX_TEXT:
        raise HostError(
            "bad-argument",
            "the token server's address is none that a device asks",
            "give https://HOST[:PORT]/PATH without a user or a fragment",
        )
    if terms.way not in WAYS:
        raise HostError("bad-argument", "the way is none of " + ", ".join(WAYS))
    for what, value, least in (
        ("client ID", terms.client_id.encode(), 1),
        ("client secret", terms.secret, 1),
        ("scope", terms.scope.encode(), 0),
        ("user name", terms.user.encode(), 1),
    ):
        if not least <= len(value) <= MAX_TEXT:
            raise HostError("bad-argument", f"the {what} has {least} to {MAX_TEXT} bytes")
    if terms.trust is not None:
        cas, pins = terms.trust
        if not 1 <= len(cas) <= 2 or any(len(ca) > 2048 for ca in cas):
            raise HostError(
                "bad-argument", "the token server has 1 or 2 CA certificates of at most 2048 bytes"
            )
        if not 2 <= len(pins) <= 6 or len(set(pins)) != len(pins):
            raise HostError(
                "bad-argument",
                "the token server has 2 to 6 different pins",
                "the live key's, and one of a backup key",
            )


def check_needed(terms: TokenTerms | None, auth: str) -> None:
    """Raise bad-argument for terms that the policy's auth needs and lacks, or has no use for."""
    needed = "token" in auth.split("-")
    if terms is None and needed:
        raise HostError(
            "bad-argument",
            f"this device logs in by {auth}, and no token server is named",
            "warden.toml's [connection] says how devices log in; docs/tokens.md",
        )
    if terms is not None and not needed:
        raise HostError(
            "bad-argument",
            f"this device logs in by {auth}, without a token",
            "set auth in warden.toml's [connection] first; docs/tokens.md",
        )


@dataclass(frozen=True)
class State:
    """id: of the last change that the device took. proved: of the terms in force."""

    id: int
    proved: int
    pending: bool


def state(device: str, ask: Ask) -> State:
    """Return what a device answers. Raises command-refused, not-applicable, bad-body."""
    return _read(device, ask({}))


def renew(device: str, ask: Ask) -> State:
    """Let the device fetch a new token now. Raises as state()."""
    return _read(device, ask({"renew": True}))


def change(device: str, ask: Ask, terms: TokenTerms, report: Report, timeout_s: float) -> None:
    """Give the device new terms, and wait until they proved themselves.

    Raises: bad-argument, not-applicable, token-unproved, timed-out, and as state().
    """
    check(terms)
    number = state(device, ask).id + 1
    order: dict[str, Any] = {"id": number, "terms": terms.terms()}
    end = time.monotonic() + timeout_s
    away, taken = "", False
    while time.monotonic() < end:
        try:
            now = _read(device, ask({} if taken else order))
        except LinkError as error:
            away = error.text or error.code
            # The order may have arrived and its reply not: ask before giving it again.
            taken = True
        else:
            if now.id > number:
                raise HostError("not-applicable", f"{device} took another change meanwhile")
            if now.id == number and not now.pending:
                if now.proved == number:
                    return
                raise HostError(
                    "token-unproved",
                    f"{device} got no token by the new terms, or the broker refused it; the old "
                    "ones are in use",
                )
            if now.id == number and not taken:
                report(Stage("taken", f"{device} holds both, and tries the new ones"))
            taken = now.id == number
        time.sleep(_PAUSE_S)
    raise HostError(
        "timed-out",
        f"{device} has not said in {timeout_s:g} s what became of the change (last: {away or '-'})",
        "it ends the change by itself; the command without options shows the result",
    )


def _read(device: str, answer: dict[str, Any]) -> State:
    if answer.get("ok") is not True:
        code = jsontext.slug(answer.get("reply", {}).get("error"))
        if code == "unknown-command":
            raise HostError(
                "not-applicable",
                f"{device} logs in without a token",
                "its policy's auth says how; docs/tokens.md",
            )
        if class_of(code) is LinkError:
            raise HostError("timed-out", f"{device} answered {code}")  # a bad moment
        raise HostError("command-refused", f"{device} refused the order for its token: {code}")
    result = answer["reply"].get("result")
    fields: dict[str, Any] = result if isinstance(result, dict) else {}
    if not all(type(fields.get(key)) is int and fields[key] >= 0 for key in ("id", "proved")):
        raise HostError("bad-body", f"{device} answered in another form")
    return State(fields["id"], fields["proved"], fields.get("pending") is True)
