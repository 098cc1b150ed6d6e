"""`warden otp …` and `warden unlock`: one-time codes at the keypad."""

import time
from typing import Any

import click
from rich.text import Text
from warden_client import secretfile

from warden_host import control_client, jsontext, names
from warden_host.cli import screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state, stoppable
from warden_host.errors import HostError
from warden_host.otp import enrol as otp_enrol
from warden_host.otp import otp as codes
from warden_host.otp import settings as otp_settings
from warden_host.protocol import policy
from warden_host.store.otp import Contact, Enrolment
from warden_host.store.store import Device, Store

_MAX_SECRET = 1024
_SECRETS = {"mail": otp_settings.MAIL_PASSWORD, "webhook": otp_settings.WEBHOOK_SECRET}


@click.group()
def otp() -> None:
    """Manage the codes that people type at a device's keypad.

    \b
    Examples:
      warden provision front-door --type lock --sim --otp authority
      warden otp owner front-door --mail alice@example.org
      warden otp watch
    """


@otp.command("enrol", short_help="Make a secret for an authenticator.")
@click.argument("device")
@click.option("--source", type=click.Choice(["hotp", "totp"]), default="totp", show_default=True)
@click.option(
    "--digits",
    type=int,
    default=6,
    show_default=True,
    help="6 to 8; every authenticator makes 6.",
)
@click.option("--duress", is_flag=True, help="A second entry, whose codes call for help.")
@click.option("--again", is_flag=True, help="Replace a secret that was not provisioned yet.")
@json_option
@pass_state
def enrol(
    state: State,
    device: str,
    source: str,
    digits: int,
    duress: bool,
    again: bool,
    as_json: bool,
) -> int:
    """Make a secret for an authenticator and for the next device provisioned under this name.

    Scan the QR code with any authenticator, then type the code that it shows. A device gets its
    secret when it is provisioned and not later; the fleet keeps no copy from then on.

    \b
    Examples:
      warden otp enrol front-door
      warden otp enrol front-door --source hotp --digits 8 --duress
      warden provision front-door --type lock --sim --otp totp
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        if store.enrolment(device) is not None and not again:
            raise HostError(
                "bad-argument",
                f"there is a secret for {device} already, not provisioned yet",
                "--again makes a new one; then delete the old entry in the authenticator",
            )
        made = otp_enrol.new(device, source, digits, duress)
        for second in (False, True) if duress else (False,):
            made = _confirmed(made, second, as_json)
        with store.transaction():
            store.put_enrolment(made)
        known = store.find(device)
    kind = known.type if known is not None else "TYPE"
    next_step = f"next: warden provision {device} --type {kind} --sim --otp {source}"
    next_step += " --again" * (known is not None)
    if as_json:
        screen.print_json({"ok": True, "device": device, "source": source, "digits": digits})
    else:
        screen.good(f"{device}: the authenticator and the secret agree", next_step)
    return 0


def _confirmed(made: Enrolment, second: bool, as_json: bool) -> Enrolment:
    """Show one entry, and check the code that the authenticator makes from it."""
    text = otp_enrol.uri(made, second)
    if as_json:
        screen.print_json({"device": made.device, "duress": second, "uri": text})
    else:
        screen.show("The second entry, whose codes call for help:" if second else "Scan this:")
        screen.out.print(Text(otp_enrol.qr(text), style="white on black"), soft_wrap=True)
        screen.show(text)
    typed = click.prompt("The code that it shows", err=True, hide_input=False).replace(" ", "")
    return otp_enrol.confirmed(made, typed, time.time(), second)


@otp.command("owner", short_help="Set where a device's codes and alarms go.")
@click.argument("device")
@click.option("--mail", "mails", multiple=True, metavar="ADDRESS", help="Codes by mail.")
@click.option("--webhook", "hooks", multiple=True, metavar="TO", help="Codes by the webhook.")
@click.option("--console", is_flag=True, help="Codes to `warden otp watch` as well.")
@click.option(
    "--alarm-mail",
    "alarm_mails",
    multiple=True,
    metavar="ADDRESS",
    help="Alarms by mail. Default: where the codes go.",
)
@click.option(
    "--alarm-webhook", "alarm_hooks", multiple=True, metavar="TO", help="Alarms by the webhook."
)
@click.option("--none", "console_only", is_flag=True, help="Back to `warden otp watch` alone.")
@json_option
@pass_state
def owner(
    state: State,
    device: str,
    mails: tuple[str, ...],
    hooks: tuple[str, ...],
    console: bool,
    alarm_mails: tuple[str, ...],
    alarm_hooks: tuple[str, ...],
    console_only: bool,
    as_json: bool,
) -> int:
    """Set where a device's codes and alarms go; without options, show it.

    New contacts replace all earlier ones.

    \b
    Examples:
      warden otp owner front-door --mail alice@example.org
      warden otp owner front-door --webhook alice --alarm-mail guards@example.org
      warden otp owner front-door
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    settings = otp_settings.load(fleet)
    for address in (*mails, *alarm_mails):
        if not otp_settings.is_mail(address):
            raise HostError("bad-argument", "this is no mail address", "such as a@example.org")
    for to in (*hooks, *alarm_hooks):
        if not 1 <= len(to) <= 64 or not to.isprintable():
            raise HostError("bad-argument", "a webhook recipient has 1 to 64 printable characters")
    wanted = [
        *(Contact("code", "mail", each) for each in mails),
        *(Contact("code", "webhook", each) for each in hooks),
        *([Contact("code", "console", "")] if console else []),
        *(Contact("alarm", "mail", each) for each in alarm_mails),
        *(Contact("alarm", "webhook", each) for each in alarm_hooks),
    ]
    for way, here in (("mail", settings.mail), ("webhook", settings.webhook)):
        if here is None and any(each.way == way for each in wanted):
            raise HostError(
                "bad-argument", f"{way} is not set up", f"add [otp.{way}] to warden.toml"
            )
    with Store(fleet.database) as store:
        store.device(device)
        if wanted or console_only:
            with store.transaction():
                store.set_contacts(device, list(dict.fromkeys(wanted)))
        contacts = store.contacts(device)
    if as_json:
        records = [each._asdict() for each in contacts]
        screen.print_json({"ok": True, "device": device, "contacts": records})
    else:
        screen.good(f"codes and alarms of {device} go to", *_contact_lines(contacts))
    return 0


