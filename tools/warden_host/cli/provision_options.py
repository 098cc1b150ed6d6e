"""Options of `warden provision`: a policy's limits, outbox and reactions; a device on a board."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from warden_host.cli.common import MAX_WAIT_S, FiniteRange
from warden_host.errors import HostError
from warden_host.protocol import policy

WIFI_FILE = "--wifi-password-file"


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each of the policy's limits."""
    for key, text in reversed(policy.LIMITS.items()):
        low, high, plain = policy.limit(key)
        command = click.option(
            "--" + key.replace("_", "-"),
            key,
            type=click.IntRange(low, high),
            help=f"{text}. Default: {plain}.",
        )(command)
    return command


def outbox_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a device whose events wait until they are stored."""
    options = [
        click.option(
            "--outbox",
            type=click.IntRange(0, policy.OUTBOX_MOST),
            metavar="EVENTS",
            help="Keep up to so many events until each application has stored them, at most "
            f"{policy.OUTBOX_MOST}. Default: 0, none.",
        ),
        click.option(
            "--outbox-keep",
            type=click.Choice(policy.OUTBOX_KEEP),
            help="Keep them over a reconnect, or over a restart of the device too. "
            f"Default: {policy.OUTBOX_KEEP[0]}.",
        ),
        click.option(
            "--outbox-drop",
            type=click.Choice(policy.OUTBOX_DROP),
            help=f"Which event a full outbox gives up. Default: {policy.OUTBOX_DROP[0]}.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def pop_outbox(options: dict[str, Any]) -> dict[str, Any]:
    """Return the policy's terms of the outbox, and remove them. Raises bad-argument."""
    found = {
        key: value
        for key in ("outbox", "outbox_keep", "outbox_drop")
        if (value := options.pop(key)) is not None
    }
    if len(found) > ("outbox" in found) and not found.get("outbox"):
        raise HostError(
            "bad-argument",
            "--outbox-keep and --outbox-drop are for a device with an outbox",
            "say how many events it holds: --outbox 16",
        )
    return found


def incident_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of what a device keeps of incidents, and of its reactions to them."""
    numbers = {
        "writes": "Write incidents to the flash so often a day at most; 0: never",
        "lock_s": "Ignore an application that floods for so long, seconds",
        "wipe_after": "With --incident-codes wipe: so many wrong codes in a row",
    }
    reactions = {
        "junk": "Reaction to messages that prove no sender",
        "apps": "Reaction to an application that floods with what is refused",
        "codes": "Reaction to wrong codes that the device verifies itself",
        "tamper": "Reaction to the program's tamper switch",
    }
    plain = policy.INCIDENT_DEFAULTS
    options = [
        click.option(
            "--incident-" + key.removesuffix("_s").replace("_", "-"),
            "incident_" + key,
            type=click.IntRange(*policy.INCIDENT_BOUNDS[key]),
            help=f"{text}. Default: {plain[key]}.",
        )
        for key, text in numbers.items()
    ]
    options += [
        click.option(
            "--incident-" + key,
            "incident_" + key,
            type=click.Choice(policy.INCIDENT_REACTIONS[key]),
            help=f"{text}. Default: {plain[key]}.",
        )
        for key, text in reactions.items()
    ]
    for option in reversed(options):
        command = option(command)
    return command


def pop_incidents(options: dict[str, Any]) -> dict[str, Any]:
    """Return the policy's terms of incidents that are given, and remove them."""
    found = {
        key: value
        for key in policy.INCIDENT_DEFAULTS
        if (value := options.pop("incident_" + key)) is not None
    }
    return {"incidents": found} if found else {}


def _file_option(name: str, parameter: str, text: str) -> Callable[..., Any]:
    """Return an option that names a file."""
    path = click.Path(path_type=Path)
    return click.option(name, parameter, type=path, metavar="FILE", help=text)


def board_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a device on a board."""
    options = [
        click.option(
            "--port",
            metavar="PORT",
            help="The serial port of a board with MicroPython, such as /dev/ttyACM0; auto: the "
            "only board that is plugged in.",
        ),
        click.option(
            "--server",
            "listed_servers",
            multiple=True,
            metavar="HOST[:PORT][=WEIGHT],…",
            help="Connect to this broker instead of the fleet's; of several the next one where "
            "one does not answer, those with a weight at random by it.",
        ),
        _file_option(
            "--board-file",
            "own_file",
            "This board.py in the place of the board's own; it is checked first.",
        ),
        click.option(
            "--slots",
            is_flag=True,
            help="Two slots in files for updates of the application, where board.py has no SLOTS.",
        ),
        _file_option(
            "--bundle",
            "file",
            "Write the secrets to a new file (mode 600) for another way onto a board; delete it "
            "afterwards.",
        ),
        click.option(
            "--wifi",
            "ssids",
            multiple=True,
            metavar="SSID",
            help="A Wi-Fi network of the device; its password is asked for. Repeatable.",
        ),
        click.option(
            WIFI_FILE,
            "password_files",
            multiple=True,
            metavar="FILE",
            help="Read a network's password from a file (mode 600), or from standard input: -. "
            "One for each --wifi, in their order; an empty one for an open network.",
        ),
        click.option(
            "--offline", is_flag=True, help="Don't let the board connect while it is here."
        ),
        _file_option(
            "--batch",
            "listed",
            "Boards from a CSV file, one after the other: columns device, and type, board, "
            "source, apps, otp, pin where the options do not say it for all.",
        ),
        _file_option(
            "--labels",
            "label_file",
            "With --batch: write a label (ID and QR code) for each live device: a .pdf or .png.",
        ),
        click.option(
            "--wait",
            "wait_s",
            type=FiniteRange(0, MAX_WAIT_S),
            metavar="SECONDS",
            help="With --batch: wait so long for the next board. Default: an hour at a terminal.",
        ),
        click.option(
            "--patience",
            type=FiniteRange(1, 100),
            default=1.0,
            metavar="FACTOR",
            help="Multiply all time-outs, for an emulated board: 20.",
        ),
        click.option(
            "--yes", is_flag=True, help="Destroy the secrets that the board has; don't ask."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
