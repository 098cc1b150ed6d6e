"""Read the table [otp] of warden.toml: defaults of gates, limits, and ways to reach owners.

It holds no secret: secrets are files in keys/, 0600, read when they are used.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, check_keys, is_host, malformed
from warden_host.protocol import policy

PEPPER = "otp.pepper"
MAIL_PASSWORD = "otp-mail.password"  # noqa: S105  a file's name
WEBHOOK_SECRET = "otp-webhook.secret"  # noqa: S105  a file's name
SECURITY = ("tls", "starttls", "none")
MIN_SECRET = 16  # bytes
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LIMITS = {"requests_device": 10, "requests_owner": 30, "attempts_device": 30}
_MOST = 10_000


@dataclass(frozen=True)
class Limits:
    """Limits of requests an hour, by device and by owner, and of failed tries a day."""

    requests_device: int = _LIMITS["requests_device"]
    requests_owner: int = _LIMITS["requests_owner"]
    attempts_device: int = _LIMITS["attempts_device"]


@dataclass(frozen=True)
class Mail:
    """The settings of [otp.mail]."""

    host: str
    port: int
    security: str
    sender: str
    user: str = ""
    ca: Path | None = None  # None: the machine's own


@dataclass(frozen=True)
class Webhook:
    """The settings of [otp.webhook]."""

    url: str
    ca: Path | None = None


@dataclass(frozen=True)
class OtpSettings:
    """The settings of [otp]."""

    limits: Limits = field(default_factory=Limits)
    gate: dict[str, Any] = field(default_factory=dict)  # changes to the policy's defaults
    mail: Mail | None = None
    webhook: Webhook | None = None


def load(made: Fleet) -> OtpSettings:
    """Return the settings. Raises config-malformed for anything that docs/otp.md does not name.

    A misspelt setting would protect no one.
    """
    table = made.document.get("otp", {})
    known = {*_LIMITS, "policy", "mail", "webhook"}
    check_keys(table, known, "otp")
    limits = {key: _number(table, key, default) for key, default in _LIMITS.items()}
    gate = table.get("policy", {})
    try:
        policy.otp(**check_keys(gate, set(policy.otp()), "otp.policy"))
    except HostError as error:
        raise malformed(f"[otp.policy]: {error.text}") from None
    return OtpSettings(
        Limits(**limits),
        gate,
        _mail(made, table["mail"]) if "mail" in table else None,
        _webhook(made, table["webhook"]) if "webhook" in table else None,
    )


def _mail(made: Fleet, table: Any) -> Mail:
    check_keys(table, {"host", "port", "security", "from", "user", "ca"}, "otp.mail")
    security = table.get("security", "tls")
    if security not in SECURITY:
        raise malformed(f"[otp.mail]: security is none of {', '.join(SECURITY)}")
    host = _text(table, "host")
    if not is_host(host):
        raise malformed("[otp.mail]: host is no host name or address")
    if security == "none" and host not in _LOOPBACK:
        raise malformed("[otp.mail]: without TLS a code goes to this machine's own server only")
    default = {"tls": 465, "starttls": 587, "none": 25}[security]
    port = _number(table, "port", default, 65535)
    sender = _text(table, "from")
    if not is_mail(sender):
        raise malformed("[otp.mail]: from is no mail address")
    return Mail(host, port, security, sender, _text(table, "user", ""), _ca(made, table))


def _webhook(made: Fleet, table: Any) -> Webhook:
    check_keys(table, {"url", "ca"}, "otp.webhook")
    url = _text(table, "url")
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise malformed("[otp.webhook]: url is no https address")
    if parts.username is not None or parts.query or parts.fragment:  # a password has a user
        raise malformed("[otp.webhook]: no user, password, query or fragment in url: they leak")
    return Webhook(url, _ca(made, table))


def is_mail(address: str) -> bool:
    """Return whether this looks like an address, and adds no line to a mail."""
    name, at, host = address.rpartition("@")
    plain = address.isascii() and address.isprintable() and len(address) <= 254
    return plain and at == "@" and bool(name) and is_host(host) and not set(name) & set(' <>,;:"@')


def _ca(made: Fleet, table: dict[str, Any]) -> Path | None:
    return made.root / _text(table, "ca") if "ca" in table else None


def _number(table: dict[str, Any], key: str, default: int, most: int = _MOST) -> int:
    value = table.get(key, default)
    if type(value) is not int or not 1 <= value <= most:
        raise malformed(f"{key} is no number between 1 and {most}")
    return value


def _text(table: dict[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise malformed(f"{key} is missing or no text")
    return value
