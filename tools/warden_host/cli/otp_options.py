"""`warden provision --otp …`: build the gate of a new device from options and warden.toml."""

from collections.abc import Callable
from typing import Any

import click

from warden_host.errors import HostError
from warden_host.fleet.board_file import BoardFile
from warden_host.fleet.fleet import Fleet
from warden_host.otp import enrol
from warden_host.otp import settings as otp_settings
from warden_host.protocol import policy

_HELP = {
    "digits": "Digits of a code; an authenticator's has at most 8.",
    "validity_s": "How long a code of the authority is valid, seconds.",
    "idle_s": "How long between two keys, seconds.",
    "retries": "Wrong codes before a lock-out.",
    "lock_s": "The first lock-out, seconds; each next one is twice as long.",
}


def gate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a gate, all named otp_…; gate() gets their values."""
    plain = policy.otp()
    options = [
        click.option(
            "--otp",
            "otp_source",
            type=click.Choice(["none", *policy.OTP_SOURCES]),
            help="Ask for a code at the keypad: from the authority, or from an authenticator. "
            "Defaults for all gate options: [otp.policy] in warden.toml.",
        ),
        *(
            click.option(
                "--otp-" + key.removesuffix("_s"),
                "otp_" + key,
                type=click.IntRange(low, high),
                help=f"{_HELP[key]} Default: {plain[key]}.",
            )
            for key, (low, high) in policy.OTP_BOUNDS.items()
        ),
        click.option(
            "--otp-before",
            type=click.Choice(policy.OTP_BEFORE),
            help="What the device does before the code.",
        ),
        click.option(
            "--otp-unlock/--no-otp-unlock",
            "otp_unlock",
            default=None,
            help="Let `warden unlock` open the gate.",
        ),
        click.option(
            "--otp-duress/--no-otp-duress",
            "otp_duress",
            default=None,
            help="A second code opens it and calls for help.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def notes(device: str, gate: dict[str, Any] | None) -> list[str]:
    """Return notes about a device that asks for codes."""
    if gate is None:
        return []
    if gate["source"] != "authority":
        return [
            f"asks for a code of the authenticator, {gate['digits']} digits; "
            "the fleet has deleted the secret"
        ]
    return [
        f"asks for a code; `warden otp owner {device}` sets who gets it, "
        "`warden otp watch` shows it"
    ]


def gate(fleet: Fleet, board: BoardFile, given: dict[str, Any]) -> dict[str, Any] | None:
    """Return the policy's `otp`; None without a gate.

    Options take precedence over [otp.policy] in warden.toml, and that over the defaults.
    Raises bad-argument, config-malformed.
    """
    asked = {key.removeprefix("otp_"): value for key, value in given.items() if value is not None}
    settings = otp_settings.load(fleet).gate
    source = asked.get("source")
    if source == "none" or (source is None and "source" not in settings):
        if set(asked) - {"source"}:
            raise HostError("bad-argument", "these options need a gate", "add --otp authority")
        return None
    if source is None and "KEYPAD" not in board.values:
        return None  # the default applies to boards with a keypad; --otp on others is an error
    made = policy.otp(**(settings | asked))
    enrol.check_digits(made["source"], made["digits"])
    return made
