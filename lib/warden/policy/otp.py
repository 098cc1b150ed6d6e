"""The gate's part of a policy: the map under `otp`. Loaded only where a policy has one."""

from micropython import const

from ..errors import UsageError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Key, least and most, inclusive; docs/protocol.md holds the same table.
_NUMBERS = const(
    (
        ("digits", 6, 10),
        ("validity_s", 30, 3600),
        ("idle_s", 5, 600),
        ("retries", 1, 10),
        ("lock_s", 10, 3600),
    )
)
_SWITCHES = const(("unlock", "duress"))


def parse(terms: "Any") -> None:
    """Check that this map has exactly the documented keys, in bounds. UsageError bad-policy."""
    if not isinstance(terms, dict) or len(terms) != len(_NUMBERS) + len(_SWITCHES) + 2:
        raise UsageError("bad-policy", "otp must be null or hold exactly the documented keys")
    if terms.get("source") not in ("authority", "hotp", "totp"):
        raise UsageError("bad-policy", "otp's source must be authority, hotp or totp")
    if terms.get("before") not in ("nothing", "telemetry"):
        raise UsageError("bad-policy", "otp's before must be nothing or telemetry")
    for key in _SWITCHES:
        if terms.get(key) is not True and terms.get(key) is not False:
            raise UsageError("bad-policy", "otp's %s must be true or false" % key)
    for key, least, most in _NUMBERS:
        number = terms.get(key)
        if type(number) is not int or not least <= number <= most:
            raise UsageError("bad-policy", "otp's %s must lie in %d to %d" % (key, least, most))
