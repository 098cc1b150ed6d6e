"""`warden provision`: make a device, simulated or on a board."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from warden_host.broker import connection
from warden_host.cli import (
    bundle_file,
    certificate_options,
    otp_options,
    pin,
    screen,
    secrets_input,
    token,
)
from warden_host.cli.common import State, json_option, notify_serve, pass_state
from warden_host.cli.provision_options import (
    WIFI_FILE,
    board_options,
    incident_options,
    limit_options,
    outbox_options,
    pop_incidents,
    pop_outbox,
)
from warden_host.cli.targets import Rules, rule_options
from warden_host.devices import bundle, log_in, provision
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree, servers
from warden_host.fleet.board_file import BoardFile
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.release import signing_key
from warden_host.store.store import Device, Store

_MAX_PASSWORD = 64  # of Wi-Fi: hex digits


@click.command("provision")
@click.argument("device", required=False)
@click.option("--type", "type_", default="relay", show_default=True, help="The device type.")
@click.option("--board", help="A folder of boards/. Default for a simulated device: UNIX.")
@click.option("--sim", is_flag=True, help="A simulated device on the unix port.")
@board_options
@click.option("--plain", is_flag=True, help="Plain mode: JSON, no protection from the broker.")
@click.option("--app", "apps", multiple=True, help="Only these applications. Default: all.")
@click.option("--command", "commands", multiple=True, help="A further command for the authority.")
@click.option("--again", is_flag=True, help="Replace an existing device: all-new secrets.")
@click.option(
    "--source",
    type=click.Path(exists=True, path_type=Path),
    help="The device's application: app.py or a folder with it. Default: the one that a board "
    "has, else examples/relay.",
)
@click.option(
    "--pin-file",
    metavar="FILE",
    help="For a board whose root key needs a PIN: read it from a file (mode 600), or from "
    "standard input: -. Default: ask.",
)
@click.option("--strict", is_flag=True, help="Check an update's signature at each boot.")
@click.option(
    "--development",
    is_flag=True,
    help="Allow `warden develop` and a board's DEVELOPMENT pin to leave its console open.",
)
@rule_options(1, "none")
@limit_options
@outbox_options
@incident_options
@certificate_options.certificate_options
@token.provision_options
@otp_options.gate_options
@json_option
@pass_state
def provision_command(
    state: State,
    /,
    device: str | None,
    type_: str,
    board: str | None,
    sim: bool,
    port: str | None,
    listed_servers: tuple[str, ...],
    own_file: Path | None,
    slots: bool,
    file: Path | None,
    ssids: tuple[str, ...],
    password_files: tuple[str, ...],
    offline: bool,
    listed: Path | None,
    label_file: Path | None,
    wait_s: float | None,
    yes: bool,
    plain: bool,
    apps: tuple[str, ...],
    commands: tuple[str, ...],
    again: bool,
    source: Path | None,
    pin_file: str | None,
    strict: bool,
    development: bool,
    as_json: bool,
    rules: Rules,
    **more: Any,
) -> int:
    """Make a device: its secrets, its files, its place in the fleet.

    \b
    Examples:
      warden provision front-door --type lock --sim
      warden provision back-door --type lock --sim --plain --app home
      warden provision front-door --type lock --sim --again
      warden provision front-door --type lock --sim --otp authority --otp-digits 8
      warden provision meter-7 --type meter --sim --outbox 16 --outbox-keep reboot
      warden provision front-door --type lock --sim --client-id lock-17 \\
        --token-url https://id.example/token

    \b
    On a board with MicroPython, while `warden serve` runs:
      warden provision porch --board RPI_PICO_W --port auto --wifi home
      warden provision porch --type lock --board RPI_PICO_W --port /dev/ttyACM0 \\
        --wifi home --wifi-password-file wifi.txt --source app/
      warden provision porch --type lock --board RPI_PICO_W --port auto \\
        --wifi home --board-file my-board.py
      warden provision porch --type lock --board RPI_PICO_W --port auto \\
        --wifi home --server hub-1.example:8883,hub-2.example:8883

    \b
    Many boards, one after the other:
      warden provision --batch devices.csv --type lock --board RPI_PICO_W \\
        --wifi home --labels labels.pdf
    """
    if (device is None) == (listed is None):
        raise click.UsageError("name a DEVICE, or a list of them: --batch")
    if listed is None and (rules or rules.at_once > 1):
        raise click.UsageError("--wave, --max-failures, --at-once and --resume go with --batch")
    if listed is not None:
        port = port or "auto"
    if [sim, port is not None, file is not None].count(True) != 1:
        raise click.UsageError("name one of --port, --sim and --bundle")
    _check_use({"--labels": label_file, "--wait": wait_s}, "--batch", listed is not None)
    patience = more.pop("patience")
    on_boards = {"--offline": offline, "--yes": yes, "--patience": patience != 1}
    _check_use(on_boards, "--port or --batch", port is not None)
    if board is None and not sim and listed is None:
        raise click.UsageError("name the board: --board, a folder of boards/")
    name = board or ("UNIX" if sim else "")
    if own_file is not None and not name:
        raise click.UsageError("--board-file goes with --board: the board that it is for")
    fleet = state.fleet()
    secret_file = more["client_secret_file"]
    certificate = certificate_options.order(fleet, more)
    terms = token.pop_terms(more, more.pop("token_user"))
    limits = {key: value for key in policy.LIMITS if (value := more.pop(key)) is not None}
    limits |= pop_outbox(more) | pop_incidents(more)
    own = _own_board(fleet, name, own_file, slots)
    described = own or (board_file.load(name) if name else None)
    order = provision.Order(
        device or "",
        type_,
        name,
        plain,
        apps or None,
        commands,
        again,
        source,
        None if described is None or listed else otp_options.gate(fleet, described, more),
        strict,
        limits,
        pin=_pin_of_file(described, listed is not None, pin_file),
        networks=_networks(name, described, ssids, password_files),
        development=development,
        certificate=certificate,
        token=terms,
        servers=servers.parse(",".join(listed_servers).split(",")) if listed_servers else (),
        own_board=own,
    )
    log_in.brokers(
        fleet, connection.load(fleet).terms(type_, order.device), order.servers
    )  # raises

    def complete(order: provision.Order) -> provision.Order:
        if order.token is not None:
            order = replace(order, token=token.ask_secret(order.token, secret_file))
        return _ask(order, not password_files)

    if not sim:
        _check_reachable(fleet, order)
    if port is not None:
        from warden_host.cli import board as on_board  # only a real one needs its modules

        settings = on_board.Settings(yes, offline, as_json, patience, rules.at_once)
        if listed is None:
            on_board.run(fleet, order, port, settings, complete)
            return 0
        from warden_host.cli import batch

        check = (lambda: None) if offline else lambda: on_board.check_serving(fleet)

        def gate(board: BoardFile, source: str | None) -> dict[str, Any] | None:
            if source == "none":
                return None
            said = {} if source is None else {"otp_source": source}
            return otp_options.gate(fleet, board, more | said)

        return batch.run(
            fleet,
            order,
            gate,
            listed,
            port,
            settings,
            rules,
            label_file,
            wait_s,
            check,
            complete,
        )
    with Store(fleet.database) as store:
        if file is not None:
            bundle_file.check_new(file)
        provision.check_order(fleet, store, order)
        order = complete(order)
        if file is None:
            made = provision.provision(fleet, store, order)
        else:
            made = bundle_file.make(fleet, store, order, file)
        unmatched = log_in.unmatched_terms(fleet, store)
        unlisted = store.exported() - store.listed_apps()
        exported = sorted(unlisted & {pair.appid for pair in made.pairs})
    notify_serve(fleet, made.device)
    stale = [f"the program of {one} needs its key: `warden app export {one}`" for one in exported]
    notes = [*unmatched, *stale, f"next: warden run {made.device}"]
    if file is not None:
        notes[-1:] = [f"{file} holds its secrets: give it to the board, and delete it"]
    _show(made, name, [*otp_options.notes(made.device, order.otp), *notes], as_json)
    return 0


def _check_use(options: dict[str, Any], goes_with: str, used: bool) -> None:
    """Raise a usage error for options that would have no effect.

    options: name → value, None or False where it is not given. used: whether what they go with is
    """
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given and not used:
        raise click.UsageError(f"{' and '.join(given)} would have no effect without {goes_with}")


def _own_board(fleet: Fleet, board: str, file: Path | None, slots: bool) -> BoardFile | None:
    """Return what goes in the place of the board's own board.py, or None.

    Raises no-board, bad-argument, not-applicable.
    """
    if file is None and not slots:
        return None
    if not board:
        raise HostError("bad-argument", "--slots needs a --board: the board that it is for")
    device_tree.tree().board(board)  # raises for an unknown one
    own = board_file.load(board) if file is None else board_file.read(file)
    if not slots:
        return own
    if not signing_key.listed(fleet):
        raise HostError(
            "not-applicable",
            "the fleet has no release key, so no update could come to these slots",
            "make one first: `warden keys make`",
        )
    return own.with_slots()


def _check_reachable(fleet: Fleet, order: provision.Order) -> None:
    """Raise bad-argument where devices on a network would look for the broker on themselves."""
    hosts = servers.hosts(fleet, order.servers)
    host = hosts[0]
    if order.networks and all(host in ("127.0.0.1", "::1", "localhost") for host in hosts):
        raise HostError(
            "bad-argument",
            f"devices of this fleet connect to {host}: a board would look for the broker on"
            " itself",
            "make a fleet for boards: `warden init FLEET --host NAME --listen 0.0.0.0`, where"
            " NAME is this machine's name or address in the board's network",
        )


def _pin_of_file(board: BoardFile | None, listed: bool, file: str | None) -> bytes:
    """Return the PIN of the board's root key that a file holds, else b"".

    listed: boards come from a list, whose column may hold their PINs. Raises bad-argument.
    """
    if board is None or listed:
        return b"" if file is None else pin.read_secret(file, new=True)
    if board.needs_pin and file is None:
        secrets_input.check_terminal("PIN", "--pin-file")
        return b""
    return pin.read(board.needs_pin, file, new=True)


def _ask(order: provision.Order, wifi: bool) -> provision.Order:
    """Return the order with the secrets that no file gave, after everything else was checked.

    wifi: whether passwords of networks are among them.
    """
    if order.board and not order.pin and order.board_file.needs_pin:
        order = replace(order, pin=pin.read_secret(None, new=True))
    if wifi and order.networks:
        found = tuple(_network(network.ssid, None) for network in order.networks)
        bundle.check_networks(found)
        order = replace(order, networks=found)
    return order


def _show(made: Device, board: str, notes: list[str], as_json: bool) -> None:
    known = [pair.appid for pair in made.pairs]
    if as_json:
        screen.print_json(
            {
                "ok": True,
                "device": made.device,
                "type": made.type,
                "mode": made.mode,
                "apps": known,
            }
        )
        return
    screen.good(
        f"device {made.device} provisioned",
        f"type {made.type}, board {board}, mode {made.mode}; obeys {', '.join(known)}",
        _log_in(connection.of_record(made.policy).auth),
        *notes,
    )


def _log_in(auth: str) -> str:
    """Return where the secret is that the device logs in with."""
    if auth == "password":
        return (
            "its broker password is in its vault alone; the broker has a hash, the fleet nothing"
        )
    if auth == "certificate":
        return "it logs in by its certificate, whose key is in its vault alone"
    words = connection.Terms(auth).words
    return f"it logs in by {words}; the secrets for it are in its vault alone"


def _networks(
    board: str, described: BoardFile | None, ssids: tuple[str, ...], files: tuple[str, ...]
) -> tuple[bundle.Network, ...]:
    """Return the Wi-Fi networks, with the passwords that files hold. Raises bad-argument."""
    wireless = described is None or described.joins_wifi
    if ssids and not wireless:
        raise HostError("bad-argument", f"board {board} has no Wi-Fi: its NETWORK names none")
    if files and len(files) != len(ssids):
        raise HostError("bad-argument", "give one --wifi-password-file for each --wifi, or none")
    if files.count("-") > 1:
        raise HostError("bad-argument", "standard input holds one password: name files")
    if files:
        found = tuple(map(_network, ssids, files))
    else:
        found = tuple(map(bundle.Network, ssids))
        if ssids:
            secrets_input.check_terminal("password of Wi-Fi", WIFI_FILE)
    bundle.check_networks(found)
    return found


def _network(ssid: str, file: str | None) -> bundle.Network:
    """Return a network with its password, from a file or a person. Raises bad-argument."""
    prompt = f"password of Wi-Fi network {ssid}"
    password = secrets_input.secret(file, prompt, WIFI_FILE, _MAX_PASSWORD, new=False)
    try:
        return bundle.Network(ssid, password.decode())
    except UnicodeDecodeError:
        raise HostError("bad-argument", f"the password of {ssid} is no text") from None
