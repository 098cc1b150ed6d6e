"""Register passkeys, and check log-ins by them (WebAuthn level 3), by the library `webauthn`.

What a browser sends is parsed in the order size, challenge, known credential, signature. User
verification is required: the authenticator asks for a PIN or a finger, so a passkey is two
factors.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.relying_party import RelyingParty
from warden_host.service.challenges import LIFE_S, Challenges
from warden_host.service.web_passwords import Ask
from warden_host.store.passkeys import Passkey

MAX_LABEL = 32
CODE_LIFE_S = 24 * 3600
_CODE_SIZE = 16  # characters of five bits each
_CODE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_MAX_ID = 1366  # characters: a credential ID has 1023 bytes at most
_MAX_CLIENT_DATA = 2048  # characters of base64url
_MAX_ATTESTATION = 8192
_MAX_SIGNATURE = 1024
_AUTH_DATA = 50  # characters: 37 bytes, which hold no extension; none is asked for
_SELF_MADE = ("none", "packed")  # formats of attestation that need no chain of a maker

LOGIN, NEW = "login", "new"  # purposes of challenges


class Passkeys:
    """ask: runs a question on the engine's thread. wall: unix seconds. steady: seconds.

    party: set once the console's port is known; None where passkeys can't be used.
    """

    def __init__(
        self,
        ask: Ask,
        fleet: str,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.party: RelyingParty | None = None
        self._ask = ask
        self._fleet = fleet
        self._wall = wall
        self._challenges = Challenges(steady)
        self._handles = os.urandom(32)

    def now(self) -> float:
        """Return unix seconds."""
        return self._wall()

    def credential_of(self, id_: Any) -> bytes:
        """Return a credential's ID from its text in base64url. Raises login-refused."""
        return _decoded(id_, _MAX_ID)

    def ask_login(self, bound: str) -> dict[str, Any]:
        """Return the options for navigator.credentials.get(). Raises passkey-unavailable.

        bound: a secret of the browser. The authenticator itself says whose passkey it is, so
        nothing tells a stranger who has one.
        """
        from webauthn import generate_authentication_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import UserVerificationRequirement

        return options_to_json_dict(
            generate_authentication_options(
                rp_id=self._party().id,
                challenge=self._challenges.make(LOGIN, bound),
                timeout=LIFE_S * 1000,
                user_verification=UserVerificationRequirement.REQUIRED,
            )
        )

    def check_login(self, credential: Any, bound: str) -> Passkey:
        """Return the passkey that signed.

        Raises: login-refused, passkey-refused for a challenge that ended; passkey-cloned for a
        right signature whose count went back; passkey-unavailable.
        """
        from webauthn import verify_authentication_response

        party = self._party()
        response = _fields(credential, authenticatorData=_AUTH_DATA, signature=_MAX_SIGNATURE)
        challenge = self._challenge(response, LOGIN, bound)
        known = self._known(credential)
        user = _decoded(response.get("userHandle"), _MAX_ID)
        if known is None or not secrets.compare_digest(user, known.user):
            raise _refused()
        try:
            verified = verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=party.id,
                expected_origin=party.origin,
                credential_public_key=known.key,
                # Judged below, after the signature: a forgery must not look like a clone.
                credential_current_sign_count=0,
                require_user_verification=True,
            )
        except Exception:  # noqa: BLE001  the library raises of any kind for malformed input
            raise _refused() from None
        self._challenges.use(challenge)
        count, now = verified.new_sign_count, self._wall()
        if not self._ask(lambda engine: engine.store.use_passkey(known.credential, count, now)):
            raise HostError(
                "passkey-cloned",
                f"the passkey {known.label} of {known.name} counted back: another one has its key",
            )
        return known

    def ask_new(self, name: str, bound: str) -> dict[str, Any]:
        """Return the options for navigator.credentials.create(). Raises passkey-unavailable."""
        from webauthn import generate_registration_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import (
            AuthenticatorSelectionCriteria,
            PublicKeyCredentialDescriptor,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        present: list[Passkey] = self._ask(lambda engine: engine.store.passkeys(name))
        user = present[0].user if present else self._new_user(name)
        return options_to_json_dict(
            generate_registration_options(
                rp_id=self._party().id,
                rp_name=f"Warden {self._fleet}",
                user_name=name,
                user_id=user,
                challenge=self._challenges.make(f"{NEW} {name}", bound),
                timeout=LIFE_S * 1000,
                authenticator_selection=AuthenticatorSelectionCriteria(
                    resident_key=ResidentKeyRequirement.REQUIRED,
                    user_verification=UserVerificationRequirement.REQUIRED,
                ),
                exclude_credentials=[
                    PublicKeyCredentialDescriptor(id=one.credential) for one in present
                ],
            )
        )

    def add(
        self, name: str, credential: Any, label: str, bound: str, code: bytes | None = None
    ) -> Passkey:
        """Register a passkey of an operator.

        bound: as for ask_new(). code: the hash of the code that is used up by it.
        Raises: passkey-refused, passkey-unavailable, what add_passkey() raises.
        """
        from webauthn import verify_registration_response
        from webauthn.helpers import base64url_to_bytes, parse_attestation_object

        party = self._party()
        response = _fields(credential, attestationObject=_MAX_ATTESTATION)
        challenge = self._challenge(response, f"{NEW} {name}", bound)
        try:
            attestation = base64url_to_bytes(response["attestationObject"])
            if str(parse_attestation_object(attestation).fmt) not in _SELF_MADE:
                raise ValueError
            verified = verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=party.id,
                expected_origin=party.origin,
                require_user_verification=True,
            )
        except Exception:  # noqa: BLE001  the library raises of any kind for malformed input
            raise HostError(
                "passkey-refused", "the authenticator's answer is not what a passkey's must be"
            ) from None
        self._challenges.use(challenge)
        label = jsontext.printable(label.strip())[:MAX_LABEL] or "passkey"
        now = self._wall()

        def add(engine: Any) -> Passkey:
            present = engine.store.passkeys(name)
            made = Passkey(
                verified.credential_id,
                name,
                present[0].user if present else self._new_user(name),
                verified.credential_public_key,
                verified.sign_count,
                label,
                now,
            )
            engine.store.add_passkey(made, code)
            return made

        made: Passkey = self._ask(add)
        return made

    def _known(self, credential: Any) -> Passkey | None:
        id_ = _decoded(credential.get("id"), _MAX_ID)
        found: Passkey | None = self._ask(lambda engine: engine.store.passkey(id_))
        return found

    def _challenge(self, response: dict[str, Any], purpose: str, bound: str) -> bytes:
        """Return the challenge that was signed, if it is one for this. Raises passkey-refused."""
        data = _decoded(response.get("clientDataJSON"), _MAX_CLIENT_DATA)
        try:
            record = jsontext.parse_object(data, _MAX_CLIENT_DATA, "passkey-refused", 4)
        except HostError:
            raise _refused() from None
        challenge = _decoded(record.get("challenge"), _MAX_CLIENT_DATA)
        self._challenges.check(challenge, purpose, bound)
        if record.get("crossOrigin") not in (None, False):  # a page that frames ours
            raise _refused()
        return challenge

    def _new_user(self, name: str) -> bytes:
        """Return an operator's first handle: the same at ask_new() and at add()."""
        return hmac.new(self._handles, name.encode(), hashlib.sha256).digest()

    def _party(self) -> RelyingParty:
        if self.party is None:
            raise HostError(
                "passkey-unavailable", "a passkey is for a host name, and this console has none"
            )
        return self.party


