"""Run `warden`: find the command, and turn errors into text, JSON and an exit code."""

import importlib
import io
import os
import sys
from pathlib import Path

import click

from warden_host import __version__
from warden_host.cli import exit_codes, screen
from warden_host.cli.common import State, pass_state
from warden_host.errors import HostError, filesystem_error

# Command → (its module in this package and its name there, the first line of its help: so that
# the list of all commands imports none of them).
COMMANDS = {
    "alarms": ("alarms.alarms", "Show where the fleet's alarms go, or send one as a test."),
    "app": ("fleet.app", "Register the applications that may command devices."),
    "audit": ("audit.audit", "Show, verify and export the log of who did what."),
    "backup": (
        "backup.backup_command",
        "Back the fleet up into an encrypted file, or check one.",
    ),
    "bans": (
        "bans.bans",
        "Ban addresses from the broker, lift bans, keep lists.",
    ),
    "bridge": (
        "bridge.bridge",
        "Pass state and telemetry on: Prometheus, Home Assistant, SSE.",
    ),
    "cert": ("cert.cert", "Issue, list, renew and revoke the fleet's certificates."),
    "clock": ("clock.clock", "Show a device's clock, or set it by a signed order."),
    "completion": ("completion.completion", "Print what completes commands and names in a shell."),
    "develop": ("develop.develop", "Leave a device's console open to mpremote, for a time."),
    "devices": ("devices.devices", "List the devices, or lift a quarantine."),
    "doctor": ("doctor.doctor", "Say what is weak about the fleet, a device or a backup."),
    "explain": ("explain.explain", "Say what an error code means and what to do."),
    "firewall": ("firewall.firewall", "Write the rules of a firewall, and check what is open."),
    "flash": ("flash.flash", "Write a firmware to a board: erase, write, verify."),
    "gateway": ("gateway.gateway", "Let a gateway relay for devices that have no TLS."),
    "group": ("groups.group", "Name devices that belong together: a rollout can be for them."),
    "harden": ("harden.harden", "Burn fuses that protect a chip, for ever."),
    "init": ("fleet.init", "Make a new fleet: keys, CA, broker configuration, database."),
    "inspect": ("release.inspect", "Show the contents of a release."),
    "keys": ("keys.keys", "Make, add and list the keys that sign releases."),
    "log": ("log.log", "Show what happened: events, incidents, rollouts, orders."),
    "operator": ("operator.operator", "Let other people use the fleet, by roles."),
    "otp": ("otp.otp", "Manage the codes that people type at a device's keypad."),
    "pins": ("pins.pins", "Carry new pins to a device that can't connect."),
    "policy": ("policies.policies", "Show a device's policy, or change it over the link."),
    "provision": (
        "provision.provision_command",
        "Make a device: its secrets, its files, its place in the fleet.",
    ),
    "readmit": ("readmit.readmit", "Let a device in again, with new secrets."),
    "release": ("release.release_command", "Make a signed release from an application's folder."),
    "releases": ("release.releases", "List the releases."),
    "restore": ("backup.restore", "Make a fleet's folder of a backup, all of it or nothing."),
    "revoke": ("orders.revoke", "Cut a device off, at once."),
    "rollout": ("rollout.rollout", "Bring a release to devices, and show the progress."),
    "rollouts": ("rollout.rollouts_command", "List the rollouts; or show, stop or resume one."),
    "room": ("room.room", "Let devices without secrets publish, in a room of their own."),
    "rotate": ("orders.rotate", "Give a device new secrets, keys or pins."),
    "run": ("run.run", "Start a simulated device: the real firmware on the unix port."),
    "send": ("send.send", "Give a device a command and show its reply."),
    "serve": ("serve.serve", "Start the broker and the authority, and show what happens."),
    "service": ("service.service", "Let systemd start the fleet's service with the machine."),
    "show": ("show.show", "Show all that the fleet knows of a device."),
    "token": ("token.token", "Show or change how a device gets its access tokens."),
    "unlock": ("unlock.unlock", "Open a device's gate from here."),
    "verify": ("release.verify", "Check a release: signature and images."),
    "watch": ("watch.watch", "Show what happens in the fleet, live."),
    "wifi": ("wifi.wifi", "Show or change a device's Wi-Fi networks."),
    "wipe": ("orders.wipe", "Destroy a device's secrets."),
}