def _contact_lines(contacts: list[Contact]) -> list[str]:
    if not contacts:
        return ["`warden otp watch`, and `warden serve` on a terminal"]
    return [f"{each.purpose:<6} {each.way} {each.address}".rstrip() for each in contacts]


@otp.command("watch", short_help="Show codes as they are made.")
@json_option
@pass_state
def watch(state: State, as_json: bool) -> int:
    """Show the codes of devices whose owner uses this machine: valid ones, then each new one.

    Don't store the output: anyone with a valid code passes for the owner.

    \b
    Example:
      warden otp watch
    """
    path = state.control()
    with stoppable(as_json) as stop:
        for line in control_client.stream(path, {"op": "codes"}, stop=stop):
            if as_json:
                screen.print_json(line)
            else:
                screen.show(screen.code_line(line))
        if not stop.requested:
            raise HostError("not-serving", "`warden serve` has stopped", "start it again")
    return 130


@otp.command("status", short_help="Show the gates and their owners.")
@click.argument("device", required=False)
@json_option
@pass_state
def status(state: State, device: str | None, as_json: bool) -> int:
    """Show the gates: required codes, contacts, and the state of the last code.

    \b
    Examples:
      warden otp status
      warden otp status front-door --json
    """
    with Store(state.fleet().database) as store:
        known = [store.device(device)] if device else store.devices()
        gates = [(each, policy.gate(each.policy)) for each in known]
        rows = [
            _status(store, each, gate)
            for each, gate in gates
            if device or gate is not None or store.enrolment(each.device) is not None
        ]
    if as_json:
        for row in rows:
            screen.print_json(row)
        return 0
    table = screen.table(
        "Gates", "device", "codes", "told", "last code", "delivery", folds=("told", "delivery")
    )
    for row in rows:
        contacts = [f"{each['way']} {each['address']}".strip() for each in row["contacts"]]
        failed = [f"{each['way']}: {each['error']}" for each in row["deliveries"] if each["error"]]
        gate = row["gate"]
        codes = f"{gate['source']}, {gate['digits']} digits" if gate else "no gate"
        codes += ", enrolled" if row["enrolled"] else ""
        table.add_row(
            row["device"],
            codes,
            ", ".join(contacts) or "console",
            row["code"]["state"] if row["code"] else "none",
            "; ".join(failed) or ("good" if row["deliveries"] else "none yet"),
        )
    screen.out.print(table if rows else "no device has a gate: `warden provision --otp` adds one")
    return 0


