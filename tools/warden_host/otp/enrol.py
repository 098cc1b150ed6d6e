"""Enrol secrets for codes that a device verifies by itself (RFC 4226, RFC 6238).

A secret is shown to an authenticator once and put into the bundle. Until the device is provisioned
the secret is in fleet.db; then only the device and the authenticator have it.
"""

import base64
import hmac
import io
import secrets
from dataclasses import replace
from typing import Any

from warden_host.errors import HostError
from warden_host.store.otp import Enrolment
from warden_host.store.store import Store

ISSUER = "Warden"
SECRET = 20  # bytes: RFC 4226 §4 R6 recommends 160 bits
MAX_DIGITS = 8  # RFC 4226 §5.3; common authenticators refuse an entry of more
STEP_S = 30
HASH = (
    "sha1"  # the only one that every authenticator takes; HMAC does not need it free of collisions
)
_AHEAD = 10  # HOTP: how often an authenticator's button may have been pressed by now
_DRIFT = 1  # TOTP: steps that its clock may be wrong by, each way


def new(device: str, source: str, digits: int, duress: bool) -> Enrolment:
    """Draw the secrets of a new entry; raises bad-argument."""
    if source not in ("hotp", "totp"):
        raise HostError("bad-argument", "only hotp and totp have a secret to enrol")
    check_digits(source, digits)
    return Enrolment(
        device,
        source,
        digits,
        STEP_S if source == "totp" else 0,
        0,
        secrets.token_bytes(SECRET),
        secrets.token_bytes(SECRET) if duress else None,
    )


def check_digits(source: str, digits: int) -> None:
    """Raise bad-argument for a new gate whose codes common authenticators do not make."""
    if source != "authority" and not 6 <= digits <= MAX_DIGITS:
        raise HostError(
            "bad-argument",
            f"common authenticators refuse codes of {digits} digits",
            f"take 6 to {MAX_DIGITS}; codes of the authority may have 6 to 10",
        )


def uri(enrolled: Enrolment, duress: bool = False) -> str:
    """Return the otpauth:// URI that authenticators scan.

    The name of the duress entry does not say what it is for, because others may see the screen.
    """
    name = f"{enrolled.device} (2)" if duress else enrolled.device
    made: str = _generator(enrolled, duress).provisioning_uri(name=name, issuer_name=ISSUER)
    return made


def qr(text: str) -> str:
    """Return the QR code in half blocks, light on dark."""
    import segno  # a part of a second, which only this command shall take

    out = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(out, compact=True)
    return out.getvalue()


def confirmed(enrolled: Enrolment, typed: str, now: float, duress: bool = False) -> Enrolment:
    """Return the enrolment with `first` above the counter that the code proved.

    Bystanders may have seen the code, so it is not accepted later. Raises bad-code.
    """
    generator = _generator(enrolled, duress)
    if enrolled.source == "totp":
        step = int(now) // enrolled.step_s
        counters = range(step - _DRIFT, step + _DRIFT + 1)
    else:
        counters = range(_AHEAD)
    right = [
        counter
        for counter in counters
        if hmac.compare_digest(str(generator.generate_otp(counter)).encode(), typed.encode())
    ]
    if not right:
        raise HostError(
            "bad-code",
            "the authenticator and the secret don't agree",
            "delete the entry, set this machine's clock right, and enrol again",
        )
    return replace(enrolled, first=max(enrolled.first, right[-1] + 1))


def bundle_part(store: Store, device: str, gate: dict[str, Any] | None) -> list[Any] | None:
    """Return the bundle's `otp`; None where the device verifies no codes itself.

    Raises not-enrolled.
    """
    if gate is None or gate["source"] == "authority":
        return None
    enrolled = store.enrolment(device)
    wanted = f"enrol it for {gate['source']} with {gate['digits']} digits"
    if gate["duress"]:
        wanted += " and a duress code"
    if enrolled is None:
        raise HostError("not-enrolled", f"there is no secret for codes of {device}", wanted)
    fits = (enrolled.source, enrolled.digits) == (gate["source"], gate["digits"])
    if not fits or (gate["duress"] and enrolled.duress is None):
        raise HostError(
            "not-enrolled", f"the secret for codes of {device} is of another kind", wanted
        )
    duress = enrolled.duress if gate["duress"] else None
    return [enrolled.secret, enrolled.digits, enrolled.step_s, duress, HASH, enrolled.first]


def _generator(enrolled: Enrolment, duress: bool) -> Any:
    """Return the generator of pyotp; both kinds have generate_otp(counter)."""
    import pyotp

    secret = enrolled.duress if duress else enrolled.secret
    if secret is None:
        raise HostError("bad-argument", "there is no second secret")
    text = base64.b32encode(secret).decode()
    if enrolled.source == "totp":
        return pyotp.TOTP(text, digits=enrolled.digits, interval=enrolled.step_s)
    return pyotp.HOTP(text, digits=enrolled.digits)
