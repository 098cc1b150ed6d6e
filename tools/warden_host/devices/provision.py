"""Provision a device: its secrets, its files, its account at the broker, its record in fleet.db.

In this order: the device gets its bundle, then the broker its account, then fleet.db its keys, in
one transaction that is not open while the broker is asked, since all others would wait for it.
After any failure no account is left whose secret no device has.
"""

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from warden_host import filelock, names
from warden_host.broker import connection
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.backend import open_registry
from warden_host.devices import (
    bundle,
    certificates,
    device_files,
    exchange,
    gateways,
    log_in,
    server_renewal,
)
from warden_host.devices.exchange import device_argv as device_argv
from warden_host.devices.first_certificate import CertificateOrder, issuer, recorded
from warden_host.devices.token_terms import TokenTerms, check_needed
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree, pki
from warden_host.fleet.board_file import BoardFile
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.servers import Server
from warden_host.names import AUTHORITY
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.release import signing_key
from warden_host.store.store import App, Device, Pair, Store

_TIMEOUT_S = 60
_TURN_S = 2.0 * _TIMEOUT_S  # longer than one device takes
_MAX_ANSWER = MAX_PIN = 128  # bytes, as the device reads it

Deliver = Callable[[device_tree.Tree, Path, bytes, bytes], None]
Send = Callable[[bytes, bytes], None]
AskKey = Callable[[], bytes]


@dataclass(frozen=True)
class Order:
    """A request to provision. apps None: all applications of the type. otp: the policy's gate."""

    device: str
    type: str
    board: str = "UNIX"
    plain: bool = False
    apps: tuple[str, ...] | None = None
    commands: tuple[str, ...] = ()
    again: bool = False
    app_source: Path | None = None
    otp: dict[str, Any] | None = None
    strict: bool = False
    limits: dict[str, Any] = field(default_factory=dict)  # of policy.LIMITS, and of the outbox
    pin: bytes = field(default=b"", repr=False)  # of a board whose root key wants one
    networks: tuple[bundle.Network, ...] = ()  # Wi-Fi, in the order in which they are tried
    development: bool = False  # whether its console may be left open
    certificate: CertificateOrder = field(default_factory=lambda: CertificateOrder())
    token: TokenTerms | None = None  # of a device that logs in with tokens
    servers: tuple[Server, ...] = ()  # that it connects to; none: the fleet's own
    own_board: BoardFile | None = None  # in the place of the board's own board.py

    @property
    def board_file(self) -> BoardFile:
        """Return the device's board.py. Raises bad-argument, no-board."""
        return self.own_board or board_file.load(self.board)


def provision(fleet: Fleet, store: Store, order: Order, deliver: Deliver | None = None) -> Device:
    """Provision a device and return its record.

    deliver(tree, home, bundle, pin): hands the bundle to the device whose files are in home; by
    default to a simulated one, which makes the key of its certificate itself. Raises HostError
    where the device does not install it.
    Raises: device-exists, app-unknown, provision-failed, timed-out, and what the parts raise.
    """
    with _turn(fleet, order):
        return _provision(fleet, store, order, deliver)


def provision_board(
    fleet: Fleet, store: Store, order: Order, send: Send, ask_key: AskKey | None = None
) -> Device:
    """Provision a device whose files are on a board already, and return its record.

    send(bundle, pin): hands the bundle to the board; raises HostError where it is not installed.
    ask_key(): lets the board make the key of its certificate; returns the public one, x ‖ y.
    Without it, the key is made here.
    Raises: as provision().
    """
    with _turn(fleet, order):
        made = _prepare(fleet, store, order)
        point = ask_key() if ask_key is not None and made.device_makes_key else None
        with recorded(store) as record:
            send(made.bundle(record, point), order.pin)
            _record(fleet, store, order, made, contextlib.nullcontext())
        # A simulated device of the name holds secrets of no more worth.
        shutil.rmtree(fleet.simulated(order.device), ignore_errors=True)
    return made.device


@contextlib.contextmanager
def _turn(fleet: Fleet, order: Order) -> Iterator[None]:
    """Hold the lock on the device's name."""
    home = fleet.simulated(order.device)
    names.check_id(order.type, "device type")
    # No device's folder: an ID holds no dot.
    with filelock.wait_for_lock(
        home.with_name(f"{home.name}.new.lock"), f"provisioning {order.device}", _TURN_S
    ):
        yield


