"""Checks of one device, by what the fleet's database, its board's file and `warden serve` say."""

from collections.abc import Iterator

from warden_host import names
from warden_host.alarms import settings as alarm_settings
from warden_host.doctor.facts import DAY_S, DeviceFacts
from warden_host.doctor.registry import Finding, check, serious, worth
from warden_host.fleet import client_pki, device_tree, pki

_RECENT_S = 7 * DAY_S
# Incidents that no fault of a network or a program explains.
_ATTACKS = frozenset(
    ("tampered", "replayed", "wrong-application", "old-session", "pin-mismatch", "plain-refused")
)


@check("device", "plain-mode", "whether messages are sealed end to end")
def plain_mode(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.device.mode == "plain":
        yield serious(
            "it is in plain mode: the broker's owner can command it, and replay is not noticed",
            "`warden provision DEVICE --again`, without --plain",
        )
        if not facts.policy["validate"]:
            yield serious(
                "it runs commands of any application: its policy asks for no application ID",
                "`warden provision DEVICE --again`",
            )


@check("device", "no-tls", "whether its link has TLS")
def no_tls(facts: DeviceFacts) -> Iterator[Finding]:
    if not facts.terms.tls:
        yield serious(
            "its link has no TLS: its password can be read, and any server is taken",
            "remove tls = false from warden.toml, then `warden provision DEVICE --again`",
        )


@check("device", "backup-pin", "whether it pins a second key of the server")
def backup_pin(facts: DeviceFacts) -> Iterator[Finding]:
    if not facts.terms.tls:
        return
    pins = facts.fleet.store.pins(facts.device.device)
    live, reserve = pki.load_pins(facts.fleet.fleet.keys)
    if pins and live not in pins:
        yield serious(
            "it does not pin the server's present key: it can't connect",
            "`warden pins export`, then `warden pins apply DEVICE FILE`",
        )
    elif reserve not in pins:
        yield serious(
            "it is not known to pin the server's reserve key: it is lost if the server's key is",
            "`warden rotate DEVICE --pins`",
        )


@check("device", "root-key", "whether its board hides the vault's key")
def root_key(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.device.board == names.SIMULATED or not facts.board:
        return
    if facts.board["ROOT_KEY"][0] not in ("chip", "software"):
        return
    readme = device_tree.tree().board(facts.device.board) / "board.py"
    if '("efuse"' in readme.read_text():
        yield worth(
            f"a {facts.device.board} with its template's root key: code on the board reads it; "
            "its fuses can hide one",
            f"`warden harden --board {facts.device.board} root-key`, then "
            "`warden provision DEVICE --again`",
        )
    else:
        yield worth(
            f"a {facts.device.board} binds the vault to its chip and hides nothing from code on it",
            "an ATECC608 or a PIN as ROOT_KEY (boards/README.md), or keep strangers from the board",
        )


@check("device", "watchdog", "whether a hang ends by itself")
def watchdog(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.board and "WATCHDOG" not in facts.board:
        yield worth(
            "its board has no watchdog: a program that hangs stays so, also after an update",
            "WATCHDOG = 30000 in its board.py, then `warden provision DEVICE --again`",
        )


@check("device", "development", "whether its console may be opened")
def development(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.device.device in facts.fleet.live.development:
        yield serious(
            "its console is open now: anyone there has its secrets",
            "`warden develop DEVICE --end`, and new secrets before it leaves you",
        )
    elif facts.policy.get("development", False):
        yield worth(
            "its policy allows development mode",
            "`warden provision DEVICE --again`, without --development, before it leaves you",
        )


@check("device", "certificate", "when the certificate that it logs in by ends")
def certificate(facts: DeviceFacts) -> Iterator[Finding]:
    if not facts.terms.uses("certificate"):
        return
    rows = facts.fleet.store.valid_certificates(facts.device.device)
    if not rows:
        yield serious(
            "it logs in by a certificate, and has none that is valid",
            "`warden provision DEVICE --again`",
        )
        return
    left = rows[-1].expires - facts.fleet.now
    if left < 0:
        yield serious("its certificate has expired", "`warden provision DEVICE --again`")
    elif left < client_pki.WARN_S:
        yield serious(
            f"its certificate ends in {int(left // DAY_S)} days", "`warden cert renew DEVICE`"
        )


@check("device", "log-in", "whether it logs in as warden.toml says")
def log_in(facts: DeviceFacts) -> Iterator[Finding]:
    wanted = facts.fleet.connection.terms(facts.device.type, facts.device.device)
    if wanted != facts.terms:
        yield worth(
            f"it connects by {facts.terms}, and warden.toml says {wanted}",
            "`warden provision DEVICE --again`",
        )


@check("device", "quarantine", "whether the authority speaks to it")
def quarantine(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.device.mark.quarantine:
        yield serious(
            f"it is in quarantine: {facts.device.mark.quarantine}",
            "look at it (`warden show DEVICE`), then `warden devices --clear DEVICE`",
        )


@check("device", "away", "when it was last heard")
def away(facts: DeviceFacts) -> Iterator[Finding]:
    known = facts.device
    if facts.fleet.live.presence.get(known.device) in ("online", "asleep"):
        return
    hours = alarm_settings.load(facts.fleet.fleet)[0].away_hours
    since = max(known.last_seen, known.asleep_until)
    if not known.last_seen:
        yield worth("it was provisioned, and never seen", "switch it on; `warden show DEVICE`")
    elif facts.fleet.now - since > hours * 3600:
        yield serious(
            f"it was not heard for more than {hours} hours",
            "look at its power and network; `warden revoke DEVICE --wipe` if it is lost",
        )


@check("device", "policy", "whether it has the policy that the fleet gave it")
def policy_differs(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.device.diverged:
        yield serious(
            "its policy differs from the fleet's",
            "`warden policy show DEVICE`; `warden provision DEVICE --again` if nobody changed it",
        )


@check("device", "rotation", "whether new secrets reached it")
def rotation(facts: DeviceFacts) -> Iterator[Finding]:
    store, device = facts.fleet.store, facts.device.device
    if store.rotation(device) is not None and not store.waits_for_backup(device):
        yield worth(
            "a rotation is not finished: its old secrets stay valid", "`warden rotate DEVICE`"
        )


@check("device", "firmware", "whether it runs the newest release of its type")
def firmware(facts: DeviceFacts) -> Iterator[Finding]:
    newest = facts.fleet.newest_releases.get(facts.device.type)
    if newest is None:
        return
    steps = facts.fleet.store.entries(facts.device.device, kinds=("rollout",))
    accepted = [step.text for step in steps if step.name == "Accepted"]
    if not accepted:
        yield worth(
            f"no release reached it; {newest} is the newest",
            f"`warden rollout {newest} --device DEVICE`",
        )
    elif accepted[-1] != newest:
        yield worth(
            f"it runs {accepted[-1]}, and {newest} is released",
            f"`warden rollout {newest} --device DEVICE`",
        )


@check("device", "attacks", "incidents of the last seven days that no fault explains")
def attacks(facts: DeviceFacts) -> Iterator[Finding]:
    since = facts.fleet.now - _RECENT_S
    found = {
        one.code
        for one in facts.fleet.store.incidents(facts.device.device)
        if one.code in _ATTACKS and one.time >= since
    }
    if found:
        yield worth(
            f"incidents of this week: {', '.join(sorted(found))}",
            "`warden log DEVICE --kind incident`, and `warden explain CODE`",
        )
