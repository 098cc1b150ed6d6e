"""Change applications of a living fleet: the broker at once, each device at its next contact.

1. The broker: an account that goes, or loses rights, loses them before anything else.
2. fleet.db: what each device is to have of the application, and the keys of those that get it.
3. Each device, sealed by the authority (service/pending_apps.py), until it has confirmed it.

A stop between two steps leaves an application with less than it had, and the same command goes on.
A renamed application is two of them until the new one has a session with each device of the old.
"""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from warden_host import names
from warden_host.broker.accounts import app_account, machine_password
from warden_host.broker.backend import open_registry
from warden_host.devices import app_tokens, bundle, setup
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.store.app_changes import AppChange
from warden_host.store.store import App, Device, Store
from warden_host.store.tokens import Token


@dataclass(frozen=True)
class Reach:
    """The devices that a change concerns.

    waiting: they get it at their next contact. plain: only provisioning at the bench changes them.
    full: they have as many applications as a device takes. rotating: they hold, or may hold, a new
    key that an unfinished rotation has for it; another one waits until that is over.
    """

    waiting: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    rotating: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """What devices have of an application. confirmed: all of it."""

    confirmed: tuple[str, ...]
    waiting: tuple[AppChange, ...]
    plain: tuple[str, ...]


def find(store: Store, appid: str) -> App:
    """Return a registered application. Raises app-unknown, not-applicable."""
    if appid == AUTHORITY:
        raise HostError(
            "not-applicable",
            f"'{AUTHORITY}' is the fleet's own authority: every device keeps it",
            "`warden rotate` gives a device new keys for it",
        )
    return store.app(appid)


def unused_types(store: Store, types: Iterable[str]) -> list[str]:
    """Return those types that no device or open room has; none where there is no device yet."""
    used = {device.type for device in store.devices()} | set(store.rooms())
    return [type_ for type_ in types if used and type_ not in used]


def progress(store: Store, appid: str) -> Progress:
    """Return what devices have of an application, registered or on its way out."""
    changes = tuple(store.app_changes(appid=appid))
    if not changes:
        find(store, appid)
    waiting = {change.device for change in changes}
    having = [store.device(name) for name in store.devices_of(appid)]
    return Progress(
        tuple(one.device for one in having if one.mode == "sealed" and one.device not in waiting),
        changes,
        tuple(one.device for one in having if one.mode != "sealed"),
    )


def add(fleet: Fleet, store: Store, app: App, devices: tuple[str, ...] | None = None) -> Reach:
    """Register an application, and give it to devices of its types.

    devices: those that get it; None: all. Raises: as setup.add_app(), device-unknown.
    """
    chosen = None if devices is None else _chosen(store, app, devices)
    with setup.adding_app(fleet, store, app):
        return _give(store, app, store.devices() if chosen is None else chosen)


def remove(fleet: Fleet, store: Store, appid: str) -> Reach:
    """Cut an application off at the broker, and take its keys from every device.

    Raises: as find(), and what the broker raises.
    """
    find(store, appid)
    _cut_off(fleet, store, appid)
    with store.transaction():
        having = [store.device(name) for name in store.devices_of(appid)]
        reach = _take(store, appid, having)
        store.keep_predecessor(appid)
        store.remove_app(appid)
    fleet.remove_app_password(appid)
    return reach


def grant(
    fleet: Fleet, store: Store, app: App, devices: tuple[str, ...] = ()
) -> tuple[Reach, list[str]]:
    """Let a registered application serve these types and give these commands.

    devices: those that get it, besides all of types that are new to it.
    Returns: whom it concerns, and the IDs of tokens that allowed more and are revoked.
    Raises: as find(); bad-argument for what setup.add_app() refuses, and for no change.
    """
    before = find(store, app.appid)
    same = (set(before.types), set(before.commands)) == (set(app.types), set(app.commands))
    further = _chosen(store, app, devices)
    if same and all(_has(store, device, app.appid) for device in further):
        raise HostError("bad-argument", f"{app.appid} has exactly these types and commands")
    setup.check_app(app)
    lost = [one for one in _live_tokens(store, app.appid) if not app_tokens.is_within(one, app)]
    # What it loses goes at the broker before all else, what it gets comes there last.
    _set_rights(fleet, app.appid, tuple(one for one in app.types if one in before.types))
    app_tokens.revoke_all(fleet, store, lost)
    with store.transaction():
        store.set_app(app.appid, app.types, app.commands)
        known = store.devices()
        having = set(store.devices_of(app.appid))
        taken = _take(
            store,
            app.appid,
            [one for one in known if one.device in having and one.type not in app.types],
        )
        given = _give(
            store, app, [*further, *(one for one in known if one.type not in before.types)]
        )
        changed = _change_rights(store, app, before, known)
    if set(app.types) - set(before.types):
        _set_rights(fleet, app.appid, app.types)
    parts = (taken, given, changed)
    return (
        Reach(
            *(
                tuple(sorted({name for part in parts for name in getattr(part, key)}))
                for key in ("waiting", "plain", "full", "rotating")
            )
        ),
        [token.id for token in lost],
    )