_COMPLETING = "_WARDEN_COMPLETE"  # set by a shell that asks for words


class _Commands(click.Group):
    """Import a command's module when the command is looked up: each call needs one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = command(cmd_name)
        if _COMPLETING in os.environ:
            from warden_host.cli import completion

            return completion.add_names(found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib  # here, because every call imports this module

            near = difflib.get_close_matches(name, COMMANDS, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command {name[:40]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def command(name: str) -> click.Command:
    """Import and return one command of COMMANDS."""
    module, _, attribute = COMMANDS[name][0].partition(".")
    found: click.Command = getattr(importlib.import_module(f"warden_host.cli.{module}"), attribute)
    return found


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99},
)
@click.option(
    "--fleet",
    "folder",
    envvar="WARDEN_FLEET",
    type=click.Path(path_type=str),
    help="The fleet folder. Default: the nearest one upward, else ./fleet.",
)
@click.option(
    "--socket",
    envvar="WARDEN_SOCKET",
    type=click.Path(path_type=str),
    help="For operators: the socket of `warden serve --operators`, instead of a fleet folder.",
)
@click.version_option(__version__, prog_name="warden")
@pass_state
def warden(state: State, folder: str | None, socket: str | None) -> None:
    """Make, provision, command and watch a fleet of MicroPython devices.

    \b
    A first fleet, in one folder. In a first window:
      warden init fleet
      warden keys make release
      warden app add home --type lock --command set_relay
      warden provision front-door --type lock --sim
      warden serve

    \b
    In a second one:
      warden run front-door

    \b
    In a third one:
      warden send front-door set_relay '{"on": 1}'
      warden devices
      warden watch

    \b
    Updates, for devices that were provisioned after the key was made:
      warden release app/ --version 1.4.0 --type lock
      warden rollout lock-1.4.0 --type lock

    \b
    Exit codes: 0 done, 1 failed, 2 usage, 3 offline, 4 refused, 5 unknown,
    6 timed-out, 130 interrupted. `warden explain CODE` says more of an error.
    """
    state.folder = Path(folder) if folder else None
    state.socket = Path(socket).absolute() if socket else None


def main() -> None:
    """Run `warden` where entry.py is not the start, as in a program that imports this one."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Prepare the process, run one call and return its exit code."""
    os.umask(0o077)  # no file of ours is for others
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal gets \u25cf, not an exception
            stream.reconfigure(errors="backslashreplace")
    if _COMPLETING in os.environ:
        from warden_host.cli import completion

        return completion.complete(warden, os.environ[_COMPLETING])
    return run(arguments)


def run(arguments: list[str]) -> int:
    """Run one call and return its exit code."""
    as_json = "--json" in arguments
    state = State()
    code = _call(arguments, state, as_json)
    try:
        state.finish(code)
    except HostError as error:
        return _failed(error, as_json, state)
    return code


def _call(arguments: list[str], state: State, as_json: bool) -> int:
    try:
        result = warden.main(args=arguments, prog_name="warden", standalone_mode=False, obj=state)
    except HostError as error:
        return _failed(error, as_json, state)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        interrupted = HostError("interrupted", "nothing more was done")
        state.outcome = interrupted.code
        if as_json:
            return _failed(interrupted, as_json, state)
        click.echo("\naborted: nothing more was done", err=True)
        return exit_codes.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        if as_json:
            return _failed(_usage_error(error), as_json, state)
        error.show()  # the whole help
        return exit_codes.USAGE
    except click.ClickException as error:
        return _failed(_usage_error(error), as_json, state)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # no second complaint at exit
        return exit_codes.FAILED
    except OSError as error:
        return _failed(filesystem_error(error), as_json, state)
    return result if isinstance(result, int) else exit_codes.DONE


def _failed(error: HostError, as_json: bool, state: State) -> int:
    """Print an error and return its exit code."""
    state.outcome = error.code
    screen.fail(error, as_json or state.json_log)
    return exit_codes.of(error)


def _usage_error(error: click.ClickException) -> HostError:
    """Return what is wrong with the command line as one sentence and a hint."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "warden"
    hint = f"`{path} --help` shows how to use it"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return HostError("bad-argument", f"`{path}` alone does nothing", hint)
    words = " ".join(error.format_message().split()).rstrip(".")
    return HostError("bad-argument", words[:1].lower() + words[1:], hint)
