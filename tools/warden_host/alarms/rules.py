"""Decide which events of a fleet are alarms."""

from dataclasses import dataclass

from warden_host.engine.events import FleetEvent

KINDS = (
    "quarantine",  # the authority accepts nothing more of a device
    "tampering",  # a message, a vault, a slot or a policy that is not what it should be
    "duress",  # a code was typed under duress
    "brute-force",  # log-ins or codes that are tried over and over, a banned address
    "away",  # a device was not heard for longer than [alarms] allows
    "rollout",  # a rollout stopped
    "certificate",  # one ends soon, or has ended
    "disk",  # little space is left for the fleet
    "broker",  # the broker ended
    "clock",  # this host's clock jumped, or a device refuses its time
    "two-hosts",  # another host serves the same fleet
    "test",  # `warden alarms test`
)
# Codes of a device's incidents and of refused messages.
_CODES = {
    "tampered": "tampering",
    "payload-tampered": "tampering",
    "replayed": "tampering",
    "plain-refused": "tampering",
    "pin-mismatch": "tampering",
    "vault-damaged": "tampering",
    "slot-damaged": "tampering",
    "root-key": "tampering",
    "link-taken": "tampering",
    "incident-gap": "tampering",
    "incident-tampered": "tampering",
    "tamper-detected": "tampering",
    "duress": "duress",
    "otp-limit": "brute-force",
    "app-flood": "brute-force",
    "own-certificate-expires": "certificate",
    "time-ahead": "clock",
}
# Codes of notices about the authority.
_NOTICES = {
    "flooded": "brute-force",
    "address-banned": "brute-force",
    "address-slowed": "brute-force",
    "address-refused": "brute-force",
    "passkey-cloned": "tampering",
    "clock-jumped": "clock",
    "broker-failed": "broker",
    "messages-lost": "broker",
    "fleet-served": "two-hosts",
    "crl-damaged": "certificate",
    "rollout-stopped": "rollout",
}
_ALERTS = {  # codes of reactions
    "device-flood": "brute-force",
    "device-cloned": "tampering",
    "account-shared": "tampering",
    "account-flood": "brute-force",
}
LOGIN_REFUSED = "login-refused"  # the code of a notice about one log-in
_WINDOW_S = 60.0
_ALWAYS = {"quarantined": "quarantine", "diverged": "tampering"}


@dataclass(frozen=True)
class Alarm:
    """Something that an operator should know now.

    kind: of KINDS. device: "" where it is about the host. time: unix seconds. count: how often it
    came.
    """

    kind: str
    device: str
    text: str
    time: float
    count: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """Return what alarms of the same matter share."""
        return self.kind, self.device


def alarm_of(fleet_event: FleetEvent) -> Alarm | None:
    """Return the alarm that an event is, or None."""
    code, text = fleet_event.code, fleet_event.text
    if fleet_event.kind in _ALWAYS:
        kind = _ALWAYS[fleet_event.kind]
        text = f"{fleet_event.kind}: {text}"
    elif fleet_event.kind == "notice":
        kind = _NOTICES.get(code or fleet_event.name, "")
    elif fleet_event.kind == "reaction":
        # An alert for a code that is an alarm by itself is none again.
        kind = "quarantine" if fleet_event.name != "alert" else _ALERTS.get(code, "")
        text = f"{fleet_event.name} for {code}: {text}"
    elif fleet_event.kind in ("incident", "refused"):
        kind = _CODES.get(code, "")
        at = f" at {fleet_event.name}" if fleet_event.name else ""
        who = "the device reports" if fleet_event.kind == "incident" else "refused:"
        text = f"{who} {code}{at}" + (f" ({text})" if text else "")
    else:
        return None
    if not kind:
        return None
    count = fleet_event.body.get("n", 1)
    return Alarm(
        kind, fleet_event.device, text, fleet_event.time, count if type(count) is int else 1
    )


class RefusedLogins:
    """Count refused log-ins, also at the console: one is a mistake, many a minute an attack."""

    def __init__(self, limit: int) -> None:
        """limit: log-ins a minute."""
        self._limit = limit
        self._since = float("-inf")  # unix seconds
        self._count = 0

    def add(self, fleet_event: FleetEvent) -> Alarm | None:
        """Count an event; return the alarm when it is the one that reaches the limit."""
        if fleet_event.code != LOGIN_REFUSED:
            return None
        if not 0 <= fleet_event.time - self._since < _WINDOW_S:
            self._since, self._count = fleet_event.time, 0
        self._count += 1
        if self._count != self._limit:
            return None
        text = f"{self._count} log-ins were refused within a minute"
        if fleet_event.text:
            text += f", the last one: {fleet_event.text}"
        return Alarm("brute-force", "", text, fleet_event.time, self._count)