def rename(fleet: Fleet, store: Store, old: str, new: str) -> Reach:
    """Register an application under a new ID; the old one goes when the new one proved itself.

    A device that has no room for both gets the new one in the place of the old. One that is a
    party of its own stays so: its program, not the authority, is to prove the new keys.
    Raises: as find() and setup.add_app(); not-applicable while it is renamed already.
    """
    app = find(store, old)
    renames = store.renames()
    if old in renames or old in renames.values():
        raise HostError(
            "not-applicable",
            f"{old} is being renamed",
            f"`warden app show {old}` says which devices have yet to take it",
        )
    with setup.adding_app(fleet, store, replace(app, appid=new)):
        having = [store.device(name) for name in store.devices_of(old)]
        full = [one.device for one in having if not _has_room(store, one)]
        for name in full:
            _order(store, name, old, None)
        given = _give(store, replace(app, appid=new), having, types_only=False)
        for device in having:
            if device.device in given.waiting and device.device not in full:
                _order(store, device.device, old, None, after=new)
        store.add_rename(old, new)
        store.inherit_export(old, new)
    finish_renames(fleet, store)
    return replace(given, full=tuple(full))


def finish_renames(fleet: Fleet, store: Store) -> list[str]:
    """Remove renamed applications that no device has to confirm any more; return their old IDs."""
    done = [old for old in store.renames() if not store.app_changes(appid=old)]
    for old in done:
        _cut_off(fleet, store, old)
        with store.transaction():
            store.remove_app(old)
        fleet.remove_app_password(old)
    return done


def enforce(fleet: Fleet) -> None:
    """Complete, before the broker starts, the renames that a stop interrupted."""
    with Store(fleet.database) as store:
        finish_renames(fleet, store)


def set_password(fleet: Fleet, store: Store, appid: str) -> None:
    """Give an application a new broker password; its connection is dropped. Raises: as find()."""
    find(store, appid)
    password = machine_password()
    with open_registry(fleet) as accounts:
        accounts.set_password(names.app_client(appid), password)
        fleet.save_app_password(appid, password)


def _set_rights(fleet: Fleet, appid: str, types: tuple[str, ...]) -> None:
    with open_registry(fleet) as accounts:
        accounts.replace_rights(app_account(appid, types, ""))


def _cut_off(fleet: Fleet, store: Store, appid: str) -> None:
    """Drop the connections of an application and of its tokens, and remove their accounts."""
    account = app_account(appid, (), "")
    with open_registry(fleet) as accounts:
        accounts.disable(account.username)  # this is what drops it, before all else
        accounts.remove(account.username, account.role)
    app_tokens.revoke_all(fleet, store, _live_tokens(store, appid))


def _live_tokens(store: Store, appid: str) -> list[Token]:
    return [one for one in store.tokens() if one.appid == appid and one.revoked is None]


def _chosen(store: Store, app: App, names: tuple[str, ...]) -> list[Device]:
    """Return these devices. Raises device-unknown, and bad-argument for one of another type."""
    found = [store.device(name) for name in names]
    for device in found:
        if device.type not in app.types:
            raise HostError(
                "bad-argument",
                f"{device.device} is of type {device.type}, which {app.appid} does not serve",
            )
    return found


def _reachable(devices: Iterable[Device]) -> tuple[list[Device], tuple[str, ...]]:
    """Return the sealed devices that are not to end, and the names of the plain ones."""
    alive = [one for one in devices if one.ending is None]
    plain = tuple(one.device for one in alive if one.mode != "sealed")
    return [one for one in alive if one.mode == "sealed"], plain


def _give(store: Store, app: App, devices: Iterable[Device], types_only: bool = True) -> Reach:
    """Order the application, with a new key, for those of the devices that have room."""
    chosen = [one for one in devices if not types_only or one.type in app.types]
    sealed, plain = _reachable(chosen)
    waiting, full, rotating = [], [], []
    for device in sealed:
        if _has(store, device, app.appid) or device.device in waiting:
            continue
        rotation = store.rotation(device.device)
        if rotation is not None and app.appid in rotation.apps:
            rotating.append(device.device)
        elif _has_room(store, device):
            _order(store, device.device, app.appid, app.commands, secrets.token_bytes(32))
            waiting.append(device.device)
        else:
            full.append(device.device)
    return Reach(tuple(waiting), plain, tuple(full), tuple(rotating))


def _take(store: Store, appid: str, devices: Iterable[Device]) -> Reach:
    """Order the application's end on these devices, at once."""
    sealed, plain = _reachable(devices)
    for device in sealed:
        _order(store, device.device, appid, None)
    return Reach(tuple(one.device for one in sealed), plain)


def _change_rights(store: Store, app: App, before: App, devices: Iterable[Device]) -> Reach:
    """Order other commands for devices that have the application already."""
    if set(app.commands) == set(before.commands):
        return Reach()
    kept = [one for one in devices if one.type in app.types and one.type in before.types]
    sealed, plain = _reachable(one for one in kept if _has(store, one, app.appid))
    for device in sealed:
        _order(store, device.device, app.appid, app.commands)
    return Reach(tuple(one.device for one in sealed), plain)


def _order(
    store: Store,
    device: str,
    appid: str,
    commands: tuple[str, ...] | None,
    key: bytes | None = None,
    after: str = "",
) -> None:
    change = AppChange(device, appid, key, commands, after, time.time())
    store.order_app_change(change, b"" if key is None else secrets.token_bytes(32))


def _leaving(store: Store, device: Device) -> set[str]:
    """Return the applications that the device loses at its next contact, whatever else it has."""
    changes = store.app_changes(device.device)
    return {one.appid for one in changes if one.kind == "remove" and not one.after}


def _has(store: Store, device: Device, appid: str) -> bool:
    """Return whether the device has the application, and keeps it."""
    known = any(pair.appid == appid for pair in device.pairs)
    return known and appid not in _leaving(store, device)


def _has_room(store: Store, device: Device) -> bool:
    """Return whether the device takes one more application."""
    return len({pair.appid for pair in device.pairs} - _leaving(store, device)) < bundle.MAX_APPS
