"""`warden firewall`: write the rules of a firewall for the broker's host and for devices."""

from pathlib import Path

import click

from warden_host.bans import firewall as rules
from warden_host.bans import open_ports
from warden_host.bans.enforcement import ports
from warden_host.bans.networks import Network, parse_network
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.fleet import servers
from warden_host.fleet.fleet import Fleet

_network = click.option(
    "--network", "networks", multiple=True, metavar="CIDR", help="Of the devices. Repeatable."
)
_output = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file, instead of a print."
)
_also = click.option(
    "--also",
    type=click.IntRange(1, 65535),
    multiple=True,
    default=(22,),
    show_default=True,
    help="Another port that is open for all. Repeatable.",
)


@click.group()
def firewall() -> None:
    """Write the rules of a firewall, and check what is open.

    \b
    Examples:
      warden firewall host --network 192.168.1.0/24
      warden firewall devices --network 192.168.1.0/24 --ntp 192.168.1.1
      warden firewall check
    """


@firewall.command("host")
@_network
@_also
@click.option(
    "--per-minute",
    type=click.IntRange(0, 100_000),
    default=rules.PER_MINUTE,
    show_default=True,
    help="New connections of one address. 0: any number, where all devices share one address.",
)
@_output
@json_option
@pass_state
def host(
    state: State,
    networks: tuple[str, ...],
    also: tuple[int, ...],
    per_minute: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write nftables rules for the broker's host, one that does nothing else.

    The ports are those that warden.toml has. Without --network the broker is open to any address.

    \b
    Examples:
      warden firewall host --network 192.168.1.0/24 | sudo nft -f -
      warden firewall host --output warden.nft
    """
    fleet = state.fleet(by_root=True)
    terms = rules.HostTerms(ports(fleet), _parsed(networks), also, per_minute)
    _write(rules.host_rules(fleet.root.name, terms), output, as_json)


@firewall.command("devices")
@_network
@click.option("--token-server", multiple=True, metavar="HOST[:PORT]", help="Repeatable.")
@click.option("--update-server", multiple=True, metavar="HOST[:PORT]", help="Repeatable.")
@click.option("--ntp", multiple=True, metavar="HOST", help="A time server. Repeatable.")
@click.option("--dns", multiple=True, metavar="ADDRESS", help="A name server. Repeatable.")
@_output
@json_option
@pass_state
def devices(
    state: State,
    networks: tuple[str, ...],
    token_server: tuple[str, ...],
    update_server: tuple[str, ...],
    ntp: tuple[str, ...],
    dns: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Write nftables rules for a router: what devices may reach; nobody reaches them.

    Names are resolved now: write the rules again when an address changes.

    \b
    Example:
      warden firewall devices --network 192.168.20.0/24 --dns 192.168.20.1
    """
    if not networks:
        raise HostError("bad-argument", "name the network of the devices: --network CIDR")
    fleet = state.fleet(by_root=True)
    targets = [
        *_brokers(fleet),
        *map(rules.token_server, token_server),
        *map(rules.update_server, update_server),
        *map(rules.time_server, ntp),
        *map(rules.name_server, dns),
    ]
    text = rules.device_rules(fleet.root.name, _parsed(networks), targets)
    _write(text, output, as_json)


@firewall.command("check")
@_also
@json_option
@pass_state
def check(state: State, also: tuple[int, ...], as_json: bool) -> int:
    """Compare what listens on this machine with what the fleet needs; 1 where more is open.

    Another machine may see less: a firewall in between is not asked.

    \b
    Example:
      warden firewall check --also 22 --also 9090
    """
    fleet = state.fleet(by_root=True)
    present = open_ports.listening()
    broker = fleet.settings.broker
    found = list(open_ports.check_ports(present, ports(fleet), broker.admin_port, also))
    bad = any(one.bad for one in found)
    for one in found:
        if as_json:
            where = {} if one.socket is None else vars(one.socket)
            screen.print_json({"ok": not one.bad, "what": one.what, "text": one.text, **where})
        elif one.what == "missing":
            screen.note(f"{one.text}: `warden serve` is not running")
        else:
            screen.mark(not one.bad, one.text)
    if as_json:
        screen.print_json({"ok": not bad, "sockets": len(present)})
    elif not bad:
        screen.good("nothing is open that the fleet does not need")
    return 1 if bad else 0


def _brokers(fleet: Fleet) -> list[rules.Target]:
    broker = fleet.settings.broker
    outside = tuple(
        sorted({broker.device_port if port == broker.port else port for port in ports(fleet)})
    )
    return [rules.Target("broker", one, outside) for one in servers.hosts(fleet, ())]


def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(parse_network, networks))


def _write(text: str, output: Path | None, as_json: bool) -> None:
    if output is not None:
        output.write_text(text)
        output.chmod(0o644)
    if as_json:
        screen.print_json({"ok": True, "rules": text})
    elif output is None:
        click.echo(text, nl=False)
    else:
        screen.good(f"written: {output}", f"sudo nft -f {output}")