@dataclass
class _Prepared:
    """A device that the fleet does not know yet.

    certificate: once the bundle was built. build: the bundle for its certificate, or None.
    """

    tree: device_tree.Tree
    device: Device
    password: str = field(repr=False)
    enrolled: bool
    updates: bool
    pins: list[bytes]
    issue: Callable[[bytes | None], certificates.Issued | None]
    build: Callable[[list[object] | None], bytes]
    device_makes_key: bool
    certificate: certificates.Issued | None = None

    def bundle(self, record: Callable[[certificates.Issued], None], point: bytes | None) -> bytes:
        """Return the bundle, once its certificate is recorded.

        point: the public key that the device made, or None.
        """
        self.certificate = self.issue(point)
        if self.certificate is None:
            return self.build(None)
        record(self.certificate)
        return self.build(self.certificate.record())


def _prepare(fleet: Fleet, store: Store, order: Order) -> _Prepared:
    """Draw the secrets that the bundle will hold, while the lock on the name is held."""
    _check_name(store, order)
    server_renewal.check_names(fleet)
    tree = device_tree.tree()
    check_board(order)
    terms = connection.load(fleet).terms(order.type, order.device)
    check_needed(order.token, terms.auth)
    order = _with_room(order, terms)
    device = _new_device(fleet, store, order, terms)
    password = device_password()
    codes = enrol.bundle_part(store, device.device, order.otp)
    release = signing_key.record(fleet, store.vendor(), device.type)
    issue = issuer(fleet, device, order.certificate)
    brokers = log_in.brokers(fleet, terms, order.servers)
    pins = list(pki.load_pins(fleet.keys))
    build = partial(
        bundle.build,
        device,
        host=brokers[0].host,
        port=brokers[0].port,
        user=names.device_client(device.type, device.device),
        client_id=terms.client_id(device.type, device.device),
        # Only a certificate or a token opens another account: its password is not kept.
        password=password if terms.uses("password") else "",
        authorities=[pki.ca_der(fleet.keys)],
        pins=pins,
        release=release,
        otp=codes,
        networks=order.networks,
        token=order.token,
        brokers=[broker.record() for broker in brokers],
    )
    return _Prepared(
        tree,
        device,
        password,
        codes is not None,
        release is not None,
        pins,
        issue,
        lambda certificate: build(certificate=certificate),
        terms.uses("certificate") and order.certificate.kind == "ec",
    )


def _with_room(order: Order, terms: connection.Terms) -> Order:
    """Return the order with room for the renewal of its certificate; raises bad-argument."""
    if not terms.uses("certificate"):
        return order
    return replace(order, limits=certificates.with_room(order.limits, order.certificate.kind))


def check_order(fleet: Fleet, store: Store, order: Order, is_new: bool = True) -> None:
    """Raise what provision() would refuse, as far as it can be known: nothing is written.

    Names of networks count, their passwords don't. is_new: False where the device may be there
    already, with a vault that is kept: its name and its secret for codes don't count.
    """
    if is_new:
        _check_name(store, order)
    server_renewal.check_names(fleet)
    issuer(fleet, check_device(fleet, store, order), order.certificate)(None)
    if is_new:
        enrol.bundle_part(store, order.device, order.otp)


def check_device(fleet: Fleet, store: Store, order: Order) -> Device:
    """Return the device that an order describes. Raises what no device can be."""
    names.check_id(order.device, "device ID")
    names.check_id(order.type, "device type")
    store.check_not_open(order.type, order.device)
    check_board(order)
    terms = connection.load(fleet).terms(order.type, order.device)
    check_needed(order.token, terms.auth)
    return _new_device(fleet, store, _with_room(order, terms), terms)


def check_board(order: Order) -> None:
    """Raise what the order's board has not: bad-argument for a keypad, no-network."""
    board = order.board_file
    if order.otp is not None and "KEYPAD" not in board.values:
        raise HostError(
            "bad-argument",
            f"board {order.board} has no keypad to type a code at",
            "name it as KEYPAD in board.py, or provision it without a gate",
        )
    if board.joins_wifi and not order.networks:
        raise HostError("no-network", f"board {order.board} joins Wi-Fi, and no network is named")


