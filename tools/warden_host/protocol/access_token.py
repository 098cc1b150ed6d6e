"""Access tokens of applications: JWTs (RFC 7519) under the fleet's own key, ES256.

A token names its application, an ID by which it is revoked, its end, and scopes: which device
types it may read events of, and which commands it may give to which types.
"""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from warden_host import names
from warden_host.errors import HostError

ISSUER = "warden"
AUDIENCE = "warden"  # RabbitMQ's resource_server_id, too
MAX_TOKEN = 8192  # bytes that are looked at
_ALGORITHM = "ES256"
_READ, _COMMAND, _API, _ORIGIN = "read", "command", "api", "origin:"
MOST_ORIGINS = 8
# As a browser sends it (RFC 6454): without TLS on loopback alone.
_IS_ORIGIN = re.compile(
    r"(https://([a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}"
    r"|https?://(localhost|127\.0\.0\.1|\[::1\]))(:[1-9][0-9]{0,4})?\Z",
    re.ASCII,
)


@dataclass(frozen=True)
class Scope:
    """What a token allows. types: device types. read: their events. commands: to give to them.

    api: it is for the API of the console, and opens no broker. origins: of web pages that may use
    it there.
    """

    types: tuple[str, ...]
    read: bool
    commands: tuple[str, ...]
    api: bool = False
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for type_ in self.types:
            names.check_id(type_, "device type")
        for command in self.commands:
            names.check_grant(command)
        for origin in self.origins:
            check_origin(origin)
        if len(self.origins) > MOST_ORIGINS:
            raise HostError("bad-argument", f"a token has {MOST_ORIGINS} origins at most")

    def words(self) -> list[str]:
        """Return the scope's words: read:TYPE, command:TYPE:COMMAND, api and origin:ORIGIN."""
        found = [_API] if self.api else []
        found += [_ORIGIN + origin for origin in self.origins]
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

    @property
    def is_for_api(self) -> bool:
        return _API in self.words

    @property
    def origins(self) -> frozenset[str]:
        """Return the origins of the web pages that may use it."""
        return origins_of(self.words)

    def commands(self, type_: str) -> list[str]:
        """Return the commands that it may give to devices of a type."""
        prefix = f"{_COMMAND}:{type_}:"
        return sorted(word.removeprefix(prefix) for word in self.words if word.startswith(prefix))

    def knows(self, type_: str) -> bool:
        """Return whether it is for devices of a type at all."""
        return self.may_read(type_) or bool(self.commands(type_))


def check_origin(origin: str) -> str:
    """Return an origin as browsers send it. Raises bad-argument."""
    if not _IS_ORIGIN.match(origin):
        raise HostError(
            "bad-argument",
            "an origin is https://HOST or https://HOST:PORT, in small letters, without a path",
            "http:// is for 127.0.0.1, [::1] and localhost alone",
        )
    return origin


def origins_of(words: Iterable[str]) -> frozenset[str]:
    """Return the origins among the words of a scope."""
    return frozenset(one.removeprefix(_ORIGIN) for one in words if one.startswith(_ORIGIN))


def rights_of(words: Iterable[str]) -> set[str]:
    """Return the words that allow something, without where they count."""
    return {one for one in words if one != _API and not one.startswith(_ORIGIN)}


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
