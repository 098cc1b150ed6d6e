"""Set up a new fleet, or a new application."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from warden_host import names
from warden_host.broker.accounts import ANY_TYPE, app_account, machine_password
from warden_host.broker.backend import create_registry, open_registry
from warden_host.devices import bundle
from warden_host.errors import HostError
from warden_host.fleet import fleet, pki
from warden_host.names import AUTHORITY
from warden_host.store import store


def new_fleet(root: Path, settings: fleet.Settings) -> fleet.Fleet:
    """Make a fleet's folder, keys, certificates, registry, authority's account and database."""
    bundle.check_commands(AUTHORITY, settings.commands)
    made = fleet.create(root, settings)
    broker = settings.broker
    pki.create(made.keys, (*broker.names, broker.host, broker.contact))
    password = machine_password()
    made.save_app_password(AUTHORITY, password)
    create_registry(made, app_account(AUTHORITY, (ANY_TYPE,), password))
    store.Store(made.database).close()
    return made


def add_app(made: fleet.Fleet, known: store.Store, app: store.App) -> None:
    """Register an application; raises app-exists, and as check_app()."""
    with adding_app(made, known, app):
        pass


@contextlib.contextmanager
def adding_app(made: fleet.Fleet, known: store.Store, app: store.App) -> Iterator[None]:
    """Register an application and store what the block changes, or none of it. As add_app()."""
    if app.appid == AUTHORITY:
        raise HostError(
            "app-exists", f"'{AUTHORITY}' is the fleet's own authority", "choose another ID"
        )
    check_app(app)
    password = machine_password()
    with open_registry(made) as accounts, known.transaction():
        known.add_app(app)
        yield
        made.save_app_password(app.appid, password)
        accounts.put(app_account(app.appid, app.types, password))


def check_app(app: store.App) -> None:
    """Check what an application is to serve and to give.

    Raises: bad-name, reserved-command, bad-argument.
    """
    names.check_id(app.appid, "appid")
    if not app.types or not app.commands:
        raise HostError(
            "bad-argument",
            "an application serves at least one device type and gives at least one command",
            "name its device types and commands",
        )
    for type_ in app.types:
        names.check_id(type_, "device type")
    for command in app.commands:
        names.check_grant(command)
    bundle.check_commands(app.appid, app.commands)


def overfull_types(known: store.Store, types: tuple[str, ...]) -> list[str]:
    """Return those types that more applications serve than one device accepts."""
    apps = known.apps()
    return [type_ for type_ in types if sum(type_ in app.types for app in apps) >= bundle.MAX_APPS]