def new_code() -> str:
    """Return a code that registers a passkey, to be told to its operator."""
    return "".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_SIZE))


def grouped(code: str) -> str:
    """Return a code as people read it."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


def code_hash(typed: str) -> bytes:
    """Return what is kept of a code. It has 80 bits: a plain hash can't be searched."""
    plain = "".join(char for char in typed.upper() if char in _CODE_ALPHABET)
    return hashlib.sha256(b"warden passkey code " + plain.encode()).digest()


def _fields(credential: Any, **limits: int) -> dict[str, Any]:
    """Return the `response` of a credential, within limits. Raises login-refused."""
    response = credential.get("response") if isinstance(credential, dict) else None
    if not isinstance(response, dict):
        raise _refused()
    for key, limit in limits.items():
        value = response.get(key)
        if not isinstance(value, str) or len(value) > limit:
            raise _refused()
    return response


def _decoded(value: Any, limit: int) -> bytes:
    """Return base64url as bytes. Raises login-refused."""
    from webauthn.helpers import base64url_to_bytes

    if not isinstance(value, str) or len(value) > limit:
        raise _refused()
    try:
        return base64url_to_bytes(value)
    except ValueError:
        raise _refused() from None


def _refused() -> HostError:
    return HostError("login-refused", "this passkey does not log in here")
