"""Run `warden`: find the command, and turn errors into text, JSON and an exit code."""

import importlib
import io
import os
import sys

import click

from warden_host import __version__
from warden_host.cli import screen
from warden_host.cli.common import State
from warden_host.errors import HostError, filesystem_error
from warden_host.fleet import fleet

# Command → the module of this package that holds it, and its name there.
COMMANDS = {
    "app": "fleet.app",
    "devices": "devices.devices",
    "group": "groups.group",
    "init": "fleet.init",
    "inspect": "release.inspect",
    "keys": "keys.keys",
    "otp": "otp.otp",
    "provision": "fleet.provision_command",
    "release": "release.release_command",
    "releases": "release.releases",
    "revoke": "orders.revoke",
    "rollout": "rollout.rollout",
    "rollouts": "rollout.rollouts_command",
    "rotate": "orders.rotate",
    "run": "run.run",
    "send": "send.send",
    "serve": "serve.serve",
    "unlock": "otp.unlock",
    "verify": "release.verify",
    "watch": "watch.watch",
    "wipe": "orders.wipe",
}


class _Commands(click.Group):
    """Import a command's module when the command is looked up: each call needs one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return command(cmd_name) if cmd_name in COMMANDS else None


def command(name: str) -> click.Command:
    """Import and return one command of COMMANDS."""
    module, _, attribute = COMMANDS[name].partition(".")
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
@click.version_option(__version__, prog_name="warden")
@click.pass_context
def warden(context: click.Context, folder: str | None) -> None:
    """Make, provision, command and watch a fleet of MicroPython devices.

    \b
    A first fleet, in one folder. In a first window:
      warden init fleet
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
    Updates:
      warden keys make release
      warden provision back-door --type lock --sim
      warden run back-door
      warden release app/ --version 1.4.0 --type lock
      warden rollout lock-1.4.0 --type lock
    """
    context.obj = State(folder)


def main() -> None:
    """Run as the console script.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
    """
    fleet.restrict_umask()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal gets \u25cf, not an exception
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one call and return its exit code."""
    as_json = "--json" in arguments
    try:
        result = warden.main(args=arguments, prog_name="warden", standalone_mode=False)
    except HostError as error:
        screen.fail(error, as_json)
        return 1
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        click.echo("\naborted: nothing more was done", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # no second complaint at exit
        return 1
    except OSError as error:
        screen.fail(filesystem_error(error), as_json)
        return 1
    return result if isinstance(result, int) else 0
