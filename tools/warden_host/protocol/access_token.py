"""Access tokens of applications: JWTs (RFC 7519) under the fleet's own key, ES256.

A token names its application, an ID by which it is revoked, its end, and scopes: which device
types it may read events of, and which commands it may give to which types.
"""

import time
from dataclasses import dataclass
from typing import Any

from warden_host import names
from warden_host.errors import HostError

ISSUER = "warden"
AUDIENCE = "warden"  # RabbitMQ's resource_server_id, too
MAX_TOKEN = 8192  # bytes that are looked at
_ALGORITHM = "ES256"
_READ, _COMMAND = "read", "command"


@dataclass(frozen=True)
class Scope:
    """What a token allows. types: device types. read: their events. commands: to give to them."""

    types: tuple[str, ...]
    read: bool
    commands: tuple[str, ...]

    def __post_init__(self) -> None:
        for type_ in self.types:
            names.check_id(type_, "device type")
        for command in self.commands:
            names.check_grant(command)

    def words(self) -> list[str]:
        """Return the scope's words: read:TYPE and command:TYPE:COMMAND."""
        found = []
        for type_ in self.types:
            found += [f"{_READ}:{type_}"] if self.read else []
            found += [f"{_COMMAND}:{type_}:{command}" for command in self.commands]
        return found


@dataclass(frozen=True)
class Claims:
    """What a verified token says. end: unix seconds. words: of its scope, as in Scope.words()."""

    appid: str
    id: str
    end: int
    words: frozenset[str]

    def may_read(self, type_: str) -> bool:
        return f"{_READ}:{type_}" in self.words

    def may_command(self, type_: str, command: str) -> bool:
        return f"{_COMMAND}:{type_}:{command}" in self.words


def rabbitmq_scopes(scope: Scope, client_id: str) -> list[str]:
    """Return the right to read events in the words of RabbitMQ's OAuth 2.0 back end.

    Its topics have dots for slashes; client_id: whose queues the client may use.
    """
    found = []
    for type_ in scope.types:
        base = names.topic_base(type_, "*").replace("/", ".")
        found.append(f"{AUDIENCE}.read:*/amq.topic/{base}.evt.*")
    queue = f"mqtt-subscription-{client_id}qos*"
    return found + [f"{AUDIENCE}.{right}:*/{queue}" for right in ("configure", "write", "read")]


def sign(key: Any, claims: dict[str, Any]) -> str:
    """Return a token of these claims. key: the fleet's private key, P-256."""
    from joserfc import jwt  # here: few commands need it
    from joserfc.jwk import ECKey

    header = {"alg": _ALGORITHM, "typ": "JWT", "kid": ISSUER}
    return str(jwt.encode(header, claims, ECKey.import_key(key), [_ALGORITHM]))


def is_signed(key: Any, token: str) -> bool:
    """Return whether this fleet signed the token, whatever else is wrong with it."""
    try:
        verify(key, token)
    except HostError as error:
        return error.code != "token-invalid"
    return True


def verify(key: Any, token: str, now: float | None = None) -> Claims:
    """Return what a token says, once its signature, issuer, audience and end are checked.

    key: the public key. now: unix seconds.
    Raises: token-invalid, token-expired.
    """
    from joserfc import errors, jwt
    from joserfc.jwk import ECKey

    if len(token) > MAX_TOKEN:
        raise HostError("token-invalid", "the token is too long")
    registry = jwt.JWTClaimsRegistry(
        int(time.time() if now is None else now),
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True},
        jti={"essential": True},
        exp={"essential": True},
        scope={"essential": True},
    )
    try:
        claims = jwt.decode(token, ECKey.import_key(key), [_ALGORITHM]).claims
        registry.validate(claims)
    except errors.ExpiredTokenError:
        raise HostError("token-expired", "the token has ended") from None
    except (errors.JoseError, ValueError, TypeError, RecursionError):
        raise HostError("token-invalid", "this is no token of this fleet") from None
    texts = [claims["sub"], claims["jti"], claims["scope"]]
    if not all(isinstance(text, str) for text in texts) or type(claims["exp"]) is not int:
        raise HostError("token-invalid", "the token's claims have another form")
    return Claims(texts[0], texts[1], claims["exp"], frozenset(texts[2].split()))