def _status(store: Store, known: Device, gate: dict[str, Any] | None) -> dict[str, Any]:
    """Return the record of one gate. The code itself is not known here."""
    code = store.code(known.device)
    enrolled = store.enrolment(known.device)
    return {
        "device": known.device,
        "gate": gate,
        "contacts": [each._asdict() for each in store.contacts(known.device)],
        "enrolled": enrolled is not None,
        "deliveries": [each._asdict() for each in store.deliveries(known.device)],
        "code": None
        if code is None or gate is None
        else {
            "made": code.made,
            "validity": code.validity,
            "tries": code.tries,
            "state": _code_state(
                code.digest is None, code.tries >= gate["retries"], code.made + code.validity
            ),
        },
    }


def _code_state(used: bool, worn: bool, end: int) -> str:
    if used:
        return "used"
    if worn:
        return "used up"
    return "waiting" if time.time() < end else "expired"


@otp.command("reset", short_help="Reset a device's counts of requests and codes.")
@click.argument("device")
@json_option
@pass_state
def reset(state: State, device: str, as_json: bool) -> int:
    """Reset the counts of a device's requests and wrong codes, after its owner inspected it.

    \b
    Example:
      warden otp reset front-door
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        store.device(device)
        codes.reset_counts(store, device)
    if as_json:
        screen.print_json({"ok": True, "device": device})
    else:
        screen.good(f"{device} may ask for codes again")
    return 0


@otp.command("secret", short_help="Store the mail password or the webhook's key.")
@click.argument("way", type=click.Choice(sorted(_SECRETS)))
@click.option(
    "--file",
    metavar="FILE",
    help="Read it from a file (mode 600), or from standard input: -. Default: ask.",
)
@json_option
@pass_state
def secret(state: State, way: str, file: str | None, as_json: bool) -> int:
    """Store the mail server's password, or the key that signs webhooks, in its own file (0600).

    The secret is typed or read from a file; never an argument, which other users can see.

    \b
    Examples:
      warden otp secret mail
      openssl rand -hex 32 | warden otp secret webhook --file -
    """
    fleet = state.fleet()
    typed = secrets_input.secret(file, f"secret for {way}", "--file", _MAX_SECRET, new=True)
    if not 0 < len(typed) <= _MAX_SECRET:
        raise HostError("bad-argument", f"a secret has 1 to {_MAX_SECRET} bytes")
    if way == "webhook" and len(typed) < otp_settings.MIN_SECRET:
        raise HostError(
            "bad-argument",
            f"a webhook key has at least {otp_settings.MIN_SECRET} characters",
            "`openssl rand -hex 32` makes a good one",
        )
    path = fleet.keys / _SECRETS[way]
    secretfile.write(path, typed)
    if as_json:
        screen.print_json({"ok": True, "file": path.name})
    else:
        screen.good(f"kept in {jsontext.printable(str(path))}")
    return 0
