"""Read the table [alarms] of warden.toml: who gets alarms, of which kinds, and their bounds.

Mail goes by the server of [otp.mail], a webhook to the address of [otp.webhook].
"""

from dataclasses import dataclass
from typing import Any

from warden_host.alarms.rules import KINDS
from warden_host.fleet.fleet import Fleet, check_keys, malformed
from warden_host.otp import settings as otp_settings
from warden_host.otp.settings import OtpSettings

TABLE = "alarms"
MOST_ADDRESSES = 10
_NUMBERS = {  # key → (default, least, most)
    "away_hours": (24, 1, 24 * 365),
    "disk_mib": (512, 1, 1 << 20),
    "refused_logins": (30, 1, 100_000),
}


@dataclass(frozen=True)
class AlarmSettings:
    """The content of [alarms].

    mail: addresses. away_hours: before a device counts as away. disk_mib: free space below which
    the disk counts as full. refused_logins: a minute, from which they count as brute force.
    """

    mail: tuple[str, ...] = ()
    webhook: bool = False
    kinds: frozenset[str] = frozenset(KINDS)
    away_hours: int = _NUMBERS["away_hours"][0]
    disk_mib: int = _NUMBERS["disk_mib"][0]
    refused_logins: int = _NUMBERS["refused_logins"][0]

    @property
    def wanted(self) -> bool:
        """Return whether alarms go anywhere."""
        return bool(self.mail) or self.webhook


def load(fleet: Fleet) -> tuple[AlarmSettings, OtpSettings]:
    """Return the settings of alarms, and those of the ways by which they go.

    Raises config-malformed for any key or value that docs/operations.md does not name: a misspelt
    one would raise no alarm.
    """
    ways = otp_settings.load(fleet)
    table = check_keys(
        fleet.document.get(TABLE, {}), ("mail", "webhook", "kinds", *_NUMBERS), TABLE
    )
    mail, webhook = _addresses(table), table.get("webhook", False)
    if mail and ways.mail is None:
        raise malformed(f"[{TABLE}]: mail needs the server of [otp.mail]")
    if type(webhook) is not bool:
        raise malformed(f"[{TABLE}]: webhook is neither true nor false")
    if webhook and ways.webhook is None:
        raise malformed(f"[{TABLE}]: webhook needs the address of [otp.webhook]")
    numbers = {key: _number(table, key, *bounds) for key, bounds in _NUMBERS.items()}
    return AlarmSettings(mail, webhook, _kinds(table), **numbers), ways


def _addresses(table: dict[str, Any]) -> tuple[str, ...]:
    mail = table.get("mail", [])
    if not isinstance(mail, list) or len(mail) > MOST_ADDRESSES:
        raise malformed(f"[{TABLE}]: mail is no list of at most {MOST_ADDRESSES} addresses")
    for address in mail:
        if not isinstance(address, str) or not otp_settings.is_mail(address):
            raise malformed(f"[{TABLE}]: mail holds something that is no mail address")
    return tuple(mail)


def _kinds(table: dict[str, Any]) -> frozenset[str]:
    kinds = table.get("kinds", list(KINDS))
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= set(KINDS):
        raise malformed(f"[{TABLE}]: kinds is no list of {', '.join(KINDS)}")
    return frozenset(kinds)


def _number(table: dict[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = table.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise malformed(f"[{TABLE}]: {key} is no number between {least} and {most}")
    return value
