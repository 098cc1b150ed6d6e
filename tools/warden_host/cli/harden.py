"""`warden harden`: burn the fuses that protect an Espressif chip."""

from pathlib import Path

import click
from rich.text import Text

from warden_host.boards import ports
from warden_host.chips import fuse_plan
from warden_host.chips.chip import board
from warden_host.chips.fuse_plan import DONE, OPEN, STEPS, Step
from warden_host.cli import screen
from warden_host.cli.common import json_option
from warden_host.errors import HostError
from warden_host.fleet import device_tree

_MARKS = {DONE: ("✓", "green"), OPEN: ("○", "bold"), fuse_plan.REFUSED: ("✗", "yellow")}
_MAX_KEY = 16384
_MAX_FIRMWARE = 64 << 20


@click.command()
@click.argument("steps", nargs=-1, type=click.Choice(STEPS))
@click.option("--board", "name", required=True, help="The board, as `warden provision` names it.")
@click.option("--port", help="The serial port of the board, or auto.")
@click.option(
    "--practise",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of a port: a virtual chip of this board's kind, kept in this file.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="secure-boot: the public key (PEM) that the chip shall accept.",
)
@click.option(
    "--firmware",
    type=click.Path(path_type=Path, dir_okay=False),
    help="secure-boot: the signed firmware, which the flash must hold already.",
)
@click.option("--off", is_flag=True, help="download-mode: end it, instead of restricting it.")
@click.option(
    "--adopt",
    is_flag=True,
    help="root-key, flash-encryption: hide and use a key that software can read now, because a "
    "burn of your own was cut short. A value that was read meanwhile stays known.",
)
@click.option("--burn", is_flag=True, help="Burn the STEPS. Without it only the plan is shown.")
@json_option
def harden(
    steps: tuple[str, ...],
    name: str,
    port: str | None,
    practise: Path | None,
    key: Path | None,
    firmware: Path | None,
    off: bool,
    adopt: bool,
    burn: bool,
    as_json: bool,
) -> None:
    """Burn fuses that protect a chip, for ever.

    Shows the plan; burns only with --burn, and after the chip's address was typed. What is burnt
    already is left alone, so the same command can be given again after a cut. A key that the cut
    left readable is used only with --adopt.

    \b
    root-key          a random key in the fuses, for ROOT_KEY = ("efuse", …)
    flash-encryption  a random key; a bootloader built for it switches it on
    jtag              JTAG off, on pins and USB
    secure-boot       the chip starts what --key signed, and nothing else
    download-mode     the boot ROM gives no access to memory; --off: to nothing

    \b
    Examples:
      warden harden --board ESP32_GENERIC_S3 --port /dev/ttyACM0
      warden harden --board ESP32_GENERIC_S3 --practise chip.fuses jtag --burn
      warden harden --board ESP32_GENERIC_S3 --port /dev/ttyACM0 jtag --burn
    """
    target = board(device_tree.tree(), name)
    if target.facts.port != "esp32":
        raise HostError(
            "not-applicable", f"{name} has no fuses that Warden burns", "see its README in boards/"
        )
    if (port is None) == (practise is None):
        raise HostError("bad-argument", "name the chip", "give either --port or --practise")
    if (key is None) != (firmware is None):
        raise HostError("bad-argument", "secure boot needs both", "give --key and --firmware")
    if burn and not steps:
        raise HostError("bad-argument", "nothing is chosen to burn", "name the steps")
    # esptool is loaded here: the --help does without.
    from warden_host.chips.fuses import Fuses
    from warden_host.chips.harden import Hardening, SecureBoot

    boot = None
    if key is not None and firmware is not None:
        boot = SecureBoot(_read(key, _MAX_KEY), _read(firmware, _MAX_FIRMWARE))
    if port is not None:
        fuses = Fuses.at_port(ports.choose(port))
    else:
        fuses = Fuses.in_file(target.chip, practise or Path())
    try:
        hardening = Hardening(fuses, target, boot, off, adopt)
        plan = hardening.plan()
        if not as_json:
            _show(plan, steps, f"{target.facts.label} {fuses.address}", practise is not None)
        left = hardening.check(steps)
        burnt: list[str] = []
        if burn and left:
            _confirm(left, fuses.address)
            burnt = hardening.burn(steps, lambda step: _report(step, as_json))
        if as_json:
            _print_json(plan, burnt, fuses.address)
        elif not burn:
            screen.show("Nothing was burnt: this is the plan. --burn burns the steps you name.")
        elif not burnt:
            screen.good("nothing to burn: all of it is burnt already")
    finally:
        fuses.close()


def _show(plan: list[Step], steps: tuple[str, ...], chip: str, virtual: bool) -> None:
    screen.show(Text(f"{chip}{' (virtual)' if virtual else ''}", style="bold"))
    for step in plan:
        mark, style = _MARKS[step.state]
        chosen = " ← chosen" if step.name in steps and step.state == OPEN else ""
        screen.show(Text.assemble((f"{mark} {step.name:<17}", style), step.says + chosen))
        if step.state == OPEN:
            screen.show(Text(f"  {'':<17}for ever: {step.forever}", style="dim"))


def _confirm(left: list[Step], address: str) -> None:
    """Say again what is lost, and ask for the chip's address. Raises bad-argument."""
    warning = Text("\nThis can NOT be undone, by anyone or with any tool:", style="bold red")
    screen.err.print(warning, soft_wrap=True)
    for step in left:
        screen.err.print(Text(f"  {step.name}: {step.forever}"), soft_wrap=True)
    screen.err.print("Keep the board powered until it is finished.")
    typed = click.prompt(f"Type the chip's address, {address}, to burn", err=True)
    if str(typed).strip().lower() != address:
        raise HostError(
            "bad-argument", "that is not the chip's address: nothing was burnt", "type it exactly"
        )


def _report(step: Step, as_json: bool) -> None:
    if not as_json:
        screen.good(f"{step.name}: {step.says}")


def _print_json(plan: list[Step], burnt: list[str], address: str) -> None:
    rows = [
        {"step": step.name, "state": step.state, "says": step.says, "forever": step.forever}
        for step in plan
    ]
    screen.print_json({"ok": True, "chip": address, "plan": rows, "burnt": burnt})


def _read(path: Path, limit: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise HostError("bad-argument", f"{path.name} has more than {limit} bytes")
    return data