def _provision(fleet: Fleet, store: Store, order: Order, deliver: Deliver | None) -> Device:
    """Provision a simulated device while the lock on its name is held."""
    made = _prepare(fleet, store, order)
    home = fleet.simulated(made.device.device)
    fresh = home.with_name(f".{home.name}.new")  # no device's folder: an ID holds no dot
    try:
        device_files.write_files(
            made.tree, fresh, order.board_file, order.app_source, made.updates
        )
    except BaseException:  # such as a full disk
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    with recorded(store) as record:
        build = partial(made.bundle, record)
        if deliver is None:
            exchange.provision(made.tree, fresh, build, order.pin, made.device_makes_key)
        else:
            deliver(made.tree, fresh, build(None), order.pin)
        _record(fleet, store, order, made, _replace_folder(fresh, home))
    return made.device


def _record(
    fleet: Fleet,
    store: Store,
    order: Order,
    made: _Prepared,
    files: contextlib.AbstractContextManager[None],
) -> None:
    """Give the device its account at the broker, then its record in fleet.db.

    files: puts the device's files in their place, and back where this fails
    """
    device = made.device
    serial = "" if made.certificate is None else made.certificate.row.serial
    account = log_in.account(device, made.password)
    with open_registry(fleet) as accounts, files:
        # Again, under the registry's lock: from here on the name can't be given to another.
        known = _check_name(store, order)
        if known is not None and known.type != device.type:
            old = device_account(known.type, known.device, "")
            accounts.remove(old.username, old.role)
        accounts.put(account)
        try:
            with store.transaction():
                store.add_device(device)
                # Of the device that had the name before: they go onto the revocation list.
                store.revoke_certificates(device.device, time.time(), but=serial)
                store.set_pins(device.device, made.pins)
                if made.enrolled:
                    store.end_enrolment(device.device)
        except BaseException:
            # The old account is gone: its device is provisioned again, or stays out.
            with contextlib.suppress(HostError):
                accounts.remove(account.username, account.role)
            raise
        gateways.follow(accounts, store, device.device)


def _check_name(store: Store, order: Order) -> Device | None:
    """Return the device that has the name now, or None.

    Raises: device-exists, bad-argument for a name of an open room.
    """
    store.check_not_open(order.type, order.device)
    known = store.find(order.device)
    if known is not None and not order.again:
        raise HostError(
            "device-exists",
            f"device {order.device} was provisioned already",
        )
    return known


@contextlib.contextmanager
def _replace_folder(fresh: Path, home: Path) -> Iterator[None]:
    """Put the new folder in the old one's place; put it back where the block fails."""
    old = home.with_name(f".{home.name}.old")
    if home.exists():  # else old is the device, of a swap that was cut between its renames
        if old.exists():
            shutil.rmtree(old)
        home.rename(old)
    try:
        fresh.rename(home)
        yield
    except BaseException:
        if home.exists():
            home.rename(fresh)
        if old.exists():
            old.rename(home)
        raise
    if old.exists():
        shutil.rmtree(old)


def _new_device(fleet: Fleet, store: Store, order: Order, terms: connection.Terms) -> Device:
    leaving = store.renames()
    registered = {app.appid: app for app in store.apps() if app.appid not in leaving}
    if order.apps is None:
        chosen = [app for app in registered.values() if order.type in app.types]
    else:
        chosen = [_serving(registered, appid, order.type) for appid in dict.fromkeys(order.apps)]
    authority = tuple(dict.fromkeys(fleet.settings.commands + order.commands))
    for verb in authority:
        names.check_grant(verb)
    grants = [(AUTHORITY, authority)] + [(app.appid, app.commands) for app in chosen]
    pairs = tuple(
        Pair(appid, secrets.token_bytes(32), secrets.token_bytes(32), commands)
        for appid, commands in grants
    )
    mode = "plain" if order.plain else "sealed"
    if order.plain and not terms.tls:
        raise HostError(
            "bad-argument",
            f"warden.toml gives {order.device} no TLS, and plain mode needs it",
            "without TLS nothing but sealed messages is safe",
        )
    record = policy.record(
        mode=mode,
        otp=order.otp,
        strict=order.strict,
        development=order.development,
        auth=terms.auth,
        tls=terms.tls,
        **order.limits,
    )
    return Device(order.device, order.type, order.board, mode, record, pairs=pairs)


def _serving(registered: dict[str, App], appid: str, type_: str) -> App:
    app = registered.get(appid)
    if app is None:
        raise HostError(
            "app-unknown", f"no application {appid} in this fleet", "`warden app list` lists them"
        )
    if type_ not in app.types:
        raise HostError(
            "bad-argument", f"application {appid} does not serve devices of type {type_}"
        )
    return app
